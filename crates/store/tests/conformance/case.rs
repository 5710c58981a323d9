//! What cases are built from: names, messages, definitions, short lives of nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::{AcquireRequest, Presence};
use model::{
    Cause, Context, Definitions, Epoch, LeaseName, MessageId, Millis, NodeName, Timestamp,
};
use store::{
    Acquired, Body, Fence, FenceToken, Granted, NewMessage, NodeFacts, PublishBatch, Release,
    Route, Store, StoreError, Work, WorkQuery, WorkView,
};

use crate::Engine;

/// A ttl that does not run out within a case.
pub const LONG: Millis = Millis::minutes(10);

/// A ttl that a case can wait for.
pub const SHORT: Millis = Millis(200);

/// Longest wait for something that must come soon; generous, for busy machines.
pub const SOON: Duration = Duration::from_secs(10);

/// The host that the messages of most cases go to.
pub const HOST: &str = "sender";

/// The send port that the messages of most cases go to.
pub const PORT: &str = "archive";

/// The source that the items of most cases come from.
pub const SOURCE: &str = "ftp://partner/out";

pub fn node(name: &str) -> NodeName {
    name.parse().expect("a node name")
}

pub fn group(name: &str) -> LeaseName {
    LeaseName::Group(name.parse().expect("a group name"))
}

pub fn facts() -> NodeFacts {
    NodeFacts { machine: "machine".into(), pid: std::process::id(), version: "0.0.0".into() }
}

/// A node with a `Store` of its own that has joined.
pub struct Member {
    pub name: NodeName,
    pub store: Arc<dyn Store>,
    pub epoch: Epoch,
}

/// Opens a store and joins as a node, with a ttl that does not run out.
pub async fn join(engine: &dyn Engine, name: &str) -> Member {
    join_for(engine, name, LONG).await
}

/// Opens a store and joins as a node.
pub async fn join_for(engine: &dyn Engine, name: &str, ttl: Millis) -> Member {
    let store = engine.open(&format!("node {name}")).await;
    let granted = store.join(&node(name), &facts(), ttl).await.expect("the name is free");
    Member { name: node(name), store, epoch: granted.epoch }
}

impl Member {
    /// Asks for a lease at the epoch it has now.
    pub async fn acquire(&self, lease: &LeaseName, ttl: Millis) -> Acquired {
        let seen = epoch_of(self.store.as_ref(), lease).await;
        self.acquire_seen(lease, seen, ttl).await
    }

    /// Asks for a lease at an epoch.
    pub async fn acquire_seen(&self, lease: &LeaseName, seen: Epoch, ttl: Millis) -> Acquired {
        let request = AcquireRequest {
            lease: lease.clone(),
            seen_epoch: seen,
            cause: Cause::Start,
            reason: format!("{} wants it", self.name),
            resource: None,
            external: false,
        };
        self.store.acquire(&self.name, &request, ttl).await.expect("the store answers")
    }

    /// Takes a lease that is free.
    pub async fn own(&self, lease: &LeaseName, ttl: Millis) -> Fence {
        let granted = granted(self.acquire(lease, ttl).await);
        self.fence(lease, granted.epoch).await.expect("what was just granted is current")
    }

    /// A fence for a lease at an epoch.
    pub async fn fence(&self, lease: &LeaseName, epoch: Epoch) -> Result<Fence, StoreError> {
        self.store.fence(&self.token(lease, epoch)).await
    }

    pub fn token(&self, lease: &LeaseName, epoch: Epoch) -> FenceToken {
        FenceToken { lease: lease.clone(), epoch, holder: self.name.clone() }
    }

    /// Gives a lease back.
    pub async fn release(&self, lease: &LeaseName, epoch: Epoch) -> Result<(), StoreError> {
        let release = Release {
            lease: lease.clone(),
            epoch,
            cause: Cause::Drain,
            reason: format!("{} leaves", self.name),
            offered_to: None,
            resource: None,
        };
        self.store.release(&self.name, &release).await
    }

    /// What this node is to the others, by their own eyes.
    pub async fn presence_seen_by(&self, other: &dyn Store) -> Presence {
        other.presence().await.expect("the store answers")[&self.name]
    }
}

pub fn granted(acquired: Acquired) -> Granted {
    match acquired {
        Acquired::Granted(granted) => granted,
        Acquired::Refused(why) => panic!("refused: {why}"),
    }
}

pub fn refused(acquired: Acquired) -> String {
    match acquired {
        Acquired::Granted(granted) => panic!("granted: {granted:?}"),
        Acquired::Refused(why) => why,
    }
}

/// The epoch that a lease has now; 0 when it was never taken.
pub async fn epoch_of(store: &dyn Store, lease: &LeaseName) -> Epoch {
    let snapshot = store.snapshot().await.expect("the store answers");
    let view = snapshot.leases.iter().find(|view| view.lease == *lease);
    view.map_or(Epoch(0), |view| view.epoch)
}

