//! The states of resources and groups, by the words of Windows Server failover clusters.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a resource on its owner (WSFC: CLUSTER_RESOURCE_STATE).
///
/// Legal transitions: Offline to OnlinePending; OnlinePending to Online or Failed; Online to
/// OfflinePending or Failed; OfflinePending to Offline or Failed; Failed to OnlinePending or
/// Offline. [`ResourceState::may_become`] says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceState {
    /// It is not wanted, or waits for the group.
    Offline,
    /// It is on its way up.
    OnlinePending,
    /// It works.
    Online,
    /// It is on its way down.
    OfflinePending,
    /// It failed, and its policy decides what follows.
    Failed,
}

impl ResourceState {
    /// All of them.
    pub const ALL: [ResourceState; 5] = [
        ResourceState::Offline,
        ResourceState::OnlinePending,
        ResourceState::Online,
        ResourceState::OfflinePending,
        ResourceState::Failed,
    ];

    /// Whether the transition is legal. A resource stays what it is without asking.
    pub fn may_become(self, next: ResourceState) -> bool {
        use ResourceState::{Failed, Offline, OfflinePending, Online, OnlinePending};
        match self {
            Offline => matches!(next, OnlinePending),
            OnlinePending => matches!(next, Online | Failed | OfflinePending),
            Online => matches!(next, OfflinePending | Failed),
            OfflinePending => matches!(next, Offline | Failed),
            Failed => matches!(next, OnlinePending | Offline | OfflinePending),
        }
    }

    /// The word kept in the store and shown to operators.
    pub fn as_str(self) -> &'static str {
        match self {
            ResourceState::Offline => "offline",
            ResourceState::OnlinePending => "online_pending",
            ResourceState::Online => "online",
            ResourceState::OfflinePending => "offline_pending",
            ResourceState::Failed => "failed",
        }
    }

    /// Reads the word kept in the store.
    pub fn from_word(word: &str) -> Option<ResourceState> {
        ResourceState::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for ResourceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The state of a group, computed from its resources (WSFC: CLUSTER_GROUP_STATE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupState {
    /// Every resource is online.
    Online,
    /// Every resource is offline, or there is none.
    Offline,
    /// At least one failed.
    Failed,
    /// At least one is online, none is pending or failed, and not all are online.
    PartialOnline,
    /// At least one is pending, none failed.
    Pending,
}

impl GroupState {
    /// Computes it.
    pub fn of(resources: impl IntoIterator<Item = ResourceState>) -> GroupState {
        let states: Vec<ResourceState> = resources.into_iter().collect();
        let any = |wanted: ResourceState| states.contains(&wanted);
        if any(ResourceState::Failed) {
            GroupState::Failed
        } else if any(ResourceState::OnlinePending) || any(ResourceState::OfflinePending) {
            GroupState::Pending
        } else if !any(ResourceState::Online) {
            GroupState::Offline
        } else if any(ResourceState::Offline) {
            GroupState::PartialOnline
        } else {
            GroupState::Online
        }
    }

    /// The word shown to operators.
    pub fn as_str(self) -> &'static str {
        match self {
            GroupState::Online => "online",
            GroupState::Offline => "offline",
            GroupState::Failed => "failed",
            GroupState::PartialOnline => "partial_online",
            GroupState::Pending => "pending",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How far a failure of a resource reaches (OCF: soft, hard and fatal errors).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FailureReach {
    /// It may work when it is tried again here.
    #[default]
    Soft,
    /// It cannot work on this node: not installed, not permitted.
    Hard,
    /// It cannot work on any node: its parameters are wrong.
    Fatal,
}

#[cfg(test)]
mod tests {
    use super::ResourceState::{Failed, Offline, OfflinePending, Online, OnlinePending};
    use super::*;

    #[test]
    fn a_group_is_what_its_resources_are() {
        for (resources, group) in [
            (&[][..], GroupState::Offline),
            (&[Offline, Offline], GroupState::Offline),
            (&[Online, Online], GroupState::Online),
            (&[Online, Offline], GroupState::PartialOnline),
            (&[Online, OnlinePending], GroupState::Pending),
            (&[OfflinePending, Offline], GroupState::Pending),
            (&[Failed, OnlinePending, Online], GroupState::Failed),
        ] {
            assert_eq!(GroupState::of(resources.iter().copied()), group, "{resources:?}");
        }
    }

    #[test]
    fn words_are_read_back() {
        for state in ResourceState::ALL {
            assert_eq!(ResourceState::from_word(state.as_str()), Some(state));
            assert!(!state.may_become(state));
        }
    }
}
