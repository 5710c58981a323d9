//! What a node sees of the cluster: one consistent read of the store.

use std::sync::Arc;

use model::{Cause, Definitions, Epoch, Evidence, GroupName, LeaseName, NodeName, Timestamp};
use serde::{Deserialize, Serialize};

/// The cluster at one moment of the store's clock.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// The store's clock when it was read.
    pub now: Timestamp,
    /// Version of the definitions in force; 0 while nothing was ever applied.
    pub definitions_version: u64,
    /// The definitions in force.
    pub definitions: Arc<Definitions>,
    /// Every node that ever joined and was not evicted, by name.
    pub nodes: Vec<NodeView>,
    /// Leases of groups and of host instances, by name. Epoch 0 never appears here.
    pub leases: Vec<LeaseView>,
    /// Moves that operators asked for and that are not done yet.
    pub moves: Vec<MoveRequest>,
    /// Ownership changes of groups within the last [`HISTORY_KEPT`], oldest first.
    pub history: Vec<Tenure>,
}

impl Snapshot {
    /// The node of this name.
    pub fn node(&self, name: &NodeName) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// The lease of this name, if anybody ever had it.
    pub fn lease(&self, name: &LeaseName) -> Option<&LeaseView> {
        self.leases.iter().find(|view| view.lease == *name)
    }

    /// Whether a node may be given something: it is present and its own lease has not run out (a
    /// frozen machine keeps its session with the store, but does not renew).
    pub fn is_alive(&self, name: &NodeName) -> bool {
        self.node(name)
            .is_some_and(|node| node.presence == Presence::Present && node.expires_at > self.now)
    }

    /// Who had a vacant lease last, as far as the history reaches.
    pub fn owner_before(&self, lease: &LeaseName) -> Option<&NodeName> {
        let last = self.history.iter().rev().find(|tenure| tenure.lease == *lease)?;
        last.holder.as_ref().or(last.before.as_ref())
    }
}

/// How far back a snapshot's history reaches: as long as the longest period that a policy counts
/// in may be.
pub const HISTORY_KEPT: model::Millis = model::Millis::hours(24);

/// A node as the store sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// Epoch of its lease on being this node.
    pub epoch: Epoch,
    /// Whether the store has reason to think it alive.
    pub presence: Presence,
    /// When its lease runs out by the store's clock; in the past when it has.
    pub expires_at: Timestamp,
}

/// Whether the store has reason to think a node alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It holds its liveness session or lock, or its lease has not run out.
    Present,
    /// Its liveness session with the store is gone; it may be alive and cut off.
    ConnectionGone,
    /// Its processes are dead.
    ConfirmedDead,
    /// It left in good order.
    Left,
}

/// A lease as the store sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// What is owned.
    pub lease: LeaseName,
    /// Its owner; none when it is vacant.
    pub holder: Option<NodeName>,
    /// Its epoch.
    pub epoch: Epoch,
    /// When it runs out by the store's clock; in the past when it has.
    pub expires_at: Timestamp,
    /// When it last changed hands (or was vacated).
    pub changed_at: Timestamp,
    /// Why it last changed hands.
    pub cause: Cause,
    /// The same as a sentence.
    pub reason: String,
    /// For whom it was vacated, if the owner chose a successor.
    pub offered_to: Option<NodeName>,
}

/// An operator's wish to have a group on another node. One-shot: it leaves no constraint behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRequest {
    /// The group.
    pub group: GroupName,
    /// The node it should go to; none: the best other possible owner.
    pub to: Option<NodeName>,
    /// Who asked.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// One entry of the ownership history: a node took a lease, or let it go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    /// What is owned.
    pub lease: LeaseName,
    /// The epoch that began (taken), or ended (vacated).
    pub epoch: Epoch,
    /// Who took it; none: it was vacated.
    pub holder: Option<NodeName>,
    /// Who had it before.
    pub before: Option<NodeName>,
    /// How sure the store was that the one before had let go.
    pub evidence: Evidence,
    /// Why.
    pub cause: Cause,
    /// The same as a sentence.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}
