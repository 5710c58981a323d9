//! What an adapter must answer. Traits and values only; the protocols are in `adapters`.
//!
//! An adapter knows a protocol and nothing else: it never sees a fence, a receipt or the store.
//! The shared drivers in `host` own the order of steps that makes receiving exactly-once, and ask
//! the adapter only to list, open, look again, remove and move.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::definition::AfterReceive;
use model::{Context, MessageId};
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

/// How many instances of a host may receive from one address at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// Any number: the protocol arbitrates.
    Many,
    /// One, and why: `FTP does not lock files`. The host must be clustered.
    OneBecause(&'static str),
}

/// What went wrong, by who can mend it.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// The address cannot be used now; the connection is dead. Try again later on a new one.
    #[error("{0}")]
    Unavailable(String),
    /// Login, certificate, folder or setting is wrong; trying again is of no use until mended.
    #[error("{0}")]
    Refused(String),
    /// This one item cannot be taken now (locked, denied, vanished); the connection is fine.
    #[error("{0}")]
    Item(String),
    /// This one item exists no more.
    #[error("{0}")]
    Gone(String),
}

/// The result of an adapter's work.
pub type Result<T, E = AdapterError> = std::result::Result<T, E>;

/// A remote item as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its full address on the server as the server spells it, byte for byte; what `open`, `look`,
    /// `remove` and `move_to` are given back.
    pub path: Vec<u8>,
    /// Its name without the folder, for people and for `%SourceFileName%`.
    pub name: String,
    /// Size and time as the listing gave them. Two sightings are the same when these are equal.
    pub sighting: Sighting,
}

/// Size and time of an item at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sighting {
    /// Bytes, if the server says.
    pub bytes: Option<u64>,
    /// Last change in milliseconds since 1970 by the server's clock, if the server says.
    pub modified_ms: Option<i64>,
    /// The listing gives times to the minute or in an unknown zone: good for comparing with the
    /// next listing, not for an identity.
    pub coarse: bool,
}

impl Item {
    /// What makes this item different from any other of the same source, if the sighting is good
    /// enough: path, size and time. None: ask [`Session::look`], or use the content.
    pub fn identity(&self) -> Option<String> {
        identity(&self.path, &self.sighting)
    }
}

/// Path, size and time as one text; none when the sighting is too weak to tell two files apart.
pub fn identity(path: &[u8], sighting: &Sighting) -> Option<String> {
    match (sighting.bytes, sighting.modified_ms, sighting.coarse) {
        (Some(bytes), Some(modified), false) => {
            Some(format!("{}|{bytes}|{modified}", path.escape_ascii()))
        }
        _ => None,
    }
}

/// The path in a key that [`identity`] made, or that was made of the path and two more fields.
pub fn path_of(key: &str) -> Option<Vec<u8>> {
    let mut fields = key.rsplitn(3, '|');
    let escaped = fields.nth(2)?.as_bytes();
    let mut path = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            path.push(byte);
            continue;
        }
        let (&kind, tail) = rest.split_first()?;
        rest = tail;
        path.push(match kind {
            b't' => b'\t',
            b'r' => b'\r',
            b'n' => b'\n',
            b'x' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                rest = tail;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            itself => itself,
        });
    }
    Some(path)
}

/// Where a receive location gets its items from.
#[async_trait]
pub trait PolledSource: Send + Sync {
    /// The address without credentials, for people: `ftp://acme@partner.example:21/out/*.xml`.
    fn address(&self) -> String;

    /// The scope of its receipts: account, server and folder, but neither mask nor encryption, so
    /// that a change of those does not make known files new again.
    fn scope(&self) -> String;

    /// Whether a listing would show an item of this path, if it were there: it is of the same
    /// scope, so this asks for the mask.
    fn covers(&self, path: &[u8]) -> bool;

    /// Makes the removals (or moves) done so far survive a power loss, where that is ours to do.
    async fn make_durable(&self, _after_receive: &AfterReceive) -> Result<()> {
        Ok(())
    }

    /// Opens a connection that is logged in and ready to list.
    async fn connect(&self) -> Result<Box<dyn Session>>;
}

