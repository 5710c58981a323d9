//! `--what-if`: plays what a verb would do, by the agents themselves, in simulated time.
//!
//! Nothing is asked of the cluster and nothing is changed: the snapshot that was read is all there
//! is. What is printed are the sentences that the log would have.

use anyhow::Result;
use cluster::{GroupOrder, MoveRequest, NodeOrder, Snapshot, Timing};
use model::{Definitions, Millis, NodeName, Timestamp};
use serde_json::{Value, json};
use sim::{Line, World};

use super::fate::Fate;
use super::session::{print, print_json};
use super::{EXIT_OK, Global, Refused};
use crate::config::{self, Given};
use crate::render::diff::{Change, render};
use crate::render::group::GroupStatus;
use crate::render::{Look, length, safe};

/// How much time a verb is given: longer than any step of a healthy cluster takes.
const PLAYED: Millis = Millis::minutes(2);

/// Lines that are printed; a cluster that flaps for a day would fill a disk.
const LINES_MAX: usize = 10_000;

/// Something that happens in a play.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// A move is asked for.
    Move(MoveRequest),
    /// A group is ordered online, offline, unmonitored.
    Group(GroupOrder),
    /// A node is ordered away or back.
    Node(NodeOrder),
    /// A node is evicted.
    Evict(NodeName),
    /// Definitions are put in force.
    Apply(Box<Definitions>),
    /// Something breaks, or is mended.
    Fate(Fate),
}

/// What is played: from where, what happens when, and for how long.
pub struct Play<'a> {
    /// Where it begins.
    pub from: &'a Snapshot,
    /// The timing of the nodes.
    pub timing: Timing,
    /// What happens how long after the begin, in order; with the words that tell it.
    pub acts: Vec<(Millis, Act, String)>,
    /// For how long.
    pub length: Millis,
    /// Also what the nodes do without saying it: each step towards a lease or a process.
    pub steps: bool,
}

/// What a play showed.
pub struct Played {
    lines: Vec<Line>,
    before: Vec<GroupStatus>,
    after: Vec<GroupStatus>,
    length: Millis,
    /// Promises of the protocol that were broken; there never should be any.
    broken: Vec<String>,
}

impl Play<'_> {
    /// Plays it. An act that cannot be is refused with the reason.
    pub fn run(&self) -> Result<Played> {
        let mut world = World::from_snapshot(self.from, self.timing);
        let before = GroupStatus::all(&world.store.snapshot());
        for (at, act, words) in &self.acts {
            world.run_until(*at);
            world.say("--", words);
            perform(&mut world, act).map_err(|why| Refused::new(format!("{words}: {why}")))?;
        }
        world.run_until(self.length);
        let told = |line: &&Line| self.steps || line.who == "--" || line.what.starts_with("  ");
        Ok(Played {
            lines: world.log.iter().filter(told).cloned().collect(),
            before,
            after: GroupStatus::all(&world.store.snapshot()),
            length: self.length,
            broken: world.violations.iter().map(|broken| format!("{broken:?}")).collect(),
        })
    }
}

fn perform(world: &mut World, act: &Act) -> Result<(), String> {
    let now = world.store.now;
    match act.clone() {
        Act::Move(request) => world.request_move(&request.group, request.to, &request.by),
        Act::Group(order) => {
            if !order.online {
                world.store.moves.remove(&order.group);
            }
            world.order_group(GroupOrder { at: asked_at(order.at, now), ..order });
        }
        Act::Node(order) => {
            world.order_node(NodeOrder { at: asked_at(order.at, now), ..order });
        }
        Act::Evict(node) => world.evict(&node)?,
        Act::Apply(definitions) => world.apply(*definitions),
        Act::Fate(fate) => fate.strike(world),
    }
    Ok(())
}

/// As the store does: what has no time yet is asked for now.
fn asked_at(at: Timestamp, now: Timestamp) -> Timestamp {
    if at == Timestamp(0) { now } else { at }
}

