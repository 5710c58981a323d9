//! What an operator writes and applies: groups, hosts, receive ports and send ports.
//!
//! Definitions are versioned in the store and applied as a whole. Every field with a default says
//! it here, so the JSON Schema that `baton schema` prints says it too.

mod check;
mod sources;
mod transport;

use serde::{Deserialize, Serialize};

use crate::{GroupName, HostName, LocationName, Millis, NodeName, PortName};

pub use check::{Problem, check};
pub use transport::{
    AfterReceive, CopyMode, DataMode, FileReceive, FileSend, FtpReceive, ListingMode, ReceiveKind,
    SendKind, Stability, TlsMode, TlsVersion,
};

/// The definitions of a cluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Definitions {
    /// Failover-cluster groups.
    pub groups: Vec<Group>,
    /// Hosts: containers of receive locations and send ports.
    pub hosts: Vec<Host>,
    /// Receive ports with their locations.
    pub receive_ports: Vec<ReceivePort>,
    /// Send ports with their filters.
    pub send_ports: Vec<SendPort>,
}

/// A failover-cluster group: its hosts run together on one owner node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Nodes that may own it. Empty: every node.
    #[serde(default)]
    pub possible_owners: Vec<NodeName>,
    /// Nodes that should own it, best first. Placement only; it forbids no other possible owner.
    #[serde(default)]
    pub preferred_owners: Vec<NodeName>,
    /// Says that one possible owner is enough; without it a group needs two.
    #[serde(default)]
    pub single_node: bool,
    /// What to do when a host of it fails.
    #[serde(default)]
    pub policy: GroupPolicy,
}

/// Restart and failover policy. The defaults are those of a clustered BizTalk host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupPolicy {
    /// Restarts tolerated on one node within `restart_period` (WSFC RestartThreshold). Default 1.
    pub restarts_max: u32,
    /// The window in which restarts are counted (WSFC RestartPeriod). Default 15m.
    pub restart_period: Millis,
    /// Wait before a second and later restart within the period (WSFC RestartDelay). Default 500ms.
    pub restart_delay: Millis,
    /// Failovers tolerated within `failover_period` (WSFC FailoverThreshold). Default: one less
    /// than there are nodes, but at least 2.
    pub failovers_max: Option<u32>,
    /// The window in which failovers are counted (WSFC FailoverPeriod). Default 6h.
    pub failover_period: Millis,
    /// After the failovers are used up, try again after this (WSFC RetryPeriodOnFailure).
    /// Default 1h.
    pub retry_period: Millis,
    /// Longest time a host may take to come online or go offline (WSFC PendingTimeout).
    /// Default 3m.
    pub pending_timeout: Millis,
    /// Longest time without progress of a host before it counts as hung. Default 3s.
    pub hang_timeout: Millis,
    /// Longest time that a move waits for work in progress. Default 30s.
    pub drain_timeout: Millis,
}

impl Default for GroupPolicy {
    fn default() -> Self {
        GroupPolicy {
            restarts_max: 1,
            restart_period: Millis::minutes(15),
            restart_delay: Millis(500),
            failovers_max: None,
            failover_period: Millis::hours(6),
            retry_period: Millis::hours(1),
            pending_timeout: Millis::minutes(3),
            hang_timeout: Millis::seconds(3),
            drain_timeout: Millis::seconds(30),
        }
    }
}

/// A host: clustered when it names a group, otherwise an instance of it runs on every node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// The group it belongs to; one active instance, on the group's owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// Nodes that have an instance of it. Empty: every node.
    #[serde(default)]
    pub nodes: Vec<NodeName>,
}

/// A receive port: several locations under one name, by which subscribers filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceivePort {
    /// Its name; messages carry it as `BTS.ReceivePortName`.
    pub name: PortName,
    /// Where it receives from.
    pub locations: Vec<ReceiveLocation>,
}

/// A receive location: one address, polled by one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiveLocation {
    /// Its name, unique in the cluster.
    pub name: LocationName,
    /// The host that runs it.
    pub host: HostName,
    /// Not polled while false. Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Time from the end of one poll to the begin of the next. Default 5s.
    #[serde(default = "poll_interval")]
    pub poll_interval: Millis,
    /// When a file counts as completely written. Default: two equal sightings 1s apart.
    #[serde(default)]
    pub stability: Stability,
    /// What happens to the source after its message is committed. Default `delete`.
    #[serde(default)]
    pub after_receive: AfterReceive,
    /// Connections that work in parallel. Default 4.
    #[serde(default = "connections_max")]
    #[schemars(range(min = 1, max = 64))]
    pub connections_max: u32,
    /// Tries after which an item that always fails is left alone for an hour at a time. Default 5.
    #[serde(default = "item_attempts_max")]
    #[schemars(range(min = 1, max = 1000))]
    pub item_attempts_max: u32,
    /// Largest item in bytes; larger ones are left where they are and reported. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_bytes_max: Option<u64>,
    /// The protocol and its settings.
    pub transport: ReceiveKind,
}

/// A send port: subscribes by a filter, sends by a transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendPort {
    /// Its name.
    pub name: PortName,
    /// The host that runs it.
    pub host: HostName,
    /// Which messages it gets: an expression over context properties in CEL's syntax, such as
    /// `BTS.ReceivePortName == "orders" && has(FILE.ReceivedFileName)`.
    pub filter: String,
    /// Tries after the first one. Default 3.
    #[serde(default = "retries_max")]
    #[schemars(range(max = 1000))]
    pub retries_max: u32,
    /// Wait between two tries. Default 5m.
    #[serde(default = "retry_interval")]
    pub retry_interval: Millis,
    /// The protocol and its settings.
    pub transport: SendKind,
}

fn yes() -> bool {
    true
}
fn poll_interval() -> Millis {
    Millis::seconds(5)
}
fn connections_max() -> u32 {
    4
}
fn item_attempts_max() -> u32 {
    5
}
fn retries_max() -> u32 {
    3
}
fn retry_interval() -> Millis {
    Millis::minutes(5)
}

impl Definitions {
    /// The group of this name.
    pub fn group(&self, name: &GroupName) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == *name)
    }

    /// The host of this name.
    pub fn host(&self, name: &HostName) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == *name)
    }

    /// The hosts that a group brings online, in the order written.
    pub fn hosts_of<'a>(&'a self, group: &'a GroupName) -> impl Iterator<Item = &'a Host> {
        self.hosts.iter().filter(move |host| host.group.as_ref() == Some(group))
    }

    /// The receive locations that a host runs, each with its port.
    pub fn locations_of<'a>(
        &'a self,
        host: &'a HostName,
    ) -> impl Iterator<Item = (&'a ReceivePort, &'a ReceiveLocation)> {
        self.receive_ports
            .iter()
            .flat_map(|port| port.locations.iter().map(move |location| (port, location)))
            .filter(move |(_, location)| location.host == *host)
    }

    /// The send ports that a host runs.
    pub fn send_ports_of<'a>(&'a self, host: &'a HostName) -> impl Iterator<Item = &'a SendPort> {
        self.send_ports.iter().filter(move |port| port.host == *host)
    }
}

impl Group {
    /// Whether a node may own it.
    pub fn may_own(&self, node: &NodeName) -> bool {
        self.possible_owners.is_empty() || self.possible_owners.contains(node)
    }
}

impl Host {
    /// Whether a node has an instance of it.
    pub fn runs_on(&self, node: &NodeName) -> bool {
        self.nodes.is_empty() || self.nodes.contains(node)
    }
}
