//! A cluster of Pacemaker and corosync: three machines in namespaces, one resource, and faults.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use testbed::net::{Network, Way};

use super::lines::{Instance, Reader};
use super::packages::{output_of, unpacked};

/// The machines.
pub const NODES: [&str; 3] = ["a", "b", "c"];

/// Longest wait for the cluster to form or to come to rest: it forms in 25 s, and a machine that
/// was thawed is back in 10.
const REST_MAX: Duration = Duration::from_secs(120);

/// How often we look, where Pacemaker's answer is asked for: each look is a process.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// How often we look at the lines.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How the cluster is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// corosync's token in milliseconds; none: its default (3000, and 650 for each node above two).
    pub token_ms: Option<u32>,
    /// Time between two looks at the resource.
    pub monitor_ms: u32,
}

/// The cluster. Dropping it ends it and leaves nothing behind.
pub struct Cluster {
    machines: Vec<Machine>,
    // After the machines, whose processes must be dead before it goes.
    network: Network,
    packages: PathBuf,
    folder: tempfile::TempDir,
    /// What the resource's instances write.
    pub reader: Reader,
}

struct Machine {
    name: &'static str,
    process: Option<Child>,
}

impl Cluster {
    /// Starts the cluster and its resource.
    pub fn start(settings: &Settings) -> Result<Cluster> {
        let packages = unpacked()?;
        let folder = tempfile::tempdir()?;
        let shared = folder.path().join("shared");
        std::fs::create_dir(&shared)?;
        let mut network = Network::new()?;
        for name in NODES {
            network.add(name)?;
            std::fs::create_dir(folder.path().join(name))?;
        }
        std::fs::write(shared.join("corosync.conf"), corosync_conf(settings, &network)?)?;
        std::fs::write(shared.join("active"), include_str!("active.sh"))?;
        std::fs::copy(std::env::current_exe()?, shared.join("bench"))?;
        output_of(Command::new("chmod").arg("755").arg(shared.join("active")))?;
        std::fs::write(folder.path().join("node.sh"), include_str!("node.sh"))?;
        let reader = Reader::new(&shared.join("lines"));
        let machines = NODES.map(|name| Machine { name, process: None }).into();
        let mut cluster = Cluster { machines, network, packages, folder, reader };
        for name in NODES {
            cluster.start_node(name)?;
        }
        cluster.wait("the cluster to form", Cluster::all_online)?;
        cluster.configure(settings)?;
        cluster.rest()?;
        Ok(cluster)
    }

