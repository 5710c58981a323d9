//! Holds back what a machine sends and receives, in a netfilter queue that a thread of ours reads.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use nfq::{Message, Queue, Verdict};

use super::enter;
use crate::process::output_of;

/// The number of the queue; a namespace has numbers of its own.
const QUEUE: u16 = 1;

/// Most packets that are held at a time; more are lost, as in a switch that is full. At 200 ms
/// that is 80,000 packets a second.
const HELD_MAX: u32 = 16 * 1024;

/// How often the thread looks: a millisecond more or less is nothing beside any delay we make.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A delay in force. Dropping it lets what is held go, and ends it.
#[derive(Debug)]
pub(super) struct Delay {
    space: String,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Delay {
    /// Delays everything on `eth0` of a namespace, each way.
    pub(super) fn begin(path: PathBuf, space: String, by: Duration) -> anyhow::Result<Delay> {
        let (opened_sender, opened) = mpsc::sync_channel(1);
        let ends = Arc::new(AtomicBool::new(false));
        let ends_too = ends.clone();
        let thread = thread::Builder::new().name("delay".into()).spawn(move || {
            let queue = enter(&path).and_then(|()| open());
            match queue {
                Ok(queue) => {
                    let _ = opened_sender.send(Ok(()));
                    hold_back(queue, by, &ends_too);
                }
                Err(error) => drop(opened_sender.send(Err(error))),
            }
        })?;
        let delay = Delay { space, ends, thread: Some(thread) };
        opened.recv().context("the thread that delays has ended")??;
        for (chain, side) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
            delay.rule("-A", chain, side)?;
        }
        Ok(delay)
    }

    fn rule(&self, verb: &str, chain: &str, side: &str) -> anyhow::Result<String> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space, "iptables", verb, chain, side, "eth0"]).args([
            "-j",
            "NFQUEUE",
            "--queue-num",
            &QUEUE.to_string(),
        ]);
        output_of(command)
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        // First the rules: packets that meet a queue that nobody reads are lost.
        for (chain, side) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
            let _ = self.rule("-D", chain, side);
        }
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open() -> anyhow::Result<Queue> {
    let why = "the kernel gives no netfilter queue (NETFILTER_NETLINK_QUEUE)";
    let mut queue = Queue::open().context(why)?;
    queue.bind(QUEUE).context(why)?;
    queue.set_queue_max_len(QUEUE, HELD_MAX)?;
    queue.set_nonblocking(true);
    Ok(queue)
}

fn hold_back(mut queue: Queue, by: Duration, ends: &AtomicBool) {
    let mut held: VecDeque<(Instant, Message)> = VecDeque::new();
    loop {
        match queue.recv() {
            Ok(message) => {
                held.push_back((Instant::now() + by, message));
                continue;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The kernel lost some for want of room: so does a network.
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {}
            Err(error) => {
                eprintln!("the netfilter queue broke, and with it the delay: {error}");
                return;
            }
        }
        let ends = ends.load(Ordering::Relaxed);
        while held.front().is_some_and(|(due, _)| ends || *due <= Instant::now()) {
            let Some((_, mut message)) = held.pop_front() else { break };
            message.set_verdict(Verdict::Accept);
            let _ = queue.verdict(message);
        }
        if ends {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
}
