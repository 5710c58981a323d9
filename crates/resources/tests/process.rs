//! `process`: programs that behave, and programs that do not.

mod rig;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use child::protocol::{FromChild, ToChild};
use model::{Epoch, FailureReach, Millis};
use rig::{Monitor, lives, resource, until};
use rustix::process::Signal;
use serde_json::{Value, json};

fn shell(script: &str) -> Value {
    json!({"process": {"command": ["/bin/sh", "-c", script]}})
}

/// A folder for a test's files, which outlives its monitors.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn at(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

#[test]
fn it_comes_goes_and_comes_again() {
    let folder = folder();
    let (pid, ready) = (at(&folder, "pid"), at(&folder, "ready"));
    let script = format!("echo $$ >{pid}; sleep 0.2; touch {ready}; exec sleep 600");
    let mut kind = shell(&script);
    kind["process"]["ready_check"] = json!(["test", "-e", ready]);
    let mut monitor = Monitor::start(resource(kind));
    monitor.bring_online(1);
    assert!(Path::new(&ready).exists(), "active only when it was ready");
    monitor.activate(2);
    monitor.expect(FromChild::Active { epoch: Epoch(2) });
    assert!(lives(Path::new(&pid)));
    monitor.take_offline(2);
    assert!(!lives(Path::new(&pid)), "inactive means gone");
    monitor.activate(3);
    monitor.expect(FromChild::Active { epoch: Epoch(3) });
    assert!(lives(Path::new(&pid)));
    monitor.close_socket();
    assert_eq!(monitor.ended().code(), Some(75), "the node is gone");
    assert!(!lives(Path::new(&pid)));
}

