//! How long nobody is active after each kind of fault: the demo's figures, beside Pacemaker's.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::Postgres;

use crate::rig::{Engine, program};

/// Median gaps of Pacemaker 2.1 with corosync 3 in milliseconds, for the same kinds of fault on a
/// machine like those this is made for (2 cores; 1 s monitoring, else the defaults). It needs
/// several network namespaces and root, so it does not run beside us.
const PACEMAKER_MS: [(&str, &str, u32); 5] = [
    ("host_killed", "resource process killed, monitored every second (4200 by default)", 630),
    ("node_killed", "node killed: 6500 with two nodes, 8700 with three", 8700),
    ("node_frozen", "node frozen, with up to 3700 of writes by the zombie", 7500),
    ("node_cut_off", "node cut off; two active at once in 5 of 7 runs without fencing", 8900),
    ("planned_move", "planned move", 47),
];

/// Runs the demo, and prints a line for each kind of fault.
pub fn measure(engine: Engine, faults: u32) -> Result<()> {
    let postgres = match engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some(Postgres::start()?),
    };
    let mut demo = Command::new(program()?);
    // Files for as long as the faults take: they show who is active.
    let files = faults * 400;
    demo.args(["demo", "--json", "--files", &files.to_string(), "--faults", &faults.to_string()]);
    if let Some(postgres) = &postgres {
        postgres.create_database("demo")?;
        demo.args(["--store", &postgres.url("demo")]);
    }
    let output = demo.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let last = String::from_utf8(output.stdout)?;
    let proof: Value = serde_json::from_str(last.lines().last().context("the demo said nothing")?)?;
    ensure!(output.status.success(), "no proof: {proof}");
    for (kind, peer, peer_ms) in PACEMAKER_MS {
        let Some(gap) = proof["gap_ms"].get(kind) else { continue };
        println!(
            "{}",
            json!({
                "figure": "gap", "fault": kind, "store": format!("{engine:?}"), "ttl_ms": 3000,
                "count": gap["count"], "median_ms": gap["median"], "max_ms": gap["max"],
                "pacemaker_median_ms": peer_ms, "pacemaker": peer,
            })
        );
    }
    println!(
        "{}",
        json!({
            "figure": "proof", "store": format!("{engine:?}"), "sent": proof["sent"],
            "received": proof["received"], "lost": proof["lost"],
            "duplicates": proof["duplicates"], "faults": proof["faults"],
        })
    );
    Ok(())
}
