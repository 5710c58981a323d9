//! The engine for the machines of a cluster: PostgreSQL 15 and later.
//!
//! Read in this order: `transaction` (how a method becomes one round trip), `lease` with `judge`
//! (who owns what), `orders` (what operators want and owners report), `publish` and `work` (the
//! MessageBox), then `session` (liveness), `wakes` (hints between processes) and `connect`;
//! `examine` and `self_test` look after all of it. The SQL of a method stands in `sql/postgres/`.

mod body;
mod cluster;
mod connect;
mod error;
mod examine;
mod judge;
mod lease;
mod migrate;
mod operate;
mod orders;
mod publish;
mod remembered;
mod self_test;
mod session;
mod text;
mod tls;
mod transaction;
mod wakes;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Once};

use ::cluster::{
    AcquireRequest, GroupOrder, MoveRequest, NodeOrder, Presence, ResourceReport, Snapshot, Tenure,
};
use async_trait::async_trait;
use bytes::Bytes;
use model::{
    BodyId, Definitions, Epoch, GroupName, LeaseName, Millis, NodeName, Timestamp, WorkId,
};

use self::connect::Connector;
use self::session::Seat;
use self::transaction::Database;
use self::wakes::Hints;
use crate::{
    Acquired, Backlog, Fence, FenceToken, Granted, LocationReport, NodeFacts, Options,
    PublishBatch, Published, Receipt, Release, Result, Route, Settlement, Staged, Store, Topic,
    Wakes, Work, WorkQuery, WorkView,
};

/// Hints in and hints out have a connection each.
const HINT_CONNECTIONS: usize = 2;

/// One for publishing and one for taking, or each would wait for the other.
const POOL_SIZE_MIN: usize = 2;

/// Takeovers of several groups at a time; only a process that is a node ever makes these, besides
/// one each for its liveness, for the presence of the others and for waiting for the next one.
const LEASE_CONNECTIONS: usize = 2;

/// Opens the database and brings its schema to this version's.
pub async fn open(options: &Options) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(Postgres::open(options, None).await?))
}

impl Postgres {
    /// Opens the tables where the connections find them, or those of a schema of their own, which
    /// tells nobody what happens there.
    async fn open(options: &Options, schema: Option<&'static str>) -> Result<Postgres> {
        let tasks = Arc::new(crate::tasks::Tasks::new());
        let mut connector = Connector::new(options, tasks.clone())?;
        if let Some(schema) = schema {
            connector = connector.in_schema(schema);
        }
        let size = options.connections_max.saturating_sub(HINT_CONNECTIONS).max(POOL_SIZE_MIN);
        let database = Database::new(options, connector.clone(), size)?;
        let leases = Arc::new(Database::new(options, connector.clone(), LEASE_CONNECTIONS)?);
        if let Some(schema) = schema {
            database.patiently(self_test::ensure_it_is_in(&database, schema)).await?;
        }
        database.patiently(migrate::migrate(&database)).await?;
        Ok(Postgres {
            options: options.clone(),
            hints: Hints::new(connector, schema.is_some()),
            database,
            leases,
            liveness: Arc::new(Seat::new()),
            presence: Seat::new(),
            watch: Seat::new(),
            watched: Once::new(),
            life: crate::life::Life::default(),
            remembered: Mutex::default(),
            definitions: Mutex::default(),
            took_all: AtomicBool::new(false),
            tasks,
        })
    }
}

