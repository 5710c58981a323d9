//! Nodes and leases: join, acquire, release, bury, and the fence that all writes show.

use cluster::{AcquireRequest, MoveRequest};
use model::{
    Cause, Epoch, Evidence, GroupName, LeaseName, Millis, NodeName, ResourceName, Timestamp,
};
use rusqlite::{Connection, params};

use super::expiry::{Entry, Unexpired};
use super::rows::{epoch, get, node_or_none, row, rows, run, signed, sql};
use super::writer::Transaction;
use crate::boot::boot_now;
use crate::life::Life;
use crate::{Acquired, Fence, FenceToken, Granted, NodeFacts, Release, Result, StoreError, Topic};

/// Refuses a stale fence. A write transaction has the write lock already, so nobody changes the
/// lease before it ends.
pub(super) fn check(connection: &Connection, fence: &Fence) -> Result<()> {
    let lease = fence.lease().to_string();
    let shown = params![lease, signed(fence.epoch().0), fence.holder().as_str()];
    match row(connection, sql!("fence"), shown, |_| Ok(()))? {
        Some(()) => Ok(()),
        None => Err(fence.refused()),
    }
}

/// Makes a fence of a token that is current.
pub(super) fn fence(connection: &Connection, token: FenceToken) -> Result<Fence> {
    let fence = Fence::of(token);
    check(connection, &fence)?;
    Ok(fence)
}

/// The liveness lock of the node has been taken.
pub(super) fn join(
    transaction: &Transaction<'_>,
    node: &NodeName,
    facts: &NodeFacts,
    ttl: Millis,
    life: &Life,
) -> Result<Granted> {
    let lease = LeaseName::Node(node.clone());
    let (seen, before) = judged(transaction, &lease)?.unwrap_or_default();
    let NodeFacts { machine, pid, version } = facts;
    let unended = before.as_ref().map(|_| Evidence::ConfirmedDead);
    let former = life.before(node, seen, unended);
    let reason = format!("{node} joined: process {pid} on {machine}{}", former.remark);
    let change = Change {
        evidence: former.evidence,
        before,
        lease: &lease,
        to: Some(node),
        seen,
        cause: former.cause,
        reason: &reason,
        resource: None,
        ttl,
    };
    let facts = params![node.as_str(), machine, pid, version, transaction.now.0];
    run(transaction.connection, sql!("join_node"), facts)?;
    match change.make(transaction)? {
        Acquired::Granted(granted) => Ok(granted),
        Acquired::Refused(why) => Err(StoreError::Refused(why)),
    }
}

/// Who a node is that cannot be joined because it lives.
pub(super) fn lives(connection: &Connection, node: &NodeName) -> Result<StoreError> {
    let facts = row(connection, sql!("join_facts"), [node.as_str()], |row| {
        Ok((get::<String>(row, 0)?, get::<i64>(row, 1)?))
    })?;
    let who = match facts {
        Some((machine, pid)) => format!("process {pid} on machine {machine} (or a child of it)"),
        None => "another process".into(),
    };
    Ok(StoreError::Refused(format!(
        "node {node} is alive already: {who}; stop it, or give this node another name"
    )))
}

pub(super) fn acquire(
    transaction: &Transaction<'_>,
    node: &NodeName,
    request: &AcquireRequest,
    ttl: Millis,
) -> Result<Acquired> {
    // `external` asks for nothing more here: a lease changes hands when its holder has let go, when
    // the holder's processes are proven dead, or when it has run out.
    let AcquireRequest { lease, seen_epoch, cause, reason, resource, external: _ } = request;
    let found = judged(transaction, lease)?;
    let (now_at, before) = found.unwrap_or_default();
    if now_at != *seen_epoch {
        return Ok(changed_meanwhile(lease, now_at, *seen_epoch));
    }
    let evidence = match &before {
        None => Evidence::Vacated,
        // Its own supervisor has reaped the worker before it asks.
        Some(holder) if holder == node => Evidence::ConfirmedDead,
        Some(holder) => evidence_of(transaction, holder)?,
    };
    let to = Some(node);
    let (seen, cause, resource) = (now_at, *cause, resource.as_ref());
    Change { lease, before, to, seen, evidence, cause, reason, resource, ttl }.make(transaction)
}

