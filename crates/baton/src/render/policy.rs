//! One group, or one member of it, in full: every setting with where it comes from, what is left
//! of budgets, and what depends on what.

use std::fmt::Write as _;

use cluster::restart::{self, Budget};
use cluster::{Snapshot, placement};
use model::definition::{Failback, Group, GroupPolicy, Member, MemberKind, OnFailure, Priority};
use model::{LeaseName, Millis, NodeName, ResourceName, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::group::{GroupStatus, MemberStatus, member_table};
use super::table::{Cell, Fit, Table};
use super::{Look, Paint, ago, counted};

/// Where the value of a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nobody wrote it, or it was written as it is by default.
    Default,
    /// The group's definition.
    Group,
    /// The definition of the resource or host.
    Resource,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::Group => "group",
            Origin::Resource => "resource",
        }
    }
}

/// A setting in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Its name, as it is written in definitions.
    pub name: &'static str,
    /// Its value with its unit.
    pub value: String,
    /// Where it comes from.
    pub from: Origin,
}

impl Setting {
    fn cells(&self, from: &str) -> [Cell; 3] {
        [self.name.into(), self.value.as_str().into(), from.into()]
    }
}

/// What is left of a budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetLeft {
    /// Of which: `restarts of host receive on a`, `failovers`.
    pub what: String,
    /// How many are left.
    pub left: usize,
    /// Of how many.
    pub max: usize,
    /// Within which time.
    pub period: Millis,
    /// When one more is left; none while all are.
    pub one_more_at: Option<Timestamp>,
}

/// A group in full.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupDetail {
    /// How it is now.
    #[serde(flatten)]
    pub status: GroupStatus,
    /// Every setting of it.
    pub settings: Vec<Setting>,
    /// Settings that members have of their own.
    pub member_settings: Vec<MemberSettings>,
    /// What is left.
    pub budgets: Vec<BudgetLeft>,
    /// Groups that it starts after.
    pub after: Vec<Value>,
    /// Groups that start after it.
    pub before: Vec<String>,
}

/// Settings of one member.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberSettings {
    /// The member.
    pub name: ResourceName,
    /// Its settings.
    pub settings: Vec<Setting>,
}

/// A member of a group, or a host that is in none, in full.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberDetail {
    /// How it is now.
    #[serde(flatten)]
    pub status: MemberStatus,
    /// Every setting of its policy.
    pub settings: Vec<Setting>,
    /// Every setting of its kind. Passwords stand here as `***`.
    pub kind_settings: Value,
    /// What depends on it.
    pub needed_by: Vec<ResourceName>,
    /// Nodes on which it can run; empty: all that its group allows.
    pub possible_owners: Vec<NodeName>,
    /// What is left.
    pub budgets: Vec<BudgetLeft>,
}

impl GroupDetail {
    /// Puts it together.
    pub fn of(snapshot: &Snapshot, group: &Group) -> GroupDetail {
        let definitions = &snapshot.definitions;
        let own = definitions.members_of(&group.name).map(|member| MemberSettings {
            name: member.name.clone(),
            settings: member_settings(&group.policy, &member)
                .into_iter()
                .filter(|setting| setting.from == Origin::Resource)
                .collect(),
        });
        let after = group.after.iter().map(|name| {
            let since = definitions.group(name);
            let since = since.and_then(|group| placement::online_since(snapshot, group));
            serde_json::json!({"group": name, "online_since": since})
        });
        let before = definitions.groups.iter().filter(|other| other.after.contains(&group.name));
        GroupDetail {
            status: GroupStatus::of(snapshot, group),
            settings: group_settings(snapshot, group),
            member_settings: own.filter(|own| !own.settings.is_empty()).collect(),
            budgets: budgets(snapshot, group),
            after: after.collect(),
            before: before.map(|other| other.name.to_string()).collect(),
        }
    }

