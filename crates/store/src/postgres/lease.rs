//! Leases: join, renew, acquire, release, bury, and the fence.

use std::time::{Duration, Instant};

use cluster::AcquireRequest;
use model::{Cause, Epoch, Evidence, LeaseName, Millis, NodeName, ResourceName, Timestamp};
use tokio_postgres::Row;

use super::Postgres;
use super::error::is_lock_timeout;
use super::judge::{Asked, Known, judge};
use super::session::Node;
use super::text::{epoch_of, plain};
use super::transaction::{Database, Step, Transaction, step};
use crate::{Acquired, Fence, FenceToken, Granted, NodeFacts, Release, Result, StoreError, Topic};

/// A takeover waits so long for the transactions of the old owner, then it ends their sessions. A
/// publish takes milliseconds, and the new owner is waited for.
pub(super) const BEGIN_TAKEOVER: &str = "BEGIN; SET LOCAL lock_timeout = 100";

/// Each try ends the sessions found in the way; new ones can only come from the old owner, whose
/// fence is refused as soon as one try succeeds.
const TAKEOVER_TRIES: u32 = 20;

/// A process that was restarted meets its own old session until the server has noticed its end.
const JOIN_LIMIT: Duration = Duration::from_secs(2);
const JOIN_AGAIN_AFTER: Duration = Duration::from_millis(25);

/// A renewal that takes longer than half the ttl came too late; below this it would be impatience.
const RENEWAL_LIMIT_MIN: Duration = Duration::from_millis(500);

impl Postgres {
    pub(super) async fn join_as(
        &self,
        name: &NodeName,
        facts: &NodeFacts,
        ttl: Millis,
    ) -> Result<Granted> {
        let database = &self.leases;
        let rows = database
            .query(include_str!("../../sql/postgres/join_node.sql"), &[&name.as_str()])
            .await?;
        let id: i32 = rows.first().map_or(0, |row| row.get("id"));
        let node = Node { name: name.clone(), id };
        let lease = LeaseName::Node(name.clone());
        let forced = self.become_alive(&node, &lease).await?;
        let known = self.known(&lease).await?;
        let seen = known.held.as_ref().map_or(Epoch(0), |(epoch, _)| *epoch);
        // The lock is ours, so whoever held the lease has lost its connection, or was frozen.
        let unended = match known.held {
            Some((_, Some(_))) if forced => Some(Evidence::Silent),
            Some((_, Some(_))) => Some(Evidence::ConnectionGone),
            _ => None,
        };
        let former = self.life.before(name, seen, unended);
        let NodeFacts { machine, pid, .. } = facts;
        let request = AcquireRequest {
            lease,
            seen_epoch: seen,
            cause: former.cause,
            reason: format!("node {name} joined from {machine} (process {pid}){}", former.remark),
            resource: None,
            external: false,
        };
        let known_dead = Some(former.evidence);
        let taking = Taking { request: &request, node: Some(name), ttl, known_dead };
        let granted = match self.take_lease(&taking).await? {
            Acquired::Granted(granted) => granted,
            Acquired::Refused(why) => return Err(StoreError::Refused(why)),
        };
        let pid = i64::from(facts.pid);
        let (machine, version) = (plain(&facts.machine), plain(&facts.version));
        database
            .query(
                include_str!("../../sql/postgres/join_facts.sql"),
                &[&id, &machine, &pid, &version],
            )
            .await?;
        self.watched.call_once(|| {
            self.tasks.spawn(self.liveness.clone().watch(self.leases.clone()));
        });
        self.hints.announce(&self.tasks, Topic::Cluster);
        Ok(granted)
    }

    /// Takes the liveness lock. A frozen process keeps its session, so when its lease has run out
    /// that session is ended, which is answered; a live one is left alone.
    async fn become_alive(&self, node: &Node, lease: &LeaseName) -> Result<bool> {
        let deadline = Instant::now() + JOIN_LIMIT;
        let mut forced = false;
        while !self.liveness.live_as(&self.leases, node).await? {
            let known = self.known(lease).await?;
            let silent = known.expires_at.is_none_or(|at| at <= known.now)
                && known.now.since(known.up_since) >= known.ttl;
            if silent {
                let unlock = include_str!("../../sql/postgres/join_unlock.sql");
                let ended = self.leases.query(unlock, &[&node.id, &None::<i32>]).await?;
                forced |= !ended.is_empty();
                for row in ended {
                    let pid: i32 = row.get("pid");
                    tracing::warn!(pid, node = %node.name, "ended the session of a silent process");
                }
            } else if Instant::now() > deadline {
                return Err(self.already_there(&node.name).await?);
            }
            tokio::time::sleep(JOIN_AGAIN_AFTER).await;
        }
        Ok(forced)
    }

