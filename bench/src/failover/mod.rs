//! The same faults for Baton and for Pacemaker with corosync, on this machine, one after the other:
//! how long nobody is active, and what a node that was frozen still writes afterwards.
//!
//! Pacemaker runs in network namespaces, without fencing, which costs it no time at all: power
//! fencing would only add to its gaps (and take the stale writes away). Its resource writes a line
//! every 5 ms (see `lines`). Baton is the demo's cluster on PostgreSQL, whose resource must log in
//! at a partner's server and download a file before it counts as active again.

mod lines;
mod ours;
mod pacemaker;
mod packages;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use model::Millis;
use rustix::process::Signal;
use serde_json::json;

use lines::{Instance, now_us};
use pacemaker::{Cluster, NODES, Settings};

/// Longest wait for another instance after a fault: three times what Pacemaker needs by default.
const ANOTHER_MAX: Duration = Duration::from_secs(30);

/// How long a thawed node may go on before we stop counting what it writes.
const ZOMBIE_MAX: Duration = Duration::from_secs(15);

/// A zombie that has written nothing for so long is no more: a hundred lines.
const ZOMBIE_SILENT: Duration = Duration::from_millis(500);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// SIGKILL of the process that is active.
    ProcessKill,
    /// SIGKILL of everything on its node.
    NodeKill,
    /// SIGSTOP of everything on its node; SIGCONT when another one is active.
    Freeze,
    /// Its node cut off: from its peers (Pacemaker), from the store (Baton).
    Cut,
    /// A planned move.
    Move,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::ProcessKill => "process_kill",
            Fault::NodeKill => "node_kill",
            Fault::Freeze => "freeze",
            Fault::Cut => "cut",
            Fault::Move => "move",
        }
    }

    /// The most that our gap may be of theirs.
    fn ratio_wanted(self) -> f64 {
        match self {
            Fault::ProcessKill => 0.2,
            Fault::NodeKill => 0.1,
            Fault::Freeze | Fault::Cut => 0.6,
            Fault::Move => 1.0,
        }
    }
}

/// How both are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Setting {
    /// What one gets without asking.
    Defaults,
    /// As quick as is sensible.
    Tuned,
}

impl Setting {
    fn ttl(self) -> Millis {
        match self {
            Setting::Defaults => Millis::seconds(3),
            Setting::Tuned => Millis::seconds(1),
        }
    }

    fn theirs(self, monitor_ms: u32) -> Settings {
        match self {
            Setting::Defaults => Settings { token_ms: None, monitor_ms: 10_000 },
            Setting::Tuned => Settings { token_ms: Some(1000), monitor_ms },
        }
    }
}

/// What was measured of one side.
#[derive(Debug, Default)]
pub struct Measured {
    /// Milliseconds until somebody was active again, by fault.
    pub gaps: BTreeMap<Fault, Vec<i64>>,
    /// Writes by the old owner that were accepted after the new one had begun, for each fault
    /// that leaves it alive.
    pub stale: BTreeMap<Fault, Vec<u64>>,
}

/// Measures and prints a line for each fault and setting.
pub fn measure(runs: u32, only: Option<Setting>, monitor_ms: u32, faults: &[Fault]) -> Result<()> {
    let faults = if faults.is_empty() { Fault::value_variants() } else { faults };
    let versions = packages::versions()?;
    for setting in Setting::value_variants() {
        if only.is_some_and(|only| only != *setting) {
            continue;
        }
        let settings = setting.theirs(monitor_ms);
        let ours = ours::measure(setting.ttl(), runs)?;
        let theirs = theirs(&settings, runs, faults)?;
        let peer = format!(
            "{versions}: three nodes, no fencing, {}, monitor {} ms",
            settings
                .token_ms
                .map_or("token by default".into(), |token| format!("token {token} ms")),
            settings.monitor_ms
        );
        print(*setting, faults, &ours, &theirs, &peer);
    }
    Ok(())
}

/// The process that is active: writes until it is killed.
pub fn be_active(sink: &Path, node: &str) -> Result<()> {
    lines::write(sink, node)
}

