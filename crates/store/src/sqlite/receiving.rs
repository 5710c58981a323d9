//! Receiving: receipts, staged bodies, publish.

use bytes::Bytes;
use model::{BodyId, Epoch, LeaseName};
use rusqlite::{CachedStatement, Connection, params};
use uuid::Uuid;

use super::leases::check;
use super::rows::{
    body_id, count, get, message_id, row, rows, run, signed, sql, state, timestamp,
    timestamp_or_none, to_json,
};
use super::view::version_in_force;
use super::writer::Transaction;
use crate::{
    Body, CHUNK_BYTES, Fence, INLINE_BYTES_MAX, InFlight, LIST_ROWS_MAX, NewMessage, PublishBatch,
    Published, Receipt, Result, Staged, StoreError, Topic,
};

/// What operators read at a message that nobody subscribes to.
const NO_ROUTE: &str = "no send port subscribes to this message";

pub(super) fn receipts(
    connection: &Connection,
    source: &str,
    keys: &[String],
) -> Result<Vec<Receipt>> {
    let mut found = Vec::new();
    for key in keys {
        let receipt = row(connection, sql!("receipts"), [source, key], |row| {
            let message = message_id(row, 1)?;
            Ok(Receipt { key: get(row, 0)?, message, closed: get(row, 2)? })
        })?;
        found.extend(receipt);
    }
    Ok(found)
}

/// What was open when a lease changed hands to an epoch.
pub(super) fn in_flight(
    connection: &Connection,
    lease: &LeaseName,
    epoch: Epoch,
    limit: usize,
) -> Result<Vec<InFlight>> {
    let limit = signed(limit.min(LIST_ROWS_MAX) as u64);
    let asked = params![lease.to_string(), signed(epoch.0), limit];
    rows(connection, sql!("in_flight"), asked, |row| {
        Ok(InFlight {
            source: get(row, 0)?,
            key: get(row, 1)?,
            message: message_id(row, 2)?,
            received_at: timestamp(row, 3)?,
            closed_at: timestamp_or_none(row, 4)?,
        })
    })
}

pub(super) fn open_receipts(
    connection: &Connection,
    source: &str,
    limit: usize,
) -> Result<Vec<String>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    rows(connection, sql!("open_receipts"), params![source, limit], |row| get(row, 0))
}

pub(super) fn stage(
    transaction: &Transaction<'_>,
    fence: &Fence,
    source: &str,
    key: &str,
) -> Result<Staged> {
    let connection = transaction.connection;
    check(connection, fence)?;
    let begun = row(connection, sql!("stage"), [source, key], |row| {
        Ok(Staged { body: body_id(row, 0)?, offset: count(row, 1)? })
    })?;
    if let Some(staged) = begun {
        return Ok(staged);
    }
    let body = BodyId(Uuid::now_v7());
    let new = params![body.0.as_bytes(), source, key, transaction.now.0];
    run(connection, sql!("stage_new"), new)?;
    Ok(Staged { body, offset: 0 })
}

pub(super) fn append(
    transaction: &Transaction<'_>,
    fence: &Fence,
    body: BodyId,
    offset: u64,
    chunk: &Bytes,
) -> Result<()> {
    let connection = transaction.connection;
    check(connection, fence)?;
    if chunk.len() > CHUNK_BYTES {
        return Err(StoreError::Refused(format!(
            "a chunk of {} bytes is larger than {CHUNK_BYTES}",
            chunk.len()
        )));
    }
    let (id, at) = (body.0.as_bytes(), signed(offset));
    let grown = params![id, at, signed(chunk.len() as u64), transaction.now.0];
    if run(connection, sql!("append"), grown)? == 0 {
        return Err(not_at(connection, body, &format!("a chunk at offset {offset}"))?);
    }
    if !chunk.is_empty() {
        run(connection, sql!("append_chunk"), params![id, at, chunk.as_ref()])?;
    }
    Ok(())
}