pub(super) fn bury(
    transaction: &Transaction<'_>,
    lease: &LeaseName,
    seen_epoch: Epoch,
    reason: &str,
) -> Result<Acquired> {
    let Some((now_at, before)) = judged(transaction, lease)? else {
        return Ok(Acquired::Refused(format!("{lease} was never taken by anybody")));
    };
    if now_at != seen_epoch {
        return Ok(changed_meanwhile(lease, now_at, seen_epoch));
    }
    let evidence = match &before {
        None => Evidence::Vacated,
        Some(holder) => evidence_of(transaction, holder)?,
    };
    vacate(transaction, lease, now_at, before, evidence, reason)
}

/// Takes a lease from whoever had it, for nobody.
fn vacate(
    transaction: &Transaction<'_>,
    lease: &LeaseName,
    seen: Epoch,
    before: Option<NodeName>,
    evidence: Evidence,
    reason: &str,
) -> Result<Acquired> {
    let (cause, ttl) = (Cause::NodeLost, Millis(0));
    Change { lease, before, to: None, seen, evidence, cause, reason, resource: None, ttl }
        .make(transaction)
}

/// The epoch and the holder of a lease; nothing if it was never taken.
fn judged(
    transaction: &Transaction<'_>,
    lease: &LeaseName,
) -> Result<Option<(Epoch, Option<NodeName>)>> {
    row(transaction.connection, sql!("acquire_judge"), [lease.to_string()], |row| {
        Ok((epoch(row, 0)?, node_or_none(row, 1)?))
    })
}

fn changed_meanwhile(lease: &LeaseName, now: Epoch, seen: Epoch) -> Acquired {
    Acquired::Refused(format!("{lease} is at epoch {now}, not at {seen}: it has changed meanwhile"))
}

/// What is known of a holder before its lease has run out; whether it has is seen by the claim.
fn evidence_of(transaction: &Transaction<'_>, holder: &NodeName) -> Result<Evidence> {
    Ok(match transaction.beside.liveness.is_free(holder)? {
        true => Evidence::ConfirmedDead,
        false => Evidence::Silent,
    })
}

/// A lease that changes hands: to a node, or, when it is buried, to nobody.
struct Change<'a> {
    lease: &'a LeaseName,
    seen: Epoch,
    before: Option<NodeName>,
    to: Option<&'a NodeName>,
    evidence: Evidence,
    cause: Cause,
    reason: &'a str,
    resource: Option<&'a ResourceName>,
    ttl: Millis,
}

impl Change<'_> {
    /// Makes the change, or refuses it because the lease has not run out.
    fn make(&self, transaction: &Transaction<'_>) -> Result<Acquired> {
        let new = Epoch(self.seen.0 + 1);
        // Before anything is committed, for the reason that `expiry` begins with; and before
        // anything is written, so that a refusal leaves nothing behind.
        if let Err(left) = self.claim(transaction, new)? {
            let holder = self.before.as_ref().map_or("nobody", NodeName::as_str);
            return Ok(Acquired::Refused(format!(
                "{} is held by {holder} at epoch {}, its lease runs out in {left}",
                self.lease, self.seen
            )));
        }
        let connection = transaction.connection;
        let lease = self.lease.to_string();
        let to = self.to.map(NodeName::as_str);
        let (cause, reason) = (self.cause.as_str(), self.reason);
        let (epoch, now) = (signed(new.0), transaction.now.0);
        run(connection, sql!("acquire"), params![lease, epoch, to, now, cause, reason])?;
        let before = self.before.as_ref().map(NodeName::as_str);
        let evidence = self.evidence.as_str();
        let resource = self.resource.map(ResourceName::as_str);
        let entry = params![lease, epoch, to, before, evidence, cause, reason, now, resource];
        run(connection, sql!("acquire_history"), entry)?;
        give_back(transaction, &lease)?;
        // An owner that takes its own group again has moved nothing.
        let moved = self.before.as_ref() != self.to;
        if let (LeaseName::Group(group), Some(to), true) = (self.lease, to, moved) {
            run(connection, sql!("acquire_moved"), params![group.as_str(), to])?;
        }
        transaction.wake(Topic::Cluster);
        fail::fail_point!("sqlite_claimed", |_| Err(StoreError::Unavailable("failpoint".into())));
        Ok(Acquired::Granted(Granted { epoch: new, evidence: self.evidence }))
    }

    /// Ends the renewals of the epoch before. Answers how long it still has if that counts.
    fn claim(
        &self,
        transaction: &Transaction<'_>,
        new: Epoch,
    ) -> Result<std::result::Result<(), Millis>> {
        let expiry = &transaction.beside.expiry;
        let unexpired = match self.evidence {
            Evidence::Silent => Unexpired::Respect,
            _ => Unexpired::Override,
        };
        let Some(holder) = self.to.or(self.before.as_ref()) else { return Ok(Ok(())) };
        let expires_at = boot_now().after(self.ttl);
        let entry = Entry { epoch: new, holder: holder.clone(), expires_at };
        let claimed = expiry.claim(self.lease, self.seen, &entry, unexpired)?;
        if claimed.is_ok() && self.to.is_none() {
            expiry.vacate(self.lease, new)?;
        }
        Ok(claimed)
    }
}

