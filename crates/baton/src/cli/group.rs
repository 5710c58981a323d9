//! `baton group list`, `history`, `move`, and `baton why`.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, Subcommand};
use cluster::{MoveRequest, Presence, Snapshot, Tenure};
use model::definition::Group;
use model::{Epoch, LeaseName, Millis, NodeName, Timestamp};
use serde_json::json;
use store::{Store, Topic};

use super::session::{self, names, open, operator, print, print_json};
use super::{EXIT_FAILED, EXIT_OK, Global, Refused};
use crate::render::table::{Cell, Fit, Table};
use crate::render::{Look, Paint, ago, safe};

/// How often a waiting move looks, at the latest; the store's hints come sooner.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Entries of the history that are read: the newest of all groups.
const HISTORY_READ_MAX: usize = 1000;

/// What can be done with a group.
#[derive(Debug, Clone, Subcommand)]
pub enum GroupVerb {
    /// List the groups: owner, epoch, since when, and why.
    List,
    /// Show who owned a group when, and why it changed hands, newest first.
    History {
        /// The group.
        group: String,
        /// At most so many changes.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// Move a group to another node, in good order.
    Move(MoveArgs),
}

/// Move a group to another node: its owner finishes what it has begun and lets go, the other one
/// takes over. It is a wish for once, and leaves no preference behind.
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
    /// How long to wait until it is there.
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_value = "60s",
        default_missing_value = "60s"
    )]
    pub wait: Millis,
    /// Only ask for it, do not wait.
    #[arg(long, conflicts_with = "what_if")]
    pub no_wait: bool,
    /// Only say what stands in the way, if anything.
    #[arg(long)]
    pub what_if: bool,
}

pub(super) async fn run(verb: &GroupVerb, global: &Global) -> Result<u8> {
    match verb {
        GroupVerb::List => list(global).await,
        GroupVerb::History { group, limit } => history(group, *limit, global).await,
        GroupVerb::Move(args) => move_group(args, global).await,
    }
}

pub(super) async fn why(group: &str, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let snapshot = store.snapshot().await?;
    let group = session::group(&snapshot.definitions, group)?;
    let sentences = cluster::why(&snapshot, &group.name);
    if global.json() {
        print_json(&json!({"group": group.name, "sentences": sentences}))?;
    } else {
        print(&lines(&sentences))?;
    }
    Ok(EXIT_OK)
}

fn lines(sentences: &[String]) -> String {
    sentences.iter().map(|sentence| format!("{}\n", safe(sentence))).collect()
}

async fn list(global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let snapshot = store.snapshot().await?;
    let status = crate::render::status::Status::of(store.describe(), &snapshot, &[], &[]);
    if global.json() {
        print_json(&status.groups)?;
    } else if status.groups.is_empty() {
        print("there is no group; define some under `groups:` and apply them\n")?;
    } else {
        print(&status.group_table().render(Look::of_stdout(), 0))?;
    }
    Ok(EXIT_OK)
}

async fn history(group: &str, limit: usize, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let name = LeaseName::Group(
        group.parse().map_err(|error: model::name::InvalidName| Refused::new(error.to_string()))?,
    );
    let history: Vec<Tenure> = store.history(HISTORY_READ_MAX).await?;
    if !history.iter().any(|tenure| tenure.lease == name) {
        // One that was removed still has its history; one that never was is a mistake.
        let (_, definitions) = store.definitions().await?;
        session::group(&definitions, group)?;
    }
    let history: Vec<Tenure> =
        history.into_iter().filter(|tenure| tenure.lease == name).take(limit).collect();
    if global.json() {
        print_json(&history)?;
    } else if history.is_empty() {
        print(&format!("group {} has no history\n", safe(group)))?;
    } else {
        print(&history_table(&history, store.now().await?).render(Look::of_stdout(), 0))?;
    }
    Ok(EXIT_OK)
}

