//! What the store's API costs over bare SQL: publish, take, settle.
//!
//! The bare script of SQLite goes in turn, on one connection, since several would only stand in
//! each other's way; that of PostgreSQL publishes and works at the same time. So those are the
//! ratios of like with like: `in_turn` for SQLite, `at_once` for PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use cluster::AcquireRequest;
use model::{Cause, Context, Epoch, LeaseName, MessageId, Millis, NodeName};
use serde_json::json;
use store::{
    Acquired, Body, Fence, FenceToken, NewMessage, NodeFacts, Options, Outcome, PublishBatch,
    Route, Settlement, Store, Topic,
};

use crate::bare_postgres::{self, Load, Worker};
use crate::bare_sqlite;
use crate::rig::{Engine, Storage};

/// The load of the anchors: 1 KiB, a hundred in a transaction.
const LOAD: Load = Load { messages: 40_000, body_bytes: 1024, batch: 100 };
/// Rounds of each figure; the median is printed, and the worst.
const ROUNDS: usize = 3;
/// Tasks that publish single messages through one `Store`.
const TASKS: usize = 32;
/// Single messages of each task.
const TASK_MESSAGES: usize = 300;
/// The default ttl of a node.
pub const TTL: Millis = Millis::seconds(3);

/// Measures, and prints a line for each figure.
pub fn measure(engine: Engine) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let storage = Storage::of(engine, folder.path())?;
    let bare = match engine {
        Engine::Sqlite => Bare::Sqlite(folder.path().join("bare.db")),
        Engine::Postgres => Bare::Postgres(storage.url.clone()),
    };
    tokio::runtime::Runtime::new()?.block_on(run(engine, &storage.url, &bare));
    Ok(())
}

/// What the API is compared with.
enum Bare {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Bare {
    /// Messages a second of the script that holds what it takes, and of one that deletes it at
    /// once and loses it in a crash.
    async fn messages_per_second(&self) -> (f64, Option<f64>) {
        match self {
            Bare::Sqlite(path) => {
                let path: &Path = path;
                let script = || bare_sqlite::messages_per_second(path, LOAD);
                (tokio::task::block_in_place(script), None)
            }
            Bare::Postgres(url) => {
                let script =
                    async |worker| bare_postgres::messages_per_second(url, LOAD, worker).await;
                let holds = script(Worker::HoldsThenDeletes).await;
                (holds, Some(script(Worker::DeletesAtOnce).await))
            }
        }
    }
}

async fn run(engine: Engine, url: &str, bare: &Bare) {
    let store = open(url, "bench").await;
    let fence = own(store.as_ref(), "bench", "bench").await;
    let (mut in_turn, mut at_once, mut holds, mut deletes) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        in_turn.push(one_after_the_other(store.as_ref(), &fence).await);
        at_once.push(at_the_same_time(&store, &fence).await);
        let (held, deleted) = bare.messages_per_second().await;
        holds.push(held);
        deletes.extend(deleted);
    }
    let (bare, risky) = (median(holds), (!deletes.is_empty()).then(|| median(deletes)));
    for (figure, ours) in [("in_turn", median(in_turn)), ("at_once", median(at_once))] {
        println!(
            "{}",
            json!({
                "figure": "messages", "how": figure, "store": format!("{engine:?}"),
                "messages": LOAD.messages, "body_bytes": LOAD.body_bytes, "batch": LOAD.batch,
                "baton_per_second": ours.round(), "bare_per_second": bare.round(),
                "ratio": (ours / bare * 100.0).round() / 100.0,
                "bare_that_may_lose_per_second": risky.map(f64::round),
            })
        );
    }
    single_messages(engine, &store, &fence).await;
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Opens the store.
pub async fn open(url: &str, application: &str) -> Arc<dyn Store> {
    store::open(&Options::new(url, application)).await.expect("the store opens")
}

/// Joins as a node and takes the group of the same name.
pub async fn own(store: &dyn Store, node: &str, group: &str) -> Fence {
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
        resource: None,
        external: false,
    };
    match store.acquire(&node, &request, TTL).await.expect("the store answers") {
        Acquired::Granted(granted) => {
            let token = FenceToken { lease, epoch: granted.epoch, holder: node };
            store.fence(&token).await.expect("it is current")
        }
        Acquired::Refused(why) => panic!("{why}"),
    }
}

/// Messages of the load, in one transaction.
pub fn batch(messages: usize) -> PublishBatch {
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
    let done: Vec<_> = work
        .iter()
        .map(|work| Settlement { work: work.id, outcome: Outcome::Done, maybe_delivered: false })
        .collect();
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
async fn single_messages(engine: Engine, store: &Arc<dyn Store>, fence: &Fence) {
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
    println!(
        "{}",
        json!({
            "figure": "single_messages", "store": format!("{engine:?}"), "tasks": TASKS,
            "one_task_per_second": alone.round(), "all_tasks_per_second": together.round(),
        })
    );
}
