//! What nodes see of the cluster: snapshot, presence, moves, definitions, history.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use cluster::{
    Duty, GroupOrder, HISTORY_KEPT, LeaseView, MoveRequest, NodeOrder, NodeView, Presence,
    ResourceReport, ResumeFailback, Snapshot, Tenure,
};
use model::{
    Cause, Definitions, Epoch, Evidence, GroupName, Millis, NodeName, ResourceState, Timestamp,
};
use tokio_postgres::Row;

use super::Postgres;
use super::judge::{Known, heard_since_return};
use super::remembered::Remembered;
use super::text::{epoch_of, plain};
use super::transaction::{Step, step};
use crate::{Result, StoreError, Topic, WATCH_MAX};

/// All parts of a snapshot must be of one moment.
const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

impl Postgres {
    /// Everything, or, when nothing was announced since the last time, only what changes without
    /// a word: the time, and when leases run out.
    pub(super) async fn read_snapshot(&self) -> Result<Snapshot> {
        let hints = self.hints.count(Topic::Cluster);
        let quiet = self.remembered().quiet_since_last(hints);
        match quiet {
            Some(last) => self.read_expiries(last).await,
            None => self.read_all(hints).await,
        }
    }

    async fn read_expiries(&self, last: Snapshot) -> Result<Snapshot> {
        let look = false;
        let rows = self
            .leases
            .at_once(
                BEGIN_SNAPSHOT,
                &[
                    step(include_str!("../../sql/postgres/now.sql"), &[]),
                    step(include_str!("../../sql/postgres/snapshot_nodes.sql"), &[&look]),
                    step(include_str!("../../sql/postgres/snapshot_leases.sql"), &[]),
                ],
            )
            .await?;
        let [now, nodes, leases] = &rows[..] else {
            return Err(StoreError::Corrupt("a snapshot has not all of its parts".to_owned()));
        };
        let nodes: Vec<NodeView> = nodes.iter().map(node_of).collect::<Result<_>>()?;
        Ok(Snapshot {
            now: Timestamp(now.first().map_or(0, |row| row.get(0))),
            nodes: self.remembered().with_presence(nodes),
            leases: leases.iter().map(lease_of).collect::<Result<_>>()?,
            ..last
        })
    }

