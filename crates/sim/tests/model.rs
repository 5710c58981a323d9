//! The lease protocol, explored exhaustively: `cargo test -p sim --release --test model`.
//!
//! Two nodes and two groups, one of them external; then two nodes and one group for longer, with
//! an item that the partner puts there twice. Each mutant of the protocol must have a
//! counterexample: a model that finds nothing wrong with a wrong protocol says nothing.

mod lease;

use std::io::Write;
use std::time::Instant;

use lease::{Lease, Mutant, property};
use stateright::{Checker, HasDiscoveries, Model};

/// Without optimisation a fault less is explored, so that it takes seconds there too.
const FAULTS_LESS: u8 = if cfg!(debug_assertions) { 1 } else { 0 };

/// Two nodes, a group whose fence is enough and an external one.
fn wide() -> Lease<2> {
    Lease {
        external: [false, true],
        epochs_max: 2,
        puts_max: 1,
        faults: 1 - FAULTS_LESS,
        moves: 1,
        mutant: None,
    }
}

/// Two nodes, one group, more of everything.
fn deep(external: bool) -> Lease<1> {
    Lease {
        external: [external],
        epochs_max: 4,
        puts_max: 2,
        faults: 3 - FAULTS_LESS,
        moves: 2,
        mutant: None,
    }
}

fn exhausted<const GROUPS: usize>(name: &str, lease: Lease<GROUPS>) {
    let begun = Instant::now();
    let checker = lease.checker().threads(2).spawn_bfs().join();
    let (states, reached) = (checker.unique_state_count(), checker.state_count());
    let (depth, seconds) = (checker.max_depth(), begun.elapsed().as_secs_f64());
    // Past the harness, which would keep it to itself.
    let mut out = std::io::stderr();
    writeln!(out, "{name}: {states} states, {reached} reached, depth {depth}, {seconds:.1} s")
        .expect("a place to write to");
    checker.assert_properties();
    assert!(checker.is_done());
}

#[test]
fn two_nodes_and_two_groups_are_safe_and_live() {
    exhausted("2 nodes, 2 groups", wide());
}

#[test]
fn two_nodes_and_one_group_are_safe_and_live_for_longer() {
    exhausted("2 nodes, 1 group, longer", deep(false));
    exhausted("2 nodes, 1 external group, longer", deep(true));
}

/// The mutant must break this property, and the counterexample is printed.
fn killed(mutant: Mutant, external: bool, property: &'static str) {
    let lease = Lease { mutant: Some(mutant), ..deep(external) };
    let wanted = HasDiscoveries::AllOf([property].into_iter().collect());
    let checker = lease.checker().threads(2).finish_when(wanted).spawn_bfs().join();
    let path = checker.discovery(property);
    let path = path.unwrap_or_else(|| panic!("{mutant:?} survives: {property}"));
    let actions: Vec<String> =
        path.into_actions().into_iter().map(|action| format!("{action:?}")).collect();
    println!("{mutant:?} breaks \"{property}\": {}", actions.join(", "));
}

#[test]
fn mutant_plain_check_without_a_lock() {
    killed(Mutant::PlainCheck, false, property::WRITES);
}

#[test]
fn mutant_epoch_reset_on_release() {
    killed(Mutant::EpochResetOnRelease, false, property::EPOCHS);
}

#[test]
fn mutant_unfenced_cleanup() {
    killed(Mutant::UnfencedCleanup, false, property::ONCE);
}

#[test]
fn mutant_release_before_the_worker_returned() {
    killed(Mutant::ReleaseBeforeReturn, true, property::FORMER);
}

#[test]
fn mutant_renew_counted_from_the_answer() {
    killed(Mutant::RenewFromAnswer, true, property::TRUST);
    killed(Mutant::RenewFromAnswer, true, property::FORMER);
}

#[test]
fn mutant_remove_before_commit() {
    killed(Mutant::RemoveBeforeCommit, false, property::LOST);
    killed(Mutant::RemoveBeforeCommit, false, property::RECEIPT);
}

#[test]
fn mutant_no_look_at_the_deadline() {
    killed(Mutant::NoDeadline, true, property::DEADLINE);
    killed(Mutant::NoDeadline, true, property::FORMER);
}

#[test]
fn mutant_external_takeover_on_connection_gone() {
    killed(Mutant::ExternalOnConnectionGone, true, property::FORMER);
}
