//! `baton node list`, `pause`, `drain`, `resume`, `evict`, `clear-quarantine`.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use cluster::{Duty, NodeOrder, ResumeFailback, Snapshot, placement, quarantine};
use model::{EventId, GroupName, Millis, NodeName, Timestamp};
use store::Store;

use super::follow::{News, until};
use super::session::{self, open, operator, print, print_json, record, tell};
use super::what_if::{self, Act};
use super::{EXIT_FAILED, EXIT_OK, Global};
use crate::render::node::{NodeStatus, cannot_leave, list as list_text, names, owned};
use crate::render::{Look, counted};

/// What `--help` of `baton node` says at its end.
pub const HELP: &str = "\
Examples:
  baton node                            be a node, until SIGTERM
  baton node list
  baton node drain node-a               before maintenance of its machine
  baton node resume node-a --failback immediate
  baton node evict node-c               its machine is gone for good";

/// What can be done with a node.
#[derive(Debug, Clone, Subcommand)]
#[allow(missing_docs, reason = "where arguments are documented, clap shows theirs")]
pub enum NodeVerb {
    /// List the nodes: state, version, machine, groups, how often they ended unplanned.
    #[command(after_help = "\
States: up, paused, draining, drained, drain failed (a group cannot leave), silent (it is connected
but does not renew), cut off (its connection is gone), down (its processes are dead), left (stopped
in good order). Nodes in quarantine say until when.")]
    List,
    /// Give a node no more groups; it keeps those it has.
    #[command(after_help = "\
Examples:
  baton node pause node-a
  baton node pause node-a --what-if")]
    Pause(NodeArg),
    Drain(DrainArgs),
    /// Let a paused or drained node have groups again.
    Resume(ResumeArgs),
    /// Remove a node that is gone from the cluster.
    ///
    /// Refused while it lives or still holds something. Started again it joins as a new node.
    Evict(NodeArg),
    /// End the quarantine of a node that kept dying.
    ClearQuarantine(NodeArg),
}

/// A node, and whether it is only asked about.
#[derive(Debug, Clone, Args)]
pub struct NodeArg {
    /// The node.
    #[arg(value_name = "NODE")]
    pub node: String,
    /// Only say what would happen: nothing is changed.
    #[arg(long)]
    pub what_if: bool,
}

/// Pause a node and move its groups to other nodes, the most important first.
///
/// The order stays until the node is resumed: whatever cannot leave now leaves as soon as it can.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  baton node drain node-a
  baton node drain node-a --wait=30m
  baton node drain node-a --what-if

Exit codes: 0 it owns no group any more (or it is asked for, with --no-wait), 1 a group cannot
leave, or did not in time")]
pub struct DrainArgs {
    /// The node.
    #[arg(value_name = "NODE")]
    pub node: String,
    /// How long to wait until it is empty.
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_value = "10m",
        default_missing_value = "10m"
    )]
    pub wait: Millis,
    /// Only ask for it, do not wait.
    #[arg(long, conflicts_with = "what_if")]
    pub no_wait: bool,
    /// Only say what would happen: nothing is changed.
    #[arg(long)]
    pub what_if: bool,
}

/// Let a paused or drained node have groups again.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  baton node resume node-a
  baton node resume node-a --failback immediate")]
pub struct ResumeArgs {
    /// The node.
    #[arg(value_name = "NODE")]
    pub node: String,
    /// Which of the groups that were drained from it come back.
    #[arg(long, value_name = "WHICH", default_value = "none")]
    pub failback: FailbackWord,
    /// Only say what would happen: nothing is changed.
    #[arg(long)]
    pub what_if: bool,
}

/// Which groups come back to a node that is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailbackWord {
    /// They stay where they are.
    None,
    /// All that were drained from it, at once.
    Immediate,
    /// All that were drained from it, when their own `failback` allows.
    Policy,
}

