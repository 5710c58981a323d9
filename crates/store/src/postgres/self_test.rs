//! Tries the fence of a real server, with the statements that Baton uses, in a schema of its own.
//!
//! The traps are those that were measured on other recipes: a stale owner writes after a takeover;
//! its transaction is still open when the takeover comes; it begins one while the takeover is not
//! committed yet. Nothing here touches the tables of the cluster, its locks or its hints: leases,
//! nodes and messages are those of the scratch schema, whose node ids begin where no real one is.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::AcquireRequest;
use model::{BodyId, Cause, Context, Epoch, Evidence, LeaseName, MessageId, Millis, NodeName};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Postgres;
use super::lease::BEGIN_TAKEOVER;
use super::transaction::{Database, Step, step};
use crate::examine::Found;
use crate::{
    Acquired, Body, Fence, FenceToken, NewMessage, NodeFacts, Options, PublishBatch, Result,
    Staged, StoreError,
};

/// The schema of examine_make.sql; whoever has its turn (examine_turn.sql) may drop it.
const SCRATCH: &str = "baton_examine";

/// How long another examination is waited for, and how often it is looked whether it has ended.
const TURN_LIMIT: Duration = Duration::from_secs(10);
const TURN_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The scratch schema is dropped within this: its only users have been closed just before.
const DROP_LIMIT: &str = "SET lock_timeout = '5s'";

/// A lease that runs out at once, and a node that does not within the test.
const TTL: Millis = Millis(20);
const NODE_TTL: Millis = Millis::minutes(1);

/// Longest wait for a takeover, and for a publish to be seen waiting for one.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(5);
const WAITING_LIMIT: Duration = Duration::from_secs(1);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// Node ids of a scratch schema begin at this plus a random number as large: so many nodes never
/// joined a cluster.
const NODE_IDS: i64 = 1 << 29;

const SOURCE: &str = "baton examination";

impl Postgres {
    pub(super) async fn try_fence(&self) -> Result<Found> {
        let told = |error: &tokio_postgres::Error| self.database.error(error);
        let client = self.database.connector.connect_apart().await.map_err(|error| told(&error))?;
        let turn = include_str!("../../sql/postgres/examine_turn.sql");
        let deadline = Instant::now() + TURN_LIMIT;
        while !client.query_one(turn, &[]).await.map_err(|error| told(&error))?.get::<_, bool>(0) {
            if Instant::now() > deadline {
                return Ok(Found::not_applicable("another examination tries the fence just now"));
            }
            tokio::time::sleep(TURN_AGAIN_AFTER).await;
        }
        let drop = include_str!("../../sql/postgres/examine_drop.sql");
        let make = include_str!("../../sql/postgres/examine_make.sql");
        let made = async {
            client.batch_execute(DROP_LIMIT).await?;
            client.batch_execute(drop).await?;
            client.batch_execute(make).await
        };
        if let Err(error) = made.await {
            return match error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
                true => Ok(Found::warning(
                    "the fence was not tried: this user may not make a schema for it",
                    "GRANT CREATE ON DATABASE ... TO the user of the store's URL",
                )),
                false => Err(told(&error)),
            };
        }
        let tried = self.try_in_scratch().await;
        // Whatever came out, nothing stays behind.
        client.batch_execute(drop).await.map_err(|error| told(&error))?;
        tried
    }

    async fn try_in_scratch(&self) -> Result<Found> {
        let options = Options {
            application: format!("examination by {}", self.options.application),
            connections_max: 2,
            ..self.options.clone()
        };
        let a = Party::join(&options, "a").await?;
        let b = Party::join(&options, "b").await?;
        let lease: LeaseName = LeaseName::Group(
            "examined".parse().map_err(|error| StoreError::Corrupt(format!("{error}")))?,
        );
        let trial = Trial { a, b, lease };
        let ended_in = match trial.run().await? {
            Ok(ended_in) => ended_in,
            Err(hole) => {
                return Ok(Found::failed(
                    format!("the fence has a hole: {hole}"),
                    "stop the nodes, and report this with the version of PostgreSQL",
                ));
            }
        };
        let altered = self.altered_functions(&trial.a).await?;
        if !altered.is_empty() {
            return Ok(Found::failed(
                format!("functions of the schema were altered: {}", altered.join(", ")),
                "restore them from the migrations of this version of Baton",
            ));
        }
        Ok(Found::passed(format!(
            "a stale owner's write was refused after a takeover and during one, and a transaction \
             that it had open was ended within {ended_in:.0?}; tried in a schema of its own"
        )))
    }

    /// Functions of the cluster's schema that are not those of this version.
    async fn altered_functions(&self, scratch: &Party) -> Result<Vec<String>> {
        let sql = include_str!("../../sql/postgres/examine_functions.sql");
        let ours = self.database.query(sql, &[]).await?;
        let expected = scratch.store.database.query(sql, &[]).await?;
        let digest = |name: &str| {
            let row = ours.iter().find(|row| row.get::<_, &str>("name") == name);
            row.map(|row| row.get::<_, &str>("digest"))
        };
        Ok(expected
            .iter()
            .map(|row| (row.get::<_, &str>("name"), row.get::<_, &str>("digest")))
            .filter(|(name, expected)| digest(name) != Some(*expected))
            .map(|(name, _)| name.to_owned())
            .collect())
    }
}

