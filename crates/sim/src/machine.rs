//! A machine of the simulated cluster: its clocks, its way to the store, its child processes.

use std::collections::{BTreeMap, BTreeSet};

use cluster::Agent;
use model::{BootTime, Epoch, FailureReach, LeaseName, ResourceName};

use crate::worker::Worker;
use crate::world::Item;

/// A million: rates of clocks are in parts of it.
const WHOLE: u64 = 1_000_000;

/// A machine, with the agent of the node that runs on it.
#[derive(Debug)]
pub struct Machine {
    /// The life of its node; none while it is not started.
    pub agent: Option<Agent>,
    /// It stands still: nothing runs, its connections live on.
    pub frozen: bool,
    /// What is wrong with its way to the store.
    pub cut: Cut,
    /// Its child processes.
    pub procs: BTreeMap<ResourceName, Proc>,
    /// What fails whenever it is started here, and how far that reaches.
    pub broken: BTreeMap<ResourceName, FailureReach>,
    /// What does not hear that it is to stop.
    pub deaf: BTreeSet<ResourceName>,
    /// What cannot be stopped.
    pub stuck: BTreeSet<ResourceName>,
    /// How far its wall clock is off, in milliseconds.
    pub wall_offset: i64,
    /// When it last was frozen, cut or down, in milliseconds since the begin of the world.
    pub disturbed_at: u64,
    pub(crate) life: u64,
    pub(crate) epoch: Epoch,
    pub(crate) renew: Vec<(LeaseName, Epoch)>,
    pub(crate) wake: u64,
    pub(crate) generation: u64,
    pub(crate) stashed: Vec<Item>,
    pub(crate) joining: bool,
    boot_offset: u64,
    boot_rate: u64,
}

/// What is wrong with the way between a machine and the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    #[default]
    None,
    /// Nothing gets through.
    Both,
    /// What the machine sends is lost.
    ToStore,
    /// What the store answers is lost.
    FromStore,
    /// Only wake-up hints are lost.
    Hints,
}

/// The child process of a host or of another resource.
#[derive(Debug, Clone)]
pub struct Proc {
    /// What it works under; none for a warm standby.
    pub work: Option<Work>,
    /// It does nothing any more and does not end either.
    pub hung: bool,
    pub(crate) generation: u64,
    /// It is the monitor of a resource with effects outside, which it takes down before it ends.
    pub(crate) driver: bool,
    /// It takes its resource down and ends then.
    pub(crate) ending: bool,
    pub(crate) worker: Worker,
}

/// What a process works under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Which lease.
    pub lease: LeaseName,
    /// And epoch.
    pub epoch: Epoch,
    /// When its trust ends unless it is extended.
    pub trust_until: BootTime,
}

impl Machine {
    /// The machine at this place in the list; each was booted at another time.
    pub(crate) fn at_place(place: usize) -> Machine {
        Machine {
            agent: None,
            frozen: false,
            cut: Cut::None,
            procs: BTreeMap::new(),
            broken: BTreeMap::new(),
            deaf: BTreeSet::new(),
            stuck: BTreeSet::new(),
            wall_offset: 0,
            disturbed_at: 0,
            life: 0,
            epoch: Epoch(0),
            renew: Vec::new(),
            wake: 0,
            generation: 0,
            stashed: Vec::new(),
            joining: false,
            boot_offset: 10_000_000 * (place as u64 + 1),
            boot_rate: WHOLE,
        }
    }

    /// Lets its boot clock run this many parts in a million faster (or slower) than true.
    pub fn drift(&mut self, parts_per_million: i32) {
        self.boot_rate = WHOLE.saturating_add_signed(i64::from(parts_per_million));
    }

    /// Its boot clock, so long after the begin of the world.
    pub(crate) fn boot(&self, elapsed: u64) -> BootTime {
        BootTime(self.boot_offset + elapsed.saturating_mul(self.boot_rate) / WHOLE)
    }

    /// How long it takes in truth until its boot clock has gone on so far.
    pub(crate) fn truly(&self, boot_millis: u64) -> u64 {
        boot_millis.saturating_mul(WHOLE).div_ceil(self.boot_rate)
    }

    /// Whether what it sends arrives.
    pub(crate) fn sends(&self) -> bool {
        !matches!(self.cut, Cut::Both | Cut::ToStore)
    }

    /// Whether answers arrive.
    pub(crate) fn hears(&self) -> bool {
        !matches!(self.cut, Cut::Both | Cut::FromStore)
    }
}

impl Proc {
    pub(crate) fn new(generation: u64, driver: bool) -> Proc {
        let worker = Worker::default();
        Proc { work: None, hung: false, generation, driver, ending: false, worker }
    }

    /// Whether it works under this epoch.
    pub(crate) fn works_under(&self, epoch: Epoch) -> bool {
        self.work.as_ref().is_some_and(|work| work.epoch == epoch)
    }
}
