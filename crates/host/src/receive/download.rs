//! Takes the bytes of one item: small ones in memory, large ones into the store, chunk by chunk.

use std::sync::Arc;

use adapter::{AdapterError, ChunkSink};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use model::BodyId;
use sha2::{Digest, Sha256};
use store::{Body, CHUNK_BYTES, StoreError};

use super::Location;
use super::cycle::Stop;
use crate::tasks::Tasks;

/// Bodies up to this many bytes are held in memory and committed with their message; larger ones
/// are staged, so that a download that is cut goes on where it was, on any node.
pub(crate) const MEMORY_BYTES_MAX: usize = CHUNK_BYTES;

/// A body on its way in.
pub(crate) struct Download {
    location: Location,
    source: String,
    key: String,
    /// Bytes that are not in the store yet.
    pending: BytesMut,
    staged: Option<BodyId>,
    /// Bytes that are in the store, or on their way.
    stored: u64,
    /// The one append under way: the next chunk fills while it is written.
    appending: Tasks<Result<(), StoreError>>,
    hash: Option<Sha256>,
    bytes_max: Option<u64>,
    stop: Option<Stop>,
    refused: Option<String>,
}

impl Download {
    /// Begins a body. With `hash` its content is hashed on the way, because nothing else tells
    /// the item apart.
    pub fn new(location: &Location, source: &str, key: &str, hash: bool) -> Download {
        Download {
            location: location.clone(),
            source: source.to_owned(),
            key: key.to_owned(),
            pending: BytesMut::new(),
            staged: None,
            stored: 0,
            appending: Tasks::new(Default::default()),
            hash: hash.then(Sha256::new),
            bytes_max: location.definition.item_bytes_max,
            stop: None,
            refused: None,
        }
    }

    /// Finds what an earlier download of a large item has left in the store, and answers where to
    /// go on.
    pub async fn resume(&mut self) -> Result<u64, Stop> {
        let staged =
            self.location.shared.store.stage(&self.location.fence, &self.source, &self.key).await?;
        self.staged = Some(staged.body);
        self.stored = staged.offset;
        Ok(staged.offset)
    }

    /// Throws away what is staged: the item is not what it was, or cannot be resumed.
    pub async fn discard(&mut self) -> Result<(), Stop> {
        self.settle_append().await?;
        if let Some(body) = self.staged.take() {
            self.location.shared.store.discard(&self.location.fence, body).await?;
        }
        self.stored = 0;
        self.pending.clear();
        Ok(())
    }

    /// Bytes taken in so far.
    pub fn bytes(&self) -> u64 {
        self.stored + self.pending.len() as u64
    }

    /// The failure of the store that stopped the transfer, if that is what did.
    pub fn stopped(&mut self) -> Option<Stop> {
        self.stop.take()
    }

    /// Why this item is not wanted after all.
    pub fn refused(&mut self) -> Option<String> {
        self.refused.take()
    }

    /// The hash of the content.
    pub fn content(&mut self) -> Option<String> {
        let digest = self.hash.take()?.finalize();
        Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The whole body, when all of it has come.
    pub async fn finish(&mut self) -> Result<Body, Stop> {
        if self.staged.is_none() {
            return Ok(Body::Memory(self.pending.split().freeze()));
        }
        if !self.pending.is_empty() {
            self.append().await?;
        }
        self.settle_append().await?;
        match self.staged {
            Some(id) => Ok(Body::Staged { id, bytes: self.stored }),
            None => Ok(Body::Memory(Bytes::new())),
        }
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.location.pulse.beat();
        fail::fail_point!("download_chunk");
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        self.pending.extend_from_slice(bytes);
        if let Some(max) = self.bytes_max
            && self.bytes() > max
        {
            self.refused = Some(format!("it is larger than item_bytes_max, {max} bytes"));
            return Ok(());
        }
        if self.staged.is_none() && self.pending.len() > MEMORY_BYTES_MAX {
            // A size that the listing did not tell: from here on it is a large item.
            self.resume().await?;
            if self.stored > 0 {
                self.restage().await?;
            }
        }
        while self.staged.is_some() && self.pending.len() >= CHUNK_BYTES {
            self.append().await?;
        }
        Ok(())
    }

    /// The transfer began at the start, so what was staged before is of no use.
    async fn restage(&mut self) -> Result<(), Stop> {
        if let Some(body) = self.staged.take() {
            self.location.shared.store.discard(&self.location.fence, body).await?;
        }
        self.resume().await?;
        Ok(())
    }

    /// Hands a chunk to the store and goes on while it is written.
    async fn append(&mut self) -> Result<(), Stop> {
        self.settle_append().await?;
        let Some(body) = self.staged else { return Ok(()) };
        let chunk = self.pending.split_to(self.pending.len().min(CHUNK_BYTES)).freeze();
        let offset = self.stored;
        self.stored += chunk.len() as u64;
        let store = self.location.shared.store.clone();
        let fence = Arc::clone(&self.location.fence);
        self.appending.start(async move {
            fail::fail_point!("append_before");
            store.append(&fence, body, offset, chunk).await
        });
        Ok(())
    }

    async fn settle_append(&mut self) -> Result<(), Stop> {
        match self.appending.next().await {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(error.into()),
        }
    }
}

#[async_trait]
impl ChunkSink for Download {
    fn alive(&self) {
        self.location.pulse.beat();
    }

    async fn chunk(&mut self, bytes: Bytes) -> adapter::Result<()> {
        match self.take(&bytes).await {
            Ok(()) if self.refused.is_none() => Ok(()),
            Ok(()) => Err(AdapterError::Unavailable("the download was stopped".into())),
            Err(stop) => {
                self.stop = Some(stop);
                Err(AdapterError::Unavailable("the download was stopped".into()))
            }
        }
    }
}
