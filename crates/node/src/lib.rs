//! The cluster service of one machine: beats, reads the snapshot, asks the pure agent, performs
//! effects.
//!
//! The loop is `select`, which is the only place that waits and returns one event, then `apply`,
//! which asks [`cluster::Agent`] what follows and starts each effect as a task whose end is
//! another event. So a hung store or a host that does not answer never delays letting go.

mod beat;
mod children;
mod news;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use child::clock::boot_time;
use child::tasks::Tasks;
use cluster::{AcquireOutcome, AcquireRequest, Agent, Effect, Event, Presence, Timing};
use model::{BootTime, Epoch, EventId, LeaseName, Millis, NodeName};
use store::{Acquired, NodeFacts, Options, Release, Store, StoreError, Topic, Wakes};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use beat::{Beat, BeatSays};
use children::Children;
use news::Unrecorded;

/// Shortest time between two waits for a peer to go: one that is gone is not asked for in a circle
/// until the snapshot shows it.
const WATCH_PAUSE: Duration = Duration::from_millis(40);

/// The loop turns at least this often, which shows the beat that it is alive.
const TURN_EVERY: Duration = Duration::from_millis(250);

/// Wait before a read of the snapshot that failed is tried again.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How often what nobody needs any more is removed from the store, a bounded amount at a time.
/// The nodes share it, so that it is done while one node lives.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// How long closed receipts and abandoned downloads are kept: a partner who asks what became of
/// a file of last week gets an answer.
const KEPT_FOR: Millis = Millis::hours(7 * 24);

/// Events that may wait for the loop. Each sender has few under way; the bound only guards
/// against a bug.
const EVENTS_WAITING_MAX: usize = 1024;

/// Who this node is.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name.
    pub name: NodeName,
    /// The store.
    pub store: String,
    /// Lease times.
    pub timing: Timing,
    /// The program that host instances are started from, which understands `host`.
    pub program: PathBuf,
    /// Environment variables that host instances are given besides this process's own.
    pub environment: Vec<(String, String)>,
    /// What it tells the cluster about itself.
    pub facts: NodeFacts,
}

/// Why a node ended.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process has become this node.
    #[error(
        "another process has taken the name {0}: this one stops at once. Give each `baton node` a \
         name of its own"
    )]
    Replaced(NodeName),
    /// The beat has stopped, which never happens while the process is healthy.
    #[error("the renewal of leases has stopped: {0}")]
    BeatStopped(String),
    /// The operating system refused something.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Runs a node until `stop` is cancelled and everything is let go in good order.
///
/// Must be called on the program's main thread, on a runtime that stays on it: host instances
/// are started from here, and they die with the thread that started them.
pub async fn run(config: NodeConfig, stop: CancellationToken) -> Result<(), NodeError> {
    let (events, inbox) = mpsc::channel(EVENTS_WAITING_MAX);
    // It may wait for the store for ever, and there is nothing to let go of yet.
    let (beat, epoch) = tokio::select! {
        started = Beat::start(&config) => started?,
        () = stop.cancelled() => return Ok(()),
    };
    tracing::info!(node = %config.name, %epoch, "joined");
    let store = store::open(&Options::new(&config.store, format!("node {}", config.name))).await?;
    let wakes = store.subscribe(Topic::Cluster);
    let mut node = Node {
        agent: Agent::new(config.name.clone(), epoch, config.timing),
        children: Children::new(&config, events.clone()),
        store,
        beat,
        inbox,
        wakes,
        tasks: Tasks::new(),
        reading: Reading::Idle,
        wake_at: None,
        peers: Vec::new(),
        turn: every(TURN_EVERY),
        sweep: every(SWEEP_EVERY),
        watch_due: every(WATCH_PAUSE),
        watching: false,
        unrecorded: Unrecorded::default(),
        store_away: false,
        sweeps_due: 0,
        read_again_due: false,
        ended_at: None,
        stop,
        stopping: false,
        ended: false,
        config,
    };
    let sentence = format!("{} joined: version {}", node.config.name, node.config.facts.version);
    node.record(EventId::NODE_JOINED, node.subject(), sentence);
    while !node.ended || node.has_last_words() {
        let happened = node.select().await;
        node.apply(happened)?;
    }
    node.beat.end();
    Ok(())
}

/// What was missed is not made up for: one look shows all there is.
fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

