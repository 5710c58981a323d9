//! Receiving: a message, its receipt and its work come together or not at all.

use model::{Millis, WorkId};
use store::{NewMessage, PublishBatch, Receipt, StoreError, WorkBody, WorkState};

use crate::Engine;
use crate::case::{
    HOST, PORT, SOURCE, all_work, apply, batch, bodies_of, definitions, item, message, now, owner,
    publish, route, take,
};

pub async fn a_published_message_has_a_receipt_and_work(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let began_at = now(a.store.as_ref()).await;
    let sent = item("1");
    assert_eq!(publish(a.store.as_ref(), &fence, vec![sent.clone()]).await, []);

    let keys = ["0".to_owned(), "1".to_owned()];
    let receipts = a.store.receipts(SOURCE, &keys).await.expect("read");
    assert_eq!(receipts, [Receipt { key: "1".into(), message: sent.id, closed: false }]);
    assert_eq!(a.store.receipts("ftp://another", &keys).await.expect("read"), []);

    let seen = all_work(a.store.as_ref()).await;
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].message, seen[0].state), (sent.id, WorkState::Ready));
    assert_eq!((seen[0].host.as_str(), seen[0].port.as_str()), (HOST, PORT));
    assert_eq!((seen[0].publisher.as_str(), seen[0].body_bytes), ("test", 1));
    assert!(seen[0].published_at >= began_at && seen[0].published_at.since(began_at).0 < 60_000);
    assert_eq!(seen[0].body.as_deref(), Some(b"1".as_slice()));

    let work = take(a.store.as_ref(), &fence, 10).await;
    assert_eq!(work.len(), 1);
    assert_eq!((work[0].message, &work[0].context), (sent.id, &sent.context));
    assert_eq!((work[0].port.as_str(), work[0].body_bytes, work[0].attempts), (PORT, 1, 0));
    assert!(!work[0].maybe_delivered);
    assert!(matches!(&work[0].body, WorkBody::Inline(body) if body == "1"), "{:?}", work[0].body);
}

pub async fn an_item_with_an_open_receipt_is_left_out_and_named(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let first = item("1");
    publish(a.store.as_ref(), &fence, vec![first.clone()]).await;
    let again = item("1");
    let duplicates =
        publish(a.store.as_ref(), &fence, vec![again.clone(), item("2"), message("3")]).await;
    assert_eq!(duplicates, [again.id]);
    let work = take(a.store.as_ref(), &fence, 10).await;
    assert_eq!(bodies_of(&work), ["1", "2", "3"]);
    let receipts = a.store.receipts(SOURCE, &["1".into()]).await.expect("read");
    assert_eq!(receipts[0].message, first.id, "the receipt names the message that is there");
}

pub async fn an_item_twice_in_one_batch_is_published_once(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let (first, second) = (item("1"), item("1"));
    let duplicates = publish(a.store.as_ref(), &fence, vec![first, second.clone()]).await;
    assert_eq!(duplicates, [second.id]);
    assert_eq!(all_work(a.store.as_ref()).await.len(), 1);
}

pub async fn a_closed_receipt_opens_again(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish(a.store.as_ref(), &fence, vec![item("1"), item("2")]).await;
    let closed = ["1".to_owned(), "unknown".to_owned()];
    a.store.close_receipts(&fence, SOURCE, &closed).await.expect("it is ours");
    a.store.close_receipts(&fence, SOURCE, &closed).await.expect("closing twice is harmless");
    let both = ["1".to_owned(), "2".to_owned()];
    let mut receipts = a.store.receipts(SOURCE, &both).await.expect("read");
    receipts.sort_by(|one, other| one.key.cmp(&other.key));
    assert_eq!(receipts.iter().map(|receipt| receipt.closed).collect::<Vec<_>>(), [true, false]);
    let open = a.store.open_receipts(SOURCE, 10).await.expect("read");
    assert_eq!(open, [receipts[1].key.clone()]);
    assert!(a.store.open_receipts("ftp://another", 10).await.expect("read").is_empty());

    let new = item("1");
    assert_eq!(publish(a.store.as_ref(), &fence, vec![new.clone()]).await, []);
    let receipts = a.store.receipts(SOURCE, &["1".into()]).await.expect("read");
    assert_eq!(receipts, [Receipt { key: "1".into(), message: new.id, closed: false }]);
    assert_eq!(all_work(a.store.as_ref()).await.len(), 3);
}

pub async fn stale_routes_write_nothing(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    apply(a.store.as_ref(), &definitions("first")).await;
    let result = a.store.publish(&fence, &batch(vec![item("1")])).await;
    assert!(matches!(result, Err(StoreError::StaleRoutes { seen: 0, now: 1 })), "{result:?}");
    assert_eq!(a.store.receipts(SOURCE, &["1".into()]).await.expect("read"), []);
    assert_eq!(all_work(a.store.as_ref()).await, []);
    let routed = PublishBatch { definitions_version: 1, messages: [item("1")].into() };
    a.store.publish(&fence, &routed).await.expect("version 1 is in force");
}

pub async fn a_message_without_a_route_is_suspended(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish(a.store.as_ref(), &fence, vec![NewMessage { routes: vec![], ..item("1") }]).await;
    let seen = all_work(a.store.as_ref()).await;
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].host.as_str(), seen[0].port.as_str()), ("", ""));
    assert_eq!(seen[0].state, WorkState::Suspended);
    assert!(seen[0].error.as_deref().is_some_and(|error| !error.is_empty()), "{seen:?}");
    assert!(take(a.store.as_ref(), &fence, 10).await.is_empty());
    assert_eq!(a.store.receipts(SOURCE, &["1".into()]).await.expect("read").len(), 1);
}

pub async fn a_message_of_two_routes_goes_with_the_last(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let routes = vec![route("one"), route("two")];
    publish(a.store.as_ref(), &fence, vec![NewMessage { routes, ..message("1") }]).await;
    let work = take(a.store.as_ref(), &fence, 10).await;
    let mut ports: Vec<_> = work.iter().map(|work| work.port.as_str()).collect();
    ports.sort_unstable();
    assert_eq!(ports, ["one", "two"]);
    crate::sending::settle(a.store.as_ref(), &fence, &[work[0].id], store::Outcome::Done).await;
    let left = all_work(a.store.as_ref()).await;
    assert_eq!((left.len(), left[0].id), (1, work[1].id));
    assert_eq!(left[0].body.as_deref(), Some(b"1".as_slice()), "the message is still there");
    crate::sending::settle(a.store.as_ref(), &fence, &[work[1].id], store::Outcome::Done).await;
    assert_eq!(all_work(a.store.as_ref()).await, []);
}

pub async fn an_empty_batch_is_nothing(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    assert_eq!(publish(a.store.as_ref(), &fence, vec![]).await, []);
    assert_eq!(a.store.receipts(SOURCE, &[]).await.expect("read"), []);
    a.store.close_receipts(&fence, SOURCE, &[]).await.expect("it is ours");
    a.store.settle(&fence, &[]).await.expect("it is ours");
    assert!(take(a.store.as_ref(), &fence, 0).await.is_empty());
    assert_eq!(a.store.terminate(&[WorkId(1)]).await.expect("nothing is there"), 0);
    assert_eq!(a.store.next_ready_at(HOST).await.expect("read"), None::<Millis>);
}
