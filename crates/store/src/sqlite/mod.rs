//! The engine for the processes of one machine.
//!
//! Read in this order: this file, `writer` (how transactions run), `leases` (fences and takeovers),
//! `expiry` (why an owner is never told "renewed" too late), `lock` (what becomes of a frozen
//! writer); `receiving`, `sending`, `operators`, `orders` and `view` are the statements of each
//! method; `examine` and `self_test` look after all of it.
//!
//! Beside the database `x.db` stands a folder `x.db.d`: `write.queue` and `write.lock` (whose turn
//! it is to write), `expiry` and `expiry.lock` (when leases run out), `node-NAME.lock` (who lives),
//! `wake-cluster`, `wake-work` and `wake-events` (hints), `examine.lock` (whose turn it is to try
//! the fence). Nothing in it has to be backed up.

mod database;
mod examine;
mod expiry;
mod leases;
mod liveness;
mod lock;
mod migrations;
mod operators;
mod orders;
mod receiving;
mod rows;
mod self_test;
mod sending;
mod view;
mod wake;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use cluster::{
    AcquireRequest, GroupOrder, MoveRequest, NodeOrder, Presence, ResourceReport, Snapshot, Tenure,
};
use model::{
    BodyId, Definitions, Epoch, GroupName, LeaseName, Millis, NodeName, Timestamp, WorkId,
};

use crate::{
    Acquired, Backlog, Fence, FenceToken, Granted, LocationReport, NodeFacts, Options,
    PublishBatch, Published, Receipt, Release, Result, Route, Settlement, Staged, Store,
    StoreError, Topic, WATCH_MAX, Wakes, Work, WorkQuery, WorkView,
};
use database::{Database, blocking};

/// How often the locks of peers are looked at: the dead are noticed within two looks.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(40);

/// What stands beside the database. Dropped by the writer after its last transaction: when the
/// liveness locks in here are free, nothing of this `Store` can write any more.
struct Beside {
    expiry: expiry::Expiry,
    liveness: liveness::Liveness,
    wake: wake::WakeFiles,
    watch: Arc<lock::Watch>,
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.watch.close();
    }
}

/// A store in a SQLite file.
struct Sqlite {
    path: PathBuf,
    /// What stands beside it.
    folder: PathBuf,
    database: Database,
    beside: Arc<Beside>,
    known: Arc<view::Known>,
    /// What the first join of this process found.
    life: Arc<crate::life::Life>,
    /// The last take found less than it could have had: the next one looks first.
    took_all: AtomicBool,
}

/// Opens the database file, and makes it if it is not there.
pub async fn open(options: &Options) -> Result<Arc<dyn Store>> {
    let path = path_of(&options.url)?;
    let patience = options.patience;
    let store = blocking(move || Sqlite::open(&path, patience)).await?;
    Ok(Arc::new(store))
}

/// The path in `sqlite:/path/to/file.db`.
fn path_of(url: &str) -> Result<PathBuf> {
    match url.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() && !path.starts_with("//") && !path.ends_with('/') => {
            Ok(PathBuf::from(path))
        }
        _ => Err(StoreError::Refused(format!(
            "{url:?} does not name a file: write sqlite:/path/to/baton.db"
        ))),
    }
}

impl Sqlite {
    fn open(path: &Path, patience: Millis) -> Result<Sqlite> {
        let mut folder = path.as_os_str().to_owned();
        folder.push(".d");
        let folder = PathBuf::from(folder);
        let cannot = |error| {
            StoreError::Unavailable(format!("{} cannot be used: {error}", folder.display()))
        };
        std::fs::create_dir_all(&folder).map_err(cannot)?;
        let watch = lock::Watch::start()?;
        let beside = Arc::new(Beside {
            expiry: expiry::Expiry::open(&folder, &watch).map_err(cannot)?,
            liveness: liveness::Liveness::of(&folder),
            wake: wake::WakeFiles::open(&folder).map_err(cannot)?,
            watch: watch.clone(),
        });
        let turn = lock::FairLock::open(&folder, &watch).map_err(cannot)?;
        let connection = {
            let _held = turn.lock()?;
            let mut connection = database::open_writer(path)?;
            migrations::migrate(&mut connection)?;
            connection
        };
        let database = Database::start(path, connection, turn, beside.clone(), patience)?;
        Ok(Sqlite {
            path: path.to_owned(),
            folder,
            database,
            beside,
            known: Arc::default(),
            life: Arc::default(),
            took_all: AtomicBool::new(true),
        })
    }
}

