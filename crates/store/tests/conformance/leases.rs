//! Nodes and leases: who may own, on what evidence, and for how long.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cluster::{AcquireRequest, MoveRequest, Presence};
use model::{Cause, Epoch, Evidence, LeaseName, Millis, Timestamp};
use store::{Acquired, Release, StoreError};

use crate::Engine;
use crate::case::{
    LONG, Member, SHORT, assert_fenced, assert_refused, epoch_of, facts, granted, group, join,
    join_for, kill, node, now, owner, refused, until,
};

pub async fn a_node_joins_and_each_life_has_a_higher_epoch(engine: &dyn Engine) {
    let first = join(engine, "a").await;
    assert_eq!(first.epoch, Epoch(1));
    let watcher = engine.open("watcher").await;
    assert_eq!(first.presence_seen_by(watcher.as_ref()).await, Presence::Present);
    kill(first, watcher.as_ref()).await;
    let second = join(engine, "a").await;
    assert_eq!(second.epoch, Epoch(2));
    assert_eq!(second.presence_seen_by(watcher.as_ref()).await, Presence::Present);
}

pub async fn a_node_that_lives_is_not_joined_by_another_process(engine: &dyn Engine) {
    let a = join(engine, "a").await;
    let impostor = engine.open("impostor").await;
    let why = assert_refused(impostor.join(&node("a"), &facts(), LONG).await);
    assert!(why.contains('a') && why.contains("machine"), "does not say who it is: {why}");
    let lost = a.store.renew(&a.name, &[(LeaseName::Node(a.name.clone()), a.epoch)], LONG).await;
    assert_eq!(lost.expect("the store answers"), [], "the refused join must change nothing");
}

pub async fn a_released_lease_is_taken_at_once(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    a.release(fence.lease(), fence.epoch()).await.expect("it is ours");
    let b = join(engine, "b").await;
    let granted = granted(b.acquire(fence.lease(), LONG).await);
    assert_eq!((granted.epoch, granted.evidence), (Epoch(2), Evidence::Vacated));
}

pub async fn a_held_lease_is_refused_with_its_holder(engine: &dyn Engine) {
    let (_a, fence) = owner(engine).await;
    let b = join(engine, "b").await;
    let why = refused(b.acquire(fence.lease(), LONG).await);
    assert!(why.contains(" a ") && why.contains('1'), "does not name holder and epoch: {why}");
}

