//! `baton demo`: three nodes, a partner's FTP server, files all the time, and faults.
//!
//! Everything is real: the nodes are processes of this program, the store is a store, the files
//! go over FTP and end in a folder. Faults are SIGKILL, SIGSTOP and moves. Gaps are measured at
//! the partner's server, the proof is read from the delivered bytes; the engine's own counters
//! take no part in it.

mod files;
mod partner;
pub(crate) mod report;
mod scenario;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use model::Millis;

/// Shows that a clustered FTP receive host outlives its node.
///
/// Starts three nodes as processes of this machine, an FTP server, a clustered receive host and
/// a send port; writes files all the time; kills, freezes and moves the owner in turn; and ends
/// with the proof: sent, received, lost, duplicates, and the gap without an active instance for
/// each kind of fault.
///
/// The store is an embedded one of its own, unless --store names another, which must be empty.
///
/// Exit code 0 if every file arrived exactly once with its own bytes, 1 if not.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Files that the partner writes.
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub files: u32,
    /// Faults, in turn: host killed, node killed, node frozen, node cut off from the store (if
    /// that is a PostgreSQL server), planned move.
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub faults: u32,
    /// How long a lease lives without renewal: how soon a frozen node is noticed.
    #[arg(long, default_value = "3s", value_name = "DURATION")]
    pub ttl: Millis,
    /// Print one line of JSON at the end instead of the story (which then goes to stderr).
    #[arg(long)]
    pub json: bool,
    /// Use this FTP server instead of one of its own. Gaps are then measured by the first complete
    /// listing of the new owner.
    #[arg(
        long,
        value_name = "USER:PASSWORD@ADDRESS:PORT/FOLDER",
        requires = "ftp_folder",
        hide_env_values = true
    )]
    pub ftp: Option<String>,
    /// Where on this machine that server's files lie.
    #[arg(long, value_name = "FOLDER", requires = "ftp")]
    pub ftp_folder: Option<PathBuf>,
    /// Keep everything in this folder and leave it there.
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
}

/// Runs the demo.
pub fn run(args: &DemoArgs, store: Option<&str>) -> Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(scenario::play(args, store))?;
    report::print(&outcome, args.json);
    Ok(if outcome.is_proof() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
