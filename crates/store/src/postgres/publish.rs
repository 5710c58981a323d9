//! Receiving: publish with receipts, and the receipts themselves.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use model::MessageId;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Postgres;
use super::text::{key, plain};
use super::transaction::{Step, Transaction};
use crate::{
    Body, CHUNK_BYTES, Fence, INLINE_BYTES_MAX, NewMessage, PublishBatch, Published, Receipt,
    Result, StoreError, Topic,
};

/// One statement carries at most so many bytes of bodies and contexts (the protocol's own limit is
/// 1 GB), and so many messages, so that the memory of a server process stays small.
const SLICE_BYTES_MAX: usize = 16 * 1024 * 1024;
const SLICE_MESSAGES_MAX: usize = 2000;

/// Slices in one round trip: with the fence in front still in order (see `STEPS_MAX`).
const SLICES_AT_ONCE: usize = 8;

/// Chunks in one round trip: what is on its way stands in memory twice.
const CHUNKS_AT_ONCE: usize = 8;

/// What operators read at a message that nobody subscribes to.
const NO_ROUTE: &str = "no send port subscribes to this message";

impl Postgres {
    pub(super) async fn publish_batch(
        &self,
        fence: &Fence,
        batch: &PublishBatch,
    ) -> Result<Published> {
        if batch.messages.is_empty() {
            return Ok(Published::default());
        }
        let outgoing = Outgoing::of(fence, batch);
        let slices = outgoing.slices()?;
        let params: Vec<[&(dyn ToSql + Sync); 16]> =
            slices.iter().map(|slice| slice.params(&outgoing)).collect();
        let steps: Vec<Step<'_>> = params
            .iter()
            .map(|params| Step { sql: include_str!("../../sql/postgres/publish.sql"), params })
            .collect();
        let version = Some(batch.definitions_version);
        let left_out = if outgoing.is_inline() && steps.len() <= SLICES_AT_ONCE {
            let rows = self.database.fenced_and_routed(fence, version, &steps).await?;
            LeftOut::of(rows.iter().flatten())
        } else {
            let (first, rest) = steps.split_at(steps.len().min(SLICES_AT_ONCE));
            let (transaction, mut rows) = self.database.begin_fenced(fence, version, first).await?;
            for more in rest.chunks(SLICES_AT_ONCE) {
                rows.extend(transaction.run(more).await?);
            }
            let left_out = LeftOut::of(rows.iter().flatten());
            if let Err(refusal) = outgoing.check_staged(&left_out) {
                transaction.roll_back().await;
                return Err(refusal);
            }
            outgoing.write_chunks(&transaction, &left_out).await?;
            transaction.commit(&[]).await?;
            left_out
        };
        self.hints.announce(&self.tasks, Topic::Work);
        let duplicates = batch.messages.iter().map(|message| message.id);
        let duplicates = duplicates
            .filter(|id| outgoing.twice.contains(id) || left_out.duplicates.contains(id))
            .collect();
        Ok(Published { duplicates })
    }

    pub(super) async fn receipts_of(&self, source: &str, keys: &[String]) -> Result<Vec<Receipt>> {
        let by_column: BTreeMap<_, _> = keys.iter().map(|asked| (key(asked), asked)).collect();
        let columns: Vec<&str> = by_column.keys().map(AsRef::as_ref).collect();
        let rows = self
            .database
            .query(include_str!("../../sql/postgres/receipts.sql"), &[&key(source), &columns])
            .await?;
        let receipts = rows.iter().filter_map(|row| {
            let asked = by_column.get(row.get::<_, &str>("key"))?;
            Some(Receipt {
                key: (*asked).clone(),
                message: MessageId(row.get("message_id")),
                closed: row.get("closed"),
            })
        });
        Ok(receipts.collect())
    }

    pub(super) async fn open_receipts_of(&self, source: &str, limit: usize) -> Result<Vec<String>> {
        let statement = include_str!("../../sql/postgres/open_receipts.sql");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.database.query(statement, &[&key(source), &limit]).await?;
        Ok(rows.iter().map(|row| row.get("key")).collect())
    }

