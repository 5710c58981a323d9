//! What operators want of groups and nodes, what owners say of resources, and operator events.

use std::time::Duration;

use cluster::{Duty, GroupOrder, NodeOrder, ResourceReport, ResumeFailback};
use model::{Epoch, EventId, LeaseName, OperatorEvent, ResourceState, Timestamp};
use store::{EventQuery, Store, StoreError, Topic};

use crate::Engine;
use crate::case::{
    LONG, SHORT, SOON, SOURCE, apply, assert_refused, definitions, granted, group, item, join,
    join_for, kill, node, now, owner, publish, until,
};

fn group_order(online: bool, at: Timestamp) -> GroupOrder {
    GroupOrder {
        group: "g".parse().expect("a group name"),
        online,
        unmonitored_until: None,
        by: "operator".into(),
        at,
    }
}

async fn group_orders(store: &dyn Store) -> Vec<GroupOrder> {
    store.snapshot().await.expect("the store answers").group_orders
}

pub async fn an_order_of_a_group_stands_until_the_next(engine: &dyn Engine) {
    let store = engine.open("operator").await;
    let began_at = now(store.as_ref()).await;
    assert_eq!(group_orders(store.as_ref()).await, []);
    store.order_group(&group_order(false, Timestamp(0))).await.expect("recorded");
    let first = group_orders(store.as_ref()).await;
    assert_eq!((first.len(), first[0].online, first[0].by.as_str()), (1, false, "operator"));
    assert!(first[0].at >= began_at, "filled in by the store: {first:?}");
    // Maintenance of a group that is wanted as before: when that was asked for stays.
    let maintained = GroupOrder {
        unmonitored_until: Some(Timestamp(first[0].at.0 + 60_000)),
        by: "another".into(),
        ..first[0].clone()
    };
    store.order_group(&maintained).await.expect("recorded");
    assert_eq!(group_orders(store.as_ref()).await, [maintained]);
    store.order_group(&group_order(true, Timestamp(0))).await.expect("recorded");
    let last = group_orders(store.as_ref()).await;
    assert!(last.len() == 1 && last[0].online && last[0].at >= first[0].at, "{last:?}");
    // Owners come and go, and what is wanted stays.
    let (a, fence) = owner(engine).await;
    a.release(fence.lease(), fence.epoch()).await.expect("it is ours");
    assert_eq!(group_orders(store.as_ref()).await, last);
}

fn node_order(name: &str, duty: Duty) -> NodeOrder {
    NodeOrder {
        node: node(name),
        duty,
        failback: ResumeFailback::Policy,
        away_since: Some(Timestamp(17)),
        quarantine_cleared_at: None,
        by: "operator".into(),
        at: Timestamp(0),
    }
}

async fn node_orders(store: &dyn Store) -> Vec<NodeOrder> {
    store.snapshot().await.expect("the store answers").node_orders
}

pub async fn an_order_of_a_node_stands_until_the_next(engine: &dyn Engine) {
    let store = engine.open("operator").await;
    let began_at = now(store.as_ref()).await;
    store.order_node(&node_order("b", Duty::Draining)).await.expect("recorded");
    store.order_node(&node_order("a", Duty::Paused)).await.expect("recorded");
    let seen = node_orders(store.as_ref()).await;
    let expected = [node_order("a", Duty::Paused), node_order("b", Duty::Draining)];
    for (order, expected) in seen.iter().zip(&expected) {
        assert!(order.at >= began_at, "{order:?}");
        assert_eq!(&NodeOrder { at: Timestamp(0), ..order.clone() }, expected);
    }
    let cleared = NodeOrder {
        duty: Duty::Active,
        failback: ResumeFailback::None,
        away_since: None,
        quarantine_cleared_at: Some(began_at),
        ..seen[1].clone()
    };
    store.order_node(&cleared).await.expect("recorded");
    assert_eq!(node_orders(store.as_ref()).await, [seen[0].clone(), cleared]);
}

