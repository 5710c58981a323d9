//! Connections outside the pool: one that lives as long as its use, made again when it breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use model::{LeaseName, NodeName};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::lease::known_of;
use super::transaction::Database;
use crate::{Result, StoreError};

/// How often a liveness lock that somebody still holds is tried again, and how long.
const LOCK_AGAIN_AFTER: Duration = Duration::from_millis(20);
const LOCK_TRIES: u32 = 10;

/// Waits before a liveness session that ended is made again, if it cannot be: at first, and at
/// most. A server that restarts is back within seconds, and has many such nodes to answer.
const REMAKE_MIN: Duration = Duration::from_millis(50);
const REMAKE_MAX: Duration = Duration::from_secs(1);

/// A place for one connection.
pub(crate) struct Seat {
    session: Mutex<Option<Arc<Session>>>,
    /// Told when the connection of the session ends by itself.
    ended: Arc<Notify>,
    /// A request was begun and did not come back: its caller gave up. The connection may be dead.
    suspect: AtomicBool,
}

/// A connection with what it has been made for.
pub(crate) struct Session {
    client: ClientWrapper,
    /// The server's process for it.
    pid: i32,
    /// The node whose liveness lock it should hold, and whether it does.
    node: Option<Node>,
    locked: AtomicBool,
}

/// A node as its row knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) id: i32,
}

impl Seat {
    pub(crate) fn new() -> Seat {
        let ended = Arc::new(Notify::new());
        Seat { session: Mutex::new(None), ended, suspect: AtomicBool::new(false) }
    }

    /// Makes a session that ends again at once: until the next renewal the others would take a
    /// node whose connection alone was reset for one that is gone, and take over what it owns.
    ///
    /// Not when the node's lease has run out: then it hangs, and its session was ended by a new
    /// process of its name. A renewal will make it again, if there is one.
    pub(crate) async fn watch(self: Arc<Self>, database: Arc<Database>) {
        let mut back_off = REMAKE_MIN;
        loop {
            self.ended.notified().await;
            while let Err(error) = self.make_again(&database).await {
                tracing::debug!(%error, "the liveness session is not back yet");
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(REMAKE_MAX);
            }
            back_off = REMAKE_MIN;
        }
    }

    async fn make_again(&self, database: &Database) -> Result<()> {
        let node = self.session.lock().await.as_ref().and_then(|session| session.node.clone());
        let Some(node) = node else { return Ok(()) };
        let lease = LeaseName::Node(node.name).to_string();
        let sql = include_str!("../../sql/postgres/acquire_judge.sql");
        let rows = database.query(sql, &[&lease]).await?;
        let known = known_of(rows.first())?;
        if known.expires_at.is_some_and(|at| at > known.now) {
            self.session(database).await?;
        }
        Ok(())
    }

    /// Runs one statement, a transaction of its own, on this seat's connection; gives up after
    /// `limit`, and then makes a new connection the next time.
    pub(crate) async fn query(
        &self,
        database: &Database,
        limit: Duration,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let asked = async {
            let session = self.session(database).await?;
            self.suspect.store(true, Ordering::SeqCst);
            let answer = session.query(database, sql, params).await;
            let lost = matches!(answer, Err(StoreError::Unavailable(_)));
            self.suspect.store(lost, Ordering::SeqCst);
            answer
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Unavailable(format!(
                "{} did not answer within {limit:?}; the connection is made again",
                database.place
            ))),
        }
    }

    /// Takes the liveness lock of a node with a new connection, unless this seat has it already.
    /// False when another session has it.
    pub(crate) async fn live_as(&self, database: &Database, node: &Node) -> Result<bool> {
        let mut seat = self.session.lock().await;
        let before = seat.as_ref().filter(|session| session.node.as_ref() == Some(node)).cloned();
        if before.is_some() && self.sound(&seat).is_some() {
            return Ok(true);
        }
        let mut session = Session::open(database, &self.ended).await?;
        session.node = Some(node.clone());
        let locked = match before {
            Some(before) => session.lock_again(database, before.pid).await?,
            None => session.lock(database).await?,
        };
        if locked {
            *seat = Some(Arc::new(session));
            self.suspect.store(false, Ordering::SeqCst);
        }
        Ok(locked)
    }

    fn sound(&self, seat: &MutexGuard<'_, Option<Arc<Session>>>) -> Option<Arc<Session>> {
        let session = seat.as_ref()?;
        let sound = !session.client.is_closed()
            && !self.suspect.load(Ordering::SeqCst)
            && (session.node.is_none() || session.locked.load(Ordering::SeqCst));
        sound.then(|| session.clone())
    }

    /// The connection; made again, with its liveness lock, when it broke.
    async fn session(&self, database: &Database) -> Result<Arc<Session>> {
        let mut seat = self.session.lock().await;
        if let Some(session) = self.sound(&seat) {
            return Ok(session);
        }
        let mut session = Session::open(database, &self.ended).await?;
        if let Some(before) = seat.clone()
            && let Some(node) = &before.node
        {
            session.node = Some(node.clone());
            if session.lock_again(database, before.pid).await? {
                tracing::info!(node = %node.name, "the liveness session is back");
            } else {
                // Not an error: the renewal that follows will say that the node's lease is lost.
                tracing::warn!(node = %node.name, "another session has this node's liveness lock");
            }
        }
        let session = Arc::new(session);
        *seat = Some(session.clone());
        self.suspect.store(false, Ordering::SeqCst);
        Ok(session)
    }
}

impl Session {
    async fn open(database: &Database, ended: &Arc<Notify>) -> Result<Session> {
        let opened = database.connector.connect_watched(ended.clone()).await;
        let client = opened.map_err(|error| database.error(&error))?;
        let mut session = Session { client, pid: 0, node: None, locked: AtomicBool::new(false) };
        let opened = include_str!("../../sql/postgres/connect.sql");
        let rows = session.query(database, opened, &[]).await?;
        session.pid = rows.first().map_or(0, |row| row.get("pid"));
        Ok(session)
    }

    async fn query(
        &self,
        database: &Database,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let answer = async {
            let statement = self.client.prepare_cached(sql).await?;
            self.client.query(&statement, params).await
        };
        answer.await.map_err(|error| database.error(&error))
    }

    /// Tries to take its node's liveness lock. Once for each session: session locks stack.
    async fn lock(&self, database: &Database) -> Result<bool> {
        let Some(node) = &self.node else { return Ok(false) };
        let lock = include_str!("../../sql/postgres/join_lock.sql");
        let rows = self.query(database, lock, &[&node.id]).await?;
        let locked = rows.first().is_some_and(|row| row.get(0));
        if locked {
            self.locked.store(true, Ordering::SeqCst);
            let connected = include_str!("../../sql/postgres/join_connected.sql");
            self.query(database, connected, &[&node.id]).await?;
        }
        Ok(locked)
    }

    /// Takes over the lock from a session of ours that broke. The server may not know yet that it
    /// is broken, and drop the lock only when it does, so that session is ended first.
    async fn lock_again(&self, database: &Database, before: i32) -> Result<bool> {
        let unlock = include_str!("../../sql/postgres/join_unlock.sql");
        for _ in 0..LOCK_TRIES {
            if let Some(node) = &self.node {
                self.query(database, unlock, &[&node.id, &Some(before)]).await?;
            }
            if self.lock(database).await? {
                return Ok(true);
            }
            tokio::time::sleep(LOCK_AGAIN_AFTER).await;
        }
        Ok(false)
    }
}
