//! The proof of ownership that every write of a host shows.

pub use model::FenceToken;
use model::{Epoch, LeaseName, NodeName};

/// A proof that a lease was held under an epoch. Only a store makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    token: FenceToken,
}

impl Fence {
    /// For the engines only: a token that was just found current.
    pub(crate) fn of(token: FenceToken) -> Fence {
        Fence { token }
    }

    /// Which lease.
    pub fn lease(&self) -> &LeaseName {
        &self.token.lease
    }

    /// Under which epoch.
    pub fn epoch(&self) -> Epoch {
        self.token.epoch
    }

    /// Held by which node.
    pub fn holder(&self) -> &NodeName {
        &self.token.holder
    }

    /// The refusal that a stale fence meets.
    pub(crate) fn refused(&self) -> crate::StoreError {
        crate::StoreError::Fenced { lease: self.token.lease.clone(), epoch: self.token.epoch }
    }
}
