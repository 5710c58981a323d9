//! The only SQL: leases and fences, the MessageBox, receipts and definitions.
//!
//! Two engines stand behind one trait, [`Store`]: SQLite for the processes of one machine,
//! PostgreSQL for several machines. One method is one transaction, its statements are the files
//! `sql/<engine>/<method>.sql`, and both engines pass the same conformance suite.
//!
//! Whoever writes for a host shows a [`Fence`]. The engine checks it inside the writing
//! transaction, serialised against a change of owner, so a stale owner's write is refused with
//! [`StoreError::Fenced`] however late it wakes up.

mod boot;
mod error;
mod examine;
mod fence;
mod life;
mod open;
mod postgres;
mod schema;
mod sqlite;
mod tasks;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cluster::{
    AcquireRequest, GroupOrder, MoveRequest, NodeOrder, Presence, ResourceReport, Snapshot,
};
use model::{
    BodyId, Cause, Definitions, Epoch, GroupName, LeaseName, MessageId, Millis, NodeName,
    OperatorEvent, ResourceName, Timestamp, WorkId,
};

pub use error::{Result, StoreError};
pub use fence::{Fence, FenceToken};
pub use open::{Options, open};
pub use types::*;

/// The durable state of a cluster. Object-safe; every method is one transaction.
///
/// Any method may answer [`StoreError::Unavailable`]; whether its transaction committed is then
/// unknown, and the caller finds out by reading (a receipt, a snapshot) before it tries again.
#[async_trait]
pub trait Store: Send + Sync {
    /// What this is, without credentials: `sqlite:/var/lib/baton/baton.db`.
    fn describe(&self) -> String;

    // ---- nodes and leases -----------------------------------------------------------------

    /// Becomes a node: takes the lease `node/NAME` and the node's liveness session or lock.
    ///
    /// Refused while another live process is the node. The epoch grows with each life of the
    /// node. The liveness mark is held until this `Store` value is dropped or the process dies.
    async fn join(&self, node: &NodeName, facts: &NodeFacts, ttl: Millis) -> Result<Granted>;

    /// Extends leases that are still held by this node at these epochs; never waits for a
    /// publish or any other transaction of the MessageBox. Answers those that are not.
    async fn renew(
        &self,
        node: &NodeName,
        leases: &[(LeaseName, Epoch)],
        ttl: Millis,
    ) -> Result<Vec<(LeaseName, Epoch)>>;

    /// Takes a lease if it still is at `seen_epoch` and there is evidence that its holder has let
    /// go (or is `node` itself): the epoch grows by one, what the old epoch held of the work
    /// queue is ready again, a pending move of the group is done, and the history has an entry,
    /// all in one transaction.
    ///
    /// A frozen holder's open transaction does not block it: its sessions are ended, or (SQLite)
    /// the process that sits on the write lock is killed.
    async fn acquire(
        &self,
        node: &NodeName,
        request: &AcquireRequest,
        ttl: Millis,
    ) -> Result<Acquired>;

    /// Vacates a lease held by `node` at this epoch, after its workers have returned. The epoch
    /// stays, so that it never goes back. Work it still held is ready again.
    async fn release(&self, node: &NodeName, release: &Release) -> Result<()>;

    /// Vacates the lease of a node that is dead or silent, by the rules of [`Store::acquire`], for
    /// nobody: used for host instances of nodes that are gone. The epoch grows by one.
    async fn bury(&self, lease: &LeaseName, seen_epoch: Epoch, reason: &str) -> Result<Acquired>;

    /// Makes a fence of a token, if it is current.
    async fn fence(&self, token: &FenceToken) -> Result<Fence>;

    /// Reads the cluster, consistently. Reports of resources and entries of the history that were
    /// removed may be seen for a minute more by a process that has seen them.
    async fn snapshot(&self) -> Result<Snapshot>;

    /// Says how present each node is.
    async fn presence(&self) -> Result<BTreeMap<NodeName, Presence>>;

    /// Waits for one of these peers to lose its liveness session or lock, for [`WATCH_MAX`] at the
    /// most; tells whether one has. Costs next to nothing while nothing happens.
    ///
    /// On PostgreSQL each node waits for the one after it in the order of names, so that many
    /// nodes cost little, and tells all nodes (by a hint) what it has seen.
    async fn watch(&self, me: &NodeName, peers: &[NodeName]) -> Result<bool>;

    /// Asks for a move; replaces an older request for the same group. Wakes the nodes.
    async fn request_move(&self, request: &MoveRequest) -> Result<()>;

