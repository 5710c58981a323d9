//! The driver of a receive location, the same for every polled protocol.
//!
//! `list → stable? → receipt known? → download → look again → COMMIT{fence, receipt, message,
//! routes} → remove → COMMIT{receipt closed}`
//!
//! A failure before the first commit leaves nothing behind; after it only the removal is tried
//! again. `cycle` is one poll from the listing to the last removal; here stands the loop around
//! it: when to poll, how long to back off, and what operators are told.

mod commit;
mod cycle;
mod download;
mod item;
mod memory;
mod pool;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::definition::ReceiveLocation;
use model::{Millis, PortName};
use store::{Fence, LocationReport, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::process::{Ended, Shared};
use child::clock::boot_time;
use cycle::Stop;
use memory::Memory;

pub use pool::{Pools, keep_warm};

/// A location that takes no step for this long is stuck, whatever its protocol's own time limits
/// are: twice the longest of those.
const STUCK_AFTER: Millis = Millis::minutes(2);

/// First wait after a failed poll; it doubles up to [`BACKOFF_MAX`] and is never the end.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);

/// Longest wait after a failed poll: a partner that is back is noticed within a minute.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Shortest wait between two polls, whatever the location says: a wait of nothing would be a busy
/// loop against an empty folder.
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(5);

/// At most this often is a good poll reported to the store: each report is a commit, and nothing
/// but the age of the last success hangs on it.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// A receive location at work under a fence.
#[derive(Clone)]
pub struct Location {
    /// What all drivers of the process share.
    pub shared: Shared,
    /// The proof that we are the owner.
    pub fence: Arc<Fence>,
    /// Its receive port.
    pub port: PortName,
    /// Its definition.
    pub definition: Arc<ReceiveLocation>,
    /// Shows that it moves.
    pub pulse: Pulse,
    /// Asks it to come to an end.
    pub drain: CancellationToken,
}

/// When a driver last took a step, for the watch over its progress.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<AtomicU64>);

/// Value of a pulse whose driver waits for its next poll, which may be hours away.
const RESTING: u64 = u64::MAX;

impl Default for Pulse {
    fn default() -> Self {
        Pulse(Arc::new(AtomicU64::new(RESTING)))
    }
}

impl Pulse {
    /// A step has been taken.
    pub fn beat(&self) {
        self.0.store(boot_time().0, Ordering::Relaxed);
    }

    /// Nothing is to be done for now.
    pub fn rest(&self) {
        self.0.store(RESTING, Ordering::Relaxed);
    }

    /// Whether a step is overdue.
    pub fn is_stuck(&self) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        last != RESTING && boot_time().0.saturating_sub(last) > STUCK_AFTER.0
    }
}

/// Polls a location until it is asked to end or its fence is refused.
pub async fn run(location: Location) -> Ended {
    let mut report = Report::new(&location);
    let memory = Arc::new(Memory::new(&location.definition));
    let mut backoff = BACKOFF_FIRST;
    loop {
        location.pulse.beat();
        let wait = match cycle::run(&location, &memory, &mut report).await {
            Ok(()) => {
                backoff = BACKOFF_FIRST;
                report.troubled(&location, memory.trouble()).await;
                location.definition.poll_interval.as_duration().max(POLL_INTERVAL_MIN)
            }
            Err(Stop::Fenced(error)) => return Ended::Fenced(error),
            Err(Stop::Failed(why)) => {
                report.failed(&location, &why).await;
                let wait = backoff;
                backoff = (backoff * 2).min(BACKOFF_MAX);
                wait
            }
        };
        location.pulse.rest();
        tokio::select! {
            () = location.drain.cancelled() => return Ended::Drained,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What operators are told of a location.
pub(crate) struct Report {
    state: LocationReport,
    reported_at: Option<Instant>,
    /// The last poll failed as a whole.
    is_down: bool,
}

impl Report {
    fn new(location: &Location) -> Report {
        let state = LocationReport {
            location: location.definition.name.to_string(),
            node: location.shared.me.node.clone(),
            epoch: location.fence.epoch(),
            active_since: None,
            last_success_at: None,
            last_error_at: None,
            last_error: None,
            received: 0,
            guarantee: "exactly-once".into(),
        };
        Report { state, reported_at: None, is_down: false }
    }

    /// A listing is complete: the location works.
    pub async fn listed(&mut self, location: &Location, weak_identity: Option<&str>) {
        let first = self.state.active_since.is_none();
        let recovered = self.is_down;
        let due = self.reported_at.is_none_or(|at| at.elapsed() >= REPORT_EVERY);
        if !(first || recovered || due) {
            return;
        }
        let Ok(now) = location.shared.store.now().await else { return };
        self.state.active_since.get_or_insert(now);
        self.state.last_success_at = Some(now);
        if std::mem::take(&mut self.is_down) {
            self.state.last_error = None;
        }
        self.state.guarantee = match weak_identity {
            Some(why) => format!("at-least-once: {why}"),
            None => "exactly-once".into(),
        };
        self.send(location).await;
    }

    /// Messages have been published.
    pub fn received(&mut self, count: u64) {
        self.state.received += count;
    }

    /// The location works, but not for all of its items.
    async fn troubled(&mut self, location: &Location, trouble: Option<String>) {
        if self.state.last_error == trouble {
            return;
        }
        if trouble.is_some() {
            self.state.last_error_at = location.shared.store.now().await.ok();
        }
        self.state.last_error = trouble;
        self.send(location).await;
    }

    async fn failed(&mut self, location: &Location, why: &str) {
        self.is_down = true;
        tracing::warn!(location = %location.definition.name, "{why}");
        self.state.last_error = Some(why.to_owned());
        self.state.last_error_at = location.shared.store.now().await.ok();
        self.send(location).await;
    }

    /// News may get lost: the next report says it again.
    async fn send(&mut self, location: &Location) {
        self.reported_at = Some(Instant::now());
        if let Err(error) = location.shared.store.report_location(&self.state).await {
            tracing::debug!(%error, "cannot report");
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        match error {
            StoreError::Fenced { .. } => Stop::Fenced(error),
            other => Stop::Failed(format!("paused: {other}")),
        }
    }
}
