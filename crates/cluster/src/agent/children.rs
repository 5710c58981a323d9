//! Child processes of hosts and resources: kept up as standbys, activated in the order of their
//! dependencies, watched, killed, reaped.

use std::collections::BTreeSet;

use model::definition::{EffectivePolicy, ResourceSpec};
use model::{BootTime, Epoch, FailureReach, LeaseName, Millis, ResourceName};

use super::leases::Phase;
use super::{Agent, Effect, Exit};
use crate::restart::{self, Failure};

/// What a child gets on top of its drain timeout before it is killed: its answer must travel.
pub(super) const DRAIN_GRACE: Millis = Millis::seconds(1);

/// What a monitor gets instead: after an orderly stop that took too long it stops by force, which
/// it gives up after a minute and then says that its resource is stuck.
pub(super) const TERMINATE_GRACE: Millis = Millis::seconds(65);

/// First wait before a child that died soon after its start is started a third time.
const RESPAWN_DELAY: Millis = Millis(500);

/// A child that lived this long did not die of its start.
const STEADY_AFTER: Millis = Millis::seconds(10);

/// Longest that signs of progress put off the pending timeout: ten times the timeout that WSFC
/// has, where one that reports progress may stay pending for ever.
const PENDING_MAX: Millis = Millis::minutes(30);

/// The child process of a host or of another resource.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Child {
    pub state: ChildState,
    /// Whether the definitions give this node the member.
    pub wanted: bool,
    /// What it was started as; none for a host.
    pub spec: Option<Box<ResourceSpec>>,
    /// What a driver that died without cleaning up may have left running, under this lease. Until
    /// its successor has looked and says that it is ready, it counts as working.
    pub unclean: Option<LeaseName>,
    pub spawned_at: BootTime,
    pub last_progress: BootTime,
    /// When it was told to work.
    pub activated_at: BootTime,
    /// Deaths in a row, each soon after its start.
    pub deaths: usize,
    /// Why it failed, or what it complains of, until it works again.
    pub complaint: Option<String>,
    /// It said that it cannot be stopped.
    pub stuck: bool,
    /// The epoch under which it worked when it was killed.
    pub killed_under: Option<Epoch>,
}

/// What a child process is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildState {
    /// There is none; it is started when this has come.
    Gone {
        /// When it is started.
        respawn_at: BootTime,
    },
    /// It was started and is not up yet.
    Spawning,
    /// A warm standby.
    Ready,
    /// It was told to work under a lease and has not confirmed it.
    Activating {
        /// Under which lease.
        lease: LeaseName,
        /// And epoch.
        epoch: Epoch,
        /// It was at work under an earlier epoch, so the fence may have caught it in between.
        reactivated: bool,
    },
    /// It works under a lease.
    Active {
        /// Under which lease.
        lease: LeaseName,
        /// And epoch.
        epoch: Epoch,
    },
    /// It was told to finish.
    Deactivating {
        /// Under which lease it works.
        lease: LeaseName,
        /// And epoch.
        epoch: Epoch,
        /// When it is killed.
        kill_at: BootTime,
    },
    /// It was killed and is not reaped yet.
    Stopping {
        /// Under which lease it worked.
        lease: Option<LeaseName>,
    },
}

impl ChildState {
    /// The lease under which something of it may still run.
    pub fn lease(&self) -> Option<&LeaseName> {
        match self {
            ChildState::Gone { .. } | ChildState::Spawning | ChildState::Ready => None,
            ChildState::Activating { lease, .. }
            | ChildState::Active { lease, .. }
            | ChildState::Deactivating { lease, .. } => Some(lease),
            ChildState::Stopping { lease } => lease.as_ref(),
        }
    }

    /// Whether there is no process.
    pub fn is_gone(&self) -> bool {
        matches!(self, ChildState::Gone { .. })
    }

    /// Whether what depends on it may work: it does, or did and is being told of a new epoch.
    pub(super) fn is_up(&self) -> bool {
        matches!(self, ChildState::Active { .. } | ChildState::Activating { reactivated: true, .. })
    }

