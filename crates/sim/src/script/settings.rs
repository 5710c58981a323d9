//! The settings of groups, hosts and resources in a script.
//!
//! Each setting is followed by its words, up to the next one: `group g preferred a b restarts 1`.
//! `restarts=1` and `preferred=a,b` mean the same.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use model::definition::{
    Failback, Group, GroupPolicy, Host, OnFailure, Priority, Resource, ResourceKind, ResourcePolicy,
};
use model::{Definitions, GroupName, HostName, Millis, NodeName, ResourceName};

/// What a line may set, with its words.
type Settings = BTreeMap<&'static str, Vec<String>>;

const OF_GROUPS: [&str; 18] = [
    "owners",
    "preferred",
    "restarts",
    "failovers",
    "drain",
    "hang",
    "pending",
    "retry",
    "default",
    "priority",
    "failback",
    "anti_affinity",
    "enforced",
    "after",
    "delay",
    "restart_period",
    "failover_period",
    "restart_delay",
];

const OF_MEMBERS: [&str; 9] =
    ["group", "nodes", "owners", "depends", "on_failure", "restarts", "retry", "pending", "hang"];

/// Reads a name of any kind, or whatever else is written as one word.
pub fn name<N: FromStr<Err: Display>>(text: &str) -> Result<N, String> {
    text.parse().map_err(|error: N::Err| error.to_string())
}

/// Reads a duration.
pub fn millis(text: &str) -> Result<Millis, String> {
    name(text)
}

/// Adds a `group`, `host` or `resource`, or replaces the one of that name.
pub fn define(definitions: &mut Definitions, words: &[&str]) -> Result<(), String> {
    match words {
        ["group", name, words @ ..] => {
            let group = group(name, words)?;
            definitions.groups.retain(|other| other.name != group.name);
            definitions.groups.push(group);
        }
        ["host", name, words @ ..] => {
            let host = host(name, words)?;
            definitions.hosts.retain(|other| other.name != host.name);
            definitions.hosts.push(host);
        }
        ["resource", name, kind, words @ ..] => {
            let resource = resource(name, kind, words)?;
            definitions.resources.retain(|other| other.name != resource.name);
            definitions.resources.push(resource);
        }
        _ => return Err(format!("{:?} defines nothing", words.join(" "))),
    }
    Ok(())
}

