//! The bar for the SQLite engine: the same journey of a message in bare SQL.
//!
//! Publish, take and settle without a fence, receipts, leases, contexts or retries, one after the
//! other on one connection: several connections would only stand in each other's way.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};

use crate::bare_postgres::Load;

const TABLES: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    DROP TABLE IF EXISTS bare_message;
    DROP TABLE IF EXISTS bare_queue;
    CREATE TABLE bare_message (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
    CREATE TABLE bare_queue (id INTEGER PRIMARY KEY, held INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX bare_queue_ready ON bare_queue (id) WHERE held = 0;";

const PUBLISH: &str = "INSERT INTO bare_message (body) VALUES (?1)";
const PUBLISH_WORK: &str = "INSERT INTO bare_queue (id) VALUES (?1)";
const TAKE: &str = "
    SELECT bare_queue.id, body FROM bare_queue JOIN bare_message USING (id)
    WHERE held = 0 ORDER BY bare_queue.id LIMIT ?1";
const HOLD: &str = "UPDATE bare_queue SET held = 1 WHERE id = ?1";
const SETTLE: &str = "DELETE FROM bare_queue WHERE id = ?1 AND held = 1";
const SETTLE_MESSAGE: &str = "DELETE FROM bare_message WHERE id = ?1";

/// Sends the load through and answers messages a second.
pub fn messages_per_second(database: &Path, load: Load) -> f64 {
    let connection = Connection::open(database).expect("a connection");
    connection.execute_batch(TABLES).expect("tables");
    let body = vec![7_u8; load.body_bytes];
    let begin = Instant::now();
    let mut left = load.messages;
    while left > 0 {
        let batch = left.min(load.batch);
        publish(&connection, &body, batch);
        let taken = take(&connection, batch);
        assert_eq!(taken.len(), batch);
        settle(&connection, &taken);
        left -= batch;
    }
    load.messages as f64 / begin.elapsed().as_secs_f64()
}

fn publish(connection: &Connection, body: &[u8], batch: usize) {
    execute(connection, "BEGIN IMMEDIATE");
    for _ in 0..batch {
        let mut insert = connection.prepare_cached(PUBLISH).expect("a statement");
        insert.execute([body]).expect("a message");
        let id = connection.last_insert_rowid();
        let mut insert = connection.prepare_cached(PUBLISH_WORK).expect("a statement");
        insert.execute([id]).expect("a row of work");
    }
    execute(connection, "COMMIT");
}

fn take(connection: &Connection, batch: usize) -> Vec<i64> {
    execute(connection, "BEGIN IMMEDIATE");
    let mut take = connection.prepare_cached(TAKE).expect("a statement");
    let limit = params![i64::try_from(batch).expect("a batch")];
    let taken: Vec<(i64, Vec<u8>)> = take
        .query_map(limit, |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("work")
        .collect::<Result<_, _>>()
        .expect("work");
    let mut hold = connection.prepare_cached(HOLD).expect("a statement");
    for (id, _) in &taken {
        hold.execute([id]).expect("it is there");
    }
    execute(connection, "COMMIT");
    taken.into_iter().map(|(id, _)| id).collect()
}

fn settle(connection: &Connection, taken: &[i64]) {
    execute(connection, "BEGIN IMMEDIATE");
    for statement in [SETTLE, SETTLE_MESSAGE] {
        let mut settle = connection.prepare_cached(statement).expect("a statement");
        for id in taken {
            settle.execute([id]).expect("it is there");
        }
    }
    execute(connection, "COMMIT");
}

fn execute(connection: &Connection, statement: &str) {
    let mut statement = connection.prepare_cached(statement).expect("a statement");
    statement.execute([]).expect("it runs");
}
