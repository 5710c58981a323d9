//! What the store's API costs over bare SQL, and how long writers of several processes wait.
//!
//! `cargo bench -p store --bench store_api -- sqlite|postgres [URL]` prints a line of JSON for
//! each figure. Without a URL SQLite gets a temporary folder, PostgreSQL a server of the test bed.
//! Numbers of one run are comparable with each other; those of two machines are not.

mod bare_postgres;
mod bare_sqlite;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bare_postgres::{Load, Worker};
use cluster::AcquireRequest;
use model::{Cause, Context, Epoch, LeaseName, MessageId, Millis, NodeName};
use serde_json::json;
use store::{
    Acquired, Body, Fence, FenceToken, NewMessage, NodeFacts, Options, Outcome, PublishBatch,
    Route, Settlement, Store, Topic,
};

/// The load of the anchors: 1 KiB, a hundred in a transaction.
const LOAD: Load = Load { messages: 40_000, body_bytes: 1024, batch: 100 };
/// Rounds of each figure; the median is printed, and the worst.
const ROUNDS: usize = 3;
/// Processes that publish at the same time.
const PROCESSES: usize = 8;
/// How long they do.
const PROCESSES_RUN: Duration = Duration::from_secs(10);
/// Messages in each of their transactions.
const PROCESSES_BATCH: usize = 10;
/// Tasks that publish single messages through one `Store`.
const TASKS: usize = 32;
/// Single messages of each task.
const TASK_MESSAGES: usize = 300;
/// The default ttl of a node.
const TTL: Millis = Millis::seconds(3);
/// Makes a copy of this program one of the processes that publish.
const ROLE: &str = "BATON_BENCH_NODE";

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // `cargo bench` adds options of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with("--")).collect();
    let Some(engine) = words.first() else {
        eprintln!("usage: cargo bench -p store --bench store_api -- sqlite|postgres [URL]");
        return;
    };
    let url = words.get(1).cloned();
    if let Ok(node) = std::env::var(ROLE) {
        runtime.block_on(publish_as(&url.expect("its parent says"), &node));
        return;
    }
    match engine.as_str() {
        "sqlite" => {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let ours = format!("sqlite:{}", folder.path().join("baton.db").display());
            let url = url.unwrap_or(ours);
            let beside = format!("{}.bare", url.trim_start_matches("sqlite:"));
            let bare = Bare::Sqlite(PathBuf::from(beside));
            runtime.block_on(run(engine, &url, &bare));
        }
        "postgres" => {
            let url = url.or_else(|| testbed::or_skip(testbed::fresh_database()));
            let Some(url) = url else { return };
            runtime.block_on(run(engine, &url, &Bare::Postgres(url.clone())));
        }
        other => eprintln!("{other:?} is no engine: sqlite or postgres"),
    }
}

/// What the API is compared with.
enum Bare {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Bare {
    async fn messages_per_second(&self) -> f64 {
        match self {
            Bare::Sqlite(path) => {
                let path: &Path = path;
                tokio::task::block_in_place(|| bare_sqlite::messages_per_second(path, LOAD))
            }
            Bare::Postgres(url) => {
                bare_postgres::messages_per_second(url, LOAD, Worker::HoldsThenDeletes).await
            }
        }
    }
}

async fn run(engine: &str, url: &str, bare: &Bare) {
    let store = open(url, "bench").await;
    let fence = own(store.as_ref(), "bench", "bench").await;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let sequential = one_after_the_other(store.as_ref(), &fence).await;
        let concurrent = at_the_same_time(&store, &fence).await;
        rounds.push((bare.messages_per_second().await, sequential, concurrent));
    }
    for (figure, ours) in [
        ("publish_take_settle_in_turn", rounds.iter().map(|round| round.1).collect::<Vec<_>>()),
        ("publish_take_settle_at_once", rounds.iter().map(|round| round.2).collect()),
    ] {
        let bare = median(rounds.iter().map(|round| round.0).collect());
        let ours = median(ours);
        let ratio = (ours / bare * 100.0).round() / 100.0;
        print(json!({
            "figure": figure, "engine": engine, "messages": LOAD.messages,
            "body_bytes": LOAD.body_bytes, "batch": LOAD.batch,
            "ours_per_second": ours.round(), "bare_per_second": bare.round(), "ratio": ratio,
        }));
    }
    single_messages(engine, &store, &fence).await;
    several_processes(engine, url).await;
}

