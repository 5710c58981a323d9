//! Child processes of hosts: kept up as warm standbys, activated, watched, killed, reaped.

use std::collections::BTreeSet;

use model::{BootTime, Epoch, HostName, LeaseName, Millis};

use super::{Agent, Effect, Exit};
use crate::restart::{self, Failure};

/// What a host gets on top of its drain timeout before it is killed: its answer must travel.
pub(super) const DRAIN_GRACE: Millis = Millis::seconds(1);

/// First wait before a child that died soon after its start is started a third time.
const RESPAWN_DELAY: Millis = Millis(500);

/// A child that lived this long did not die of its start.
const STEADY_AFTER: Millis = Millis::seconds(10);

/// The child process of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Child {
    pub state: ChildState,
    /// Whether the definitions give this node the host.
    pub wanted: bool,
    pub spawned_at: BootTime,
    pub last_progress: BootTime,
    /// Deaths in a row, each soon after its start.
    pub deaths: usize,
}

/// What a host's child process is doing.
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

impl Agent {
    /// Takes note of which hosts the definitions give this node.
    pub(super) fn want_hosts(&mut self, hosts: &BTreeSet<HostName>) {
        for (name, child) in &mut self.children {
            child.wanted = hosts.contains(name);
        }
        for host in hosts {
            self.children.entry(host.clone()).or_insert(Child {
                state: ChildState::Gone { respawn_at: self.now },
                wanted: true,
                spawned_at: self.now,
                last_progress: self.now,
                deaths: 0,
            });
        }
    }

    pub(super) fn instance_ready(&mut self, host: &HostName) {
        if let Some(child) = self.children.get_mut(host)
            && child.state == ChildState::Spawning
        {
            child.state = ChildState::Ready;
        }
    }

    pub(super) fn instance_active(&mut self, host: &HostName, active: Epoch) {
        let now = self.now;
        let Some(child) = self.children.get_mut(host) else {
            return;
        };
        if let ChildState::Activating { lease, epoch, .. } = &child.state
            && *epoch == active
        {
            child.state = ChildState::Active { lease: lease.clone(), epoch: active };
            child.last_progress = now;
        }
    }

    pub(super) fn instance_inactive(&mut self, host: &HostName, inactive: Epoch) {
        let Some(child) = self.children.get_mut(host) else {
            return;
        };
        if child.state.epoch() != Some(inactive) {
            return;
        }
        match std::mem::replace(&mut child.state, ChildState::Ready) {
            ChildState::Activating { lease, .. } | ChildState::Active { lease, .. } => {
                let how = "stopped by itself".to_owned();
                self.failed(&lease, Failure { host: host.clone(), how });
            }
            ChildState::Deactivating { .. }
            | ChildState::Gone { .. }
            | ChildState::Spawning
            | ChildState::Ready
            | ChildState::Stopping { .. } => {}
        }
    }

    pub(super) fn progress(&mut self, host: &HostName) {
        let now = self.now;
        if let Some(child) = self.children.get_mut(host) {
            child.last_progress = now;
        }
    }