    /// The epoch under which it is trusted to work.
    fn epoch(&self) -> Option<Epoch> {
        match self {
            ChildState::Activating { epoch, .. }
            | ChildState::Active { epoch, .. }
            | ChildState::Deactivating { epoch, .. } => Some(*epoch),
            ChildState::Gone { .. }
            | ChildState::Spawning
            | ChildState::Ready
            | ChildState::Stopping { .. } => None,
        }
    }
}

impl Child {
    /// When it last began something.
    pub(super) fn changed_at(&self) -> BootTime {
        self.spawned_at.max(self.activated_at)
    }

    fn new(now: BootTime) -> Child {
        Child {
            state: ChildState::Gone { respawn_at: now },
            wanted: true,
            spec: None,
            unclean: None,
            spawned_at: now,
            last_progress: now,
            activated_at: now,
            deaths: 0,
            complaint: None,
            stuck: false,
            killed_under: None,
        }
    }

    /// The lease under which something of it may still run.
    pub(super) fn lease(&self) -> Option<&LeaseName> {
        self.state.lease().or(self.unclean.as_ref())
    }
}

impl Agent {
    /// Takes note of which members the definitions give this node.
    pub(super) fn want(&mut self, members: &BTreeSet<ResourceName>) {
        for (name, child) in &mut self.children {
            child.wanted = members.contains(name);
        }
        for name in members {
            self.children.entry(name.clone()).or_insert_with(|| Child::new(self.now));
        }
    }

    pub(super) fn instance_ready(&mut self, name: &ResourceName) {
        if let Some(child) = self.children.get_mut(name)
            && child.state == ChildState::Spawning
        {
            child.state = ChildState::Ready;
            child.unclean = None;
        }
    }

    pub(super) fn instance_active(&mut self, name: &ResourceName, active: Epoch) {
        let now = self.now;
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        if let ChildState::Activating { lease, epoch, .. } = &child.state
            && *epoch == active
        {
            child.state = ChildState::Active { lease: lease.clone(), epoch: active };
            child.last_progress = now;
            child.complaint = None;
        }
    }

    pub(super) fn instance_inactive(&mut self, name: &ResourceName, inactive: Epoch) {
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        if child.state.epoch() != Some(inactive) {
            return;
        }
        child.stuck = false;
        match std::mem::replace(&mut child.state, ChildState::Ready) {
            ChildState::Activating { lease, .. } | ChildState::Active { lease, .. } => {
                let how = "stopped by itself".to_owned();
                self.failed(&lease, Failure::soft(name.clone(), how));
            }
            ChildState::Deactivating { .. } => child.complaint = None,
            ChildState::Gone { .. }
            | ChildState::Spawning
            | ChildState::Ready
            | ChildState::Stopping { .. } => {}
        }
    }

    pub(super) fn progress(&mut self, name: &ResourceName) {
        let now = self.now;
        if let Some(child) = self.children.get_mut(name) {
            child.last_progress = now;
        }
    }

    /// A child says that what it drives cannot be stopped, or works poorly.
    pub(super) fn complains(&mut self, name: &ResourceName, what: &str, stuck: bool) {
        let event =
            if stuck { super::EventId::RESOURCE_STUCK } else { super::EventId::RESOURCE_DEGRADED };
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        child.complaint = Some(what.to_owned());
        child.stuck |= stuck;
        let sentence = match stuck {
            true => format!("cannot be stopped on {}: {what}; stop it by hand there", self.me),
            false => format!("works poorly on {}: {what}", self.me),
        };
        self.say_event(self.subject_of(name), sentence, event);
    }

