//! How the last failover of a group went: its steps with the seconds between, and what was in
//! flight.

use std::fmt::Write as _;

use cluster::{Snapshot, Tenure, placement};
use model::definition::Group;
use model::{
    Cause, Epoch, EventId, Evidence, LeaseName, Millis, NodeName, OperatorEvent, Timestamp,
};
use serde::Serialize;
use store::InFlight;

use super::{Look, Paint, counted, safe};

/// How long before it was taken the story may begin: a failure comes this long before its group is
/// let go at most, or it has nothing to do with it.
const STORY_BEFORE: Millis = Millis::minutes(5);

/// A failover: a group went to another node by itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failover {
    /// From whom.
    pub from: Option<NodeName>,
    /// To whom.
    pub to: NodeName,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Why, as a word.
    pub cause: Cause,
    /// How sure the store was that the one before had let go.
    pub evidence: Evidence,
    /// Why, as a sentence.
    pub reason: String,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// What happened, in order.
    pub steps: Vec<Moment>,
    /// Items that were received but not known to be released when it was taken.
    pub in_flight: Vec<InFlight>,
    /// There were more of them than stand here.
    pub more_in_flight: bool,
    /// When this epoch ended, if it has.
    #[serde(skip)]
    ends_at: Option<Timestamp>,
}

/// A step of a failover.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// What.
    pub step: Step,
    /// The same as a sentence.
    pub sentence: String,
}

/// What happened in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Something failed.
    Failed,
    /// The lease of the owner before ran out.
    Silent,
    /// The owner before let it go.
    LetGo,
    /// The next one took it.
    Taken,
    /// All of it is online.
    Online,
}

impl Failover {
    /// The last one that the history knows.
    pub fn last(snapshot: &Snapshot, group: &Group) -> Option<Failover> {
        let causes = [Cause::Failover, Cause::Banned, Cause::NodeLost];
        let mut history = snapshot.history_of(&group.name).rev();
        let taken = history.find(|it| it.holder.is_some() && causes.contains(&it.cause))?;
        let mut failover = Failover {
            from: taken.before.clone(),
            to: taken.holder.clone()?,
            epoch: taken.epoch,
            cause: taken.cause,
            evidence: taken.evidence,
            reason: taken.reason.clone(),
            taken_at: taken.at,
            steps: Vec::new(),
            in_flight: Vec::new(),
            more_in_flight: false,
            ends_at: after(snapshot, group, taken.epoch),
        };
        failover.before(snapshot, group);
        failover.add(taken.at, Step::Taken, format!("{} took it: {}", failover.to, taken.reason));
        let lease = snapshot.lease(&LeaseName::Group(group.name.clone()));
        if lease.is_some_and(|view| view.epoch == taken.epoch)
            && let Some(at) = placement::online_since(snapshot, group)
        {
            failover.add(at, Step::Online, format!("online on {}", failover.to));
        }
        Some(failover)
    }

    /// What the history and the nodes tell of the owner before.
    fn before(&mut self, snapshot: &Snapshot, group: &Group) {
        let let_go = |it: &&Tenure| {
            it.holder.is_none()
                && it.epoch < self.epoch
                && it.at.after(STORY_BEFORE) > self.taken_at
        };
        let let_go = snapshot.history_of(&group.name).rev().find(let_go).cloned();
        if let Some(let_go) = let_go {
            let who = let_go.before.as_ref().map_or("its owner", NodeName::as_str);
            self.add(let_go.at, Step::LetGo, format!("{who} let it go: {}", let_go.reason));
            return;
        }
        // Of a node that came back since, only its new lease is known.
        let Some(from) = self.from.as_ref().and_then(|from| snapshot.node(from)) else { return };
        if from.expires_at <= self.taken_at {
            let sentence = format!("the lease of {} ran out", from.name);
            self.add(from.expires_at, Step::Silent, sentence);
        }
    }

    /// When its story may begin.
    pub fn begins_at(&self) -> Timestamp {
        Timestamp(self.taken_at.0.saturating_sub_unsigned(STORY_BEFORE.0))
    }

    /// What the records say besides: the failure that led to it, and when it was online.
    pub fn add_events(&mut self, events: &[OperatorEvent]) {
        let failures = [
            EventId::RESOURCE_FAILED,
            EventId::RESOURCE_START_FAILED,
            EventId::RESOURCE_HUNG,
            EventId::RESOURCE_BANNED,
            EventId::GROUP_FAILED_OVER,
            EventId::GROUP_LOST,
        ];
        let mut before = events.iter().rev().filter(|event| event.at <= self.taken_at);
        if let Some(event) = before.find(|event| failures.contains(&event.id)).cloned() {
            self.add(event.at, Step::Failed, event.sentence);
        }
        let ended = self.ends_at.unwrap_or(Timestamp(i64::MAX));
        let online = events.iter().find(|event| {
            event.id == EventId::GROUP_ONLINE && event.at >= self.taken_at && event.at <= ended
        });
        if self.steps.iter().all(|moment| moment.step != Step::Online)
            && let Some(event) = online.cloned()
        {
            self.add(event.at, Step::Online, event.sentence);
        }
    }

