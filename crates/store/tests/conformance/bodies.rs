//! Bodies: staged in chunks, resumed by whoever comes next, read in pieces.

use bytes::Bytes;
use model::BodyId;
use store::{
    Body, CHUNK_BYTES, Fence, INLINE_BYTES_MAX, NewMessage, Outcome, Store, Work, WorkBody,
};

use crate::Engine;
use crate::case::{
    LONG, SOURCE, all_work, assert_refused, batch, item, join, kill, message, owner, pattern,
    publish, read_whole, take,
};
use crate::sending::settle;

async fn staged(store: &dyn Store, fence: &Fence, key: &str, whole: &Bytes) -> BodyId {
    let staged = store.stage(fence, SOURCE, key).await.expect("it is ours");
    let mut offset = staged.offset as usize;
    while offset < whole.len() {
        let chunk = whole.slice(offset..whole.len().min(offset + CHUNK_BYTES));
        let bytes = chunk.len();
        store.append(fence, staged.body, offset as u64, chunk).await.expect("it fits");
        offset += bytes;
    }
    staged.body
}

fn of_staged(key: &str, id: BodyId, bytes: usize) -> NewMessage {
    NewMessage { body: Body::Staged { id, bytes: bytes as u64 }, ..item(key) }
}

fn body_of(work: &Work) -> BodyId {
    match work.body {
        WorkBody::Chunks(id) => id,
        WorkBody::Inline(_) => panic!("a body of {} bytes is inline", work.body_bytes),
    }
}

pub async fn a_body_is_staged_and_published(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let whole = pattern(CHUNK_BYTES * 2 + 7);
    let id = staged(a.store.as_ref(), &fence, "1", &whole).await;
    publish(a.store.as_ref(), &fence, vec![of_staged("1", id, whole.len())]).await;
    let work = take(a.store.as_ref(), &fence, 1).await;
    assert_eq!(work[0].body_bytes, whole.len() as u64);
    let view = &all_work(a.store.as_ref()).await[0];
    assert_eq!((view.body_id, &view.body), (Some(body_of(&work[0])), &None));
    let read = read_whole(a.store.as_ref(), body_of(&work[0]), 300_000).await;
    assert!(read == whole, "other bytes than were staged");
}

pub async fn another_owner_resumes_a_staged_body(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let whole = pattern(CHUNK_BYTES + 10);
    let id = staged(a.store.as_ref(), &fence, "1", &whole.slice(..CHUNK_BYTES)).await;
    let b = join(engine, "b").await;
    kill(a, b.store.as_ref()).await;
    let successor = b.own(fence.lease(), LONG).await;
    let resumed = b.store.stage(&successor, SOURCE, "1").await.expect("b has it");
    assert_eq!((resumed.body, resumed.offset), (id, CHUNK_BYTES as u64));
    let other = b.store.stage(&successor, SOURCE, "2").await.expect("b has it");
    assert_ne!(other.body, id, "another item has another body");
    staged(b.store.as_ref(), &successor, "1", &whole).await;
    publish(b.store.as_ref(), &successor, vec![of_staged("1", id, whole.len())]).await;
    let work = take(b.store.as_ref(), &successor, 1).await;
    let read = read_whole(b.store.as_ref(), body_of(&work[0]), CHUNK_BYTES).await;
    assert!(read == whole, "other bytes than were staged");
}

pub async fn a_chunk_at_a_wrong_offset_is_refused(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let id = staged(a.store.as_ref(), &fence, "1", &pattern(10)).await;
    for wrong in [0, 9, 11] {
        let why = assert_refused(a.store.append(&fence, id, wrong, pattern(1)).await);
        assert!(why.contains("10"), "does not say where it ends: {why}");
    }
    assert_refused(a.store.append(&fence, id, 10, pattern(CHUNK_BYTES + 1)).await);
    let unknown = BodyId(uuid::Uuid::now_v7());
    assert_refused(a.store.append(&fence, unknown, 0, pattern(1)).await);
    assert_eq!(a.store.stage(&fence, SOURCE, "1").await.expect("it is ours").offset, 10);
}

