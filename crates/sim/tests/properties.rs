//! What must hold whatever happens. proptest prints the smallest failing input and the seed that
//! found it, and keeps the seed in `properties.regressions`; `PROPTEST_CASES=10000` looks longer.

use std::collections::{BTreeMap, BTreeSet};

use cluster::placement::{Standing, may_own};
use cluster::{
    AcquireOutcome, Agent, Effect, Event, Exit, LeaseView, MoveRequest, NodeView, Phase, Presence,
    Snapshot, Step, Timing, plan,
};
use model::definition::{Group, GroupPolicy, Host};
use model::{
    BootTime, Cause, Definitions, Epoch, Evidence, FailureReach, GroupName, HostName, LeaseName,
    Millis, NodeName, ResourceName,
};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use sim::{Cut, Store, World};

/// So many cases, unless `PROPTEST_CASES` says otherwise.
fn cases(usually: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(usually),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

const NODES: [&str; 4] = ["a", "b", "c", "d"];
const TTL: Millis = Timing::TTL_DEFAULT;

fn node(index: usize) -> NodeName {
    NodeName::new(NODES[index]).expect("a name")
}

fn group_lease() -> LeaseName {
    LeaseName::Group(GroupName::new("g").expect("a name"))
}

fn subset(bits: u8) -> Vec<NodeName> {
    (0..NODES.len()).filter(|index| bits & (1 << index) != 0).map(node).collect()
}

/// Group `g` with host `h`, and host `s` that is not clustered.
fn definitions(owners: u8, preferred: u8) -> Definitions {
    let policy = GroupPolicy {
        failovers_max: Some(1000),
        drain_timeout: Millis::seconds(2),
        ..GroupPolicy::default()
    };
    let group = Group {
        possible_owners: subset(owners),
        preferred_owners: subset(preferred),
        policy,
        ..Group::new(GroupName::new("g").expect("a name"))
    };
    let clustered =
        Host { group: Some(group.name.clone()), ..Host::new(HostName::new("h").expect("a name")) };
    let host = Host::new(HostName::new("s").expect("a name"));
    Definitions { groups: vec![group], hosts: vec![clustered, host], ..Definitions::default() }
}

fn presence() -> impl Strategy<Value = Presence> {
    prop_oneof![
        5 => Just(Presence::Present),
        1 => Just(Presence::ConnectionGone),
        1 => Just(Presence::ConfirmedDead),
        1 => Just(Presence::Left),
    ]
}

fn cause() -> impl Strategy<Value = Cause> {
    proptest::sample::select(vec![
        Cause::Start,
        Cause::Restart,
        Cause::Failover,
        Cause::NodeLost,
        Cause::Move,
        Cause::Drain,
    ])
}

prop_compose! {
    fn lease(name: LeaseName)(
        holder in proptest::option::weighted(0.7, 0..NODES.len()),
        offered_to in proptest::option::of(0..NODES.len()),
        epoch in 1..9u64,
        left in -5000..3000i64,
        age in 0..5000i64,
        cause in cause(),
    ) -> (LeaseView, i64, i64) {
        let offered_to = offered_to.filter(|_| holder.is_none());
        let view = LeaseView {
            lease: name.clone(),
            holder: holder.map(node),
            epoch: Epoch(epoch),
            expires_at: Default::default(),
            changed_at: Default::default(),
            cause,
            reason: "of the test".to_owned(),
            offered_to: offered_to.map(node),
        };
        (view, left, age)
    }
}

prop_compose! {
    fn store()(
        owners in 0..16u8,
        preferred in 0..16u8,
        defined in proptest::bool::weighted(0.9),
        nodes in proptest::collection::vec((presence(), -2000..3000i64), 0..=NODES.len()),
        group in proptest::option::weighted(0.8, lease(group_lease())),
        instances in proptest::collection::vec((0..NODES.len(), -5000..3000i64), 0..4),
        wish in proptest::option::of((proptest::option::of(0..NODES.len()), 0..90_000i64)),
    ) -> Store {
        let definitions = if defined { Some(definitions(owners, preferred)) } else { None };
        let definitions = definitions.unwrap_or_default();
        let mut store = Store::new(definitions, TTL);
        let moment = |offset: i64| model::Timestamp(store.now.0 + offset);
        for (index, (presence, left)) in nodes.into_iter().enumerate() {
            let (name, expires_at) = (node(index), moment(left));
            let epoch = Epoch(1);
            let (machine, version) = (String::new(), String::new());
            let view = NodeView { name, epoch, presence, expires_at, machine, version };
            store.nodes.insert(view.name.clone(), view);
        }
        if let Some((mut view, left, age)) = group {
            view.expires_at = moment(left);
            view.changed_at = moment(-age);
            store.leases.insert(view.lease.clone(), view);
        }
        for (index, left) in instances {
            let lease = LeaseName::Instance(HostName::new("s").expect("a name"), node(index));
            let (expires_at, changed_at) = (moment(left), moment(-5000));
            store.leases.insert(lease.clone(), LeaseView {
                lease, holder: Some(node(index)), epoch: Epoch(1), expires_at, changed_at,
                cause: Cause::Start, reason: "of the test".to_owned(), offered_to: None,
            });
        }
        if let Some((to, age)) = wish {
            let group = GroupName::new("g").expect("a name");
            let request = MoveRequest {
                group: group.clone(), to: to.map(node), by: "ops".to_owned(), at: moment(-age),
            };
            store.moves.insert(group, request);
        }
        store
    }
}

/// Does in the store what the plan of a node says; tells whether it said anything.
fn carry_out(store: &mut Store, me: &NodeName) -> bool {
    let steps = plan(&store.snapshot(), me).steps;
    let any = !steps.is_empty();
    for step in steps {
        match step {
            Step::Acquire { request, .. } => {
                let outcome = store.acquire(me, &request);
                assert!(matches!(outcome, AcquireOutcome::Granted(..)), "{outcome:?}");
            }
            Step::TakeOffline(step) => assert!(store.let_go(me, &step)),
            Step::Bury { lease, seen_epoch, reason } => store.bury(&lease, seen_epoch, &reason),
            Step::RefuseMove { group, .. } => {
                store.moves.remove(&group);
            }
        }
    }
    any
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn only_a_possible_owner_takes_a_group_and_only_one_that_is_free(store in store()) {
        let snapshot = store.snapshot();
        let mut takers = 0;
        for me in subset(15) {
            for step in plan(&snapshot, &me).steps {
                let Step::Acquire { request, .. } = step else { continue };
                let LeaseName::Group(name) = &request.lease else { continue };
                takers += 1;
                let standing = Standing::of(&snapshot, &request.lease);
                let free = !matches!(standing, Standing::Held(..));
                prop_assert!(free, "{me} takes from {standing:?}");
                let group = snapshot.definitions.group(name).expect("a defined group");
                prop_assert!(may_own(&snapshot, group, &me), "{me} may not own it");
                prop_assert!(snapshot.is_alive(&me));
            }
        }
        let fresh = snapshot.leases.iter().all(|view| match &view.holder {
            Some(_) => view.expires_at >= snapshot.now,
            None => view.changed_at >= snapshot.now,
        });
        // For what nobody ever had the snapshot holds no moment; there agents wait by themselves.
        let known = snapshot.lease(&group_lease()).is_some();
        let shared = takers <= 1 || !fresh || !known;
        prop_assert!(shared, "{takers} nodes take what has just become free");
    }

    #[test]
    fn a_plan_comes_to_rest(mut store in store()) {
        for _ in 0..10 {
            let mut any = false;
            for me in subset(15) {
                any |= carry_out(&mut store, &me);
            }
            if !any {
                return Ok(());
            }
        }
        prop_assert!(false, "still planning: {:?}", plan(&store.snapshot(), &node(0)));
    }
}

/// Something that happens to one agent; numbers choose among what is possible then.
#[derive(Debug, Clone)]
enum Happens {
    Snapshot(Box<Snapshot>),
    Renewed { ago: u64, lost: bool, stale: bool },
    Acquired { ago: u64, how: u8 },
    Released { ok: bool },
    Ready(bool),
    Active(bool),
    Inactive(bool),
    Progress(bool),
    Exited(bool, u8),
    Tick,
    Stop,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => store().prop_map(|store| Happens::Snapshot(Box::new(store.snapshot()))),
        8 => (0..3000u64, proptest::bool::weighted(0.1), proptest::bool::weighted(0.1))
            .prop_map(|(ago, lost, stale)| Happens::Renewed { ago, lost, stale }),
        8 => (0..3000u64, 0..6u8).prop_map(|(ago, how)| Happens::Acquired { ago, how }),
        2 => any::<bool>().prop_map(|ok| Happens::Released { ok }),
        6 => any::<bool>().prop_map(Happens::Ready),
        6 => any::<bool>().prop_map(Happens::Active),
        2 => any::<bool>().prop_map(Happens::Inactive),
        4 => any::<bool>().prop_map(Happens::Progress),
        2 => (any::<bool>(), 0..3u8).prop_map(|(host, how)| Happens::Exited(host, how)),
        2 => Just(Happens::Tick),
        1 => proptest::bool::weighted(0.1)
            .prop_map(|stop| if stop { Happens::Stop } else { Happens::Tick }),
    ]
}

