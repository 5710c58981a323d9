//! What operators want of groups and nodes, what owners say of resources, and operator events.

use std::collections::BTreeMap;

use cluster::{GroupOrder, NodeOrder, ResourceReport};
use model::{
    Cause, Epoch, EventId, Evidence, LeaseName, MessageId, NodeName, OperatorEvent, ResourceName,
    Timestamp,
};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Postgres;
use super::cluster::word;
use super::error::is_lock_timeout;
use super::judge::{Asked, Known, judge};
use super::lease::{BEGIN_TAKEOVER, known_of};
use super::text::{key, plain};
use super::transaction::{Step, Transaction, step};
use crate::{EventQuery, InFlight, Result, StoreError, Topic};

impl Postgres {
    pub(super) async fn want_group(&self, order: &GroupOrder) -> Result<()> {
        let until = order.unmonitored_until.map(|at| at.0);
        let group = order.group.as_str();
        let by = plain(&order.by);
        let sql = include_str!("../../sql/postgres/order_group.sql");
        self.database.query(sql, &[&group, &order.online, &until, &by, &order.at.0]).await?;
        self.hints.announce(&self.tasks, Topic::Cluster);
        Ok(())
    }

    pub(super) async fn want_node(&self, order: &NodeOrder) -> Result<()> {
        let millis = |at: Option<Timestamp>| at.map(|at| at.0);
        self.database
            .query(
                include_str!("../../sql/postgres/order_node.sql"),
                &[
                    &order.node.as_str(),
                    &order.duty.as_str(),
                    &order.failback.as_str(),
                    &millis(order.away_since),
                    &millis(order.quarantine_cleared_at),
                    &plain(&order.by),
                    &order.at.0,
                ],
            )
            .await?;
        self.hints.announce(&self.tasks, Topic::Cluster);
        Ok(())
    }

    /// Under the exclusive key of the node's own lease: so nobody joins as the node meanwhile.
    pub(super) async fn evict_node(&self, node: &NodeName, by: &str) -> Result<()> {
        let lease = LeaseName::Node(node.clone());
        let (name, node_name) = (lease.to_string(), node.as_str());
        let (of_lease, of_node): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 1]) =
            ([&name], [&node_name]);
        let look = [
            step(include_str!("../../sql/postgres/acquire_lock.sql"), &of_lease),
            step(include_str!("../../sql/postgres/acquire_judge.sql"), &of_lease),
            step(include_str!("../../sql/postgres/evict_held.sql"), &of_node),
        ];
        let (transaction, rows) = match self.leases.begin(BEGIN_TAKEOVER, &look).await? {
            Ok(begun) => begun,
            Err(error) if is_lock_timeout(&error) => {
                return Err(StoreError::Unavailable(format!(
                    "{name} is changing hands; try again"
                )));
            }
            Err(error) => return Err(self.leases.error(&error)),
        };
        let known = known_of(rows.get(1).and_then(|rows| rows.first()))?;
        let held: Vec<&str> =
            rows.get(2).into_iter().flatten().map(|row| row.get("name")).collect();
        let buried = match judge_eviction(&lease, node, &known, &held) {
            Ok(Evidence::Vacated) => Ok(()),
            Ok(evidence) => bury_node(&transaction, node, by, &known, evidence).await,
            Err(why) => Err(why),
        };
        if let Err(why) = buried {
            transaction.roll_back().await;
            return Err(why);
        }
        let evict = step(include_str!("../../sql/postgres/evict.sql"), &of_node);
        transaction.commit(&[evict]).await?;
        self.hints.announce(&self.tasks, Topic::Cluster);
        Ok(())
    }

    pub(super) async fn keep_resource_reports(&self, reports: &[ResourceReport]) -> Result<()> {
        // A statement may touch a row once: of several reports of a resource the newest counts.
        let mut newest: BTreeMap<&ResourceName, &ResourceReport> = BTreeMap::new();
        for report in reports {
            let kept = newest.entry(&report.resource).or_insert(report);
            if report.epoch >= kept.epoch {
                *kept = report;
            }
        }
        let of = |column: fn(&ResourceReport) -> &str| -> Vec<&str> {
            newest.values().map(|report| column(report)).collect()
        };
        let epochs: Vec<i64> = newest.values().map(|it| it.epoch.0.cast_signed()).collect();
        let details: Vec<_> = newest.values().map(|it| it.detail.as_deref().map(plain)).collect();
        let rows = self
            .database
            .query(
                include_str!("../../sql/postgres/report_resources.sql"),
                &[
                    &of(|report| report.resource.as_str()),
                    &of(|report| report.node.as_str()),
                    &epochs,
                    &of(|report| report.state.as_str()),
                    &details,
                ],
            )
            .await?;
        if rows.first().is_some_and(|row| row.get::<_, i64>(0) > 0) {
            self.hints.announce(&self.tasks, Topic::Cluster);
        }
        Ok(())
    }

    pub(super) async fn keep_events(&self, events: &[OperatorEvent]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let ids: Vec<i32> = events.iter().map(|event| i32::from(event.id.0)).collect();
        let nodes: Vec<Option<&str>> =
            events.iter().map(|event| event.node.as_ref().map(NodeName::as_str)).collect();
        let subjects: Vec<_> = events.iter().map(|event| plain(&event.subject)).collect();
        let sentences: Vec<_> = events.iter().map(|event| plain(&event.sentence)).collect();
        let lock = step(include_str!("../../sql/postgres/record_events_lock.sql"), &[]);
        let record = Step {
            sql: include_str!("../../sql/postgres/record_events.sql"),
            params: &[&ids, &nodes, &subjects, &sentences],
        };
        self.database.at_once("BEGIN", &[lock, record]).await?;
        self.hints.announce(&self.tasks, Topic::Events);
        Ok(())
    }

    pub(super) async fn read_events(&self, query: &EventQuery) -> Result<Vec<OperatorEvent>> {
        let subject = query.subject.as_deref().map(plain);
        let ids: Vec<i32> = query.ids.iter().map(|id| i32::from(id.0)).collect();
        let limit = i64::try_from(query.rows_max()).unwrap_or(i64::MAX);
        let sql = match query.newest {
            false => include_str!("../../sql/postgres/events.sql"),
            true => include_str!("../../sql/postgres/events_newest.sql"),
        };
        let after = query.after.cast_signed();
        let since = query.since.map(|at| at.0);
        let rows = self.database.query(sql, &[&after, &subject, &ids, &since, &limit]).await?;
        let mut events = rows.iter().map(event_of).collect::<Result<Vec<_>>>()?;
        events.sort_by_key(|event| event.sequence);
        Ok(events)
    }

    pub(super) async fn was_in_flight(
        &self,
        lease: &LeaseName,
        epoch: Epoch,
        limit: usize,
    ) -> Result<Vec<InFlight>> {
        let limit = i64::try_from(limit.min(crate::LIST_ROWS_MAX)).unwrap_or(i64::MAX);
        let (lease, epoch) = (lease.to_string(), epoch.0.cast_signed());
        let sql = include_str!("../../sql/postgres/in_flight.sql");
        let rows = self.database.query(sql, &[&key(&lease), &epoch, &limit]).await?;
        Ok(rows.iter().map(in_flight_of).collect())
    }
}

