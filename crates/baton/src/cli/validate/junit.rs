//! A report as JUnit's XML: one suite for each kind of test, one case for each finding. A warning
//! is a case that passed, with its text as output.

use std::fmt::Write as _;

use model::Millis;
use store::FindingResult;

use super::report::{Found, Report};
use crate::render::safe;

/// The document.
pub fn xml(report: &Report) -> String {
    let mut suites: Vec<(&str, Vec<&Found>)> = Vec::new();
    for found in &report.found {
        let kind = found.id.split('.').next().unwrap_or(found.id);
        match suites.iter_mut().find(|(name, _)| *name == kind) {
            Some((_, all)) => all.push(found),
            None => suites.push((kind, vec![found])),
        }
    }
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        xml,
        "<testsuites name=\"baton validate\" {}>",
        counts(&report.found.iter().collect::<Vec<_>>())
    );
    for (kind, found) in suites {
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" {} hostname=\"{}\" timestamp=\"{}\">",
            escaped(kind),
            counts(&found),
            escaped(&report.node),
            escaped(&report.at.to_string())
        );
        for found in found {
            case(&mut xml, kind, found);
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn counts(found: &[&Found]) -> String {
    let count = |result| found.iter().filter(|found| found.result == result).count();
    let took = found.iter().map(|found| found.took.0).sum();
    format!(
        "tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{}\"",
        found.len(),
        count(FindingResult::Failed),
        count(FindingResult::NotApplicable),
        seconds(Millis(took))
    )
}

fn seconds(millis: Millis) -> String {
    format!("{}.{:03}", millis.0 / 1000, millis.0 % 1000)
}

fn case(xml: &mut String, kind: &str, found: &Found) {
    let name = format!("{} {}", found.id, found.subject);
    let _ = write!(
        xml,
        "    <testcase classname=\"baton.{}\" name=\"{}\" time=\"{}\">",
        escaped(kind),
        escaped(&name),
        seconds(found.took)
    );
    let (what, remedy) = (escaped(&found.what), escaped(&found.remedy));
    let _ = match found.result {
        FindingResult::Passed => write!(xml, "<system-out>{what}</system-out>"),
        FindingResult::Warning => {
            write!(xml, "<system-out>WARNING: {what}. {remedy}</system-out>")
        }
        FindingResult::NotApplicable => write!(xml, "<skipped message=\"{what}\"/>"),
        FindingResult::Failed => {
            write!(xml, "<failure message=\"{what}\" type=\"failed\">{remedy}</failure>")
        }
    };
    xml.push_str("</testcase>\n");
}

/// Text for an element or an attribute of XML or HTML. What XML cannot hold at all becomes a
/// readable escape.
pub fn escaped(text: &str) -> String {
    let text = safe(text);
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
pub(super) mod tests {
    use model::Timestamp;

    use super::*;

    /// What tries to break out of a page, of XML, and of a terminal.
    pub const HOSTILE: &str =
        "]]></failure><script>alert('x')</script> & \" \u{0} \u{1b}[31m \u{ffff} \u{202e} --> ä";

    pub fn hostile_report() -> Report {
        let results = [
            FindingResult::Passed,
            FindingResult::NotApplicable,
            FindingResult::Warning,
            FindingResult::Failed,
        ];
        let found = |result| Found {
            id: "endpoint.ftp",
            subject: format!("location {HOSTILE}"),
            result,
            what: HOSTILE.into(),
            remedy: HOSTILE.into(),
            took: Millis(1234),
        };
        Report {
            store: HOSTILE.into(),
            node: HOSTILE.into(),
            is_node: true,
            version: "0.1.0".into(),
            at: Timestamp(1_700_000_000_000),
            found: results.map(found).to_vec(),
        }
    }

    #[test]
    fn the_xml_parses_and_holds_what_was_said() {
        let xml = xml(&hostile_report());
        let document = roxmltree::Document::parse(&xml).expect(&xml);
        let suite = document.root_element().first_element_child().expect("a suite");
        assert_eq!(suite.attribute("tests"), Some("4"));
        assert_eq!(suite.attribute("failures"), Some("1"));
        assert_eq!(suite.attribute("skipped"), Some("1"));
        assert_eq!(suite.attribute("time"), Some("4.936"));
        let names: Vec<_> = document.descendants().map(|node| node.tag_name().name()).collect();
        assert!(!names.contains(&"script"), "{xml}");
        let failure = document.descendants().find(|node| node.has_tag_name("failure"));
        let message = failure.and_then(|node| node.attribute("message")).expect("a message");
        assert!(message.starts_with("]]></failure><script>alert('x')</script> & \""), "{message}");
        assert!(message.ends_with("--> ä"), "{message}");
    }
}
