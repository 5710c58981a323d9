//! A report on a terminal: what needs somebody in full, the rest as lines.

use std::fmt::Write as _;

use store::FindingResult;

use super::report::{Found, Report, word};
use crate::render::{Look, Paint, safe, wrapped};

/// Columns in front of a sentence.
const INDENT: usize = 4;

/// The report.
pub fn render(report: &Report, look: Look) -> String {
    let mut text = String::new();
    for (id, all) in report.by_test() {
        let _ = writeln!(text, "{}", look.paint(Paint::Bold, id));
        for found in all {
            one(&mut text, found, look);
        }
    }
    let paint = match (report.failed(), report.count(FindingResult::Warning)) {
        (0, 0) => Paint::Good,
        (0, _) => Paint::Warn,
        _ => Paint::Bad,
    };
    let _ = writeln!(text, "\n{}", look.paint(paint, &report.verdict()));
    text
}

fn one(text: &mut String, found: &Found, look: Look) {
    let paint = match found.result {
        FindingResult::Passed => Paint::Good,
        FindingResult::NotApplicable => Paint::Dim,
        FindingResult::Warning => Paint::Warn,
        FindingResult::Failed => Paint::Bad,
    };
    let result = look.paint(paint, &format!("{:<14}", word(found.result)));
    let _ = writeln!(text, "  {result}  {}  ({})", safe(&found.subject), found.took);
    sentence(text, &found.what, look, Paint::None);
    if !found.remedy.is_empty() {
        sentence(text, &format!("=> {}", found.remedy), look, Paint::Bold);
    }
}

fn sentence(text: &mut String, sentence: &str, look: Look, paint: Paint) {
    let room = look.columns.saturating_sub(INDENT).max(20);
    for line in wrapped(&safe(sentence), room) {
        let _ = writeln!(text, "{:INDENT$}{}", "", look.paint(paint, &line));
    }
}
