//! A store of one page: leases with compare-and-set, expiry, history and move requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::{
    AcquireOutcome, AcquireRequest, LeaseView, MoveRequest, NodeView, Presence, Snapshot, Tenure,
};
use model::{
    Cause, Definitions, Epoch, Evidence, GroupName, LeaseName, Millis, NodeName, Timestamp,
};

/// Leases by their epoch.
type Leases = Vec<(LeaseName, Epoch)>;

/// 2026-01-01T00:00:00Z.
const BEGIN: Timestamp = Timestamp(1_767_225_600_000);

#[derive(Debug)]
pub struct Store {
    pub now: Timestamp,
    pub ttl: Millis,
    pub away: bool,
    pub definitions: Definitions,
    pub version: u64,
    pub nodes: BTreeMap<NodeName, NodeView>,
    pub leases: BTreeMap<LeaseName, LeaseView>,
    pub moves: BTreeMap<GroupName, MoveRequest>,
    pub history: Vec<Tenure>,
}

impl Store {
    pub fn new(definitions: Definitions, ttl: Millis) -> Store {
        Store {
            now: BEGIN,
            ttl,
            away: false,
            definitions,
            version: 1,
            nodes: BTreeMap::new(),
            leases: BTreeMap::new(),
            moves: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    pub fn at(&mut self, elapsed: u64) {
        self.now = BEGIN.after(Millis(elapsed));
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            now: self.now,
            definitions_version: self.version,
            definitions: Arc::new(self.definitions.clone()),
            nodes: self.nodes.values().cloned().collect(),
            leases: self.leases.values().cloned().collect(),
            moves: self.moves.values().cloned().collect(),
            history: self.history.clone(),
        }
    }

    pub fn join(&mut self, name: &NodeName) -> Epoch {
        let epoch = Epoch(self.nodes.get(name).map_or(0, |node| node.epoch.0) + 1);
        let expires_at = self.now.after(self.ttl);
        let node = NodeView { name: name.clone(), epoch, presence: Presence::Present, expires_at };
        self.nodes.insert(name.clone(), node);
        epoch
    }

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

    /// What may be taken from its holder, and on which evidence.
    fn evidence(&self, row: &LeaseView, me: Option<&NodeName>) -> Result<Evidence, String> {
        let Some(holder) = &row.holder else {
            return Ok(Evidence::Vacated);
        };
        if Some(holder) == me {
            return Ok(Evidence::Vacated);
        }
        match self.nodes.get(holder).map(|node| node.presence) {
            Some(Presence::ConfirmedDead | Presence::Left) => Ok(Evidence::ConfirmedDead),
            Some(Presence::ConnectionGone) => Ok(Evidence::ConnectionGone),
            Some(Presence::Present) | None if row.expires_at <= self.now => Ok(Evidence::Silent),
            Some(Presence::Present) | None => Err(format!("{holder} has it")),
        }
    }

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
            Some(row) => match self.evidence(row, Some(me)) {
                Ok(evidence) => evidence,
                Err(why) => return AcquireOutcome::Refused(why),
            },
        };
        let epoch = Epoch(epoch.0 + 1);
        let before = row.and_then(|row| row.holder);
        self.leases.insert(
            request.lease.clone(),
            LeaseView {
                lease: request.lease.clone(),
                holder: Some(me.clone()),
                epoch,
                expires_at: self.now.after(self.ttl),
                changed_at: self.now,
                cause: request.cause,
                reason: request.reason.clone(),
                offered_to: None,
            },
        );
        if let LeaseName::Group(group) = &request.lease {
            let done = |wish: &MoveRequest| wish.to.is_none() || wish.to.as_ref() == Some(me);
            if self.moves.get(group).is_some_and(done) {
                self.moves.remove(group);
            }
        }
        let (cause, reason) = (request.cause, &request.reason);
        self.record(&request.lease, epoch, Some(me.clone()), before, evidence, cause, reason);
        AcquireOutcome::Granted(epoch, evidence)
    }

    pub fn release(
        &mut self,
        me: &NodeName,
        lease: &LeaseName,
        epoch: Epoch,
        cause: Cause,
        reason: &str,
        offered_to: Option<NodeName>,
    ) -> bool {
        let row = self.leases.get(lease);
        if row.is_none_or(|row| row.epoch != epoch || row.holder.as_ref() != Some(me)) {
            return false;
        }
        self.vacate(lease, cause, reason, offered_to, Evidence::Vacated);
        true
    }

    pub fn bury(&mut self, lease: &LeaseName, seen_epoch: Epoch, reason: &str) {
        let Some(row) = self.leases.get(lease) else {
            return;
        };
        if row.epoch == seen_epoch
            && row.holder.is_some()
            && let Ok(evidence) = self.evidence(row, None)
        {
            self.vacate(lease, Cause::NodeLost, reason, None, evidence);
        }
    }

    fn vacate(
        &mut self,
        lease: &LeaseName,
        cause: Cause,
        reason: &str,
        offered_to: Option<NodeName>,
        evidence: Evidence,
    ) {
        let now = self.now;
        let Some(row) = self.leases.get_mut(lease) else {
            return;
        };
        let (before, epoch) = (row.holder.take(), row.epoch);
        row.expires_at = now;
        row.changed_at = now;
        row.cause = cause;
        row.reason = reason.to_owned();
        row.offered_to = offered_to;
        self.record(lease, epoch, None, before, evidence, cause, reason);
    }

    #[allow(clippy::too_many_arguments)]
    fn record(
        &mut self,
        lease: &LeaseName,
        epoch: Epoch,
        holder: Option<NodeName>,
        before: Option<NodeName>,
        evidence: Evidence,
        cause: Cause,
        reason: &str,
    ) {
        if matches!(lease, LeaseName::Group(_)) {
            let (lease, reason, at) = (lease.clone(), reason.to_owned(), self.now);
            self.history.push(Tenure { lease, epoch, holder, before, evidence, cause, reason, at });
        }
    }

    /// Back from an outage: nobody is deposed before the owners had a full ttl to renew.
    pub fn come_back(&mut self) {
        self.away = false;
        let expires_at = self.now.after(self.ttl);
        for row in self.leases.values_mut().filter(|row| row.holder.is_some()) {
            row.expires_at = row.expires_at.max(expires_at);
        }
        for node in self.nodes.values_mut().filter(|node| node.presence == Presence::Present) {
            node.expires_at = node.expires_at.max(expires_at);
        }
    }
}
