//! Everything that is checked of definitions beyond their shape: references, filters, adapters.

use adapter::{AdapterError, Concurrency};
use messaging::Filter;
use model::Definitions;
use model::definition::{Problem, check};

/// A problem, and where in the text of its value it begins, if that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The problem.
    pub problem: Problem,
    /// Bytes from the begin of the value: a place inside a filter.
    pub within: Option<usize>,
}

/// Looks for everything that is wrong, not only the first.
pub fn findings(definitions: &Definitions) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        check(definitions).into_iter().map(|problem| Finding { problem, within: None }).collect();
    for (index, port) in definitions.send_ports.iter().enumerate() {
        findings.extend(filter(&format!("send_ports[{index}].filter"), &port.filter));
    }
    settings(definitions, &mut findings);
    one_instance(definitions, &mut findings);
    findings
}

/// What is wrong with a filter.
pub fn filter(path: &str, text: &str) -> Option<Finding> {
    let error = Filter::parse(text).err()?;
    let what = format!("this filter is wrong: {}", error.what);
    Some(Finding { problem: Problem::new(path, what, error.help), within: Some(error.at) })
}

/// What an adapter says of its settings.
fn settings(definitions: &Definitions, findings: &mut Vec<Finding>) {
    let mut refused = |path: String, error: &AdapterError| {
        let help = "see the fields and their meaning in `baton schema`";
        let problem = Problem::new(path, error.to_string(), help);
        findings.push(Finding { problem, within: None });
    };
    for (index, port) in definitions.receive_ports.iter().enumerate() {
        for (place, location) in port.locations.iter().enumerate() {
            if let Err(error) = adapters::source(&location.transport) {
                let path = format!("receive_ports[{index}].locations[{place}].transport");
                refused(path, &error);
            }
        }
    }
    for (index, port) in definitions.send_ports.iter().enumerate() {
        if let Err(error) = adapters::sink(&port.transport) {
            refused(format!("send_ports[{index}].transport"), &error);
        }
    }
}

/// An adapter that must have one active instance needs a clustered host.
fn one_instance(definitions: &Definitions, findings: &mut Vec<Finding>) {
    for (index, port) in definitions.receive_ports.iter().enumerate() {
        for (place, location) in port.locations.iter().enumerate() {
            let adapter = adapters::adapter_of(&location.transport);
            let Concurrency::OneBecause(why) = adapter.receive_concurrency() else { continue };
            match definitions.host(&location.host) {
                Some(host) if host.group.is_none() => {}
                Some(_) | None => continue,
            }
            let problem = Problem::new(
                format!("receive_ports[{index}].locations[{place}].host"),
                format!(
                    "host {} is not clustered, so several nodes would receive from location {} at \
                     once, and {} allows one only: {why}",
                    location.host,
                    location.name,
                    adapter.name()
                ),
                format!(
                    "put the host into a group (`group: NAME` at host {0}, NAME defined under \
                     groups), or run `baton host cluster {0} --group NAME`",
                    location.host
                ),
            );
            findings.push(Finding { problem, within: None });
        }
    }
}
