//! Operator events: what happened to the cluster, under numbers that never change their meaning.
//!
//! [`EVENTS`] is the list; docs/reference/events has a page for each, made from it. A number that
//! is no longer used stays in the list, so that it is never given to something else.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much an event asks for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Worth knowing later.
    Info,
    /// Something was mended, or soon needs mending.
    Warning,
    /// Something does not work until somebody acts, or until a retry helps.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        })
    }
}

/// The number of an operator event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub u16);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One kind of operator event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventKind {
    /// Its number, for life.
    pub id: EventId,
    /// Its name: `group.failed_over`.
    pub name: &'static str,
    /// How much it asks for a person.
    pub level: Level,
    /// The events of Windows Server failover clusters that migrants look for in its place.
    pub wsfc: &'static [u16],
    /// What it means.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl EventId {
    /// What it is; none for a number that this version does not know.
    pub fn kind(self) -> Option<&'static EventKind> {
        EVENTS.iter().find(|kind| kind.id == self)
    }
}

macro_rules! events {
    ($($constant:ident = $number:literal $name:literal $level:ident $wsfc:expr;
       $meaning:literal $remedy:literal)*) => {
        impl EventId {
            $(#[doc = $meaning]
            pub const $constant: EventId = EventId($number);)*
        }

        /// Every operator event, by number.
        pub const EVENTS: &[EventKind] = &[$(EventKind {
            id: EventId::$constant,
            name: $name,
            level: Level::$level,
            wsfc: &$wsfc,
            meaning: $meaning,
            remedy: $remedy,
        }),*];
    };
}

