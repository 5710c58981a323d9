//! What only SQLite has: processes that freeze on the write lock, locks that children inherit, and
//! the schema of a file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::{AcquireRequest, Presence};
use model::{Cause, Context, Epoch, Evidence, LeaseName, MessageId, Millis, NodeName};
use rustix::process::{Pid, Signal, kill_process};
use store::{
    Acquired, Body, Fence, FenceToken, NewMessage, NodeFacts, Options, PublishBatch, Route, Store,
    StoreError,
};

/// Tells a copy of this test binary, started by a test, what it is.
const ROLE: &str = "BATON_STORE_CHILD";
/// The database of that copy.
const DATABASE: &str = "BATON_STORE_DATABASE";
/// A ttl that does not run out within a test.
const LONG: Millis = Millis::minutes(10);

async fn open(database: &Path) -> Result<Arc<dyn Store>, StoreError> {
    store::open(&Options::new(format!("sqlite:{}", database.display()), "test")).await
}

fn beside(database: &Path, name: &str) -> PathBuf {
    database.with_extension("db.d").join(name)
}

fn node(name: &str) -> NodeName {
    name.parse().expect("a node name")
}

fn group() -> LeaseName {
    "group/g".parse().expect("a lease name")
}

async fn join(store: &dyn Store, name: &str) {
    let facts = NodeFacts { machine: "m".into(), pid: std::process::id(), version: "0".into() };
    store.join(&node(name), &facts, LONG).await.expect("the name is free");
}

async fn acquire(store: &dyn Store, name: &str, seen: u64) -> Acquired {
    let request = AcquireRequest {
        lease: group(),
        seen_epoch: Epoch(seen),
        cause: Cause::NodeLost,
        reason: "a test".into(),
        resource: None,
        external: false,
    };
    store.acquire(&node(name), &request, LONG).await.expect("the store answers")
}

async fn own(store: &dyn Store, name: &str) -> Fence {
    assert!(matches!(acquire(store, name, 0).await, Acquired::Granted(_)));
    let token = FenceToken { lease: group(), epoch: Epoch(1), holder: node(name) };
    store.fence(&token).await.expect("it is current")
}

fn batch(messages: usize) -> PublishBatch {
    let message = |_| NewMessage {
        id: MessageId(uuid::Uuid::now_v7()),
        publisher: "test".into(),
        context: Context::default(),
        body: Body::Memory(vec![7; 1024].into()),
        receipt: None,
        routes: vec![Route { port: "p".into(), host: "h".into() }],
    };
    PublishBatch { definitions_version: 0, messages: (0..messages).map(message).collect() }
}

/// A copy of this test binary in a role; killed when dropped.
struct Helper {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Helper {
    fn start(role: &str, database: &Path) -> Helper {
        let mut child = Command::new(std::env::current_exe().expect("a test binary"))
            .args(["a_child_plays_its_role", "--exact", "--nocapture"])
            .env(ROLE, role)
            .env(DATABASE, database)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let says = BufReader::new(child.stdout.take().expect("it is piped"));
        Helper { child, says }
    }

    /// Waits for a line that begins with a word, and answers the rest of it.
    fn wait_for(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let bytes = self.says.read_line(&mut line).expect("it is piped");
            assert!(bytes > 0, "it ended without saying {word}");
            // The test harness may have begun the line.
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is our child");
    }

