//! The store of one page: leases with compare-and-set, expiry, evidence, orders, history, reports.
//!
//! It keeps to the contract of `trait Store` in `crates/store`, for which that crate's conformance
//! suite speaks; here it is small enough to be read at one sitting.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::{
    AcquireOutcome, AcquireRequest, GroupOrder, LeaseView, MoveRequest, NodeOrder, NodeView,
    Presence, ResourceReport, Snapshot, TakeOffline, Tenure,
};
use model::{
    Cause, Definitions, Epoch, Evidence, GroupName, LeaseName, Millis, NodeName, ResourceName,
    Timestamp,
};

use crate::Mutant;
use crate::message_box::MessageBox;

/// Leases by their epoch.
pub(crate) type Leases = Vec<(LeaseName, Epoch)>;

/// 2026-01-01T00:00:00Z: when a world begins that does not begin with a snapshot.
const BEGIN: Timestamp = Timestamp(1_767_225_600_000);

/// The durable state of a cluster.
#[derive(Debug, Clone)]
pub struct Store {
    /// Its clock.
    pub now: Timestamp,
    /// How long a lease lives without renewal.
    pub ttl: Millis,
    /// Whether nobody reaches it.
    pub away: bool,
    /// The definitions in force.
    pub definitions: Arc<Definitions>,
    /// Their version.
    pub version: u64,
    /// Nodes that joined and were not evicted.
    pub nodes: BTreeMap<NodeName, NodeView>,
    /// Leases of groups and of host instances.
    pub leases: BTreeMap<LeaseName, LeaseView>,
    /// Moves asked for and not done yet.
    pub moves: BTreeMap<GroupName, MoveRequest>,
    /// What operators want of groups.
    pub group_orders: BTreeMap<GroupName, GroupOrder>,
    /// What operators want of nodes.
    pub node_orders: BTreeMap<NodeName, NodeOrder>,
    /// What owners last said of their resources.
    pub reports: BTreeMap<ResourceName, ResourceReport>,
    /// Who had what, oldest first.
    pub history: Vec<Tenure>,
    /// Messages, receipts and work.
    pub messages: MessageBox,
    /// How it is broken, if it is.
    pub(crate) mutant: Option<Mutant>,
    begin: Timestamp,
    /// Epochs of nodes that were evicted: they never go back.
    tombstones: BTreeMap<NodeName, Epoch>,
}

/// What a lease is released with.
pub(crate) struct Vacating<'a> {
    pub(crate) cause: Cause,
    pub(crate) reason: &'a str,
    pub(crate) offered_to: Option<NodeName>,
    pub(crate) resource: Option<ResourceName>,
}

impl Store {
    /// An empty store with these definitions.
    pub fn new(definitions: Definitions, ttl: Millis) -> Store {
        Store {
            now: BEGIN,
            ttl,
            away: false,
            definitions: Arc::new(definitions),
            version: 1,
            nodes: BTreeMap::new(),
            leases: BTreeMap::new(),
            moves: BTreeMap::new(),
            group_orders: BTreeMap::new(),
            node_orders: BTreeMap::new(),
            reports: BTreeMap::new(),
            history: Vec::new(),
            messages: MessageBox::default(),
            mutant: None,
            begin: BEGIN,
            tombstones: BTreeMap::new(),
        }
    }

    /// The store that a snapshot was read from.
    pub fn of(snapshot: &Snapshot, ttl: Millis) -> Store {
        fn by<K: Ord, V: Clone>(values: &[V], key: impl Fn(&V) -> K) -> BTreeMap<K, V> {
            values.iter().map(|value| (key(value), value.clone())).collect()
        }
        Store {
            now: snapshot.now,
            definitions: snapshot.definitions.clone(),
            version: snapshot.definitions_version,
            nodes: by(&snapshot.nodes, |node| node.name.clone()),
            leases: by(&snapshot.leases, |view| view.lease.clone()),
            moves: by(&snapshot.moves, |wish| wish.group.clone()),
            group_orders: by(&snapshot.group_orders, |order| order.group.clone()),
            node_orders: by(&snapshot.node_orders, |order| order.node.clone()),
            reports: by(&snapshot.reports, |report| report.resource.clone()),
            history: snapshot.history.clone(),
            begin: snapshot.now,
            ..Store::new(Definitions::default(), ttl)
        }
    }

