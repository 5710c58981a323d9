//! What a planner would say if an operator asked: `baton why GROUP`.

use model::definition::Group;
use model::{GroupName, LeaseName};

use crate::placement::{self, Standing, names};
use crate::{Snapshot, restart};

/// Where a group is, why, and what would follow; one sentence each.
pub fn why(snapshot: &Snapshot, name: &GroupName) -> Vec<String> {
    let Some(group) = snapshot.definitions.group(name) else {
        return vec![format!("there is no group {name} in the definitions")];
    };
    let lease = LeaseName::Group(name.clone());
    let mut sentences = match Standing::of(snapshot, &lease) {
        Standing::Never => {
            let candidates = placement::candidates(snapshot, group, None);
            vec![
                format!("group {name} has never been online"),
                format!("first to take it: {}", names(&candidates)),
            ]
        }
        Standing::Vacant(view) => {
            let mut sentences = vec![format!(
                "group {name} is vacant (epoch {}) since {} because {}",
                view.epoch, view.changed_at, view.reason
            )];
            sentences.extend(view.offered_to.iter().map(|to| format!("it is offered to {to}")));
            sentences
        }
        Standing::Held(view, holder) => vec![format!(
            "group {name} is on {holder} (epoch {}) since {} because {}",
            view.epoch, view.changed_at, view.reason
        )],
        Standing::Orphaned(view, holder, because) => vec![
            format!(
                "group {name} was on {holder} (epoch {}) since {}",
                view.epoch, view.changed_at
            ),
            format!("{because}, so another node may take it at once"),
        ],
    };
    sentences.extend(outlook(snapshot, group, &lease));
    sentences
}

fn outlook(snapshot: &Snapshot, group: &Group, lease: &LeaseName) -> Vec<String> {
    let mut sentences = Vec::new();
    let holder = snapshot.lease(lease).and_then(|view| view.holder.as_ref());
    if let Some(holder) = holder {
        let next = placement::next_after(snapshot, group, holder);
        let next = next.map_or("nobody: no other possible owner is present".to_owned(), |next| {
            format!("{next} (list: {})", names(&placement::list(snapshot, group)))
        });
        sentences.push(format!("next would be {next}"));
        let budget = restart::restarts(snapshot, snapshot.now, group, holder);
        let left = budget.max.saturating_sub(budget.used);
        sentences.push(format!(
            "restarts left on {holder}: {left} of {} within {}",
            budget.max, budget.period
        ));
    }
    let budget = restart::failovers(snapshot, snapshot.now, group);
    let left = budget.max.saturating_sub(budget.used);
    sentences.push(format!("failovers left: {left} of {} within {}", budget.max, budget.period));
    for request in snapshot.moves.iter().filter(|request| request.group == group.name) {
        let to = request.to.as_ref().map_or("another node".to_owned(), ToString::to_string);
        sentences.push(format!("{} asked at {} to move it to {to}", request.by, request.at));
    }
    sentences
}
