//! A file's whole way, by the real program: received from a folder, kept, moved or deleted,
//! routed to each port that wants it, suspended where nobody does, resumed by an operator.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use baton::machines::Machine;
use model::Millis;
use serde_json::Value;

/// Longest wait for anything. It is a limit, not an expectation.
const WAIT_MAX: Duration = Duration::from_secs(60);

struct Site {
    folder: tempfile::TempDir,
    _machine: Machine,
}

impl Site {
    /// One node, and the definitions applied by the command line.
    fn start() -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["deleted", "kept", "moved", "unwanted", "out"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let definitions = folder.path().join("definitions.yaml");
        let text = DEFINITIONS.replace("FOLDER", &folder.path().display().to_string());
        std::fs::write(&definitions, text).expect("written");
        let url = format!("sqlite:{}", folder.path().join("baton.db").display());
        baton(&url, &["apply", &definitions.display().to_string()]);
        let program = Path::new(env!("CARGO_BIN_EXE_baton"));
        let machine = Machine::start(program, folder.path(), "a", &url, Millis::seconds(3));
        Site { folder, _machine: machine.expect("a node") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a file into a folder as a partner does.
    fn put(&self, folder: &str, name: &str) {
        let hidden = self.path(folder).join(format!(".{name}"));
        std::fs::write(&hidden, format!("the content of {name}")).expect("written");
        std::fs::rename(hidden, self.path(folder).join(name)).expect("renamed");
    }

    /// Runs a command of an operator.
    fn baton(&self, arguments: &[&str]) -> String {
        baton(&format!("sqlite:{}", self.path("baton.db").display()), arguments)
    }

    fn suspended(&self) -> Vec<Value> {
        let text = self.baton(&["message", "list", "--state", "suspended", "-o", "json"]);
        let list: Value = serde_json::from_str(&text).expect("JSON");
        list.as_array().cloned().unwrap_or_default()
    }
}

const DEFINITIONS: &str = r#"
groups:
  - { name: files, single_node: true, possible_owners: [a] }
hosts:
  - { name: receive, group: files }
  - { name: send }
receive_ports:
  - name: wanted
    locations:
      - name: deleted
        host: receive
        poll_interval: 20ms
        stability: none
        transport: { file: { folder: FOLDER/deleted } }
      - name: kept
        host: receive
        poll_interval: 20ms
        stability: { sightings: 50ms }
        after_receive: keep
        transport: { file: { folder: FOLDER/kept } }
      - name: moved
        host: receive
        poll_interval: 20ms
        stability: none
        after_receive: { move: FOLDER/moved/done }
        transport: { file: { folder: FOLDER/moved } }
  - name: unwanted
    locations:
      - name: unwanted
        host: receive
        poll_interval: 20ms
        stability: none
        transport: { file: { folder: FOLDER/unwanted } }
send_ports:
  - name: all
    host: send
    filter: BTS.ReceivePortName == "wanted" && has(FILE.ReceivedFileName)
    transport: { file: { folder: FOLDER/out, file_name: "%SourceFileName%" } }
  - name: missing
    host: send
    filter: BTS.ReceiveLocationName == "deleted"
    retries_max: 0
    transport: { file: { folder: FOLDER/missing, file_name: "%SourceFileName%" } }
"#;

#[track_caller]
fn baton(url: &str, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_baton"))
        .args(["--store", url])
        .args(arguments)
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}{said}");
    said
}

#[track_caller]
fn eventually(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !so() {
        assert!(Instant::now() < deadline, "waited {WAIT_MAX:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

#[test]
fn files_are_received_routed_suspended_and_resumed() {
    let site = Site::start();
    std::fs::create_dir(site.path("moved/done")).expect("a folder");
    site.put("deleted", "one");
    site.put("kept", "two");
    site.put("moved", "three");
    site.put("unwanted", "four");

    eventually("three files are sent", || names(&site.path("out")) == ["one", "three", "two"]);
    for name in ["one", "two", "three"] {
        let sent = std::fs::read_to_string(site.path("out").join(name)).expect("it is there");
        assert_eq!(sent, format!("the content of {name}"));
    }
    eventually("the sources are released", || {
        names(&site.path("deleted")).is_empty() && names(&site.path("moved/done")) == ["three"]
    });
    assert_eq!(names(&site.path("kept")), ["two"], "a kept file stays");

    eventually("nobody's message and the failed one are suspended", || {
        let ports: Vec<_> = site.suspended().iter().map(|one| one["port"].clone()).collect();
        ports.len() == 2 && ports.contains(&"".into()) && ports.contains(&"missing".into())
    });

    std::fs::create_dir(site.path("missing")).expect("a folder");
    site.baton(&["message", "resume", "--all", "--port", "missing"]);
    eventually("the resumed message is sent", || names(&site.path("missing")) == ["one"]);

    let left = site.suspended();
    assert_eq!(left.len(), 1, "{left:?}");
    let id = left[0]["id"].to_string();
    let shown = site.baton(&["message", "show", &id, "--body"]);
    assert!(shown.contains("the content of four"), "{shown}");
    site.baton(&["message", "terminate", &id]);
    assert!(site.suspended().is_empty());

    // A kept file is received once, however often it is listed: a second one shows that polls
    // went on meanwhile.
    std::fs::remove_file(site.path("out/two")).expect("it is there");
    site.put("kept", "five");
    eventually("the second kept file is sent", || site.path("out/five").exists());
    assert!(!site.path("out/two").exists(), "a kept file was received twice");
}
