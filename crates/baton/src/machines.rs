//! Machines for the demo, tests and figures: each is a `baton node` process with its hosts.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use model::{Millis, NodeName};
use rustix::process::{Pid, Signal, kill_process};

/// One machine.
pub struct Machine {
    /// The node's name.
    pub name: NodeName,
    program: PathBuf,
    settings: PathBuf,
    log: PathBuf,
    process: Option<Child>,
}

impl Machine {
    /// Writes the machine's `baton.yaml` and starts its node.
    pub fn start(
        program: &Path,
        folder: &Path,
        name: &str,
        store: &str,
        ttl: Millis,
    ) -> Result<Machine> {
        let name = NodeName::new(name)?;
        let settings = folder.join(format!("{name}.yaml"));
        let text = format!("name: {name}\nstore: {}\nttl: {ttl}\n", quoted(store));
        std::fs::write(&settings, text)?;
        let log = folder.join(format!("{name}.log"));
        let program = program.to_owned();
        let mut machine = Machine { name, program, settings, log, process: None };
        machine.restart()?;
        Ok(machine)
    }

    /// Starts the node (again), as a service manager would.
    pub fn restart(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .arg("node")
            .arg("--config")
            .arg(&self.settings)
            .env_remove("BATON_STORE")
            .env_remove("BATON_NODE")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start a node")?;
        self.process = Some(child);
        Ok(())
    }

    fn pid(&self) -> Option<Pid> {
        self.process.as_ref().and_then(|child| Pid::from_raw(child.id() as i32))
    }

    /// The processes of the node's hosts, with the host's name.
    fn hosts(&self) -> Vec<(Pid, String)> {
        let Some(node) = self.pid() else { return Vec::new() };
        let children = children_of(node.as_raw_nonzero().get()).into_iter();
        children.filter_map(|pid| Some((pid, host_name(pid.as_raw_nonzero().get())?))).collect()
    }

    /// Kills the process of one host.
    pub fn kill_host(&self, host: &str) -> Result<()> {
        let hosts = self.hosts();
        let found = hosts.iter().find(|(_, name)| name == host);
        let (pid, _) = found.with_context(|| format!("{} runs no host {host}", self.name))?;
        Ok(kill_process(*pid, Signal::KILL)?)
    }

    /// Kills the node and all its hosts, as a power loss would.
    pub fn kill(&mut self) -> Result<()> {
        let hosts = self.hosts();
        if let Some(mut node) = self.process.take() {
            node.kill()?;
            for (pid, _) in hosts {
                // It may have died with its node already.
                let _ = kill_process(pid, Signal::KILL);
            }
            node.wait()?;
        }
        Ok(())
    }

    /// Stops the node and all its hosts in their tracks.
    pub fn freeze(&self) -> Result<()> {
        self.signal_all(Signal::STOP)
    }

    /// Lets a frozen node and its hosts run on.
    pub fn thaw(&self) -> Result<()> {
        self.signal_all(Signal::CONT)
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        if let Some(node) = self.pid() {
            kill_process(node, signal)?;
        }
        for (pid, _) in self.hosts() {
            // Between looking and signalling it may have ended.
            let _ = kill_process(pid, signal);
        }
        Ok(())
    }

    /// The node's process and those of its hosts, each with what it is.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let raw = |pid: Pid| pid.as_raw_nonzero().get();
        let node = self.pid().map(|pid| (raw(pid), "node".to_owned()));
        let hosts = self.hosts().into_iter().map(|(pid, name)| (raw(pid), format!("host {name}")));
        node.into_iter().chain(hosts).collect()
    }

    /// The most memory that the process of a host ever had, in KiB.
    pub fn peak_memory_kib(&self, host: &str) -> Option<u64> {
        let hosts = self.hosts();
        let (pid, _) = hosts.iter().find(|(_, name)| name == host)?;
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        let status = std::fs::read_to_string(path).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Whether the node has ended by itself, which it never should.
    pub fn has_ended(&mut self) -> bool {
        match &mut self.process {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => false,
        }
    }
}

/// The processes that are this node on this machine: parents of a host instance that was started
/// for a node of this name. Several, if several clusters have one of this name here.
pub fn node_processes(node: &str) -> BTreeSet<i32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return BTreeSet::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| argument(*pid, "--node").as_deref() == Some(node))
        .filter_map(parent_of)
        .filter(|pid| is_node(*pid))
        .collect()
}

/// The children of a process.
pub fn children_of(parent: i32) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .filter_map(Pid::from_raw)
        .collect()
}

/// The process of a host, of a node's process.
pub fn host_process(node: i32, host: &str) -> Option<Pid> {
    let mut children = children_of(node).into_iter();
    children.find(|pid| host_name(pid.as_raw_nonzero().get()).as_deref() == Some(host))
}

/// Whether a process was started as `baton node`.
fn is_node(pid: i32) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).any(|argument| argument == b"node")
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A YAML string in double quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The parent of a process: the fourth field of its `stat`, counted after the name in
/// parentheses, which may hold anything.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

fn host_name(pid: i32) -> Option<String> {
    argument(pid, "--host")
}

/// What stands behind this word in the command line of a process.
fn argument(pid: i32, word: &str) -> Option<String> {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut arguments = arguments.split(|byte| *byte == 0);
    arguments.find(|argument| *argument == word.as_bytes())?;
    String::from_utf8(arguments.next()?.to_vec()).ok()
}
