//! A takeover waits for nobody who does not answer, and disturbs nobody who does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Epoch, Evidence, LeaseName};
use store::{Store, StoreError};
use tokio::task::JoinSet;

use crate::{
    LONG, SHORT, acquire, acquire_soon, batch, count, facts, fence, frozen, granted, group, join,
    message, node, open, owner, presence_of, raw, refused, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_owner_with_an_open_transaction_does_not_block_it() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let (_a, _) = owner(&url, "a", SHORT).await;
    let b = join(&url, "b", LONG).await;
    let frozen = frozen(&url, "a", 1).await;
    until("the lease has run out", async || {
        let snapshot = b.snapshot().await.expect("the store answers");
        snapshot.leases[0].expires_at < snapshot.now
    })
    .await;
    let begin = Instant::now();
    let granted = acquire_soon(b.as_ref(), "b", 1, LONG).await;
    println!("takeover with a frozen session in the way: {:?}", begin.elapsed());
    assert_eq!((granted.epoch, granted.evidence), (Epoch(2), Evidence::Silent));
    // It wakes up: its session is gone, and what it had begun with it.
    assert!(frozen.batch_execute("COMMIT").await.is_err(), "its session was ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_is_refused_disturbs_no_owner() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let (_a, _) = owner(&url, "a", LONG).await;
    let b = join(&url, "b", LONG).await;
    let busy = frozen(&url, "a", 1).await;
    for _ in 0..3 {
        let why = refused(acquire(b.as_ref(), "b", 1, LONG).await);
        assert!(why.starts_with("group/g is held by a at epoch 1, its lease runs out"), "{why}");
    }
    busy.batch_execute("COMMIT").await.expect("it was left in peace");
}

/// Publishes as fast as it can until its fence is stale.
async fn publish_until_fenced(store: Arc<dyn Store>, fence: store::Fence) -> u64 {
    let mut published = 0;
    loop {
        let ten = (0..10).map(|_| message(None)).collect();
        match store.publish(&fence, &batch(ten)).await {
            Ok(_) => published += 10,
            Err(StoreError::Fenced { .. }) => return published,
            // A takeover that waits for too long ends sessions.
            Err(StoreError::Unavailable(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_publishers_do_not_starve_it() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let (a, _) = owner(&url, "a", SHORT).await;
    let b = join(&url, "b", LONG).await;
    let publishing = [open(&url, "host 1 on a").await, open(&url, "host 2 on a").await];
    let mut times = Vec::new();
    for round in 0..5_u64 {
        let epoch = 2 * round + 1;
        let current = fence(a.as_ref(), "a", epoch).await;
        let mut publishers = JoinSet::new();
        for at in 0..8 {
            publishers.spawn(publish_until_fenced(publishing[at % 2].clone(), current.clone()));
        }
        // Nobody renews, so it runs out under them.
        tokio::time::sleep(SHORT.as_duration() + Duration::from_millis(50)).await;
        let begin = Instant::now();
        acquire_soon(b.as_ref(), "b", epoch, LONG).await;
        times.push(begin.elapsed());
        while let Some(ended) = publishers.join_next().await {
            ended.expect("it is fenced in the end");
        }
        granted(acquire(b.as_ref(), "b", epoch + 1, LONG).await);
        release_and_give_back(&url, b.as_ref(), a.as_ref(), epoch + 2).await;
    }
    times.sort();
    println!("takeover under 8 busy publishers: median {:?}, all {times:?}", times[2]);
}

/// Gives the group back to a, with an epoch that is even once more.
async fn release_and_give_back(url: &str, b: &dyn Store, a: &dyn Store, epoch: u64) {
    let release = store::Release {
        lease: group(),
        epoch: Epoch(epoch),
        cause: model::Cause::Move,
        reason: "the next round".into(),
        offered_to: Some(node("a")),
        resource: None,
    };
    b.release(&node("b"), &release).await.expect("it is ours");
    // Rounds count in steps of two.
    let client = raw(url).await;
    let set = "UPDATE lease SET epoch = $1 WHERE name = 'group/g'";
    client.execute(set, &[&(epoch.cast_signed() - 1)]).await.expect("a step back for the count");
    granted(acquire(a, "a", epoch - 1, SHORT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_liveness_session_comes_back_by_itself() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let a = join(&url, "a", LONG).await;
    let b = join(&url, "b", LONG).await;
    let client = raw(&url).await;
    let cut = "SELECT count(pg_terminate_backend(pg_locks.pid))
        FROM pg_locks JOIN node ON id = objid::int
        WHERE locktype = 'advisory' AND objsubid = 2 AND name = 'a' AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let holder = "SELECT coalesce(max(pg_locks.pid), 0)::bigint
        FROM pg_locks JOIN node ON id = objid::int
        WHERE locktype = 'advisory' AND objsubid = 2 AND name = 'a' AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let before = count(&client, holder).await;
    assert_eq!(count(&client, cut).await, 1);
    let cut_at = Instant::now();
    // Nobody renews meanwhile; the session that was cut takes a moment to end.
    until("another session has the lock", async || {
        let now = count(&client, holder).await;
        now != 0 && now != before
    })
    .await;
    println!("the liveness session was back after {:?}", cut_at.elapsed());
    assert_eq!(presence_of(b.as_ref(), "a").await, cluster::Presence::Present);
    let lease = LeaseName::Node(node("a"));
    until("a renewal goes through", async || {
        let lost = a.renew(&node("a"), &[(lease.clone(), Epoch(1))], LONG).await;
        lost.is_ok_and(|lost| lost.is_empty())
    })
    .await;
    assert_eq!(presence_of(b.as_ref(), "a").await, cluster::Presence::Present);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_process_is_replaced_by_a_new_one_of_its_name() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let before = join(&url, "a", SHORT).await;
    let after = open(&url, "node a").await;
    // The old one holds its session as a frozen process does, and does not renew.
    let granted = after.join(&node("a"), &facts(), LONG).await.expect("it is silent in the end");
    assert_eq!((granted.epoch, granted.evidence), (Epoch(2), Evidence::Silent));
    let lease = LeaseName::Node(node("a"));
    let held = [(lease.clone(), Epoch(1))];
    until("the old one learns that it is replaced", async || {
        before.renew(&node("a"), &held, LONG).await.is_ok_and(|lost| lost == held)
    })
    .await;
    let kept = after.renew(&node("a"), &[(lease, Epoch(2))], LONG).await;
    assert_eq!(kept.expect("the store answers"), []);
}
