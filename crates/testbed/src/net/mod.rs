//! Machines on a network of their own: namespaces, joined by a bridge that can be cut and spoiled.
//!
//! Each machine is a network namespace with one interface, `eth0`; the other end of its cable is a
//! port of a bridge in a namespace of its own (the *switch*). A cut drops frames in the switch, so
//! that the machines still see a carrier, as behind a switch that failed. Nothing touches the
//! network of the real machine, and names carry our process id: what a killed process left behind
//! is removed when the next one makes a network.
//!
//! Drops and duplicates are made by nftables, delays by a thread that holds packets back in a
//! netfilter queue (see `delay`): `tc netem` would do all three, but many kernels come without it.

mod delay;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Unavailable;
use crate::process::{is_root, output_of};
use delay::Delay;

/// Where `ip netns` keeps its namespaces.
const NAMESPACES: &str = "/run/netns";

/// How all our namespaces begin; the process id follows.
const PREFIX: &str = "baton-net-";

/// The name of an interface has at most 15 characters, and a port of the switch is called like
/// its machine.
const NAME_MAX: usize = 15;

/// Machines of one network: their addresses end in 1 to 254.
const MACHINES_MAX: usize = 254;

/// Marks a frame that is a duplicate already, so that it is not doubled again.
const DOUBLED: u32 = 7;

/// One way of a machine's link, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What the machine sends.
    From,
    /// What the machine would receive.
    To,
    /// Both.
    Both,
}

/// What can be wrong with a machine's link, both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impairment {
    /// So many of a hundred frames are lost.
    Drop(u8),
    /// Every IPv4 packet comes so much later, each way.
    Delay(Duration),
    /// Every frame comes twice.
    Duplicate,
}

/// Where a server runs: on the loopback interface of this machine, or on one of a network.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Its address.
    pub(crate) address: Ipv4Addr,
    namespace: Option<String>,
}

impl Place {
    /// The loopback interface.
    pub(crate) fn here() -> Place {
        Place { address: Ipv4Addr::LOCALHOST, namespace: None }
    }

    /// The same command, run there.
    pub(crate) fn command(&self, command: Command) -> Command {
        let Some(namespace) = &self.namespace else { return command };
        let mut there = Command::new("ip");
        there.args(["netns", "exec", namespace]).arg(command.get_program());
        there.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            there.current_dir(folder);
        }
        there
    }

    /// Does something on a thread that is there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let Some(namespace) = &self.namespace else { return Ok(work()) };
        let path = Path::new(NAMESPACES).join(namespace);
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                enter(&path)?;
                anyhow::Ok(work())
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// A network of machines. Dropping it ends every process in them and removes them.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    machines: BTreeMap<String, Machine>,
    /// Conditions under which the switch drops a frame.
    drops: Vec<String>,
}

#[derive(Debug)]
struct Machine {
    address: Ipv4Addr,
    duplicates: bool,
    delay: Option<Delay>,
}

