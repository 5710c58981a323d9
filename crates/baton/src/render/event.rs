//! Operator events as they are listed, and the page that each kind of them has.

use std::fmt::Write as _;

use model::event::{EVENTS, EventKind, Level};
use model::{EventId, OperatorEvent};
use serde_json::{Value, json};

use super::{Look, Paint, safe};

/// An event on one line, without its end.
pub fn line(event: &OperatorEvent, look: Look) -> String {
    let kind = event.id.kind();
    let name = kind.map_or("unknown", |kind| kind.name);
    let level = kind.map_or(Level::Info, |kind| kind.level);
    let paint = match level {
        Level::Info => Paint::None,
        Level::Warning => Paint::Warn,
        Level::Error => Paint::Bad,
    };
    let node = event.node.as_ref().map_or(String::new(), |node| format!(" ({node} says so)"));
    let (at, id) = (event.at, event.id);
    let about = format!("{}: {}", event.subject, event.sentence);
    let head = look.paint(paint, &format!("{id} {level:<7} {name}"));
    format!("{at} {head} {}{node}", safe(&about))
}

/// An event for programs: with its name and level, which the store does not keep.
pub fn value(event: &OperatorEvent) -> Value {
    let kind = event.id.kind();
    json!({
        "sequence": event.sequence,
        "at": event.at,
        "id": event.id,
        "name": kind.map(|kind| kind.name),
        "level": kind.map(|kind| kind.level),
        "node": event.node,
        "subject": event.subject,
        "sentence": event.sentence,
    })
}

/// The page of a kind of event: `docs/reference/events/NNNN-name.md`.
pub fn page(kind: &EventKind) -> String {
    let mut text = format!("# {} {}\n\n", kind.id, kind.name);
    let _ = writeln!(text, "{}\n", kind.meaning);
    let _ = writeln!(text, "- Level: {}", kind.level);
    let _ = writeln!(text, "- In Windows Server failover clusters: {}", wsfc(kind));
    let _ = writeln!(text, "\n## What to do\n\n{}", kind.remedy);
    let (subject, sentence) = example(kind.id);
    let _ = writeln!(text, "\n## An example\n\n```\n{subject}: {sentence}\n```");
    text
}

/// The file's name of a page.
pub fn page_name(kind: &EventKind) -> String {
    format!("{}-{}.md", kind.id, kind.name)
}

/// The list of all pages: `docs/reference/events/README.md`.
pub fn index() -> String {
    let mut text = "\
# Operator events

What happens to the cluster is kept in the store under numbers that never change their meaning. \
`baton events` lists them, `baton events --follow` shows them as they happen, `baton event show \
NUMBER` prints the page of one. The last column has the events of Windows Server failover clusters \
that say the same.

These pages are made from `crates/model/src/event.rs`; `BLESS=1 cargo test -p baton --test \
event_pages` writes them anew.

| number | name | level | meaning | WSFC |
|---|---|---|---|---|
"
    .to_owned();
    for kind in EVENTS {
        let EventKind { id, name, level, meaning, .. } = kind;
        let page = page_name(kind);
        let _ =
            writeln!(text, "| [{id}]({page}) | {name} | {level} | {meaning} | {} |", wsfc(kind));
    }
    text
}

