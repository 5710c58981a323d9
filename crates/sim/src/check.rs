//! Checkers: bystanders who see what the machines and the store do, and know nothing of why.
//!
//! They never stop a world; what they saw is collected in [`crate::World::violations`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::{Epoch, Evidence, HostName, LeaseName, Millis, NodeName, ResourceName};

use crate::World;
use crate::message_box::ItemKey;

/// What may never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// An epoch is given once, and each is higher than all before it.
    Epochs,
    /// What is accepted for a lease is accepted from its present owner under its present epoch.
    OneAcceptedOwner,
    /// Nothing works beyond its trust.
    Trust,
    /// No two nodes trust themselves with one thing.
    TwoTrusting,
    /// A node that is well is not deposed.
    Deposed,
    /// An item is a message before it is removed from its source.
    Lost,
    /// An item is one message, and an owner sends a message once.
    Twice,
    /// An ordered port delivers in order.
    Order,
    /// Once faults end, each group is online within its bound.
    Online,
    /// Once faults end, every item is a message, sent, and gone from its source.
    Through,
    /// Once faults end, groups come to rest.
    Flapping,
    /// An agent does what cannot be done.
    Agent,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Rule::Epochs => "epochs grow",
            Rule::OneAcceptedOwner => "one accepted owner per epoch",
            Rule::Trust => "nothing works beyond its trust",
            Rule::TwoTrusting => "one trusts itself at a time",
            Rule::Deposed => "a healthy owner keeps its lease",
            Rule::Lost => "nothing lost",
            Rule::Twice => "nothing twice",
            Rule::Order => "order kept where promised",
            Rule::Online => "online within the bound once faults end",
            Rule::Through => "everything through once faults end",
            Rule::Flapping => "no flapping",
            Rule::Agent => "the agent asks for what is possible",
        })
    }
}

/// Something that may never happen and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When, since the begin of the world.
    pub at: Millis,
    /// Which rule is broken.
    pub rule: Rule,
    /// By what.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { at, rule, what } = self;
        write!(f, "{:>5}.{:03}  {rule}: {what}", at.0 / 1000, at.0 % 1000)
    }
}

/// Most violations kept: the first ones tell.
const KEPT_MAX: usize = 20;

/// A monitor may take so long to take its resource down when its trust ends. The margin between
/// trust and lease is longer.
const TAKES_DOWN: Millis = Millis(200);

/// Clocks that run wrong are rounded to whole milliseconds.
const ROUNDING: Millis = Millis(2);

/// What bystanders remember.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witness {
    epochs: BTreeMap<LeaseName, (Epoch, NodeName)>,
    published: BTreeMap<ItemKey, u32>,
    delivered: BTreeSet<usize>,
    sent: BTreeSet<(usize, Epoch)>,
    last: BTreeMap<HostName, usize>,
    /// When each group last changed its owner, and how often it did since the faults ended.
    pub(crate) moved: BTreeMap<LeaseName, (u64, u32)>,
}

impl World {
    pub(crate) fn violated(&mut self, rule: Rule, what: String) {
        if self.violations.len() < KEPT_MAX {
            let at = Millis(self.elapsed);
            self.say("!!", &format!("{rule}: {what}"));
            self.violations.push(Violation { at, rule, what });
        }
    }

    /// What must hold between any two events.
    pub(crate) fn check(&mut self, at: u64) {
        let mut wrong = Vec::new();
        let mut trusted: BTreeMap<&ResourceName, &NodeName> = BTreeMap::new();
        for (node, machine) in &self.machines {
            let now = self.clock_of(machine, at);
            for (name, proc) in &machine.procs {
                let Some(work) = &proc.work else { continue };
                let stuck = machine.stuck.contains(name) || proc.hung && proc.driver;
                let ends = if proc.driver {
                    let awake = machine.boot(machine.disturbed_at);
                    work.trust_until.max(awake).after(TAKES_DOWN)
                } else {
                    work.trust_until
                };
                if !machine.frozen && !stuck && ends.after(ROUNDING) < now {
                    wrong.push((Rule::Trust, format!("{node} leaves {name} at work without it")));
                }
                let group = matches!(work.lease, LeaseName::Group(_));
                if !group || work.trust_until <= now.after(ROUNDING) {
                    continue;
                }
                if let Some(other) = trusted.insert(name, node)
                    && !self.may_overlap(&work.lease)
                {
                    wrong.push((Rule::TwoTrusting, format!("{node} and {other} with {name}")));
                }
            }
        }
        for (rule, what) in wrong {
            let known = |seen: &Violation| seen.rule == rule && seen.what == what;
            if !self.violations.iter().any(known) {
                self.violated(rule, what);
            }
        }
    }