    /// Starts a machine (again).
    pub fn start_node(&mut self, name: &str) -> Result<()> {
        let log = std::fs::File::create(self.folder.path().join(format!("{name}.log")))?;
        // The kernel ends it with this process, and whatever runs inside with it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "ip", "netns", "exec", &self.network.namespace(name)])
            .args(["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"])
            .arg("sh")
            .arg(self.folder.path().join("node.sh"))
            .arg(name)
            .arg(self.folder.path().join(name))
            .arg(&self.packages)
            .arg(self.folder.path().join("shared"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("can't start setpriv, ip or unshare")?;
        self.machine(name)?.process = Some(child);
        Ok(())
    }

    /// Kills everything on a machine, as a power loss would.
    pub fn kill_node(&mut self, name: &str) -> Result<()> {
        // The end of process 1 is the end of them all.
        kill_process(self.init(name)?, Signal::KILL)?;
        let child = self.machine(name)?.process.take();
        child.context("it does not run")?.wait()?;
        Ok(())
    }

    /// Stops everything on a machine in its tracks, or lets it run on.
    pub fn signal_node(&mut self, name: &str, signal: Signal) -> Result<()> {
        for pid in self.processes(name)? {
            // It may have ended since.
            let _ = kill_process(pid, signal);
        }
        Ok(())
    }

    /// Kills the resource's process.
    pub fn kill_resource(&mut self, name: &str) -> Result<()> {
        let is_active = |pid: &Pid| {
            let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
            let command = std::fs::read(path).unwrap_or_default();
            command.split(|byte| *byte == 0).nth(1) == Some(b"active")
        };
        let pid = self.processes(name)?.into_iter().find(is_active);
        Ok(kill_process(pid.context("the resource has no process")?, Signal::KILL)?)
    }

    /// Cuts a machine off from the others.
    pub fn cut(&mut self, name: &str) -> Result<()> {
        self.network.cut(name, Way::Both)
    }

    /// Joins them again.
    pub fn mend(&mut self) -> Result<()> {
        self.network.mend()
    }

    /// Moves the resource away from where it is.
    pub fn move_to(&mut self, name: &str) -> Result<()> {
        self.ask(name, &["crm_resource", "--move", "--resource", "active", "--node", name])?;
        Ok(())
    }

    /// Waits until an instance other than these writes, and gives the time of its first line.
    pub fn first_of_another(&mut self, before: &Instance, limit: Duration) -> Result<Option<i64>> {
        let deadline = Instant::now() + limit;
        loop {
            let lines = self.reader.read()?;
            if let Some(line) = lines.iter().find(|line| line.by != *before) {
                return Ok(Some(line.at_us));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until all is well, forgets what failed, and gives the one active instance.
    pub fn rest(&mut self) -> Result<Instance> {
        self.wait("all machines to be online", Cluster::all_at_one)?;
        self.ask(NODES[0], &["crm_resource", "--clear", "--resource", "active"])?;
        self.ask(NODES[0], &["crm_resource", "--cleanup", "--resource", "active"])?;
        self.ask(NODES[0], &["crm_resource", "--wait", "--timeout=60s"])?;
        self.wait("one active instance", |cluster| {
            cluster.reader.forget()?;
            std::thread::sleep(ASK_EVERY);
            let lines = cluster.reader.read()?;
            let first = lines.first().map(|line| &line.by);
            Ok(first.is_some() && lines.iter().all(|line| Some(&line.by) == first))
        })?;
        Ok(self.reader.lines[0].by.clone())
    }

    fn configure(&self, settings: &Settings) -> Result<()> {
        // Without fencing devices the resource would never start.
        self.ask(NODES[0], &["crm_attribute", "--name", "stonith-enabled", "--update", "false"])?;
        // As every guide says: a resource that moved stays.
        let sticky = ["--name", "resource-stickiness", "--update", "1000"];
        self.ask(NODES[0], &[&["crm_attribute", "--type", "rsc_defaults"][..], &sticky].concat())?;
        let resource = format!(
            "<primitive id=\"active\" class=\"ocf\" provider=\"bench\" type=\"active\">\
             <operations><op id=\"active-monitor\" name=\"monitor\" interval=\"{}ms\" \
             timeout=\"20s\"/></operations></primitive>",
            settings.monitor_ms
        );
        let create = ["cibadmin", "--create", "--scope", "resources", "--xml-text", &resource];
        self.ask(NODES[0], &create)?;
        Ok(())
    }

    /// Whether all are online, and know the resource: one that comes back is told a moment later.
    fn all_at_one(&mut self) -> Result<bool> {
        self.all_say(&["resource id=\"active\""])
    }

    fn all_online(&mut self) -> Result<bool> {
        self.all_say(&[])
    }

    fn all_say(&self, words: &[&str]) -> Result<bool> {
        for name in NODES {
            let Ok(told) = self.ask(name, &["crm_mon", "--one-shot", "--output-as=xml"]) else {
                return Ok(false);
            };
            let online = told.matches("online=\"true\"").count() == NODES.len();
            let pending =
                told.contains("pending=\"true\"") || !told.contains("with_quorum=\"true\"");
            if !online || pending || !words.iter().all(|word| told.contains(word)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn wait(&mut self, what: &str, so: impl Fn(&mut Cluster) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + REST_MAX;
        while !so(self)? {
            if Instant::now() > deadline {
                let told = self.ask(NODES[0], &["crm_mon", "--one-shot"]).unwrap_or_default();
                bail!("waited {REST_MAX:?} in vain for {what}; {} says:\n{told}", NODES[0]);
            }
            std::thread::sleep(ASK_EVERY);
        }
        Ok(())
    }

    /// Runs a command on a machine, and gives what it printed.
    fn ask(&self, name: &str, command: &[&str]) -> Result<String> {
        let init = self.init(name)?.as_raw_nonzero().to_string();
        output_of(
            Command::new("nsenter")
                .args(["--target", &init, "--mount", "--net", "--pid", "--uts", "--ipc"])
                .args(["--root", "--wd=/"])
                .args(command),
        )
    }

    fn machine(&mut self, name: &str) -> Result<&mut Machine> {
        let mut machines = self.machines.iter_mut();
        machines.find(|machine| machine.name == name).context("there is no such machine")
    }

    /// Process 1 of a machine, by its number outside: the only child of its `unshare`.
    fn init(&self, name: &str) -> Result<Pid> {
        let machine = self.machines.iter().find(|machine| machine.name == name);
        let process = machine.and_then(|machine| machine.process.as_ref());
        let parent = process.with_context(|| format!("machine {name} does not run"))?.id();
        let first = all_processes()?.into_iter().find(|pid| parent_of(*pid) == Some(parent));
        first.and_then(Pid::from_raw).with_context(|| {
            let log = self.folder.path().join(format!("{name}.log"));
            let told = std::fs::read_to_string(log).unwrap_or_default();
            format!("machine {name} has no process 1: {told}")
        })
    }

    /// All processes of a machine, by their numbers outside.
    fn processes(&self, name: &str) -> Result<Vec<Pid>> {
        let space = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let wanted = space(self.init(name)?.as_raw_nonzero().get());
        ensure!(wanted.is_some(), "machine {name} has ended");
        let pids = all_processes()?.into_iter();
        Ok(pids.filter(|pid| space(*pid) == wanted).filter_map(Pid::from_raw).collect())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for name in NODES {
            // What is dead already needs no killing.
            let _ = self.kill_node(name);
        }
    }
}

fn all_processes() -> Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The fourth field of `stat`, counted after the name in brackets, which may hold anything.
fn parent_of(pid: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn corosync_conf(settings: &Settings, network: &Network) -> Result<String> {
    let token = settings.token_ms.map_or(String::new(), |token| {
        // Without the coefficient it would grow with the number of nodes.
        format!("  token: {token}\n  token_coefficient: 0\n")
    });
    let mut text = format!(
        "totem {{\n  version: 2\n  cluster_name: bench\n  transport: knet\n  \
         crypto_cipher: none\n  crypto_hash: none\n{token}}}\n\
         quorum {{\n  provider: corosync_votequorum\n}}\n\
         logging {{\n  to_syslog: no\n  to_logfile: yes\n  \
         logfile: /var/log/corosync/corosync.log\n}}\nnodelist {{\n"
    );
    for (number, name) in NODES.iter().enumerate() {
        let (id, address) = (number + 1, network.address(name)?);
        text += &format!(
            "  node {{\n    ring0_addr: {address}\n    name: {name}\n    nodeid: {id}\n  }}\n"
        );
    }
    Ok(text + "}\n")
}
