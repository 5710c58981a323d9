//! Rules between groups, hosts and resources: who may be where, who needs whom.

use std::collections::{BTreeMap, BTreeSet};

use super::check::{Problem, unknown};
use super::resource::{IpAddress, NetworkName, Ocf, Process};
use super::{Definitions, Failback, Group, Member, MemberKind, Resource, ResourceKind};
use crate::{GroupName, Millis, NodeName, ResourceName};

/// Checking more often would keep a machine busy with asking.
const CHECK_INTERVAL_MIN: Millis = Millis(100);

/// The signals that ask a program to end, by name.
pub const STOP_SIGNALS: [&str; 7] =
    ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL"];

pub(super) fn check(definitions: &Definitions, problems: &mut Vec<Problem>) {
    names(definitions, problems);
    for (index, group) in definitions.groups.iter().enumerate() {
        let path = format!("groups[{index}]");
        owners(definitions, group, &path, problems);
        timeouts(group, &path, problems);
        order(definitions, group, &path, problems);
    }
    for (index, host) in definitions.hosts.iter().enumerate() {
        member(definitions, &Member::from(host), &format!("hosts[{index}]"), problems);
        instances(definitions, index, problems);
    }
    for (index, resource) in definitions.resources.iter().enumerate() {
        let path = format!("resources[{index}]");
        member(definitions, &Member::from(resource), &path, problems);
        kind(resource, &path, problems);
    }
    cycles(definitions, problems);
}

/// Hosts and resources share one space of names.
fn names(definitions: &Definitions, problems: &mut Vec<Problem>) {
    let mut seen: BTreeSet<ResourceName> =
        definitions.hosts.iter().map(|host| host.name.clone().into()).collect();
    for (index, resource) in definitions.resources.iter().enumerate() {
        if !seen.insert(resource.name.clone()) {
            problems.push(Problem::new(
                format!("resources[{index}].name"),
                format!("{} is the name of another resource or host", resource.name),
                "give one of them another name: dependencies name them without their kind",
            ));
        }
    }
}

fn owners(definitions: &Definitions, group: &Group, path: &str, problems: &mut Vec<Problem>) {
    let owners: BTreeSet<_> = group.possible_owners.iter().collect();
    if owners.len() == 1 && !group.single_node {
        problems.push(Problem::new(
            format!("{path}.possible_owners"),
            format!("group {} can run on one node only, so it cannot fail over", group.name),
            "name a second possible owner, or write `single_node: true` if that is meant",
        ));
    }
    let preferred = group.preferred_owners.iter().enumerate();
    let named = preferred.map(|(place, owner)| (format!("preferred_owners[{place}]"), owner));
    let default = group.default_owner.iter().map(|owner| ("default_owner".to_owned(), owner));
    for (field, owner) in named.chain(default) {
        if !group.may_own(owner) {
            problems.push(Problem::new(
                format!("{path}.{field}"),
                format!("{owner} is preferred but is not a possible owner of {}", group.name),
                format!("add {owner} to possible_owners, or take it out here"),
            ));
        }
    }
    if let Some(common) = common_owners(definitions, group)
        && common.is_empty()
    {
        problems.push(Problem::new(
            format!("{path}.possible_owners"),
            format!("no node may own group {}: its members have no node in common", group.name),
            "let possible_owners of the group and its resources, and nodes of its hosts, share \
             two nodes",
        ));
    }
    if group.failback != Failback::Never && group.preferred_owners.is_empty() {
        problems.push(Problem::new(
            format!("{path}.failback"),
            format!("group {} has no preferred owner to fail back to", group.name),
            "name preferred_owners, or leave failback out",
        ));
    }
    if group.anti_affinity_enforced && group.anti_affinity.is_empty() {
        problems.push(Problem::new(
            format!("{path}.anti_affinity_enforced"),
            format!("group {} has no class to avoid", group.name),
            "name the class under anti_affinity, in each of the groups that avoid one another",
        ));
    }
}

/// The nodes that a group and all its members allow; none when nobody names any.
fn common_owners(definitions: &Definitions, group: &Group) -> Option<BTreeSet<NodeName>> {
    let of_members = definitions.members_of(&group.name).map(|member| match member.kind {
        MemberKind::Host(host) => &host.nodes,
        MemberKind::Resource(resource) => &resource.possible_owners,
    });
    let lists = std::iter::once(&group.possible_owners).chain(of_members);
    let sets = lists.filter(|list| !list.is_empty()).map(|list| list.iter().cloned().collect());
    sets.reduce(|common: BTreeSet<NodeName>, set| common.intersection(&set).cloned().collect())
}

