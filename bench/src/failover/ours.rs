//! Baton's side: the demo on a PostgreSQL of its own, whose faults are the same.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use model::Millis;
use serde_json::Value;
use testbed::Postgres;

use super::{Fault, Measured};
use crate::rig::program;

/// The demo's names of the faults, in its order.
const FAULTS: [(Fault, &str); 5] = [
    (Fault::ProcessKill, "host killed"),
    (Fault::NodeKill, "node killed"),
    (Fault::Freeze, "node frozen"),
    (Fault::Cut, "node cut off"),
    (Fault::Move, "planned move"),
];

/// Files for each fault: they come all the time that it takes, and show who is active.
const FILES_PER_FAULT: u32 = 400;

/// Receipts of an owner that were accepted after its successor had begun. Every message has its
/// receipt in the same transaction.
const STALE: &str = "SELECT count(*) FROM receipt WHERE EXISTS (SELECT FROM lease_history AS later \
    WHERE later.lease = receipt.lease AND later.epoch > receipt.epoch \
    AND later.holder IS NOT NULL AND later.at < receipt.received_at)";

/// So many faults of each kind, in turn.
pub fn measure(ttl: Millis, runs: u32) -> Result<Measured> {
    let postgres = Postgres::start()?;
    postgres.create_database("demo")?;
    let url = postgres.url("demo");
    let faults = runs * FAULTS.len() as u32;
    let output = Command::new(program()?)
        .args(["demo", "--json", "--faults", &faults.to_string(), "--ttl", &ttl.to_string()])
        .args(["--files", &(faults * FILES_PER_FAULT).to_string(), "--store", &url])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    // The story goes to stderr; it has the gap of each fault, where the proof has medians.
    let story = String::from_utf8_lossy(&output.stderr);
    eprint!("{story}");
    let told = String::from_utf8(output.stdout)?;
    let proof: Value = serde_json::from_str(told.lines().last().context("the demo said nothing")?)?;
    ensure!(output.status.success(), "no proof: {proof}");
    let mut measured = Measured::default();
    for (fault, words) in FAULTS {
        let gaps = story.lines().filter(|line| line.contains(" fault ") && line.contains(words));
        let gaps: Vec<i64> = gaps.filter_map(gap_ms).collect();
        ensure!(gaps.len() == runs as usize, "the demo told {} gaps of {words}", gaps.len());
        measured.gaps.insert(fault, gaps);
    }
    let stale: u64 = testbed::psql(&url, STALE)?.trim().parse()?;
    let twice = proof["duplicates"].as_u64().context("the proof names no duplicates")?;
    measured.stale.insert(Fault::Freeze, vec![stale + twice]);
    Ok(measured)
}

/// `... takes over from a after  2863 ms (epoch 4, silent) ...`
fn gap_ms(line: &str) -> Option<i64> {
    let (_, rest) = line.split_once(" after ")?;
    rest.trim_start().split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_read_from_the_story() {
        let line = "7.8s  fault  3/15 node frozen   b takes over from a after  2863 ms (epoch 4)";
        assert_eq!(gap_ms(line), Some(2863));
        assert_eq!(gap_ms("because owner a fell silent"), None);
    }
}
