//! The nodes of a cluster as operators see them.

use cluster::{Duty, NodeView, Presence, Snapshot, placement, quarantine};
use model::{Cause, Epoch, GroupName, LeaseName, NodeName, Timestamp};
use serde::Serialize;

use super::table::{Cell, Fit, Table};
use super::{Look, Paint, ago, length};

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: NodeName,
    /// How it is, in one word or two.
    pub state: NodeState,
    /// Why the store thinks that it lives, or not.
    pub presence: Presence,
    /// Whether operators let it have groups.
    pub duty: Duty,
    /// Who said so, unless nobody ever did.
    pub ordered_by: Option<String>,
    /// Since when it is paused or drained.
    pub away_since: Option<Timestamp>,
    /// Until when it is in quarantine.
    pub quarantined_until: Option<Timestamp>,
    /// How often it ended unplanned within the hour; three times are a quarantine.
    pub unplanned_ends: usize,
    /// The machine's host name; empty when it is not known.
    pub machine: String,
    /// Its version of Baton; empty when it is not known.
    pub version: String,
    /// Which life of the node this is.
    pub epoch: Epoch,
    /// When its lease runs out, or ran out.
    pub expires_at: Timestamp,
    /// The groups that it owns.
    pub owns: Vec<GroupName>,
    /// Of those, the groups that cannot leave it.
    pub cannot_leave: Vec<GroupName>,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It works.
    Up,
    /// It works, and gets no more groups.
    Paused,
    /// Its groups are leaving.
    Draining,
    /// Its groups have left.
    Drained,
    /// Some of its groups cannot leave: no other node may have them.
    DrainFailed,
    /// It is connected but did not renew in time: frozen, or very slow.
    Silent,
    /// Its connection to the store is gone.
    CutOff,
    /// Its processes are dead.
    Down,
    /// It was stopped in good order.
    Left,
}

impl NodeState {
    /// The words that operators read.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeState::Up => "up",
            NodeState::Paused => "paused",
            NodeState::Draining => "draining",
            NodeState::Drained => "drained",
            NodeState::DrainFailed => "drain failed",
            NodeState::Silent => "silent",
            NodeState::CutOff => "cut off",
            NodeState::Down => "down",
            NodeState::Left => "left",
        }
    }

    fn paint(self) -> Paint {
        match self {
            NodeState::Up => Paint::Good,
            NodeState::Left => Paint::Dim,
            NodeState::Down | NodeState::DrainFailed => Paint::Bad,
            NodeState::Paused
            | NodeState::Draining
            | NodeState::Drained
            | NodeState::Silent
            | NodeState::CutOff => Paint::Warn,
        }
    }

    /// Whether its process lives and renews.
    pub fn is_up(self) -> bool {
        match self {
            NodeState::Up
            | NodeState::Paused
            | NodeState::Draining
            | NodeState::Drained
            | NodeState::DrainFailed => true,
            NodeState::Silent | NodeState::CutOff | NodeState::Down | NodeState::Left => false,
        }
    }
}

impl NodeStatus {
    /// Every node.
    pub fn all(snapshot: &Snapshot) -> Vec<NodeStatus> {
        snapshot.nodes.iter().map(|node| NodeStatus::of(snapshot, node)).collect()
    }

    /// One node.
    pub fn of(snapshot: &Snapshot, node: &NodeView) -> NodeStatus {
        let name = &node.name;
        let order = snapshot.node_order(name);
        let duty = order.map_or(Duty::Active, |order| order.duty);
        let owns = owned(snapshot, name);
        let cannot_leave = cannot_leave(snapshot, name);
        let state = match node.presence {
            Presence::Left => NodeState::Left,
            Presence::ConfirmedDead => NodeState::Down,
            Presence::ConnectionGone => NodeState::CutOff,
            Presence::Present if node.expires_at <= snapshot.now => NodeState::Silent,
            Presence::Present => match duty {
                Duty::Active => NodeState::Up,
                Duty::Paused => NodeState::Paused,
                Duty::Draining if owns.is_empty() => NodeState::Drained,
                Duty::Draining if cannot_leave.len() == owns.len() => NodeState::DrainFailed,
                Duty::Draining => NodeState::Draining,
            },
        };
        NodeStatus {
            name: name.clone(),
            state,
            presence: node.presence,
            duty,
            ordered_by: order.map(|order| order.by.clone()),
            away_since: order.filter(|_| duty != Duty::Active).and_then(|order| order.away_since),
            quarantined_until: quarantine::until(snapshot, name),
            unplanned_ends: unplanned_ends(snapshot, name),
            machine: node.machine.clone(),
            version: node.version.clone(),
            epoch: node.epoch,
            expires_at: node.expires_at,
            owns,
            cannot_leave,
        }
    }

