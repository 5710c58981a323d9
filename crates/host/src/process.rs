//! The process of a host instance: `select` waits for the next event, `apply` acts on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use messaging::Routing;
use model::{BootTime, Definitions, Epoch, HostName, Millis};
use store::{Fence, FenceToken, Options, Store, StoreError, Topic, Wakes};
use thiserror::Error;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::receive::{Location, Pools, Pulse};
use crate::tasks::Tasks;
use crate::{Protocols, receive, send};
use child::protocol::{self, Configuration, FromChild, Lines, ToChild};
use child::trust::{EXIT_LET_GO, Trust};

/// How often the node hears that we are alive: thrice within the shortest hang timeout.
const PROGRESS_EVERY: Duration = Duration::from_millis(330);

/// How often definitions are read again without a hint: hints may get lost, this is the truth.
const DEFINITIONS_EVERY: Duration = Duration::from_secs(5);

/// Wait between two tries to open the store, at start.
const OPEN_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Wait between two questions for a fence while the store is away.
const FENCE_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How long work in progress may take to end when definitions change.
const REDEFINE_WITHIN: Millis = Millis::seconds(5);

/// Why a host instance ended.
#[derive(Debug, Error)]
pub enum HostError {
    /// It was not started by a node.
    #[error("`baton host` is started by `baton node`, not by hand: {0}")]
    NotAChild(String),
    /// The definitions cannot be worked with.
    #[error("{0}")]
    Definitions(String),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system refused something.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// What the drivers of an instance share.
#[derive(Clone)]
pub struct Shared {
    /// Who we are.
    pub me: Arc<Configuration>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Until when we may act.
    pub trust: Trust,
    /// The definitions in force and what follows from them.
    pub plan: watch::Receiver<Arc<Routes>>,
    /// Asks for the definitions to be read again.
    pub reread: Arc<tokio::sync::Notify>,
    /// The protocols of this binary.
    pub protocols: Protocols,
    /// Connections to partners.
    pub pools: Arc<Pools>,
}

/// Definitions with their compiled filters.
pub struct Routes {
    /// Their version.
    pub version: u64,
    /// The definitions.
    pub definitions: Arc<Definitions>,
    /// Their filters.
    pub routing: Routing,
}

/// How a driver ended.
#[derive(Debug)]
pub enum Ended {
    /// It had been asked to.
    Drained,
    /// The store refused its fence: this process is stale.
    Fenced(StoreError),
}

/// Runs a host instance until its parent is gone.
pub async fn run(protocols: Protocols) -> Result<(), HostError> {
    die_with_parent()?;
    let socket =
        child::inherited_socket().map_err(|error| HostError::NotAChild(error.to_string()))?;
    let (reader, mut writer) = socket.into_split();
    let mut lines = Lines::new(reader);
    let Some(ToChild::Configure(me)) = lines.next().await else {
        return Err(HostError::NotAChild("its parent said nothing".into()));
    };
    let trust = Trust::watched()?;
    #[cfg(feature = "failpoints")]
    crate::blow::arm();
    let (store, routes) = open_store(&me, &mut lines).await?;
    protocol::write(&mut writer, &FromChild::Ready).await?;
    let (plan_sender, plan) = watch::channel(routes);
    let reread = Arc::new(tokio::sync::Notify::new());
    let wakes = store.subscribe(Topic::Cluster);
    let pools = Arc::new(Pools::default());
    let shared = Shared { me: Arc::new(me), store, trust, plan, reread, protocols, pools };
    shared.pools.define(&shared);
    let mut keep_warm = Tasks::new(CancellationToken::new());
    keep_warm.start(receive::keep_warm(shared.pools.clone()));
    let mut instance = Instance {
        shared,
        lines,
        writer,
        plan_sender,
        wakes,
        progress: every(PROGRESS_EVERY),
        definitions_poll: every(DEFINITIONS_EVERY),
        asked: Tasks::new(CancellationToken::new()),
        activating: None,
        active: None,
    };
    while let Some(event) = instance.select().await {
        instance.apply(event).await?;
    }
    Ok(())
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The kernel kills us when the node dies, even while we are stopped and cannot see that the
/// socket has closed.
fn die_with_parent() -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// Opens the store, waiting for it as long as the node lives.
async fn open_store(
    me: &Configuration,
    lines: &mut Lines,
) -> Result<(Arc<dyn Store>, Arc<Routes>), HostError> {
    let options = Options::new(&me.store, format!("host {} on {}", me.host, me.node));
    loop {
        let opened = async {
            let store = store::open(&options).await?;
            let routes = Arc::new(read_routes(&*store).await?);
            Ok((store, routes))
        };
        match opened.await {
            Err(HostError::Store(StoreError::Unavailable(why))) => {
                tracing::warn!("{why}; trying again");
            }
            result => return result,
        }
        tokio::select! {
            () = tokio::time::sleep(OPEN_AGAIN_AFTER) => {}
            said = lines.next::<ToChild>() => if said.is_none() {
                return Err(HostError::NotAChild("its parent is gone".into()));
            },
        }
    }
}

async fn read_routes(store: &dyn Store) -> Result<Routes, HostError> {
    let (version, definitions) = store.definitions().await?;
    let routing = Routing::new(&definitions)
        .map_err(|error| HostError::Definitions(format!("definitions {version}: {error}")))?;
    Ok(Routes { version, definitions, routing })
}

struct Instance {
    shared: Shared,
    lines: Lines,
    writer: OwnedWriteHalf,
    plan_sender: watch::Sender<Arc<Routes>>,
    wakes: Wakes,
    progress: Interval,
    definitions_poll: Interval,
    asked: Tasks<Answer>,
    /// The fence that is being asked for, unless it was called off.
    activating: Option<FenceToken>,
    active: Option<Active>,
}

/// What runs under one fence.
struct Active {
    fence: Arc<Fence>,
    drivers: Tasks<Ended>,
    pulses: Vec<Pulse>,
    draining: Option<Draining>,
}

/// A drain under way.
#[derive(Clone, Copy)]
struct Draining {
    give_up_at: Instant,
    /// Start again afterwards, by new definitions, instead of telling the node.
    restart: bool,
}

/// The store's answer to something that the loop asked without waiting for it.
enum Answer {
    Fence(FenceToken, Result<Fence, StoreError>),
    Routes(Result<Routes, HostError>),
}

enum Event {
    Said(ToChild),
    Answered(Answer),
    DriverEnded(Option<Ended>),
    GiveUp,
    Progress,
    MaybeRedefined,
}

impl Instance {
    /// The only place that waits for what happens next. None: the node is gone.
    async fn select(&mut self) -> Option<Event> {
        let draining = self.active.as_ref().and_then(|active| active.draining);
        let driver = async {
            match &mut self.active {
                Some(active) => active.drivers.next().await,
                None => std::future::pending().await,
            }
        };
        let give_up = async {
            match draining {
                Some(draining) => tokio::time::sleep_until(draining.give_up_at).await,
                None => std::future::pending().await,
            }
        };
        let answer = async {
            match self.asked.next().await {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            said = self.lines.next() => said.map(Event::Said),
            ended = driver => Some(Event::DriverEnded(ended)),
            () = give_up => Some(Event::GiveUp),
            answer = answer => Some(Event::Answered(answer)),
            _ = self.progress.tick() => Some(Event::Progress),
            () = self.shared.reread.notified() => Some(Event::MaybeRedefined),
            () = self.wakes.next() => Some(Event::MaybeRedefined),
            _ = self.definitions_poll.tick() => Some(Event::MaybeRedefined),
        }
    }

    /// Acts on an event. It waits for nothing but the socket to the node.
    async fn apply(&mut self, event: Event) -> Result<(), HostError> {
        match event {
            Event::Said(ToChild::Configure(_) | ToChild::Drive { .. } | ToChild::Unknown) => {}
            Event::Said(ToChild::Activate { token, trust_until }) => {
                self.activate(token, trust_until).await;
            }
            Event::Said(ToChild::Trust { trust_until }) => self.shared.trust.prolong(trust_until),
            Event::Said(ToChild::Deactivate { within }) => self.deactivate(within).await?,
            Event::Answered(Answer::Fence(token, fence)) => self.activated(token, fence).await?,
            Event::Answered(Answer::Routes(routes)) => self.redefine(routes)?,
            Event::DriverEnded(Some(Ended::Drained)) => {}
            Event::DriverEnded(Some(Ended::Fenced(error))) => let_go(&error),
            Event::DriverEnded(None) => self.drained().await?,
            // Something has not returned, and nobody can say what it still does: a new process
            // under a new epoch begins anew, and what this one held is free.
            Event::GiveUp => std::process::exit(EXIT_LET_GO),
            Event::Progress => self.tell_progress().await?,
            Event::MaybeRedefined => {
                let store = self.shared.store.clone();
                self.asked.start(async move { Answer::Routes(read_routes(&*store).await) });
            }
        }
        Ok(())
    }

    /// Asks for a fence; whatever ran under an older one is ended first.
    async fn activate(&mut self, token: FenceToken, trust_until: BootTime) {
        if let Some(mut before) = self.active.take() {
            before.drivers.abort().await;
        }
        self.shared.trust.extend(trust_until);
        self.activating = Some(token.clone());
        self.ask_for_fence(token, Duration::ZERO);
    }

    fn ask_for_fence(&mut self, token: FenceToken, after: Duration) {
        let store = self.shared.store.clone();
        self.asked.start(async move {
            tokio::time::sleep(after).await;
            let fence = store.fence(&token).await;
            Answer::Fence(token, fence)
        });
    }

    async fn activated(
        &mut self,
        token: FenceToken,
        fence: Result<Fence, StoreError>,
    ) -> Result<(), HostError> {
        if self.activating.as_ref() != Some(&token) {
            return Ok(());
        }
        let fence = match fence {
            Ok(fence) => Arc::new(fence),
            Err(error @ StoreError::Fenced { .. }) => let_go(&error),
            // The end of trust ends this, if nothing else does.
            Err(StoreError::Unavailable(why)) => {
                tracing::warn!("{why}; asking for the fence again");
                self.ask_for_fence(token, FENCE_AGAIN_AFTER);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.activating = None;
        let epoch = fence.epoch();
        self.active = Some(self.start(fence, false));
        Ok(protocol::write(&mut self.writer, &FromChild::Active { epoch }).await?)
    }

    /// Starts the drivers of this host's locations and ports under a fence, for the first time or
    /// again.
    fn start(&self, fence: Arc<Fence>, again: bool) -> Active {
        let drain = CancellationToken::new();
        let mut drivers = Tasks::new(drain.clone());
        let mut pulses = Vec::new();
        let routes = self.shared.plan.borrow().clone();
        let host = &self.shared.me.host;
        let locations = routes.definitions.locations_of(host);
        for (port, definition) in locations.filter(|(_, definition)| definition.enabled) {
            let pulse = Pulse::default();
            pulses.push(pulse.clone());
            drivers.start(receive::run(Location {
                shared: self.shared.clone(),
                fence: fence.clone(),
                port: port.name.clone(),
                definition: Arc::new(definition.clone()),
                pulse,
                drain: drain.clone(),
            }));
        }
        let ports: BTreeMap<_, _> = routes
            .definitions
            .send_ports_of(host)
            .map(|port| (port.name.to_string(), Arc::new(port.clone())))
            .collect();
        let (in_flight, taking) = (Arc::default(), Arc::default());
        let lanes = if ports.is_empty() { 0 } else { send::LANES };
        for _ in 0..lanes {
            drivers.start(send::run(send::Lane {
                shared: self.shared.clone(),
                fence: fence.clone(),
                ports: ports.clone(),
                in_flight: Arc::clone(&in_flight),
                taking: Arc::clone(&taking),
                may_have_lost: again,
                drain: drain.clone(),
            }));
        }
        // A host may have nothing to do; its set of drivers must not look ended for that.
        drivers.start(async move {
            drain.cancelled().await;
            Ended::Drained
        });
        Active { fence, drivers, pulses, draining: None }
    }

    async fn deactivate(&mut self, within: Millis) -> Result<(), HostError> {
        let Some(active) = &mut self.active else {
            let called_off = self.activating.take();
            let epoch = called_off.map_or(Epoch(0), |token| token.epoch);
            self.shared.trust.rest();
            return Ok(protocol::write(&mut self.writer, &FromChild::Inactive { epoch }).await?);
        };
        active.drain(within, false);
        Ok(())
    }

    /// All drivers have returned.
    async fn drained(&mut self) -> Result<(), HostError> {
        let Some(active) = self.active.take() else { return Ok(()) };
        if active.draining.is_some_and(|draining| draining.restart) {
            self.active = Some(self.start(active.fence, true));
            return Ok(());
        }
        self.shared.trust.rest();
        let epoch = active.fence.epoch();
        Ok(protocol::write(&mut self.writer, &FromChild::Inactive { epoch }).await?)
    }

    async fn tell_progress(&mut self) -> Result<(), HostError> {
        let stuck = self.active.iter().flat_map(|active| &active.pulses).any(Pulse::is_stuck);
        if stuck {
            // Silence is the message: the node ends a host that makes no progress.
            tracing::error!("a receive location has not moved for too long; saying nothing");
            return Ok(());
        }
        Ok(protocol::write(&mut self.writer, &FromChild::Progress).await?)
    }

    /// Takes new definitions up: what runs comes to an end and starts again by the new ones.
    fn redefine(&mut self, routes: Result<Routes, HostError>) -> Result<(), HostError> {
        let routes = match routes {
            Ok(routes) => routes,
            Err(HostError::Store(error)) => {
                tracing::warn!(%error, "cannot read definitions; going on with those we have");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let before = self.shared.plan.borrow().clone();
        if routes.version <= before.version {
            return Ok(());
        }
        tracing::info!(version = routes.version, "new definitions");
        let host = &self.shared.me.host;
        let concerns_us = !same_for(host, &before.definitions, &routes.definitions);
        self.plan_sender.send_replace(Arc::new(routes));
        if concerns_us {
            self.shared.pools.define(&self.shared);
            if let Some(active) = &mut self.active {
                active.drain(REDEFINE_WITHIN, true);
            }
        }
        Ok(())
    }
}

impl Active {
    /// Asks the drivers to end. A drain for good is not turned into a restart.
    fn drain(&mut self, within: Millis, restart: bool) {
        if self.draining.is_some_and(|draining| !draining.restart) {
            return;
        }
        self.drivers.drain();
        let give_up_at = Instant::now() + within.as_duration();
        self.draining = Some(Draining { give_up_at, restart });
    }
}

/// Whether two versions define the same locations and ports for a host.
fn same_for(host: &HostName, one: &Definitions, other: &Definitions) -> bool {
    one.locations_of(host).eq(other.locations_of(host))
        && one.send_ports_of(host).eq(other.send_ports_of(host))
}

/// The store says that somebody else has the lease: nothing here may go on, not for a moment.
fn let_go(error: &StoreError) -> ! {
    tracing::warn!(%error, "letting go");
    std::process::exit(EXIT_LET_GO);
}