/// Ends the life of a node that did not say goodbye.
async fn bury_node(
    transaction: &Transaction<'_>,
    node: &NodeName,
    by: &str,
    known: &Known,
    evidence: Evidence,
) -> Result<()> {
    let name = LeaseName::Node(node.clone()).to_string();
    let seen = known.held.as_ref().map_or(0, |(epoch, _)| epoch.0.cast_signed());
    let (cause, evidence) = (Cause::NodeLost.as_str(), evidence.as_str());
    let reason = format!("{node} was evicted by {}", plain(by));
    let (guarded, judged) = (true, known.expires_at.map(|at| at.0));
    let before = node.as_str();
    let bury = Step {
        sql: include_str!("../../sql/postgres/bury.sql"),
        params: &[&name, &seen, &cause, &reason, &guarded, &judged, &before, &evidence],
    };
    let rows = transaction.run(&[bury]).await?;
    let buried = rows.first().and_then(|rows| rows.first());
    match buried.map_or(0, |row| row.get::<_, i64>(0)) {
        0 => {
            Err(StoreError::Refused(format!("{node} has renewed its lease meanwhile: it is alive")))
        }
        _ => Ok(()),
    }
}

/// Whether a node may be forgotten, and on what evidence it is gone.
fn judge_eviction(
    lease: &LeaseName,
    node: &NodeName,
    known: &Known,
    held: &[&str],
) -> Result<Evidence> {
    let Some((epoch, _)) = &known.held else {
        return Err(StoreError::Refused(format!("no node {node} ever joined this cluster")));
    };
    // Wholly: a node that is only cut off may come back within its lease.
    let asked = Asked { lease, by: None, seen: *epoch, external: true };
    let evidence = judge(asked, known).map_err(|why| {
        StoreError::Refused(format!("{node} may be alive ({why}); stop it first, or wait"))
    })?;
    match held.first() {
        None => Ok(evidence),
        Some(first) => Err(StoreError::Refused(format!(
            "{node} still holds {} lease(s), {first} first; others take them as soon as they may, \
             or move them",
            held.len()
        ))),
    }
}

fn event_of(row: &Row) -> Result<OperatorEvent> {
    let id: i32 = row.get("id");
    Ok(OperatorEvent {
        sequence: row.get::<_, i64>("sequence").cast_unsigned(),
        at: Timestamp(row.get("at")),
        id: EventId(u16::try_from(id).map_err(|_| {
            StoreError::Corrupt(format!("the store has an operator event of number {id}"))
        })?),
        node: row.get::<_, Option<&str>>("node").map(word).transpose()?,
        subject: row.get("subject"),
        sentence: row.get("sentence"),
    })
}

fn in_flight_of(row: &Row) -> InFlight {
    InFlight {
        source: row.get("source"),
        key: row.get("key"),
        message: MessageId(row.get("message_id")),
        received_at: Timestamp(row.get("received_at")),
        closed_at: row.get::<_, Option<i64>>("closed_at").map(Timestamp),
    }
}
