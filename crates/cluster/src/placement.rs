//! Who may own a group, and in which order its nodes are asked.
//!
//! The list of a group is WSFC's: its preferred owners in order, then the other nodes by name.
//! A failure or the death of the owner goes to the *next* node in the list and wraps around; a
//! first start or a move without a target begins at the top.

use model::definition::Group;
use model::{LeaseName, NodeName};

use crate::{LeaseView, Presence, Snapshot};

/// Whether a node may own a group: the group allows it, and it has an instance of each host.
pub fn may_own(snapshot: &Snapshot, group: &Group, node: &NodeName) -> bool {
    group.may_own(node) && snapshot.definitions.hosts_of(&group.name).all(|host| host.runs_on(node))
}

/// The list of a group: the nodes that joined and may own it, present or not, best first.
pub fn list<'a>(snapshot: &'a Snapshot, group: &Group) -> Vec<&'a NodeName> {
    let place = |node: &NodeName| {
        let preferred = group.preferred_owners.iter().position(|name| name == node);
        preferred.unwrap_or(usize::MAX)
    };
    let mut list: Vec<&NodeName> = snapshot
        .nodes
        .iter()
        .map(|node| &node.name)
        .filter(|node| may_own(snapshot, group, node))
        .collect();
    list.sort_by_key(|node| (place(node), *node));
    list
}

/// The nodes of the list that are alive, from the one after `after` on, with `after` itself last.
pub fn candidates<'a>(
    snapshot: &'a Snapshot,
    group: &Group,
    after: Option<&NodeName>,
) -> Vec<&'a NodeName> {
    let mut list = list(snapshot, group);
    if let Some(place) = after.and_then(|after| list.iter().position(|node| *node == after)) {
        list.rotate_left(place + 1);
    }
    list.retain(|node| snapshot.is_alive(node));
    list
}

/// The node that a group goes to when `from` gives it up.
pub fn next_after<'a>(
    snapshot: &'a Snapshot,
    group: &Group,
    from: &NodeName,
) -> Option<&'a NodeName> {
    candidates(snapshot, group, Some(from)).into_iter().find(|node| *node != from)
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
        let Some(view) = snapshot.lease(lease) else {
            return Standing::Never;
        };
        let Some(holder) = &view.holder else {
            return Standing::Vacant(view);
        };
        let expired = view.expires_at <= snapshot.now;
        let gone = match snapshot.node(holder).map(|node| node.presence) {
            Some(Presence::ConfirmedDead) => Some("is confirmed dead"),
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

/// Names in a row, for sentences.
pub(crate) fn names(nodes: &[&NodeName]) -> String {
    if nodes.is_empty() {
        return "nobody".to_owned();
    }
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
