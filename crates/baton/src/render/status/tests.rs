//! A made-up cluster, and exactly what is shown of it.

use std::sync::Arc;

use cluster::{
    Duty, GroupOrder, MoveRequest, NodeOrder, NodeView, Presence, ResourceReport, ResumeFailback,
    Tenure,
};
use model::{Cause, Epoch, Evidence, ResourceState};
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp(1_000_000_000);

fn before(millis: i64) -> Timestamp {
    Timestamp(NOW.0 - millis)
}

fn node(name: &str, epoch: u64, presence: Presence, expires_at: Timestamp) -> NodeView {
    let (machine, version) = (String::new(), String::new());
    let (name, epoch) = (name.parse().expect("name"), Epoch(epoch));
    NodeView { name, epoch, presence, expires_at, machine, version }
}

fn lease(name: &str, holder: Option<&str>, epoch: u64, reason: &str) -> LeaseView {
    LeaseView {
        lease: name.parse().expect("lease"),
        holder: holder.map(|holder| holder.parse().expect("name")),
        epoch: Epoch(epoch),
        expires_at: Timestamp(NOW.0 + 2_500),
        changed_at: before(3_200),
        cause: Cause::NodeLost,
        reason: reason.into(),
        offered_to: None,
    }
}

fn snapshot() -> Snapshot {
    let location = |name: &str, enabled: bool| {
        json!({"name": name, "host": "receive", "enabled": enabled,
               "transport": {"ftp": {"server": "s"}}})
    };
    let definitions = serde_json::from_value(json!({
        "groups": [{"name": "partners"}, {"name": "idle"}, {"name": "spare"}],
        "hosts": [{"name": "receive", "group": "partners"}, {"name": "send"},
                  {"name": "spare", "group": "idle"}],
        "resources": [{"name": "address", "group": "partners",
                       "kind": {"ip_address": {"address": "192.0.2.10/24"}}}],
        "receive_ports": [{"name": "orders", "locations": [
            location("orders-ftp", true), location("old", false), location("new", true)]}],
        "send_ports": [{"name": "archive", "host": "send", "filter": "true",
                        "transport": {"file": {"folder": "/out"}}}],
    }));
    let why = "node b was lost: its processes are dead (its lock is free under the same boot)";
    Snapshot {
        now: NOW,
        definitions_version: 3,
        definitions: Arc::new(definitions.expect("definitions")),
        nodes: vec![
            node("a", 4, Presence::Present, Timestamp(NOW.0 + 2_500)),
            node("b", 11, Presence::ConfirmedDead, before(12_000)),
            node("c", 1, Presence::Left, before(90_000)),
        ],
        leases: vec![
            lease("group/partners", Some("a"), 5, why),
            lease("instance/send@a", Some("a"), 2, ""),
        ],
        moves: vec![MoveRequest {
            group: "partners".parse().expect("name"),
            to: Some("b".parse().expect("name")),
            by: "kim@a".into(),
            at: before(1_000),
        }],
        history: vec![Tenure {
            lease: "group/partners".parse().expect("lease"),
            epoch: Epoch(5),
            holder: Some("a".parse().expect("name")),
            before: Some("b".parse().expect("name")),
            evidence: Evidence::ConfirmedDead,
            cause: Cause::NodeLost,
            resource: None,
            reason: why.into(),
            at: before(3_200),
        }],
        group_orders: vec![GroupOrder {
            group: "spare".parse().expect("name"),
            online: false,
            unmonitored_until: None,
            by: "kim@a".into(),
            at: before(120_000),
        }],
        node_orders: vec![NodeOrder {
            node: "a".parse().expect("name"),
            duty: Duty::Paused,
            failback: ResumeFailback::None,
            away_since: Some(before(60_000)),
            quarantine_cleared_at: None,
            by: "kim@a".into(),
            at: before(60_000),
        }],
        reports: vec![
            report("receive", ResourceState::Online, None),
            report("address", ResourceState::Failed, Some("192.0.2.10 answers from aa:bb")),
        ],
    }
}

