//! The groups of a cluster and their members as operators see them.

use cluster::placement::{self, Standing};
use cluster::{LeaseView, Snapshot};
use model::definition::{Group, Member, Priority};
use model::{
    Cause, Epoch, Evidence, GroupName, GroupState, LeaseName, NodeName, ResourceName,
    ResourceState, Timestamp,
};
use serde::Serialize;

use super::table::{Cell, Fit, Table};
use super::{Paint, ago};

/// A group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupStatus {
    /// Its name.
    pub name: GroupName,
    /// Its state: that of its members.
    pub state: GroupState,
    /// Whether it is wanted online.
    pub wanted_online: bool,
    /// Its owner.
    pub owner: Option<NodeName>,
    /// Why its owner may be deposed; none when nothing speaks against it.
    pub orphaned: Option<String>,
    /// How many owners it has had.
    pub epoch: Epoch,
    /// When it last changed hands.
    pub since: Option<Timestamp>,
    /// Why, as a word.
    pub cause: Option<Cause>,
    /// Why, as a sentence.
    pub reason: Option<String>,
    /// How sure the store was that the owner before had let go.
    pub evidence: Option<Evidence>,
    /// Its place among groups.
    pub priority: Priority,
    /// What operators want of it, a sentence each: stopped, unmonitored, a move.
    pub orders: Vec<String>,
    /// Its members.
    pub members: Vec<MemberStatus>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: ResourceName,
    /// Its kind: `host`, `process`, `ip_address`.
    pub kind: &'static str,
    /// Its group; none for a host that is not clustered.
    pub group: Option<GroupName>,
    /// The node that it is on.
    pub node: Option<NodeName>,
    /// Its state, as its owner says it.
    pub state: ResourceState,
    /// Since when, by the store's clock; none when nobody said anything yet.
    pub since: Option<Timestamp>,
    /// What it said last, if it failed or is stuck.
    pub detail: Option<String>,
    /// What must be online before it; empty when nothing must.
    pub depends_on: String,
}

impl GroupStatus {
    /// Every group, in the order written.
    pub fn all(snapshot: &Snapshot) -> Vec<GroupStatus> {
        let groups = snapshot.definitions.groups.iter();
        groups.map(|group| GroupStatus::of(snapshot, group)).collect()
    }

    /// One group.
    pub fn of(snapshot: &Snapshot, group: &Group) -> GroupStatus {
        let name = LeaseName::Group(group.name.clone());
        let lease = snapshot.lease(&name);
        let taken = lease.and_then(|lease| {
            let taken =
                |tenure: &&cluster::Tenure| tenure.epoch == lease.epoch && tenure.holder.is_some();
            snapshot.history_of(&group.name).rev().find(taken)
        });
        let orphaned = match Standing::of(snapshot, &name) {
            Standing::Orphaned(_, _, why) => Some(why),
            Standing::Never | Standing::Vacant(_) | Standing::Held(..) => None,
        };
        GroupStatus {
            name: group.name.clone(),
            state: placement::state(snapshot, group),
            wanted_online: placement::is_wanted_online(snapshot, group),
            owner: lease.and_then(|lease| lease.holder.clone()),
            orphaned,
            epoch: lease.map(|lease| lease.epoch).unwrap_or_default(),
            since: lease.map(|lease| lease.changed_at),
            cause: lease.map(|lease| lease.cause),
            reason: lease.map(|lease| lease.reason.clone()),
            evidence: taken.map(|taken| taken.evidence),
            priority: group.priority,
            orders: orders(snapshot, group),
            members: snapshot
                .definitions
                .members_of(&group.name)
                .map(|member| MemberStatus::of(snapshot, &member, lease))
                .collect(),
        }
    }

    /// Its state with its meaning: a group that is wanted offline may be.
    pub fn state_cell(&self) -> Cell {
        let paint = match self.state {
            _ if self.orphaned.is_some() => Paint::Bad,
            GroupState::Online => Paint::Good,
            GroupState::Offline if !self.wanted_online => Paint::Dim,
            GroupState::Offline | GroupState::Failed => Paint::Bad,
            GroupState::PartialOnline | GroupState::Pending => Paint::Warn,
        };
        Cell::painted(self.state.as_str(), paint)
    }

    /// What stands below its line: why it is so, its orders, and its members that are not online.
    pub fn notes(&self, now: Timestamp) -> Vec<(String, Paint)> {
        let mut notes = Vec::new();
        notes.extend(self.reason.iter().map(|reason| (reason.clone(), Paint::Dim)));
        let orphaned = self.orphaned.iter();
        notes.extend(orphaned.map(|why| (format!("{why}, so another may take it"), Paint::Bad)));
        notes.extend(self.orders.iter().map(|order| (order.clone(), Paint::Warn)));
        if self.owner.is_some() {
            notes.extend(self.members.iter().filter_map(|member| member.note(now)));
        }
        notes
    }
}

impl MemberStatus {
    /// A member, under the lease of its group if that is held.
    pub fn of(snapshot: &Snapshot, member: &Member<'_>, lease: Option<&LeaseView>) -> MemberStatus {
        let held = lease.filter(|lease| lease.holder.is_some());
        let report = held.and_then(|lease| snapshot.report(&member.name, lease.epoch));
        let silent = match held {
            Some(_) => ResourceState::OnlinePending,
            None => ResourceState::Offline,
        };
        MemberStatus {
            name: member.name.clone(),
            kind: member.kind_word(),
            group: member.group.cloned(),
            node: held.and_then(|lease| lease.holder.clone()),
            state: report.map_or(silent, |report| report.state),
            since: report.map(|report| report.since),
            detail: report.and_then(|report| report.detail.clone()),
            depends_on: member.depends_on.to_string(),
        }
    }

