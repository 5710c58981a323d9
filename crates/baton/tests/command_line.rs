//! The command line as operators meet it: the real program, a real store, texts and exit codes.

mod site;

use model::{Cause, Context, Epoch, MessageId, Millis};
use store::{Body, Fence, NewMessage, NodeFacts, PublishBatch, Route, Store};

use site::{DEFINITIONS, Site, acquire, name};

#[test]
fn definitions_are_checked_compared_and_applied() {
    let site = Site::new();
    site.write("d.yaml", DEFINITIONS);
    let (out, _) = site.run("check d.yaml", 0);
    assert_eq!(out, "good: 1 group, 2 hosts, 0 resources, 1 receive location, 1 send port\n");
    let (_, err) = site.run("status", 3);
    assert!(err.starts_with("error: there is no store "), "{err}");
    let (out, _) = site.run("apply d.yaml --what-if", 0);
    assert!(out.contains("without --what-if it is made\n+ group partners\n"), "{out}");
    assert!(out.ends_with("nothing was changed, version 0 is in force (--what-if)\n"), "{out}");
    assert!(!site.folder.path().join("baton.db").exists());
    let (out, _) = site.run("apply d.yaml", 0);
    assert!(out.ends_with("version 1 is in force\n"), "{out}");
    assert_eq!(site.run("diff d.yaml", 0).0, "no difference to version 1\n");
    assert_eq!(site.run("apply d.yaml", 0).0, "nothing to change, version 1 is in force\n");

    site.write("e.yaml", &DEFINITIONS.replace("hunter2", "hunter3"));
    let (out, _) = site.run("diff e.yaml", 5);
    assert_eq!(out, "~ receive_location orders-ftp: transport.ftp.password *** -> ***\n");
    site.write("f.yaml", &DEFINITIONS.replace("host: send", "host: sned"));
    let (_, err) = site.run("apply f.yaml", 3);
    assert!(err.contains("error: there is no host sned\n"), "{err}");
    assert!(err.contains("f.yaml:15:11\n"), "{err}");
    site.write("empty.yaml", "");
    assert!(site.run("apply empty.yaml", 3).1.contains("would remove everything"));
}

#[test]
fn hosts_are_clustered_by_the_rules() {
    let site = Site::new();
    site.write("d.yaml", DEFINITIONS);
    site.run("apply d.yaml", 0);
    let (out, _) = site.run("host cluster send --group partners --what-if", 0);
    assert!(
        out.starts_with("~ host send: group (unset) -> partners\nnothing was changed"),
        "{out}"
    );
    let (out, _) = site.run("host cluster send --group partners", 0);
    assert!(out.contains("version 2 is in force"), "{out}");
    site.run("host uncluster send", 0);
    let (_, err) = site.run("host uncluster receive", 3);
    assert!(err.contains("FTP does not lock files") && err.contains("= help: "), "{err}");
    assert!(site.run("host cluster nobody --group partners", 3).1.contains("receive, send"));
}