impl From<FailbackWord> for ResumeFailback {
    fn from(word: FailbackWord) -> ResumeFailback {
        match word {
            FailbackWord::None => ResumeFailback::None,
            FailbackWord::Immediate => ResumeFailback::Immediate,
            FailbackWord::Policy => ResumeFailback::Policy,
        }
    }
}

pub(super) async fn run(verb: &NodeVerb, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let store = store.as_ref();
    let snapshot = store.snapshot().await?;
    match verb {
        NodeVerb::List => list(&snapshot, global),
        NodeVerb::Pause(args) => pause(store, &snapshot, args, global).await,
        NodeVerb::Drain(args) => drain(store, &snapshot, args, global).await,
        NodeVerb::Resume(args) => resume(store, &snapshot, args, global).await,
        NodeVerb::Evict(args) => evict(store, &snapshot, args, global).await,
        NodeVerb::ClearQuarantine(args) => clear(store, &snapshot, args, global).await,
    }
}

fn list(snapshot: &Snapshot, global: &Global) -> Result<u8> {
    let nodes = NodeStatus::all(snapshot);
    if global.json() {
        print_json(&nodes)?;
    } else if nodes.is_empty() {
        print("no node has joined yet: run `baton node` on a machine\n")?;
    } else {
        print(&list_text(&nodes, snapshot.now, Look::of_stdout()))?;
    }
    Ok(EXIT_OK)
}

/// What is wanted of a node so far. The store fills in the time of what is wanted from now on.
fn order_of(snapshot: &Snapshot, node: &NodeName) -> NodeOrder {
    let before = snapshot.node_order(node).cloned();
    let before = before.unwrap_or_else(|| NodeOrder {
        node: node.clone(),
        duty: Duty::Active,
        failback: ResumeFailback::None,
        away_since: None,
        quarantine_cleared_at: None,
        by: String::new(),
        at: Timestamp(0),
    });
    NodeOrder { by: operator(), at: Timestamp(0), ..before }
}

/// An order that takes a node out of service. What leaves it counts from when it was in service.
fn away(snapshot: &Snapshot, node: &NodeName, duty: Duty) -> NodeOrder {
    let before = order_of(snapshot, node);
    let since = match before.duty {
        Duty::Active => Some(snapshot.now),
        Duty::Paused | Duty::Draining => before.away_since.or(Some(snapshot.now)),
    };
    NodeOrder { duty, failback: ResumeFailback::None, away_since: since, ..before }
}

fn subject(node: &NodeName) -> String {
    format!("node {node}")
}

async fn pause(
    store: &dyn Store,
    snapshot: &Snapshot,
    args: &NodeArg,
    global: &Global,
) -> Result<u8> {
    let node = &session::node(snapshot, &args.node)?.name;
    let order = away(snapshot, node, Duty::Paused);
    if args.what_if {
        return what_if::answer(snapshot, Act::Node(order), global);
    }
    store.order_node(&order).await?;
    let keeps = match owned(snapshot, node) {
        groups if groups.is_empty() => "it owns no group".into(),
        groups => format!("it keeps {}", names(&groups)),
    };
    let sentence = format!("{} paused {node}: {keeps}", order.by);
    record(store, EventId::NODE_PAUSED, subject(node), sentence).await;
    let line =
        format!("node {node} gets no more groups; {keeps}; `baton node resume {node}` ends it");
    tell(global, "paused", &[line], EXIT_OK)
}

async fn drain(
    store: &dyn Store,
    snapshot: &Snapshot,
    args: &DrainArgs,
    global: &Global,
) -> Result<u8> {
    let node = &session::node(snapshot, &args.node)?.name;
    let order = away(snapshot, node, Duty::Draining);
    if args.what_if {
        return what_if::answer(snapshot, Act::Node(order), global);
    }
    let groups = owned(snapshot, node);
    let news = News::since(snapshot, groups.iter().cloned(), global);
    store.order_node(&order).await?;
    let sentence = match groups.as_slice() {
        [] => format!("{} drains {node}: it owns no group", order.by),
        groups => format!("{} drains {node} of {}", order.by, names(groups)),
    };
    record(store, EventId::NODE_DRAINING, subject(node), sentence).await;
    if args.no_wait {
        let line = format!("the drain of node {node} is asked for; `baton node list` shows it");
        return tell(global, "asked", &[line], EXIT_OK);
    }
    wait(store, node, args.wait, news, global).await
}

