//! What a location remembers between polls. Losing it costs time, never a message.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use adapter::{Item, Sighting};
use model::definition::{ReceiveLocation, Stability};
use model::{BootTime, Millis};

/// How long an item that failed too often is left alone.
const PARKED_FOR: Millis = Millis::hours(1);

/// First wait of an item that failed; it doubles with each failure.
const FAILED_WAIT_FIRST: Millis = Millis(200);

/// Listings after which an item that none of them showed is forgotten, whatever they lacked.
const CYCLES_KEPT: u32 = 256;

/// Sightings, failures and finished items of one location.
///
/// Items are remembered by hashes, a few dozen bytes each, so that a folder of a million files
/// costs tens of megabytes. Two 64-bit hashes, one with the sighting, must coincide before two
/// items are taken for the same.
pub(crate) struct Memory {
    /// Whether the open receipts of earlier owners are settled, see `Cycle::close_gone`.
    pub receipts_settled: AtomicBool,
    hasher: RandomState,
    stability: Stability,
    attempts_max: u32,
    seen: Mutex<Seen>,
    /// Open receipts whose source was not listed, and since when not.
    missed: Mutex<HashMap<String, BootTime>>,
}

#[derive(Default)]
struct Seen {
    cycle: u32,
    items: HashMap<u64, Trace>,
}

struct Trace {
    sighting: u64,
    first_at: BootTime,
    cycle: u32,
    failures: u32,
    not_before: BootTime,
    known: bool,
    /// What a look saw, and when first, where the listing itself says too little.
    look: Option<(u64, BootTime)>,
    /// Why it is not received, for operators.
    trouble: Option<Arc<str>>,
}

/// What the memory says of an item just listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opinion {
    /// It may still be written to, or failed a moment ago.
    Wait,
    /// It is complete, as far as one can see from outside.
    Stable,
    /// It is received, and stays where it is.
    Known,
}

impl Memory {
    pub fn new(location: &ReceiveLocation) -> Memory {
        Memory {
            receipts_settled: AtomicBool::new(false),
            hasher: RandomState::new(),
            stability: location.stability.clone(),
            attempts_max: location.item_attempts_max.max(1),
            seen: Mutex::default(),
            missed: Mutex::default(),
        }
    }

    /// A listing begins.
    pub fn begin(&self) {
        let mut seen = self.lock();
        seen.cycle = seen.cycle.wrapping_add(1);
        let cycle = seen.cycle;
        if cycle.is_multiple_of(CYCLES_KEPT) {
            // For a source whose listings are never complete.
            seen.items.retain(|_, trace| cycle.wrapping_sub(trace.cycle) <= CYCLES_KEPT);
        }
    }

