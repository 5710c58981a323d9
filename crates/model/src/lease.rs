//! Who owns what: lease names, epochs, and why a lease changed hands.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{GroupName, HostName, NodeName};

/// Counts the owners of a lease. It grows at each change of owner and never goes back.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What can be owned.
///
/// Written `node/a`, `group/partners`, `instance/sender@a`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LeaseName {
    /// Being this node: one process at a time may call itself by the name.
    Node(NodeName),
    /// Running the clustered hosts of this group.
    Group(GroupName),
    /// Running this host, which is not clustered, on this node.
    Instance(HostName, NodeName),
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeaseName::Node(node) => write!(f, "node/{node}"),
            LeaseName::Group(group) => write!(f, "group/{group}"),
            LeaseName::Instance(host, node) => write!(f, "instance/{host}@{node}"),
        }
    }
}

impl FromStr for LeaseName {
    type Err = String;

    fn from_str(text: &str) -> Result<LeaseName, String> {
        let invalid = || format!("{text:?} is not a lease name");
        let (kind, name) = text.split_once('/').ok_or_else(invalid)?;
        match kind {
            "node" => name.parse().map(LeaseName::Node).map_err(|_| invalid()),
            "group" => name.parse().map(LeaseName::Group).map_err(|_| invalid()),
            "instance" => {
                let (host, node) = name.split_once('@').ok_or_else(invalid)?;
                let host = host.parse().map_err(|_| invalid())?;
                let node = node.parse().map_err(|_| invalid())?;
                Ok(LeaseName::Instance(host, node))
            }
            _ => Err(invalid()),
        }
    }
}

impl TryFrom<String> for LeaseName {
    type Error = String;
    fn try_from(text: String) -> Result<LeaseName, String> {
        text.parse()
    }
}

impl From<LeaseName> for String {
    fn from(name: LeaseName) -> String {
        name.to_string()
    }
}

/// A fence written down, to hand it to a child process; the store makes it a fence again if it is
/// current.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceToken {
    /// Which lease.
    pub lease: LeaseName,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Held by which node.
    pub holder: NodeName,
}

/// How sure the store was, when a lease changed hands, that the owner before had let go.
///
/// Ordered from the weakest to the strongest (design section 4, "Evidence before a takeover").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The lease expired by the store's clock; nothing else is known of the old owner.
    Silent,
    /// The old owner's liveness session with the store is gone.
    ConnectionGone,
    /// The old owner's processes are dead: reaped, or their file lock is free under the same boot.
    ConfirmedDead,
    /// The old owner released the lease after its worker had returned.
    Vacated,
}

impl Evidence {
    /// The word kept in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Evidence::Silent => "silent",
            Evidence::ConnectionGone => "connection_gone",
            Evidence::ConfirmedDead => "confirmed_dead",
            Evidence::Vacated => "vacated",
        }
    }

    /// Reads the word kept in the store.
    pub fn from_word(word: &str) -> Option<Evidence> {
        [Evidence::Silent, Evidence::ConnectionGone, Evidence::ConfirmedDead, Evidence::Vacated]
            .into_iter()
            .find(|evidence| evidence.as_str() == word)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Evidence::Silent => "silent",
            Evidence::ConnectionGone => "connection gone",
            Evidence::ConfirmedDead => "confirmed dead",
            Evidence::Vacated => "vacated",
        })
    }
}

/// Why a lease changed hands. The restart and failover policies count these in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nobody had it: a new group, a new node, the start of the cluster.
    Start,
    /// A host of it failed and was started again on the same node.
    Restart,
    /// A host of it failed once too often on its node, so the group goes to another one.
    Failover,
    /// Its owner node died, froze or lost the store.
    NodeLost,
    /// An operator moved it.
    Move,
    /// The owner left in good order (shutdown, drain).
    Drain,
    /// The owner's trust ran out while the store was away, and it took the lease up again.
    Regained,
    /// After its policy was exhausted the group was tried again.
    Retry,
    /// An operator took it offline, and it stays so until one wants it online.
    Stop,
    /// It went back to a node that is higher in its list, or from which it had been drained.
    Failback,
    /// A resource said that it can never run on that node (OCF: hard error), so the group went.
    Banned,
}

impl Cause {
    /// All causes, for reading one back.
    const ALL: [Cause; 11] = [
        Cause::Start,
        Cause::Restart,
        Cause::Failover,
        Cause::NodeLost,
        Cause::Move,
        Cause::Drain,
        Cause::Regained,
        Cause::Retry,
        Cause::Stop,
        Cause::Failback,
        Cause::Banned,
    ];

    /// The word kept in the store and shown to operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Start => "start",
            Cause::Restart => "restart",
            Cause::Failover => "failover",
            Cause::NodeLost => "node_lost",
            Cause::Move => "move",
            Cause::Drain => "drain",
            Cause::Regained => "regained",
            Cause::Retry => "retry",
            Cause::Stop => "stop",
            Cause::Failback => "failback",
            Cause::Banned => "banned",
        }
    }

    /// Reads the word kept in the store.
    pub fn from_word(word: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.as_str() == word)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_names_survive_their_text() {
        for text in ["node/a", "group/partners", "instance/sender@a.b"] {
            let name: LeaseName = text.parse().expect(text);
            assert_eq!(name.to_string(), text);
        }
        for bad in ["", "a", "group/", "instance/x", "host/x", "node/a b"] {
            assert!(bad.parse::<LeaseName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_read_back() {
        for cause in Cause::ALL {
            assert_eq!(Cause::from_word(cause.as_str()), Some(cause));
        }
        assert_eq!(Evidence::from_word("confirmed_dead"), Some(Evidence::ConfirmedDead));
        assert!(Evidence::Silent < Evidence::Vacated);
    }
}
