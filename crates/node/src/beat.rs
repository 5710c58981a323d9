//! Renews the leases of this node, on a thread and a store connection of its own, so that no
//! work of the node and no publish can hold a renewal up.
//!
//! It renews only while the node's loop turns: a node whose loop hangs must lose its leases.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use child::clock::boot_time;
use cluster::{Event, Timing};
use model::{BootTime, Epoch, LeaseName, Millis, NodeName};
use store::{Granted, Options, Store, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::{NodeConfig, NodeError};

/// Wait between two tries to open the store or to join, at start: the first, doubled each time,
/// and the longest.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(8);

/// Longest wait for an answer while joining: a name that is in use is refused after 2 s, and must
/// not be taken for a store that does not answer.
const JOIN_PATIENCE: Millis = Millis::seconds(5);

/// The running beat.
pub(crate) struct Beat {
    said: mpsc::UnboundedReceiver<BeatSays>,
    leases: Arc<Mutex<Vec<(LeaseName, Epoch)>>>,
    turned: Arc<AtomicU64>,
    ends: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// News of the beat.
#[derive(Debug)]
pub(crate) enum BeatSays {
    /// A renewal came back.
    Renewed(Event),
    /// The node's own lease is somebody else's.
    Replaced,
}

impl Beat {
    /// Joins the cluster and begins to beat. Waits while the store is away.
    pub async fn start(config: &NodeConfig) -> Result<(Beat, Epoch), NodeError> {
        let (joined_sender, joined) = oneshot::channel();
        // Without a bound, because the beat must never wait; it says four things per ttl.
        let (said_sender, said) = mpsc::unbounded_channel();
        let (ends, end) = oneshot::channel();
        let leases = Arc::new(Mutex::new(Vec::new()));
        let turned = Arc::new(AtomicU64::new(boot_time().0));
        let task = Task {
            config: config.clone(),
            leases: leases.clone(),
            turned: turned.clone(),
            said: said_sender,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name("beat".into())
            .spawn(move || runtime.block_on(task.run(joined_sender, end)))?;
        let granted =
            joined.await.map_err(|_| NodeError::BeatStopped("it could not begin".into()))??;
        let beat = Beat { said, leases, turned, ends: Some(ends), thread: Some(thread) };
        Ok((beat, granted.epoch))
    }

    /// The next news; none when the thread has ended.
    pub async fn next(&mut self) -> Option<BeatSays> {
        self.said.recv().await
    }

    /// From now on renews exactly these, besides the node's own lease.
    pub fn renew(&self, leases: Vec<(LeaseName, Epoch)>) {
        *self.leases.lock().unwrap_or_else(PoisonError::into_inner) = leases;
    }

    /// The node's loop is alive.
    pub fn main_loop_turned(&self) {
        self.turned.store(boot_time().0, Ordering::Relaxed);
    }

    /// Stops beating, after the node's own lease has been vacated.
    pub fn end(&mut self) {
        drop(self.ends.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the beat has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

struct Task {
    config: NodeConfig,
    leases: Arc<Mutex<Vec<(LeaseName, Epoch)>>>,
    turned: Arc<AtomicU64>,
    said: mpsc::UnboundedSender<BeatSays>,
}

impl Task {
    async fn run(
        self,
        joined: oneshot::Sender<Result<Granted, StoreError>>,
        mut end: oneshot::Receiver<()>,
    ) {
        let (store, granted) = match self.join().await {
            Ok(there) => there,
            Err(error) => {
                let _ = joined.send(Err(error));
                return;
            }
        };
        let epoch = granted.epoch;
        if joined.send(Ok(granted)).is_err() {
            return;
        }
        let mut tick = tokio::time::interval(self.config.timing.renew_every().as_duration());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // The other end is dropped to say so.
                _ = &mut end => break,
                _ = tick.tick() => if self.beat(&*store, epoch).await.is_err() { return },
            }
        }
        self.leave(&*store, epoch).await;
    }

    async fn join(&self) -> Result<(Arc<dyn Store>, Granted), StoreError> {
        let NodeConfig { name, timing, facts, .. } = &self.config;
        let mut options = Options::new(&self.config.store, format!("beat of node {name}"));
        options.connections_max = 1;
        // A renewal has a limit of its own; a join must outlast the sessions of an earlier life.
        options.patience = timing.ttl.max(JOIN_PATIENCE);
        let mut again_after = AGAIN_AFTER;
        loop {
            let joined = async {
                let store = store::open(&options).await?;
                let granted = store.join(name, facts, timing.ttl).await?;
                Ok((store, granted))
            };
            match joined.await {
                Err(StoreError::Unavailable(why)) => {
                    tracing::warn!(node = %name, "{why}; waiting for the store");
                    tokio::time::sleep(again_after).await;
                    again_after = (again_after * 2).min(AGAIN_AFTER_MAX);
                }
                result => return result,
            }
        }
    }

    /// One renewal. An error: nobody listens any more.
    async fn beat(&self, store: &dyn Store, epoch: Epoch) -> Result<(), ()> {
        let NodeConfig { name, timing, .. } = &self.config;
        let own = (LeaseName::Node(name.clone()), epoch);
        let mut leases = vec![own.clone()];
        if self.loop_is_alive(*timing) {
            leases.extend(self.leases.lock().unwrap_or_else(PoisonError::into_inner).clone());
        } else {
            tracing::error!(node = %name, "the node's loop hangs; its groups are not renewed");
        }
        let sent_at = boot_time();
        let renewal = store.renew(name, &leases, timing.ttl);
        match tokio::time::timeout(timing.ttl.as_duration(), renewal).await {
            Ok(Ok(lost)) if lost.contains(&own) => self.say(BeatSays::Replaced),
            Ok(Ok(lost)) => self.say(BeatSays::Renewed(renewed(name, sent_at, leases, lost))),
            Ok(Err(error)) => {
                tracing::warn!(node = %name, "leases were not renewed: {error}");
                Ok(())
            }
            Err(_elapsed) => {
                tracing::warn!(node = %name, "leases were not renewed: no answer within {}",
                    timing.ttl);
                Ok(())
            }
        }
    }

    fn loop_is_alive(&self, timing: Timing) -> bool {
        let turned = BootTime(self.turned.load(Ordering::Relaxed));
        boot_time().since(turned) < timing.ttl
    }

    fn say(&self, news: BeatSays) -> Result<(), ()> {
        self.said.send(news).map_err(drop)
    }

    /// Vacates the node's own lease, so that peers see it left in good order.
    async fn leave(&self, store: &dyn Store, epoch: Epoch) {
        let release = store::Release {
            lease: LeaseName::Node(self.config.name.clone()),
            epoch,
            cause: model::Cause::Drain,
            reason: "the node was stopped".into(),
            offered_to: None,
            resource: None,
        };
        let released = store.release(&self.config.name, &release);
        match tokio::time::timeout(self.config.timing.ttl.as_duration(), released).await {
            Ok(Ok(())) => tracing::info!(node = %self.config.name, "left"),
            Ok(Err(error)) => tracing::warn!("could not say good-bye to the cluster: {error}"),
            Err(_elapsed) => tracing::warn!("could not say good-bye to the cluster in time"),
        }
    }
}

fn renewed(
    me: &NodeName,
    sent_at: BootTime,
    asked: Vec<(LeaseName, Epoch)>,
    lost: Vec<(LeaseName, Epoch)>,
) -> Event {
    let own = LeaseName::Node(me.clone());
    let renewed =
        asked.into_iter().filter(|lease| lease.0 != own && !lost.contains(lease)).collect();
    Event::Renewed { sent_at, renewed, lost }
}