    async fn already_there(&self, name: &NodeName) -> Result<StoreError> {
        let node = include_str!("../../sql/postgres/join_node.sql");
        let rows = self.leases.query(node, &[&name.as_str()]).await?;
        let (machine, pid): (String, i64) =
            rows.first().map_or_else(Default::default, |row| (row.get("machine"), row.get("pid")));
        Ok(StoreError::Refused(format!(
            "another process is node {name}: process {pid} on {machine}; stop it, or give this \
             node another name"
        )))
    }

    pub(super) async fn renew_leases(
        &self,
        node: &NodeName,
        leases: &[(LeaseName, Epoch)],
        ttl: Millis,
    ) -> Result<Vec<(LeaseName, Epoch)>> {
        let names: Vec<String> = leases.iter().map(|(lease, _)| lease.to_string()).collect();
        let epochs: Vec<i64> = leases.iter().map(|(_, epoch)| epoch.0.cast_signed()).collect();
        let limit = (ttl.as_duration() / 2).max(RENEWAL_LIMIT_MIN);
        let rows = self
            .liveness
            .query(
                &self.leases,
                limit,
                include_str!("../../sql/postgres/renew.sql"),
                &[&node.as_str(), &names, &epochs, &ttl.0.cast_signed()],
            )
            .await?;
        let renewed: Vec<(String, i64)> =
            rows.iter().map(|row| (row.get("name"), row.get("epoch"))).collect();
        let is_renewed = |name: &String, epoch: &i64| {
            renewed.iter().any(|(other, at)| other == name && at == epoch)
        };
        let lost = names.iter().zip(&epochs).zip(leases);
        Ok(lost
            .filter(|((name, epoch), _)| !is_renewed(name, epoch))
            .map(|(_, lease)| lease.clone())
            .collect())
    }

    pub(super) async fn acquire_lease(
        &self,
        node: &NodeName,
        request: &AcquireRequest,
        ttl: Millis,
    ) -> Result<Acquired> {
        let taking = Taking { request, node: Some(node), ttl, known_dead: None };
        self.take_and_tell(&taking).await
    }

    pub(super) async fn bury_lease(
        &self,
        lease: &LeaseName,
        seen: Epoch,
        reason: &str,
    ) -> Result<Acquired> {
        let request = AcquireRequest {
            lease: lease.clone(),
            seen_epoch: seen,
            cause: Cause::NodeLost,
            reason: reason.to_owned(),
            resource: None,
            external: false,
        };
        let nobody = Taking { request: &request, node: None, ttl: Millis(0), known_dead: None };
        self.take_and_tell(&nobody).await
    }

    async fn take_and_tell(&self, taking: &Taking<'_>) -> Result<Acquired> {
        let acquired = self.take_lease(taking).await?;
        if matches!(acquired, Acquired::Granted(_)) {
            self.hints.announce(&self.tasks, Topic::Cluster);
            // What the old owner held is ready again.
            self.hints.announce(&self.tasks, Topic::Work);
        }
        Ok(acquired)
    }

