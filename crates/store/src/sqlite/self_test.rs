//! Tries the fence with the code that Baton uses, on a database of its own beside the real one: the
//! same file system, the same kinds of locks, and no file of the cluster.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::AcquireRequest;
use model::{Cause, Context, Epoch, LeaseName, MessageId, Millis, NodeName};
use rustix::fs::FlockOperation;
use uuid::Uuid;

use super::database::blocking;
use super::{Sqlite, receiving};
use crate::examine::Found;
use crate::{
    Acquired, Body, Fence, FenceToken, NewMessage, NodeFacts, PublishBatch, Result, Store,
    StoreError,
};

/// How long another examination is waited for, and how often it is looked whether it has ended.
const TURN_LIMIT: Duration = Duration::from_secs(10);
const TURN_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A lease that runs out at once, and a node that does not within the test.
const TTL: Millis = Millis(20);
const NODE_TTL: Millis = Millis::minutes(1);

/// Longest wait for a takeover.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// A publish stands open for so long with a takeover behind it: ten times what one takes.
const OPEN_FOR: Duration = Duration::from_millis(200);

/// Longest wait for that publish to have begun.
const BEGIN_LIMIT: Duration = Duration::from_secs(5);

const SOURCE: &str = "baton examination";

impl Sqlite {
    pub(super) async fn try_fence(&self) -> Result<Found> {
        let (lock, folder) = (self.folder.join("examine.lock"), self.folder.join("examine"));
        let Some(_turn) = turn(lock).await? else {
            return Ok(Found::not_applicable("another examination tries the fence just now"));
        };
        // Whoever has its turn owns the folder: what is in there was left by one that died.
        let clear = async || {
            let folder = folder.clone();
            blocking(move || match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            })
            .await
        };
        clear().await?;
        std::fs::create_dir_all(&folder)?;
        let tried = try_in(folder.join("scratch.db")).await;
        clear().await?;
        tried
    }
}

/// Waits until no other examination is under way; none when that takes too long.
async fn turn(path: PathBuf) -> Result<Option<File>> {
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    let deadline = Instant::now() + TURN_LIMIT;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() > deadline => return Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {
                tokio::time::sleep(TURN_AGAIN_AFTER).await;
            }
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
}

async fn try_in(database: PathBuf) -> Result<Found> {
    let a = Party::join(&database, "a").await?;
    let b = Party::join(&database, "b").await?;
    let group = "examined".parse().map_err(|error| StoreError::Corrupt(format!("{error}")))?;
    let lease = LeaseName::Group(group);
    let hole = |hole: &str| {
        Found::failed(
            format!("the fence has a hole: {hole}"),
            "stop the nodes, and report this with the file system that the database is on",
        )
    };
    let first = a.take(&lease, Epoch(0)).await?;
    let second = b.take(&lease, first.epoch()).await?;
    match a.store.publish(&first, &stale("after")).await {
        Err(StoreError::Fenced { .. }) => {}
        Ok(_) => return Ok(hole("an owner wrote after its lease had been taken over")),
        Err(error) => return Err(error),
    }
    if !b.store.receipts(SOURCE, &["after".to_owned()]).await?.is_empty() {
        return Ok(hole("a refused publish left a receipt"));
    }
    let Some(third) = past_an_open_publish(&a, &b, &second).await? else {
        return Ok(hole("a takeover did not wait for a publish that was open"));
    };
    if b.store.fence(&b.token(&lease, second.epoch())).await.is_ok() || third.epoch().0 != 3 {
        return Ok(hole("two owners have a current fence"));
    }
    Ok(Found::passed(
        "a stale owner's write was refused, and a takeover waited for a publish that was open; \
         tried in a database of its own beside the real one",
    ))
}

/// b publishes and stands still before it commits; a takes over behind it.
async fn past_an_open_publish(a: &Party, b: &Party, fence: &Fence) -> Result<Option<Fence>> {
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let shown = fence.clone();
    let publish = b.store.database.write(move |transaction| {
        receiving::publish(transaction, &shown, &stale("open"))?;
        // Nobody may listen any more, and nobody may answer: it goes on all the same.
        let _ = begun.send(());
        let _ = may_go_on.recv_timeout(OPEN_FOR * 2);
        Ok(())
    });
    let take_over = async {
        blocking(move || {
            has_begun
                .recv_timeout(BEGIN_LIMIT)
                .map_err(|_| StoreError::Unavailable("a publish did not begin in time".to_owned()))
        })
        .await?;
        let taking = a.take(fence.lease(), fence.epoch());
        tokio::pin!(taking);
        let waited = tokio::time::timeout(OPEN_FOR, &mut taking).await.is_err();
        let _ = go_on.send(());
        match waited {
            true => taking.await.map(Some),
            false => Ok(None),
        }
    };
    let (published, taken) = tokio::join!(publish, take_over);
    published?;
    taken
}

fn stale(key: &str) -> PublishBatch {
    let message = NewMessage {
        id: MessageId(Uuid::now_v7()),
        publisher: SOURCE.to_owned(),
        context: Context::default(),
        body: Body::Memory(Bytes::from_static(b"stale")),
        receipt: Some((SOURCE.to_owned(), key.to_owned())),
        routes: Vec::new(),
    };
    PublishBatch { definitions_version: 0, messages: [message].into() }
}

/// A node of the scratch database.
struct Party {
    store: Arc<Sqlite>,
    name: NodeName,
}

impl Party {
    async fn join(database: &std::path::Path, name: &str) -> Result<Party> {
        let name: NodeName = name.parse().map_err(|e| StoreError::Corrupt(format!("{e}")))?;
        let path = database.to_owned();
        let store = blocking(move || Sqlite::open(&path, Millis::seconds(10))).await?;
        store.join(&name, &NodeFacts::default(), NODE_TTL).await?;
        Ok(Party { store: Arc::new(store), name })
    }

    fn token(&self, lease: &LeaseName, epoch: Epoch) -> FenceToken {
        FenceToken { lease: lease.clone(), epoch, holder: self.name.clone() }
    }

    /// Takes the lease when it has run out.
    async fn take(&self, lease: &LeaseName, seen: Epoch) -> Result<Fence> {
        let request = AcquireRequest {
            lease: lease.clone(),
            seen_epoch: seen,
            cause: Cause::NodeLost,
            reason: "an examination".to_owned(),
            resource: None,
            external: false,
        };
        let deadline = Instant::now() + TAKEOVER_LIMIT;
        loop {
            match self.store.acquire(&self.name, &request, TTL).await? {
                Acquired::Granted(granted) => {
                    return self.store.fence(&self.token(lease, granted.epoch)).await;
                }
                Acquired::Refused(why) if Instant::now() > deadline => {
                    return Err(StoreError::Unavailable(why));
                }
                Acquired::Refused(_) => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
            }
        }
    }
}
