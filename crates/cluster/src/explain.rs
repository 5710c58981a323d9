//! What a planner would say if an operator asked: `baton why GROUP`.

use model::definition::Group;
use model::{Cause, GroupName, LeaseName, NodeName, ResourceState};

use crate::placement::{self, From, Standing, names};
use crate::restart::Budget;
use crate::{LeaseView, Snapshot, Tenure, quarantine, restart};

/// Where a group is, why here, why not elsewhere, and what would follow; one sentence each.
pub fn why(snapshot: &Snapshot, name: &GroupName) -> Vec<String> {
    let Some(group) = snapshot.definitions.group(name) else {
        return vec![format!("there is no group {name} in the definitions")];
    };
    let lease = LeaseName::Group(name.clone());
    let standing = Standing::of(snapshot, &lease);
    let holder = snapshot.lease(&lease).and_then(|view| view.holder.as_ref());
    let mut sentences = place(snapshot, group, &standing);
    if let Standing::Held(view, _) = &standing {
        sentences.extend(members(snapshot, group, view));
    }
    sentences.extend(orders(snapshot, group, &standing));
    sentences.extend(elsewhere(snapshot, group, holder));
    sentences.extend(outlook(snapshot, group, holder));
    sentences.extend(last_failover(snapshot, group));
    sentences
}

