//! The thread that writes: it groups waiting transactions under one turn and one commit.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Epoch, LeaseName, Timestamp};
use rusqlite::Connection;
use tokio::sync::mpsc;

use super::Beside;
use super::database::now;
use super::lock::{FairLock, Held};
use crate::{Result, StoreError, Topic};

/// A transaction that takes longer is refused: others would kill us at `HOLD_KILL_AFTER`, and
/// whoever made it can make it smaller.
pub(super) const WRITE_HOLD_MAX: Duration = Duration::from_secs(2);

/// Transactions that share a commit, each in a savepoint of its own. A commit is a disk sync, so
/// concurrent callers of one process gain almost as many times as they are.
const JOBS_PER_COMMIT_MAX: usize = 64;

/// After this a group takes in no more transactions: the other processes wait.
const GROUP_HOLD_MAX: Duration = Duration::from_millis(10);

/// IMMEDIATE: a transaction that reads first and writes later would be refused as stale.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// How a commit went; a sentence if it failed.
pub(super) type Commit = std::result::Result<(), String>;

/// A transaction to be run, given what it runs in, or why there is none.
pub(super) type Job = Box<dyn FnOnce(std::result::Result<&Transaction<'_>, String>) -> Ran + Send>;

/// A transaction that has run and is not committed yet.
pub(super) struct Ran {
    /// Whether its changes are kept.
    pub keep: bool,
    /// Tells whoever waits how the commit went.
    pub tell: Box<dyn FnOnce(Commit) + Send>,
}

/// A write transaction as a method sees it.
pub(super) struct Transaction<'a> {
    /// The connection, within the transaction.
    pub connection: &'a Connection,
    /// What stands beside the database.
    pub beside: &'a Beside,
    /// When it began, by the store's clock.
    pub now: Timestamp,
    began: Instant,
    wakes: RefCell<HashSet<Topic>>,
    vacated: RefCell<Vec<(LeaseName, Epoch)>>,
}

impl<'a> Transaction<'a> {
    fn begin(connection: &'a Connection, beside: &'a Beside) -> Transaction<'a> {
        Transaction {
            connection,
            beside,
            now: now(),
            began: Instant::now(),
            wakes: RefCell::default(),
            vacated: RefCell::default(),
        }
    }

    /// Lets the expiry of a lease go once its release is committed. Before that, whoever reads the
    /// lease would find an owner without an expiry, and take it for one that fell silent.
    pub(super) fn vacate_when_committed(&self, lease: &LeaseName, epoch: Epoch) {
        self.vacated.borrow_mut().push((lease.clone(), epoch));
    }

    /// Gives a hint once it is committed.
    pub(super) fn wake(&self, topic: Topic) {
        self.wakes.borrow_mut().insert(topic);
    }

    /// Refuses to go on beyond [`WRITE_HOLD_MAX`].
    pub(super) fn check_hold(&self) -> Result<()> {
        if self.began.elapsed() < WRITE_HOLD_MAX {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "one transaction took longer than {WRITE_HOLD_MAX:?}, and nothing was written: make \
             the batch smaller, or give the store a faster disk"
        )))
    }
}

/// What a group of transactions leaves behind.
#[derive(Default)]
struct Group {
    ran: Vec<Ran>,
    wakes: HashSet<Topic>,
    vacated: Vec<(LeaseName, Epoch)>,
}

/// The thread that writes.
pub(super) struct Writer {
    connection: Connection,
    lock: FairLock,
    beside: Arc<Beside>,
}

impl Writer {
    pub(super) fn of(connection: Connection, lock: FairLock, beside: Arc<Beside>) -> Writer {
        Writer { connection, lock, beside }
    }

    /// Serves jobs until all who could send one are gone.
    pub(super) fn run(self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let held = match self.begin() {
                Ok(held) => held,
                Err(error) => {
                    (first(Err(error.to_string())).tell)(Ok(()));
                    continue;
                }
            };
            let group = self.run_group(first, &mut jobs);
            let committed = self.end(group.ran.iter().any(|ran| ran.keep));
            drop(held);
            if committed.is_ok() {
                self.vacate(&group);
                self.wake(&group);
            }
            for ran in group.ran {
                (ran.tell)(committed.clone());
            }
        }
    }

    /// Waits for its turn and begins.
    fn begin(&self) -> Result<Held<'_>> {
        let held = self.lock.lock()?;
        self.execute(BEGIN)?;
        Ok(held)
    }

    /// Runs a job, and those that wait behind it.
    fn run_group(&self, first: Job, jobs: &mut mpsc::Receiver<Job>) -> Group {
        let began = Instant::now();
        let mut group = Group::default();
        let mut next = Some(first);
        while let Some(job) = next {
            self.run_job(job, &mut group);
            let full = group.ran.len() >= JOBS_PER_COMMIT_MAX || began.elapsed() >= GROUP_HOLD_MAX;
            next = if full { None } else { jobs.try_recv().ok() };
        }
        group
    }

    /// The first job of a group has the transaction for itself until it has run. The others have a
    /// savepoint each, which costs a copy of each page they change.
    fn run_job(&self, job: Job, group: &mut Group) {
        let first = !group.ran.iter().any(|ran| ran.keep);
        // A savepoint outside a transaction would be one of its own, with its own commit.
        let begun = match (self.connection.is_autocommit(), first) {
            (true, _) => Err(StoreError::Unavailable("SQLite rolled the transaction back".into())),
            (false, true) => Ok(()),
            (false, false) => self.execute("SAVEPOINT job"),
        };
        if let Err(error) = begun {
            group.ran.push(job(Err(error.to_string())));
            return;
        }
        let transaction = Transaction::begin(&self.connection, &self.beside);
        let ran = job(Ok(&transaction));
        let end = match (ran.keep, first) {
            (true, true) => Ok(()),
            (true, false) => self.execute("RELEASE job"),
            (false, true) => self.execute("ROLLBACK").and_then(|()| self.execute(BEGIN)),
            (false, false) => {
                self.execute("ROLLBACK TO job").and_then(|()| self.execute("RELEASE job"))
            }
        };
        if let Err(error) = end {
            // SQLite has rolled the whole transaction back by itself (a full disk, say). The
            // commit will fail and tell everybody.
            tracing::warn!(%error, "a transaction could not be ended");
        }
        if ran.keep {
            group.wakes.extend(transaction.wakes.borrow_mut().drain());
            group.vacated.append(&mut transaction.vacated.borrow_mut());
        }
        group.ran.push(ran);
    }

    fn end(&self, keep: bool) -> Commit {
        fail::fail_point!("sqlite_commit");
        let ended = self.execute(if keep { "COMMIT" } else { "ROLLBACK" });
        ended.map_err(|error| {
            // It fails if SQLite has rolled back by itself, which is what is wanted.
            let _ = self.execute("ROLLBACK");
            format!("the commit failed: {error}")
        })
    }

    fn vacate(&self, group: &Group) {
        for (lease, epoch) in &group.vacated {
            if let Err(error) = self.beside.expiry.vacate(lease, *epoch) {
                // It costs a slot until the lease is taken again, and is asked for nothing.
                tracing::warn!(%lease, %error, "cannot remove the expiry of a released lease");
            }
        }
    }

    fn wake(&self, group: &Group) {
        group.wakes.iter().for_each(|topic| self.beside.wake.wake(*topic));
    }

    fn execute(&self, statement: &str) -> Result<()> {
        self.connection.prepare_cached(statement)?.execute([])?;
        Ok(())
    }
}