/// How a drain ended.
enum Drained {
    Empty,
    /// These cannot leave; the sentences say why.
    Stuck(Vec<GroupName>, Vec<String>),
}

/// Waits until a node owns no group, or owns only groups that cannot leave.
async fn wait(
    store: &dyn Store,
    node: &NodeName,
    patience: Millis,
    mut news: News<'_>,
    global: &Global,
) -> Result<u8> {
    let mut told = usize::MAX;
    let ended = until(store, patience, |snapshot| {
        news.tell(snapshot)?;
        let left = owned(snapshot, node);
        if left.is_empty() {
            return Ok(Some(Drained::Empty));
        }
        if left.len() != told && !global.json() {
            let count = counted(left.len() as u64, "group");
            print(&format!("{count} left on {node}: {}\n", names(&left)))?;
        }
        told = left.len();
        let stuck = cannot_leave(snapshot, node);
        let why = || stuck.iter().flat_map(|group| why_not(snapshot, group, node)).collect();
        Ok((stuck.len() == left.len()).then(|| Drained::Stuck(stuck.clone(), why())))
    });
    match ended.await? {
        Ok(Drained::Empty) => {
            let line = format!("node {node} owns no group any more");
            tell(global, "drained", &[line], EXIT_OK)
        }
        Ok(Drained::Stuck(groups, mut lines)) => {
            let those = if groups.len() == 1 { "group" } else { "groups" };
            lines.insert(0, format!("{those} {} cannot leave {node}:", names(&groups)));
            lines.push(format!(
                "bring another possible owner up, or stop it: `baton group stop {}`; the drain \
                 stays asked for",
                groups.first().map_or("GROUP", GroupName::as_str)
            ));
            tell(global, "drain_failed", &lines, EXIT_FAILED)
        }
        Err(snapshot) => {
            let left = owned(&snapshot, node);
            let mut lines = vec![format!(
                "not all groups left node {node} within {patience}: {}",
                names(&left)
            )];
            lines.extend(left.iter().flat_map(|group| cluster::why(&snapshot, group)));
            lines.push("the drain stays asked for".into());
            tell(global, "waiting", &lines, EXIT_FAILED)
        }
    }
}

/// Why a group cannot go to any other node, a sentence for each.
fn why_not(snapshot: &Snapshot, group: &GroupName, node: &NodeName) -> Vec<String> {
    let Some(definition) = snapshot.definitions.group(group) else { return Vec::new() };
    let others = snapshot.nodes.iter().map(|other| &other.name).filter(|other| *other != node);
    let why: Vec<String> = others
        .filter_map(|other| placement::unfit(snapshot, definition, other))
        .map(|why| format!("  group {group}: {why}"))
        .collect();
    if why.is_empty() { vec![format!("  group {group}: there is no other node")] } else { why }
}

async fn resume(
    store: &dyn Store,
    snapshot: &Snapshot,
    args: &ResumeArgs,
    global: &Global,
) -> Result<u8> {
    let node = &session::node(snapshot, &args.node)?.name;
    let failback = ResumeFailback::from(args.failback);
    let before = order_of(snapshot, node);
    let unchanged =
        before.duty == Duty::Active && (before.away_since.is_none() || before.failback == failback);
    if unchanged {
        let line = format!("node {node} is neither paused nor drained; nothing was changed");
        return tell(global, "unchanged", &[line], EXIT_OK);
    }
    // What was drained since it went away is what may come back, so that moment is kept.
    let order = NodeOrder { duty: Duty::Active, failback, ..before };
    if args.what_if {
        return what_if::answer(snapshot, Act::Node(order), global);
    }
    store.order_node(&order).await?;
    let sentence = format!("{} resumed {node} (failback {})", order.by, failback.as_str());
    record(store, EventId::NODE_RESUMED, subject(node), sentence).await;
    let back = match failback {
        ResumeFailback::None => "what was drained from it stays where it is",
        ResumeFailback::Immediate => "what was drained from it comes back",
        ResumeFailback::Policy => {
            "what was drained from it comes back as each group's failback says"
        }
    };
    tell(global, "resumed", &[format!("node {node} may have groups again; {back}")], EXIT_OK)
}