struct Node {
    config: NodeConfig,
    agent: Agent,
    children: Children,
    store: Arc<dyn Store>,
    beat: Beat,
    inbox: mpsc::Receiver<Event>,
    wakes: Wakes,
    /// Effects under way; each ends as something that happened.
    tasks: Tasks<Happened>,
    reading: Reading,
    wake_at: Option<BootTime>,
    /// The peers that were present when the store was last read.
    peers: Vec<NodeName>,
    turn: tokio::time::Interval,
    sweep: tokio::time::Interval,
    watch_due: tokio::time::Interval,
    watching: bool,
    unrecorded: Unrecorded,
    store_away: bool,
    sweeps_due: usize,
    read_again_due: bool,
    ended_at: Option<BootTime>,
    stop: CancellationToken,
    stopping: bool,
    ended: bool,
}

/// A read of the snapshot: at most one is under way, and one more is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Idle,
    UnderWay,
    AndAgain,
}

/// Everything that can wake the loop.
#[derive(Debug)]
enum Happened {
    Event(Event),
    Read(Result<Box<cluster::Snapshot>, StoreError>),
    Watched(Result<bool, StoreError>),
    Beat(Option<BeatSays>),
    Hint,
    ReadAgain,
    WatchDue,
    SweepDue,
    Recorded(bool),
    Turn,
}

impl Node {
    async fn select(&mut self) -> Happened {
        let wake_at = self.wake_at;
        let due = async {
            match wake_at {
                Some(at) => tokio::time::sleep(at.since(boot_time()).as_duration()).await,
                None => std::future::pending().await,
            }
        };
        let (stopping, watches) = (self.stopping, !self.watching && !self.peers.is_empty());
        tokio::select! {
            biased;
            said = self.beat.next() => Happened::Beat(said),
            Some(event) = self.inbox.recv() => Happened::Event(event),
            Some(happened) = self.tasks.next() => happened,
            () = due => Happened::Event(Event::Tick),
            () = self.stop.cancelled(), if !stopping => Happened::Event(Event::Stop),
            () = self.wakes.next() => Happened::Hint,
            _ = self.watch_due.tick(), if watches => Happened::WatchDue,
            _ = self.turn.tick() => Happened::Turn,
            _ = self.sweep.tick() => Happened::SweepDue,
        }
    }

    /// Not async: whatever takes time is started as a task whose end is another event.
    fn apply(&mut self, happened: Happened) -> Result<(), NodeError> {
        self.beat.main_loop_turned();
        match happened {
            Happened::Event(event) => {
                self.stopping |= event == Event::Stop;
                self.feed(event);
            }
            Happened::Read(read) => self.read(read),
            Happened::Watched(answer) => self.watched(answer),
            Happened::Beat(Some(BeatSays::Renewed(event))) => self.feed(event),
            Happened::Beat(Some(BeatSays::Replaced)) => {
                let sentence = format!("another process is {} now", self.config.name);
                self.record(EventId::NODE_REPLACED, self.subject(), sentence);
                return Err(NodeError::Replaced(self.config.name.clone()));
            }
            Happened::Beat(None) => {
                return Err(NodeError::BeatStopped("its thread has ended".into()));
            }
            Happened::Hint => self.read_snapshot(),
            Happened::ReadAgain => {
                self.read_again_due = false;
                self.read_snapshot();
            }
            Happened::WatchDue => self.watch(),
            Happened::SweepDue => self.sweep_in_turn(),
            Happened::Recorded(ok) => {
                self.unrecorded.answered(ok);
                self.record_events();
            }
            Happened::Turn => {}
        }
        Ok(())
    }