    /// For people.
    pub fn render(&self, now: Timestamp, look: Look) -> String {
        let GroupStatus { name, state, owner, epoch, since, .. } = &self.status;
        let place = owner.as_ref().map_or("on no node".to_owned(), |owner| format!("on {owner}"));
        let since = since.map_or(String::new(), |at| format!(", since {at} ({})", ago(now, at)));
        let mut text = format!("group {name} is {state} {place}, epoch {epoch}{since}\n");
        for (note, paint) in self.status.notes(now) {
            text.push_str(&noted(&note, paint, look));
        }
        for setting in &self.after {
            let since = setting["online_since"].as_i64().map(Timestamp);
            let since =
                since.map_or("which is not online".into(), |at| format!("online since {at}"));
            let group = setting["group"].as_str().unwrap_or_default();
            text.push_str(&noted(
                &format!("starts after group {group}, {since}"),
                Paint::None,
                look,
            ));
        }
        if !self.before.is_empty() {
            let note = format!("groups that start after it: {}", self.before.join(", "));
            text.push_str(&noted(&note, Paint::None, look));
        }
        section(&mut text, "MEMBERS", &member_table(&self.status.members, now), look);
        section(&mut text, "BUDGETS", &budget_table(&self.budgets), look);
        let mut table = setting_table();
        for setting in &self.settings {
            table.row(setting.cells(setting.from.as_str()));
        }
        for member in &self.member_settings {
            for setting in &member.settings {
                table.row(setting.cells(&format!("resource {}", member.name)));
            }
        }
        section(&mut text, "SETTINGS", &table, look);
        text
    }
}

impl MemberDetail {
    /// Puts it together.
    pub fn of(snapshot: &Snapshot, member: &Member<'_>) -> MemberDetail {
        let definitions = &snapshot.definitions;
        let group = member.group.and_then(|name| definitions.group(name));
        let policy = group.map(|group| group.policy.clone()).unwrap_or_default();
        let lease = member.group.map(|name| LeaseName::Group(name.clone()));
        let lease = lease.and_then(|lease| snapshot.lease(&lease));
        let needs = definitions
            .members()
            .filter(|other| other.depends_on.names().any(|name| *name == member.name));
        let kind = match member.kind {
            MemberKind::Host(_) => Value::Null,
            MemberKind::Resource(resource) => {
                serde_json::to_value(&resource.kind).unwrap_or_default()
            }
        };
        let holder = lease.and_then(|lease| lease.holder.as_ref());
        let budget = group.zip(holder).map(|(group, on)| restarts_of(snapshot, group, member, on));
        MemberDetail {
            status: MemberStatus::of(snapshot, member, lease),
            settings: member_settings(&policy, member),
            kind_settings: crate::yaml::masked(kind),
            needed_by: needs.map(|other| other.name).collect(),
            possible_owners: match member.kind {
                MemberKind::Host(host) => host.nodes.clone(),
                MemberKind::Resource(resource) => resource.possible_owners.clone(),
            },
            budgets: budget.into_iter().collect(),
        }
    }

    /// For people.
    pub fn render(&self, now: Timestamp, look: Look) -> String {
        let MemberStatus { name, kind, group, node, state, since, detail, depends_on } =
            &self.status;
        let group =
            group.as_ref().map_or("in no group".into(), |group| format!("of group {group}"));
        let place = node.as_ref().map_or(String::new(), |node| format!(" on {node}"));
        let since = since.map_or(String::new(), |at| format!(" since {at} ({})", ago(now, at)));
        let mut text = format!("{kind} {name} {group} is {state}{place}{since}\n");
        let mut note = |what: String, paint| text.push_str(&noted(&what, paint, look));
        if let Some(detail) = detail {
            note(detail.clone(), Paint::Bad);
        }
        if !depends_on.is_empty() {
            note(format!("depends on {depends_on}"), Paint::None);
        }
        if !self.needed_by.is_empty() {
            let names: Vec<&str> = self.needed_by.iter().map(ResourceName::as_str).collect();
            note(format!("needed by {}", names.join(", ")), Paint::None);
        }
        if !self.possible_owners.is_empty() {
            note(format!("can run on {}", list(&self.possible_owners)), Paint::None);
        }
        section(&mut text, "BUDGETS", &budget_table(&self.budgets), look);
        let mut table = setting_table();
        for setting in &self.settings {
            table.row(setting.cells(setting.from.as_str()));
        }
        section(&mut text, "POLICY", &table, look);
        let mut table = Table::new([("SETTING", Fit::Left), ("VALUE", Fit::Cut)]);
        for (name, value) in super::diff::flat(&self.kind_settings) {
            table.row([name.into(), super::diff::shown(&value).into()]);
        }
        section(&mut text, "KIND", &table, look);
        text
    }
}

