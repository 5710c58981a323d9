//! The sending side of a host: takes ready work in batches, delivers it, settles it.
//!
//! Two lanes do the same thing side by side, so that one batch is written to its partner while
//! another is taken from or settled in the store. What a lane holds when it dies is ready again
//! as soon as its lease changes hands; the peer may have got it, and the sink is told so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adapter::{AdapterError, Delivery, Sink};
use bytes::Bytes;
use futures_util::stream;
use messaging::{AfterFailure, after_failure};
use model::definition::SendPort;
use model::{BodyId, WorkId};
use store::{Fence, Outcome, Settlement, Store, StoreError, Topic, Work, WorkBody};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;

use crate::process::{Ended, Shared};

/// Lanes of a host: one delivers while the other talks to the store.
pub(crate) const LANES: usize = 2;

/// Work taken at a time: as many as one commit settles well.
const BATCH_MAX: usize = 100;

/// How often work is looked for without a hint: hints may get lost, this is the truth.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Wait before the store is asked again after it was not available.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Bytes of a chunked body read at a time.
const READ_BYTES: usize = 1024 * 1024;

/// One lane.
pub(crate) struct Lane {
    pub shared: Shared,
    pub fence: Arc<Fence>,
    pub ports: BTreeMap<String, Arc<SendPort>>,
    /// What the lanes of this host hold.
    pub in_flight: Arc<Mutex<BTreeSet<WorkId>>>,
    /// Held by the lane that takes: what another lane is about to hold must not look forgotten.
    pub taking: Arc<tokio::sync::Mutex<()>>,
    /// Lanes ran before under this fence, and may have ended with a lost answer.
    pub may_have_lost: bool,
    pub drain: CancellationToken,
}

