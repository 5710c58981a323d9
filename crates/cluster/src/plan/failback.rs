//! Whether a group of ours belongs on another node, and goes back there by itself.

use model::definition::{Failback, Group};
use model::{Cause, NodeName, Timestamp};

use super::{FAILBACK_SETTLE, Planner};
use crate::placement::{self, Coming, From};
use crate::{Duty, LeaseView, ResumeFailback, quarantine};

impl Planner<'_> {
    /// Where a group fails back to, if it does.
    pub(super) fn goes_back(
        &mut self,
        group: &Group,
        view: &LeaseView,
    ) -> Option<(NodeName, Cause, String)> {
        let (snapshot, me) = (self.snapshot, self.me);
        let candidates = self.survey.candidates(group, From::Top, &Coming::new());
        let fit = |node: &&NodeName| *node != me && quarantine::until(snapshot, node).is_none();
        for node in candidates.into_iter().filter(fit) {
            let Some(why) = self.home(group, view, node) else { continue };
            let settled = self.snapshot.joined_at(node).map(|at| at.after(FAILBACK_SETTLE));
            if let Some(at) = settled.filter(|at| *at > self.snapshot.now) {
                self.wake(at);
                continue;
            }
            return Some((node.clone(), Cause::Failback, why));
        }
        None
    }

    /// Why a group of ours belongs on this other node rather than here; none if it does not.
    fn home(&mut self, group: &Group, view: &LeaseView, node: &NodeName) -> Option<String> {
        let snapshot = self.snapshot;
        let resumed = snapshot.node_order(node).filter(|order| {
            order.duty == Duty::Active
                && order.away_since.is_some_and(|since| self.drained_from(group, node, since))
        });
        if let Some(order) = resumed {
            let at_once = order.failback == ResumeFailback::Immediate;
            if at_once || order.failback == ResumeFailback::Policy && self.may_fail_back(group) {
                return Some(format!("{} resumed {node}, it goes back from {}", order.by, self.me));
            }
        }
        let place = |node: &NodeName| group.preferred_owners.iter().position(|name| name == node);
        let better = place(node)?;
        if place(self.me).is_some_and(|here| here <= better)
            || self.survey.neighbour(group, node, None).is_some()
            || self.failed_on(group, node)
            || self.was_moved(group, view)
            || !self.may_fail_back(group)
        {
            return None;
        }
        Some(format!("{node} is preferred to {} and is up again", self.me))
    }

    /// Whether the failback of a group allows it now; wakes when it will.
    fn may_fail_back(&mut self, group: &Group) -> bool {
        match group.failback {
            Failback::Never => false,
            Failback::Immediate => true,
            Failback::Window(window) if window.contains(self.snapshot.now) => true,
            Failback::Window(window) => {
                self.wake(window.begins_after(self.snapshot.now));
                false
            }
        }
    }

    /// Whether a group left a node because it was drained, and nothing else moved it since.
    fn drained_from(&self, group: &Group, node: &NodeName, since: Timestamp) -> bool {
        let history = self.snapshot.history_of(&group.name).rev();
        for tenure in history.take_while(|tenure| tenure.at >= since) {
            if tenure.holder.is_none() && tenure.before.as_ref() == Some(node) {
                return tenure.cause == Cause::Drain;
            }
            if tenure.cause == Cause::Move || tenure.holder.as_ref() == Some(node) {
                return false;
            }
        }
        false
    }

    /// Whether a resource of a group failed on a node within the period that failovers are
    /// counted in: it would only fail there again.
    fn failed_on(&self, group: &Group, node: &NodeName) -> bool {
        let forgotten = placement::forgotten_before(self.snapshot, group);
        self.snapshot.history_of(&group.name).any(|tenure| {
            matches!(tenure.cause, Cause::Failover | Cause::Banned)
                && tenure.holder.is_none()
                && tenure.before.as_ref() == Some(node)
                && tenure.at > forgotten
                && self.snapshot.now.since(tenure.at) < group.policy.failover_period
        })
    }

    /// Whether a group is here because an operator moved it: failback does not undo that.
    fn was_moved(&self, group: &Group, view: &LeaseView) -> bool {
        let tenures = self.snapshot.history_of(&group.name).rev();
        let here = tenures.take_while(|tenure| tenure.holder.as_ref() == Some(self.me));
        here.map(|tenure| tenure.cause).chain([view.cause]).any(|cause| cause == Cause::Move)
    }
}
