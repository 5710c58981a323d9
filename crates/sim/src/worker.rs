//! What a host does for its ports: it receives items from a partner's server, and sends messages.
//!
//! The server has no locks: whoever knows an item may download or remove it, a former owner too.
//! The steps and their order are those of `crates/host/src/receive` and `send`: list, ask for
//! receipts, download, commit (fence, receipt and message at once), remove, close the receipt;
//! take, send, settle. What to do with an item is asked of `messaging`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use messaging::{Identity, Known, ReceiptState, Step};
use model::{Epoch, HostName, LeaseName, NodeName, ResourceName};

use crate::Mutant;
use crate::message_box::ItemKey;
use crate::process::Happens;
use crate::weather::Luck;
use crate::world::{Item, STORE_GIVES_UP, STORE_LATENCY, World};

const POLL_EVERY: u64 = 700;
const TAKE_EVERY: u64 = 400;
/// One way to a partner, besides what chance adds.
const PARTNER_LATENCY: u64 = 5;
const DOWNLOAD_TAKES: u64 = 40;
/// Items of one poll.
const JOBS_MAX: usize = 4;
/// Work taken at a time by a port that is not ordered.
const TAKE_MAX: usize = 3;
/// An open receipt whose item two listings so far apart do not show is closed.
const GONE_AFTER: u64 = 30_000;

/// Partners with something to be received, and where it goes.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// What lies at the source of each host.
    pub sources: BTreeMap<HostName, BTreeSet<u64>>,
    /// Everything that was ever put there.
    pub put: Vec<ItemKey>,
    /// Which host sends what a host receives; without an entry it does so itself.
    pub routes: BTreeMap<HostName, HostName>,
    /// Hosts whose send port keeps the order.
    pub ordered: BTreeSet<HostName>,
}

/// What a host shows whenever it writes: the lease, and under which epoch it works.
pub(crate) type Fence = (LeaseName, Shift);

/// One stretch of work from an activation to the next, with the epoch it is under: what belongs to
/// an earlier one has returned before, or is refused.
pub(crate) type Shift = (Epoch, u64);

/// How far a host is with its ports.
#[derive(Debug, Clone, Default)]
pub(crate) struct Worker {
    /// It finishes what it has begun and begins nothing more.
    pub draining: bool,
    /// Counts the activations of its process.
    shift: u64,
    /// The epoch of the last one.
    epoch: Epoch,
    receiving: bool,
    sending: bool,
    jobs: VecDeque<(u64, Step)>,
    missing: BTreeMap<u64, u64>,
    taken: VecDeque<usize>,
}

/// The next thing that a host does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Turn {
    Poll,
    Listed { begun_at: u64 },
    Downloaded(u64),
    Removed(u64),
    Take,
    GiveBack,
    Sent(usize),
}

/// What a host asks of the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ask {
    Receipts {
        keys: Vec<u64>,
        listed_at: u64,
    },
    Publish(u64),
    /// Only of [`Mutant::ReceiptApart`].
    Receipt(u64),
    Close(u64),
    Take,
    Settle(usize),
    GiveBack,
}

/// What the store answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Receipts {
        states: Vec<(u64, ReceiptState)>,
        open: Vec<u64>,
    },
    Published(u64),
    Receipted(u64),
    Closed,
    Taken(Vec<usize>),
    Settled,
    GivenBack,
    Fenced,
    /// Nothing came within the time that is waited for.
    Unknown(Ask),
}

/// What a host asks of a partner.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Errand {
    Remove(u64),
    Send(usize),
}

impl Worker {
    pub(crate) fn is_busy(&self) -> bool {
        self.receiving || self.sending
    }
}

impl World {
    /// A partner puts an item at the source of a host.
    pub fn put_item(&mut self, host: &HostName) {
        let Some(traffic) = &mut self.traffic else { return };
        let key = traffic.put.len() as u64;
        traffic.put.push((host.clone(), key));
        traffic.sources.entry(host.clone()).or_default().insert(key);
    }

    /// A host works under a (new) epoch: what it had begun under the one before is forgotten.
    pub(crate) fn begin_work(&mut self, node: &NodeName, name: &ResourceName, epoch: Epoch) {
        if self.traffic.is_none() {
            return;
        }
        let Some(proc) = self.proc_mut(node, name) else { return };
        if proc.driver {
            return;
        }
        let draining = proc.worker.draining; // It may have been told to stop meanwhile.
        let number = proc.worker.shift + 1;
        // What an earlier shift under this epoch may still hold is given back first.
        let first = if proc.worker.epoch == epoch { Turn::GiveBack } else { Turn::Take };
        proc.worker = Worker { draining, epoch, shift: number, ..Worker::default() };
        let shift = (epoch, number);
        self.later(node, name, 1, Happens::Turn(shift, Turn::Poll));
        self.later(node, name, 1, Happens::Turn(shift, first));
    }

