//! A whole report, before it is printed as text, HTML, JUnit or JSON.

use model::{Millis, Timestamp};
use serde::Serialize;
use store::{Finding, FindingResult};

use super::judge::Judgement;

/// What one test found of one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The test, for life: `endpoint.ftp`.
    pub id: &'static str,
    /// What it is about: `location orders-ftp`.
    pub subject: String,
    /// How it went.
    pub result: FindingResult,
    /// What was found, as a sentence.
    pub what: String,
    /// How to mend it; empty when there is nothing to do.
    pub remedy: String,
    /// How long it took; JSON has it with its unit.
    pub took: Millis,
}

impl Found {
    /// What a test found, in no time.
    pub fn of(id: &'static str, judgement: Judgement) -> Found {
        let Judgement { subject, result, what, remedy } = judgement;
        Found { id, subject, result, what, remedy, took: Millis(0) }
    }
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Found {
        let Finding { id, result, what, remedy, took } = finding;
        Found { id, subject: "store".into(), result, what, remedy, took }
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The store, without credentials.
    pub store: String,
    /// The node that this machine is, or would be.
    pub node: String,
    /// Whether it is one.
    pub is_node: bool,
    /// The version of Baton that tested.
    pub version: String,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// What was found, in the order of the tests.
    pub found: Vec<Found>,
}

impl Report {
    /// How many went like this.
    pub fn count(&self, result: FindingResult) -> usize {
        self.found.iter().filter(|found| found.result == result).count()
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.count(FindingResult::Failed)
    }

    /// Whether this test failed.
    pub fn has_failed(&self, id: &str) -> bool {
        self.found.iter().any(|found| found.id == id && found.result == FindingResult::Failed)
    }

    /// The findings of each test, in order.
    pub fn by_test(&self) -> Vec<(&'static str, Vec<&Found>)> {
        let mut tests: Vec<(&'static str, Vec<&Found>)> = Vec::new();
        for found in &self.found {
            match tests.iter_mut().find(|(id, _)| *id == found.id) {
                Some((_, all)) => all.push(found),
                None => tests.push((found.id, vec![found])),
            }
        }
        tests
    }

    /// The verdict as a sentence.
    pub fn verdict(&self) -> String {
        let (warnings, failed) = (self.count(FindingResult::Warning), self.failed());
        let counts = format!(
            "{} passed, {warnings} {}, {failed} failed, {} not applicable",
            self.count(FindingResult::Passed),
            if warnings == 1 { "warning" } else { "warnings" },
            self.count(FindingResult::NotApplicable)
        );
        let verdict = match (failed, warnings) {
            (0, 0) if self.count(FindingResult::Passed) == 0 => "nothing was tested",
            (0, 0) => "fit to fail over",
            (0, _) => "fit to fail over, with warnings",
            _ => "NOT fit to fail over",
        };
        format!("{verdict}: {counts}")
    }
}

/// The word for a result (WSFC: Success, Warning, Failed, Not applicable).
pub fn word(result: FindingResult) -> &'static str {
    match result {
        FindingResult::Passed => "passed",
        FindingResult::NotApplicable => "not applicable",
        FindingResult::Warning => "warning",
        FindingResult::Failed => "failed",
    }
}

/// The worst of several results.
pub fn worst<'a>(found: impl IntoIterator<Item = &'a &'a Found>) -> FindingResult {
    let results = found.into_iter().map(|found| found.result);
    let applicable = |result: &FindingResult| *result != FindingResult::NotApplicable;
    results.filter(applicable).max().unwrap_or(FindingResult::NotApplicable)
}
