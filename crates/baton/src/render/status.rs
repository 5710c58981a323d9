//! The state of a cluster on one screen.

use std::fmt::Write as _;

use cluster::{LeaseView, Snapshot};
use model::{GroupState, LeaseName, NodeName, Timestamp};
use serde::Serialize;
use store::{Backlog, LocationReport, WorkState};

use super::group::{GroupStatus, status_table};
use super::node::{NodeState, NodeStatus, mixed_versions, names};
use super::table::{Cell, Fit, Table};
use super::{Look, Paint, ago, counted};

/// Everything that `baton status` knows. As JSON, times are milliseconds since 1970 by the
/// store's clock.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The store, without credentials.
    pub store: String,
    /// The store's clock.
    pub now: Timestamp,
    /// Version of the definitions in force; 0 before the first.
    pub definitions_version: u64,
    /// Suspended work in all.
    pub suspended: u64,
    /// The nodes.
    pub nodes: Vec<NodeStatus>,
    /// The groups.
    pub groups: Vec<GroupStatus>,
    /// The hosts.
    pub hosts: Vec<HostStatus>,
    /// The receive locations.
    pub receive_locations: Vec<LocationStatus>,
    /// The send ports, and work that nobody subscribes to (with an empty name).
    pub send_ports: Vec<PortStatus>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostStatus {
    /// Its name.
    pub name: String,
    /// Its group; none: it is not clustered.
    pub group: Option<String>,
    /// The nodes on which it works.
    pub active_on: Vec<NodeName>,
}

/// A receive location.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LocationStatus {
    /// Its name.
    pub name: String,
    /// Its receive port.
    pub port: String,
    /// Its host.
    pub host: String,
    /// Whether it is to be polled.
    pub enabled: bool,
    /// Its last reports, one for each node that polls it.
    pub reports: Vec<LocationReport>,
}

/// A send port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortStatus {
    /// Its name; empty for messages that nobody subscribes to.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Work that waits.
    pub ready: u64,
    /// Work that is being sent.
    pub active: u64,
    /// Work that waits for an operator.
    pub suspended: u64,
    /// When the oldest of it was published.
    pub oldest_at: Option<Timestamp>,
}

impl Status {
    /// Puts together what the store says.
    pub fn of(
        store: String,
        snapshot: &Snapshot,
        reports: &[LocationReport],
        backlog: &[Backlog],
    ) -> Status {
        let suspended = |entry: &&Backlog| entry.state == WorkState::Suspended;
        Status {
            store,
            now: snapshot.now,
            definitions_version: snapshot.definitions_version,
            suspended: backlog.iter().filter(suspended).map(|entry| entry.count).sum(),
            nodes: NodeStatus::all(snapshot),
            groups: GroupStatus::all(snapshot),
            hosts: hosts(snapshot),
            receive_locations: locations(snapshot, reports),
            send_ports: ports(snapshot, backlog),
        }
    }
}

/// Who holds a lease that has not run out.
fn holder(lease: &LeaseView, now: Timestamp) -> Option<&NodeName> {
    lease.holder.as_ref().filter(|_| lease.expires_at > now)
}

fn hosts(snapshot: &Snapshot) -> Vec<HostStatus> {
    let of = |host: &model::definition::Host| {
        let leases = snapshot.leases.iter().filter(|lease| match &lease.lease {
            LeaseName::Group(group) => host.group.as_ref() == Some(group),
            LeaseName::Instance(of, _) => host.group.is_none() && *of == host.name,
            LeaseName::Node(_) => false,
        });
        HostStatus {
            name: host.name.to_string(),
            group: host.group.as_ref().map(ToString::to_string),
            active_on: leases.filter_map(|lease| holder(lease, snapshot.now).cloned()).collect(),
        }
    };
    snapshot.definitions.hosts.iter().map(of).collect()
}

