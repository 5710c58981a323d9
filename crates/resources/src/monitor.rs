//! The loop of a monitor: `select` waits for the next event, `apply` acts on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use child::protocol::{self, FromChild, Lines, ToChild};
use child::tasks::Tasks;
use child::trust::{LastAct, Trust};
use model::definition::ResourceSpec;
use model::{BootTime, Epoch, FailureReach, Millis};
use thiserror::Error;
use tokio::net::unix::OwnedWriteHalf;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::driver::{Driver, Failure, Health, Outcome};
use crate::{driver_of, tree};

/// How often the node hears that we are alive: thrice within the shortest hang timeout.
const PROGRESS_EVERY: Duration = Duration::from_millis(330);

/// How long the last act may take once trust has ended. Longer and the resource may be up twice
/// for longer; an agent whose stop takes longer is killed with us, and taken down by the next
/// monitor.
const LAST_ACT_WITHIN: Duration = Duration::from_secs(10);

/// Wait between two tries of the last act to take the resource down.
const LAST_ACT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How long one try to take a resource down by force may take: time for an agent's stop.
const TERMINATE_WITHIN: Duration = Duration::from_secs(60);

/// How long a resource that was found running gets to go down in good order.
const LEFTOVER_WITHIN: Duration = Duration::from_secs(30);

/// First and longest wait between two tries to take down what cannot be stopped.
const STUCK_AGAIN_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Messages that may wait for a node that does not read: minutes of progress. A node that lags
/// that far is frozen, and the end of trust follows.
const UNREAD_MAX: usize = 256;

