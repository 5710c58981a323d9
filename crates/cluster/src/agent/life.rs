//! The agent itself: one event in, what follows out.
//!
//! Each call goes the same way: let go of what is no longer trusted, take in the event, meet the
//! deadlines that have passed, then settle: start whatever the state now calls for. An event only
//! changes state; effects that follow from state are found by `settle`, so their order of arrival
//! does not matter.

use std::collections::BTreeMap;

use model::definition::GroupPolicy;
use model::{
    BootTime, Cause, Epoch, EventId, GroupName, LeaseName, Millis, NodeName, ResourceName,
    Timestamp,
};

use super::children::{Child, ChildState};
use super::dependencies::Entry;
use super::leases::{Ask, Phase, Tenancy};
use super::reports::Reported;
use super::watch::Conditions;
use super::{Effect, Event, Reason, Timing};
use crate::Snapshot;

/// A snapshot is read at least this often: hints may be lost. Many nodes read, so not more often.
const READ_EVERY: Millis = Millis::seconds(3);

/// The agent looks at its own state at least this often.
const TURN_EVERY: Millis = Millis::seconds(1);

/// A gap between two events after which the node itself was away (suspended, starved), so that
/// silence of its hosts means nothing. The agent is woken at least every [`TURN_EVERY`].
const AWAY: Millis = Millis::seconds(2);

/// What the last stop limit allows on top of the longest drain: releases and reaping.
const STOP_SLACK: Millis = Millis::seconds(6);

/// The life of one node. Holds nothing that could not be lost: see the crate's third rule.
#[derive(Debug)]
pub struct Agent {
    pub(super) me: NodeName,
    pub(super) node_epoch: Epoch,
    pub(super) timing: Timing,
    pub(super) now: BootTime,
    /// When the first snapshot came.
    pub(super) began_at: Option<BootTime>,
    pub(super) seen: Option<Seen>,
    pub(super) leases: BTreeMap<LeaseName, Tenancy>,
    pub(super) children: BTreeMap<ResourceName, Child>,
    /// How often and until when questions about a lease are held back.
    pub(super) asks: BTreeMap<LeaseName, Ask>,
    /// What the definitions say of each member, and of which version that is.
    pub(super) index: BTreeMap<ResourceName, Entry>,
    pub(super) indexed: Option<u64>,
    /// What was last reported of each member.
    pub(super) reported: BTreeMap<ResourceName, Reported>,
    /// Leases that nobody ever had and somebody should take, and since when this node has known.
    pub(super) openings: BTreeMap<LeaseName, BootTime>,
    /// What lasts in the cluster by the last snapshot; none before the first one.
    pub(super) noticed: Option<Conditions>,
    /// When operators last started a group, as far as that was obeyed.
    pub(super) started: BTreeMap<GroupName, Timestamp>,
    /// Move requests refused, by when they were asked for.
    pub(super) refused: BTreeMap<GroupName, Timestamp>,
    /// When a stopping node ends at the latest.
    pub(super) stop_by: Option<BootTime>,
    read_at: BootTime,
    plan_wake: Option<BootTime>,
    renewing: Vec<(LeaseName, Epoch)>,
    armed: Option<BootTime>,
    pub(super) said: BTreeMap<String, String>,
    ended: bool,
    out: Vec<Effect>,
}

/// The last snapshot, and when it came: this is how moments of the store are converted to ours.
#[derive(Debug)]
pub(super) struct Seen {
    pub snapshot: Snapshot,
    pub at: BootTime,
}

impl Agent {
    /// A node that has just joined: `node_epoch` is the epoch of its lease on being this node.
    pub fn new(me: NodeName, node_epoch: Epoch, timing: Timing) -> Agent {
        Agent {
            me,
            node_epoch,
            timing,
            now: BootTime(0),
            began_at: None,
            seen: None,
            leases: BTreeMap::new(),
            children: BTreeMap::new(),
            asks: BTreeMap::new(),
            index: BTreeMap::new(),
            indexed: None,
            reported: BTreeMap::new(),
            noticed: None,
            openings: BTreeMap::new(),
            started: BTreeMap::new(),
            refused: BTreeMap::new(),
            stop_by: None,
            read_at: BootTime(0),
            plan_wake: None,
            renewing: Vec::new(),
            armed: None,
            said: BTreeMap::new(),
            ended: false,
            out: Vec::new(),
        }
    }

