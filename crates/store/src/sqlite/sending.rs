//! Sending: take, read, settle.

use bytes::Bytes;
use model::{BodyId, Millis, Timestamp, WorkId};
use rusqlite::{CachedStatement, Connection, Row, params};

use super::database::now;
use super::leases::check;
use super::receiving::drop_body;
use super::rows::{
    body_id_or_none, count, get, json, message_id, row, row_of, run, signed, sql, state,
    timestamp_or_none,
};
use super::writer::Transaction;
use crate::{Fence, INLINE_BYTES_MAX, Outcome, Result, Settlement, Topic, Work, WorkBody};

/// Most rows of one take; more would be held in memory for long before they are sent.
const TAKE_ROWS_MAX: usize = 1000;

/// Bytes of inline bodies after which a take is full.
const TAKE_BYTES_MAX: usize = 256 * INLINE_BYTES_MAX;

/// Whether a take would find anything; a reader's question, so that idle workers do not queue for
/// the write lock. What is not there yet will wake them.
pub(super) fn look(connection: &Connection, fence: &Fence, host: &str) -> Result<bool> {
    check(connection, fence)?;
    let found = row(connection, sql!("take_look"), params![host, now().0], |row| get(row, 0))?;
    Ok(found.unwrap_or(false))
}

pub(super) fn take(
    transaction: &Transaction<'_>,
    fence: &Fence,
    host: &str,
    limit: usize,
) -> Result<Vec<Work>> {
    let connection = transaction.connection;
    check(connection, fence)?;
    run(connection, sql!("take_due"), params![host, transaction.now.0])?;
    let taken = read_ready(connection, host, limit.min(TAKE_ROWS_MAX))?;
    let (lease, epoch) = (fence.lease().to_string(), signed(fence.epoch().0));
    if let Some(last) = taken.last() {
        run(connection, sql!("take_hold"), params![host, last.id.0, lease, epoch])?;
    }
    Ok(taken)
}

fn read_ready(connection: &Connection, host: &str, limit: usize) -> Result<Vec<Work>> {
    let mut statement = connection.prepare_cached(sql!("take"))?;
    let mut rows = statement.query(params![host, signed(limit as u64)])?;
    let mut taken = Vec::new();
    let mut bytes = 0;
    while bytes < TAKE_BYTES_MAX
        && let Some(row) = rows.next()?
    {
        let work = work(row)?;
        if let WorkBody::Inline(body) = &work.body {
            bytes += body.len();
        }
        taken.push(work);
    }
    Ok(taken)
}

fn work(row: &Row<'_>) -> Result<Work> {
    let message = message_id(row, 2)?;
    let body = match body_id_or_none(row, 6)? {
        Some(id) => WorkBody::Chunks(id),
        None => WorkBody::Inline(get::<Option<Vec<u8>>>(row, 5)?.unwrap_or_default().into()),
    };
    Ok(Work {
        id: WorkId(get(row, 0)?),
        port: get(row, 1)?,
        message,
        context: json(&get::<String>(row, 3)?, &format!("the context of message {message}"))?,
        body_bytes: count(row, 4)?,
        body,
        attempts: get(row, 7)?,
        maybe_delivered: get(row, 8)?,
    })
}

pub(super) fn read_body(
    connection: &Connection,
    body: BodyId,
    offset: u64,
    limit: usize,
) -> Result<Bytes> {
    let wanted = params![body.0.as_bytes(), signed(offset), signed(limit as u64)];
    let piece = row(connection, sql!("read_body"), wanted, |row| get::<Vec<u8>>(row, 0))?;
    Ok(piece.unwrap_or_default().into())
}

pub(super) fn give_back(
    transaction: &Transaction<'_>,
    fence: &Fence,
    host: &str,
    in_flight: &[WorkId],
) -> Result<()> {
    check(transaction.connection, fence)?;
    let ids: Vec<String> = in_flight.iter().map(ToString::to_string).collect();
    let (lease, epoch) = (fence.lease().to_string(), signed(fence.epoch().0));
    let held = params![lease, epoch, host, format!("[{}]", ids.join(","))];
    if run(transaction.connection, sql!("give_back"), held)? > 0 {
        transaction.wake(Topic::Work);
    }
    Ok(())
}