    async fn read_all(&self, hints: Option<u64>) -> Result<Snapshot> {
        let look = true;
        let known = self.known_definitions().0.cast_signed();
        let history_kept = HISTORY_KEPT.0.cast_signed();
        let from = self.remembered().wanted_from();
        let since = from.map_or(0, |from| from.0);
        let rows = self
            .leases
            .at_once(
                BEGIN_SNAPSHOT,
                &[
                    step(include_str!("../../sql/postgres/now.sql"), &[]),
                    step(include_str!("../../sql/postgres/definitions.sql"), &[&known]),
                    step(include_str!("../../sql/postgres/snapshot_nodes.sql"), &[&look]),
                    step(include_str!("../../sql/postgres/snapshot_leases.sql"), &[]),
                    step(include_str!("../../sql/postgres/snapshot_moves.sql"), &[]),
                    step(
                        include_str!("../../sql/postgres/snapshot_history.sql"),
                        &[&history_kept, &since],
                    ),
                    step(include_str!("../../sql/postgres/snapshot_group_orders.sql"), &[]),
                    step(include_str!("../../sql/postgres/snapshot_node_orders.sql"), &[]),
                    step(include_str!("../../sql/postgres/snapshot_reports.sql"), &[&since]),
                ],
            )
            .await?;
        let [now, definitions, nodes, leases, moves, history, groups, duties, reports] = &rows[..]
        else {
            return Err(StoreError::Corrupt("a snapshot has not all of its parts".to_owned()));
        };
        let (definitions_version, definitions) = self.definitions_of(definitions.first())?;
        let now = Timestamp(now.first().map_or(0, |row| row.get(0)));
        let history = history.iter().map(|row| Ok((row.get("id"), tenure_of(row)?)));
        let history: Vec<(i64, Tenure)> = history.collect::<Result<_>>()?;
        let reports = reports.iter().map(report_of).collect::<Result<_>>()?;
        let (history, reports) = self.remembered().take(now, from, history, reports);
        let nodes: Vec<NodeView> = nodes.iter().map(node_of).collect::<Result<_>>()?;
        let snapshot = Snapshot {
            now,
            definitions_version,
            definitions,
            nodes,
            leases: leases.iter().map(lease_of).collect::<Result<_>>()?,
            moves: moves.iter().map(move_of).collect::<Result<_>>()?,
            history,
            group_orders: groups.iter().map(group_order_of).collect::<Result<_>>()?,
            node_orders: duties.iter().map(node_order_of).collect::<Result<_>>()?,
            reports,
        };
        self.remembered().has_read(hints, &snapshot);
        Ok(snapshot)
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn read_presence(&self) -> Result<BTreeMap<NodeName, Presence>> {
        let limit = self.database.patience.as_duration();
        let sql = include_str!("../../sql/postgres/presence.sql");
        let rows = self.presence.query(&self.database, limit, sql, &[]).await?;
        rows.iter().map(|row| Ok((name(row, "name")?, presence_of(row)))).collect()
    }

    /// Waits in the queue for the liveness lock of the peer that follows `me`: whoever gets it
    /// knows, within milliseconds, that its holder's session is gone.
    pub(super) async fn wait_for_next(&self, me: &NodeName, peers: &[NodeName]) -> Result<bool> {
        let next = peers.iter().filter(|peer| *peer > me).min().or_else(|| peers.iter().min());
        let Some(next) = next else { return Ok(false) };
        // The server itself ends the wait, and before `statement_timeout` does.
        let patience = self.database.patience;
        let wait = Millis((patience.0 / 2).min(WATCH_MAX.0)).0.cast_signed();
        let sql = include_str!("../../sql/postgres/watch.sql");
        let limit = patience.as_duration();
        let rows = self.watch.query(&self.database, limit, sql, &[&next.as_str(), &wait]).await?;
        let gone = rows.first().is_some_and(|row| row.get(0));
        if gone {
            self.hints.announce(&self.tasks, Topic::Cluster);
        }
        Ok(gone)
    }

    pub(super) async fn ask_to_move(&self, request: &MoveRequest) -> Result<()> {
        let to = request.to.as_ref().map(NodeName::as_str);
        let sql = include_str!("../../sql/postgres/request_move.sql");
        let group = request.group.as_str();
        self.database.query(sql, &[&group, &to, &plain(&request.by)]).await?;
        self.hints.announce(&self.tasks, Topic::Cluster);
        Ok(())
    }

    pub(super) async fn forget_move(&self, group: &GroupName, asked_at: Timestamp) -> Result<()> {
        let sql = include_str!("../../sql/postgres/drop_move.sql");
        self.database.query(sql, &[&group.as_str(), &asked_at.0]).await?;
        self.hints.announce(&self.tasks, Topic::Cluster);
        Ok(())
    }

    pub(super) async fn put_in_force(
        &self,
        definitions: &Definitions,
        base: u64,
        by: &str,
    ) -> Result<u64> {
        let document = serde_json::to_string(definitions).map_err(|error| {
            StoreError::Refused(format!("the definitions cannot be written: {error}"))
        })?;
        let (version, by) = (base.cast_signed(), plain(by));
        let apply = Step {
            sql: include_str!("../../sql/postgres/apply.sql"),
            params: &[&version, &document, &by],
        };
        let lock = step(include_str!("../../sql/postgres/apply_lock.sql"), &[]);
        let begun = self.database.begin("BEGIN", &[lock, apply]).await?;
        let (transaction, rows) = begun.map_err(|error| self.database.error(&error))?;
        if rows.last().is_none_or(Vec::is_empty) {
            transaction.roll_back().await;
            let (now, _) = self.read_definitions().await?;
            return Err(StoreError::Refused(format!(
                "definitions version {now} is in force, not {base}: somebody applied others \
                 meanwhile; look at the difference and apply again"
            )));
        }
        let ports = &definitions.send_ports;
        let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        let hosts: Vec<&str> = ports.iter().map(|port| port.host.as_str()).collect();
        let filters: Vec<_> = ports.iter().map(|port| plain(&port.filter)).collect();
        let next = version + 1;
        // What changes its group begins anew under another lease, whose epoch may be lower.
        let (_, before) = self.known_definitions();
        let mut members = member_names(definitions);
        members.retain(|name| same_group(&before, definitions, name));
        transaction
            .commit(&[
                step(include_str!("../../sql/postgres/apply_forget.sql"), &[]),
                step(
                    include_str!("../../sql/postgres/apply_subscribe.sql"),
                    &[&names, &hosts, &filters, &next],
                ),
                step(include_str!("../../sql/postgres/apply_rehome.sql"), &[]),
                step(include_str!("../../sql/postgres/forget_reports.sql"), &[&members, &next]),
            ])
            .await?;
        self.hints.announce(&self.tasks, Topic::Cluster);
        self.hints.announce(&self.tasks, Topic::Work);
        Ok(base + 1)
    }

    pub(super) async fn read_definitions(&self) -> Result<(u64, Arc<Definitions>)> {
        let known = self.known_definitions().0.cast_signed();
        let sql = include_str!("../../sql/postgres/definitions.sql");
        let rows = self.database.query(sql, &[&known]).await?;
        self.definitions_of(rows.first())
    }

    pub(super) async fn read_history(&self, limit: usize) -> Result<Vec<Tenure>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = include_str!("../../sql/postgres/history.sql");
        let rows = self.database.query(sql, &[&limit]).await?;
        rows.iter().map(tenure_of).collect()
    }

