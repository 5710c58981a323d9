//! What a snapshot changes: which hosts this node has, which leases are ours, what the plan says.

use std::collections::BTreeSet;

use model::{Cause, Epoch, EventId, GroupName, LeaseName, ResourceName};

use super::leases::{LetGo, Phase, Retry};
use super::life::{Seen, subject};
use super::{AcquireRequest, Agent, Effect};
use crate::plan::{Step, TakeOffline, grace, is_wanted, plan};
use crate::survey::Survey;
use crate::{GroupOrder, LeaseView, Snapshot, placement};

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
        self.index_definitions();
        let members = self.members_wanted();
        self.want(&members);
        for view in &views {
            self.compare(view);
        }
        if self.stop_by.is_none() {
            for view in &views {
                self.take_up_again(view);
            }
            let open: BTreeSet<_> = plan.steps.iter().filter_map(opening).collect();
            self.openings.retain(|opening, _| open.contains(opening));
            for step in plan.steps {
                self.follow(step);
            }
        }
        self.compare_reports();
        self.obey_starts();
        self.notice();
        self.prune(&views);
    }

    /// The members whose child process this node keeps, at work or as a warm standby.
    fn members_wanted(&self) -> BTreeSet<ResourceName> {
        let Some(Seen { snapshot, .. }) = &self.seen else {
            return BTreeSet::new();
        };
        let (definitions, survey) = (&snapshot.definitions, Survey::of(snapshot));
        let groups: BTreeSet<&GroupName> = definitions
            .groups
            .iter()
            .filter(|group| survey.may_own(group, &self.me))
            .map(|group| &group.name)
            .collect();
        let wanted = definitions.members().filter(|member| match member.group {
            None => member.runs_on(&self.me),
            Some(group) => groups.contains(group),
        });
        wanted.map(|member| member.name).collect()
    }

    /// An operator started a group that is failed here: it is tried at once.
    fn obey_starts(&mut self) {
        let is_first = self.noticed.is_none(); // What was asked for in an earlier life is done.
        let Some(Seen { snapshot, .. }) = &self.seen else {
            return;
        };
        let starts: Vec<GroupOrder> =
            snapshot.group_orders.iter().filter(|order| order.online).cloned().collect();
        for order in starts {
            let known = self.started.insert(order.group.clone(), order.at);
            if is_first || known.is_some_and(|known| known >= order.at) {
                continue;
            }
            let lease = LeaseName::Group(order.group.clone());
            let reason = format!("{} asked to start it", order.by);
            let now = self.now;
            if let Some(tenancy) = self.leases.get_mut(&lease)
                && let Phase::Failed(_) | Phase::Deciding(_) = tenancy.phase
            {
                let (cause, resource) = (Cause::Retry, None);
                tenancy.phase = Phase::Failed(Retry { at: now, cause, reason, resource });
            }
        }
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
        if let LeaseName::Group(name) = &view.lease
            && let Some(group) = snapshot.definitions.group(name)
            && !placement::is_wanted_online(snapshot, group)
        {
            return; // The plan gives it back.
        }
        let external = snapshot.is_external(&view.lease);
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
                resource: None,
                external,
            });
        }
    }

    fn follow(&mut self, step: Step) {
        match step {
            Step::Acquire { request, rank } => {
                // A node that has just begun has not seen the others let their time pass.
                let begin = self.began_at.unwrap_or(self.now);
                // Nor has anybody with a lease that nobody ever had: the store tells no time.
                let never = request.seen_epoch == Epoch(0);
                let seen_at =
                    never.then(|| *self.openings.entry(request.lease.clone()).or_insert(self.now));
                let from = begin.max(seen_at.unwrap_or(begin)).after(grace(rank));
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
                let lease = LeaseName::Group(group.clone());
                if self.refused.insert(group.clone(), asked_at) != Some(asked_at) {
                    self.say_event(subject(&lease), reason, EventId::GROUP_MOVE_REFUSED);
                    self.push(Effect::DropMove { group, asked_at });
                } else if self.may_ask(&lease) {
                    // It is still there: what was said of it got lost.
                    self.push(Effect::DropMove { group, asked_at });
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
        let then = LetGo { cause, offered_to, reason, resource: None };
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
        self.started.retain(|group, _| snapshot.definitions.group(group).is_some());
        self.reported.retain(|name, _| self.index.contains_key(name));
        self.refused.retain(|group, _| snapshot.definitions.group(group).is_some());
    }
}

/// The lease that a step would take.
fn opening(step: &Step) -> Option<LeaseName> {
    match step {
        Step::Acquire { request, .. } => Some(request.lease.clone()),
        Step::TakeOffline(_) | Step::Bury { .. } | Step::RefuseMove { .. } => None,
    }
}