fn history_table(history: &[Tenure], now: Timestamp) -> Table {
    let mut table = Table::new([
        ("WHEN", Fit::Left),
        ("AGO", Fit::Left),
        ("EPOCH", Fit::Right),
        ("FROM", Fit::Left),
        ("TO", Fit::Left),
        ("CAUSE", Fit::Left),
        ("EVIDENCE", Fit::Cut),
    ]);
    for tenure in history {
        let node =
            |node: &Option<NodeName>| Cell::from(node.as_ref().map_or("-", NodeName::as_str));
        let evidence = match tenure.holder {
            Some(_) => tenure.evidence.to_string(),
            None => "-".into(),
        };
        table.row([
            tenure.at.to_string().into(),
            ago(now, tenure.at).into(),
            tenure.epoch.to_string().into(),
            node(&tenure.before),
            node(&tenure.holder),
            tenure.cause.as_str().into(),
            evidence.into(),
        ]);
        table.note(&tenure.reason, Paint::Dim);
    }
    table
}

async fn move_group(args: &MoveArgs, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let snapshot = store.snapshot().await?;
    let group = session::group(&snapshot.definitions, &args.group)?;
    let to = target(&snapshot, group, args.to.as_deref())?;
    let before = Position::of(&snapshot, &LeaseName::Group(group.name.clone()));
    if to.is_some() && before.owner == to {
        return tell(global, "moved", &[format!("group {} is there already", group.name)], EXIT_OK);
    }
    if args.what_if {
        let mut sentences = cluster::why(&snapshot, &group.name);
        let to = to.map_or("the best other possible owner".to_owned(), |to| format!("node {to}"));
        sentences.push(format!("a move to {to} would be asked for; nothing was changed"));
        return tell(global, "what_if", &sentences, EXIT_OK);
    }
    let request =
        MoveRequest { group: group.name.clone(), to: to.clone(), by: operator(), at: snapshot.now };
    store.request_move(&request).await?;
    if args.no_wait {
        let sentence = format!("the move of group {} is asked for", group.name);
        return tell(global, "asked", &[sentence], EXIT_OK);
    }
    let lease = LeaseName::Group(group.name.clone());
    let told = changes(&snapshot, &lease).map(rank).max();
    let wait = Wait { store: store.as_ref(), global, group, to, before, told };
    wait.until_there(args.wait).await
}

/// The node it should go to, if one is named: known, allowed, and there.
fn target(snapshot: &Snapshot, group: &Group, to: Option<&str>) -> Result<Option<NodeName>> {
    let known = || names(snapshot.nodes.iter().map(|node| &node.name));
    let refuse = |sentence: String| Err(Refused::new(sentence).into());
    let Some(text) = to else {
        let owners = snapshot.nodes.iter().filter(|node| group.may_own(&node.name)).count();
        return match owners {
            0 | 1 => refuse(format!(
                "group {} has no other node to go to: {owners} of its possible owners have joined; \
                 nodes: {}",
                group.name,
                known()
            )),
            _ => Ok(None),
        };
    };
    let view = snapshot.nodes.iter().find(|node| node.name.as_str() == text);
    let Some(view) = view else {
        return refuse(format!("there is no node {text:?}; nodes that have joined: {}", known()));
    };
    if !group.may_own(&view.name) {
        let owners = names(group.possible_owners.iter());
        return refuse(format!(
            "node {text} may not own group {}; its possible owners are {owners}",
            group.name
        ));
    }
    match view.presence {
        Presence::Present => Ok(Some(view.name.clone())),
        Presence::ConnectionGone | Presence::ConfirmedDead | Presence::Left => refuse(format!(
            "node {text} is not up, so group {} cannot go there; see `baton status`",
            group.name
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
        let lease = snapshot.leases.iter().find(|view| view.lease == *lease);
        Position {
            owner: lease.and_then(|view| view.holder.clone()),
            epoch: lease.map(|view| view.epoch).unwrap_or_default(),
        }
    }
}

/// A move that is waited for.
struct Wait<'a> {
    store: &'a dyn Store,
    global: &'a Global,
    group: &'a Group,
    to: Option<NodeName>,
    before: Position,
    /// The last change of owner that the operator knows of.
    told: Option<(Epoch, bool)>,
}

/// The changes of owner of a lease, as they are recorded.
fn changes<'a>(snapshot: &'a Snapshot, lease: &LeaseName) -> impl Iterator<Item = &'a Tenure> {
    snapshot.history.iter().filter(move |entry| entry.lease == *lease)
}

/// The order in which changes of one lease happen: an epoch is taken, then let go. Two of them
/// may fall into one millisecond, so their times do not tell it.
fn rank(entry: &Tenure) -> (Epoch, bool) {
    (entry.epoch, entry.holder.is_none())
}