/// How long the last messages may take to reach the node.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Why a monitor ended.
#[derive(Debug, Error)]
pub enum MonitorError {
    /// It was not started by a node.
    #[error("`baton monitor` is started by `baton node`, not by hand: {0}")]
    NotAChild(String),
    /// Its resource failed, and has been taken down.
    #[error("{resource}: {how}")]
    Failed {
        /// Which resource.
        resource: String,
        /// What failed, where, and how to mend it.
        how: String,
        /// How far that reaches.
        reach: FailureReach,
    },
    /// The operating system refused something.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Runs a monitor until its node is gone or its resource has failed. It wants a runtime of one
/// thread, which must be the process's first: the kernel kills what was started from a thread
/// when that thread ends.
///
/// # Errors
/// When it is no child of a node, or its resource failed.
pub async fn run() -> Result<(), MonitorError> {
    let no_child = |error: std::io::Error| MonitorError::NotAChild(error.to_string());
    let socket = child::inherited_socket().map_err(no_child)?;
    let (reader, writer) = socket.into_split();
    let mut lines = Lines::new(reader);
    let Some(ToChild::Drive { spec, node }) = lines.next().await else {
        return Err(MonitorError::NotAChild("its parent did not say what to drive".into()));
    };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(std::io::Error::from)?;
    let mouth = Mouth::new(writer);
    let driver = match driver_of(&spec, &node) {
        Ok(driver) => driver,
        Err(failure) => return Err(mouth.last_words(&spec, failure).await),
    };
    let rest = Rest::default();
    let act = {
        let (driver, rest) = (Arc::clone(&driver), rest.clone());
        move || last_act(&driver, &rest)
    };
    let trust = Trust::watched_with(LastAct { act: Box::new(act), within: LAST_ACT_WITHIN })?;
    let mut monitor = Monitor::new(*spec, driver, trust, rest, lines, mouth)?;
    let failure = loop {
        let event = monitor.select().await;
        if let Some(failure) = monitor.apply(event).await {
            break failure;
        }
    };
    let Monitor { mouth, spec, .. } = monitor;
    Err(mouth.last_words(&spec, failure).await)
}

/// What the loop and the last act know of each other.
#[derive(Clone, Default)]
struct Rest {
    /// The resource may be up, so the last act must see to it.
    may_be_up: Arc<AtomicBool>,
    /// Trust has ended: begin nothing.
    ended: CancellationToken,
    /// The loop has understood, and nothing that it began goes on.
    stopped: CancellationToken,
}

/// Takes the resource down after the end of trust. It runs on a thread of its own, because the
/// loop may hang, on a runtime of its own, because that one may too.
fn last_act(driver: &Arc<dyn Driver>, rest: &Rest) {
    rest.ended.cancel();
    if !rest.may_be_up.load(Ordering::Acquire) {
        return;
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    runtime.block_on(async {
        loop {
            // What the loop has still under way could bring it up again behind our back.
            let for_good = rest.stopped.is_cancelled();
            if driver.terminate().await.is_ok() && for_good {
                return;
            }
            let _ = timeout(LAST_ACT_AGAIN_AFTER, rest.stopped.cancelled()).await;
        }
    });
}

/// The way to the node, which never holds the loop up.
struct Mouth {
    unread: mpsc::Sender<FromChild>,
    writer: Tasks<()>,
}

impl Mouth {
    fn new(mut half: OwnedWriteHalf) -> Mouth {
        let (unread, mut queue) = mpsc::channel(UNREAD_MAX);
        let mut writer = Tasks::new();
        writer.start(async move {
            while let Some(message) = queue.recv().await {
                if protocol::write(&mut half, &message).await.is_err() {
                    return;
                }
            }
        });
        Mouth { unread, writer }
    }

    fn say(&self, message: FromChild) {
        if self.unread.try_send(message).is_err() {
            tracing::warn!("the node does not listen");
        }
    }

    /// Says why this monitor ends, and waits for it to be on its way.
    async fn last_words(self, spec: &ResourceSpec, failure: Failure) -> MonitorError {
        let Failure { how, reach } = failure;
        let Mouth { unread, mut writer } = self;
        let _ = unread.try_send(FromChild::Failed { how: how.clone(), reach });
        drop(unread);
        let _ = timeout(FLUSH_WITHIN, writer.next()).await;
        MonitorError::Failed { resource: spec.resource.name.to_string(), how, reach }
    }
}

/// What the resource is doing.
#[derive(Debug)]
enum State {
    /// Being asked whether it is up although nobody wants it.
    Probing,
    /// Down, and ready to come online.
    Standby,
    /// Coming online under this epoch.
    Coming(Epoch),
    /// Online under this epoch.
    Active(Epoch),
    /// Going down, and what follows.
    Going(Then),
}

/// What follows when it is down.
#[derive(Debug, Clone)]
enum Then {
    /// It was a leftover: say `Ready`.
    Ready,
    /// It was asked for: say `Inactive`.
    Inactive(Epoch),
    /// It had failed: say so, and end.
    Fail(Failure),
}

/// An operation that has ended.
enum Done {
    Probed(Outcome<bool>),
    Online(Outcome),
    Down(Outcome),
    LooksAlive(Outcome<Health>),
    IsAlive(Outcome<Health>),
    Pushed(Failure),
}

enum Event {
    /// None: the node is gone.
    Said(Option<ToChild>),
    Done(Done),
    TrustEnded,
    LookAtIt,
    ExamineIt,
    TryAgain,
    Progress,
}

struct Monitor {
    spec: ResourceSpec,
    driver: Arc<dyn Driver>,
    trust: Trust,
    rest: Rest,
    lines: Lines,
    mouth: Mouth,
    /// SIGTERM, as an init sends it to all of a service: what we drive must not outlive us.
    asked_to_end: Signal,
    state: State,
    /// What is under way: never two that change the resource.
    under_way: Tasks<Done>,
    /// A check is under way.
    checking: bool,
    /// Since when it is poor, in the words last said.
    poor: Option<String>,
    looks: Interval,
    exams: Interval,
    progress: Interval,
    /// When to try again to take it down, and how often that was in vain.
    again_at: Option<Instant>,
    in_vain: u32,
}

fn every(period: Duration) -> Interval {
    // A period of nothing would be a busy loop, and is refused by the timer.
    let mut interval = tokio::time::interval(period.max(Duration::from_millis(10)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

impl Monitor {
    fn new(
        spec: ResourceSpec,
        driver: Arc<dyn Driver>,
        trust: Trust,
        rest: Rest,
        lines: Lines,
        mouth: Mouth,
    ) -> std::io::Result<Monitor> {
        let mut under_way = Tasks::new();
        let probed = Arc::clone(&driver);
        under_way.start(async move { Done::Probed(bounded_probe(&*probed).await) });
        Ok(Monitor {
            asked_to_end: signal(SignalKind::terminate())?,
            looks: every(spec.policy.looks_alive_interval.as_duration()),
            exams: every(spec.policy.is_alive_interval.as_duration()),
            progress: every(PROGRESS_EVERY),
            spec,
            driver,
            trust,
            rest,
            lines,
            mouth,
            state: State::Probing,
            under_way,
            checking: false,
            poor: None,
            again_at: None,
            in_vain: 0,
        })
    }

    /// The only place that waits for what happens next.
    async fn select(&mut self) -> Event {
        let may_check = matches!(self.state, State::Active(_)) && !self.checking;
        let done = async {
            match self.under_way.next().await {
                Some(done) => done,
                None => std::future::pending().await,
            }
        };
        let again = async {
            match self.again_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.rest.ended.cancelled() => Event::TrustEnded,
            _ = self.asked_to_end.recv() => Event::TrustEnded,
            said = self.lines.next() => Event::Said(said),
            done = done => Event::Done(done),
            () = again => Event::TryAgain,
            _ = self.progress.tick() => Event::Progress,
            _ = self.exams.tick(), if may_check => Event::ExamineIt,
            _ = self.looks.tick(), if may_check => Event::LookAtIt,
        }
    }

    /// Acts on an event. A failure that is returned ends the monitor: all is down.
    async fn apply(&mut self, event: Event) -> Option<Failure> {
        match event {
            Event::Said(Some(said)) => self.hear(said).await,
            Event::Said(None) | Event::TrustEnded => self.let_go().await,
            Event::Done(done) => return self.done(done).await,
            Event::LookAtIt => self.look(),
            Event::ExamineIt => self.examine(),
            Event::TryAgain => self.take_down(TERMINATE_WITHIN),
            Event::Progress => {
                tree::reap_strays();
                self.mouth.say(FromChild::Progress);
            }
        }
        None
    }

    async fn hear(&mut self, said: ToChild) {
        match said {
            ToChild::Activate { token, trust_until } => self.activate(token.epoch, trust_until),
            ToChild::Trust { trust_until } => self.trust.prolong(trust_until),
            ToChild::Deactivate { within } => self.deactivate(within).await,
            ToChild::Drive { .. } | ToChild::Configure(_) | ToChild::Unknown => {}
        }
    }

    fn activate(&mut self, epoch: Epoch, trust_until: BootTime) {
        match &mut self.state {
            State::Standby => {
                self.trust.extend(trust_until);
                self.rest.may_be_up.store(true, Ordering::Release);
                self.state = State::Coming(epoch);
                let driver = Arc::clone(&self.driver);
                let within = driver.online_within(&self.spec.policy);
                self.under_way.start(async move {
                    Done::Online(match timeout(within, driver.online(epoch)).await {
                        Ok(outcome) => outcome,
                        Err(_) => Err(Failure::soft(format!(
                            "it did not come online within {within:?} (pending_timeout)"
                        ))),
                    })
                });
            }
            State::Coming(now) => {
                *now = epoch;
                self.trust.extend(trust_until);
            }
            State::Active(now) => {
                *now = epoch;
                self.trust.extend(trust_until);
                self.mouth.say(FromChild::Active { epoch });
            }
            State::Probing | State::Going(_) => {
                tracing::warn!(%epoch, state = ?self.state, "activated too early; not heeded");
            }
        }
    }

    async fn deactivate(&mut self, within: Millis) {
        match &self.state {
            State::Standby => self.mouth.say(FromChild::Inactive { epoch: Epoch(0) }),
            State::Coming(epoch) | State::Active(epoch) => {
                let then = Then::Inactive(*epoch);
                self.go_down(then, within.as_duration()).await;
            }
            State::Probing | State::Going(_) => {}
        }
    }

    /// Takes the resource down: whatever else is under way is dropped.
    async fn go_down(&mut self, then: Then, within: Duration) {
        self.under_way.abort().await;
        (self.checking, self.poor, self.in_vain) = (false, None, 0);
        self.rest.may_be_up.store(true, Ordering::Release);
        self.state = State::Going(then);
        self.take_down(within);
    }

    fn take_down(&mut self, within: Duration) {
        self.again_at = None;
        let driver = Arc::clone(&self.driver);
        self.under_way.start(async move { Done::Down(down(&*driver, within).await) });
    }

    /// Trust has ended or the node is gone: the last act does the rest, and ends the process.
    async fn let_go(&mut self) {
        self.trust.end();
        self.under_way.abort().await;
        self.rest.stopped.cancel();
        std::future::pending::<()>().await;
    }

    fn look(&mut self) {
        self.checking = true;
        let driver = Arc::clone(&self.driver);
        self.under_way.start(async move {
            Done::LooksAlive(in_time(driver.check_within(), driver.looks_alive()).await)
        });
    }

    fn examine(&mut self) {
        self.checking = true;
        let driver = Arc::clone(&self.driver);
        self.under_way.start(async move {
            Done::IsAlive(in_time(driver.check_within(), driver.is_alive()).await)
        });
    }

    async fn done(&mut self, done: Done) -> Option<Failure> {
        match done {
            Done::Probed(outcome) => return self.probed(outcome).await,
            Done::Online(outcome) => self.came(outcome).await,
            Done::Down(outcome) => return self.went(outcome),
            Done::LooksAlive(Ok(health)) | Done::IsAlive(Ok(health)) => {
                self.checking = false;
                self.tell_health(health);
            }
            // The cheap check is only a suspicion.
            Done::LooksAlive(Err(suspicion)) => {
                tracing::warn!(resource = %self.spec.resource.name, "{suspicion}; examining it");
                self.examine();
            }
            Done::IsAlive(Err(failure)) | Done::Pushed(failure) => self.failed(failure).await,
        }
        None
    }

    async fn probed(&mut self, outcome: Outcome<bool>) -> Option<Failure> {
        match outcome {
            Ok(false) => {
                self.state = State::Standby;
                self.mouth.say(FromChild::Ready);
            }
            Ok(true) => {
                tracing::warn!(
                    resource = %self.spec.resource.name,
                    "it is up although nobody has activated it, as a monitor that was killed \
                     leaves it; taking it down"
                );
                self.go_down(Then::Ready, LEFTOVER_WITHIN).await;
            }
            Err(failure) => return Some(failure),
        }
        None
    }

    async fn came(&mut self, outcome: Outcome) {
        let State::Coming(epoch) = self.state else { return };
        if let Err(failure) = outcome {
            return self.failed(failure).await;
        }
        self.state = State::Active(epoch);
        self.looks.reset();
        self.exams.reset();
        let driver = Arc::clone(&self.driver);
        self.under_way.start(async move { Done::Pushed(driver.failed().await) });
        self.mouth.say(FromChild::Active { epoch });
    }

    async fn failed(&mut self, failure: Failure) {
        tracing::error!(resource = %self.spec.resource.name, "{failure}; taking it down");
        self.go_down(Then::Fail(failure), self.spec.policy.drain_timeout.as_duration()).await;
    }

    fn went(&mut self, outcome: Outcome) -> Option<Failure> {
        let State::Going(then) = &self.state else { return None };
        if let Err(Failure { how, .. }) = outcome {
            let (first, longest) = STUCK_AGAIN_AFTER;
            let wait = first.saturating_mul(1 << self.in_vain.min(16)).min(longest);
            self.in_vain += 1;
            self.again_at = Some(Instant::now() + wait);
            tracing::error!(
                resource = %self.spec.resource.name,
                "it cannot be stopped: {how}; trying again in {wait:?}"
            );
            self.mouth.say(FromChild::Stuck { how });
            return None;
        }
        self.rest.may_be_up.store(false, Ordering::Release);
        self.trust.rest();
        match then.clone() {
            Then::Ready => self.mouth.say(FromChild::Ready),
            Then::Inactive(epoch) => self.mouth.say(FromChild::Inactive { epoch }),
            Then::Fail(failure) => return Some(failure),
        }
        self.state = State::Standby;
        None
    }

    fn tell_health(&mut self, health: Health) {
        let poor = match health {
            Health::Well => None,
            Health::Poor(how) => Some(how),
        };
        if poor == self.poor {
            return;
        }
        match &poor {
            Some(how) => self.mouth.say(FromChild::Degraded { how: how.clone() }),
            None => tracing::info!(resource = %self.spec.resource.name, "it is well again"),
        }
        self.poor = poor;
    }
}

/// Takes a resource down in good order, or, when that fails or takes too long, by force.
async fn down(driver: &dyn Driver, within: Duration) -> Outcome {
    match timeout(within, driver.offline()).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(failure)) => tracing::warn!("{failure}; taking it down by force"),
        Err(_) => tracing::warn!("not down within {within:?}; taking it down by force"),
    }
    in_time(TERMINATE_WITHIN, driver.terminate()).await
}

async fn bounded_probe(driver: &dyn Driver) -> Outcome<bool> {
    in_time(driver.check_within(), driver.probe()).await
}

async fn in_time<T>(within: Duration, operation: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    match timeout(within, operation).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::soft(format!("no answer within {within:?}"))),
    }
}
