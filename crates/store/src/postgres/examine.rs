//! Examines a PostgreSQL store without disturbing anybody. `self_test` tries its fence.

use std::time::{Duration, Instant};

use tokio_postgres::{Row, SimpleQueryMessage};

use super::Postgres;
use super::connect::IDLE_IN_TRANSACTION_LIMIT;
use crate::examine::{CLOCK_SPAN, ClockReading, Found, finding, reach};
use crate::{Finding, FindingResult, Result, StoreError};

/// Longest look at one thing; those that cannot be answered in this are a finding.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// The fence is tried with a schema made and dropped, and may have to wait for its turn.
const FENCE_LIMIT: Duration = Duration::from_secs(30);

/// The oldest version that `trait Store` is tested with.
const VERSION_MIN: i32 = 15_00_00;

/// Less than this part of the server's connections free is a warning: a takeover opens some.
const CONNECTIONS_FREE_MIN: f64 = 0.2;

/// How often the way there and back is measured.
const ROUND_TRIPS: usize = 5;

impl Postgres {
    pub(super) async fn examine_all(&self) -> Vec<Finding> {
        let reached = finding("store.reach", LOOK_LIMIT, self.look_at_reach()).await;
        let is_there = reached.result != FindingResult::Failed;
        let mut findings = vec![reached];
        if !is_there {
            return findings;
        }
        let pooler = finding("store.pooler", LOOK_LIMIT, self.look_at_pooler()).await;
        let is_direct = pooler.result == FindingResult::Passed;
        findings.push(pooler);
        findings.push(finding("store.fence", FENCE_LIMIT, self.look_at_fence(is_direct)).await);
        findings.push(finding("store.clock_rate", LOOK_LIMIT, self.look_at_clock()).await);
        match self.settings().await {
            Ok(row) => {
                let looks = [
                    ("store.version", version(&row)),
                    ("store.durable", durable(&row)),
                    ("store.idle_timeout", idle_timeout(&row)),
                    ("store.room", room(&row)),
                ];
                for (id, found) in looks {
                    findings.push(finding(id, LOOK_LIMIT, async { Ok(found) }).await);
                }
                findings
                    .push(finding("store.standby", LOOK_LIMIT, self.look_at_standbys(&row)).await);
            }
            Err(error) => {
                findings.push(finding("store.durable", LOOK_LIMIT, async { Err(error) }).await);
            }
        }
        findings
    }

    async fn look_at_reach(&self) -> Result<Found> {
        let mut best = Duration::MAX;
        for _ in 0..ROUND_TRIPS {
            let began = Instant::now();
            self.read_clock().await?;
            best = best.min(began.elapsed());
        }
        Ok(reach(&self.database.place, best))
    }

    async fn look_at_clock(&self) -> Result<Found> {
        let first = ClockReading::take(self.read_clock()).await?;
        tokio::time::sleep(CLOCK_SPAN).await;
        let second = ClockReading::take(self.read_clock()).await?;
        Ok(ClockReading::rate(first, second))
    }

    async fn look_at_fence(&self, is_direct: bool) -> Result<Found> {
        match is_direct {
            true => self.try_fence().await,
            false => Ok(Found::failed(
                "the fence was not tried: sessions do not reach PostgreSQL as they are made",
                "see store.pooler",
            )),
        }
    }

    async fn settings(&self) -> Result<Row> {
        let sql = include_str!("../../sql/postgres/examine_settings.sql");
        let mut rows = self.database.query(sql, &[]).await?;
        rows.pop().ok_or_else(|| StoreError::Corrupt("the server has no settings".to_owned()))
    }

    /// Whether two statements of one connection meet the same session, also while another
    /// connection is busy; and whether the settings that we ask for arrive.
    async fn look_at_pooler(&self) -> Result<Found> {
        let set = include_str!("../../sql/postgres/examine_pooler_set.sql");
        let get = include_str!("../../sql/postgres/examine_pooler_get.sql");
        let asked = async {
            let ours = self.database.connector.connect_apart().await?;
            let first = words(&ours.simple_query(set).await?);
            let other = self.database.connector.connect_apart().await?;
            other.batch_execute("BEGIN").await?;
            other.simple_query(get).await?;
            let second = words(&ours.simple_query(get).await?);
            other.batch_execute("ROLLBACK").await?;
            Ok((first, second))
        };
        let (first, second) =
            asked.await.map_err(|error: tokio_postgres::Error| self.database.error(&error))?;
        if first != second {
            return Ok(Found::failed(
                format!(
                    "a pooler in transaction mode stands in between: one connection met the \
                     sessions {} and {}, so locks and settings of a session are lost",
                    first.get(1).map_or("?", String::as_str),
                    second.get(1).map_or("?", String::as_str)
                ),
                "name PostgreSQL itself in the store's URL, or give Baton a pool of its own with \
                 pool_mode = session",
            ));
        }
        let row = self.settings().await?;
        let idle: i64 = row.get("idle_in_transaction");
        let limit = i64::try_from(IDLE_IN_TRANSACTION_LIMIT.as_millis()).unwrap_or(i64::MAX);
        let plans: &str = row.get("plan_cache_mode");
        if idle != limit || plans != "force_generic_plan" {
            return Ok(Found::failed(
                format!(
                    "settings of our sessions do not arrive (idle_in_transaction_session_timeout \
                     is {idle} ms, not {limit}): a pooler in between drops them"
                ),
                "name PostgreSQL itself in the store's URL; pgbouncer drops them with \
                 ignore_startup_parameters = options",
            ));
        }
        Ok(Found::passed("sessions reach PostgreSQL as they are made: no pooler is in the way"))
    }

