//! Sessions that end in the wrong moment, and a server that stops, freezes and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::{Context, Epoch, Evidence, LeaseName, Millis};
use store::{Options, Outcome, Route, Settlement, Store, StoreError};
use testbed::{Postgres, Shutdown};
use tokio::task::JoinSet;

use crate::{
    HOST, LONG, Raw, SHORT, SOURCE, acquire, acquire_soon, batch, count, join, message, node, open,
    owner, presence_of, raw, refused, until,
};

/// Keeps every fenced transaction of the group waiting.
const BLOCK: &str = "BEGIN; SELECT pg_advisory_xact_lock(baton_fence_key('group/g'))";

/// Sessions of an application that wait in a fence.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'node a' AND wait_event = 'advisory'
        AND datname = current_database()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ended_in_the_middle_of_a_publish_is_unavailable_and_leaves_nothing() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let (a, fence) = owner(&url, "a", LONG).await;
    let client = raw(&url).await;
    client.batch_execute(BLOCK).await.expect("the key");
    let mut publishing = JoinSet::new();
    let (one, other) = (a.clone(), fence.clone());
    publishing.spawn(async move { one.publish(&other, &batch(vec![message(Some("1"))])).await });
    until("it waits", async || count(&client, WAITING).await == 1).await;
    let ended = WAITING.replace("count(*)", "count(pg_terminate_backend(pid))");
    assert_eq!(count(&client, &ended).await, 1);
    let answer = publishing.join_next().await.expect("one task").expect("no panic");
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    client.batch_execute("COMMIT").await.expect("the key is free");
    assert_eq!(a.receipts(SOURCE, &["1".into()]).await.expect("it answers again"), []);
    a.publish(&fence, &batch(vec![message(Some("1"))])).await.expect("it works again");
    assert_eq!(a.receipts(SOURCE, &["1".into()]).await.expect("it answers").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_broken_publish_answers_the_receipt_tells_the_truth() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let (_a, fence) = owner(&url, "a", LONG).await;
    let victim = open(&url, "victim").await;
    let done = Arc::new(AtomicBool::new(false));
    let mut killer = JoinSet::new();
    killer.spawn(kill_until(raw(&url).await, done.clone()));
    for item in 0..150 {
        let key = format!("{item}");
        until("the item is in", async || publish_once(victim.as_ref(), &fence, &key).await).await;
    }
    done.store(true, Ordering::SeqCst);
    let killed = killer.join_next().await.expect("one task").expect("no panic");
    println!("150 items through {killed} killed sessions");
    let client = raw(&url).await;
    assert_eq!(count(&client, "SELECT count(*) FROM receipt").await, 150);
    assert_eq!(count(&client, "SELECT count(*) FROM message").await, 150, "nothing twice");
    assert_eq!(count(&client, "SELECT count(*) FROM work").await, 150, "nothing lost");
}

