//! Transactions: one round trip where possible, and no connection goes back with one open.
//!
//! The statements of a transaction are sent one after the other without waiting for answers: the
//! futures are polled together in order, and each sends its request when it is first polled. After
//! an error the server refuses the rest (25P02) and COMMIT rolls back, so the first error is the
//! one that counts, and when there is none the COMMIT has committed.

use std::ops::Deref;

use deadpool_postgres::{ClientWrapper, Manager, ManagerConfig, Object, Pool, PoolError};
use deadpool_postgres::{RecyclingMethod, Runtime, Timeouts};
use futures_util::future::{join, join_all};
use model::Millis;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::connect::Connector;
use super::error::{fenced_error, leaves_connection_usable, store_error, too_slow};
use crate::{Fence, Options, Result, StoreError};

/// `join_all` polls in order up to this many futures; beyond it makes no promise.
pub(crate) const STEPS_MAX: usize = 30;

/// A COMMIT must not be cut short by statement_timeout: with a synchronous standby that is away the
/// server would answer success for what is on one disk only. We stop waiting instead, and say that
/// the outcome is unknown.
const COMMIT: &str = "SET LOCAL statement_timeout = 0; COMMIT";

/// A statement and its parameters.
pub(crate) struct Step<'a> {
    pub(crate) sql: &'static str,
    pub(crate) params: &'a [&'a (dyn ToSql + Sync)],
}

/// A statement without parameters that come from variables of their own.
pub(crate) fn step<'a>(sql: &'static str, params: &'a [&'a (dyn ToSql + Sync)]) -> Step<'a> {
    Step { sql, params }
}

/// The database, behind a pool of connections.
pub(crate) struct Database {
    /// Who and where, without the password.
    pub(crate) place: String,
    /// Longest wait for one method.
    pub(crate) patience: Millis,
    /// Makes connections outside the pool.
    pub(crate) connector: Connector,
    pool: Pool,
}

