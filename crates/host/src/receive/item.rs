//! What goes from hand to hand within one poll.

use adapter::Item;
use store::NewMessage;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Something for a worker to do with its connection.
#[derive(Debug)]
pub(crate) enum Job {
    /// Download it and have it published.
    Receive(Item),
    /// It is published: release its source.
    Release(Published),
}

/// An item whose message is committed.
#[derive(Debug)]
pub(crate) struct Published {
    pub item: Item,
    /// Its identity: the key of its receipt.
    pub key: String,
    /// When the source was last seen to be this item; none if only a listing showed it, which may
    /// be old by now.
    pub seen_at: Option<Instant>,
}

/// A downloaded item that waits to be committed.
pub(crate) struct Downloaded {
    pub item: Item,
    /// Its identity: the key of its receipt.
    pub key: String,
    pub message: NewMessage,
    /// When the source was last seen to be this item.
    pub seen_at: Instant,
    /// Its share of the memory that bodies may take; given back when it is committed.
    pub _memory: OwnedSemaphorePermit,
}