pub async fn a_silent_holder_is_taken_over_when_its_lease_runs_out(engine: &dyn Engine) {
    let a = join(engine, "a").await;
    let b = join(engine, "b").await;
    let asked_at = Instant::now();
    let fence = a.own(&group("g"), SHORT).await;
    let granted = loop {
        // With a ttl as short: a store that has just come back gives owners a whole one to renew.
        match b.acquire_seen(fence.lease(), fence.epoch(), SHORT).await {
            Acquired::Granted(granted) => break granted,
            Acquired::Refused(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(asked_at.elapsed() >= SHORT.as_duration(), "taken before it ran out");
    assert_eq!((granted.epoch, granted.evidence), (Epoch(2), Evidence::Silent));
    // It never let go, and its liveness mark is still there: the fence alone stops it.
    assert_fenced(a.fence(fence.lease(), fence.epoch()).await, &fence);
}

pub async fn a_dead_holder_is_taken_over_before_its_lease_runs_out(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let b = join(engine, "b").await;
    kill(a, b.store.as_ref()).await;
    let granted = granted(b.acquire(fence.lease(), LONG).await);
    let sure = [Evidence::ConfirmedDead, Evidence::ConnectionGone];
    assert!(sure.contains(&granted.evidence), "{granted:?}");
    assert_eq!(granted.epoch, Epoch(2));
}

pub async fn an_own_lease_is_taken_again_by_the_same_node(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let granted = granted(a.acquire(fence.lease(), LONG).await);
    assert_eq!((granted.epoch, granted.evidence), (Epoch(2), Evidence::ConfirmedDead));
    assert_fenced(a.fence(fence.lease(), fence.epoch()).await, &fence);
}

pub async fn an_acquire_that_saw_another_epoch_is_refused(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    a.release(fence.lease(), fence.epoch()).await.expect("it is ours");
    for wrong in [Epoch(0), Epoch(2), Epoch(99)] {
        refused(a.acquire_seen(fence.lease(), wrong, LONG).await);
    }
    refused(a.acquire_seen(&group("never-taken"), Epoch(1), LONG).await);
    assert_eq!(epoch_of(a.store.as_ref(), fence.lease()).await, Epoch(1));
    assert_eq!(epoch_of(a.store.as_ref(), &group("never-taken")).await, Epoch(0));
}

/// How often two candidates race; each round is another interleaving.
const RACES: u64 = 20;

pub async fn of_two_candidates_one_gets_it(engine: &dyn Engine) {
    let a = join(engine, "a").await;
    let b = join(engine, "b").await;
    let lease = group("g");
    for seen in (0..RACES).map(Epoch) {
        let (by_a, by_b) =
            tokio::join!(a.acquire_seen(&lease, seen, LONG), b.acquire_seen(&lease, seen, LONG));
        let winner = match (&by_a, &by_b) {
            (Acquired::Granted(won), Acquired::Refused(_)) if won.epoch.0 == seen.0 + 1 => &a,
            (Acquired::Refused(_), Acquired::Granted(won)) if won.epoch.0 == seen.0 + 1 => &b,
            both => panic!("at epoch {seen}: {both:?}"),
        };
        winner.release(&lease, Epoch(seen.0 + 1)).await.expect("the winner has it");
    }
}

pub async fn epochs_only_grow(engine: &dyn Engine) {
    let lease = group("g");
    let watcher = engine.open("watcher").await;
    let mut last = Epoch(0);
    let mut grows = |epoch: Epoch| {
        assert!(epoch > last, "{epoch} after {last}");
        last = epoch;
    };
    for _ in 0..2 {
        let a = join(engine, "a").await;
        let first = granted(a.acquire(&lease, LONG).await).epoch;
        grows(first);
        grows(granted(a.acquire(&lease, LONG).await).epoch);
        let held = epoch_of(a.store.as_ref(), &lease).await;
        a.release(&lease, held).await.expect("it is ours");
        assert_eq!(epoch_of(a.store.as_ref(), &lease).await, held, "a release keeps the epoch");
        grows(granted(a.acquire(&lease, LONG).await).epoch);
        kill(a, watcher.as_ref()).await;
        let held = epoch_of(watcher.as_ref(), &lease).await;
        let buried = watcher.bury(&lease, held, "its node is dead").await;
        grows(granted(buried.expect("the store answers")).epoch);
    }
}

pub async fn renewal_keeps_a_lease(engine: &dyn Engine) {
    let a = join(engine, "a").await;
    let b = join(engine, "b").await;
    let fence = a.own(&group("g"), SHORT).await;
    let held = [(fence.lease().clone(), fence.epoch())];
    for _ in 0..6 {
        tokio::time::sleep(SHORT.as_duration() / 4).await;
        assert_eq!(a.store.renew(&a.name, &held, LONG).await.expect("the store answers"), []);
    }
    refused(b.acquire(fence.lease(), LONG).await);
    let unknown = [(group("never-taken"), Epoch(1)), (fence.lease().clone(), Epoch(9))];
    let lost = a.store.renew(&a.name, &unknown, LONG).await.expect("the store answers");
    assert_eq!(lost, unknown, "leases never held are not renewed");
}

pub async fn renewal_after_a_takeover_answers_lost(engine: &dyn Engine) {
    let a = join(engine, "a").await;
    let b = join(engine, "b").await;
    let fence = a.own(&group("g"), SHORT).await;
    let kept = a.own(&group("kept"), LONG).await;
    tokio::time::sleep(SHORT.as_duration() * 2).await;
    // It ran out, but nobody took it: it is still ours to renew.
    let held = [(fence.lease().clone(), fence.epoch()), (kept.lease().clone(), kept.epoch())];
    assert_eq!(a.store.renew(&a.name, &held, Millis(1)).await.expect("the store answers"), []);
    tokio::time::sleep(SHORT.as_duration()).await;
    granted(b.acquire(fence.lease(), SHORT).await);
    let lost = a.store.renew(&a.name, &held, LONG).await.expect("the store answers");
    assert_eq!(lost, held[..1], "one was taken over, the other only ran out");
}

/// A renewal needs a hundredth of this; a publish that is held open never ends by itself.
const RENEWAL_LIMIT: Duration = Duration::from_secs(1);

pub async fn renewal_does_not_wait_for_a_publish(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let open = engine.begin_publish(&a.token(fence.lease(), fence.epoch())).await;
    let held = [(fence.lease().clone(), fence.epoch()), (LeaseName::Node(a.name.clone()), a.epoch)];
    let renewal = tokio::time::timeout(RENEWAL_LIMIT, a.store.renew(&a.name, &held, LONG)).await;
    assert_eq!(renewal.expect("a renewal waited for a publish").expect("renewed"), []);
    let presence = tokio::time::timeout(RENEWAL_LIMIT, a.store.presence()).await;
    presence.expect("presence waited for a publish").expect("the store answers");
    drop(open);
}

pub async fn a_release_is_repeatable_and_a_stale_one_is_fenced(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    a.release(fence.lease(), fence.epoch()).await.expect("it is ours");
    // After an Unavailable the owner cannot know, so it asks again.
    a.release(fence.lease(), fence.epoch()).await.expect("it is vacant at this epoch");
    let b = join(engine, "b").await;
    let taken = b.own(fence.lease(), LONG).await;
    assert_fenced(a.release(fence.lease(), fence.epoch()).await, &fence);
    b.fence(fence.lease(), taken.epoch()).await.expect("the stale release changed nothing");
}

pub async fn bury_vacates_the_lease_of_a_dead_node_only(engine: &dyn Engine) {
    let a = join(engine, "a").await;
    let lease: LeaseName = "instance/sender@a".parse().expect("a lease name");
    let fence = a.own(&lease, LONG).await;
    let b = join(engine, "b").await;
    let early = b.store.bury(&lease, fence.epoch(), "is it dead?").await;
    refused(early.expect("the store answers"));
    kill(a, b.store.as_ref()).await;
    let stale = b.store.bury(&lease, Epoch(7), "of another epoch").await;
    refused(stale.expect("the store answers"));
    let buried = b.store.bury(&lease, fence.epoch(), "a is dead").await;
    let buried = granted(buried.expect("the store answers"));
    assert!(buried.evidence > Evidence::Silent, "{buried:?}");
    let snapshot = b.store.snapshot().await.expect("the store answers");
    let view = snapshot.leases.iter().find(|view| view.lease == lease).expect("it stays");
    assert_eq!((&view.holder, view.epoch), (&None, buried.epoch));
}

async fn ask_to_move(store: &dyn store::Store, to: Option<&str>) {
    let request = MoveRequest {
        group: "g".parse().expect("a group name"),
        to: to.map(node),
        by: "operator".into(),
        at: Timestamp(0),
    };
    store.request_move(&request).await.expect("it is recorded");
}

async fn moves(store: &dyn store::Store) -> Vec<MoveRequest> {
    store.snapshot().await.expect("the store answers").moves
}

pub async fn a_move_lives_until_it_is_done(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let b = join(engine, "b").await;
    ask_to_move(a.store.as_ref(), None).await;
    ask_to_move(a.store.as_ref(), Some("b")).await;
    let asked = moves(b.store.as_ref()).await;
    assert_eq!(asked.len(), 1, "the newer request replaces the older");
    assert_eq!((&asked[0].to, asked[0].by.as_str()), (&Some(node("b")), "operator"));
    a.release(fence.lease(), fence.epoch()).await.expect("it is ours");
    assert_eq!(moves(b.store.as_ref()).await.len(), 1, "a release alone does not do it");
    b.own(fence.lease(), LONG).await;
    assert_eq!(moves(b.store.as_ref()).await, []);

    ask_to_move(a.store.as_ref(), Some("a")).await;
    let group = "g".parse().expect("a group name");
    let asked_at = moves(b.store.as_ref()).await[0].at;
    let earlier = model::Timestamp(asked_at.0 - 1);
    a.store.drop_move(&group, earlier).await.expect("it is none that there is");
    assert_eq!(moves(b.store.as_ref()).await.len(), 1, "a later request stays");
    a.store.drop_move(&group, asked_at).await.expect("it is dropped");
    assert_eq!(moves(b.store.as_ref()).await, []);
}

pub async fn a_move_to_another_node_survives_an_acquire(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    ask_to_move(a.store.as_ref(), Some("b")).await;
    granted(a.acquire(fence.lease(), LONG).await);
    assert_eq!(moves(a.store.as_ref()).await.len(), 1, "it is not on b yet");
}

pub async fn a_token_is_made_a_fence_only_while_it_is_current(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let written = serde_json::to_string(&a.token(fence.lease(), fence.epoch())).expect("text");
    let read = serde_json::from_str(&written).expect("a token");
    let host = engine.open("host").await;
    assert_eq!(host.fence(&read).await.expect("it is current"), fence);
    let b = join(engine, "b").await;
    assert_fenced(b.fence(fence.lease(), fence.epoch()).await, &fence);
    a.release(fence.lease(), fence.epoch()).await.expect("it is ours");
    assert_fenced(host.fence(&read).await, &fence);
}

pub async fn the_snapshot_shows_the_cluster(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let instance: LeaseName = "instance/sender@a".parse().expect("a lease name");
    a.own(&instance, LONG).await;
    let b = join(engine, "b").await;
    let release = Release {
        lease: fence.lease().clone(),
        epoch: fence.epoch(),
        cause: Cause::Move,
        reason: "to b, it has more room".into(),
        offered_to: Some(node("b")),
        resource: Some("broker".parse().expect("a name")),
    };
    a.store.release(&a.name, &release).await.expect("it is ours");
    let seen = b.store.snapshot().await.expect("the store answers");
    assert_eq!((seen.definitions_version, seen.moves.len()), (0, 0));
    let nodes: Vec<_> = seen.nodes.iter().map(|n| (n.name.as_str(), n.epoch)).collect();
    assert_eq!(nodes, [("a", Epoch(1)), ("b", Epoch(1))]);
    assert!(seen.nodes.iter().all(|n| n.expires_at > seen.now && n.presence == Presence::Present));
    let leases: Vec<_> = seen.leases.iter().map(|view| &view.lease).collect();
    assert_eq!(leases, [fence.lease(), &instance], "node leases stand under nodes");
    let vacant = &seen.leases[0];
    assert_eq!((&vacant.holder, vacant.cause), (&None, Cause::Move));
    assert_eq!(vacant.reason, "to b, it has more room");
    assert_eq!(vacant.offered_to, Some(node("b")));
    assert!(vacant.expires_at <= seen.now && vacant.changed_at <= seen.now);
    let held = &seen.leases[1];
    assert_eq!(held.holder, Some(node("a")));
    let left = held.expires_at.since(seen.now);
    assert!(left > Millis(LONG.0 / 2) && left <= LONG, "{left} of {LONG}");
    let leases: BTreeSet<_> = seen.history.iter().map(|entry| entry.lease.to_string()).collect();
    let expected = ["group/g", "node/a", "node/b"].map(String::from);
    assert_eq!(leases, BTreeSet::from(expected), "only groups and nodes have a history here");
    let of_group: Vec<_> =
        seen.history.iter().filter(|entry| entry.lease == *fence.lease()).collect();
    let holders: Vec<_> = of_group.iter().map(|entry| entry.holder.clone()).collect();
    assert_eq!(holders, [Some(node("a")), None], "oldest first");
    assert_eq!((&of_group[0].resource, &of_group[1].resource), (&None, &release.resource));
}

pub async fn presence_tells_who_lives_and_who_left(engine: &dyn Engine) {
    let a = join(engine, "a").await;
    let b = join(engine, "b").await;
    let watcher = engine.open("watcher").await;
    assert_eq!(a.presence_seen_by(watcher.as_ref()).await, Presence::Present);
    kill(a, watcher.as_ref()).await;
    let presence = watcher.presence().await.expect("the store answers");
    assert_ne!(presence[&node("a")], Presence::Left, "it did not say goodbye");
    assert_eq!(presence[&node("b")], Presence::Present);

    let name = b.name.clone();
    b.release(&LeaseName::Node(name.clone()), b.epoch).await.expect("it is itself");
    drop(b);
    until("b is seen to have left", async || {
        let presence = watcher.presence().await.expect("the store answers");
        presence[&name] == Presence::Left
    })
    .await;
}

pub async fn a_watch_ends_when_a_peer_dies(engine: &dyn Engine) {
    let a = join(engine, "a").await;
    let b = join(engine, "b").await;
    let watcher = b.store.clone();
    let watch = async || watcher.watch(&node("b"), &[node("a")]).await.expect("it waited");
    assert!(!watch().await, "a lives");
    kill(a, watcher.as_ref()).await;
    until("the watch tells that a is gone", async || watch().await).await;
}

/// What the history that a snapshot shows says of the lives of a node.
async fn lives(store: &dyn store::Store, name: &str) -> Vec<cluster::Tenure> {
    let lease = LeaseName::Node(node(name));
    let snapshot = store.snapshot().await.expect("the store answers");
    snapshot.history.into_iter().filter(|entry| entry.lease == lease).collect()
}

pub async fn a_join_tells_how_the_life_before_ended(engine: &dyn Engine) {
    let watcher = engine.open("watcher").await;
    let first = join(engine, "a").await;
    first.release(&LeaseName::Node(node("a")), first.epoch).await.expect("it is itself");
    drop(first);
    let second = join(engine, "a").await;
    // The answer to a join may get lost: the same process asks again, and nobody has died.
    let again = second.store.join(&node("a"), &facts(), LONG).await.expect("it is itself");
    assert_eq!(again.epoch, Epoch(3));
    kill(second, watcher.as_ref()).await;
    join(engine, "a").await;
    let seen: Vec<_> = lives(watcher.as_ref(), "a")
        .await
        .iter()
        .map(|entry| (entry.epoch.0, entry.holder.is_some(), entry.cause))
        .collect();
    assert_eq!(
        seen,
        [
            (1, true, Cause::Start),
            (1, false, Cause::Drain),
            (2, true, Cause::Start),
            (3, true, Cause::Start),
            (4, true, Cause::NodeLost),
        ]
    );
    let lives = lives(watcher.as_ref(), "a").await;
    assert_eq!((lives[2].evidence, &lives[2].before), (Evidence::Vacated, &None));
    let lost = &lives[4];
    assert_eq!((&lost.holder, &lost.before), (&Some(node("a")), &Some(node("a"))));
    assert_ne!(lost.evidence, Evidence::Vacated, "{lost:?}");
    assert!(lost.reason.contains("did not end in good order"), "{}", lost.reason);
}

/// Asks for a group with effects outside the store.
async fn acquire_external(member: &Member, seen: Epoch) -> Acquired {
    let request = AcquireRequest {
        lease: group("g"),
        seen_epoch: seen,
        cause: Cause::NodeLost,
        reason: "its owner is gone".into(),
        resource: None,
        external: true,
    };
    member.store.acquire(&member.name, &request, SHORT).await.expect("the store answers")
}

pub async fn effects_outside_the_store_need_more_than_a_lost_connection(engine: &dyn Engine) {
    let b = join(engine, "b").await;
    let a = join(engine, "a").await;
    let fence = a.own(&group("g"), LONG).await;
    a.release(fence.lease(), fence.epoch()).await.expect("it is ours");
    let vacated = granted(acquire_external(&a, fence.epoch()).await);
    assert_eq!(vacated.evidence, Evidence::Vacated);
    let again = granted(acquire_external(&a, vacated.epoch).await);
    assert_eq!(again.evidence, Evidence::ConfirmedDead, "its own supervisor has reaped it");
    let held = [(group("g"), again.epoch)];
    a.store.renew(&a.name, &held, Millis::seconds(2)).await.expect("the store answers");
    let renewed_at = Instant::now();
    kill(a, b.store.as_ref()).await;
    let taken = loop {
        match acquire_external(&b, again.epoch).await {
            Acquired::Granted(granted) => break granted,
            Acquired::Refused(why) => {
                assert!(why.contains("connection is gone") && why.contains("run out"), "{why}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let waited = renewed_at.elapsed() >= Duration::from_secs(2);
    assert_eq!(waited, taken.evidence != Evidence::ConfirmedDead, "{taken:?}");
}

pub async fn history_is_kept_newest_first(engine: &dyn Engine) {
    let began_at = now(engine.open("clock").await.as_ref()).await;
    let (a, fence) = owner(engine).await;
    a.release(fence.lease(), fence.epoch()).await.expect("it is ours");
    let b = join_for(engine, "b", LONG).await;
    b.own(fence.lease(), LONG).await;
    let history = b.store.history(100).await.expect("the store answers");
    let of_group: Vec<_> = history.iter().filter(|entry| entry.lease == *fence.lease()).collect();
    let lines: Vec<_> = of_group
        .iter()
        .map(|entry| (entry.epoch, entry.holder.clone(), entry.before.clone(), entry.evidence))
        .collect();
    assert_eq!(
        lines,
        [
            (Epoch(2), Some(node("b")), None, Evidence::Vacated),
            (Epoch(1), None, Some(node("a")), Evidence::Vacated),
            (Epoch(1), Some(node("a")), None, Evidence::Vacated),
        ]
    );
    assert_eq!((of_group[0].cause, of_group[1].cause), (Cause::Start, Cause::Drain));
    assert_eq!(of_group[0].reason, "b wants it");
    assert!(of_group.iter().all(|entry| entry.at >= began_at));
    assert_eq!(b.store.history(1).await.expect("the store answers").len(), 1);
    assert!(matches!(
        b.fence(fence.lease(), Epoch(1)).await,
        Err(StoreError::Fenced { epoch: Epoch(1), .. })
    ));
}