    async fn look_at_standbys(&self, row: &Row) -> Result<Found> {
        if row.get("is_standby") {
            return Ok(Found::failed(
                "this is a standby: it only reads",
                "name all hosts in the store's URL and add target_session_attrs=read-write",
            ));
        }
        let sql = include_str!("../../sql/postgres/examine_standbys.sql");
        let rows = self.database.query(sql, &[]).await?;
        let standbys: Vec<(&str, &str)> =
            rows.iter().map(|row| (row.get("name"), row.get("sync_state"))).collect();
        Ok(standby(&standbys, row.get("synchronous_commit"), row.get("user_name")))
    }
}

/// The values of the first row of an answer.
fn words(answer: &[SimpleQueryMessage]) -> Vec<String> {
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let Some(row) = row else { return Vec::new() };
    (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect()
}

fn version(row: &Row) -> Found {
    let (version, number): (&str, i32) = (row.get("version"), row.get("version_number"));
    match number >= VERSION_MIN {
        true => Found::passed(format!("PostgreSQL {version}")),
        false => Found::failed(
            format!("PostgreSQL {version} is older than 15"),
            "bring the server to version 15 or later (pg_upgrade)",
        ),
    }
}

fn durable(row: &Row) -> Found {
    let (fsync, pages): (bool, bool) = (row.get("fsync"), row.get("full_page_writes"));
    let commit: &str = row.get("synchronous_commit");
    let isolation: &str = row.get("isolation");
    if !fsync || !pages {
        return Found::failed(
            "fsync or full_page_writes is off: when the server's machine fails, messages and \
             epochs that were answered for may be gone, or the whole database",
            "set fsync = on and full_page_writes = on in postgresql.conf, and reload",
        );
    }
    if matches!(commit, "off" | "local") {
        return Found::warning(
            format!(
                "synchronous_commit is {commit}: a commit is answered before it is on disk (or on \
                 the synchronous standby), so messages that were taken in may be lost"
            ),
            "set synchronous_commit = on for Baton's role and database",
        );
    }
    Found::passed(format!(
        "a commit is on disk before it is answered (fsync on, synchronous_commit {commit}), at \
         {isolation}"
    ))
}

fn standby(standbys: &[(&str, &str)], commit: &str, user: &str) -> Found {
    let names: Vec<&str> = standbys.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    if standbys.is_empty() {
        return Found::warning(
            "a single PostgreSQL is a single point of failure: while it is away nothing is \
             received or sent, and what is on its disk is the only copy",
            "add a standby with synchronous replication (synchronous_standby_names), and name \
             both hosts in the store's URL with target_session_attrs=read-write",
        );
    }
    if standbys.iter().all(|(_, state)| state.is_empty()) {
        return Found::warning(
            format!("standbys ({names}) are there, but this user may not see how they replicate"),
            format!("GRANT pg_monitor TO {user}"),
        );
    }
    let in_step = standbys.iter().any(|(_, state)| matches!(*state, "sync" | "quorum"));
    if in_step && !matches!(commit, "off" | "local") {
        return Found::passed(format!("replicated synchronously ({names})"));
    }
    Found::warning(
        format!(
            "replication is asynchronous ({names}): a standby that is promoted may lack the last \
             messages, and give an epoch a second time"
        ),
        "set synchronous_standby_names to name the standbys, and keep synchronous_commit on",
    )
}

fn idle_timeout(row: &Row) -> Found {
    let idle: i64 = row.get("idle_session");
    match idle {
        0 => Found::passed("quiet sessions are not ended by the server"),
        _ => Found::warning(
            format!(
                "idle_session_timeout ends sessions after {idle} ms, also those that hold a \
                     node's liveness lock or wait for hints"
            ),
            "set idle_session_timeout = 0 for Baton's role",
        ),
    }
}

fn room(row: &Row) -> Found {
    let (most, used): (i64, i64) = (row.get("connections_max"), row.get("connections"));
    let megabytes = row.get::<_, i64>("bytes") / 1_000_000;
    let what = format!(
        "{used} of {most} connections are in use; the database has {megabytes} MB (the server's \
         disk cannot be seen from here)"
    );
    let free = (most - used) as f64 / most.max(1) as f64;
    match free >= CONNECTIONS_FREE_MIN {
        true => Found::passed(what),
        false => Found::warning(
            what,
            "raise max_connections: a node needs up to 14, and each host process as many as its \
             pool",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standbys_are_judged() {
        for (standbys, commit, result, says) in [
            (&[][..], "on", FindingResult::Warning, "single point of failure"),
            (&[("two", "async")], "on", FindingResult::Warning, "asynchronous"),
            (&[("two", "async"), ("three", "sync")], "on", FindingResult::Passed, "three"),
            (&[("two", "quorum")], "off", FindingResult::Warning, "asynchronous"),
            (&[("two", "")], "on", FindingResult::Warning, "may not see"),
        ] {
            let found = standby(standbys, commit, "baton");
            assert_eq!(found.result, result, "{found:?}");
            assert!(format!("{found:?}").contains(says), "{found:?}");
        }
    }
}