    /// Its lease, in words.
    pub fn lease(&self, now: Timestamp) -> String {
        if self.state == NodeState::Left {
            "given back".into()
        } else if self.expires_at > now {
            format!("{} left", length(self.expires_at.since(now)))
        } else {
            format!("over for {}", length(now.since(self.expires_at)))
        }
    }

    /// Its state with its meaning.
    pub fn state_cell(&self) -> Cell {
        Cell::painted(self.state.as_str(), self.state.paint())
    }

    /// What is unusual about it, with what follows.
    pub fn notes(&self, now: Timestamp) -> Vec<(String, Paint)> {
        let name = &self.name;
        let mut notes = Vec::new();
        if self.duty != Duty::Active {
            let what = match self.duty {
                Duty::Draining => "drained",
                Duty::Active | Duty::Paused => "paused",
            };
            let by = self.ordered_by.as_deref().unwrap_or("an operator");
            let since = self.away_since.map_or(String::new(), |at| format!(" {}", ago(now, at)));
            let back = format!("`baton node resume {name}` ends it");
            notes.push((format!("{what} by {by}{since}; {back}"), Paint::Warn));
        }
        if self.state == NodeState::DrainFailed {
            let groups: Vec<&str> = self.cannot_leave.iter().map(GroupName::as_str).collect();
            let groups = groups.join(", ");
            let what = format!("cannot leave, for no other node may have it: {groups}");
            notes.push((what, Paint::Bad));
        }
        if let Some(until) = self.quarantined_until {
            notes.push((
                format!(
                    "in quarantine until {until}, it is asked last; `baton node clear-quarantine \
                     {name}` ends it"
                ),
                Paint::Bad,
            ));
        } else if self.unplanned_ends > 0 {
            let times = super::counted(self.unplanned_ends as u64, "time");
            notes.push((
                format!(
                    "ended unplanned {times} within {}; {} times are a quarantine",
                    quarantine::WITHIN,
                    quarantine::THRESHOLD
                ),
                Paint::Warn,
            ));
        }
        notes
    }
}

/// The groups that a node holds by a lease that has not run out.
pub fn owned(snapshot: &Snapshot, node: &NodeName) -> Vec<GroupName> {
    let now = snapshot.now;
    let held = snapshot.leases.iter().filter_map(|view| match &view.lease {
        LeaseName::Group(group) if view.holder.as_ref() == Some(node) && view.expires_at > now => {
            Some(group.clone())
        }
        LeaseName::Group(_) | LeaseName::Node(_) | LeaseName::Instance(..) => None,
    });
    held.collect()
}

/// The groups of a node that no other node may have now.
pub fn cannot_leave(snapshot: &Snapshot, node: &NodeName) -> Vec<GroupName> {
    let stays = |name: &GroupName| {
        let group = snapshot.definitions.group(name);
        group.is_some_and(|group| {
            placement::is_wanted_online(snapshot, group)
                && placement::successor(snapshot, group, node).is_none()
        })
    };
    let mut groups = owned(snapshot, node);
    groups.retain(stays);
    groups
}

/// How often a node ended unplanned within the hour, unless an operator has forgiven it.
fn unplanned_ends(snapshot: &Snapshot, node: &NodeName) -> usize {
    let cleared = snapshot.node_order(node).and_then(|order| order.quarantine_cleared_at);
    let counts = |tenure: &&cluster::Tenure| {
        matches!(&tenure.lease, LeaseName::Node(name) if name == node)
            && tenure.cause == Cause::NodeLost
            && snapshot.now.since(tenure.at) <= quarantine::WITHIN
            && cleared.is_none_or(|cleared| tenure.at > cleared)
    };
    snapshot.history.iter().filter(counts).count()
}