    /// A child is gone. Whether that is a failure depends on what it was doing.
    pub(super) fn instance_exited(&mut self, name: &ResourceName, exit: Exit) {
        let now = self.now;
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        let soon = now.since(child.spawned_at) < STEADY_AFTER;
        let killed = matches!(child.state, ChildState::Stopping { .. });
        if !killed {
            child.deaths = if soon { child.deaths.saturating_add(1) } else { 1 };
        }
        let wait = restart::backoff(RESPAWN_DELAY, child.deaths.saturating_sub(1));
        // Once in doubt it stays so, until one has looked and is ready.
        let crashed = child.spec.is_some() && matches!(exit, Exit::Crashed(_));
        let unclean = crashed || child.unclean.is_some();
        let respawn_at = if killed { now } else { now.after(wait) };
        let before = child.lease().cloned();
        let epoch = child.state.epoch().or(child.killed_under.take());
        let state = std::mem::replace(&mut child.state, ChildState::Gone { respawn_at });
        child.unclean = before.clone().filter(|_| unclean);
        child.stuck = false;
        let failure = match exit {
            Exit::Failed(how, reach) => Some(Failure { resource: name.clone(), how, reach }),
            Exit::Crashed(how) => Some(Failure::soft(name.clone(), how)),
            Exit::Expected | Exit::TrustEnded => None,
        };
        if let Some(failure) = &failure {
            child.complaint = Some(failure.how.clone());
        }
        let goes_on = self.went_under_present_epoch(name, before.as_ref(), epoch);
        self.follow_exit(name, state, failure, wait, goes_on);
        if let Some(lease) = before {
            self.look_whether_still_ours(&lease);
        }
    }

    /// Whether a host is gone while its lease goes on under the epoch that it worked under, so that
    /// what it held is not free yet.
    fn went_under_present_epoch(
        &self,
        name: &ResourceName,
        lease: Option<&LeaseName>,
        epoch: Option<Epoch>,
    ) -> bool {
        let tenancy = lease.and_then(|lease| self.leases.get(lease));
        let present = tenancy.and_then(|tenancy| tenancy.epoch);
        epoch.is_some() && epoch == present && !self.drives(name)
    }

    /// The last process of a lease that we had lost is gone: if the store still says that it is
    /// ours, it can be taken up again now, before it expires.
    fn look_whether_still_ours(&mut self, lease: &LeaseName) {
        let lost = self.leases.get(lease).is_some_and(|tenancy| tenancy.phase == Phase::NotOurs);
        if lost && self.working_for(lease).is_empty() {
            self.ask_snapshot();
        }
    }

    fn follow_exit(
        &mut self,
        name: &ResourceName,
        state: ChildState,
        failure: Option<Failure>,
        wait: Millis,
        goes_on: bool,
    ) {
        match (state, failure) {
            (ChildState::Activating { reactivated: true, .. }, None) => {
                let sentence = "it ended on its way to a new epoch and is started again";
                self.say(self.subject_of(name), sentence.to_owned());
            }
            (ChildState::Activating { reactivated: true, .. }, Some(_)) if !self.drives(name) => {
                let sentence = "it ended on its way to a new epoch and is started again";
                self.say(self.subject_of(name), sentence.to_owned());
            }
            (
                ChildState::Activating { lease, .. } | ChildState::Active { lease, .. },
                Some(failure),
            ) => self.failed(&lease, failure),
            (ChildState::Activating { lease, .. } | ChildState::Active { lease, .. }, None) => {
                let subject = self.subject_of(name);
                let reason = format!("{subject} ended itself, it is brought back on {}", self.me);
                self.bring_back(&lease, reason);
            }
            (ChildState::Spawning | ChildState::Ready, Some(failure)) => {
                self.standby_died(name, failure, wait);
            }
            (
                ChildState::Deactivating { lease, .. }
                | ChildState::Stopping { lease: Some(lease) },
                _,
            ) if goes_on || self.lease_of(name).as_ref() != Some(&lease) => {
                // It was to leave a lease that goes on, or to wait for what it depends on.
                let reason = format!(
                    "{} left it without finishing, and what it had begun is free only \
                     under a new epoch",
                    self.subject_of(name)
                );
                self.bring_back(&lease, reason);
            }
            (
                ChildState::Gone { .. }
                | ChildState::Spawning
                | ChildState::Ready
                | ChildState::Deactivating { .. }
                | ChildState::Stopping { .. },
                _,
            ) => {}
        }
    }

