//! What follows the failure of a resource on its owner: restart here, fail over, or wait.
//!
//! Two nested budgets as in WSFC: so many restarts of a resource on one node within a period, then
//! so many failovers of its group within a longer one. They are counted in the ownership history,
//! which is the only memory of policy: it survives every node. Deaths of nodes, moves, drains and
//! regained trust do not count. Nothing here switches a group off for good.

use model::definition::{EffectivePolicy, Group, Member, OnFailure};
use model::{Cause, FailureReach, Millis, NodeName, ResourceName, Timestamp};

use crate::{Snapshot, Tenure, placement};

/// The longest wait between two restarts on one node.
pub const DELAY_MAX: Millis = Millis::seconds(30);

/// The fewest failovers tolerated by default: with two nodes WSFC's "nodes less one" would give up
/// after one.
const FAILOVERS_MIN: usize = 2;

/// A resource that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub resource: ResourceName,
    /// How: `killed by signal 9`, `made no progress for 3s`.
    pub how: String,
    /// How far it reaches.
    pub reach: FailureReach,
}

impl Failure {
    /// A failure that may pass.
    pub fn soft(resource: ResourceName, how: String) -> Failure {
        Failure { resource, how, reach: FailureReach::Soft }
    }
}

/// What follows a failure, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What follows.
    pub next: Next,
    /// Why, as a sentence.
    pub reason: String,
}

/// What follows a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The owner starts it again.
    RestartHere {
        /// After this long.
        after: Millis,
    },
    /// The group goes to another node.
    FailOver {
        /// To this one.
        to: NodeName,
        /// It can never run here, so the group does not come back by itself.
        banned: bool,
    },
    /// It stays failed for a while, then the owner tries again.
    Park {
        /// For this long.
        after: Millis,
    },
    /// It stays failed until an operator starts its group.
    Stay,
}

/// How much of a budget is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// What counted within the period.
    pub used: usize,
    /// What is tolerated.
    pub max: usize,
    /// The period.
    pub period: Millis,
    /// When the oldest use falls out of the period, so that one more is left.
    pub resets_at: Option<Timestamp>,
}

impl Budget {
    fn of<'a>(uses: impl Iterator<Item = &'a Tenure>, max: usize, period: Millis) -> Budget {
        let mut uses = uses.peekable();
        let resets_at = uses.peek().map(|oldest| oldest.at.after(period));
        Budget { used: uses.count(), max, period, resets_at }
    }

    /// What is left of it.
    pub fn left(self) -> usize {
        self.max.saturating_sub(self.used)
    }
}

/// Restarts of a resource on a node.
pub fn restarts(
    snapshot: &Snapshot,
    now: Timestamp,
    group: &Group,
    member: &Member<'_>,
    node: &NodeName,
) -> Budget {
    let policy = group.policy.with(member.policy);
    let counts = |tenure: &&Tenure| {
        tenure.cause == Cause::Restart
            && tenure.holder.as_ref() == Some(node)
            && tenure.resource.as_ref().is_none_or(|resource| *resource == member.name)
    };
    let uses = within(snapshot, now, group, policy.restart_period).filter(counts);
    Budget::of(uses, policy.restarts_max as usize, policy.restart_period)
}

/// Failovers of a group.
pub fn failovers(snapshot: &Snapshot, now: Timestamp, group: &Group) -> Budget {
    let period = group.policy.failover_period;
    let default = snapshot.nodes.len().saturating_sub(1).max(FAILOVERS_MIN);
    // That it was let go before with the same cause is the other half of the same event.
    let counts = |tenure: &&Tenure| {
        matches!(tenure.cause, Cause::Failover | Cause::Banned) && tenure.holder.is_some()
    };
    let max = group.policy.failovers_max.map_or(default, |max| max as usize);
    Budget::of(within(snapshot, now, group, period).filter(counts), max, period)
}

/// The entries of a group's history that count: within the period, and since an operator last
/// started it.
fn within<'a>(
    snapshot: &'a Snapshot,
    now: Timestamp,
    group: &Group,
    period: Millis,
) -> impl Iterator<Item = &'a Tenure> {
    let forgotten = placement::forgotten_before(snapshot, group);
    snapshot
        .history_of(&group.name)
        .filter(move |tenure| now.since(tenure.at) < period && tenure.at > forgotten)
}

