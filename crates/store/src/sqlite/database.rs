//! The database file: a writer in a thread of its own, and a few readers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Millis, Timestamp};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::Beside;
use super::lock::FairLock;
use super::writer::{Commit, Job, Ran, Transaction, Writer};
use crate::{Result, StoreError};

/// Transactions waiting for the writer; beyond it callers wait before they queue.
const JOBS_MAX: usize = 256;

/// Read connections, each with a page cache of its own; reads are short.
const READERS_MAX: usize = 4;

/// Statements that a connection keeps prepared: all there are.
const STATEMENTS_CACHED: usize = 150;

/// How long SQLite itself waits. Baton's own processes queue elsewhere, so this is for a backup
/// tool, or somebody's `sqlite3`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of the write-ahead log kept between checkpoints: a burst must not leave gigabytes.
const JOURNAL_BYTES_KEPT: i64 = 64 * 1024 * 1024;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Corrupt(format!("the database file cannot be read: {error}"))
            }
            Some(ErrorCode::ConstraintViolation) => StoreError::Refused(error.to_string()),
            _ => StoreError::Unavailable(error.to_string()),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> StoreError {
        StoreError::Unavailable(error.to_string())
    }
}

/// The database file of a store.
pub(super) struct Database {
    jobs: mpsc::Sender<Job>,
    readers: Arc<Readers>,
    patience: Millis,
}

impl Database {
    /// Takes over a connection that is ready to write, and starts the writer.
    pub(super) fn start(
        path: &Path,
        connection: Connection,
        lock: FairLock,
        beside: Arc<Beside>,
        patience: Millis,
    ) -> Result<Database> {
        let (jobs, receiver) = mpsc::channel(JOBS_MAX);
        let readers = Readers {
            path: path.to_owned(),
            idle: Mutex::new(Vec::new()),
            permits: Arc::new(Semaphore::new(READERS_MAX)),
        };
        let writer = Writer::of(connection, lock, beside);
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(receiver))?;
        Ok(Database { jobs, readers: Arc::new(readers), patience })
    }

    /// Runs a write transaction to its end, also when the caller stops waiting for it.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let result = transaction.map_err(StoreError::Unavailable).and_then(run);
            let keep = result.is_ok();
            let tell = move |commit: Commit| {
                let answer = result.and_then(|answer| match commit {
                    Ok(()) => Ok(answer),
                    Err(why) => Err(StoreError::Unavailable(why)),
                });
                // Nobody may be waiting any more.
                let _ = tell.send(answer);
            };
            Ran { keep, tell: Box::new(tell) }
        });
        self.within_patience(async {
            self.jobs.send(job).await.map_err(|_| writer_ended())?;
            told.await.map_err(|_| writer_ended())?
        })
        .await
    }

    /// Runs a consistent read.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.within_patience(async {
            let permit = self.readers.permits.clone().acquire_owned().await;
            let readers = self.readers.clone();
            blocking(move || {
                let result = readers.read(run);
                drop(permit);
                result
            })
            .await
        })
        .await
    }

    async fn within_patience<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.patience.as_duration(), work).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {}", self.patience))),
        }
    }
}

/// Runs something that blocks for a moment.
pub(super) async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Unavailable(error.to_string())),
    }
}

fn writer_ended() -> StoreError {
    StoreError::Unavailable("the store's writer has ended; see the log for its panic".into())
}

/// The store's clock.
pub(super) fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

/// Opens a connection that may write.
pub(super) fn open_writer(path: &Path) -> Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES_KEPT)?;
    Ok(connection)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| {
            StoreError::Unavailable(format!("{} cannot be opened: {error}", path.display()))
        })?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Without this SQLite looks at bound values for its plan, and so plans a statement anew each
    // time it is run: that made a settle three times as expensive.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(connection)
}

/// Opens a connection that only reads.
fn open_reader(path: &Path) -> Result<Connection> {
    // Not read-only for SQLite: a read-only connection cannot open a log that needs recovery.
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Connections for reading, opened when they are needed.
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    fn read<T>(&self, run: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.path)?,
        };
        // One snapshot for all statements of the read.
        let transaction = connection.unchecked_transaction()?;
        let result = run(&transaction);
        transaction.finish()?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        result
    }
}
