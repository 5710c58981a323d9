//! Waiting for what was asked for: looks at the cluster at each change, and tells the news.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use cluster::{Snapshot, Tenure};
use model::{Epoch, GroupName, Millis};
use store::{Store, StoreError, Topic};

use super::Global;
use super::session::print;
use crate::render::safe;

/// How often a waiting verb looks, at the latest; the store's hints come sooner.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks at the cluster until `look` has an answer; after `patience` the last look is the error.
///
/// A store that is away for a moment is no reason to give up: what was asked for goes on.
pub async fn until<T>(
    store: &dyn Store,
    patience: Millis,
    mut look: impl FnMut(&Snapshot) -> Result<Option<T>>,
) -> Result<Result<T, Box<Snapshot>>> {
    let deadline = Instant::now() + patience.as_duration();
    let mut wakes = store.subscribe(Topic::Cluster);
    loop {
        match store.snapshot().await {
            Ok(snapshot) => {
                if let Some(answer) = look(&snapshot)? {
                    return Ok(Ok(answer));
                }
                if Instant::now() >= deadline {
                    return Ok(Err(Box::new(snapshot)));
                }
            }
            Err(StoreError::Unavailable(_)) if Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::select! {
            () = wakes.next() => {}
            () = tokio::time::sleep(LOOK_EVERY.min(left)) => {}
        }
    }
}

/// What happened to some groups since the last look, as it is recorded.
pub struct News<'a> {
    global: &'a Global,
    /// The last change of owner of each that the operator knows of.
    told: BTreeMap<GroupName, Option<(Epoch, bool)>>,
}

impl<'a> News<'a> {
    /// News of these groups from this look on.
    pub fn since(
        snapshot: &Snapshot,
        groups: impl IntoIterator<Item = GroupName>,
        global: &'a Global,
    ) -> News<'a> {
        let last = |group: &GroupName| snapshot.history_of(group).map(rank).max();
        let told = groups.into_iter().map(|group| (group.clone(), last(&group))).collect();
        News { global, told }
    }

    /// Prints what is new. Several groups are named, one alone is known.
    pub fn tell(&mut self, snapshot: &Snapshot) -> Result<()> {
        let many = self.told.len() > 1;
        for (group, told) in &mut self.told {
            let known = *told;
            for entry in snapshot.history_of(group).filter(|entry| Some(rank(entry)) > known) {
                *told = (*told).max(Some(rank(entry)));
                if self.global.json() {
                    continue;
                }
                let who = match &entry.holder {
                    Some(node) => format!("{node} took it"),
                    None => "it was let go".into(),
                };
                let which = if many { format!("group {group}: ") } else { String::new() };
                print(&format!("{which}{who}, epoch {}: {}\n", entry.epoch, safe(&entry.reason)))?;
            }
        }
        Ok(())
    }
}

/// The order in which changes of one lease happen: an epoch is taken, then let go. Two of them
/// may fall into one millisecond, so their times do not tell it.
fn rank(entry: &Tenure) -> (Epoch, bool) {
    (entry.epoch, entry.holder.is_none())
}