    /// The worker of a host, if it works under this epoch.
    fn worker(
        &mut self,
        node: &NodeName,
        name: &ResourceName,
        shift: Shift,
    ) -> Option<&mut Worker> {
        let proc = self.proc_mut(node, name)?;
        let here = proc.works_under(shift.0) && proc.worker.shift == shift.1;
        (here && !proc.hung).then_some(&mut proc.worker)
    }

    pub(crate) fn turn(&mut self, node: &NodeName, name: &ResourceName, shift: Shift, turn: Turn) {
        let remove_first = self.mutant == Some(Mutant::RemoveFirst);
        let Some(worker) = self.worker(node, name, shift) else { return };
        let host = HostName::from(name.clone());
        match turn {
            Turn::Poll | Turn::Take | Turn::GiveBack if worker.draining => {}
            Turn::Poll => {
                worker.receiving = true;
                let delay = self.travel(PARTNER_LATENCY);
                let begun_at = self.elapsed;
                self.later(node, name, delay, Happens::Turn(shift, Turn::Listed { begun_at }));
            }
            Turn::Listed { begun_at } => {
                let keys = self.source(&host).into_iter().flatten().copied().collect();
                self.ask(node, name, shift, Ask::Receipts { keys, listed_at: begun_at });
            }
            Turn::Downloaded(key) => {
                if !self.source(&host).is_some_and(|source| source.contains(&key)) {
                    self.next_job(node, name, shift);
                } else if remove_first {
                    self.errand(node, name, shift, Errand::Remove(key));
                } else {
                    self.ask(node, name, shift, Ask::Publish(key));
                }
            }
            Turn::Removed(key) if remove_first => {
                self.ask(node, name, shift, Ask::Publish(key));
            }
            Turn::Removed(key) => self.ask(node, name, shift, Ask::Close(key)),
            Turn::Take => {
                worker.sending = true;
                self.ask(node, name, shift, Ask::Take);
            }
            Turn::GiveBack => {
                worker.sending = true;
                self.ask(node, name, shift, Ask::GiveBack);
            }
            Turn::Sent(id) => self.ask(node, name, shift, Ask::Settle(id)),
        }
    }

    fn source(&self, host: &HostName) -> Option<&BTreeSet<u64>> {
        self.traffic.as_ref()?.sources.get(host)
    }

    pub(crate) fn answered(
        &mut self,
        node: &NodeName,
        name: &ResourceName,
        shift: Shift,
        answer: Answer,
    ) {
        let (now, mutant) = (self.elapsed, self.mutant);
        let Some(worker) = self.worker(node, name, shift) else { return };
        match answer {
            Answer::Receipts { states, open } => {
                worker.choose(&states, &open, now);
                self.next_job(node, name, shift);
            }
            Answer::Published(key) if mutant == Some(Mutant::ReceiptApart) => {
                self.ask(node, name, shift, Ask::Receipt(key));
            }
            Answer::Published(key) if mutant == Some(Mutant::RemoveFirst) => {
                self.ask(node, name, shift, Ask::Close(key));
            }
            Answer::Published(key) | Answer::Receipted(key) => {
                self.errand(node, name, shift, Errand::Remove(key));
            }
            Answer::Closed => self.next_job(node, name, shift),
            Answer::Taken(ids) => {
                worker.taken = ids.into();
                self.send_next(node, name, shift);
            }
            Answer::Settled => self.send_next(node, name, shift),
            Answer::GivenBack if mutant == Some(Mutant::UnfencedCleanup) => {
                self.ask(node, name, shift, Ask::Take);
            }
            Answer::GivenBack => self.rest(node, name, shift, Turn::Take),
            Answer::Fenced => self.fenced(node, name),
            // What became of it is seen by reading, before it is tried again.
            Answer::Unknown(Ask::Take | Ask::GiveBack) => {
                self.ask(node, name, shift, Ask::GiveBack);
            }
            Answer::Unknown(Ask::Settle(id)) => self.ask(node, name, shift, Ask::Settle(id)),
            Answer::Unknown(
                Ask::Receipts { .. } | Ask::Publish(_) | Ask::Receipt(_) | Ask::Close(_),
            ) => self.rest(node, name, shift, Turn::Poll),
        }
    }

