//! What happens between the claim of a lease in the expiry file and the commit of its new epoch.
#![cfg(feature = "failpoints")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster::AcquireRequest;
use model::{Cause, Epoch, LeaseName, Millis, NodeName};
use store::{Acquired, FenceToken, NodeFacts, Options, Store, StoreError};

const SHORT: Millis = Millis(50);
const LONG: Millis = Millis::minutes(10);

/// Failpoints are the process's, so the tests of this file take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Cluster {
    _folder: tempfile::TempDir,
    a: Arc<dyn Store>,
    b: Arc<dyn Store>,
}

fn node(name: &str) -> NodeName {
    name.parse().expect("a node name")
}

fn lease() -> LeaseName {
    "group/g".parse().expect("a lease name")
}

async fn acquire(store: &dyn Store, name: &str, seen: u64) -> Result<Acquired, StoreError> {
    let request = AcquireRequest {
        lease: lease(),
        seen_epoch: Epoch(seen),
        cause: Cause::NodeLost,
        reason: "a test".into(),
        resource: None,
        external: false,
    };
    store.acquire(&node(name), &request, SHORT).await
}

/// Node a lives and has the lease at epoch 1, but it has run out.
async fn run_out() -> Cluster {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite:{}", folder.path().join("baton.db").display());
    let a = store::open(&Options::new(url.clone(), "a")).await.expect("it opens");
    let b = store::open(&Options::new(url, "b")).await.expect("it opens");
    for (store, name) in [(&a, "a"), (&b, "b")] {
        store.join(&node(name), &NodeFacts::default(), LONG).await.expect("the name is free");
    }
    assert!(matches!(acquire(a.as_ref(), "a", 0).await, Ok(Acquired::Granted(_))));
    tokio::time::sleep(Duration::from_millis(SHORT.0 * 2)).await;
    Cluster { _folder: folder, a, b }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_between_claim_and_commit_is_refused() {
    let _turn = TURN.lock().await;
    let cluster = run_out().await;
    let held = [(lease(), Epoch(1))];
    let (asks, asked) = std::sync::mpsc::channel();
    let (answers, answered) = std::sync::mpsc::channel::<()>();
    let (asks, answered) = (Mutex::new(asks), Mutex::new(answered));
    fail::cfg_callback("sqlite_claimed", move || {
        asks.lock().expect("no panic").send(()).expect("the test waits");
        answered.lock().expect("no panic").recv().expect("the test answers");
    })
    .expect("a failpoint");
    let b = cluster.b.clone();
    let mut taking = tokio::task::JoinSet::new();
    taking.spawn(async move { acquire(b.as_ref(), "b", 1).await });
    tokio::task::spawn_blocking(move || asked.recv()).await.expect("no panic").expect("reached");
    let token = FenceToken { lease: lease(), epoch: Epoch(1), holder: node("a") };
    cluster.a.fence(&token).await.expect("epoch 2 is not committed yet");
    let lost = cluster.a.renew(&node("a"), &held, LONG).await.expect("it does not wait");
    fail::remove("sqlite_claimed");
    answers.send(()).expect("b waits");
    assert_eq!(lost, held, "an owner was told renewed while its successor was committing");
    let taken = taking.join_next().await.expect("it was begun").expect("no panic");
    assert!(matches!(taken, Ok(Acquired::Granted(_))));
    assert!(cluster.a.fence(&token).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_without_a_commit_leaves_the_lease_to_anybody() {
    let _turn = TURN.lock().await;
    let cluster = run_out().await;
    let held = [(lease(), Epoch(1))];
    fail::cfg("sqlite_claimed", "return").expect("a failpoint");
    let failed = acquire(cluster.b.as_ref(), "b", 1).await;
    fail::remove("sqlite_claimed");
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    let snapshot = cluster.a.snapshot().await.expect("read");
    let view = &snapshot.leases[0];
    assert_eq!((view.epoch, &view.holder), (Epoch(1), &Some(node("a"))));
    assert!(view.expires_at <= snapshot.now, "it counts as run out");
    let lost = cluster.a.renew(&node("a"), &held, LONG).await.expect("answered");
    assert_eq!(lost, held, "told too early that it is lost, which costs a pause");
    let taken = acquire(cluster.a.as_ref(), "a", 1).await;
    assert!(matches!(taken, Ok(Acquired::Granted(granted)) if granted.epoch == Epoch(2)));
}
