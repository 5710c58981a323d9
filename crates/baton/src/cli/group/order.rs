//! `baton group start`, `stop`, `unmonitor`, `monitor`: what operators want of a group.
//!
//! Each is a row in the store that stays until somebody wants something else, so it also holds for
//! a group that is in transition: its owner follows as soon as it can.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use cluster::{GroupOrder, Snapshot, placement};
use model::{EventId, GroupName, GroupState, LeaseName, Millis, Timestamp};
use store::Store;

use super::super::follow::{News, until};
use super::super::session::{self, open, operator, record, tell};
use super::super::what_if::{self, Act};
use super::super::{EXIT_FAILED, EXIT_OK, Global, Refused};
use super::How;
use crate::render::safe;

/// Longest maintenance by one order: a forgotten one must not last for ever.
const UNMONITORED_MAX: Millis = Millis::hours(7 * 24);

/// The moment of an order that was never given: it forgets nothing.
const LONG_AGO: Timestamp = Timestamp(1);

/// Bring a group online, and forget its failures, bans and used budgets.
///
/// The order stays: the group is started again wherever it can be, until somebody stops it. Used
/// on a group that failed for good it makes it try again at once.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  baton group start partners
  baton group start --all --no-wait
  baton group start partners --what-if

Exit codes: 0 online (or asked for, with --no-wait), 1 not online in time, 3 not allowed")]
pub struct StartArgs {
    /// The group.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub group: Option<String>,
    /// Every group, those of priority no_auto_start too.
    #[arg(long)]
    pub all: bool,
    /// How it is asked for.
    #[command(flatten)]
    pub how: How,
}

/// Take a group offline: its resources stop in good order, and stay so until somebody starts it.
///
/// A move that was asked for and is not done is forgotten.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  baton group stop partners
  baton group stop partners --what-if

Exit codes: 0 offline (or asked for, with --no-wait), 1 not offline in time, 3 not allowed")]
pub struct StopArgs {
    /// The group.
    pub group: String,
    /// How it is asked for.
    #[command(flatten)]
    pub how: How,
}

/// Let failures of a group's resources count for nothing for a while: nothing is restarted, nothing
/// moves. The death of its node still counts.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  baton group unmonitor partners --for 1h
  baton group monitor partners                 ends it early")]
pub struct UnmonitorArgs {
    /// The group.
    pub group: String,
    /// For how long, at most 7d.
    #[arg(long = "for", value_name = "DURATION")]
    pub length: Millis,
    /// Only say what would happen: nothing is changed.
    #[arg(long)]
    pub what_if: bool,
}

pub(super) async fn start(args: &StartArgs, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let snapshot = store.snapshot().await?;
    let names: Vec<GroupName> = match &args.group {
        Some(name) => vec![session::group(&snapshot.definitions, name)?.name.clone()],
        None => snapshot.definitions.groups.iter().map(|group| group.name.clone()).collect(),
    };
    if names.is_empty() {
        return Err(Refused::new("there is no group; define some under `groups:`").into());
    }
    shift(store.as_ref(), &snapshot, names, true, &args.how, global).await
}

pub(super) async fn stop(args: &StopArgs, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let snapshot = store.snapshot().await?;
    let name = session::group(&snapshot.definitions, &args.group)?.name.clone();
    shift(store.as_ref(), &snapshot, vec![name], false, &args.how, global).await
}

/// Orders groups online or offline, and waits until they are.
async fn shift(
    store: &dyn Store,
    snapshot: &Snapshot,
    names: Vec<GroupName>,
    online: bool,
    how: &How,
    global: &Global,
) -> Result<u8> {
    let by = operator();
    let orders: Vec<GroupOrder> =
        names.iter().map(|group| new(snapshot, group, online, &by)).collect();
    if how.what_if {
        let acts =
            orders.into_iter().map(|order| Act::Group(GroupOrder { at: snapshot.now, ..order }));
        return what_if::answer_all(snapshot, acts.collect(), global);
    }
    let word = if online { "online" } else { "offline" };
    let id = if online { EventId::GROUP_STARTED } else { EventId::GROUP_STOPPED };
    let news = News::since(snapshot, names.iter().cloned(), global);
    for order in &orders {
        store.order_group(order).await?;
        if !online {
            let asked = snapshot.moves.iter().find(|wish| wish.group == order.group);
            if let Some(wish) = asked {
                store.drop_move(&order.group, wish.at).await?;
            }
        }
        let sentence = format!("{by} wants it {word}");
        record(store, id, format!("group {}", order.group), sentence).await;
    }
    if how.no_wait {
        let asked = names.iter().map(|name| format!("group {name} is wanted {word}"));
        return tell(global, "asked", &asked.collect::<Vec<_>>(), EXIT_OK);
    }
    wait(store, names, online, how.wait, news, global).await
}

fn new(snapshot: &Snapshot, group: &GroupName, online: bool, by: &str) -> GroupOrder {
    let before = snapshot.group_order(group);
    GroupOrder {
        group: group.clone(),
        online,
        unmonitored_until: before
            .and_then(|order| order.unmonitored_until)
            .filter(|until| *until > snapshot.now),
        by: by.to_owned(),
        // The store fills it in.
        at: Timestamp(0),
    }
}