    /// Forgets the move request that was made at this moment (it cannot be fulfilled); a later one
    /// stays.
    async fn drop_move(&self, group: &GroupName, asked_at: Timestamp) -> Result<()>;

    /// Records what operators want of a group, in place of what they wanted before. `at` is filled
    /// in here. Wakes the nodes.
    async fn order_group(&self, order: &GroupOrder) -> Result<()>;

    /// Records what operators want of a node, in place of what they wanted before. `at` is filled
    /// in here. Wakes the nodes.
    async fn order_node(&self, order: &NodeOrder) -> Result<()>;

    /// Forgets a node that is gone: its row, its orders and reports; its lease keeps its epoch, so
    /// that it may join again. Refused while it is alive, or while it still holds a lease that
    /// others have not taken. Wakes the nodes.
    async fn evict(&self, node: &NodeName, by: &str) -> Result<()>;

    /// Records what a node says of its resources, one row for each; `since` is filled in here when
    /// the state is another than before. Not fenced, but a report under an older epoch than the
    /// one recorded is dropped. Wakes the nodes.
    async fn report_resources(&self, reports: &[ResourceReport]) -> Result<()>;

    /// Adds operator events; `sequence` and `at` are filled in here. Wakes [`Topic::Events`].
    async fn record_events(&self, events: &[OperatorEvent]) -> Result<()>;

    /// Reads operator events, oldest first.
    async fn events(&self, query: &EventQuery) -> Result<Vec<OperatorEvent>>;

    /// What was under way for a lease when it changed hands to `epoch`: receipts of earlier epochs
    /// that were still open then, oldest first.
    async fn in_flight(
        &self,
        lease: &LeaseName,
        epoch: Epoch,
        limit: usize,
    ) -> Result<Vec<InFlight>>;

    /// Examines the store without disturbing anybody: whether its fence holds (tried in a scratch
    /// schema or file of its own, removed afterwards), whether its clock runs at our rate, whether
    /// a pooler is in the way, whether a commit is durable and replicated, whether there is room.
    async fn examine(&self) -> Result<Vec<Finding>>;

    // ---- definitions ----------------------------------------------------------------------

    /// Puts definitions in force as the next version, with their subscriptions, if `base` is the
    /// version in force. Wakes the nodes and hosts.
    async fn apply(&self, definitions: &Definitions, base: u64, by: &str) -> Result<u64>;

    /// The definitions in force and their version; version 0 while nothing was ever applied.
    async fn definitions(&self) -> Result<(u64, Arc<Definitions>)>;

    // ---- receiving ------------------------------------------------------------------------

    /// Which of these items of a source have a receipt.
    async fn receipts(&self, source: &str, keys: &[String]) -> Result<Vec<Receipt>>;

    /// Keys of up to `limit` open receipts of a source: items that are messages and not known to
    /// be released.
    async fn open_receipts(&self, source: &str, limit: usize) -> Result<Vec<String>>;

    /// Begins or resumes a staged body for an item. Chunks already there are kept; `offset` says
    /// where to go on.
    async fn stage(&self, fence: &Fence, source: &str, key: &str) -> Result<Staged>;

    /// Adds a chunk to a staged body. `offset` must be where it ends.
    async fn append(&self, fence: &Fence, body: BodyId, offset: u64, chunk: Bytes) -> Result<()>;

    /// Throws a staged body away (its item changed under the download).
    async fn discard(&self, fence: &Fence, body: BodyId) -> Result<()>;

    /// Publishes messages: fence, receipt, message, one work row for each route, in one
    /// transaction. Messages without a route become suspended work, never nothing. An item that
    /// has an open receipt already is left out and named in `duplicates`; a receipt that was
    /// closed is opened again, for a new item that looks the same. Wakes the workers.
    ///
    /// [`StoreError::StaleRoutes`] when `definitions_version` is no longer in force: route again.
    async fn publish(&self, fence: &Fence, batch: &PublishBatch) -> Result<Published>;

    /// Records that the source of these items has been removed or moved.
    async fn close_receipts(&self, fence: &Fence, source: &str, keys: &[String]) -> Result<()>;

    // ---- sending --------------------------------------------------------------------------

    /// Takes up to `limit` ready work rows of a host, oldest first, without waiting for other
    /// takers. They are held until settled, or until the lease changes hands.
    async fn take(&self, fence: &Fence, host: &str, limit: usize) -> Result<Vec<Work>>;

    /// Makes work of a host ready again that this fence holds and that is not `in_flight`: the
    /// answer to a take got lost, so nobody knows that it was taken.
    async fn give_back(&self, fence: &Fence, host: &str, in_flight: &[WorkId]) -> Result<()>;