    /// Stops it, and waits until the last of its threads is: the signal reaches them one by one.
    fn freeze(&self) {
        self.signal(Signal::STOP);
        let threads = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let is_stopped = |thread: std::io::Result<std::fs::DirEntry>| {
            let stat =
                thread.and_then(|thread| std::fs::read_to_string(thread.path().join("stat")));
            stat.is_ok_and(|stat| stat.contains(") T "))
        };
        let give_up_at = Instant::now() + Duration::from_secs(10);
        while !std::fs::read_dir(&threads).expect("it lives").all(is_stopped) {
            assert!(Instant::now() < give_up_at, "it does not stop; has it ended?");
            std::thread::yield_now();
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_child_plays_its_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let database = PathBuf::from(std::env::var_os(DATABASE).expect("its parent says"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match role.as_str() {
        "publish" => runtime.block_on(publish_for_ever(&database)),
        "freeze" => freeze_on_the_lock(&database),
        "hang" => hang_on_the_lock(&database),
        "node" => runtime.block_on(live_with_a_child(&database)),
        other => panic!("no such role: {other}"),
    }
}

async fn publish_for_ever(database: &Path) {
    let store = open(database).await.expect("it opens");
    join(store.as_ref(), "a").await;
    let fence = own(store.as_ref(), "a").await;
    println!("\nready");
    loop {
        store.publish(&fence, &batch(200)).await.expect("it is ours");
    }
}

/// Takes the write lock and the database's, and no record of it is left.
fn lock_by_hand(database: &Path) -> (File, rusqlite::Connection) {
    let lock = File::options().write(true).open(beside(database, "write.lock")).expect("there");
    lock.lock().expect("it can be taken");
    let connection = rusqlite::Connection::open(database).expect("it is there");
    connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM lease").expect("nobody writes");
    println!("\nready");
    (lock, connection)
}

fn freeze_on_the_lock(database: &Path) {
    let _held = lock_by_hand(database);
    rustix::process::kill_process(rustix::process::getpid(), Signal::STOP).expect("it is us");
    // The signal may stop another thread first, and this one must not get on to let go.
    std::thread::sleep(Duration::from_secs(60));
}

fn hang_on_the_lock(database: &Path) {
    let _held = lock_by_hand(database);
    let record = File::options().write(true).open(beside(database, "write.lock")).expect("there");
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let text = format!("{} {}", std::process::id(), boot.tv_sec * 1000);
    std::os::unix::fs::FileExt::write_all_at(&record, format!("{text:<47}\n").as_bytes(), 0)
        .expect("it can be written");
    std::thread::sleep(Duration::from_secs(60));
}

async fn live_with_a_child(database: &Path) {
    let store = open(database).await.expect("it opens");
    join(store.as_ref(), "a").await;
    own(store.as_ref(), "a").await;
    let mut child = Command::new("sleep").arg("60").spawn().expect("it starts");
    println!("\nchild {}", child.id());
    child.wait().expect("it ends");
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let database = folder.path().join("baton.db");
    (folder, database)
}

fn is_locked(database: &Path) -> bool {
    let lock = File::options().write(true).open(beside(database, "write.lock")).expect("there");
    lock.try_lock().is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_freezes_within_a_transaction_is_killed() {
    let (_folder, database) = folder();
    let store = open(&database).await.expect("it opens");
    join(store.as_ref(), "b").await;
    let mut helper = Helper::start("publish", &database);
    helper.wait_for("ready");
    loop {
        helper.freeze();
        if is_locked(&database) {
            break;
        }
        helper.signal(Signal::CONT);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let backlog = store.backlog().await.expect("readers do not wait");
    let asked_at = Instant::now();
    let granted = loop {
        assert!(asked_at.elapsed() < Duration::from_secs(1), "{:?}", asked_at.elapsed());
        // Its descriptors are closed one after the other, the node's lock not as the first.
        if let Acquired::Granted(granted) = acquire(store.as_ref(), "b", 1).await {
            break granted;
        }
    };
    println!("past a frozen writer in {:?}", asked_at.elapsed());
    assert_eq!((granted.epoch, granted.evidence), (Epoch(2), Evidence::ConfirmedDead));
    assert!(!helper.child.wait().expect("it is our child").success(), "it was not killed");
    let after = store.backlog().await.expect("read");
    assert_eq!(after, backlog, "what the frozen writer had not committed is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_holder_without_a_record_is_found() {
    let (_folder, database) = folder();
    let store = open(&database).await.expect("it opens");
    join(store.as_ref(), "b").await;
    let mut helper = Helper::start("freeze", &database);
    helper.wait_for("ready");
    let asked_at = Instant::now();
    assert!(matches!(acquire(store.as_ref(), "b", 0).await, Acquired::Granted(_)));
    assert!(asked_at.elapsed() < Duration::from_secs(1), "{:?}", asked_at.elapsed());
    assert!(!helper.child.wait().expect("it is our child").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_hangs_is_killed_after_a_while() {
    let (_folder, database) = folder();
    let store = open(&database).await.expect("it opens");
    join(store.as_ref(), "b").await;
    let mut helper = Helper::start("hang", &database);
    helper.wait_for("ready");
    let asked_at = Instant::now();
    assert!(matches!(acquire(store.as_ref(), "b", 0).await, Acquired::Granted(_)));
    let waited = asked_at.elapsed();
    assert!(waited > Duration::from_secs(2) && waited < Duration::from_secs(8), "{waited:?}");
    assert!(!helper.child.wait().expect("it is our child").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_dead_when_its_last_child_is() {
    let (_folder, database) = folder();
    let store = open(&database).await.expect("it opens");
    join(store.as_ref(), "b").await;
    let mut helper = Helper::start("node", &database);
    let child: i32 = helper.wait_for("child ").parse().expect("a process id");
    let presence = async || store.presence().await.expect("read")[&node("a")];
    assert_eq!(presence().await, Presence::Present);
    helper.child.kill().expect("it is our child");
    helper.child.wait().expect("it is our child");
    assert_eq!(presence().await, Presence::Present, "its child could still write");
    assert!(matches!(acquire(store.as_ref(), "b", 1).await, Acquired::Refused(_)));

    let killed_at = Instant::now();
    kill_process(Pid::from_raw(child).expect("a process id"), Signal::KILL).expect("it is ours");
    while presence().await == Presence::Present {
        assert!(killed_at.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("seen as dead after {:?}", killed_at.elapsed());
    assert_eq!(presence().await, Presence::ConfirmedDead);
    let taken = acquire(store.as_ref(), "b", 1).await;
    let Acquired::Granted(granted) = taken else { panic!("{taken:?}") };
    assert_eq!(granted.evidence, Evidence::ConfirmedDead);
    // What the harness of the helper had still to say.
    helper.says.read_to_string(&mut String::new()).ok();
}

#[tokio::test]
async fn a_store_of_another_schema_is_refused() {
    let (_folder, database) = folder();
    drop(open(&database).await.expect("it is made"));
    drop(open(&database).await.expect("it opens again"));
    let direct = rusqlite::Connection::open(&database).expect("it is there");
    direct
        .execute("INSERT INTO schema_version VALUES (3, '0003_later', 'abc', 0, NULL)", [])
        .expect("it can be written");
    let refused = open(&database).await.err().expect("it is newer");
    assert!(matches!(&refused, StoreError::Corrupt(why) if why.contains("newer")), "{refused}");
    let set = "UPDATE schema_version SET usable_from = ?1 WHERE version = 3";
    direct.execute(set, [3]).expect("written");
    open(&database).await.err().expect("it is too new by its own word");
    // A step that only adds: the release before works on beside the new one.
    direct.execute(set, [2]).expect("written");
    let store = open(&database).await.expect("it fits");
    join(store.as_ref(), "a").await;
    own(store.as_ref(), "a").await;
    drop(store);
    direct.execute("DELETE FROM schema_version WHERE version = 3", []).expect("written");
    let says =
        direct.query_row("SELECT usable_from FROM schema_version WHERE version = 2", [], |row| {
            row.get::<_, i64>(0)
        });
    assert_eq!(says, Ok(2));
    direct.execute("UPDATE schema_version SET sha256 = 'abc'", []).expect("written");
    let refused = open(&database).await.err().expect("it was altered");
    assert!(matches!(&refused, StoreError::Corrupt(why) if why.contains("0001")), "{refused}");
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let (_folder, database) = folder();
    std::fs::write(&database, [b'x'; 5000]).expect("it can be written");
    let refused = open(&database).await.err().expect("it is none");
    assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
    for url in ["sqlite:", "sqlite://host/x.db", "sqlite:/folder/"] {
        let refused = store::open(&Options::new(url, "test")).await.err().expect("no file");
        assert!(matches!(refused, StoreError::Refused(_)), "{url}: {refused}");
    }
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let (_folder, database) = folder();
    drop(open(&database).await.expect("it is made"));
    let direct = rusqlite::Connection::open(&database).expect("it is there");
    let statements = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/sqlite");
    let mut prepared = 0;
    for entry in std::fs::read_dir(statements).expect("it is there").flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "sql") {
            let text = std::fs::read_to_string(entry.path()).expect("it can be read");
            direct.prepare(&text).unwrap_or_else(|error| panic!("{:?}: {error}", entry.path()));
            prepared += 1;
        }
    }
    assert!(prepared > 50, "only {prepared} statements found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_stops_waiting_harms_nobody() {
    let (_folder, database) = folder();
    let store = open(&database).await.expect("it opens");
    join(store.as_ref(), "a").await;
    let fence = own(store.as_ref(), "a").await;
    for _ in 0..50 {
        let batch = batch(20);
        let publish = store.publish(&fence, &batch);
        tokio::time::timeout(Duration::from_micros(200), publish).await.ok();
    }
    store.publish(&fence, &batch(1)).await.expect("the writer lives");
    let lines = store.backlog().await.expect("read");
    assert_eq!((lines.len(), lines[0].count % 20), (1, 1), "whole batches only: {lines:?}");
}