/// Waits until all are where they are wanted; each is told of when it is.
async fn wait(
    store: &dyn Store,
    names: Vec<GroupName>,
    online: bool,
    patience: Millis,
    mut news: News<'_>,
    global: &Global,
) -> Result<u8> {
    let mut left: BTreeSet<GroupName> = names.into_iter().collect();
    let mut done = Vec::new();
    let ended = until(store, patience, |snapshot| {
        news.tell(snapshot)?;
        left.retain(|name| {
            let line = arrived(snapshot, name, online);
            let stays = line.is_none();
            done.extend(line);
            stays
        });
        Ok(left.is_empty().then_some(()))
    });
    match ended.await? {
        Ok(()) => tell(global, if online { "online" } else { "offline" }, &done, EXIT_OK),
        Err(snapshot) => {
            let word = if online { "online" } else { "offline" };
            for name in &left {
                done.push(format!("group {name} is not {word} after {patience}:"));
                done.extend(cluster::why(&snapshot, name));
            }
            done.push("the order stays".into());
            tell(global, "waiting", &done, EXIT_FAILED)
        }
    }
}

/// A sentence once a group is where it is wanted.
fn arrived(snapshot: &Snapshot, name: &GroupName, online: bool) -> Option<String> {
    let Some(group) = snapshot.definitions.group(name) else {
        return Some(format!("group {name} is no longer defined"));
    };
    let lease = snapshot.lease(&LeaseName::Group(name.clone()));
    let owner = lease.and_then(|view| view.holder.as_ref());
    let is_empty = snapshot.definitions.members_of(name).next().is_none();
    match owner {
        Some(owner) if online && is_empty => {
            Some(format!("group {name} is on {owner}; it has no host or resource to bring online"))
        }
        Some(owner) if online && placement::state(snapshot, group) == GroupState::Online => {
            Some(format!("group {name} is online on {owner}"))
        }
        None if !online => Some(format!("group {name} is offline")),
        Some(_) | None => None,
    }
}

pub(super) async fn unmonitor(args: &UnmonitorArgs, global: &Global) -> Result<u8> {
    if args.length == Millis(0) || args.length > UNMONITORED_MAX {
        let sentence = format!("--for {} will not do: use up to {UNMONITORED_MAX}", args.length);
        return Err(Refused::new(sentence).into());
    }
    let store = open(global).await?;
    let snapshot = store.snapshot().await?;
    let until = snapshot.now.after(args.length);
    let watch = Watch { group: &args.group, until: Some(until), what_if: args.what_if };
    watch.order(store.as_ref(), &snapshot, global).await
}

pub(super) async fn monitor(group: &str, what_if: bool, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let snapshot = store.snapshot().await?;
    Watch { group, until: None, what_if }.order(store.as_ref(), &snapshot, global).await
}

/// Until when failures of a group count for nothing.
struct Watch<'a> {
    group: &'a str,
    until: Option<Timestamp>,
    what_if: bool,
}

impl Watch<'_> {
    async fn order(&self, store: &dyn Store, snapshot: &Snapshot, global: &Global) -> Result<u8> {
        let group = session::group(&snapshot.definitions, self.group)?;
        let name = &group.name;
        let before = snapshot.group_order(name);
        // Whether it is wanted online, by whom and since when stay what they are.
        let order = GroupOrder {
            group: name.clone(),
            online: placement::is_wanted_online(snapshot, group),
            unmonitored_until: self.until,
            by: before.map_or_else(operator, |order| order.by.clone()),
            at: before.map_or(LONG_AGO, |order| order.at),
        };
        if self.what_if {
            return what_if::answer(snapshot, Act::Group(order), global);
        }
        store.order_group(&order).await?;
        let by = operator();
        let (id, sentence, done) = match self.until {
            Some(until) => (
                EventId::GROUP_UNMONITORED,
                format!("{by} wants failures to count for nothing until {until}"),
                format!(
                    "failures of group {name} count for nothing until {until}; `baton group \
                     monitor {name}` ends it"
                ),
            ),
            None => (
                EventId::GROUP_MONITORED,
                format!("{by} wants failures to count again"),
                format!("failures of group {name} count again"),
            ),
        };
        record(store, id, format!("group {name}"), sentence).await;
        let outcome = if self.until.is_some() { "unmonitored" } else { "monitored" };
        tell(global, outcome, &[safe(&done).into_owned()], EXIT_OK)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_order_keeps_a_maintenance_that_goes_on() {
        let mut snapshot = Snapshot { now: Timestamp(1000), ..Snapshot::default() };
        let group: GroupName = "g".parse().expect("name");
        let before = GroupOrder {
            group: group.clone(),
            online: true,
            unmonitored_until: Some(Timestamp(2000)),
            by: "lee".into(),
            at: Timestamp(500),
        };
        snapshot.group_orders.push(before);
        let order = new(&snapshot, &group, false, "kim");
        assert_eq!((order.online, order.unmonitored_until), (false, Some(Timestamp(2000))));
        assert_eq!((order.by.as_str(), order.at), ("kim", Timestamp(0)));
        snapshot.now = Timestamp(3000);
        assert_eq!(new(&snapshot, &group, false, "kim").unmonitored_until, None);
    }

    #[test]
    fn a_group_has_arrived_when_its_state_says_so() {
        let definitions = json!({"groups": [{"name": "g"}]});
        let snapshot = Snapshot {
            definitions: std::sync::Arc::new(serde_json::from_value(definitions).expect("ok")),
            ..Snapshot::default()
        };
        let name: GroupName = "g".parse().expect("name");
        assert_eq!(arrived(&snapshot, &name, false).as_deref(), Some("group g is offline"));
        assert_eq!(arrived(&snapshot, &name, true), None);
        let gone: GroupName = "x".parse().expect("name");
        assert!(arrived(&snapshot, &gone, true).is_some());
    }
}
