//! The processes below this monitor: whatever it started, and whatever those forked.
//!
//! The monitor is the subreaper of them all: a process that loses its parent becomes a child of
//! the monitor, so none can hide by forking twice.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::time::{Instant, sleep};

use crate::{Failure, Outcome};

/// How often a wait for the end of processes looks again: short beside what their end takes.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Longest wait for the end of processes that were killed. What is alive after it sits in the
/// kernel, on a disk or a network file system that does not answer.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// Strays reaped at a time: a fork bomb must not hold the loop.
const REAPED_AT_ONCE: usize = 1000;

/// Children that somebody here waits for; nobody else may reap them.
static AWAITED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// A child that somebody here waits for.
pub(crate) struct Awaited(i32);

impl Awaited {
    /// From now until it is dropped.
    pub fn new(pid: u32) -> Awaited {
        let pid = pid.cast_signed();
        AWAITED.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
        Awaited(pid)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        AWAITED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Reaps children that nobody waits for: the orphans of what we started.
pub(crate) fn reap_strays() {
    for _ in 0..REAPED_AT_ONCE {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let Ok(status) = waitid(Id::All, peek) else { return };
        let Some(pid) = status.pid() else { return };
        let awaited =
            AWAITED.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid.as_raw());
        if awaited || waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
            return;
        }
    }
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub pid: Pid,
    parent: i32,
    dead: bool,
    /// When it started, in ticks since the machine did: with the pid it names it for ever.
    pub started: u64,
}

impl Process {
    /// Whether it has ended and only waits to be reaped.
    pub fn is_dead(self) -> bool {
        self.dead
    }
}

/// All processes of this machine that may be looked at.
pub(crate) fn all() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter_map(look_at)
}

/// A process, unless it is gone.
pub(crate) fn look_at(pid: i32) -> Option<Process> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads a line of /proc/PID/stat, whose second field may hold blanks and brackets.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (_, after_name) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = after_name.split(' ').collect();
    Some(Process {
        pid: Pid::from_raw(pid.parse().ok()?)?,
        parent: fields.get(1)?.parse().ok()?,
        dead: matches!(*fields.first()?, "Z" | "X"),
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Every living process below this one.
pub(crate) fn descendants() -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all() {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut to_visit = vec![getpid().as_raw_nonzero().get()];
    while let Some(parent) = to_visit.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            to_visit.push(process.pid.as_raw_nonzero().get());
            found.push(process);
        }
    }
    found.retain(|process| !process.dead);
    found
}

/// Waits until nothing lives below this process, but not longer than this.
pub(crate) async fn all_gone(within: Duration) -> bool {
    let give_up_at = Instant::now() + within;
    loop {
        reap_strays();
        if descendants().is_empty() {
            return true;
        }
        if Instant::now() >= give_up_at {
            return false;
        }
        sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// Kills everything below this process.
pub(crate) async fn kill_descendants() -> Outcome {
    kill(descendants).await
}

/// Kills these processes, and those that appear meanwhile, and waits until none is left.
pub(crate) async fn kill(find: impl Fn() -> Vec<Process>) -> Outcome {
    let give_up_at = Instant::now() + KILLED_WITHIN;
    loop {
        reap_strays();
        let alive = find();
        if alive.is_empty() {
            return Ok(());
        }
        for process in &alive {
            // One that has ended meanwhile is what we want.
            let _ = kill_process(process.pid, Signal::KILL);
        }
        if Instant::now() >= give_up_at {
            return Err(Failure::soft(format!(
                "process {} does not die of SIGKILL: it hangs in the kernel, on a disk or a \
                 network file system that does not answer",
                alive[0].pid
            )));
        }
        sleep(LOOK_AGAIN_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_awkward_process_name_is_passed_over() {
        let line = format!("12 (a) b (c)) S 7 12 12 {}99 1", "0 ".repeat(15));
        let process = parse(&line).expect("a line");
        assert_eq!((process.parent, process.dead, process.started), (7, false, 99));
        assert_eq!(parse(""), None);
        assert_eq!(parse("12 (a"), None);
    }
}