/// A node that owns a group, and its fence: where most cases begin.
pub async fn owner(engine: &dyn Engine) -> (Member, Fence) {
    let a = join(engine, "a").await;
    let fence = a.own(&group("g"), LONG).await;
    (a, fence)
}

/// Drops a member as if its process had been killed, and waits until the others know.
pub async fn kill(member: Member, seen_by: &dyn Store) {
    let name = member.name.clone();
    drop(member);
    until("the dead node is seen", async || {
        let presence = seen_by.presence().await.expect("the store answers");
        presence[&name] != Presence::Present
    })
    .await;
}

/// Asks again until the answer is yes.
pub async fn until(what: &str, ask: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(SOON, async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "not within {SOON:?}: {what}");
}

pub fn route(port: &str) -> Route {
    Route { port: port.into(), host: HOST.into() }
}

/// A message of a few bytes without a receipt, for the usual port.
pub fn message(body: &str) -> NewMessage {
    let mut context = Context::default();
    context.set("test.body", body);
    NewMessage {
        id: MessageId(uuid::Uuid::now_v7()),
        publisher: "test".into(),
        context,
        body: Body::Memory(Bytes::copy_from_slice(body.as_bytes())),
        receipt: None,
        routes: vec![route(PORT)],
    }
}

/// A message of an item of the usual source.
pub fn item(key: &str) -> NewMessage {
    NewMessage { receipt: Some((SOURCE.into(), key.into())), ..message(key) }
}

pub fn batch(messages: Vec<NewMessage>) -> PublishBatch {
    PublishBatch { definitions_version: 0, messages: messages.into() }
}

/// Publishes and answers the ids of the duplicates.
pub async fn publish(
    store: &dyn Store,
    fence: &Fence,
    messages: Vec<NewMessage>,
) -> Vec<MessageId> {
    store.publish(fence, &batch(messages)).await.expect("it can be published").duplicates
}

/// Publishes messages with these bodies.
pub async fn publish_bodies(store: &dyn Store, fence: &Fence, bodies: &[&str]) {
    publish(store, fence, bodies.iter().map(|body| message(body)).collect()).await;
}

/// Takes work of the usual host.
pub async fn take(store: &dyn Store, fence: &Fence, limit: usize) -> Vec<Work> {
    store.take(fence, HOST, limit).await.expect("work can be taken")
}

/// What stands in the context of messages made here.
pub fn body_of(context: &Context) -> &str {
    context.text("test.body").expect("a message of this suite")
}

pub fn bodies_of(work: &[Work]) -> Vec<&str> {
    work.iter().map(|work| body_of(&work.context)).collect()
}

/// All work there is.
pub async fn all_work(store: &dyn Store) -> Vec<WorkView> {
    store.list_work(&WorkQuery::default()).await.expect("work can be listed")
}

/// Reads a whole body in pieces of at most `limit` bytes.
pub async fn read_whole(store: &dyn Store, body: model::BodyId, limit: usize) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let piece = store.read_body(body, whole.len() as u64, limit).await.expect("it is there");
        assert!(piece.len() <= limit, "{} bytes, more than {limit}", piece.len());
        if piece.is_empty() {
            return whole;
        }
        whole.extend_from_slice(&piece);
    }
}

/// Bytes that differ from place to place, so that a mixed-up chunk is noticed.
pub fn pattern(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at % 251) as u8).collect::<Vec<u8>>().into()
}

pub fn assert_fenced<T: std::fmt::Debug>(result: Result<T, StoreError>, fence: &Fence) {
    match result {
        Err(StoreError::Fenced { lease, epoch }) => {
            assert_eq!((&lease, epoch), (fence.lease(), fence.epoch()));
        }
        other => panic!("not fenced: {other:?}"),
    }
}

pub fn assert_refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Refused(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

/// Definitions with one host and one send port of this name.
pub fn definitions(port: &str) -> Definitions {
    let document = serde_json::json!({
        "hosts": [{ "name": HOST }],
        "send_ports": [{
            "name": port, "host": HOST, "filter": "true",
            "transport": { "file": { "folder": "/tmp/out" } },
        }],
    });
    serde_json::from_value(document).expect("valid definitions")
}

/// Applies definitions on top of those in force.
pub async fn apply(store: &dyn Store, definitions: &Definitions) -> u64 {
    let (base, _) = store.definitions().await.expect("the store answers");
    store.apply(definitions, base, "test").await.expect("the base is in force")
}

/// Resumes rows that have ports already.
pub fn no_routes() -> BTreeMap<model::WorkId, Vec<Route>> {
    BTreeMap::new()
}

/// The store's clock.
pub async fn now(store: &dyn Store) -> Timestamp {
    store.now().await.expect("the store has a clock")
}
