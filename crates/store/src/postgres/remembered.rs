//! The parts of a snapshot that grow: history and reports. A snapshot reads only what is new in
//! them, or many nodes with many resources would keep the server busy with telling each again and
//! again what it knows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::{HISTORY_KEPT, NodeView, Presence, ResourceReport, Snapshot, Tenure};
use model::{Millis, ResourceName, Timestamp};

/// So far back it is read again: an entry becomes visible when its transaction commits, which is
/// later than the time that stands in it. More than any transaction may take.
const OVERLAP: Millis = Millis::seconds(30);

/// So often everything is read again: what was removed is forgotten then.
const WHOLE_EVERY: Millis = Millis::minutes(1);

/// So often everything is read although nothing was announced: an announcement may get lost.
const WHOLE_AFTER: Duration = Duration::from_secs(10);

/// What earlier snapshots brought.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// The store's clock at the last snapshot, and at the last whole one.
    read_at: Option<(Timestamp, Timestamp)>,
    history: BTreeMap<i64, Tenure>,
    reports: BTreeMap<ResourceName, ResourceReport>,
    /// The last whole snapshot, how many hints there had been by then, and when that was.
    last: Option<(Option<u64>, Instant, Snapshot)>,
}

impl Remembered {
    /// From when on entries are wanted; none for all of them. Not known is the time by the store's
    /// clock, so the last time read stands for it.
    pub(super) fn wanted_from(&self) -> Option<Timestamp> {
        let (last, whole) = self.read_at?;
        (last.since(whole) < WHOLE_EVERY).then(|| Timestamp(last.0 - OVERLAP.0.cast_signed()))
    }

    /// The last whole snapshot, if nothing was announced since (whoever changes something, or waits
    /// for a peer and sees it go, announces that), no peer was missed in it, and it is not old.
    pub(super) fn quiet_since_last(&self, hints: Option<u64>) -> Option<Snapshot> {
        let (seen, at, snapshot) = self.last.as_ref()?;
        let missed = snapshot.nodes.iter().any(|node| node.presence == Presence::ConnectionGone);
        let quiet = hints.is_some() && *seen == hints && at.elapsed() < WHOLE_AFTER && !missed;
        quiet.then(|| snapshot.clone())
    }

    /// Gives nodes the presence that the last whole snapshot saw; that they left is in their row.
    pub(super) fn with_presence(&self, mut nodes: Vec<NodeView>) -> Vec<NodeView> {
        let seen = self.last.as_ref().map_or(&[][..], |(_, _, snapshot)| &snapshot.nodes);
        for node in nodes.iter_mut().filter(|node| node.presence != Presence::Left) {
            if let Some(seen) = seen.iter().find(|seen| seen.name == node.name) {
                node.presence = seen.presence;
            }
        }
        nodes
    }

    /// A whole snapshot was read, when there had been so many hints.
    pub(super) fn has_read(&mut self, hints: Option<u64>, snapshot: &Snapshot) {
        self.last = Some((hints, Instant::now(), snapshot.clone()));
    }

    /// Takes in what a snapshot brought of entries from `from` on, and gives all.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        from: Option<Timestamp>,
        history: Vec<(i64, Tenure)>,
        reports: Vec<ResourceReport>,
    ) -> (Vec<Tenure>, Vec<ResourceReport>) {
        if from.is_none() {
            self.history.clear();
            self.reports.clear();
        }
        let whole = self.read_at.filter(|_| from.is_some()).map_or(now, |(_, whole)| whole);
        self.read_at = Some((now, whole));
        self.history.extend(history);
        self.history.retain(|_, tenure| now.since(tenure.at) < HISTORY_KEPT);
        for report in reports {
            self.reports.insert(report.resource.clone(), report);
        }
        (self.history.values().cloned().collect(), self.reports.values().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use model::{Cause, Epoch, Evidence};

    use super::*;

    fn tenure(at: i64) -> Tenure {
        Tenure {
            lease: "group/g".parse().expect("a lease"),
            epoch: Epoch(1),
            holder: None,
            before: None,
            evidence: Evidence::Vacated,
            cause: Cause::Move,
            resource: None,
            reason: String::new(),
            at: Timestamp(at),
        }
    }

    #[test]
    fn what_is_known_is_not_asked_for_again() {
        let mut remembered = Remembered::default();
        assert_eq!(remembered.wanted_from(), None, "nothing is known");
        let begin = Timestamp(1_000_000_000);
        remembered.take(begin, None, vec![(1, tenure(begin.0 - 5))], Vec::new());
        let from = remembered.wanted_from();
        assert_eq!(from, Some(Timestamp(begin.0 - OVERLAP.0.cast_signed())));
        let later = begin.after(Millis::seconds(10));
        let entries = vec![(1, tenure(begin.0 - 5)), (2, tenure(later.0))];
        let (history, _) = remembered.take(later, from, entries, Vec::new());
        assert_eq!(history.len(), 2);
    }

    #[test]
    fn after_a_while_everything_is_read_again() {
        let mut remembered = Remembered::default();
        let begin = Timestamp(1_000_000_000);
        remembered.take(begin, None, vec![(1, tenure(begin.0))], Vec::new());
        let later = begin.after(WHOLE_EVERY);
        remembered.take(later, remembered.wanted_from(), Vec::new(), Vec::new());
        assert_eq!(remembered.wanted_from(), None);
        let (history, _) = remembered.take(later, None, Vec::new(), Vec::new());
        assert_eq!(history, [], "what was removed is forgotten");
    }
}
