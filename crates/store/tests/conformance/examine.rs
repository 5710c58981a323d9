//! Examinations: what they find in a sound store, and that they disturb nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::Presence;
use store::{Finding, FindingResult, Store, Topic};

use crate::Engine;
use crate::case::{LONG, all_work, batch, group, item, join, owner, publish};

/// What every engine is examined for.
const IDS: [&str; 9] = [
    "store.clock_rate",
    "store.durable",
    "store.fence",
    "store.idle_timeout",
    "store.pooler",
    "store.reach",
    "store.room",
    "store.standby",
    "store.version",
];

async fn examine(store: &dyn Store) -> BTreeMap<&'static str, Finding> {
    let findings = store.examine().await.expect("what fails is a finding");
    for finding in &findings {
        println!("{:?} {}: {} [{}]", finding.result, finding.id, finding.what, finding.took);
    }
    findings.into_iter().map(|finding| (finding.id, finding)).collect()
}

pub async fn a_sound_store_is_found_sound(engine: &dyn Engine) {
    let store = engine.open("operator").await;
    let found = examine(store.as_ref()).await;
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), IDS);
    for finding in found.values() {
        let has_remedy = finding.result >= FindingResult::Warning;
        assert_eq!(!finding.remedy.is_empty(), has_remedy, "{finding:?}");
        assert_ne!(finding.result, FindingResult::Failed, "{finding:?}");
    }
    for id in ["store.fence", "store.reach", "store.version"] {
        assert_eq!(found[id].result, FindingResult::Passed, "{:?}", found[id]);
    }
}

pub async fn an_examination_disturbs_nobody(engine: &dyn Engine) {
    let (a, fence) = owner(engine).await;
    let b = join(engine, "b").await;
    let other = b.own(&group("examined"), LONG).await;
    publish(a.store.as_ref(), &fence, vec![item("1")]).await;
    let before = b.store.snapshot().await.expect("the store answers");
    let mut wakes = b.store.subscribe(Topic::Cluster);
    let quiet = Duration::from_millis(200);
    while tokio::time::timeout(quiet, wakes.next()).await.is_ok() {}
    let operator = engine.open("operator").await;
    let published = async {
        for n in 0..50 {
            publish(a.store.as_ref(), &fence, vec![item(&format!("n{n}"))]).await;
            let presence = b.store.presence().await.expect("the store answers");
            assert!(presence.values().all(|it| *it == Presence::Present), "{presence:?}");
        }
    };
    let (found, ()) = tokio::join!(examine(operator.as_ref()), published);
    assert_eq!(found["store.fence"].result, FindingResult::Passed, "{found:?}");
    assert!(
        tokio::time::timeout(quiet, wakes.next()).await.is_err(),
        "nobody is woken by what happens in a scratch schema"
    );
    let after = b.store.snapshot().await.expect("the store answers");
    // Not when they run out: SQLite reckons that from two clocks, a millisecond more or less.
    let owned = |snapshot: &cluster::Snapshot| -> Vec<_> {
        let leases = snapshot.leases.iter();
        leases.map(|view| (view.lease.clone(), view.holder.clone(), view.epoch)).collect()
    };
    assert_eq!(owned(&after), owned(&before));
    assert_eq!(after.history, before.history);
    assert_eq!(after.nodes.len(), before.nodes.len());
    assert_eq!(all_work(b.store.as_ref()).await.len(), 51);
    b.store.publish(&other, &batch(vec![item("2")])).await.expect("a lease of that name is b's");
}

pub async fn two_examinations_take_turns(engine: &dyn Engine) {
    let (one, two) = (engine.open("one").await, engine.open("two").await);
    let (one, two) = tokio::join!(examine(one.as_ref()), examine(two.as_ref()));
    for found in [one, two] {
        assert_eq!(found["store.fence"].result, FindingResult::Passed, "{found:?}");
    }
}
