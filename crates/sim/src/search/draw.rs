//! A cluster drawn from a seed: nodes, definitions, weather, clocks, and what will happen.

use std::fmt;

use cluster::Timing;
use fastrand::Rng;
use model::definition::{Failback, Group, GroupPolicy, Host, Priority, Resource, ResourceKind};
use model::definition::{IpAddress, Process, ResourcePolicy};
use model::{Definitions, GroupName, HostName, Millis, NodeName, ResourceName};

use super::faults::{self, Fault};
use crate::{Traffic, Weather};

/// A cluster and what will happen to it.
pub(super) struct Drawn {
    pub nodes: Vec<NodeName>,
    pub definitions: Definitions,
    pub timing: Timing,
    pub traffic: Traffic,
    pub weather: Weather,
    /// How many parts in a million each boot clock runs too fast.
    pub drifts: Vec<i32>,
    pub schedule: Vec<(Millis, Fault)>,
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Definitions { groups, hosts, resources, .. } = &self.definitions;
        write!(
            f,
            "{} nodes, {} groups, {} hosts, {} resources, ttl {}, {} faults",
            self.nodes.len(),
            groups.len(),
            hosts.len(),
            resources.len(),
            self.timing.ttl,
            self.schedule.iter().filter(|(_, fault)| !fault.is_traffic()).count()
        )
    }
}

/// Boot clocks may run so many parts in a million wrong. A sixth of the ttl is the margin.
const DRIFT_MAX: i32 = 50_000;

pub(super) fn draw(seed: u64) -> Drawn {
    let mut chance = Rng::with_seed(seed);
    let nodes: Vec<NodeName> =
        ["a", "b", "c", "d", "e"][..chance.usize(2..=5)].iter().filter_map(|n| named(n)).collect();
    let ttl = Millis(1000 * chance.u64(1..=3));
    let definitions = definitions(&mut chance, &nodes);
    let traffic = traffic(&mut chance, &definitions);
    let drifts = nodes.iter().map(|_| drift(&mut chance)).collect();
    let weather = weather(&mut chance, ttl);
    let schedule = faults::schedule(&mut chance, &nodes, &definitions);
    Drawn { nodes, definitions, timing: Timing::of(ttl), traffic, weather, drifts, schedule }
}

/// One of these.
pub(super) fn pick<'a, T>(chance: &mut Rng, of: &'a [T]) -> Option<&'a T> {
    chance.choice(of)
}

/// Whether something of so many in a hundred happens.
pub(super) fn percent(chance: &mut Rng, percent: u32) -> bool {
    chance.u32(0..100) < percent
}

fn named<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.parse().ok()
}

fn drift(chance: &mut Rng) -> i32 {
    if percent(chance, 50) { chance.i32(-DRIFT_MAX..=DRIFT_MAX) } else { 0 }
}

fn weather(chance: &mut Rng, ttl: Millis) -> Weather {
    let jitter = chance.u64(0..=10);
    match chance.u32(0..4) {
        // Calm: a node that is well keeps what it has.
        0 | 1 => Weather { jitter, hints_lost: chance.u32(0..=200), ..Weather::default() },
        2 => Weather { jitter, slow: 50, slow_max: ttl.0 / 8, ..Weather::default() },
        _ => Weather {
            jitter,
            slow: 100,
            slow_max: ttl.0 * 2,
            lost: chance.u32(5..=60),
            hints_lost: chance.u32(0..=800),
        },
    }
}

fn definitions(chance: &mut Rng, nodes: &[NodeName]) -> Definitions {
    let mut definitions = Definitions::default();
    let count = chance.usize(1..=6);
    // Groups that insist on a node of their own class: no more of them than nodes.
    let mut insisting = 0;
    for index in 0..count {
        let Some(name) = named::<GroupName>(&format!("g{index}")) else { continue };
        let mut group = group(chance, nodes, name.clone());
        match chance.u32(0..8) {
            0 | 1 => group.anti_affinity = vec!["shy".to_owned()],
            2 if insisting < nodes.len() => {
                insisting += 1;
                group.possible_owners = Vec::new();
                group.anti_affinity = vec!["alone".to_owned()];
                group.anti_affinity_enforced = true;
            }
            _ => {}
        }
        if index > 0 && percent(chance, 20) {
            let before = format!("g{}", chance.usize(0..index));
            group.after.extend(named::<GroupName>(&before));
            group.start_delay = Millis(chance.u64(0..2000));
        }
        members(chance, &mut definitions, &name, index);
        definitions.groups.push(group);
    }
    if percent(chance, 40) {
        definitions.hosts.extend(named::<HostName>("solo").map(Host::new));
    }
    definitions
}