fn locations(snapshot: &Snapshot, reports: &[LocationReport]) -> Vec<LocationStatus> {
    let ports = snapshot.definitions.receive_ports.iter();
    let all = ports.flat_map(|port| port.locations.iter().map(move |location| (port, location)));
    all.map(|(port, location)| {
        let about = reports.iter().filter(|report| report.location == location.name.as_str());
        LocationStatus {
            name: location.name.to_string(),
            port: port.name.to_string(),
            host: location.host.to_string(),
            enabled: location.enabled,
            reports: about.cloned().collect(),
        }
    })
    .collect()
}

fn ports(snapshot: &Snapshot, backlog: &[Backlog]) -> Vec<PortStatus> {
    let nothing = |name: &str, host: &str| PortStatus {
        name: name.to_owned(),
        host: host.to_owned(),
        ready: 0,
        active: 0,
        suspended: 0,
        oldest_at: None,
    };
    let defined = snapshot.definitions.send_ports.iter();
    let mut ports: Vec<PortStatus> =
        defined.map(|port| nothing(port.name.as_str(), port.host.as_str())).collect();
    for entry in backlog {
        let index = ports.iter().position(|port| port.name == entry.port).unwrap_or_else(|| {
            ports.push(nothing(&entry.port, &entry.host));
            ports.len() - 1
        });
        let port = &mut ports[index];
        match entry.state {
            WorkState::Ready => port.ready += entry.count,
            WorkState::Active => port.active += entry.count,
            WorkState::Suspended => port.suspended += entry.count,
        }
        port.oldest_at = match (port.oldest_at, entry.oldest_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    ports
}

impl Status {
    /// The screen.
    pub fn render(&self, look: Look) -> String {
        let mut text = String::new();
        let up = self.nodes.iter().filter(|node| node.state.is_up()).count();
        let known = self.nodes.iter().filter(|node| node.state != NodeState::Left).count();
        let _ = writeln!(text, "store {}", super::safe(&self.store));
        let definitions = match self.definitions_version {
            0 => "no definitions applied yet".into(),
            version => format!("definitions version {version}"),
        };
        let _ = writeln!(text, "{up} of {} up, {definitions}", counted(known as u64, "node"));
        for (heading, table) in [
            ("NODES", self.node_table()),
            ("GROUPS", status_table(&self.groups, self.now)),
            ("HOSTS", self.host_table()),
            ("RECEIVE LOCATIONS", self.location_table()),
            ("SEND PORTS", self.port_table()),
        ] {
            if !table.is_empty() {
                let _ = writeln!(text, "\n{}", look.paint(Paint::Bold, heading));
                text.push_str(&table.render(look, 2));
            }
        }
        text.push_str(&self.advice(look));
        text
    }

    fn node_table(&self) -> Table {
        let mut table = Table::new([
            ("NAME", Fit::Left),
            ("STATE", Fit::Left),
            ("EPOCH", Fit::Right),
            ("LEASE", Fit::Left),
            ("OWNS", Fit::Cut),
        ]);
        for node in &self.nodes {
            table.row([
                node.name.as_str().into(),
                node.state_cell(),
                node.epoch.to_string().into(),
                node.lease(self.now).into(),
                names(&node.owns).into(),
            ]);
            for (note, paint) in node.notes(self.now) {
                table.note(note, paint);
            }
        }
        table
    }

    fn host_table(&self) -> Table {
        let mut table =
            Table::new([("NAME", Fit::Left), ("GROUP", Fit::Left), ("ACTIVE ON", Fit::Cut)]);
        for host in &self.hosts {
            let nodes: Vec<&str> = host.active_on.iter().map(NodeName::as_str).collect();
            let active = match nodes.as_slice() {
                [] => Cell::painted("nowhere", Paint::Bad),
                nodes => nodes.join(", ").into(),
            };
            table.row([
                host.name.as_str().into(),
                host.group.as_deref().unwrap_or("-").into(),
                active,
            ]);
        }
        table
    }

    fn location_table(&self) -> Table {
        let mut table = Table::new([
            ("NAME", Fit::Left),
            ("HOST", Fit::Left),
            ("NODE", Fit::Left),
            ("LAST SUCCESS", Fit::Left),
            ("RECEIVED", Fit::Right),
            ("GUARANTEE", Fit::Cut),
        ]);
        for location in &self.receive_locations {
            let blank = || Cell::from("");
            let head = [Cell::from(&location.name), Cell::from(&location.host)];
            let [name, host] = head.clone();
            if !location.enabled {
                let off = Cell::painted("disabled", Paint::Dim);
                table.row([name, host, "-".into(), off, blank(), blank()]);
                continue;
            }
            if location.reports.is_empty() {
                let never = Cell::painted("never polled", Paint::Warn);
                table.row([name, host, "-".into(), never, blank(), blank()]);
            }
            for report in &location.reports {
                self.location_row(&mut table, head.clone(), report);
            }
        }
        table
    }

    fn location_row(&self, table: &mut Table, [name, host]: [Cell; 2], report: &LocationReport) {
        let paint = if report.last_error.is_some() { Paint::Bad } else { Paint::Good };
        let success = report.last_success_at.map_or("never".into(), |at| ago(self.now, at));
        let (guarantee, caveat) = match report.guarantee.split_once(": ") {
            Some((guarantee, caveat)) => (guarantee, Some(caveat)),
            None => (report.guarantee.as_str(), None),
        };
        table.row([
            name,
            host,
            report.node.as_str().into(),
            Cell::painted(success, paint),
            report.received.to_string().into(),
            Cell::painted(guarantee, if caveat.is_some() { Paint::Warn } else { Paint::None }),
        ]);
        if let Some(caveat) = caveat {
            table.note(format!("{guarantee}: {caveat}"), Paint::Warn);
        }
        if let Some(error) = &report.last_error {
            let when = report.last_error_at.map_or("last".into(), |at| ago(self.now, at));
            table.note(format!("failed {when}: {error}"), Paint::Bad);
        }
    }

    fn port_table(&self) -> Table {
        let mut table = Table::new([
            ("NAME", Fit::Left),
            ("HOST", Fit::Cut),
            ("READY", Fit::Right),
            ("ACTIVE", Fit::Right),
            ("SUSPENDED", Fit::Right),
            ("OLDEST", Fit::Left),
        ]);
        for port in &self.send_ports {
            let name = if port.name.is_empty() { "(no subscriber)" } else { &port.name };
            let paint = if port.suspended > 0 { Paint::Bad } else { Paint::None };
            table.row([
                name.into(),
                Cell::from(&port.host),
                port.ready.to_string().into(),
                port.active.to_string().into(),
                Cell::painted(port.suspended.to_string(), paint),
                port.oldest_at.map_or("-".into(), |at| ago(self.now, at)).into(),
            ]);
        }
        table
    }

    /// What an operator might do next.
    fn advice(&self, look: Look) -> String {
        let mut lines = Vec::new();
        if self.nodes.is_empty() {
            lines.push("no node has joined yet: run `baton node` on a machine".to_owned());
        }
        if self.definitions_version == 0 {
            lines.push("apply definitions with `baton apply PATH`".to_owned());
        }
        if self.suspended > 0 {
            let count = counted(self.suspended, "message");
            lines.push(format!("{count} suspended: baton message list --state suspended"));
        }
        for group in self.groups.iter().filter(|group| group.wanted_online) {
            let what = match group.state {
                _ if group.orphaned.is_some() => "without its owner".to_owned(),
                GroupState::Online => continue,
                state => state.to_string(),
            };
            lines.push(format!("group {0} is {what}: baton why {0}", group.name));
        }
        lines.extend(mixed_versions(&self.nodes));
        let mut text = String::new();
        for (index, line) in lines.iter().enumerate() {
            let gap = if index == 0 { "\n" } else { "" };
            let _ = writeln!(text, "{gap}{}", look.paint(Paint::Warn, line));
        }
        text
    }
}

#[cfg(test)]
mod tests;
