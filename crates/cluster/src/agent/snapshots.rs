//! What a snapshot changes: which hosts this node has, which leases are ours, what the plan says.

use std::collections::BTreeSet;

use model::{Cause, HostName, LeaseName};

use super::leases::{LetGo, Phase};
use super::life::Seen;
use super::{AcquireRequest, Agent, Effect};
use crate::plan::{Step, TakeOffline, grace, is_wanted, plan};
use crate::{LeaseView, Snapshot, placement};

impl Agent {
    pub(super) fn snapshot_read(&mut self, snapshot: Snapshot) {
        let plan = plan(&snapshot, &self.me);
        let views = snapshot.leases.clone();
        let replaced = snapshot.node(&self.me).is_some_and(|node| node.epoch > self.node_epoch);
        self.began_at.get_or_insert(self.now);
        self.seen = Some(Seen { snapshot, at: self.now });
        self.read_again(plan.wake_at);
        if replaced {
            self.replaced();
        }
        let hosts = self.hosts_wanted();
        self.want_hosts(&hosts);
        for view in &views {
            self.compare(view);
        }
        if self.stop_by.is_none() {
            for view in &views {
                self.take_up_again(view);
            }
            for step in plan.steps {
                self.follow(step);
            }
        }
        self.prune(&views);
    }

    /// The hosts whose child process this node keeps, at work or as a warm standby.
    fn hosts_wanted(&self) -> BTreeSet<HostName> {
        let Some(Seen { snapshot, .. }) = &self.seen else {
            return BTreeSet::new();
        };
        let hosts = snapshot.definitions.hosts.iter().filter(|host| match &host.group {
            None => host.runs_on(&self.me),
            Some(group) => snapshot
                .definitions
                .group(group)
                .is_some_and(|group| placement::may_own(snapshot, group, &self.me)),
        });
        hosts.map(|host| host.name.clone()).collect()
    }

    /// Lets go of what the store says is no longer ours.
    fn compare(&mut self, view: &LeaseView) {
        let Some(tenancy) = self.leases.get(&view.lease) else {
            return;
        };
        let Some(epoch) = tenancy.epoch else { return };
        let mine = view.holder.as_ref() == Some(&self.me);
        let over = view.epoch > epoch || (view.epoch == epoch && !mine);
        match &tenancy.phase {
            Phase::Releasing { .. } if over => self.forget_released(&view.lease, epoch),
            // While acquiring, our own request may be what is seen here: its answer counts.
            Phase::Acquiring { .. } | Phase::Releasing { .. } => {}
            Phase::NotOurs
            | Phase::OnlinePending { .. }
            | Phase::Online
            | Phase::Deciding(_)
            | Phase::Failed(_)
            | Phase::OfflinePending { .. } => {
                if over {
                    let whose = view.holder.as_ref().map_or("vacant".to_owned(), |holder| {
                        format!("on {holder} under epoch {}", view.epoch)
                    });
                    let sentence = format!("{} has lost it: it is {whose}", self.me);
                    self.lose(&view.lease, sentence);
                }
            }
        }
    }

    /// We hold a lease and know nothing of it: an earlier life of this node had it, or we had lost
    /// trust in it, or the answer to an acquire was lost. Nothing runs under that epoch any more.
    fn take_up_again(&mut self, view: &LeaseView) {
        let Some(Seen { snapshot, .. }) = &self.seen else {
            return;
        };
        let mine = view.holder.as_ref() == Some(&self.me);
        if !mine || !is_wanted(snapshot, &view.lease, &self.me) {
            return;
        }
        if !self.working_for(&view.lease).is_empty() {
            return; // It was killed and is not reaped yet: until then something may still run.
        }
        let tenancy = self.leases.entry(view.lease.clone()).or_default();
        if tenancy.phase == Phase::NotOurs && view.epoch > tenancy.let_go {
            self.acquire(AcquireRequest {
                lease: view.lease.clone(),
                seen_epoch: view.epoch,
                cause: Cause::Regained,
                reason: format!(
                    "{} still holds epoch {} but nothing runs under it, so it takes it up again",
                    self.me, view.epoch
                ),
            });
        }
    }

    fn follow(&mut self, step: Step) {
        match step {
            Step::Acquire { request, rank } => {
                // A node that has just begun has not seen the others let their time pass.
                let from = self.began_at.unwrap_or(self.now).after(grace(rank));
                let tenancy = self.leases.entry(request.lease.clone()).or_default();
                if from > self.now {
                    self.ask_snapshot_by(from);
                } else if tenancy.phase == Phase::NotOurs {
                    self.acquire(request);
                }
            }
            Step::TakeOffline(step) => self.follow_offline(step),
            Step::Bury { lease, seen_epoch, reason } => {
                if self.may_ask(&lease) {
                    self.say_of(&lease, reason.clone());
                    self.push(Effect::Bury { lease, seen_epoch, reason });
                }
            }
            Step::RefuseMove { group, asked_at, reason } => {
                if self.refused.insert(group.clone(), asked_at) != Some(asked_at) {
                    self.say_of(&LeaseName::Group(group.clone()), reason);
                    self.push(Effect::DropMove(group));
                }
            }
        }
    }

    fn follow_offline(&mut self, step: TakeOffline) {
        let TakeOffline { lease, epoch, cause, offered_to, asked_at, reason } = step;
        if let (LeaseName::Group(group), Some(asked_at)) = (&lease, asked_at)
            && self.refused.get(group) == Some(&asked_at)
        {
            return; // Refused once, and the person who asked was told so.
        }
        let then = LetGo { cause, offered_to, reason };
        let tenancy = self.leases.entry(lease.clone()).or_default();
        match &tenancy.phase {
            Phase::NotOurs => self.give_back(&lease, epoch, then),
            Phase::OnlinePending { .. } | Phase::Online | Phase::Deciding(_) | Phase::Failed(_) => {
                if tenancy.epoch == Some(epoch) {
                    self.take_offline(&lease, then);
                }
            }
            Phase::Acquiring { .. } | Phase::OfflinePending { .. } | Phase::Releasing { .. } => {}
        }
    }

    /// Forgets leases, questions and refusals that concern nothing any more.
    fn prune(&mut self, views: &[LeaseView]) {
        let Some(Seen { snapshot, .. }) = &self.seen else {
            return;
        };
        let on_record: BTreeSet<&LeaseName> = views.iter().map(|view| &view.lease).collect();
        let me = &self.me;
        self.leases.retain(|lease, tenancy| {
            tenancy.is_occupied() || on_record.contains(lease) || is_wanted(snapshot, lease, me)
        });
        self.asks.retain(|lease, _| on_record.contains(lease) || is_wanted(snapshot, lease, me));
        self.refused.retain(|group, _| snapshot.definitions.group(group).is_some());
    }
}
