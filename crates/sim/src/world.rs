//! A cluster in simulated time: one queue of what is due, and what each of it brings about.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use cluster::{AcquireOutcome, AcquireRequest, Agent, Effect, Event, Presence, Snapshot, Timing};
use model::{BootTime, Definitions, Epoch, LeaseName, Millis, NodeName, ResourceName};

use crate::check::{Violation, Witness};
use crate::line::{Line, line};
use crate::machine::Machine;
use crate::process::Happens;
use crate::store::{Store, Vacating};
use crate::weather::{Luck, Weather};
use crate::worker::{Ask, Errand, Fence, Traffic};
use crate::{Mutant, Rule};

/// One way between a node and the store.
pub(crate) const STORE_LATENCY: u64 = 2;
/// How long a node waits for an answer of the store.
pub(crate) const STORE_GIVES_UP: u64 = 1000;
/// How often it is looked whether something works beyond its trust.
const CHECK_EVERY: u64 = 20;
/// How long a node that cannot join waits before it tries again.
const JOIN_AGAIN: u64 = 1000;
/// How long a world made of a snapshot is left alone until each agent has taken up what it holds.
const SETTLES_WITHIN: u64 = 10_000;

/// A cluster in simulated time.
pub struct World {
    /// Milliseconds since the begin.
    pub elapsed: u64,
    /// The store.
    pub store: Store,
    /// The timing of all nodes.
    pub timing: Timing,
    /// The machines.
    pub machines: BTreeMap<NodeName, Machine>,
    /// What happened.
    pub log: Vec<Line>,
    /// What may never happen and did.
    pub violations: Vec<Violation>,
    /// How well the store is reached.
    pub weather: Weather,
    /// Whether reports of resources stand in the log.
    pub log_reports: bool,
    /// Partners that send and receive, if there are any.
    pub traffic: Option<Traffic>,
    /// How the protocol is broken, if it is.
    pub(crate) mutant: Option<Mutant>,
    pub(crate) chance: Option<fastrand::Rng>,
    pub(crate) witness: Witness,
    /// Something was trusted since the last check.
    pub(crate) unchecked: bool,
    checked_at: u64,
    /// Times in the log count from here.
    zero: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
}

/// Something that will happen to a machine.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// To its agent.
    Deliver(Box<Event>),
    /// The store is read.
    Read,
    /// A request of the agent arrives at the store.
    Call { effect: Box<Effect>, sent_at: BootTime, epoch: Epoch },
    /// A request that was looked at before is written now (only of [`Mutant::NoCompareAndSet`]).
    Grant { request: Box<AcquireRequest>, sent_at: BootTime },
    /// Leases are to be renewed.
    Beat,
    /// A renewal arrives at the store.
    Renewal { sent_at: BootTime, epoch: Epoch, leases: Vec<(LeaseName, Epoch)> },
    /// A wake-up that the agent asked for.
    Wake(u64),
    /// The node tries to join.
    Join,
    /// To a child process.
    Proc { name: ResourceName, generation: u64, what: Happens },
    /// A request of a host arrives at the store.
    Ask { name: ResourceName, generation: u64, fence: Fence, ask: Ask, checked: bool },
    /// A request of a host arrives at a partner.
    Serve { name: ResourceName, generation: u64, fence: Fence, errand: Errand },
}

impl Item {
    /// Whether it happens elsewhere than on the machine, which may be dead or frozen by then.
    fn is_elsewhere(&self) -> bool {
        match self {
            Item::Call { .. }
            | Item::Grant { .. }
            | Item::Renewal { .. }
            | Item::Ask { .. }
            | Item::Serve { .. } => true,
            Item::Deliver(_)
            | Item::Read
            | Item::Beat
            | Item::Wake(_)
            | Item::Join
            | Item::Proc { .. } => false,
        }
    }
}