    /// Reads up to `limit` bytes of a body at an offset; empty at its end.
    async fn read_body(&self, body: BodyId, offset: u64, limit: usize) -> Result<Bytes>;

    /// Ends, postpones or suspends work that this fence's lease holds. A message whose last work
    /// is done goes with its body.
    async fn settle(&self, fence: &Fence, settlements: &[Settlement]) -> Result<()>;

    /// When the next postponed work of a host becomes ready, if there is any.
    async fn next_ready_at(&self, host: &str) -> Result<Option<Millis>>;

    // ---- operators ------------------------------------------------------------------------

    /// Reports how a receive location does. Not fenced: it is news, not state.
    async fn report_location(&self, report: &LocationReport) -> Result<()>;

    /// The last report of each receive location.
    async fn locations(&self) -> Result<Vec<LocationReport>>;

    /// Counts of work by host, port and state.
    async fn backlog(&self) -> Result<Vec<Backlog>>;

    /// Work rows for operators, oldest first.
    async fn list_work(&self, query: &WorkQuery) -> Result<Vec<WorkView>>;

    /// The ownership history, newest first.
    async fn history(&self, limit: usize) -> Result<Vec<cluster::Tenure>>;

    /// Makes suspended work ready again; for a routing failure: matches it against these routes.
    /// Answers how many rows were resumed.
    async fn resume(&self, work: &[WorkId], routes: &BTreeMap<WorkId, Vec<Route>>) -> Result<u64>;

    /// Ends suspended or waiting work without sending it. Answers how many rows ended.
    async fn terminate(&self, work: &[WorkId]) -> Result<u64>;

    // ---- upkeep and wake-ups --------------------------------------------------------------

    /// Removes what nobody needs any more, a bounded amount at a time: closed receipts and
    /// abandoned staged bodies older than `older_than`, history beyond its limit.
    async fn sweep(&self, older_than: Millis) -> Result<()>;

    /// Subscribes to wake-up hints of a topic, from this process and all others. Hints may come
    /// late, doubled, or not at all; polling is the truth.
    fn subscribe(&self, topic: Topic) -> Wakes;

    /// The store's clock.
    async fn now(&self) -> Result<Timestamp>;
}

/// Longest that [`Store::watch`] waits: so soon it is asked again, with the peers of that time.
pub const WATCH_MAX: Millis = Millis(900);

/// A lease taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The new epoch.
    pub epoch: Epoch,
    /// How sure the store was that the holder before had let go.
    pub evidence: model::Evidence,
}

/// The answer to an acquire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// It is ours.
    Granted(Granted),
    /// It is not; the sentence says why.
    Refused(String),
}

/// How a lease is vacated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Which lease.
    pub lease: LeaseName,
    /// Held at which epoch.
    pub epoch: Epoch,
    /// Why.
    pub cause: Cause,
    /// The same as a sentence.
    pub reason: String,
    /// The successor chosen by the holder.
    pub offered_to: Option<NodeName>,
    /// The resource whose failure it follows, if it follows one.
    pub resource: Option<ResourceName>,
}

/// What a hint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Leases, moves, nodes or definitions changed.
    Cluster,
    /// Work became ready.
    Work,
    /// An operator event was recorded.
    Events,
}

/// A message to be published.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Its id (UUID version 7).
    pub id: MessageId,
    /// The receive location or other publisher, for operators.
    pub publisher: String,
    /// Its context.
    pub context: model::Context,
    /// Its body.
    pub body: Body,
    /// The source and key of the item it came from, for its receipt.
    pub receipt: Option<(String, String)>,
    /// Whom it goes to. Empty: a routing failure, suspended.
    pub routes: Vec<Route>,
}

/// A subscriber that a message goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The send port.
    pub port: String,
    /// The host that runs it.
    pub host: String,
}

/// The body of a new message.
#[derive(Debug, Clone)]
pub enum Body {
    /// In memory. The engine stores it in one row, or in chunks above [`INLINE_BYTES_MAX`].
    Memory(Bytes),
    /// Staged before, complete.
    Staged {
        /// The staged body.
        id: BodyId,
        /// Its length in bytes, which the store compares with what it has.
        bytes: u64,
    },
}

/// Bodies up to this many bytes stand in the message's own row; larger ones in chunks.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Chunk size of staged bodies, in bytes: large enough that a commit per chunk is cheap, small
/// enough that a few of them in memory are nothing.
pub const CHUNK_BYTES: usize = 1024 * 1024;
