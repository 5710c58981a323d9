//! Measures Baton beside its peers on the same machine, in the same run, and prints the ratio.
//!
//! `cargo build --release --workspace && cargo run --release -p bench -- files`
//!
//! Each figure is one line of JSON. Nothing here asserts a time: machines differ, ratios less.

mod bare_postgres;
mod bare_sqlite;
mod failover;
mod files;
mod gaps;
mod idle;
mod large;
mod messages;
mod processes;
mod processor;
mod rig;
mod scale;

use clap::{Parser, Subcommand};

/// Figures of Baton beside those of its peers.
#[derive(Parser)]
struct Arguments {
    /// Store: `sqlite` (default) or `postgres`, each of its own, with fsync on.
    #[arg(long, global = true, default_value = "sqlite")]
    store: rig::Engine,
    #[command(subcommand)]
    figure: Figure,
}

#[derive(Subcommand)]
enum Figure {
    /// How long nobody is active after each kind of fault, beside Pacemaker.
    Gaps {
        /// How many faults.
        #[arg(long, default_value_t = 30)]
        faults: u32,
    },
    /// Many small files from vsftpd to a folder, beside `lftp mirror --parallel=4`.
    Files {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        files: u32,
        /// Bytes of each.
        #[arg(long, default_value_t = 1024)]
        bytes: usize,
        /// Times that both are run, in turn.
        #[arg(long, default_value_t = 3)]
        runs: u32,
    },
    /// One large file, beside a bare script that writes the same bytes into the same store.
    Large {
        /// MiB of the file.
        #[arg(long, default_value_t = 2048)]
        mib: u64,
        /// Kill the host when half of it is in the store, and see another node go on.
        #[arg(long)]
        kill_at_half: bool,
    },
    /// Publish, take and settle through the store's API, beside a bare SQL script.
    Messages,
    /// Eight processes that publish into one store; on SQLite beside a bare file.
    Processes,
    /// Memory and processor time of an idle node and its hosts, beside Pacemaker.
    Idle {
        /// How long the processor time is counted.
        #[arg(long, default_value_t = 30)]
        seconds: u32,
    },
    /// The same faults for Baton and for Pacemaker, whose cluster is started in namespaces (root).
    Failover {
        /// Faults of each kind.
        #[arg(long, default_value_t = 5)]
        runs: u32,
        /// Which settings: all, `defaults` or `tuned`.
        #[arg(long)]
        settings: Option<failover::Setting>,
        /// Time between two looks at the resource by the tuned Pacemaker, in milliseconds.
        #[arg(long, default_value_t = 1000)]
        monitor_ms: u32,
        /// Which faults; all if none is named.
        #[arg(long)]
        fault: Vec<failover::Fault>,
    },
    /// What a large cluster costs: the planner, and the store under idle nodes (PostgreSQL).
    Scale(scale::Scale),
    /// The active instance of `failover`: writes lines until it is killed.
    #[command(hide = true)]
    Active {
        /// The file.
        #[arg(long)]
        sink: std::path::PathBuf,
        /// On which node.
        #[arg(long)]
        node: String,
    },
    /// One of the processes of `processes`.
    #[command(hide = true)]
    PublishAs {
        /// The URL of a store, or the path of a bare file.
        place: String,
        /// Its name.
        name: String,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.figure {
        Figure::Gaps { faults } => gaps::measure(arguments.store, faults),
        Figure::Messages => messages::measure(arguments.store),
        Figure::Processes => processes::measure(arguments.store),
        Figure::Idle { seconds } => idle::measure(arguments.store, seconds),
        Figure::Failover { runs, settings, monitor_ms, fault } => {
            failover::measure(runs, settings, monitor_ms, &fault)
        }
        Figure::Active { sink, node } => failover::be_active(&sink, &node),
        Figure::Scale(what) => scale::measure(&what),
        Figure::PublishAs { place, name } => processes::publish_as(&place, &name),
        Figure::Files { files, bytes, runs } => files::measure(arguments.store, files, bytes, runs),
        Figure::Large { mib, kill_at_half } => large::measure(arguments.store, mib, kill_at_half),
    }
}