    /// Sets the clock to so long after the begin.
    pub(crate) fn at(&mut self, elapsed: u64) {
        self.now = self.begin.after(Millis(elapsed));
    }

    /// What a node sees.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            now: self.now,
            definitions_version: self.version,
            definitions: self.definitions.clone(),
            nodes: self.nodes.values().cloned().collect(),
            leases: self.leases.values().cloned().collect(),
            moves: self.moves.values().cloned().collect(),
            history: self.history.clone(),
            group_orders: self.group_orders.values().cloned().collect(),
            node_orders: self.node_orders.values().cloned().collect(),
            reports: self.reports.values().cloned().collect(),
        }
    }

    /// Puts definitions in force.
    pub fn apply(&mut self, definitions: Definitions) {
        self.version += 1;
        let known = |name: &ResourceName| definitions.member(name).is_some();
        self.reports.retain(|name, _| known(name));
        self.definitions = Arc::new(definitions);
    }

    /// Becomes a node. The history says whether its former life ended in good order.
    pub fn join(&mut self, name: &NodeName) -> Epoch {
        let before = self.nodes.get(name).cloned();
        let last = before.as_ref().map(|node| node.epoch);
        let last = last.max(self.tombstones.get(name).copied()).unwrap_or(Epoch(0));
        let epoch = Epoch(last.0 + 1);
        let orderly = before.as_ref().is_none_or(|node| node.presence == Presence::Left);
        let (cause, evidence, reason) = if orderly {
            (Cause::Start, Evidence::Vacated, format!("{name} joined"))
        } else {
            let evidence = match before.as_ref().map(|node| node.presence) {
                Some(Presence::ConfirmedDead) => Evidence::ConfirmedDead,
                Some(Presence::ConnectionGone) => Evidence::ConnectionGone,
                _ => Evidence::Silent,
            };
            (Cause::NodeLost, evidence, format!("{name} joined again after an unplanned end"))
        };
        let expires_at = self.now.after(self.ttl);
        let node = NodeView {
            name: name.clone(),
            epoch,
            presence: Presence::Present,
            expires_at,
            machine: String::new(),
            version: String::new(),
        };
        self.nodes.insert(name.clone(), node);
        self.history.push(Tenure {
            lease: LeaseName::Node(name.clone()),
            epoch,
            holder: Some(name.clone()),
            before: before.map(|node| node.name),
            evidence,
            cause,
            resource: None,
            reason,
            at: self.now,
        });
        epoch
    }

    /// Extends what a node holds at these epochs; answers what was renewed and what was not.
    pub fn renew(
        &mut self,
        me: &NodeName,
        node_epoch: Epoch,
        leases: &[(LeaseName, Epoch)],
    ) -> (Leases, Leases) {
        let expires_at = self.now.after(self.ttl);
        let (mut renewed, mut lost) = (Vec::new(), Vec::new());
        if let Some(node) = self.nodes.get_mut(me).filter(|node| node.epoch == node_epoch) {
            node.expires_at = expires_at;
        } else {
            lost.push((LeaseName::Node(me.clone()), node_epoch));
        }
        for (name, epoch) in leases {
            let row = self.leases.get_mut(name);
            match row.filter(|row| row.epoch == *epoch && row.holder.as_ref() == Some(me)) {
                Some(row) => {
                    row.expires_at = expires_at;
                    renewed.push((name.clone(), *epoch));
                }
                None => lost.push((name.clone(), *epoch)),
            }
        }
        (renewed, lost)
    }

    /// On which evidence a lease may be taken from its holder; what is external is not free
    /// before its holder's trust has ended, unless the holder is dead.
    fn evidence(
        &self,
        row: &LeaseView,
        me: Option<&NodeName>,
        external: bool,
    ) -> Result<Evidence, String> {
        let Some(holder) = &row.holder else {
            return Ok(Evidence::Vacated);
        };
        if Some(holder) == me {
            return Ok(Evidence::Vacated);
        }
        let expired = self.impatient(row.expires_at) <= self.now;
        let gone_is_dead = self.mutant == Some(Mutant::ExternalOnConnectionGone);
        match self.nodes.get(holder).map(|node| node.presence) {
            Some(Presence::ConnectionGone) if gone_is_dead => Ok(Evidence::ConnectionGone),
            Some(Presence::ConfirmedDead) => Ok(Evidence::ConfirmedDead),
            Some(Presence::ConnectionGone | Presence::Left) if external && !expired => {
                Err(format!("{holder} is gone, and its trust in it has not ended yet"))
            }
            Some(Presence::Left) => Ok(Evidence::ConfirmedDead),
            Some(Presence::ConnectionGone) => Ok(Evidence::ConnectionGone),
            Some(Presence::Present) | None if expired => Ok(Evidence::Silent),
            Some(Presence::Present) | None => Err(format!("{holder} has it")),
        }
    }

    /// When a lease expires for one who does not wait until then (only of [`Mutant::NoEvidence`]).
    pub(crate) fn impatient(&self, expires_at: Timestamp) -> Timestamp {
        match self.mutant {
            Some(Mutant::NoEvidence) => {
                Timestamp(expires_at.0.saturating_sub_unsigned(self.ttl.0 * 4 / 5))
            }
            _ => expires_at,
        }
    }

    /// Takes a lease if it still is at the epoch seen and there is evidence enough.
    pub fn acquire(&mut self, me: &NodeName, request: &AcquireRequest) -> AcquireOutcome {
        let row = self.leases.get(&request.lease).cloned();
        let epoch = row.as_ref().map_or(Epoch(0), |row| row.epoch);
        if epoch != request.seen_epoch {
            let holder = row.and_then(|row| row.holder).map(|holder| holder.to_string());
            let holder = holder.unwrap_or("nobody".to_owned());
            return AcquireOutcome::Refused(format!("it is {holder}'s under epoch {epoch}"));
        }
        let evidence = match &row {
            None => Evidence::Vacated,
            Some(row) => match self.evidence(row, Some(me), request.external) {
                Ok(evidence) => evidence,
                Err(why) => return AcquireOutcome::Refused(why),
            },
        };
        let before = row.and_then(|row| row.holder);
        let again = before.as_ref() == Some(me);
        let stays = again && self.mutant == Some(Mutant::EpochStaysOnRestart);
        let epoch = if stays { epoch } else { Epoch(epoch.0 + 1) };
        self.grant(me, request, epoch, before, evidence);
        AcquireOutcome::Granted(epoch, evidence)
    }

    /// Writes down that a lease is a node's now.
    pub(crate) fn grant(
        &mut self,
        me: &NodeName,
        request: &AcquireRequest,
        epoch: Epoch,
        before: Option<NodeName>,
        evidence: Evidence,
    ) {
        let view = LeaseView {
            lease: request.lease.clone(),
            holder: Some(me.clone()),
            epoch,
            expires_at: self.now.after(self.ttl),
            changed_at: self.now,
            cause: request.cause,
            reason: request.reason.clone(),
            offered_to: None,
        };
        self.leases.insert(request.lease.clone(), view);
        if let LeaseName::Group(group) = &request.lease {
            let done = |wish: &MoveRequest| wish.to.is_none() || wish.to.as_ref() == Some(me);
            if self.moves.get(group).is_some_and(done) {
                self.moves.remove(group);
            }
        }
        self.messages.requeue(&request.lease);
        self.record(Tenure {
            lease: request.lease.clone(),
            epoch,
            holder: Some(me.clone()),
            before,
            evidence,
            cause: request.cause,
            resource: request.resource.clone(),
            reason: request.reason.clone(),
            at: self.now,
        });
    }

    /// Lets a lease go, if the node has it under this epoch.
    pub(crate) fn release(
        &mut self,
        me: &NodeName,
        lease: &LeaseName,
        epoch: Epoch,
        vacating: Vacating<'_>,
    ) -> bool {
        let row = self.leases.get(lease);
        if row.is_none_or(|row| row.epoch != epoch || row.holder.as_ref() != Some(me)) {
            return false;
        }
        self.vacate(lease, vacating, Evidence::Vacated);
        true
    }

    /// Lets a lease go as a plan says, if the node has it under that epoch.
    pub fn let_go(&mut self, me: &NodeName, step: &TakeOffline) -> bool {
        let (cause, reason) = (step.cause, &step.reason);
        let offered_to = step.offered_to.clone();
        let vacating = Vacating { cause, reason, offered_to, resource: None };
        self.release(me, &step.lease, step.epoch, vacating)
    }

    /// Vacates a lease for nobody, on the same evidence as a takeover.
    pub fn bury(&mut self, lease: &LeaseName, seen_epoch: Epoch, reason: &str) {
        let Some(row) = self.leases.get(lease) else {
            return;
        };
        let external = self.snapshot_is_external(lease);
        if row.epoch == seen_epoch
            && row.holder.is_some()
            && let Ok(evidence) = self.evidence(row, None, external)
        {
            let (cause, offered_to, resource) = (Cause::NodeLost, None, None);
            self.vacate(lease, Vacating { cause, reason, offered_to, resource }, evidence);
        }
    }

    pub(crate) fn snapshot_is_external(&self, lease: &LeaseName) -> bool {
        let LeaseName::Group(name) = lease else { return false };
        let definitions = &self.definitions;
        definitions.group(name).is_some_and(|group| definitions.is_external(group))
    }

    fn vacate(&mut self, lease: &LeaseName, vacating: Vacating<'_>, evidence: Evidence) {
        let now = self.now;
        let Some(row) = self.leases.get_mut(lease) else {
            return;
        };
        let Vacating { cause, reason, offered_to, resource } = vacating;
        let (before, epoch) = (row.holder.take(), row.epoch);
        row.expires_at = now;
        row.changed_at = now;
        row.cause = cause;
        row.reason = reason.to_owned();
        row.offered_to = offered_to;
        if self.mutant == Some(Mutant::EpochResetOnRelease) {
            row.epoch = Epoch(0);
        }
        self.messages.requeue(lease);
        let (lease, reason) = (lease.clone(), reason.to_owned());
        let holder = None;
        self.record(Tenure {
            lease,
            epoch,
            holder,
            before,
            evidence,
            cause,
            resource,
            reason,
            at: now,
        });
    }

    /// The history is of groups (and of nodes, see [`Store::join`]).
    fn record(&mut self, tenure: Tenure) {
        if matches!(tenure.lease, LeaseName::Group(_)) {
            self.history.push(tenure);
        }
    }

    /// Forgets a node that is gone; its epoch stays. The sentence says why not.
    pub fn evict(&mut self, name: &NodeName) -> Result<(), String> {
        let Some(node) = self.nodes.get(name) else {
            return Err(format!("{name} never joined the cluster"));
        };
        if node.presence == Presence::Present && node.expires_at > self.now {
            return Err(format!("{name} is up: stop it first"));
        }
        let held = self.leases.values().find(|view| view.holder.as_ref() == Some(name));
        if let Some(view) = held {
            return Err(format!("{name} still holds {}", view.lease));
        }
        self.tombstones.insert(name.clone(), node.epoch);
        self.nodes.remove(name);
        self.node_orders.remove(name);
        self.reports.retain(|_, report| report.node != *name);
        Ok(())
    }

    /// Takes down what a node says of its resources, unless a later epoch has spoken already.
    pub fn report(&mut self, reports: &[ResourceReport]) {
        for report in reports {
            let known = self.reports.get(&report.resource);
            if known.is_some_and(|known| known.epoch > report.epoch) {
                continue;
            }
            let same = known.filter(|known| {
                known.state == report.state
                    && known.epoch == report.epoch
                    && known.node == report.node
            });
            let since = same.map_or(self.now, |known| known.since);
            let report = ResourceReport { since, ..report.clone() };
            self.reports.insert(report.resource.clone(), report);
        }
    }

    /// Whether a fence is current: a node holds the lease at this epoch.
    pub(crate) fn is_current(&self, lease: &LeaseName, epoch: Epoch, node: &NodeName) -> bool {
        let row = self.leases.get(lease);
        row.is_some_and(|row| row.epoch == epoch && row.holder.as_ref() == Some(node))
    }

    /// Back from an outage: nobody is deposed before the owners had a full ttl to renew.
    pub fn come_back(&mut self) {
        self.away = false;
        if self.mutant == Some(Mutant::ReturnWithoutGrace) {
            return;
        }
        let expires_at = self.now.after(self.ttl);
        for row in self.leases.values_mut().filter(|row| row.holder.is_some()) {
            row.expires_at = row.expires_at.max(expires_at);
        }
        for node in self.nodes.values_mut().filter(|node| node.presence == Presence::Present) {
            node.expires_at = node.expires_at.max(expires_at);
        }
    }
}
