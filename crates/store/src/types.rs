//! Values that go into the store and come out of it.

use std::sync::Arc;

use bytes::Bytes;
use model::{BodyId, Context, Epoch, MessageId, Millis, NodeName, Timestamp, WorkId};
use serde::{Deserialize, Serialize};

use crate::NewMessage;

/// What a node says of itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The machine's host name.
    pub machine: String,
    /// Its process id.
    pub pid: u32,
    /// Its version of Baton.
    pub version: String,
}

/// The record that a remote item has been taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The item.
    pub key: String,
    /// The message that it became.
    pub message: MessageId,
    /// Whether its source is known to be removed or moved.
    pub closed: bool,
}

/// A staged body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Its id.
    pub body: BodyId,
    /// Bytes that are there already.
    pub offset: u64,
}

/// Messages to publish in one transaction.
#[derive(Debug, Clone, Default)]
pub struct PublishBatch {
    /// The definitions that the routes were made from.
    pub definitions_version: u64,
    /// The messages, in order. Shared: an engine hands them to a thread of its own.
    pub messages: Arc<[NewMessage]>,
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    /// Messages whose item had an open receipt: they were left out, their source may be released.
    pub duplicates: Vec<MessageId>,
}

/// Work taken from the queue.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its row.
    pub id: WorkId,
    /// The send port it is for.
    pub port: String,
    /// The message.
    pub message: MessageId,
    /// The message's context.
    pub context: Context,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// The body, or where it is.
    pub body: WorkBody,
    /// Tries that have failed so far.
    pub attempts: u32,
    /// It was held before by somebody who did not settle it: the peer may have it already.
    pub maybe_delivered: bool,
}

/// Where the body of work is.
#[derive(Debug, Clone)]
pub enum WorkBody {
    /// Here.
    Inline(Bytes),
    /// In chunks; read it with [`crate::Store::read_body`].
    Chunks(BodyId),
}

/// What became of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The row.
    pub work: WorkId,
    /// What became of it.
    pub outcome: Outcome,
    /// The peer may have got it although it is not done: the answer got lost.
    pub maybe_delivered: bool,
}

/// What became of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Sent.
    Done,
    /// Failed; try again after this.
    Retry {
        /// How long to wait.
        after: Millis,
        /// What went wrong.
        error: String,
    },
    /// Not tried, or given back: ready at once, not counted as a try.
    Return,
    /// Failed for good, until an operator resumes or terminates it.
    Suspend {
        /// What went wrong.
        error: String,
    },
}

/// State of a work row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkState {
    /// Waits to be taken (perhaps for a retry's time).
    Ready,
    /// Taken.
    Active,
    /// Waits for an operator.
    Suspended,
}

/// Counts of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// The host; empty for routing failures.
    pub host: String,
    /// The send port; empty for routing failures.
    pub port: String,
    /// The state.
    pub state: WorkState,
    /// How many.
    pub count: u64,
    /// When the oldest of them was published.
    pub oldest_at: Option<Timestamp>,
}

/// Which work an operator wants to see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkQuery {
    /// Only this state.
    pub state: Option<WorkState>,
    /// Only this send port.
    pub port: Option<String>,
    /// Only these rows; empty for all.
    pub ids: Vec<WorkId>,
    /// Only rows of these messages; empty for all.
    pub messages: Vec<MessageId>,
    /// Only rows behind this one: the last of the page before. 0 for the first page.
    pub after: WorkId,
    /// At most so many rows; 0 is no limit of the caller's. Never more than
    /// [`LIST_ROWS_MAX`].
    pub limit: usize,
}

impl WorkQuery {
    /// The rows of one answer.
    pub fn rows_max(&self) -> usize {
        match self.limit {
            0 => LIST_ROWS_MAX,
            limit => limit.min(LIST_ROWS_MAX),
        }
    }
}

/// Most rows of one listing: each may have a body in memory, of at most
/// [`INLINE_BYTES_MAX`](crate::INLINE_BYTES_MAX).
pub const LIST_ROWS_MAX: usize = 500;

