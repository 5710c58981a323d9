//! What a node sees of the cluster: snapshot, presence, history, definitions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use cluster::{HISTORY_KEPT, LeaseView, MoveRequest, NodeView, Presence, Snapshot, Tenure};
use model::{Definitions, Epoch, LeaseName, NodeName, Timestamp};
use rusqlite::{Connection, Row, params};

use super::Beside;
use super::database::now;
use super::expiry::Entry;
use super::orders;
use super::rows::{
    cause, count, epoch, evidence, get, json, lease, node, node_or_none, parsed, row, rows, run,
    signed, sql, timestamp, to_json,
};
use super::writer::Transaction;
use crate::boot::boot_now;
use crate::{Result, StoreError, Topic};

/// Most entries of the history that one call answers.
const HISTORY_ROWS_MAX: usize = 10_000;

/// The definitions last read. A version never changes, so they are read once.
#[derive(Default)]
pub(super) struct Known(Mutex<(u64, Arc<Definitions>)>);

impl Known {
    /// The definitions in force and their version.
    pub(super) fn in_force(&self, connection: &Connection) -> Result<(u64, Arc<Definitions>)> {
        let version = version_in_force(connection)?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.0 == version {
            return Ok(known);
        }
        let version_is = [signed(version)];
        let text = row(connection, sql!("definitions"), version_is, |row| get::<String>(row, 0))?;
        let text = text.ok_or_else(|| StoreError::Corrupt("definitions are missing".into()))?;
        let read = (version, Arc::new(json(&text, &format!("definitions version {version}"))?));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = read.clone();
        Ok(read)
    }
}

/// The version of the definitions in force; 0 while there are none.
pub(super) fn version_in_force(connection: &Connection) -> Result<u64> {
    let version = row(connection, sql!("snapshot_definitions"), [], |row| count(row, 0))?;
    Ok(version.unwrap_or(0))
}

pub(super) fn apply(
    transaction: &Transaction<'_>,
    definitions: &Definitions,
    base: u64,
    by: &str,
) -> Result<u64> {
    let connection = transaction.connection;
    let in_force = version_in_force(connection)?;
    if base != in_force {
        return Err(StoreError::Refused(format!(
            "definitions version {in_force} is in force, not {base}: look at what has changed, \
             and apply again on top of it"
        )));
    }
    let version = signed(in_force + 1);
    let document = to_json(definitions)?;
    run(connection, sql!("apply"), params![version, transaction.now.0, by, document])?;
    run(connection, sql!("apply_forget"), [])?;
    for port in &definitions.send_ports {
        let row = params![port.name.as_str(), port.host.as_str(), port.filter, version];
        run(connection, sql!("apply_subscribe"), row)?;
    }
    run(connection, sql!("apply_rehome"), [])?;
    orders::forget_reports(connection, definitions)?;
    transaction.wake(Topic::Cluster);
    transaction.wake(Topic::Work);
    Ok(in_force + 1)
}

pub(super) fn snapshot(
    connection: &Connection,
    beside: &Beside,
    known: &Known,
) -> Result<Snapshot> {
    let (definitions_version, definitions) = known.in_force(connection)?;
    let nodes = rows(connection, sql!("snapshot_nodes"), [], |row| {
        Ok((node(row, 0)?, epoch(row, 1)?, node_or_none(row, 2)?, row.get(3)?, row.get(4)?))
    })?;
    let mut leases = rows(connection, sql!("snapshot_leases"), [], lease_view)?;
    let moves = rows(connection, sql!("snapshot_moves"), [], move_request)?;
    let now = now();
    let since = now.0.saturating_sub(signed(HISTORY_KEPT.0));
    let history = rows(connection, sql!("snapshot_history"), [since], tenure)?;
    let group_orders = orders::of_groups(connection)?;
    let node_orders = orders::of_nodes(connection)?;
    let reports = orders::reports(connection)?;
    // Read after the database: an epoch that is committed has its entry by then.
    let clock = Expiries { now, boot_now: boot_now().0, entries: beside.expiry.read()? };
    for view in leases.iter_mut().filter(|view| view.holder.is_some()) {
        view.expires_at = clock.of(&view.lease, view.epoch).unwrap_or(view.expires_at);
    }
    let nodes = nodes.into_iter().map(|(name, epoch, holder, machine, version)| {
        let lease = LeaseName::Node(name.clone());
        let presence = presence_of(beside, &name, holder.as_ref())?;
        let expires_at = clock.of(&lease, epoch).unwrap_or(now);
        Ok(NodeView { name, epoch, presence, expires_at, machine, version })
    });
    let nodes = nodes.collect::<Result<_>>()?;
    Ok(Snapshot {
        now,
        definitions_version,
        definitions,
        nodes,
        leases,
        moves,
        history,
        group_orders,
        node_orders,
        reports,
    })
}

