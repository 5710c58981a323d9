//! `systemd`, with a real one: a user's manager with a bus of its own, in namespaces where it can
//! touch nothing of the machine.

mod rig;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use child::protocol::{FromChild, ToChild};
use model::{Epoch, FailureReach, Millis};
use rig::{Monitor, resource, try_tool, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A systemd of the test's own.
struct Manager {
    namespace: Child,
    bus: String,
}

impl Manager {
    fn start(test: &str) -> Option<Manager> {
        let programs = ["/lib/systemd/systemd", "/usr/bin/dbus-daemon", "/usr/bin/dbus-send"];
        let lacking = programs.iter().find(|path| !Path::new(path).exists());
        let (may, why) = try_tool(&["unshare", "--mount", "--pid", "--ipc", "--fork", "true"]);
        if let Some(path) = lacking {
            testbed::skip_or_fail(format!("there is no {path}; install systemd and dbus"));
            return None;
        }
        if !may {
            testbed::skip_or_fail(format!("a systemd of the test's own needs root: {why}"));
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig/systemd.sh");
        let bus = format!("baton-{test}-{}", std::process::id());
        // `setpriv`: the namespaces end with this thread; `--kill-child`: and all in them.
        let namespace = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--ipc", "--fork"])
            .args(["--kill-child", "sh"])
            .arg(script)
            .arg(&bus)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv, of util-linux");
        let mut manager = Manager { namespace, bus };
        until("systemd is on its bus", || {
            let ended = manager.namespace.try_wait().expect("it can be waited for");
            assert_eq!(ended, None, "systemd did not start");
            manager.call("GetUnit", &["string:dbus.service"]).0
        });
        Some(manager)
    }

    fn address(&self) -> String {
        format!("unix:abstract={}", self.bus)
    }

    fn kind(&self, unit: &str) -> Value {
        resource(json!({"systemd": {"unit": unit, "bus": self.address()}}))
    }

    fn call(&self, method: &str, arguments: &[&str]) -> (bool, String) {
        let bus = format!("--bus={}", self.address());
        let method = format!("org.freedesktop.systemd1.Manager.{method}");
        let words = [
            "dbus-send",
            &bus,
            "--print-reply",
            "--reply-timeout=5000",
            "--dest=org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            &method,
        ];
        try_tool(&[&words, arguments].concat())
    }

    fn is_up(&self, unit: &str) -> bool {
        let (_, units) = self.call("ListUnits", &[]);
        let rest = units.split_once(&format!("string \"{unit}\"")).map_or("", |(_, rest)| rest);
        rest.lines().take(4).any(|line| line.contains("\"active\""))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.namespace.kill();
        let _ = self.namespace.wait();
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            // Its processes take a moment to leave.
            let folder = Path::new(root).join(&self.bus);
            let give_up_at = Instant::now() + Duration::from_secs(5);
            while folder.exists() && Instant::now() < give_up_at {
                remove_groups(&folder);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn remove_groups(folder: &PathBuf) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}

#[test]
fn a_unit_comes_and_goes() {
    let Some(manager) = Manager::start("comes") else { return };
    let mut monitor = Monitor::start(manager.kind("good.service"));
    monitor.bring_online(1);
    assert!(manager.is_up("good.service"));
    monitor.take_offline(1);
    assert!(!manager.is_up("good.service"));
    monitor.activate_for(2, Millis(2000));
    monitor.expect(FromChild::Active { epoch: Epoch(2) });
    assert_eq!(monitor.ended().code(), Some(75), "its trust has ended");
    assert!(!manager.is_up("good.service"));
}

#[test]
fn a_unit_that_dies_is_missed_at_once() {
    let Some(manager) = Manager::start("dies") else { return };
    let mut definition = manager.kind("good.service");
    definition["policy"] = json!({"looks_alive_interval": "1h", "is_alive_interval": "1h"});
    let mut monitor = Monitor::start(definition);
    monitor.bring_online(1);
    let (ok, said) = manager.call("KillUnit", &["string:good.service", "string:all", "int32:9"]);
    assert!(ok, "{said}");
    monitor.expect_failed(FailureReach::Soft, "good.service is failed (failed, result signal)");
}

#[test]
fn a_unit_that_does_not_stop_is_killed() {
    let Some(manager) = Manager::start("stubborn") else { return };
    let mut monitor = Monitor::start(manager.kind("stubborn.service"));
    monitor.bring_online(1);
    monitor.say(&ToChild::Deactivate { within: Millis(500) });
    monitor.expect(FromChild::Inactive { epoch: Epoch(1) });
    assert!(!manager.is_up("stubborn.service"));
}

#[test]
fn a_unit_that_a_killed_monitor_left_is_stopped_first() {
    let Some(manager) = Manager::start("left") else { return };
    let mut monitor = Monitor::start(manager.kind("good.service"));
    monitor.bring_online(1);
    monitor.signal(Signal::KILL);
    monitor.ended();
    assert!(manager.is_up("good.service"), "systemd keeps it, or this tests nothing");
    let mut next = Monitor::start(manager.kind("good.service"));
    next.expect(FromChild::Ready);
    assert!(!manager.is_up("good.service"));
}

#[test]
fn what_cannot_start_says_why() {
    let Some(manager) = Manager::start("why") else { return };
    let mut monitor = Monitor::start(manager.kind("bad.service"));
    monitor.expect(FromChild::Ready);
    monitor.activate(1);
    monitor.expect_failed(FailureReach::Soft, "bad.service: its start ended as failed");
    let mut monitor = Monitor::start(manager.kind("no-such.service"));
    monitor.expect_failed(FailureReach::Hard, "has no unit no-such.service");
    Monitor::start(manager.kind("good")).expect_failed(FailureReach::Fatal, "has no type");
    let kind = json!({"systemd": {"unit": "x.service", "bus": "unix:path=/no/bus"}});
    Monitor::start(resource(kind)).expect_failed(FailureReach::Soft, "cannot talk to systemd");
}
