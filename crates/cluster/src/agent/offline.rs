//! Letting go in good order: stop the hosts, wait until they have returned, then release.

use model::{Epoch, LeaseName, Millis};

use super::children::DRAIN_GRACE;
use super::leases::{AGAIN_AFTER, ANSWER_MAX, LetGo, Phase, Tenancy};
use super::{Agent, Effect};
use crate::placement;

/// How long a killed process may take to be reaped before its lease is left to expire: a release
/// would claim that nothing of it runs any more.
const REAP_MAX: Millis = Millis::seconds(5);

impl Agent {
    /// Stops the hosts of a lease; it is released when they have returned.
    pub(super) fn take_offline(&mut self, lease: &LeaseName, then: LetGo) {
        let drain = self.policy(lease).drain_timeout;
        let until = self.now.after(drain).after(DRAIN_GRACE).after(REAP_MAX);
        self.say_of(lease, then.reason.clone());
        let Some(tenancy) = self.leases.get_mut(lease) else {
            return;
        };
        tenancy.phase = Phase::OfflinePending { then, until };
        for host in self.working_for(lease) {
            self.deactivate(&host, drain);
        }
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
                .and_then(|group| placement::next_after(&seen.snapshot, group, &self.me))
                .cloned(),
            (LeaseName::Node(_) | LeaseName::Instance(..), _) | (_, None) => None,
        };
        let successor = offered_to.as_ref().map(|to| format!(", it is offered to {to}"));
        let reason = format!("{} stops{}", self.me, successor.unwrap_or_default());
        self.take_offline(lease, LetGo { cause: Agent::STOP_CAUSE, offered_to, reason });
    }

    pub(super) fn release_when_idle(&mut self, lease: &LeaseName, epoch: Epoch, then: LetGo) {
        if self.working_for(lease).is_empty() {
            self.release(lease, epoch, then);
        }
    }

    pub(super) fn release(&mut self, lease: &LeaseName, epoch: Epoch, then: LetGo) {
        let again_at = self.now.after(ANSWER_MAX);
        let LetGo { cause, offered_to, reason } = then.clone();
        let tenancy = self.leases.entry(lease.clone()).or_default();
        tenancy.epoch = Some(epoch);
        tenancy.phase = Phase::Releasing { then, again_at };
        self.push(Effect::Release { lease: lease.clone(), epoch, cause, reason, offered_to });
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
        if let Some(tenancy) = self.leases.get_mut(lease) {
            tenancy.phase = Phase::NotOurs;
            tenancy.epoch = None;
            tenancy.let_go = epoch;
        }
        self.say_of(lease, format!("{} has let it go", self.me));
    }
}
