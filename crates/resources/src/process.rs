//! `process`: a program that runs in the foreground.
//!
//! It and whatever it forks are the monitor's descendants, so they can all be found, and are all
//! gone when it is offline. What a killed monitor left behind is found by a mark in its
//! environment.

use child::tasks::Tasks;
use std::path::PathBuf;
use std::process::Stdio;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::definition::{Process, ResourceKind, ResourceSpec};
use model::{Epoch, NodeName};
use rustix::process::{Pid, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::command::{Run, ending};
use crate::driver::{Driver, Failure, Health, Outcome};
use crate::flow::{Flow, Kept};
use crate::tree::{self, Awaited};
use crate::{launch, not_mine};

/// Carries the mark by which what a killed monitor left behind is found: the resource, the node,
/// and which monitor, by process id and time of its start.
const MARK_VARIABLE: &str = "BATON_MONITORED_BY";

/// Longest run of one check: it should be quick, and a hung one must be noticed.
const CHECK_WITHIN: Duration = Duration::from_secs(20);

/// Wait between two ready checks.
const READY_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How often it is looked at whether the launcher has become the program.
const STARTED_AGAIN_AFTER: Duration = Duration::from_millis(2);

/// Largest environment that is searched for the mark.
const ENVIRONMENT_BYTES_MAX: u64 = 1024 * 1024;

/// The driver of a `process`.
pub(crate) fn driver(spec: &ResourceSpec, node: &NodeName) -> Outcome<Arc<dyn Driver>> {
    let ResourceKind::Process(process) = &spec.resource.kind else {
        return Err(not_mine(&spec.resource.kind));
    };
    let name = &process.stop_signal;
    let long = if name.starts_with("SIG") { name.clone() } else { format!("SIG{name}") };
    let stop_signal = nix::sys::signal::Signal::from_str(&long).map_err(|_| {
        Failure::fatal(format!("stop_signal: there is no signal {name}: write SIGTERM, SIGINT, …"))
    })?;
    let us = tree::look_at(std::process::id().cast_signed());
    let started = us.map_or(0, |process| process.started);
    Ok(Arc::new(ProcessDriver {
        resource: spec.resource.name.to_string(),
        whose: format!("{}@{node}", spec.resource.name),
        started,
        stop_signal,
        process: process.clone(),
        child: Mutex::new(None),
    }))
}

struct ProcessDriver {
    resource: String,
    whose: String,
    started: u64,
    stop_signal: nix::sys::signal::Signal,
    process: Process,
    child: Mutex<Option<Running>>,
}

/// The program that runs.
struct Running {
    child: Child,
    group: Option<Pid>,
    _awaited: Option<Awaited>,
    /// What it prints, on its way to the log.
    output: Tasks<String>,
}

impl Running {
    /// Waits for its end: its exit code, and how it ended, with its last words.
    async fn end(&mut self) -> (Option<i32>, String) {
        match self.child.wait().await {
            Err(error) => (None, format!("cannot be waited for: {error}")),
            Ok(status) => {
                // The ends of its output come with its own, unless it left somebody behind.
                let mut words = String::new();
                let last = async {
                    while let Some(line) = self.output.next().await {
                        if !line.is_empty() {
                            words = line;
                        }
                    }
                };
                let _ = tokio::time::timeout(Duration::from_millis(50), last).await;
                (status.code(), ending(status, &words))
            }
        }
    }
}

#[async_trait]
impl Driver for ProcessDriver {
    async fn probe(&self) -> Outcome<bool> {
        Ok(!self.leftovers().is_empty())
    }

    async fn online(&self, _: Epoch) -> Outcome {
        let mut running = self.start()?;
        self.launched(&mut running).await?;
        if !self.process.ready_check.is_empty() {
            let ready = async {
                while let Err(not_yet) = self.check(&self.process.ready_check).await {
                    tracing::debug!(resource = self.resource, "{not_yet}");
                    sleep(READY_AGAIN_AFTER).await;
                }
            };
            tokio::select! {
                () = ready => {}
                (_, how) = running.end() => {
                    let program = &self.process.command[0];
                    return Err(Failure::soft(format!("{program} {how}, before it was ready")));
                }
            }
        }
        *self.child.lock().await = Some(running);
        Ok(())
    }

    async fn offline(&self) -> Outcome {
        let group = self.child.lock().await.as_ref().and_then(|running| running.group);
        if let Some(group) = group {
            let signal = rustix::process::Signal::from_named_raw(self.stop_signal as i32);
            if let Some(signal) = signal {
                let _ = kill_process_group(group, signal);
            }
            let grace = self.process.stop_grace.as_duration();
            let end = async {
                if let Some(running) = &mut *self.child.lock().await {
                    let _ = running.child.wait().await;
                }
                tree::all_gone(grace).await
            };
            if tokio::time::timeout(grace, end).await != Ok(true) {
                tracing::warn!(
                    resource = self.resource,
                    "not ended {} after {}; killing it",
                    self.process.stop_grace,
                    self.process.stop_signal
                );
            }
        }
        self.terminate().await?;
        *self.child.lock().await = None;
        Ok(())
    }

    async fn terminate(&self) -> Outcome {
        tree::kill_descendants().await?;
        tree::kill(|| self.leftovers()).await
    }

    async fn looks_alive(&self) -> Outcome<Health> {
        self.check(&self.process.looks_alive).await
    }

    async fn is_alive(&self) -> Outcome<Health> {
        let own = &self.process.is_alive;
        self.check(if own.is_empty() { &self.process.looks_alive } else { own }).await
    }

    async fn failed(&self) -> Failure {
        match &mut *self.child.lock().await {
            Some(running) => {
                let (_, how) = running.end().await;
                Failure::soft(format!("{} {how}", self.process.command[0]))
            }
            None => Failure::soft("it does not run"),
        }
    }
}

impl ProcessDriver {
    fn start(&self) -> Outcome<Running> {
        let Some((program, arguments)) = self.process.command.split_first() else {
            return Err(Failure::fatal("the command is empty: name a program"));
        };
        let found = launch::find(program)?;
        let folder = self.process.folder.clone().unwrap_or_else(|| PathBuf::from("/"));
        if !folder.is_dir() {
            let shown = folder.display();
            return Err(Failure::hard(format!("folder {shown} is not there on this node")));
        }
        let mark = format!("{} {} {}", self.whose, std::process::id(), self.started);
        let mut command = launch::command(&found);
        command.args(arguments).current_dir(&folder).envs(&self.process.environment);
        command.env(MARK_VARIABLE, mark).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Command::from(command).kill_on_drop(true).spawn();
        let mut child =
            started.map_err(|error| Failure::soft(format!("cannot start {program}: {error}")))?;
        let mut output = Tasks::new();
        if let Some(stream) = child.stdout.take() {
            let mut flow = Flow::new(&self.resource);
            output.start(async move {
                flow.drink(stream, &mut Kept::at_most(0)).await;
                flow.last_line().to_owned()
            });
        }
        if let Some(stream) = child.stderr.take() {
            let mut flow = Flow::new(&self.resource);
            output.start(async move {
                flow.drink(stream, &mut Kept::at_most(0)).await;
                flow.last_line().to_owned()
            });
        }
        let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let awaited = child.id().map(Awaited::new);
        Ok(Running { child, group, _awaited: awaited, output })
    }

    /// Waits until the launcher has become the program. Bounded: it either does or ends.
    async fn launched(&self, running: &mut Running) -> Outcome {
        let Some(group) = running.group else { return Ok(()) };
        let path = format!("/proc/{}/cmdline", group.as_raw_nonzero());
        let prefix = launch::prefix();
        let is_launcher = || {
            let line = std::fs::read(&path).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0).skip(1);
            prefix.iter().all(|word| words.next() == Some(word.as_bytes()))
        };
        while is_launcher() {
            tokio::select! {
                (code, how) = running.end() => {
                    let program = &self.process.command[0];
                    return Err(if code == Some(i32::from(launch::EXIT_NOT_STARTED)) {
                        Failure::hard(format!("cannot start {program}: {how}"))
                    } else {
                        // It was quicker than we looked.
                        Failure::soft(format!("{program} {how}"))
                    });
                }
                () = sleep(STARTED_AGAIN_AFTER) => {}
            }
        }
        Ok(())
    }

    /// Runs a check, if there is one.
    async fn check(&self, command: &[String]) -> Outcome<Health> {
        let Some((program, arguments)) = command.split_first() else { return Ok(Health::Well) };
        let found = launch::find(program)?;
        let environment: Vec<(String, String)> =
            self.process.environment.clone().into_iter().collect();
        let run = Run {
            resource: &self.resource,
            program: &found,
            arguments,
            environment: &environment,
            within: CHECK_WITHIN,
            log_output: false,
        };
        let ran = run.run().await?;
        match ran.code {
            Some(0) => Ok(Health::Well),
            _ => Err(Failure::soft(format!("the check {program} {}", ran.how))),
        }
    }

    /// What monitors of this resource that are dead have left behind.
    fn leftovers(&self) -> Vec<tree::Process> {
        let ours = |process: &tree::Process| {
            let mark = mark_of(*process)?;
            let mut words = mark.split(' ');
            let whose = words.next()?;
            let monitor: i32 = words.next()?.parse().ok()?;
            let started: u64 = words.next()?.parse().ok()?;
            let alive = tree::look_at(monitor).is_some_and(|now| now.started == started);
            (whose == self.whose && !alive && !process.is_dead()).then_some(())
        };
        tree::all().filter(|process| ours(process).is_some()).collect()
    }
}

/// The mark in the environment of a process, if it has one and we may look.
fn mark_of(process: tree::Process) -> Option<String> {
    use std::io::Read;
    let path = format!("/proc/{}/environ", process.pid.as_raw_nonzero());
    let mut environment = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let mark = variables
        .find_map(|variable| variable.strip_prefix(MARK_VARIABLE.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(mark.to_vec()).ok()
}
