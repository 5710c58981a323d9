//! What operators see and do: suspended work, backlogs, reports.

use std::collections::BTreeMap;

use model::{Epoch, Timestamp, WorkId};
use store::{Fence, LocationReport, NewMessage, Outcome, Store, WorkQuery, WorkState, WorkView};

use crate::Engine;
use crate::case::{
    HOST, LONG, PORT, all_work, bodies_of, item, message, no_routes, node, owner, publish,
    publish_bodies, route, take,
};
use crate::sending::settle;

/// Suspends all there is for the usual host.
async fn suspend_all(store: &dyn Store, fence: &Fence) -> Vec<WorkId> {
    let work: Vec<_> = take(store, fence, 100).await.iter().map(|work| work.id).collect();
    settle(store, fence, &work, Outcome::Suspend { error: "no".into() }).await;
    work
}

async fn list(store: &dyn Store, query: WorkQuery) -> Vec<WorkView> {
    store.list_work(&query).await.expect("work can be listed")
}

pub async fn suspended_work_is_resumed(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1", "2"]).await;
    let work = suspend_all(a.store.as_ref(), &fence).await;
    let asked = [work[0], WorkId(999_999)];
    assert_eq!(a.store.resume(&asked, &no_routes()).await.expect("resumed"), 1);
    assert_eq!(a.store.resume(&asked, &no_routes()).await.expect("resumed"), 0);
    let again = take(a.store.as_ref(), &fence, 10).await;
    assert_eq!(bodies_of(&again), ["1"]);
    assert_eq!(again[0].attempts, 0, "it has all its tries again");
}

pub async fn a_routing_failure_is_resumed_along_new_routes(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let lost = |key| NewMessage { routes: vec![], ..item(key) };
    publish(a.store.as_ref(), &fence, vec![lost("1"), lost("2")]).await;
    let ids: Vec<_> = all_work(a.store.as_ref()).await.iter().map(|work| work.id).collect();
    assert_eq!(a.store.resume(&ids, &no_routes()).await.expect("answered"), 0, "still no route");
    let routes = BTreeMap::from([(ids[0], vec![route("one"), route("two")]), (ids[1], vec![])]);
    assert_eq!(a.store.resume(&ids, &routes).await.expect("resumed"), 1);
    let work = take(a.store.as_ref(), &fence, 10).await;
    assert_eq!(bodies_of(&work), ["1", "1"]);
    settle(a.store.as_ref(), &fence, &[work[0].id], Outcome::Done).await;
    let left = all_work(a.store.as_ref()).await;
    assert_eq!(left.len(), 2, "the other subscriber's, and the one without a route: {left:?}");
    settle(a.store.as_ref(), &fence, &[work[1].id], Outcome::Done).await;
    let left = all_work(a.store.as_ref()).await;
    assert_eq!((left.len(), left[0].port.as_str()), (1, ""));
}

pub async fn work_is_terminated_unless_it_is_active(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["postponed", "suspended", "active"]).await;
    let work: Vec<_> =
        take(a.store.as_ref(), &fence, 10).await.iter().map(|work| work.id).collect();
    let later = Outcome::Retry { after: LONG, error: "no answer".into() };
    settle(a.store.as_ref(), &fence, &work[..1], later).await;
    settle(a.store.as_ref(), &fence, &work[1..2], Outcome::Suspend { error: "no".into() }).await;
    publish_bodies(a.store.as_ref(), &fence, &["ready"]).await;
    let lost = NewMessage { routes: vec![], ..message("lost") };
    publish(a.store.as_ref(), &fence, vec![lost]).await;
    let ids: Vec<_> = all_work(a.store.as_ref()).await.iter().map(|work| work.id).collect();
    assert_eq!(ids.len(), 5);
    assert_eq!(a.store.terminate(&ids).await.expect("terminated"), 4);
    let left = all_work(a.store.as_ref()).await;
    assert_eq!(left.iter().map(|work| work.id).collect::<Vec<_>>(), work[2..]);
    settle(a.store.as_ref(), &fence, &work[2..], Outcome::Done).await;
    assert_eq!(all_work(a.store.as_ref()).await, []);
}

