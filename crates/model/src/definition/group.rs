//! Groups: where they may be, what follows failures, in which order they start.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{OnFailure, ResourcePolicy};
use crate::{GroupName, Millis, NodeName, Timestamp};

/// A failover-cluster group: its hosts and resources run together on one owner node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Nodes that may own it. Empty: every node.
    #[serde(default)]
    pub possible_owners: Vec<NodeName>,
    /// Nodes that should own it, best first. Placement only; it forbids no other possible owner.
    #[serde(default)]
    pub preferred_owners: Vec<NodeName>,
    /// The node it should begin on when the whole cluster starts (WSFC DefaultOwner).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_owner: Option<NodeName>,
    /// Says that one possible owner is enough; without it a group needs two.
    #[serde(default)]
    pub single_node: bool,
    /// Order of start, drain and placement among groups (WSFC Priority). Default `medium`.
    #[serde(default)]
    pub priority: Priority,
    /// Whether it goes back to a node that is higher in `preferred_owners` when that one returns.
    /// Default `never`.
    #[serde(default)]
    pub failback: Failback,
    /// Classes; groups that share one avoid each other's node (WSFC AntiAffinityClassNames).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anti_affinity: Vec<String>,
    /// It stays offline rather than share a node with a group of its class (WSFC
    /// ClusterEnforcedAntiAffinity). Default false: it gives way when there is no other node.
    #[serde(default)]
    pub anti_affinity_enforced: bool,
    /// Groups that must be online before this one starts (WSFC group sets). Where they are and
    /// what becomes of them later does not matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<GroupName>,
    /// How long the groups of `after` must have been online (WSFC StartupDelay). Default 0ms.
    #[serde(default)]
    pub start_delay: Millis,
    /// What to do when a resource of it fails.
    #[serde(default)]
    pub policy: GroupPolicy,
}

impl Group {
    /// A group with every default.
    pub fn new(name: GroupName) -> Group {
        Group {
            name,
            possible_owners: Vec::new(),
            preferred_owners: Vec::new(),
            default_owner: None,
            single_node: false,
            priority: Priority::default(),
            failback: Failback::default(),
            anti_affinity: Vec::new(),
            anti_affinity_enforced: false,
            after: Vec::new(),
            start_delay: Millis(0),
            policy: GroupPolicy::default(),
        }
    }

    /// Whether a node may own it.
    pub fn may_own(&self, node: &NodeName) -> bool {
        self.possible_owners.is_empty() || self.possible_owners.contains(node)
    }

    /// The anti-affinity class that both have, if any.
    pub fn class_shared_with<'a>(&'a self, other: &Group) -> Option<&'a str> {
        let mut classes = self.anti_affinity.iter();
        classes.find(|class| other.anti_affinity.contains(class)).map(String::as_str)
    }
}

/// Order of start, drain and placement (WSFC Priority 0, 1000, 2000, 3000).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Only an operator starts it.
    NoAutoStart,
    /// After the others.
    Low,
    /// In between.
    #[default]
    Medium,
    /// Before the others.
    High,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Priority::NoAutoStart => "no_auto_start",
            Priority::Low => "low",
            Priority::Medium => "medium",
            Priority::High => "high",
        })
    }
}

/// Whether a group goes back to a better node when that one returns (WSFC AutoFailbackType).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Failback {
    /// It stays where it is.
    #[default]
    Never,
    /// As soon as the better node is up.
    Immediate,
    /// Only at this time of day.
    Window(DayWindow),
}

/// A time of day, every day, in UTC: `22:00-04:00` reaches over midnight (WSFC
/// FailbackWindowStart and FailbackWindowEnd).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DayWindow {
    from_minute: u16,
    to_minute: u16,
}

const MINUTE: i64 = 60_000;
const MINUTES_OF_DAY: i64 = 24 * 60;

