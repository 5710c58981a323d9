//! Who may own a group, and in which order its nodes are asked.
//!
//! The list of a group is WSFC's: its preferred owners in order, then the other nodes by name.
//! A failure of a resource goes to the *next* node in the list and wraps around, and so does the
//! death of the owner when there are preferred owners; without them the survivors share what the
//! dead node had. A first start or a move without a target begins at the top.

use std::collections::BTreeMap;

use model::definition::Group;
use model::{Cause, Epoch, GroupName, GroupState, LeaseName, NodeName, ResourceState, Timestamp};

use crate::survey::Survey;
use crate::{LeaseView, Presence, Snapshot, Tenure};

/// Whether a node may own a group by its definition: the group allows it, and each of its hosts
/// and resources can run there.
pub fn may_own(snapshot: &Snapshot, group: &Group, node: &NodeName) -> bool {
    let definitions = &snapshot.definitions;
    group.may_own(node) && definitions.members_of(&group.name).all(|member| member.runs_on(node))
}

/// Why a node cannot be given a group now; none when it can.
pub fn unfit(snapshot: &Snapshot, group: &Group, node: &NodeName) -> Option<String> {
    Survey::of(snapshot).unfit(group, node)
}

/// The list of a group: the nodes that joined and may own it, present or not, best first.
pub fn list<'a>(snapshot: &'a Snapshot, group: &Group) -> Vec<&'a NodeName> {
    Survey::of(snapshot).list(group)
}

/// Why a node is not there; none when it is.
pub fn absent(snapshot: &Snapshot, node: &NodeName) -> Option<String> {
    if snapshot.is_alive(node) {
        return None;
    }
    let what = match snapshot.node(node).map(|node| node.presence) {
        None => "never joined the cluster",
        Some(Presence::Present) => "does not answer: its lease expired",
        Some(Presence::ConnectionGone) => "lost its connection to the store",
        Some(Presence::ConfirmedDead) => "is dead",
        Some(Presence::Left) => "is stopped",
    };
    Some(format!("{node} {what}"))
}

/// Failures before this moment do not count: an operator started the group then.
pub fn forgotten_before(snapshot: &Snapshot, group: &Group) -> Timestamp {
    let order = snapshot.group_order(&group.name).filter(|order| order.online);
    order.map_or(Timestamp(i64::MIN), |order| order.at)
}

/// Another group on a node that shares an anti-affinity class, with that class.
pub fn neighbour<'g>(
    snapshot: &Snapshot,
    group: &'g Group,
    node: &NodeName,
) -> Option<(GroupName, &'g str)> {
    Survey::of(snapshot).neighbour(group, node, None)
}

/// Whether an entry says that a resource of a group can never run on a node.
pub(crate) fn is_ban(tenure: &Tenure, node: &NodeName) -> bool {
    tenure.cause == Cause::Banned && tenure.holder.is_none() && tenure.before.as_ref() == Some(node)
}

/// Which groups are on their way to each node by a plan.
pub type Coming = BTreeMap<NodeName, Vec<GroupName>>;

/// In which order fit nodes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From<'a> {
    /// From the top of the list: a move without a target.
    Top,
    /// As top, but without preferred owners the node that has the fewest groups comes first.
    Start,
    /// From the one after this node on, with the node itself last: a failure.
    After(&'a NodeName),
    /// As after, but without preferred owners the node that has the fewest groups comes first: the
    /// owner died or leaves, and what it had is shared out.
    Shared(&'a NodeName),
}

/// The nodes that a group can be given to now, best first.
pub fn candidates<'a>(snapshot: &'a Snapshot, group: &Group, from: From<'_>) -> Vec<&'a NodeName> {
    Survey::of(snapshot).candidates(group, from, &Coming::new())
}

/// The node that a group goes to when `from` gives it up because a resource failed.
pub fn next_after<'a>(
    snapshot: &'a Snapshot,
    group: &Group,
    from: &NodeName,
) -> Option<&'a NodeName> {
    candidates(snapshot, group, From::After(from)).into_iter().find(|node| *node != from)
}

