//! The nouns of Baton: names, ids, times, definitions, messages and their context.
//!
//! Read in this order: [`name`], [`time`], [`lease`], [`state`], [`definition`], [`message`].
//! Nothing here does IO, reads a clock or draws a random number; whoever needs the time is given
//! it.

pub mod context;
pub mod definition;
pub mod event;
pub mod lease;
pub mod message;
pub mod name;
pub mod state;
pub mod time;

pub use context::{Context, Value, property};
pub use definition::Definitions;
pub use event::{EventId, OperatorEvent};
pub use lease::{Cause, Epoch, Evidence, FenceToken, LeaseName};
pub use message::{BodyId, MessageId, WorkId};
pub use name::{GroupName, HostName, LocationName, NodeName, PortName, ResourceName};
pub use state::{FailureReach, GroupState, ResourceState};
pub use time::{BootTime, Millis, Timestamp};
