//! `baton group move`: a planned move, and the wait for it.

use anyhow::Result;
use clap::Args;
use cluster::placement::{self, From};
use cluster::{MoveRequest, Snapshot};
use model::definition::Group;
use model::{Epoch, EventId, LeaseName, NodeName};
use store::Store;

use super::super::follow::{News, until};
use super::super::session::{self, open, operator, record, tell};
use super::super::what_if::{self, Act};
use super::super::{EXIT_FAILED, EXIT_OK, Global, Refused};
use super::How;

/// Move a group to another node: its owner finishes what it has begun and lets go, the other one
/// takes over. It is a wish for once, and leaves no preference behind.
///
/// A group that is in transition moves when it has arrived, within a minute; later the wish is
/// dropped. A newer wish replaces an older one.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  baton group move partners                  to the best other node
  baton group move partners --to node-b
  baton group move partners --to node-b --what-if
  baton group move partners --no-wait

Exit codes: 0 it is there (or asked for, with --no-wait), 1 not there in time, 3 not allowed")]
pub struct MoveArgs {
    /// The group.
    pub group: String,
    /// The node it should go to [default: the best other possible owner].
    #[arg(long, value_name = "NODE")]
    pub to: Option<String>,
    /// How it is asked for.
    #[command(flatten)]
    pub how: How,
}

pub(super) async fn run(args: &MoveArgs, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let snapshot = store.snapshot().await?;
    let group = session::group(&snapshot.definitions, &args.group)?;
    let before = Position::of(&snapshot, &LeaseName::Group(group.name.clone()));
    let to = match &args.to {
        Some(to) if before.owner.as_ref().is_some_and(|owner| owner.as_str() == to) => {
            let sentence = format!("group {} is there already", group.name);
            return tell(global, "moved", &[sentence], EXIT_OK);
        }
        to => target(&snapshot, group, to.as_deref())?,
    };
    let request =
        MoveRequest { group: group.name.clone(), to: to.clone(), by: operator(), at: snapshot.now };
    if args.how.what_if {
        return what_if::answer(&snapshot, Act::Move(request), global);
    }
    let asked = ask(store.as_ref(), &snapshot, &request).await?;
    if args.how.no_wait {
        return tell(global, "asked", &[asked], EXIT_OK);
    }
    wait(store.as_ref(), &snapshot, group, to, before, args, global).await
}

/// Asks for it, and says so for the records.
async fn ask(store: &dyn Store, snapshot: &Snapshot, request: &MoveRequest) -> Result<String> {
    store.request_move(request).await?;
    let MoveRequest { group, to, by, .. } = request;
    let to = to.as_ref().map_or("another node".to_owned(), |to| format!("node {to}"));
    let sentence = format!("{by} asked to move it to {to}");
    let subject = format!("group {group}");
    record(store, EventId::GROUP_MOVE_ASKED, subject, sentence).await;
    let replaced = snapshot.moves.iter().find(|wish| wish.group == *group).map(|wish| {
        let to = wish.to.as_ref().map_or("another node", NodeName::as_str);
        format!("; it replaces the move to {to} that {} asked for at {}", wish.by, wish.at)
    });
    Ok(format!("the move of group {group} is asked for{}", replaced.unwrap_or_default()))
}

/// The node it should go to, if one is named: known, and fit to have it. Without a name there must
/// be one that is.
fn target(snapshot: &Snapshot, group: &Group, to: Option<&str>) -> Result<Option<NodeName>> {
    let refuse = |sentence: String| Err(Refused::new(sentence).into());
    let name = &group.name;
    if !placement::is_wanted_online(snapshot, group) {
        return refuse(format!(
            "group {name} is wanted offline, so it cannot be moved; `baton group start {name}` \
             starts it at the best node"
        ));
    }
    let Some(text) = to else {
        let owner = snapshot.lease(&LeaseName::Group(name.clone()));
        let owner = owner.and_then(|view| view.holder.as_ref());
        let candidates = placement::candidates(snapshot, group, From::Top);
        if candidates.into_iter().any(|node| Some(node) != owner) {
            return Ok(None);
        }
        let others = snapshot.nodes.iter().map(|node| &node.name);
        let others = others.filter(|node| Some(*node) != owner);
        let why: Vec<String> =
            others.filter_map(|node| placement::unfit(snapshot, group, node)).collect();
        let why = if why.is_empty() { "no other one has joined".into() } else { why.join("; ") };
        return refuse(format!("group {name} has no other node to go to: {why}"));
    };
    let view = session::node(snapshot, text)?;
    match placement::unfit(snapshot, group, &view.name) {
        None => Ok(Some(view.name.clone())),
        Some(why) => refuse(format!(
            "group {name} cannot go to node {text}: {why}; `baton why {name}` says of each node \
             why not"
        )),
    }
}

/// Where a group is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    owner: Option<NodeName>,
    epoch: Epoch,
}

impl Position {
    fn of(snapshot: &Snapshot, lease: &LeaseName) -> Position {
        let lease = snapshot.lease(lease);
        Position {
            owner: lease.and_then(|view| view.holder.clone()),
            epoch: lease.map(|view| view.epoch).unwrap_or_default(),
        }
    }
}