    fn paint(&self) -> Paint {
        match self.state {
            ResourceState::Online if self.detail.is_some() => Paint::Warn,
            ResourceState::Online => Paint::Good,
            ResourceState::OnlinePending | ResourceState::OfflinePending => Paint::Warn,
            ResourceState::Failed => Paint::Bad,
            ResourceState::Offline => Paint::Dim,
        }
    }

    /// A line about it, unless it is simply online.
    fn note(&self, now: Timestamp) -> Option<(String, Paint)> {
        if self.state == ResourceState::Online && self.detail.is_none() {
            return None;
        }
        let since =
            self.since.map_or(", not heard of yet".into(), |at| format!(" {}", ago(now, at)));
        let detail = self.detail.as_ref().map_or(String::new(), |detail| format!(": {detail}"));
        let (kind, name, state) = (self.kind, &self.name, self.state);
        Some((format!("{kind} {name} {state}{since}{detail}"), self.paint()))
    }
}

/// What operators want of a group that is not what they usually want.
fn orders(snapshot: &Snapshot, group: &Group) -> Vec<String> {
    let now = snapshot.now;
    let mut orders = Vec::new();
    let order = snapshot.group_order(&group.name);
    match order {
        Some(order) if !order.online => {
            orders.push(format!("{} wanted it offline {}", order.by, ago(now, order.at)));
        }
        None if group.priority == Priority::NoAutoStart => {
            orders.push("it starts only when somebody asks for it (no_auto_start)".into());
        }
        Some(_) | None => {}
    }
    let until = order.and_then(|order| order.unmonitored_until).filter(|until| *until > now);
    orders.extend(until.map(|until| format!("failures of it count for nothing until {until}")));
    orders.extend(snapshot.moves.iter().filter(|wish| wish.group == group.name).map(|wish| {
        let to = wish.to.as_ref().map_or("another node".into(), |to| format!("node {to}"));
        format!("a move to {to} was asked for by {} {}", wish.by, ago(now, wish.at))
    }));
    orders
}

/// The groups as `baton status` shows them.
pub fn status_table(groups: &[GroupStatus], now: Timestamp) -> Table {
    let mut table = Table::new([
        ("NAME", Fit::Left),
        ("STATE", Fit::Left),
        ("OWNER", Fit::Left),
        ("EPOCH", Fit::Right),
        ("SINCE", Fit::Left),
        ("CAUSE", Fit::Left),
        ("EVIDENCE", Fit::Cut),
    ]);
    for group in groups {
        let [name, state, owner, epoch, since, cause] = columns(group, now);
        table.row([name, state, owner, epoch, since, cause, evidence(group)]);
        note(&mut table, group, now);
    }
    table
}

/// The groups as `baton group list` shows them.
pub fn list_table(groups: &[GroupStatus], now: Timestamp) -> Table {
    let mut table = Table::new([
        ("NAME", Fit::Left),
        ("STATE", Fit::Left),
        ("OWNER", Fit::Left),
        ("PRIORITY", Fit::Left),
        ("EPOCH", Fit::Right),
        ("SINCE", Fit::Left),
        ("CAUSE", Fit::Left),
        ("EVIDENCE", Fit::Cut),
    ]);
    for group in groups {
        let [name, state, owner, epoch, since, cause] = columns(group, now);
        let priority = group.priority.to_string().into();
        table.row([name, state, owner, priority, epoch, since, cause, evidence(group)]);
        note(&mut table, group, now);
    }
    table
}

fn columns(group: &GroupStatus, now: Timestamp) -> [Cell; 6] {
    [
        group.name.as_str().into(),
        group.state_cell(),
        group.owner.as_ref().map_or("-", NodeName::as_str).into(),
        group.epoch.to_string().into(),
        group.since.map_or("-".into(), |since| ago(now, since)).into(),
        group.cause.map_or("-", Cause::as_str).into(),
    ]
}

fn evidence(group: &GroupStatus) -> Cell {
    group.evidence.map_or("-".into(), |evidence| evidence.to_string()).into()
}

fn note(table: &mut Table, group: &GroupStatus, now: Timestamp) {
    for (note, paint) in group.notes(now) {
        table.note(note, paint);
    }
}

/// Members with what they said last.
pub fn member_table(members: &[MemberStatus], now: Timestamp) -> Table {
    let mut table = Table::new([
        ("NAME", Fit::Left),
        ("KIND", Fit::Left),
        ("GROUP", Fit::Left),
        ("NODE", Fit::Left),
        ("STATE", Fit::Left),
        ("SINCE", Fit::Left),
        ("DEPENDS ON", Fit::Cut),
    ]);
    for member in members {
        table.row([
            member.name.as_str().into(),
            member.kind.into(),
            member.group.as_ref().map_or("-", GroupName::as_str).into(),
            member.node.as_ref().map_or("-", NodeName::as_str).into(),
            Cell::painted(member.state.as_str(), member.paint()),
            member.since.map_or("-".into(), |since| ago(now, since)).into(),
            member.depends_on.as_str().into(),
        ]);
        if let Some(detail) = &member.detail {
            table.note(detail, Paint::Bad);
        }
    }
    table
}
