//! A command that is run to its end: bounded in time and output, and dead when nobody waits.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::flow::{Flow, Kept};
use crate::tree::Awaited;
use crate::{Failure, Outcome, launch};

/// What is kept of a command's output.
pub(crate) const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// How long to read on after a command has ended: a daemon that it left behind may hold its
/// output open for ever.
const READ_ON_FOR: Duration = Duration::from_millis(50);

/// How a command ended.
pub(crate) struct Ran {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The beginning of its standard output.
    pub output: Kept,
    /// How it ended, with its last words: `ended with exit code 3: no such table`.
    pub how: String,
}

/// A command about to run.
pub(crate) struct Run<'a> {
    /// The resource, for the log.
    pub resource: &'a str,
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [String],
    /// Environment variables besides ours.
    pub environment: &'a [(String, String)],
    /// How long it may take.
    pub within: Duration,
    /// Whether its standard output goes to the log; else only what it says on standard error.
    pub log_output: bool,
}

impl Run<'_> {
    /// Runs it. The error says that it could not be started or took too long.
    pub async fn run(self) -> Outcome<Ran> {
        let shown = self.program.display();
        let mut command = launch::command(self.program);
        command.args(self.arguments).envs(self.environment.iter().cloned());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::soft(format!("cannot start {shown}: {error}")))?;
        let mut group = child.id().map(Group::of);
        match timeout(self.within, self.watch(&mut child)).await {
            Ok(Ok(ran)) => {
                if let Some(group) = &mut group {
                    group.pid = None;
                }
                Ok(ran)
            }
            Ok(Err(error)) => Err(Failure::soft(format!("cannot wait for {shown}: {error}"))),
            Err(_) => Err(Failure::soft(format!(
                "{shown} {} did not end within {:?} and was killed",
                self.arguments.first().map_or("", String::as_str),
                self.within
            ))),
        }
    }

    async fn watch(&self, child: &mut Child) -> std::io::Result<Ran> {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = (Flow::new(self.resource), Flow::new(self.resource));
        let (mut output, mut ignored) = (Kept::at_most(OUTPUT_BYTES_MAX), Kept::at_most(0));
        let status = {
            let log_output = self.log_output;
            let read = async {
                let first = async {
                    match stdout {
                        Some(stream) if log_output => out.drink(stream, &mut output).await,
                        Some(stream) => output.drink(stream).await,
                        None => {}
                    }
                };
                let second = async {
                    if let Some(stream) = stderr {
                        err.drink(stream, &mut ignored).await;
                    }
                };
                tokio::join!(first, second);
            };
            tokio::pin!(read);
            let (status, read_all) = tokio::select! {
                status = child.wait() => (status?, false),
                () = &mut read => (child.wait().await?, true),
            };
            if !read_all {
                let _ = timeout(READ_ON_FOR, read).await;
            }
            status
        };
        let words = if err.last_line().is_empty() { out.last_line() } else { err.last_line() };
        Ok(Ran { code: status.code(), how: ending(status, words), output })
    }
}

/// How a process ended, and its last words.
pub(crate) fn ending(status: ExitStatus, last_words: &str) -> String {
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended: {status}"),
    };
    if last_words.is_empty() { ended } else { format!("{ended}: {last_words}") }
}

/// The process group of a command: killed when the command was not waited for to its end. After
/// that, what it has left behind is what it was run for.
struct Group {
    pid: Option<Pid>,
    _awaited: Awaited,
}

impl Group {
    fn of(pid: u32) -> Group {
        Group { pid: Pid::from_raw(pid.cast_signed()), _awaited: Awaited::new(pid) }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}
