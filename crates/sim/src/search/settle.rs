//! Faults end; then everything must come right within its bound.

use cluster::{Phase, ResumeFailback};
use model::{LeaseName, Millis, NodeName};

use super::draw::Drawn;
use crate::{Rule, Weather, World};

/// A node that was asked to stop while it was frozen stops now; it is started again after so long.
const STARTED_AGAIN: u64 = 40_000;
/// Every group is online so long after the faults end: the longest drain and stop, a ttl, the
/// candidates' graces, some pending timeouts and a retry.
const ONLINE_WITHIN: u64 = 120_000;
/// And every item is through: an open receipt of an item that is gone takes half a minute.
const THROUGH_WITHIN: u64 = 180_000;
/// From then on no group moves; before it, none moves more often than this after the faults end.
const MOVES_MAX: u32 = 6;

pub(super) fn settle(world: &mut World, drawn: &Drawn) {
    let ended = world.elapsed + 1000;
    world.run_until(Millis(ended));
    mend(world, drawn);
    world.run_until(Millis(ended + STARTED_AGAIN));
    for node in &drawn.nodes {
        world.start(node);
    }
    world.run_until(Millis(ended + ONLINE_WITHIN));
    for group in &drawn.definitions.groups {
        is_online(world, drawn, &LeaseName::Group(group.name.clone()));
    }
    for host in drawn.definitions.hosts.iter().filter(|host| host.group.is_none()) {
        for node in &drawn.nodes {
            is_online(world, drawn, &LeaseName::Instance(host.name.clone(), node.clone()));
        }
    }
    world.run_until(Millis(ended + THROUGH_WITHIN));
    is_through(world);
    is_calm(world, ended);
}

/// Whatever was broken is whole, and operators want everything online again.
fn mend(world: &mut World, drawn: &Drawn) {
    world.say("--", "all is mended");
    world.weather = Weather { jitter: drawn.weather.jitter, ..Weather::default() };
    for (_, moved) in world.witness.moved.values_mut() {
        *moved = 0;
    }
    world.store_back();
    let nodes = &drawn.nodes;
    for node in nodes {
        world.mend(node);
        world.thaw(node);
        for member in drawn.definitions.members() {
            world.repair(node, &member.name);
        }
        world.start(node);
    }
    for node in nodes {
        world.resume(node, ResumeFailback::None, "ops");
        world.clear_quarantine(node, "ops");
    }
    for group in &drawn.definitions.groups {
        world.unmonitor(&group.name, Millis(0), "ops");
        world.want_online(&group.name, true, "ops");
    }
}

fn is_online(world: &mut World, drawn: &Drawn, lease: &LeaseName) {
    let holder = world.store.leases.get(lease).and_then(|view| view.holder.clone());
    let phase = |node: &NodeName| {
        let agent = world.machines.get(node)?.agent.as_ref()?;
        let found = agent.leases().find(|(name, _, _)| *name == lease);
        found.map(|(_, phase, _)| phase.clone())
    };
    let online: Vec<&NodeName> =
        drawn.nodes.iter().filter(|node| phase(node) == Some(Phase::Online)).collect();
    if online.len() == 1 && holder.as_ref() == online.first().copied() {
        return;
    }
    let phases: Vec<String> =
        drawn.nodes.iter().map(|node| format!("{node} {:?}", phase(node))).collect();
    let holder = holder.map_or("nobody".to_owned(), |node| node.to_string());
    let why = match lease {
        LeaseName::Group(group) => cluster::why(&world.store.snapshot(), group).join("; "),
        LeaseName::Node(_) | LeaseName::Instance(..) => String::new(),
    };
    let what = format!("{lease} is {holder}'s; {}; {why}", phases.join(", "));
    world.violated(Rule::Online, what);
}

fn is_through(world: &mut World) {
    let Some(traffic) = world.traffic.clone() else { return };
    for item in &traffic.put {
        let (host, key) = item;
        let listed = traffic.sources.get(host).is_some_and(|source| source.contains(key));
        if !world.is_published(item) {
            world.violated(Rule::Through, format!("item {key} of {host} is no message"));
        } else if listed {
            world.violated(Rule::Through, format!("item {key} of {host} is still at its source"));
        }
    }
    for id in 0..world.store.messages.messages.len() {
        if !world.is_delivered(id) {
            world.violated(Rule::Through, format!("message {id} was not sent"));
        }
    }
    let open = world.store.messages.receipts.values().filter(|receipt| receipt.open).count();
    if open > 0 {
        world.violated(Rule::Through, format!("{open} receipts are open"));
    }
}

fn is_calm(world: &mut World, ended: u64) {
    let moved: Vec<(LeaseName, (u64, u32))> =
        world.witness.moved.iter().map(|(lease, moved)| (lease.clone(), *moved)).collect();
    for (lease, (last, moves)) in moved {
        if last > ended + ONLINE_WITHIN {
            world.violated(Rule::Flapping, format!("{lease} moves, long after the faults ended"));
        }
        if moves > MOVES_MAX {
            let what = format!("{lease} moved {moves} times after the faults ended");
            world.violated(Rule::Flapping, what);
        }
    }
}
