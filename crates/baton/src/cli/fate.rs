//! What may befall a cluster in a play, and the words for it: `2s kill node a`.

use std::fmt;

use anyhow::Result;
use cluster::{Duty, MoveRequest, Presence, ResumeFailback, Snapshot};
use model::{FailureReach, GroupName, Millis, NodeName, ResourceName, Timestamp};
use sim::{Cut, World};

use super::what_if::Act;
use super::{Refused, session};
use crate::yaml;

/// The words that `--do` understands, for its help and for refusals.
pub const GRAMMAR: &str = "\
What --do takes: a moment (default: that of the one before), then one of
  kill|lose|freeze|thaw|cut|mend|start|stop node N    kill: its processes die; lose: the machine is
                                                      gone without a word; cut: from the store
  fail resource R on N [hard|fatal]                   once; hard: never here, fatal: nowhere
  break|repair|hang|crash|stick resource R on N       break: whenever it starts; stick: cannot stop
  store away [DURATION] | store back
  move group G [to N] | start group G | stop group G | unmonitor group G DURATION
  pause|drain|evict|clear-quarantine node N | resume node N [none|immediate|policy]
  apply FILE";

/// Something breaks, or is mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// To a node.
    Node(NodeFate, NodeName),
    /// To a resource or host on a node.
    Resource(ResourceFate, ResourceName, NodeName),
    /// Nobody reaches the store any more.
    StoreAway,
    /// The store is back.
    StoreBack,
    /// An operator wants a group online, or offline.
    Want(GroupName, bool),
    /// Failures of a group count for nothing for so long.
    Unmonitor(GroupName, Millis),
    /// An operator pauses or drains a node.
    Relieve(NodeName, Duty),
    /// An operator lets a node have groups again.
    Resume(NodeName, ResumeFailback),
    /// An operator ends a node's quarantine.
    Forgive(NodeName),
}

/// Who asks in a play.
const OPERATOR: &str = "an operator";

/// What befalls a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeFate {
    /// Its processes die, and the store hears of it.
    Kill,
    /// Its machine is gone without a word.
    Lose,
    /// It stands still.
    Freeze,
    /// It goes on.
    Thaw,
    /// The way to the store is cut, and the store notices.
    Cut,
    /// The way is mended.
    Mend,
    /// It is started.
    Start,
    /// It is asked to stop (SIGTERM).
    Stop,
}

/// What befalls a resource on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceFate {
    /// It fails once.
    Fail(FailureReach),
    /// It fails whenever it is started.
    Break,
    /// It works again.
    Repair,
    /// It makes no progress.
    Hang,
    /// What drives it dies by a signal.
    Crash,
    /// It cannot be stopped.
    Stick,
}

const NODE_FATES: [(&str, NodeFate); 8] = [
    ("kill", NodeFate::Kill),
    ("lose", NodeFate::Lose),
    ("freeze", NodeFate::Freeze),
    ("thaw", NodeFate::Thaw),
    ("cut", NodeFate::Cut),
    ("mend", NodeFate::Mend),
    ("start", NodeFate::Start),
    ("stop", NodeFate::Stop),
];

const RESOURCE_FATES: [(&str, ResourceFate); 6] = [
    ("fail", ResourceFate::Fail(FailureReach::Soft)),
    ("break", ResourceFate::Break),
    ("repair", ResourceFate::Repair),
    ("hang", ResourceFate::Hang),
    ("crash", ResourceFate::Crash),
    ("stick", ResourceFate::Stick),
];