/// How a move stands.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    There(NodeName),
    Elsewhere(NodeName),
    Dropped,
    Underway,
}

impl Wait<'_> {
    async fn until_there(mut self, patience: Millis) -> Result<u8> {
        let lease = LeaseName::Group(self.group.name.clone());
        let name = &self.group.name;
        let deadline = Instant::now() + patience.as_duration();
        let mut wakes = self.store.subscribe(Topic::Cluster);
        loop {
            // A store that is away for a moment is no reason to give up: the move goes on.
            let snapshot = match self.store.snapshot().await {
                Ok(snapshot) => Some(snapshot),
                Err(store::StoreError::Unavailable(_)) if Instant::now() < deadline => None,
                Err(error) => return Err(error.into()),
            };
            if let Some(snapshot) = &snapshot {
                self.tell_news(snapshot, &lease)?;
                let now = Position::of(snapshot, &lease);
                let asked = snapshot.moves.iter().any(|wish| wish.group == self.group.name);
                match self.standing(&now, asked) {
                    Standing::There(node) => {
                        let line = format!("group {name} is on node {node}, epoch {}", now.epoch);
                        return tell(self.global, "moved", &[line], EXIT_OK);
                    }
                    Standing::Elsewhere(node) => {
                        let line = format!("group {name} went to node {node} instead");
                        return tell(self.global, "elsewhere", &[line], EXIT_FAILED);
                    }
                    Standing::Dropped => {
                        let mut lines = cluster::why(snapshot, name);
                        lines.insert(0, format!("the move of group {name} could not be done"));
                        return tell(self.global, "dropped", &lines, EXIT_FAILED);
                    }
                    Standing::Underway if Instant::now() >= deadline => {
                        let mut lines = cluster::why(snapshot, name);
                        lines.insert(0, format!("group {name} is not there after {patience}:"));
                        lines.push("the move stays asked for".into());
                        return tell(self.global, "waiting", &lines, EXIT_FAILED);
                    }
                    Standing::Underway => {}
                }
            }
            tokio::select! {
                () = wakes.next() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn standing(&self, now: &Position, asked: bool) -> Standing {
        let taken = now.epoch > self.before.epoch;
        match &now.owner {
            Some(owner) if taken && self.to.as_ref().is_none_or(|to| to == owner) => {
                Standing::There(owner.clone())
            }
            Some(owner) if taken && !asked => Standing::Elsewhere(owner.clone()),
            Some(_) if !taken && !asked => Standing::Dropped,
            Some(_) | None => Standing::Underway,
        }
    }

    /// Prints what happened to the group since the last look, as it is recorded.
    fn tell_news(&mut self, snapshot: &Snapshot, lease: &LeaseName) -> Result<()> {
        let known = self.told;
        for entry in changes(snapshot, lease).filter(|entry| Some(rank(entry)) > known) {
            self.told = self.told.max(Some(rank(entry)));
            if !self.global.json() {
                let who = match &entry.holder {
                    Some(node) => format!("{node} took it"),
                    None => "it was let go".into(),
                };
                print(&format!("{who}, epoch {}: {}\n", entry.epoch, safe(&entry.reason)))?;
            }
        }
        Ok(())
    }
}

fn tell(global: &Global, outcome: &str, sentences: &[String], code: u8) -> Result<u8> {
    if global.json() {
        print_json(&json!({"outcome": outcome, "sentences": sentences}))?;
    } else {
        print(&lines(sentences))?;
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use cluster::NodeView;

    use super::*;

    fn node(name: &str, presence: Presence) -> NodeView {
        let name = name.parse().expect("name");
        NodeView { name, epoch: Epoch(1), presence, expires_at: Timestamp(1) }
    }

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
        let snapshot = snapshot();
        let group = &snapshot.definitions.groups[0];
        let to = |to| target(&snapshot, group, to).map_err(|error| error.to_string());
        assert_eq!(to(Some("a")), Ok(Some("a".parse().expect("name"))));
        assert_eq!(to(None), Ok(None));
        for (node, sentence) in [
            ("x", "there is no node \"x\"; nodes that have joined: a, b, c"),
            ("b", "node b is not up, so group g cannot go there; see `baton status`"),
            ("c", "node c may not own group g; its possible owners are a, b"),
        ] {
            assert_eq!(to(Some(node)), Err(sentence.to_owned()));
        }
    }
}