fn place(snapshot: &Snapshot, group: &Group, standing: &Standing<'_>) -> Vec<String> {
    let name = &group.name;
    match standing {
        Standing::Never => {
            let candidates = placement::candidates(snapshot, group, From::Start);
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
        Standing::Held(view, holder) => {
            let mut sentences = vec![format!(
                "group {name} is on {holder} (epoch {}) since {} because {}",
                view.epoch, view.changed_at, view.reason
            )];
            if let Some(absent) = placement::absent(snapshot, holder) {
                sentences.push(format!(
                    "{absent}, but what the group does outside the store may go on until its \
                     lease runs out at {}; then another node takes it",
                    view.expires_at
                ));
            }
            sentences
        }
        Standing::Orphaned(view, holder, because) => vec![
            format!(
                "group {name} was on {holder} (epoch {}) since {}",
                view.epoch, view.changed_at
            ),
            format!("{because}, so another node may take it at once"),
        ],
    }
}

/// What of it is not online, and what that said.
fn members(snapshot: &Snapshot, group: &Group, view: &LeaseView) -> Vec<String> {
    let reports = snapshot.definitions.members_of(&group.name).filter_map(|member| {
        let report = snapshot.report(&member.name, view.epoch)?;
        let detail = report.detail.as_ref().map_or(String::new(), |detail| format!(": {detail}"));
        let notable = report.state != ResourceState::Online || report.detail.is_some();
        let (kind, name, state, since) =
            (member.kind_word(), &member.name, report.state, report.since);
        notable.then(|| format!("{kind} {name} is {state} since {since}{detail}"))
    });
    reports.collect()
}

/// What operators want, and what it waits for.
fn orders(snapshot: &Snapshot, group: &Group, standing: &Standing<'_>) -> Vec<String> {
    let mut sentences = Vec::new();
    match snapshot.group_order(&group.name) {
        Some(order) if !order.online => sentences.push(format!(
            "{} wanted it offline at {}; `baton group start {}` brings it back",
            order.by, order.at, group.name
        )),
        None if !placement::is_wanted_online(snapshot, group) => sentences.push(format!(
            "its priority is no_auto_start, so it waits for `baton group start {}`",
            group.name
        )),
        _ => {}
    }
    let order = snapshot.group_order(&group.name);
    if let Some(until) = order.and_then(|order| order.unmonitored_until)
        && until > snapshot.now
    {
        sentences.push(format!("failures of its resources count for nothing until {until}"));
    }
    let is_down = matches!(standing, Standing::Never | Standing::Vacant(_));
    for name in group.after.iter().filter(|_| is_down) {
        let Some(before) = snapshot.definitions.group(name) else { continue };
        match placement::online_since(snapshot, before) {
            None => sentences.push(format!("it starts after group {name}, which is not online")),
            Some(since) if since.after(group.start_delay) > snapshot.now => {
                let at = since.after(group.start_delay);
                sentences
                    .push(format!("it starts at {at}, {} after group {name}", group.start_delay));
            }
            Some(_) => {}
        }
    }
    for request in snapshot.moves.iter().filter(|request| request.group == group.name) {
        let to = request.to.as_ref().map_or("another node".to_owned(), ToString::to_string);
        sentences.push(format!("{} asked at {} to move it to {to}", request.by, request.at));
    }
    sentences
}

/// Why it is not on each of the other nodes.
fn elsewhere(snapshot: &Snapshot, group: &Group, holder: Option<&NodeName>) -> Vec<String> {
    let others = snapshot.nodes.iter().map(|node| &node.name);
    let others = others.filter(|node| Some(*node) != holder);
    let why_not = others.filter_map(|node| {
        if let Some(why) = placement::unfit(snapshot, group, node) {
            return Some(format!("not on {node}: {why}"));
        }
        if let Some(until) = quarantine::until(snapshot, node) {
            return Some(format!(
                "on {node} only if there is no other: it is in quarantine until {until}, having \
                 died {} times within {}; `baton node clear-quarantine {node}` ends it",
                quarantine::THRESHOLD,
                quarantine::WITHIN
            ));
        }
        let (other, class) = placement::neighbour(snapshot, group, node)?;
        Some(format!(
            "on {node} only if there is no other: group {other} of the same class {class} is there"
        ))
    });
    why_not.collect()
}

fn outlook(snapshot: &Snapshot, group: &Group, holder: Option<&NodeName>) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(holder) = holder {
        let next = placement::next_after(snapshot, group, holder);
        let next = next.map_or("nobody: no other possible owner is present".to_owned(), |next| {
            format!("{next} (list: {})", names(&placement::list(snapshot, group)))
        });
        sentences.push(format!("next would be {next}"));
        let mut budgets: Vec<(String, Budget)> = Vec::new();
        for member in snapshot.definitions.members_of(&group.name) {
            let budget = restart::restarts(snapshot, snapshot.now, group, &member, holder);
            budgets.push((format!("{} {}", member.kind_word(), member.name), budget));
        }
        let same = budgets.windows(2).all(|pair| pair[0].1 == pair[1].1);
        if same {
            budgets.truncate(1);
        }
        for (member, budget) in budgets {
            let whose = if same { String::new() } else { format!(" of {member}") };
            sentences.push(format!("restarts left{whose} on {holder}: {}", left(budget)));
        }
    }
    let budget = restart::failovers(snapshot, snapshot.now, group);
    sentences.push(format!("failovers left: {}", left(budget)));
    sentences
}

/// `1 of 2 within 6h, one more from 2026-01-01T06:00:09.000Z on`.
fn left(budget: Budget) -> String {
    let Budget { max, period, resets_at, .. } = budget;
    let resets = resets_at.map_or(String::new(), |at| format!(", one more from {at} on"));
    format!("{} of {max} within {period}{resets}", budget.left())
}

/// When, from where, on which evidence and why it last went to another node by itself.
fn last_failover(snapshot: &Snapshot, group: &Group) -> Option<String> {
    let causes = [Cause::Failover, Cause::Banned, Cause::NodeLost];
    let mut taken = snapshot.history_of(&group.name).rev();
    let taken = taken.find(|tenure| tenure.holder.is_some() && causes.contains(&tenure.cause))?;
    let Tenure { holder, evidence, at, reason, epoch, .. } = taken;
    let to = holder.as_ref().map_or("nobody", NodeName::as_str);
    Some(format!("last failover: to {to} at {at}, epoch {epoch}, evidence {evidence}: {reason}"))
}