impl Played {
    /// For people.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for line in self.lines.iter().take(LINES_MAX) {
            let (seconds, millis) = (line.at.0 / 1000, line.at.0 % 1000);
            let who = if line.who == "--" { "*" } else { line.who.as_str() };
            let what = safe(line.what.trim_start());
            text.push_str(&format!("{seconds:>5}.{millis:03}s  {who:<8} {what}\n"));
        }
        if self.lines.len() > LINES_MAX {
            text.push_str(&format!("... and {} more lines\n", self.lines.len() - LINES_MAX));
        }
        text.push_str(&format!("\nafter {}:\n", length(self.length)));
        for group in &self.after {
            let before = self.before.iter().find(|before| before.name == group.name);
            let was = match before.map(place) {
                Some(was) if was != place(group) => format!(" (was {was})"),
                Some(_) => String::new(),
                None => " (new)".into(),
            };
            text.push_str(&format!("  group {} is {}{was}\n", group.name, place(group)));
        }
        for broken in &self.broken {
            let broken = safe(broken);
            text.push_str(&format!(
                "a promise was broken in this play, please tell us: {broken}\n"
            ));
        }
        text
    }

    /// For programs.
    pub fn value(&self) -> Value {
        let line = |line: &Line| {
            let who = (line.who != "--").then_some(line.who.as_str());
            json!({"at_ms": line.at.0, "node": who, "what": line.what.trim_start()})
        };
        json!({
            "changed": false,
            "lines": self.lines.iter().take(LINES_MAX).map(line).collect::<Vec<_>>(),
            "lines_left_out": self.lines.len().saturating_sub(LINES_MAX),
            "before": self.before,
            "after": self.after,
            "broken_promises": self.broken,
        })
    }
}

/// `online on a`, `offline`.
fn place(group: &GroupStatus) -> String {
    match &group.owner {
        Some(owner) => format!("{} on {owner}", group.state),
        None => group.state.to_string(),
    }
}

/// The timing of the nodes, as far as this machine's configuration tells it.
pub fn timing(global: &Global) -> Result<Timing> {
    // Its name does not matter, and need not be that of a node.
    let given = Given { name: Some("player".into()), ..global.given() };
    Ok(Timing::of(config::resolve(&given, "player")?.ttl))
}

/// Answers what one verb would do.
pub fn answer(snapshot: &Snapshot, act: Act, global: &Global) -> Result<u8> {
    answer_all(snapshot, vec![act], global)
}

/// Answers what several verbs at once would do.
pub fn answer_all(snapshot: &Snapshot, acts: Vec<Act>, global: &Global) -> Result<u8> {
    let acts = acts.into_iter().map(|act| (Millis(0), act.clone(), words(&act))).collect();
    let timing = timing(global)?;
    let play = Play { from: snapshot, timing, acts, length: PLAYED, steps: false };
    let played = play.run()?;
    if global.json() {
        print_json(&played.value())?;
    } else {
        print(&format!("{}nothing was changed (--what-if)\n", played.render()))?;
    }
    Ok(EXIT_OK)
}

/// Answers what definitions would change, and what the cluster would do then.
pub fn answer_definitions(
    snapshot: &Snapshot,
    changes: &[Change],
    wanted: Definitions,
    global: &Global,
) -> Result<u8> {
    let version = snapshot.definitions_version;
    let act = Act::Apply(Box::new(wanted));
    let acts = vec![(Millis(0), act.clone(), words(&act))];
    let timing = timing(global)?;
    let play = Play { from: snapshot, timing, acts, length: PLAYED, steps: false };
    // Nodes that are not there do nothing, and to say so of each group says nothing.
    let nobody = !snapshot.nodes.iter().any(|node| snapshot.is_alive(&node.name));
    let played = if nobody { None } else { Some(play.run()?) };
    if global.json() {
        let played = played.map(|played| played.value());
        let (applied, changes) = (false, changes);
        print_json(&json!({
            "applied": applied, "version": version, "changes": changes, "played": played,
        }))?;
        return Ok(EXIT_OK);
    }
    let mut text = render(changes, Look::of_stdout());
    if let Some(played) = played.filter(|_| !changes.is_empty()) {
        text.push_str(&format!("\n{}\n", played.render()));
    }
    text.push_str(&format!("nothing was changed, version {version} is in force (--what-if)\n"));
    print(&text)?;
    Ok(EXIT_OK)
}