    /// A warm standby died: that concerns nobody, unless its lease is waiting for it.
    fn standby_died(&mut self, name: &ResourceName, failure: Failure, wait: Millis) {
        let sentence = format!("warm standby ended ({}), next start in {wait}", failure.how);
        self.say(self.subject_of(name), sentence);
        if let Some(lease) = self.lease_of(name) {
            self.failed(&lease, failure);
        }
    }

    pub(super) fn kill(&mut self, name: &ResourceName) {
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        if matches!(child.state, ChildState::Gone { .. } | ChildState::Stopping { .. }) {
            return;
        }
        child.killed_under = child.state.epoch();
        child.state = ChildState::Stopping { lease: child.state.lease().cloned() };
        self.push(Effect::Kill(name.clone()));
    }

    pub(super) fn deactivate(&mut self, name: &ResourceName) {
        let policy = self.policy_of(name);
        // A resource is given as long as it was given to come up; a host as long as a move waits.
        let within = if self.drives(name) { policy.pending_timeout } else { policy.drain_timeout };
        let grace = if self.drives(name) { TERMINATE_GRACE } else { DRAIN_GRACE };
        let kill_at = self.now.after(within).after(grace);
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        if let ChildState::Activating { lease, epoch, .. } | ChildState::Active { lease, epoch } =
            child.state.clone()
        {
            child.state = ChildState::Deactivating { lease, epoch, kill_at };
            self.push(Effect::Deactivate { resource: name.clone(), within });
        }
    }

    /// Lets a member work under this epoch if it can; tells whether it does.
    pub(super) fn activate(
        &mut self,
        name: &ResourceName,
        lease: &LeaseName,
        epoch: Epoch,
        trust_until: BootTime,
    ) -> bool {
        let now = self.now;
        let spec = self.spec_of(name);
        let Some(child) = self.children.get_mut(name) else {
            return false;
        };
        if child.state == ChildState::Ready && child.spec != spec {
            return false; // It is ended, and the next one knows its settings.
        }
        let reactivated = match &child.state {
            ChildState::Ready => false,
            ChildState::Active { lease: at, epoch: before } if at == lease => {
                if *before == epoch {
                    return true;
                }
                true
            }
            ChildState::Activating { lease: at, epoch: before, reactivated } if at == lease => {
                if *before == epoch {
                    return false;
                }
                *reactivated
            }
            ChildState::Gone { .. }
            | ChildState::Spawning
            | ChildState::Activating { .. }
            | ChildState::Active { .. }
            | ChildState::Deactivating { .. }
            | ChildState::Stopping { .. } => return false,
        };
        child.activated_at = now;
        child.last_progress = now;
        child.state = ChildState::Activating { lease: lease.clone(), epoch, reactivated };
        let (resource, lease) = (name.clone(), lease.clone());
        self.push(Effect::Activate { resource, lease, epoch, trust_until });
        false
    }

    /// Its lease is ours: even a standby that died often is started at once; the policy counts.
    pub(super) fn hurry(&mut self, name: &ResourceName) {
        let now = self.now;
        if let Some(child) = self.children.get_mut(name)
            && let ChildState::Gone { respawn_at } = &mut child.state
        {
            *respawn_at = now;
        }
    }

    pub(super) fn meet_child_deadlines(&mut self) {
        for (name, child) in self.children.clone() {
            match child.state {
                ChildState::Spawning
                    if self.spawn_limit(&name, &child) <= self.now && !child.stuck =>
                {
                    self.say(self.subject_of(&name), "warm standby did not come up".to_owned());
                    self.kill(&name);
                }
                ChildState::Activating { lease, .. }
                    if self.pending_limit(&name, &child) <= self.now =>
                {
                    let timeout = self.policy_of(&name).pending_timeout;
                    let how = format!("was not online after {timeout} without progress");
                    self.kill(&name);
                    self.failed(&lease, Failure::soft(name, how));
                }
                ChildState::Active { lease, .. }
                    if self.hang_limit(&name, &child) <= self.now
                        && !self.is_unmonitored(&lease) =>
                {
                    let how =
                        format!("made no progress for {}", self.policy_of(&name).hang_timeout);
                    self.kill(&name);
                    self.failed(&lease, Failure::soft(name, how));
                }
                ChildState::Deactivating { kill_at, .. } if kill_at <= self.now && !child.stuck => {
                    let sentence = "it did not finish in time and is killed".to_owned();
                    self.say(self.subject_of(&name), sentence);
                    self.kill(&name);
                }
                ChildState::Gone { .. }
                | ChildState::Spawning
                | ChildState::Ready
                | ChildState::Activating { .. }
                | ChildState::Active { .. }
                | ChildState::Deactivating { .. }
                | ChildState::Stopping { .. } => {}
            }
        }
    }

