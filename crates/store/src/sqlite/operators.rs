//! For operators, and upkeep: reports, backlogs, resume, terminate, sweep.

use std::collections::BTreeMap;

use cluster::HISTORY_KEPT;
use model::{MessageId, Millis, WorkId};
use rusqlite::{Connection, Row, params};

use super::orders;
use super::receiving::{add_work, drop_chunks};
use super::rows::{
    body_id, body_id_or_none, count, epoch, get, json, message_id, node, row, rows, run, signed,
    sql, state, timestamp, timestamp_or_none, to_json, work_state,
};
use super::sending::{End, ending};
use super::view::Known;
use super::writer::Transaction;
use crate::{Backlog, LocationReport, Result, Route, Topic, WorkQuery, WorkState, WorkView};

/// Most rows of a kind that one sweep removes, so that it holds up nobody.
const SWEEP_ROWS_MAX: i64 = 1000;

/// Most chunks that one sweep removes: some 64 MiB of pages to be freed.
const SWEEP_CHUNKS_MAX: i64 = 64;

/// Entries of the ownership history that are kept however old they are.
const HISTORY_ROWS_KEPT: i64 = 10_000;

pub(super) fn report_location(
    transaction: &Transaction<'_>,
    report: &LocationReport,
) -> Result<()> {
    let row = params![
        report.location,
        report.node.as_str(),
        signed(report.epoch.0),
        report.active_since.map(|at| at.0),
        report.last_success_at.map(|at| at.0),
        report.last_error_at.map(|at| at.0),
        report.last_error,
        signed(report.received),
        report.guarantee,
    ];
    run(transaction.connection, sql!("report_location"), row)?;
    Ok(())
}

pub(super) fn locations(connection: &Connection) -> Result<Vec<LocationReport>> {
    rows(connection, sql!("locations"), [], |row| {
        Ok(LocationReport {
            location: get(row, 0)?,
            node: node(row, 1)?,
            epoch: epoch(row, 2)?,
            active_since: timestamp_or_none(row, 3)?,
            last_success_at: timestamp_or_none(row, 4)?,
            last_error_at: timestamp_or_none(row, 5)?,
            last_error: get(row, 6)?,
            received: count(row, 7)?,
            guarantee: get(row, 8)?,
        })
    })
}

pub(super) fn backlog(connection: &Connection) -> Result<Vec<Backlog>> {
    rows(connection, sql!("backlog"), [], |row| {
        Ok(Backlog {
            host: get(row, 0)?,
            port: get(row, 1)?,
            state: work_state(row, 2)?,
            count: count(row, 3)?,
            oldest_at: timestamp_or_none(row, 4)?,
        })
    })
}

pub(super) fn list_work(connection: &Connection, query: &WorkQuery) -> Result<Vec<WorkView>> {
    let state = query.state.map(|state| match state {
        WorkState::Ready => state::READY,
        WorkState::Active => state::ACTIVE,
        WorkState::Suspended => state::SUSPENDED,
    });
    let limit = signed(query.rows_max() as u64);
    let (after, port) = (query.after.0, &query.port);
    let named = |statement, names: String| {
        rows(connection, statement, params![state, port, after, limit, names], work_view)
    };
    if !query.ids.is_empty() {
        return named(sql!("list_work_ids"), to_json(&query.ids)?);
    }
    if !query.messages.is_empty() {
        let hex = |message: &MessageId| message.0.simple().to_string();
        let messages: Vec<String> = query.messages.iter().map(hex).collect();
        return named(sql!("list_work_messages"), to_json(&messages)?);
    }
    rows(connection, sql!("list_work"), params![state, port, after, limit], work_view)
}

fn work_view(row: &Row<'_>) -> Result<WorkView> {
    let message = message_id(row, 1)?;
    Ok(WorkView {
        id: WorkId(get(row, 0)?),
        message,
        port: get(row, 2)?,
        host: get(row, 3)?,
        state: work_state(row, 4)?,
        attempts: get(row, 5)?,
        ready_at: timestamp(row, 6)?,
        error: get(row, 7)?,
        published_at: timestamp(row, 8)?,
        publisher: get(row, 9)?,
        context: json(&get::<String>(row, 10)?, &format!("the context of message {message}"))?,
        body_bytes: count(row, 11)?,
        body: get::<Option<Vec<u8>>>(row, 12)?.map(Into::into),
        body_id: body_id_or_none(row, 13)?,
    })
}

pub(super) fn resume(
    transaction: &Transaction<'_>,
    work: &[WorkId],
    routes: &BTreeMap<WorkId, Vec<Route>>,
) -> Result<u64> {
    let connection = transaction.connection;
    let mut resumed = 0;
    for id in work {
        transaction.check_hold()?;
        let ready = run(connection, sql!("resume"), params![id.0, transaction.now.0])? > 0;
        let routes = routes.get(id).map_or([].as_slice(), Vec::as_slice);
        if ready || resume_routed(transaction, *id, routes)? {
            resumed += 1;
        }
    }
    if resumed > 0 {
        transaction.wake(Topic::Work);
    }
    Ok(resumed)
}

/// Sends a routing failure along routes that it has now; without any it stays suspended.
fn resume_routed(transaction: &Transaction<'_>, id: WorkId, routes: &[Route]) -> Result<bool> {
    if routes.is_empty() {
        return Ok(false);
    }
    let connection = transaction.connection;
    let message: Option<i64> = row(connection, sql!("resume_routed"), [id.0], |row| get(row, 0))?;
    let Some(message) = message else { return Ok(false) };
    for route in routes {
        add_work(transaction, message, &route.host, &route.port)?;
    }
    let more = signed(routes.len() as u64 - 1);
    run(connection, sql!("resume_fan_out"), params![message, more])?;
    Ok(true)
}

pub(super) fn terminate(transaction: &Transaction<'_>, work: &[WorkId]) -> Result<u64> {
    let mut end = End::prepare(transaction)?;
    let mut ended = 0;
    for id in work {
        transaction.check_hold()?;
        if let Some(ending) = row(transaction.connection, sql!("terminate"), [id.0], ending)? {
            end.work(*id, &ending)?;
            ended += 1;
        }
    }
    Ok(ended)
}

pub(super) fn sweep(
    transaction: &Transaction<'_>,
    older_than: Millis,
    known: &Known,
) -> Result<()> {
    let connection = transaction.connection;
    let now = transaction.now.0;
    let before = now.saturating_sub(signed(older_than.0));
    run(connection, sql!("sweep_receipts"), params![before, SWEEP_ROWS_MAX])?;
    run(connection, sql!("sweep_abandoned"), params![before, now, SWEEP_ROWS_MAX])?;
    let dropped = [SWEEP_CHUNKS_MAX];
    let mut rest = SWEEP_CHUNKS_MAX;
    for body in rows(connection, sql!("sweep_bodies"), dropped, |row| body_id(row, 0))? {
        rest = drop_chunks(connection, body, rest)?;
        if rest == 0 {
            break;
        }
    }
    let kept_since = now.saturating_sub(signed(HISTORY_KEPT.0));
    let forgotten = params![kept_since, HISTORY_ROWS_KEPT, SWEEP_ROWS_MAX];
    run(connection, sql!("sweep_history"), forgotten)?;
    orders::sweep(transaction, SWEEP_ROWS_MAX)?;
    let (_, definitions) = known.in_force(connection)?;
    orders::forget_reports(connection, &definitions)?;
    Ok(())
}
