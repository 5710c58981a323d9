//! What an OCF agent says it can do, and how long that may take.

use std::time::Duration;

use roxmltree::{Document, ParsingOptions};

/// Elements that are read at most: the largest agents have some hundreds.
const NODES_MAX: u32 = 20_000;

/// Longest advice that is followed. Longer is a slip, and would hide a hung agent for ever.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// The actions of an agent.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Action {
    name: String,
    depth: u32,
    timeout: Duration,
}

impl Metadata {
    /// Reads what `meta-data` has printed.
    pub fn read(printed: &[u8], cut: bool) -> Result<Metadata, String> {
        if cut {
            return Err("its meta-data is too long".to_owned());
        }
        let text = std::str::from_utf8(printed).map_err(|_| "its meta-data is no UTF-8")?;
        // They name a document type, which is not fetched.
        let options =
            ParsingOptions { allow_dtd: true, nodes_limit: NODES_MAX, ..Default::default() };
        let document = Document::parse_with_options(text.trim(), options)
            .map_err(|error| format!("its meta-data is no XML: {error}"))?;
        let actions = document.descendants().filter(|node| node.has_tag_name("action"));
        let actions = actions.filter_map(|node| {
            Some(Action {
                name: node.attribute("name")?.to_owned(),
                depth: node.attribute("depth").and_then(|depth| depth.parse().ok()).unwrap_or(0),
                timeout: node.attribute("timeout").and_then(duration).unwrap_or_default(),
            })
        });
        Ok(Metadata { actions: actions.collect() })
    }

    /// Whether the agent has this action.
    pub fn has(&self, name: &str) -> bool {
        self.actions.iter().any(|action| action.name == name)
    }

    /// The advised time limit of an action, at a check level where there are several.
    pub fn timeout_of(&self, name: &str, level: Option<u32>) -> Duration {
        let named = self.actions.iter().filter(|action| action.name == name);
        let level = level.unwrap_or(0);
        let fitting = named.filter(|action| action.depth <= level || action.depth == 0);
        fitting.map(|action| action.timeout).max().unwrap_or_default().min(TIMEOUT_MAX)
    }
}

/// `20`, `20s`, `500ms`, `2min`: a number without a unit is in seconds.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim() {
        "" | "s" | "sec" => 1000,
        "ms" | "msec" => 1,
        "m" | "min" => 60_000,
        "h" | "hr" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_read() {
        let text = br#"<?xml version="1.0"?>
            <!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
            <resource-agent name="x"><actions>
              <action name="start" timeout="2min" />
              <action name="monitor" depth="0" timeout="20s" interval="10s"/>
              <action name="monitor" depth="10" timeout="90"/>
              <action name="stop" timeout="soon"/>
            </actions></resource-agent>"#;
        let metadata = Metadata::read(text, false).expect("meta-data");
        assert!(metadata.has("monitor") && !metadata.has("promote"));
        for (action, level, seconds) in [
            ("start", None, 120),
            ("monitor", Some(0), 20),
            ("monitor", Some(10), 90),
            ("stop", None, 0),
            ("promote", None, 0),
        ] {
            assert_eq!(metadata.timeout_of(action, level), Duration::from_secs(seconds));
        }
    }

    #[test]
    fn what_is_hostile_is_refused() {
        let laughs = br#"<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
            <!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;">
            <!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;">]><x>&e;&e;&e;&e;&e;&e;&e;&e;&e;</x>"#;
        for bad in [&laughs[..], b"", b"usage: agent {start|stop}", b"\xff\xfe", b"<a><b></a>"] {
            assert!(Metadata::read(bad, false).is_err());
        }
        assert!(Metadata::read(b"<a/>", true).is_err());
        let many = format!("<a>{}</a>", "<action/>".repeat(30_000));
        assert!(Metadata::read(many.as_bytes(), false).is_err());
    }
}
