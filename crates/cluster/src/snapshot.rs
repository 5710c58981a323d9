//! What a node sees of the cluster: one consistent read of the store.

use std::sync::Arc;

use model::{
    Cause, Definitions, Epoch, Evidence, GroupName, LeaseName, NodeName, ResourceName,
    ResourceState, Timestamp,
};
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
    /// Ownership changes of groups and nodes within the last [`HISTORY_KEPT`], oldest first.
    pub history: Vec<Tenure>,
    /// What operators want of groups; a group without an entry is wanted as it is defined.
    pub group_orders: Vec<GroupOrder>,
    /// What operators want of nodes; a node without an entry may have groups.
    pub node_orders: Vec<NodeOrder>,
    /// What owners last said of their resources.
    pub reports: Vec<ResourceReport>,
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

    /// What operators want of a group.
    pub fn group_order(&self, name: &GroupName) -> Option<&GroupOrder> {
        self.group_orders.iter().find(|order| order.group == *name)
    }

    /// What operators want of a node.
    pub fn node_order(&self, name: &NodeName) -> Option<&NodeOrder> {
        self.node_orders.iter().find(|order| order.node == *name)
    }

    /// The groups that a node owns, by name.
    pub fn owned_by<'a>(&'a self, node: &NodeName) -> impl Iterator<Item = &'a GroupName> {
        self.leases.iter().filter_map(move |view| match &view.lease {
            LeaseName::Group(name) if view.holder.as_ref() == Some(node) => Some(name),
            LeaseName::Group(_) | LeaseName::Node(_) | LeaseName::Instance(..) => None,
        })
    }

    /// Changes of owner of a group, oldest first.
    pub fn history_of<'a>(
        &'a self,
        group: &GroupName,
    ) -> impl DoubleEndedIterator<Item = &'a Tenure> {
        self.history
            .iter()
            .filter(move |tenure| matches!(&tenure.lease, LeaseName::Group(name) if name == group))
    }

    /// Whether a lease covers effects that the store's fence does not hold back.
    pub fn is_external(&self, lease: &LeaseName) -> bool {
        let LeaseName::Group(name) = lease else { return false };
        self.definitions.group(name).is_some_and(|group| self.definitions.is_external(group))
    }

    /// When a node's present life began, as far as the history reaches.
    pub fn joined_at(&self, node: &NodeName) -> Option<Timestamp> {
        let own = |tenure: &&Tenure| {
            matches!(&tenure.lease, LeaseName::Node(name) if name == node)
                && tenure.holder.is_some()
        };
        self.history.iter().rev().find(own).map(|tenure| tenure.at)
    }

    /// What the present owner of a group last said of a member of it under this epoch.
    pub fn report(&self, resource: &ResourceName, epoch: Epoch) -> Option<&ResourceReport> {
        self.reports.iter().find(|report| report.resource == *resource && report.epoch == epoch)
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
    /// The machine's host name, for operators; empty when it is not known.
    #[serde(default)]
    pub machine: String,
    /// Its version of Baton, for operators; empty when it is not known.
    #[serde(default)]
    pub version: String,
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

/// What operators want of a group, until they want something else (WSFC: PersistentState).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOrder {
    /// The group.
    pub group: GroupName,
    /// Whether it is wanted online. A start that was asked for also forgets failures, bans and
    /// used budgets from before `at`.
    pub online: bool,
    /// Until when failures of its resources are not acted upon (maintenance).
    pub unmonitored_until: Option<Timestamp>,
    /// Who asked.
    pub by: String,
    /// When `online` was asked for.
    pub at: Timestamp,
}

/// What operators want of a node, until they want something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeOrder {
    /// The node.
    pub node: NodeName,
    /// Whether it may have groups.
    pub duty: Duty,
    /// Which groups come back to it after it was resumed.
    pub failback: ResumeFailback,
    /// Since when it was paused or drained; kept by a resume, which looks for what left since.
    pub away_since: Option<Timestamp>,
    /// Unplanned ends of the node before this moment do not count for its quarantine.
    pub quarantine_cleared_at: Option<Timestamp>,
    /// Who asked.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Whether a node may have groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duty {
    /// It may.
    #[default]
    Active,
    /// It keeps those it has and gets no more (WSFC: Paused).
    Paused,
    /// It hands over those it has (WSFC: Paused, drain).
    Draining,
}

impl Duty {
    /// The word kept in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Duty::Active => "active",
            Duty::Paused => "paused",
            Duty::Draining => "draining",
        }
    }

    /// Reads the word kept in the store.
    pub fn from_word(word: &str) -> Option<Duty> {
        [Duty::Active, Duty::Paused, Duty::Draining].into_iter().find(|duty| duty.as_str() == word)
    }
}

/// Which groups come back to a node that is resumed (WSFC: Resume-ClusterNode -Failback).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumeFailback {
    /// None (WSFC: NoFailback).
    #[default]
    None,
    /// Those that were drained from it, at once (WSFC: Immediate).
    Immediate,
    /// Those that were drained from it, when their own failback allows (WSFC: Policy).
    Policy,
}

impl ResumeFailback {
    /// The word kept in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            ResumeFailback::None => "none",
            ResumeFailback::Immediate => "immediate",
            ResumeFailback::Policy => "policy",
        }
    }

    /// Reads the word kept in the store.
    pub fn from_word(word: &str) -> Option<ResumeFailback> {
        [ResumeFailback::None, ResumeFailback::Immediate, ResumeFailback::Policy]
            .into_iter()
            .find(|failback| failback.as_str() == word)
    }
}

/// What the owner of a group last said of one of its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// The member.
    pub resource: ResourceName,
    /// The node that says so.
    pub node: NodeName,
    /// Under which epoch of the group's lease.
    pub epoch: Epoch,
    /// Its state.
    pub state: ResourceState,
    /// What it said last, if it failed or is stuck.
    pub detail: Option<String>,
    /// Since when it is in that state, by the store's clock; the store fills it in.
    pub since: Timestamp,
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
    /// The resource whose failure it follows, if it follows one.
    pub resource: Option<ResourceName>,
    /// The same as a sentence.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}
