//! `cargo xtask scenarios` and `cargo xtask sim`: the simulated cluster.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Plays the scenario files, or those with this in their name.
pub(crate) fn scenarios(workspace: &Path, part: Option<&&str>) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    command.args(["test", "-q", "-p", "sim", "--test", "scenarios"]).current_dir(workspace);
    if let Some(part) = part {
        command.env("SCENARIO", part);
    }
    run(command)
}

/// Searches for violations; the words are those of the program itself.
pub(crate) fn search(workspace: &Path, words: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    // Without optimisation it would take ten times as long.
    command.args(["run", "-q", "--release", "-p", "sim", "--bin", "sim", "--"]);
    command.args(words).current_dir(workspace);
    run(command)
}

fn run(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