/// How a move stands.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    There(NodeName),
    Elsewhere(NodeName),
    Dropped,
    Underway,
}

async fn wait(
    store: &dyn Store,
    snapshot: &Snapshot,
    group: &Group,
    to: Option<NodeName>,
    before: Position,
    args: &MoveArgs,
    global: &Global,
) -> Result<u8> {
    let name = &group.name;
    let lease = LeaseName::Group(name.clone());
    let mut news = News::since(snapshot, [name.clone()], global);
    let patience = args.how.wait;
    let ended = until(store, patience, |snapshot| {
        news.tell(snapshot)?;
        let now = Position::of(snapshot, &lease);
        let asked = snapshot.moves.iter().any(|wish| wish.group == *name);
        let answer = match standing(&before, &now, to.as_ref(), asked) {
            Standing::There(node) => {
                let line = format!("group {name} is on node {node}, epoch {}", now.epoch);
                tell(global, "moved", &[line], EXIT_OK)?
            }
            Standing::Elsewhere(node) => {
                let line = format!("group {name} went to node {node} instead");
                tell(global, "elsewhere", &[line], EXIT_FAILED)?
            }
            Standing::Dropped => {
                let mut lines = cluster::why(snapshot, name);
                lines.insert(0, format!("the move of group {name} could not be done"));
                tell(global, "dropped", &lines, EXIT_FAILED)?
            }
            Standing::Underway => return Ok(None),
        };
        Ok(Some(answer))
    });
    match ended.await? {
        Ok(code) => Ok(code),
        Err(snapshot) => {
            let mut lines = cluster::why(&snapshot, name);
            lines.insert(0, format!("group {name} is not there after {patience}:"));
            lines.push("the move stays asked for".into());
            tell(global, "waiting", &lines, EXIT_FAILED)
        }
    }
}

fn standing(before: &Position, now: &Position, to: Option<&NodeName>, asked: bool) -> Standing {
    let taken = now.epoch > before.epoch;
    match &now.owner {
        Some(owner) if taken && to.is_none_or(|to| to == owner) => Standing::There(owner.clone()),
        Some(owner) if taken && !asked => Standing::Elsewhere(owner.clone()),
        Some(_) if !taken && !asked => Standing::Dropped,
        Some(_) | None => Standing::Underway,
    }
}

#[cfg(test)]
mod tests {
    use cluster::{GroupOrder, Presence};
    use model::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::render::node::tests::node;

    fn snapshot() -> Snapshot {
        let definitions = serde_json::from_value(json!({
            "groups": [{"name": "g", "possible_owners": ["a", "b"]}],
        }));
        Snapshot {
            definitions: std::sync::Arc::new(definitions.expect("definitions")),
            nodes: vec![
                node("a", Presence::Present),
                node("b", Presence::ConfirmedDead),
                node("c", Presence::Present),
            ],
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_target_is_known_allowed_and_there() {
        let mut snapshot = snapshot();
        let to = |snapshot: &Snapshot, to| {
            let group = &snapshot.definitions.groups[0];
            target(snapshot, group, to).map_err(|error| error.to_string())
        };
        assert_eq!(to(&snapshot, Some("a")), Ok(Some("a".parse().expect("name"))));
        assert_eq!(to(&snapshot, None), Ok(None));
        for (node, sentence) in [
            ("x", "there is no node \"x\"; nodes that have joined: a, b, c"),
            ("b", "group g cannot go to node b: b is dead; `baton why g`"),
            ("c", "group g cannot go to node c: c is not a possible owner; `baton why g`"),
        ] {
            let error = to(&snapshot, Some(node)).expect_err("refused");
            assert!(error.starts_with(sentence), "{error}");
        }
        snapshot.group_orders.push(GroupOrder {
            group: "g".parse().expect("name"),
            online: false,
            unmonitored_until: None,
            by: "kim".into(),
            at: Timestamp(0),
        });
        let error = to(&snapshot, Some("a")).expect_err("refused");
        assert!(error.contains("group g is wanted offline"), "{error}");
        snapshot.group_orders.clear();
        snapshot.nodes.remove(0);
        let error = to(&snapshot, None).expect_err("refused");
        let sentence = "group g has no other node to go to: b is dead; c is not a possible owner";
        assert_eq!(error, sentence);
    }

    #[test]
    fn a_move_has_four_outcomes() {
        let at = |owner: Option<&str>, epoch| Position {
            owner: owner.map(|name| name.parse().expect("name")),
            epoch: Epoch(epoch),
        };
        let (b, c): (NodeName, NodeName) = ("b".parse().expect("b"), "c".parse().expect("c"));
        let before = at(Some("a"), 3);
        for (now, to, asked, expected) in [
            (at(Some("a"), 3), Some(&b), true, Standing::Underway),
            (at(None, 3), Some(&b), true, Standing::Underway),
            (at(Some("b"), 4), Some(&b), false, Standing::There(b.clone())),
            (at(Some("b"), 4), None, false, Standing::There(b.clone())),
            (at(Some("c"), 4), Some(&b), false, Standing::Elsewhere(c)),
            (at(Some("a"), 3), Some(&b), false, Standing::Dropped),
        ] {
            assert_eq!(standing(&before, &now, to, asked), expected, "{now:?}");
        }
    }
}
