//! Definitions: versions that follow one another.

use crate::Engine;
use crate::case::{
    HOST, all_work, apply, assert_refused, batch, definitions, message, owner, publish_bodies, take,
};

pub async fn nothing_is_in_force_at_first(engine: &dyn Engine) {
    let store = engine.open("operator").await;
    let (version, found) = store.definitions().await.expect("the store answers");
    assert_eq!((version, found.as_ref()), (0, &model::Definitions::default()));
}

pub async fn applied_definitions_are_in_force(engine: &dyn Engine) {
    let store = engine.open("operator").await;
    let other = engine.open("node").await;
    for (version, port) in [(1, "first"), (2, "second")] {
        let wanted = definitions(port);
        assert_eq!(apply(store.as_ref(), &wanted).await, version);
        let (found_version, found) = other.definitions().await.expect("the store answers");
        assert_eq!((found_version, found.as_ref()), (version, &wanted));
        let snapshot = other.snapshot().await.expect("the store answers");
        assert_eq!(snapshot.definitions_version, version);
        assert_eq!(snapshot.definitions.as_ref(), &wanted);
    }
}

pub async fn a_stale_base_is_refused(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    apply(a.store.as_ref(), &definitions("first")).await;
    for stale in [0, 2] {
        let why = assert_refused(a.store.apply(&definitions("late"), stale, "test").await);
        assert!(why.contains('1'), "does not say what is in force: {why}");
    }
    let (version, found) = a.store.definitions().await.expect("the store answers");
    assert_eq!((version, found.as_ref()), (1, &definitions("first")));
    let routed = store::PublishBatch { definitions_version: 1, ..batch(vec![message("1")]) };
    a.store.publish(&fence, &routed).await.expect("version 1 is in force");
}

pub async fn waiting_work_goes_where_its_port_goes(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    publish_bodies(a.store.as_ref(), &fence, &["taken", "ready"]).await;
    let taken = take(a.store.as_ref(), &fence, 1).await;
    let port = taken[0].port.as_str();
    let mut moved = definitions(port);
    moved.send_ports[0].host = "elsewhere".parse().expect("a host's name");
    apply(a.store.as_ref(), &moved).await;
    let hosts: Vec<_> =
        all_work(a.store.as_ref()).await.into_iter().map(|work| work.host).collect();
    assert_eq!(hosts, [HOST, "elsewhere"], "what is at work stays where it is");
}
