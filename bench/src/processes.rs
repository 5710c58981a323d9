//! How long writers of several processes wait for each other, and whether a lease is lost by it;
//! on SQLite beside as many processes that write to a bare file and rely on its busy handler.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, TransactionBehavior};
use serde_json::{Value, json};
use store::{Fence, Store};

use crate::messages::{TTL, batch, open, own};
use crate::rig::{Engine, Storage};

/// Processes that publish at the same time.
const PROCESSES: usize = 8;

/// How long they do.
const RUN: Duration = Duration::from_secs(10);

/// Messages in each of their transactions.
const BATCH: usize = 10;

/// Makes copies of this program publish, and prints a line.
pub fn measure(engine: Engine) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let storage = Storage::of(engine, folder.path())?;
    let ours = all(&storage.url)?;
    let bare = match engine {
        Engine::Sqlite => Some(all(&folder.path().join("bare.db").display().to_string())?),
        Engine::Postgres => None,
    };
    let of = |reports: &[Value], name: &str| -> Vec<f64> {
        reports.iter().filter_map(|report| report[name].as_f64()).collect()
    };
    let most = |numbers: Vec<f64>| numbers.into_iter().fold(0.0, f64::max);
    let rate = |reports: &[Value]| {
        (of(reports, "messages").iter().sum::<f64>() / RUN.as_secs_f64()).round()
    };
    println!(
        "{}",
        json!({
            "figure": "processes", "store": format!("{engine:?}"), "processes": PROCESSES,
            "batch": BATCH, "seconds": RUN.as_secs(), "per_second": rate(&ours),
            "worst_wait_ms": most(of(&ours, "worst_ms")), "p99_wait_ms": most(of(&ours, "p99_ms")),
            "worst_renewal_ms": most(of(&ours, "worst_renewal_ms")),
            "leases_lost": of(&ours, "lost").iter().sum::<f64>(),
            "bare_per_second": bare.as_deref().map(rate),
            "bare_worst_wait_ms": bare.map(|bare| most(of(&bare, "worst_ms"))),
        })
    );
    Ok(())
}

/// Starts the processes and reads what each reports.
fn all(place: &str) -> Result<Vec<Value>> {
    let this = std::env::current_exe()?;
    let start = |number: usize| {
        let name = format!("n{number}");
        Command::new(&this).args(["publish-as", place, &name]).stdout(Stdio::piped()).spawn()
    };
    let children: Vec<_> = (0..PROCESSES).map(start).collect::<std::io::Result<_>>()?;
    let mut reports = Vec::new();
    for child in children {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "a process failed: {output:?}");
        reports.push(serde_json::from_slice(&output.stdout).context("a report")?);
    }
    Ok(reports)
}

/// One of the processes: a URL is a store, anything else a bare file of SQLite.
pub fn publish_as(place: &str, name: &str) -> Result<()> {
    let report = if place.contains(':') {
        tokio::runtime::Runtime::new()?.block_on(publish_into_store(place, name))
    } else {
        publish_into_file(place)?
    };
    println!("{report}");
    Ok(())
}

async fn publish_into_store(url: &str, node: &str) -> Value {
    let store = open(url, node).await;
    let fence = own(store.as_ref(), node, node).await;
    let stop = Instant::now() + RUN;
    let (waits, (lost, worst_renewal)) = tokio::join!(
        publish_until(store.as_ref(), &fence, stop),
        renew_until(&store, &fence, stop)
    );
    let mut report = report(waits);
    report["lost"] = lost.into();
    report["worst_renewal_ms"] = ((worst_renewal.as_secs_f64() * 1e4).round() / 10.0).into();
    report
}

fn publish_into_file(path: &str) -> Result<Value> {
    let mut database = Connection::open(path)?;
    database.busy_timeout(RUN * 6)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database
        .execute_batch("CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, body BLOB)")?;
    let body = vec![7_u8; 1024];
    let stop = Instant::now() + RUN;
    let mut waits = Vec::new();
    while Instant::now() < stop {
        let asked_at = Instant::now();
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for _ in 0..BATCH {
            transaction.execute("INSERT INTO bare (body) VALUES (?1)", [&body])?;
        }
        transaction.commit()?;
        waits.push(asked_at.elapsed());
    }
    Ok(report(waits))
}

fn report(mut waits: Vec<Duration>) -> Value {
    waits.sort();
    let at = |share: f64| {
        let place = (waits.len().saturating_sub(1) as f64 * share) as usize;
        waits.get(place).map_or(0.0, |wait| (wait.as_secs_f64() * 1e3).round())
    };
    json!({ "messages": waits.len() * BATCH, "p99_ms": at(0.99), "worst_ms": at(1.0) })
}

async fn publish_until(store: &dyn Store, fence: &Fence, stop: Instant) -> Vec<Duration> {
    let mut waits = Vec::new();
    while Instant::now() < stop {
        let batch = batch(BATCH);
        let asked_at = Instant::now();
        store.publish(fence, &batch).await.expect("published");
        waits.push(asked_at.elapsed());
    }
    waits
}

async fn renew_until(store: &Arc<dyn Store>, fence: &Fence, stop: Instant) -> (usize, Duration) {
    let held = [(fence.lease().clone(), fence.epoch())];
    let (mut lost, mut worst) = (0, Duration::ZERO);
    while Instant::now() < stop {
        let asked_at = Instant::now();
        lost += store.renew(fence.holder(), &held, TTL).await.expect("answered").len();
        worst = worst.max(asked_at.elapsed());
        tokio::time::sleep(TTL.as_duration() / 40).await;
    }
    (lost, worst)
}
