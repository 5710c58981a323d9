//! A large file's download is cut by the death of its host, and goes on where it was on another
//! node.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use baton::machines::Machine;
use model::Millis;
use testbed::{FtpKind, FtpOptions, FtpServer};

/// Some hundred chunks: whoever looks every few milliseconds sees it half done.
const MIB: usize = 128;

/// Longest wait for anything. It is a limit, not an expectation.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Read around `Store`, which has no reason to tell.
const STAGED_BYTES: &str = include_str!("staged_bytes.sql");

const DEFINITIONS: &str = r#"
groups:
  - { name: files, policy: { restarts_max: 0 } }
hosts:
  - { name: receive, group: files }
  - { name: send }
receive_ports:
  - name: files
    locations:
      - name: files-ftp
        host: receive
        poll_interval: 20ms
        stability: none
        transport:
          ftp: { server: 127.0.0.1, port: PORT, user: USER, password: "PASSWORD", folder: FOLDER }
send_ports:
  - name: folder
    host: send
    filter: BTS.ReceivePortName == "files"
    transport: { file: { folder: OUT, file_name: "%SourceFileName%" } }
"#;

#[track_caller]
fn wait_until(what: &str, so: impl Fn() -> bool) {
    let give_up_at = Instant::now() + WAIT_MAX;
    while !so() {
        assert!(Instant::now() < give_up_at, "not within {WAIT_MAX:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn staged(database: &Path) -> i64 {
    let opened = rusqlite::Connection::open(database);
    let bytes = opened.and_then(|database| database.query_row(STAGED_BYTES, [], |row| row.get(0)));
    bytes.unwrap_or(0)
}

fn owner(program: &Path, url: &str) -> String {
    let list = ["--store", url, "group", "list", "-o", "json"];
    let output = Command::new(program).args(list).output().expect("it runs");
    let groups: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    groups[0]["owner"].as_str().expect("somebody owns it").to_owned()
}

#[test]
fn another_node_goes_on_at_its_offset() {
    let started = FtpServer::start(FtpKind::Vsftpd, FtpOptions::default());
    let Some(server) = testbed::or_skip(started) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let (database, out) = (path("baton.db"), path("out"));
    std::fs::create_dir(&out).expect("a folder");
    let text = DEFINITIONS
        .replace("PORT", &server.port().to_string())
        .replace("USER", server.user())
        .replace("PASSWORD", server.password())
        .replace("FOLDER", &format!("{:?}", server.folder()))
        .replace("OUT", &out.display().to_string());
    std::fs::write(path("definitions.yaml"), text).expect("written");
    let url = format!("sqlite:{}", database.display());
    let program = Path::new(env!("CARGO_BIN_EXE_baton"));
    let applied = Command::new(program)
        .args(["--store", &url, "apply"])
        .arg(path("definitions.yaml"))
        .status();
    assert!(applied.expect("it runs").success());
    let content: Vec<u8> = (0..MIB * 1024 * 1024).map(|at| (at % 251) as u8).collect();
    let source = server.put("large.bin", &content).expect("put");
    let start = |name| Machine::start(program, folder.path(), name, &url, Millis::seconds(3));
    let machines = ["a", "b"].map(|name| start(name).expect("a node"));

    let half = i64::try_from(content.len()).expect("a length") / 2;
    wait_until("half of it is staged", || staged(&database) >= half);
    let owner = owner(program, &url);
    let owning = machines.iter().find(|machine| machine.name.as_str() == owner);
    owning.expect("one of them").kill_host("receive").expect("it runs");
    assert!(source.exists(), "it was killed too late");
    let target = out.join("large.bin");
    wait_until("delivery", || target.exists());
    assert!(std::fs::read(&target).expect("read") == content, "other bytes");
    wait_until("the source is removed", || !source.exists());
    let other = if owner == "a" { "b.log" } else { "a.log" };
    let log = std::fs::read_to_string(path(other)).expect("a log");
    let resumed = log.lines().find(|line| line.contains("goes on where"));
    let offset = resumed.and_then(|line| {
        let (_, offset) = line.split_once("offset=")?;
        offset.split_whitespace().next()?.parse::<i64>().ok()
    });
    assert!(offset.is_some_and(|offset| offset >= half), "{resumed:?}\n{log}");
}