fn settings(words: &[&str], known: &[&'static str]) -> Result<Settings, String> {
    let mut settings = Settings::new();
    let mut current: Option<&'static str> = None;
    for word in words {
        let (word, values) = match word.split_once('=') {
            Some((key, values)) => (key, Some(values)),
            None => (*word, None),
        };
        if let Some(key) = known.iter().find(|key| **key == word) {
            let list = settings.entry(key).or_default();
            list.extend(values.into_iter().flat_map(|values| values.split(',')).map(str::to_owned));
            current = Some(key);
        } else if let Some(key) = current {
            settings.entry(key).or_default().push(word.to_owned());
        } else {
            return Err(format!("there is no setting {word}: {}", known.join(", ")));
        }
    }
    Ok(settings)
}

fn names<N: FromStr<Err: Display>>(settings: &Settings, key: &str) -> Result<Vec<N>, String> {
    settings.get(key).into_iter().flatten().map(|text| name(text)).collect()
}

/// The one word of a setting, if it is there.
fn one<T>(
    settings: &Settings,
    key: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match settings.get(key).map(Vec::as_slice) {
        None => Ok(None),
        Some([word]) => read(word).map(Some),
        Some(_) => Err(format!("{key} has one word")),
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn group(text: &str, words: &[&str]) -> Result<Group, String> {
    let settings = settings(words, &OF_GROUPS)?;
    let usual = GroupPolicy::default();
    let time = |key, usual| one(&settings, key, millis).map(|value| value.unwrap_or(usual));
    let policy = GroupPolicy {
        restarts_max: one(&settings, "restarts", number)?.unwrap_or(usual.restarts_max),
        restart_period: time("restart_period", usual.restart_period)?,
        restart_delay: time("restart_delay", usual.restart_delay)?,
        failovers_max: one(&settings, "failovers", number)?,
        failover_period: time("failover_period", usual.failover_period)?,
        drain_timeout: time("drain", usual.drain_timeout)?,
        hang_timeout: time("hang", usual.hang_timeout)?,
        pending_timeout: time("pending", usual.pending_timeout)?,
        retry_period: time("retry", usual.retry_period)?,
        ..usual
    };
    Ok(Group {
        possible_owners: names(&settings, "owners")?,
        preferred_owners: names(&settings, "preferred")?,
        default_owner: one(&settings, "default", name::<NodeName>)?,
        priority: one(&settings, "priority", priority)?.unwrap_or_default(),
        failback: one(&settings, "failback", failback)?.unwrap_or_default(),
        anti_affinity: settings.get("anti_affinity").cloned().unwrap_or_default(),
        anti_affinity_enforced: settings.contains_key("enforced"),
        after: names::<GroupName>(&settings, "after")?,
        start_delay: time("delay", Millis(0))?,
        policy,
        ..Group::new(name(text)?)
    })
}

fn priority(word: &str) -> Result<Priority, String> {
    let all = [Priority::NoAutoStart, Priority::Low, Priority::Medium, Priority::High];
    let found = all.into_iter().find(|priority| priority.to_string() == word);
    found.ok_or_else(|| format!("{word:?} is no priority: no_auto_start, low, medium or high"))
}

fn failback(word: &str) -> Result<Failback, String> {
    match word {
        "never" => Ok(Failback::Never),
        "immediate" => Ok(Failback::Immediate),
        window => window.parse().map(Failback::Window),
    }
}

fn on_failure(word: &str) -> Result<OnFailure, String> {
    match word {
        "nothing" => Ok(OnFailure::Nothing),
        "restart" => Ok(OnFailure::Restart),
        "fail_over" => Ok(OnFailure::FailOver),
        _ => Err(format!("{word:?} follows no failure: nothing, restart or fail_over")),
    }
}

fn own_policy(settings: &Settings) -> Result<ResourcePolicy, String> {
    Ok(ResourcePolicy {
        on_failure: one(settings, "on_failure", on_failure)?,
        restarts_max: one(settings, "restarts", number)?,
        retry_period: one(settings, "retry", millis)?,
        pending_timeout: one(settings, "pending", millis)?,
        hang_timeout: one(settings, "hang", millis)?,
        ..ResourcePolicy::default()
    })
}

fn dependency(settings: &Settings) -> Result<model::definition::Dependency, String> {
    let text = settings.get("depends").map(|words| words.join(" ")).unwrap_or_default();
    text.parse().map_err(|error: model::definition::InvalidDependency| error.to_string())
}

fn host(text: &str, words: &[&str]) -> Result<Host, String> {
    let settings = settings(words, &OF_MEMBERS)?;
    Ok(Host {
        group: one(&settings, "group", name::<GroupName>)?,
        nodes: names(&settings, "nodes")?,
        depends_on: dependency(&settings)?,
        policy: own_policy(&settings)?,
        ..Host::new(name::<HostName>(text)?)
    })
}

fn resource(text: &str, kind: &str, words: &[&str]) -> Result<Resource, String> {
    let settings = settings(words, &OF_MEMBERS)?;
    let group = one(&settings, "group", name::<GroupName>)?;
    Ok(Resource {
        name: name::<ResourceName>(text)?,
        group: group.ok_or("a resource belongs to a group")?,
        depends_on: dependency(&settings)?,
        possible_owners: names(&settings, "owners")?,
        policy: own_policy(&settings)?,
        kind: kind_named(kind)?,
    })
}

/// A resource of this kind, with settings that the simulation does not look at.
pub fn kind_named(kind: &str) -> Result<ResourceKind, String> {
    let value = match kind {
        "process" => serde_json::json!({ "process": { "command": ["/bin/true"] } }),
        "systemd" => serde_json::json!({ "systemd": { "unit": "any.service" } }),
        "ocf" => serde_json::json!({ "ocf": { "agent": "heartbeat:Dummy" } }),
        "ip_address" => serde_json::json!({ "ip_address": { "address": "192.0.2.10/24" } }),
        "network_name" => serde_json::json!({
            "network_name": { "name": "any.example.org", "server": "192.0.2.53:53" }
        }),
        _ => return Err(format!("{kind:?} is no kind of resource")),
    };
    serde_json::from_value(value).map_err(|error| format!("{kind}: {error}"))
}