/// One agent and what a bystander knows of its hosts.
struct Watched {
    agent: Agent,
    now: BootTime,
    armed: Option<BootTime>,
    trusted: BTreeMap<ResourceName, (Epoch, BootTime)>,
    asked: Vec<(LeaseName, Epoch)>,
    released: Vec<(LeaseName, Epoch)>,
}

impl Watched {
    fn event(&mut self, happens: Happens) -> Option<Event> {
        let before = |ago: u64| BootTime(self.now.0.saturating_sub(ago));
        let host =
            |clustered: bool| ResourceName::new(if clustered { "h" } else { "s" }).expect("a name");
        let epoch = |host: &ResourceName| self.trusted.get(host).map(|(epoch, _)| *epoch);
        Some(match happens {
            Happens::Snapshot(snapshot) => Event::Snapshot(*snapshot),
            Happens::Renewed { ago, lost, stale } => {
                let held = self.agent.leases().filter_map(|(lease, _, epoch)| {
                    Some((lease.clone(), Epoch(epoch?.0 - u64::from(stale))))
                });
                let (lost, renewed) = held.partition(|_| lost);
                Event::Renewed { sent_at: before(ago), renewed, lost }
            }
            Happens::Acquired { ago, how } => {
                let (lease, seen) = self.asked.pop()?;
                let outcome = match how {
                    0 => AcquireOutcome::Refused("of the test".to_owned()),
                    1 => AcquireOutcome::Unknown("of the test".to_owned()),
                    _ => AcquireOutcome::Granted(Epoch(seen.0 + 1), Evidence::Silent),
                };
                Event::Acquired { lease, sent_at: before(ago), outcome }
            }
            Happens::Released { ok } => {
                let (lease, epoch) = self.released.pop()?;
                Event::Released { lease, epoch, ok }
            }
            Happens::Ready(which) => Event::InstanceReady(host(which)),
            Happens::Active(which) => Event::InstanceActive(host(which), epoch(&host(which))?),
            Happens::Inactive(which) => {
                let epoch = epoch(&host(which))?;
                self.trusted.remove(&host(which));
                Event::InstanceInactive(host(which), epoch)
            }
            Happens::Progress(which) => Event::Progress(host(which)),
            Happens::Exited(which, how) => {
                let exit = match how {
                    0 => Exit::Expected,
                    1 => Exit::TrustEnded,
                    _ => Exit::Failed("of the test".to_owned(), FailureReach::Soft),
                };
                self.trusted.remove(&host(which));
                Event::InstanceExited(host(which), exit)
            }
            Happens::Tick => Event::Tick,
            Happens::Stop => Event::Stop,
        })
    }