    pub(super) async fn close_receipts_of(
        &self,
        fence: &Fence,
        source: &str,
        keys: &[String],
    ) -> Result<()> {
        let columns: Vec<_> = keys.iter().map(|asked| key(asked)).collect();
        let close = Step {
            sql: include_str!("../../sql/postgres/close_receipts.sql"),
            params: &[&key(source), &columns],
        };
        self.database.fenced(fence, &[close]).await?;
        Ok(())
    }
}

/// A batch on its way: each message once.
struct Outgoing<'a> {
    lease: String,
    epoch: i64,
    messages: Vec<OutgoingMessage<'a>>,
    /// Messages whose item stands in the batch before.
    twice: HashSet<MessageId>,
}

struct OutgoingMessage<'a> {
    message: &'a NewMessage,
    /// Where its body is, when it is in chunks: staged before, or to be written.
    body_id: Option<Uuid>,
    body_bytes: u64,
}

impl<'a> Outgoing<'a> {
    fn of(fence: &Fence, batch: &'a PublishBatch) -> Outgoing<'a> {
        let mut items = HashSet::new();
        let mut twice = HashSet::new();
        let mut messages = Vec::with_capacity(batch.messages.len());
        for message in batch.messages.iter() {
            if message.receipt.as_ref().is_some_and(|item| !items.insert(item)) {
                twice.insert(message.id);
                continue;
            }
            let (body_id, body_bytes) = match &message.body {
                Body::Memory(bytes) if bytes.len() <= INLINE_BYTES_MAX => {
                    (None, bytes.len() as u64)
                }
                Body::Memory(bytes) => (Some(Uuid::now_v7()), bytes.len() as u64),
                Body::Staged { id, bytes } => (Some(id.0), *bytes),
            };
            messages.push(OutgoingMessage { message, body_id, body_bytes });
        }
        let (lease, epoch) = (fence.lease().to_string(), fence.epoch().0.cast_signed());
        Outgoing { lease, epoch, messages, twice }
    }

    fn is_inline(&self) -> bool {
        self.messages.iter().all(|outgoing| outgoing.body_id.is_none())
    }

    fn slices(&self) -> Result<Vec<Slice<'_>>> {
        let mut slices = vec![Slice::default()];
        for outgoing in &self.messages {
            let context = serde_json::to_string(&outgoing.message.context).map_err(|error| {
                StoreError::Refused(format!("a context cannot be written: {error}"))
            })?;
            let inline = outgoing.inline().map_or(0, <[u8]>::len);
            let bytes = context.len() + inline;
            if slices.last().is_none_or(|slice| slice.is_full(bytes)) {
                slices.push(Slice::default());
            }
            if let Some(slice) = slices.last_mut() {
                slice.push(outgoing, context, bytes);
            }
        }
        Ok(slices)
    }

    fn check_staged(&self, left_out: &LeftOut) -> Result<()> {
        for outgoing in &self.messages {
            let Body::Staged { id, bytes } = &outgoing.message.body else { continue };
            let id_of_message = outgoing.message.id;
            if !left_out.duplicates.contains(&id_of_message)
                && !left_out.completed.contains(&id_of_message)
            {
                return Err(StoreError::Refused(format!(
                    "message {id_of_message} was not published, nor was its batch: its staged body \
                     {id} does not have {bytes} bytes, or is gone or published already; stage it \
                     again"
                )));
            }
        }
        Ok(())
    }

    /// Bodies in memory that are too large for a row.
    async fn write_chunks(&self, transaction: &Transaction<'_>, left_out: &LeftOut) -> Result<()> {
        for outgoing in &self.messages {
            if let (Body::Memory(bytes), Some(body)) = (&outgoing.message.body, outgoing.body_id)
                && !left_out.duplicates.contains(&outgoing.message.id)
            {
                write_chunks(transaction, body, bytes).await?;
            }
        }
        Ok(())
    }
}

impl OutgoingMessage<'_> {
    fn inline(&self) -> Option<&[u8]> {
        match &self.message.body {
            Body::Memory(bytes) if self.body_id.is_none() => Some(bytes),
            Body::Memory(_) | Body::Staged { .. } => None,
        }
    }
}

