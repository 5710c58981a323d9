//! Connections to partners: kept between polls, and opened before they are needed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adapter::{AdapterError, PolledSource, Session};
use model::LocationName;
use model::definition::ReceiveKind;

use crate::process::Shared;

/// How often idle connections are kept alive. Servers of the field cut idle ones after 1 to 15
/// minutes.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);

/// Idle connections of a location that are kept open: one lists, one begins to download.
const WARM_CONNECTIONS: usize = 2;

/// Longest a single check of an idle connection may take.
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(15);

/// The pools of a host instance, by location.
#[derive(Default)]
pub struct Pools {
    by_location: Mutex<BTreeMap<LocationName, Arc<Pool>>>,
    /// Wakes the task that keeps connections warm.
    changed: tokio::sync::Notify,
}

/// The connections of one location.
pub(crate) struct Pool {
    kind: ReceiveKind,
    source: Result<Box<dyn PolledSource>, String>,
    idle: Mutex<Vec<Box<dyn Session>>>,
    idle_max: usize,
}

impl Pools {
    /// Makes pools for the locations of this host; pools whose settings are the same stay.
    pub(crate) fn define(&self, shared: &Shared) {
        let routes = shared.plan.borrow().clone();
        let mut by_location = self.by_location.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *by_location);
        for (_, location) in routes.definitions.locations_of(&shared.me.host) {
            let kept = before.remove(&location.name);
            let same = kept.filter(|pool| pool.kind == location.transport);
            let pool = same.unwrap_or_else(|| {
                let source = (shared.protocols.source)(&location.transport);
                Arc::new(Pool {
                    kind: location.transport.clone(),
                    source: source.map_err(|error| error.to_string()),
                    idle: Mutex::default(),
                    idle_max: location.connections_max as usize + 1,
                })
            });
            by_location.insert(location.name.clone(), pool);
        }
        drop(by_location);
        self.changed.notify_one();
    }

    pub(crate) fn get(&self, location: &LocationName) -> Option<Arc<Pool>> {
        self.by_location.lock().unwrap_or_else(PoisonError::into_inner).get(location).cloned()
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        let by_location = self.by_location.lock().unwrap_or_else(PoisonError::into_inner);
        by_location.values().cloned().collect()
    }
}

impl Pool {
    pub fn source(&self) -> adapter::Result<&dyn PolledSource> {
        match &self.source {
            Ok(source) => Ok(&**source),
            Err(why) => Err(AdapterError::Refused(why.clone())),
        }
    }

    /// An idle connection, or a new one. An idle one may turn out to be dead: `used` says so, and
    /// the caller tries once more.
    pub async fn get(&self) -> adapter::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(session) => Ok(Connection { session, used: true }),
            None => self.connect().await,
        }
    }

    /// A new connection.
    pub async fn connect(&self) -> adapter::Result<Connection> {
        let session = self.source()?.connect().await?;
        Ok(Connection { session, used: false })
    }

    /// Gives a connection back that is known to be good.
    pub fn put(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.idle_max {
            idle.push(connection.session);
        }
    }

    /// Drops what is dead among the idle, and sees to it that there are enough.
    async fn keep_warm(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for mut session in idle {
            let alive = tokio::time::timeout(KEEP_ALIVE_WITHIN, session.keep_alive()).await;
            if matches!(alive, Ok(Ok(()))) {
                self.put(Connection { session, used: true });
            }
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).len();
        for _ in idle..WARM_CONNECTIONS.min(self.idle_max) {
            match self.connect().await {
                Ok(connection) => self.put(connection),
                Err(error) => {
                    tracing::debug!(%error, "no warm connection");
                    return;
                }
            }
        }
    }
}

/// A connection on loan.
pub(crate) struct Connection {
    pub session: Box<dyn Session>,
    /// It was idle before, so it may have died unnoticed.
    pub used: bool,
}

/// Keeps a connection of each location open, so that taking over costs no handshake.
pub async fn keep_warm(pools: Arc<Pools>) {
    loop {
        for pool in pools.all() {
            pool.keep_warm().await;
        }
        tokio::select! {
            () = tokio::time::sleep(KEEP_ALIVE_EVERY) => {}
            () = pools.changed.notified() => {}
        }
    }
}