pub async fn a_discarded_body_is_begun_anew(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let id = staged(a.store.as_ref(), &fence, "1", &pattern(10)).await;
    a.store.discard(&fence, id).await.expect("it is ours");
    a.store.discard(&fence, id).await.expect("discarding twice is harmless");
    let anew = a.store.stage(&fence, SOURCE, "1").await.expect("it is ours");
    assert_eq!(anew.offset, 0);
    assert_ne!(anew.body, id);
    let late = vec![of_staged("1", id, 10)];
    assert_refused(a.store.publish(&fence, &batch(late)).await);
}

pub async fn a_staged_body_of_another_length_is_not_published(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let id = staged(a.store.as_ref(), &fence, "1", &pattern(10)).await;
    for wrong in [0, 9, 11] {
        let wrong = vec![message("before"), of_staged("1", id, wrong)];
        assert_refused(a.store.publish(&fence, &batch(wrong)).await);
    }
    let unknown = vec![of_staged("1", BodyId(uuid::Uuid::now_v7()), 10)];
    assert_refused(a.store.publish(&fence, &batch(unknown)).await);
    assert_eq!(all_work(a.store.as_ref()).await, [], "the whole batch was refused");
    publish(a.store.as_ref(), &fence, vec![of_staged("1", id, 10)]).await;
}

pub async fn a_published_body_is_closed_to_appends(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let id = staged(a.store.as_ref(), &fence, "1", &pattern(10)).await;
    publish(a.store.as_ref(), &fence, vec![of_staged("1", id, 10)]).await;
    assert_refused(a.store.append(&fence, id, 10, pattern(1)).await);
    assert_refused(a.store.publish(&fence, &batch(vec![of_staged("2", id, 10)])).await);
    a.store.discard(&fence, id).await.ok();
    let work = take(a.store.as_ref(), &fence, 1).await;
    let read = read_whole(a.store.as_ref(), body_of(&work[0]), 100).await;
    assert_eq!(read, pattern(10), "a discard that comes late must not touch a message");
}

pub async fn a_large_body_in_memory_is_read_back_in_pieces(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let edge = NewMessage { body: Body::Memory(pattern(INLINE_BYTES_MAX)), ..message("edge") };
    let whole = pattern(CHUNK_BYTES + INLINE_BYTES_MAX);
    let large = NewMessage { body: Body::Memory(whole.clone()), ..message("large") };
    publish(a.store.as_ref(), &fence, vec![edge, large]).await;
    let work = take(a.store.as_ref(), &fence, 2).await;
    assert!(matches!(&work[0].body, WorkBody::Inline(body) if *body == pattern(INLINE_BYTES_MAX)));
    assert_eq!(work[1].body_bytes, whole.len() as u64);
    let id = body_of(&work[1]);
    let read = read_whole(a.store.as_ref(), id, 100_000).await;
    assert!(read == whole, "other bytes than were published");
    let beyond = a.store.read_body(id, whole.len() as u64 + 5, 10).await.expect("read");
    assert!(beyond.is_empty());
    let middle = a.store.read_body(id, 5, 3).await.expect("read");
    assert_eq!(middle, whole.slice(5..8));
}

pub async fn a_body_goes_with_its_message(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let id = staged(a.store.as_ref(), &fence, "1", &pattern(10)).await;
    publish(a.store.as_ref(), &fence, vec![of_staged("1", id, 10)]).await;
    let work = take(a.store.as_ref(), &fence, 1).await;
    settle(a.store.as_ref(), &fence, &[work[0].id], Outcome::Done).await;
    let read = a.store.read_body(id, 0, 100).await.unwrap_or_default();
    assert!(read.is_empty(), "{} bytes are left", read.len());
}
