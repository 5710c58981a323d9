//! `baton validate`: is this cluster fit to fail over? (WSFC: Test-Cluster.)
//!
//! Tests look, ask and connect; none changes, stops or starts anything. Those of a machine and of
//! what it must reach can only be done on that machine, so each node validates itself and leaves
//! a line in the store (`record`), from which every report tells what the others found.

mod cluster;
mod endpoint;
mod html;
mod judge;
mod junit;
mod machine;
mod record;
mod report;
mod resource;
mod run;
mod scene;
mod tests;
mod text;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use store::StoreError;

use super::session::{self, operator, print, print_json};
use super::{EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE, Global, Refused};
use crate::render::{Look, safe};
use judge::Judgement;
use record::Record;
use report::{Found, Report};
use run::Selection;
use scene::Scene;

/// Test whether this cluster is fit to fail over, and say how to mend what is not.
///
/// Tests the store, the definitions, the groups, the nodes; and from this machine everything that
/// it must reach as a node: servers, folders, addresses, programs, secret files, disks. It is never
/// disruptive: it may run on a cluster at work, as often as you like.
///
/// Run it on each node, once a day: the report says from which nodes it has not been run.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  baton validate
  baton validate --html report.html --junit report.xml
  baton validate --only endpoint --only store.fence
  baton validate --skip machine.disk
  baton validate --list

A test passes, warns (it works, but something will hurt one day), fails, or does not apply.

Exit codes: 0 nothing failed (there may be warnings), 1 something failed, 3 there is no such test,
4 the store is not available")]
pub struct ValidateArgs {
    /// Only this test, or all of a kind: endpoint.ftp, or endpoint. May be given several times.
    #[arg(long, value_name = "ID")]
    pub only: Vec<String>,
    /// Leave out this test, or all of a kind. May be given several times.
    #[arg(long, value_name = "ID")]
    pub skip: Vec<String>,
    /// List the tests with what they look at, and do none.
    #[arg(long)]
    pub list: bool,
    /// Also write the report as a page for browsers.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Also write the report as JUnit's XML, for CI servers.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// The node that this machine is [default: `name` of the configuration, then its host name].
    #[arg(long, value_name = "NAME", env = "BATON_NODE")]
    pub node: Option<String>,
}

pub(super) async fn run(args: &ValidateArgs, global: &Global) -> Result<u8> {
    let selection = Selection::new(&args.only, &args.skip)?;
    if args.list {
        return list(&selection, global);
    }
    let report = match session::open(global).await {
        Ok(store) => {
            let (scene, mut report) = whole(store, args, global, &selection).await?;
            if let Some(node) = scene.node().filter(|_| selection.is_whole()) {
                let record = Record::of(&report, &operator());
                if let Err(error) = scene.store.record_events(&[record.event(node)]).await {
                    let what = format!("what was found here could not be recorded: {error}");
                    let remedy = "run it again when the store takes writes";
                    let judgement = Judgement::warning("store", what, remedy);
                    report.found.push(Found::of("node.validated", judgement));
                }
            }
            report
        }
        Err(error) if is_unavailable(&error) => unreachable_store(&error, args, global)?,
        Err(error) => return Err(error),
    };
    deliver(&report, args, global)?;
    Ok(match () {
        () if report.has_failed("store.reach") => EXIT_UNAVAILABLE,
        () if report.failed() > 0 => EXIT_FAILED,
        () => EXIT_OK,
    })
}

async fn whole(
    store: std::sync::Arc<dyn store::Store>,
    args: &ValidateArgs,
    global: &Global,
    selection: &Selection,
) -> Result<(Scene, Report)> {
    let scene = Scene::read(store, args.node.as_deref(), global).await?;
    let found = run::all(&scene, selection).await;
    let report = Report {
        store: scene.store.describe(),
        node: scene.name.to_string(),
        is_node: scene.node().is_some(),
        version: env!("CARGO_PKG_VERSION").into(),
        at: scene.snapshot.now,
        found,
    };
    Ok((scene, report))
}

fn is_unavailable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(StoreError::Unavailable(_))))
}

/// Nothing can be tested then, and that is a finding too: a CI server wants a report of it.
fn unreachable_store(
    error: &anyhow::Error,
    args: &ValidateArgs,
    global: &Global,
) -> Result<Report> {
    let remedy = "look whether it runs, and at the network, name and password on the way to it";
    let judgement = Judgement::failed("store", format!("{error:#}"), remedy);
    Ok(Report {
        store: "the store that was given".into(),
        node: Scene::name(args.node.as_deref(), global)?.to_string(),
        is_node: false,
        version: env!("CARGO_PKG_VERSION").into(),
        at: scene::local_now(),
        found: vec![Found::of("store.reach", judgement)],
    })
}

fn deliver(report: &Report, args: &ValidateArgs, global: &Global) -> Result<()> {
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &args.html {
        write(path, html::page(report))?;
    }
    if let Some(path) = &args.junit {
        write(path, junit::xml(report))?;
    }
    if global.json() { print_json(report) } else { print(&text::render(report, Look::of_stdout())) }
}

fn list(selection: &Selection, global: &Global) -> Result<u8> {
    let tests: Vec<_> = tests::TESTS.iter().filter(|test| selection.wants(test.id)).collect();
    if global.json() {
        let rows = tests.iter().map(|test| serde_json::json!({"id": test.id, "about": test.about}));
        print_json(&rows.collect::<Vec<_>>())?;
    } else {
        let width = tests.iter().map(|test| test.id.len()).max().unwrap_or_default();
        let line = |test: &&tests::Test| format!("{:width$}  {}\n", test.id, safe(test.about));
        print(&tests.iter().map(line).collect::<String>())?;
    }
    Ok(EXIT_OK)
}

/// A refusal of `--only` or `--skip`.
fn no_such_test(id: &str) -> Refused {
    let known: Vec<&str> = tests::TESTS.iter().map(|test| test.id).collect();
    let known = known.join(", ");
    Refused::new(format!("there is no test {id:?}; tests, or their first word: {known}"))
}
