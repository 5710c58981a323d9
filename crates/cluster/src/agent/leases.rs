//! Leases on this node: asked for, held, renewed, lost, and what follows when a host fails.

use model::{BootTime, Cause, Epoch, EventId, Evidence, LeaseName, Millis, NodeName, ResourceName};

use super::children::ChildState;
use super::life::subject;
use super::{AcquireOutcome, AcquireRequest, Agent, Effect};
use crate::restart::{self, Failure, Next};

/// How long an answer of the store is waited for before the next snapshot is believed instead.
pub(super) const ANSWER_MAX: Millis = Millis::seconds(10);

/// Wait before something that the store could not answer is tried again.
pub(super) const AGAIN_AFTER: Millis = Millis(500);

/// First wait after a refusal; doubles up to [`ASK_DELAY_MAX`].
const ASK_DELAY: Millis = Millis(100);

/// Longest wait between two questions for a lease that somebody else keeps getting.
const ASK_DELAY_MAX: Millis = Millis::seconds(2);

/// A lease on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tenancy {
    pub phase: Phase,
    /// The epoch under which we hold it.
    pub epoch: Option<Epoch>,
    /// When we stop believing that we hold it.
    pub trust_until: BootTime,
    /// The last epoch that we let go ourselves: a snapshot read before that may still show us.
    pub let_go: Epoch,
}

/// What this node is doing about a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It is not ours, or we do not believe so any more.
    NotOurs,
    /// The store was asked; what was active before stays so until the answer or the end of trust.
    Acquiring {
        /// After this the answer is no longer waited for.
        until: BootTime,
        /// What was asked.
        retry: Retry,
    },
    /// Ours; its members are being activated, or their standbys are not up yet.
    OnlinePending {
        /// After this it counts as failed.
        until: BootTime,
    },
    /// Ours, and all its members are active.
    Online,
    /// A member failed; the policy waits for a snapshot that has seen our epoch, or for the end of
    /// a maintenance.
    Deciding(Failure),
    /// A member failed, and this is when it is tried again.
    Failed(Retry),
    /// Its members are being stopped, then it is let go.
    OfflinePending {
        /// How it is let go.
        then: LetGo,
        /// After this it is not released any more but left to expire.
        until: BootTime,
    },
    /// Nothing of it runs here, and the store was told to take it back.
    Releasing {
        /// How it is let go.
        then: LetGo,
        /// When the store is told again.
        again_at: BootTime,
    },
}

/// An acquire that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// When.
    pub at: BootTime,
    /// With which cause.
    pub cause: Cause,
    /// Why.
    pub reason: String,
    /// The resource whose failure it follows, if it follows one.
    pub resource: Option<ResourceName>,
}

/// How a lease is let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetGo {
    /// With which cause.
    pub cause: Cause,
    /// For whom.
    pub offered_to: Option<NodeName>,
    /// Why.
    pub reason: String,
    /// The resource whose failure it follows, if it follows one.
    pub resource: Option<ResourceName>,
}

/// How often a lease was asked for in vain, and when it may be asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ask {
    refusals: u32,
    not_before: BootTime,
}

impl Default for Tenancy {
    fn default() -> Self {
        Tenancy { phase: Phase::NotOurs, epoch: None, trust_until: BootTime(0), let_go: Epoch(0) }
    }
}

impl Tenancy {
    /// Whether we hold it, or may come to hold it without asking again.
    pub fn is_occupied(&self) -> bool {
        self.epoch.is_some() || self.phase != Phase::NotOurs
    }

    fn is_releasing(&self) -> bool {
        matches!(self.phase, Phase::Releasing { .. })
    }
}

impl Agent {
    /// Stops what runs under a lease whose renewal was not confirmed in time. This needs nobody.
    pub(super) fn distrust(&mut self) {
        let over = |tenancy: &Tenancy| {
            tenancy.epoch.is_some() && !tenancy.is_releasing() && tenancy.trust_until <= self.now
        };
        let over: Vec<LeaseName> = self
            .leases
            .iter()
            .filter(|(_, tenancy)| over(tenancy))
            .map(|(lease, _)| lease.clone())
            .collect();
        for lease in over {
            let sentence = format!("{} could not renew it in time, so it stops by itself", self.me);
            self.lose(&lease, sentence);
        }
    }