fn print(setting: Setting, faults: &[Fault], ours: &Measured, theirs: &Measured, peer: &str) {
    let setting_name = format!("{setting:?}").to_lowercase();
    for fault in faults {
        let (Some(our), Some(their)) = (ours.gaps.get(fault), theirs.gaps.get(fault)) else {
            continue;
        };
        let ratio = median(our) as f64 / median(their).max(1) as f64;
        println!(
            "{}",
            json!({
                "figure": "failover", "fault": fault.name(), "setting": setting_name,
                "ttl_ms": setting.ttl().0, "peer": peer,
                "ours_median_ms": median(our), "ours_max_ms": our.iter().max(), "ours": our.len(),
                "theirs_median_ms": median(their), "theirs_max_ms": their.iter().max(),
                "theirs": their.len(), "ratio": (ratio * 1e3).round() / 1e3,
                "ratio_wanted": fault.ratio_wanted(),
            })
        );
    }
    for (fault, their) in &theirs.stale {
        let our: u64 = ours.stale.values().flatten().sum();
        println!(
            "{}",
            json!({
                "figure": "stale_writes_accepted", "fault": fault.name(), "setting": setting_name,
                "ttl_ms": setting.ttl().0, "peer": peer, "ours_in_all": our,
                "theirs_median": median_of(their), "theirs_max": their.iter().max(),
                "theirs": their.len(), "theirs_write_every_ms": 5,
            })
        );
    }
}

fn median(values: &[i64]) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

fn median_of(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

fn theirs(settings: &Settings, runs: u32, faults: &[Fault]) -> Result<Measured> {
    let mut cluster = Cluster::start(settings)?;
    eprintln!("the peer's cluster is there ({settings:?})");
    let mut measured = Measured::default();
    for fault in faults {
        for run in 0..runs {
            let before = cluster.rest()?;
            // Spread over the time between two looks at the resource, as chance would.
            let wait = u64::from(settings.monitor_ms) * u64::from(2 * run + 1);
            std::thread::sleep(Duration::from_millis(wait / u64::from(2 * runs)));
            let (gap, stale) = one(&mut cluster, *fault, &before)?;
            eprintln!("{} of {}: {gap} ms, {stale:?} stale writes", fault.name(), before.node);
            measured.gaps.entry(*fault).or_default().push(gap);
            if let Some(stale) = stale {
                measured.stale.entry(*fault).or_default().push(stale);
            }
        }
    }
    Ok(measured)
}

/// One fault: how long until another instance was active, and what the old one wrote after that.
fn one(cluster: &mut Cluster, fault: Fault, before: &Instance) -> Result<(i64, Option<u64>)> {
    let node = before.node.as_str();
    cluster.reader.forget()?;
    let blow = now_us();
    match fault {
        Fault::ProcessKill => cluster.kill_resource(node)?,
        Fault::NodeKill => cluster.kill_node(node)?,
        Fault::Freeze => cluster.signal_node(node, Signal::STOP)?,
        Fault::Cut => cluster.cut(node)?,
        Fault::Move => {
            let other = NODES.into_iter().find(|other| *other != node);
            cluster.move_to(other.context("there is one node only")?)?;
        }
    }
    let first = cluster.first_of_another(before, ANOTHER_MAX)?;
    let first = first.with_context(|| format!("nobody took over from {node} ({fault:?})"))?;
    let mut stale = None;
    match fault {
        Fault::ProcessKill | Fault::Move => {}
        Fault::NodeKill => cluster.start_node(node)?,
        Fault::Freeze => {
            cluster.signal_node(node, Signal::CONT)?;
            stale = Some(written_after(cluster, before, first)?);
        }
        Fault::Cut => {
            stale = Some(written_after(cluster, before, first)?);
            cluster.mend()?;
        }
    }
    let missed_from = match fault {
        Fault::Move => {
            let lines = cluster.reader.read()?.iter().filter(|line| line.by == *before);
            lines.map(|line| line.at_us).max().unwrap_or(blow)
        }
        _ => blow,
    };
    Ok(((first - missed_from) / 1000, stale))
}

/// Waits until the old instance has ended, and counts what it wrote since the new one's first line.
fn written_after(cluster: &mut Cluster, old: &Instance, first: i64) -> Result<u64> {
    let begun = now_us();
    let (zombie_max, silent) = (ZOMBIE_MAX.as_micros() as i64, ZOMBIE_SILENT.as_micros() as i64);
    loop {
        let lines = cluster.reader.read()?.iter();
        let late: Vec<i64> = lines
            .filter(|line| line.by == *old && line.at_us > first)
            .map(|line| line.at_us)
            .collect();
        let last = late.last().copied().unwrap_or(begun).max(begun);
        if now_us() - last > silent || now_us() - begun > zombie_max {
            return Ok(late.len() as u64);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[30, -10, 20]), 20);
        assert_eq!(median(&[]), 0);
        assert_eq!(median_of(&[3, 1, 2]), 2);
    }
}