fn report(name: &str, state: ResourceState, detail: Option<&str>) -> ResourceReport {
    ResourceReport {
        resource: name.parse().expect("name"),
        node: "a".parse().expect("name"),
        epoch: Epoch(5),
        state,
        detail: detail.map(str::to_owned),
        since: before(2_000),
    }
}

fn status() -> Status {
    let report = LocationReport {
        location: "orders-ftp".into(),
        node: "a".parse().expect("name"),
        epoch: Epoch(5),
        active_since: Some(before(3_000)),
        last_success_at: Some(before(400)),
        last_error_at: Some(before(2_000)),
        last_error: Some("421 \x1b[31mbusy".into()),
        received: 1234,
        guarantee: "at-least-once: the server gives times to the minute only".into(),
    };
    let backlog = |port: &str, host: &str, state, count, age| Backlog {
        host: host.into(),
        port: port.into(),
        state,
        count,
        oldest_at: Some(before(age)),
    };
    let backlog = [
        backlog("archive", "send", WorkState::Ready, 7, 61_000),
        backlog("archive", "send", WorkState::Suspended, 2, 7_300_000),
        backlog("", "", WorkState::Suspended, 1, 5_000),
    ];
    Status::of("sqlite:/var/lib/baton/baton.db".into(), &snapshot(), &[report], &backlog)
}

#[test]
fn one_screen_of_80_columns() {
    let text = status().render(Look::PLAIN);
    let expected = "\
store sqlite:/var/lib/baton/baton.db
1 of 2 nodes up, definitions version 3

NODES
  NAME  STATE   EPOCH  LEASE         OWNS
  a     paused      4  2s left       partners
    paused by kim@a 1m ago; `baton node resume a` ends it
  b     down       11  over for 12s
  c     left        1  given back

GROUPS
  NAME      STATE    OWNER  EPOCH  SINCE   CAUSE      EVIDENCE
  partners  failed   a          5  3s ago  node_lost  confirmed dead
    node b was lost: its processes are dead (its lock is free under the same
    boot)
    a move to node b was asked for by kim@a 1s ago
    ip_address address failed 2s ago: 192.0.2.10 answers from aa:bb
  idle      offline  -          0  -       -          -
  spare     offline  -          0  -       -          -
    kim@a wanted it offline 2m ago

HOSTS
  NAME     GROUP     ACTIVE ON
  receive  partners  a
  send     -         a
  spare    idle      nowhere

RECEIVE LOCATIONS
  NAME        HOST     NODE  LAST SUCCESS  RECEIVED  GUARANTEE
  orders-ftp  receive  a     now               1234  at-least-once
    at-least-once: the server gives times to the minute only
    failed 2s ago: 421 \\u{1b}[31mbusy
  old         receive  -     disabled
  new         receive  -     never polled

SEND PORTS
  NAME             HOST  READY  ACTIVE  SUSPENDED  OLDEST
  archive          send      7       0          2  2h ago
  (no subscriber)            0       0          1  5s ago

3 messages suspended: baton message list --state suspended
group partners is failed: baton why partners
group idle is offline: baton why idle
";
    assert_eq!(text, expected, "\n{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn colours_only_where_they_are_wanted() {
    let coloured = status().render(Look { columns: 80, colours: true });
    assert!(coloured.contains("\x1b[33mpaused\x1b[0m"), "{coloured}");
    assert!(!status().render(Look::PLAIN).contains('\x1b'));
}

#[test]
fn an_empty_cluster_says_what_to_do() {
    let text = Status::of("sqlite:/x".into(), &Snapshot::default(), &[], &[]).render(Look::PLAIN);
    assert_eq!(
        text,
        "store sqlite:/x\n0 of 0 nodes up, no definitions applied yet\n\nno node has joined yet: \
         run `baton node` on a machine\napply definitions with `baton apply PATH`\n"
    );
}

#[test]
fn json_has_the_words_of_the_screen() {
    let json = serde_json::to_value(status()).expect("JSON");
    assert_eq!(json["groups"][0]["owner"], "a");
    assert_eq!(json["groups"][0]["evidence"], "confirmed_dead");
    assert_eq!(json["send_ports"][0]["ready"], 7);
    assert_eq!(json["receive_locations"][0]["reports"][0]["received"], 1234);
    assert_eq!(json["suspended"], 3);
}