    /// Takes in one event and says what to do. `now` is read when the event is handed in.
    pub fn handle(&mut self, event: Event, now: BootTime) -> Vec<Effect> {
        if self.ended {
            return Vec::new();
        }
        self.forgive_own_absence(now);
        self.now = self.now.max(now);
        self.distrust(); // Before the event, which may be a stale answer.
        if let Event::Progress(name) = &event {
            // It changes nothing but a deadline, and most events are of this kind.
            self.progress(name);
            self.arm();
            return std::mem::take(&mut self.out);
        }
        self.take_in(event);
        self.meet_deadlines();
        self.settle();
        std::mem::take(&mut self.out)
    }

    /// The leases this node knows of, with their phase and the epoch held.
    pub fn leases(&self) -> impl Iterator<Item = (&LeaseName, &Phase, Option<Epoch>)> {
        self.leases.iter().map(|(lease, tenancy)| (lease, &tenancy.phase, tenancy.epoch))
    }

    /// When trust in a lease ends unless it is renewed; none when it is not held.
    pub fn trust_until(&self, lease: &LeaseName) -> Option<BootTime> {
        let tenancy = self.leases.get(lease)?;
        tenancy.epoch.map(|_| tenancy.trust_until)
    }

    /// The members that this node has, with the state of their child process.
    pub fn members(&self) -> impl Iterator<Item = (&ResourceName, &ChildState)> {
        self.children.iter().map(|(host, child)| (host, &child.state))
    }

