//! Starts a node, or a host instance, and sees to its end.
//!
//! `baton node` comes here with its settings and goes on in `node::run`; the hosts that it starts
//! come here too, as `baton host`, and go on in `host::run`; the monitors of other resources, as
//! `baton monitor`, in `resources::run`.

use std::process::ExitCode;

use adapters::{adapter_of, sink, source};
use anyhow::{Context, Result};
use cluster::Timing;
use model::Millis;
use node::NodeConfig;
use store::NodeFacts;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Global;
use crate::config::{self, Given};

/// Threads of a host instance: polls, deliveries and the store share them. More would only
/// compete for the processors of a small machine.
const HOST_THREADS: usize = 2;

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
    let environment = crate::log::start(&settings.log)?;
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
            let mut signal = async || {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            signal().await;
            tracing::info!("stopping: hosts finish what they have begun; once more to end at once");
            stop.cancel();
            signal().await;
            // The kernel ends the hosts with us, and another node begins anew what they had begun.
            tracing::warn!("ending at once");
        };
        tokio::select! {
            ended = node::run(config, stop.clone()) => ended.context("the node has stopped"),
            () = asked_to_stop => anyhow::bail!("ended by a second signal, before all was let go"),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a host instance, as a child of a node.
pub fn host_instance() -> Result<ExitCode> {
    crate::log::start_as_told()?;
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

/// `baton monitor`. What it drives is said over its socket; the arguments are for those who list
/// processes.
#[derive(Debug, Clone, clap::Args)]
pub struct MonitorArgs {
    /// The resource.
    #[arg(long, value_name = "NAME")]
    pub resource: Option<String>,
    /// The node.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

/// Runs the monitor of a resource, as a child of a node.
pub fn resource_monitor() -> Result<ExitCode> {
    crate::log::start_as_told()?;
    // One thread, the first: the kernel ends what a thread has started when that thread ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(resources::run());
    runtime.shutdown_background();
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// This machine's host name.
pub fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