/// A store in a PostgreSQL database.
struct Postgres {
    /// As it was opened; an examination opens another one like it.
    options: Options,
    /// For the MessageBox and all the rest.
    database: Database,
    /// For changes of owners and what they are decided from: they never queue behind publishes.
    leases: Arc<Database>,
    hints: Hints,
    /// The connection that holds the node's liveness lock and renews its leases.
    liveness: Arc<Seat>,
    /// Whether somebody looks after that connection.
    watched: Once,
    /// What the first join of this process found.
    life: crate::life::Life,
    /// The connection that asks how present the nodes are.
    presence: Seat,
    /// The connection that waits for the next node to go.
    watch: Seat,
    /// What earlier snapshots brought.
    remembered: Mutex<remembered::Remembered>,
    /// The newest definitions seen, so that they are not read again and again.
    definitions: Mutex<(u64, Arc<Definitions>)>,
    /// The last take found less than it could have had: the next one looks first.
    took_all: AtomicBool,
    tasks: Arc<crate::tasks::Tasks>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The tasks hold connectors, and those the list of tasks: without this neither would end.
        self.tasks.abort();
    }
}

#[async_trait]
impl Store for Postgres {
    fn describe(&self) -> String {
        self.database.place.clone()
    }

    async fn join(&self, node: &NodeName, facts: &NodeFacts, ttl: Millis) -> Result<Granted> {
        self.database.patiently(self.join_as(node, facts, ttl)).await
    }

    async fn renew(
        &self,
        node: &NodeName,
        leases: &[(LeaseName, Epoch)],
        ttl: Millis,
    ) -> Result<Vec<(LeaseName, Epoch)>> {
        self.database.patiently(self.renew_leases(node, leases, ttl)).await
    }

    async fn acquire(
        &self,
        node: &NodeName,
        request: &AcquireRequest,
        ttl: Millis,
    ) -> Result<Acquired> {
        self.database.patiently(self.acquire_lease(node, request, ttl)).await
    }

    async fn release(&self, node: &NodeName, release: &Release) -> Result<()> {
        self.database.patiently(self.release_lease(node, release)).await
    }

    async fn bury(&self, lease: &LeaseName, seen_epoch: Epoch, reason: &str) -> Result<Acquired> {
        self.database.patiently(self.bury_lease(lease, seen_epoch, reason)).await
    }

    async fn fence(&self, token: &FenceToken) -> Result<Fence> {
        self.database.patiently(self.fence_of(token)).await
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        self.database.patiently(self.read_snapshot()).await
    }

    async fn presence(&self) -> Result<BTreeMap<NodeName, Presence>> {
        self.database.patiently(self.read_presence()).await
    }

    async fn watch(&self, me: &NodeName, peers: &[NodeName]) -> Result<bool> {
        self.wait_for_next(me, peers).await
    }

    async fn request_move(&self, request: &MoveRequest) -> Result<()> {
        self.database.patiently(self.ask_to_move(request)).await
    }

    async fn drop_move(&self, group: &GroupName, asked_at: Timestamp) -> Result<()> {
        self.database.patiently(self.forget_move(group, asked_at)).await
    }

    async fn order_group(&self, order: &GroupOrder) -> Result<()> {
        self.database.patiently(self.want_group(order)).await
    }

    async fn order_node(&self, order: &NodeOrder) -> Result<()> {
        self.database.patiently(self.want_node(order)).await
    }

    async fn evict(&self, node: &NodeName, by: &str) -> Result<()> {
        self.database.patiently(self.evict_node(node, by)).await
    }

    async fn report_resources(&self, reports: &[ResourceReport]) -> Result<()> {
        self.database.patiently(self.keep_resource_reports(reports)).await
    }

    async fn record_events(&self, events: &[model::OperatorEvent]) -> Result<()> {
        self.database.patiently(self.keep_events(events)).await
    }

    async fn events(&self, query: &crate::EventQuery) -> Result<Vec<model::OperatorEvent>> {
        self.database.patiently(self.read_events(query)).await
    }

    async fn in_flight(
        &self,
        lease: &LeaseName,
        epoch: Epoch,
        limit: usize,
    ) -> Result<Vec<crate::InFlight>> {
        self.database.patiently(self.was_in_flight(lease, epoch, limit)).await
    }