fn setting_table() -> Table {
    Table::new([("SETTING", Fit::Left), ("VALUE", Fit::Cut), ("FROM", Fit::Left)])
}

fn noted(note: &str, paint: Paint, look: Look) -> String {
    let lines = super::wrapped(&super::safe(note), look.columns.saturating_sub(2));
    lines.iter().map(|line| format!("  {}\n", look.paint(paint, line))).collect()
}

fn section(text: &mut String, heading: &str, table: &Table, look: Look) {
    if !table.is_empty() {
        let _ = writeln!(text, "\n{}", look.paint(Paint::Bold, heading));
        text.push_str(&table.render(look, 2));
    }
}

/// Every setting of a group.
fn group_settings(snapshot: &Snapshot, group: &Group) -> Vec<Setting> {
    let Group {
        name,
        possible_owners,
        preferred_owners,
        default_owner,
        single_node,
        priority,
        failback,
        anti_affinity,
        anti_affinity_enforced,
        after,
        start_delay,
        policy,
    } = group;
    let plain = Group::new(name.clone());
    let mut settings = Vec::new();
    let mut add = |name, value: String, is_default: bool| {
        let from = if is_default { Origin::Default } else { Origin::Group };
        settings.push(Setting { name, value, from });
    };
    let owners =
        if possible_owners.is_empty() { "every node".into() } else { list(possible_owners) };
    add("possible_owners", owners, possible_owners.is_empty());
    let preferred =
        if preferred_owners.is_empty() { "none".into() } else { list(preferred_owners) };
    add("preferred_owners", preferred, preferred_owners.is_empty());
    let owner = default_owner.as_ref().map_or("none".into(), ToString::to_string);
    add("default_owner", owner, default_owner.is_none());
    add("single_node", single_node.to_string(), *single_node == plain.single_node);
    add("priority", priority.to_string(), *priority == Priority::default());
    let back = match failback {
        Failback::Never => "never".into(),
        Failback::Immediate => "immediate".into(),
        Failback::Window(window) => format!("window {window} UTC"),
    };
    add("failback", back, *failback == Failback::default());
    let classes = if anti_affinity.is_empty() { "none".into() } else { anti_affinity.join(", ") };
    add("anti_affinity", classes, anti_affinity.is_empty());
    add(
        "anti_affinity_enforced",
        anti_affinity_enforced.to_string(),
        *anti_affinity_enforced == plain.anti_affinity_enforced,
    );
    let groups = if after.is_empty() { "none".into() } else { list(after) };
    add("after", groups, after.is_empty());
    add("start_delay", start_delay.to_string(), *start_delay == plain.start_delay);
    let failovers = restart::failovers(snapshot, snapshot.now, group);
    let failovers = counted(failovers.max as u64, "failover");
    add("failovers_max", failovers, policy.failovers_max.is_none());
    policy_settings(policy, &mut settings);
    settings
}