#[test]
fn what_cannot_be_is_said_with_its_number() {
    let site = Site::new();
    let unreachable = "--store postgresql://u:hunter2@127.0.0.1:1/d status";
    let (_, err) = site.run(unreachable, 4);
    assert!(err.contains("the store is not available") && !err.contains("hunter2"), "{err}");
    assert!(site.run("--store nonsense status", 3).1.contains("is not the URL of a store"));
    assert!(site.run("apply /nowhere.yaml", 3).1.contains("No such file"));
    site.run("frobnicate", 2);
    let (_, err) = site.run("-o json frobnicate", 2);
    let failure: serde_json::Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!(failure["exit_code"], 2);
    let (_, err) = site.run("status -o json", 3);
    let failure: serde_json::Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!(failure["exit_code"], 3);
    assert!(failure["error"].as_str().expect("text").starts_with("there is no store "), "{err}");
    assert!(site.run("--store sqlite://x.db status", 3).1.contains("sqlite:baton.db"));
    assert!(
        site.run("--store sqlite:///nowhere/x.db status", 3).1.contains("no store /nowhere/x.db")
    );
    assert!(site.run("--config /nowhere.yaml check x", 3).1.contains("cannot be read"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_listed_shown_resumed_and_terminated() {
    let site = Site::new();
    site.write("d.yaml", DEFINITIONS);
    site.run("apply d.yaml", 0);
    let store = site.store().await;
    store.join(&name("a"), &NodeFacts::default(), Millis::minutes(5)).await.expect("joined");
    let fence = acquire(store.as_ref(), "a", "group/partners", 0, "nobody had it").await;
    let sender = acquire(store.as_ref(), "a", "instance/send@a", 0, "nobody had it").await;
    publish(store.as_ref(), &fence, "order", &["archive"]).await;
    publish(store.as_ref(), &fence, "order", &[]).await;
    publish(store.as_ref(), &fence, "other", &[]).await;

    let work = store.take(&sender, "send", 10).await.expect("work");
    let failed = store::Settlement {
        work: work[0].id,
        outcome: store::Outcome::Suspend { error: "disk \x1b[31mfull".into() },
        maybe_delivered: false,
    };
    store.settle(&sender, &[failed]).await.expect("settled");

    let (out, _) = site.run("message list --state suspended", 0);
    assert_eq!(out.matches("suspended").count(), 3, "{out}");
    assert!(out.contains("disk \\u{1b}[31mfull") && !out.contains('\x1b'), "{out}");
    let id = work[0].id.to_string();
    let (out, _) = site.run(&format!("message show {id} --body"), 0);
    assert!(out.ends_with("\nbody \\u{1b}]0;x\\u{7} \\xff\n"), "{out}");
    let (out, _) = site.run(&format!("message show {} -o json", work[0].message), 0);
    assert!(out.contains("\"publisher\": \"orders-ftp\""), "{out}");
    assert!(site.run("message show 999", 3).1.contains("there is no message 999"));

    let (_, err) = site.run("message terminate --all", 3);
    assert!(err.contains("--yes"), "{err}");
    let (out, _) = site.run("message resume --all", 1);
    assert!(out.contains("still has no subscriber"), "{out}");
    assert!(out.ends_with("2 messages resumed\n"), "{out}");
    let (out, _) = site.run("message list --port archive", 0);
    assert_eq!(out.matches(" ready ").count(), 2, "{out}");
    let (out, _) = site.run("message terminate --all --yes", 0);
    assert!(out.ends_with("1 message terminated\n"), "{out}");
    let (out, _) = site.run("status", 0);
    assert!(out.contains("archive  send      2       0          0"), "{out}");
}

async fn publish(store: &dyn Store, fence: &Fence, kind: &str, ports: &[&str]) {
    let mut context = Context::default();
    context.set("Kind", kind);
    let route = |port: &&str| Route { port: (*port).to_owned(), host: "send".into() };
    let message = NewMessage {
        id: MessageId(uuid::Uuid::now_v7()),
        publisher: "orders-ftp".into(),
        context,
        body: Body::Memory(b"body \x1b]0;x\x07 \xff\n".as_slice().into()),
        receipt: None,
        routes: ports.iter().map(route).collect(),
    };
    let batch = PublishBatch { definitions_version: 1, messages: [message].into() };
    store.publish(fence, &batch).await.expect("published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_waited_for_and_tells_why() {
    let site = Site::new();
    site.write("d.yaml", DEFINITIONS);
    site.run("apply d.yaml", 0);
    let a = site.store().await;
    a.join(&name("a"), &NodeFacts::default(), Millis::minutes(5)).await.expect("joined");
    acquire(a.as_ref(), "a", "group/partners", 0, "nobody had it").await;
    assert!(site.run("group move partners", 3).1.contains("no other one has joined"));
    assert!(site.run("group move partners --to b", 3).1.contains("there is no node \"b\""));
    assert!(site.run("group move partners --to a", 0).0.contains("is there already"));
    let b = site.store().await;
    b.join(&name("b"), &NodeFacts::default(), Millis::minutes(5)).await.expect("joined");

    let (out, _) = site.run("group move partners --to b --wait=1s", 1);
    assert!(out.contains("group partners is not there after 1s"), "{out}");
    assert!(out.ends_with("the move stays asked for\n"), "{out}");
    assert!(site.run("status", 0).0.contains("a move to node b was asked for by"));

    let asked_before = a.snapshot().await.expect("read").moves;
    let mut waiting = site.command("group move partners --to b");
    let waiting = tokio::task::spawn_blocking(move || waiting.output().expect("baton runs"));
    while a.snapshot().await.expect("read").moves == asked_before {
        assert!(!waiting.is_finished(), "it ended without asking for a move");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let release = store::Release {
        lease: "group/partners".parse().expect("lease"),
        epoch: Epoch(1),
        cause: Cause::Move,
        reason: "an operator moves it to b".into(),
        offered_to: Some(name("b")),
        resource: None,
    };
    a.release(&name("a"), &release).await.expect("released");
    acquire(b.as_ref(), "b", "group/partners", 1, "it was offered to b").await;
    let output = waiting.await.expect("ended");
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}");
    assert!(out.contains("it was let go, epoch 1: an operator moves it to b\n"), "{out}");
    assert!(out.contains("b took it, epoch 2: it was offered to b\n"), "{out}");
    assert!(out.ends_with("group partners is on node b, epoch 2\n"), "{out}");

    let (out, _) = site.run("group history partners", 0);
    assert!(out.contains("it was offered to b") && out.contains("vacated"), "{out}");
    let (out, _) = site.run("why partners", 0);
    assert!(out.contains("group partners is on b (epoch 2)"), "{out}");
}