    fn spawn_limit(&self, name: &ResourceName, child: &Child) -> BootTime {
        child.spawned_at.after(self.policy_of(name).pending_timeout)
    }

    /// Signs of progress put the pending timeout off, but not for ever.
    fn pending_limit(&self, name: &ResourceName, child: &Child) -> BootTime {
        let quiet = child.last_progress.after(self.policy_of(name).pending_timeout);
        quiet.min(child.activated_at.after(PENDING_MAX))
    }

    fn hang_limit(&self, name: &ResourceName, child: &Child) -> BootTime {
        child.last_progress.after(self.policy_of(name).hang_timeout)
    }

    /// Starts what is wanted, stops what is not or has other settings now.
    pub(super) fn settle_children(&mut self) {
        let stopping = self.stop_by.is_some();
        for (name, child) in self.children.clone() {
            let elsewhere =
                child.state.lease().is_some_and(|at| self.lease_of(&name).as_ref() != Some(at));
            let outdated = child.wanted && child.spec != self.spec_of(&name);
            let changed = self.must_start_anew(&name);
            match child.state {
                ChildState::Gone { respawn_at } if child.wanted || child.unclean.is_some() => {
                    if respawn_at <= self.now && (!stopping || child.unclean.is_some()) {
                        self.spawn(&name);
                    }
                }
                ChildState::Gone { .. } => {
                    self.children.remove(&name);
                }
                ChildState::Spawning | ChildState::Ready
                    if !child.wanted && child.unclean.is_none() =>
                {
                    let sentence = "it is no longer defined for this node, so it is ended";
                    self.say(self.subject_of(&name), sentence.to_owned());
                    self.kill(&name);
                }
                ChildState::Ready if outdated => self.kill(&name),
                ChildState::Activating { lease, .. } | ChildState::Active { lease, .. }
                    if elsewhere || changed =>
                {
                    if self.is_needed(&lease, &name) {
                        continue; // Those that stand on it go first.
                    }
                    let sentence = match elsewhere {
                        true => "it is no longer defined here under this lease, so it stops",
                        false => "its settings have changed, so it stops and starts anew",
                    };
                    self.say(self.subject_of(&name), sentence.to_owned());
                    self.deactivate(&name);
                }
                ChildState::Spawning
                | ChildState::Ready
                | ChildState::Activating { .. }
                | ChildState::Active { .. }
                | ChildState::Deactivating { .. }
                | ChildState::Stopping { .. } => {}
            }
        }
    }

    fn spawn(&mut self, name: &ResourceName) {
        let now = self.now;
        let defined = self.spec_of(name);
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        if child.wanted {
            child.spec = defined; // One that is not wanted any more cleans up after what it was.
        }
        child.state = ChildState::Spawning;
        child.spawned_at = now;
        let spec = child.spec.clone();
        self.push(Effect::Spawn { resource: name.clone(), spec });
    }

    pub(super) fn child_deadlines(&self) -> impl Iterator<Item = BootTime> {
        let (stopping, now) = (self.stop_by.is_some(), self.now);
        self.children.iter().filter_map(move |(name, child)| match &child.state {
            ChildState::Gone { respawn_at } => {
                (!stopping || child.unclean.is_some()).then_some(*respawn_at)
            }
            ChildState::Spawning => (!child.stuck).then(|| self.spawn_limit(name, child)),
            // One that has passed is looked at each turn: it is not monitored for a while.
            ChildState::Active { .. } => Some(self.hang_limit(name, child)).filter(|at| *at > now),
            ChildState::Activating { .. } => Some(self.pending_limit(name, child)),
            ChildState::Deactivating { kill_at, .. } => (!child.stuck).then_some(*kill_at),
            ChildState::Ready | ChildState::Stopping { .. } => None,
        })
    }

