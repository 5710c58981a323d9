//! Run Z of the cluster reference: two nodes take a group from each other every few dozen
//! milliseconds while publishers of both pause inside their transactions. The commit time of each
//! message is compared with that of the takeover that ended its epoch: none may be later.
//!
//! The same run with a fence that only looks must find stale messages, or the checker is blind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster::AcquireRequest;
use model::{Cause, Epoch, Millis};
use store::{Acquired, FenceToken, Store, StoreError};
use testbed::{Postgres, Shutdown};
use tokio_postgres::Client;

use crate::{batch, count, group, join, message, node, raw};

const TTL: Millis = Millis(60);

/// A pause is ten times a ttl: what is paused is stale when it goes on.
const PAUSE: Duration = Duration::from_millis(600);

/// Reads the lease as the fence does, but locks nothing.
const MUTANT: &str = "
    CREATE FUNCTION mutant_fence(fence_lease text, fence_epoch bigint, fence_holder text)
    RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM 1 FROM lease
            WHERE name = fence_lease AND epoch = fence_epoch AND holder = fence_holder;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'stale fence' USING ERRCODE = 'BT001';
        END IF;
    END
    $$";

const INSERT: &str = "
    INSERT INTO message (
        id, published_at, epoch, body_bytes, work_rows, lease, publisher, context)
    VALUES (gen_random_uuid(), 0, $1, 0, 1, 'group/g', 'raw', '{}')";

/// Messages that committed after the takeover that ended their epoch.
const STALE: &str = "
    SELECT count(*) FROM message JOIN lease_history AS takeover
        ON takeover.lease = message.lease AND takeover.epoch = message.epoch + 1
    WHERE pg_xact_commit_timestamp(message.xmin) >= pg_xact_commit_timestamp(takeover.xmin)";

