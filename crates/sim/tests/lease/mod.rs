//! Lease, takeover, publish and receipt as a state machine: the protocol's argument, small enough
//! to be walked through completely.
//!
//! Time is what is left: a lease counts down the ticks until the store thinks it expired, an owner
//! the ticks until it stops to trust itself, an answer the ticks it will still be worth. No clock
//! is compared with another one, so a state in which everything ran out is the same state whenever
//! it is reached, and the model is finite without a bound on time.
//!
//! What is in flight between a node and the store (a commit, the closing of a receipt) stays in
//! flight whatever becomes of the node, and arrives at any later moment or never.

mod settle;

use messaging::{Identity, Known, ReceiptState, Step};
use stateright::{Model, Property};

/// Two nodes are enough for one to be deposed by the other.
const NODES: usize = 2;
/// Ticks until a lease expires that is not renewed.
const TTL: u8 = 2;
/// So many ticks earlier its owner stops to trust it.
const MARGIN: u8 = 1;

/// A way in which the protocol could be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The fence is read before the transaction that writes, without a lock on it.
    PlainCheck,
    /// A released lease begins to count its epochs anew.
    EpochResetOnRelease,
    /// A receipt is closed without showing a fence.
    UnfencedCleanup,
    /// The lease is released although the worker has not returned.
    ReleaseBeforeReturn,
    /// Trust counts from the answer to a renewal instead of from before it was sent.
    RenewFromAnswer,
    /// The source is removed first, and its message committed then.
    RemoveBeforeCommit,
    /// An owner does not look at its deadline before it touches the source.
    NoDeadline,
    /// A group with external effects is taken over as soon as its owner's connection is gone.
    ExternalOnConnectionGone,
}

/// The model with its bounds.
#[derive(Debug, Clone)]
pub struct Lease<const GROUPS: usize> {
    /// Of each group, whether it is external: its fence does not hold its effects back.
    pub external: [bool; GROUPS],
    /// Most epochs of one lease.
    pub epochs_max: u8,
    /// How often the partner puts an item at the source of a group.
    pub puts_max: u8,
    /// How many crashes, freezes and cuts there are, all together.
    pub faults: u8,
    /// How many planned moves there are, all together.
    pub moves: u8,
    /// What is wrong with the protocol.
    pub mutant: Option<Mutant>,
}

/// Everything: the store, the partner's server, the nodes, and what is in flight.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State<const GROUPS: usize> {
    pub groups: [Group; GROUPS],
    pub nodes: [Node<GROUPS>; NODES],
    pub faults: u8,
    pub moves: u8,
}

/// A group: its lease, its part of the MessageBox, the source it receives from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group {
    /// The lease's epoch; it counts the owners.
    pub epoch: u8,
    /// The highest epoch that it ever had: the same, unless the protocol is broken.
    pub highest: u8,
    /// Who has it.
    pub holder: Option<u8>,
    /// Ticks until the store thinks it expired.
    pub left: u8,
    /// Whether the partner's item is at the source.
    pub file: bool,
    /// How often the partner put one there.
    pub puts: u8,
    /// Messages committed.
    pub messages: u8,
    pub receipt: Receipt,
    /// What can never be undone once it happened.
    pub broken: Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Receipt {
    None,
    Open,
    Closed,
}

/// Violations that a later state would not show any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Broken {
    /// Something was written under an epoch that was not the lease's (S1).
    pub stale_write: bool,
    /// An epoch was given that was not above all before it (S2).
    pub epoch_fell: bool,
    /// The source was removed without a durable receipt (S3).
    pub removed_unreceipted: bool,
    /// An owner touched the source after its own deadline (S4).
    pub late: bool,
    /// A former owner of an external group touched the source (S4).
    pub foreign: bool,
}

/// A machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node<const GROUPS: usize> {
    pub life: Life,
    /// What it does for each group.
    pub works: [Work; GROUPS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    Up,
    /// It stands still, and its session with the store lives on.
    Frozen,
    /// It works and does not reach the store, which sees that its connection is gone.
    Cut,
    /// Its processes are dead, and the store knows it.
    Down,
}

/// What a node does for one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Work {
    /// The epoch under which it believes to own the group; 0 when it does not.
    pub epoch: u8,
    /// Ticks until its trust ends.
    pub trust: u8,
    /// An answer to a renewal is on its way, and worth so many ticks.
    pub answer: Option<u8>,
    pub step: Doing,
    /// In flight to the store; it outlives the process that sent it.
    pub flight: Option<Flight>,
}