/// Why something does not fit a staged body.
fn not_at(connection: &Connection, body: BodyId, what: &str) -> Result<StoreError> {
    let found = row(connection, sql!("append_refused"), [body.0.as_bytes()], |row| {
        Ok((count(row, 0)?, get::<bool>(row, 1)?))
    })?;
    Ok(StoreError::Refused(match found {
        None => format!("body {body} is not there, or was discarded: stage it again"),
        Some((_, true)) => format!("body {body} is part of a message already"),
        Some((bytes, false)) => format!("body {body} ends at {bytes}, {what} does not fit"),
    }))
}

pub(super) fn discard(transaction: &Transaction<'_>, fence: &Fence, body: BodyId) -> Result<()> {
    check(transaction.connection, fence)?;
    let dropped = params![body.0.as_bytes(), transaction.now.0];
    if run(transaction.connection, sql!("discard"), dropped)? > 0 {
        drop_body(transaction, body)?;
    }
    Ok(())
}

/// Chunks that go at once with their body. A body of some gigabytes would hold up everybody; the
/// rest of it is swept.
const CHUNKS_DROPPED_AT_ONCE: i64 = 16;

/// Drops a body that nobody refers to: at once if it is small, else it is left to the sweep.
pub(super) fn drop_body(transaction: &Transaction<'_>, body: BodyId) -> Result<()> {
    if drop_chunks(transaction.connection, body, CHUNKS_DROPPED_AT_ONCE)? == 0 {
        let later = params![body.0.as_bytes(), transaction.now.0];
        run(transaction.connection, sql!("drop_body_later"), later)?;
    }
    Ok(())
}

/// Drops chunks of a body, and the body with the last of them. Answers how many more there might
/// have been; none if some are left.
pub(super) fn drop_chunks(connection: &Connection, body: BodyId, most: i64) -> Result<i64> {
    let id = body.0.as_bytes();
    let dropped = run(connection, sql!("drop_chunks"), params![id, most])?;
    let rest = most - i64::try_from(dropped).unwrap_or(most);
    if rest > 0 {
        run(connection, sql!("drop_body"), [id])?;
    }
    Ok(rest)
}

pub(super) fn publish(
    transaction: &Transaction<'_>,
    fence: &Fence,
    batch: &PublishBatch,
) -> Result<Published> {
    check(transaction.connection, fence)?;
    let now = version_in_force(transaction.connection)?;
    if batch.definitions_version != now {
        return Err(StoreError::StaleRoutes { seen: batch.definitions_version, now });
    }
    let mut published = Published::default();
    let mut publish = Publish::prepare(transaction, fence)?;
    for message in batch.messages.iter() {
        transaction.check_hold()?;
        if publish.is_duplicate(message)? {
            published.duplicates.push(message.id);
        } else {
            publish.add(message)?;
        }
    }
    if published.duplicates.len() < batch.messages.len() {
        transaction.wake(Topic::Work);
    }
    Ok(published)
}

/// The statements of a publish, prepared once for all its messages.
struct Publish<'a> {
    transaction: &'a Transaction<'a>,
    lease: String,
    epoch: i64,
    receipt: CachedStatement<'a>,
    message: CachedStatement<'a>,
    work: CachedStatement<'a>,
}