/// What a run has come to.
struct Figures {
    messages: i64,
    takeovers: i64,
    stale: i64,
    fenced: u64,
    slowest_takeover: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_message_is_committed_after_the_end_of_its_epoch() {
    let Some(figures) = run("baton_fence", Duration::from_secs(10)).await else { return };
    assert_eq!(figures.stale, 0, "stale messages");
    assert!(figures.takeovers >= 20, "too few takeovers to mean anything");
    assert!(figures.fenced >= 20, "too few stale tries to mean anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fence_that_only_looks_is_found_out() {
    let Some(figures) = run("mutant_fence", Duration::from_secs(4)).await else { return };
    assert!(figures.stale > 0, "the checker finds nothing where there must be something");
}

async fn run(fence: &'static str, length: Duration) -> Option<Figures> {
    let mut server = testbed::or_skip(Postgres::start())?;
    testbed::psql(&server.url("postgres"), "ALTER SYSTEM SET track_commit_timestamp = on")
        .expect("a setting");
    server.restart(Shutdown::Fast).expect("a restart");
    server.create_database("store").expect("a database");
    let url = server.url("store");
    let clash = Arc::new(Clash::default());
    let mut tasks = tokio::task::JoinSet::new();
    for name in ["a", "b"] {
        let store = join(&url, name, Millis::minutes(10)).await;
        if name == "a" {
            raw(&url).await.batch_execute(MUTANT).await.expect("a function");
        }
        tasks.spawn(own(store.clone(), name, clash.clone()));
        for seed in 0..4 {
            tasks.spawn(publish(url.clone(), name, fence, seed, clash.clone()));
        }
        if fence == "baton_fence" {
            tasks.spawn(publish_by_the_store(store, name, clash.clone()));
        }
    }
    tokio::time::sleep(length).await;
    clash.over.store(true, Ordering::SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no panic");
    }
    let client = raw(&url).await;
    let figures = Figures {
        messages: count(&client, "SELECT count(*) FROM message").await,
        takeovers: count(&client, "SELECT max(epoch) FROM lease_history").await,
        stale: count(&client, STALE).await,
        fenced: clash.fenced.load(Ordering::SeqCst),
        slowest_takeover: Duration::from_micros(clash.slowest_us.load(Ordering::SeqCst)),
    };
    println!(
        "{fence}: {} messages, {} takeovers (slowest {:?}), {} refused, {} stale",
        figures.messages,
        figures.takeovers,
        figures.slowest_takeover,
        figures.fenced,
        figures.stale
    );
    Some(figures)
}

/// What the tasks of a run share.
#[derive(Default)]
struct Clash {
    over: AtomicBool,
    /// Newest epoch that each node was granted: it goes on with it when it has lost it long ago.
    granted: [AtomicU64; 2],
    fenced: AtomicU64,
    slowest_us: AtomicU64,
}

impl Clash {
    fn over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn epoch_of(&self, name: &str) -> &AtomicU64 {
        &self.granted[usize::from(name == "b")]
    }
}

/// Takes the group whenever it can, renews it for a while, then forgets to.
async fn own(store: Arc<dyn Store>, name: &'static str, clash: Arc<Clash>) {
    let mut turn: u32 = 0;
    while !clash.over() {
        turn += 1;
        let snapshot = store.snapshot().await.expect("the store answers");
        let seen = snapshot.leases.first().map_or(Epoch(0), |lease| lease.epoch);
        let holder = snapshot.leases.first().and_then(|lease| lease.holder.clone());
        if holder == Some(node(name)) {
            if !turn.is_multiple_of(4) {
                let held = [(group(), seen)];
                store.renew(&node(name), &held, TTL).await.expect("the store answers");
            }
            // Every fourth time it forgets to, for longer than the lease lives.
            let pause = if turn.is_multiple_of(4) { TTL.0 * 2 } else { TTL.0 / 3 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
            continue;
        }
        let request = AcquireRequest {
            lease: group(),
            seen_epoch: seen,
            cause: Cause::Failover,
            reason: "fuzz".into(),
            resource: None,
            external: false,
        };
        let begin = Instant::now();
        if let Acquired::Granted(granted) =
            store.acquire(&node(name), &request, TTL).await.expect("the store answers")
        {
            let took = u64::try_from(begin.elapsed().as_micros()).expect("not that long");
            clash.slowest_us.fetch_max(took, Ordering::SeqCst);
            clash.epoch_of(name).store(granted.epoch.0, Ordering::SeqCst);
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Publishes by hand, so that it can pause between the fence and COMMIT; now and then it does.
async fn publish(
    url: String,
    name: &'static str,
    fence: &'static str,
    seed: u64,
    clash: Arc<Clash>,
) {
    let mut client = raw(&url).await;
    let mut turn = seed * 17;
    while !clash.over() {
        turn += 1;
        let epoch = clash.epoch_of(name).load(Ordering::SeqCst).cast_signed();
        let pause = if turn.is_multiple_of(70) { PAUSE } else { Duration::ZERO };
        match publish_one(&client, fence, epoch, name, pause).await {
            Ok(()) => {}
            Err(error) if error.code().is_some_and(|code| code.code() == "BT001") => {
                clash.fenced.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // The takeover has ended the session, as it should when it stands still.
            Err(_) => client = raw(&url).await,
        }
        let _ = client.batch_execute("ROLLBACK").await;
    }
}

async fn publish_one(
    client: &Client,
    fence: &str,
    epoch: i64,
    name: &str,
    pause: Duration,
) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    client.execute(&format!("SELECT {fence}('group/g', $1, $2)"), &[&epoch, &name]).await?;
    tokio::time::sleep(pause).await;
    client.execute(INSERT, &[&epoch]).await?;
    client.batch_execute("COMMIT").await
}

/// Publishes as a host does, with a fence made when it was current.
async fn publish_by_the_store(store: Arc<dyn Store>, name: &'static str, clash: Arc<Clash>) {
    while !clash.over() {
        let epoch = Epoch(clash.epoch_of(name).load(Ordering::SeqCst));
        let token = FenceToken { lease: group(), epoch, holder: node(name) };
        let Ok(fence) = store.fence(&token).await else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        loop {
            match store.publish(&fence, &batch(vec![message(None)])).await {
                Ok(_) if !clash.over() => {}
                Err(StoreError::Unavailable(_)) => {}
                Err(StoreError::Fenced { .. }) => {
                    clash.fenced.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                Ok(_) => return,
                Err(other) => panic!("{other}"),
            }
        }
    }
}