/// What follows the failure of a member of `group` on its owner `me`.
///
/// The snapshot must have seen the lease under its present epoch, or a restart would be missing in
/// the history.
pub fn after_failure(
    snapshot: &Snapshot,
    now: Timestamp,
    group: &Group,
    me: &NodeName,
    failure: &Failure,
) -> Verdict {
    let member = snapshot.definitions.member(&failure.resource);
    let Some(member) = member.filter(|member| member.group == Some(&group.name)) else {
        let reason = format!("{} failed and is no longer defined", failure.resource);
        return Verdict { next: Next::RestartHere { after: Millis(0) }, reason };
    };
    let case = Case { snapshot, now, group, me, policy: group.policy.with(member.policy) };
    let (kind, name) = (member.kind_word(), &member.name);
    let what = format!("{kind} {name} failed on {me} ({})", failure.how);
    match failure.reach {
        FailureReach::Fatal => {
            return case.park(format!("{what}, which no node can mend"));
        }
        FailureReach::Hard => return case.banned(&what),
        FailureReach::Soft => {}
    }
    let restarts = restarts(snapshot, now, group, &member, me);
    let after = backoff(case.policy.restart_delay, restarts.used);
    match case.policy.on_failure {
        OnFailure::Nothing => Verdict {
            next: Next::Stay,
            reason: format!("{what}, and its policy is to stay so: start the group to try again"),
        },
        _ if restarts.used < restarts.max => Verdict {
            next: Next::RestartHere { after },
            reason: format!(
                "{what}, restart {} of {} within {}",
                restarts.used + 1,
                restarts.max,
                restarts.period
            ),
        },
        OnFailure::Restart => {
            case.park(format!("{what}, {} used, it never moves", of(restarts, "restarts")))
        }
        OnFailure::FailOver => {
            case.fail_over(format!("{what}, {} used", of(restarts, "restarts")), after)
        }
    }
}

/// A failure that restarts here do not mend.
struct Case<'a> {
    snapshot: &'a Snapshot,
    now: Timestamp,
    group: &'a Group,
    me: &'a NodeName,
    policy: EffectivePolicy,
}

impl Case<'_> {
    fn fail_over(&self, what: String, after: Millis) -> Verdict {
        let failovers = failovers(self.snapshot, self.now, self.group);
        if failovers.used >= failovers.max {
            return self.park(format!("{what}, {} used", of(failovers, "failovers")));
        }
        match placement::next_after(self.snapshot, self.group, self.me) {
            Some(to) => Verdict {
                reason: format!("{what}, {} goes to {to}", ordinal(failovers)),
                next: Next::FailOver { to: to.clone(), banned: false },
            },
            None => Verdict {
                reason: format!("{what}, no other possible owner is present, restart in {after}"),
                next: Next::RestartHere { after },
            },
        }
    }

    /// It can never run here. That is no reason to spare a failover: staying would be useless.
    fn banned(&self, what: &str) -> Verdict {
        match placement::next_after(self.snapshot, self.group, self.me) {
            Some(to) => Verdict {
                reason: format!("{what}, so {} is banned and it goes to {to}", self.me),
                next: Next::FailOver { to: to.clone(), banned: true },
            },
            None => self.park(format!("{what}, and no other possible owner is present")),
        }
    }

    fn park(&self, what: String) -> Verdict {
        let after = self.policy.retry_period;
        let at = self.now.after(after);
        Verdict { next: Next::Park { after }, reason: format!("{what}, next try at {at}") }
    }
}

fn ordinal(failovers: Budget) -> String {
    let Budget { used, max, period, .. } = failovers;
    format!("failover {} of {max} within {period}", used + 1)
}

/// The wait before a restart when there were so many before it: none, then `first`, then twice the
/// one before each time, up to [`DELAY_MAX`].
pub fn backoff(first: Millis, before: usize) -> Millis {
    let Some(doublings) = before.checked_sub(1) else {
        return Millis(0);
    };
    let factor = 1u64 << doublings.min(20);
    Millis(first.0.saturating_mul(factor).min(DELAY_MAX.0))
}

/// `1 of 1 restarts within 15m`.
fn of(budget: Budget, nouns: &str) -> String {
    let Budget { used, max, period, .. } = budget;
    format!("{} of {max} {nouns} within {period}", used.min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let waits: Vec<u64> = (0..9).map(|before| backoff(Millis(500), before).0).collect();
        assert_eq!(waits, [0, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(backoff(Millis(500), usize::MAX), DELAY_MAX);
    }
}
