//! Liveness, asked of each state: what a fair scheduler makes of it once faults end.
//!
//! "Eventually" of a path that faults may prolong for ever says little; "from here, without further
//! faults, in so many ticks" says what an operator wants to know, and is an invariant.

use super::{Doing, Lease, Life, Mutant, NODES, Receipt, State, TTL};

/// Ticks until everything is settled: what ran out must be taken over, and two items received.
const SETTLED_AFTER: u8 = 3 * TTL;

impl<const GROUPS: usize> Lease<GROUPS> {
    /// Whether each group is online and each item a message, once every node is up again.
    pub(super) fn comes_online(&self, state: &State<GROUPS>) -> bool {
        let mut state = state.clone();
        for node in &mut state.nodes {
            node.life = Life::Up;
        }
        for _ in 0..SETTLED_AFTER {
            self.round(&mut state);
            state.tick(self.is(Mutant::RenewFromAnswer));
            self.renew_all(&mut state);
        }
        self.round(&mut state);
        state.groups.iter().enumerate().all(|(g, group)| {
            let Some(holder) = group.holder else { return false };
            let work = &state.nodes[usize::from(holder)].works[g];
            let online = work.epoch == group.epoch && work.trust > 0;
            online && !group.file && group.messages == group.puts && group.receipt != Receipt::Open
        })
    }

    /// Whether a node that is up has what a dead one had, soon.
    pub(super) fn is_taken_over(&self, state: &State<GROUPS>) -> bool {
        let mut state = state.clone();
        let up: Vec<usize> = (0..NODES).filter(|n| state.nodes[*n].life == Life::Up).collect();
        let dead = |holder: Option<u8>| {
            holder.is_some_and(|holder| state.nodes[usize::from(holder)].life == Life::Down)
        };
        let orphans: Vec<usize> = (0..GROUPS).filter(|g| dead(state.groups[*g].holder)).collect();
        if up.is_empty() || orphans.is_empty() {
            return true;
        }
        for _ in 0..=TTL {
            self.round(&mut state);
            state.tick(self.is(Mutant::RenewFromAnswer));
        }
        orphans.iter().all(|g| {
            let holder = state.groups[*g].holder;
            holder.is_some_and(|holder| up.contains(&usize::from(holder)))
        })
    }

    fn renew_all(&self, state: &mut State<GROUPS>) {
        for n in 0..NODES {
            state.renew(n);
            self.answered(state, n);
        }
    }

    /// Each node does once whatever it can, in an order that never stands still.
    fn round(&self, state: &mut State<GROUPS>) {
        for n in 0..NODES {
            for g in 0..GROUPS {
                self.arrive(state, n, g);
                self.arrive(state, n, g);
                state.forget(n, g);
                if state.nodes[n].works[g].step == Doing::Waiting {
                    state.nodes[n].works[g].step = Doing::Nothing;
                }
                self.acquire(state, n, g, u8::MAX);
                for _ in 0..4 {
                    self.list(state, n, g);
                    self.arrive(state, n, g);
                    self.arrive(state, n, g);
                    self.proceed(state, n, g);
                }
            }
        }
    }
}
