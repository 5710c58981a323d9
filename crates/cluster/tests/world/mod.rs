//! A cluster in virtual time: agents, a model of the store, child processes, and faults.

#![allow(dead_code)] // Each test binary uses a part of it.

pub mod store;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use cluster::{AcquireOutcome, AcquireRequest, Agent, Effect, Event, Exit, Presence, Timing};
use model::{BootTime, Definitions, Epoch, HostName, LeaseName, Millis, NodeName};

use store::Store;

const STORE_LATENCY: u64 = 2;
const STORE_GIVES_UP: u64 = 1000;
const SPAWN_TAKES: u64 = 200;
const ACTIVATE_TAKES: u64 = 20;
const DEACTIVATE_TAKES: u64 = 50;
const KILL_TAKES: u64 = 5;
const PROGRESS_EVERY: u64 = 500;

pub struct World {
    pub elapsed: u64,
    pub store: Store,
    pub timing: Timing,
    pub machines: BTreeMap<NodeName, Machine>,
    pub log: Vec<String>,
    /// Whether two nodes may never trust themselves with one host at a time. Holds while the store
    /// is never told of a death that did not happen.
    pub strict: bool,
    queue: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
}

pub struct Machine {
    pub agent: Option<Agent>,
    pub frozen: bool,
    pub cut: bool,
    pub procs: BTreeMap<HostName, Proc>,
    pub broken: BTreeSet<HostName>,
    pub deaf: BTreeSet<HostName>,
    life: u64,
    epoch: Epoch,
    boot_offset: u64,
    renew: Vec<(LeaseName, Epoch)>,
    wake: u64,
    generation: u64,
    stashed: Vec<Item>,
}

#[derive(Debug, Clone)]
pub struct Proc {
    generation: u64,
    pub work: Option<Work>,
    pub hung: bool,
}

#[derive(Debug, Clone)]
pub struct Work {
    pub lease: LeaseName,
    pub epoch: Epoch,
    pub trust_until: BootTime,
}