impl Network {
    /// Makes the switch.
    ///
    /// # Errors
    /// [`Unavailable`] without root, iproute2, nftables, iptables, or a kernel that lets us.
    pub fn new() -> anyhow::Result<Network> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        ensure_available()?;
        remove_leftovers()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{number}-", std::process::id());
        let network = Network { prefix, machines: BTreeMap::new(), drops: Vec::new() };
        let switch = network.switch();
        ip(&["netns", "add", &switch]).map_err(|error| {
            unavailable(format!("{error:#}"), "run as root, where namespaces are allowed")
        })?;
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge", "forward_delay", "0"])?;
        ip(&["-n", &switch, "link", "set", "bridge", "up"])?;
        Ok(network)
    }

    /// Adds a machine, and gives its address.
    ///
    /// # Errors
    /// When its name is taken, or no name of an interface; when a command fails.
    pub fn add(&mut self, name: &str) -> anyhow::Result<Ipv4Addr> {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        ensure!(
            plain && (1..=NAME_MAX).contains(&name.len()) && name != "bridge" && name != "switch",
            "{name:?} is no name for a machine: use 1 to {NAME_MAX} letters and digits"
        );
        ensure!(!self.machines.contains_key(name), "there is a machine {name} already");
        ensure!(
            self.machines.len() < MACHINES_MAX,
            "a network has at most {MACHINES_MAX} machines"
        );
        let address = Ipv4Addr::new(10, 77, 0, self.machines.len() as u8 + 1);
        let (switch, space) = (self.switch(), self.namespace(name));
        ip(&["netns", "add", &space])?;
        self.machines.insert(name.to_owned(), Machine { address, duplicates: false, delay: None });
        let with = ["type", "veth", "peer", "name", "eth0", "netns", &space];
        ip(&[&["-n", &switch, "link", "add", "name", name], &with[..]].concat())?;
        ip(&["-n", &switch, "link", "set", "dev", name, "master", "bridge", "up"])?;
        ip(&["-n", &space, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", &space, "link", "set", "lo", "up"])?;
        ip(&["-n", &space, "link", "set", "eth0", "up"])?;
        Ok(address)
    }

    /// The address of a machine.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn address(&self, name: &str) -> anyhow::Result<Ipv4Addr> {
        Ok(self.machine(name)?.address)
    }

    /// The name under which `ip netns` knows a machine.
    pub fn namespace(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A command that runs on a machine.
    pub fn command(&self, name: &str, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(name)]).arg(program.as_ref());
        command
    }

    /// Does something on a thread that is on a machine: sockets that it opens are the machine's.
    ///
    /// # Errors
    /// When the namespace can't be entered.
    pub fn inside<T: Send>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send,
    ) -> anyhow::Result<T> {
        self.place(name)?.inside(work)
    }

    /// Where a server on a machine runs.
    pub(crate) fn place(&self, name: &str) -> anyhow::Result<Place> {
        let address = self.machine(name)?.address;
        Ok(Place { address, namespace: Some(self.namespace(name)) })
    }

    /// Cuts a machine off from all others.
    ///
    /// # Errors
    /// When there is no such machine, or nftables refuses.
    pub fn cut(&mut self, name: &str, way: Way) -> anyhow::Result<()> {
        self.drop_frames(name, way, "")
    }

    /// Drops what one machine sends to another; the other way stays open.
    ///
    /// # Errors
    /// As [`Network::cut`].
    pub fn cut_between(&mut self, from: &str, to: &str) -> anyhow::Result<()> {
        self.machine(from)?;
        self.machine(to)?;
        self.drops.push(format!("iifname \"{from}\" oifname \"{to}\""));
        self.load_drops()
    }

    /// Spoils a machine's link, both ways.
    ///
    /// # Errors
    /// As [`Network::cut`]; for a delay also when the kernel has no netfilter queue.
    pub fn impair(&mut self, name: &str, impairment: Impairment) -> anyhow::Result<()> {
        match impairment {
            Impairment::Drop(percent) => {
                ensure!(percent <= 100, "{percent} of a hundred frames can't be lost");
                self.drop_frames(name, Way::Both, &format!(" numgen random mod 100 < {percent}"))
            }
            Impairment::Duplicate => self.duplicate(name, true),
            Impairment::Delay(by) => {
                let (path, space) = (self.path(name)?, self.namespace(name));
                let machine = self.machine_mut(name)?;
                machine.delay = None; // Its rules go before the new ones come.
                machine.delay = Some(Delay::begin(path, space, by)?);
                Ok(())
            }
        }
    }

    /// Makes every link whole again.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn mend(&mut self) -> anyhow::Result<()> {
        self.drops.clear();
        self.load_drops()?;
        let names: Vec<String> = self.machines.keys().cloned().collect();
        for name in names {
            self.machine_mut(&name)?.delay = None;
            if self.machine(&name)?.duplicates {
                self.duplicate(&name, false)?;
            }
        }
        Ok(())
    }

    fn drop_frames(&mut self, name: &str, way: Way, which: &str) -> anyhow::Result<()> {
        self.machine(name)?;
        if way != Way::To {
            self.drops.push(format!("iifname \"{name}\"{which}"));
        }
        if way != Way::From {
            self.drops.push(format!("oifname \"{name}\"{which}"));
        }
        self.load_drops()
    }

    /// Puts all drops in force at once, in place of those before.
    fn load_drops(&self) -> anyhow::Result<()> {
        let mut rules = String::from("table bridge cut\ndelete table bridge cut\n");
        rules.push_str("table bridge cut {\n chain c {\n  type filter hook forward priority 0\n");
        for condition in &self.drops {
            let _ = writeln!(rules, "  {condition} drop");
        }
        rules.push_str(" }\n}\n");
        nft(&self.switch(), &rules)
    }

    /// Doubles what the machine sends where it leaves the machine, and what it is sent where it
    /// leaves the switch.
    fn duplicate(&mut self, name: &str, on: bool) -> anyhow::Result<()> {
        self.machine_mut(name)?.duplicates = on;
        for (space, device) in [(self.namespace(name), "eth0"), (self.switch(), name)] {
            let table = format!("netdev double_{device}");
            let mut rules = format!("table {table}\ndelete table {table}\n");
            if on {
                let _ = write!(
                    rules,
                    "table {table} {{\n chain c {{\n  type filter hook egress device \"{device}\" \
                     priority 0\n  meta mark {DOUBLED} accept\n  meta mark set {DOUBLED}\n  \
                     dup to \"{device}\"\n }}\n}}\n"
                );
            }
            nft(&space, &rules)?;
        }
        Ok(())
    }

    fn switch(&self) -> String {
        self.namespace("switch")
    }

    fn path(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.machine(name)?;
        Ok(Path::new(NAMESPACES).join(self.namespace(name)))
    }

    fn machine(&self, name: &str) -> anyhow::Result<&Machine> {
        self.machines.get(name).with_context(|| format!("there is no machine {name}"))
    }

    fn machine_mut(&mut self, name: &str) -> anyhow::Result<&mut Machine> {
        self.machines.get_mut(name).with_context(|| format!("there is no machine {name}"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for machine in self.machines.values_mut() {
            machine.delay = None;
        }
        let machines = self.machines.keys().map(|name| self.namespace(name));
        for space in machines.chain([self.switch()]) {
            remove(&space);
        }
    }
}

/// Moves this thread, and nothing else, into a namespace.
fn enter(path: &Path) -> anyhow::Result<()> {
    let space = File::open(path).with_context(|| format!("can't open {}", path.display()))?;
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), kind)
        .with_context(|| format!("can't enter {}", path.display()))
}

