//! What an idle node costs: memory and processor time of a node, its receive host with three
//! locations that poll every second, and its send host.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::processor::ran_ns;
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
    let ran = || -> Result<Vec<u64>> { processes.iter().map(|(pid, _)| ran_ns(*pid)).collect() };
    let before = ran()?;
    std::thread::sleep(Duration::from_secs(u64::from(seconds)));
    let percent = |(after, before): (&u64, &u64)| {
        (after.saturating_sub(*before) as f64 / f64::from(seconds) / 1e5).round() / 1e2
    };
    let used: Vec<f64> = ran()?.iter().zip(&before).map(percent).collect();
    let (mut pss, mut core) = (serde_json::Map::new(), serde_json::Map::new());
    for ((pid, name), used) in processes.iter().zip(&used) {
        pss.insert(name.clone(), mib(pss_kib(*pid)?).into());
        core.insert(name.clone(), (*used).into());
    }
    let both = |figures: &serde_json::Map<String, serde_json::Value>| -> f64 {
        let of = |name| figures.get(name).and_then(serde_json::Value::as_f64).unwrap_or_default();
        ((of("node") + of("host receive")) * 1e2).round() / 1e2
    };
    println!(
        "{}",
        json!({
            "figure": "idle", "store": format!("{engine:?}"), "locations": 3, "seconds": seconds,
            "node_and_receive_host_pss_mib": both(&pss), "pss_mib": pss,
            "node_and_receive_host_core_percent": both(&core), "core_percent": core,
            "pacemaker_pss_mib": PACEMAKER_PSS_MIB,
            "pacemaker_core_percent": PACEMAKER_CORE_PERCENT,
        })
    );
    Ok(())
}

fn mib(kib: u64) -> f64 {
    (kib as f64 / 102.4).round() / 10.0
}

fn pss_kib(pid: i32) -> Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    Ok(line.split_whitespace().next().context("no Pss")?.parse()?)
}