/// The node that a group goes to when `from` leaves.
pub fn successor<'a>(
    snapshot: &'a Snapshot,
    group: &Group,
    from: &NodeName,
) -> Option<&'a NodeName> {
    candidates(snapshot, group, From::Shared(from)).into_iter().find(|node| *node != from)
}

/// How things stand with a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing<'a> {
    /// Nobody ever had it.
    Never,
    /// It was let go.
    Vacant(&'a LeaseView),
    /// A node has it, and nothing speaks against that node.
    Held(&'a LeaseView, &'a NodeName),
    /// A node has it but may be deposed; the sentence says why.
    Orphaned(&'a LeaseView, &'a NodeName, String),
}

impl<'a> Standing<'a> {
    /// Reads it off a snapshot.
    pub fn of(snapshot: &'a Snapshot, lease: &LeaseName) -> Standing<'a> {
        match snapshot.lease(lease) {
            None => Standing::Never,
            Some(view) => Standing::of_view(snapshot, view, snapshot.is_external(lease)),
        }
    }

    /// Reads it off what the store knows of the lease.
    pub(crate) fn of_view(
        snapshot: &'a Snapshot,
        view: &'a LeaseView,
        external: bool,
    ) -> Standing<'a> {
        let Some(holder) = &view.holder else {
            return Standing::Vacant(view);
        };
        let expired = view.expires_at <= snapshot.now;
        let gone = match snapshot.node(holder).map(|node| node.presence) {
            Some(Presence::ConfirmedDead) => Some("is confirmed dead"),
            // What it did outside the store may go on until its trust has ended.
            Some(Presence::ConnectionGone | Presence::Left) if !expired && external => None,
            Some(Presence::ConnectionGone) => Some("lost its connection to the store"),
            Some(Presence::Left) => Some("left without letting it go"),
            Some(Presence::Present) | None if expired => {
                Some("fell silent until its lease expired")
            }
            Some(Presence::Present) | None => None,
        };
        match gone {
            Some(what) => Standing::Orphaned(view, holder, format!("owner {holder} {what}")),
            None => Standing::Held(view, holder),
        }
    }
}

/// The state of a group: that of its resources as its owner reports them. An owner that is lost
/// has none.
pub fn state(snapshot: &Snapshot, group: &Group) -> GroupState {
    let lease = LeaseName::Group(group.name.clone());
    let Standing::Held(view, _) = Standing::of(snapshot, &lease) else {
        return GroupState::Offline;
    };
    let members = snapshot.definitions.members_of(&group.name);
    GroupState::of(members.map(|member| {
        let report = snapshot.report(&member.name, view.epoch);
        report.map_or(ResourceState::OnlinePending, |report| report.state)
    }))
}

/// Since when a group is online; none when it is not.
pub fn online_since(snapshot: &Snapshot, group: &Group) -> Option<Timestamp> {
    if state(snapshot, group) != GroupState::Online {
        return None;
    }
    let view = snapshot.lease(&LeaseName::Group(group.name.clone()))?;
    let since = |epoch: Epoch| {
        let members = snapshot.definitions.members_of(&group.name);
        members.filter_map(|member| Some(snapshot.report(&member.name, epoch)?.since)).max()
    };
    Some(since(view.epoch).unwrap_or(view.changed_at))
}

/// Whether a group is wanted online: by the last order, or without one by its priority.
pub fn is_wanted_online(snapshot: &Snapshot, group: &Group) -> bool {
    let order = snapshot.group_order(&group.name);
    order.map_or(group.priority != model::definition::Priority::NoAutoStart, |order| order.online)
}

/// Names in a row, for sentences.
pub(crate) fn names(nodes: &[&NodeName]) -> String {
    if nodes.is_empty() {
        return "nobody".to_owned();
    }
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
