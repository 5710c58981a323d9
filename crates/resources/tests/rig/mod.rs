//! The node's side of a monitor: starts the real program, and speaks to it over its socket.

#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use child::clock::boot_time;
use child::protocol::{FromChild, ToChild};
use model::definition::{GroupPolicy, Resource, ResourceSpec};
use model::{Epoch, FailureReach, FenceToken, LeaseName, Millis};
use serde_json::{Value, json};

pub mod net;

/// Longest wait for anything that should happen: far beyond what a busy machine needs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How long trust lasts where a test does not care.
const LONG: Millis = Millis::minutes(10);

/// A running monitor.
pub struct Monitor {
    pub child: Child,
    socket: Option<BufReader<UnixStream>>,
    log: PathBuf,
    folder: tempfile::TempDir,
}

/// The definition of a resource as YAML would have it, with quick checks.
pub fn resource(kind: Value) -> Value {
    json!({
        "name": format!("r-{}", std::process::id()), "group": "g", "kind": kind,
        "policy": {"looks_alive_interval": "200ms", "is_alive_interval": "500ms"},
    })
}

impl Monitor {
    /// Starts a monitor for a resource.
    pub fn start(resource: Value) -> Monitor {
        Monitor::start_by(&mut Command::new(program()), resource, &[])
    }

    /// Starts a monitor through another program: `ip netns exec …`, which gets it as arguments.
    pub fn start_by(command: &mut Command, resource: Value, addresses: &[&str]) -> Monitor {
        let resource: Resource = serde_json::from_value(resource).expect("a resource");
        let spec = ResourceSpec {
            policy: GroupPolicy::default().with(&resource.policy),
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            resource,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let child = command
            .arg("monitor")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stderr(std::fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("the monitor starts");
        let mut monitor = Monitor { child, socket: Some(BufReader::new(ours)), log, folder };
        let node = "a".parse().expect("a name");
        monitor.say(&ToChild::Drive { spec: Box::new(spec), node });
        monitor
    }

    pub fn say(&mut self, message: &ToChild) {
        let mut line = serde_json::to_vec(message).expect("JSON");
        line.push(b'\n');
        let socket = self.socket.as_mut().expect("an open socket").get_mut();
        socket.write_all(&line).expect("the monitor listens");
    }

    /// The next message that is not `Progress`; none when the monitor has ended.
    pub fn hear(&mut self) -> Option<FromChild> {
        let socket = self.socket.as_mut().expect("an open socket");
        socket.get_ref().set_read_timeout(Some(LIMIT)).expect("a time limit");
        let give_up_at = Instant::now() + LIMIT;
        loop {
            let mut line = String::new();
            let read = socket.read_line(&mut line);
            assert!(Instant::now() < give_up_at, "only progress; log:\n{}", self.log());
            match read {
                Ok(0) => return None,
                Ok(_) => match serde_json::from_str(&line).expect("a message") {
                    FromChild::Progress => {}
                    message => return Some(message),
                },
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}; log:\n{}", self.log()),
            }
        }
    }

    #[track_caller]
    pub fn expect(&mut self, wanted: FromChild) {
        let said = self.hear();
        assert_eq!(said, Some(wanted), "log:\n{}", self.log());
    }

    pub fn activate(&mut self, epoch: u64) {
        self.activate_for(epoch, LONG);
    }

    pub fn activate_for(&mut self, epoch: u64, trust: Millis) {
        let holder = "a".parse().expect("a name");
        let lease = LeaseName::Group("g".parse().expect("a name"));
        let token = FenceToken { lease, epoch: Epoch(epoch), holder };
        self.say(&ToChild::Activate { token, trust_until: boot_time().after(trust) });
    }

    /// Ready, then active under this epoch.
    #[track_caller]
    pub fn bring_online(&mut self, epoch: u64) {
        self.expect(FromChild::Ready);
        self.activate(epoch);
        self.expect(FromChild::Active { epoch: Epoch(epoch) });
    }

    #[track_caller]
    pub fn take_offline(&mut self, epoch: u64) {
        self.say(&ToChild::Deactivate { within: Millis::seconds(30) });
        self.expect(FromChild::Inactive { epoch: Epoch(epoch) });
    }

    /// Hears that it failed; the process ends with an exit code that says so.
    #[track_caller]
    pub fn expect_failed(&mut self, wanted: FailureReach, words: &str) -> String {
        match self.hear() {
            Some(FromChild::Failed { how, reach }) => {
                assert!(how.contains(words), "{how:?} has no {words:?}; log:\n{}", self.log());
                assert_eq!(reach, wanted, "{how}");
                let code = self.ended().code();
                assert!(code.is_some_and(|code| code != 0 && code != 75), "{code:?}");
                how
            }
            other => panic!("{other:?} and not failed; log:\n{}", self.log()),
        }
    }

    /// The node is gone, as far as the monitor can see.
    pub fn close_socket(&mut self) {
        self.socket = None;
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn ended(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        until("the monitor ends", || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        status.expect("its status")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A folder of this monitor's test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it is ours");
    }

    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It takes its resource down before it ends.
        self.socket = None;
        let give_up_at = Instant::now() + Duration::from_secs(15);
        while Instant::now() < give_up_at {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The monitor of this crate.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_resources-test-monitor")
}

/// Looks again and again until it is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up_at = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < give_up_at, "waited {LIMIT:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process lives, by the number in a file that it wrote.
pub fn lives(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap_or_default();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !pid.trim().is_empty() && !stat.is_empty() && !stat.contains(") Z ")
}

/// Runs a tool; gives what it printed. Its failure is the test's.
#[track_caller]
pub fn tool(words: &[&str]) -> String {
    let (ok, printed) = try_tool(words);
    assert!(ok, "{words:?}: {printed}");
    printed
}

/// Runs a tool; whether it went well, and what it printed.
pub fn try_tool(words: &[&str]) -> (bool, String) {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return (false, error.to_string()),
    };
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed += &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), printed)
}

/// Reads all that is there.
pub fn read(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = std::fs::File::open(path) {
        let _ = file.read_to_string(&mut text);
    }
    text
}
