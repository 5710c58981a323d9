//! What can go wrong with the store, by what the caller does about it.

use model::{Epoch, LeaseName};
use thiserror::Error;

/// A store's failure.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The lease changed hands: stop at once, nothing was written.
    #[error("{lease} is no longer held at epoch {epoch}; nothing was written, its owner must stop")]
    Fenced {
        /// The lease.
        lease: LeaseName,
        /// The stale epoch.
        epoch: Epoch,
    },
    /// Other definitions are in force: route again. Nothing was written.
    #[error("definitions version {seen} is no longer in force (it is {now}); nothing was written")]
    StaleRoutes {
        /// The version shown.
        seen: u64,
        /// The version in force.
        now: u64,
    },
    /// The store cannot be reached or did not answer in time; pause and try again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The request does not fit the state of the store; the sentence says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// The store holds something that this version of Baton cannot read.
    #[error("{0}")]
    Corrupt(String),
}

/// The result of a store method.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
