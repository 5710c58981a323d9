//! What the tests look at: the cluster as the store has it, and which of its nodes this machine is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use cluster::Snapshot;
use model::definition::{Host, ReceiveLocation, Resource, SendPort};
use model::{EventId, GroupName, HostName, LeaseName, Millis, NodeName, OperatorEvent, Timestamp};
use store::{EventQuery, Store};

use super::super::Global;
use crate::config::{self, Given, PATH_DEFAULT};

/// The scene.
pub struct Scene {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Its URL, which may hold a password.
    pub url: String,
    /// The cluster.
    pub snapshot: Snapshot,
    /// What this machine is called as a node, whether it is one or not.
    pub name: NodeName,
    /// The ttl of its configuration.
    pub ttl: Millis,
    /// Its configuration file, if it has one.
    pub config: Option<PathBuf>,
    /// The validations that are remembered, oldest first.
    pub validations: Vec<OperatorEvent>,
}

impl Scene {
    /// Reads it.
    pub async fn read(store: Arc<dyn Store>, node: Option<&str>, global: &Global) -> Result<Scene> {
        let given = Given { name: node.map(Into::into), ..global.given() };
        let settings = config::resolve(&given, &crate::serve::machine_name())?;
        let default = PathBuf::from(PATH_DEFAULT);
        let config = given.config.clone().or_else(|| default.exists().then_some(default));
        let snapshot = store.snapshot().await?;
        // The newest of each node are among the newest of all, unless there are hundreds of nodes
        // that are validated every hour.
        let query =
            EventQuery { newest: true, ids: vec![EventId::VALIDATED], ..Default::default() };
        let validations = store.events(&query).await?;
        Ok(Scene {
            store,
            url: settings.store,
            snapshot,
            name: settings.name,
            ttl: settings.ttl,
            config,
            validations,
        })
    }

    /// What this machine is called as a node.
    pub fn name(node: Option<&str>, global: &Global) -> Result<NodeName> {
        let given = Given { name: node.map(Into::into), ..global.given() };
        Ok(config::resolve(&given, &crate::serve::machine_name())?.name)
    }

    /// The node that this machine is; none for a workstation.
    pub fn node(&self) -> Option<&NodeName> {
        self.snapshot.node(&self.name).map(|_| &self.name)
    }

    /// Whether a group may be on this node.
    fn may_own(&self, group: &GroupName) -> bool {
        let (snapshot, node) = (&self.snapshot, self.node());
        let group = snapshot.definitions.group(group);
        group
            .zip(node)
            .is_some_and(|(group, node)| cluster::placement::may_own(snapshot, group, node))
    }

    /// Whether a host may be at work on this node.
    fn runs_here(&self, host: &Host) -> bool {
        match &host.group {
            Some(group) => self.may_own(group),
            None => self.node().is_some_and(|node| host.runs_on(node)),
        }
    }

    fn host_runs_here(&self, host: &HostName) -> bool {
        self.snapshot.definitions.host(host).is_some_and(|host| self.runs_here(host))
    }

    /// Receive locations that this node may have to poll.
    pub fn locations_here(&self) -> impl Iterator<Item = &ReceiveLocation> {
        let ports = self.snapshot.definitions.receive_ports.iter();
        let locations = ports.flat_map(|port| &port.locations);
        locations.filter(|location| location.enabled && self.host_runs_here(&location.host))
    }

    /// Send ports that this node may have to serve.
    pub fn send_ports_here(&self) -> impl Iterator<Item = &SendPort> {
        let ports = self.snapshot.definitions.send_ports.iter();
        ports.filter(|port| self.host_runs_here(&port.host))
    }

    /// Resources that this node may have to bring online.
    pub fn resources_here(&self) -> impl Iterator<Item = &Resource> {
        let resources = self.snapshot.definitions.resources.iter();
        resources.filter(|resource| self.may_own(&resource.group))
    }

    /// The owner of a group whose lease has not run out.
    pub fn owner(&self, group: &GroupName) -> Option<&NodeName> {
        let view = self.snapshot.lease(&LeaseName::Group(group.clone()))?;
        view.holder.as_ref().filter(|_| view.expires_at > self.snapshot.now)
    }

    /// How many nodes might run a host.
    pub fn nodes_of(&self, host: &HostName) -> usize {
        let Some(host) = self.snapshot.definitions.host(host) else { return 0 };
        let group = host.group.as_ref().and_then(|group| self.snapshot.definitions.group(group));
        let may =
            |node: &&NodeName| host.runs_on(node) && group.is_none_or(|group| group.may_own(node));
        self.snapshot.nodes.iter().map(|node| &node.name).filter(may).count()
    }

    /// Whether the store lets nodes be on several machines.
    pub fn spans_machines(&self) -> bool {
        !self.url.starts_with("sqlite:")
    }
}

/// This machine's own clock, where no store can be asked.
pub fn local_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
pub mod fixture {
    use cluster::{NodeView, Presence};
    use model::Epoch;

    use super::*;

    /// A scene over a store that is not asked.
    pub async fn scene(folder: &std::path::Path, definitions: serde_json::Value) -> Scene {
        let url = format!("sqlite:{}", folder.join("baton.db").display());
        let store = store::open(&store::Options::new(&url, "test")).await.expect("a store");
        let definitions = serde_json::from_value(definitions).expect("definitions");
        let snapshot = Snapshot {
            now: Timestamp(1_700_000_000_000),
            definitions_version: 1,
            definitions: Arc::new(definitions),
            nodes: vec![node("a"), node("b")],
            ..Snapshot::default()
        };
        Scene {
            store,
            url,
            snapshot,
            name: name("a"),
            ttl: Millis::seconds(3),
            config: None,
            validations: Vec::new(),
        }
    }

    pub fn name(text: &str) -> NodeName {
        text.parse().expect("a name")
    }

    pub fn node(text: &str) -> NodeView {
        NodeView {
            name: name(text),
            epoch: Epoch(1),
            presence: Presence::Present,
            expires_at: Timestamp(1_700_000_001_000),
            machine: text.into(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}