#[test]
fn its_end_is_noticed_at_once_with_its_last_words() {
    let mut kind = resource(shell("sleep 0.3; echo all is lost >&2; exit 3"));
    kind["policy"] = json!({"looks_alive_interval": "1h", "is_alive_interval": "1h"});
    let mut monitor = Monitor::start(kind);
    monitor.bring_online(1);
    let began = Instant::now();
    monitor.expect_failed(FailureReach::Soft, "ended with exit code 3: all is lost");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_cannot_start_says_why_and_how_far_that_reaches() {
    for (kind, reach, words) in [
        (json!({"process": {"command": ["/no/such/program"]}}), FailureReach::Hard, "/no/such"),
        (json!({"process": {"command": ["no-such-program"]}}), FailureReach::Hard, "in PATH"),
        (json!({"process": {"command": ["/etc/passwd"]}}), FailureReach::Hard, "not executable"),
        (
            json!({"process": {"command": ["/bin/sh"], "folder": "/no/where"}}),
            FailureReach::Hard,
            "/no/where",
        ),
        (shell("sleep 0.5; exit 4"), FailureReach::Soft, "exit code 4"),
    ] {
        let mut monitor = Monitor::start(resource(kind));
        monitor.expect(FromChild::Ready);
        monitor.activate(1);
        if reach == FailureReach::Soft {
            // Up as soon as it runs, and then it ends.
            monitor.expect(FromChild::Active { epoch: Epoch(1) });
        }
        monitor.expect_failed(reach, words);
    }
    let mut kind = shell("exec sleep 600");
    kind["process"]["stop_signal"] = json!("SIGNAL");
    Monitor::start(resource(kind)).expect_failed(FailureReach::Fatal, "no signal SIGNAL");
}

#[test]
fn one_that_is_never_ready_is_given_up() {
    let mut kind = shell("exec sleep 600");
    kind["process"]["ready_check"] = json!(["false"]);
    let mut definition = resource(kind);
    definition["policy"]["pending_timeout"] = json!("1s");
    let mut monitor = Monitor::start(definition);
    monitor.expect(FromChild::Ready);
    monitor.activate(1);
    monitor.expect_failed(FailureReach::Soft, "did not come online within 1s");
}

#[test]
fn one_that_ignores_sigterm_is_killed_after_its_grace() {
    let folder = folder();
    let pid = at(&folder, "pid");
    let script = format!("trap '' TERM; echo $$ >{pid}; while :; do sleep 1; done");
    let mut kind = shell(&script);
    kind["process"]["stop_grace"] = json!("500ms");
    let mut monitor = Monitor::start(resource(kind));
    monitor.bring_online(1);
    until("it runs", || lives(Path::new(&pid)));
    let began = Instant::now();
    monitor.take_offline(1);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(!lives(Path::new(&pid)));
    assert!(monitor.log().contains("killing it"), "{}", monitor.log());
}

#[test]
fn the_grace_does_not_outlast_what_the_node_allows() {
    let mut kind = shell("trap '' TERM; while :; do sleep 1; done");
    kind["process"]["stop_grace"] = json!("1h");
    let mut monitor = Monitor::start(resource(kind));
    monitor.bring_online(1);
    let began = Instant::now();
    monitor.say(&ToChild::Deactivate { within: Millis(300) });
    monitor.expect(FromChild::Inactive { epoch: Epoch(1) });
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn what_forks_away_is_ended_too() {
    let folder = folder();
    let pid = at(&folder, "pid");
    // Forked twice, in a session of its own, deaf to SIGTERM: as a daemon that wants to stay.
    let daemon = format!("trap '' TERM HUP; echo $$ >{pid}; while :; do sleep 1; done");
    let script = format!("setsid sh -c \"{}\" & wait; exec sleep 600", daemon.replace('$', "\\$"));
    let mut kind = shell(&script);
    kind["process"]["stop_grace"] = json!("300ms");
    let mut monitor = Monitor::start(resource(kind));
    monitor.bring_online(1);
    until("the daemon runs", || lives(Path::new(&pid)));
    monitor.take_offline(1);
    assert!(!lives(Path::new(&pid)));
}

#[test]
fn it_is_gone_when_trust_ends() {
    let folder = folder();
    let pid = at(&folder, "pid");
    let script = format!("trap '' TERM; echo $$ >{pid}; while :; do sleep 1; done");
    let mut monitor = Monitor::start(resource(shell(&script)));
    monitor.expect(FromChild::Ready);
    monitor.activate_for(1, Millis(1500));
    monitor.expect(FromChild::Active { epoch: Epoch(1) });
    until("it runs", || lives(Path::new(&pid)));
    // The node says nothing more, as one that is frozen.
    let began = Instant::now();
    assert_eq!(monitor.ended().code(), Some(75));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(!lives(Path::new(&pid)));
}

#[test]
fn a_monitor_that_was_frozen_lets_go_as_soon_as_it_runs_again() {
    let folder = folder();
    let pid = at(&folder, "pid");
    let mut monitor = Monitor::start(resource(shell(&format!("echo $$ >{pid}; exec sleep 600"))));
    monitor.expect(FromChild::Ready);
    monitor.activate_for(1, Millis(1000));
    monitor.expect(FromChild::Active { epoch: Epoch(1) });
    until("it runs", || lives(Path::new(&pid)));
    monitor.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(1200));
    assert!(lives(Path::new(&pid)), "nobody could take it down");
    monitor.signal(Signal::CONT);
    assert_eq!(monitor.ended().code(), Some(75));
    assert!(!lives(Path::new(&pid)));
}

#[test]
fn a_monitor_that_is_asked_to_end_takes_its_resource_along() {
    let folder = folder();
    let pid = at(&folder, "pid");
    let mut monitor = Monitor::start(resource(shell(&format!("echo $$ >{pid}; exec sleep 600"))));
    monitor.bring_online(1);
    until("it runs", || lives(Path::new(&pid)));
    monitor.signal(Signal::TERM);
    assert_eq!(monitor.ended().code(), Some(75));
    assert!(!lives(Path::new(&pid)));
}

#[test]
fn a_monitor_goes_on_when_its_program_is_replaced() {
    let folder = folder();
    let old = folder.path().join("baton");
    std::fs::copy(rig::program(), &old).expect("a copy");
    let mut kind = shell("exec sleep 600");
    kind["process"]["is_alive"] = json!(["true"]);
    let mut monitor = Monitor::start_by(&mut Command::new(&old), resource(kind), &[]);
    monitor.expect(FromChild::Ready);
    std::fs::remove_file(&old).expect("it was there");
    monitor.activate(1);
    monitor.expect(FromChild::Active { epoch: Epoch(1) });
    std::thread::sleep(Duration::from_millis(1200));
    monitor.take_offline(1);
}

#[test]
fn trust_that_is_extended_goes_on() {
    let mut monitor = Monitor::start(resource(shell("exec sleep 600")));
    monitor.expect(FromChild::Ready);
    monitor.activate_for(1, Millis(1000));
    monitor.expect(FromChild::Active { epoch: Epoch(1) });
    let until = child::clock::boot_time().after(Millis::minutes(5));
    monitor.say(&ToChild::Trust { trust_until: until });
    std::thread::sleep(Duration::from_millis(1500));
    monitor.take_offline(1);
}

#[test]
fn what_a_killed_monitor_left_behind_is_taken_down_first() {
    let folder = folder();
    let (child, daemon) = (at(&folder, "child"), at(&folder, "daemon"));
    let script = format!(
        "setsid sh -c 'echo $$ >{daemon}; exec sleep 600' & echo $$ >{child}; exec sleep 600"
    );
    let definition = resource(shell(&script));
    let mut monitor = Monitor::start(definition.clone());
    monitor.bring_online(1);
    until("both run", || lives(Path::new(&child)) && lives(Path::new(&daemon)));
    monitor.signal(Signal::KILL);
    monitor.ended();
    until("the program dies with its monitor", || !lives(Path::new(&child)));
    assert!(lives(Path::new(&daemon)), "what it forked does not, or this tests nothing");
    let mut next = Monitor::start(definition);
    next.expect(FromChild::Ready);
    assert!(!lives(Path::new(&daemon)));
    assert!(next.log().contains("although nobody has activated it"), "{}", next.log());
}

#[test]
fn a_check_that_fails_or_hangs_is_a_failure() {
    let folder = folder();
    let sick = at(&folder, "sick");
    let mut kind = shell("exec sleep 600");
    kind["process"]["looks_alive"] = json!(["/bin/sh", "-c", format!("! test -e {sick}")]);
    kind["process"]["is_alive"] =
        json!(["/bin/sh", "-c", format!("! test -e {sick} || {{ echo it is sick; exit 9; }}")]);
    let mut monitor = Monitor::start(resource(kind));
    monitor.bring_online(1);
    std::fs::write(&sick, "").expect("a file");
    monitor.expect_failed(FailureReach::Soft, "the check /bin/sh ended with exit code 9");
}

#[test]
fn a_flood_of_output_is_bounded() {
    let folder = folder();
    let done = at(&folder, "done");
    let script = format!(
        "head -c 100000000 /dev/zero | tr '\\0' x; yes flood | head -c 100000000; \
         touch {done}; exec sleep 600"
    );
    let mut monitor = Monitor::start(resource(shell(&script)));
    monitor.bring_online(1);
    until("it has printed all", || Path::new(&done).exists());
    monitor.take_offline(1);
    let log = monitor.log();
    assert!(log.len() < 200_000, "{} bytes of log", log.len());
    assert!(log.contains("the rest is not logged"), "{log}");
    assert!(monitor.memory_kib() < 64 * 1024, "{} KiB", monitor.memory_kib());
}
