//! Whole clusters in simulated time.
//!
//! [`World`] runs the agents of `cluster` against a store of one page and child processes, in
//! virtual time, one event after the other. It reads no clock, opens nothing and draws nothing by
//! itself: the same calls make the same log. Stories of operators (`tests/scenarios`), the seeded
//! search for violations (`cargo xtask sim`), `--what-if` and `baton simulate` are all this code;
//! what an operator is told would happen is what the agents would do.
//!
//! Read in this order: [`World`] (the queue of what is due), [`store`] (what is durable),
//! [`machine`] and `process` (what runs where), `worker` (what hosts do for their ports), `fate`
//! and `operate` (the verbs), [`check`] (the bystanders).
//!
//! Where it is used: `tests/scenarios` holds one story a file, `cargo xtask scenarios` plays them;
//! `cargo xtask sim --seeds 2000` searches, `--seed N` plays one seed again with its log,
//! `--mutants` breaks the protocol in each known way ([`Mutant`]) to see that the checkers find it.
//!
//! What is simulated is less than what is real: the transactions of the store are instants, a
//! request to a partner is one, the death of a machine takes its processes with it at once, and a
//! machine that thaws looks at its clocks before anything else.

pub mod check;
mod fate;
mod line;
pub mod machine;
pub mod message_box;
mod mutant;
mod operate;
mod process;
pub mod script;
pub mod search;
pub mod store;
mod weather;
mod worker;
mod world;

pub use check::{Rule, Violation};
pub use line::Line;
pub use machine::{Cut, Machine, Proc, Work};
pub use mutant::Mutant;
pub use store::Store;
pub use weather::Weather;
pub use worker::Traffic;
pub use world::World;