    /// It is no longer ours: killing is the fastest way to let go, and the fence refuses it anyway.
    pub(super) fn lose(&mut self, lease: &LeaseName, sentence: String) {
        let Some(tenancy) = self.leases.get_mut(lease) else {
            return;
        };
        if tenancy.epoch.take().is_none() {
            return;
        }
        if !matches!(tenancy.phase, Phase::Acquiring { .. }) {
            tenancy.phase = Phase::NotOurs;
        }
        self.tell_of(lease, sentence, is_group(lease).then_some(EventId::GROUP_LOST));
        for name in self.working_for(lease) {
            self.kill(&name);
        }
        self.ask_snapshot();
    }

    pub(super) fn renewed(
        &mut self,
        sent_at: BootTime,
        renewed: &[(LeaseName, Epoch)],
        lost: &[(LeaseName, Epoch)],
    ) {
        let trust_until = self.timing.trust_until(sent_at);
        for (lease, epoch) in renewed {
            let Some(tenancy) = self.leases.get_mut(lease) else {
                continue;
            };
            if tenancy.epoch != Some(*epoch) || trust_until <= tenancy.trust_until {
                continue;
            }
            tenancy.trust_until = trust_until;
            for host in self.trusting(lease, *epoch) {
                self.push(Effect::Trust { resource: host, trust_until });
            }
        }
        for (lease, epoch) in lost {
            if *lease == LeaseName::Node(self.me.clone()) && *epoch == self.node_epoch {
                self.replaced();
            }
            let Some(tenancy) = self.leases.get(lease) else {
                continue;
            };
            // While acquiring, our own request may be what ended the old epoch: its answer counts.
            let waits = matches!(tenancy.phase, Phase::Acquiring { .. }) || tenancy.is_releasing();
            if tenancy.epoch == Some(*epoch) && !waits {
                let sentence = format!("the store refused to renew epoch {epoch} for {}", self.me);
                self.lose(lease, sentence);
            }
        }
    }

    /// Asks for a lease, unless the store has just refused it.
    pub(super) fn acquire(&mut self, request: AcquireRequest) {
        let held_back = self.asks.get(&request.lease).is_some_and(|ask| ask.not_before > self.now);
        if held_back {
            return;
        }
        let tenancy = self.leases.entry(request.lease.clone()).or_default();
        tenancy.phase = Phase::Acquiring {
            until: self.now.after(ANSWER_MAX),
            retry: Retry {
                at: self.now,
                cause: request.cause,
                reason: request.reason.clone(),
                resource: request.resource.clone(),
            },
        };
        self.say_of(&request.lease, request.reason.clone());
        self.push(Effect::Acquire(request));
    }

    pub(super) fn acquired(
        &mut self,
        lease: &LeaseName,
        sent_at: BootTime,
        outcome: AcquireOutcome,
    ) {
        let Some(tenancy) = self.leases.get(lease) else {
            return;
        };
        let Phase::Acquiring { retry, .. } = tenancy.phase.clone() else {
            self.ask_snapshot(); // An answer that came too late: the snapshot shows what it did.
            return;
        };
        match outcome {
            AcquireOutcome::Granted(epoch, evidence) => {
                self.granted(lease, sent_at, (epoch, evidence), &retry);
            }
            AcquireOutcome::Refused(why) => {
                self.hold_back(lease);
                let sentence = format!("{} asked for it and was refused: {why}", self.me);
                self.become_not_ours(lease);
                self.lose_or_say(lease, sentence);
            }
            AcquireOutcome::Unknown(why) => self.unanswered(lease, retry, &why),
        }
    }

    fn granted(
        &mut self,
        lease: &LeaseName,
        sent_at: BootTime,
        (epoch, evidence): (Epoch, Evidence),
        asked: &Retry,
    ) {
        self.asks.remove(lease);
        let trust_until = self.timing.trust_until(sent_at);
        let until = self.now.after(self.pending_timeout(lease));
        let Some(tenancy) = self.leases.get_mut(lease) else {
            return;
        };
        tenancy.epoch = Some(epoch);
        tenancy.trust_until = trust_until;
        tenancy.phase = Phase::OnlinePending { until };
        if trust_until <= self.now {
            self.lose(lease, format!("epoch {epoch} was granted too late to be trusted"));
            return;
        }
        let me = &self.me;
        let sentence = format!("{me} owns it under epoch {epoch} (evidence: {evidence})");
        self.tell_of(lease, sentence, taken(asked.cause).filter(|_| is_group(lease)));
        for name in self.members_of(lease) {
            self.hurry(&name);
        }
        self.ask_snapshot();
    }

