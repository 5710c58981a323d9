//! `baton group`: list, show and history; `moving` and `order` have the verbs that change.

mod moving;
mod order;

use anyhow::Result;
use clap::{Args, Subcommand};
use cluster::Tenure;
use model::{LeaseName, Millis, NodeName, Timestamp};

use super::session::{self, open, print, print_json};
use super::{EXIT_OK, Global, Refused};
use crate::render::group::{GroupStatus, list_table};
use crate::render::policy::GroupDetail;
use crate::render::table::{Cell, Fit, Table};
use crate::render::{Look, Paint, ago, safe};

pub use moving::MoveArgs;
pub use order::{StartArgs, StopArgs, UnmonitorArgs};

/// Entries of the history that are read: the newest of all groups.
const HISTORY_READ_MAX: usize = 1000;

/// What can be done with a group.
#[derive(Debug, Clone, Subcommand)]
#[allow(missing_docs, reason = "where arguments are documented, clap shows theirs")]
pub enum GroupVerb {
    /// List the groups: state, owner, priority, since when, why, and what operators want of them.
    List,
    /// Show one group in full: every setting of its policy with where it comes from, what is left
    /// of its budgets and when they reset, its members and what they depend on.
    Show {
        /// The group.
        group: String,
    },
    /// Show who owned a group when, and why it changed hands, newest first.
    History {
        /// The group.
        group: String,
        /// At most so many changes.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    Move(MoveArgs),
    Start(StartArgs),
    Stop(StopArgs),
    Unmonitor(UnmonitorArgs),
    /// Let failures of a group's resources count again.
    Monitor {
        /// The group.
        group: String,
        /// Only say what would happen: nothing is changed.
        #[arg(long)]
        what_if: bool,
    },
}

/// How a change is asked for.
#[derive(Debug, Clone, Args)]
pub struct How {
    /// How long to wait until it is done.
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_value = "60s",
        default_missing_value = "60s"
    )]
    pub wait: Millis,
    /// Only ask for it, do not wait.
    #[arg(long, conflicts_with = "what_if")]
    pub no_wait: bool,
    /// Only say what would happen: nothing is changed.
    #[arg(long)]
    pub what_if: bool,
}

pub(super) async fn run(verb: &GroupVerb, global: &Global) -> Result<u8> {
    match verb {
        GroupVerb::List => list(global).await,
        GroupVerb::History { group, limit } => history(group, *limit, global).await,
        GroupVerb::Show { group } => show(group, global).await,
        GroupVerb::Move(args) => moving::run(args, global).await,
        GroupVerb::Start(args) => order::start(args, global).await,
        GroupVerb::Stop(args) => order::stop(args, global).await,
        GroupVerb::Unmonitor(args) => order::unmonitor(args, global).await,
        GroupVerb::Monitor { group, what_if } => order::monitor(group, *what_if, global).await,
    }
}

async fn list(global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let snapshot = store.snapshot().await?;
    let groups = GroupStatus::all(&snapshot);
    if global.json() {
        print_json(&groups)?;
    } else if groups.is_empty() {
        print("there is no group; define some under `groups:` and apply them\n")?;
    } else {
        print(&list_table(&groups, snapshot.now).render(Look::of_stdout(), 0))?;
    }
    Ok(EXIT_OK)
}

async fn show(group: &str, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let snapshot = store.snapshot().await?;
    let group = session::group(&snapshot.definitions, group)?;
    let detail = GroupDetail::of(&snapshot, group);
    if global.json() {
        print_json(&detail)?;
    } else {
        print(&detail.render(snapshot.now, Look::of_stdout()))?;
    }
    Ok(EXIT_OK)
}

async fn history(group: &str, limit: usize, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let name = LeaseName::Group(
        group.parse().map_err(|error: model::name::InvalidName| Refused::new(error.to_string()))?,
    );
    let history: Vec<Tenure> = store.history(HISTORY_READ_MAX).await?;
    if !history.iter().any(|tenure| tenure.lease == name) {
        // One that was removed still has its history; one that never was is a mistake.
        let (_, definitions) = store.definitions().await?;
        session::group(&definitions, group)?;
    }
    let history: Vec<Tenure> =
        history.into_iter().filter(|tenure| tenure.lease == name).take(limit).collect();
    if global.json() {
        print_json(&history)?;
    } else if history.is_empty() {
        print(&format!("group {} has no history\n", safe(group)))?;
    } else {
        print(&history_table(&history, store.now().await?).render(Look::of_stdout(), 0))?;
    }
    Ok(EXIT_OK)
}

fn history_table(history: &[Tenure], now: Timestamp) -> Table {
    let mut table = Table::new([
        ("WHEN", Fit::Left),
        ("AGO", Fit::Left),
        ("EPOCH", Fit::Right),
        ("FROM", Fit::Left),
        ("TO", Fit::Left),
        ("CAUSE", Fit::Left),
        ("EVIDENCE", Fit::Cut),
    ]);
    for tenure in history {
        let node =
            |node: &Option<NodeName>| Cell::from(node.as_ref().map_or("-", NodeName::as_str));
        let evidence = match tenure.holder {
            Some(_) => tenure.evidence.to_string(),
            None => "-".into(),
        };
        table.row([
            tenure.at.to_string().into(),
            ago(now, tenure.at).into(),
            tenure.epoch.to_string().into(),
            node(&tenure.before),
            node(&tenure.holder),
            tenure.cause.as_str().into(),
            evidence.into(),
        ]);
        table.note(&tenure.reason, Paint::Dim);
    }
    table
}