pub async fn a_node_that_is_gone_is_evicted(engine: &dyn Engine) {
    let b = join(engine, "b").await;
    let store = b.store.as_ref();
    assert_refused(store.evict(&node("never"), "operator").await);
    let seen = store.snapshot().await.expect("the store answers");
    let view = seen.node(&node("b")).expect("it has joined");
    assert_eq!((view.machine.as_str(), view.version.as_str()), ("machine", "0.0.0"));
    for leaves in [true, false] {
        let a = join_for(engine, "a", SHORT).await;
        let epoch = a.epoch;
        store.order_node(&node_order("a", Duty::Draining)).await.expect("recorded");
        store.report_resources(&[report("r", "a", 1)]).await.expect("reported");
        store.report_resources(&[report("other", "b", 1)]).await.expect("reported");
        if leaves {
            a.release(&LeaseName::Node(node("a")), a.epoch).await.expect("it is itself");
        }
        kill(a, store).await;
        until("it is evicted", async || match store.evict(&node("a"), "operator").await {
            Ok(()) => true,
            Err(StoreError::Refused(why)) if !leaves => {
                assert!(why.contains("may be alive"), "{why}");
                false
            }
            Err(other) => panic!("{other}"),
        })
        .await;
        let snapshot = store.snapshot().await.expect("the store answers");
        assert!(snapshot.node(&node("a")).is_none() && snapshot.node_orders.is_empty());
        let reported: Vec<_> = snapshot.reports.iter().map(|it| it.node.as_str()).collect();
        assert_eq!(reported, ["b"]);
        assert!(!store.presence().await.expect("the store answers").contains_key(&node("a")));
        let again = join_for(engine, "a", SHORT).await;
        assert!(again.epoch > epoch, "its epoch goes on");
        again.release(&LeaseName::Node(node("a")), again.epoch).await.expect("it is itself");
    }
}

pub async fn a_node_that_lives_or_owns_is_not_evicted(engine: &dyn Engine) {
    let b = join(engine, "b").await;
    let a = join_for(engine, "a", SHORT).await;
    let fence = a.own(&group("g"), SHORT).await;
    let evict = async || assert_refused(b.store.evict(&node("a"), "operator").await);
    evict().await;
    kill(a, b.store.as_ref()).await;
    until("it is dead, and only what it owns is in the way", async || {
        evict().await.contains("group/g")
    })
    .await;
    until("its group is taken", async || {
        matches!(b.acquire(fence.lease(), SHORT).await, store::Acquired::Granted(_))
    })
    .await;
    b.store.evict(&node("a"), "operator").await.expect("it has nothing left");
    let history = b.store.history(1).await.expect("read");
    assert_eq!(history[0].lease, LeaseName::Node(node("a")));
    assert!(history[0].reason.contains("evicted by operator"), "{}", history[0].reason);
}

fn report(resource: &str, by: &str, epoch: u64) -> ResourceReport {
    ResourceReport {
        resource: resource.parse().expect("a resource name"),
        node: node(by),
        epoch: Epoch(epoch),
        state: ResourceState::Online,
        detail: None,
        since: Timestamp(0),
    }
}

async fn reports(store: &dyn Store) -> Vec<ResourceReport> {
    store.snapshot().await.expect("the store answers").reports
}

pub async fn resources_report(engine: &dyn Engine) {
    let store = engine.open("node").await;
    let other = engine.open("another node").await;
    let mut wakes = other.subscribe(Topic::Cluster);
    let began_at = now(store.as_ref()).await;
    store.report_resources(&[]).await.expect("nothing is reported");
    let pending =
        ResourceReport { state: ResourceState::OnlinePending, ..report("address", "a", 1) };
    store.report_resources(&[report("broker", "a", 1), pending]).await.expect("reported");
    tokio::time::timeout(SOON, wakes.next()).await.expect("a report wakes the nodes");
    let first = reports(store.as_ref()).await;
    let words: Vec<_> = first.iter().map(|it| (it.resource.as_str(), it.state)).collect();
    assert_eq!(
        words,
        [("address", ResourceState::OnlinePending), ("broker", ResourceState::Online)]
    );
    assert!(first.iter().all(|it| it.since >= began_at), "{first:?}");
    until("the clock goes on", async || now(store.as_ref()).await > first[1].since).await;
    let poor = ResourceReport { detail: Some("slow".into()), ..report("broker", "b", 2) };
    let failed = ResourceReport { state: ResourceState::Failed, ..report("address", "b", 2) };
    store.report_resources(&[poor.clone(), failed.clone()]).await.expect("reported");
    // The owner before wakes up and says what it thinks.
    store.report_resources(&[report("broker", "a", 1)]).await.expect("dropped");
    let second = reports(store.as_ref()).await;
    let as_reported = |it: &ResourceReport| ResourceReport { since: Timestamp(0), ..it.clone() };
    assert_eq!(second.iter().map(as_reported).collect::<Vec<_>>(), [failed.clone(), poor]);
    assert_eq!(second[1].since, first[1].since, "it is in the same state since then");
    assert!(second[0].since > first[0].since, "{second:?}");
    // Twice in one call: the newer epoch, and of one epoch the last, counts.
    let back = [report("address", "b", 3), report("address", "a", 2), failed];
    store.report_resources(&back).await.expect("reported");
    let third = reports(store.as_ref()).await;
    assert_eq!((third[0].epoch, third[0].state), (Epoch(3), ResourceState::Online));
}