    /// Whether it is ours now will show in the next snapshot; what was ours stays trusted.
    fn unanswered(&mut self, lease: &LeaseName, retry: Retry, why: &str) {
        self.say_of(lease, format!("{} asked for it without an answer: {why}", self.me));
        let at = self.now.after(AGAIN_AFTER);
        let Some(tenancy) = self.leases.get_mut(lease) else {
            return;
        };
        if tenancy.epoch.is_some() {
            tenancy.phase = Phase::Failed(Retry { at, ..retry });
        } else {
            tenancy.phase = Phase::NotOurs;
            self.hold_back(lease);
        }
    }

    fn hold_back(&mut self, lease: &LeaseName) {
        let ask = self.asks.entry(lease.clone()).or_default();
        let delay = Millis(ASK_DELAY.0 << ask.refusals.min(8)).min(ASK_DELAY_MAX);
        ask.refusals = ask.refusals.saturating_add(1);
        ask.not_before = self.now.after(delay);
        let not_before = ask.not_before;
        self.ask_snapshot_by(not_before);
    }

    /// Whether something about a lease may be asked now; if so, not again for a while.
    pub(super) fn may_ask(&mut self, lease: &LeaseName) -> bool {
        let ask = self.asks.entry(lease.clone()).or_default();
        let may = ask.not_before <= self.now;
        if may {
            ask.not_before = self.now.after(ASK_DELAY_MAX);
        }
        may
    }

    fn become_not_ours(&mut self, lease: &LeaseName) {
        if let Some(tenancy) = self.leases.get_mut(lease) {
            tenancy.phase = Phase::NotOurs;
        }
    }

    fn lose_or_say(&mut self, lease: &LeaseName, sentence: String) {
        if self.leases.get(lease).is_some_and(|tenancy| tenancy.epoch.is_some()) {
            self.lose(lease, sentence);
        } else {
            self.say_of(lease, sentence);
        }
    }

    /// A member of a lease that should be online has failed.
    pub(super) fn failed(&mut self, lease: &LeaseName, failure: Failure) {
        let Some(tenancy) = self.leases.get_mut(lease) else {
            return;
        };
        if matches!(tenancy.phase, Phase::Online | Phase::OnlinePending { .. }) {
            tenancy.phase = Phase::Deciding(failure);
        }
    }

    /// A member stopped without a failure: its group is brought back under a new epoch.
    pub(super) fn bring_back(&mut self, lease: &LeaseName, reason: String) {
        let at = self.now.after(AGAIN_AFTER);
        let retry = Retry { at, cause: Cause::Regained, reason, resource: None };
        let Some(tenancy) = self.leases.get_mut(lease) else {
            return;
        };
        if matches!(tenancy.phase, Phase::Online | Phase::OnlinePending { .. }) {
            tenancy.phase = Phase::Failed(retry);
        }
    }

    /// Applies the restart and failover policy.
    fn decide(&mut self, lease: &LeaseName, failure: &Failure) {
        let LeaseName::Group(name) = lease else {
            self.restart_instance(lease, failure);
            return;
        };
        if let Some(until) = self.unmonitored_until(lease) {
            let Failure { resource, how, .. } = failure;
            let sentence = format!(
                "{resource} failed on {} ({how}), which counts only after {until}: an operator \
                 wants it unmonitored until then",
                self.me
            );
            self.say_event(subject(lease), sentence, EventId::RESOURCE_FAILED);
            return;
        }
        let epoch = self.leases.get(lease).and_then(|tenancy| tenancy.epoch);
        let seen = self.seen.as_ref().filter(|seen| {
            seen.snapshot.lease(lease).is_some_and(|view| Some(view.epoch) == epoch)
        });
        let Some(seen) = seen else {
            return; // The history lacks our epoch yet; a snapshot was asked for when it began.
        };
        let Some(group) = seen.snapshot.definitions.group(name) else {
            return;
        };
        let (now, snapshot) = (self.store_now(), &seen.snapshot);
        let verdict = restart::after_failure(snapshot, now, group, &self.me, failure);
        let budget = restart::failovers(snapshot, now, group);
        let reason = verdict.reason;
        let event = match &verdict.next {
            Next::RestartHere { .. } => EventId::RESOURCE_FAILED,
            Next::Park { .. } | Next::Stay => EventId::GROUP_PARKED,
            Next::FailOver { banned: true, .. } => EventId::RESOURCE_BANNED,
            Next::FailOver { .. } => EventId::GROUP_FAILED_OVER,
        };
        let used = budget.used + 1;
        let failing_over = matches!(verdict.next, Next::FailOver { .. });
        if failing_over && used * 2 >= budget.max && used < budget.max {
            let sentence = format!("{used} of {} failovers are used now", budget.max);
            self.say_event(subject(lease), sentence, EventId::GROUP_BUDGET_HALF);
        }
        self.say_event(subject(lease), reason.clone(), event);
        let resource = Some(failure.resource.clone());
        let (after, cause) = match verdict.next {
            Next::RestartHere { after } => (after, Cause::Restart),
            Next::Park { after } => (after, Cause::Retry),
            Next::Stay => (Millis(u64::MAX), Cause::Retry),
            Next::FailOver { to, banned } => {
                let cause = if banned { Cause::Banned } else { Cause::Failover };
                let offered_to = Some(to);
                return self.take_offline(lease, LetGo { cause, offered_to, reason, resource });
            }
        };
        self.retry(lease, Retry { at: self.now.after(after), cause, reason, resource });
    }

