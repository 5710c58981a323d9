//! One host instance: the process that runs the receive locations and send ports of a host while
//! it holds a fence.
//!
//! Its parent is the node. Over an inherited socket ([`child::protocol`]) the parent activates it
//! with a fence and a moment at which its trust ends, extends that trust, and asks it to stop. The
//! process lets go by itself when its trust ends ([`child::trust`]) or the socket closes.
//!
//! Read on in [`process`] (the loop), then [`receive`] (the driver that makes receiving
//! exactly-once), then [`send`].

#[cfg(feature = "failpoints")]
mod blow;
pub mod process;
pub mod receive;
pub mod send;
mod tasks;

pub use process::run;

use adapter::{PolledSource, Sink};
use model::definition::{ReceiveKind, SendKind};

/// The protocols that this binary knows. The binary hands them in, so that no driver in here can
/// come to depend on one.
#[derive(Clone, Copy)]
pub struct Protocols {
    /// Makes the source of a receive location.
    pub source: fn(&ReceiveKind) -> adapter::Result<Box<dyn PolledSource>>,
    /// Makes the sink of a send port.
    pub sink: fn(&SendKind) -> adapter::Result<Box<dyn Sink>>,
    /// The name that messages carry as `BTS.InboundTransportType`.
    pub name: fn(&ReceiveKind) -> &'static str,
}