/// Every setting of a group's policy that its members may have of their own, and those that they
/// may not.
fn policy_settings(policy: &GroupPolicy, settings: &mut Vec<Setting>) {
    let plain = GroupPolicy::default();
    let restarts = counted(policy.restarts_max.into(), "restart");
    let mut add = |name, value: String, is_default: bool| {
        let from = if is_default { Origin::Default } else { Origin::Group };
        settings.push(Setting { name, value, from });
    };
    add("restarts_max", restarts, policy.restarts_max == plain.restarts_max);
    macro_rules! durations {
        ($($name:ident)*) => {
            $(add(stringify!($name), policy.$name.to_string(), policy.$name == plain.$name);)*
        };
    }
    durations!(restart_period restart_delay failover_period retry_period pending_timeout
        hang_timeout drain_timeout looks_alive_interval is_alive_interval);
}

/// Every setting of a member's policy, whole.
fn member_settings(group: &GroupPolicy, member: &Member<'_>) -> Vec<Setting> {
    let (own, plain) = (member.policy, GroupPolicy::default());
    let origin = |own: bool, is_default: bool| match (own, is_default) {
        (true, _) => Origin::Resource,
        (false, true) => Origin::Default,
        (false, false) => Origin::Group,
    };
    let whole = group.with(own);
    let follows = match whole.on_failure {
        OnFailure::Nothing => "nothing",
        OnFailure::Restart => "restart",
        OnFailure::FailOver => "fail_over",
    };
    let mut settings = vec![
        Setting {
            name: "on_failure",
            value: follows.into(),
            from: origin(own.on_failure.is_some(), true),
        },
        Setting {
            name: "restarts_max",
            value: counted(whole.restarts_max.into(), "restart"),
            from: origin(own.restarts_max.is_some(), group.restarts_max == plain.restarts_max),
        },
    ];
    macro_rules! durations {
        ($($name:ident)*) => {
            $(settings.push(Setting {
                name: stringify!($name),
                value: whole.$name.to_string(),
                from: origin(own.$name.is_some(), group.$name == plain.$name),
            });)*
        };
    }
    durations!(restart_period restart_delay retry_period pending_timeout hang_timeout
        looks_alive_interval is_alive_interval);
    let is_default = group.drain_timeout == plain.drain_timeout;
    let (value, from) = (whole.drain_timeout.to_string(), origin(false, is_default));
    settings.push(Setting { name: "drain_timeout", value, from });
    settings
}

/// What is left of each budget of a group: restarts of its members where it is, and failovers.
pub fn budgets(snapshot: &Snapshot, group: &Group) -> Vec<BudgetLeft> {
    let lease = snapshot.lease(&LeaseName::Group(group.name.clone()));
    let mut budgets = Vec::new();
    if let Some(holder) = lease.and_then(|lease| lease.holder.as_ref()) {
        let members = snapshot.definitions.members_of(&group.name);
        budgets.extend(members.map(|member| restarts_of(snapshot, group, &member, holder)));
    }
    let failovers = restart::failovers(snapshot, snapshot.now, group);
    budgets.push(left("failovers".into(), failovers));
    budgets
}

fn restarts_of(
    snapshot: &Snapshot,
    group: &Group,
    member: &Member<'_>,
    holder: &NodeName,
) -> BudgetLeft {
    let budget = restart::restarts(snapshot, snapshot.now, group, member, holder);
    let what = format!("restarts of {} {} on {holder}", member.kind_word(), member.name);
    left(what, budget)
}

fn left(what: String, budget: Budget) -> BudgetLeft {
    BudgetLeft {
        what,
        left: budget.left(),
        max: budget.max,
        period: budget.period,
        one_more_at: budget.resets_at,
    }
}

fn budget_table(budgets: &[BudgetLeft]) -> Table {
    let mut table = Table::new([
        ("BUDGET", Fit::Left),
        ("LEFT", Fit::Right),
        ("OF", Fit::Right),
        ("WITHIN", Fit::Left),
        ("ONE MORE AT", Fit::Left),
    ]);
    for budget in budgets {
        table.row([
            budget.what.as_str().into(),
            budget.left.to_string().into(),
            budget.max.to_string().into(),
            budget.period.to_string().into(),
            budget.one_more_at.map_or("-".into(), |at| at.to_string()).into(),
        ]);
    }
    table
}