pub(super) fn settle(
    transaction: &Transaction<'_>,
    fence: &Fence,
    settlements: &[Settlement],
) -> Result<()> {
    check(transaction.connection, fence)?;
    let mut settle = Settle {
        transaction,
        lease: fence.lease().to_string(),
        epoch: signed(fence.epoch().0),
        held: transaction.connection.prepare_cached(sql!("settle_held"))?,
        end: End::prepare(transaction)?,
    };
    for settlement in settlements {
        transaction.check_hold()?;
        settle.one(settlement)?;
    }
    Ok(())
}

/// The statements of a settle, prepared once for all its rows.
struct Settle<'a> {
    transaction: &'a Transaction<'a>,
    lease: String,
    epoch: i64,
    held: CachedStatement<'a>,
    end: End<'a>,
}

impl Settle<'_> {
    /// Work that is not held at this epoch is left alone: it was settled before, and the answer
    /// got lost, or an operator was faster.
    fn one(&mut self, settlement: &Settlement) -> Result<()> {
        let now = self.transaction.now;
        match &settlement.outcome {
            Outcome::Done => {
                let held = params![settlement.work.0, self.lease, self.epoch];
                let ending = row_of(&mut self.held, held, ending)?;
                ending.map_or(Ok(()), |ending| self.end.work(settlement.work, &ending))
            }
            Outcome::Return => self.keep(settlement, state::READY, None, 0, None),
            Outcome::Retry { after, error } => {
                let ready_at = Some(now.after(*after));
                self.keep(settlement, state::POSTPONED, ready_at, 1, Some(error))
            }
            Outcome::Suspend { error } => {
                self.keep(settlement, state::SUSPENDED, None, 1, Some(error))
            }
        }
    }

    fn keep(
        &self,
        settlement: &Settlement,
        state: i64,
        ready_at: Option<Timestamp>,
        tries: i64,
        error: Option<&String>,
    ) -> Result<()> {
        let Settlement { work, maybe_delivered, .. } = settlement;
        let ready_at = ready_at.map(|at| at.0);
        let (lease, epoch) = (&self.lease, self.epoch);
        let kept = params![work.0, lease, epoch, state, ready_at, tries, error, maybe_delivered];
        if run(self.transaction.connection, sql!("settle_other"), kept)? > 0 {
            // Also for a retry: whoever sleeps until the next one must hear of an earlier one.
            self.transaction.wake(Topic::Work);
        }
        Ok(())
    }
}

/// What becomes of a message when one of its rows of work ends.
pub(super) struct Ending {
    message_row: i64,
    work_rows: i64,
    body: Option<BodyId>,
}

/// Reads what `settle_held` and `terminate` select.
pub(super) fn ending(row: &Row<'_>) -> Result<Ending> {
    let body = body_id_or_none(row, 2)?;
    Ok(Ending { message_row: get(row, 0)?, work_rows: get(row, 1)?, body })
}

/// The statements that end work.
pub(super) struct End<'a> {
    transaction: &'a Transaction<'a>,
    work: CachedStatement<'a>,
    message: CachedStatement<'a>,
}

impl<'a> End<'a> {
    pub(super) fn prepare(transaction: &'a Transaction<'a>) -> Result<End<'a>> {
        let work = transaction.connection.prepare_cached(sql!("end_work"))?;
        let message = transaction.connection.prepare_cached(sql!("end_message"))?;
        Ok(End { transaction, work, message })
    }

    /// Ends a row of work; its message goes with the last one.
    pub(super) fn work(&mut self, work: WorkId, ending: &Ending) -> Result<()> {
        self.work.execute([work.0])?;
        if ending.work_rows > 1 {
            run(self.transaction.connection, sql!("end_message_part"), [ending.message_row])?;
            return Ok(());
        }
        self.message.execute([ending.message_row])?;
        ending.body.map_or(Ok(()), |body| drop_body(self.transaction, body))
    }
}

pub(super) fn next_ready_at(connection: &Connection, host: &str) -> Result<Option<Millis>> {
    let first = row(connection, sql!("next_ready_at"), [host], |row| timestamp_or_none(row, 0))?;
    Ok(first.flatten().map(|at: Timestamp| at.since(now())))
}
