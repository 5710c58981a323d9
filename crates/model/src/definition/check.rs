//! Rules that hold between definitions: references that must resolve, names that must differ.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use super::{Definitions, grouping, sources};
use crate::Millis;

/// Polling faster would only keep a partner's server busy.
const POLL_INTERVAL_MIN: Millis = Millis(10);

/// Something wrong in definitions, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a path: `send_ports[2].host`.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub help: String,
}

impl Problem {
    /// A problem at a path.
    pub fn new(
        path: impl Into<String>,
        what: impl Into<String>,
        help: impl Into<String>,
    ) -> Problem {
        Problem { path: path.into(), what: what.into(), help: help.into() }
    }
}

/// Looks for everything that is wrong, not only the first.
pub fn check(definitions: &Definitions) -> Vec<Problem> {
    let mut problems = Vec::new();
    unique(&mut problems, "groups", definitions.groups.iter().map(|group| &group.name));
    unique(&mut problems, "hosts", definitions.hosts.iter().map(|host| &host.name));
    unique(&mut problems, "receive_ports", definitions.receive_ports.iter().map(|port| &port.name));
    unique(&mut problems, "send_ports", definitions.send_ports.iter().map(|port| &port.name));
    grouping::check(definitions, &mut problems);
    receive_ports(definitions, &mut problems);
    send_ports(definitions, &mut problems);
    sources::check(definitions, &mut problems);
    problems
}

fn unique<'a, N: Ord + Display + 'a>(
    problems: &mut Vec<Problem>,
    list: &str,
    names: impl Iterator<Item = &'a N>,
) {
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(name) {
            problems.push(Problem::new(
                format!("{list}[{index}].name"),
                format!("{name} is defined twice in {list}"),
                "give one of them another name",
            ));
        }
    }
}

fn receive_ports(definitions: &Definitions, problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for (index, port) in definitions.receive_ports.iter().enumerate() {
        for (place, location) in port.locations.iter().enumerate() {
            let path = format!("receive_ports[{index}].locations[{place}]");
            if !seen.insert(&location.name) {
                problems.push(Problem::new(
                    format!("{path}.name"),
                    format!("receive location {} is defined twice", location.name),
                    "give one of them another name",
                ));
            }
            if definitions.host(&location.host).is_none() {
                problems.push(unknown_host(definitions, format!("{path}.host"), &location.host));
            }
            let numbers = [
                ("connections_max", location.connections_max, 1..=64),
                ("item_attempts_max", location.item_attempts_max, 1..=1000),
            ];
            for (name, value, range) in numbers {
                number(problems, format!("{path}.{name}"), value, range);
            }
            if location.poll_interval < POLL_INTERVAL_MIN {
                problems.push(Problem::new(
                    format!("{path}.poll_interval"),
                    format!("polling every {} would keep the server busy", location.poll_interval),
                    format!("use {POLL_INTERVAL_MIN} or more"),
                ));
            }
        }
    }
}

fn send_ports(definitions: &Definitions, problems: &mut Vec<Problem>) {
    for (index, port) in definitions.send_ports.iter().enumerate() {
        number(problems, format!("send_ports[{index}].retries_max"), port.retries_max, 0..=1000);
        if definitions.host(&port.host).is_none() {
            problems.push(unknown_host(
                definitions,
                format!("send_ports[{index}].host"),
                &port.host,
            ));
        }
    }
}

fn number(problems: &mut Vec<Problem>, path: String, value: u32, range: RangeInclusive<u32>) {
    if !range.contains(&value) {
        let help = format!("use {} to {}", range.start(), range.end());
        problems.push(Problem::new(path, format!("{value} is out of range"), help));
    }
}

fn unknown_host(definitions: &Definitions, path: String, name: &crate::HostName) -> Problem {
    unknown(path, "host", name, definitions.hosts.iter().map(|host| &host.name))
}

pub(super) fn unknown<'a, N: Display + 'a>(
    path: String,
    kind: &str,
    name: &N,
    known: impl Iterator<Item = &'a N>,
) -> Problem {
    let known: Vec<String> = known.map(ToString::to_string).collect();
    let help = if known.is_empty() {
        format!("define {kind} {name} under {kind}s")
    } else {
        format!("define {kind} {name}, or use one of: {}", known.join(", "))
    };
    Problem::new(path, format!("there is no {kind} {name}"), help)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn finds(definitions: serde_json::Value, path: &str, what: &str) {
        let definitions: Definitions = serde_json::from_value(definitions).expect("definitions");
        let problems = check(&definitions);
        assert!(
            problems.iter().any(|problem| problem.path == path && problem.what.contains(what)),
            "{problems:#?}"
        );
    }

    #[test]
    fn references_must_resolve() {
        finds(
            json!({"hosts": [{"name": "h", "group": "g"}]}),
            "hosts[0].group",
            "there is no group g",
        );
        finds(
            json!({"send_ports": [{"name": "p", "host": "h", "filter": "true",
                   "transport": {"file": {"folder": "/out"}}}]}),
            "send_ports[0].host",
            "there is no host h",
        );
    }

    #[test]
    fn a_group_needs_two_possible_owners_or_says_so() {
        let group = |single| {
            json!({"groups": [{"name": "g", "possible_owners": ["a"],
                                    "single_node": single}]})
        };
        finds(group(false), "groups[0].possible_owners", "one node only");
        let meant: Definitions = serde_json::from_value(group(true)).expect("definitions");
        assert_eq!(check(&meant), []);
    }

    #[test]
    fn a_possible_owner_without_an_instance_is_refused() {
        finds(
            json!({"groups": [{"name": "g", "possible_owners": ["a", "b"]}],
                   "hosts": [{"name": "h", "group": "g", "nodes": ["a"]}]}),
            "hosts[0].nodes",
            "node b is a possible owner",
        );
    }

    #[test]
    fn names_differ() {
        finds(json!({"hosts": [{"name": "h"}, {"name": "h"}]}), "hosts[1].name", "defined twice");
    }
}
