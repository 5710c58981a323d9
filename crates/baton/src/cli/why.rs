//! `baton why GROUP`: why it is where it is, what would follow, and how the last failover went.

use anyhow::Result;
use cluster::Snapshot;
use model::LeaseName;
use model::definition::Group;
use serde_json::json;
use store::{EventQuery, InFlight, LIST_ROWS_MAX, Store};

use super::session::{self, lines, open, print, print_json};
use super::{EXIT_OK, Global};
use crate::render::Look;
use crate::render::failover::Failover;
use crate::render::group::GroupStatus;
use crate::render::policy::budgets;

/// Receipts in flight that are shown: those of one busy host; more are counted.
const IN_FLIGHT_SHOWN_MAX: usize = 20;

/// What `--help` says at its end.
pub const HELP: &str = "\
Examples:
  baton why partners
  baton why partners -o json | jq .last_failover.steps

It says why the group is on its node, why not on each other one, where it would go next, what is
left of its restarts and failovers and when one more is. Of the last failover it says on which
evidence, step by step with the seconds between, and which items had been received but not released
then.";

pub(super) async fn run(group: &str, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let snapshot = store.snapshot().await?;
    let group = session::group(&snapshot.definitions, group)?;
    let sentences = cluster::why(&snapshot, &group.name);
    let failover = last_failover(store.as_ref(), &snapshot, group).await?;
    if global.json() {
        let status = GroupStatus::of(&snapshot, group);
        let budgets = budgets(&snapshot, group);
        print_json(&json!({
            "group": group.name, "sentences": sentences, "status": status, "budgets": budgets,
            "last_failover": failover,
        }))?;
        return Ok(EXIT_OK);
    }
    let mut text = lines(&sentences);
    if let Some(failover) = failover {
        text.push_str(&format!("\n{}", failover.render(Look::of_stdout())));
    }
    print(&text)?;
    Ok(EXIT_OK)
}

/// The last failover with its steps and what was in flight, if the history reaches back to one.
async fn last_failover(
    store: &dyn Store,
    snapshot: &Snapshot,
    group: &Group,
) -> Result<Option<Failover>> {
    let Some(mut failover) = Failover::last(snapshot, group) else { return Ok(None) };
    let query = EventQuery {
        subject: Some(format!("group {}", group.name)),
        since: Some(failover.begins_at()),
        limit: LIST_ROWS_MAX,
        ..EventQuery::default()
    };
    failover.add_events(&store.events(&query).await?);
    let lease = LeaseName::Group(group.name.clone());
    // One more than is shown tells whether there are more.
    let mut in_flight: Vec<InFlight> =
        store.in_flight(&lease, failover.epoch, IN_FLIGHT_SHOWN_MAX + 1).await?;
    failover.more_in_flight = in_flight.len() > IN_FLIGHT_SHOWN_MAX;
    in_flight.truncate(IN_FLIGHT_SHOWN_MAX);
    failover.in_flight = in_flight;
    Ok(Some(failover))
}