impl Fate {
    /// Lets it happen.
    pub fn strike(&self, world: &mut World) {
        match self {
            Fate::Node(fate, node) => match fate {
                NodeFate::Kill => world.kill(node, Presence::ConfirmedDead),
                NodeFate::Lose => world.kill(node, Presence::Present),
                NodeFate::Freeze => world.freeze(node),
                NodeFate::Thaw => world.thaw(node),
                NodeFate::Cut => world.cut(node, Cut::Both, Presence::ConnectionGone),
                NodeFate::Mend => world.mend(node),
                NodeFate::Start => world.start(node),
                NodeFate::Stop => world.stop(node),
            },
            Fate::Resource(fate, resource, node) => match fate {
                ResourceFate::Fail(reach) => world.fail(node, resource, "simulated", *reach),
                ResourceFate::Break => {
                    world.break_resource(node, resource, FailureReach::Soft);
                    world.fail(node, resource, "simulated", FailureReach::Soft);
                }
                ResourceFate::Repair => world.repair(node, resource),
                ResourceFate::Hang => world.hang(node, resource),
                ResourceFate::Crash => world.crash(node, resource),
                ResourceFate::Stick => world.stick(node, resource),
            },
            Fate::StoreAway => world.store_away(),
            Fate::StoreBack => world.store_back(),
            Fate::Want(group, online) => {
                if !online {
                    world.store.moves.remove(group);
                }
                world.want_online(group, *online, OPERATOR);
            }
            Fate::Unmonitor(group, length) => world.unmonitor(group, *length, OPERATOR),
            Fate::Relieve(node, duty) => world.relieve(node, *duty, OPERATOR),
            Fate::Resume(node, failback) => world.resume(node, *failback, OPERATOR),
            Fate::Forgive(node) => world.clear_quarantine(node, OPERATOR),
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Node(fate, node) => write!(f, "{} node {node}", word(&NODE_FATES, fate)),
            Fate::Resource(ResourceFate::Fail(reach), resource, node) => {
                let how = match reach {
                    FailureReach::Soft => "",
                    FailureReach::Hard => " hard",
                    FailureReach::Fatal => " fatal",
                };
                write!(f, "fail resource {resource} on {node}{how}")
            }
            Fate::Resource(fate, resource, node) => {
                write!(f, "{} resource {resource} on {node}", word(&RESOURCE_FATES, fate))
            }
            Fate::StoreAway => f.write_str("store away"),
            Fate::StoreBack => f.write_str("store back"),
            Fate::Want(group, true) => write!(f, "start group {group}"),
            Fate::Want(group, false) => write!(f, "stop group {group}"),
            Fate::Unmonitor(group, length) => write!(f, "unmonitor group {group} {length}"),
            Fate::Relieve(node, Duty::Draining) => write!(f, "drain node {node}"),
            Fate::Relieve(node, Duty::Active | Duty::Paused) => write!(f, "pause node {node}"),
            Fate::Resume(node, failback) => write!(f, "resume node {node} {}", failback.as_str()),
            Fate::Forgive(node) => write!(f, "clear-quarantine node {node}"),
        }
    }
}

