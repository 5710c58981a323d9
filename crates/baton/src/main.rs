//! The baton command line: parses it, does what it says, and ends with the documented exit code.

use std::process::ExitCode;

use baton::cli::{self, Global, HELP_AFTER, HostArgs, Verb};
use baton::demo::{self, DemoArgs};
use baton::serve::{self, NodeArgs};
use clap::{Parser, Subcommand};

/// An integration server whose hosts do not go down.
///
/// Machines that share a store form a cluster. A host is a container of receive locations and
/// send ports; made part of a group, exactly one machine runs it, and when that machine fails
/// another one takes the baton.
#[derive(Debug, Parser)]
#[command(name = "baton", version, after_help = HELP_AFTER, max_term_width = 100)]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be a node of the cluster: own groups, start and watch their hosts.
    Node(NodeArgs),
    /// Show on this machine that a clustered FTP host outlives its node.
    Demo(DemoArgs),
    #[command(flatten)]
    Operate(Verb),
}

fn main() -> ExitCode {
    let line = Line::parse();
    match run(&line) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", cli::error_text(&error));
            ExitCode::from(cli::exit_code(&error))
        }
    }
}

fn run(line: &Line) -> anyhow::Result<ExitCode> {
    match &line.command {
        Command::Node(args) => serve::serve(args, &line.global),
        Command::Demo(args) => demo::run(args, line.global.store.as_deref()),
        // The child process of a node: it shares its noun with the operators' verbs.
        Command::Operate(Verb::Host(HostArgs { verb: None, .. })) => serve::host_instance(),
        Command::Operate(verb) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let ended = runtime.block_on(cli::run(verb, &line.global));
            // A store that still waits for something does not keep the operator waiting.
            runtime.shutdown_background();
            ended
        }
    }
}
