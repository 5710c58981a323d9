//! The verbs of an operator, as the command line writes them down in the store.

use cluster::{Duty, GroupOrder, MoveRequest, NodeOrder, ResumeFailback};
use model::{Definitions, GroupName, Millis, NodeName, Timestamp};

use crate::World;

impl World {
    /// Puts definitions in force.
    pub fn apply(&mut self, definitions: Definitions) {
        self.store.apply(definitions);
        self.hint();
    }

    /// Asks for a move.
    pub fn request_move(&mut self, group: &GroupName, to: Option<NodeName>, by: &str) {
        let (group, by, at) = (group.clone(), by.to_owned(), self.store.now);
        self.store.moves.insert(group.clone(), MoveRequest { group, to, by, at });
        self.hint();
    }

    /// Records what an operator wants of a group.
    pub fn order_group(&mut self, order: GroupOrder) {
        self.store.group_orders.insert(order.group.clone(), order);
        self.hint();
    }

    /// Records what an operator wants of a node.
    pub fn order_node(&mut self, order: NodeOrder) {
        self.store.node_orders.insert(order.node.clone(), order);
        self.hint();
    }

    /// Wants a group online, or offline.
    pub fn want_online(&mut self, group: &GroupName, online: bool, by: &str) {
        let before = self.store.group_orders.get(group);
        let unmonitored_until = before.and_then(|order| order.unmonitored_until);
        let (group, by, at) = (group.clone(), by.to_owned(), self.store.now);
        self.order_group(GroupOrder { group, online, unmonitored_until, by, at });
    }

    /// Failures in a group count for nothing for so long; for no time: they count again.
    pub fn unmonitor(&mut self, group: &GroupName, duration: Millis, by: &str) {
        let before = self.store.group_orders.get(group).cloned();
        let until = self.store.now.after(duration);
        let unmonitored_until = (duration.0 > 0).then_some(until);
        let online = before.as_ref().is_none_or(|order| order.online);
        let at = before.map_or(Timestamp(0), |order| order.at);
        let (group, by) = (group.clone(), by.to_owned());
        self.order_group(GroupOrder { group, online, unmonitored_until, by, at });
    }

    /// Pauses or drains a node.
    pub fn relieve(&mut self, node: &NodeName, duty: Duty, by: &str) {
        let before = self.store.node_orders.get(node);
        let quarantine_cleared_at = before.and_then(|order| order.quarantine_cleared_at);
        self.order_node(NodeOrder {
            node: node.clone(),
            duty,
            failback: ResumeFailback::None,
            away_since: Some(self.store.now),
            quarantine_cleared_at,
            by: by.to_owned(),
            at: self.store.now,
        });
    }

    /// Lets a node have groups again.
    pub fn resume(&mut self, node: &NodeName, failback: ResumeFailback, by: &str) {
        let before = self.store.node_orders.get(node);
        let quarantine_cleared_at = before.and_then(|order| order.quarantine_cleared_at);
        let away_since = before.and_then(|order| order.away_since);
        self.order_node(NodeOrder {
            node: node.clone(),
            duty: Duty::Active,
            failback,
            away_since,
            quarantine_cleared_at,
            by: by.to_owned(),
            at: self.store.now,
        });
    }

    /// Ends a node's quarantine.
    pub fn clear_quarantine(&mut self, node: &NodeName, by: &str) {
        let before = self.store.node_orders.get(node).cloned();
        let now = self.store.now;
        self.order_node(NodeOrder {
            node: node.clone(),
            duty: before.as_ref().map_or(Duty::Active, |order| order.duty),
            failback: before.as_ref().map_or(ResumeFailback::None, |order| order.failback),
            away_since: before.and_then(|order| order.away_since),
            quarantine_cleared_at: Some(now),
            by: by.to_owned(),
            at: now,
        });
    }

    /// Removes a node that is gone from the cluster; the sentence says why not.
    pub fn evict(&mut self, node: &NodeName) -> Result<(), String> {
        self.store.evict(node)?;
        self.hint();
        Ok(())
    }
}
