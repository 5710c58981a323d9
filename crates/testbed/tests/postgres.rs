//! PostgreSQL starts for real, loses nothing in a crash, and makes databases.

use std::env;

use testbed::{Postgres, Shutdown, or_skip, psql};

#[test]
fn what_was_committed_survives_an_immediate_stop() {
    let Some(mut postgres) = or_skip(Postgres::start()) else {
        return;
    };
    postgres.create_database("ledger").expect("a new database");
    let url = postgres.url("ledger");
    psql(&url, "CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)")
        .expect("rows");
    assert_eq!(psql(&url, "SHOW fsync").expect("a setting").trim(), "on");

    postgres.restart(Shutdown::Immediate).expect("recovery");
    assert_eq!(psql(&url, "SELECT count(*) FROM t").expect("rows").trim(), "1000");

    postgres.stop(Shutdown::Fast).expect("a stop");
    assert!(psql(&url, "SELECT 1").is_err(), "a stopped server must not answer");
    postgres.restart(Shutdown::Fast).expect("a start");
    assert_eq!(psql(&url, "SELECT 1").expect("an answer").trim(), "1");
}

#[test]
fn each_fresh_database_is_empty_and_another_one() {
    let Some(first) = or_skip(testbed::fresh_database()) else {
        return;
    };
    let second = testbed::fresh_database().expect("a second database");
    assert_ne!(first, second);
    psql(&first, "CREATE TABLE t (n int)").expect("a table");
    assert!(psql(&second, "SELECT * FROM t").is_err(), "databases must not share tables");
}

#[test]
fn the_shared_server_outlives_the_thread_that_started_it() {
    if env::var(testbed::POSTGRES_URL_VARIABLE).is_ok() {
        // `cargo xtask test` has one server for the whole run; there is no shared one to start.
        return;
    }
    let first = std::thread::spawn(testbed::fresh_database).join().expect("no panic");
    let Some(url) = or_skip(first) else { return };
    assert_eq!(psql(&url, "SELECT 1").expect("an answer").trim(), "1");
}

#[test]
fn two_databases_of_one_name_are_refused() {
    let Some(postgres) = or_skip(Postgres::start()) else {
        return;
    };
    postgres.create_database("a\"b").expect("an awkward name");
    let refusal = postgres.create_database("a\"b").expect_err("the name is taken");
    assert!(format!("{refusal:#}").contains("already exists"), "{refusal:#}");
}