    /// Whether the node is on its way out.
    pub fn is_stopping(&self) -> bool {
        self.stop_by.is_some()
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Snapshot(snapshot) => self.snapshot_read(snapshot),
            Event::Renewed { sent_at, renewed, lost } => self.renewed(sent_at, &renewed, &lost),
            Event::Acquired { lease, sent_at, outcome } => self.acquired(&lease, sent_at, outcome),
            Event::Released { lease, epoch, ok } => self.released(&lease, epoch, ok),
            Event::InstanceReady(host) => self.instance_ready(&host),
            Event::InstanceActive(host, epoch) => self.instance_active(&host, epoch),
            Event::InstanceInactive(host, epoch) => self.instance_inactive(&host, epoch),
            Event::Progress(host) => self.progress(&host),
            Event::InstanceExited(host, exit) => self.instance_exited(&host, exit),
            Event::Stuck(name, what) => self.complains(&name, &what, true),
            Event::Degraded(name, what) => self.complains(&name, &what, false),
            Event::ReportLost(names) => self.forget_reports(&names),
            // One that comes a moment early must not be the last.
            Event::Tick => self.armed = None,
            Event::Stop => self.stop(),
        }
    }

    fn stop(&mut self) {
        if self.stop_by.is_some() {
            return;
        }
        let drain = self.leases.keys().map(|lease| self.offline_within(lease)).max();
        let drain = drain.unwrap_or(Millis(0));
        let latest = self.leases.keys().map(|lease| self.offline_by(lease)).max();
        self.stop_by = Some(latest.unwrap_or(self.now).max(self.now.after(STOP_SLACK)));
        self.say(
            self.my_subject(),
            format!("stopping; what it owns is handed over within {drain}"),
        );
        self.ask_snapshot(); // Successors are chosen from what is true now.
    }

    /// Another process has become this node: nothing of ours counts any more.
    pub(super) fn replaced(&mut self) {
        if self.stop_by.is_some() {
            return;
        }
        self.stop_by = Some(self.now.after(STOP_SLACK));
        let sentence = format!("another process has become node {}; this one ends", self.me);
        self.say(self.my_subject(), sentence);
        let ours: Vec<LeaseName> = self.leases.keys().cloned().collect();
        for lease in ours {
            self.lose(&lease, "this process is no longer the node".to_owned());
        }
    }

    fn forgive_own_absence(&mut self, now: BootTime) {
        if self.now != BootTime(0) && now.since(self.now) > AWAY {
            for child in self.children.values_mut() {
                child.last_progress = now;
            }
        }
    }

    fn meet_deadlines(&mut self) {
        self.meet_child_deadlines();
        self.meet_lease_deadlines();
        let planned = self.plan_wake.is_some_and(|at| at <= self.now);
        if planned || self.read_at <= self.now {
            self.ask_snapshot();
        }
    }

    fn settle(&mut self) {
        self.settle_leases();
        self.settle_children();
        self.settle_stop();
        self.report();
        let renew = self.leases_to_renew();
        if renew != self.renewing {
            self.renewing.clone_from(&renew);
            self.out.push(Effect::Renew(renew));
        }
        self.arm();
    }

    fn settle_stop(&mut self) {
        let Some(stop_by) = self.stop_by else { return };
        let holding = self.leases.values().any(Tenancy::is_occupied);
        let late = stop_by <= self.now;
        let cleaning = self.children.values().any(|child| child.unclean.is_some());
        if (holding || cleaning) && !late {
            return;
        }
        for host in self.running() {
            self.kill(&host);
        }
        let reaped = self.children.values().all(|child| child.state.is_gone());
        if reaped || late {
            let how = if holding || !reaped { "out of time; its leases expire" } else { "stopped" };
            self.say_event(self.my_subject(), how.to_owned(), EventId::NODE_LEFT);
            self.out.push(Effect::Exit);
            self.ended = true;
        }
    }

    /// Asks for a wake-up at the next deadline, unless an earlier one is armed.
    fn arm(&mut self) {
        let deadlines = [Some(self.read_at), self.plan_wake, self.stop_by];
        let deadlines = deadlines.into_iter().flatten();
        let next = deadlines.chain(self.child_deadlines()).chain(self.lease_deadlines()).min();
        let next = next.unwrap_or(self.read_at).min(self.now.after(TURN_EVERY));
        let next = next.max(self.now.after(Millis(1)));
        if !self.ended && self.armed.is_none_or(|armed| armed <= self.now || next < armed) {
            self.armed = Some(next);
            self.out.push(Effect::WakeAt(next));
        }
    }

    /// Reads the store now, at most once per call.
    pub(super) fn ask_snapshot(&mut self) {
        self.plan_wake = None;
        // Unless it comes, it is asked for again: when the store returns from an outage, owners
        // have a ttl to take up again what is still theirs.
        self.read_at = self.now.after(Millis(self.timing.ttl.0 / 2));
        if !self.out.contains(&Effect::ReadSnapshot) {
            self.out.push(Effect::ReadSnapshot);
        }
    }

    /// Reads the store at this time at the latest.
    pub(super) fn ask_snapshot_by(&mut self, at: BootTime) {
        self.read_at = self.read_at.min(at);
    }

    /// A snapshot came: the next one is due a while later, or when its plan says.
    pub(super) fn read_again(&mut self, plan_wake: Option<Timestamp>) {
        self.read_at = self.now.after(READ_EVERY);
        self.plan_wake = plan_wake.and_then(|at| self.to_boot_time(at));
    }

    fn to_boot_time(&self, at: Timestamp) -> Option<BootTime> {
        let seen = self.seen.as_ref()?;
        Some(seen.at.after(at.since(seen.snapshot.now)))
    }

    /// The store's clock as far as we can tell.
    pub(super) fn store_now(&self) -> Timestamp {
        let seen = self.seen.as_ref();
        seen.map_or(Timestamp(0), |seen| seen.snapshot.now.after(self.now.since(seen.at)))
    }

    pub(super) fn policy(&self, lease: &LeaseName) -> GroupPolicy {
        let LeaseName::Group(name) = lease else {
            return GroupPolicy::default();
        };
        let group = self.seen.as_ref().and_then(|seen| seen.snapshot.definitions.group(name));
        group.map(|group| group.policy.clone()).unwrap_or_default()
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    /// Until when failures of a group's members count for nothing; none when they count.
    pub(super) fn unmonitored_until(&self, lease: &LeaseName) -> Option<Timestamp> {
        let LeaseName::Group(name) = lease else { return None };
        let order = self.seen.as_ref()?.snapshot.group_order(name)?;
        order.unmonitored_until.filter(|until| *until > self.store_now())
    }

    /// Tells the operator, unless it is what was said of the same subject last.
    pub(super) fn say(&mut self, subject: String, sentence: String) {
        self.tell(subject, sentence, None);
    }

    /// Tells the operator what is an operator event.
    pub(super) fn say_event(&mut self, subject: String, sentence: String, event: EventId) {
        self.tell(subject, sentence, Some(event));
    }

    fn tell(&mut self, subject: String, sentence: String, event: Option<EventId>) {
        if self.said.get(&subject) == Some(&sentence) {
            return;
        }
        self.said.insert(subject.clone(), sentence.clone());
        self.out.push(Effect::Say(Reason { subject, sentence, event }));
    }

    pub(super) fn say_of(&mut self, lease: &LeaseName, sentence: String) {
        self.tell_of(lease, sentence, None);
    }

    pub(super) fn tell_of(&mut self, lease: &LeaseName, sentence: String, event: Option<EventId>) {
        self.tell(subject(lease), sentence, event);
    }

    fn my_subject(&self) -> String {
        subject(&LeaseName::Node(self.me.clone()))
    }

    /// With which cause a lease is let go when the node stops.
    pub(super) const STOP_CAUSE: Cause = Cause::Drain;
}

/// A lease in a sentence: `group partners`.
pub(super) fn subject(lease: &LeaseName) -> String {
    match lease {
        LeaseName::Node(node) => format!("node {node}"),
        LeaseName::Group(group) => format!("group {group}"),
        LeaseName::Instance(host, node) => format!("instance {host}@{node}"),
    }
}