fn group(chance: &mut Rng, nodes: &[NodeName], name: GroupName) -> Group {
    let mut order = nodes.to_vec();
    chance.shuffle(&mut order);
    let owners = if nodes.len() > 2 && percent(chance, 25) {
        order[..chance.usize(2..=nodes.len())].to_vec()
    } else {
        Vec::new()
    };
    chance.shuffle(&mut order);
    let preferred = order[..chance.usize(0..=2)].to_vec();
    let priority = *pick(chance, &[Priority::Low, Priority::Medium, Priority::High])
        .unwrap_or(&Priority::Medium);
    let failback = if percent(chance, 30) { Failback::Immediate } else { Failback::Never };
    let policy = GroupPolicy {
        restarts_max: chance.u32(0..=3),
        failovers_max: percent(chance, 70).then_some(1000),
        retry_period: Millis::seconds(chance.u64(5..=20)),
        drain_timeout: Millis::seconds(chance.u64(1..=3)),
        pending_timeout: Millis::seconds(10),
        ..GroupPolicy::default()
    };
    Group {
        possible_owners: owners,
        preferred_owners: preferred,
        priority,
        failback,
        policy,
        ..Group::new(name)
    }
}

/// One or two hosts, and up to two resources that may depend on one another.
fn members(chance: &mut Rng, definitions: &mut Definitions, group: &GroupName, index: usize) {
    let mut providers: Vec<ResourceName> = Vec::new();
    for place in 0..chance.usize(0..=2) {
        let Some(name) = named::<ResourceName>(&format!("r{index}{place}")) else { continue };
        let mut resource = Resource {
            name: name.clone(),
            group: group.clone(),
            depends_on: Default::default(),
            possible_owners: Vec::new(),
            policy: ResourcePolicy::default(),
            kind: if place == 0 { address() } else { process() },
        };
        if let Some(provider) = providers.last().filter(|_| percent(chance, 60)) {
            resource.depends_on.and(provider.clone());
        }
        providers.push(name);
        definitions.resources.push(resource);
    }
    for place in 0..chance.usize(1..=2) {
        let Some(name) = named::<HostName>(&format!("h{index}{place}")) else { continue };
        let mut host = Host { group: Some(group.clone()), ..Host::new(name) };
        for provider in &providers {
            if percent(chance, 50) {
                host.depends_on.and(provider.clone());
            }
        }
        definitions.hosts.push(host);
    }
}

fn address() -> ResourceKind {
    ResourceKind::IpAddress(IpAddress {
        address: "192.0.2.10/24".to_owned(),
        interface: None,
        announcements: 1,
        probe_for: Millis(0),
    })
}

pub(super) fn process() -> ResourceKind {
    ResourceKind::Process(Process {
        command: vec!["/bin/true".to_owned()],
        folder: None,
        environment: Default::default(),
        stop_signal: "SIGTERM".to_owned(),
        stop_grace: Millis::seconds(1),
        ready_check: Vec::new(),
        looks_alive: Vec::new(),
        is_alive: Vec::new(),
    })
}

fn traffic(chance: &mut Rng, definitions: &Definitions) -> Traffic {
    let clustered = definitions.hosts.iter().filter(|host| host.group.is_some());
    let hosts: Vec<&HostName> = clustered.map(|host| &host.name).collect();
    let mut traffic = Traffic::default();
    for host in &hosts {
        if let Some(to) = pick(chance, &hosts) {
            traffic.routes.insert((*host).clone(), (*to).clone());
        }
        if percent(chance, 50) {
            traffic.ordered.insert((*host).clone());
        }
    }
    traffic
}