/// Work as an operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkView {
    /// Its row.
    pub id: WorkId,
    /// The message.
    pub message: MessageId,
    /// The send port; empty for a routing failure.
    pub port: String,
    /// The host; empty for a routing failure.
    pub host: String,
    /// Its state.
    pub state: WorkState,
    /// Tries that have failed so far.
    pub attempts: u32,
    /// Not before this moment.
    pub ready_at: Timestamp,
    /// What went wrong last.
    pub error: Option<String>,
    /// When the message was published.
    pub published_at: Timestamp,
    /// Who published it.
    pub publisher: String,
    /// The message's context.
    pub context: Context,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// The body when it is inline, for showing it.
    #[serde(skip)]
    pub body: Option<Bytes>,
    /// The body when it is in chunks.
    #[serde(skip)]
    pub body_id: Option<BodyId>,
}

/// How a receive location does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationReport {
    /// The location.
    pub location: String,
    /// The node whose host polls it.
    pub node: NodeName,
    /// Under which epoch.
    pub epoch: Epoch,
    /// When the host began to poll it under this epoch; when its first listing was complete.
    pub active_since: Option<Timestamp>,
    /// When a poll last succeeded.
    pub last_success_at: Option<Timestamp>,
    /// When a poll last failed, and how.
    pub last_error_at: Option<Timestamp>,
    /// What the failure was; none after a success.
    pub last_error: Option<String>,
    /// Messages received under this epoch.
    pub received: u64,
    /// `exactly-once`, or `at-least-once: ` and the reason.
    pub guarantee: String,
}

/// Which operator events are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventQuery {
    /// Only those behind this one: the last of the page before.
    pub after: u64,
    /// Only the newest so many of what matches (still oldest first), instead of the oldest.
    pub newest: bool,
    /// Only those about this: `group partners`.
    pub subject: Option<String>,
    /// Only these kinds; empty for all.
    pub ids: Vec<model::EventId>,
    /// Only from this moment on.
    pub since: Option<Timestamp>,
    /// At most so many; 0 is no limit of the caller's. Never more than [`LIST_ROWS_MAX`].
    pub limit: usize,
}

impl EventQuery {
    /// The rows of one answer.
    pub fn rows_max(&self) -> usize {
        match self.limit {
            0 => LIST_ROWS_MAX,
            limit => limit.min(LIST_ROWS_MAX),
        }
    }
}

/// How long operator events are kept: a month's report can be written from them.
pub const EVENTS_KEPT: Millis = Millis::hours(30 * 24);

/// Most operator events that are kept, some tens of megabytes: a cluster that flaps writes many.
pub const EVENTS_KEPT_MAX: u64 = 100_000;

/// A receipt that was open when its lease changed hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InFlight {
    /// The source: server and folder.
    pub source: String,
    /// The item.
    pub key: String,
    /// The message that it is.
    pub message: MessageId,
    /// When it was received.
    pub received_at: Timestamp,
    /// When the next owner found its source gone, or removed it; none: not yet.
    pub closed_at: Option<Timestamp>,
}

/// What an examination found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its number for life: `store.fence`.
    pub id: &'static str,
    /// How it went.
    pub result: FindingResult,
    /// What was found, as a sentence.
    pub what: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
    /// How long it took.
    pub took: Millis,
}

/// How an examination went (WSFC Test-Cluster: Success, Warning, Failed, Not applicable).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingResult {
    /// As it should be.
    Passed,
    /// It does not matter here.
    NotApplicable,
    /// It works, but something will hurt one day.
    Warning,
    /// It does not work.
    Failed,
}

/// Wake-up hints: any number of them since the last wait are one.
pub struct Wakes {
    pub(crate) receiver: tokio::sync::watch::Receiver<u64>,
}

impl Wakes {
    /// Waits for the next hint. When the store is closed it waits for ever: there is nothing
    /// to be woken for.
    pub async fn next(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