fn print(line: serde_json::Value) {
    println!("{line}");
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

async fn open(url: &str, application: &str) -> Arc<dyn Store> {
    store::open(&Options::new(url, application)).await.expect("the store opens")
}

/// Joins as a node and takes the group of the same name.
async fn own(store: &dyn Store, node: &str, group: &str) -> Fence {
    let node: NodeName = node.parse().expect("a node name");
    let facts = NodeFacts { pid: std::process::id(), ..NodeFacts::default() };
    store.join(&node, &facts, TTL).await.expect("the name is free");
    let lease: LeaseName = format!("group/{group}").parse().expect("a lease name");
    let seen = store.snapshot().await.expect("read");
    let seen = seen.leases.iter().find(|view| view.lease == lease);
    let request = AcquireRequest {
        lease: lease.clone(),
        seen_epoch: seen.map_or(Epoch(0), |view| view.epoch),
        cause: Cause::Start,
        reason: "a bench".into(),
    };
    match store.acquire(&node, &request, TTL).await.expect("the store answers") {
        Acquired::Granted(granted) => {
            let token = FenceToken { lease, epoch: granted.epoch, holder: node };
            store.fence(&token).await.expect("it is current")
        }
        Acquired::Refused(why) => panic!("{why}"),
    }
}

fn batch(messages: usize) -> PublishBatch {
    let body = bytes::Bytes::from(vec![7; LOAD.body_bytes]);
    let message = |_| {
        let mut context = Context::default();
        context.set("FILE.ReceivedFileName", "order-4711.xml");
        context.set("BTS.ReceivePortName", "orders");
        NewMessage {
            id: MessageId(uuid::Uuid::now_v7()),
            publisher: "bench".into(),
            context,
            body: Body::Memory(body.clone()),
            receipt: None,
            routes: vec![Route { port: "archive".into(), host: "sender".into() }],
        }
    };
    PublishBatch { definitions_version: 0, messages: (0..messages).map(message).collect() }
}

/// The whole load, made before the clock starts, as the bare script's is.
fn batches() -> Vec<PublishBatch> {
    (0..LOAD.messages / LOAD.batch).map(|_| batch(LOAD.batch)).collect()
}

async fn take_and_settle(store: &dyn Store, fence: &Fence) -> usize {
    let work = store.take(fence, "sender", LOAD.batch).await.expect("taken");
    let done: Vec<_> =
        work.iter().map(|work| Settlement { work: work.id, outcome: Outcome::Done }).collect();
    if !done.is_empty() {
        store.settle(fence, &done).await.expect("settled");
    }
    done.len()
}

/// One caller publishes, takes and settles in turn.
async fn one_after_the_other(store: &dyn Store, fence: &Fence) -> f64 {
    let batches = batches();
    let begin = Instant::now();
    let mut left = LOAD.messages;
    for batch in &batches {
        store.publish(fence, batch).await.expect("published");
        left -= take_and_settle(store, fence).await;
    }
    assert_eq!(left, 0, "a take is as large as a publish");
    LOAD.messages as f64 / begin.elapsed().as_secs_f64()
}

/// A publisher and a worker at the same time.
async fn at_the_same_time(store: &Arc<dyn Store>, fence: &Fence) -> f64 {
    let batches = batches();
    let begin = Instant::now();
    let publish = async {
        for batch in &batches {
            store.publish(fence, batch).await.expect("published");
        }
    };
    let send = async {
        let mut wakes = store.subscribe(Topic::Work);
        let mut left = LOAD.messages;
        while left > 0 {
            let done = take_and_settle(store.as_ref(), fence).await;
            left -= done;
            if done == 0 {
                // The hint may have come before we asked; the poll is the truth.
                tokio::time::timeout(Duration::from_millis(5), wakes.next()).await.ok();
            }
        }
    };
    tokio::join!(publish, send);
    LOAD.messages as f64 / begin.elapsed().as_secs_f64()
}

/// Many tasks publish one message at a time: what sharing a commit gains.
async fn single_messages(engine: &str, store: &Arc<dyn Store>, fence: &Fence) {
    let one_by_one = async || {
        for _ in 0..TASK_MESSAGES {
            store.publish(fence, &batch(1)).await.expect("published");
        }
    };
    let begin = Instant::now();
    one_by_one().await;
    let alone = TASK_MESSAGES as f64 / begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    futures_util::future::join_all((0..TASKS).map(|_| one_by_one())).await;
    let together = (TASKS * TASK_MESSAGES) as f64 / begin.elapsed().as_secs_f64();
    print(json!({
        "figure": "publish_single_messages", "engine": engine, "tasks": TASKS,
        "one_task_per_second": alone.round(), "all_tasks_per_second": together.round(),
    }));
}

/// Several processes publish at the same time, each with a lease of its own that it renews.
async fn several_processes(engine: &str, url: &str) {
    let this = std::env::current_exe().expect("a program");
    let children: Vec<_> = (0..PROCESSES)
        .map(|number| {
            Command::new(&this)
                .args([engine, url])
                .env(ROLE, format!("n{number}"))
                .stdout(Stdio::piped())
                .spawn()
                .expect("it starts")
        })
        .collect();
    let mut reports = Vec::new();
    for child in children {
        let output = child.wait_with_output().expect("our child");
        assert!(output.status.success(), "a process failed: {output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
        reports.push(report);
    }
    let of = |name: &'static str| {
        reports.iter().map(move |report| report[name].as_f64().unwrap_or(f64::NAN))
    };
    print(json!({
        "figure": "processes_publish", "engine": engine, "processes": PROCESSES,
        "batch": PROCESSES_BATCH, "seconds": PROCESSES_RUN.as_secs(),
        "per_second": (of("messages").sum::<f64>() / PROCESSES_RUN.as_secs_f64()).round(),
        "fewest": of("messages").fold(f64::INFINITY, f64::min),
        "most": of("messages").fold(0.0, f64::max),
        "p99_wait_ms": of("p99_ms").fold(0.0, f64::max),
        "worst_wait_ms": of("worst_ms").fold(0.0, f64::max),
        "worst_renewal_ms": of("worst_renewal_ms").fold(0.0, f64::max),
        "leases_lost": of("lost").sum::<f64>(),
    }));
}

/// One of the processes that publish.
async fn publish_as(url: &str, node: &str) {
    let store = open(url, node).await;
    let fence = own(store.as_ref(), node, node).await;
    let stop = Instant::now() + PROCESSES_RUN;
    let ((messages, mut waits), (lost, worst_renewal)) = tokio::join!(
        publish_until(store.as_ref(), &fence, stop),
        renew_until(&store, &fence, stop)
    );
    waits.sort();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    print(json!({
        "messages": messages, "p99_ms": at(0.99).round(), "worst_ms": at(1.0).round(),
        "lost": lost, "worst_renewal_ms": (worst_renewal.as_secs_f64() * 1e4).round() / 10.0,
    }));
}

async fn publish_until(store: &dyn Store, fence: &Fence, stop: Instant) -> (usize, Vec<Duration>) {
    let (mut messages, mut waits) = (0, Vec::new());
    while Instant::now() < stop {
        let batch = batch(PROCESSES_BATCH);
        let asked_at = Instant::now();
        store.publish(fence, &batch).await.expect("published");
        waits.push(asked_at.elapsed());
        messages += PROCESSES_BATCH;
    }
    (messages, waits)
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
