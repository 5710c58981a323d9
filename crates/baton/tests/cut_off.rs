//! Networks that fail in every way that a real one does, while files flow: nodes, PostgreSQL and an
//! FTP server, each on a machine of its own (a network namespace), and links that are cut, one way
//! or both, or that lose, delay and double packets. Each file must arrive exactly once.
//!
//! Gaps are printed, and judged where no other load distorts them (bench/); here the cluster must
//! only go on.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use baton::proof;
use serde_json::{Value, json};
use testbed::net::{Impairment, Network, Way};
use testbed::{FtpServer, Postgres};

const NODES: [&str; 3] = ["a", "b", "c"];
const TTL_MS: i64 = 2000;

/// Between two files: they must come at every moment of a fault, and not drown two processors.
const PACE: Duration = Duration::from_millis(25);

/// Longest wait for whatever a test waits for; a machine busy with a build is slow.
const WAIT_MAX: Duration = Duration::from_secs(45);

/// How long a link stays bad: several ttls, or a fault would not be noticed.
const BAD_FOR: Duration = Duration::from_secs(7);

/// A duplicate comes late: what is under way gets this long to show itself.
const LATE: Duration = Duration::from_millis(1500);

/// One network at a time: each has six machines, and this one has two processors.
static TURN: Mutex<()> = Mutex::new(());

struct Site {
    // Declared in the order in which they must end.
    writer: Option<Writer>,
    nodes: Vec<Child>,
    partner: FtpServer,
    _postgres: Postgres,
    network: Network,
    folder: tempfile::TempDir,
    store: String,
    _turn: MutexGuard<'static, ()>,
}

/// The partner, who puts files on the FTP server all the time.
struct Writer {
    offered: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(folder: PathBuf) -> Writer {
        let (offered, stop) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (offered, stop) = (Arc::clone(&offered), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let number = offered.load(Ordering::Relaxed);
                    proof::offer(&folder, number).expect("a file is offered");
                    offered.store(number + 1, Ordering::Relaxed);
                    std::thread::sleep(PACE);
                }
            }
        });
        Writer { offered, stop, thread }
    }

    fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the partner ends");
        self.offered.load(Ordering::Relaxed)
    }
}

/// What `baton status` says of the group.
#[derive(Debug, Clone)]
struct Standing {
    now: i64,
    owner: String,
    epoch: u64,
    /// When the location was first listed under this epoch or a later one.
    active_since: Option<i64>,
    up: usize,
}

