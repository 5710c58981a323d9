//! A part of the search for violations, small enough for every build: `cargo xtask sim` is the
//! whole of it.

use sim::search::run;
use sim::{Mutant, World};

use cluster::{Snapshot, Timing};
use model::{Definitions, LeaseName, Millis, NodeName};

/// So many seeds here; an optimised build has the time for more.
const SEEDS: u64 = if cfg!(debug_assertions) { 40 } else { 200 };

/// So many seeds may a mutant live.
const MUTANT_SEEDS: u64 = 400;

#[test]
fn nothing_that_may_never_happen_does() {
    for seed in 0..SEEDS {
        let outcome = run(seed, None);
        let first: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
        assert!(first.is_empty(), "cargo xtask sim --seed {seed}\n{}", first.join("\n"));
    }
}

#[test]
fn a_seed_makes_the_same_log_again() {
    for seed in [1, 17, 99] {
        let (once, again) = (run(seed, None), run(seed, None));
        assert_eq!(once.log, again.log, "seed {seed}");
        assert_eq!(once.digest, again.digest);
    }
    assert_ne!(run(1, None).digest, run(2, None).digest);
}

#[test]
fn every_mutant_is_caught() {
    let mut alive = Vec::new();
    for mutant in Mutant::ALL {
        let caught =
            (0..MUTANT_SEEDS).find(|seed| !run(*seed, Some(*mutant)).violations.is_empty());
        match caught {
            Some(seed) => println!("{mutant} caught by seed {seed}"),
            None => alive.push(mutant.name()),
        }
    }
    assert!(alive.is_empty(), "not caught within {MUTANT_SEEDS} seeds: {}", alive.join(", "));
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

fn group() -> LeaseName {
    "group/g".parse().expect("a lease")
}

/// A cluster of two with group g online on its first node.
fn live() -> World {
    let mut definitions = Definitions::default();
    for words in [&["group", "g", "preferred", "a", "b"][..], &["host", "h", "group", "g"][..]] {
        sim::script::settings::define(&mut definitions, words).expect("a definition");
    }
    let mut world = World::new(&[node("a"), node("b")], definitions, timing());
    world.start(&node("a"));
    world.start(&node("b"));
    world.run_until(Millis::seconds(5));
    world
}

fn timing() -> Timing {
    Timing::of(Timing::TTL_DEFAULT)
}

fn owner(snapshot: &Snapshot) -> Option<&NodeName> {
    snapshot.lease(&group())?.holder.as_ref()
}

#[test]
fn a_world_made_of_a_snapshot_goes_on_from_there() {
    let snapshot = live().store.snapshot();
    assert_eq!(owner(&snapshot), Some(&node("a")));
    let mut world = World::from_snapshot(&snapshot, timing());
    assert_eq!(world.now(), Millis(0));
    assert_eq!(world.log.len(), 1, "only that it settled: {:?}", world.log);
    assert_eq!(owner(&world.store.snapshot()), Some(&node("a")), "nothing moved");
    world.kill(&node("a"), cluster::Presence::ConfirmedDead);
    world.run_until(Millis::seconds(2));
    assert_eq!(owner(&world.store.snapshot()), Some(&node("b")));
    assert!(world.log.iter().any(|line| line.what.contains("a is confirmed dead; b is first")));
    assert!(world.violations.is_empty());
}
