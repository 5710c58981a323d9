//! Measures Baton beside its peers on the same machine, in the same run, and prints the ratio.
//!
//! `cargo build --release --workspace && cargo run --release -p bench -- files`
//!
//! Each figure is one line of JSON. Nothing here asserts a time: machines differ, ratios less.

mod files;
mod large;
mod rig;

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
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.figure {
        Figure::Files { files, bytes, runs } => files::measure(arguments.store, files, bytes, runs),
        Figure::Large { mib, kill_at_half } => large::measure(arguments.store, mib, kill_at_half),
    }
}
