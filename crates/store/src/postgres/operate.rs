//! For operators, and upkeep: reports of locations, and what is swept away.

use std::time::{Duration, Instant};

use cluster::HISTORY_KEPT;
use model::{Epoch, Millis, Timestamp};
use tokio_postgres::Row;

use super::Postgres;
use super::cluster::member_names;
use super::text::plain;
use super::transaction::step;
use crate::{EVENTS_KEPT, EVENTS_KEPT_MAX, LocationReport, Result, StoreError};

/// What one statement of a sweep removes, so that it holds no lock for long.
const SWEEP_ROWS: i64 = 5000;

/// The same for chunks of a megabyte.
const SWEEP_CHUNKS: i64 = 128;

/// A sweep goes on as long as there is something, but no longer than this; the next one goes on.
const SWEEP_LIMIT: Duration = Duration::from_secs(2);

/// Entries of the history that are kept however old they are.
const HISTORY_ENTRIES_KEPT: i64 = 10_000;

impl Postgres {
    pub(super) async fn keep_report(&self, report: &LocationReport) -> Result<()> {
        let millis = |at: Option<Timestamp>| at.map(|at| at.0);
        self.database
            .query(
                include_str!("../../sql/postgres/report_location.sql"),
                &[
                    &plain(&report.location),
                    &report.node.as_str(),
                    &report.epoch.0.cast_signed(),
                    &millis(report.active_since),
                    &millis(report.last_success_at),
                    &millis(report.last_error_at),
                    &report.last_error.as_deref().map(plain),
                    &report.received.cast_signed(),
                    &plain(&report.guarantee),
                ],
            )
            .await?;
        Ok(())
    }

    pub(super) async fn read_locations(&self) -> Result<Vec<LocationReport>> {
        let sql = include_str!("../../sql/postgres/locations.sql");
        let rows = self.database.query(sql, &[]).await?;
        rows.iter().map(report_of).collect()
    }

    pub(super) async fn sweep_away(&self, older_than: Millis) -> Result<()> {
        let deadline = Instant::now() + SWEEP_LIMIT;
        let older = older_than.0.cast_signed();
        let receipts = include_str!("../../sql/postgres/sweep_receipts.sql");
        let abandoned = include_str!("../../sql/postgres/sweep_abandoned.sql");
        let dropped = include_str!("../../sql/postgres/sweep_bodies.sql");
        let (events_kept, events_max) =
            (EVENTS_KEPT.0.cast_signed(), EVENTS_KEPT_MAX.cast_signed());
        let events = include_str!("../../sql/postgres/sweep_events.sql");
        let mut left = true;
        while left && Instant::now() < deadline {
            let swept = self
                .database
                .at_once(
                    "BEGIN",
                    &[
                        step(receipts, &[&older, &SWEEP_ROWS]),
                        step(abandoned, &[&older, &SWEEP_ROWS]),
                        step(dropped, &[&SWEEP_CHUNKS]),
                        step(events, &[&events_kept, &events_max, &SWEEP_ROWS]),
                    ],
                )
                .await?;
            left = swept.iter().flatten().any(|row| row.get::<_, i64>(0) > 0);
        }
        let kept = HISTORY_KEPT.0.cast_signed().max(older);
        let history = include_str!("../../sql/postgres/sweep_history.sql");
        self.database.query(history, &[&kept, &HISTORY_ENTRIES_KEPT]).await?;
        let (version, definitions) = self.read_definitions().await?;
        let (members, version) = (member_names(&definitions), version.cast_signed());
        let reports = include_str!("../../sql/postgres/forget_reports.sql");
        self.database.query(reports, &[&members, &version]).await?;
        Ok(())
    }

    pub(super) async fn read_clock(&self) -> Result<Timestamp> {
        let rows = self.database.query(include_str!("../../sql/postgres/now.sql"), &[]).await?;
        let now = rows.first().map(|row| Timestamp(row.get(0)));
        now.ok_or_else(|| StoreError::Corrupt("the store's clock said nothing".to_owned()))
    }
}

fn report_of(row: &Row) -> Result<LocationReport> {
    let node: &str = row.get("node");
    let at = |column| row.get::<_, Option<i64>>(column).map(Timestamp);
    Ok(LocationReport {
        location: row.get("location"),
        node: node.parse().map_err(|error| StoreError::Corrupt(format!("{error}")))?,
        epoch: Epoch(row.get::<_, i64>("epoch").cast_unsigned()),
        active_since: at("active_since"),
        last_success_at: at("last_success_at"),
        last_error_at: at("last_error_at"),
        last_error: row.get("last_error"),
        received: row.get::<_, i64>("received").cast_unsigned(),
        guarantee: row.get("guarantee"),
    })
}
