//! What only PostgreSQL can get wrong: sessions that are frozen, ended or cut, a server that comes
//! back, takeovers among busy publishers. Behaviour that both engines share is in `conformance`.
//!
//! Read in this order: this file (what tests are built from), `takeover`, `faults`, `fuzz`.

mod examine;
mod faults;
mod fuzz;
mod statements;
mod takeover;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::{AcquireRequest, Presence};
use model::{Cause, Context, Epoch, LeaseName, MessageId, Millis, NodeName};
use store::{
    Acquired, Body, Fence, FenceToken, Granted, NewMessage, NodeFacts, Options, PublishBatch,
    Route, Store,
};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// A ttl that does not run out within a test.
const LONG: Millis = Millis::minutes(10);

/// A ttl that a test can wait for.
const SHORT: Millis = Millis(200);

/// Longest wait for something that must come soon; generous, for busy machines.
const SOON: Duration = Duration::from_secs(20);

const HOST: &str = "sender";
const SOURCE: &str = "ftp://partner/out";

fn node(name: &str) -> NodeName {
    name.parse().expect("a node name")
}

fn group() -> LeaseName {
    "group/g".parse().expect("a lease")
}

async fn open(url: &str, application: &str) -> Arc<dyn Store> {
    store::open(&Options::new(url, application)).await.expect("the database opens")
}

/// A store that has joined as a node.
async fn join(url: &str, name: &str, ttl: Millis) -> Arc<dyn Store> {
    let store = open(url, &format!("node {name}")).await;
    store.join(&node(name), &facts(), ttl).await.expect("the name is free");
    store
}

fn facts() -> NodeFacts {
    NodeFacts { machine: "machine".into(), pid: std::process::id(), version: "0".into() }
}

async fn acquire(store: &dyn Store, name: &str, seen: u64, ttl: Millis) -> Acquired {
    let request = AcquireRequest {
        lease: group(),
        seen_epoch: Epoch(seen),
        cause: Cause::Failover,
        reason: "a test wants it".into(),
        resource: None,
        external: false,
    };
    store.acquire(&node(name), &request, ttl).await.expect("the store answers")
}

fn granted(acquired: Acquired) -> Granted {
    match acquired {
        Acquired::Granted(granted) => granted,
        Acquired::Refused(why) => panic!("refused: {why}"),
    }
}

fn refused(acquired: Acquired) -> String {
    match acquired {
        Acquired::Granted(granted) => panic!("granted: {granted:?}"),
        Acquired::Refused(why) => why,
    }
}

/// Asks until it is granted.
async fn acquire_soon(store: &dyn Store, name: &str, seen: u64, ttl: Millis) -> Granted {
    let granted = tokio::time::timeout(SOON, async {
        loop {
            match acquire(store, name, seen, ttl).await {
                Acquired::Granted(granted) => return granted,
                Acquired::Refused(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    granted.await.expect("it is granted in the end")
}

async fn fence(store: &dyn Store, name: &str, epoch: u64) -> Fence {
    let token = FenceToken { lease: group(), epoch: Epoch(epoch), holder: node(name) };
    store.fence(&token).await.expect("it is current")
}

/// A node that owns the group at epoch 1.
async fn owner(url: &str, name: &str, ttl: Millis) -> (Arc<dyn Store>, Fence) {
    let store = join(url, name, LONG).await;
    granted(acquire(store.as_ref(), name, 0, ttl).await);
    let fence = fence(store.as_ref(), name, 1).await;
    (store, fence)
}

fn message(key: Option<&str>) -> NewMessage {
    NewMessage {
        id: MessageId(uuid::Uuid::now_v7()),
        publisher: "test".into(),
        context: Context::default(),
        body: Body::Memory(Bytes::from_static(b"body")),
        receipt: key.map(|key| (SOURCE.into(), key.into())),
        routes: vec![Route { port: "archive".into(), host: HOST.into() }],
    }
}

fn batch(messages: Vec<NewMessage>) -> PublishBatch {
    PublishBatch { definitions_version: 0, messages: messages.into() }
}

/// A connection that knows nothing of Baton.
struct Raw {
    client: Client,
    /// What drives it, and ends with it.
    _driver: JoinSet<()>,
}

impl Deref for Raw {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

async fn raw(url: &str) -> Raw {
    let url = format!("{url}?application_name=raw");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("a session");
    let mut driver = JoinSet::new();
    driver.spawn(async { connection.await.unwrap_or_default() });
    Raw { client, _driver: driver }
}

/// A session that has shown its fence and does nothing more, as that of a process that was frozen.
async fn frozen(url: &str, holder: &str, epoch: i64) -> Raw {
    let client = raw(url).await;
    client.batch_execute("BEGIN").await.expect("a transaction");
    client
        .execute("SELECT baton_fence('group/g', $1, $2)", &[&epoch, &holder])
        .await
        .expect("the fence is current");
    client
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect("a count").get(0)
}

/// Asks again until the answer is yes.
async fn until(what: &str, ask: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(SOON, async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "not within {SOON:?}: {what}");
}

async fn presence_of(store: &dyn Store, name: &str) -> Presence {
    store.presence().await.expect("the store answers")[&node(name)]
}