events! {
    NODE_JOINED = 1001 "node.joined" Info [];
        "A node joined the cluster."
        "Nothing. If nobody started it, look why its process ended before."
    NODE_LEFT = 1002 "node.left" Info [];
        "A node left in good order; its groups went to other nodes first."
        "Nothing, if its stop was meant."
    NODE_LOST = 1003 "node.lost" Warning [1135];
        "A node died, froze, or lost the store, and others take what it owned."
        "Look at the machine: `baton node list` tells what is known, its own log tells more."
    NODE_PAUSED = 1004 "node.paused" Info [];
        "An operator paused a node: it gets no more groups and keeps those it has."
        "`baton node resume NODE` when the maintenance is done."
    NODE_DRAINING = 1005 "node.draining" Info [];
        "An operator drains a node: its groups go to other nodes, the most important first."
        "Wait for node.drained; `baton node list` shows what is left."
    NODE_DRAINED = 1006 "node.drained" Info [];
        "A draining node owns no group any more."
        "Go on with the maintenance; `baton node resume NODE` afterwards."
    NODE_DRAIN_FAILED = 1007 "node.drain_failed" Warning [1137, 1677];
        "A group cannot leave a draining node, because no other node may have it."
        "Bring another possible owner up, or stop the group: `baton group stop GROUP`."
    NODE_RESUMED = 1008 "node.resumed" Info [];
        "An operator resumed a node: it may have groups again."
        "Nothing."
    NODE_EVICTED = 1009 "node.evicted" Info [1011];
        "An operator removed a node from the cluster."
        "Nothing. If the machine is started again it joins as a new node."
    NODE_QUARANTINED = 1010 "node.quarantined" Error [1672, 1673];
        "A node left unplanned three times within an hour and gets no groups for two hours."
        "Find out why it keeps dying, then `baton node clear-quarantine NODE`."
    NODE_REPLACED = 1011 "node.replaced" Error [];
        "Another process took the name of a node, and the older one ended."
        "Give each `baton node` a name of its own."
    NODE_STORE_LOST = 1012 "node.store_lost" Error [1177, 1564];
        "A node cannot reach the store; what it owns stops by itself when its trust ends."
        "Look at the store and the way to it; `baton validate` tests both."
    NODE_STORE_BACK = 1013 "node.store_back" Info [1592];
        "A node reaches the store again."
        "Nothing."
    NODE_QUARANTINE_CLEARED = 1014 "node.quarantine_cleared" Info [];
        "An operator ended a node's quarantine."
        "Nothing."
    GROUP_ONLINE = 2001 "group.online" Info [1201];
        "Every resource of a group is online."
        "Nothing."
    GROUP_OFFLINE = 2002 "group.offline" Info [1204];
        "A group went offline because an operator wanted it."
        "`baton group start GROUP` when it is wanted again."
    GROUP_MOVED = 2003 "group.moved" Info [1641];
        "A group moved to another node because an operator asked, or its node drained."
        "Nothing."
    GROUP_FAILED_OVER = 2004 "group.failed_over" Warning [1641];
        "A resource of a group failed once too often, and the group goes to another node."
        "See resource.failed of the same moment; `baton why GROUP` shows what is left of budgets."
    GROUP_TAKEN_OVER = 2005 "group.taken_over" Warning [1641];
        "A group was taken from a node that died, froze, or lost the store."
        "Look at the node that was lost."
    GROUP_PARKED = 2006 "group.parked" Error [1254];
        "A group used up its failovers and stays failed; it is tried again after a while."
        "Mend what makes its resource fail, then `baton group start GROUP` tries at once."
    GROUP_PARTIAL = 2007 "group.partial" Error [1205];
        "A group could not be brought wholly online or offline."
        "`baton why GROUP` names the resource and what it said."
    GROUP_MOVE_REFUSED = 2008 "group.move_refused" Warning [1071];
        "A move that an operator asked for could not be done and was dropped."
        "Its sentence says why; ask again when that has changed."
    GROUP_FAILED_BACK = 2010 "group.failed_back" Info [1641];
        "A group went back to a better node, or to the one it had been drained from."
        "Nothing."
    GROUP_NO_OWNER = 2011 "group.no_owner" Error [1205];
        "No node may have a group now."
        "`baton why GROUP` says of each node why not."
    GROUP_BUDGET_HALF = 2012 "group.budget_half" Warning [];
        "Half of the failovers that a group may make within its period are used."
        "Mend what makes its resource fail before the group is parked."
    GROUP_STARTED = 2013 "group.started" Info [];
        "An operator wants a group online."
        "Nothing."
    GROUP_STOPPED = 2014 "group.stopped" Info [];
        "An operator wants a group offline."
        "`baton group start GROUP` when it is wanted again."
    GROUP_UNMONITORED = 2015 "group.unmonitored" Info [1681];
        "Failures of a group's resources are not acted upon for a while, as an operator asked."
        "Nothing. `baton group monitor GROUP` ends it early."
    GROUP_LOST = 2016 "group.lost" Warning [];
        "A node stopped a group because its trust in the lease ended or the store refused it."
        "Look at the node's way to the store."
    GROUP_REGAINED = 2017 "group.regained" Info [];
        "A node took up again a group that it still held but had stopped."
        "Nothing."
    GROUP_ANTI_AFFINITY = 2018 "group.anti_affinity" Warning [];
        "A group stays offline rather than share a node with another one of its class."
        "Bring another node up, or take `anti_affinity_enforced` out of its definition."
    GROUP_MONITORED = 2019 "group.monitored" Info [];
        "Failures of a group's resources are acted upon again, as an operator asked."
        "Nothing."
    GROUP_MOVE_ASKED = 2020 "group.move_asked" Info [];
        "An operator asked for a group to be moved to another node."
        "Wait for group.moved; group.move_refused says why if it could not be done."
    RESOURCE_FAILED = 3001 "resource.failed" Warning [1069, 1635];
        "A resource failed on its owner; its policy decides what follows."
        "Its sentence says what the resource said."
    RESOURCE_START_FAILED = 3002 "resource.start_failed" Warning [1039, 1040, 1041, 1042, 1181];
        "A resource did not come online."
        "Its sentence says what the resource said."
    RESOURCE_RESTARTED = 3003 "resource.restarted" Info [];
        "A resource is restarted on its node."
        "Nothing, unless it happens often."
    RESOURCE_HUNG = 3004 "resource.hung" Warning [1146, 1230, 1232, 1233];
        "A resource made no progress in time and was ended."
        "Look at its log around that moment."
    RESOURCE_STUCK = 3005 "resource.stuck" Error [1155];
        "A resource cannot be stopped, so its group cannot leave the node."
        "Stop it by hand on that node; the group goes on as soon as it is down."
    RESOURCE_BANNED = 3006 "resource.banned" Error [1042];
        "A resource said that it can never run on a node, or on any."
        "Mend what it names, then `baton group start GROUP` forgets the ban."
    RESOURCE_DEGRADED = 3008 "resource.degraded" Warning [];
        "A resource works, but poorly (OCF 190)."
        "Its sentence says what the resource said."
    DEFINITIONS_APPLIED = 4001 "definitions.applied" Info [];
        "An operator put definitions in force."
        "Nothing. `baton events --id definitions.applied` shows what changed and who asked."
    DRILL_DONE = 6001 "drill.done" Info [];
        "A drill ended: the owner of a test group was struck, and sent was compared with received."
        "Nothing if nothing was lost; otherwise keep its report and tell us."
    VALIDATED = 6002 "validation.done" Info [];
        "`baton validate` was run on a node; its sentence says how many findings failed."
        "If some failed: run it on that node, and do what it says."
}

/// An operator event that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorEvent {
    /// Its place in the store's order; 0 for one that is not stored yet.
    pub sequence: u64,
    /// When, by the store's clock.
    pub at: crate::Timestamp,
    /// What.
    pub id: EventId,
    /// The node that says so; none for one that an operator's command says.
    pub node: Option<crate::NodeName>,
    /// What it is about: `group partners`.
    pub subject: String,
    /// The sentence, the same as in the log.
    pub sentence: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_once_and_in_order() {
        for pair in EVENTS.windows(2) {
            assert!(pair[0].id < pair[1].id, "{} before {}", pair[0].name, pair[1].name);
        }
        for kind in EVENTS {
            assert_eq!(kind.id.kind(), Some(kind));
            assert!(kind.name.contains('.') && !kind.remedy.is_empty(), "{}", kind.name);
        }
    }
}