impl DayWindow {
    /// Whether a moment is inside.
    pub fn contains(self, moment: Timestamp) -> bool {
        let minute = moment.0.div_euclid(MINUTE).rem_euclid(MINUTES_OF_DAY);
        let (from, to) = (i64::from(self.from_minute), i64::from(self.to_minute));
        if from <= to { (from..to).contains(&minute) } else { minute >= from || minute < to }
    }

    /// When it begins next, at or after a moment that is outside.
    pub fn begins_after(self, moment: Timestamp) -> Timestamp {
        let day = moment.0.div_euclid(MINUTE * MINUTES_OF_DAY) * MINUTE * MINUTES_OF_DAY;
        let begin = day + i64::from(self.from_minute) * MINUTE;
        Timestamp(if begin >= moment.0 { begin } else { begin + MINUTE * MINUTES_OF_DAY })
    }
}

impl fmt::Display for DayWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DayWindow { from_minute: from, to_minute: to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl FromStr for DayWindow {
    type Err = String;

    fn from_str(text: &str) -> Result<DayWindow, String> {
        let invalid = || format!("{text:?} is no time of day: write it in UTC, as 22:00-04:00");
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let (from, to) = text.split_once('-').ok_or_else(invalid)?;
        let (from, to) = (minute(from).ok_or_else(invalid)?, minute(to).ok_or_else(invalid)?);
        if from == to {
            return Err(format!("{text:?} is empty: for the whole day write `immediate`"));
        }
        Ok(DayWindow { from_minute: from, to_minute: to })
    }
}

impl TryFrom<String> for DayWindow {
    type Error = String;
    fn try_from(text: String) -> Result<DayWindow, String> {
        text.parse()
    }
}

impl From<DayWindow> for String {
    fn from(window: DayWindow) -> String {
        window.to_string()
    }
}

impl schemars::JsonSchema for DayWindow {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DayWindow".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$",
            "description": "A time of day in UTC: 22:00-04:00",
        })
    }
}

/// Restart and failover policy. The defaults are those of a clustered BizTalk host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupPolicy {
    /// Restarts tolerated on one node within `restart_period` (WSFC RestartThreshold). Default 1.
    pub restarts_max: u32,
    /// The window in which restarts are counted (WSFC RestartPeriod). Default 15m.
    pub restart_period: Millis,
    /// Wait before a second and later restart within the period (WSFC RestartDelay). Default 500ms.
    pub restart_delay: Millis,
    /// Failovers tolerated within `failover_period` (WSFC FailoverThreshold). Default: one less
    /// than there are nodes, but at least 2.
    pub failovers_max: Option<u32>,
    /// The window in which failovers are counted (WSFC FailoverPeriod). Default 6h.
    pub failover_period: Millis,
    /// After the failovers are used up, try again after this (WSFC RetryPeriodOnFailure).
    /// Default 1h.
    pub retry_period: Millis,
    /// Longest time between two signs of progress while a resource comes online or goes offline
    /// (WSFC PendingTimeout). Default 3m.
    pub pending_timeout: Millis,
    /// Longest time without progress of a host before it counts as hung (WSFC DeadlockTimeout).
    /// Default 3s.
    pub hang_timeout: Millis,
    /// Longest time that a move waits for work in progress. Default 30s.
    pub drain_timeout: Millis,
    /// How often the cheap check of a resource runs (WSFC LooksAlivePollInterval). Default 5s.
    pub looks_alive_interval: Millis,
    /// How often the deep check of a resource runs (WSFC IsAlivePollInterval). Default 1m.
    pub is_alive_interval: Millis,
}

impl Default for GroupPolicy {
    fn default() -> Self {
        GroupPolicy {
            restarts_max: 1,
            restart_period: Millis::minutes(15),
            restart_delay: Millis(500),
            failovers_max: None,
            failover_period: Millis::hours(6),
            retry_period: Millis::hours(1),
            pending_timeout: Millis::minutes(3),
            hang_timeout: Millis::seconds(3),
            drain_timeout: Millis::seconds(30),
            looks_alive_interval: Millis::seconds(5),
            is_alive_interval: Millis::minutes(1),
        }
    }
}

