//! What follows the failure of a host on its owner: restart here, fail over, or wait.
//!
//! Two nested budgets as in WSFC: so many restarts of a group on one node within a period, then so
//! many failovers of it within a longer one. They are counted in the ownership history, which is
//! the only memory of policy: it survives every node. Deaths of nodes, moves, drains and regained
//! trust do not count. Nothing here switches a group off for good.

use model::definition::Group;
use model::{Cause, HostName, LeaseName, Millis, NodeName, Timestamp};

use crate::{Snapshot, placement};

/// The longest wait between two restarts on one node.
pub const DELAY_MAX: Millis = Millis::seconds(30);

/// The fewest failovers tolerated by default: with two nodes WSFC's "nodes less one" would give up
/// after one.
const FAILOVERS_MIN: usize = 2;

/// A host that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which host.
    pub host: HostName,
    /// How: `killed by signal 9`, `made no progress for 3s`.
    pub how: String,
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
    },
    /// It stays failed for a while, then the owner tries again.
    Park {
        /// For this long.
        after: Millis,
    },
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
}

/// Restarts of a group on a node.
pub fn restarts(snapshot: &Snapshot, now: Timestamp, group: &Group, node: &NodeName) -> Budget {
    let period = group.policy.restart_period;
    Budget {
        used: count(snapshot, now, group, Cause::Restart, period, Some(node)),
        max: group.policy.restarts_max as usize,
        period,
    }
}

/// Failovers of a group.
pub fn failovers(snapshot: &Snapshot, now: Timestamp, group: &Group) -> Budget {
    let period = group.policy.failover_period;
    let default = snapshot.nodes.len().saturating_sub(1).max(FAILOVERS_MIN);
    Budget {
        used: count(snapshot, now, group, Cause::Failover, period, None),
        max: group.policy.failovers_max.map_or(default, |max| max as usize),
        period,
    }
}

/// Counts how often the group was *taken* with this cause; that it was let go before with the same
/// cause is the other half of the same event.
fn count(
    snapshot: &Snapshot,
    now: Timestamp,
    group: &Group,
    cause: Cause,
    period: Millis,
    holder: Option<&NodeName>,
) -> usize {
    let counts = |tenure: &&crate::Tenure| {
        matches!(&tenure.lease, LeaseName::Group(name) if *name == group.name)
            && tenure.cause == cause
            && tenure.holder.is_some()
            && holder.is_none_or(|holder| tenure.holder.as_ref() == Some(holder))
            && now.since(tenure.at) < period
    };
    snapshot.history.iter().filter(counts).count()
}

/// What follows the failure of a host of `group` on its owner `me`.
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
    let policy = &group.policy;
    let what = format!("host {} failed on {me} ({})", failure.host, failure.how);
    let restarts = restarts(snapshot, now, group, me);
    let after = backoff(policy.restart_delay, restarts.used);
    if restarts.used < restarts.max {
        let number = restarts.used + 1;
        let reason =
            format!("{what}, restart {number} of {} within {}", restarts.max, restarts.period);
        return Verdict { next: Next::RestartHere { after }, reason };
    }
    let what = format!("{what}, {} used", of(restarts, "restarts"));
    let failovers = failovers(snapshot, now, group);
    if failovers.used >= failovers.max {
        let at = now.after(policy.retry_period);
        return Verdict {
            next: Next::Park { after: policy.retry_period },
            reason: format!("{what}, {} used, next try at {at}", of(failovers, "failovers")),
        };
    }
    match placement::next_after(snapshot, group, me) {
        Some(to) => Verdict {
            reason: format!(
                "{what}, failover {} of {} within {} goes to {to}",
                failovers.used + 1,
                failovers.max,
                failovers.period
            ),
            next: Next::FailOver { to: to.clone() },
        },
        None => Verdict {
            reason: format!("{what}, no other possible owner is present, restart in {after}"),
            next: Next::RestartHere { after },
        },
    }
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
    let Budget { used, max, period } = budget;
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