#[derive(Debug, Clone, PartialEq)]
enum Item {
    Deliver(Event),
    Read,
    Call { effect: Effect, sent_at: BootTime },
    Beat,
    Wake(u64),
    Proc { host: HostName, generation: u64, what: Happens },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Happens {
    Up,
    Active(Epoch),
    Inactive(Epoch),
    Progress,
    TrustEnds,
    Reaped,
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
    pub fn new(nodes: &[NodeName], definitions: Definitions, timing: Timing) -> World {
        let machine = |index: usize| Machine {
            agent: None,
            frozen: false,
            cut: false,
            procs: BTreeMap::new(),
            broken: BTreeSet::new(),
            deaf: BTreeSet::new(),
            life: 0,
            epoch: Epoch(0),
            // Machines were booted at different times.
            boot_offset: 1_000_000 * (index as u64 + 1),
            renew: Vec::new(),
            wake: 0,
            generation: 0,
            stashed: Vec::new(),
        };
        World {
            elapsed: 0,
            store: Store::new(definitions, timing.ttl),
            timing,
            machines: nodes.iter().enumerate().map(|(i, n)| (n.clone(), machine(i))).collect(),
            log: Vec::new(),
            strict: true,
            queue: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// Lets time pass up to this moment.
    pub fn run_until(&mut self, until: u64) {
        while self.queue.peek().is_some_and(|Reverse(entry)| entry.at <= until) {
            let Some(Reverse(entry)) = self.queue.pop() else {
                break;
            };
            if entry.at > self.elapsed {
                self.check(entry.at); // All that was due before has happened.
            }
            self.elapsed = entry.at;
            self.store.at(entry.at);
            self.happen(entry);
        }
        if until > self.elapsed {
            self.check(until);
        }
        self.elapsed = until;
        self.store.at(until);
    }

    fn happen(&mut self, entry: Entry) {
        let Some(machine) = self.machines.get_mut(&entry.node) else {
            return;
        };
        if machine.life != entry.life || machine.agent.is_none() {
            return;
        }
        let at_the_store = matches!(entry.item, Item::Call { .. });
        if machine.frozen && !at_the_store {
            machine.stashed.push(entry.item);
            return;
        }
        let node = entry.node;
        match entry.item {
            Item::Deliver(event) => self.deliver(&node, event),
            Item::Wake(token) => {
                if self.machines[&node].wake == token {
                    self.deliver(&node, Event::Tick);
                }
            }
            Item::Read => {
                if self.reaches(&node) {
                    let event = Event::Snapshot(self.store.snapshot());
                    self.after(&node, STORE_LATENCY, Item::Deliver(event));
                }
            }
            Item::Beat => self.beat(&node),
            Item::Call { effect, sent_at } => self.call(&node, effect, sent_at),
            Item::Proc { host, generation, what } => self.proc(&node, &host, generation, what),
        }
    }

    fn boot(&self, node: &NodeName) -> BootTime {
        BootTime(self.elapsed + self.machines[node].boot_offset)
    }

    fn reaches(&self, node: &NodeName) -> bool {
        !self.store.away && !self.machines[node].cut
    }

    fn after(&mut self, node: &NodeName, delay: u64, item: Item) {
        self.sequence += 1;
        let entry = Entry {
            at: self.elapsed + delay,
            sequence: self.sequence,
            life: self.machines[node].life,
            node: node.clone(),
            item,
        };
        self.queue.push(Reverse(entry));
    }

    fn deliver(&mut self, node: &NodeName, event: Event) {
        let now = self.boot(node);
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        let Some(agent) = machine.agent.as_mut() else {
            return;
        };
        let effects = agent.handle(event, now);
        for effect in effects {
            self.perform(node, effect);
        }
    }

    pub fn say(&mut self, who: &str, what: &str) {
        let (seconds, millis) = (self.elapsed / 1000, self.elapsed % 1000);
        self.log.push(format!("{seconds:>5}.{millis:03}  {who:<2} {what}"));
    }

    fn perform(&mut self, node: &NodeName, effect: Effect) {
        if let Some(line) = line(&effect) {
            self.say(node.as_str(), &line);
        }
        let now = self.boot(node);
        let machine = self.machine(node);
        match effect {
            Effect::ReadSnapshot => self.after(node, STORE_LATENCY, Item::Read),
            Effect::Acquire(_)
            | Effect::Release { .. }
            | Effect::Bury { .. }
            | Effect::DropMove(_) => {
                let call = Item::Call { effect, sent_at: now };
                self.after(node, STORE_LATENCY, call);
            }
            Effect::Renew(leases) => machine.renew = leases,
            Effect::Spawn(host) => self.spawn(node, host),
            Effect::Activate { host, lease, epoch, trust_until } => {
                assert!(trust_until > now, "{node} activated {host} without trust");
                let work = Work { lease, epoch, trust_until };
                self.activate(node, &host, work);
            }
            Effect::Trust { host, trust_until } => {
                let proc = machine.procs.get_mut(&host).expect("a process to trust");
                if let Some(work) = &mut proc.work {
                    work.trust_until = trust_until;
                }
                self.watch_trust(node, &host, trust_until);
            }
            Effect::Deactivate { host, within: _ } => self.deactivate(node, &host),
            Effect::Kill(host) => {
                if let Some(proc) = machine.procs.get_mut(&host) {
                    // The signal is sent: whatever it still does, the node trusts it no more.
                    proc.work = None;
                    self.later(node, &host, KILL_TAKES, Happens::Reaped);
                }
            }
            Effect::WakeAt(at) => {
                machine.wake += 1;
                let token = machine.wake;
                self.after(node, at.since(now).0, Item::Wake(token));
            }
            Effect::Say(_) => {}
            Effect::Exit => self.leave(node),
        }
    }

    fn spawn(&mut self, node: &NodeName, host: HostName) {
        let machine = self.machine(node);
        machine.generation += 1;
        let generation = machine.generation;
        let proc = Proc { generation, work: None, hung: false };
        let before = machine.procs.insert(host.clone(), proc);
        assert!(before.is_none(), "{node} spawned {host} twice");
        self.later(node, &host, SPAWN_TAKES, Happens::Up);
    }

    fn activate(&mut self, node: &NodeName, host: &HostName, work: Work) {
        let (epoch, trust_until) = (work.epoch, work.trust_until);
        let proc = self.machine(node).procs.get_mut(host);
        proc.expect("a process to activate").work = Some(work);
        self.later(node, host, ACTIVATE_TAKES, Happens::Active(epoch));
        self.watch_trust(node, host, trust_until);
    }

    fn deactivate(&mut self, node: &NodeName, host: &HostName) {
        let machine = self.machine(node);
        let deaf = machine.deaf.contains(host);
        let proc = machine.procs.get(host).expect("a process to deactivate");
        let epoch = proc.work.as_ref().map(|work| work.epoch);
        if let Some(epoch) = epoch.filter(|_| !deaf && !proc.hung) {
            self.later(node, host, DEACTIVATE_TAKES, Happens::Inactive(epoch));
        }
    }

    fn leave(&mut self, node: &NodeName) {
        let machine = self.machine(node);
        machine.agent = None;
        machine.procs.clear();
        if self.reaches(node) {
            self.set_presence(node, Presence::Left);
        }
    }

    /// Something that the present process of a host will do.
    fn later(&mut self, node: &NodeName, host: &HostName, delay: u64, what: Happens) {
        let generation = self.machines[node].procs[host].generation;
        let host = host.clone();
        self.after(node, delay, Item::Proc { host, generation, what });
    }

    fn watch_trust(&mut self, node: &NodeName, host: &HostName, trust_until: BootTime) {
        let delay = trust_until.since(self.boot(node)).0 + 1;
        self.later(node, host, delay, Happens::TrustEnds);
    }

    /// The machine of this name.
    pub fn machine(&mut self, node: &NodeName) -> &mut Machine {
        self.machines.get_mut(node).expect("a node of this world")
    }

    /// The wake-up hint after each change in the store.
    pub fn hint(&mut self) {
        let nodes: Vec<NodeName> = self.machines.keys().cloned().collect();
        for node in nodes {
            if self.machines[&node].agent.is_some() && self.reaches(&node) {
                self.after(&node, STORE_LATENCY, Item::Read);
            }
        }
    }

    fn beat(&mut self, node: &NodeName) {
        self.after(node, self.timing.renew_every().0, Item::Beat);
        if !self.reaches(node) {
            return;
        }
        let sent_at = self.boot(node);
        let (epoch, leases) = (self.machines[node].epoch, self.machines[node].renew.clone());
        let (renewed, lost) = self.store.renew(node, epoch, &leases);
        let event = Event::Renewed { sent_at, renewed, lost };
        self.after(node, STORE_LATENCY, Item::Deliver(event));
    }

    fn call(&mut self, node: &NodeName, effect: Effect, sent_at: BootTime) {
        let reached = self.reaches(node);
        let event = match effect {
            Effect::Acquire(request) if reached => Some(self.acquire(node, &request, sent_at)),
            Effect::Acquire(request) => {
                let outcome = AcquireOutcome::Unknown("the store does not answer".to_owned());
                let event = Event::Acquired { lease: request.lease, sent_at, outcome };
                self.after(node, STORE_GIVES_UP, Item::Deliver(event));
                None
            }
            Effect::Release { lease, epoch, cause, reason, offered_to } if reached => {
                let ok = self.store.release(node, &lease, epoch, cause, &reason, offered_to);
                Some(Event::Released { lease, epoch, ok })
            }
            Effect::Release { lease, epoch, .. } => {
                let event = Event::Released { lease, epoch, ok: false };
                self.after(node, STORE_GIVES_UP, Item::Deliver(event));
                None
            }
            Effect::Bury { lease, seen_epoch, reason } if reached => {
                self.store.bury(&lease, seen_epoch, &reason);
                None
            }
            Effect::DropMove(group) if reached => {
                self.store.moves.remove(&group);
                None
            }
            _ => None,
        };
        if let Some(event) = event {
            self.after(node, STORE_LATENCY, Item::Deliver(event));
        }
        if reached {
            self.hint();
        }
    }

    fn acquire(&mut self, node: &NodeName, request: &AcquireRequest, sent_at: BootTime) -> Event {
        let outcome = self.store.acquire(node, request);
        Event::Acquired { lease: request.lease.clone(), sent_at, outcome }
    }

    fn proc(&mut self, node: &NodeName, host: &HostName, generation: u64, what: Happens) {
        let now = self.boot(node);
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        let broken = machine.broken.contains(host);
        let Some(proc) = machine.procs.get_mut(host) else {
            return;
        };
        if proc.generation != generation {
            return;
        }
        match what {
            Happens::Up if broken => {
                self.exit(node, host, Exit::Failed("exit code 3".to_owned()));
            }
            Happens::Up => self.deliver(node, Event::InstanceReady(host.clone())),
            Happens::Active(epoch) => {
                if proc.work.as_ref().is_some_and(|work| work.epoch == epoch) && !proc.hung {
                    self.deliver(node, Event::InstanceActive(host.clone(), epoch));
                    let (host, what) = (host.clone(), Happens::Progress);
                    self.after(node, PROGRESS_EVERY, Item::Proc { host, generation, what });
                }
            }
            Happens::Inactive(epoch) => {
                if proc.work.as_ref().is_some_and(|work| work.epoch == epoch) {
                    proc.work = None;
                    self.deliver(node, Event::InstanceInactive(host.clone(), epoch));
                }
            }
            Happens::Progress => {
                if proc.work.is_some() && !proc.hung {
                    self.deliver(node, Event::Progress(host.clone()));
                    let (host, what) = (host.clone(), Happens::Progress);
                    self.after(node, PROGRESS_EVERY, Item::Proc { host, generation, what });
                }
            }
            Happens::TrustEnds => {
                if proc.work.as_ref().is_some_and(|work| work.trust_until < now) {
                    self.exit(node, host, Exit::TrustEnded);
                }
            }
            Happens::Reaped => self.exit(node, host, Exit::Expected),
        }
    }

    pub fn exit(&mut self, node: &NodeName, host: &HostName, exit: Exit) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        if machine.procs.remove(host).is_some() {
            self.deliver(node, Event::InstanceExited(host.clone(), exit));
        }
    }

    /// What must hold between any two events.
    fn check(&self, at: u64) {
        let mut trusted: BTreeMap<&HostName, &NodeName> = BTreeMap::new();
        for (node, machine) in &self.machines {
            let now = BootTime(at + machine.boot_offset);
            for (host, proc) in &machine.procs {
                let Some(work) = &proc.work else { continue };
                assert!(
                    machine.frozen || work.trust_until >= now,
                    "{node} leaves {host} at work without trust at {at} ms"
                );
                if !matches!(work.lease, LeaseName::Group(_)) || work.trust_until <= now {
                    continue;
                }
                let other = trusted.insert(host, node);
                assert!(
                    !self.strict || other.is_none(),
                    "{node} and {other:?} both trust themselves with {host} at {at} ms"
                );
            }
        }
    }
}

/// The verbs of an operator, or of fate.
impl World {
    pub fn start(&mut self, node: &NodeName) {
        let (timing, now) = (self.timing, self.boot(node));
        let epoch = self.store.join(node);
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        if machine.agent.is_some() {
            return;
        }
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
        self.after(node, self.timing.renew_every().0, Item::Beat);
        self.hint();
    }

    pub fn kill(&mut self, node: &NodeName, presence: Presence) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        machine.agent = None;
        machine.procs.clear();
        self.set_presence(node, presence);
    }

    pub fn set_presence(&mut self, node: &NodeName, presence: Presence) {
        if let Some(view) = self.store.nodes.get_mut(node)
            && view.presence != presence
        {
            view.presence = presence;
            self.hint();
        }
    }

    pub fn freeze(&mut self, node: &NodeName) {
        if let Some(machine) = self.machines.get_mut(node) {
            machine.frozen = true;
        }
    }

    pub fn thaw(&mut self, node: &NodeName) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        machine.frozen = false;
        // What a thawed process does first is up to the scheduler; here: its clocks, then the rest.
        let mut stashed = std::mem::take(&mut machine.stashed);
        stashed.sort_by_key(|item| !matches!(item, Item::Wake(_)));
        for item in stashed {
            self.after(node, 0, item);
        }
    }