    /// A complete listing does not show the sources of these receipts. Answers those that have
    /// been missed for long enough, and whether others have not yet.
    pub fn missed(&self, keys: Vec<String>, now: BootTime, enough: Millis) -> (Vec<String>, bool) {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *missed);
        let mut gone = Vec::new();
        for key in keys {
            let since = before.get(&key).copied().unwrap_or(now);
            if now.since(since) >= enough {
                gone.push(key);
            } else {
                missed.insert(key, since);
            }
        }
        (gone, !missed.is_empty())
    }

    /// Whether an item that its listing does not describe is complete: two looks at it, far enough
    /// apart, saw the same.
    pub fn looks_stable(&self, item: &Item, look: &Sighting, now: BootTime) -> bool {
        let Stability::Sightings(apart) = self.stability else { return true };
        let listed = item.sighting;
        if listed.bytes.is_some() && listed.modified_ms.is_some() {
            return true;
        }
        let look = self.hasher.hash_one((look.bytes, look.modified_ms));
        let path = self.path_hash(&item.path);
        let mut seen = self.lock();
        let Some(trace) = seen.items.get_mut(&path) else { return false };
        match trace.look {
            Some((before, at)) if before == look => now.since(at) >= apart,
            _ => {
                trace.look = Some((look, now));
                false
            }
        }
    }

    /// A listing was complete: what was not in it is forgotten.
    pub fn complete(&self) {
        let mut seen = self.lock();
        let cycle = seen.cycle;
        seen.items.retain(|_, trace| trace.cycle == cycle);
    }

    /// Whether the listing that is complete had something under this path.
    pub fn listed(&self, path: &[u8]) -> bool {
        let hash = self.path_hash(path);
        let seen = self.lock();
        seen.items.get(&hash).is_some_and(|trace| trace.cycle == seen.cycle)
    }

    /// An item was listed.
    pub fn see(&self, item: &Item, now: BootTime) -> Opinion {
        let (path, sighting) = self.hashes(item);
        let mut seen = self.lock();
        let cycle = seen.cycle;
        let fresh = || Trace {
            sighting,
            first_at: now,
            cycle,
            failures: 0,
            not_before: BootTime(0),
            known: false,
            look: None,
            trouble: None,
        };
        let listed_twice = seen.items.get(&path).is_some_and(|trace| trace.cycle == cycle);
        let trace = seen.items.entry(path).or_insert_with(fresh);
        if listed_twice {
            return Opinion::Wait;
        }
        if trace.sighting != sighting {
            *trace = fresh();
        }
        trace.cycle = cycle;
        if trace.known {
            return Opinion::Known;
        }
        let settled = match self.stability {
            Stability::None => true,
            Stability::Sightings(apart) => {
                now != trace.first_at && now.since(trace.first_at) >= apart
            }
        };
        if settled && now >= trace.not_before { Opinion::Stable } else { Opinion::Wait }
    }

    /// An item failed. Answers how often it has, and whether it is now left alone for long.
    pub fn failed(&self, item: &Item, why: &str, now: BootTime) -> (u32, bool) {
        let (path, _) = self.hashes(item);
        let mut seen = self.lock();
        let Some(trace) = seen.items.get_mut(&path) else { return (1, false) };
        trace.trouble = Some(format!("{}: {why}", item.name).into());
        trace.failures = trace.failures.saturating_add(1);
        let parked = trace.failures >= self.attempts_max;
        let doublings = trace.failures.saturating_sub(1).min(10);
        let wait = if parked { PARKED_FOR } else { Millis(FAILED_WAIT_FIRST.0 << doublings) };
        trace.not_before = now.after(wait);
        (trace.failures, parked)
    }

    /// An item is left where it is, for as long as it is as it is. Answers whether that is news.
    pub fn left_out(&self, item: &Item, why: &str) -> bool {
        let (path, _) = self.hashes(item);
        let mut seen = self.lock();
        let Some(trace) = seen.items.get_mut(&path) else { return true };
        let news = trace.trouble.is_none();
        trace.trouble = Some(format!("{}: {why}", item.name).into());
        news
    }

    /// What operators are told of items that are there and not received.
    pub fn trouble(&self) -> Option<String> {
        let seen = self.lock();
        let here = seen.items.values().filter(|trace| trace.cycle == seen.cycle);
        let mut troubles = here.filter_map(|trace| trace.trouble.as_deref());
        // The least one, so that the sentence does not change from poll to poll.
        let first = troubles.next()?;
        let (count, least) = troubles.fold((1, first), |(n, least), next| (n + 1, least.min(next)));
        match count {
            1 => Some(least.to_owned()),
            _ => Some(format!("{count} items are not received, one of them {least}")),
        }
    }

    /// An item is received and stays where it is.
    pub fn know(&self, item: &Item) {
        let Sighting { bytes, modified_ms, .. } = item.sighting;
        if bytes.is_none() && modified_ms.is_none() {
            // Its listing would say the same of a new file in its place.
            return;
        }
        let (path, sighting) = self.hashes(item);
        if let Some(trace) = self.lock().items.get_mut(&path)
            && trace.sighting == sighting
        {
            trace.known = true;
            trace.trouble = None;
        }
    }

    fn hashes(&self, item: &Item) -> (u64, u64) {
        let sighting = item.sighting;
        let seen = (&item.path, sighting.bytes, sighting.modified_ms, "sighting");
        (self.path_hash(&item.path), self.hasher.hash_one(seen))
    }

    fn path_hash(&self, path: &[u8]) -> u64 {
        self.hasher.hash_one(path)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(path: &str, bytes: u64) -> Item {
        let sighting = Sighting { bytes: Some(bytes), modified_ms: Some(1), coarse: false };
        Item { path: path.into(), name: path.into(), sighting }
    }

    fn memory(stability: Stability) -> Memory {
        Memory {
            receipts_settled: AtomicBool::new(false),
            hasher: RandomState::new(),
            stability,
            attempts_max: 2,
            seen: Mutex::default(),
            missed: Mutex::default(),
        }
    }

    #[test]
    fn an_item_is_stable_after_two_equal_sightings_far_enough_apart() {
        let memory = memory(Stability::Sightings(Millis(100)));
        memory.begin();
        assert_eq!(memory.see(&item("a", 1), BootTime(1000)), Opinion::Wait);
        memory.begin();
        assert_eq!(memory.see(&item("a", 1), BootTime(1050)), Opinion::Wait, "too soon");
        memory.begin();
        assert_eq!(memory.see(&item("a", 2), BootTime(1100)), Opinion::Wait, "it grew");
        assert_eq!(memory.see(&item("a", 2), BootTime(1200)), Opinion::Wait, "listed twice");
        memory.begin();
        assert_eq!(memory.see(&item("a", 2), BootTime(1200)), Opinion::Stable);
    }

    #[test]
    fn a_failing_item_waits_longer_each_time_and_is_then_parked() {
        let memory = memory(Stability::None);
        memory.begin();
        assert_eq!(memory.see(&item("a", 1), BootTime(0)), Opinion::Stable);
        assert_eq!(memory.failed(&item("a", 1), "no", BootTime(0)), (1, false));
        memory.begin();
        assert_eq!(memory.see(&item("a", 1), BootTime(199)), Opinion::Wait);
        memory.begin();
        assert_eq!(memory.see(&item("a", 1), BootTime(200)), Opinion::Stable);
        assert_eq!(memory.failed(&item("a", 1), "no", BootTime(200)), (2, true));
        memory.begin();
        assert_eq!(memory.see(&item("a", 1), BootTime(10_000)), Opinion::Wait);
        memory.begin();
        assert_eq!(memory.see(&item("a", 1), BootTime(3_600_200)), Opinion::Stable);
    }

    #[test]
    fn a_receipt_is_given_up_when_its_source_is_missed_twice() {
        let memory = memory(Stability::None);
        let missed = |keys: &[&str], now: u64| {
            let keys = keys.iter().map(|key| (*key).to_owned()).collect();
            memory.missed(keys, BootTime(now), Millis(100))
        };
        assert_eq!(missed(&["a", "b"], 0), (vec![], true));
        assert_eq!(missed(&["a"], 50), (vec![], true), "b was listed again");
        assert_eq!(missed(&["a", "b"], 100), (vec!["a".to_owned()], true));
        assert_eq!(missed(&["b"], 200), (vec!["b".to_owned()], false));
    }

    #[test]
    fn an_item_without_a_description_is_stable_after_two_equal_looks() {
        let memory = memory(Stability::Sightings(Millis(100)));
        let bare = Item { sighting: Sighting::default(), ..item("a", 1) };
        let look = |bytes| Sighting { bytes: Some(bytes), ..Sighting::default() };
        memory.begin();
        memory.see(&bare, BootTime(0));
        assert!(!memory.looks_stable(&bare, &look(1), BootTime(0)));
        assert!(!memory.looks_stable(&bare, &look(2), BootTime(200)), "it grows");
        assert!(!memory.looks_stable(&bare, &look(2), BootTime(250)), "too soon");
        assert!(memory.looks_stable(&bare, &look(2), BootTime(300)));
        assert!(memory.looks_stable(&item("a", 1), &look(1), BootTime(0)), "its listing told");
    }

    #[test]
    fn items_that_are_not_received_are_told_of() {
        let memory = memory(Stability::None);
        memory.begin();
        for name in ["b", "a", "c"] {
            memory.see(&item(name, 1), BootTime(0));
        }
        assert_eq!(memory.trouble(), None);
        memory.failed(&item("b", 1), "no", BootTime(0));
        assert_eq!(memory.trouble().as_deref(), Some("b: no"));
        assert!(memory.left_out(&item("a", 1), "too large"), "news");
        assert!(!memory.left_out(&item("a", 1), "too large"), "no news");
        let both = "2 items are not received, one of them a: too large";
        assert_eq!(memory.trouble().as_deref(), Some(both));
        memory.begin();
        memory.see(&item("b", 2), BootTime(0));
        memory.complete();
        assert_eq!(memory.trouble(), None, "one has changed, one is gone");
    }

    #[test]
    fn what_a_complete_listing_lacks_is_forgotten() {
        let memory = memory(Stability::None);
        memory.begin();
        memory.see(&item("a", 1), BootTime(0));
        memory.know(&item("a", 1));
        memory.complete();
        memory.begin();
        assert_eq!(memory.see(&item("a", 1), BootTime(1)), Opinion::Known);
        memory.begin();
        assert_eq!(memory.see(&item("a", 2), BootTime(1)), Opinion::Stable, "new content");
        memory.begin();
        memory.complete();
        assert!(memory.lock().items.is_empty());
    }
}