    /// A cheap look first, so that nobody is disturbed for a lease that is well held; then the same
    /// look again under the exclusive fence key, where nothing of the old owner is under way.
    async fn take_lease(&self, taking: &Taking<'_>) -> Result<Acquired> {
        let database = &self.leases;
        let name = taking.request.lease.to_string();
        for _ in 0..TAKEOVER_TRIES {
            if let Err(why) = taking.judge(&self.known(&taking.request.lease).await?) {
                return Ok(Acquired::Refused(why));
            }
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&name];
            let look = [
                step(include_str!("../../sql/postgres/acquire_lock.sql"), &params),
                step(include_str!("../../sql/postgres/acquire_judge.sql"), &params),
            ];
            let (transaction, rows) = match database.begin(BEGIN_TAKEOVER, &look).await? {
                Ok(begun) => begun,
                Err(error) if is_lock_timeout(&error) => {
                    end_sessions(database, &name).await?;
                    continue;
                }
                Err(error) => return Err(database.error(&error)),
            };
            let known = known_of(rows.get(1).and_then(|rows| rows.first()))?;
            let evidence = match taking.judge(&known) {
                Ok(evidence) => evidence,
                Err(why) => {
                    transaction.roll_back().await;
                    return Ok(Acquired::Refused(why));
                }
            };
            if let Some(granted) = change_hands(transaction, taking, &known, evidence).await? {
                return Ok(Acquired::Granted(granted));
            }
        }
        Err(StoreError::Unavailable(format!(
            "{name} could not be taken in {TAKEOVER_TRIES} tries: sessions that hold it come again \
             and again (pg_locks, locktype advisory), or its holder renews it after all"
        )))
    }

    pub(super) async fn release_lease(&self, node: &NodeName, release: &Release) -> Result<()> {
        let name = release.lease.to_string();
        let epoch = release.epoch.0.cast_signed();
        let reason = plain(&release.reason);
        let offered_to = release.offered_to.as_ref().map(NodeName::as_str);
        let resource = release.resource.as_ref().map(ResourceName::as_str);
        let (cause, evidence) = (release.cause.as_str(), Evidence::Vacated.as_str());
        for _ in 0..TAKEOVER_TRIES {
            let vacate = [
                Step { sql: include_str!("../../sql/postgres/acquire_lock.sql"), params: &[&name] },
                Step {
                    sql: include_str!("../../sql/postgres/release.sql"),
                    params: &[
                        &name,
                        &epoch,
                        &node.as_str(),
                        &cause,
                        &reason,
                        &offered_to,
                        &evidence,
                        &resource,
                    ],
                },
            ];
            match self.leases.begin(BEGIN_TAKEOVER, &vacate).await? {
                Ok((transaction, rows)) => {
                    let vacated = rows.get(1).and_then(|rows| rows.first());
                    if vacated.is_some_and(|row| row.get::<_, i64>(0) > 0) {
                        transaction.commit(&[]).await?;
                        self.hints.announce(&self.tasks, Topic::Cluster);
                        self.hints.announce(&self.tasks, Topic::Work);
                        return Ok(());
                    }
                    transaction.roll_back().await;
                    return self.released_before(release).await;
                }
                Err(error) if is_lock_timeout(&error) => {
                    end_sessions(&self.leases, &name).await?;
                }
                Err(error) => return Err(self.leases.error(&error)),
            }
        }
        Err(StoreError::Unavailable(format!(
            "{name} could not be released: sessions of its own host still hold it"
        )))
    }

    /// A release may be repeated, since its first answer may have been lost.
    async fn released_before(&self, release: &Release) -> Result<()> {
        let known = self.known(&release.lease).await?;
        match known.held {
            Some((epoch, None)) if epoch == release.epoch => Ok(()),
            _ => Err(StoreError::Fenced { lease: release.lease.clone(), epoch: release.epoch }),
        }
    }

    pub(super) async fn fence_of(&self, token: &FenceToken) -> Result<Fence> {
        let rows = self
            .leases
            .query(
                include_str!("../../sql/postgres/fence_read.sql"),
                &[&token.lease.to_string(), &token.epoch.0.cast_signed(), &token.holder.as_str()],
            )
            .await?;
        let fence = Fence::of(token.clone());
        if rows.is_empty() { Err(fence.refused()) } else { Ok(fence) }
    }

    pub(super) async fn known(&self, lease: &LeaseName) -> Result<Known> {
        let sql = include_str!("../../sql/postgres/acquire_judge.sql");
        let rows = self.leases.query(sql, &[&lease.to_string()]).await?;
        known_of(rows.first())
    }
}

/// A change of hands that is wanted.
struct Taking<'a> {
    request: &'a AcquireRequest,
    /// For whom; none: for nobody.
    node: Option<&'a NodeName>,
    ttl: Millis,
    /// The holder has let go, and this is how we know: it is not judged.
    known_dead: Option<Evidence>,
}

