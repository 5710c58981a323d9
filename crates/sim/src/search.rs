//! The search for violations: a cluster, faults and operators, all drawn from one seed.
//!
//! [`run`] draws them, lets them happen, ends the faults, lets the cluster settle, and asks the
//! checkers. The same seed makes the same log, line for line.

mod draw;
mod faults;
mod settle;

use std::hash::Hasher;

use model::Millis;

use crate::{Line, Mutant, Violation, World};

pub use faults::Fault;

/// What became of a seed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The cluster, in a few words.
    pub cluster: String,
    /// What may never happen and did.
    pub violations: Vec<Violation>,
    /// What happened.
    pub log: Vec<Line>,
    /// How much time passed in the cluster.
    pub simulated: Millis,
    /// How many faults and verbs there were.
    pub faults: usize,
    /// How many messages were sent, and how often groups changed their owner.
    pub messages: usize,
    /// How often groups changed their owner.
    pub moves: usize,
    /// A digest of the log.
    pub digest: u64,
}

/// Draws a cluster from a seed and runs it, perhaps with a broken protocol.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Outcome {
    let drawn = draw::draw(seed);
    let mut world = World::new(&drawn.nodes, drawn.definitions.clone(), drawn.timing);
    world.leave_to_chance(fastrand::Rng::with_seed(seed.rotate_left(32) ^ 0x5eed));
    world.traffic = Some(drawn.traffic.clone());
    world.weather = drawn.weather;
    if let Some(mutant) = mutant {
        world.break_protocol(mutant);
    }
    for (node, drift) in drawn.nodes.iter().zip(&drawn.drifts) {
        if let Some(machine) = world.machines.get_mut(node) {
            machine.drift(*drift);
        }
        world.start(node);
    }
    for (at, fault) in &drawn.schedule {
        world.run_until(*at);
        world.inflict(fault);
        // A broken protocol is caught; what follows says nothing more.
        if mutant.is_some() && !world.violations.is_empty() {
            break;
        }
    }
    if mutant.is_none() || world.violations.is_empty() {
        settle::settle(&mut world, &drawn);
    }
    let cluster = drawn.to_string();
    Outcome {
        seed,
        cluster,
        simulated: world.now(),
        faults: drawn.schedule.iter().filter(|(_, fault)| !fault.is_traffic()).count(),
        messages: world.store.messages.messages.len(),
        moves: world.moves(),
        digest: digest(&world.log),
        violations: world.violations,
        log: world.log,
    }
}

/// FNV-1a: the same on every machine and with every version, unlike the standard library's.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn digest(log: &[Line]) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    for line in log {
        hasher.write(line.to_string().as_bytes());
    }
    hasher.finish()
}
