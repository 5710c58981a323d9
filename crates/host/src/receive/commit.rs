//! Commits in batches: publishing, then, when sources are released, closing receipts.

use std::sync::Arc;
use std::time::Duration;

use store::{Body, NewMessage, PublishBatch, Route, StoreError};
use tokio::sync::mpsc;

use super::cycle::{Cycle, Part, Stop};
use super::item::{Downloaded, Job, Published};

/// Messages in one transaction: at a hundred the price of a commit is spread thin (measured: 78
/// times the rate of single ones), and a transaction still takes only milliseconds.
pub(crate) const BATCH_MESSAGES_MAX: usize = 100;

/// Bytes of bodies in one transaction, so that it stays within the store's limit of time.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Releases that may wait for their receipts to be closed.
pub(crate) const CLOSED_AHEAD: usize = 1000;

/// Wait before a commit is tried again whose fate is unknown.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Longest time without the store before the poll is given up (and begun again, with back-off).
const AGAIN_FOR: Duration = Duration::from_secs(10);

/// The key of an item whose source is released.
pub(crate) type Closed = String;

/// Publishes what workers have downloaded.
pub(crate) async fn publish_all(
    cycle: Arc<Cycle>,
    mut downloaded: mpsc::Receiver<Downloaded>,
    releases: async_channel::Sender<Job>,
) -> Result<Part, Stop> {
    let mut published = 0;
    while let Some(first) = downloaded.recv().await {
        let mut batch = vec![first];
        let mut bytes = in_memory(&batch[0].message);
        while batch.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX {
            let Ok(next) = downloaded.try_recv() else { break };
            bytes += in_memory(&next.message);
            batch.push(next);
        }
        published += publish(&cycle, &mut batch).await?;
        cycle.location.pulse.beat();
        for done in batch {
            if cycle.keeps() {
                cycle.memory.know(&done.item);
            } else {
                // Nobody left to release it: the next poll finds its receipt and does.
                let Downloaded { item, key, seen_at, .. } = done;
                let seen_at = Some(seen_at);
                let _ = releases.send(Job::Release(Published { item, key, seen_at })).await;
            }
        }
    }
    Ok(Part::Published(published))
}

fn in_memory(message: &NewMessage) -> usize {
    match &message.body {
        Body::Memory(bytes) => bytes.len(),
        Body::Staged { .. } => 0,
    }
}

/// Publishes a batch, once, whatever happens to the store meanwhile.
///
/// A commit whose answer was lost is simply tried again: items that did get in come back as
/// duplicates of their own receipts, and their sources may be released just the same.
async fn publish(cycle: &Cycle, batch: &mut [Downloaded]) -> Result<u64, Stop> {
    let shared = &cycle.location.shared;
    let begun = tokio::time::Instant::now();
    let mut plan = shared.plan.clone();
    let mut seen = 0;
    loop {
        let routes = plan.borrow_and_update().clone();
        if routes.version != seen {
            seen = routes.version;
            for downloaded in batch.iter_mut() {
                downloaded.message.routes = routes
                    .routing
                    .routes(&downloaded.message.context)
                    .into_iter()
                    .map(|(port, host)| Route { port: port.to_string(), host: host.to_string() })
                    .collect();
            }
        }
        let messages = batch.iter().map(|downloaded| downloaded.message.clone()).collect();
        let request = PublishBatch { definitions_version: routes.version, messages };
        fail::fail_point!("publish_before");
        let outcome = shared.store.publish(&cycle.location.fence, &request).await;
        fail::fail_point!("publish_after");
        match outcome {
            Ok(published) => return Ok((batch.len() - published.duplicates.len()) as u64),
            Err(StoreError::StaleRoutes { .. }) => {
                shared.reread.notify_one();
                let _ = tokio::time::timeout(AGAIN_FOR, plan.changed()).await;
            }
            Err(StoreError::Unavailable(why)) if begun.elapsed() < AGAIN_FOR => {
                tracing::warn!("{why}; the commit is tried again");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Closes the receipts of released items.
pub(crate) async fn close_all(
    cycle: Arc<Cycle>,
    mut closed: mpsc::Receiver<Closed>,
) -> Result<Part, Stop> {
    let store = &cycle.location.shared.store;
    let source = cycle.pool.source()?;
    let mut keys = Vec::new();
    while closed.recv_many(&mut keys, CLOSED_AHEAD).await > 0 {
        // A source that came back after a power loss would be new once its receipt is closed.
        source.make_durable(&cycle.location.definition.after_receive).await?;
        let begun = tokio::time::Instant::now();
        loop {
            fail::fail_point!("close_before");
            match store.close_receipts(&cycle.location.fence, &cycle.source, &keys).await {
                Ok(()) => break,
                Err(StoreError::Unavailable(why)) if begun.elapsed() < AGAIN_FOR => {
                    tracing::warn!("{why}; closing receipts is tried again");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        keys.clear();
    }
    Ok(Part::Done)
}