    fn retry(&mut self, lease: &LeaseName, retry: Retry) {
        if let Some(tenancy) = self.leases.get_mut(lease) {
            tenancy.phase = Phase::Failed(retry);
        }
    }

    /// A host that is not clustered runs nowhere else: it is restarted, ever more slowly.
    fn restart_instance(&mut self, lease: &LeaseName, failure: &Failure) {
        let deaths = self.children.get(&failure.resource).map_or(0, |child| child.deaths);
        let after = restart::backoff(AGAIN_AFTER, deaths.saturating_sub(1));
        let Failure { resource, how, .. } = failure;
        let reason = format!("host {resource} failed on {} ({how}), restart in {after}", self.me);
        self.say_event(subject(lease), reason.clone(), EventId::RESOURCE_FAILED);
        let (at, cause) = (self.now.after(after), Cause::Restart);
        self.retry(lease, Retry { at, cause, reason, resource: Some(resource.clone()) });
    }

    pub(super) fn meet_lease_deadlines(&mut self) {
        for (lease, tenancy) in self.leases.clone() {
            match tenancy.phase {
                Phase::Acquiring { until, retry } if until <= self.now => {
                    self.unanswered(&lease, retry, &format!("none within {ANSWER_MAX}"));
                }
                Phase::OnlinePending { until }
                    if until <= self.now && !self.is_getting_on(&lease) =>
                {
                    self.pending_over(&lease);
                }
                Phase::OfflinePending { until, .. } if until <= self.now => {
                    self.offline_over(&lease);
                }
                Phase::NotOurs
                | Phase::Acquiring { .. }
                | Phase::OnlinePending { .. }
                | Phase::Online
                | Phase::Deciding(_)
                | Phase::Failed(_)
                | Phase::OfflinePending { .. }
                | Phase::Releasing { .. } => {}
            }
        }
    }

    /// It did not go offline in time. A host is fenced by the store, so its lease is left to
    /// expire; what has other effects keeps the lease, because nobody else may start it.
    fn offline_over(&mut self, lease: &LeaseName) {
        let working = self.working_for(lease);
        let stuck = working.iter().find(|name| self.drives(name)).cloned();
        let Some(stuck) = stuck else {
            let sentence = format!(
                "a host of it cannot be reaped on {}: it is not released but left to expire",
                self.me
            );
            return self.lose(lease, sentence);
        };
        let until = self.offline_by(lease);
        if let Some(tenancy) = self.leases.get_mut(lease)
            && let Phase::OfflinePending { until: deadline, .. } = &mut tenancy.phase
        {
            *deadline = until;
        }
        let (what, me) = (self.subject_of(&stuck), &self.me);
        let sentence = format!("it stays on {me} until {what} is down: stop that by hand there");
        self.say_event(subject(lease), sentence, EventId::GROUP_PARTIAL);
    }

    /// The members of a lease wait longer than the longest pending timeout of any of them.
    fn pending_over(&mut self, lease: &LeaseName) {
        let timeout = self.pending_timeout(lease);
        self.fail_late(lease, timeout);
    }

    /// How long a lease may be on its way online: each round of members has its time.
    fn pending_timeout(&self, lease: &LeaseName) -> Millis {
        let members = self.members_of(lease);
        let longest = members.iter().map(|name| self.policy_of(name).pending_timeout).max();
        let longest = longest.unwrap_or(self.policy(lease).pending_timeout);
        Millis(longest.0.saturating_mul(self.depth(lease)))
    }

    /// Whether a member is on its way up and says that it gets on: it has a limit of its own.
    fn is_getting_on(&self, lease: &LeaseName) -> bool {
        self.working_for(lease).iter().any(|name| {
            let state = self.children.get(name).map(|child| &child.state);
            matches!(state, Some(ChildState::Activating { .. }))
        })
    }

