//! A worker: one connection that downloads items and releases their sources.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use adapter::{AdapterError, Item, Session, Sighting, identity};
use messaging::Step;
use model::definition::AfterReceive;
use model::{Context, MessageId, property};
use store::{Body, NewMessage};
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::commit::Closed;
use super::cycle::{BODIES_KIB_MAX, Cycle, Part, Stop};
use super::download::{Download, MEMORY_BYTES_MAX};
use super::item::{Downloaded, Job, Published};
use super::pool::Connection;
use child::clock::boot_time;

/// How long a source that was seen to be the published item counts as still being it. When the
/// commit took longer (the store was away), it is looked at once more before it is removed.
const SEEN_FOR: Duration = Duration::from_millis(250);

/// A worker's queues.
pub(crate) struct Worker {
    pub cycle: Arc<Cycle>,
    pub jobs: async_channel::Receiver<Job>,
    pub releases: async_channel::Receiver<Job>,
    pub closed: mpsc::Sender<Closed>,
}

/// Why a job was not done.
enum Trouble {
    /// The connection is dead; the item will come again.
    Connection(AdapterError),
    /// The whole poll must stop.
    Stop(Stop),
}

impl From<Stop> for Trouble {
    fn from(stop: Stop) -> Trouble {
        Trouble::Stop(stop)
    }
}

/// Works until there is nothing left to download and then nothing left to release.
pub(crate) async fn run(
    worker: Worker,
    downloaded: mpsc::Sender<Downloaded>,
) -> Result<Part, Stop> {
    let mut connection = None;
    let drain = worker.cycle.location.drain.clone();
    loop {
        let job = tokio::select! {
            biased;
            Ok(release) = worker.releases.recv() => release,
            () = drain.cancelled() => break,
            job = worker.jobs.recv() => match job {
                Ok(job) => job,
                Err(_no_more) => break,
            },
        };
        if !worker.work(job, &mut connection, &downloaded).await? {
            return Ok(Part::Done);
        }
    }
    drop(downloaded);
    while let Ok(release) = worker.releases.recv().await {
        if !worker.release_only(release, &mut connection).await? {
            return Ok(Part::Done);
        }
    }
    if let Some(connection) = connection {
        worker.cycle.pool.put(connection);
    }
    Ok(Part::Done)
}

impl Worker {
    /// Does a job. False: this worker has no connection and ends; its job is left for the next
    /// poll, the other workers go on.
    async fn work(
        &self,
        job: Job,
        connection: &mut Option<Connection>,
        downloaded: &mpsc::Sender<Downloaded>,
    ) -> Result<bool, Stop> {
        let Job::Receive(item) = job else { return self.release_only(job, connection).await };
        if !self.connect(connection, self.cycle.pool.get()).await? {
            return Ok(false);
        }
        let Some(ready) = connection else { return Ok(false) };
        match self.receive(&item, ready).await {
            Ok(Some(done)) => {
                self.cycle.troubles.store(0, Ordering::Relaxed);
                ready.used = false;
                // The committer is gone only when the poll is being stopped.
                let _ = downloaded.send(done).await;
                Ok(true)
            }
            Ok(None) => Ok(true),
            Err(trouble) => self.recover(trouble, &item, connection).await,
        }
    }

    async fn release_only(
        &self,
        job: Job,
        connection: &mut Option<Connection>,
    ) -> Result<bool, Stop> {
        let Job::Release(published) = job else { return Ok(true) };
        if !self.connect(connection, self.cycle.pool.get()).await? {
            return Ok(false);
        }
        let Some(ready) = connection else { return Ok(false) };
        let released = self.release(&published, ready).await;
        if !matches!(released, Ok(true)) {
            // The removal may have got through all the same: a listing tells, in time.
            self.cycle.memory.receipts_settled.store(false, Ordering::Relaxed);
        }
        match released {
            Ok(_) => {
                ready.used = false;
                Ok(true)
            }
            Err(trouble) => self.recover(trouble, &published.item, connection).await,
        }
    }