/// One connection of a source. After any error but [`AdapterError::Item`] and
/// [`AdapterError::Gone`] it is dead and gets dropped.
#[async_trait]
pub trait Session: Send {
    /// Sends the items that match the mask into `items` while the listing arrives, and returns
    /// what the listing could not tell. Stops early without an error when `items` is closed.
    async fn list(&mut self, items: mpsc::Sender<Item>) -> Result<Listed>;

    /// Looks at one item: its size and time as exactly as the server can say. What the item's
    /// own sighting says exactly need not be asked; of a sighting that is not coarse all is.
    async fn look(&mut self, item: &Item) -> Result<Sighting>;

    /// Opens an item at an offset and gives its bytes to `into`, until its end.
    ///
    /// Returns only when the server has confirmed the whole transfer; a transfer that was cut is
    /// an error. An offset that the server cannot honour is [`AdapterError::Item`].
    async fn fetch(&mut self, item: &Item, offset: u64, into: &mut dyn ChunkSink) -> Result<()>;

    /// Deletes an item. [`AdapterError::Gone`] when it is not there.
    async fn remove(&mut self, item: &Item) -> Result<()>;

    /// Moves an item to a folder of the same server, under its own name; if that name is taken
    /// there, under a name with a number. [`AdapterError::Gone`] when the item is not there.
    async fn move_to(&mut self, item: &Item, folder: &str) -> Result<()>;

    /// Keeps an idle connection open (NOOP); an error says that it is dead.
    async fn keep_alive(&mut self) -> Result<()>;

    /// Says good-bye. Dropping a session without it is allowed.
    async fn close(self: Box<Self>) {}
}

/// What a listing could not tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// Lines that were not understood; they are reported, never silently dropped.
    pub not_understood: Vec<String>,
    /// Why two files of this server might not be told apart, if so: the location then says
    /// `at-least-once` with this reason.
    pub weak_identity: Option<String>,
}

/// Takes the bytes of an item in order. Waiting in `chunk` is how memory stays bounded.
#[async_trait]
pub trait ChunkSink: Send {
    /// The next bytes. An error stops the transfer.
    async fn chunk(&mut self, bytes: Bytes) -> Result<()>;

    /// Bytes are coming, though not yet enough for a chunk.
    fn alive(&self) {}
}

/// One message to be sent.
pub struct Delivery {
    /// Its id, stable over all tries: the key for the peer to recognise a second try.
    pub message: MessageId,
    /// Its context, for macros.
    pub context: Context,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// The body.
    pub body: Box<dyn AsyncRead + Send + Unpin>,
    /// An earlier try of this message may have reached the peer without our knowing.
    pub maybe_delivered: bool,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({}, {} bytes)", self.message, self.body_bytes)
    }
}

/// Where a send port sends to.
#[async_trait]
pub trait Sink: Send + Sync {
    /// The address without credentials.
    fn address(&self) -> String;

    /// Sends a batch and answers for each message in the order given. When it returns `Ok` for a
    /// message the message is safe at the peer (on disk, accepted, acknowledged).
    async fn deliver(&self, batch: Vec<Delivery>) -> Vec<Result<()>>;
}

/// One protocol, as it stands in the list of adapters.
pub trait Adapter: Sync {
    /// Its name as messages carry it: `FTP`.
    fn name(&self) -> &'static str;
    /// One line for people.
    fn summary(&self) -> &'static str;
    /// How many instances may receive at once.
    fn receive_concurrency(&self) -> Concurrency;
}

/// Nothing that an adapter waits for may take longer than this without a byte or a reply, whatever
/// the settings say.
pub const PATIENCE_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_its_path_back() {
        let all: Vec<u8> = (0..=255).collect();
        for path in [&b"/out/a b|c.xml"[..], b"", b"\\x41'\"", &all] {
            let sighting = Sighting { bytes: Some(1), modified_ms: Some(2), coarse: false };
            let key = identity(path, &sighting).expect("a strong sighting");
            assert_eq!(path_of(&key).as_deref(), Some(path), "{key}");
        }
        for nonsense in ["", "a", "a|b", "\\|1|2", "\\x4|1|2"] {
            assert_eq!(path_of(nonsense), None, "{nonsense}");
        }
    }
}
