//! The monitor: the process that drives one resource of a group that is not a host.
//!
//! Its parent is the node. Over an inherited socket ([`child::protocol`]) the parent says what it
//! drives, activates it under an epoch with a moment at which its trust ends, extends that trust,
//! and asks it to stop. When its trust ends or the socket closes, the monitor takes its resource
//! down by itself and ends: the resource is nowhere twice.
//!
//! Read on in [`monitor`] (the loop), [`driver`] (what a kind must answer), then the kinds, one
//! line each in [`KINDS`].

mod bus;
mod command;
mod dns;
pub mod driver;
mod flow;
mod ip_address;
mod launch;
mod link;
pub mod monitor;
mod neighbour;
mod netlink;
mod network_name;
mod ocf;
mod ocf_metadata;
mod process;
mod systemd;
mod tree;

use std::sync::Arc;

use model::NodeName;
use model::definition::{ResourceKind, ResourceSpec};

pub use driver::{Driver, Failure, Health, Outcome};
pub use launch::{EXIT_NOT_STARTED, exec_if_asked};
pub use monitor::{MonitorError, run};

/// Makes the driver of a resource.
type Make = fn(&ResourceSpec, &NodeName) -> Outcome<Arc<dyn Driver>>;

/// The kinds of resources, by the word they are written with, and their drivers.
pub const KINDS: [(&str, Make); 5] = [
    ("process", process::driver),
    ("systemd", systemd::driver),
    ("ocf", ocf::driver),
    ("ip_address", ip_address::driver),
    ("network_name", network_name::driver),
];

/// The driver of a resource.
///
/// # Errors
/// When its settings make no sense on this or any node.
pub fn driver_of(spec: &ResourceSpec, node: &NodeName) -> Outcome<Arc<dyn Driver>> {
    let word = spec.resource.kind.as_str();
    let known = KINDS.iter().find(|(kind, _)| *kind == word);
    let make = known.map(|(_, make)| make).ok_or_else(|| {
        Failure::hard(format!("this version of Baton cannot drive {word}: upgrade this node"))
    })?;
    make(spec, node)
}

/// The driver was asked for another kind than its own: the table above is wrong.
fn not_mine(kind: &ResourceKind) -> Failure {
    Failure::fatal(format!("{} has no driver in this version of Baton", kind.as_str()))
}
