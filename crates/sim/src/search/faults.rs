//! What happens to a drawn cluster: faults with their ends, verbs of operators, items of partners.

use cluster::{Duty, Presence, ResumeFailback};
use fastrand::Rng;
use model::{Definitions, FailureReach, GroupName, HostName, Millis, NodeName, ResourceName};

use super::draw::{percent, pick};
use crate::{Cut, World};

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A machine dies; the store hears so much of it.
    Crash(NodeName, Presence),
    /// A node is started, if it is not up.
    Start(NodeName),
    /// A node is asked to stop.
    Stop(NodeName),
    /// A node of another version is started in its place: what a rolling upgrade does.
    Upgrade(NodeName),
    /// A machine stands still.
    Freeze(NodeName),
    /// It goes on.
    Thaw(NodeName),
    /// The way to the store is cut; the store hears so much of it.
    Cut(NodeName, Cut, Presence),
    /// It is mended.
    Mend(NodeName),
    /// A wall clock is set.
    StepClock(NodeName, i64),
    /// The store is away.
    StoreAway,
    /// It is back.
    StoreBack,
    /// A member fails.
    Fail(NodeName, ResourceName, FailureReach),
    /// The monitor of a resource dies.
    CrashMonitor(NodeName, ResourceName),
    /// A member makes no more progress.
    Hang(NodeName, ResourceName),
    /// A member fails whenever it is started.
    Break(NodeName, ResourceName),
    /// A resource cannot be stopped.
    Stick(NodeName, ResourceName),
    /// A host does not hear that it is to stop.
    Deafen(NodeName, ResourceName),
    /// It is well again.
    Repair(NodeName, ResourceName),
    /// An operator moves a group.
    Move(GroupName, Option<NodeName>),
    /// An operator wants a group online, or offline.
    Want(GroupName, bool),
    /// An operator wants failures not to count for so long.
    Unmonitor(GroupName, Millis),
    /// An operator pauses or drains a node.
    Relieve(NodeName, Duty),
    /// An operator resumes a node.
    Resume(NodeName, ResumeFailback),
    /// An operator evicts a node.
    Evict(NodeName),
    /// An operator applies other definitions: a resource has other settings, a group other
    /// preferred owners.
    Apply(Box<Definitions>),
    /// A partner puts an item at the source of a host.
    Put(HostName),
}

impl Fault {
    /// Whether it is no fault at all.
    pub fn is_traffic(&self) -> bool {
        matches!(self, Fault::Put(_))
    }
}

/// How long faults go on.
const LASTS: std::ops::RangeInclusive<u64> = 30_000..=80_000;
/// How long one lasts, unless it lasts to the end.
const ENDS_AFTER: std::ops::RangeInclusive<u64> = 200..=12_000;
/// The first one comes when the cluster is up, mostly.
const BEGINS: u64 = 3000;

/// What happens, in the order of time.
pub(super) fn schedule(
    chance: &mut Rng,
    nodes: &[NodeName],
    definitions: &Definitions,
) -> Vec<(Millis, Fault)> {
    let lasts = chance.u64(LASTS);
    let mut schedule = Vec::new();
    for _ in 0..chance.usize(3..=14) {
        let at = chance.u64(BEGINS / 3..=lasts);
        let ends = at + chance.u64(ENDS_AFTER);
        one(chance, nodes, definitions, (at, ends), &mut schedule);
    }
    let clustered: Vec<&HostName> = definitions
        .hosts
        .iter()
        .filter(|host| host.group.is_some())
        .map(|host| &host.name)
        .collect();
    for _ in 0..chance.usize(10..=50) {
        if let Some(host) = pick(chance, &clustered) {
            schedule.push((chance.u64(0..=lasts), Fault::Put((*host).clone())));
        }
    }
    schedule.sort_by_key(|(at, _)| *at); // Stable: what was drawn first happens first.
    schedule.into_iter().map(|(at, fault)| (Millis(at), fault)).collect()
}

/// One fault, with its end.
fn one(
    chance: &mut Rng,
    nodes: &[NodeName],
    definitions: &Definitions,
    (at, ends): (u64, u64),
    schedule: &mut Vec<(u64, Fault)>,
) {
    let Some(node) = pick(chance, nodes).cloned() else { return };
    let mut add = |at: u64, fault: Fault| schedule.push((at, fault));
    match chance.u32(0..100) {
        0..12 => {
            add(at, Fault::Crash(node.clone(), death(chance)));
            add(ends, Fault::Start(node));
        }
        12..22 => {
            add(at, Fault::Freeze(node.clone()));
            add(ends, Fault::Thaw(node));
        }
        22..36 => {
            add(at, cut(chance, node.clone()));
            add(ends, Fault::Mend(node));
        }
        36..42 => {
            add(at, Fault::StoreAway);
            add(ends, Fault::StoreBack);
        }
        42..47 => {
            add(at, Fault::Stop(node.clone()));
            add(ends, Fault::Start(node));
        }
        47..50 => {
            for (place, node) in nodes.iter().enumerate() {
                let stops = at + place as u64 * 5000;
                add(stops, Fault::Stop(node.clone()));
                add(stops + 4000, Fault::Upgrade(node.clone()));
            }
        }
        50..56 => {
            let hour = 3_600_000;
            add(at, Fault::StepClock(node, chance.i64(-hour..=hour)));
        }
        56..78 => strike_member(chance, node, definitions, (at, ends), schedule),
        _ => operate(chance, node, definitions, (at, ends), schedule),
    }
}

/// What the store hears of a death.
fn death(chance: &mut Rng) -> Presence {
    let all = [Presence::Present, Presence::ConnectionGone, Presence::ConfirmedDead];
    pick(chance, &all).copied().unwrap_or(Presence::Present)
}

