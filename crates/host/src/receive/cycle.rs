//! One poll: from the listing to the last removal.
//!
//! Five kinds of task hand items on through bounded queues: the lister lists, the chooser decides
//! what each item needs, workers (one per connection) download and release, the committer
//! publishes in batches, the closer closes receipts in batches. Each ends when those before it
//! have ended, so the poll is over when all are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use adapter::{AdapterError, Item, Listed};
use messaging::{Identity, Known, ReceiptState, Step};
use model::Millis;
use store::{Receipt, StoreError};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::commit;
use super::item::{Job, Published};
use super::memory::{Memory, Opinion};
use super::pool::Pool;
use super::worker::{self, Worker};
use super::{Location, Report};
use crate::tasks::Tasks;
use child::clock::boot_time;

/// Items listed ahead of the chooser: enough to fill one question for receipts.
const LISTED_AHEAD: usize = 500;

/// Jobs of one poll, some 200 bytes each. A listing is read to its end at once, because no server
/// holds a data connection open for thousands of downloads; what is left is listed again.
const JOBS_MAX: usize = 20_000;

/// Downloads that may wait for a commit: one full batch while another is being committed.
const DOWNLOADED_AHEAD: usize = 2 * commit::BATCH_MESSAGES_MAX;

/// Open receipts looked at when a location begins. An owner that dies leaves as many as it had
/// removals under way; far more than that are a folder that cannot be deleted from.
const OPEN_RECEIPTS_MAX: usize = 10_000;

/// An open receipt whose source is missing from two listings so far apart is closed. Longer than
/// a remount; and a partner who sends the very same file again sooner is told so by its receipt.
const GONE_AFTER: Millis = Millis::seconds(30);

/// Memory that downloaded bodies of one location may take, in KiB.
pub(crate) const BODIES_KIB_MAX: usize = 32 * 1024;

/// Why a poll ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The store refused the fence.
    Fenced(StoreError),
    /// Something is away or wrong; the sentence says what. Try again later.
    Failed(String),
}

impl From<AdapterError> for Stop {
    fn from(error: AdapterError) -> Stop {
        Stop::Failed(error.to_string())
    }
}

/// How one task of a poll ended.
pub(crate) enum Part {
    Listed(Listed),
    Published(u64),
    /// The listing was not read to its end: there is more to do than one poll takes on.
    Cut,
    Done,
}

/// What the tasks of one poll share.
pub(crate) struct Cycle {
    pub location: Location,
    pub pool: Arc<Pool>,
    pub memory: Arc<Memory>,
    /// The scope of the source's receipts.
    pub source: String,
    /// Its address, for people.
    pub address: String,
    pub bodies: Arc<Semaphore>,
    /// Workers that still work.
    pub workers: AtomicU32,
    /// Connections that died one after the other without anything done in between.
    pub troubles: AtomicU32,
}

/// Polls once.
pub(crate) async fn run(
    location: &Location,
    memory: &Arc<Memory>,
    report: &mut Report,
) -> Result<(), Stop> {
    let Some(pool) = location.shared.pools.get(&location.definition.name) else {
        return Err(Stop::Failed("the location is being redefined".into()));
    };
    let (source, address) = (pool.source()?.scope(), pool.source()?.address());
    let cycle = Arc::new(Cycle {
        location: location.clone(),
        pool,
        memory: memory.clone(),
        source,
        address,
        bodies: Arc::new(Semaphore::new(BODIES_KIB_MAX)),
        workers: AtomicU32::new(location.definition.connections_max),
        troubles: AtomicU32::new(0),
    });
    let missed = cycle.open_receipts().await?;
    memory.begin();
    let mut parts = start(&cycle);
    let (mut complete, mut cut) = (false, false);
    let mut received = 0;
    let mut result = Ok(());
    while let Some(part) = parts.next().await {
        match part {
            Ok(Part::Listed(listed)) => {
                complete = listed.not_understood.is_empty();
                note(&listed, location);
                report.listed(location, listed.weak_identity.as_deref()).await;
            }
            Ok(Part::Published(count)) => received += count,
            Ok(Part::Cut) => cut = true,
            Ok(Part::Done) => {}
            Err(stop) => {
                result = Err(stop);
                break;
            }
        }
    }
    parts.abort().await;
    report.received(received);
    if complete && !cut && result.is_ok() && !location.drain.is_cancelled() {
        cycle.close_gone(missed).await?;
        memory.complete();
    }
    if result.is_err() {
        // A removal may have got through whose receipt was not closed.
        memory.receipts_settled.store(false, Ordering::Relaxed);
    }
    result
}

