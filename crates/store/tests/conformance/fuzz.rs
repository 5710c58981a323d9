//! Publishers under fences against takeovers, in many interleavings from one seed.
//!
//! The messages of an epoch go to a port of their own, so that the backlog counts them. Two things
//! must hold: once an acquire was granted, no message of an older epoch appears any more; and
//! what was acknowledged is there, what was fenced off is not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Epoch, Millis};
use store::{Acquired, Fence, NewMessage, Store, StoreError};
use tokio::task::JoinSet;

use crate::Engine;
use crate::case::{Member, batch, group, join, message, route};

/// How long the fuzz runs; `BATON_FUZZ_SECONDS` makes it longer.
const SECONDS: u64 = 3;
/// Publishers of each node.
const PUBLISHERS: usize = 4;
/// Short, because a store that has just come back gives owners a whole one to renew.
const TTL: Millis = Millis(300);
/// Names a seed to repeat.
const SEED_VARIABLE: &str = "BATON_FUZZ_SEED";

/// A small generator, so that a seed is all a run needs (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
    }
}

/// Messages by epoch.
type Counts = BTreeMap<u64, u64>;

async fn committed(store: &dyn Store) -> Counts {
    let backlog = store.backlog().await.expect("counted");
    backlog
        .iter()
        .map(|line| (line.port["epoch".len()..].parse().expect("a port of ours"), line.count))
        .collect()
}

fn of_epoch(epoch: Epoch) -> NewMessage {
    NewMessage { routes: vec![route(&format!("epoch{epoch}"))], ..message("x") }
}

/// Publishes under a fence until it is refused, and counts what was acknowledged. It never looks
/// whether the lease is still held: that is the store's duty.
async fn publisher(store: Arc<dyn Store>, fence: Fence, seed: u64, stop: Instant) -> (u64, u64) {
    let mut dice = Dice(seed | 1);
    let mut acknowledged = 0;
    while Instant::now() < stop {
        let messages: Vec<_> = (0..=dice.below(8)).map(|_| of_epoch(fence.epoch())).collect();
        match store.publish(&fence, &batch(messages.clone())).await {
            Ok(_) => acknowledged += messages.len() as u64,
            Err(StoreError::Fenced { .. }) => break,
            Err(other) => panic!("{other}"),
        }
        if dice.below(100) == 0 {
            tokio::time::sleep(Duration::from_millis(dice.below(50))).await;
        }
    }
    (fence.epoch().0, acknowledged)
}

pub async fn no_message_is_committed_under_a_stale_epoch(engine: &dyn Engine) {
    let seed = std::env::var(SEED_VARIABLE).ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1);
    println!("repeat with {SEED_VARIABLE}={seed}");
    let seconds = std::env::var("BATON_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let stop = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    let mut dice = Dice(seed | 1);
    let nodes = [join(engine, "a").await, join(engine, "b").await];
    let mut publishers = JoinSet::new();
    let mut sealed = Counts::new();
    let mut epoch = Epoch(0);
    while Instant::now() < stop {
        let taker = &nodes[dice.below(2) as usize];
        let fence = take_over(taker, &nodes, epoch, &mut dice).await;
        epoch = fence.epoch();
        // The grant has been answered: from now on the older epochs must not grow.
        let seen = committed(taker.store.as_ref()).await;
        sealed.extend(seen.into_iter().filter(|(older, _)| *older < epoch.0));
        for _ in 0..PUBLISHERS {
            let store = taker.store.clone();
            publishers.spawn(publisher(store, fence.clone(), dice.below(u64::MAX), stop));
        }
        tokio::time::sleep(Duration::from_millis(dice.below(120))).await;
    }
    let mut acknowledged = Counts::new();
    while let Some(ended) = publishers.join_next().await {
        let (epoch, count) = ended.expect("a publisher panicked");
        *acknowledged.entry(epoch).or_default() += count;
    }
    acknowledged.retain(|_, count| *count > 0);
    let finally = committed(nodes[0].store.as_ref()).await;
    println!("{} takeovers, {} messages", epoch, finally.values().sum::<u64>());
    assert!(epoch.0 >= 5, "only {epoch} takeovers: this proves little");
    for (older, count) in &finally {
        if *older < epoch.0 {
            let before = sealed.get(older).copied().unwrap_or(0);
            assert_eq!(*count, before, "epoch {older} grew after its takeover (seed {seed})");
        }
    }
    assert_eq!(finally, acknowledged, "seed {seed}");
}

/// Takes the lease from whoever has it: as its own node again, or because it ran out.
async fn take_over(taker: &Member, nodes: &[Member; 2], seen: Epoch, dice: &mut Dice) -> Fence {
    let lease = group("g");
    for holder in nodes {
        // Its trust has ended: the lease runs out under the feet of its publishers.
        let held = [(lease.clone(), seen)];
        holder.store.renew(&holder.name, &held, Millis(0)).await.expect("the store answers");
    }
    let granted = loop {
        tokio::time::sleep(Duration::from_millis(1 + dice.below(3))).await;
        match taker.acquire_seen(&lease, seen, TTL).await {
            Acquired::Granted(granted) => break granted,
            Acquired::Refused(_) => {}
        }
    };
    taker.fence(&lease, granted.epoch).await.expect("what was just granted is current")
}