/// When leases run out, by the store's clock.
struct Expiries {
    now: Timestamp,
    boot_now: u64,
    entries: BTreeMap<LeaseName, Entry>,
}

impl Expiries {
    /// Nothing if the epoch has no entry: then it has run out.
    fn of(&self, lease: &LeaseName, epoch: Epoch) -> Option<Timestamp> {
        let entry = self.entries.get(lease).filter(|entry| entry.epoch == epoch)?;
        let left = signed(entry.expires_at.0).saturating_sub(signed(self.boot_now));
        Some(Timestamp(self.now.0.saturating_add(left)))
    }
}

/// A lease with the moment it changed hands as the one it ran out at, unless more is known.
fn lease_view(row: &Row<'_>) -> Result<LeaseView> {
    Ok(LeaseView {
        lease: lease(row, 0)?,
        epoch: epoch(row, 1)?,
        holder: node_or_none(row, 2)?,
        expires_at: timestamp(row, 3)?,
        changed_at: timestamp(row, 3)?,
        cause: cause(row, 4)?,
        reason: get(row, 5)?,
        offered_to: node_or_none(row, 6)?,
    })
}

fn move_request(row: &Row<'_>) -> Result<MoveRequest> {
    let group = parsed(&get::<String>(row, 0)?)?;
    Ok(MoveRequest { group, to: node_or_none(row, 1)?, by: get(row, 2)?, at: timestamp(row, 3)? })
}

fn tenure(row: &Row<'_>) -> Result<Tenure> {
    Ok(Tenure {
        lease: lease(row, 0)?,
        epoch: epoch(row, 1)?,
        holder: node_or_none(row, 2)?,
        before: node_or_none(row, 3)?,
        evidence: evidence(row, 4)?,
        cause: cause(row, 5)?,
        reason: get(row, 6)?,
        at: timestamp(row, 7)?,
        resource: get::<Option<String>>(row, 8)?.map(|name| parsed(&name)).transpose()?,
    })
}

pub(super) fn history(connection: &Connection, limit: usize) -> Result<Vec<Tenure>> {
    let limit = signed(limit.min(HISTORY_ROWS_MAX) as u64);
    rows(connection, sql!("history"), [limit], tenure)
}

pub(super) fn presence(
    connection: &Connection,
    beside: &Beside,
) -> Result<BTreeMap<NodeName, Presence>> {
    let nodes =
        rows(connection, sql!("presence"), [], |row| Ok((node(row, 0)?, node_or_none(row, 1)?)))?;
    let seen = nodes.into_iter().map(|(name, holder)| {
        let presence = presence_of(beside, &name, holder.as_ref())?;
        Ok((name, presence))
    });
    seen.collect()
}

fn presence_of(beside: &Beside, node: &NodeName, holder: Option<&NodeName>) -> Result<Presence> {
    if holder.is_none() {
        return Ok(Presence::Left);
    }
    Ok(match beside.liveness.is_free(node)? {
        true => Presence::ConfirmedDead,
        false => Presence::Present,
    })
}