/// The policy of one resource, whole: its own values where it has some, else its group's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectivePolicy {
    /// See [`ResourcePolicy::on_failure`].
    pub on_failure: OnFailure,
    /// See [`ResourcePolicy::restarts_max`].
    pub restarts_max: u32,
    /// See [`ResourcePolicy::restart_period`].
    pub restart_period: Millis,
    /// See [`ResourcePolicy::restart_delay`].
    pub restart_delay: Millis,
    /// See [`ResourcePolicy::retry_period`].
    pub retry_period: Millis,
    /// See [`ResourcePolicy::pending_timeout`].
    pub pending_timeout: Millis,
    /// See [`ResourcePolicy::hang_timeout`].
    pub hang_timeout: Millis,
    /// See [`GroupPolicy::drain_timeout`].
    pub drain_timeout: Millis,
    /// See [`ResourcePolicy::looks_alive_interval`].
    pub looks_alive_interval: Millis,
    /// See [`ResourcePolicy::is_alive_interval`].
    pub is_alive_interval: Millis,
}

impl Default for EffectivePolicy {
    fn default() -> EffectivePolicy {
        GroupPolicy::default().with(&ResourcePolicy::default())
    }
}

impl GroupPolicy {
    /// The policy of a resource of this group.
    pub fn with(&self, own: &ResourcePolicy) -> EffectivePolicy {
        EffectivePolicy {
            on_failure: own.on_failure.unwrap_or_default(),
            restarts_max: own.restarts_max.unwrap_or(self.restarts_max),
            restart_period: own.restart_period.unwrap_or(self.restart_period),
            restart_delay: own.restart_delay.unwrap_or(self.restart_delay),
            retry_period: own.retry_period.unwrap_or(self.retry_period),
            pending_timeout: own.pending_timeout.unwrap_or(self.pending_timeout),
            hang_timeout: own.hang_timeout.unwrap_or(self.hang_timeout),
            drain_timeout: self.drain_timeout,
            looks_alive_interval: own.looks_alive_interval.unwrap_or(self.looks_alive_interval),
            is_alive_interval: own.is_alive_interval.unwrap_or(self.is_alive_interval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().expect(text).as_millisecond())
    }

    #[test]
    fn a_window_may_reach_over_midnight() {
        let night: DayWindow = "22:00-04:00".parse().expect("a window");
        for (moment, inside) in [
            ("2026-01-01T21:59:59Z", false),
            ("2026-01-01T22:00:00Z", true),
            ("2026-01-02T00:00:00Z", true),
            ("2026-01-02T03:59:59Z", true),
            ("2026-01-02T04:00:00Z", false),
        ] {
            assert_eq!(night.contains(at(moment)), inside, "{moment}");
        }
        assert_eq!(night.begins_after(at("2026-01-02T04:00:00Z")), at("2026-01-02T22:00:00Z"));
        assert_eq!(night.to_string(), "22:00-04:00");
        let noon: DayWindow = "11:30-12:30".parse().expect("a window");
        assert!(noon.contains(at("2026-01-01T12:00:00Z")));
        assert_eq!(noon.begins_after(at("2026-01-01T12:30:00Z")), at("2026-01-02T11:30:00Z"));
        for bad in ["", "22-4", "24:00-01:00", "05:00-05:00", "22:00"] {
            assert!(bad.parse::<DayWindow>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_resource_overrides_what_it_names() {
        let own = ResourcePolicy { restarts_max: Some(3), ..ResourcePolicy::default() };
        let whole = GroupPolicy::default().with(&own);
        assert_eq!((whole.restarts_max, whole.restart_period), (3, Millis::minutes(15)));
    }
}