fn timeouts(group: &Group, path: &str, problems: &mut Vec<Problem>) {
    let policy = &group.policy;
    for (name, value, least) in [
        ("pending_timeout", policy.pending_timeout, Millis::seconds(1)),
        ("hang_timeout", policy.hang_timeout, Millis::seconds(1)),
        ("drain_timeout", policy.drain_timeout, Millis(100)),
        ("looks_alive_interval", policy.looks_alive_interval, CHECK_INTERVAL_MIN),
        ("is_alive_interval", policy.is_alive_interval, CHECK_INTERVAL_MIN),
    ] {
        too_short(&format!("{path}.policy.{name}"), value, least, problems);
    }
}

fn too_short(path: &str, value: Millis, least: Millis, problems: &mut Vec<Problem>) {
    if value < least {
        problems.push(Problem::new(
            path,
            format!("{value} is too short: everything healthy would count as failed"),
            format!("use {least} or more, or leave it out for the default"),
        ));
    }
}

fn order(definitions: &Definitions, group: &Group, path: &str, problems: &mut Vec<Problem>) {
    for (place, name) in group.after.iter().enumerate() {
        let path = format!("{path}.after[{place}]");
        if definitions.group(name).is_none() {
            let known = definitions.groups.iter().map(|group| &group.name);
            problems.push(unknown(path, "group", name, known));
        } else if *name == group.name {
            problems.push(Problem::new(
                path,
                format!("group {name} cannot start after itself"),
                "take it out",
            ));
        }
    }
}

/// What hosts and resources have in common.
fn member(definitions: &Definitions, member: &Member<'_>, path: &str, problems: &mut Vec<Problem>) {
    let group = member.group.and_then(|name| definitions.group(name));
    if let Some(name) = member.group
        && group.is_none()
    {
        let known = definitions.groups.iter().map(|group| &group.name);
        problems.push(unknown(format!("{path}.group"), "group", name, known));
        return;
    }
    for name in member.depends_on.names() {
        let provider = definitions.member(name);
        let (what, help) = match (provider, group) {
            (_, None) => (
                format!("host {} is in no group, so it can depend on nothing", member.name),
                "cluster it: name its group".to_owned(),
            ),
            (None, Some(group)) => (
                format!("there is no host or resource {name}"),
                format!("define it in group {}, or take it out here", group.name),
            ),
            (Some(provider), Some(_)) if provider.group != member.group => (
                format!("{} depends on {name}, which is in another group", member.name),
                "put both into one group; between groups there is `after`".to_owned(),
            ),
            (Some(_), Some(_)) => continue,
        };
        problems.push(Problem::new(format!("{path}.depends_on"), what, help));
    }
    let policy = member.policy;
    for (name, value, least) in [
        ("pending_timeout", policy.pending_timeout, Millis::seconds(1)),
        ("hang_timeout", policy.hang_timeout, Millis::seconds(1)),
        ("looks_alive_interval", policy.looks_alive_interval, CHECK_INTERVAL_MIN),
        ("is_alive_interval", policy.is_alive_interval, CHECK_INTERVAL_MIN),
    ] {
        if let Some(value) = value {
            too_short(&format!("{path}.policy.{name}"), value, least, problems);
        }
    }
}

/// A host has an instance on each possible owner of its group.
fn instances(definitions: &Definitions, index: usize, problems: &mut Vec<Problem>) {
    let host = &definitions.hosts[index];
    let Some(group) = host.group.as_ref().and_then(|name| definitions.group(name)) else {
        return;
    };
    let lacking = group.possible_owners.iter().find(|owner| !host.runs_on(owner));
    let everywhere = group.possible_owners.is_empty() && !host.nodes.is_empty();
    if lacking.is_some() || everywhere {
        let whom = lacking.map_or("every node".to_owned(), |owner| format!("node {owner}"));
        problems.push(Problem::new(
            format!("hosts[{index}].nodes"),
            format!(
                "{whom} is a possible owner of group {} but has no instance of host {}",
                group.name, host.name
            ),
            "add the node to the host's nodes, or name the group's possible_owners without it",
        ));
    }
}