fn cut(chance: &mut Rng, node: NodeName) -> Fault {
    let cuts = [Cut::Both, Cut::Both, Cut::ToStore, Cut::FromStore, Cut::Hints];
    let cut = pick(chance, &cuts).copied().unwrap_or_default();
    let noticed = cut != Cut::Hints && percent(chance, 50);
    let presence = if noticed { Presence::ConnectionGone } else { Presence::Present };
    Fault::Cut(node, cut, presence)
}

fn strike_member(
    chance: &mut Rng,
    node: NodeName,
    definitions: &Definitions,
    (at, ends): (u64, u64),
    schedule: &mut Vec<(u64, Fault)>,
) {
    let members: Vec<_> = definitions.members().collect();
    let Some(member) = pick(chance, &members) else { return };
    let (name, driven) = (member.name.clone(), member.is_external());
    let (fault, ended) = match chance.u32(0..20) {
        0..8 => (Fault::Fail(node.clone(), name.clone(), FailureReach::Soft), false),
        8 => (Fault::Fail(node.clone(), name.clone(), FailureReach::Hard), false),
        9 => (Fault::Fail(node.clone(), name.clone(), FailureReach::Fatal), false),
        10..13 => (Fault::Hang(node.clone(), name.clone()), false),
        13..17 => (Fault::Break(node.clone(), name.clone()), true),
        17 | 18 if driven => (Fault::CrashMonitor(node.clone(), name.clone()), false),
        _ if driven => (Fault::Stick(node.clone(), name.clone()), true),
        _ => (Fault::Deafen(node.clone(), name.clone()), true),
    };
    schedule.push((at, fault));
    if ended {
        schedule.push((ends, Fault::Repair(node, name)));
    }
}

fn operate(
    chance: &mut Rng,
    node: NodeName,
    definitions: &Definitions,
    (at, ends): (u64, u64),
    schedule: &mut Vec<(u64, Fault)>,
) {
    let Some(group) = pick(chance, &definitions.groups).map(|group| group.name.clone()) else {
        return;
    };
    match chance.u32(0..12) {
        0..4 => {
            let to = percent(chance, 70).then_some(node);
            schedule.push((at, Fault::Move(group, to)));
        }
        4 | 5 => {
            schedule.push((at, Fault::Want(group.clone(), false)));
            schedule.push((ends, Fault::Want(group, true)));
        }
        6 => schedule.push((at, Fault::Unmonitor(group, Millis(ends - at)))),
        7 | 8 => {
            let duty = if percent(chance, 60) { Duty::Draining } else { Duty::Paused };
            let failbacks =
                [ResumeFailback::None, ResumeFailback::Immediate, ResumeFailback::Policy];
            let failback = pick(chance, &failbacks).copied().unwrap_or_default();
            schedule.push((at, Fault::Relieve(node.clone(), duty)));
            schedule.push((ends, Fault::Resume(node, failback)));
        }
        9 => schedule.push((at, Fault::Evict(node))),
        _ => schedule.push((at, Fault::Apply(Box::new(changed(chance, definitions, node))))),
    }
}

/// Definitions of which a little is different.
fn changed(chance: &mut Rng, definitions: &Definitions, node: NodeName) -> Definitions {
    let mut changed = definitions.clone();
    if let Some(group) = chance.choice(changed.groups.iter_mut()) {
        group.preferred_owners.retain(|other| *other != node);
        group.preferred_owners.insert(0, node);
    }
    if let Some(resource) = chance.choice(changed.resources.iter_mut()) {
        resource.kind = super::draw::process();
    }
    changed
}

impl World {
    /// Lets something happen.
    pub fn inflict(&mut self, fault: &Fault) {
        match fault {
            Fault::Put(_) => {}
            Fault::Apply(_) => self.say("--", "Apply"),
            fault => self.say("--", &format!("{fault:?}")),
        }
        match fault {
            Fault::Crash(node, presence) => self.kill(node, *presence),
            Fault::Start(node) | Fault::Upgrade(node) => self.start(node),
            Fault::Stop(node) => self.stop(node),
            Fault::Freeze(node) => self.freeze(node),
            Fault::Thaw(node) => self.thaw(node),
            Fault::Cut(node, cut, presence) => self.cut(node, *cut, *presence),
            Fault::Mend(node) => self.mend(node),
            Fault::StepClock(node, by) => self.step_clock(node, *by),
            Fault::StoreAway => self.store_away(),
            Fault::StoreBack => self.store_back(),
            Fault::Fail(node, name, reach) => self.fail(node, name, "failed its check", *reach),
            Fault::CrashMonitor(node, name) => self.crash(node, name),
            Fault::Hang(node, name) => self.hang(node, name),
            Fault::Break(node, name) => self.break_resource(node, name, FailureReach::Soft),
            Fault::Stick(node, name) => self.stick(node, name),
            Fault::Deafen(node, name) => self.deafen(node, name),
            Fault::Repair(node, name) => self.repair(node, name),
            Fault::Move(group, to) => self.request_move(group, to.clone(), "ops"),
            Fault::Want(group, online) => self.want_online(group, *online, "ops"),
            Fault::Unmonitor(group, duration) => self.unmonitor(group, *duration, "ops"),
            Fault::Relieve(node, duty) => self.relieve(node, *duty, "ops"),
            Fault::Resume(node, failback) => self.resume(node, *failback, "ops"),
            Fault::Evict(node) => {
                if let Err(why) = self.evict(node) {
                    self.say("--", &format!("  refused: {why}"));
                }
            }
            Fault::Apply(definitions) => self.apply((**definitions).clone()),
            Fault::Put(host) => self.put_item(host),
        }
    }
}