    pub fn stop(&mut self, node: &NodeName) {
        self.after(node, 0, Item::Deliver(Event::Stop));
    }

    pub fn hang(&mut self, node: &NodeName, host: &HostName) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        if let Some(proc) = machine.procs.get_mut(host)
            && proc.work.is_some()
        {
            proc.hung = true;
        }
    }

    pub fn millis(&self, duration: Millis) -> u64 {
        self.elapsed + duration.0
    }
}

/// An effect as an operator reads it; what only keeps things going is left out.
fn line(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::ReadSnapshot | Effect::Renew(_) | Effect::Trust { .. } | Effect::WakeAt(_) => {
            return None;
        }
        Effect::Acquire(AcquireRequest { lease, seen_epoch, cause, reason: _ }) => {
            format!("acquire {lease} after epoch {seen_epoch}, cause {cause}")
        }
        Effect::Release { lease, epoch, cause, offered_to, reason: _ } => {
            let to = offered_to.as_ref().map_or("nobody", NodeName::as_str);
            format!("release {lease} epoch {epoch}, cause {cause}, offered to {to}")
        }
        Effect::Bury { lease, seen_epoch, reason: _ } => format!("bury {lease} epoch {seen_epoch}"),
        Effect::DropMove(group) => format!("drop the request to move {group}"),
        Effect::Spawn(host) => format!("spawn {host}"),
        Effect::Activate { host, lease, epoch, .. } => {
            format!("activate {host} under {lease} epoch {epoch}")
        }
        Effect::Deactivate { host, within } => format!("deactivate {host} within {within}"),
        Effect::Kill(host) => format!("kill {host}"),
        Effect::Say(reason) => format!("  {}: {}", reason.subject, reason.sentence),
        Effect::Exit => "exit".to_owned(),
    })
}
