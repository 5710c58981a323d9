//! Which group may be struck: only one that was made for it.

use std::path::{Path, PathBuf};

use adapters::{adapter_of, source};
use anyhow::Result;
use cluster::Snapshot;
use messaging::Routing;
use model::definition::{Group, Host, ReceiveKind, ReceiveLocation, ReceivePort, SendKind};
use model::{Context, GroupName, LeaseName, NodeName, property};

use crate::cli::Refused;
use crate::demo::report::Kind;

/// A folder with this file is one for drills.
const MARK: &str = ".baton-drill";

/// A group that may be struck.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The group.
    pub group: GroupName,
    /// Its hosts that poll the location.
    pub host: String,
    /// The location.
    pub location: String,
    /// The folder that files are put into.
    pub from: PathBuf,
    /// The folder that they must arrive in.
    pub to: PathBuf,
    /// On which machine each node is.
    machines: Vec<(NodeName, String)>,
}

impl Ground {
    /// The group of this name, if the rules allow to strike it.
    pub fn of(snapshot: &Snapshot, name: &str, faults: &[Kind], i_know: bool) -> Result<Ground> {
        let definitions = &snapshot.definitions;
        let known = name.parse().ok().and_then(|name| definitions.group(&name));
        let group = known.ok_or_else(|| Refused::new(format!("there is no group {name:?}")))?;
        let (port, location, from) = first_location(snapshot, group)?;
        let to = arrival(snapshot, port, location)?;
        if !i_know {
            let strikes_node =
                faults.iter().any(|kind| !matches!(kind, Kind::HostKilled | Kind::Moved));
            let broken = broken_rules(snapshot, group, &to, strikes_node);
            if !broken.is_empty() {
                let lines = broken.join("\n");
                let sentence = format!(
                    "group {name} is not for drills:\n{lines}\nSee `baton drill --help` for the \
                     rules; --i-know breaks them"
                );
                return Err(Refused::new(sentence).into());
            }
        }
        let nodes = snapshot.nodes.iter();
        Ok(Ground {
            group: group.name.clone(),
            host: location.host.to_string(),
            location: location.name.to_string(),
            from,
            to,
            machines: nodes.map(|node| (node.name.clone(), node.machine.clone())).collect(),
        })
    }

    /// The machine of a node, in words.
    pub fn machine_of(&self, node: &NodeName) -> String {
        let found =
            self.machines.iter().find(|(name, machine)| name == node && !machine.is_empty());
        found.map_or("its machine".into(), |(_, machine)| format!("machine {machine}"))
    }
}

type Found<'a> = (&'a ReceivePort, &'a ReceiveLocation, PathBuf);

/// The location that files are put into.
fn first_location<'a>(snapshot: &'a Snapshot, group: &'a Group) -> Result<Found<'a>> {
    let hosts = snapshot.definitions.hosts_of(&group.name);
    let locations = hosts.flat_map(|host| snapshot.definitions.locations_of(&host.name));
    let mut files = locations.filter_map(|(port, location)| match &location.transport {
        ReceiveKind::File(setting) if location.enabled => {
            Some((port, location, setting.folder.clone()))
        }
        _ => None,
    });
    files.next().ok_or_else(|| {
        let name = &group.name;
        let sentence = format!(
            "group {name} has no receive location of kind FILE, which the drill's files could be \
             put into; make a group of its own for drills, with a host, such a location and a send \
             port"
        );
        Refused::new(sentence).into()
    })
}

/// The folder in which the drill's files must arrive.
fn arrival(snapshot: &Snapshot, port: &ReceivePort, location: &ReceiveLocation) -> Result<PathBuf> {
    let definitions = &snapshot.definitions;
    let mut context = Context::default();
    context.set(property::RECEIVE_PORT_NAME, port.name.as_str());
    context.set(property::RECEIVE_LOCATION_NAME, location.name.as_str());
    context.set(property::INBOUND_TRANSPORT_TYPE, adapter_of(&location.transport).name());
    context.set(property::RECEIVED_FILE_NAME, crate::proof::name(0).as_str());
    if let Ok(source) = source(&location.transport) {
        context.set(property::INBOUND_TRANSPORT_LOCATION, source.address());
    }
    let routing = Routing::new(definitions)?;
    let routes = routing.routes(&context);
    let ports: Vec<&str> = routes.iter().map(|(port, _)| port.as_str()).collect();
    let refuse = |sentence: String| Err(Refused::new(sentence).into());
    let [only] = ports[..] else {
        let name = &location.name;
        return refuse(match ports.len() {
            0 => format!("no send port gets what location {name} receives; define one for drills"),
            _ => format!(
                "files of location {name} go to {} send ports ({}); a drill needs exactly one: \
                 narrow their filters",
                ports.len(),
                ports.join(", ")
            ),
        });
    };
    match definitions.send_ports.iter().find(|port| port.name.as_str() == only) {
        Some(port) => match &port.transport {
            SendKind::File(setting) => Ok(setting.folder.clone()),
        },
        None => refuse(format!("send port {only} is gone")),
    }
}

