//! Watches a group from outside: who owns it, since when, and when its location is at work again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use model::{Epoch, GroupName, LeaseName, NodeName, Timestamp};
use store::Store;

/// Longest wait for an owner after a fault: beyond it something is wrong that waiting won't mend.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How often it is looked whether what is waited for has come.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A group that is watched.
pub struct Watch<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The group.
    pub group: GroupName,
}

/// Who owns the group, as the store has it.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The node.
    pub node: NodeName,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// How sure the store was that the owner before had let go.
    pub evidence: String,
}

impl Watch<'_> {
    /// Its owner now, if it has one.
    pub async fn owner(&self) -> Result<Option<Owner>> {
        let lease = LeaseName::Group(self.group.clone());
        let snapshot = self.store.snapshot().await?;
        let Some(view) = snapshot.lease(&lease) else { return Ok(None) };
        let tenure = snapshot.history.iter().rev().find(|tenure| {
            tenure.lease == lease && tenure.epoch == view.epoch && tenure.holder.is_some()
        });
        Ok(view.holder.clone().map(|node| Owner {
            node,
            epoch: view.epoch,
            at: tenure.map_or(snapshot.now, |tenure| tenure.at),
            reason: view.reason.clone(),
            evidence: tenure.map(|tenure| tenure.evidence.to_string()).unwrap_or_default(),
        }))
    }

    /// Waits until it has an owner under a later epoch.
    pub async fn owner_after(&self, epoch: Epoch) -> Result<Owner> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            match self.owner().await {
                Ok(Some(owner)) if owner.epoch > epoch => return Ok(owner),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "cannot look"),
            }
            ensure!(
                Instant::now() < deadline,
                "nobody has taken group {} over since epoch {epoch}",
                self.group
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// When a location's first listing under this epoch or a later one was complete.
    pub async fn listed_under(&self, location: &str, epoch: Epoch) -> Result<Timestamp> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let reports = self.store.locations().await.unwrap_or_default();
            let mut since = reports
                .into_iter()
                .filter(|report| report.location == location && report.epoch >= epoch)
                .filter_map(|report| report.active_since);
            if let Some(at) = since.next() {
                return Ok(at);
            }
            ensure!(
                Instant::now() < deadline,
                "location {location} is not polled under epoch {epoch}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asks for a move to the best other node.
    pub async fn ask_for_a_move(&self, by: &str) -> Result<()> {
        let request = cluster::MoveRequest {
            group: self.group.clone(),
            to: None,
            by: by.to_owned(),
            at: Timestamp(0),
        };
        Ok(self.store.request_move(&request).await?)
    }
}