fn wsfc(kind: &EventKind) -> String {
    if kind.wsfc.is_empty() {
        return "none".into();
    }
    kind.wsfc.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The subject and sentence of an event as it is said; none for a kind that is not known.
pub fn example(id: EventId) -> (&'static str, &'static str) {
    let known = EXAMPLES.iter().find(|(known, ..)| *known == id);
    known.map_or(("", ""), |(_, subject, sentence)| (subject, sentence))
}

/// One example of each kind, in the order of their numbers.
const EXAMPLES: &[(EventId, &str, &str)] = &[
    (EventId::NODE_JOINED, "node a", "a joined: version 0.1.0"),
    (EventId::NODE_LEFT, "node a", "stopped"),
    (EventId::NODE_LOST, "node b", "b does not answer: its lease expired"),
    (EventId::NODE_PAUSED, "node a", "kim@ops paused a: it keeps what it has"),
    (EventId::NODE_DRAINING, "node a", "kim@ops drains a of partners, archive"),
    (
        EventId::NODE_DRAINED,
        "node a",
        "a owns nothing any more, as kim@ops asked at 2026-01-01T12:00:00.000Z",
    ),
    (
        EventId::NODE_DRAIN_FAILED,
        "node a, group partners",
        "group partners cannot leave a: no other node may have it",
    ),
    (EventId::NODE_RESUMED, "node a", "kim@ops resumed a (failback immediate)"),
    (EventId::NODE_EVICTED, "node b", "kim@ops evicted b"),
    (
        EventId::NODE_QUARANTINED,
        "node b",
        "b died 3 times within 1h, so it is in quarantine until 2026-01-01T12:00:00.000Z",
    ),
    (EventId::NODE_REPLACED, "node a", "another process has taken the name a"),
    (EventId::NODE_STORE_LOST, "node a", "a cannot reach the store: connection refused"),
    (EventId::NODE_STORE_BACK, "node a", "a reaches the store again"),
    (EventId::NODE_QUARANTINE_CLEARED, "node b", "kim@ops ended the quarantine of b"),
    (EventId::GROUP_ONLINE, "group partners", "online on a under epoch 5"),
    (EventId::GROUP_OFFLINE, "group partners", "a has let it go"),
    (EventId::GROUP_MOVED, "group partners", "b owns it under epoch 6 (evidence: vacated)"),
    (
        EventId::GROUP_FAILED_OVER,
        "group partners",
        "host receive failed on a (killed by signal 9), 1 of 1 restarts within 15m used, failover \
         1 of 2 within 6h goes to b",
    ),
    (EventId::GROUP_TAKEN_OVER, "group partners", "a owns it under epoch 5 (evidence: silent)"),
    (
        EventId::GROUP_PARKED,
        "group partners",
        "host receive failed on a (exit code 3), 1 of 1 restarts within 15m used, 2 of 2 \
         failovers within 6h used, next try at 2026-01-01T12:00:00.000Z",
    ),
    (
        EventId::GROUP_PARTIAL,
        "group partners",
        "it stays on a until process db is down: stop that by hand there",
    ),
    (
        EventId::GROUP_MOVE_REFUSED,
        "group partners",
        "kim@ops asked to move it to c, but c is paused; it stays on a",
    ),
    (EventId::GROUP_FAILED_BACK, "group partners", "a owns it under epoch 7 (evidence: vacated)"),
    (EventId::GROUP_NO_OWNER, "group partners", "no node may have it: a is paused; b is dead"),
    (EventId::GROUP_BUDGET_HALF, "group partners", "1 of 2 failovers used"),
    (EventId::GROUP_STARTED, "group partners", "kim@ops wants it online"),
    (EventId::GROUP_STOPPED, "group partners", "kim@ops wants it offline"),
    (
        EventId::GROUP_UNMONITORED,
        "group partners",
        "kim@ops wants failures to count for nothing until 2026-01-01T12:00:00.000Z",
    ),
    (EventId::GROUP_LOST, "group partners", "a could not renew it in time, so it stops by itself"),
    (EventId::GROUP_REGAINED, "group partners", "a owns it under epoch 6 (evidence: vacated)"),
    (
        EventId::GROUP_ANTI_AFFINITY,
        "group partners",
        "no node may have it: a has group archive of the same class heavy; b is dead",
    ),
    (EventId::GROUP_MONITORED, "group partners", "kim@ops wants failures to count again"),
    (EventId::GROUP_MOVE_ASKED, "group partners", "kim@ops asked to move it to node b"),
    (
        EventId::RESOURCE_FAILED,
        "group partners",
        "process db failed on a (killed by signal 9), restart 1 of 1 within 15m",
    ),
    (
        EventId::RESOURCE_START_FAILED,
        "group partners",
        "ocf disk failed on a (start ended with 5: not installed)",
    ),
    (EventId::RESOURCE_RESTARTED, "group partners", "a owns it under epoch 6 (evidence: vacated)"),
    (EventId::RESOURCE_HUNG, "group partners", "host receive made no progress for 3s on a"),
    (EventId::RESOURCE_STUCK, "process db", "process 4711 does not end although it was killed"),
    (
        EventId::RESOURCE_BANNED,
        "group partners",
        "ocf disk failed on a (start ended with 5: not installed), so a is banned and it goes \
         to b",
    ),
    (EventId::RESOURCE_DEGRADED, "ocf db", "monitor ended with 190: it works, but poorly"),
    (
        EventId::DEFINITIONS_APPLIED,
        "definitions",
        "kim@ops put version 7 in force: ~ group partners, + host archive",
    ),
    (
        EventId::DRILL_DONE,
        "group drill",
        "owner killed: sent 200, received 200, lost 0, duplicates 0",
    ),
    (
        EventId::VALIDATED,
        "node node-a",
        "validated by kim@node-a with baton 0.1.0: 1 failed, 0 warnings; failed: endpoint.ftp of \
         location orders-ftp",
    ),
];

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    #[test]
    fn every_kind_has_an_example() {
        let with: Vec<EventId> = EXAMPLES.iter().map(|(id, ..)| *id).collect();
        let all: Vec<EventId> = EVENTS.iter().map(|kind| kind.id).collect();
        assert_eq!(with, all);
    }

    #[test]
    fn a_line_is_safe_and_complete() {
        let event = OperatorEvent {
            sequence: 7,
            at: Timestamp(0),
            id: EventId::RESOURCE_FAILED,
            node: Some("a".parse().expect("name")),
            subject: "group g".into(),
            sentence: "\x1b[31m died".into(),
        };
        assert_eq!(
            line(&event, Look::PLAIN),
            "1970-01-01T00:00:00.000Z 3001 warning resource.failed group g: \\u{1b}[31m died (a \
             says so)"
        );
        assert_eq!(value(&event)["name"], "resource.failed");
        let newer = OperatorEvent { id: EventId(9999), ..event };
        assert!(line(&newer, Look::PLAIN).contains("9999 info    unknown group g"));
    }
}