fn kind(resource: &Resource, path: &str, problems: &mut Vec<Problem>) {
    let path = format!("{path}.kind.{}", resource.kind.as_str());
    let wrong = match &resource.kind {
        ResourceKind::Process(process) => process_problem(process),
        ResourceKind::Systemd(systemd) => (!systemd.unit.contains('.')).then(|| {
            ("unit", format!("{:?} is no unit", systemd.unit), "write it whole: name.service")
        }),
        ResourceKind::Ocf(ocf) => ocf_problem(ocf),
        ResourceKind::IpAddress(ip) => ip_problem(ip),
        ResourceKind::NetworkName(name) => name_problem(name, resource),
    };
    if let Some((field, what, help)) = wrong {
        problems.push(Problem::new(format!("{path}.{field}"), what, help));
    }
}

type Wrong = Option<(&'static str, String, &'static str)>;

fn process_problem(process: &Process) -> Wrong {
    if process.command.first().is_none_or(|program| !program.starts_with('/')) {
        let what = "a program is named by its whole path".to_owned();
        return Some(("command", what, "write [\"/usr/bin/program\", \"argument\"]"));
    }
    if !STOP_SIGNALS.contains(&process.stop_signal.as_str()) {
        let what = format!("{:?} is no signal that ends a program", process.stop_signal);
        return Some(("stop_signal", what, "use SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 or 2"));
    }
    None
}

fn ocf_problem(ocf: &Ocf) -> Wrong {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let named = ocf.agent.split_once(':').is_some_and(|(who, what)| plain(who) && plain(what));
    if !named {
        let what = format!("{:?} is no agent", ocf.agent);
        return Some(("agent", what, "write provider:type, such as heartbeat:IPaddr2"));
    }
    let odd = ocf.parameters.keys().find(|name| {
        !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') || name.is_empty()
    });
    let odd = odd?;
    Some(("parameters", format!("{odd:?} is no parameter name"), "use letters, digits and `_`"))
}

fn ip_problem(ip: &IpAddress) -> Wrong {
    let parsed = ip.address.split_once('/').and_then(|(address, length)| {
        Some((address.parse::<core::net::IpAddr>().ok()?, length.parse::<u8>().ok()?))
    });
    let fits = parsed.is_some_and(|(address, length)| match address {
        core::net::IpAddr::V4(_) => length <= 32,
        core::net::IpAddr::V6(_) => length <= 128,
    });
    if !fits {
        let what = format!("{:?} is no address with its network", ip.address);
        return Some(("address", what, "write it as 192.0.2.10/24 or 2001:db8::10/64"));
    }
    if !(1..=60).contains(&ip.announcements) {
        let what = format!("{} is out of range", ip.announcements);
        return Some(("announcements", what, "use 1 to 60"));
    }
    None
}

fn name_problem(name: &NetworkName, resource: &Resource) -> Wrong {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let labels: Vec<&str> = name.name.trim_end_matches('.').split('.').collect();
    if labels.len() < 2 || !labels.iter().all(|text| label(text)) || name.name.len() > 253 {
        let what = format!("{:?} is no fully qualified name", name.name);
        return Some(("name", what, "write it as partners.example.org"));
    }
    if name.addresses.is_empty() && resource.depends_on.is_empty() {
        let what = "it has no address to publish".to_owned();
        return Some(("addresses", what, "depend on an ip_address resource, or name addresses"));
    }
    None
}

/// Dependencies inside groups, and starts after one another, must come to an end.
fn cycles(definitions: &Definitions, problems: &mut Vec<Problem>) {
    let needs: BTreeMap<String, Vec<String>> = definitions
        .members()
        .map(|member| {
            let names = member.depends_on.names().map(ToString::to_string);
            (member.name.to_string(), names.collect())
        })
        .collect();
    if let Some(cycle) = cycle(&needs) {
        problems.push(Problem::new(
            "resources",
            format!("these wait for one another, so none of them could start: {cycle}"),
            "take one of these dependencies out",
        ));
    }
    let groups = definitions.groups.iter();
    let after: BTreeMap<String, Vec<String>> = groups
        .map(|group| {
            let names = group.after.iter().filter(|name| **name != group.name);
            (group.name.to_string(), names.map(GroupName::to_string).collect())
        })
        .collect();
    if let Some(cycle) = cycle(&after) {
        problems.push(Problem::new(
            "groups",
            format!("these groups start after one another, so none could start: {cycle}"),
            "take one of these `after` out",
        ));
    }
}