fn word<T: PartialEq>(words: &[(&'static str, T)], wanted: &T) -> &'static str {
    words.iter().find(|(_, fate)| fate == wanted).map_or("", |(word, _)| word)
}

/// Reads what is to happen, with its moments: `2s kill node a`. Names must be known. What lasts
/// for a while has an end of its own.
pub fn acts(texts: &[String], snapshot: &Snapshot) -> Result<Vec<(Millis, Act, String)>> {
    let mut acts: Vec<(Millis, Act, String)> = Vec::new();
    let mut at = Millis(0);
    for text in texts {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        if let Some(moment) = words.first().and_then(|word| word.parse().ok()) {
            at = moment;
            words.remove(0);
        }
        let reader = Reader { snapshot, text };
        acts.push((at, reader.act(&words)?, words.join(" ")));
        if let ["store", "away", length] = words.as_slice() {
            let length: Millis = length.parse().map_err(|_| reader.unknown())?;
            let back = Act::Fate(Fate::StoreBack);
            acts.push((Millis(at.0.saturating_add(length.0)), back, "store back".into()));
        }
    }
    acts.sort_by_key(|(at, ..)| *at);
    Ok(acts)
}

/// Reads one text.
struct Reader<'a> {
    snapshot: &'a Snapshot,
    text: &'a str,
}

impl Reader<'_> {
    fn act(&self, words: &[&str]) -> Result<Act> {
        match words {
            ["store", "away"] | ["store", "away", _] => Ok(Act::Fate(Fate::StoreAway)),
            ["store", "back"] => Ok(Act::Fate(Fate::StoreBack)),
            ["move", "group", group] => self.moved(group, None),
            ["move", "group", group, "to", to] => self.moved(group, Some(self.node(to)?)),
            ["start", "group", group] => Ok(Act::Fate(Fate::Want(self.group(group)?, true))),
            ["stop", "group", group] => Ok(Act::Fate(Fate::Want(self.group(group)?, false))),
            ["unmonitor", "group", group, length] => {
                let length = length.parse().map_err(|_| self.unknown())?;
                Ok(Act::Fate(Fate::Unmonitor(self.group(group)?, length)))
            }
            ["pause", "node", node] => Ok(Act::Fate(Fate::Relieve(self.node(node)?, Duty::Paused))),
            ["drain", "node", node] => {
                Ok(Act::Fate(Fate::Relieve(self.node(node)?, Duty::Draining)))
            }
            ["resume", "node", node] => {
                Ok(Act::Fate(Fate::Resume(self.node(node)?, ResumeFailback::None)))
            }
            ["resume", "node", node, failback] => {
                let failback = ResumeFailback::from_word(failback).ok_or_else(|| self.unknown())?;
                Ok(Act::Fate(Fate::Resume(self.node(node)?, failback)))
            }
            ["clear-quarantine", "node", node] => Ok(Act::Fate(Fate::Forgive(self.node(node)?))),
            ["evict", "node", node] => Ok(Act::Evict(self.node(node)?)),
            ["apply", path] => {
                let definitions = yaml::definitions(std::path::Path::new(path))?;
                Ok(Act::Apply(Box::new(definitions)))
            }
            [verb, "node", node] => {
                let fate = NODE_FATES.iter().find(|(word, _)| word == verb);
                let (_, fate) = fate.ok_or_else(|| self.unknown())?;
                Ok(Act::Fate(Fate::Node(*fate, self.node(node)?)))
            }
            [verb, "resource" | "host", resource, "on", node, rest @ ..] => {
                self.befalls(verb, resource, node, rest)
            }
            _ => Err(self.unknown().into()),
        }
    }

    fn befalls(&self, verb: &str, resource: &str, node: &str, rest: &[&str]) -> Result<Act> {
        let fate = RESOURCE_FATES.iter().find(|(word, _)| *word == verb);
        let (_, fate) = fate.ok_or_else(|| self.unknown())?;
        let fate = match (fate, rest) {
            (fate, []) => *fate,
            (ResourceFate::Fail(_), ["hard"]) => ResourceFate::Fail(FailureReach::Hard),
            (ResourceFate::Fail(_), ["fatal"]) => ResourceFate::Fail(FailureReach::Fatal),
            _ => return Err(self.unknown().into()),
        };
        let name: Option<ResourceName> = resource.parse().ok();
        let name = name.filter(|name| self.snapshot.definitions.member(name).is_some());
        let Some(name) = name else {
            let known = self.snapshot.definitions.members().map(|member| member.name);
            let known = session::names(known);
            let sentence = format!("there is no resource or host {resource:?}; there are: {known}");
            return Err(Refused::new(sentence).into());
        };
        Ok(Act::Fate(Fate::Resource(fate, name, self.node(node)?)))
    }

    fn node(&self, name: &str) -> Result<NodeName> {
        Ok(session::node(self.snapshot, name)?.name.clone())
    }

    fn group(&self, name: &str) -> Result<GroupName> {
        Ok(session::group(&self.snapshot.definitions, name)?.name.clone())
    }

    fn moved(&self, group: &str, to: Option<NodeName>) -> Result<Act> {
        let (group, by, at) = (self.group(group)?, OPERATOR.to_owned(), Timestamp(0));
        Ok(Act::Move(MoveRequest { group, to, by, at }))
    }

    fn unknown(&self) -> Refused {
        Refused::new(format!("{:?} says nothing that can happen\n{GRAMMAR}", self.text))
    }
}

#[cfg(test)]
mod tests {
    use cluster::Presence;
    use serde_json::json;

    use super::*;
    use crate::render::node::tests::node;

    fn read(texts: &[&str]) -> Result<Vec<(Millis, Act, String)>> {
        let definitions = json!({
            "groups": [{"name": "g"}],
            "hosts": [{"name": "receive", "group": "g"}],
        });
        let snapshot = Snapshot {
            definitions: std::sync::Arc::new(serde_json::from_value(definitions).expect("ok")),
            nodes: vec![node("a", Presence::Present), node("b", Presence::Present)],
            ..Snapshot::default()
        };
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        acts(&texts, &snapshot)
    }

    #[test]
    fn what_happens_is_read_with_its_moments() {
        let acts = read(&["2s kill node a", "freeze node b", "1s store away 30s"]).expect("read");
        let moments: Vec<(u64, &str)> =
            acts.iter().map(|(at, _, words)| (at.0, words.as_str())).collect();
        let expected = [
            (1_000, "store away 30s"),
            (2_000, "kill node a"),
            (2_000, "freeze node b"),
            (31_000, "store back"),
        ];
        assert_eq!(moments, expected);
        for text in [
            "fail resource receive on a",
            "fail host receive on a fatal",
            "stick resource receive on b",
            "lose node b",
            "store away",
            "store back",
            "start group g",
            "stop group g",
            "unmonitor group g 1h",
            "pause node a",
            "drain node b",
            "resume node a policy",
            "clear-quarantine node a",
        ] {
            let acts = read(&[text]).unwrap_or_else(|error| panic!("{text}: {error}"));
            let [(_, Act::Fate(fate), words)] = acts.as_slice() else { panic!("{acts:?}") };
            assert_eq!(fate.to_string(), words.replace("host ", "resource "));
        }
        for text in ["move group g to b", "resume node a", "evict node b"] {
            read(&[text]).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        for (text, sentence) in [
            ("kill node x", "there is no node \"x\"; nodes that have joined: a, b"),
            ("fail resource x on a", "there is no resource or host \"x\"; there are: receive"),
            ("stop group x", "there is no group \"x\"; groups in force: g"),
            ("frobnicate", "\"frobnicate\" says nothing that can happen\nWhat --do takes"),
            ("hang resource receive on a hard", "says nothing that can happen"),
            ("5s", "\"5s\" says nothing"),
        ] {
            let error = read(&[text]).expect_err(text).to_string();
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }
}