    /// A child is gone. Whether that is a failure depends on what it was doing.
    pub(super) fn instance_exited(&mut self, host: &HostName, exit: Exit) {
        let now = self.now;
        let Some(child) = self.children.get_mut(host) else {
            return;
        };
        let soon = now.since(child.spawned_at) < STEADY_AFTER;
        let killed = matches!(child.state, ChildState::Stopping { .. });
        if !killed {
            child.deaths = if soon { child.deaths.saturating_add(1) } else { 1 };
        }
        let wait = restart::backoff(RESPAWN_DELAY, child.deaths.saturating_sub(1));
        let respawn_at = if killed { now } else { now.after(wait) };
        let state = std::mem::replace(&mut child.state, ChildState::Gone { respawn_at });
        let failure = match exit {
            Exit::Failed(how) => Some(Failure { host: host.clone(), how }),
            Exit::Expected | Exit::TrustEnded => None,
        };
        match (state, failure) {
            (ChildState::Activating { reactivated: true, .. }, _) => {
                let sentence = "it ended on its way to a new epoch and is started again";
                self.say(format!("host {host}"), sentence.to_owned());
            }
            (
                ChildState::Activating { lease, .. } | ChildState::Active { lease, .. },
                Some(failure),
            ) => self.failed(&lease, failure),
            (ChildState::Activating { lease, .. } | ChildState::Active { lease, .. }, None) => {
                let reason = format!("host {host} ended itself, it is brought back on {}", self.me);
                self.bring_back(&lease, reason);
            }
            (ChildState::Spawning | ChildState::Ready, Some(failure)) => {
                self.standby_died(host, failure, wait);
            }
            (
                ChildState::Deactivating { lease, .. }
                | ChildState::Stopping { lease: Some(lease) },
                _,
            ) if self.lease_of(host).as_ref() != Some(&lease) => {
                // It was to leave a lease that goes on without it.
                let reason = format!(
                    "host {host} left it without finishing, and what it had begun is free only \
                     under a new epoch"
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
    fn standby_died(&mut self, host: &HostName, failure: Failure, wait: Millis) {
        let sentence = format!("warm standby ended ({}), next start in {wait}", failure.how);
        self.say(format!("host {host}"), sentence);
        if let Some(lease) = self.lease_of(host) {
            self.failed(&lease, failure);
        }
    }

    pub(super) fn kill(&mut self, host: &HostName) {
        let Some(child) = self.children.get_mut(host) else {
            return;
        };
        if matches!(child.state, ChildState::Gone { .. } | ChildState::Stopping { .. }) {
            return;
        }
        child.state = ChildState::Stopping { lease: child.state.lease().cloned() };
        self.push(Effect::Kill(host.clone()));
    }

    pub(super) fn deactivate(&mut self, host: &HostName, within: Millis) {
        let kill_at = self.now.after(within).after(DRAIN_GRACE);
        let Some(child) = self.children.get_mut(host) else {
            return;
        };
        if let ChildState::Activating { lease, epoch, .. } | ChildState::Active { lease, epoch } =
            child.state.clone()
        {
            child.state = ChildState::Deactivating { lease, epoch, kill_at };
            self.push(Effect::Deactivate { host: host.clone(), within });
        }
    }

    /// Lets a host work under this epoch if it can; tells whether it does.
    pub(super) fn activate(
        &mut self,
        host: &HostName,
        lease: &LeaseName,
        epoch: Epoch,
        trust_until: BootTime,
    ) -> bool {
        let Some(child) = self.children.get_mut(host) else {
            return false;
        };
        let reactivated = match &child.state {
            ChildState::Ready => false,
            ChildState::Active { lease: at, epoch: before } if at == lease => {
                if *before == epoch {
                    return true;
                }
                true
            }
            ChildState::Activating { lease: at, epoch: before, .. } if at == lease => {
                if *before == epoch {
                    return false;
                }
                true
            }
            ChildState::Gone { .. }
            | ChildState::Spawning
            | ChildState::Activating { .. }
            | ChildState::Active { .. }
            | ChildState::Deactivating { .. }
            | ChildState::Stopping { .. } => return false,
        };
        child.state = ChildState::Activating { lease: lease.clone(), epoch, reactivated };
        let (host, lease) = (host.clone(), lease.clone());
        self.push(Effect::Activate { host, lease, epoch, trust_until });
        false
    }

    /// Its lease is ours: even a standby that died often is started at once; the policy counts.
    pub(super) fn hurry(&mut self, host: &HostName) {
        let now = self.now;
        if let Some(child) = self.children.get_mut(host)
            && let ChildState::Gone { respawn_at } = &mut child.state
        {
            *respawn_at = now;
        }
    }

    pub(super) fn meet_child_deadlines(&mut self) {
        for (host, child) in self.children.clone() {
            match child.state {
                ChildState::Spawning if self.spawn_limit(&host, &child) <= self.now => {
                    self.say(format!("host {host}"), "warm standby did not come up".to_owned());
                    self.kill(&host);
                }
                ChildState::Active { lease, .. } if self.hang_limit(&host, &child) <= self.now => {
                    let how = format!("made no progress for {}", self.policy(&lease).hang_timeout);
                    self.kill(&host);
                    self.failed(&lease, Failure { host, how });
                }
                ChildState::Deactivating { kill_at, .. } if kill_at <= self.now => {
                    let sentence = "it did not finish in time and is killed".to_owned();
                    self.say(format!("host {host}"), sentence);
                    self.kill(&host);
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

    fn spawn_limit(&self, host: &HostName, child: &Child) -> BootTime {
        let policy = self.lease_of(host).map(|lease| self.policy(&lease)).unwrap_or_default();
        child.spawned_at.after(policy.pending_timeout)
    }

    fn hang_limit(&self, host: &HostName, child: &Child) -> BootTime {
        let policy = self.lease_of(host).map(|lease| self.policy(&lease)).unwrap_or_default();
        child.last_progress.after(policy.hang_timeout)
    }

    /// Starts what is wanted, stops what is not.
    pub(super) fn settle_children(&mut self) {
        let stopping = self.stop_by.is_some();
        for (host, child) in self.children.clone() {
            let elsewhere =
                child.state.lease().is_some_and(|at| self.lease_of(&host).as_ref() != Some(at));
            match child.state {
                ChildState::Gone { respawn_at } if child.wanted => {
                    if respawn_at <= self.now && !stopping {
                        self.spawn(&host);
                    }
                }
                ChildState::Gone { .. } => {
                    self.children.remove(&host);
                }
                ChildState::Spawning | ChildState::Ready if !child.wanted => {
                    let sentence = "it is no longer defined for this node, so it is ended";
                    self.say(format!("host {host}"), sentence.to_owned());
                    self.kill(&host);
                }
                ChildState::Activating { lease, .. } | ChildState::Active { lease, .. }
                    if elsewhere =>
                {
                    let sentence = "it is no longer defined here under this lease, so it stops";
                    self.say(format!("host {host}"), sentence.to_owned());
                    let drain = self.policy(&lease).drain_timeout;
                    self.deactivate(&host, drain);
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

    fn spawn(&mut self, host: &HostName) {
        let now = self.now;
        let Some(child) = self.children.get_mut(host) else {
            return;
        };
        child.state = ChildState::Spawning;
        child.spawned_at = now;
        self.push(Effect::Spawn(host.clone()));
    }

    pub(super) fn child_deadlines(&self) -> impl Iterator<Item = BootTime> {
        let stopping = self.stop_by.is_some();
        self.children.iter().filter_map(move |(host, child)| match &child.state {
            ChildState::Gone { respawn_at } => (!stopping).then_some(*respawn_at),
            ChildState::Spawning => Some(self.spawn_limit(host, child)),
            ChildState::Active { .. } => Some(self.hang_limit(host, child)),
            ChildState::Deactivating { kill_at, .. } => Some(*kill_at),
            ChildState::Ready | ChildState::Activating { .. } | ChildState::Stopping { .. } => None,
        })
    }

    /// The lease under which a host works here, by the definitions.
    fn lease_of(&self, host: &HostName) -> Option<LeaseName> {
        let definitions = &self.seen.as_ref()?.snapshot.definitions;
        let host = definitions.host(host).filter(|host| host.runs_on(&self.me))?;
        Some(match &host.group {
            Some(group) => LeaseName::Group(group.clone()),
            None => LeaseName::Instance(host.name.clone(), self.me.clone()),
        })
    }

    /// The hosts that work under a lease here, by the definitions.
    pub(super) fn hosts_of(&self, lease: &LeaseName) -> Vec<HostName> {
        let Some(seen) = &self.seen else {
            return Vec::new();
        };
        let names = seen.snapshot.definitions.hosts.iter().map(|host| &host.name);
        names.filter(|name| self.lease_of(name).as_ref() == Some(lease)).cloned().collect()
    }

    /// The hosts of which something may still run under a lease.
    pub(super) fn working_for(&self, lease: &LeaseName) -> Vec<HostName> {
        let mine = self.children.iter().filter(|(_, child)| child.state.lease() == Some(lease));
        mine.map(|(host, _)| host.clone()).collect()
    }

    /// The hosts that are trusted to work under a lease and epoch.
    pub(super) fn trusting(&self, lease: &LeaseName, epoch: Epoch) -> Vec<HostName> {
        let mut hosts = self.working_for(lease);
        hosts.retain(|host| {
            self.children.get(host).is_some_and(|child| child.state.epoch() == Some(epoch))
        });
        hosts
    }

    /// The hosts that have a process.
    pub(super) fn running(&self) -> Vec<HostName> {
        let running = self.children.iter().filter(|(_, child)| !child.state.is_gone());
        running.map(|(host, _)| host.clone()).collect()
    }
}