struct Entry {
    at: u64,
    sequence: u64,
    node: NodeName,
    life: u64,
    item: Item,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl World {
    /// A cluster of machines on which no node was started yet.
    pub fn new(nodes: &[NodeName], definitions: Definitions, timing: Timing) -> World {
        World::with(nodes, Store::new(definitions, timing.ttl), timing)
    }

    /// The cluster that a snapshot shows. Every node that is alive there has an agent that starts
    /// anew and takes up again what it holds, under new epochs; then the log begins, with a line
    /// that says so. What was reported as failed fails there until it is repaired.
    pub fn from_snapshot(snapshot: &Snapshot, timing: Timing) -> World {
        let nodes: Vec<NodeName> = snapshot.nodes.iter().map(|node| node.name.clone()).collect();
        let mut world = World::with(&nodes, Store::of(snapshot, timing.ttl), timing);
        for report in &snapshot.reports {
            if report.state == model::ResourceState::Failed
                && let Some(machine) = world.machines.get_mut(&report.node)
            {
                machine.broken.insert(report.resource.clone(), model::FailureReach::Soft);
            }
        }
        for node in snapshot.nodes.iter().filter(|node| snapshot.is_alive(&node.name)) {
            world.begin_life(&node.name, node.epoch);
        }
        world.run_until(Millis(SETTLES_WITHIN));
        world.zero = world.elapsed;
        world.log.clear();
        world.say("--", "settled: each node has taken up what it holds, under a new epoch");
        world
    }

    fn with(nodes: &[NodeName], store: Store, timing: Timing) -> World {
        let places = nodes.iter().enumerate();
        World {
            elapsed: 0,
            store,
            timing,
            machines: places.map(|(at, node)| (node.clone(), Machine::at_place(at))).collect(),
            log: Vec::new(),
            violations: Vec::new(),
            weather: Weather::default(),
            log_reports: false,
            traffic: None,
            mutant: None,
            chance: None,
            witness: Witness::default(),
            unchecked: false,
            checked_at: 0,
            zero: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// Whatever is left to chance is drawn from this generator.
    pub fn leave_to_chance(&mut self, chance: fastrand::Rng) {
        self.chance = Some(chance);
    }

    /// Breaks the protocol, to see whether the checkers find it.
    pub fn break_protocol(&mut self, mutant: Mutant) {
        self.mutant = Some(mutant);
        self.store.mutant = Some(mutant);
    }

    /// Lets time pass up to this moment after the begin.
    pub fn run_until(&mut self, until: Millis) {
        let until = self.zero.saturating_add(until.0);
        while self.queue.peek().is_some_and(|Reverse(entry)| entry.at <= until) {
            let Some(Reverse(entry)) = self.queue.pop() else {
                break;
            };
            if entry.at > self.elapsed {
                self.check_if_due(entry.at); // All that was due before has happened.
            }
            self.elapsed = entry.at;
            self.store.at(entry.at);
            self.happen(entry);
        }
        if until > self.elapsed {
            self.check_if_due(until);
        }
        self.elapsed = self.elapsed.max(until);
        self.store.at(self.elapsed);
    }

    /// How much time has passed since the log begins.
    pub fn now(&self) -> Millis {
        Millis(self.elapsed - self.zero)
    }

    /// Adds a line to the log.
    pub fn say(&mut self, who: &str, what: &str) {
        self.log.push(Line { at: self.now(), who: who.to_owned(), what: what.to_owned() });
    }

    /// Two can begin to trust themselves only when one of them is told to; that nothing works
    /// beyond its trust is looked at every so often.
    fn check_if_due(&mut self, at: u64) {
        if self.unchecked || at >= self.checked_at + CHECK_EVERY {
            self.unchecked = false;
            self.checked_at = at;
            self.check(at);
        }
    }

    fn happen(&mut self, entry: Entry) {
        let Entry { node, life, item, .. } = entry;
        let Some(machine) = self.machines.get_mut(&node) else {
            return;
        };
        let lives = machine.life == life && (machine.agent.is_some() || machine.joining);
        if !item.is_elsewhere() {
            if !lives {
                return;
            }
            if machine.frozen {
                machine.stashed.push(item);
                return;
            }
        }
        match item {
            Item::Deliver(event) => self.deliver(&node, *event),
            Item::Wake(token) => {
                if machine.wake == token {
                    self.deliver(&node, Event::Tick);
                }
            }
            Item::Read => self.read(&node),
            Item::Beat => self.beat(&node),
            Item::Renewal { sent_at, epoch, leases } => self.renew(&node, sent_at, epoch, &leases),
            Item::Call { effect, sent_at, epoch } => self.call(&node, *effect, sent_at, epoch),
            Item::Grant { request, sent_at } => self.grant_blindly(&node, &request, sent_at),
            Item::Join => {
                machine.joining = false;
                self.start(&node);
            }
            Item::Proc { name, generation, what } => self.proc(&node, &name, generation, what),
            Item::Ask { name, generation, fence, ask, checked } => {
                self.asked(&node, (&name, generation), fence, ask, checked);
            }
            Item::Serve { name, generation, fence, errand } => {
                self.served(&node, (&name, generation), fence, errand);
            }
        }
    }

    /// What a machine measures its trust by.
    pub(crate) fn clock_of(&self, machine: &Machine, elapsed: u64) -> BootTime {
        let boot = machine.boot(elapsed);
        match self.mutant {
            Some(Mutant::WallClock) => BootTime(boot.0.saturating_add_signed(machine.wall_offset)),
            _ => boot,
        }
    }

    pub(crate) fn clock(&self, node: &NodeName) -> BootTime {
        let machine = self.machines.get(node);
        machine.map_or(BootTime(0), |machine| self.clock_of(machine, self.elapsed))
    }

    /// What the clock of a node will show after so long.
    fn clock_at(&self, node: &NodeName, delay: u64) -> BootTime {
        let machine = self.machines.get(node);
        machine.map_or(BootTime(u64::MAX), |machine| self.clock_of(machine, self.elapsed + delay))
    }

    /// Whether a request of a node arrives at the store.
    pub(crate) fn reaches(&self, node: &NodeName) -> bool {
        !self.store.away && self.machines.get(node).is_some_and(Machine::sends)
    }

    /// Whether an answer of the store arrives at a node.
    pub(crate) fn hears(&self, node: &NodeName) -> bool {
        !self.store.away && self.machines.get(node).is_some_and(Machine::hears)
    }

    pub(crate) fn after(&mut self, node: &NodeName, delay: u64, item: Item) {
        self.sequence += 1;
        let entry = Entry {
            at: self.elapsed.saturating_add(delay),
            sequence: self.sequence,
            life: self.machines.get(node).map_or(0, |machine| machine.life),
            node: node.clone(),
            item,
        };
        self.queue.push(Reverse(entry));
    }

    /// After so long by the node's own clock.
    pub(crate) fn after_own(&mut self, node: &NodeName, delay: u64, item: Item) {
        let delay = self.machines.get(node).map_or(delay, |machine| machine.truly(delay));
        self.after(node, delay, item);
    }

    /// How long one way takes that takes so long in calm weather.
    pub(crate) fn travel(&mut self, base: u64) -> u64 {
        let Weather { jitter, slow, slow_max, .. } = self.weather;
        let Some(chance) = &mut self.chance else {
            return base;
        };
        let mut delay = base;
        if jitter > 0 {
            delay += chance.u64(0..=jitter);
        }
        if slow > 0 && chance.u32(0..1000) < slow {
            delay += chance.u64(0..=slow_max);
        }
        delay
    }

    /// What becomes of a call of this node that arrives at the store now.
    pub(crate) fn luck(&mut self, node: &NodeName) -> Luck {
        let lost = self.weather.lost;
        let chance = self.chance.as_mut().filter(|_| lost > 0);
        let unlucky = chance.and_then(|chance| (chance.u32(0..1000) < lost).then(|| chance.bool()));
        if !self.reaches(node) || unlucky == Some(true) {
            Luck::RequestLost
        } else if !self.hears(node) || unlucky == Some(false) {
            Luck::AnswerLost
        } else {
            Luck::Fine
        }
    }

    fn deliver(&mut self, node: &NodeName, mut event: Event) {
        let now = self.clock(node);
        if self.mutant == Some(Mutant::RenewFromAnswer)
            && let Event::Renewed { sent_at, .. } | Event::Acquired { sent_at, .. } = &mut event
        {
            *sent_at = now;
        }
        let Some(agent) = self.machines.get_mut(node).and_then(|machine| machine.agent.as_mut())
        else {
            return;
        };
        for effect in agent.handle(event, now) {
            self.perform(node, effect);
        }
    }

    pub(crate) fn tell(&mut self, node: &NodeName, event: Event) {
        self.deliver(node, event);
    }

    fn perform(&mut self, node: &NodeName, effect: Effect) {
        let silent = matches!(effect, Effect::Report(_)) && !self.log_reports;
        if let Some(line) = line(&effect).filter(|_| !silent) {
            self.say(node.as_str(), &line);
        }
        let now = self.clock(node);
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        match effect {
            Effect::ReadSnapshot => {
                let delay = self.travel(STORE_LATENCY);
                self.after(node, delay, Item::Read);
            }
            Effect::Acquire(_)
            | Effect::Release { .. }
            | Effect::Bury { .. }
            | Effect::Report(_)
            | Effect::DropMove { .. } => {
                let (effect, sent_at, epoch) = (Box::new(effect), now, machine.epoch);
                let delay = self.travel(STORE_LATENCY);
                self.after(node, delay, Item::Call { effect, sent_at, epoch });
            }
            Effect::Renew(leases) => machine.renew = leases,
            Effect::Spawn { resource, spec } => self.spawn(node, resource, spec.is_some()),
            Effect::Activate { resource, lease, epoch, trust_until } => {
                self.activate(node, &resource, crate::Work { lease, epoch, trust_until });
            }
            Effect::Trust { resource, trust_until } => self.trust(node, &resource, trust_until),
            Effect::Deactivate { resource, within: _ } => self.deactivate(node, &resource),
            Effect::Kill(resource) => self.kill_proc(node, &resource),
            Effect::WakeAt(at) => {
                machine.wake += 1;
                let token = machine.wake;
                let mut delay = machine.truly(at.since(now).0);
                // Rounded up until its clock has come there.
                while self.clock_at(node, delay) < at {
                    delay += 1;
                }
                self.after(node, delay, Item::Wake(token));
            }
            Effect::Say(_) => {}
            Effect::Exit => self.leave(node),
        }
    }

    fn read(&mut self, node: &NodeName) {
        if self.luck(node) != Luck::Fine {
            return;
        }
        let mut snapshot = self.store.snapshot();
        self.distort(node, &mut snapshot);
        let delay = self.travel(STORE_LATENCY);
        self.after(node, delay, Item::Deliver(Box::new(Event::Snapshot(snapshot))));
    }

    /// What a broken protocol lets a node see.
    fn distort(&self, node: &NodeName, snapshot: &mut Snapshot) {
        match self.mutant {
            Some(Mutant::ExpiryByNodeClock) => {
                let offset = self.machines.get(node).map_or(0, |machine| machine.wall_offset);
                snapshot.now = model::Timestamp(snapshot.now.0.saturating_add(offset));
            }
            Some(Mutant::NoEvidence) => {
                for view in &mut snapshot.leases {
                    let early = self.store.impatient(view.expires_at);
                    view.expires_at =
                        if view.holder.as_ref() == Some(node) { view.expires_at } else { early };
                }
            }
            Some(Mutant::ExternalOnConnectionGone) => {
                for view in &mut snapshot.nodes {
                    if view.presence == Presence::ConnectionGone {
                        view.presence = Presence::ConfirmedDead;
                    }
                }
            }
            _ => {}
        }
    }

    fn beat(&mut self, node: &NodeName) {
        self.after_own(node, self.timing.renew_every().0, Item::Beat);
        let sent_at = self.clock(node);
        let Some(machine) = self.machines.get(node) else { return };
        let (epoch, leases) = (machine.epoch, machine.renew.clone());
        let delay = self.travel(0);
        if delay == 0 {
            self.renew(node, sent_at, epoch, &leases);
        } else {
            self.after(node, delay, Item::Renewal { sent_at, epoch, leases });
        }
    }

    fn renew(
        &mut self,
        node: &NodeName,
        sent_at: BootTime,
        epoch: Epoch,
        leases: &[(LeaseName, Epoch)],
    ) {
        let luck = self.luck(node);
        if luck == Luck::RequestLost {
            return;
        }
        let (renewed, lost) = self.store.renew(node, epoch, leases);
        if luck == Luck::Fine {
            let delay = self.travel(STORE_LATENCY);
            let event = Box::new(Event::Renewed { sent_at, renewed, lost });
            self.after(node, delay, Item::Deliver(event));
        }
    }

    /// A request of an agent arrives at the store, or does not.
    fn call(&mut self, node: &NodeName, effect: Effect, sent_at: BootTime, life: Epoch) {
        let luck = self.luck(node);
        let reached = luck != Luck::RequestLost;
        let event = match effect {
            Effect::Acquire(request) => self.acquire(node, request, sent_at, luck, life),
            Effect::Release { lease, epoch, cause, reason, offered_to, resource } => {
                let vacating = Vacating { cause, reason: &reason, offered_to, resource };
                let ok = reached && self.store.release(node, &lease, epoch, vacating);
                let ok = ok && luck == Luck::Fine;
                Some(Event::Released { lease, epoch, ok })
            }
            Effect::Bury { lease, seen_epoch, reason } if reached => {
                self.store.bury(&lease, seen_epoch, &reason);
                None
            }
            Effect::DropMove { group, .. } if reached => {
                self.store.moves.remove(&group);
                None
            }
            Effect::Report(reports) => {
                if reached {
                    self.store.report(&reports);
                }
                let names = reports.into_iter().map(|report| report.resource).collect();
                (luck != Luck::Fine).then_some(Event::ReportLost(names))
            }
            _ => None,
        };
        if let Some(event) = event {
            let delay =
                if luck == Luck::Fine { self.travel(STORE_LATENCY) } else { STORE_GIVES_UP };
            self.after(node, delay, Item::Deliver(Box::new(event)));
        }
        if reached {
            self.hint();
        }
    }

    fn acquire(
        &mut self,
        node: &NodeName,
        request: AcquireRequest,
        sent_at: BootTime,
        luck: Luck,
        life: Epoch,
    ) -> Option<Event> {
        let lease = request.lease.clone();
        let unknown = AcquireOutcome::Unknown("the store does not answer".to_owned());
        // An acquire shows the lease of the node itself; another process may be it by now.
        let current = self.store.nodes.get(node).is_none_or(|view| view.epoch == life);
        if luck == Luck::RequestLost || !current {
            return Some(Event::Acquired { lease, sent_at, outcome: unknown });
        }
        if self.mutant == Some(Mutant::NoCompareAndSet) && self.looks_free(node, &request) {
            let delay = self.travel(STORE_LATENCY);
            let request = Box::new(request);
            self.after(node, delay, Item::Grant { request, sent_at });
            return None;
        }
        let before = self.store.now;
        if self.mutant == Some(Mutant::ExpiryByNodeClock) {
            let offset = self.machines.get(node).map_or(0, |machine| machine.wall_offset);
            self.store.now = model::Timestamp(before.0.saturating_add(offset));
        }
        let mut outcome = self.store.acquire(node, &request);
        self.store.now = before;
        if let AcquireOutcome::Granted(epoch, evidence) = outcome {
            self.witness_grant(node, &lease, (epoch, evidence));
        }
        if luck == Luck::AnswerLost {
            outcome = unknown;
        }
        Some(Event::Acquired { lease, sent_at, outcome })
    }

    fn looks_free(&self, node: &NodeName, request: &AcquireRequest) -> bool {
        let row = self.store.leases.get(&request.lease);
        row.is_none_or(|row| row.epoch == request.seen_epoch && row.holder.as_ref() != Some(node))
            && matches!(self.store.clone().acquire(node, request), AcquireOutcome::Granted(..))
    }

    /// The row is written as it was when it was looked at.
    fn grant_blindly(&mut self, node: &NodeName, request: &AcquireRequest, sent_at: BootTime) {
        let before = self.store.leases.get(&request.lease).and_then(|row| row.holder.clone());
        let epoch = Epoch(request.seen_epoch.0 + 1);
        let evidence = model::Evidence::Vacated;
        self.store.grant(node, request, epoch, before, evidence);
        self.witness_grant(node, &request.lease, (epoch, evidence));
        let outcome = AcquireOutcome::Granted(epoch, evidence);
        let event = Event::Acquired { lease: request.lease.clone(), sent_at, outcome };
        self.after(node, STORE_LATENCY, Item::Deliver(Box::new(event)));
        self.hint();
    }

    /// The wake-up hint after each change in the store.
    pub(crate) fn hint(&mut self) {
        let nodes: Vec<NodeName> = self.machines.keys().cloned().collect();
        for node in nodes {
            let Some(machine) = self.machines.get(&node) else { continue };
            let up = machine.agent.is_some() && machine.cut == crate::Cut::None;
            if !up || self.store.away {
                continue;
            }
            let lost = self.weather.hints_lost;
            let unlucky = match &mut self.chance {
                Some(chance) => lost > 0 && chance.u32(0..1000) < lost,
                None => false,
            };
            if !unlucky {
                let delay = self.travel(STORE_LATENCY);
                self.after(&node, delay, Item::Read);
            }
        }
    }

    /// Starts the node of a machine; while the store is not reached, it tries again and again.
    pub fn start(&mut self, node: &NodeName) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        if machine.agent.is_some() || machine.joining {
            return;
        }
        if !self.reaches(node) || !self.hears(node) {
            if let Some(machine) = self.machines.get_mut(node) {
                machine.joining = true;
            }
            return self.after(node, JOIN_AGAIN, Item::Join);
        }
        let epoch = self.store.join(node);
        self.begin_life(node, epoch);
    }

    fn begin_life(&mut self, node: &NodeName, epoch: Epoch) {
        let mut timing = self.timing;
        if self.mutant == Some(Mutant::NoMargin) {
            timing.margin = Millis(0);
        }
        let (now, elapsed) = (self.clock(node), self.elapsed);
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        machine.disturbed_at = elapsed;
        machine.life += 1;
        machine.epoch = epoch;
        machine.frozen = false;
        machine.stashed.clear();
        machine.procs.clear();
        machine.renew.clear();
        let mut agent = Agent::new(node.clone(), epoch, timing);
        let effects = agent.handle(Event::Tick, now);
        machine.agent = Some(agent);
        for effect in effects {
            self.perform(node, effect);
        }
        self.after_own(node, self.timing.renew_every().0, Item::Beat);
        self.hint();
    }

    /// The node's process ends in good order.
    fn leave(&mut self, node: &NodeName) {
        let elapsed = self.elapsed;
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        machine.agent = None;
        machine.procs.clear();
        machine.disturbed_at = elapsed;
        if self.reaches(node) {
            self.set_presence(node, Presence::Left);
        }
    }

    /// An agent did what no machine can do.
    pub(crate) fn impossible(&mut self, node: &NodeName, what: &str) {
        self.violated(Rule::Agent, format!("{node} {what}"));
    }
}
