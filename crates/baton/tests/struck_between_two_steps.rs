//! Each step of receiving and sending, and a blow right there: the host is killed, its node is
//! killed, or the owner is frozen until its successor is at work and then runs on as a zombie.
//!
//! The demo is the rig and the judge: it checks the delivered bytes. Beside it stands the store's
//! own record: no receipt was written under an epoch after the next one had begun.
#![cfg(feature = "failpoints")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testbed::{FtpKind, FtpOptions, FtpServer};

/// Where blows fall, in the order of a message's way.
const POINTS: [&str; 9] = [
    "download_chunk",
    "publish_before",
    "sqlite_commit",
    "publish_after",
    "release_before",
    "release_after",
    "close_before",
    "deliver_before",
    "deliver_after",
];

/// `freeze-blind`: the zombie does not end itself when its trust ends, and runs on before its node
/// does, so that nothing but the fence holds it off.
const ACTIONS: [&str; 4] = ["kill-host", "kill-node", "freeze", "freeze-blind"];

/// So long a blind zombie runs on alone.
const ALONE_FOR: Duration = Duration::from_millis(400);

/// Blows fall when a point is passed this often: the host is in full swing, and not done.
const PASS: u32 = 3;

/// Files of a run: more than one batch.
const FILES: &str = "400";

/// A zombie wakes up so long after it froze: its lease of one second is the successor's by then.
const FROZEN_FOR: Duration = Duration::from_millis(1600);

/// Runs at the same time: they wait for most of their time.
const AT_ONCE: usize = 4;

/// Counts receipts of an epoch after the next epoch was taken. A file of its own that goes around
/// `Store`: a judge must not be a part of what is judged.
const STALE_RECEIPTS: &str = include_str!("stale_receipts.sql");

/// One run.
#[derive(Debug, Clone, Copy)]
struct Case {
    point: &'static str,
    action: &'static str,
    on_postgres: bool,
    partner: Option<FtpKind>,
}

#[test]
fn nothing_is_lost_or_doubled_wherever_the_blow_falls() {
    let mut cases = cases();
    let all = cases.len();
    let failures = Mutex::new(Vec::new());
    let next = Mutex::new(&mut cases);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = { next.lock().expect("no panic").pop() } {
                    if let Err(why) = run(case) {
                        failures.lock().expect("no panic").push(format!("{case:?}: {why}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{} of {all}:\n{}", failures.len(), failures.join("\n"));
}

/// Every point with every action on both stores; the four servers in turn.
fn cases() -> Vec<Case> {
    let partners = [None, Some(FtpKind::Vsftpd), Some(FtpKind::Proftpd), Some(FtpKind::PureFtpd)];
    let mut cases = Vec::new();
    for point in POINTS {
        for action in ACTIONS {
            for on_postgres in [false, true] {
                if on_postgres && point.starts_with("sqlite") {
                    continue;
                }
                // Shifted from point to point, so that each action meets each server.
                let turn = cases.len() + cases.len() / (2 * ACTIONS.len());
                let partner = partners[turn % partners.len()];
                cases.push(Case { point, action, on_postgres, partner });
            }
        }
    }
    cases
}

/// Runs the demo under a blow. An error says what went wrong.
fn run(case: Case) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let mark = folder.path().join("struck");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_baton"));
    demo.args(["demo", "--json", "--ttl", "1s", "--faults", "0", "--files", FILES]);
    demo.arg("--keep").arg(folder.path());
    let blind = case.action == "freeze-blind";
    let action = if blind { "freeze" } else { case.action };
    demo.env("BATON_BLOW", format!("{} {action} {PASS} {}", case.point, mark.display()));
    if blind {
        demo.env("BATON_BLIND", "1");
    }
    let server = match case.partner {
        Some(kind) => {
            let started = FtpServer::start(kind, FtpOptions::default());
            let Some(server) = testbed::or_skip(started) else { return Ok(()) };
            let (user, password, port) = (server.user(), server.password(), server.port());
            let login = format!("{user}:{password}@127.0.0.1:{port}/{}", server.folder());
            demo.arg("--ftp").arg(login).arg("--ftp-folder").arg(server.root());
            Some(server)
        }
        None => None,
    };
    let url = match case.on_postgres {
        true => {
            let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return Ok(()) };
            demo.args(["--store", &url]);
            url
        }
        false => format!("sqlite:{}", folder.path().join("baton.db").display()),
    };
    demo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let demo = demo.spawn().expect("the demo starts");
    let thawed = action != "freeze" || thaw(&mark, blind);
    let output = demo.wait_with_output().expect("the demo ends");
    drop(server);
    judge(&output, &mark, thawed, stale_receipts(&url))
}

/// Waits for the blow, and lets the frozen run on when their successor is at work.
fn thaw(mark: &Path, host_first: bool) -> bool {
    let give_up_at = Instant::now() + Duration::from_secs(60);
    let pids = loop {
        match std::fs::read_to_string(mark) {
            Ok(pids) if pids.ends_with('\n') => break pids,
            _ if Instant::now() > give_up_at => return false,
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    std::thread::sleep(FROZEN_FOR);
    // The node, then the host.
    let pids = pids.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    let mut pids: Vec<Pid> = pids.collect();
    pids.reverse();
    for pid in pids {
        // Whoever was in its way may have killed it by now.
        let _ = kill_process(pid, Signal::CONT);
        if host_first {
            std::thread::sleep(ALONE_FOR);
        }
    }
    true
}

fn stale_receipts(url: &str) -> i64 {
    match url.strip_prefix("sqlite:") {
        Some(path) => rusqlite::Connection::open(path)
            .and_then(|database| database.query_row(STALE_RECEIPTS, [], |row| row.get(0)))
            .expect("the store can be read"),
        None => {
            let count = testbed::psql(url, STALE_RECEIPTS).expect("the store can be read");
            count.trim().parse().expect("a number")
        }
    }
}

fn judge(
    output: &std::process::Output,
    mark: &Path,
    thawed: bool,
    stale: i64,
) -> Result<(), String> {
    let last = String::from_utf8_lossy(&output.stdout);
    let last = last.lines().last().unwrap_or_default();
    if !output.status.success() {
        return Err(format!("no proof: {last}\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let proof: serde_json::Value = serde_json::from_str(last).map_err(|error| error.to_string())?;
    let zero = |name: &str| proof[name] == 0;
    if proof["received"] != proof["sent"]
        || !["lost", "duplicates", "corrupt"].iter().all(|n| zero(n))
    {
        return Err(last.to_owned());
    }
    if !mark.exists() || !thawed {
        return Err("the blow never fell: the point was not passed".into());
    }
    match stale {
        0 => Ok(()),
        some => Err(format!("{some} receipts were written under an epoch that was over")),
    }
}