impl Database {
    /// A pool of at most so many connections; none is made yet.
    pub(crate) fn new(
        options: &Options,
        connector: Connector,
        connections_max: usize,
    ) -> Result<Database> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(connector.config(), connector.clone(), recycling);
        let patience = Some(options.patience.as_duration());
        let pool = Pool::builder(manager)
            .max_size(connections_max)
            .timeouts(Timeouts { wait: patience, create: patience, recycle: patience })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Refused(format!("no pool of connections: {error}")))?;
        let place = connector.describe();
        Ok(Database { place, patience: options.patience, connector, pool })
    }

    /// Limits the time of a whole method.
    pub(crate) async fn patiently<T>(&self, method: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.patience.as_duration(), method).await {
            Ok(result) => result,
            Err(_) => Err(too_slow(&self.place, self.patience)),
        }
    }

    /// What an error means to the caller.
    pub(crate) fn error(&self, error: &tokio_postgres::Error) -> StoreError {
        store_error(error, &self.place)
    }

    /// A connection from the pool.
    pub(crate) async fn pooled(&self) -> Result<Pooled> {
        match self.pool.get().await {
            Ok(object) => Ok(Pooled { object: Some(object) }),
            Err(PoolError::Backend(error)) => Err(self.error(&error)),
            Err(PoolError::Timeout(_)) => Err(too_slow(&self.place, self.patience)),
            Err(error) => Err(StoreError::Unavailable(format!("{}: {error}", self.place))),
        }
    }

    /// One statement, a transaction of its own.
    pub(crate) async fn query(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let pooled = self.pooled().await?;
        let answer = async {
            let statement = pooled.prepare_cached(sql).await?;
            pooled.query(&statement, params).await
        };
        match answer.await {
            Ok(rows) => {
                pooled.give_back();
                Ok(rows)
            }
            Err(error) => Err(self.failed(pooled, error, |error| self.error(error)).await),
        }
    }

    /// BEGIN, the fence, the steps and COMMIT in one round trip. A step that finds nothing to do
    /// changes nothing; one that must undo others needs [`Database::begin_fenced`].
    pub(crate) async fn fenced(&self, fence: &Fence, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>> {
        self.fenced_and_routed(fence, None, steps).await
    }

    /// The same, if these definitions are in force.
    pub(crate) async fn fenced_and_routed(
        &self,
        fence: &Fence,
        routed_by: Option<u64>,
        steps: &[Step<'_>],
    ) -> Result<Vec<Vec<Row>>> {
        let pooled = self.pooled().await?;
        match exchange_fenced(&pooled, fence, routed_by, steps, Some(COMMIT)).await {
            Ok(rows) => {
                pooled.give_back();
                Ok(rows)
            }
            Err(error) => {
                let told = |error: &_| fenced_error(error, &self.place, fence, routed_by);
                Err(self.failed(pooled, error, told).await)
            }
        }
    }

    /// BEGIN, the fence and the steps in one round trip; the caller goes on and commits.
    pub(crate) async fn begin_fenced(
        &self,
        fence: &Fence,
        routed_by: Option<u64>,
        steps: &[Step<'_>],
    ) -> Result<(Transaction<'_>, Vec<Vec<Row>>)> {
        let pooled = self.pooled().await?;
        match exchange_fenced(&pooled, fence, routed_by, steps, None).await {
            Ok(rows) => Ok((Transaction { database: self, pooled }, rows)),
            Err(error) => {
                let told = |error: &_| fenced_error(error, &self.place, fence, routed_by);
                Err(self.failed(pooled, error, told).await)
            }
        }
    }

    /// Begins a transaction with these words and runs the steps in the same round trip. The error
    /// is the server's, for callers that have an answer to some of them.
    pub(crate) async fn begin(
        &self,
        begin: &str,
        steps: &[Step<'_>],
    ) -> Result<Result<(Transaction<'_>, Vec<Vec<Row>>), tokio_postgres::Error>> {
        let pooled = self.pooled().await?;
        match exchange(&pooled, Some(begin), steps, None).await {
            Ok(rows) => Ok(Ok((Transaction { database: self, pooled }, rows))),
            Err(error) => {
                roll_back(pooled, &error).await;
                Ok(Err(error))
            }
        }
    }

    /// Begins with these words, runs the steps and commits, in one round trip.
    pub(crate) async fn at_once(&self, begin: &str, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>> {
        let pooled = self.pooled().await?;
        match exchange(&pooled, Some(begin), steps, Some(COMMIT)).await {
            Ok(rows) => {
                pooled.give_back();
                Ok(rows)
            }
            Err(error) => Err(self.failed(pooled, error, |error| self.error(error)).await),
        }
    }

    async fn failed(
        &self,
        pooled: Pooled,
        error: tokio_postgres::Error,
        told: impl FnOnce(&tokio_postgres::Error) -> StoreError,
    ) -> StoreError {
        roll_back(pooled, &error).await;
        told(&error)
    }
}

/// A transaction in progress. Dropping it closes its connection, which rolls it back.
pub(crate) struct Transaction<'a> {
    database: &'a Database,
    pooled: Pooled,
}

impl Transaction<'_> {
    /// Runs steps in one round trip. After an error the transaction can only be dropped.
    pub(crate) async fn run(&self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>> {
        let answer = exchange(&self.pooled, None, steps, None).await;
        answer.map_err(|error| self.database.error(&error))
    }

    /// Runs several statements without parameters, for migrations.
    pub(crate) async fn batch(&self, sql: &str) -> Result<()> {
        let done = self.pooled.batch_execute(sql).await;
        done.map_err(|error| self.database.error(&error))
    }

    /// Runs steps and commits in one round trip.
    pub(crate) async fn commit(self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>> {
        match exchange(&self.pooled, None, steps, Some(COMMIT)).await {
            Ok(rows) => {
                self.pooled.give_back();
                Ok(rows)
            }
            Err(error) => {
                let told = |error: &_| self.database.error(error);
                Err(self.database.failed(self.pooled, error, told).await)
            }
        }
    }

    /// Undoes what was done.
    pub(crate) async fn roll_back(self) {
        if self.pooled.batch_execute("ROLLBACK").await.is_ok() {
            self.pooled.give_back();
        }
    }
}

/// A connection lent by the pool. It goes back only by [`Pooled::give_back`]: when a caller's
/// future is dropped half-way, the connection may have a transaction open, and is closed instead.
pub(crate) struct Pooled {
    object: Option<Object>,
}

impl Pooled {
    fn give_back(mut self) {
        drop(self.object.take());
    }
}

impl Deref for Pooled {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        self.object.as_ref().expect("it is only taken by value, in give_back and drop")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

async fn roll_back(pooled: Pooled, error: &tokio_postgres::Error) {
    if leaves_connection_usable(error) && pooled.batch_execute("ROLLBACK").await.is_ok() {
        pooled.give_back();
    }
}

async fn exchange_fenced(
    client: &ClientWrapper,
    fence: &Fence,
    routed_by: Option<u64>,
    steps: &[Step<'_>],
    end: Option<&str>,
) -> Result<Vec<Vec<Row>>, tokio_postgres::Error> {
    let lease = fence.lease().to_string();
    let epoch = fence.epoch().0.cast_signed();
    let holder = fence.holder().as_str();
    let routed_by = routed_by.map(u64::cast_signed);
    let proof: [&(dyn ToSql + Sync); 4] = [&lease, &epoch, &holder, &routed_by];
    let mut all = Vec::with_capacity(steps.len() + 1);
    all.push(match routed_by {
        None => step(include_str!("../../sql/postgres/fence.sql"), &proof[..3]),
        Some(_) => step(include_str!("../../sql/postgres/publish_fence.sql"), &proof),
    });
    all.extend(steps.iter().map(|next| step(next.sql, next.params)));
    let mut rows = exchange(client, Some("BEGIN"), &all, end).await?;
    rows.remove(0);
    Ok(rows)
}

/// Sends everything, then reads the answers; the first error is the answer.
async fn exchange(
    client: &ClientWrapper,
    begin: Option<&str>,
    steps: &[Step<'_>],
    end: Option<&str>,
) -> Result<Vec<Vec<Row>>, tokio_postgres::Error> {
    debug_assert!(steps.len() <= STEPS_MAX);
    // Before BEGIN: a statement that this connection does not know yet costs a round trip.
    let mut statements: Vec<Statement> = Vec::with_capacity(steps.len());
    for next in steps {
        statements.push(client.prepare_cached(next.sql).await?);
    }
    let queries =
        statements.iter().zip(steps).map(|(statement, next)| client.query(statement, next.params));
    let (begun, (answers, ended)) =
        join(simple(client, begin), join(join_all(queries), simple(client, end))).await;
    begun?;
    let rows = answers.into_iter().collect::<Result<_, _>>()?;
    ended?;
    Ok(rows)
}

async fn simple(client: &ClientWrapper, words: Option<&str>) -> Result<(), tokio_postgres::Error> {
    match words {
        Some(words) => client.batch_execute(words).await,
        None => Ok(()),
    }
}