    /// Asks the agent what follows, and starts it.
    fn feed(&mut self, event: Event) {
        for effect in self.agent.handle(event, boot_time()) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::ReadSnapshot => self.read_snapshot(),
            Effect::Acquire(request) => self.acquire(request),
            Effect::Release { lease, epoch, cause, reason, offered_to, resource } => {
                self.release(Release { lease, epoch, cause, reason, offered_to, resource });
            }
            Effect::Bury { lease, seen_epoch, reason } => self.bury(lease, seen_epoch, reason),
            Effect::DropMove { group, asked_at } => {
                let store = self.store.clone();
                self.tasks.start(async move {
                    note("a move request", store.drop_move(&group, asked_at).await);
                    Happened::Hint
                });
            }
            Effect::Renew(leases) => self.beat.renew(leases),
            Effect::Spawn { resource, spec } => self.children.spawn(&resource, spec),
            Effect::Activate { resource, lease, epoch, trust_until } => {
                self.children.activate(&resource, lease, epoch, trust_until);
            }
            Effect::Trust { resource, trust_until } => self.children.trust(&resource, trust_until),
            Effect::Deactivate { resource, within } => self.children.deactivate(&resource, within),
            Effect::Kill(resource) => self.children.kill(&resource),
            Effect::WakeAt(at) => self.wake_at = Some(at),
            Effect::Report(reports) => self.report(reports),
            Effect::Say(reason) => self.say(reason),
            Effect::Exit => self.ended = true,
        }
    }

    fn read_snapshot(&mut self) {
        if self.reading != Reading::Idle {
            self.reading = Reading::AndAgain;
            return;
        }
        self.reading = Reading::UnderWay;
        let store = self.store.clone();
        self.tasks.start(async move { Happened::Read(store.snapshot().await.map(Box::new)) });
    }

    fn read(&mut self, read: Result<Box<cluster::Snapshot>, StoreError>) {
        let again = self.reading == Reading::AndAgain;
        self.reading = Reading::Idle;
        match read {
            Ok(snapshot) => {
                self.store_is_back();
                let nodes = snapshot.nodes.iter();
                let there = nodes.filter(|node| {
                    node.name != self.config.name && node.presence == Presence::Present
                });
                self.peers = there.map(|node| node.name.clone()).collect();
                self.feed(Event::Snapshot(*snapshot));
            }
            Err(error) => {
                self.store_is_away(&error);
                if !std::mem::replace(&mut self.read_again_due, true) {
                    self.tasks.start(async {
                        tokio::time::sleep(READ_AGAIN_AFTER).await;
                        Happened::ReadAgain
                    });
                }
            }
        }
        if again {
            self.read_snapshot();
        }
    }

    fn acquire(&mut self, request: AcquireRequest) {
        let (store, me, ttl) =
            (self.store.clone(), self.config.name.clone(), self.config.timing.ttl);
        self.tasks.start(async move {
            let sent_at = boot_time();
            let outcome = match store.acquire(&me, &request, ttl).await {
                Ok(Acquired::Granted(granted)) => {
                    AcquireOutcome::Granted(granted.epoch, granted.evidence)
                }
                Ok(Acquired::Refused(why)) => AcquireOutcome::Refused(why),
                Err(error) => AcquireOutcome::Unknown(error.to_string()),
            };
            Happened::Event(Event::Acquired { lease: request.lease, sent_at, outcome })
        });
    }

    fn release(&mut self, release: Release) {
        let (store, me) = (self.store.clone(), self.config.name.clone());
        self.tasks.start(async move {
            let ok = note("a release", store.release(&me, &release).await);
            Happened::Event(Event::Released { lease: release.lease, epoch: release.epoch, ok })
        });
    }

    fn bury(&mut self, lease: LeaseName, seen_epoch: Epoch, reason: String) {
        let store = self.store.clone();
        self.tasks.start(async move {
            note("a burial", store.bury(&lease, seen_epoch, &reason).await);
            Happened::Hint
        });
    }

    fn sweep_in_turn(&mut self) {
        self.sweeps_due = (self.sweeps_due + 1) % (self.peers.len() + 1);
        if self.sweeps_due == 0 {
            self.sweep_store();
        }
    }

    fn sweep_store(&mut self) {
        let store = self.store.clone();
        self.tasks.start(async move {
            note("a sweep", store.sweep(KEPT_FOR).await);
            Happened::Turn
        });
    }

    /// Waits for a peer to go; one wait at a time.
    fn watch(&mut self) {
        self.watching = true;
        let (store, me, peers) = (self.store.clone(), self.config.name.clone(), self.peers.clone());
        self.tasks.start(async move { Happened::Watched(store.watch(&me, &peers).await) });
    }

    /// A peer that went is looked for once more before anything follows, because a broken
    /// connection is made again within milliseconds: the snapshot brings the certainty.
    fn watched(&mut self, answer: Result<bool, StoreError>) {
        self.watching = false;
        if matches!(answer, Ok(true)) {
            self.read_snapshot();
        }
    }
}

/// Says what failed; whatever was to be done will be done again when a snapshot shows it is due.
fn note<T>(what: &str, result: Result<T, StoreError>) -> bool {
    if let Err(error) = &result {
        tracing::warn!("{what} did not get through: {error}");
    }
    result.is_ok()
}
