//! Nodes that keep dying get no groups for a while (WSFC: quarantine).

use model::{Cause, LeaseName, Millis, NodeName, Timestamp};

use crate::Snapshot;

/// So many unplanned ends within [`WITHIN`] put a node into quarantine (WSFC QuarantineThreshold).
pub const THRESHOLD: usize = 3;

/// The window in which they are counted.
pub const WITHIN: Millis = Millis::hours(1);

/// How long a quarantine lasts (WSFC QuarantineDuration).
pub const DURATION: Millis = Millis::hours(2);

/// Until when a node is in quarantine; none when it is not.
///
/// A node in quarantine is asked last, not never: a group without any owner would be worse.
pub fn until(snapshot: &Snapshot, node: &NodeName) -> Option<Timestamp> {
    let cleared = snapshot.node_order(node).and_then(|order| order.quarantine_cleared_at);
    let ends: Vec<Timestamp> = snapshot
        .history
        .iter()
        .filter(|tenure| {
            matches!(&tenure.lease, LeaseName::Node(name) if name == node)
                && tenure.cause == Cause::NodeLost
                && cleared.is_none_or(|cleared| tenure.at > cleared)
        })
        .map(|tenure| tenure.at)
        .collect();
    let last = ends
        .windows(THRESHOLD)
        .rev()
        .find(|row| row[THRESHOLD - 1].since(row[0]) <= WITHIN)
        .map(|row| row[THRESHOLD - 1].after(DURATION))?;
    (last > snapshot.now).then_some(last)
}
