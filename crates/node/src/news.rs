//! What a node tells the cluster: the states of its resources, and operator events.

use std::collections::VecDeque;
use std::time::Duration;

use child::clock::boot_time;
use cluster::{Event, Reason, ResourceReport};
use model::{EventId, Millis, OperatorEvent, Timestamp};
use store::StoreError;

use crate::{Happened, Node, note};

/// How long a node that ends waits for the store to take its last operator events.
const LAST_WORDS: Millis = Millis::seconds(1);

/// Wait before a report or an operator event that the store did not take is told again.
const REPORT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Most that wait: while the store is away for hours the oldest go, the log has them all.
const WAITING_MAX: usize = 1000;

/// Most that are handed over at once.
const BATCH_MAX: usize = 100;

impl Node {
    /// Tells the cluster what became of our resources; what does not get through is told again.
    pub(crate) fn report(&mut self, reports: Vec<ResourceReport>) {
        let store = self.store.clone();
        self.tasks.start(async move {
            if note("a report", store.report_resources(&reports).await) {
                return Happened::Turn;
            }
            tokio::time::sleep(REPORT_AGAIN_AFTER).await;
            let lost = reports.into_iter().map(|report| report.resource).collect();
            Happened::Event(Event::ReportLost(lost))
        });
    }

    /// Says it in the log, and, if it is an operator event, in the store.
    pub(crate) fn say(&mut self, reason: Reason) {
        let Reason { subject, sentence, event } = reason;
        match event {
            Some(id) => {
                let event = id.0;
                tracing::info!(node = %self.config.name, subject, event, "{sentence}");
                self.record(id, subject, sentence);
            }
            None => tracing::info!(node = %self.config.name, subject, "{sentence}"),
        }
    }

    pub(crate) fn record(&mut self, id: EventId, subject: String, sentence: String) {
        let node = Some(self.config.name.clone());
        let at = Timestamp(0);
        self.unrecorded.push(OperatorEvent { sequence: 0, at, id, node, subject, sentence });
        self.record_events();
    }

    /// One batch at a time, so that their order is kept; what the store does not take waits.
    pub(crate) fn record_events(&mut self) {
        let Some(batch) = self.unrecorded.next() else { return };
        let store = self.store.clone();
        self.tasks.start(async move {
            let ok = note("operator events", store.record_events(&batch).await);
            if !ok {
                tokio::time::sleep(REPORT_AGAIN_AFTER).await;
            }
            Happened::Recorded(ok)
        });
    }

    pub(crate) fn store_is_away(&mut self, error: &StoreError) {
        tracing::warn!(node = %self.config.name, "{error}");
        if !std::mem::replace(&mut self.store_away, true) {
            let sentence = format!("{} cannot reach the store: {error}", self.config.name);
            self.record(EventId::NODE_STORE_LOST, self.subject(), sentence);
        }
    }

    pub(crate) fn store_is_back(&mut self) {
        if std::mem::take(&mut self.store_away) {
            let sentence = format!("{} reaches the store again", self.config.name);
            self.say(Reason {
                subject: self.subject(),
                sentence,
                event: Some(EventId::NODE_STORE_BACK),
            });
        }
    }

    /// Whether the store is still being told of the end, which it is given a moment for.
    pub(crate) fn has_last_words(&mut self) -> bool {
        let until = *self.ended_at.get_or_insert_with(|| boot_time().after(LAST_WORDS));
        !self.unrecorded.is_empty() && boot_time() < until
    }

    pub(crate) fn subject(&self) -> String {
        format!("node {}", self.config.name)
    }
}

/// Keeps events until the store has them, in order, one batch under way at a time.
#[derive(Debug, Default)]
pub(crate) struct Unrecorded {
    waiting: VecDeque<OperatorEvent>,
    /// So many of the first are being handed over.
    under_way: usize,
}

impl Unrecorded {
    /// Adds one.
    pub fn push(&mut self, event: OperatorEvent) {
        if self.waiting.len() >= WAITING_MAX {
            // Not one that is under way: its answer counts from the front.
            self.waiting.remove(self.under_way);
        }
        self.waiting.push_back(event);
    }

    /// Whether the store has them all.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next batch, unless one is under way or there is none.
    pub fn next(&mut self) -> Option<Vec<OperatorEvent>> {
        if self.under_way > 0 || self.waiting.is_empty() {
            return None;
        }
        self.under_way = self.waiting.len().min(BATCH_MAX);
        Some(self.waiting.range(..self.under_way).cloned().collect())
    }

    /// The batch under way was taken, or must be handed over again.
    pub fn answered(&mut self, taken: bool) {
        if taken {
            self.waiting.drain(..self.under_way);
        }
        self.under_way = 0;
    }
}

#[cfg(test)]
mod tests {
    use model::{EventId, Timestamp};

    use super::*;

    fn event(number: usize) -> OperatorEvent {
        OperatorEvent {
            sequence: 0,
            at: Timestamp(0),
            id: EventId::NODE_JOINED,
            node: None,
            subject: "node a".into(),
            sentence: number.to_string(),
        }
    }

    #[test]
    fn a_batch_that_is_not_taken_is_handed_over_again() {
        let mut unrecorded = Unrecorded::default();
        unrecorded.push(event(1));
        let first = unrecorded.next();
        unrecorded.push(event(2));
        assert_eq!(unrecorded.next(), None, "one batch at a time");
        unrecorded.answered(false);
        let both = unrecorded.next().expect("a batch");
        assert_eq!(both[..1], first.expect("a batch")[..]);
        unrecorded.answered(true);
        assert_eq!((both.len(), unrecorded.next()), (2, None));
    }

    #[test]
    fn the_oldest_go_when_the_store_is_away_for_long() {
        let mut unrecorded = Unrecorded::default();
        unrecorded.push(event(0));
        let under_way = unrecorded.next().expect("a batch");
        for number in 1..WAITING_MAX + 5 {
            unrecorded.push(event(number));
        }
        assert_eq!(unrecorded.waiting.len(), WAITING_MAX);
        assert_eq!(unrecorded.waiting[0], under_way[0]);
    }
}
