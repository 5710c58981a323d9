//! What an idle node costs: memory and processor time of a node, its receive host with three
//! locations that poll every second, and its send host.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::rig::{Engine, Rig};

/// After this much time everything that happens at the start is over.
const SETTLE: Duration = Duration::from_secs(5);

/// Pacemaker 2.1 and corosync 3 on a machine like those this is made for, idle, with one resource
/// that is monitored every second: all their daemons together.
const PACEMAKER_PSS_MIB: u32 = 129;
const PACEMAKER_CORE_PERCENT: f64 = 0.7;

/// Measures and prints one line.
pub fn measure(engine: Engine, seconds: u32) -> Result<()> {
    let rig = Rig::start(engine, &["a"])?;
    rig.poll_idle(3)?;
    std::thread::sleep(SETTLE);
    let processes = rig.machines[0].processes();
    ensure!(processes.len() == 3, "a node and two hosts, but there are {}", processes.len());
    let ticks = || -> Result<u64> { processes.iter().map(|(pid, _)| ticks(*pid)).sum() };
    let before = ticks()?;
    std::thread::sleep(Duration::from_secs(u64::from(seconds)));
    let used = (ticks()? - before) as f64 / rustix::param::clock_ticks_per_second() as f64;
    let mut all = 0;
    let mut by_process = serde_json::Map::new();
    for (pid, name) in &processes {
        let kib = pss_kib(*pid)?;
        all += kib;
        by_process.insert(name.clone(), mib(kib).into());
    }
    let spared = by_process.get("host send").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
    println!(
        "{}",
        json!({
            "figure": "idle", "store": format!("{engine:?}"), "locations": 3, "seconds": seconds,
            "node_and_receive_host_pss_mib": ((mib(all) - spared) * 10.0).round() / 10.0,
            "pss_mib": by_process,
            "core_percent": (used / f64::from(seconds) * 1e4).round() / 1e2,
            "pacemaker_pss_mib": PACEMAKER_PSS_MIB,
            "pacemaker_core_percent": PACEMAKER_CORE_PERCENT,
        })
    );
    Ok(())
}

fn mib(kib: u64) -> f64 {
    (kib as f64 / 102.4).round() / 10.0
}

/// Processor time used so far, user and system: fields 14 and 15 of `stat`.
fn ticks(pid: i32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').context("a process without a name")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |number: usize| fields.get(number).context("a short stat");
    Ok(field(11)?.parse::<u64>()? + field(12)?.parse::<u64>()?)
}

fn pss_kib(pid: i32) -> Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    Ok(line.split_whitespace().next().context("no Pss")?.parse()?)
}