/// Makes ready again what a lease held.
fn give_back(transaction: &Transaction<'_>, lease: &str) -> Result<()> {
    if run(transaction.connection, sql!("acquire_requeue"), [lease])? > 0 {
        transaction.wake(Topic::Work);
    }
    Ok(())
}

pub(super) fn release(
    transaction: &Transaction<'_>,
    node: &NodeName,
    release: &Release,
) -> Result<()> {
    let connection = transaction.connection;
    let lease = release.lease.to_string();
    let (epoch, now) = (signed(release.epoch.0), transaction.now.0);
    let (cause, reason) = (release.cause.as_str(), &release.reason);
    let offered_to = release.offered_to.as_ref().map(NodeName::as_str);
    let row = params![lease, epoch, node.as_str(), now, cause, reason, offered_to];
    if run(connection, sql!("release"), row)? == 0 {
        return match judged(transaction, &release.lease)? {
            // It was released already, and the answer got lost.
            Some((at, None)) if at == release.epoch => Ok(()),
            _ => Err(StoreError::Fenced { lease: release.lease.clone(), epoch: release.epoch }),
        };
    }
    let nobody: Option<&str> = None;
    let evidence = Evidence::Vacated.as_str();
    let resource = release.resource.as_ref().map(ResourceName::as_str);
    let entry =
        params![lease, epoch, nobody, node.as_str(), evidence, cause, reason, now, resource];
    run(connection, sql!("acquire_history"), entry)?;
    give_back(transaction, &lease)?;
    transaction.wake(Topic::Cluster);
    transaction.vacate_when_committed(&release.lease, release.epoch);
    Ok(())
}

/// Forgets a node that is gone. Whether it still lives is seen by the claim of its lease.
pub(super) fn evict(transaction: &Transaction<'_>, node: &NodeName, by: &str) -> Result<()> {
    let lease = LeaseName::Node(node.clone());
    let Some((epoch, holder)) = judged(transaction, &lease)? else {
        return Err(StoreError::Refused(format!("no node {node} ever joined this cluster")));
    };
    let connection = transaction.connection;
    let held = rows(connection, sql!("evict_held"), [node.as_str()], |row| get::<String>(row, 0))?;
    if let Some(first) = held.first() {
        return Err(StoreError::Refused(format!(
            "{node} still holds {} lease(s), {first} first; others take them as soon as they may, \
             or move them",
            held.len()
        )));
    }
    if holder.is_some() {
        let evidence = evidence_of(transaction, node)?;
        let reason = format!("{node} was evicted by {by}");
        if let Acquired::Refused(why) =
            vacate(transaction, &lease, epoch, holder, evidence, &reason)?
        {
            return Err(StoreError::Refused(format!(
                "{node} may be alive ({why}); stop it first, or wait"
            )));
        }
    }
    run(connection, sql!("evict"), [node.as_str()])?;
    run(connection, sql!("evict_orders"), [node.as_str()])?;
    run(connection, sql!("evict_reports"), [node.as_str()])?;
    transaction.wake(Topic::Cluster);
    Ok(())
}

pub(super) fn request_move(transaction: &Transaction<'_>, request: &MoveRequest) -> Result<()> {
    let MoveRequest { group, to, by, at: _ } = request;
    let to = to.as_ref().map(NodeName::as_str);
    let row = params![group.as_str(), to, by, transaction.now.0];
    run(transaction.connection, sql!("request_move"), row)?;
    transaction.wake(Topic::Cluster);
    Ok(())
}

pub(super) fn drop_move(
    transaction: &Transaction<'_>,
    group: &GroupName,
    asked_at: Timestamp,
) -> Result<()> {
    run(transaction.connection, sql!("drop_move"), params![group.as_str(), asked_at.0])?;
    transaction.wake(Topic::Cluster);
    Ok(())
}