/// Refuses to go on in another schema than the one meant: a pooler may drop what we asked for.
pub(super) async fn ensure_it_is_in(database: &Database, schema: &str) -> Result<()> {
    let sql = include_str!("../../sql/postgres/examine_schema.sql");
    let rows = database.query(sql, &[]).await?;
    match rows.first().is_some_and(|row| row.get::<_, &str>(0) == schema) {
        true => Ok(()),
        false => Err(StoreError::Refused(format!(
            "sessions do not begin in the schema {schema} as they were asked to: is there a pooler \
             in between?"
        ))),
    }
}

/// A node of the scratch schema.
struct Party {
    store: Postgres,
    name: NodeName,
}

impl Party {
    async fn join(options: &Options, name: &str) -> Result<Party> {
        let name: NodeName = name.parse().map_err(|e| StoreError::Corrupt(format!("{e}")))?;
        let store = Postgres::open(options, Some(SCRATCH)).await?;
        let id =
            NODE_IDS + (Uuid::now_v7().as_u64_pair().1 % NODE_IDS.cast_unsigned()).cast_signed();
        let ids = include_str!("../../sql/postgres/examine_ids.sql");
        store.database.query(ids, &[&id]).await?;
        store.join_as(&name, &NodeFacts::default(), NODE_TTL).await?;
        Ok(Party { store, name })
    }

    /// Takes the lease when it has run out.
    async fn take(&self, lease: &LeaseName, seen: Epoch) -> Result<Fence> {
        let request = AcquireRequest {
            lease: lease.clone(),
            seen_epoch: seen,
            cause: Cause::NodeLost,
            reason: "an examination".to_owned(),
            resource: None,
            external: false,
        };
        let deadline = Instant::now() + TAKEOVER_LIMIT;
        loop {
            match self.store.acquire_lease(&self.name, &request, TTL).await? {
                Acquired::Granted(granted) => return self.fence(lease, granted.epoch).await,
                Acquired::Refused(why) if Instant::now() > deadline => {
                    return Err(StoreError::Unavailable(why));
                }
                Acquired::Refused(_) => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
            }
        }
    }

    async fn fence(&self, lease: &LeaseName, epoch: Epoch) -> Result<Fence> {
        let token = FenceToken { lease: lease.clone(), epoch, holder: self.name.clone() };
        self.store.fence_of(&token).await
    }