pub async fn reports_of_what_is_no_more_are_forgotten(engine: &dyn Engine) {
    let store = engine.open("node").await;
    let sender = crate::case::HOST;
    let all = [report(sender, "a", 1), report("gone", "a", 1)];
    // Opened anew each time: who has seen a report may remember it for a minute.
    let names = async || -> Vec<String> {
        let reader = engine.open("reader").await;
        reports(reader.as_ref()).await.iter().map(|it| it.resource.to_string()).collect()
    };
    store.report_resources(&all).await.expect("reported");
    apply(store.as_ref(), &definitions("p")).await;
    assert_eq!(names().await, [sender]);
    store.report_resources(&all).await.expect("reported, late");
    assert_eq!(names().await.len(), 2);
    store.sweep(LONG).await.expect("swept");
    assert_eq!(names().await, [sender]);
}

fn event(id: EventId, subject: &str, sentence: &str) -> OperatorEvent {
    OperatorEvent {
        sequence: 0,
        at: Timestamp(0),
        id,
        node: Some(node("a")),
        subject: subject.into(),
        sentence: sentence.into(),
    }
}

async fn sentences(store: &dyn Store, query: EventQuery) -> Vec<String> {
    let events = store.events(&query).await.expect("read");
    events.into_iter().map(|event| event.sentence).collect()
}

pub async fn operator_events_are_read_in_their_order(engine: &dyn Engine) {
    let store = engine.open("node").await;
    let store = store.as_ref();
    let began_at = now(store).await;
    assert_eq!(store.events(&EventQuery::default()).await.expect("read"), []);
    store.record_events(&[]).await.expect("nothing");
    let applied = OperatorEvent {
        node: None,
        ..event(EventId::DEFINITIONS_APPLIED, "definitions", "version 1")
    };
    store
        .record_events(&[event(EventId::NODE_JOINED, "node a", "a joined"), applied.clone()])
        .await
        .expect("recorded");
    until("the clock goes on", async || now(store).await > began_at).await;
    let late = now(store).await;
    let moved = event(EventId::GROUP_MOVED, "group g", "g moved");
    store.record_events(&[moved, event(EventId::NODE_LEFT, "node a", "a left")]).await.expect("ok");
    let all = store.events(&EventQuery::default()).await.expect("read");
    assert!(all.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "{all:?}");
    assert!(all.iter().all(|event| event.at >= began_at && event.sequence > 0));
    assert_eq!(all.len(), 4);
    let filled = OperatorEvent { sequence: all[1].sequence, at: all[1].at, ..applied };
    assert_eq!(all[1], filled);
    let default = EventQuery::default;
    for (query, expected) in [
        (EventQuery { after: all[1].sequence, ..default() }, &["g moved", "a left"][..]),
        (EventQuery { limit: 1, ..default() }, &["a joined"]),
        (EventQuery { limit: 2, newest: true, ..default() }, &["g moved", "a left"]),
        (EventQuery { subject: Some("node a".into()), ..default() }, &["a joined", "a left"]),
        (
            EventQuery { ids: vec![EventId::GROUP_MOVED, EventId::NODE_LEFT], ..default() },
            &["g moved", "a left"],
        ),
        (EventQuery { since: Some(late), newest: true, limit: 1, ..default() }, &["a left"]),
        (EventQuery { since: Some(Timestamp(late.0 + 600_000)), ..default() }, &[]),
    ] {
        assert_eq!(sentences(store, query.clone()).await, expected, "{query:?}");
    }
    store.sweep(model::Millis(0)).await.expect("swept");
    assert_eq!(store.events(&default()).await.expect("read").len(), 4, "events of today stay");
}