pub async fn work_is_listed_by_state_port_and_id(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1", "2"]).await;
    suspend_all(a.store.as_ref(), &fence).await;
    let other = NewMessage { routes: vec![route("other")], ..message("3") };
    publish(a.store.as_ref(), &fence, vec![other, message("4")]).await;
    let store = a.store.as_ref();
    let all = list(store, WorkQuery::default()).await;
    let ids: Vec<_> = all.iter().map(|work| work.id).collect();
    assert!(ids.len() == 4 && ids.is_sorted(), "oldest first: {ids:?}");
    for (state, count) in [(WorkState::Ready, 2), (WorkState::Active, 0), (WorkState::Suspended, 2)]
    {
        let found = list(store, WorkQuery { state: Some(state), ..WorkQuery::default() }).await;
        assert_eq!(found.len(), count, "{state:?}");
        assert!(found.iter().all(|work| work.state == state));
    }
    let of_port = WorkQuery { port: Some(PORT.into()), ..WorkQuery::default() };
    assert_eq!(list(store, of_port.clone()).await.len(), 3);
    let both = WorkQuery { state: Some(WorkState::Ready), ..of_port };
    assert_eq!(list(store, both).await, all[3..]);
    let of_ids = WorkQuery { ids: vec![ids[2], ids[0]], ..WorkQuery::default() };
    let found = list(store, of_ids).await;
    assert_eq!(found.iter().map(|work| work.id).collect::<Vec<_>>(), [ids[0], ids[2]]);
    let of_messages = WorkQuery { messages: vec![all[1].message], ..WorkQuery::default() };
    assert_eq!(list(store, of_messages).await, all[1..2]);
    let page = WorkQuery { limit: 2, ..WorkQuery::default() };
    assert_eq!(list(store, page.clone()).await, all[..2]);
    assert_eq!(list(store, WorkQuery { after: ids[1], ..page }).await, all[2..]);
}

pub async fn backlog_counts_work(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    assert_eq!(a.store.backlog().await.expect("counted"), []);
    publish_bodies(a.store.as_ref(), &fence, &["1"]).await;
    suspend_all(a.store.as_ref(), &fence).await;
    publish_bodies(a.store.as_ref(), &fence, &["2", "3", "4"]).await;
    let work: Vec<_> = take(a.store.as_ref(), &fence, 1).await.iter().map(|work| work.id).collect();
    let later = Outcome::Retry { after: LONG, error: "no answer".into() };
    settle(a.store.as_ref(), &fence, &work, later).await;
    let lost = NewMessage { routes: vec![], ..message("lost") };
    publish(a.store.as_ref(), &fence, vec![lost]).await;
    let mut counts: Vec<_> = a.store.backlog().await.expect("counted");
    counts.sort_by(|one, other| (&one.host, one.state).cmp(&(&other.host, other.state)));
    let oldest = all_work(a.store.as_ref()).await[0].published_at;
    assert_eq!(counts[2].oldest_at, Some(oldest));
    let seen: Vec<_> = counts
        .iter()
        .map(|line| (line.host.as_str(), line.port.as_str(), line.state, line.count))
        .collect();
    assert_eq!(
        seen,
        [
            ("", "", WorkState::Suspended, 1),
            (HOST, PORT, WorkState::Ready, 3),
            (HOST, PORT, WorkState::Suspended, 1),
        ]
    );
}

pub async fn locations_report(engine: &dyn Engine) {
    let store = engine.open("host").await;
    assert_eq!(store.locations().await.expect("read"), []);
    let first = LocationReport {
        location: "orders".into(),
        node: node("a"),
        epoch: Epoch(1),
        active_since: None,
        last_success_at: None,
        last_error_at: Some(Timestamp(5)),
        last_error: Some("connection refused".into()),
        received: 0,
        guarantee: "exactly-once".into(),
    };
    let second = LocationReport {
        active_since: Some(Timestamp(6)),
        last_success_at: Some(Timestamp(7)),
        last_error: None,
        received: 12,
        ..first.clone()
    };
    let other = LocationReport { location: "invoices".into(), ..first.clone() };
    for report in [&first, &other, &second] {
        store.report_location(report).await.expect("reported");
    }
    assert_eq!(store.locations().await.expect("read"), [other, second], "by name, the last each");
}