fn broken_rules(snapshot: &Snapshot, group: &Group, to: &Path, strikes_node: bool) -> Vec<String> {
    let definitions = &snapshot.definitions;
    let mut broken = Vec::new();
    unmarked(to, "files arrive in", &mut broken);
    for host in definitions.hosts_of(&group.name) {
        folders_of(snapshot, host, &mut broken);
    }
    for member in definitions.members_of(&group.name).filter(|member| member.is_external()) {
        broken.push(format!("- it has {} {}, no host", member.kind_word(), member.name));
    }
    let lease = LeaseName::Group(group.name.clone());
    let owner = snapshot.lease(&lease).and_then(|view| view.holder.as_ref());
    if let Some(owner) = owner.filter(|_| strikes_node) {
        for other in snapshot.owned_by(owner).filter(|other| **other != group.name) {
            broken.push(format!("- its owner {owner} also owns group {other}"));
        }
        let others = definitions.hosts.iter().filter(|host| host.group.is_none());
        for host in others.filter(|host| host.runs_on(owner)) {
            let before = broken.len();
            folders_of(snapshot, host, &mut broken);
            if broken.len() > before {
                broken.push(format!("  (host {} runs on {owner} too)", host.name));
            }
        }
    }
    broken.dedup();
    broken
}

/// What of a host is not for drills.
fn folders_of(snapshot: &Snapshot, host: &Host, broken: &mut Vec<String>) {
    for (_, location) in snapshot.definitions.locations_of(&host.name) {
        match &location.transport {
            ReceiveKind::File(setting) => {
                unmarked(&setting.folder, &format!("location {} has", location.name), broken);
            }
            other => broken.push(format!(
                "- location {} is of kind {}, not FILE",
                location.name,
                adapter_of(other).name()
            )),
        }
    }
    for port in snapshot.definitions.send_ports_of(&host.name) {
        let SendKind::File(setting) = &port.transport;
        unmarked(&setting.folder, &format!("send port {} has", port.name), broken);
    }
}

fn unmarked(folder: &Path, whose: &str, broken: &mut Vec<String>) {
    let mark = folder.join(MARK);
    if !mark.exists() {
        broken.push(format!(
            "- {whose} folder {}, which is not marked for drills: touch {}",
            folder.display(),
            mark.display()
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn snapshot(folder: &Path, more: serde_json::Value) -> Snapshot {
        let mut definitions = json!({
            "groups": [{"name": "rehearsal"}, {"name": "real"}],
            "hosts": [{"name": "drill", "group": "rehearsal"}, {"name": "work", "group": "real"}],
            "receive_ports": [{"name": "in", "locations": [{
                "name": "in-file", "host": "drill",
                "transport": {"file": {"folder": folder.join("in")}},
            }]}],
            "send_ports": [{
                "name": "out", "host": "drill", "filter": "BTS.ReceivePortName == 'in'",
                "transport": {"file": {"folder": folder.join("out")}},
            }],
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            for one in value.as_array().into_iter().flatten() {
                if !definitions[key].is_array() {
                    definitions[key] = json!([]);
                }
                definitions[key].as_array_mut().expect("a list").push(one.clone());
            }
        }
        let definitions = serde_json::from_value(definitions).expect("definitions");
        Snapshot { definitions: std::sync::Arc::new(definitions), ..Snapshot::default() }
    }

    #[test]
    fn only_what_is_marked_is_struck() {
        let folder = tempfile::tempdir().expect("a folder");
        let ground = |snapshot: &Snapshot, group: &str, i_know| {
            Ground::of(snapshot, group, &[Kind::HostKilled], i_know).map_err(|e| e.to_string())
        };
        let refused = |snapshot: &Snapshot, group: &str, words: &str| {
            let error = ground(snapshot, group, false).expect_err("refused");
            assert!(error.contains(words), "{error}");
        };
        let plain = snapshot(folder.path(), json!({}));
        refused(&plain, "rehearsal", "not marked for drills: touch ");
        assert!(ground(&plain, "rehearsal", true).is_ok());
        for side in ["in", "out"] {
            std::fs::create_dir(folder.path().join(side)).expect("a folder");
            std::fs::write(folder.path().join(side).join(MARK), "").expect("marked");
        }
        let found = ground(&plain, "rehearsal", false).expect("allowed");
        assert_eq!((found.host.as_str(), found.location.as_str()), ("drill", "in-file"));
        assert_eq!(found.to, folder.path().join("out"));
        refused(&plain, "nonsense", "there is no group \"nonsense\"");
        refused(&plain, "real", "no receive location of kind FILE");

        let two = json!({"send_ports": [{
            "name": "all", "host": "work", "filter": "true",
            "transport": {"file": {"folder": "/real"}},
        }]});
        refused(&snapshot(folder.path(), two), "rehearsal", "go to 2 send ports (out, all)");
        let real = json!({"receive_ports": [{"name": "orders", "locations": [{
            "name": "orders-ftp", "host": "drill", "transport": {"ftp": {"server": "x"}},
        }]}]});
        refused(&snapshot(folder.path(), real), "rehearsal", "location orders-ftp is of kind FTP");
        let process = json!({"resources": [{
            "name": "gateway", "group": "rehearsal", "kind": {"process": {"command": ["x"]}},
        }]});
        refused(&snapshot(folder.path(), process), "rehearsal", "it has process gateway");
    }
}