fn start(cycle: &Arc<Cycle>) -> Tasks<Result<Part, Stop>> {
    let (listed_sender, listed) = mpsc::channel(LISTED_AHEAD);
    // The chooser keeps to JOBS_MAX; a bounded channel would make room for all of them at once.
    let (jobs_sender, jobs) = async_channel::unbounded();
    let (downloaded_sender, downloaded) = mpsc::channel(DOWNLOADED_AHEAD);
    // Without a bound, because the committer must never wait for the workers that wait for it;
    // it holds no more than what was downloaded, and that is bounded.
    let (releases_sender, releases) = async_channel::unbounded();
    let (closed_sender, closed) = mpsc::channel(commit::CLOSED_AHEAD);
    let mut parts = Tasks::new(CancellationToken::new());
    parts.start(list(cycle.clone(), listed_sender));
    parts.start(choose(cycle.clone(), listed, jobs_sender, releases_sender.clone()));
    for _ in 0..cycle.location.definition.connections_max {
        let worker = Worker {
            cycle: cycle.clone(),
            jobs: jobs.clone(),
            releases: releases.clone(),
            closed: closed_sender.clone(),
        };
        parts.start(worker::run(worker, downloaded_sender.clone()));
    }
    parts.start(commit::publish_all(cycle.clone(), downloaded, releases_sender));
    parts.start(commit::close_all(cycle.clone(), closed));
    parts
}

/// Lists into the queue. A pooled connection that died while idle is replaced once.
async fn list(cycle: Arc<Cycle>, listed: mpsc::Sender<Item>) -> Result<Part, Stop> {
    let mut connection = cycle.pool.get().await?;
    let outcome = match connection.session.list(listed.clone()).await {
        Err(AdapterError::Unavailable(_)) if connection.used => {
            connection = cycle.pool.connect().await?;
            connection.session.list(listed).await
        }
        outcome => outcome,
    };
    let outcome = outcome?;
    cycle.pool.put(connection);
    Ok(Part::Listed(outcome))
}

/// Decides what each listed item needs.
async fn choose(
    cycle: Arc<Cycle>,
    mut listed: mpsc::Receiver<Item>,
    jobs: async_channel::Sender<Job>,
    releases: async_channel::Sender<Job>,
) -> Result<Part, Stop> {
    let mut items = Vec::new();
    while listed.recv_many(&mut items, LISTED_AHEAD).await > 0 {
        cycle.location.pulse.beat();
        let candidates = cycle.candidates(std::mem::take(&mut items));
        let receipts = cycle.receipts(&candidates).await?;
        for job in candidates.into_iter().filter_map(|item| cycle.job(item, &receipts)) {
            let queue = match job {
                Job::Receive(_) => &jobs,
                Job::Release(..) => &releases,
            };
            let full = queue.len() >= JOBS_MAX || queue.try_send(job).is_err();
            if full || cycle.location.drain.is_cancelled() {
                return Ok(Part::Cut);
            }
        }
    }
    Ok(Part::Done)
}

impl Cycle {
    /// The open receipts that an earlier owner may have left behind when it died between a
    /// removal and the closing of its receipt, or an earlier poll that failed; asked for before
    /// a listing, until one was complete.
    async fn open_receipts(&self) -> Result<Vec<String>, Stop> {
        if self.memory.receipts_settled.load(Ordering::Relaxed) || self.keeps() {
            return Ok(Vec::new());
        }
        let store = &self.location.shared.store;
        Ok(store.open_receipts(&self.source, OPEN_RECEIPTS_MAX).await?)
    }

