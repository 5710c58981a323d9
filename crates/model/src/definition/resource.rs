//! Resources of a group besides its hosts: addresses, names, processes, units and OCF agents.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Dependency;
use crate::{GroupName, Millis, NodeName, ResourceName};

/// Something that a group brings online on its owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Its name, unique among resources and hosts.
    pub name: ResourceName,
    /// The group it belongs to.
    pub group: GroupName,
    /// What must be online before it: `address and (disk-1 or disk-2)`. Members of its group only.
    #[serde(default, skip_serializing_if = "Dependency::is_empty")]
    pub depends_on: Dependency,
    /// Nodes on which it can run. Empty: all that the group allows. A group can only be where each
    /// of its resources can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub possible_owners: Vec<NodeName>,
    /// Where its policy differs from the group's.
    #[serde(default, skip_serializing_if = "ResourcePolicy::is_default")]
    pub policy: ResourcePolicy,
    /// What it is.
    pub kind: ResourceKind,
}

/// What follows the failure of a resource (WSFC RestartAction).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It stays failed until an operator acts (WSFC 0).
    Nothing,
    /// It is restarted, and never moves the group (WSFC 1).
    Restart,
    /// It is restarted; once too often, and the group fails over (WSFC 2).
    #[default]
    FailOver,
}

/// Where the policy of one resource differs from its group's. What is left out is the group's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourcePolicy {
    /// What follows its failure. Default `fail_over`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Restarts tolerated on one node within `restart_period` (WSFC RestartThreshold).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts_max: Option<u32>,
    /// The window in which restarts are counted (WSFC RestartPeriod).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_period: Option<Millis>,
    /// Wait before a second and later restart within the period (WSFC RestartDelay).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_delay: Option<Millis>,
    /// After its restarts are used up, try again after this (WSFC RetryPeriodOnFailure).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_period: Option<Millis>,
    /// Longest time between two signs of progress while it comes online or goes offline (WSFC
    /// PendingTimeout).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_timeout: Option<Millis>,
    /// Longest time without progress before it counts as hung (WSFC DeadlockTimeout).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hang_timeout: Option<Millis>,
    /// How often its cheap check runs (WSFC LooksAlivePollInterval).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looks_alive_interval: Option<Millis>,
    /// How often its deep check runs (WSFC IsAlivePollInterval).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_alive_interval: Option<Millis>,
}

impl ResourcePolicy {
    /// Whether everything is the group's.
    pub fn is_default(&self) -> bool {
        *self == ResourcePolicy::default()
    }
}

/// The kind of a resource, with its settings. A host is a kind of its own, defined under `hosts:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// A program that runs in the foreground (WSFC: Generic Application).
    Process(Process),
    /// A unit of systemd, driven over D-Bus (WSFC: Generic Service).
    Systemd(Systemd),
    /// An OCF resource agent (WSFC: Generic Script).
    Ocf(Ocf),
    /// An IP address that moves with the group (WSFC: IP Address, IPv6 Address).
    IpAddress(IpAddress),
    /// A name in the DNS that follows the group (WSFC: Network Name).
    NetworkName(NetworkName),
}

impl ResourceKind {
    /// The word by which it is written.
    pub fn as_str(&self) -> &'static str {
        match self {
            ResourceKind::Process(_) => "process",
            ResourceKind::Systemd(_) => "systemd",
            ResourceKind::Ocf(_) => "ocf",
            ResourceKind::IpAddress(_) => "ip_address",
            ResourceKind::NetworkName(_) => "network_name",
        }
    }
}

/// A program that runs in the foreground.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The program and its arguments. No shell: `["/bin/sh", "-c", "..."]` where one is meant.
    pub command: Vec<String>,
    /// The folder it starts in. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Environment variables besides the node's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The signal that asks it to end. Default `SIGTERM`.
    #[serde(default = "sigterm")]
    pub stop_signal: String,
    /// How long it may take to end before it is killed. Default 10s.
    #[serde(default = "stop_grace")]
    pub stop_grace: Millis,
    /// A command that exits 0 once it is up. Default: up as soon as it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready_check: Vec<String>,
    /// A cheap check; exit code 0 is well. Default: that it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looks_alive: Vec<String>,
    /// A thorough check; exit code 0 is well. Default: the cheap one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub is_alive: Vec<String>,
}

/// A unit of systemd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Systemd {
    /// The unit: `postgresql@15-main.service`. It should not be enabled for the start of the
    /// machine.
    pub unit: String,
    /// D-Bus address of the manager. Default: the system bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
}

/// An OCF resource agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ocf {
    /// The agent as `provider:type`: `heartbeat:IPaddr2`.
    pub agent: String,
    /// Its parameters; it gets them as `OCF_RESKEY_name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Longest time that start may take. Default: what its meta-data advises, at least 20s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Millis>,
    /// Longest time that stop may take. Default: what its meta-data advises, at least 20s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<Millis>,
    /// Longest time that monitor may take. Default: what its meta-data advises, at least 20s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor_timeout: Option<Millis>,
    /// OCF_CHECK_LEVEL of the deep check. Default 10.
    #[serde(default = "check_level")]
    pub check_level: u32,
    /// Where agents are. Default `/usr/lib/ocf`.
    #[serde(default = "ocf_root")]
    pub root: PathBuf,
}

/// An IP address that moves with the group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpAddress {
    /// The address with the length of its network: `192.0.2.10/24`, `2001:db8::10/64`.
    pub address: String,
    /// The interface that gets it. Default: the one whose own address is in the same network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// How many announcements (gratuitous ARP, unsolicited neighbour advertisements) are sent, a
    /// second apart, the first at once. Default 5.
    #[serde(default = "announcements")]
    #[schemars(range(min = 1, max = 60))]
    pub announcements: u32,
    /// How long to listen for another owner of the address before taking it. Default 500ms.
    #[serde(default = "probe_for")]
    pub probe_for: Millis,
}

/// A name in the DNS that follows the group, by DNS UPDATE (RFC 2136) with TSIG (RFC 8945).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkName {
    /// The fully qualified name: `partners.example.org`.
    pub name: String,
    /// The zone it is in. Default: the name without its first label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The zone's primary server, with its port: `192.0.2.53:53`.
    pub server: SocketAddr,
    /// The addresses that it gets. Default: those of the `ip_address` resources it depends on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<core::net::IpAddr>,
    /// How long resolvers may keep it. Default 30s.
    #[serde(default = "time_to_live")]
    pub time_to_live: Millis,
    /// The key that the server accepts updates by. Default: none, unsigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tsig: Option<Tsig>,
}

/// A TSIG key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tsig {
    /// Its name at the server.
    pub key: String,
    /// Its algorithm. Default `hmac-sha256`.
    #[serde(default)]
    pub algorithm: TsigAlgorithm,
    /// File on each possible owner whose first line is the secret in base64.
    pub secret_file: PathBuf,
}

/// A TSIG algorithm (RFC 8945 section 6).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256.
    #[default]
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

fn sigterm() -> String {
    "SIGTERM".to_owned()
}
fn stop_grace() -> Millis {
    Millis::seconds(10)
}
fn check_level() -> u32 {
    10
}
fn ocf_root() -> PathBuf {
    PathBuf::from("/usr/lib/ocf")
}
fn announcements() -> u32 {
    5
}
fn probe_for() -> Millis {
    Millis(500)
}
fn time_to_live() -> Millis {
    Millis::seconds(30)
}
