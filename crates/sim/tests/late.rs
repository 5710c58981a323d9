//! Answers that come late, early or twice: what an agent makes of them must not depend on luck.

use cluster::{AcquireOutcome, Agent, ChildState, Effect, Event, Exit, Phase, Snapshot, Timing};
use model::definition::{Group, Host};
use model::{
    BootTime, Cause, Definitions, Epoch, Evidence, FailureReach, GroupName, LeaseName, Millis,
    NodeName, ResourceName,
};

use sim::Store;

/// Node `a` with group `g` and its hosts `h` and `i`, online under epoch 1.
struct Online {
    agent: Agent,
    store: Store,
    lease: LeaseName,
    now: BootTime,
}

fn host(name: &str) -> ResourceName {
    ResourceName::new(name).expect("a name")
}

fn online() -> Online {
    online_with(Timing::TTL_DEFAULT)
}

fn online_with(ttl: Millis) -> Online {
    let group = GroupName::new("g").expect("a group name");
    let hosts =
        ["h", "i"].map(|name| Host { group: Some(group.clone()), ..Host::new(host(name).into()) });
    let definitions = Definitions {
        groups: vec![Group { single_node: true, ..Group::new(group.clone()) }],
        hosts: hosts.to_vec(),
        ..Definitions::default()
    };
    let me = NodeName::new("a").expect("a node name");
    let mut store = Store::new(definitions, ttl);
    let epoch = store.join(&me);
    let mut online = Online {
        agent: Agent::new(me, epoch, Timing::of(ttl)),
        store,
        lease: LeaseName::Group(group),
        now: BootTime(1000),
    };
    online.read();
    online.granted(Epoch(0));
    for name in ["h", "i"] {
        online.hand_in(Event::InstanceReady(host(name)));
        online.hand_in(Event::InstanceActive(host(name), Epoch(1)));
    }
    assert_eq!(online.phase(), Phase::Online);
    online
}

impl Online {
    fn hand_in(&mut self, event: Event) -> Vec<Effect> {
        self.now.0 += 1;
        self.agent.handle(event, self.now)
    }

    fn read(&mut self) -> Vec<Effect> {
        let snapshot = self.store.snapshot();
        self.hand_in(Event::Snapshot(snapshot))
    }

    /// The store takes the lease down as ours; the answer is on its way.
    fn take(&mut self, seen_epoch: Epoch) -> Event {
        let me = NodeName::new("a").expect("a node name");
        let request = cluster::AcquireRequest {
            lease: self.lease.clone(),
            seen_epoch,
            cause: if seen_epoch == Epoch(0) { Cause::Start } else { Cause::Restart },
            reason: "of the test".to_owned(),
            resource: None,
            external: false,
        };
        let outcome = self.store.acquire(&me, &request);
        Event::Acquired { lease: self.lease.clone(), sent_at: self.now, outcome }
    }

    fn granted(&mut self, seen_epoch: Epoch) -> Vec<Effect> {
        let answer = self.take(seen_epoch);
        self.hand_in(answer)
    }

    fn phase(&self) -> Phase {
        let mut leases = self.agent.leases();
        let found = leases.find(|(lease, _, _)| **lease == self.lease);
        found.map(|(_, phase, _)| phase.clone()).expect("the lease")
    }

    fn host(&self, name: &str) -> ChildState {
        let mut hosts = self.agent.members();
        let found = hosts.find(|(at, _)| **at == host(name));
        found.map(|(_, state)| state.clone()).expect("the host")
    }

    fn fail(&mut self, name: &str) -> Vec<Effect> {
        self.read(); // The history must know the present epoch.
        self.hand_in(Event::InstanceExited(
            host(name),
            Exit::Failed("died".to_owned(), FailureReach::Soft),
        ))
    }
}

fn acquires(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Acquire(_))).count()
}

fn kills(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Kill(_))).count()
}

#[test]
fn a_snapshot_from_before_the_release_brings_nothing_back() {
    let mut world = online();
    world.read();
    let before: Snapshot = world.store.snapshot();
    world.hand_in(Event::Stop);
    for name in ["h", "i"] {
        world.hand_in(Event::InstanceInactive(host(name), Epoch(1)));
    }
    assert!(matches!(world.phase(), Phase::Releasing { .. }));
    let lease = world.lease.clone();
    world.hand_in(Event::Released { lease, epoch: Epoch(1), ok: true });
    assert_eq!(acquires(&world.hand_in(Event::Snapshot(before))), 0);
}