    /// Closes those of them whose source two complete listings, begun later and [`GONE_AFTER`]
    /// apart, do not show: it is gone, and whatever comes under its name from now on is new. One
    /// listing is not enough: a folder whose disk is not mounted yet is empty too.
    async fn close_gone(&self, open: Vec<String>) -> Result<(), Stop> {
        let source = self.pool.source()?;
        let gone = |key: &String| {
            adapter::path_of(key)
                .is_some_and(|path| source.covers(&path) && !self.memory.listed(&path))
        };
        let all_seen = open.len() < OPEN_RECEIPTS_MAX;
        let missed = open.into_iter().filter(gone).collect();
        let (gone, still_missed) = self.memory.missed(missed, boot_time(), GONE_AFTER);
        if !gone.is_empty() {
            let Location { shared, fence, .. } = &self.location;
            shared.store.close_receipts(fence, &self.source, &gone).await?;
        }
        self.memory.receipts_settled.store(all_seen && !still_missed, Ordering::Relaxed);
        Ok(())
    }

    /// The items that may be worked on now.
    fn candidates(&self, items: Vec<Item>) -> Vec<Item> {
        let now = boot_time();
        let fits = |item: &Item| {
            let max = self.location.definition.item_bytes_max;
            match (max, item.sighting.bytes) {
                (Some(max), Some(bytes)) if bytes > max => {
                    let why = format!("{bytes} bytes are more than item_bytes_max, {max}");
                    if self.memory.left_out(item, &why) {
                        let location = &self.location.definition.name;
                        tracing::warn!(%location, item = item.name, "{why}; left where it is");
                    }
                    false
                }
                _ => true,
            }
        };
        items
            .into_iter()
            .filter(|item| self.memory.see(item, now) == Opinion::Stable)
            .filter(fits)
            .collect()
    }

    /// The receipts of items that can be told by their listing; for the others the worker asks,
    /// when it has looked.
    async fn receipts(&self, items: &[Item]) -> Result<Vec<Receipt>, Stop> {
        let keys: Vec<String> = items.iter().filter_map(Item::identity).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.location.shared.store.receipts(&self.source, &keys).await?)
    }

    fn job(&self, item: Item, receipts: &[Receipt]) -> Option<Job> {
        let Some(key) = item.identity() else { return Some(Job::Receive(item)) };
        let receipt = receipts.iter().find(|receipt| receipt.key == key);
        match self.step(receipt) {
            Step::Wait => None,
            Step::Receive => Some(Job::Receive(item)),
            Step::ReleaseOnly => Some(Job::Release(Published { item, key, seen_at: None })),
            Step::Skip => {
                self.memory.know(&item);
                None
            }
        }
    }

    /// What the receipt of a stable item asks for.
    pub fn step(&self, receipt: Option<&Receipt>) -> Step {
        let receipt = match receipt {
            None => ReceiptState::None,
            // A poll begins when all of the one before has ended, so every receipt that is
            // closed was closed before this listing began.
            Some(receipt) if receipt.closed => ReceiptState::Closed { listed_since: true },
            Some(_) => ReceiptState::Open,
        };
        let (identity, keep) = (Identity::Strong, self.keeps());
        Known { stable: true, identity, receipt, keep }.step()
    }

    /// Whether items stay where they are.
    pub fn keeps(&self) -> bool {
        messaging::receipt::keeps(&self.location.definition.after_receive)
    }

    /// An item could not be taken or released now.
    pub fn failed(&self, item: &Item, why: &str) {
        let (failures, parked) = self.memory.failed(item, why, boot_time());
        let location = &self.location.definition.name;
        if parked {
            tracing::error!(%location, item = item.name, failures,
                "{why}; left alone for an hour, the others go on");
        } else {
            tracing::warn!(%location, item = item.name, failures, "{why}; will try again");
        }
    }
}

/// Nothing that a server lists is dropped in silence.
fn note(listed: &Listed, location: &Location) {
    if let Some(first) = listed.not_understood.first() {
        tracing::warn!(
            location = %location.definition.name,
            lines = listed.not_understood.len(),
            "the listing has lines that are not understood, the first: {first:?}"
        );
    }
}