    async fn examine(&self) -> Result<Vec<crate::Finding>> {
        // Each part has a limit of its own, and none is an error: what fails is a finding.
        Ok(self.examine_all().await)
    }

    async fn apply(&self, definitions: &Definitions, base: u64, by: &str) -> Result<u64> {
        self.database.patiently(self.put_in_force(definitions, base, by)).await
    }

    async fn definitions(&self) -> Result<(u64, Arc<Definitions>)> {
        self.database.patiently(self.read_definitions()).await
    }

    async fn receipts(&self, source: &str, keys: &[String]) -> Result<Vec<Receipt>> {
        self.database.patiently(self.receipts_of(source, keys)).await
    }

    async fn open_receipts(&self, source: &str, limit: usize) -> Result<Vec<String>> {
        self.database.patiently(self.open_receipts_of(source, limit)).await
    }

    async fn stage(&self, fence: &Fence, source: &str, key: &str) -> Result<Staged> {
        self.database.patiently(self.stage_body(fence, source, key)).await
    }

    async fn append(&self, fence: &Fence, body: BodyId, offset: u64, chunk: Bytes) -> Result<()> {
        self.database.patiently(self.append_chunk(fence, body, offset, &chunk)).await
    }

    async fn discard(&self, fence: &Fence, body: BodyId) -> Result<()> {
        self.database.patiently(self.discard_body(fence, body)).await
    }

    async fn publish(&self, fence: &Fence, batch: &PublishBatch) -> Result<Published> {
        self.database.patiently(self.publish_batch(fence, batch)).await
    }

    async fn close_receipts(&self, fence: &Fence, source: &str, keys: &[String]) -> Result<()> {
        self.database.patiently(self.close_receipts_of(fence, source, keys)).await
    }

    async fn take(&self, fence: &Fence, host: &str, limit: usize) -> Result<Vec<Work>> {
        self.database.patiently(self.take_work(fence, host, limit)).await
    }

    async fn read_body(&self, body: BodyId, offset: u64, limit: usize) -> Result<Bytes> {
        self.database.patiently(self.read_chunks(body, offset, limit)).await
    }

    async fn give_back(&self, fence: &Fence, host: &str, in_flight: &[WorkId]) -> Result<()> {
        self.database.patiently(self.give_back_work(fence, host, in_flight)).await
    }

    async fn settle(&self, fence: &Fence, settlements: &[Settlement]) -> Result<()> {
        self.database.patiently(self.settle_work(fence, settlements)).await
    }

    async fn next_ready_at(&self, host: &str) -> Result<Option<Millis>> {
        self.database.patiently(self.wait_of(host)).await
    }

    async fn report_location(&self, report: &LocationReport) -> Result<()> {
        self.database.patiently(self.keep_report(report)).await
    }

    async fn locations(&self) -> Result<Vec<LocationReport>> {
        self.database.patiently(self.read_locations()).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        self.database.patiently(self.count_backlog()).await
    }

    async fn list_work(&self, query: &WorkQuery) -> Result<Vec<WorkView>> {
        self.database.patiently(self.view_work(query)).await
    }

    async fn history(&self, limit: usize) -> Result<Vec<Tenure>> {
        self.database.patiently(self.read_history(limit)).await
    }

    async fn resume(&self, work: &[WorkId], routes: &BTreeMap<WorkId, Vec<Route>>) -> Result<u64> {
        self.database.patiently(self.resume_work(work, routes)).await
    }

    async fn terminate(&self, work: &[WorkId]) -> Result<u64> {
        self.database.patiently(self.terminate_work(work)).await
    }

    async fn sweep(&self, older_than: Millis) -> Result<()> {
        self.database.patiently(self.sweep_away(older_than)).await
    }

    fn subscribe(&self, topic: Topic) -> Wakes {
        self.hints.subscribe(&self.tasks, topic)
    }

    async fn now(&self) -> Result<Timestamp> {
        self.database.patiently(self.read_clock()).await
    }
}