#[async_trait]
impl Store for Sqlite {
    fn describe(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    async fn join(&self, node: &NodeName, facts: &NodeFacts, ttl: Millis) -> Result<Granted> {
        let (node, facts, beside) = (node.clone(), facts.clone(), self.beside.clone());
        let name = node.clone();
        if !blocking(move || Ok(beside.liveness.take(&name)?)).await? {
            return self.database.read(move |c| Err(leases::lives(c, &node)?)).await;
        }
        let life = self.life.clone();
        self.database.write(move |t| leases::join(t, &node, &facts, ttl, &life)).await
    }

    async fn renew(
        &self,
        node: &NodeName,
        leases: &[(LeaseName, Epoch)],
        ttl: Millis,
    ) -> Result<Vec<(LeaseName, Epoch)>> {
        let (node, leases, beside) = (node.clone(), leases.to_vec(), self.beside.clone());
        blocking(move || Ok(beside.expiry.renew(&node, &leases, ttl)?)).await
    }

    async fn acquire(
        &self,
        node: &NodeName,
        request: &AcquireRequest,
        ttl: Millis,
    ) -> Result<Acquired> {
        let (node, request) = (node.clone(), request.clone());
        self.database.write(move |t| leases::acquire(t, &node, &request, ttl)).await
    }

    async fn release(&self, node: &NodeName, release: &Release) -> Result<()> {
        let (node, release) = (node.clone(), release.clone());
        self.database.write(move |t| leases::release(t, &node, &release)).await
    }

    async fn bury(&self, lease: &LeaseName, seen_epoch: Epoch, reason: &str) -> Result<Acquired> {
        let (lease, reason) = (lease.clone(), reason.to_owned());
        self.database.write(move |t| leases::bury(t, &lease, seen_epoch, &reason)).await
    }

    async fn fence(&self, token: &FenceToken) -> Result<Fence> {
        let token = token.clone();
        self.database.read(move |c| leases::fence(c, token)).await
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        let (beside, known) = (self.beside.clone(), self.known.clone());
        self.database.read(move |c| view::snapshot(c, &beside, &known)).await
    }

    async fn presence(&self) -> Result<BTreeMap<NodeName, Presence>> {
        let beside = self.beside.clone();
        self.database.read(move |c| view::presence(c, &beside)).await
    }

    async fn watch(&self, _me: &NodeName, peers: &[NodeName]) -> Result<bool> {
        let looks = WATCH_MAX.as_duration().as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..looks {
            tokio::time::sleep(LOOK_EVERY).await;
            for peer in peers {
                // A look at a lock file takes microseconds, so it needs no thread of its own.
                if self.beside.liveness.is_free(peer)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn request_move(&self, request: &MoveRequest) -> Result<()> {
        let request = request.clone();
        self.database.write(move |t| leases::request_move(t, &request)).await
    }

    async fn drop_move(&self, group: &GroupName, asked_at: Timestamp) -> Result<()> {
        let group = group.clone();
        self.database.write(move |t| leases::drop_move(t, &group, asked_at)).await
    }

    async fn order_group(&self, order: &GroupOrder) -> Result<()> {
        let order = order.clone();
        self.database.write(move |t| orders::want_group(t, &order)).await
    }

    async fn order_node(&self, order: &NodeOrder) -> Result<()> {
        let order = order.clone();
        self.database.write(move |t| orders::want_node(t, &order)).await
    }

    async fn evict(&self, node: &NodeName, by: &str) -> Result<()> {
        let (node, by) = (node.clone(), by.to_owned());
        self.database.write(move |t| leases::evict(t, &node, &by)).await
    }

    async fn report_resources(&self, reports: &[ResourceReport]) -> Result<()> {
        let reports = reports.to_vec();
        self.database.write(move |t| orders::report_resources(t, &reports)).await
    }

    async fn record_events(&self, events: &[model::OperatorEvent]) -> Result<()> {
        let events = events.to_vec();
        self.database.write(move |t| orders::record_events(t, &events)).await
    }

    async fn events(&self, query: &crate::EventQuery) -> Result<Vec<model::OperatorEvent>> {
        let query = query.clone();
        self.database.read(move |c| orders::events(c, &query)).await
    }

    async fn in_flight(
        &self,
        lease: &LeaseName,
        epoch: Epoch,
        limit: usize,
    ) -> Result<Vec<crate::InFlight>> {
        let lease = lease.clone();
        self.database.read(move |c| receiving::in_flight(c, &lease, epoch, limit)).await
    }

    async fn examine(&self) -> Result<Vec<crate::Finding>> {
        Ok(self.examine_all().await)
    }

    async fn apply(&self, definitions: &Definitions, base: u64, by: &str) -> Result<u64> {
        let (definitions, by) = (definitions.clone(), by.to_owned());
        self.database.write(move |t| view::apply(t, &definitions, base, &by)).await
    }

    async fn definitions(&self) -> Result<(u64, Arc<Definitions>)> {
        let known = self.known.clone();
        self.database.read(move |c| known.in_force(c)).await
    }

    async fn receipts(&self, source: &str, keys: &[String]) -> Result<Vec<Receipt>> {
        let (source, keys) = (source.to_owned(), keys.to_vec());
        self.database.read(move |c| receiving::receipts(c, &source, &keys)).await
    }

    async fn open_receipts(&self, source: &str, limit: usize) -> Result<Vec<String>> {
        let source = source.to_owned();
        self.database.read(move |c| receiving::open_receipts(c, &source, limit)).await
    }

    async fn stage(&self, fence: &Fence, source: &str, key: &str) -> Result<Staged> {
        let (fence, source, key) = (fence.clone(), source.to_owned(), key.to_owned());
        self.database.write(move |t| receiving::stage(t, &fence, &source, &key)).await
    }

    async fn append(&self, fence: &Fence, body: BodyId, offset: u64, chunk: Bytes) -> Result<()> {
        let fence = fence.clone();
        self.database.write(move |t| receiving::append(t, &fence, body, offset, &chunk)).await
    }

    async fn discard(&self, fence: &Fence, body: BodyId) -> Result<()> {
        let fence = fence.clone();
        self.database.write(move |t| receiving::discard(t, &fence, body)).await
    }

    async fn publish(&self, fence: &Fence, batch: &PublishBatch) -> Result<Published> {
        let (fence, batch) = (fence.clone(), batch.clone());
        self.database.write(move |t| receiving::publish(t, &fence, &batch)).await
    }

    async fn close_receipts(&self, fence: &Fence, source: &str, keys: &[String]) -> Result<()> {
        let (fence, source, keys) = (fence.clone(), source.to_owned(), keys.to_vec());
        self.database.write(move |t| receiving::close_receipts(t, &fence, &source, &keys)).await
    }

    async fn take(&self, fence: &Fence, host: &str, limit: usize) -> Result<Vec<Work>> {
        let (fence, host) = (fence.clone(), host.to_owned());
        let (shown, of) = (fence.clone(), host.clone());
        if self.took_all.load(Ordering::Relaxed) {
            let look = self.database.read(move |c| sending::look(c, &shown, &of));
            if !look.await? {
                return Ok(Vec::new());
            }
        }
        let take = self.database.write(move |t| sending::take(t, &fence, &host, limit));
        let work = take.await?;
        self.took_all.store(work.len() < limit, Ordering::Relaxed);
        Ok(work)
    }

    async fn read_body(&self, body: BodyId, offset: u64, limit: usize) -> Result<Bytes> {
        self.database.read(move |c| sending::read_body(c, body, offset, limit)).await
    }

    async fn give_back(&self, fence: &Fence, host: &str, in_flight: &[WorkId]) -> Result<()> {
        let (fence, host, in_flight) = (fence.clone(), host.to_owned(), in_flight.to_vec());
        self.database.write(move |t| sending::give_back(t, &fence, &host, &in_flight)).await
    }

    async fn settle(&self, fence: &Fence, settlements: &[Settlement]) -> Result<()> {
        let (fence, settlements) = (fence.clone(), settlements.to_vec());
        self.database.write(move |t| sending::settle(t, &fence, &settlements)).await
    }

    async fn next_ready_at(&self, host: &str) -> Result<Option<Millis>> {
        let host = host.to_owned();
        self.database.read(move |c| sending::next_ready_at(c, &host)).await
    }

    async fn report_location(&self, report: &LocationReport) -> Result<()> {
        let report = report.clone();
        self.database.write(move |t| operators::report_location(t, &report)).await
    }

    async fn locations(&self) -> Result<Vec<LocationReport>> {
        self.database.read(operators::locations).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        self.database.read(operators::backlog).await
    }

    async fn list_work(&self, query: &WorkQuery) -> Result<Vec<WorkView>> {
        let query = query.clone();
        self.database.read(move |c| operators::list_work(c, &query)).await
    }

    async fn history(&self, limit: usize) -> Result<Vec<Tenure>> {
        self.database.read(move |c| view::history(c, limit)).await
    }

    async fn resume(&self, work: &[WorkId], routes: &BTreeMap<WorkId, Vec<Route>>) -> Result<u64> {
        let (work, routes) = (work.to_vec(), routes.clone());
        self.database.write(move |t| operators::resume(t, &work, &routes)).await
    }

    async fn terminate(&self, work: &[WorkId]) -> Result<u64> {
        let work = work.to_vec();
        self.database.write(move |t| operators::terminate(t, &work)).await
    }

    async fn sweep(&self, older_than: Millis) -> Result<()> {
        let known = self.known.clone();
        self.database.write(move |t| operators::sweep(t, older_than, &known)).await
    }

    fn subscribe(&self, topic: Topic) -> Wakes {
        self.beside.wake.subscribe(topic)
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(database::now())
    }
}