/// The parameters of one statement: columns of messages, and of their routes.
#[derive(Default)]
struct Slice<'a> {
    bytes: usize,
    ids: Vec<Uuid>,
    publishers: Vec<Cow<'a, str>>,
    contexts: Vec<String>,
    bodies: Vec<Option<&'a [u8]>>,
    body_bytes: Vec<i64>,
    body_ids: Vec<Option<Uuid>>,
    sources: Vec<Option<Cow<'a, str>>>,
    keys: Vec<Option<Cow<'a, str>>>,
    work_rows: Vec<i32>,
    route_ids: Vec<Uuid>,
    route_ports: Vec<&'a str>,
    route_hosts: Vec<&'a str>,
    route_errors: Vec<&'a str>,
    routes_alone: Vec<bool>,
}

impl<'a> Slice<'a> {
    fn is_full(&self, more: usize) -> bool {
        !self.ids.is_empty()
            && (self.bytes + more > SLICE_BYTES_MAX || self.ids.len() >= SLICE_MESSAGES_MAX)
    }

    fn push(&mut self, outgoing: &'a OutgoingMessage<'a>, context: String, bytes: usize) {
        let message = outgoing.message;
        self.bytes += bytes;
        self.ids.push(message.id.0);
        self.publishers.push(plain(&message.publisher));
        self.contexts.push(context);
        self.bodies.push(outgoing.inline());
        self.body_bytes.push(outgoing.body_bytes.cast_signed());
        self.body_ids.push(outgoing.body_id);
        let item = message.receipt.as_ref();
        self.sources.push(item.map(|(source, _)| key(source)));
        self.keys.push(item.map(|(_, item)| key(item)));
        self.work_rows.push(i32::try_from(message.routes.len().max(1)).unwrap_or(i32::MAX));
        for route in &message.routes {
            self.push_route(message, &route.port, &route.host, "");
        }
        if message.routes.is_empty() {
            self.push_route(message, "", "", NO_ROUTE);
        }
    }

    fn push_route(&mut self, message: &NewMessage, port: &'a str, host: &'a str, error: &'a str) {
        self.route_ids.push(message.id.0);
        self.routes_alone.push(message.routes.len() < 2);
        self.route_ports.push(port);
        self.route_hosts.push(host);
        self.route_errors.push(error);
    }

    fn params<'b>(&'b self, outgoing: &'b Outgoing<'_>) -> [&'b (dyn ToSql + Sync); 16] {
        [
            &outgoing.lease,
            &outgoing.epoch,
            &self.ids,
            &self.publishers,
            &self.contexts,
            &self.bodies,
            &self.body_bytes,
            &self.body_ids,
            &self.sources,
            &self.keys,
            &self.work_rows,
            &self.route_ids,
            &self.route_ports,
            &self.route_hosts,
            &self.route_errors,
            &self.routes_alone,
        ]
    }
}

/// What the statement says of messages that are not simply published.
#[derive(Default)]
struct LeftOut {
    duplicates: BTreeSet<MessageId>,
    /// Published with a body that had been staged.
    completed: BTreeSet<MessageId>,
}

impl LeftOut {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> LeftOut {
        let mut left_out = LeftOut::default();
        for row in rows {
            let id = MessageId(row.get("id"));
            if !row.get::<_, bool>("accepted") {
                left_out.duplicates.insert(id);
            } else if row.get("completed") {
                left_out.completed.insert(id);
            }
        }
        left_out
    }
}

async fn write_chunks(transaction: &Transaction<'_>, body: Uuid, bytes: &Bytes) -> Result<()> {
    let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let body_row = Step {
        sql: include_str!("../../sql/postgres/publish_body.sql"),
        params: &[&body, &length],
    };
    transaction.run(&[body_row]).await?;
    let chunks: Vec<(i64, &[u8])> = bytes
        .chunks(CHUNK_BYTES)
        .enumerate()
        .map(|(at, chunk)| (i64::try_from(at * CHUNK_BYTES).unwrap_or(i64::MAX), chunk))
        .collect();
    for some in chunks.chunks(CHUNKS_AT_ONCE) {
        let params: Vec<[&(dyn ToSql + Sync); 3]> =
            some.iter().map(|(offset, chunk)| [&body as _, offset as _, chunk as _]).collect();
        let steps: Vec<Step<'_>> = params
            .iter()
            .map(|params| Step {
                sql: include_str!("../../sql/postgres/publish_chunk.sql"),
                params,
            })
            .collect();
        transaction.run(&steps).await?;
    }
    Ok(())
}
