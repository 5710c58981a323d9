//! Wake-ups, and what the store tidies up by itself.

use std::time::Duration;

use model::{Cause, Millis, Timestamp};
use store::{Outcome, Store, Topic, Wakes};

use crate::Engine;
use crate::case::{
    LONG, SOON, SOURCE, all_work, apply, definitions, granted, group, item, join, kill, message,
    now, owner, pattern, publish, publish_bodies, take, until,
};
use crate::sending::settle;

/// Waits for a hint that must come.
async fn woken(wakes: &mut Wakes, what: &str) {
    let hint = tokio::time::timeout(SOON, wakes.next()).await;
    assert!(hint.is_ok(), "no hint within {SOON:?}: {what}");
}

/// How long nothing more has to come before a subscription counts as quiet.
const QUIET: Duration = Duration::from_millis(100);

/// Takes the hints that are still on their way.
async fn drain(wakes: &mut Wakes) {
    while tokio::time::timeout(QUIET, wakes.next()).await.is_ok() {}
}

pub async fn publish_wakes_the_workers(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let other = engine.open("host").await;
    let mut same_process = a.store.subscribe(Topic::Work);
    let mut another_process = other.subscribe(Topic::Work);
    for _ in 0..3 {
        drain(&mut same_process).await;
        drain(&mut another_process).await;
        publish_bodies(a.store.as_ref(), &fence, &["1"]).await;
        woken(&mut same_process, "a publish of its own store").await;
        woken(&mut another_process, "a publish of another store").await;
    }
}

pub async fn a_retry_given_back_wakes_the_workers(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1", "2"]).await;
    let work = take(a.store.as_ref(), &fence, 2).await;
    let other = engine.open("host").await;
    let mut wakes = other.subscribe(Topic::Work);
    drain(&mut wakes).await;
    settle(a.store.as_ref(), &fence, &[work[0].id], Outcome::Return).await;
    woken(&mut wakes, "work given back").await;
    drain(&mut wakes).await;
    kill(a, other.as_ref()).await;
    let b = join(engine, "b").await;
    granted(b.acquire(fence.lease(), LONG).await);
    woken(&mut wakes, "work that a takeover gave back").await;
}

pub async fn changes_of_the_cluster_wake_the_nodes(engine: &dyn Engine) {
    let watcher = engine.open("node").await;
    let mut wakes = watcher.subscribe(Topic::Cluster);
    drain(&mut wakes).await;
    let a = join(engine, "a").await;
    woken(&mut wakes, "a join").await;
    drain(&mut wakes).await;
    let fence = a.own(&group("g"), LONG).await;
    woken(&mut wakes, "an acquire").await;
    drain(&mut wakes).await;
    a.release(fence.lease(), fence.epoch()).await.expect("it is ours");
    woken(&mut wakes, "a release").await;
    drain(&mut wakes).await;
    let request = cluster::MoveRequest {
        group: "g".parse().expect("a group name"),
        to: None,
        by: "operator".into(),
        at: Timestamp(0),
    };
    a.store.request_move(&request).await.expect("recorded");
    woken(&mut wakes, "a move").await;
    drain(&mut wakes).await;
    apply(a.store.as_ref(), &definitions("p")).await;
    woken(&mut wakes, "definitions").await;
    drain(&mut wakes).await;
    let order = cluster::GroupOrder {
        group: "g".parse().expect("a group name"),
        online: false,
        unmonitored_until: None,
        by: "operator".into(),
        at: Timestamp(0),
    };
    a.store.order_group(&order).await.expect("recorded");
    woken(&mut wakes, "an order").await;
}

pub async fn sweep_forgets_closed_receipts_only(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let keys: Vec<String> = ["closed", "open"].map(String::from).into();
    publish(a.store.as_ref(), &fence, keys.iter().map(|key| item(key)).collect()).await;
    a.store.close_receipts(&fence, SOURCE, &keys[..1]).await.expect("it is ours");
    let left = async || a.store.receipts(SOURCE, &keys).await.expect("read");
    a.store.sweep(LONG).await.expect("swept");
    assert_eq!(left().await.len(), 2, "it is not old enough");
    until("the closed one is swept", async || {
        a.store.sweep(Millis(0)).await.expect("swept");
        left().await.len() == 1
    })
    .await;
    assert_eq!(left().await[0].key, "open");
    assert_eq!(all_work(a.store.as_ref()).await.len(), 2, "messages are not swept");
    let kept = a.store.history(100).await.expect("read");
    assert!(kept.iter().any(|entry| entry.cause == Cause::Start), "history of today stays");
}

async fn is_there(store: &dyn Store, body: model::BodyId) -> bool {
    store.read_body(body, 0, 1).await.is_ok_and(|bytes| !bytes.is_empty())
}

pub async fn sweep_forgets_abandoned_bodies(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let store = a.store.as_ref();
    let abandoned = store.stage(&fence, SOURCE, "abandoned").await.expect("it is ours").body;
    store.append(&fence, abandoned, 0, pattern(10)).await.expect("it fits");
    let used = store.stage(&fence, SOURCE, "used").await.expect("it is ours").body;
    store.append(&fence, used, 0, pattern(10)).await.expect("it fits");
    let body = store::Body::Staged { id: used, bytes: 10 };
    publish(store, &fence, vec![store::NewMessage { body, ..message("used") }]).await;
    store.sweep(LONG).await.expect("swept");
    assert!(is_there(store, abandoned).await, "it is not old enough");
    until("the abandoned one is swept", async || {
        store.sweep(Millis(0)).await.expect("swept");
        !is_there(store, abandoned).await
    })
    .await;
    assert!(is_there(store, used).await, "a message needs it");
    let anew = store.stage(&fence, SOURCE, "abandoned").await.expect("it is ours");
    assert_eq!(anew.offset, 0);
}

pub async fn the_store_has_a_clock(engine: &dyn Engine) {
    let store = engine.open("clock").await;
    let first = now(store.as_ref()).await;
    let second = now(store.as_ref()).await;
    assert!(second >= first);
    assert!(first > Timestamp(1_700_000_000_000), "{first}");
}

pub async fn the_description_has_no_credentials(engine: &dyn Engine) {
    let store = engine.open("operator").await;
    let text = store.describe();
    assert!(text.starts_with("sqlite:") || text.starts_with("postgres"), "{text}");
    assert!(!text.contains("password"), "{text}");
}