#[test]
fn a_snapshot_from_before_a_move_brings_nothing_back() {
    let mut world = online();
    let b = NodeName::new("b").expect("a node name");
    world.store.join(&b);
    let group = GroupName::new("g").expect("a group name");
    let (to, by, at) = (Some(b), "ops".to_owned(), world.store.now);
    let request = cluster::MoveRequest { group: group.clone(), to, by, at };
    let before = world.store.snapshot();
    world.store.moves.insert(group, request);
    world.read();
    for name in ["h", "i"] {
        world.hand_in(Event::InstanceInactive(host(name), Epoch(1)));
    }
    let lease = world.lease.clone();
    world.hand_in(Event::Released { lease, epoch: Epoch(1), ok: true });
    assert_eq!(acquires(&world.hand_in(Event::Snapshot(before))), 0);
    assert_eq!(world.phase(), Phase::NotOurs);
}

#[test]
fn a_snapshot_that_sees_our_new_epoch_before_the_answer_kills_nobody() {
    let mut world = online();
    assert_eq!(acquires(&world.fail("h")), 1);
    let answer = world.take(Epoch(1));
    assert_eq!(kills(&world.read()), 0);
    let epoch = Epoch(1);
    let (sent_at, lost) = (world.now, vec![(world.lease.clone(), epoch)]);
    let refused = Event::Renewed { sent_at, renewed: Vec::new(), lost };
    assert_eq!(kills(&world.hand_in(refused)), 0);
    let lease = world.lease.clone();
    assert_eq!(world.host("i"), ChildState::Active { lease, epoch });
    world.hand_in(answer);
    assert!(matches!(world.phase(), Phase::OnlinePending { .. }));
}

#[test]
fn a_sibling_that_the_fence_caught_on_the_way_is_not_a_second_failure() {
    let mut world = online();
    world.fail("h");
    world.granted(Epoch(1));
    let fenced = Exit::Failed("fenced".to_owned(), FailureReach::Soft);
    let effects = world.hand_in(Event::InstanceExited(host("i"), fenced));
    assert_eq!((acquires(&effects), kills(&effects)), (0, 0));
    for name in ["h", "i"] {
        world.hand_in(Event::InstanceReady(host(name)));
        world.hand_in(Event::InstanceActive(host(name), Epoch(2)));
    }
    assert_eq!(world.phase(), Phase::Online);
}

#[test]
fn a_failure_is_judged_by_a_history_that_knows_the_present_epoch() {
    let mut world = online();
    assert_eq!(acquires(&world.fail("h")), 1);
    world.granted(Epoch(1));
    world.hand_in(Event::InstanceReady(host("h")));
    let died = Exit::Failed("died".to_owned(), FailureReach::Soft);
    let effects = world.hand_in(Event::InstanceExited(host("h"), died));
    // The restart just made is not in the last snapshot: nothing is decided yet.
    assert_eq!(acquires(&effects), 0);
    assert!(matches!(world.phase(), Phase::Deciding(_)));
    world.read();
    assert!(matches!(world.phase(), Phase::Failed(retry) if retry.reason.contains("1 of 1")));
}

#[test]
fn a_grant_that_comes_after_its_trust_is_worth_nothing() {
    let mut world = online();
    world.fail("h");
    world.now.0 += 2600; // Ticks did not come either.
    let lease = world.lease.clone();
    let (sent_at, outcome) = (BootTime(1010), AcquireOutcome::Granted(Epoch(2), Evidence::Vacated));
    let effects = world.hand_in(Event::Acquired { lease, sent_at, outcome });
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Activate { .. })));
    assert_eq!(world.phase(), Phase::NotOurs);
}

#[test]
fn a_silence_that_the_node_slept_through_is_not_a_hang() {
    let mut world = online_with(Millis::seconds(60));
    world.now.0 += 10_000;
    assert_eq!(kills(&world.hand_in(Event::Tick)), 0);
    for _ in 0..4 {
        world.now.0 += 1000; // Now it is awake, and the hosts still say nothing.
        world.hand_in(Event::Tick);
    }
    assert!(matches!(world.host("h"), ChildState::Stopping { .. }));
}
