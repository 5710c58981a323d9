//! The baton command line: parses it, does what it says, and ends with the documented exit code.

use std::process::ExitCode;

use baton::cli::{self, Global, HELP_AFTER, HostArgs, NodeCommand, Verb};
use baton::demo::{self, DemoArgs};
use baton::serve::{self, MonitorArgs};
use clap::error::ErrorKind;
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
    /// Show on this machine that a clustered FTP host outlives its node.
    Demo(DemoArgs),
    /// Drive one resource: the child process of a node.
    #[command(hide = true)]
    Monitor(MonitorArgs),
    #[command(flatten)]
    Operate(Verb),
}

fn main() -> ExitCode {
    // A monitor starts every program through itself: before anything else, and quickly.
    if let Some(error) = resources::exec_if_asked(std::env::args_os()) {
        eprintln!("{error}");
        return ExitCode::from(resources::EXIT_NOT_STARTED);
    }
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return not_understood(&error),
    };
    match run(&line) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", cli::error_text(&error, line.global.json()));
            ExitCode::from(cli::exit_code(&error))
        }
    }
}

/// A line that is wrong is told as it asked to be told. Help and version are no failures.
fn not_understood(error: &clap::Error) -> ExitCode {
    let told = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !told && cli::asks_for_json(std::env::args().skip(1)) {
        eprintln!("{}", cli::error_json(error.to_string().trim_end(), cli::EXIT_USAGE));
        return ExitCode::from(cli::EXIT_USAGE);
    }
    error.exit()
}

fn run(line: &Line) -> anyhow::Result<ExitCode> {
    match &line.command {
        Command::Demo(args) => demo::run(args, line.global.store.as_deref()),
        Command::Monitor(_) => serve::resource_monitor(),
        // A node and the child process of a node share their nouns with the operators' verbs.
        Command::Operate(Verb::Node(NodeCommand { verb: None, run })) => {
            serve::serve(run, &line.global)
        }
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
