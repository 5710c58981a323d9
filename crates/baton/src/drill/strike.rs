//! Blows at processes of this machine, each with a way back that needs nobody: what is frozen is
//! thawed, and what is cut is mended, even if the drill is killed meanwhile.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use model::NodeName;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::rules::Ground;
use crate::cli::Refused;
use crate::demo::report::Kind;
use crate::machines;

/// A node that was killed must be back by then: service managers wait a moment before they start
/// it again (systemd: 100 ms by default).
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// The longest that anything stays frozen or cut: longer than the longest wait for a new owner.
const HELD_MAX_SECONDS: u32 = 90;

/// The table of nftables that cuts.
const TABLE: &str = "baton_drill";

/// The owner's processes are not on this machine.
#[derive(Debug)]
pub struct NotHere;

impl fmt::Display for NotHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its processes are not on this machine")
    }
}

impl std::error::Error for NotHere {}

/// Whom to strike.
pub struct Strike<'a> {
    node: &'a NodeName,
    url: &'a str,
}

/// A blow that is ready.
#[derive(Debug)]
pub struct Aimed {
    node: NodeName,
    blow: Blow,
}

#[derive(Debug)]
enum Blow {
    Kill(Vec<Pid>, IsNode),
    Freeze(Vec<Pid>),
    Cut(Vec<SocketAddr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IsNode {
    Yes,
    No,
}

/// What is to be undone after a blow.
#[derive(Debug)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// This node must come back.
    Dead(NodeName),
    /// These processes are frozen.
    Frozen(Vec<Pid>),
    /// This machine is cut off from the store.
    Cut,
}

impl<'a> Strike<'a> {
    /// At this node, whose store has this URL.
    pub fn at(node: &'a NodeName, url: &'a str) -> Strike<'a> {
        Strike { node, url }
    }

    /// Finds what to strike, and refuses what cannot be.
    pub fn aim(&self, kind: Kind, ground: &Ground) -> Result<Aimed> {
        let nodes: Vec<i32> = machines::node_processes(self.node.as_str()).into_iter().collect();
        let node = match nodes[..] {
            [] => return Err(NotHere.into()),
            [node] => node,
            _ => {
                let sentence = format!(
                    "several processes on this machine are a node {}: {nodes:?}; it is not clear \
                     which one is of this cluster, so none is struck",
                    self.node
                );
                return Err(Refused::new(sentence).into());
            }
        };
        let mut all: Vec<Pid> = Pid::from_raw(node).into_iter().collect();
        all.extend(machines::children_of(node));
        let blow = match kind {
            Kind::HostKilled | Kind::Moved => {
                let host = machines::host_process(node, &ground.host);
                let host = host.with_context(|| {
                    format!("node {} runs no host {} here", self.node, ground.host)
                })?;
                Blow::Kill(vec![host], IsNode::No)
            }
            Kind::NodeKilled => Blow::Kill(all, IsNode::Yes),
            Kind::NodeFrozen => Blow::Freeze(all),
            Kind::NodeCutOff => Blow::Cut(addresses(self.url)?),
        };
        Ok(Aimed { node: self.node.clone(), blow })
    }
}

impl Aimed {
    /// Strikes.
    pub async fn strike(self) -> Result<Held> {
        match self.blow {
            Blow::Kill(pids, is_node) => {
                signal(&pids, Signal::KILL)?;
                Ok(if is_node == IsNode::Yes { Held::Dead(self.node) } else { Held::Nothing })
            }
            Blow::Freeze(pids) => {
                guard(&pids)?;
                signal(&pids, Signal::STOP)?;
                Ok(Held::Frozen(pids))
            }
            Blow::Cut(addresses) => {
                nft(&cutting(&addresses)).await?;
                Ok(Held::Cut)
            }
        }
    }
}

impl Held {
    /// Undoes it.
    pub async fn let_go(self) -> Result<()> {
        match self {
            Held::Nothing => Ok(()),
            Held::Frozen(pids) => signal(&pids, Signal::CONT),
            Held::Cut => nft(&format!("delete table inet {TABLE}\n")).await,
            Held::Dead(node) => {
                let deadline = Instant::now() + BACK_WITHIN;
                while machines::node_processes(node.as_str()).is_empty() {
                    ensure!(
                        Instant::now() < deadline,
                        "node {node} was killed and did not come back within {BACK_WITHIN:?}: \
                         start it, and let a service manager do so in future"
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Ok(())
            }
        }
    }
}

/// The first must be reached; the others may have ended with it.
fn signal(pids: &[Pid], signal: Signal) -> Result<()> {
    for (place, pid) in pids.iter().enumerate() {
        let sent = kill_process(*pid, signal);
        if place == 0 {
            let raw = pid.as_raw_nonzero();
            sent.with_context(|| format!("cannot signal process {raw}: run this as its user"))?;
        }
    }
    Ok(())
}

/// Thaws after a while whatever becomes of us.
fn guard(pids: &[Pid]) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let pids: Vec<String> = pids.iter().map(|pid| pid.as_raw_nonzero().to_string()).collect();
    let script = format!("sleep {HELD_MAX_SECONDS}; kill -CONT {} 2>/dev/null", pids.join(" "));
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null());
    // Not ended by a Ctrl-C that is meant for the drill.
    command.stderr(Stdio::null()).process_group(0);
    command.spawn().context("cannot start the shell that would thaw the node")?;
    Ok(())
}