impl Taking<'_> {
    fn judge(&self, known: &Known) -> Result<Evidence, String> {
        let AcquireRequest { lease, seen_epoch, external, .. } = self.request;
        let asked = Asked { lease, by: self.node, seen: *seen_epoch, external: *external };
        match self.known_dead {
            // For its epoch it is judged all the same.
            Some(evidence) => {
                let own = Known { connected: false, up_since: Timestamp(0), ..known.clone() };
                judge(asked, &own).map(|_| evidence)
            }
            None => judge(asked, known),
        }
    }
}

async fn change_hands(
    transaction: Transaction<'_>,
    taking: &Taking<'_>,
    known: &Known,
    evidence: Evidence,
) -> Result<Option<Granted>> {
    let request = taking.request;
    let name = request.lease.to_string();
    let seen = request.seen_epoch.0.cast_signed();
    let ttl = taking.ttl.0.cast_signed();
    let (cause, reason) = (request.cause.as_str(), plain(&request.reason));
    let before = known.held.as_ref().and_then(|(_, holder)| holder.clone());
    // Its holder could still renew, unless it is the one who asks.
    let guarded = matches!(evidence, Evidence::Silent | Evidence::ConnectionGone)
        && taking.known_dead.is_none();
    let judged_expiry = known.expires_at.map(|at| at.0);
    let evidence_word = evidence.as_str();
    let resource = request.resource.as_ref().map(ResourceName::as_str);
    let rows = match taking.node {
        Some(node) => {
            let acquire = Step {
                sql: include_str!("../../sql/postgres/acquire.sql"),
                params: &[
                    &name,
                    &seen,
                    &node.as_str(),
                    &ttl,
                    &cause,
                    &reason,
                    &guarded,
                    &judged_expiry,
                    &before,
                    &evidence_word,
                    &resource,
                ],
            };
            transaction.run(&[acquire]).await?
        }
        None => {
            let bury = Step {
                sql: include_str!("../../sql/postgres/bury.sql"),
                params: &[
                    &name,
                    &seen,
                    &cause,
                    &reason,
                    &guarded,
                    &judged_expiry,
                    &before,
                    &evidence_word,
                ],
            };
            transaction.run(&[bury]).await?
        }
    };
    let changed = rows.first().and_then(|rows| rows.first()).map_or(0, |row| row.get::<_, i64>(0));
    if changed == 0 {
        transaction.roll_back().await;
        return Ok(None);
    }
    transaction.commit(&[]).await?;
    Ok(Some(Granted { epoch: Epoch(request.seen_epoch.0 + 1), evidence }))
}

/// Ends the sessions that hold the fence key of a lease: a frozen owner, or one that is too busy.
async fn end_sessions(database: &Database, lease: &str) -> Result<()> {
    let ended =
        database.query(include_str!("../../sql/postgres/acquire_end.sql"), &[&lease]).await?;
    for row in ended {
        let (pid, application): (i32, String) = (row.get("pid"), row.get("application_name"));
        tracing::warn!(pid, application, "ended a session that stood in the way of {lease}");
    }
    Ok(())
}

pub(super) fn known_of(row: Option<&Row>) -> Result<Known> {
    let Some(row) = row else {
        return Err(StoreError::Corrupt("the store did not say who holds a lease".to_owned()));
    };
    let epoch: Option<i64> = row.get("epoch");
    let expiry_epoch: Option<i64> = row.get("expiry_epoch");
    let expires_at: Option<i64> = row.get("expires_at");
    Ok(Known {
        held: epoch.map(|epoch| (epoch_of(epoch), row.get("holder"))),
        expires_at: expires_at.filter(|_| expiry_epoch == epoch).map(Timestamp),
        ttl: Millis(row.get::<_, Option<i64>>("ttl").unwrap_or_default().cast_unsigned()),
        connected: row.get("connected"),
        connected_at: Timestamp(row.get::<_, Option<i64>>("connected_at").unwrap_or_default()),
        up_since: Timestamp(row.get("up_since")),
        now: Timestamp(row.get("now")),
    })
}