    fn hand_in(&mut self, event: Event) -> Result<(), TestCaseError> {
        for effect in self.agent.handle(event, self.now) {
            match effect {
                Effect::Activate { resource: host, epoch, trust_until, .. } => {
                    prop_assert!(trust_until > self.now, "activated without trust");
                    self.trusted.insert(host, (epoch, trust_until));
                }
                Effect::Trust { resource: host, trust_until } => {
                    let known = self.trusted.get_mut(&host);
                    let (_, until) = known.expect("trust for a host that works");
                    prop_assert!(trust_until > *until, "trust never shrinks");
                    *until = trust_until;
                }
                Effect::Kill(host) => {
                    self.trusted.remove(&host);
                }
                Effect::Acquire(request) => {
                    let before: BTreeSet<_> = self.asked.iter().map(|(lease, _)| lease).collect();
                    let waits = before.contains(&request.lease);
                    prop_assert!(!waits || self.now.0 > 10_000, "two questions at once");
                    self.asked.retain(|(lease, _)| *lease != request.lease);
                    self.asked.push((request.lease, request.seen_epoch));
                }
                Effect::Release { lease, epoch, .. } => self.released.push((lease, epoch)),
                Effect::WakeAt(at) => {
                    prop_assert!(at > self.now);
                    self.armed = Some(at);
                }
                Effect::Exit => {
                    self.trusted.clear();
                    self.armed = None;
                }
                Effect::ReadSnapshot
                | Effect::Bury { .. }
                | Effect::DropMove { .. }
                | Effect::Renew(_)
                | Effect::Spawn { .. }
                | Effect::Report(_)
                | Effect::Deactivate { .. }
                | Effect::Say(_) => {}
            }
        }
        for (host, (epoch, until)) in &self.trusted {
            let now = self.now;
            prop_assert!(*until > now, "{host} (epoch {epoch}) trusted until {until:?} at {now:?}");
            let armed = self.armed.expect("a wake-up");
            prop_assert!(
                armed <= *until,
                "{host} is trusted until {until:?}, wake-up at {armed:?}"
            );
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn no_host_works_beyond_its_trust(
        events in proptest::collection::vec((0..1200u64, happens()), 1..150),
    ) {
        let mut watched = Watched {
            agent: Agent::new(node(0), Epoch(1), Timing::of(TTL)),
            now: BootTime(5000),
            armed: None,
            trusted: BTreeMap::new(),
            asked: Vec::new(),
            released: Vec::new(),
        };
        for (pause, happens) in events {
            let then = watched.now.after(Millis(pause));
            while let Some(armed) = watched.armed.filter(|armed| *armed <= then) {
                watched.now = armed;
                watched.hand_in(Event::Tick)?;
            }
            watched.now = then;
            if let Some(event) = watched.event(happens) {
                watched.hand_in(event)?;
            }
        }
    }
}

/// A fault; numbers choose the node.
#[derive(Debug, Clone)]
enum Fault {
    Freeze(usize),
    Thaw(usize),
    Cut(usize),
    Mend(usize),
    Die(usize, bool),
    Stop(usize),
    Start(usize),
    KillHost(usize, bool),
    Hang(usize, bool),
    Deafen(usize),
    Move(Option<usize>),
    StoreAway,
    StoreBack,
}

fn fault() -> impl Strategy<Value = Fault> {
    let at = || 0..3usize;
    prop_oneof![
        1 => at().prop_map(Fault::Freeze),
        1 => at().prop_map(Fault::Thaw),
        1 => at().prop_map(Fault::Cut),
        1 => at().prop_map(Fault::Mend),
        1 => (at(), any::<bool>()).prop_map(|(node, confirmed)| Fault::Die(node, confirmed)),
        1 => at().prop_map(Fault::Stop),
        2 => at().prop_map(Fault::Start),
        1 => (at(), any::<bool>()).prop_map(|(node, host)| Fault::KillHost(node, host)),
        1 => (at(), any::<bool>()).prop_map(|(node, host)| Fault::Hang(node, host)),
        1 => at().prop_map(Fault::Deafen),
        2 => proptest::option::of(at()).prop_map(Fault::Move),
        1 => Just(Fault::StoreAway),
        2 => Just(Fault::StoreBack),
    ]
}

fn inflict(world: &mut World, fault: &Fault) {
    let host =
        |clustered: bool| ResourceName::new(if clustered { "h" } else { "s" }).expect("a name");
    match fault {
        Fault::Freeze(at) => world.freeze(&node(*at)),
        Fault::Thaw(at) => world.thaw(&node(*at)),
        Fault::Cut(at) => world.cut(&node(*at), Cut::Both, Presence::Present),
        Fault::Mend(at) => world.mend(&node(*at)),
        Fault::Die(at, confirmed) => {
            let presence = if *confirmed { Presence::ConfirmedDead } else { Presence::Present };
            world.kill(&node(*at), presence);
        }
        Fault::Stop(at) => world.stop(&node(*at)),
        Fault::Start(at) => {
            if !world.store.away && world.machines[&node(*at)].agent.is_none() {
                world.start(&node(*at));
            }
        }
        Fault::KillHost(at, which) => {
            world.fail(&node(*at), &host(*which), "killed by signal 9", FailureReach::Soft);
        }
        Fault::Hang(at, which) => world.hang(&node(*at), &host(*which)),
        Fault::Deafen(at) => {
            world.deafen(&node(*at), &host(true));
        }
        Fault::Move(to) => {
            let group = GroupName::new("g").expect("a name");
            world.request_move(&group, to.map(node), "ops");
        }
        Fault::StoreAway => world.store_away(),
        Fault::StoreBack => {
            world.store_back();
        }
    }
}

fn told(world: &World) -> String {
    world.log.iter().map(|line| format!("{line}\n")).collect()
}

fn phase(world: &World, at: usize, lease: &LeaseName) -> Option<Phase> {
    let agent = world.machines[&node(at)].agent.as_ref()?;
    agent.leases().find(|(name, _, _)| *name == lease).map(|(_, phase, _)| phase.clone())
}

proptest! {
    #![proptest_config(cases(60))]

    /// The world itself checks at each step that nobody works without trust, and never two at once.
    #[test]
    fn whatever_breaks_one_owner_is_online_when_it_is_mended(
        faults in proptest::collection::vec((0..4000u64, fault()), 0..30),
    ) {
        let nodes = subset(7);
        let mut world = World::new(&nodes, definitions(0, 1), Timing::of(TTL));
        for node in &nodes {
            world.start(node);
        }
        let mut at = 2000;
        for (pause, fault) in &faults {
            at += pause;
            world.run_until(Millis(at));
            world.say("--", &format!("{fault:?}"));
            inflict(&mut world, fault);
        }
        world.run_until(Millis(at + 1000));
        world.say("--", "all is mended");
        world.store_back();
        for (index, name) in nodes.iter().enumerate() {
            inflict(&mut world, &Fault::Mend(index));
            inflict(&mut world, &Fault::Thaw(index));
            if world.machines[name].agent.is_none() {
                world.start(name);
            }
        }
        world.run_until(Millis(at + 60_000));
        for (index, name) in nodes.iter().enumerate() {
            if world.machines[name].agent.is_none() {
                inflict(&mut world, &Fault::Start(index)); // It was told to stop while frozen.
            }
        }
        world.run_until(Millis(at + 120_000));
        prop_assert!(world.violations.is_empty(), "{:?}", world.violations);
        let group = group_lease();
        let owners = (0..3).filter(|at| phase(&world, *at, &group) == Some(Phase::Online)).count();
        prop_assert_eq!(owners, 1, "{}", told(&world));
        for at in 0..3 {
            let instance = LeaseName::Instance(HostName::new("s").expect("a name"), node(at));
            let online = phase(&world, at, &instance) == Some(Phase::Online);
            prop_assert!(online, "{instance} is not online:\n{}", told(&world));
        }
    }
}