    fn next_job(&mut self, node: &NodeName, name: &ResourceName, shift: Shift) {
        let Some(worker) = self.worker(node, name, shift) else { return };
        let job = if worker.draining { None } else { worker.jobs.pop_front() };
        match job {
            Some((key, Step::Receive)) => {
                let delay = self.travel(DOWNLOAD_TAKES);
                self.later(node, name, delay, Happens::Turn(shift, Turn::Downloaded(key)));
            }
            Some((key, Step::ReleaseOnly)) => {
                self.errand(node, name, shift, Errand::Remove(key));
            }
            Some((key, Step::Skip)) => self.ask(node, name, shift, Ask::Close(key)),
            Some((_, Step::Wait)) => self.next_job(node, name, shift),
            None => self.rest(node, name, shift, Turn::Poll),
        }
    }

    fn send_next(&mut self, node: &NodeName, name: &ResourceName, shift: Shift) {
        let Some(worker) = self.worker(node, name, shift) else { return };
        // What it has taken it sends, also when it is to stop.
        match worker.taken.pop_front() {
            Some(id) => self.errand(node, name, shift, Errand::Send(id)),
            None => self.rest(node, name, shift, Turn::Take),
        }
    }

    /// Nothing more to do for a while.
    fn rest(&mut self, node: &NodeName, name: &ResourceName, shift: Shift, turn: Turn) {
        let Some(worker) = self.worker(node, name, shift) else { return };
        let pause = if turn == Turn::Poll {
            worker.receiving = false;
            POLL_EVERY
        } else {
            worker.sending = false;
            TAKE_EVERY
        };
        // Then it tidies up whenever it looks for work.
        let tidies = turn == Turn::Take && self.mutant == Some(Mutant::UnfencedCleanup);
        let turn = if tidies { Turn::GiveBack } else { turn };
        self.later(node, name, pause, Happens::Turn(shift, turn));
    }

    fn ask(&mut self, node: &NodeName, name: &ResourceName, shift: Shift, ask: Ask) {
        let Some(proc) = self.proc_mut(node, name) else { return };
        let Some(lease) = proc.work.as_ref().map(|work| work.lease.clone()) else { return };
        let (generation, name) = (proc.generation, name.clone());
        let delay = self.travel(STORE_LATENCY);
        let fence = (lease, shift);
        self.after(node, delay, Item::Ask { name, generation, fence, ask, checked: false });
    }

    /// A host goes to a partner; once it is under way nothing stops it.
    fn errand(&mut self, node: &NodeName, name: &ResourceName, shift: Shift, errand: Errand) {
        let Some(proc) = self.proc_mut(node, name) else { return };
        let Some(lease) = proc.work.as_ref().map(|work| work.lease.clone()) else { return };
        let (generation, name) = (proc.generation, name.clone());
        let delay = self.travel(PARTNER_LATENCY);
        let fence = (lease, shift);
        self.after(node, delay, Item::Serve { name, generation, fence, errand });
    }

    /// An errand arrives at the partner.
    pub(crate) fn served(
        &mut self,
        node: &NodeName,
        (name, generation): (&ResourceName, u64),
        (_, shift): Fence,
        errand: Errand,
    ) {
        let host = HostName::from(name.clone());
        let turn = match errand {
            Errand::Remove(key) => {
                let Some(traffic) = &mut self.traffic else { return };
                let source = traffic.sources.entry(host.clone()).or_default();
                if source.remove(&key) {
                    self.witness_removal(&(host, key));
                }
                Turn::Removed(key)
            }
            Errand::Send(id) => {
                let ordered =
                    self.traffic.as_ref().is_some_and(|traffic| traffic.ordered.contains(&host));
                self.witness_delivery(&host, id, shift.0, ordered);
                Turn::Sent(id)
            }
        };
        let delay = self.travel(PARTNER_LATENCY);
        let (name, what) = (name.clone(), Happens::Turn(shift, turn));
        self.after(node, delay, Item::Proc { name, generation, what });
    }