    /// Sees to it that there is a connection. A server that lets in fewer than we would like (so
    /// many sessions a user) costs workers, not the poll; only the last one's failure stops it.
    async fn connect(
        &self,
        connection: &mut Option<Connection>,
        new: impl Future<Output = adapter::Result<Connection>>,
    ) -> Result<bool, Stop> {
        if connection.is_some() {
            return Ok(true);
        }
        match new.await {
            Ok(new) => {
                *connection = Some(new);
                Ok(true)
            }
            Err(error) if self.cycle.workers.fetch_sub(1, Ordering::Relaxed) > 1 => {
                tracing::debug!(%error, "one worker fewer");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// After a failure: a dead connection is replaced, and the item is left for the next poll.
    async fn recover(
        &self,
        trouble: Trouble,
        item: &Item,
        connection: &mut Option<Connection>,
    ) -> Result<bool, Stop> {
        let dead = connection.take();
        match trouble {
            Trouble::Stop(stop) => Err(stop),
            Trouble::Connection(error) => {
                if dead.is_some_and(|dead| dead.used) {
                    tracing::debug!(%error, "a connection had died while it was idle");
                } else {
                    self.cycle.failed(item, &error.to_string());
                }
                // One connection after the other dies: that is no fault of the items.
                let in_a_row = self.cycle.troubles.fetch_add(1, Ordering::Relaxed);
                if in_a_row >= 2 * self.cycle.location.definition.connections_max {
                    return Err(Stop::Failed(error.to_string()));
                }
                self.connect(connection, self.cycle.pool.connect()).await
            }
        }
    }

    /// Downloads an item and makes a message of it. None: it is not to be received now.
    async fn receive(
        &self,
        item: &Item,
        connection: &mut Connection,
    ) -> Result<Option<Downloaded>, Trouble> {
        let cycle = &*self.cycle;
        cycle.location.pulse.beat();
        let looked_at = Instant::now();
        let Some(before) = self.look(item, connection).await? else { return Ok(None) };
        if !cycle.memory.looks_stable(item, &before, boot_time()) {
            return Ok(None);
        }
        let strong = identity(&item.path, &before);
        let large = before.bytes.is_some_and(|bytes| bytes > MEMORY_BYTES_MAX as u64);
        let max = cycle.location.definition.item_bytes_max.unwrap_or(u64::MAX);
        if before.bytes.is_some_and(|bytes| bytes > max) {
            cycle.failed(item, &format!("larger than item_bytes_max ({max} bytes)"));
            return Ok(None);
        }
        if let Some(key) = &strong
            && item.identity().is_none()
            && (large || cycle.keeps())
        {
            // The listing could not tell its receipt. For a small item that is to be released
            // anyway the publishing transaction tells it soon enough.
            match self.step(key).await? {
                Step::Receive => {}
                Step::ReleaseOnly => {
                    let (item, key) = (item.clone(), key.clone());
                    let published = Published { item, key, seen_at: Some(looked_at) };
                    if !self.release(&published, connection).await? {
                        cycle.memory.receipts_settled.store(false, Ordering::Relaxed);
                    }
                    return Ok(None);
                }
                Step::Skip => {
                    cycle.memory.know(item);
                    return Ok(None);
                }
                Step::Wait => return Ok(None),
            }
        }
        let most = MEMORY_BYTES_MAX as u64;
        let kib = before.bytes.unwrap_or(most).min(most) / 1024 + 1;
        let kib = u32::try_from(kib.min(BODIES_KIB_MAX as u64)).unwrap_or(1);
        let Ok(memory) = cycle.bodies.clone().acquire_many_owned(kib).await else {
            return Ok(None);
        };
        let staging_key = strong.clone().unwrap_or_else(|| weak_key(item, "staging"));
        let mut download =
            Download::new(&cycle.location, &cycle.source, &staging_key, strong.is_none());
        if !self.fetch(item, connection, &mut download, large && strong.is_some()).await? {
            return Ok(None);
        }
        let seen_at = Instant::now();
        if !self.unchanged(item, &before, &download, connection).await? {
            download.discard().await?;
            return Ok(None);
        }
        let key = match (strong, download.content()) {
            (Some(key), _) => key,
            (None, content) => weak_key(item, &content.unwrap_or_default()),
        };
        let bytes = download.bytes();
        let body = download.finish().await?;
        let message = self.message(item, &key, bytes, body);
        Ok(Some(Downloaded { item: item.clone(), key, message, seen_at, _memory: memory }))
    }

    /// Size and time as exactly as they can be had. None: the item is gone or cannot be seen.
    async fn look(
        &self,
        item: &Item,
        connection: &mut Connection,
    ) -> Result<Option<Sighting>, Trouble> {
        if item.identity().is_some() {
            return Ok(Some(item.sighting));
        }
        self.of_item(item, connection.session.look(item).await)
    }

    /// What the receipt of an item asks for whose identity was known only after a look.
    async fn step(&self, key: &str) -> Result<Step, Trouble> {
        let cycle = &*self.cycle;
        let keys = [key.to_owned()];
        let receipts = cycle.location.shared.store.receipts(&cycle.source, &keys).await;
        Ok(cycle.step(receipts.map_err(Stop::from)?.first()))
    }

    /// Transfers the bytes; for a large item from where an earlier transfer was cut.
    async fn fetch(
        &self,
        item: &Item,
        connection: &mut Connection,
        download: &mut Download,
        resumable: bool,
    ) -> Result<bool, Trouble> {
        let offset = if resumable { download.resume().await? } else { 0 };
        if offset > 0 {
            tracing::info!(item = item.name, offset, "goes on where an earlier download was cut");
        }
        let mut fetched = connection.session.fetch(item, offset, download).await;
        if offset > 0 && matches!(fetched, Err(AdapterError::Item(_))) {
            download.discard().await?;
            download.resume().await?;
            fetched = connection.session.fetch(item, 0, download).await;
        }
        if let Some(stop) = download.stopped() {
            return Err(stop.into());
        }
        if let Some(why) = download.refused() {
            // The transfer was cut, so its connection is of no more use.
            download.discard().await?;
            return Err(Trouble::Connection(AdapterError::Unavailable(why)));
        }
        if matches!(fetched, Err(AdapterError::Item(_) | AdapterError::Gone(_))) {
            // What came is not the item that was listed; the next try begins anew.
            download.discard().await?;
        }
        Ok(self.of_item(item, fetched)?.is_some())
    }

    /// Looks again after the transfer: was the item complete, and is it still the same?
    async fn unchanged(
        &self,
        item: &Item,
        before: &Sighting,
        download: &Download,
        connection: &mut Connection,
    ) -> Result<bool, Trouble> {
        // With what is known by now, so that nothing is taken from the listing.
        let known = Item { sighting: *before, ..item.clone() };
        let Some(after) = self.of_item(item, connection.session.look(&known).await)? else {
            return Ok(false);
        };
        let bytes = download.bytes();
        let same = after.modified_ms == before.modified_ms || before.coarse;
        let whole = after.bytes.is_none_or(|size| size == bytes)
            && before.bytes.is_none_or(|size| size == bytes);
        if !(same && whole) {
            self.cycle.failed(item, "it changed while it was downloaded; the copy is dropped");
        }
        Ok(same && whole)
    }

    /// Deletes or moves the source of a published item. False if its receipt stays open.
    async fn release(
        &self,
        published: &Published,
        connection: &mut Connection,
    ) -> Result<bool, Trouble> {
        let Published { item, key, seen_at } = published;
        let cycle = &*self.cycle;
        cycle.location.pulse.beat();
        if !cycle.location.shared.trust.holds() {
            let why = "trust in the lease has ended; the source is left to the next owner";
            return Err(Stop::Failed(why.into()).into());
        }
        fail::fail_point!("release_before");
        let session = &mut connection.session;
        if seen_at.is_none_or(|at| at.elapsed() > SEEN_FOR) {
            match self.of_item(item, is_published(item, key, &mut **session).await)? {
                Some(true) => {}
                Some(false) => {
                    // What is there now is another item; the next listing shows it.
                    let _ = self.closed.send(key.clone()).await;
                    return Ok(true);
                }
                None => return Ok(false),
            }
        }
        let outcome = match &cycle.location.definition.after_receive {
            AfterReceive::Delete => session.remove(item).await,
            AfterReceive::Move(folder) => session.move_to(item, folder).await,
            AfterReceive::Keep => return Ok(true),
        };
        fail::fail_point!("release_after");
        match outcome {
            Ok(()) => {
                let _ = self.closed.send(key.clone()).await;
                Ok(true)
            }
            // An earlier try got through, or its owner took it back; or a server whose disk is away
            // says so of every file. Listings will tell.
            Err(AdapterError::Gone(_)) => Ok(false),
            other => Ok(self.of_item(item, other)?.is_some()),
        }
    }

    /// Sorts an adapter's answer: a failure of the item is noted, one of the connection is passed
    /// on.
    fn of_item<T>(&self, item: &Item, answer: adapter::Result<T>) -> Result<Option<T>, Trouble> {
        match answer {
            Ok(value) => Ok(Some(value)),
            // A server that lists what it then denies must not be asked at every poll.
            Err(AdapterError::Gone(why) | AdapterError::Item(why)) => {
                self.cycle.failed(item, &why);
                Ok(None)
            }
            Err(error @ (AdapterError::Unavailable(_) | AdapterError::Refused(_))) => {
                Err(Trouble::Connection(error))
            }
        }
    }

    fn message(&self, item: &Item, key: &str, bytes: u64, body: Body) -> NewMessage {
        let cycle = &*self.cycle;
        let location = &cycle.location;
        let kind = (location.shared.protocols.name)(&location.definition.transport);
        let mut context = Context::default();
        context.set(property::RECEIVE_PORT_NAME, location.port.as_str());
        context.set(property::RECEIVE_LOCATION_NAME, location.definition.name.as_str());
        context.set(property::INBOUND_TRANSPORT_LOCATION, cycle.address.as_str());
        context.set(property::INBOUND_TRANSPORT_TYPE, kind);
        context.set(property::RECEIVED_FILE_NAME, item.name.as_str());
        context.set(property::BODY_BYTES, i64::try_from(bytes).unwrap_or(i64::MAX));
        context.set(property::PUBLISHED_UNDER, location.fence.lease().to_string());
        let epoch = i64::try_from(location.fence.epoch().0).unwrap_or(i64::MAX);
        context.set(property::PUBLISHED_EPOCH, epoch);
        NewMessage {
            id: MessageId(Uuid::now_v7()),
            publisher: location.definition.name.to_string(),
            context,
            body,
            receipt: Some((cycle.source.clone(), key.to_owned())),
            routes: Vec::new(),
        }
    }
}

/// Whether what would be removed is what was published: between the download and now the store may
/// have been away for long, and the partner may have put a new file under the name.
async fn is_published(item: &Item, key: &str, session: &mut dyn Session) -> adapter::Result<bool> {
    let unknown = Item { sighting: Sighting::default(), ..item.clone() };
    let now = session.look(&unknown).await?;
    let same_size = match (now.bytes, item.sighting.bytes) {
        (Some(now), Some(published)) => now == published,
        _ => true,
    };
    Ok(match identity(&item.path, &now) {
        Some(now) if !is_weak(key, item) => now == key,
        _ => same_size,
    })
}

/// The key of an item that only its path and content tell apart.
fn weak_key(item: &Item, content: &str) -> String {
    format!("{}|content|{content}", item.path.escape_ascii())
}

fn is_weak(key: &str, item: &Item) -> bool {
    key.starts_with(&weak_key(item, ""))
}