fn ensure_available() -> anyhow::Result<()> {
    if !is_root() {
        return Err(unavailable("this process is not root", "run the tests as root"));
    }
    for program in ["ip", "nft", "iptables"] {
        let folders = env::var_os("PATH").unwrap_or_default();
        if !env::split_paths(&folders).any(|folder| folder.join(program).exists()) {
            let why = format!("there is no `{program}` in PATH");
            return Err(unavailable(why, "`cargo xtask deps` installs it"));
        }
    }
    Ok(())
}

fn unavailable(why: impl Into<String>, remedy: &str) -> anyhow::Error {
    let what = "a network of namespaces".to_owned();
    Unavailable { what, why: why.into(), remedy: remedy.to_owned() }.into()
}

/// Removes the namespaces of processes that are no more.
fn remove_leftovers() -> anyhow::Result<()> {
    for entry in fs::read_dir(NAMESPACES).into_iter().flatten() {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(name);
        }
    }
    Ok(())
}

/// Ends what runs in a namespace, and removes it. It may be half made, or gone already.
fn remove(space: &str) {
    for pid in ip(&["netns", "pids", space]).unwrap_or_default().split_whitespace() {
        if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let _ = ip(&["netns", "del", space]);
}

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments);
    output_of(command)
}

fn nft(space: &str, rules: &str) -> anyhow::Result<()> {
    let mut child = Command::new("ip")
        .args(["netns", "exec", space, "nft", "--file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("can't run ip")?;
    // Taken, so that it is closed once the rules are written.
    child.stdin.take().context("no input")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("nft refuses in {space}: {}\n{rules}", complaint.trim());
    }
    Ok(())
}