    /// A request of a host arrives at the store, or does not.
    pub(crate) fn asked(
        &mut self,
        node: &NodeName,
        (name, generation): (&ResourceName, u64),
        fence: Fence,
        ask: Ask,
        checked: bool,
    ) {
        let luck = if checked { Luck::Fine } else { self.luck(node) };
        let shift = fence.1;
        let writes = !matches!(ask, Ask::Receipts { .. });
        let unfenced = self.mutant == Some(Mutant::NoFence)
            || self.mutant == Some(Mutant::UnfencedCleanup) && ask == Ask::GiveBack;
        let answer = if luck == Luck::RequestLost {
            Answer::Unknown(ask)
        } else if writes && !unfenced && !checked && !self.store.is_current(&fence.0, shift.0, node)
        {
            Answer::Fenced
        } else if writes && !checked && self.mutant == Some(Mutant::PlainCheck) {
            // It was found good; by the time it is written that may have changed.
            let most = self.timing.ttl.0 * 2;
            let delay = self.chance.as_mut().map_or(0, |chance| match chance.u32(0..10) {
                0 => chance.u64(0..=most),
                _ => 0,
            });
            let name = name.clone();
            return self.after(
                node,
                delay,
                Item::Ask { name, generation, fence, ask, checked: true },
            );
        } else if luck == Luck::AnswerLost {
            self.carry_out(node, name, &fence, &ask);
            Answer::Unknown(ask)
        } else {
            self.carry_out(node, name, &fence, &ask)
        };
        let delay = match luck {
            Luck::Fine => self.travel(STORE_LATENCY),
            Luck::RequestLost | Luck::AnswerLost => STORE_GIVES_UP,
        };
        let (name, what) = (name.clone(), Happens::Answer(shift, answer));
        self.after(node, delay, Item::Proc { name, generation, what });
    }

    /// The store does what a host asks; its fence was found good.
    fn carry_out(
        &mut self,
        node: &NodeName,
        name: &ResourceName,
        (lease, (epoch, _)): &Fence,
        ask: &Ask,
    ) -> Answer {
        let host = HostName::from(name.clone());
        if !matches!(ask, Ask::Receipts { .. } | Ask::GiveBack) {
            self.witness_write(node, lease, *epoch);
        }
        let elapsed = self.elapsed;
        let messages = &mut self.store.messages;
        match ask {
            Ask::Receipts { keys, listed_at } => {
                let state = |key: &u64| messages.receipt(&(host.clone(), *key), *listed_at);
                let states = keys.iter().map(|key| (*key, state(key))).collect();
                let open = messages
                    .receipts
                    .iter()
                    .filter(|((at, _), receipt)| *at == host && receipt.open);
                let open = open.map(|((_, key), _)| *key).collect();
                Answer::Receipts { states, open }
            }
            Ask::Publish(key) => {
                self.publish(&(host, *key));
                Answer::Published(*key)
            }
            Ask::Receipt(key) => {
                messages.open(&(host, *key));
                Answer::Receipted(*key)
            }
            Ask::Close(key) => {
                messages.close(&(host, *key), elapsed);
                Answer::Closed
            }
            Ask::Take => {
                let ordered =
                    self.traffic.as_ref().is_some_and(|traffic| traffic.ordered.contains(&host));
                let limit = if ordered { 1 } else { TAKE_MAX };
                Answer::Taken(messages.take(&host, (lease, *epoch), limit, ordered))
            }
            Ask::Settle(id) => {
                messages.settle(*id, lease, *epoch);
                Answer::Settled
            }
            Ask::GiveBack => {
                let anybodys = self.mutant == Some(Mutant::UnfencedCleanup);
                messages.give_back(&host, (!anybodys).then_some((lease, *epoch)));
                Answer::GivenBack
            }
        }
    }

    /// Receipt and message, in one transaction.
    fn publish(&mut self, item: &ItemKey) {
        let apart = self.mutant == Some(Mutant::ReceiptApart);
        let known = self.store.messages.receipts.get(item).is_some_and(|receipt| receipt.open);
        if known || (!apart && !self.store.messages.open(item)) {
            return;
        }
        let routes = self.traffic.as_ref().map(|traffic| &traffic.routes);
        let to = routes.and_then(|routes| routes.get(&item.0)).unwrap_or(&item.0).clone();
        self.store.messages.put(item.clone(), to);
        self.witness_message(item);
    }
}

impl Worker {
    /// What each listed item needs, and which receipts are of items that are gone.
    fn choose(&mut self, states: &[(u64, ReceiptState)], open: &[u64], now: u64) {
        let decide = |receipt: ReceiptState| {
            let identity = Identity::Strong;
            Known { stable: true, identity, receipt, keep: false }.step()
        };
        let listed = states.iter().map(|(key, receipt)| (*key, decide(*receipt)));
        self.jobs = listed.filter(|(_, step)| *step != Step::Wait).take(JOBS_MAX).collect();
        self.missing.retain(|key, _| open.contains(key));
        for key in open {
            if states.iter().any(|(listed, _)| listed == key) {
                self.missing.remove(key);
                continue;
            }
            let since = *self.missing.entry(*key).or_insert(now);
            if now.saturating_sub(since) > GONE_AFTER && self.jobs.len() < JOBS_MAX {
                self.jobs.push_back((*key, Step::Skip));
            }
        }
    }
}
