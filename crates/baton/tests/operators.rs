//! The verbs of operators for nodes, groups, resources, events and plays: the real program, a real
//! store, and nodes that this test plays by hand.

mod site;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use cluster::{Duty, ResourceReport, ResumeFailback};
use model::{Cause, Epoch, EventId, OperatorEvent, ResourceState, Timestamp};
use serde_json::Value;
use store::{Release, Store};

use site::{DEFINITIONS, Site, acquire, join, name};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

async fn report(store: &dyn Store, epoch: u64, state: ResourceState, detail: Option<&str>) {
    let report = ResourceReport {
        resource: "receive".parse().expect("name"),
        node: name("a"),
        epoch: Epoch(epoch),
        state,
        detail: detail.map(str::to_owned),
        since: Timestamp(0),
    };
    store.report_resources(&[report]).await.expect("reported");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_paused_drained_resumed_and_evicted() {
    let site = Site::new();
    site.write("d.yaml", DEFINITIONS);
    site.run("apply d.yaml", 0);
    assert!(site.run("node list", 0).0.contains("no node has joined yet"));
    let a = join(&site, "a").await;
    let _b = join(&site, "b").await;
    acquire(a.as_ref(), "a", "group/partners", 0, "nobody had it").await;

    assert!(site.run("node pause x", 3).1.contains("nodes that have joined: a, b"));
    let (out, _) = site.run("node pause a", 0);
    assert!(out.starts_with("node a gets no more groups; it keeps partners;"), "{out}");
    let order = a.snapshot().await.expect("read").node_orders[0].clone();
    assert_eq!(order.duty, Duty::Paused);
    let away = order.away_since.expect("a moment");
    let (out, _) = site.run("node list", 0);
    assert!(out.contains("a     paused") && out.contains("paused by "), "{out}");
    assert!(site.run("status", 0).0.contains("`baton node resume a` ends it"));

    site.run("node drain b --no-wait", 0);
    let (out, _) = site.run("node drain a", 1);
    assert!(out.contains("group partners cannot leave a:\n"), "{out}");
    assert!(out.contains("  group partners: b is being drained\n"), "{out}");
    assert!(out.contains("the drain stays asked for"), "{out}");
    assert_eq!(json(&site.run("node list -o json", 0).0)[0]["state"], "drain_failed");
    assert!(site.run("node drain b", 0).0.ends_with("node b owns no group any more\n"));

    let (out, _) = site.run("node resume a --failback immediate", 0);
    assert!(out.contains("what was drained from it comes back"), "{out}");
    let orders = a.snapshot().await.expect("read").node_orders;
    let order = orders.iter().find(|order| order.node == name("a")).expect("an order");
    assert_eq!((order.duty, order.failback), (Duty::Active, ResumeFailback::Immediate));
    assert_eq!(order.away_since, Some(away), "a resume keeps since when it was away");
    site.run("node resume b", 0);
    assert!(site.run("node resume b", 0).0.contains("nothing was changed"));
    assert!(site.run("node clear-quarantine a", 0).0.contains("is not in quarantine"));

    let (_, err) = site.run("node evict a", 3);
    assert!(err.starts_with("error: "), "{err}");
    let (out, _) = site.run("events", 0);
    for event in ["1004 info    node.paused", "1005 info    node.draining", "1008 info"] {
        assert!(out.contains(event), "{event}\n{out}");
    }
    assert!(out.contains("4001 info    definitions.applied definitions: "), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_stopped_started_and_unmonitored() {
    let site = Site::new();
    site.write("d.yaml", DEFINITIONS);
    site.run("apply d.yaml", 0);
    let a = join(&site, "a").await;
    acquire(a.as_ref(), "a", "group/partners", 0, "nobody had it").await;
    report(a.as_ref(), 1, ResourceState::Failed, Some("421 too busy")).await;
    let (out, _) = site.run("group list", 0);
    assert!(out.contains("partners  failed  a      medium"), "{out}");
    assert!(out.contains("host receive failed now: 421 too busy"), "{out}");
    let (out, _) = site.run("resource list", 0);
    assert!(out.contains("receive  host  partners  a     failed"), "{out}");

    let (out, _) = site.run("group start partners --wait=300ms", 1);
    assert!(out.contains("group partners is not online after 300ms:"), "{out}");
    report(a.as_ref(), 1, ResourceState::Online, None).await;
    assert!(site.run("group start --all", 0).0.ends_with("group partners is online on a\n"));

    let (out, _) = site.run("group unmonitor partners --for 1h", 0);
    assert!(out.contains("`baton group monitor partners` ends it"), "{out}");
    let started = a.snapshot().await.expect("read").group_orders[0].clone();
    assert!(started.unmonitored_until.is_some() && started.online);
    site.run("group monitor partners", 0);
    let order = a.snapshot().await.expect("read").group_orders[0].clone();
    assert_eq!((order.unmonitored_until, order.at), (None, started.at));
    assert!(site.run("group unmonitor partners --for 99d", 3).1.contains("use up to 7d"));

    site.run("group stop partners --no-wait", 0);
    assert!(site.run("group list", 0).0.contains("wanted it offline"));
    assert!(site.run("group move partners", 3).1.contains("`baton group start partners`"));
    let release = Release {
        lease: "group/partners".parse().expect("lease"),
        epoch: Epoch(1),
        cause: Cause::Stop,
        reason: "kim wants it offline".into(),
        offered_to: None,
        resource: None,
    };
    a.release(&name("a"), &release).await.expect("released");
    assert!(site.run("group stop partners", 0).0.ends_with("group partners is offline\n"));

    let (out, _) = site.run("group show partners", 0);
    let line = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        out.lines().any(|line| line.split_whitespace().eq(words.iter().copied()))
    };
    assert!(line("possible_owners a, b group") && line("restart_period 15m default"), "{out}");
    let shown = json(&site.run("resource show receive -o json", 0).0);
    assert_eq!(shown["settings"][1]["value"], "1 restart");
    assert!(site.run("resource show x", 3).1.contains("there are: receive, send"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_happen_is_played_and_nothing_is_changed() {
    let site = Site::new();
    site.write("d.yaml", DEFINITIONS);
    site.run("apply d.yaml", 0);
    let a = join(&site, "a").await;
    let _b = join(&site, "b").await;
    acquire(a.as_ref(), "a", "group/partners", 0, "nobody had it").await;
    report(a.as_ref(), 1, ResourceState::Online, None).await;
    let before = a.snapshot().await.expect("read");

    for (line, owner) in [
        ("group move partners --to b --what-if", "online on b (was online on a)"),
        ("group stop partners --what-if", "offline (was online on a)"),
        ("group start partners --what-if", "online on a\n"),
        ("group unmonitor partners --for 1h --what-if", "online on a\n"),
        ("group monitor partners --what-if", "online on a\n"),
        ("node pause a --what-if", "online on a\n"),
        ("node drain a --what-if", "online on b (was online on a)"),
    ] {
        let (out, _) = site.run(line, 0);
        assert!(out.contains(&format!("group partners is {owner}")), "{line}\n{out}");
        assert!(out.ends_with("nothing was changed (--what-if)\n"), "{line}\n{out}");
    }
    assert!(site.run("node evict a --what-if", 3).1.contains("node a is evicted: "));
    site.write("e.yaml", &DEFINITIONS.replace("[a, b]", "[b, c]"));
    let (out, _) = site.run("apply e.yaml --what-if", 0);
    assert!(out.contains("group partners is online on b (was online on a)"), "{out}");
    let (out, _) = site.run("host cluster send --group partners --what-if", 0);
    assert!(out.starts_with("~ host send: group (unset) -> partners\n"), "{out}");

    let kill = ["simulate", "--do", "2s kill node a", "--do", "20s start node a", "--for", "1m"];
    let (out, _) = site.run_words(&kill, 0);
    assert!(out.contains("    2.000s  *        kill node a\n"), "{out}");
    assert!(out.contains("group partners is online on b (was online on a)"), "{out}");
    let (out, _) = site.run_words(&[&kill[..], &["-o", "json", "--save", "s.json"]].concat(), 0);
    assert_eq!(json(&out)["after"][0]["owner"], "b");
    let saved = std::fs::read_to_string(site.folder.path().join("s.json")).expect("saved");
    assert!(!saved.contains("hunter2"), "{saved}");
    let again = ["--from", "s.json", "--store", "sqlite:/nowhere.db", "-o", "json"];
    assert_eq!(json(&site.run_words(&[&kill[..], &again].concat(), 0).0), json(&out));
    let (_, err) = site.run_words(&["simulate", "--do", "kill node x"], 3);
    assert!(err.contains("nodes that have joined: a, b"), "{err}");
    assert!(site.run("simulate --do x", 3).1.contains("What --do takes"));

    let after = a.snapshot().await.expect("read");
    let owners = |snapshot: &cluster::Snapshot| {
        let leases = snapshot.leases.iter();
        leases.map(|view| (view.holder.clone(), view.epoch, view.changed_at)).collect::<Vec<_>>()
    };
    assert_eq!(owners(&after), owners(&before));
    assert_eq!((after.moves.len(), after.group_orders.len(), after.node_orders.len()), (0, 0, 0));
    assert_eq!(after.definitions_version, before.definitions_version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_listed_and_followed() {
    let site = Site::new();
    site.write("d.yaml", DEFINITIONS);
    site.run("apply d.yaml", 0);
    let store = site.store().await;
    let event = |id: EventId, subject: &str| OperatorEvent {
        sequence: 0,
        at: Timestamp(0),
        id,
        node: Some(name("a")),
        subject: subject.into(),
        sentence: "it \x1b[31mdied".into(),
    };
    let failed = event(EventId::RESOURCE_FAILED, "group partners");
    store.record_events(&[failed.clone(), event(EventId::NODE_LOST, "node b")]).await.expect("ok");
    let (out, _) = site.run("events --id resource.failed --since 1h", 0);
    assert!(out.contains("3001 warning resource.failed group partners: it \\u{1b}"), "{out}");
    assert_eq!(out.lines().count(), 1, "{out}");
    let (out, _) = site.run_words(&["events", "--subject", "node b", "-o", "json"], 0);
    assert_eq!(json(&out)[0]["name"], "node.lost");
    assert!(site.run("events --id nonsense", 3).1.contains("`baton event list`"));

    let mut follow = site.command("events --follow --id 3001 --limit 1 -o json");
    let mut follow = follow.stdout(Stdio::piped()).spawn().expect("baton runs");
    let mut lines = BufReader::new(follow.stdout.take().expect("its output")).lines();
    let mut next = || json(&lines.next().expect("a line").expect("text"));
    assert_eq!(next()["id"], 3001);
    let newer = OperatorEvent { sentence: "again".into(), ..failed };
    store.record_events(&[event(EventId::NODE_LOST, "node b"), newer]).await.expect("ok");
    assert_eq!(next()["sentence"], "again");
    follow.kill().expect("killed");
    follow.wait().expect("reaped");

    let (out, _) = site.run("event show group.failed_over", 0);
    assert!(out.starts_with("# 2004 group.failed_over\n") && out.contains("1641"), "{out}");
    assert!(site.run("event list", 0).0.contains("1135"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_tells_the_last_failover_step_by_step() {
    let site = Site::new();
    site.write("d.yaml", DEFINITIONS);
    site.run("apply d.yaml", 0);
    let a = join(&site, "a").await;
    let b = join(&site, "b").await;
    acquire(a.as_ref(), "a", "group/partners", 0, "nobody had it").await;
    let release = Release {
        lease: "group/partners".parse().expect("lease"),
        epoch: Epoch(1),
        cause: Cause::Failover,
        reason: "host receive failed on a (killed by signal 9)".into(),
        offered_to: Some(name("b")),
        resource: Some("receive".parse().expect("name")),
    };
    a.release(&name("a"), &release).await.expect("released");
    let request = cluster::AcquireRequest {
        lease: "group/partners".parse().expect("lease"),
        seen_epoch: Epoch(1),
        cause: Cause::Failover,
        reason: "a let it go".into(),
        resource: release.resource.clone(),
        external: false,
    };
    b.acquire(&name("b"), &request, model::Millis::minutes(5)).await.expect("taken");
    let (out, _) = site.run("why partners", 0);
    assert!(out.contains("THE LAST FAILOVER\n"), "{out}");
    assert!(out.contains("a let it go: host receive failed on a (killed by signal 9)\n"), "{out}");
    assert!(out.contains("b took it: a let it go\n  when it was online then is not"), "{out}");
    assert!(out.contains("no item was received but not released then"), "{out}");
    let why = json(&site.run("why partners -o json", 0).0);
    assert_eq!(why["last_failover"]["steps"][0]["step"], "let_go");
    assert_eq!(why["last_failover"]["evidence"], "vacated");
    assert_eq!(why["budgets"][1]["left"], 1);
    assert_eq!(why["status"]["owner"], "b");
}