async fn evict(
    store: &dyn Store,
    snapshot: &Snapshot,
    args: &NodeArg,
    global: &Global,
) -> Result<u8> {
    let node = &session::node(snapshot, &args.node)?.name;
    if args.what_if {
        return what_if::answer(snapshot, Act::Evict(node.clone()), global);
    }
    let by = operator();
    store.evict(node, &by).await?;
    record(store, EventId::NODE_EVICTED, subject(node), format!("{by} evicted {node}")).await;
    let line =
        format!("node {node} is no longer of the cluster; started again it joins as a new one");
    tell(global, "evicted", &[line], EXIT_OK)
}

async fn clear(
    store: &dyn Store,
    snapshot: &Snapshot,
    args: &NodeArg,
    global: &Global,
) -> Result<u8> {
    let node = &session::node(snapshot, &args.node)?.name;
    let order = NodeOrder {
        quarantine_cleared_at: Some(snapshot.now),
        at: snapshot.node_order(node).map_or(Timestamp(0), |order| order.at),
        ..order_of(snapshot, node)
    };
    if quarantine::until(snapshot, node).is_none() {
        let line = format!("node {node} is not in quarantine; nothing was changed");
        return tell(global, "unchanged", &[line], EXIT_OK);
    }
    if args.what_if {
        return what_if::answer(snapshot, Act::Node(order), global);
    }
    store.order_node(&order).await?;
    let sentence = format!("{} ended the quarantine of {node}", order.by);
    record(store, EventId::NODE_QUARANTINE_CLEARED, subject(node), sentence).await;
    tell(global, "cleared", &[format!("the quarantine of node {node} is over")], EXIT_OK)
}

#[cfg(test)]
mod tests {
    use cluster::Presence;

    use super::*;
    use crate::render::node::tests::node;

    #[test]
    fn a_node_is_away_since_it_was_last_in_service() {
        let a: NodeName = "a".parse().expect("name");
        let mut snapshot = Snapshot {
            now: Timestamp(1000),
            nodes: vec![node("a", Presence::Present)],
            ..Snapshot::default()
        };
        let paused = away(&snapshot, &a, Duty::Paused);
        assert_eq!((paused.duty, paused.away_since), (Duty::Paused, Some(Timestamp(1000))));
        snapshot.node_orders.push(paused);
        snapshot.now = Timestamp(5000);
        let drained = away(&snapshot, &a, Duty::Draining);
        assert_eq!((drained.duty, drained.away_since), (Duty::Draining, Some(Timestamp(1000))));
        snapshot.node_orders[0] = NodeOrder { duty: Duty::Active, ..drained };
        assert_eq!(away(&snapshot, &a, Duty::Paused).away_since, Some(Timestamp(5000)));
    }

    #[test]
    fn why_a_group_cannot_leave_is_said_of_each_node() {
        let definitions = serde_json::json!({"groups": [{"name": "g", "possible_owners": ["a"]}]});
        let snapshot = Snapshot {
            definitions: std::sync::Arc::new(serde_json::from_value(definitions).expect("ok")),
            nodes: vec![node("a", Presence::Present), node("b", Presence::Present)],
            ..Snapshot::default()
        };
        let (g, a) = ("g".parse().expect("name"), "a".parse().expect("name"));
        assert_eq!(why_not(&snapshot, &g, &a), ["  group g: b is not a possible owner"]);
    }
}