    /// What the phases call for, now that the event is taken in.
    pub(super) fn settle_leases(&mut self) {
        for (lease, tenancy) in self.leases.clone() {
            if self.stop_by.is_some() {
                self.hand_over(&lease, &tenancy);
            } else if let Phase::Deciding(failure) = &tenancy.phase {
                self.decide(&lease, failure);
            }
            // Read again: the lines above may have changed it.
            let Some(tenancy) = self.leases.get(&lease).cloned() else {
                continue;
            };
            let Some(epoch) = tenancy.epoch else { continue };
            match tenancy.phase {
                Phase::Failed(retry) => {
                    self.take_dependents_down(&lease);
                    if retry.at <= self.now && !self.is_unwinding(&lease) {
                        self.acquire_again(&lease, epoch, retry);
                    }
                }
                Phase::Deciding(_) => self.take_dependents_down(&lease),
                Phase::OnlinePending { .. } | Phase::Online => {
                    self.take_dependents_down(&lease);
                    self.bring_online(&lease, epoch, tenancy.trust_until);
                }
                Phase::OfflinePending { then, .. } => self.release_when_idle(&lease, epoch, then),
                Phase::Releasing { then, again_at } if again_at <= self.now => {
                    self.release(&lease, epoch, then);
                }
                Phase::NotOurs | Phase::Acquiring { .. } | Phase::Releasing { .. } => {}
            }
        }
    }

    fn acquire_again(&mut self, lease: &LeaseName, epoch: Epoch, retry: Retry) {
        let external = self.seen.as_ref().is_some_and(|seen| seen.snapshot.is_external(lease));
        let Retry { cause, reason, resource, at: _ } = retry;
        let (lease, seen_epoch) = (lease.clone(), epoch);
        self.acquire(AcquireRequest { lease, seen_epoch, cause, reason, resource, external });
    }

    fn bring_online(&mut self, lease: &LeaseName, epoch: Epoch, trust_until: BootTime) {
        let mut missing = 0;
        for name in &self.members_of(lease) {
            if !self.may_work(name) || !self.activate(name, lease, epoch, trust_until) {
                missing += 1;
            }
        }
        let until = self.now.after(self.pending_timeout(lease));
        let Some(tenancy) = self.leases.get_mut(lease) else {
            return;
        };
        if missing == 0 && matches!(tenancy.phase, Phase::OnlinePending { .. }) {
            tenancy.phase = Phase::Online;
            let sentence = format!("online on {} under epoch {epoch}", self.me);
            self.tell_of(lease, sentence, is_group(lease).then_some(EventId::GROUP_ONLINE));
        } else if missing > 0 && tenancy.phase == Phase::Online {
            tenancy.phase = Phase::OnlinePending { until };
        }
    }

    pub(super) fn leases_to_renew(&self) -> Vec<(LeaseName, Epoch)> {
        let held = self.leases.iter().filter(|(_, tenancy)| !tenancy.is_releasing());
        held.filter_map(|(lease, tenancy)| Some((lease.clone(), tenancy.epoch?))).collect()
    }

    pub(super) fn lease_deadlines(&self) -> impl Iterator<Item = BootTime> {
        let now = self.now;
        let trust = self.leases.values().filter(|tenancy| !tenancy.is_releasing());
        let trust = trust.filter_map(|tenancy| tenancy.epoch.map(|_| tenancy.trust_until));
        trust.chain(self.leases.values().filter_map(move |tenancy| match &tenancy.phase {
            // One that has passed waits for a member that says it gets on, and has its own limit.
            Phase::OnlinePending { until } => (*until > now).then_some(*until),
            Phase::Acquiring { until, .. } | Phase::OfflinePending { until, .. } => Some(*until),
            Phase::Failed(retry) => (retry.at > now).then_some(retry.at),
            Phase::Releasing { again_at, .. } => Some(*again_at),
            Phase::NotOurs | Phase::Online | Phase::Deciding(_) => None,
        }))
    }
}

/// The operator event that taking a group for this cause is.
fn taken(cause: Cause) -> Option<EventId> {
    match cause {
        Cause::NodeLost => Some(EventId::GROUP_TAKEN_OVER),
        Cause::Move | Cause::Drain => Some(EventId::GROUP_MOVED),
        Cause::Failback => Some(EventId::GROUP_FAILED_BACK),
        Cause::Regained => Some(EventId::GROUP_REGAINED),
        Cause::Restart => Some(EventId::RESOURCE_RESTARTED),
        // That it left the node before was said by that node.
        Cause::Failover | Cause::Banned | Cause::Start | Cause::Stop | Cause::Retry => None,
    }
}

fn is_group(lease: &LeaseName) -> bool {
    matches!(lease, LeaseName::Group(_))
}