pub async fn operator_events_wake_who_follows(engine: &dyn Engine) {
    let store = engine.open("node").await;
    let other = engine.open("operator").await;
    let mut wakes = other.subscribe(Topic::Events);
    let quiet = Duration::from_millis(100);
    while tokio::time::timeout(quiet, wakes.next()).await.is_ok() {}
    let joined = event(EventId::NODE_JOINED, "node a", "a joined");
    store.record_events(&[joined]).await.expect("recorded");
    tokio::time::timeout(SOON, wakes.next()).await.expect("a hint");
}

/// How many record at a time, and how often each.
const RECORDERS: usize = 4;
const RECORDS: usize = 25;

pub async fn many_who_record_events_leave_nothing_out(engine: &dyn Engine) {
    let mut recorders = tokio::task::JoinSet::new();
    for at in 0..RECORDERS {
        let store = engine.open(&format!("node {at}")).await;
        recorders.spawn(async move {
            for n in 0..RECORDS {
                let one = event(EventId::GROUP_ONLINE, &format!("group {at}"), &format!("{n}"));
                store.record_events(&[one]).await.expect("recorded");
            }
        });
    }
    // Who reads behind the last one it has seen must see all, or one has come up behind its back.
    let follower = engine.open("operator").await;
    let mut seen = Vec::new();
    let follow = async {
        while seen.len() < RECORDERS * RECORDS {
            let after = seen.last().map_or(0, |event: &OperatorEvent| event.sequence);
            let query = EventQuery { after, ..EventQuery::default() };
            seen.extend(follower.events(&query).await.expect("read"));
        }
    };
    assert!(tokio::time::timeout(SOON, follow).await.is_ok(), "only {} were seen", seen.len());
    recorders.join_all().await;
}

pub async fn what_was_in_flight_at_a_takeover_is_told(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let b = join(engine, "b").await;
    let items = ["closed before", "closed after", "open"].map(item);
    let first = items[1].id;
    publish(a.store.as_ref(), &fence, items.into()).await;
    let close = async |store: &dyn Store, fence, key: &str| {
        store.close_receipts(fence, SOURCE, &[key.into()]).await.expect("it is ours");
    };
    close(a.store.as_ref(), &fence, "closed before").await;
    let closed_at = now(a.store.as_ref()).await;
    until("the clock goes on", async || now(a.store.as_ref()).await > closed_at).await;
    kill(a, b.store.as_ref()).await;
    let epoch = granted(b.acquire(fence.lease(), LONG).await).epoch;
    let taken_at = now(b.store.as_ref()).await;
    until("the clock goes on", async || now(b.store.as_ref()).await > taken_at).await;
    let taken = b.fence(fence.lease(), epoch).await.expect("it is b's");
    close(b.store.as_ref(), &taken, "closed after").await;
    publish(b.store.as_ref(), &taken, vec![item("the next owner's")]).await;
    let found = async |lease: &LeaseName, epoch, limit| {
        b.store.in_flight(lease, epoch, limit).await.expect("read")
    };
    let in_flight = found(fence.lease(), epoch, 10).await;
    let keys: Vec<_> =
        in_flight.iter().map(|it| (it.key.as_str(), it.closed_at.is_some())).collect();
    assert_eq!(keys, [("closed after", true), ("open", false)]);
    assert_eq!((in_flight[0].message, in_flight[0].source.as_str()), (first, SOURCE));
    assert_eq!(found(fence.lease(), epoch, 1).await, in_flight[..1]);
    assert_eq!(found(fence.lease(), fence.epoch(), 10).await, [], "nobody was before");
    assert_eq!(found(&group("other"), epoch, 10).await, []);
}