    fn known_definitions(&self) -> (u64, Arc<Definitions>) {
        self.definitions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads a row that leaves the document out when it is the version known.
    fn definitions_of(&self, row: Option<&Row>) -> Result<(u64, Arc<Definitions>)> {
        let Some(row) = row else { return Ok((0, Arc::default())) };
        let version = row.get::<_, i64>("version").cast_unsigned();
        let Some(document) = row.get::<_, Option<&str>>("document") else {
            let known = self.known_definitions();
            if known.0 == version {
                return Ok(known);
            }
            // Another thread has seen a version since; whoever asks again gets it.
            return Err(StoreError::Unavailable(format!(
                "definitions version {version} was replaced while it was read; ask again"
            )));
        };
        let definitions: Definitions = serde_json::from_str(document).map_err(|error| {
            StoreError::Corrupt(format!(
                "definitions version {version} cannot be read by this version of Baton ({error}); \
                 was it applied by a newer one?"
            ))
        })?;
        let read = (version, Arc::new(definitions));
        let mut known = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 < version {
            *known = read.clone();
        }
        Ok(read)
    }
}

fn node_of(row: &Row) -> Result<NodeView> {
    Ok(NodeView {
        name: name(row, "name")?,
        epoch: epoch_of(row.get("epoch")),
        presence: presence_of(row),
        expires_at: Timestamp(row.get("expires_at")),
        machine: row.get("machine"),
        version: row.get("version"),
    })
}

fn presence_of(row: &Row) -> Presence {
    let known = Known {
        held: None,
        expires_at: None,
        ttl: Millis(row.get::<_, i64>("ttl").cast_unsigned()),
        connected: row.get("connected"),
        connected_at: Timestamp(row.get("connected_at")),
        up_since: Timestamp(row.get("up_since")),
        now: Timestamp(row.get("now")),
    };
    if row.get("vacant") {
        Presence::Left
    } else if known.connected || !heard_since_return(&known) {
        Presence::Present
    } else {
        Presence::ConnectionGone
    }
}

fn lease_of(row: &Row) -> Result<LeaseView> {
    Ok(LeaseView {
        lease: parsed(row, "name")?,
        holder: optional_name(row, "holder")?,
        epoch: epoch_of(row.get("epoch")),
        expires_at: Timestamp(row.get("expires_at")),
        changed_at: Timestamp(row.get("changed_at")),
        cause: cause(row)?,
        reason: row.get("reason"),
        offered_to: optional_name(row, "offered_to")?,
    })
}

fn move_of(row: &Row) -> Result<MoveRequest> {
    Ok(MoveRequest {
        group: parsed(row, "group")?,
        to: optional_name(row, "to")?,
        by: row.get("by"),
        at: Timestamp(row.get("at")),
    })
}

fn tenure_of(row: &Row) -> Result<Tenure> {
    let evidence: &str = row.get("evidence");
    Ok(Tenure {
        lease: parsed(row, "lease")?,
        epoch: Epoch(row.get::<_, i64>("epoch").cast_unsigned()),
        holder: optional_name(row, "holder")?,
        before: optional_name(row, "before")?,
        evidence: Evidence::from_word(evidence).ok_or_else(|| unknown(evidence))?,
        cause: cause(row)?,
        resource: row.get::<_, Option<&str>>("resource").map(word).transpose()?,
        reason: row.get("reason"),
        at: Timestamp(row.get("at")),
    })
}

fn group_order_of(row: &Row) -> Result<GroupOrder> {
    Ok(GroupOrder {
        group: parsed(row, "group")?,
        online: row.get("online"),
        unmonitored_until: moment(row, "unmonitored_until"),
        by: row.get("by"),
        at: Timestamp(row.get("at")),
    })
}

fn node_order_of(row: &Row) -> Result<NodeOrder> {
    let (duty, failback): (&str, &str) = (row.get("duty"), row.get("failback"));
    Ok(NodeOrder {
        node: name(row, "node")?,
        duty: Duty::from_word(duty).ok_or_else(|| unknown(duty))?,
        failback: ResumeFailback::from_word(failback).ok_or_else(|| unknown(failback))?,
        away_since: moment(row, "away_since"),
        quarantine_cleared_at: moment(row, "quarantine_cleared_at"),
        by: row.get("by"),
        at: Timestamp(row.get("at")),
    })
}

fn report_of(row: &Row) -> Result<ResourceReport> {
    let state: &str = row.get("state");
    Ok(ResourceReport {
        resource: parsed(row, "resource")?,
        node: name(row, "node")?,
        epoch: epoch_of(row.get("epoch")),
        state: ResourceState::from_word(state).ok_or_else(|| unknown(state))?,
        detail: row.get("detail"),
        since: Timestamp(row.get("since")),
    })
}

fn moment(row: &Row, column: &str) -> Option<Timestamp> {
    row.get::<_, Option<i64>>(column).map(Timestamp)
}

fn cause(row: &Row) -> Result<Cause> {
    let word: &str = row.get("cause");
    Cause::from_word(word).ok_or_else(|| unknown(word))
}

fn name(row: &Row, column: &str) -> Result<NodeName> {
    parsed(row, column)
}

fn optional_name(row: &Row, column: &str) -> Result<Option<NodeName>> {
    row.get::<_, Option<&str>>(column).map(word).transpose()
}

fn parsed<T: std::str::FromStr>(row: &Row, column: &str) -> Result<T> {
    word(row.get(column))
}

pub(super) fn word<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| unknown(text))
}

/// The names of all that may be reported of.
pub(super) fn member_names(definitions: &Definitions) -> Vec<String> {
    definitions.members().map(|member| member.name.to_string()).collect()
}

/// Whether a member is new, or in the group that it was in.
fn same_group(before: &Definitions, after: &Definitions, name: &str) -> bool {
    let Ok(name) = name.parse() else { return false };
    before
        .member(&name)
        .is_none_or(|before| after.member(&name).is_some_and(|after| after.group == before.group))
}

fn unknown(word: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "the store says {word:?} where this version of Baton does not know such a word; is there a \
         newer version on another node?"
    ))
}