/// A cycle as `a, b, a`, if there is one. What has nothing left to wait for is taken away until
/// nothing changes; what remains goes in circles.
fn cycle(needs: &BTreeMap<String, Vec<String>>) -> Option<String> {
    let mut rest: BTreeMap<&str, BTreeSet<&str>> = needs
        .iter()
        .map(|(name, needed)| {
            let known = needed.iter().filter(|needed| needs.contains_key(*needed));
            (name.as_str(), known.map(String::as_str).collect())
        })
        .collect();
    loop {
        let done: Vec<&str> =
            rest.iter().filter(|(_, needed)| needed.is_empty()).map(|(name, _)| *name).collect();
        if done.is_empty() {
            break;
        }
        for name in done {
            rest.remove(name);
            for needed in rest.values_mut() {
                needed.remove(name);
            }
        }
    }
    let mut at = *rest.keys().next()?;
    let mut path: Vec<&str> = Vec::new();
    while !path.contains(&at) {
        path.push(at);
        at = rest.get(at).and_then(|needed| needed.first())?;
    }
    let begin = path.iter().position(|name| *name == at)?;
    path.push(at);
    Some(path[begin..].join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::check;
    use super::*;

    #[track_caller]
    fn finds(definitions: Value, path: &str, what: &str) {
        let definitions: Definitions = serde_json::from_value(definitions).expect("definitions");
        let problems = check(&definitions);
        assert!(
            problems.iter().any(|problem| problem.path == path && problem.what.contains(what)),
            "{problems:#?}"
        );
    }

    fn resource(name: &str, depends_on: &str, kind: Value) -> Value {
        json!({"name": name, "group": "g", "depends_on": depends_on, "kind": kind})
    }

    fn program() -> Value {
        json!({"process": {"command": ["/bin/true"]}})
    }

    #[test]
    fn dependencies_end_and_stay_inside_the_group() {
        let circle = [
            resource("a", "b", program()),
            resource("b", "c", program()),
            resource("c", "a", program()),
        ];
        let groups = json!([{"name": "g"}, {"name": "other"}]);
        finds(json!({"groups": groups, "resources": circle}), "resources", "a, b, c, a");
        let unknown = [resource("a", "x", program())];
        finds(
            json!({"groups": groups, "resources": unknown}),
            "resources[0].depends_on",
            "no host or resource x",
        );
        let hosts = json!([{"name": "h", "group": "other"}]);
        let across = [resource("a", "h", program())];
        finds(
            json!({"groups": groups, "hosts": hosts, "resources": across}),
            "resources[0].depends_on",
            "in another group",
        );
        finds(
            json!({"groups": [{"name": "g", "after": ["i"]}, {"name": "i", "after": ["g"]}]}),
            "groups",
            "g, i, g",
        );
    }

    #[test]
    fn members_need_a_node_in_common() {
        finds(
            json!({"groups": [{"name": "g", "possible_owners": ["a", "b"]}], "resources": [
                {"name": "r", "group": "g", "possible_owners": ["c", "d"], "kind": program()},
            ]}),
            "groups[0].possible_owners",
            "no node in common",
        );
    }

    #[test]
    fn names_are_shared_with_hosts() {
        finds(
            json!({"groups": [{"name": "g"}], "hosts": [{"name": "x", "group": "g"}],
                   "resources": [resource("x", "", program())]}),
            "resources[0].name",
            "another resource or host",
        );
    }

    #[test]
    fn settings_of_each_kind_are_looked_at() {
        for (kind, field, what) in [
            (json!({"process": {"command": ["true"]}}), "process.command", "whole path"),
            (json!({"ocf": {"agent": "../x:y"}}), "ocf.agent", "no agent"),
            (json!({"ip_address": {"address": "192.0.2.1"}}), "ip_address.address", "network"),
            (json!({"ip_address": {"address": "192.0.2.1/33"}}), "ip_address.address", "network"),
            (
                json!({"network_name": {"name": "x", "server": "127.0.0.1:53"}}),
                "network_name.name",
                "fully qualified",
            ),
            (json!({"systemd": {"unit": "x"}}), "systemd.unit", "no unit"),
        ] {
            let definitions =
                json!({"groups": [{"name": "g"}], "resources": [resource("r", "", kind)]});
            finds(definitions, &format!("resources[0].kind.{field}"), what);
        }
    }

    #[test]
    fn what_cannot_have_an_effect_is_refused() {
        finds(
            json!({"groups": [{"name": "g", "failback": "immediate"}]}),
            "groups[0].failback",
            "no preferred owner",
        );
        finds(
            json!({"groups": [{"name": "g", "anti_affinity_enforced": true}]}),
            "groups[0].anti_affinity_enforced",
            "no class",
        );
        finds(
            json!({"groups": [{"name": "g", "possible_owners": ["a", "b"],
                               "default_owner": "c"}]}),
            "groups[0].default_owner",
            "not a possible owner",
        );
    }
}
