//! Sending: work is taken, held, settled, and comes back when its owner is gone.

use std::collections::BTreeSet;

use model::{Millis, WorkId};
use store::{Fence, NewMessage, Outcome, Route, Settlement, Store, WorkState};

use crate::Engine;
use crate::case::{
    HOST, LONG, all_work, bodies_of, granted, group, join, kill, message, no_routes, owner,
    publish, publish_bodies, take, until,
};

pub async fn settle(store: &dyn Store, fence: &Fence, work: &[WorkId], outcome: Outcome) {
    let settlements: Vec<_> = work
        .iter()
        .map(|&work| Settlement { work, outcome: outcome.clone(), maybe_delivered: false })
        .collect();
    store.settle(fence, &settlements).await.expect("it is ours");
}

pub async fn work_is_taken_oldest_first(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1", "2", "3"]).await;
    publish_bodies(a.store.as_ref(), &fence, &["4"]).await;
    assert_eq!(bodies_of(&take(a.store.as_ref(), &fence, 2).await), ["1", "2"]);
    assert_eq!(bodies_of(&take(a.store.as_ref(), &fence, 10).await), ["3", "4"]);
    assert!(take(a.store.as_ref(), &fence, 10).await.is_empty(), "all of it is held");
    assert!(all_work(a.store.as_ref()).await.iter().all(|work| work.state == WorkState::Active));
}

/// Messages that the takers share; several batches for each of them.
const SHARED: usize = 200;

pub async fn two_takers_do_not_overlap(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let b = join(engine, "b").await;
    let others = b.own(&group("other"), LONG).await;
    publish(a.store.as_ref(), &fence, (0..SHARED).map(|_| message("m")).collect()).await;
    let take_all = async |store: &dyn Store, fence: &Fence| {
        let mut taken = Vec::new();
        loop {
            let batch = take(store, fence, 7).await;
            if batch.is_empty() {
                return taken;
            }
            assert!(batch.len() <= 7);
            taken.extend(batch.iter().map(|work| work.id));
        }
    };
    let (by_a, by_b) =
        tokio::join!(take_all(a.store.as_ref(), &fence), take_all(b.store.as_ref(), &others));
    let all: BTreeSet<_> = by_a.iter().chain(&by_b).collect();
    assert_eq!((all.len(), by_a.len() + by_b.len()), (SHARED, SHARED));
    assert!(by_a.is_sorted() && by_b.is_sorted(), "oldest first for each of them");
}

pub async fn work_of_another_host_is_left_alone(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let routes = vec![Route { port: "p".into(), host: "another".into() }];
    let other = NewMessage { routes, ..message("other") };
    publish(a.store.as_ref(), &fence, vec![other, message("mine")]).await;
    assert_eq!(bodies_of(&take(a.store.as_ref(), &fence, 10).await), ["mine"]);
    let others = a.store.take(&fence, "another", 10).await.expect("it is ours");
    assert_eq!(bodies_of(&others), ["other"]);
}

pub async fn settled_work_is_gone(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1", "2"]).await;
    let work = take(a.store.as_ref(), &fence, 1).await;
    settle(a.store.as_ref(), &fence, &[work[0].id], Outcome::Done).await;
    let left = all_work(a.store.as_ref()).await;
    assert_eq!((left.len(), left[0].state), (1, WorkState::Ready));
    assert_eq!(bodies_of(&take(a.store.as_ref(), &fence, 10).await), ["2"]);
}

pub async fn settling_twice_is_harmless(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1", "2"]).await;
    let work = take(a.store.as_ref(), &fence, 1).await;
    // After an Unavailable the owner cannot know, so it asks again.
    for _ in 0..2 {
        settle(a.store.as_ref(), &fence, &[work[0].id], Outcome::Done).await;
    }
    settle(a.store.as_ref(), &fence, &[WorkId(999_999)], Outcome::Done).await;
    assert_eq!(all_work(a.store.as_ref()).await.len(), 1);
    let work = take(a.store.as_ref(), &fence, 1).await;
    let retry = Outcome::Retry { after: LONG, error: "no answer".into() };
    for _ in 0..2 {
        settle(a.store.as_ref(), &fence, &[work[0].id], retry.clone()).await;
    }
    assert_eq!(all_work(a.store.as_ref()).await[0].attempts, 1, "counted once");
}

pub async fn returned_work_is_ready_at_once(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1", "2"]).await;
    let work = take(a.store.as_ref(), &fence, 1).await;
    settle(a.store.as_ref(), &fence, &[work[0].id], Outcome::Return).await;
    let again = take(a.store.as_ref(), &fence, 10).await;
    assert_eq!(bodies_of(&again), ["1", "2"], "it keeps its place");
    assert_eq!((again[0].attempts, again[0].maybe_delivered), (0, false));
}

pub async fn an_uncertain_try_is_remembered(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1"]).await;
    for (maybe_delivered, known) in [(false, false), (true, true), (false, true)] {
        let work = take(a.store.as_ref(), &fence, 1).await;
        let outcome = Outcome::Suspend { error: "cut".into() };
        let settlement = Settlement { work: work[0].id, outcome, maybe_delivered };
        a.store.settle(&fence, &[settlement]).await.expect("it is ours");
        a.store.resume(&[work[0].id], &no_routes()).await.expect("resumed");
        let work = take(a.store.as_ref(), &fence, 1).await;
        assert_eq!(work[0].maybe_delivered, known, "after {maybe_delivered}");
        settle(a.store.as_ref(), &fence, &[work[0].id], Outcome::Return).await;
    }
}