    /// The lease under which a member works here, by the definitions.
    pub(super) fn lease_of(&self, name: &ResourceName) -> Option<LeaseName> {
        self.index.get(name).and_then(|entry| entry.lease.clone())
    }

    /// What a member is started as, by the definitions; none for a host.
    fn spec_of(&self, name: &ResourceName) -> Option<Box<ResourceSpec>> {
        self.index.get(name).and_then(|entry| entry.spec.clone())
    }

    /// Whether a member was started as something else than what it is defined as now.
    pub(super) fn must_start_anew(&self, name: &ResourceName) -> bool {
        let Some(child) = self.children.get(name).filter(|child| child.wanted) else {
            return false;
        };
        let defined = self.spec_of(name);
        !child.state.is_gone() && !same_kind(child.spec.as_deref(), defined.as_deref())
    }

    /// Whether a member is driven by a monitor, rather than being a host.
    pub(super) fn drives(&self, name: &ResourceName) -> bool {
        self.children.get(name).is_some_and(|child| child.spec.is_some())
    }

    pub(super) fn policy_of(&self, name: &ResourceName) -> EffectivePolicy {
        self.index.get(name).map(|entry| entry.policy.clone()).unwrap_or_default()
    }

    /// A member in a sentence: `host receive`, `ip_address front`.
    pub(super) fn subject_of(&self, name: &ResourceName) -> String {
        match self.children.get(name).and_then(|child| child.spec.as_ref()) {
            None => format!("host {name}"),
            Some(spec) => format!("{} {name}", spec.resource.kind.as_str()),
        }
    }

    /// The members that work under a lease here, by the definitions.
    pub(super) fn members_of(&self, lease: &LeaseName) -> Vec<ResourceName> {
        let mine = self.index.iter().filter(|(_, entry)| entry.lease.as_ref() == Some(lease));
        mine.map(|(name, _)| name.clone()).collect()
    }

    /// The members of which something may still run under a lease.
    pub(super) fn working_for(&self, lease: &LeaseName) -> Vec<ResourceName> {
        let mine = self.children.iter().filter(|(_, child)| child.lease() == Some(lease));
        mine.map(|(name, _)| name.clone()).collect()
    }

    /// The members that are trusted to work under a lease and epoch.
    pub(super) fn trusting(&self, lease: &LeaseName, epoch: Epoch) -> Vec<ResourceName> {
        let mut members = self.working_for(lease);
        members.retain(|name| {
            self.children.get(name).is_some_and(|child| child.state.epoch() == Some(epoch))
        });
        members
    }

    /// The members that have a process.
    pub(super) fn running(&self) -> Vec<ResourceName> {
        let running = self.children.iter().filter(|(_, child)| !child.state.is_gone());
        running.map(|(name, _)| name.clone()).collect()
    }

    /// A failure of a member at this lease counts for nothing while it is not monitored.
    fn is_unmonitored(&self, lease: &LeaseName) -> bool {
        self.unmonitored_until(lease).is_some()
    }

    /// Fails what did not come online in time, whatever it waits for.
    pub(super) fn fail_late(&mut self, lease: &LeaseName, timeout: Millis) {
        let mut late: Vec<ResourceName> = self.members_of(lease);
        late.retain(|name| self.children.get(name).is_none_or(|child| !child.state.is_up()));
        for resource in late {
            self.kill(&resource);
            let how = format!("was not online after {timeout}");
            self.failed(lease, Failure { resource, how, reach: FailureReach::Soft });
        }
    }
}

/// Whether two specs differ in nothing that a resource at work would have to be restarted for:
/// other limits and intervals count from its next start.
fn same_kind(one: Option<&ResourceSpec>, other: Option<&ResourceSpec>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            one.resource.kind == other.resource.kind && one.addresses == other.addresses
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}