/// Sends until it is asked to end or its fence is refused.
pub(crate) async fn run(lane: Lane) -> Ended {
    let mut wakes = lane.shared.store.subscribe(Topic::Work);
    let mut sinks = BTreeMap::new();
    let mut answer_lost = lane.may_have_lost;
    while !lane.drain.is_cancelled() {
        match lane.take(&mut answer_lost).await {
            Ok(work) if work.is_empty() => lane.wait(&mut wakes).await,
            Ok(work) => {
                let settlements = lane.deliver(work, &mut sinks).await;
                if let Err(error) = lane.settle(&settlements).await {
                    return Ended::Fenced(error);
                }
                lane.lock().retain(|id| settlements.iter().all(|one| one.work != *id));
            }
            Err(error @ StoreError::Fenced { .. }) => return Ended::Fenced(error),
            Err(error) => {
                tracing::warn!("sending pauses: {error}");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
    Ended::Drained
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<WorkId>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes work. When the answer to an earlier take was lost, what it may have taken is given
    /// back first: nobody else would ever deliver it while this owner lives.
    async fn take(&self, answer_lost: &mut bool) -> Result<Vec<Work>, StoreError> {
        let (store, host) = (&self.shared.store, self.shared.me.host.as_str());
        let _turn = self.taking.lock().await;
        if *answer_lost {
            let in_flight: Vec<WorkId> = self.lock().iter().copied().collect();
            store.give_back(&self.fence, host, &in_flight).await?;
            *answer_lost = false;
        }
        let taken = store.take(&self.fence, host, BATCH_MAX).await;
        match &taken {
            Ok(work) => self.lock().extend(work.iter().map(|one| one.id)),
            Err(_) => *answer_lost = true,
        }
        taken
    }

    /// Waits for work: a hint, the time of a postponed one, or the safety net.
    async fn wait(&self, wakes: &mut store::Wakes) {
        let next = self.shared.store.next_ready_at(self.shared.me.host.as_str()).await;
        let postponed = next.ok().flatten().map_or(LOOK_EVERY, |wait| wait.as_duration());
        tokio::select! {
            () = self.drain.cancelled() => {}
            () = wakes.next() => {}
            () = tokio::time::sleep(postponed.clamp(Duration::from_millis(1), LOOK_EVERY)) => {}
        }
    }

    /// Delivers a batch, port by port, and says what became of each piece of work.
    async fn deliver(
        &self,
        work: Vec<Work>,
        sinks: &mut BTreeMap<String, Arc<dyn Sink>>,
    ) -> Vec<Settlement> {
        let mut by_port: BTreeMap<String, Vec<Work>> = BTreeMap::new();
        for one in work {
            by_port.entry(one.port.clone()).or_default().push(one);
        }
        let mut settlements = Vec::new();
        for (name, work) in by_port {
            let Some(port) = self.ports.get(&name) else {
                settlements.extend(work.iter().map(|one| suspend(one, no_port(&name))));
                continue;
            };
            match self.sink(port, sinks) {
                Ok(sink) => settlements.extend(self.deliver_to(port, &*sink, work).await),
                Err(error) => {
                    settlements.extend(work.iter().map(|one| failed(port, one, &error)));
                }
            }
        }
        settlements
    }

    fn sink(
        &self,
        port: &SendPort,
        sinks: &mut BTreeMap<String, Arc<dyn Sink>>,
    ) -> adapter::Result<Arc<dyn Sink>> {
        if let Some(sink) = sinks.get(port.name.as_str()) {
            return Ok(sink.clone());
        }
        let sink: Arc<dyn Sink> = Arc::from((self.shared.protocols.sink)(&port.transport)?);
        sinks.insert(port.name.to_string(), sink.clone());
        Ok(sink)
    }

    async fn deliver_to(
        &self,
        port: &SendPort,
        sink: &dyn Sink,
        work: Vec<Work>,
    ) -> Vec<Settlement> {
        if !self.shared.trust.holds() {
            return work.iter().map(|one| settlement(one, Outcome::Return)).collect();
        }
        let mut batch = Vec::with_capacity(work.len());
        for one in &work {
            batch.push(Delivery {
                message: one.message,
                context: one.context.clone(),
                body_bytes: one.body_bytes,
                body: self.body(&one.body),
                maybe_delivered: one.maybe_delivered,
            });
        }
        fail::fail_point!("deliver_before");
        let answers = sink.deliver(batch).await;
        fail::fail_point!("deliver_after");
        work.iter()
            .zip(answers)
            .map(|(one, answer)| match answer {
                Ok(()) => settlement(one, Outcome::Done),
                Err(error) => failed(port, one, &error),
            })
            .collect()
    }

    fn body(&self, body: &WorkBody) -> Box<dyn AsyncRead + Send + Unpin> {
        match body {
            WorkBody::Inline(bytes) => Box::new(std::io::Cursor::new(bytes.clone())),
            WorkBody::Chunks(id) => Box::new(chunks(self.shared.store.clone(), *id)),
        }
    }

    /// Settles, once, whatever happens to the store meanwhile. An error is a refused fence.
    async fn settle(&self, settlements: &[Settlement]) -> Result<(), StoreError> {
        loop {
            match self.shared.store.settle(&self.fence, settlements).await {
                Ok(()) => return Ok(()),
                Err(error @ StoreError::Fenced { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!("{error}; settling is tried again");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    }
}

/// Reads a chunked body as a stream, one piece at a time.
fn chunks(store: Arc<dyn Store>, body: BodyId) -> impl AsyncRead + Send + Unpin {
    let pieces = stream::try_unfold(0u64, move |offset| {
        let store = store.clone();
        async move {
            let piece = store.read_body(body, offset, READ_BYTES).await;
            let piece: Bytes = piece.map_err(std::io::Error::other)?;
            let next = offset + piece.len() as u64;
            Ok::<_, std::io::Error>((!piece.is_empty()).then_some((piece, next)))
        }
    });
    StreamReader::new(Box::pin(pieces))
}

fn settlement(work: &Work, outcome: Outcome) -> Settlement {
    Settlement { work: work.id, outcome, maybe_delivered: false }
}

fn suspend(work: &Work, error: String) -> Settlement {
    settlement(work, Outcome::Suspend { error })
}

fn no_port(name: &str) -> String {
    format!(
        "send port {name} is no longer defined for this host; define it and resume, or terminate"
    )
}

/// A refusal is certain; of what became of a try that was cut off nobody knows.
fn failed(port: &SendPort, work: &Work, error: &AdapterError) -> Settlement {
    let maybe_delivered = matches!(error, AdapterError::Unavailable(_));
    let error = error.to_string();
    let settlement = match after_failure(port, work.attempts) {
        AfterFailure::Retry { after } => {
            tracing::warn!(port = %port.name, message = %work.message, "{error}; again in {after}");
            settlement(work, Outcome::Retry { after, error })
        }
        AfterFailure::Suspend => {
            tracing::error!(port = %port.name, message = %work.message, "{error}; suspended");
            suspend(work, error)
        }
    };
    Settlement { maybe_delivered, ..settlement }
}
