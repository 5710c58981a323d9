//! Fences: each method that shows one is refused once the lease has changed hands, and then has
//! written nothing.

use bytes::Bytes;
use store::{Fence, Outcome, Settlement};

use crate::Engine;
use crate::case::{
    HOST, LONG, Member, PORT, SOURCE, all_work, assert_fenced, batch, granted, item, kill, message,
    owner, publish, publish_bodies, take,
};

/// An owner whose lease another node has taken. It never noticed.
async fn stale(engine: &dyn Engine) -> (Member, Fence, Member, Fence) {
    let (a, fence) = owner(engine).await;
    let b = take_over(engine, &a, &fence).await;
    let successor = b.fence(fence.lease(), model::Epoch(fence.epoch().0 + 1)).await;
    let successor = successor.expect("b has it");
    (a, fence, b, successor)
}

/// Lets `b` take the lease of a node that still lives: released by its own node, under its host.
async fn take_over(engine: &dyn Engine, a: &Member, fence: &Fence) -> Member {
    let b = crate::case::join(engine, "b").await;
    a.release(fence.lease(), fence.epoch()).await.expect("it is ours");
    granted(b.acquire(fence.lease(), LONG).await);
    b
}

pub async fn publish_is_refused_after_a_takeover(engine: &dyn Engine) {
    let (a, fence, b, successor) = stale(engine).await;
    assert_fenced(a.store.publish(&fence, &batch(vec![item("1")])).await, &fence);
    assert_eq!(b.store.receipts(SOURCE, &["1".into()]).await.expect("read"), []);
    assert_eq!(all_work(b.store.as_ref()).await, []);
    publish(b.store.as_ref(), &successor, vec![item("1")]).await;
    assert_eq!(all_work(b.store.as_ref()).await.len(), 1);
}

pub async fn stage_is_refused_after_a_takeover(engine: &dyn Engine) {
    let (a, fence, b, successor) = stale(engine).await;
    assert_fenced(a.store.stage(&fence, SOURCE, "1").await, &fence);
    let staged = b.store.stage(&successor, SOURCE, "1").await.expect("b has it");
    assert_eq!(staged.offset, 0);
}

pub async fn append_is_refused_after_a_takeover(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let staged = a.store.stage(&fence, SOURCE, "1").await.expect("it is ours");
    let b = take_over(engine, &a, &fence).await;
    let appended = a.store.append(&fence, staged.body, 0, Bytes::from_static(b"late")).await;
    assert_fenced(appended, &fence);
    assert_eq!(b.store.read_body(staged.body, 0, 10).await.expect("read").len(), 0);
}

pub async fn discard_is_refused_after_a_takeover(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let staged = a.store.stage(&fence, SOURCE, "1").await.expect("it is ours");
    let chunk = Bytes::from_static(b"kept");
    a.store.append(&fence, staged.body, 0, chunk.clone()).await.expect("it is ours");
    let b = take_over(engine, &a, &fence).await;
    assert_fenced(a.store.discard(&fence, staged.body).await, &fence);
    assert_eq!(b.store.read_body(staged.body, 0, 10).await.expect("read"), chunk);
}

pub async fn close_receipts_is_refused_after_a_takeover(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish(a.store.as_ref(), &fence, vec![item("1")]).await;
    let b = take_over(engine, &a, &fence).await;
    assert_fenced(a.store.close_receipts(&fence, SOURCE, &["1".into()]).await, &fence);
    let receipts = b.store.receipts(SOURCE, &["1".into()]).await.expect("read");
    assert!(!receipts[0].closed, "{receipts:?}");
}

pub async fn take_is_refused_after_a_takeover(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    assert_fenced(a.store.take(&stale_of(&a, &fence, engine).await, HOST, 10).await, &fence);
    let (_, successor) = successor(&fence, engine).await;
    publish_bodies(a.store.as_ref(), &successor, &["1"]).await;
    // Also when there is work: the first one may have been refused for having found none.
    assert_fenced(a.store.take(&fence, HOST, 10).await, &fence);
    assert_eq!(take(a.store.as_ref(), &successor, 10).await.len(), 1);
}

/// Another node takes the lease and dies; the fence before is stale.
async fn stale_of(a: &Member, fence: &Fence, engine: &dyn Engine) -> Fence {
    let b = take_over(engine, a, fence).await;
    kill(b, a.store.as_ref()).await;
    fence.clone()
}

/// A third node takes the lease of a dead one.
async fn successor(fence: &Fence, engine: &dyn Engine) -> (Member, Fence) {
    let c = crate::case::join(engine, "c").await;
    let taken = c.own(fence.lease(), LONG).await;
    (c, taken)
}

pub async fn settle_is_refused_after_a_takeover(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1"]).await;
    let work = take(a.store.as_ref(), &fence, 1).await;
    let b = take_over(engine, &a, &fence).await;
    for outcome in [
        Outcome::Done,
        Outcome::Return,
        Outcome::Suspend { error: "late".into() },
        Outcome::Retry { after: model::Millis(1), error: "late".into() },
    ] {
        let settlement = Settlement { work: work[0].id, outcome, maybe_delivered: false };
        assert_fenced(a.store.settle(&fence, &[settlement]).await, &fence);
    }
    let left = all_work(b.store.as_ref()).await;
    assert_eq!((left.len(), left[0].error.as_deref()), (1, None));
}

pub async fn every_write_is_refused_after_a_release(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1"]).await;
    a.release(fence.lease(), fence.epoch()).await.expect("it is ours");
    let store = &a.store;
    assert_fenced(store.publish(&fence, &batch(vec![message("2")])).await, &fence);
    assert_fenced(store.stage(&fence, SOURCE, "1").await, &fence);
    assert_fenced(store.close_receipts(&fence, SOURCE, &["1".into()]).await, &fence);
    assert_fenced(store.take(&fence, HOST, 1).await, &fence);
    assert_fenced(store.settle(&fence, &[]).await, &fence);
    let left = all_work(store.as_ref()).await;
    assert_eq!((left.len(), left[0].port.as_str()), (1, PORT));
}