    fn add(&mut self, at: Timestamp, step: Step, sentence: String) {
        self.steps.push(Moment { at, step, sentence });
        self.steps.sort_by_key(|moment| (moment.at, moment.step));
    }

    /// For people.
    pub fn render(&self, look: Look) -> String {
        let mut text = look.paint(Paint::Bold, "THE LAST FAILOVER");
        text.push('\n');
        let mut last = None;
        for Moment { at, sentence, .. } in &self.steps {
            let after = last.map_or(String::new(), |last| seconds(at.since(last)));
            let _ = writeln!(text, "  {at} {after:>9}  {}", safe(sentence));
            last = Some(*at);
        }
        if !self.steps.iter().any(|moment| moment.step == Step::Online) {
            let _ = writeln!(text, "  when it was online then is not on record");
        }
        let _ = writeln!(text, "  evidence: {}", self.evidence);
        if self.in_flight.is_empty() {
            let _ = writeln!(text, "  no item was received but not released then");
            return text;
        }
        let more = if self.more_in_flight { "at least " } else { "" };
        let count = counted(self.in_flight.len() as u64, "item");
        let _ = writeln!(text, "  {more}{count} received but not known to be released then:");
        for item in &self.in_flight {
            let InFlight { source, key, message, closed_at, .. } = item;
            let fate = closed_at.map_or("still open".into(), |at| format!("released at {at}"));
            let line = format!("    {key} of {source}, message {message}, {fate}");
            let _ = writeln!(text, "{}", safe(&line));
        }
        text
    }
}

/// When the epoch after this one began, or this one ended.
fn after(snapshot: &Snapshot, group: &Group, epoch: Epoch) -> Option<Timestamp> {
    let ends = |it: &&Tenure| it.epoch > epoch || it.epoch == epoch && it.holder.is_none();
    snapshot.history_of(&group.name).find(ends).map(|it| it.at)
}

fn seconds(length: Millis) -> String {
    format!("+{}.{:03}s", length.0 / 1000, length.0 % 1000)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_000_000_000;

    fn tenure(at: i64, epoch: u64, holder: Option<&str>, cause: Cause, reason: &str) -> Tenure {
        Tenure {
            lease: "group/g".parse().expect("lease"),
            epoch: Epoch(epoch),
            holder: holder.map(|name| name.parse().expect("name")),
            before: Some("a".parse().expect("name")),
            evidence: Evidence::Vacated,
            cause,
            resource: None,
            reason: reason.into(),
            at: Timestamp(NOW + at),
        }
    }

    fn event(at: i64, id: EventId, sentence: &str) -> OperatorEvent {
        OperatorEvent {
            sequence: 1,
            at: Timestamp(NOW + at),
            id,
            node: None,
            subject: "group g".into(),
            sentence: sentence.into(),
        }
    }

    #[test]
    fn the_steps_of_a_failover_with_the_time_between() {
        let definitions = json!({"groups": [{"name": "g"}]});
        let snapshot = Snapshot {
            now: Timestamp(NOW + 60_000),
            definitions: Arc::new(serde_json::from_value(definitions).expect("definitions")),
            history: vec![
                tenure(-9_000, 3, Some("a"), Cause::Start, "nobody had it"),
                tenure(500, 3, None, Cause::Failover, "host receive failed once too often"),
                tenure(620, 4, Some("b"), Cause::Failover, "a let it go"),
                tenure(9_000, 4, None, Cause::Move, "kim asked"),
                tenure(9_100, 5, Some("a"), Cause::Move, "it was offered to a"),
            ],
            ..Snapshot::default()
        };
        let mut failover =
            Failover::last(&snapshot, &snapshot.definitions.groups[0]).expect("a failover");
        failover.add_events(&[
            event(400, EventId::GROUP_FAILED_OVER, "host receive failed on a (signal 9)"),
            event(750, EventId::GROUP_ONLINE, "online on b under epoch 4"),
            event(9_200, EventId::GROUP_ONLINE, "online on a under epoch 5"),
        ]);
        let text = failover.render(Look::PLAIN);
        let expected = "\
THE LAST FAILOVER
  1970-01-12T13:46:40.400Z            host receive failed on a (signal 9)
  1970-01-12T13:46:40.500Z   +0.100s  a let it go: host receive failed once too often
  1970-01-12T13:46:40.620Z   +0.120s  b took it: a let it go
  1970-01-12T13:46:40.750Z   +0.130s  online on b under epoch 4
  evidence: vacated
  no item was received but not released then
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn a_group_that_never_failed_over_has_no_story() {
        let snapshot = Snapshot::default();
        let group = Group::new("g".parse().expect("name"));
        assert_eq!(Failover::last(&snapshot, &group), None);
    }
}
