//! What operators want of groups and nodes, what owners say of resources, and operator events.

use cluster::{Duty, GroupOrder, NodeOrder, ResourceReport, ResumeFailback};
use model::{Definitions, EventId, NodeName, OperatorEvent, ResourceState, Timestamp};
use rusqlite::{Connection, Row, params};

use super::rows::{
    count, epoch, get, node, node_or_none, parsed, rows, run, signed, sql, timestamp,
    timestamp_or_none, to_json, unreadable,
};
use super::writer::Transaction;
use crate::{EVENTS_KEPT, EVENTS_KEPT_MAX, EventQuery, Result, StoreError, Topic};

pub(super) fn want_group(transaction: &Transaction<'_>, order: &GroupOrder) -> Result<()> {
    let GroupOrder { group, online, unmonitored_until, by, at } = order;
    let until = unmonitored_until.map(|at| at.0);
    let row = params![group.as_str(), online, until, by, asked_at(transaction, *at)];
    run(transaction.connection, sql!("order_group"), row)?;
    transaction.wake(Topic::Cluster);
    Ok(())
}

pub(super) fn want_node(transaction: &Transaction<'_>, order: &NodeOrder) -> Result<()> {
    let row = params![
        order.node.as_str(),
        order.duty.as_str(),
        order.failback.as_str(),
        order.away_since.map(|at| at.0),
        order.quarantine_cleared_at.map(|at| at.0),
        order.by,
        asked_at(transaction, order.at),
    ];
    run(transaction.connection, sql!("order_node"), row)?;
    transaction.wake(Topic::Cluster);
    Ok(())
}

/// Asked for anew: now; otherwise as it was.
fn asked_at(transaction: &Transaction<'_>, at: Timestamp) -> i64 {
    if at == Timestamp(0) { transaction.now.0 } else { at.0 }
}

pub(super) fn of_groups(connection: &Connection) -> Result<Vec<GroupOrder>> {
    rows(connection, sql!("snapshot_group_orders"), [], |row| {
        Ok(GroupOrder {
            group: parsed(&get::<String>(row, 0)?)?,
            online: get(row, 1)?,
            unmonitored_until: timestamp_or_none(row, 2)?,
            by: get(row, 3)?,
            at: timestamp(row, 4)?,
        })
    })
}

pub(super) fn of_nodes(connection: &Connection) -> Result<Vec<NodeOrder>> {
    rows(connection, sql!("snapshot_node_orders"), [], |row| {
        let (duty, failback): (String, String) = (get(row, 1)?, get(row, 2)?);
        Ok(NodeOrder {
            node: node(row, 0)?,
            duty: Duty::from_word(&duty).ok_or_else(|| unreadable(&duty))?,
            failback: ResumeFailback::from_word(&failback).ok_or_else(|| unreadable(&failback))?,
            away_since: timestamp_or_none(row, 3)?,
            quarantine_cleared_at: timestamp_or_none(row, 4)?,
            by: get(row, 5)?,
            at: timestamp(row, 6)?,
        })
    })
}

pub(super) fn report_resources(
    transaction: &Transaction<'_>,
    reports: &[ResourceReport],
) -> Result<()> {
    for report in reports {
        transaction.check_hold()?;
        let row = params![
            report.resource.as_str(),
            report.node.as_str(),
            signed(report.epoch.0),
            report.state.as_str(),
            report.detail,
            transaction.now.0,
        ];
        if run(transaction.connection, sql!("report_resources"), row)? > 0 {
            transaction.wake(Topic::Cluster);
        }
    }
    Ok(())
}

pub(super) fn reports(connection: &Connection) -> Result<Vec<ResourceReport>> {
    rows(connection, sql!("snapshot_reports"), [], |row| {
        let state: String = get(row, 3)?;
        Ok(ResourceReport {
            resource: parsed(&get::<String>(row, 0)?)?,
            node: node(row, 1)?,
            epoch: epoch(row, 2)?,
            state: ResourceState::from_word(&state).ok_or_else(|| unreadable(&state))?,
            detail: get(row, 4)?,
            since: timestamp(row, 5)?,
        })
    })
}

/// Forgets reports of what the definitions in force do not have.
pub(super) fn forget_reports(connection: &Connection, in_force: &Definitions) -> Result<()> {
    let members: Vec<_> = in_force.members().map(|member| member.name).collect();
    run(connection, sql!("forget_reports"), [to_json(&members)?])?;
    Ok(())
}

pub(super) fn record_events(transaction: &Transaction<'_>, events: &[OperatorEvent]) -> Result<()> {
    for event in events {
        transaction.check_hold()?;
        let OperatorEvent { sequence: _, at: _, id, node, subject, sentence } = event;
        let node = node.as_ref().map(NodeName::as_str);
        let row = params![transaction.now.0, id.0, node, subject, sentence];
        run(transaction.connection, sql!("record_events"), row)?;
        transaction.wake(Topic::Events);
    }
    Ok(())
}

pub(super) fn events(connection: &Connection, query: &EventQuery) -> Result<Vec<OperatorEvent>> {
    let ids = match query.ids.is_empty() {
        true => None,
        false => Some(to_json(&query.ids)?),
    };
    let (after, limit) = (signed(query.after), signed(query.rows_max() as u64));
    let since = query.since.map(|at| at.0);
    let statement = match query.newest {
        false => sql!("events"),
        true => sql!("events_newest"),
    };
    let asked = params![after, query.subject, ids, since, limit];
    let mut events = rows(connection, statement, asked, event)?;
    events.sort_by_key(|event| event.sequence);
    Ok(events)
}

fn event(row: &Row<'_>) -> Result<OperatorEvent> {
    let id: i64 = get(row, 2)?;
    Ok(OperatorEvent {
        sequence: count(row, 0)?,
        at: timestamp(row, 1)?,
        id: EventId(u16::try_from(id).map_err(|_| {
            StoreError::Corrupt(format!("the store has an operator event of number {id}"))
        })?),
        node: node_or_none(row, 3)?,
        subject: get(row, 4)?,
        sentence: get(row, 5)?,
    })
}

/// Removes up to so many operator events that are kept no longer.
pub(super) fn sweep(transaction: &Transaction<'_>, rows_max: i64) -> Result<()> {
    let before = transaction.now.0.saturating_sub(signed(EVENTS_KEPT.0));
    let bounds = params![before, signed(EVENTS_KEPT_MAX), rows_max];
    run(transaction.connection, sql!("sweep_events"), bounds)?;
    Ok(())
}