fn list<T: ToString>(names: &[T]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cluster::{LeaseView, Tenure};
    use model::{Cause, Epoch, Evidence};
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn snapshot() -> Snapshot {
        let definitions = json!({
            "groups": [
                {"name": "g", "possible_owners": ["a", "b"], "after": ["base"],
                 "policy": {"hang_timeout": "9s"}},
                {"name": "base"},
            ],
            "hosts": [{"name": "receive", "group": "g", "depends_on": "db"}],
            "resources": [{"name": "db", "group": "g", "policy": {"restarts_max": 3},
                "kind": {"process": {"command": ["/bin/db"],
                                     "environment": {"DB_PASSWORD": "hunter2", "X": "1"}}}}],
        });
        Snapshot {
            now: NOW,
            definitions: Arc::new(serde_json::from_value(definitions).expect("definitions")),
            leases: vec![LeaseView {
                lease: "group/g".parse().expect("lease"),
                holder: Some("a".parse().expect("name")),
                epoch: Epoch(2),
                expires_at: Timestamp(NOW.0 + 2_000),
                changed_at: Timestamp(NOW.0 - 60_000),
                cause: Cause::Restart,
                reason: "process db failed on a (it died), restart 1 of 3 within 15m".into(),
                offered_to: None,
            }],
            history: vec![Tenure {
                lease: "group/g".parse().expect("lease"),
                epoch: Epoch(2),
                holder: Some("a".parse().expect("name")),
                before: Some("a".parse().expect("name")),
                evidence: Evidence::Vacated,
                cause: Cause::Restart,
                resource: Some("db".parse().expect("name")),
                reason: "process db failed on a (it died), restart 1 of 3 within 15m".into(),
                at: Timestamp(NOW.0 - 60_000),
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_group_in_full() {
        let snapshot = snapshot();
        let detail = GroupDetail::of(&snapshot, &snapshot.definitions.groups[0]);
        let text = detail.render(NOW, Look::PLAIN);
        for line in [
            "group g is pending on a, epoch 2, since 1970-01-12T13:45:40.000Z (1m ago)\n",
            "  receive  host     g      a     online_pending  -      db\n",
            "  restarts of process db on a     2   3  15m     1970-01-12T14:00:40.000Z\n",
            "  restarts of host receive on a     1   1  15m     -\n",
            "  possible_owners         a, b        group\n",
            "  failovers_max           2 failovers  default\n",
            "  hang_timeout            9s          group\n",
            "  restarts_max            3 restarts  resource db\n",
            "  starts after group base, which is not online\n",
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            let found = text.lines().any(|line| line.split_whitespace().eq(words.iter().copied()));
            assert!(found, "{line}\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn a_member_in_full_without_its_passwords() {
        let snapshot = snapshot();
        let member = snapshot.definitions.member(&"db".parse().expect("name")).expect("member");
        let detail = MemberDetail::of(&snapshot, &member);
        let from = |name: &str| {
            detail.settings.iter().find(|setting| setting.name == name).map(|it| it.from)
        };
        assert_eq!(from("restarts_max"), Some(Origin::Resource));
        assert_eq!(from("hang_timeout"), Some(Origin::Group));
        assert_eq!(from("retry_period"), Some(Origin::Default));
        let text = detail.render(NOW, Look::PLAIN);
        assert!(text.contains("needed by receive") && !text.contains("hunter2"), "{text}");
        let json = serde_json::to_string(&detail).expect("JSON");
        assert!(!json.contains("hunter2") && json.contains("/bin/db"), "{json}");
    }

    #[test]
    fn every_setting_of_a_policy_is_shown() {
        let snapshot = snapshot();
        let group = &snapshot.definitions.groups[1];
        let shown: Vec<&str> =
            group_settings(&snapshot, group).iter().map(|setting| setting.name).collect();
        let policy = serde_json::to_value(&group.policy).expect("JSON");
        for name in policy.as_object().expect("an object").keys() {
            assert!(shown.contains(&name.as_str()), "{name}");
        }
    }
}