/// How far the worker is with the item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Doing {
    #[default]
    Nothing,
    /// It waits for the store.
    Waiting,
    /// The message is committed; the source is to be removed.
    Releasing,
    /// The source is removed; the receipt is to be closed.
    Removed,
}

/// A transaction on its way to the store, with the epoch of its fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flight {
    /// Fence, receipt and message.
    Commit(u8),
    /// The same, its fence found good already (only of [`Mutant::PlainCheck`]).
    Checked(u8),
    /// The closing of a receipt.
    Close(u8),
}

/// What may happen next; numbers are a node and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Tick,
    Crash(usize),
    Restart(usize),
    Freeze(usize),
    Thaw(usize),
    Cut(usize),
    Mend(usize),
    /// The partner puts an item at the source.
    Put(usize),
    /// A renewal of everything that a node has reaches the store.
    Renew(usize),
    /// Its answer comes back.
    Answered(usize),
    Acquire(usize, usize),
    /// A planned move begins: the owner lets go.
    Release(usize, usize),
    /// The owner stops what it may no longer do.
    Forget(usize, usize),
    /// The worker lists the source and begins with what it finds.
    List(usize, usize),
    /// The worker goes on with what it had begun.
    Proceed(usize, usize),
    /// What is in flight arrives at the store.
    Arrive(usize, usize),
    /// What is in flight is lost.
    Lose(usize, usize),
}