/// The addresses of the store's servers.
fn addresses(url: &str) -> Result<Vec<SocketAddr>> {
    let hosts = hosts_of(url).ok_or_else(|| {
        Refused::new("the store is reached by no network, so nobody can be cut off from it")
    })?;
    let mut addresses = Vec::new();
    for (host, port) in hosts {
        use std::net::ToSocketAddrs as _;
        let found = (host.as_str(), port).to_socket_addrs();
        addresses.extend(found.with_context(|| format!("cannot find the store's server {host}"))?);
    }
    Ok(addresses)
}

/// Names and ports in the URL of a PostgreSQL store: `postgresql://user@h1:1,h2/db?...`.
fn hosts_of(url: &str) -> Option<Vec<(String, u16)>> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.starts_with("postgres") {
        return None;
    }
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let hosts = hosts.split(',').filter(|host| !host.is_empty() && !host.starts_with('%'));
    let split = |host: &str| match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            Some((name.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
        }
        _ => Some((host.trim_matches(['[', ']']).to_owned(), 5432)),
    };
    let hosts: Vec<(String, u16)> = hosts.map(split).collect::<Option<_>>()?;
    (!hosts.is_empty()).then_some(hosts)
}

/// Rules that drop what goes to these addresses and comes from them. The kernel forgets the
/// addresses after a while by itself.
fn cutting(addresses: &[SocketAddr]) -> String {
    let elements = |is_mine: fn(&IpAddr) -> bool| {
        let mine = addresses.iter().filter(|address| is_mine(&address.ip()));
        let timed = mine.map(|address| {
            format!("{} . {} timeout {HELD_MAX_SECONDS}s", address.ip(), address.port())
        });
        timed.collect::<Vec<_>>().join(", ")
    };
    let mut rules =
        format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    for (name, kind, elements) in [
        ("cut4", "ipv4_addr", elements(IpAddr::is_ipv4)),
        ("cut6", "ipv6_addr", elements(IpAddr::is_ipv6)),
    ] {
        let elements = match elements.is_empty() {
            true => String::new(),
            false => format!(" elements = {{ {elements} }};"),
        };
        rules.push_str(&format!(
            " set {name} {{ type {kind} . inet_service; flags timeout;{elements} }}\n"
        ));
    }
    rules.push_str(
        " chain out { type filter hook output priority 0;\n  ip daddr . tcp dport @cut4 drop\n  \
         ip6 daddr . tcp dport @cut6 drop\n }\n \
         chain in { type filter hook input priority 0;\n  ip saddr . tcp sport @cut4 drop\n  \
         ip6 saddr . tcp sport @cut6 drop\n }\n}\n",
    );
    rules
}

async fn nft(rules: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["--file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run nft: install nftables, or leave out cut-store")?;
    let mut input = child.stdin.take().context("nft takes no input")?;
    input.write_all(rules.as_bytes()).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "nft refuses to cut (cut-store needs root): {}",
        complaint.trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_from_a_url() {
        let check = |url: &str, hosts: Option<&[(&str, u16)]>| {
            let found = hosts_of(url);
            let found = found.as_ref().map(|hosts| {
                hosts.iter().map(|(host, port)| (host.as_str(), *port)).collect::<Vec<_>>()
            });
            assert_eq!(found.as_deref(), hosts, "{url}");
        };
        check("postgresql://u:p@h:1234/d?x=y", Some(&[("h", 1234)]));
        check("postgres://h1,h2:1/d", Some(&[("h1", 5432), ("h2", 1)]));
        check("postgresql://u@[::1]:7/d", Some(&[("::1", 7)]));
        check("postgresql://[::1]/d", Some(&[("::1", 5432)]));
        check("postgresql://%2Frun%2Fpg/d", None);
        check("sqlite:/x.db", None);
    }

    #[test]
    fn a_cut_has_an_end_of_its_own() {
        let addresses = ["10.0.0.1:5432", "[::1]:7"].map(|text| text.parse().expect("address"));
        let rules = cutting(&addresses);
        assert!(rules.contains("elements = { 10.0.0.1 . 5432 timeout 90s }"), "{rules}");
        assert!(rules.contains("elements = { ::1 . 7 timeout 90s }"), "{rules}");
    }
}