/// Says when nodes that are up are of several versions.
pub fn mixed_versions(nodes: &[NodeStatus]) -> Option<String> {
    let up = nodes.iter().filter(|node| node.state.is_up() && !node.version.is_empty());
    let mut versions: Vec<&str> = up.map(|node| node.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    (versions.len() > 1).then(|| {
        format!(
            "nodes of versions {} work together: a release works beside the one before it, so \
             finish the upgrade",
            versions.join(" and ")
        )
    })
}

/// The nodes as `baton node list` shows them.
pub fn list(nodes: &[NodeStatus], now: Timestamp, look: Look) -> String {
    let mut table = Table::new([
        ("NAME", Fit::Left),
        ("STATE", Fit::Left),
        ("VERSION", Fit::Left),
        ("MACHINE", Fit::Cut),
        ("EPOCH", Fit::Right),
        ("LEASE", Fit::Left),
        ("OWNS", Fit::Cut),
    ]);
    for node in nodes {
        let or_dash = |text: &str| if text.is_empty() { Cell::from("-") } else { text.into() };
        table.row([
            node.name.as_str().into(),
            node.state_cell(),
            or_dash(&node.version),
            or_dash(&node.machine),
            node.epoch.to_string().into(),
            node.lease(now).into(),
            names(&node.owns).into(),
        ]);
        for (note, paint) in node.notes(now) {
            table.note(note, paint);
        }
    }
    let mut text = table.render(look, 0);
    if let Some(mixed) = mixed_versions(nodes) {
        text.push_str(&format!("\n{}\n", look.paint(Paint::Warn, &mixed)));
    }
    text
}

/// Names in a row.
pub fn names(groups: &[GroupName]) -> String {
    groups.iter().map(GroupName::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(crate) mod tests {
    use cluster::{NodeOrder, ResumeFailback, Tenure};
    use model::Evidence;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    /// A node that last renewed at the right time.
    pub(crate) fn node(name: &str, presence: Presence) -> NodeView {
        NodeView {
            name: name.parse().expect("name"),
            epoch: Epoch(1),
            presence,
            expires_at: Timestamp(NOW.0 + 2_000),
            machine: format!("machine-{name}"),
            version: "1.0.0".into(),
        }
    }

    fn order(node: &str, duty: Duty) -> NodeOrder {
        NodeOrder {
            node: node.parse().expect("name"),
            duty,
            failback: ResumeFailback::None,
            away_since: Some(Timestamp(NOW.0 - 60_000)),
            quarantine_cleared_at: None,
            by: "kim@a".into(),
            at: Timestamp(NOW.0 - 60_000),
        }
    }

    fn snapshot() -> Snapshot {
        let definitions = json!({"groups": [{"name": "g"}, {"name": "h"}]});
        let lease = |name: &str, holder: &str| cluster::LeaseView {
            lease: name.parse().expect("lease"),
            holder: Some(holder.parse().expect("name")),
            epoch: Epoch(1),
            expires_at: Timestamp(NOW.0 + 2_000),
            changed_at: NOW,
            cause: Cause::Start,
            reason: "nobody had it".into(),
            offered_to: None,
        };
        let lost = |ago: i64| Tenure {
            lease: "node/c".parse().expect("lease"),
            epoch: Epoch(1),
            holder: None,
            before: Some("c".parse().expect("name")),
            evidence: Evidence::Silent,
            cause: Cause::NodeLost,
            resource: None,
            reason: "it died".into(),
            at: Timestamp(NOW.0 - ago),
        };
        let mut old = node("c", Presence::Present);
        old.version = "0.9.0".into();
        Snapshot {
            now: NOW,
            definitions: std::sync::Arc::new(serde_json::from_value(definitions).expect("ok")),
            nodes: vec![node("a", Presence::Present), node("b", Presence::Left), old],
            leases: vec![lease("group/g", "a"), lease("group/h", "c")],
            history: vec![lost(7_200_000), lost(600_000), lost(60_000)],
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_drain_is_told_by_what_is_left() {
        let mut snapshot = snapshot();
        let state = |snapshot: &Snapshot| NodeStatus::all(snapshot)[0].state;
        assert_eq!(state(&snapshot), NodeState::Up);
        snapshot.node_orders = vec![order("a", Duty::Draining)];
        assert_eq!(state(&snapshot), NodeState::Draining);
        snapshot.node_orders.push(order("c", Duty::Paused));
        assert_eq!(state(&snapshot), NodeState::DrainFailed);
        snapshot.leases.remove(0);
        assert_eq!(state(&snapshot), NodeState::Drained);
        snapshot.node_orders[0].duty = Duty::Paused;
        assert_eq!(state(&snapshot), NodeState::Paused);
    }

    #[test]
    fn the_list_says_what_is_unusual() {
        let mut snapshot = snapshot();
        snapshot.node_orders = vec![order("a", Duty::Draining)];
        let text = list(&NodeStatus::all(&snapshot), NOW, Look::PLAIN);
        let expected = "\
NAME  STATE     VERSION  MACHINE    EPOCH  LEASE       OWNS
a     draining  1.0.0    machine-a      1  2s left     g
  drained by kim@a 1m ago; `baton node resume a` ends it
b     left      1.0.0    machine-b      1  given back
c     up        0.9.0    machine-c      1  2s left     h
  ended unplanned 2 times within 1h; 3 times are a quarantine

nodes of versions 0.9.0 and 1.0.0 work together: a release works beside the one before it, so \
finish the upgrade
";
        assert_eq!(text, expected, "\n{text}");
    }
}
