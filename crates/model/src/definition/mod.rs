//! What an operator writes and applies: groups, hosts, resources, receive ports and send ports.
//!
//! Definitions are versioned in the store and applied as a whole. Every field with a default says
//! it here, so the JSON Schema that `baton schema` prints says it too.

mod check;
mod dependency;
mod group;
mod grouping;
mod member;
mod resource;
mod sources;
mod transport;

use serde::{Deserialize, Serialize};

use crate::{GroupName, HostName, LocationName, Millis, NodeName, PortName, ResourceName};

pub use check::{Problem, check};
pub use dependency::{Dependency, InvalidDependency};
pub use group::{DayWindow, EffectivePolicy, Failback, Group, GroupPolicy, Priority};
pub use member::{Member, MemberKind, ResourceSpec};
pub use resource::{
    IpAddress, NetworkName, Ocf, OnFailure, Process, Resource, ResourceKind, ResourcePolicy,
    Systemd, Tsig, TsigAlgorithm,
};
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
    /// What groups bring online besides hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// Receive ports with their locations.
    pub receive_ports: Vec<ReceivePort>,
    /// Send ports with their filters.
    pub send_ports: Vec<SendPort>,
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
    /// What must be online before it, of its group: `address and broker`.
    #[serde(default, skip_serializing_if = "Dependency::is_empty")]
    pub depends_on: Dependency,
    /// Where its policy differs from its group's.
    #[serde(default, skip_serializing_if = "ResourcePolicy::is_default")]
    pub policy: ResourcePolicy,
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

    /// The resource of this name.
    pub fn resource(&self, name: &ResourceName) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.name == *name)
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

impl Host {
    /// A host with every default, in no group.
    pub fn new(name: HostName) -> Host {
        Host {
            name,
            group: None,
            nodes: Vec::new(),
            depends_on: Dependency::default(),
            policy: ResourcePolicy::default(),
        }
    }

    /// Whether a node has an instance of it.
    pub fn runs_on(&self, node: &NodeName) -> bool {
        self.nodes.is_empty() || self.nodes.contains(node)
    }
}