/// Ends the victim's sessions again and again, at moments that fall everywhere in a publish.
async fn kill_until(client: Raw, done: Arc<AtomicBool>) -> i64 {
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'victim' AND datname = current_database()";
    let mut killed = 0;
    while !done.load(Ordering::SeqCst) {
        killed += count(&client, kill).await;
        // Now shorter and now longer than a publish on a new connection.
        let pause = 5 + killed.unsigned_abs() * 13 % 90;
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    killed
}

/// Publishes an item as a host does: when the answer is lost it looks for the receipt.
async fn publish_once(store: &dyn Store, fence: &store::Fence, key: &str) -> bool {
    match store.receipts(SOURCE, &[key.to_owned()]).await {
        Ok(receipts) if !receipts.is_empty() => return true,
        Ok(_) => {}
        Err(StoreError::Unavailable(_)) => return false,
        Err(other) => panic!("{other}"),
    }
    match store.publish(fence, &batch(vec![message(Some(key))])).await {
        Ok(published) => {
            assert_eq!(published.duplicates, []);
            true
        }
        Err(StoreError::Unavailable(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_leaves_no_transaction_open() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let (a, fence) = owner(&url, "a", LONG).await;
    let client = raw(&url).await;
    client.batch_execute(BLOCK).await.expect("the key");
    for item in ["1", "2", "3"] {
        let one = batch(vec![message(Some(item))]);
        let publishing = a.publish(&fence, &one);
        let given_up = tokio::time::timeout(Duration::from_millis(50), publishing).await;
        assert!(given_up.is_err(), "it waited for the key");
    }
    client.batch_execute("COMMIT").await.expect("the key is free");
    until("no session of it is left", async || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'node a'
            AND datname = current_database() AND xact_start IS NOT NULL";
        count(&client, open).await == 0
    })
    .await;
    a.publish(&fence, &batch(vec![message(Some("4"))])).await.expect("it works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_owners_have_a_full_ttl_to_renew() {
    let Some(mut server) = testbed::or_skip(Postgres::start()) else { return };
    server.create_database("store").expect("a database");
    let url = server.url("store");
    let ttl = Millis::seconds(8);
    let (a, _) = owner(&url, "a", ttl).await;
    let b = join(&url, "b", ttl).await;
    let ran_out = "UPDATE lease_expiry SET expires_at = 0 WHERE name = 'group/g'";
    raw(&url).await.batch_execute(ran_out).await.expect("it has run out");
    server.restart(Shutdown::Immediate).expect("a restart");
    let back = Instant::now();
    // Its lease has run out, and all liveness locks are gone; that says nothing of anybody.
    until("the pool has new connections", async || b.now().await.is_ok()).await;
    until("presence is known again", async || b.presence().await.is_ok()).await;
    assert_eq!(presence_of(b.as_ref(), "a").await, cluster::Presence::Present);
    while back.elapsed() < Duration::from_secs(1) {
        let why = refused(acquire(b.as_ref(), "b", 1, ttl).await);
        assert!(why.contains("came back"), "{why}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let held = [("group/g".parse::<LeaseName>().expect("a lease"), Epoch(1))];
    until("a renews", async || {
        a.renew(&node("a"), &held, SHORT).await.is_ok_and(|lost| lost.is_empty())
    })
    .await;
    let granted = acquire_soon(b.as_ref(), "b", 1, ttl).await;
    assert_eq!(granted.evidence, Evidence::Silent, "its liveness session came back with it");
}

/// One session of the server crashes, and PostgreSQL ends all others and recovers: it has been up
/// all the time, but all liveness locks are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_of_a_session_owners_have_a_full_ttl_to_renew() {
    let Some(server) = testbed::or_skip(Postgres::start()) else { return };
    server.create_database("store").expect("a database");
    let url = server.url("store");
    let ttl = Millis::seconds(8);
    let (_a, _) = owner(&url, "a", ttl).await;
    let b = join(&url, "b", ttl).await;
    let client = raw(&url).await;
    let crashing = count(&client, "SELECT pg_backend_pid()::bigint").await;
    // Later than the server's start by more than a ttl, or its start would explain the wait.
    tokio::time::sleep(ttl.as_duration()).await;
    let pid = i32::try_from(crashing).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is our server's");
    let crashed = Instant::now();
    until("the pool has new connections", async || b.now().await.is_ok()).await;
    until("presence is known again", async || b.presence().await.is_ok()).await;
    while crashed.elapsed() < Duration::from_secs(2) {
        assert_eq!(presence_of(b.as_ref(), "a").await, cluster::Presence::Present);
        let why = refused(acquire(b.as_ref(), "b", 1, ttl).await);
        assert!(why.contains("came back"), "{why}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_unavailable_within_the_patience() {
    let Some(server) = testbed::or_skip(Postgres::start()) else { return };
    server.create_database("store").expect("a database");
    let url = server.url("store");
    let patience = Millis::seconds(1);
    let options = Options { patience, ..Options::new(url.as_str(), "impatient") };
    let store = store::open(&options).await.expect("it opens");
    store.join(&node("a"), &crate::facts(), LONG).await.expect("the name is free");
    server.freeze();
    let (name, held) = (node("a"), [(LeaseName::Node(node("a")), Epoch(1))]);
    let begin = Instant::now();
    let (now, renewed) = tokio::join!(store.now(), store.renew(&name, &held, Millis::seconds(1)));
    assert!(matches!(now, Err(StoreError::Unavailable(_))), "{now:?}");
    assert!(matches!(renewed, Err(StoreError::Unavailable(_))), "{renewed:?}");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    server.thaw();
    until("it answers again", async || store.now().await.is_ok()).await;
    until("renewals go on", async || {
        store.renew(&name, &held, LONG).await.is_ok_and(|lost| lost.is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_that_end_the_same_messages_leave_nothing_behind() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let (a, fence) = owner(&url, "a", LONG).await;
    let route = |port: &str| Route { port: port.into(), host: HOST.into() };
    for _ in 0..10 {
        let mut messages: Vec<_> = (0..40).map(|_| message(None)).collect();
        for message in &mut messages {
            message.routes = vec![route("one"), route("two"), route("three")];
        }
        a.publish(&fence, &batch(messages)).await.expect("published");
        let worker = async || loop {
            let work = a.take(&fence, HOST, 7).await.expect("taken");
            if work.is_empty() {
                break;
            }
            let done: Vec<_> = work
                .iter()
                .rev()
                .map(|work| Settlement {
                    work: work.id,
                    outcome: Outcome::Done,
                    maybe_delivered: false,
                })
                .collect();
            a.settle(&fence, &done).await.expect("settled");
        };
        tokio::join!(worker(), worker(), worker());
    }
    let client = raw(&url).await;
    assert_eq!(count(&client, "SELECT count(*) FROM work").await, 0);
    assert_eq!(count(&client, "SELECT count(*) FROM message").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn awkward_text_is_kept() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let (a, fence) = owner(&url, "a", LONG).await;
    let keys = ["x".repeat(10_000), "x".repeat(10_001), "a\0b".to_owned()];
    let mut messages: Vec<_> = keys.iter().map(|key| message(Some(key))).collect();
    for message in &mut messages {
        message.publisher = "nul \0 in it".into();
        message.context = Context::default();
        message.context.set("FILE.ReceivedFileName", "nul \0 in it");
    }
    a.publish(&fence, &batch(messages)).await.expect("published");
    let receipts = a.receipts(SOURCE, &keys).await.expect("receipts");
    assert_eq!(receipts.len(), 3);
    assert!(receipts.iter().all(|receipt| keys.contains(&receipt.key)));
    let work = a.take(&fence, HOST, 10).await.expect("taken");
    assert_eq!(work[0].context.text("FILE.ReceivedFileName"), Some("nul \0 in it"));
    a.close_receipts(&fence, SOURCE, &keys).await.expect("closed");
    let receipts = a.receipts(SOURCE, &keys).await.expect("receipts");
    assert!(receipts.iter().all(|receipt| receipt.closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_may_begin_at_the_same_time() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let options = Options::new(url.as_str(), "one of many");
    let (one, two, three) =
        tokio::join!(store::open(&options), store::open(&options), store::open(&options));
    for opened in [one, two, three] {
        opened.expect("it opens");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_database_is_not_touched() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    open(&url, "today").await;
    let newer = "INSERT INTO schema_version (version, name, sha256) VALUES (3, '0003_more', 'x')";
    raw(&url).await.batch_execute(newer).await.expect("a step of tomorrow");
    match store::open(&Options::new(url.as_str(), "today")).await {
        Err(StoreError::Corrupt(why)) => assert!(why.contains("newer"), "{why}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_database_that_only_adds_is_worked_with() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    open(&url, "today").await;
    let client = raw(&url).await;
    let newer = "INSERT INTO schema_version (version, name, sha256, usable_from)
        VALUES (3, '0003_more', 'x', 2), (4, '0004_more', 'y', 2)";
    client.batch_execute(newer).await.expect("steps of tomorrow");
    let (store, fence) = owner(&url, "a", LONG).await;
    store.publish(&fence, &batch(vec![message(None)])).await.expect("it works on");
    let breaks = "UPDATE schema_version SET usable_from = 4 WHERE version = 4";
    client.batch_execute(breaks).await.expect("one that does not only add");
    match store::open(&Options::new(url.as_str(), "today")).await {
        Err(StoreError::Corrupt(why)) => assert!(why.contains("0004_more"), "{why}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_where_and_what_to_do_and_no_password() {
    // Port 1 of the loopback: nobody listens there.
    let there = "127.0.0.1:1/baton";
    for (url, expected) in [
        (format!("postgresql://baton:s3cret@{there}"), "baton@127.0.0.1:1/baton"),
        (format!("postgresql://baton:s3cret@{there}?nonsense=1"), "postgresql://USER@HOST"),
        ("postgresql://baton:s3cret@[bad/baton".to_owned(), "postgresql://USER@HOST"),
    ] {
        let Err(error) = store::open(&Options::new(url.as_str(), "test")).await else {
            panic!("{url} opened");
        };
        let told = format!("{error} {error:?}");
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
    }
}