    /// Whether a publish under a stale fence is refused and leaves nothing.
    async fn is_fenced_off(&self, fence: &Fence, key: &str) -> Result<bool> {
        let message = NewMessage {
            id: MessageId(Uuid::now_v7()),
            publisher: SOURCE.to_owned(),
            context: Context::default(),
            body: Body::Memory(Bytes::from_static(b"stale")),
            receipt: Some((SOURCE.to_owned(), key.to_owned())),
            routes: Vec::new(),
        };
        let batch = PublishBatch { definitions_version: 0, messages: [message].into() };
        match self.store.publish_batch(fence, &batch).await {
            Err(StoreError::Fenced { .. }) => {
                Ok(self.store.receipts_of(SOURCE, &[key.to_owned()]).await?.is_empty())
            }
            Ok(_) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Two nodes and what they take from each other.
struct Trial {
    a: Party,
    b: Party,
    lease: LeaseName,
}

impl Trial {
    /// How long a takeover needed past an open transaction; or the hole that was found.
    async fn run(&self) -> Result<std::result::Result<Duration, &'static str>> {
        let (a, b, lease) = (&self.a, &self.b, &self.lease);
        let first = a.take(lease, Epoch(0)).await?;
        let second = b.take(lease, first.epoch()).await?;
        if !a.is_fenced_off(&first, "after").await? {
            return Ok(Err("an owner wrote after its lease had been taken over"));
        }
        let Some((third, ended_in)) = self.past_an_open_transaction(&second).await? else {
            return Ok(Err("a transaction of the old owner was committed after the takeover"));
        };
        if !self.during_a_takeover(&third).await? {
            return Ok(Err("an owner wrote in a transaction begun during the takeover"));
        }
        Ok(Ok(ended_in))
    }

    /// b has shown its fence and written, and stands still; a takes over.
    async fn past_an_open_transaction(&self, fence: &Fence) -> Result<Option<(Fence, Duration)>> {
        let body = Uuid::now_v7();
        let params: [&(dyn ToSql + Sync); 3] = [&body, &SOURCE, &"open"];
        let write = step(include_str!("../../sql/postgres/stage.sql"), &params);
        let (open, _) = self.b.store.database.begin_fenced(fence, None, &[write]).await?;
        let began = Instant::now();
        let taken = self.a.take(&self.lease, fence.epoch()).await?;
        let took = began.elapsed();
        if open.commit(&[]).await.is_ok() {
            return Ok(None);
        }
        let Staged { body: found, .. } = self.a.store.stage_body(&taken, SOURCE, "open").await?;
        Ok((found != BodyId(body)).then_some((taken, took)))
    }

    /// b has changed the owner and not committed it yet, when a begins to publish.
    async fn during_a_takeover(&self, fence: &Fence) -> Result<bool> {
        let name = self.lease.to_string();
        let (seen, ttl) = (fence.epoch().0.cast_signed(), TTL.0.cast_signed());
        let (by, before) = (self.b.name.as_str(), self.a.name.as_str());
        let (cause, evidence) = (Cause::NodeLost.as_str(), Evidence::Silent.as_str());
        let (reason, guarded) = ("an examination", false);
        let (judged, resource): (Option<i64>, Option<&str>) = (None, None);
        let of_lease: [&(dyn ToSql + Sync); 1] = [&name];
        let change: [&(dyn ToSql + Sync); 11] = [
            &name, &seen, &by, &ttl, &cause, &reason, &guarded, &judged, &before, &evidence,
            &resource,
        ];
        let steps = [
            Step { sql: include_str!("../../sql/postgres/acquire_lock.sql"), params: &of_lease },
            Step { sql: include_str!("../../sql/postgres/acquire.sql"), params: &change },
        ];
        let leases = &self.b.store.leases;
        let begun = leases.begin(BEGIN_TAKEOVER, &steps).await?;
        let (transaction, _) = begun.map_err(|error| leases.error(&error))?;
        let commit = async {
            self.until_somebody_waits(&name).await?;
            transaction.commit(&[]).await
        };
        let (fenced, committed) = tokio::join!(self.a.is_fenced_off(fence, "during"), commit);
        committed?;
        fenced
    }

    async fn until_somebody_waits(&self, lease: &str) -> Result<()> {
        let sql = include_str!("../../sql/postgres/examine_waiting.sql");
        let deadline = Instant::now() + WAITING_LIMIT;
        while Instant::now() < deadline {
            let rows = self.b.store.database.query(sql, &[&lease]).await?;
            if rows.first().is_some_and(|row| row.get::<_, i64>(0) > 0) {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        // When nobody does, the publish was committed already, which will be seen.
        Ok(())
    }
}