/// What is asked for, for its line.
pub fn words(act: &Act) -> String {
    match act {
        Act::Move(request) => {
            let to = request.to.as_ref().map_or("another node", NodeName::as_str);
            format!("{} asks to move group {} to {to}", request.by, request.group)
        }
        Act::Group(GroupOrder { group, unmonitored_until: Some(until), .. }) => {
            format!("failures of group {group} count for nothing until {until}")
        }
        Act::Group(GroupOrder { group, online, by, .. }) => {
            format!("{by} wants group {group} {}", if *online { "online" } else { "offline" })
        }
        Act::Node(NodeOrder { node, duty, failback, by, .. }) => match duty {
            cluster::Duty::Active => {
                format!("{by} wants node {node} in service (failback {})", failback.as_str())
            }
            cluster::Duty::Paused => format!("{by} pauses node {node}"),
            cluster::Duty::Draining => format!("{by} drains node {node}"),
        },
        Act::Evict(node) => format!("node {node} is evicted"),
        Act::Apply(_) => "the definitions are put in force".into(),
        Act::Fate(fate) => fate.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cluster::{Duty, Presence, ResumeFailback};

    use super::*;
    use crate::render::node::tests::node;

    /// Two nodes, and a group that nobody has had yet.
    pub fn snapshot() -> Snapshot {
        let definitions = json!({
            "groups": [{"name": "g", "possible_owners": ["a", "b"]}],
            "hosts": [{"name": "receive", "group": "g"}],
        });
        Snapshot {
            now: Timestamp(1_000_000_000),
            definitions_version: 1,
            definitions: Arc::new(serde_json::from_value(definitions).expect("definitions")),
            nodes: vec![node("a", Presence::Present), node("b", Presence::Present)],
            ..Snapshot::default()
        }
    }

    fn play(acts: Vec<(Millis, Act, String)>) -> Result<Played> {
        let (from, timing) = (&snapshot(), Timing::of(Timing::TTL_DEFAULT));
        Play { from, timing, acts, length: Millis::minutes(1), steps: false }.run()
    }

    fn drain(name: &str) -> Act {
        Act::Node(NodeOrder {
            node: name.parse().expect("name"),
            duty: Duty::Draining,
            failback: ResumeFailback::None,
            away_since: None,
            quarantine_cleared_at: None,
            by: "kim".into(),
            at: Timestamp(0),
        })
    }

    #[test]
    fn a_drain_moves_what_the_node_has() {
        let played = play(vec![(Millis::seconds(2), drain("a"), words(&drain("a")))]);
        let played = played.expect("played");
        let text = played.render();
        assert!(text.contains("    2.000s  *        kim drains node a\n"), "{text}");
        assert!(text.contains("kim drains a, it goes to b"), "{text}");
        let last = "after 1m:\n  group g is online on b (was online on a)\n";
        assert!(text.ends_with(last), "{text}");
        let json = played.value();
        assert_eq!(json["after"][0]["owner"], "b");
        assert_eq!(json["broken_promises"], json!([]));
    }

    #[test]
    fn the_same_play_is_the_same_text() {
        let acts = || vec![(Millis(0), drain("a"), words(&drain("a")))];
        let text = || play(acts()).expect("played").render();
        assert_eq!(text(), text());
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let act = Act::Evict("a".parse().expect("name"));
        let error = play(vec![(Millis(0), act.clone(), words(&act))]).err().expect("refused");
        assert!(error.to_string().starts_with("node a is evicted: "), "{error}");
    }
}