impl<'a> Publish<'a> {
    fn prepare(transaction: &'a Transaction<'a>, fence: &Fence) -> Result<Publish<'a>> {
        let connection = transaction.connection;
        Ok(Publish {
            transaction,
            lease: fence.lease().to_string(),
            epoch: signed(fence.epoch().0),
            receipt: connection.prepare_cached(sql!("publish_receipt"))?,
            message: connection.prepare_cached(sql!("publish"))?,
            work: connection.prepare_cached(sql!("publish_work"))?,
        })
    }

    /// Writes the receipt of a message's item, unless there is an open one.
    fn is_duplicate(&mut self, message: &NewMessage) -> Result<bool> {
        let Some((source, key)) = &message.receipt else { return Ok(false) };
        let id = message.id.0.as_bytes();
        let now = self.transaction.now.0;
        let receipt = params![source, key, id, self.lease, self.epoch, now];
        Ok(self.receipt.execute(receipt)? == 0)
    }

    fn add(&mut self, message: &NewMessage) -> Result<()> {
        let Place { inline, chunks, bytes } = place(self.transaction, &message.body)?;
        let (id, now) = (message.id.0.as_bytes(), self.transaction.now.0);
        self.message.execute(params![
            id,
            now,
            message.publisher,
            self.lease,
            self.epoch,
            to_json(&message.context)?,
            signed(bytes),
            inline,
            chunks.as_ref().map(|chunks| chunks.0.as_bytes()),
            signed(message.routes.len().max(1) as u64),
        ])?;
        let row = self.transaction.connection.last_insert_rowid();
        let no_error: Option<&str> = None;
        for route in &message.routes {
            let ready = params![row, route.host, route.port, state::READY, now, no_error];
            self.work.execute(ready)?;
        }
        if message.routes.is_empty() {
            self.work.execute(params![row, "", "", state::SUSPENDED, now, NO_ROUTE])?;
        }
        Ok(())
    }
}

/// Where the body of a message is: in its row, or in chunks.
struct Place<'m> {
    inline: Option<&'m [u8]>,
    chunks: Option<BodyId>,
    bytes: u64,
}

fn place<'m>(transaction: &Transaction<'_>, body: &'m Body) -> Result<Place<'m>> {
    match body {
        Body::Memory(memory) => {
            let bytes = memory.len() as u64;
            if memory.len() <= INLINE_BYTES_MAX {
                return Ok(Place { inline: Some(memory.as_ref()), chunks: None, bytes });
            }
            Ok(Place { inline: None, chunks: Some(publish_chunks(transaction, memory)?), bytes })
        }
        Body::Staged { id, bytes } => {
            let whole = params![id.0.as_bytes(), signed(*bytes), transaction.now.0];
            if run(transaction.connection, sql!("publish_staged"), whole)? == 0 {
                let what = format!("a length of {bytes}");
                return Err(not_at(transaction.connection, *id, &what)?);
            }
            Ok(Place { inline: None, chunks: Some(*id), bytes: *bytes })
        }
    }
}

/// Adds a row of work that is ready.
pub(super) fn add_work(
    transaction: &Transaction<'_>,
    message_row: i64,
    host: &str,
    port: &str,
) -> Result<()> {
    let now = transaction.now.0;
    let ready = params![message_row, host, port, state::READY, now, rusqlite::types::Null];
    run(transaction.connection, sql!("publish_work"), ready)?;
    Ok(())
}

/// Stores a large body that is in memory.
fn publish_chunks(transaction: &Transaction<'_>, bytes: &Bytes) -> Result<BodyId> {
    let connection = transaction.connection;
    let body = BodyId(Uuid::now_v7());
    let row = params![body.0.as_bytes(), signed(bytes.len() as u64), transaction.now.0];
    run(connection, sql!("publish_body"), row)?;
    for (number, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
        transaction.check_hold()?;
        let offset = signed((number * CHUNK_BYTES) as u64);
        run(connection, sql!("append_chunk"), params![body.0.as_bytes(), offset, chunk])?;
    }
    Ok(body)
}

pub(super) fn close_receipts(
    transaction: &Transaction<'_>,
    fence: &Fence,
    source: &str,
    keys: &[String],
) -> Result<()> {
    check(transaction.connection, fence)?;
    for key in keys {
        transaction.check_hold()?;
        let closed = params![source, key, transaction.now.0];
        run(transaction.connection, sql!("close_receipts"), closed)?;
    }
    Ok(())
}
