//! What the cluster is told of our resources: their state, whenever it changes.

use std::collections::BTreeMap;

use model::{BootTime, Epoch, LeaseName, Millis, ResourceName, ResourceState, Timestamp};

use super::children::{Child, ChildState};
use super::leases::Phase;
use super::{Agent, Effect};
use crate::ResourceReport;

/// A member that is pending shorter than this is not reported as pending: a write to the store for
/// each step of a failover would only slow it down.
const PENDING_REPORTED_AFTER: Millis = Millis::seconds(1);

/// A report has arrived after so long, or it is made again. Longer than the store is waited for.
const REPORTED_WITHIN: Millis = Millis::seconds(5);

/// What was last reported of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reported {
    epoch: Epoch,
    state: ResourceState,
    detail: Option<String>,
    /// When.
    at: BootTime,
}

impl Reported {
    /// Whether it says the same.
    fn says(&self, other: &Reported) -> bool {
        (self.epoch, self.state, &self.detail) == (other.epoch, other.state, &other.detail)
    }
}

impl Agent {
    /// The state of a member under a lease of ours, by WSFC's words.
    pub(super) fn state_of(&self, name: &ResourceName, phase: &Phase) -> ResourceState {
        let Some(child) = self.children.get(name) else {
            return ResourceState::Offline;
        };
        if let Phase::Deciding(failure) = phase
            && failure.resource == *name
        {
            return ResourceState::Failed;
        }
        match &child.state {
            _ if child.stuck => ResourceState::Failed,
            ChildState::Active { .. } | ChildState::Activating { reactivated: true, .. } => {
                ResourceState::Online
            }
            ChildState::Activating { .. } => ResourceState::OnlinePending,
            ChildState::Deactivating { .. } | ChildState::Stopping { lease: Some(_) } => {
                ResourceState::OfflinePending
            }
            ChildState::Gone { .. }
            | ChildState::Spawning
            | ChildState::Ready
            | ChildState::Stopping { lease: None } => match phase {
                Phase::Failed(_) | Phase::Deciding(_) if child.complaint.is_some() => {
                    ResourceState::Failed
                }
                Phase::OnlinePending { .. } | Phase::Online if self.may_work(name) => {
                    ResourceState::OnlinePending
                }
                _ => ResourceState::Offline,
            },
        }
    }

    /// Reports what has changed since the last report.
    pub(super) fn report(&mut self) {
        let mut now: BTreeMap<ResourceName, Reported> = BTreeMap::new();
        for (lease, tenancy) in &self.leases {
            let (LeaseName::Group(_), Some(epoch)) = (lease, tenancy.epoch) else { continue };
            if matches!(tenancy.phase, Phase::Acquiring { .. } | Phase::Releasing { .. }) {
                continue;
            }
            for name in self.members_of(lease) {
                let state = self.state_of(&name, &tenancy.phase);
                let child = self.children.get(&name);
                let detail = child.and_then(|child| child.complaint.clone());
                now.insert(name, Reported { epoch, state, detail, at: self.now });
            }
        }
        let mut news = Vec::new();
        for (name, report) in now {
            let known = self.reported.get(&name);
            if known.is_some_and(|known| known.says(&report))
                || self.is_too_young(&name, &report, known)
            {
                continue;
            }
            news.push(ResourceReport {
                resource: name.clone(),
                node: self.me.clone(),
                epoch: report.epoch,
                state: report.state,
                detail: report.detail.clone(),
                since: Timestamp(0),
            });
            self.reported.insert(name, report);
        }
        if !news.is_empty() {
            self.push(Effect::Report(news));
        }
    }

    /// Reports that the store shows otherwise although they were made a while ago are made again:
    /// an older one may have arrived after them.
    pub(super) fn compare_reports(&mut self) {
        let Some(seen) = &self.seen else { return };
        let now = self.now;
        self.reported.retain(|name, reported| {
            let shown = seen.snapshot.report(name, reported.epoch);
            now.since(reported.at) < REPORTED_WITHIN
                || shown.is_some_and(|shown| shown.state == reported.state)
        });
    }

    /// The report of a member was lost: it is made again.
    pub(super) fn forget_reports(&mut self, lost: &[ResourceName]) {
        for name in lost {
            self.reported.remove(name);
        }
    }

    fn is_too_young(
        &self,
        name: &ResourceName,
        report: &Reported,
        known: Option<&Reported>,
    ) -> bool {
        let pending =
            matches!(report.state, ResourceState::OnlinePending | ResourceState::OfflinePending);
        // Offline right after an epoch began is the same as not being reported yet.
        let first = report.state == ResourceState::Offline
            && known.is_none_or(|known| known.epoch != report.epoch);
        let since = self.children.get(name).map_or(BootTime(0), Child::changed_at);
        (pending || first) && self.now.since(since) < PENDING_REPORTED_AFTER
    }
}
