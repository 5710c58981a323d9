//! The main job, for real: files of real FTP servers, nodes as processes, kills and freezes; each
//! file must arrive exactly once, with its own bytes.
//!
//! The demo is the rig: it starts the cluster, strikes, and proves. Here it runs on each store
//! and against each server, while other things break too.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testbed::{FtpKind, FtpOptions, FtpServer};

/// Faults a run: two of each kind.
const FAULTS: &str = "8";

/// Files a run.
const FILES: &str = "1500";

/// Between two blows at sessions: long enough to get something done, short enough to hit
/// downloads, commits and deletions.
const BLOW_EVERY: Duration = Duration::from_millis(700);

/// Runs the demo and fails unless it ends with its proof.
#[track_caller]
fn demo_proves(arguments: &[String]) {
    let output = Command::new(env!("CARGO_BIN_EXE_baton"))
        .args(["demo", "--json", "--ttl", "1s", "--files", FILES, "--faults", FAULTS])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the demo runs");
    let story = String::from_utf8_lossy(&output.stderr);
    let last = String::from_utf8_lossy(&output.stdout);
    let last = last.lines().last().unwrap_or_default();
    println!("{story}\n{last}");
    assert!(output.status.success(), "no proof: {last}\n{story}");
    let proof: serde_json::Value = serde_json::from_str(last).expect("the last line is JSON");
    assert_eq!(proof["received"], proof["sent"], "{last}");
    assert_eq!(proof["lost"], 0, "{last}");
    assert_eq!(proof["duplicates"], 0, "{last}");
    assert_eq!(proof["corrupt"], 0, "{last}");
}

/// Does something again and again while something else runs.
fn meanwhile(blow: impl Fn() + Sync, run: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::park_timeout(BLOW_EVERY);
                blow();
            }
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The store's sessions of hosts and nodes are ended by the server.
fn end_store_sessions(url: &str) {
    if let Err(error) = testbed::end_sessions(url, "host") {
        println!("could not end sessions: {error:#}");
    }
}

fn with(server: &FtpServer) -> Vec<String> {
    let login = format!(
        "{}:{}@127.0.0.1:{}/{}",
        server.user(),
        server.password(),
        server.port(),
        server.folder()
    );
    vec!["--ftp".into(), login, "--ftp-folder".into(), server.root().display().to_string()]
}

fn against(kind: FtpKind) {
    let started = FtpServer::start(kind, FtpOptions::default());
    let Some(server) = testbed::or_skip(started) else { return };
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    let mut arguments = with(&server);
    arguments.extend(["--store".into(), url.clone()]);
    let blow = || {
        server.kill_sessions();
        end_store_sessions(&url);
    };
    meanwhile(blow, || demo_proves(&arguments));
}

#[test]
fn on_the_embedded_store() {
    demo_proves(&[]);
}

#[test]
fn on_postgresql() {
    let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
    demo_proves(&["--store".into(), url]);
}

#[test]
fn from_vsftpd_whose_sessions_and_the_stores_are_killed() {
    against(FtpKind::Vsftpd);
}

#[test]
fn from_proftpd_whose_sessions_and_the_stores_are_killed() {
    against(FtpKind::Proftpd);
}

#[test]
fn from_pure_ftpd_whose_sessions_and_the_stores_are_killed() {
    against(FtpKind::PureFtpd);
}

#[test]
fn from_vsftpd_on_the_embedded_store_whose_sessions_are_killed() {
    let started = FtpServer::start(FtpKind::Vsftpd, FtpOptions::default());
    let Some(server) = testbed::or_skip(started) else { return };
    let arguments = with(&server);
    meanwhile(|| server.kill_sessions(), || demo_proves(&arguments));
}
