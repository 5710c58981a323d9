//! Starts a node, or a host instance, and sees to its end.
//!
//! `baton node` comes here with its settings and goes on in `node::run`; the hosts that it starts
//! come here too, as `baton host`, and go on in `host::run`.

use std::process::ExitCode;

use adapters::{adapter_of, sink, source};
use anyhow::{Context, Result};
use cluster::Timing;
use model::Millis;
use node::NodeConfig;
use store::NodeFacts;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::cli::Global;
use crate::config::{self, Given, Log, LogFormat};

/// Threads of a host instance: polls, deliveries and the store share them. More would only
/// compete for the processors of a small machine.
const HOST_THREADS: usize = 2;

/// How a node tells its hosts to log.
const LOG_LEVEL_VARIABLE: &str = "BATON_LOG_LEVEL";
const LOG_FORMAT_VARIABLE: &str = "BATON_LOG_FORMAT";

/// `baton node`.
///
/// Runs until SIGTERM or SIGINT; then hosts finish what they have begun, and the groups go to
/// other nodes.
#[derive(Debug, Clone, clap::Args)]
pub struct NodeArgs {
    /// This node's name [default: `name` of the configuration, then the machine's host name].
    #[arg(long, value_name = "NAME", env = "BATON_NODE")]
    pub name: Option<String>,
    /// How long a lease lives without renewal: how soon a silent owner is replaced
    /// [default: `ttl` of the configuration, then 3s].
    #[arg(long, value_name = "DURATION")]
    pub ttl: Option<Millis>,
}

/// Runs a node until it is told to stop.
pub fn serve(args: &NodeArgs, global: &Global) -> Result<ExitCode> {
    let given = Given { name: args.name.clone(), ttl: args.ttl, ..global.given() };
    let machine = machine_name();
    let settings = config::resolve(&given, &machine)?;
    let environment = start_log(&settings.log)?;
    let config = NodeConfig {
        name: settings.name,
        store: settings.store,
        timing: Timing::of(settings.ttl),
        program: std::env::current_exe().context("cannot find the program that this is")?,
        environment,
        facts: NodeFacts {
            machine,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
        },
    };
    // One thread: host instances die with the thread that started them, and this one stays.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let asked_to_stop = async {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping: hosts finish what they have begun");
            stop.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = node::run(config, stop.clone()) => ended.context("the node has stopped"),
            () = asked_to_stop => Ok(()),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a host instance, as a child of a node.
pub fn host_instance() -> Result<ExitCode> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let format = match variable(LOG_FORMAT_VARIABLE).as_str() {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    };
    let level = Some(variable(LOG_LEVEL_VARIABLE)).filter(|level| !level.is_empty());
    start_log(&Log { level: level.unwrap_or_else(|| Log::default().level), format })?;
    let protocols = host::Protocols { source, sink, name: |kind| adapter_of(kind).name() };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HOST_THREADS)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(host::run(protocols));
    // What still runs has no one to report to; the process does not wait for it.
    runtime.shutdown_background();
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// Starts logging to standard error, and answers the environment that makes a child log alike.
fn start_log(log: &Log) -> Result<Vec<(String, String)>> {
    // The pool's warnings repeat what the store says in its own words.
    let filter = EnvFilter::try_new(format!("{},deadpool=error", log.level))
        .with_context(|| format!("log.level {:?}: use error, warn, info or debug", log.level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let format = match log.format {
        LogFormat::Text => {
            builder.with_ansi(ansi).init();
            "text"
        }
        LogFormat::Json => {
            builder.json().init();
            "json"
        }
    };
    Ok(vec![
        (LOG_LEVEL_VARIABLE.into(), log.level.clone()),
        (LOG_FORMAT_VARIABLE.into(), format.into()),
    ])
}

/// This machine's host name.
pub fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
