//! Letting go in good order: stop the hosts, wait until they have returned, then release.

use model::{BootTime, Cause, Epoch, EventId, LeaseName, Millis};

use super::children::DRAIN_GRACE;
use super::leases::{AGAIN_AFTER, ANSWER_MAX, LetGo, Phase, Tenancy};
use super::{Agent, Effect};
use crate::placement;

/// How long a killed process may take to be reaped before its lease is left to expire: a release
/// would claim that nothing of it runs any more.
const REAP_MAX: Millis = Millis::seconds(5);

impl Agent {
    /// Stops the members of a lease, those first that nobody depends on; it is released when all
    /// have returned.
    pub(super) fn take_offline(&mut self, lease: &LeaseName, then: LetGo) {
        let until = self.offline_by(lease);
        self.say_of(lease, then.reason.clone());
        let Some(tenancy) = self.leases.get_mut(lease) else {
            return;
        };
        tenancy.phase = Phase::OfflinePending { then, until };
        self.take_leaves_down(lease);
    }

    /// When a lease must be let go at the latest: each round of members has its time.
    pub(super) fn offline_by(&self, lease: &LeaseName) -> BootTime {
        let round = DRAIN_GRACE.0.saturating_add(REAP_MAX.0);
        let slack = Millis(round.saturating_mul(self.depth(lease)));
        self.now.after(self.offline_within(lease)).after(slack)
    }

    /// How long the members of a lease may take to go offline, one round after the other.
    pub(super) fn offline_within(&self, lease: &LeaseName) -> Millis {
        let members = self.working_for(lease);
        let within = members.iter().map(|name| {
            let policy = self.policy_of(name);
            if self.drives(name) { policy.pending_timeout } else { policy.drain_timeout }
        });
        let longest = within.max().unwrap_or(self.policy(lease).drain_timeout);
        Millis(longest.0.saturating_mul(self.depth(lease)))
    }

    /// A lease that we are shown to hold but do not want and run nothing under.
    pub(super) fn give_back(&mut self, lease: &LeaseName, epoch: Epoch, then: LetGo) {
        let tenancy = self.leases.entry(lease.clone()).or_default();
        let unknown = tenancy.phase == Phase::NotOurs && epoch > tenancy.let_go;
        if unknown && self.working_for(lease).is_empty() {
            self.say_of(lease, then.reason.clone());
            self.release(lease, epoch, then);
        }
    }

    /// The node stops: whatever it holds goes to the next one.
    pub(super) fn hand_over(&mut self, lease: &LeaseName, tenancy: &Tenancy) {
        match &tenancy.phase {
            Phase::NotOurs
            | Phase::Acquiring { .. }
            | Phase::OfflinePending { .. }
            | Phase::Releasing { .. } => return,
            Phase::OnlinePending { .. } | Phase::Online | Phase::Deciding(_) | Phase::Failed(_) => {
            }
        }
        let offered_to = match (lease, &self.seen) {
            (LeaseName::Group(name), Some(seen)) => seen
                .snapshot
                .definitions
                .group(name)
                .and_then(|group| placement::successor(&seen.snapshot, group, &self.me))
                .cloned(),
            (LeaseName::Node(_) | LeaseName::Instance(..), _) | (_, None) => None,
        };
        let successor = offered_to.as_ref().map(|to| format!(", it is offered to {to}"));
        let reason = format!("{} stops{}", self.me, successor.unwrap_or_default());
        let cause = Agent::STOP_CAUSE;
        self.take_offline(lease, LetGo { cause, offered_to, reason, resource: None });
    }

    pub(super) fn release_when_idle(&mut self, lease: &LeaseName, epoch: Epoch, then: LetGo) {
        if self.working_for(lease).is_empty() {
            self.release(lease, epoch, then);
        } else {
            self.take_leaves_down(lease);
        }
    }

    pub(super) fn release(&mut self, lease: &LeaseName, epoch: Epoch, then: LetGo) {
        let again_at = self.now.after(ANSWER_MAX);
        let LetGo { cause, offered_to, reason, resource } = then.clone();
        let tenancy = self.leases.entry(lease.clone()).or_default();
        tenancy.epoch = Some(epoch);
        tenancy.phase = Phase::Releasing { then, again_at };
        let lease = lease.clone();
        self.push(Effect::Release { lease, epoch, cause, reason, offered_to, resource });
    }

    pub(super) fn released(&mut self, lease: &LeaseName, epoch: Epoch, ok: bool) {
        let again = self.now.after(AGAIN_AFTER);
        let Some(tenancy) = self.leases.get_mut(lease) else {
            return;
        };
        let Phase::Releasing { again_at, .. } = &mut tenancy.phase else {
            return;
        };
        if tenancy.epoch != Some(epoch) {
            return;
        }
        if ok {
            self.forget_released(lease, epoch);
        } else {
            *again_at = again;
        }
        self.ask_snapshot();
    }

    /// It is on record that we let it go.
    pub(super) fn forget_released(&mut self, lease: &LeaseName, epoch: Epoch) {
        let mut event = None;
        if let Some(tenancy) = self.leases.get_mut(lease) {
            if let Phase::Releasing { then: LetGo { cause: Cause::Stop, .. }, .. } = tenancy.phase {
                event = Some(EventId::GROUP_OFFLINE);
            }
            tenancy.phase = Phase::NotOurs;
            tenancy.epoch = None;
            tenancy.let_go = epoch;
        }
        self.tell_of(lease, format!("{} has let it go", self.me), event);
    }
}
