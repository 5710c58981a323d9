//! The bar for the PostgreSQL engine: the same journey of a message in bare SQL.
//!
//! Publish, take and settle without a fence, receipts, leases, contexts or retries: what the disk
//! and the server allow. One publisher and one worker at the same time, each on a connection of its
//! own with prepared statements, until every message has come through.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// How many messages, how large, how many in a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub messages: usize,
    pub body_bytes: usize,
    pub batch: usize,
}

/// How a worker gets rid of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// It deletes what it takes in one transaction: nothing is held, a crash loses the batch. The
    /// least that a queue can do; a bar to look at, not one to be held against.
    DeletesAtOnce,
    /// It marks what it takes as held, and deletes it in a second transaction: the least that a
    /// queue can do which loses nothing.
    HoldsThenDeletes,
}

const TABLES: &str = "
    DROP TABLE IF EXISTS bare_message, bare_queue;
    CREATE TABLE bare_message (id bigserial PRIMARY KEY, body bytea NOT NULL);
    ALTER TABLE bare_message ALTER COLUMN body SET STORAGE EXTERNAL;
    CREATE TABLE bare_queue (id bigint PRIMARY KEY, held boolean NOT NULL DEFAULT false);
    CREATE INDEX bare_queue_ready ON bare_queue (id) WHERE NOT held;
    ALTER TABLE bare_message SET (
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_cost_delay = 0);
    ALTER TABLE bare_queue SET (
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_cost_delay = 0);";

const PUBLISH: &str = "
    WITH kept AS (
        INSERT INTO bare_message (body) SELECT body FROM unnest($1::bytea[]) AS body RETURNING id
    )
    INSERT INTO bare_queue (id) SELECT id FROM kept";

const DELETE_AT_ONCE: &str = "
    WITH taken AS (
        DELETE FROM bare_queue WHERE id = ANY(ARRAY(
            SELECT id FROM bare_queue ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED))
        RETURNING id
    )
    DELETE FROM bare_message USING taken WHERE bare_message.id = taken.id
    RETURNING bare_message.id, bare_message.body";

const HOLD: &str = "
    WITH taken AS (
        UPDATE bare_queue SET held = true WHERE id = ANY(ARRAY(
            SELECT id FROM bare_queue WHERE NOT held
            ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED))
        RETURNING id
    )
    SELECT taken.id, bare_message.body
    FROM taken JOIN bare_message ON bare_message.id = taken.id";

const SETTLE: &str = "
    WITH settled AS (DELETE FROM bare_queue WHERE id = ANY($1::bigint[]) AND held RETURNING id)
    DELETE FROM bare_message USING settled WHERE bare_message.id = settled.id";

/// Sends the load through and answers messages a second, from the first publish to the last settle.
pub async fn messages_per_second(url: &str, load: Load, worker: Worker) -> f64 {
    let mut drivers = JoinSet::new();
    let publisher = connect(url, &mut drivers).await;
    publisher.batch_execute(TABLES).await.expect("tables");
    let consumer = connect(url, &mut drivers).await;
    let begin = Instant::now();
    tokio::join!(publish(&publisher, load), consume(&consumer, load, worker));
    load.messages as f64 / begin.elapsed().as_secs_f64()
}

async fn connect(url: &str, drivers: &mut JoinSet<()>) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    drivers.spawn(async { connection.await.expect("it lives as long as the bench") });
    client
}

async fn publish(client: &Client, load: Load) {
    let statement = client.prepare(PUBLISH).await.expect("a statement");
    let body = vec![7_u8; load.body_bytes];
    let bodies: Vec<&[u8]> = (0..load.batch).map(|_| body.as_slice()).collect();
    let mut left = load.messages;
    while left > 0 {
        let batch = left.min(load.batch);
        client.execute(&statement, &[&&bodies[..batch]]).await.expect("a publish");
        left -= batch;
    }
}

async fn consume(client: &Client, load: Load, worker: Worker) {
    let take = match worker {
        Worker::DeletesAtOnce => DELETE_AT_ONCE,
        Worker::HoldsThenDeletes => HOLD,
    };
    let take = client.prepare(take).await.expect("a statement");
    let settle = client.prepare(SETTLE).await.expect("a statement");
    let limit = i64::try_from(load.batch).expect("a batch");
    let mut left = load.messages;
    while left > 0 {
        let rows = client.query(&take, &[&limit]).await.expect("work");
        if worker == Worker::HoldsThenDeletes {
            let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            client.execute(&settle, &[&ids]).await.expect("a settle");
        }
        left -= rows.len();
        if rows.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