impl<const GROUPS: usize> Lease<GROUPS> {
    /// The state before anything happened.
    fn begin(&self) -> State<GROUPS> {
        let group = Group {
            epoch: 0,
            highest: 0,
            holder: None,
            left: 0,
            file: false,
            puts: 0,
            messages: 0,
            receipt: Receipt::None,
            broken: Broken::default(),
        };
        let node = Node { life: Life::Up, works: [Work::default(); GROUPS] };
        State {
            groups: [group; GROUPS],
            nodes: [node; NODES],
            faults: self.faults,
            moves: self.moves,
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// What follows; none when the action is not possible in this state.
    pub fn after(&self, state: &State<GROUPS>, action: Action) -> Option<State<GROUPS>> {
        let mut next = state.clone();
        let possible = match action {
            Action::Tick => next.tick(self.is(Mutant::RenewFromAnswer)),
            Action::Crash(n) => next.fault(n, Life::Down),
            Action::Freeze(n) => next.fault(n, Life::Frozen),
            Action::Cut(n) => next.fault(n, Life::Cut),
            Action::Restart(n) => next.comes_back(n, Life::Down),
            Action::Thaw(n) => next.comes_back(n, Life::Frozen),
            Action::Mend(n) => next.comes_back(n, Life::Cut),
            Action::Put(g) => self.put(&mut next, g),
            Action::Renew(n) => next.renew(n),
            Action::Answered(n) => self.answered(&mut next, n),
            Action::Acquire(n, g) => self.acquire(&mut next, n, g, self.epochs_max),
            Action::Release(n, g) => self.release(&mut next, n, g),
            Action::Forget(n, g) => next.forget(n, g),
            Action::List(n, g) => self.list(&mut next, n, g),
            Action::Proceed(n, g) => self.proceed(&mut next, n, g),
            Action::Arrive(n, g) => self.arrive(&mut next, n, g),
            Action::Lose(n, g) => next.lose(n, g),
        };
        possible.then_some(next)
    }

    /// The partner puts an item there: again only when the one before is wholly done, because a
    /// look-alike cannot be told from it (`messaging::receipt` explores that). Where a connection
    /// that is gone is enough for a takeover, the former owner may still be removing the first
    /// one while it trusts itself; there the partner waits for that too.
    fn put(&self, state: &mut State<GROUPS>, g: usize) -> bool {
        let removing =
            |node: &Node<GROUPS>| !self.external[g] && node.works[g].step == Doing::Releasing;
        let waits = state.nodes.iter().any(removing);
        let group = &mut state.groups[g];
        let done = !group.file && group.receipt != Receipt::Open;
        if waits || !done || group.puts == self.puts_max {
            return false;
        }
        group.file = true;
        group.puts += 1;
        true
    }

    fn answered(&self, state: &mut State<GROUPS>, n: usize) -> bool {
        let node = &mut state.nodes[n];
        if node.life != Life::Up {
            return false;
        }
        let mut any = false;
        for work in &mut node.works {
            if let Some(worth) = work.answer.take() {
                let worth = if self.is(Mutant::RenewFromAnswer) { TTL - MARGIN } else { worth };
                work.trust = work.trust.max(worth);
                any = true;
            }
        }
        any
    }

    /// Takes a lease on the evidence that the store has.
    fn acquire(&self, state: &mut State<GROUPS>, n: usize, g: usize, epochs_max: u8) -> bool {
        let group = &state.groups[g];
        let (life, work) = (state.nodes[n].life, &state.nodes[n].works[g]);
        let gone_is_enough = !self.external[g] || self.is(Mutant::ExternalOnConnectionGone);
        let free = match group.holder {
            None => true,
            Some(holder) if usize::from(holder) == n => true,
            Some(holder) => match state.nodes[usize::from(holder)].life {
                Life::Down => true,
                Life::Cut => gone_is_enough || group.left == 0,
                Life::Up | Life::Frozen => group.left == 0,
            },
        };
        if life != Life::Up || work.epoch != 0 || !free || group.epoch >= epochs_max {
            return false;
        }
        let group = &mut state.groups[g];
        group.epoch += 1;
        group.broken.epoch_fell |= group.epoch <= group.highest;
        group.highest = group.highest.max(group.epoch);
        group.holder = u8::try_from(n).ok();
        group.left = TTL;
        let work = &mut state.nodes[n].works[g];
        let (epoch, trust) = (group.epoch, TTL - MARGIN);
        *work = Work { epoch, trust, flight: work.flight, ..Work::default() };
        true
    }

    /// The owner lets go, after its worker has returned.
    fn release(&self, state: &mut State<GROUPS>, n: usize, g: usize) -> bool {
        let (group, node) = (&mut state.groups[g], &mut state.nodes[n]);
        let work = &mut node.works[g];
        let has_it = group.holder.map(usize::from) == Some(n) && group.epoch == work.epoch;
        if node.life != Life::Up || !has_it || work.epoch == 0 || state.moves == 0 {
            return false;
        }
        let early = self.is(Mutant::ReleaseBeforeReturn);
        if work.step != Doing::Nothing && !early {
            return false;
        }
        state.moves -= 1;
        group.holder = None;
        group.left = 0;
        if self.is(Mutant::EpochResetOnRelease) {
            group.epoch = 0;
        }
        if !early {
            *work = Work { flight: work.flight, ..Work::default() };
        }
        true
    }

    /// The worker lists the source; `messaging` says what that means.
    fn list(&self, state: &mut State<GROUPS>, n: usize, g: usize) -> bool {
        let (group, node) = (&mut state.groups[g], &mut state.nodes[n]);
        let work = &mut node.works[g];
        let idle = work.step == Doing::Nothing && work.flight.is_none();
        if !matches!(node.life, Life::Up | Life::Cut) || work.epoch == 0 || !idle {
            return false;
        }
        if !group.file {
            // Gone from two complete listings.
            work.step = Doing::Removed;
            return group.receipt == Receipt::Open;
        }
        let receipt = match group.receipt {
            Receipt::None => ReceiptState::None,
            Receipt::Open => ReceiptState::Open,
            Receipt::Closed => ReceiptState::Closed { listed_since: true },
        };
        let known = Known { stable: true, identity: Identity::Strong, receipt, keep: false };
        match known.step() {
            Step::Receive => {
                if self.is(Mutant::RemoveBeforeCommit) {
                    group.remove();
                }
                work.flight = Some(Flight::Commit(work.epoch));
                work.step = Doing::Waiting;
            }
            Step::ReleaseOnly => work.step = Doing::Releasing,
            Step::Wait | Step::Skip => return false,
        }
        true
    }

    /// The worker removes the source, or asks for the receipt to be closed.
    fn proceed(&self, state: &mut State<GROUPS>, n: usize, g: usize) -> bool {
        let (group, node) = (&mut state.groups[g], &mut state.nodes[n]);
        let work = &mut node.works[g];
        if !matches!(node.life, Life::Up | Life::Cut) || work.epoch == 0 {
            return false;
        }
        match work.step {
            Doing::Releasing if work.trust > 0 || self.is(Mutant::NoDeadline) => {
                group.broken.late |= work.trust == 0;
                group.broken.foreign |= self.external[g] && group.epoch != work.epoch;
                group.remove();
                work.step = Doing::Removed;
            }
            Doing::Removed if work.flight.is_none() => {
                work.flight = Some(Flight::Close(work.epoch));
                work.step = Doing::Waiting;
            }
            _ => return false,
        }
        true
    }

    /// The store runs the transaction that is in flight.
    fn arrive(&self, state: &mut State<GROUPS>, n: usize, g: usize) -> bool {
        let (group, node) = (&mut state.groups[g], &mut state.nodes[n]);
        let work = &mut node.works[g];
        let holds = |epoch| group.epoch == epoch && group.holder.map(usize::from) == Some(n);
        let Some(flight) = work.flight.take() else { return false };
        let (epoch, then) = match flight {
            Flight::Commit(epoch) if self.is(Mutant::PlainCheck) && holds(epoch) => {
                work.flight = Some(Flight::Checked(epoch));
                return true;
            }
            Flight::Commit(epoch) if holds(epoch) => (epoch, group.commit(epoch)),
            Flight::Checked(epoch) => (epoch, group.commit(epoch)),
            Flight::Close(epoch) if holds(epoch) || self.is(Mutant::UnfencedCleanup) => {
                group.receipt = Receipt::Closed;
                (epoch, Doing::Nothing)
            }
            // Refused: its owner sees that it is no longer one.
            Flight::Commit(epoch) | Flight::Close(epoch) => {
                if work.epoch == epoch {
                    *work = Work::default();
                }
                return true;
            }
        };
        if work.epoch == epoch && work.step == Doing::Waiting {
            work.step = then;
        }
        true
    }
}

impl Group {
    /// Writes receipt and message, unless the receipt is open already.
    fn commit(&mut self, epoch: u8) -> Doing {
        self.broken.stale_write |= epoch != self.epoch;
        if self.receipt != Receipt::Open {
            self.receipt = Receipt::Open;
            self.messages += 1;
        }
        Doing::Releasing
    }

    /// The source is removed.
    fn remove(&mut self) {
        self.broken.removed_unreceipted |= self.file && self.receipt != Receipt::Open;
        self.file = false;
    }
}

impl<const GROUPS: usize> State<GROUPS> {
    /// Time passes, for all in the same way.
    /// A late answer is worth nothing, unless somebody thinks otherwise.
    fn tick(&mut self, late_answers_count: bool) -> bool {
        for group in &mut self.groups {
            group.left = group.left.saturating_sub(1);
        }
        for work in self.nodes.iter_mut().flat_map(|node| &mut node.works) {
            work.trust = work.trust.saturating_sub(1);
            let answer = work.answer.map(|worth| worth.saturating_sub(1));
            work.answer = answer.filter(|worth| *worth > 0 || late_answers_count);
        }
        true
    }

    fn fault(&mut self, n: usize, life: Life) -> bool {
        let node = &mut self.nodes[n];
        let possible = self.faults > 0 && node.life == Life::Up;
        if possible {
            self.faults -= 1;
            node.life = life;
        }
        if possible && life == Life::Down {
            for work in &mut node.works {
                *work = Work { flight: work.flight, ..Work::default() };
            }
        }
        possible
    }

    fn comes_back(&mut self, n: usize, from: Life) -> bool {
        let node = &mut self.nodes[n];
        let possible = node.life == from;
        if possible {
            node.life = Life::Up;
        }
        possible
    }

    /// The store renews what a node has.
    fn renew(&mut self, n: usize) -> bool {
        let node = &mut self.nodes[n];
        if node.life != Life::Up {
            return false;
        }
        let mut any = false;
        for (work, group) in node.works.iter_mut().zip(&mut self.groups) {
            let has_it = work.epoch != 0
                && group.holder.map(usize::from) == Some(n)
                && group.epoch == work.epoch;
            if has_it && work.answer.is_none() {
                group.left = TTL;
                work.answer = Some(TTL - MARGIN);
                any = true;
            }
        }
        any
    }

    /// The owner stops when its trust has ended or it sees that the lease is not its own.
    fn forget(&mut self, n: usize, g: usize) -> bool {
        let (group, node) = (&self.groups[g], &mut self.nodes[n]);
        let work = &mut node.works[g];
        let has_it = group.holder.map(usize::from) == Some(n) && group.epoch == work.epoch;
        let awake = matches!(node.life, Life::Up | Life::Cut);
        let sees = node.life == Life::Up && !has_it;
        if !awake || work.epoch == 0 || !(work.trust == 0 || sees) {
            return false;
        }
        *work = Work { flight: work.flight, ..Work::default() };
        true
    }

    /// The way to the store loses what a dead or cut node had sent.
    fn lose(&mut self, n: usize, g: usize) -> bool {
        let node = &mut self.nodes[n];
        let work = &mut node.works[g];
        if !matches!(node.life, Life::Down | Life::Cut) || work.flight.is_none() {
            return false;
        }
        work.flight = None;
        if work.step == Doing::Waiting {
            work.step = Doing::Nothing;
        }
        true
    }

    /// Whether two nodes both believe to own a group.
    fn split(&self, g: usize) -> bool {
        self.nodes.iter().filter(|node| node.works[g].epoch != 0).count() > 1
    }

    /// Whether a node trusts itself with a group that is another's.
    fn trusts_wrongly(&self, g: usize) -> bool {
        let group = &self.groups[g];
        self.nodes.iter().enumerate().any(|(n, node)| {
            let (work, mine) = (&node.works[g], group.holder.map(usize::from) == Some(n));
            work.epoch != 0 && work.trust > 0 && !(mine && work.epoch == group.epoch)
        })
    }

    /// Whether a write under an old epoch is on its way.
    fn stale_flight(&self, g: usize) -> bool {
        self.nodes.iter().any(|node| match node.works[g].flight {
            Some(Flight::Commit(epoch)) => epoch < self.groups[g].epoch,
            _ => false,
        })
    }
}

/// The names of the properties, as a counterexample is asked for.
pub mod property {
    pub const WRITES: &str = "S1 nothing is written under an epoch that is not the lease's";
    pub const EPOCHS: &str = "S2 epochs grow";
    pub const ONCE: &str = "S3 no item is two messages";
    pub const LOST: &str = "S3 every item is at its source or a message";
    pub const RECEIPT: &str = "S3 a source is removed after its receipt is durable";
    pub const DEADLINE: &str = "S4 no external action after the own deadline";
    pub const FORMER: &str = "S4 no external action by a former owner";
    pub const TRUST: &str = "S4 trust ends before another may have an external group";
    pub const ONLINE: &str = "L1 once faults end, each group is online and its items are through";
    pub const TAKEN: &str = "L2 a crashed owner's group is elsewhere within ttl and a tick";
    pub const SPLIT: &str = "two nodes believe to own a group";
    pub const STALE: &str = "a write under an old epoch is on its way";
}

impl<const GROUPS: usize> Model for Lease<GROUPS> {
    type State = State<GROUPS>;
    type Action = Action;

    fn init_states(&self) -> Vec<State<GROUPS>> {
        vec![self.begin()]
    }

    fn actions(&self, state: &State<GROUPS>, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        for n in 0..NODES {
            actions.extend([Action::Renew(n), Action::Answered(n)]);
            actions.extend([Action::Restart(n), Action::Thaw(n), Action::Mend(n)]);
            if state.faults > 0 {
                actions.extend([Action::Crash(n), Action::Freeze(n), Action::Cut(n)]);
            }
            for g in 0..GROUPS {
                actions.extend([Action::Acquire(n, g), Action::Release(n, g)]);
                actions.extend([Action::Forget(n, g), Action::List(n, g), Action::Proceed(n, g)]);
                actions.extend([Action::Arrive(n, g), Action::Lose(n, g)]);
            }
        }
        actions.extend((0..GROUPS).map(Action::Put));
    }

    fn next_state(&self, state: &State<GROUPS>, action: Action) -> Option<State<GROUPS>> {
        self.after(state, action)
    }

    fn properties(&self) -> Vec<Property<Lease<GROUPS>>> {
        fn all<const GROUPS: usize>(state: &State<GROUPS>, holds: impl Fn(&Group) -> bool) -> bool {
            state.groups.iter().all(holds)
        }
        vec![
            Property::always(property::WRITES, |_, s| all(s, |g| !g.broken.stale_write)),
            Property::always(property::EPOCHS, |_, s| all(s, |g| !g.broken.epoch_fell)),
            Property::always(property::ONCE, |_, s| all(s, |g| g.messages <= g.puts)),
            Property::always(property::LOST, |_, s: &State<GROUPS>| {
                all(s, |g| g.messages + u8::from(g.file) >= g.puts)
            }),
            Property::always(property::RECEIPT, |_, s| all(s, |g| !g.broken.removed_unreceipted)),
            Property::always(property::DEADLINE, |_, s| all(s, |g| !g.broken.late)),
            Property::always(property::FORMER, |_, s| all(s, |g| !g.broken.foreign)),
            Property::always(property::TRUST, |model: &Lease<GROUPS>, s: &State<GROUPS>| {
                (0..GROUPS).all(|g| !model.external[g] || !s.trusts_wrongly(g))
            }),
            Property::always(property::ONLINE, |model: &Lease<GROUPS>, s| model.comes_online(s)),
            Property::always(property::TAKEN, |model: &Lease<GROUPS>, s| model.is_taken_over(s)),
            Property::sometimes(property::SPLIT, |_, s: &State<GROUPS>| {
                (0..GROUPS).any(|g| s.split(g))
            }),
            Property::sometimes(property::STALE, |_, s: &State<GROUPS>| {
                (0..GROUPS).any(|g| s.stale_flight(g))
            }),
        ]
    }
}
