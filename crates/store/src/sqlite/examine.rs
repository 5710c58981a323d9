//! Examines a SQLite store without disturbing anybody. `self_test` tries its fence.

use std::time::{Duration, Instant};

use rustix::fs::{StatFs, statfs};

use super::database::blocking;
use super::rows::{get, row, sql};
use super::{Sqlite, database};
use crate::examine::{CLOCK_SPAN, ClockReading, Found, finding, reach};
use crate::{Finding, Result, StoreError};

/// Longest look at one thing.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// The fence is tried with a database made and removed, and may have to wait for its turn.
const FENCE_LIMIT: Duration = Duration::from_secs(30);

/// Less than this is a warning: a burst of messages takes it within minutes.
const BYTES_FREE_LOW: u64 = 1_000_000_000;

/// Less than this does not hold the write-ahead log between two checkpoints.
const BYTES_FREE_MIN: u64 = 100_000_000;

/// How often an answer is timed.
const ROUND_TRIPS: usize = 5;

/// File systems by their magic number (statfs): those of other machines, which have no locks or
/// shared memory that SQLite could rely on, and those in memory.
const OF_THE_NETWORK: [(u32, &str); 7] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB2"),
    (0xff53_4d42, "CIFS"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "Ceph"),
    (0x4750_4653, "GPFS"),
];
const IN_MEMORY: [(u32, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

impl Sqlite {
    pub(super) async fn examine_all(&self) -> Vec<Finding> {
        let one_machine = "all is on this machine: SQLite is for the processes of one, so a second \
                           machine needs PostgreSQL";
        let nobody = "there is no server whose sessions could be pooled or ended";
        vec![
            finding("store.reach", LOOK_LIMIT, self.look_at_reach()).await,
            finding("store.pooler", LOOK_LIMIT, async { Ok(Found::not_applicable(nobody)) }).await,
            finding("store.fence", FENCE_LIMIT, self.try_fence()).await,
            finding("store.clock_rate", LOOK_LIMIT, look_at_clock()).await,
            finding("store.version", LOOK_LIMIT, self.look_at_version()).await,
            finding("store.durable", LOOK_LIMIT, self.look_at_durability()).await,
            finding("store.idle_timeout", LOOK_LIMIT, async { Ok(Found::not_applicable(nobody)) })
                .await,
            finding("store.room", LOOK_LIMIT, self.look_at_room()).await,
            finding("store.standby", LOOK_LIMIT, async { Ok(Found::not_applicable(one_machine)) })
                .await,
        ]
    }

    async fn look_at_reach(&self) -> Result<Found> {
        let mut best = Duration::MAX;
        for _ in 0..ROUND_TRIPS {
            let began = Instant::now();
            self.database.write(|_| Ok(())).await?;
            best = best.min(began.elapsed());
        }
        Ok(reach(&format!("sqlite:{}", self.path.display()), best))
    }

    async fn look_at_version(&self) -> Result<Found> {
        let version = rusqlite::version();
        Ok(Found::passed(format!("SQLite {version}, which comes with Baton")))
    }

    /// By the connection that writes.
    async fn look_at_durability(&self) -> Result<Found> {
        let (mode, level) = self
            .database
            .write(|transaction| {
                let connection = transaction.connection;
                let settings = row(connection, sql!("examine_settings"), [], |row| {
                    Ok((get::<String>(row, 0)?, get::<i64>(row, 1)?))
                })?;
                settings.ok_or_else(|| StoreError::Corrupt("SQLite has no settings".to_owned()))
            })
            .await?;
        if mode != "wal" || level < SYNCHRONOUS_FULL {
            return Ok(Found::failed(
                format!(
                    "the journal is {mode} at level {level}: a commit is answered before it is on \
                     disk"
                ),
                "another program has changed the database file; stop it, and restart Baton",
            ));
        }
        let on = self.file_system().await?;
        if let Some((_, name)) = found_in(&OF_THE_NETWORK, &on) {
            return Ok(Found::failed(
                format!(
                    "the database is on {name}, a file system of the network: SQLite's locks \
                         and shared memory do not reach across machines"
                ),
                "put the file on a disk of this machine, or use PostgreSQL",
            ));
        }
        if let Some((_, name)) = found_in(&IN_MEMORY, &on) {
            return Ok(Found::warning(
                format!("the database is on {name}, in memory: it is gone when the machine stops"),
                "put the file on a disk of this machine",
            ));
        }
        Ok(Found::passed("a commit is on disk before it is answered (WAL, synchronous FULL)"))
    }

    async fn look_at_room(&self) -> Result<Found> {
        let on = self.file_system().await?;
        let block = u64::try_from(on.f_bsize).unwrap_or(0);
        let free = on.f_bavail.saturating_mul(block);
        let bytes = std::fs::metadata(&self.path)?.len();
        let what = format!(
            "{} MB are free on the disk of the database, which has {} MB",
            free / 1_000_000,
            bytes / 1_000_000
        );
        let remedy = "make room on that disk, or move the database to a larger one";
        Ok(if free < BYTES_FREE_MIN {
            Found::failed(what, remedy)
        } else if free < BYTES_FREE_LOW {
            Found::warning(what, remedy)
        } else {
            Found::passed(what)
        })
    }

    async fn file_system(&self) -> Result<StatFs> {
        let path = self.path.clone();
        blocking(move || Ok(statfs(&path).map_err(std::io::Error::from)?)).await
    }
}

/// `PRAGMA synchronous` = FULL.
const SYNCHRONOUS_FULL: i64 = 2;

async fn look_at_clock() -> Result<Found> {
    let first = ClockReading::take(async { Ok(database::now()) }).await?;
    tokio::time::sleep(CLOCK_SPAN).await;
    let second = ClockReading::take(async { Ok(database::now()) }).await?;
    Ok(ClockReading::rate(first, second))
}

fn found_in<'a>(list: &'a [(u32, &'a str)], on: &StatFs) -> Option<&'a (u32, &'a str)> {
    // The kernel's type of it differs from machine to machine; the numbers have 32 bits.
    list.iter().find(|(magic, _)| i128::from(*magic) == i128::from(on.f_type) & 0xffff_ffff)
}