pub async fn a_retry_is_ready_after_its_time(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1"]).await;
    let work = take(a.store.as_ref(), &fence, 1).await;
    let later = |after| Outcome::Retry { after, error: "no answer".into() };
    settle(a.store.as_ref(), &fence, &[work[0].id], later(LONG)).await;
    assert!(take(a.store.as_ref(), &fence, 1).await.is_empty(), "not before its time");
    let wait = a.store.next_ready_at(HOST).await.expect("read").expect("it is postponed");
    assert!(wait > Millis(LONG.0 / 2) && wait <= LONG, "{wait}");
    assert_eq!(a.store.next_ready_at("another").await.expect("read"), None);
    let view = &all_work(a.store.as_ref()).await[0];
    assert_eq!((view.state, view.attempts), (WorkState::Ready, 1));
    assert_eq!(view.error.as_deref(), Some("no answer"));
    assert!(view.ready_at > view.published_at);

    publish_bodies(a.store.as_ref(), &fence, &["2"]).await;
    let work = take(a.store.as_ref(), &fence, 1).await;
    settle(a.store.as_ref(), &fence, &[work[0].id], later(Millis(300))).await;
    assert!(a.store.next_ready_at(HOST).await.expect("read").expect("postponed") <= Millis(300));
    until("the retry is due", async || {
        let again = take(a.store.as_ref(), &fence, 10).await;
        assert!(again.iter().all(|work| work.attempts == 1));
        bodies_of(&again) == ["2"]
    })
    .await;
}

/// Postponed rows that stand before the one that is due.
const POSTPONED: usize = 50;

pub async fn postponed_work_does_not_hold_up_the_rest(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish(a.store.as_ref(), &fence, (0..POSTPONED).map(|_| message("later")).collect()).await;
    let work = take(a.store.as_ref(), &fence, POSTPONED).await;
    let ids: Vec<_> = work.iter().map(|work| work.id).collect();
    let later = Outcome::Retry { after: LONG, error: "no answer".into() };
    settle(a.store.as_ref(), &fence, &ids, later).await;
    publish_bodies(a.store.as_ref(), &fence, &["now"]).await;
    assert_eq!(bodies_of(&take(a.store.as_ref(), &fence, 5).await), ["now"]);
}

pub async fn suspended_work_waits_for_an_operator(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1"]).await;
    let work = take(a.store.as_ref(), &fence, 1).await;
    let given_up = Outcome::Suspend { error: "530 not logged in".into() };
    settle(a.store.as_ref(), &fence, &[work[0].id], given_up).await;
    assert!(take(a.store.as_ref(), &fence, 1).await.is_empty());
    assert_eq!(a.store.next_ready_at(HOST).await.expect("read"), None);
    let view = &all_work(a.store.as_ref()).await[0];
    assert_eq!((view.state, view.attempts), (WorkState::Suspended, 1));
    assert_eq!(view.error.as_deref(), Some("530 not logged in"));
    assert_eq!(a.store.resume(&[view.id], &no_routes()).await.expect("resumed"), 1);
    assert_eq!(take(a.store.as_ref(), &fence, 1).await.len(), 1);
}

pub async fn a_takeover_gives_held_work_back_as_maybe_delivered(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let b = join(engine, "b").await;
    let elsewhere = b.own(&group("elsewhere"), LONG).await;
    publish_bodies(a.store.as_ref(), &fence, &["1", "2", "3"]).await;
    take(a.store.as_ref(), &fence, 1).await;
    take(b.store.as_ref(), &elsewhere, 1).await;
    kill(a, b.store.as_ref()).await;
    let taken = granted(b.acquire(fence.lease(), LONG).await);
    let successor = b.fence(fence.lease(), taken.epoch).await.expect("just granted");
    let work = take(b.store.as_ref(), &successor, 10).await;
    let seen: Vec<_> = work.iter().map(|work| (work.maybe_delivered, work.attempts)).collect();
    assert_eq!(bodies_of(&work), ["1", "3"], "what another lease holds is not given back");
    assert_eq!(seen, [(true, 0), (false, 0)]);
}

pub async fn work_whose_take_was_not_answered_is_given_back(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1", "2"]).await;
    let known = take(a.store.as_ref(), &fence, 1).await;
    let lost = take(a.store.as_ref(), &fence, 1).await;
    a.store.give_back(&fence, "another", &[]).await.expect("it is ours");
    assert!(take(a.store.as_ref(), &fence, 10).await.is_empty(), "another host's is left alone");
    a.store.give_back(&fence, HOST, &[known[0].id]).await.expect("it is ours");
    let again = take(a.store.as_ref(), &fence, 10).await;
    assert_eq!((again.len(), again[0].id, again[0].maybe_delivered), (1, lost[0].id, true));
}

pub async fn a_release_gives_held_work_back(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["1"]).await;
    take(a.store.as_ref(), &fence, 1).await;
    a.release(fence.lease(), fence.epoch()).await.expect("it is ours");
    assert_eq!(all_work(a.store.as_ref()).await[0].state, WorkState::Ready);
    let again = a.own(fence.lease(), LONG).await;
    let work = take(a.store.as_ref(), &again, 1).await;
    assert!(work[0].maybe_delivered, "it was taken and not settled");
}

pub async fn work_held_by_others_is_not_settled(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let b = join(engine, "b").await;
    let others = b.own(&group("other"), LONG).await;
    publish_bodies(a.store.as_ref(), &fence, &["1", "2"]).await;
    let work = take(a.store.as_ref(), &fence, 1).await;
    let ready = all_work(a.store.as_ref()).await[1].id;
    settle(b.store.as_ref(), &others, &[work[0].id, ready], Outcome::Done).await;
    let left = all_work(a.store.as_ref()).await;
    let states: Vec<_> = left.iter().map(|work| work.state).collect();
    assert_eq!(states, [WorkState::Active, WorkState::Ready]);
}
