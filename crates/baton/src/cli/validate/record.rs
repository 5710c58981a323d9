//! What a node's validation leaves in the store: an operator event, from which the next report, on
//! whatever machine, tells what was found there and when.

use std::fmt;
use std::str::FromStr;

use model::{EventId, NodeName, OperatorEvent, Timestamp};
use store::FindingResult;

use super::report::Report;
use crate::render::safe;

/// Tests that are named when they failed; a report has the rest.
const FAILED_NAMED_MAX: usize = 10;

/// The line of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The version of Baton that is installed there.
    pub version: String,
    /// Who ran it.
    pub by: String,
    /// How many findings failed.
    pub failed: usize,
    /// How many were warnings.
    pub warnings: usize,
    /// What failed, as test and subject.
    pub what: Vec<String>,
}

impl Record {
    /// What to remember of a report.
    pub fn of(report: &Report, by: &str) -> Record {
        let failed = report.found.iter().filter(|found| found.result == FindingResult::Failed);
        let named = failed.map(|found| format!("{} of {}", found.id, one_line(&found.subject)));
        Record {
            version: report.version.clone(),
            by: one_line(by),
            failed: report.failed(),
            warnings: report.count(FindingResult::Warning),
            what: named.take(FAILED_NAMED_MAX).collect(),
        }
    }

    /// As an event of a node.
    pub fn event(&self, node: &NodeName) -> OperatorEvent {
        OperatorEvent {
            sequence: 0,
            at: Timestamp(0),
            id: EventId::VALIDATED,
            node: Some(node.clone()),
            subject: format!("node {node}"),
            sentence: self.to_string(),
        }
    }
}

/// The separators of the sentence must not come from a name.
fn one_line(text: &str) -> String {
    safe(text).replace([';', ':', ','], " ")
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { version, by, failed, warnings, what } = self;
        write!(f, "validated by {by} with baton {version}: {failed} failed, {warnings} warnings")?;
        if !what.is_empty() {
            write!(f, "; failed: {}", what.join(", "))?;
        }
        Ok(())
    }
}

impl FromStr for Record {
    type Err = ();

    fn from_str(text: &str) -> Result<Record, ()> {
        let parse = || {
            let rest = text.strip_prefix("validated by ")?;
            let (head, rest) = rest.split_once(": ")?;
            let (by, version) = head.split_once(" with baton ")?;
            let (counts, what) = rest.split_once("; failed: ").unwrap_or((rest, ""));
            let (failed, warnings) = counts.split_once(" failed, ")?;
            Some(Record {
                version: version.into(),
                by: by.into(),
                failed: failed.parse().ok()?,
                warnings: warnings.strip_suffix(" warnings")?.parse().ok()?,
                what: what.split(", ").filter(|what| !what.is_empty()).map(Into::into).collect(),
            })
        };
        parse().ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back() {
        for what in [vec![], vec!["endpoint.ftp of location a".to_owned(), "b of c".to_owned()]] {
            let record = Record {
                version: "0.1.0".into(),
                by: "kim@node-1".into(),
                failed: what.len(),
                warnings: 3,
                what,
            };
            assert_eq!(record.to_string().parse(), Ok(record));
        }
        for other in ["", "validated by x", "a node joined", "validated by a with baton b: c"] {
            assert_eq!(other.parse::<Record>(), Err(()), "{other}");
        }
    }

    #[test]
    fn names_do_not_break_the_sentence() {
        assert_eq!(one_line("a; failed: b\nc"), "a  failed  b\\nc");
    }
}
