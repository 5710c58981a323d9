//! A blow that a test orders: at one of the failpoints this process, or its node, dies or freezes.
//!
//! Only compiled with the feature `failpoints`, which the product is never built with. The order is
//! an environment variable, so that it reaches the host through any number of parents.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, getppid, kill_process};

/// `POINT ACTION PASS FILE`: what happens when `POINT` is passed for the `PASS`th time. The file is
/// made when the blow falls, which happens once for all processes that have the order.
const ORDER_VARIABLE: &str = "BATON_BLOW";

/// Stopping reaches the threads of a process one by one; the one that asked for it waits here.
const STOPPED_WITHIN: Duration = Duration::from_millis(100);

/// What happens to whom.
#[derive(Debug, Clone, Copy)]
enum Action {
    /// This process is killed.
    KillHost,
    /// Its node is killed, and so the kernel kills this process too.
    KillNode,
    /// The node and this process are stopped; whoever reads the file may let them run on.
    Freeze,
}

/// Reads the order, if there is one, and waits for its moment.
pub(crate) fn arm() {
    let Ok(order) = std::env::var(ORDER_VARIABLE) else { return };
    let words: Vec<&str> = order.splitn(4, ' ').collect();
    let [point, action, pass, file] = words[..] else { panic!("{ORDER_VARIABLE}: {order:?}") };
    let action = match action {
        "kill-host" => Action::KillHost,
        "kill-node" => Action::KillNode,
        "freeze" => Action::Freeze,
        other => panic!("{ORDER_VARIABLE}: no action {other:?}"),
    };
    let pass: u32 = pass.parse().expect("a number of passes");
    let file = PathBuf::from(file);
    let passed = AtomicU32::new(0);
    let blow = move || {
        if passed.fetch_add(1, Ordering::Relaxed) + 1 == pass {
            strike(action, &file);
        }
    };
    fail::cfg_callback(point, blow).expect("a failpoint");
}

fn strike(action: Action, file: &PathBuf) {
    let (Ok(mut mark), Some(node)) = (File::create_new(file), getppid()) else { return };
    let us = getpid();
    let pids = format!("{} {}\n", node.as_raw_nonzero(), us.as_raw_nonzero());
    mark.write_all(pids.as_bytes()).expect("the test's file can be written");
    let send = |pid: Pid, signal| kill_process(pid, signal).expect("it is ours");
    match action {
        Action::KillHost => send(us, Signal::KILL),
        Action::KillNode => send(node, Signal::KILL),
        Action::Freeze => {
            send(node, Signal::STOP);
            send(us, Signal::STOP);
        }
    }
    std::thread::sleep(STOPPED_WITHIN);
}