    /// Whether a former owner may still trust itself: its fence is enough, and the lease was taken,
    /// within the time that trust may last, because its owner's connection was gone.
    fn may_overlap(&self, lease: &LeaseName) -> bool {
        let trusts = Millis(2 * self.timing.ttl.0);
        let recent = self.store.history.iter().rev();
        let mut recent = recent.take_while(|tenure| self.store.now.since(tenure.at) < trusts);
        let gone = recent
            .any(|tenure| tenure.lease == *lease && tenure.evidence == Evidence::ConnectionGone);
        gone && !self.store.snapshot_is_external(lease)
    }

    /// A lease was given to a node.
    pub(crate) fn witness_grant(
        &mut self,
        node: &NodeName,
        lease: &LeaseName,
        (epoch, evidence): (Epoch, Evidence),
    ) {
        let before = self.witness.epochs.insert(lease.clone(), (epoch, node.clone()));
        let Some((last, owner)) = before else { return };
        if epoch <= last {
            let what = format!("{lease} is {node}'s under epoch {epoch}, after epoch {last}");
            self.violated(Rule::Epochs, what);
        }
        if owner == *node {
            return;
        }
        if matches!(lease, LeaseName::Group(_)) {
            let now = self.elapsed;
            let moved = self.witness.moved.entry(lease.clone()).or_default();
            *moved = (now, moved.1 + 1);
        }
        let ttl = self.timing.ttl.0;
        let calm = self.weather.lets_renew(ttl) && evidence == Evidence::Silent;
        let well = |machine: &crate::Machine| {
            let stays = machine.agent.as_ref().is_some_and(|agent| !agent.is_stopping());
            let up = stays && !machine.frozen && machine.cut == crate::Cut::None;
            // What does not stop in time is left to expire.
            let stops = machine.deaf.is_empty() && machine.stuck.is_empty();
            up && stops && machine.disturbed_at + 2 * ttl < self.elapsed
        };
        if calm && self.machines.get(&owner).is_some_and(well) {
            self.violated(Rule::Deposed, format!("{node} takes {lease} from {owner}"));
        }
    }

    /// The store accepted a write that showed this fence.
    pub(crate) fn witness_write(&mut self, node: &NodeName, lease: &LeaseName, epoch: Epoch) {
        let now = self.witness.epochs.get(lease);
        if now.is_none_or(|(last, owner)| *last != epoch || owner != node) {
            let now = now.map(|(epoch, owner)| format!("{owner}'s under epoch {epoch}"));
            let what = format!(
                "a write of {node} under epoch {epoch} of {lease}, which is {}",
                now.unwrap_or("nobody's".to_owned())
            );
            self.violated(Rule::OneAcceptedOwner, what);
        }
    }

    /// A message was published.
    pub(crate) fn witness_message(&mut self, item: &ItemKey) {
        let count = self.witness.published.entry(item.clone()).or_default();
        *count += 1;
        if *count > 1 {
            self.violated(Rule::Twice, format!("item {} of {} is two messages", item.1, item.0));
        }
    }

    /// An item was removed from its source.
    pub(crate) fn witness_removal(&mut self, item: &ItemKey) {
        if !self.witness.published.contains_key(item) {
            self.violated(Rule::Lost, format!("item {} of {} is no message", item.1, item.0));
        }
    }

    /// A message reached its destination.
    pub(crate) fn witness_delivery(
        &mut self,
        to: &HostName,
        id: usize,
        epoch: Epoch,
        ordered: bool,
    ) {
        if !self.witness.sent.insert((id, epoch)) {
            self.violated(Rule::Twice, format!("{to} sends message {id} twice in epoch {epoch}"));
        }
        if !self.witness.delivered.insert(id) || !ordered {
            return;
        }
        let last = self.witness.last.insert(to.clone(), id);
        if let Some(last) = last.filter(|last| *last > id) {
            self.violated(Rule::Order, format!("{to} delivers message {id} after {last}"));
        }
    }

    /// Whether a message has reached its destination.
    pub(crate) fn is_delivered(&self, id: usize) -> bool {
        self.witness.delivered.contains(&id)
    }

    /// Whether an item is a message.
    pub(crate) fn is_published(&self, item: &ItemKey) -> bool {
        self.witness.published.contains_key(item)
    }

    /// How often groups went from one node to another.
    pub fn moves(&self) -> usize {
        let moved = |tenure: &&cluster::Tenure| {
            matches!(tenure.lease, LeaseName::Group(_))
                && tenure.holder.is_some()
                && tenure.before.is_some()
                && tenure.before != tenure.holder
        };
        self.store.history.iter().filter(moved).count()
    }
}
