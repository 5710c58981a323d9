//! Opening a store by its URL.

use std::sync::Arc;

use model::Millis;

use crate::{Result, Store, StoreError};

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// `sqlite:/path/to/file.db`, or `postgresql://user@host1,host2/database?...`.
    pub url: String,
    /// Who we are, for the store's own lists of sessions: `node a`, `host receive on a`.
    pub application: String,
    /// Most connections for transactions at a time (PostgreSQL). Hints take two more, and a node's
    /// leases and liveness up to four.
    pub connections_max: usize,
    /// Longest wait for one transaction, after which it is `Unavailable`.
    pub patience: Millis,
}

impl Options {
    /// Options with the defaults for a host or a command.
    pub fn new(url: impl Into<String>, application: impl Into<String>) -> Options {
        Options {
            url: url.into(),
            application: application.into(),
            connections_max: 8,
            patience: Millis::seconds(10),
        }
    }
}

/// Opens a store, and brings its schema to this version's.
pub async fn open(options: &Options) -> Result<Arc<dyn Store>> {
    match options.url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => crate::sqlite::open(options).await,
        Some("postgresql" | "postgres") => crate::postgres::open(options).await,
        // The URL may hold a password, so it is not repeated.
        _ => Err(StoreError::Refused(
            "this is not the URL of a store: use sqlite:/path/to/baton.db on one machine, or \
             postgresql://user@host/database for several"
                .into(),
        )),
    }
}
