//! `cargo xtask test`: the phases that CI runs, in the order in which failures come cheapest.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use testbed::{POSTGRES_URL_VARIABLE, Postgres};

use crate::phases::{Phases, succeed};
use crate::{deps, tidy};

/// Compiled in for the tests that strike between two steps: the product has none.
const FAILPOINTS: &str = "store/failpoints,baton/failpoints";

/// The version of cargo-deny that CI builds: it reads `deny.toml` as it stands.
const DENY_VERSION: &str = "0.20.2";

/// Everything. `strict`: what can't be installed is an error, and so is a test that is skipped.
pub(crate) fn full(workspace: &Path, strict: bool) -> anyhow::Result<()> {
    let mut phases = Phases::default();
    let result = run_full(&mut phases, workspace, strict);
    print!("\n{}", phases.times());
    result
}

/// What needs no server.
pub(crate) fn quick(workspace: &Path) -> anyhow::Result<()> {
    let mut phases = Phases::default();
    let result = run_quick(&mut phases, workspace);
    print!("\n{}", phases.times());
    result
}

fn run_full(phases: &mut Phases, workspace: &Path, strict: bool) -> anyhow::Result<()> {
    phases.run("deps", || match deps::run() {
        Err(error) if !strict => {
            println!("warning: some tests will be skipped: {error:#}");
            Ok(())
        }
        result => result,
    })?;
    check_text(phases, workspace)?;
    let lints = ["clippy", "--workspace", "--all-targets", "--features", FAILPOINTS];
    let deny = ["--", "-D", "warnings"];
    phases.run("clippy", || succeed(cargo(workspace).args(lints).args(deny)))?;
    phases.run("licences", || check_licences(workspace, strict))?;
    // Tests of several crates run the binary, and cargo knows that of baton's own tests only.
    let build = ["build", "--workspace", "--bins"];
    phases.run("build", || succeed(cargo(workspace).args(build)))?;
    let compile = ["test", "--workspace", "--no-run"];
    phases.run("build tests", || succeed(cargo(workspace).args(compile)))?;
    let postgres = phases.run("postgres", || start_postgres(strict))?;
    let test = |arguments: &[&str]| {
        let mut tests = cargo(workspace);
        tests.args(["test", "--no-fail-fast"]).args(arguments);
        if strict {
            tests.env("CI", "true");
        }
        if let Some(postgres) = &postgres {
            tests.env(POSTGRES_URL_VARIABLE, postgres.url("postgres"));
        }
        succeed(&mut tests)
    };
    phases.run("tests", || test(&["--workspace"]))?;
    let struck = ["--test", "sqlite_failpoints", "--test", "struck_between_two_steps"];
    let packages = ["-p", "store", "-p", "baton", "--features", FAILPOINTS];
    phases.run("failpoints", || test(&[&packages[..], &struck].concat()))
}

fn run_quick(phases: &mut Phases, workspace: &Path) -> anyhow::Result<()> {
    check_text(phases, workspace)?;
    let tests = ["test", "--workspace", "--lib", "--bins"];
    phases.run("unit tests", || succeed(cargo(workspace).args(tests)))
}

fn check_text(phases: &mut Phases, workspace: &Path) -> anyhow::Result<()> {
    phases.run("tidy", || tidy::run(workspace))?;
    phases.run("format", || succeed(cargo(workspace).args(["fmt", "--all", "--check"])))
}

/// cargo-deny takes minutes to build, so nobody but CI is made to have it.
fn check_licences(workspace: &Path, strict: bool) -> anyhow::Result<()> {
    let check = ["deny", "check", "licenses", "bans"];
    let own = workspace.join("target/tools");
    let mut version = cargo(workspace);
    version.args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    if version.status().is_ok_and(|status| status.success()) {
        return succeed(cargo(workspace).args(check));
    }
    if !strict {
        println!("cargo-deny is not installed (`cargo install cargo-deny`): licences unchecked");
        return Ok(());
    }
    let install = ["install", "--quiet", "cargo-deny", "--version", DENY_VERSION, "--locked"];
    succeed(cargo(workspace).args(install).arg("--root").arg(&own))?;
    // As cargo would start it.
    let mut deny = Command::new(own.join("bin/cargo-deny"));
    succeed(deny.current_dir(workspace).args(check))
}

/// One server for the whole run; `None` when the developer gave one, or when there is none and
/// tests skip.
fn start_postgres(strict: bool) -> anyhow::Result<Option<Postgres>> {
    if let Ok(url) = env::var(POSTGRES_URL_VARIABLE) {
        println!("tests use {POSTGRES_URL_VARIABLE}={url}");
        return Ok(None);
    }
    match Postgres::start() {
        Ok(postgres) => Ok(Some(postgres)),
        Err(error) if !strict && error.is::<testbed::Unavailable>() => {
            println!("warning: {error}; the tests that need it will be skipped");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn cargo(workspace: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace);
    command
}