impl Site {
    /// Builds it, and waits until files flow. None: this machine cannot have one.
    fn build() -> Option<Site> {
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut network = testbed::or_skip(Network::new())?;
        for name in ["store", "partner", "ops"].into_iter().chain(NODES) {
            network.add(name).expect("a machine");
        }
        let postgres = testbed::or_skip(Postgres::start_on(&network, "store"))?;
        let partner = testbed::or_skip(FtpServer::start_on(&network, "partner"))?;
        postgres.create_database("baton").expect("a database");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("delivered")).expect("a folder");
        let store = postgres.url("baton");
        let nodes = Vec::new();
        let mut site = Site {
            writer: None,
            nodes,
            partner,
            _postgres: postgres,
            network,
            folder,
            store,
            _turn: turn,
        };
        site.apply();
        for name in NODES {
            let node = site.node(name);
            site.nodes.push(node);
        }
        site.until("the group is online and all nodes are up", |standing| {
            standing.up == NODES.len() && standing.active_since.is_some()
        });
        site.writer = Some(Writer::start(site.partner.root().to_owned()));
        Some(site)
    }

    fn baton(&self, machine: &str) -> Command {
        let mut command = self.network.command(machine, env!("CARGO_BIN_EXE_baton"));
        command.env("BATON_STORE", &self.store).env_remove("BATON_CONFIG");
        command.stdin(Stdio::null());
        command
    }

    fn apply(&self) {
        let server = self.network.address("partner").expect("its address").to_string();
        let definitions = json!({
            "groups": [{
                "name": "partners",
                "preferred_owners": NODES,
                "policy": {"restarts_max": 1000, "restart_delay": "0ms", "failovers_max": 1000},
            }],
            "hosts": [{"name": "receive", "group": "partners"}, {"name": "send"}],
            "receive_ports": [{"name": "orders", "locations": [{
                "name": "orders-ftp",
                "host": "receive",
                "poll_interval": "20ms",
                "stability": "none",
                "transport": {"ftp": {
                    "server": server, "port": self.partner.port(), "folder": self.partner.folder(),
                    "user": self.partner.user(), "password": self.partner.password(),
                    "file_mask": "*.txt", "reply_timeout": "5s",
                }},
            }]}],
            "send_ports": [{
                "name": "archive",
                "host": "send",
                "filter": "BTS.ReceivePortName == \"orders\"",
                "retry_interval": "1s",
                "transport": {"file": {
                    "folder": self.folder.path().join("delivered"),
                    "file_name": "%SourceFileName%.%MessageID%",
                }},
            }],
        });
        let path = self.folder.path().join("definitions.yaml");
        std::fs::write(&path, definitions.to_string()).expect("written");
        let output = self.baton("ops").arg("apply").arg(&path).output().expect("baton runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn node(&self, name: &str) -> Child {
        let log = std::fs::File::create(self.folder.path().join(format!("{name}.log")));
        let log = log.expect("a log");
        let ttl = format!("{TTL_MS}ms");
        self.baton(name)
            .args(["node", "--name", name, "--ttl", &ttl])
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("a node starts")
    }

    fn standing(&self) -> Option<Standing> {
        let output = self.baton("ops").args(["status", "-o", "json"]).output().expect("it runs");
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let group = &status["groups"][0];
        let epoch = group["epoch"].as_u64()?;
        let reports = status["receive_locations"][0]["reports"].as_array()?;
        let current = reports.iter().filter(|report| report["epoch"].as_u64() >= Some(epoch));
        let nodes = status["nodes"].as_array()?;
        Some(Standing {
            now: status["now"].as_i64()?,
            owner: group["owner"].as_str().unwrap_or_default().to_owned(),
            epoch,
            active_since: current.filter_map(|report| report["active_since"].as_i64()).min(),
            up: nodes.iter().filter(|node| node["state"] == "up").count(),
        })
    }

    #[track_caller]
    fn until(&self, what: impl Display, holds: impl Fn(&Standing) -> bool) -> Standing {
        let deadline = Instant::now() + WAIT_MAX;
        let mut last = None;
        loop {
            if let Some(standing) = self.standing() {
                if holds(&standing) {
                    return standing;
                }
                last = Some(standing);
            }
            if Instant::now() > deadline {
                self.tell_logs();
                panic!("waited {WAIT_MAX:?} in vain until {what}; last: {last:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn tell_logs(&self) {
        for name in NODES {
            let log = std::fs::read_to_string(self.folder.path().join(format!("{name}.log")));
            let log = log.unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            println!("---- the end of {name}.log\n{}", last.join("\n"));
        }
    }

    fn offered(&self) -> u32 {
        let writer = self.writer.as_ref().expect("the partner is at work");
        writer.offered.load(Ordering::Relaxed)
    }

    fn delivered(&self) -> u32 {
        proof::count(&self.folder.path().join("delivered"))
    }

    /// Waits until a file that is offered from now on may have come.
    #[track_caller]
    fn until_files_flow(&self, what: &str) {
        let (offered, deadline) = (self.offered(), Instant::now() + WAIT_MAX);
        while self.delivered() <= offered {
            if Instant::now() > deadline {
                self.tell_logs();
                let delivered = self.delivered();
                panic!("{what}: files flow no more, {delivered} of {offered} came");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Cuts the owner off, expects another owner, mends, and waits until all are back.
    #[track_caller]
    fn cut(&mut self, what: &str, cut: impl FnOnce(&mut Network, &str)) {
        let before = self.until("all nodes are up", |standing| standing.up == NODES.len());
        let asked_at = Instant::now();
        cut(&mut self.network, &before.owner);
        let lag = i64::try_from(asked_at.elapsed().as_millis()).expect("a while");
        let after = self.until(format!("another node has taken over ({what})"), |standing| {
            standing.epoch > before.epoch && standing.active_since.is_some()
        });
        // From before the command that cut, so that it is rather too long.
        let gap = after.active_since.expect("asked for") - before.now;
        println!(
            "{what}: {} -> {} after {gap} ms (ttl {TTL_MS} ms; cutting took {lag} ms of them)",
            before.owner, after.owner
        );
        self.until_files_flow(what);
        self.network.mend().expect("mended");
        self.until(format!("all are back ({what})"), |standing| standing.up == NODES.len());
    }

    /// Spoils a link for a while. Whether somebody else takes over meanwhile is not asked.
    #[track_caller]
    fn spoil(&mut self, machine: &str, impairment: Impairment) {
        let what = format!("{impairment:?} at {machine}");
        let before = self.until("all nodes are up", |standing| standing.up == NODES.len());
        let (begun, offered, delivered) = (Instant::now(), self.offered(), self.delivered());
        self.network.impair(machine, impairment).expect("impaired");
        while begun.elapsed() < BAD_FOR {
            std::thread::sleep(Duration::from_millis(100));
        }
        let (offered, delivered) = (self.offered() - offered, self.delivered() - delivered);
        self.network.mend().expect("mended");
        let after = self.until(format!("all are back ({what})"), |standing| {
            standing.up == NODES.len() && standing.active_since.is_some()
        });
        println!(
            "{what}: {delivered} of {offered} files came within {BAD_FOR:?}; epochs {} to {}",
            before.epoch, after.epoch
        );
        self.until_files_flow(&what);
    }

    /// Stops the partner and proves that each file arrived once.
    #[track_caller]
    fn prove(mut self) {
        let sent = self.writer.take().expect("the partner is at work").stop();
        let folder = self.folder.path().join("delivered");
        let deadline = Instant::now() + WAIT_MAX;
        while self.delivered() < sent && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(LATE);
        let delivered = proof::check(&folder, 0..sent).expect("checked");
        let lost = sent - delivered.received;
        println!("sent {sent}, lost {lost}, duplicates {}", delivered.duplicates);
        if lost > 0 || delivered.duplicates > 0 || delivered.corrupt > 0 {
            self.tell_logs();
            panic!("sent {sent}, {delivered:?}");
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.stop.store(true, Ordering::Relaxed);
        }
        for node in &mut self.nodes {
            // Its hosts end with it, and what does not ends with its namespace.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

#[test]
fn from_the_store_both_ways_and_one_way() {
    let Some(mut site) = Site::build() else { return };
    site.cut("owner cut off from the store", |network, owner| {
        network.cut_between(owner, "store").expect("cut");
        network.cut_between("store", owner).expect("cut");
    });
    site.cut("owner does not reach the store", |network, owner| {
        network.cut_between(owner, "store").expect("cut");
    });
    site.cut("the store does not reach the owner", |network, owner| {
        network.cut_between("store", owner).expect("cut");
    });
    site.prove();
}

#[test]
fn from_everything_and_from_its_peers() {
    let Some(mut site) = Site::build() else { return };
    site.cut("owner cut off from everything", |network, owner| {
        network.cut(owner, Way::Both).expect("cut");
    });
    site.cut("owner is not heard by anybody", |network, owner| {
        network.cut(owner, Way::From).expect("cut");
    });
    site.cut("owner hears nobody", |network, owner| {
        network.cut(owner, Way::To).expect("cut");
    });
    // Nodes agree by the store alone, so nothing at all must come of this.
    let before = site.until("all nodes are up", |standing| standing.up == NODES.len());
    for other in NODES.into_iter().filter(|other| *other != before.owner) {
        site.network.cut_between(&before.owner, other).expect("cut");
        site.network.cut_between(other, &before.owner).expect("cut");
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2 * TTL_MS.unsigned_abs()) {
        let now = site.standing().expect("the store answers");
        assert_eq!((&now.owner, now.epoch), (&before.owner, before.epoch), "it moved");
        std::thread::sleep(Duration::from_millis(200));
    }
    site.until_files_flow("owner cut off from its peers");
    println!("owner cut off from its peers: {} keeps the group, as it must", before.owner);
    site.network.mend().expect("mended");
    site.prove();
}

#[test]
fn on_links_that_lose_delay_and_double() {
    let Some(mut site) = Site::build() else { return };
    let owner = site.standing().expect("the store answers").owner;
    let by = Duration::from_millis(200);
    for impairment in [Impairment::Drop(10), Impairment::Delay(by), Impairment::Duplicate] {
        site.spoil(&owner, impairment);
    }
    site.spoil("store", Impairment::Duplicate);
    site.spoil("store", Impairment::Drop(10));
    site.prove();
}
