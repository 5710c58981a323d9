//! Bodies in chunks: staged while they are downloaded, read while they are sent.

use bytes::{Bytes, BytesMut};
use model::BodyId;
use uuid::Uuid;

use super::Postgres;
use super::text::key;
use super::transaction::Step;
use crate::{CHUNK_BYTES, Fence, Result, Staged, StoreError};

/// Most bytes that one read answers, so that a caller's mistake cannot fill the memory.
const READ_BYTES_MAX: usize = 64 * CHUNK_BYTES;

impl Postgres {
    pub(super) async fn stage_body(
        &self,
        fence: &Fence,
        source: &str,
        item: &str,
    ) -> Result<Staged> {
        let stage = Step {
            sql: include_str!("../../sql/postgres/stage.sql"),
            params: &[&Uuid::now_v7(), &key(source), &key(item)],
        };
        let rows = self.database.fenced(fence, &[stage]).await?;
        let row = rows.first().and_then(|rows| rows.first()).ok_or_else(|| {
            StoreError::Corrupt("the store staged a body and did not say which".to_owned())
        })?;
        Ok(Staged {
            body: BodyId(row.get("id")),
            offset: row.get::<_, i64>("bytes").cast_unsigned(),
        })
    }

    pub(super) async fn append_chunk(
        &self,
        fence: &Fence,
        body: BodyId,
        offset: u64,
        chunk: &Bytes,
    ) -> Result<()> {
        if chunk.len() > CHUNK_BYTES {
            return Err(StoreError::Refused(format!(
                "a chunk of {} bytes is too large: at most {CHUNK_BYTES}",
                chunk.len()
            )));
        }
        if chunk.is_empty() {
            return self.database.fenced(fence, &[]).await.map(drop);
        }
        let append = Step {
            sql: include_str!("../../sql/postgres/append.sql"),
            params: &[&body.0, &offset.cast_signed(), &chunk.as_ref()],
        };
        let rows = self.database.fenced(fence, &[append]).await?;
        if rows.first().is_some_and(|rows| !rows.is_empty()) {
            return Ok(());
        }
        Err(self.append_refused(body, offset).await?)
    }

    async fn append_refused(&self, body: BodyId, offset: u64) -> Result<StoreError> {
        let sql = include_str!("../../sql/postgres/append_refused.sql");
        let rows = self.database.query(sql, &[&body.0]).await?;
        let why = match rows.first() {
            Some(row) if row.get("dropped") => "it was discarded".to_owned(),
            Some(row) if row.get("complete") => "it is published already".to_owned(),
            Some(row) => format!("it has {} bytes", row.get::<_, i64>("bytes")),
            None => "there is no such body".to_owned(),
        };
        Ok(StoreError::Refused(format!(
            "nothing was added to body {body} at {offset}: {why}; stage its item again"
        )))
    }

    pub(super) async fn discard_body(&self, fence: &Fence, body: BodyId) -> Result<()> {
        let discard =
            Step { sql: include_str!("../../sql/postgres/discard.sql"), params: &[&body.0] };
        self.database.fenced(fence, &[discard]).await?;
        Ok(())
    }

    pub(super) async fn read_chunks(
        &self,
        body: BodyId,
        offset: u64,
        limit: usize,
    ) -> Result<Bytes> {
        let limit = i64::try_from(limit.min(READ_BYTES_MAX)).unwrap_or(i64::MAX);
        let rows = self
            .database
            .query(
                include_str!("../../sql/postgres/read_body.sql"),
                &[&body.0, &offset.cast_signed(), &limit],
            )
            .await?;
        let mut bytes = BytesMut::new();
        for row in &rows {
            bytes.extend_from_slice(row.get::<_, &[u8]>("bytes"));
        }
        Ok(bytes.freeze())
    }
}
