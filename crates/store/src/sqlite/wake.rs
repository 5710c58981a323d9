//! Wake-up hints between the processes of a machine: a byte written into a file, seen by inotify.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::watch;

use crate::{Topic, Wakes};

const TOPICS: [(Topic, &str); 3] =
    [(Topic::Cluster, "wake-cluster"), (Topic::Work, "wake-work"), (Topic::Events, "wake-events")];

/// Room for some hundred events; more of them stay in the kernel for the next read.
const EVENTS_BYTES: usize = 4096;

/// The wake files of a store, and who waits for them in this process.
pub(super) struct WakeFiles {
    files: HashMap<Topic, File>,
    hints: HashMap<Topic, watch::Receiver<u64>>,
    stop: OwnedFd,
}

impl WakeFiles {
    /// Opens the files and starts the thread that watches them.
    pub(super) fn open(folder: &Path) -> io::Result<WakeFiles> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut files = HashMap::new();
        let mut hints = HashMap::new();
        let mut senders = HashMap::new();
        for (topic, name) in TOPICS {
            let path = folder.join(name);
            let file = File::options().write(true).create(true).truncate(false).open(&path)?;
            files.insert(topic, file);
            let watch = inotify::add_watch(&inotify, &path, WatchFlags::MODIFY)?;
            let (sender, receiver) = watch::channel(0);
            senders.insert(watch, sender);
            hints.insert(topic, receiver);
        }
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
        let stopped = stop.try_clone()?;
        std::thread::Builder::new().name("store-wake".into()).spawn(move || {
            if let Err(error) = run(&inotify, &stopped, &senders) {
                tracing::warn!(%error, "no more wake-up hints from other processes: polling only");
            }
            // Ends with the store, not before: without a sender waiters would wait for ever, which
            // is right, because polling is the truth.
        })?;
        Ok(WakeFiles { files, hints, stop })
    }

    /// Wakes whoever waits for this topic, in this process and all others.
    pub(super) fn wake(&self, topic: Topic) {
        // A hint that cannot be given is a poll's delay, nothing more.
        if let Some(file) = self.files.get(&topic)
            && let Err(error) = file.write_at(b"!", 0)
        {
            tracing::debug!(%error, ?topic, "a wake-up hint could not be given");
        }
    }

    pub(super) fn subscribe(&self, topic: Topic) -> Wakes {
        let mut receiver = self.hints[&topic].clone();
        receiver.mark_unchanged();
        Wakes { receiver }
    }
}

impl Drop for WakeFiles {
    fn drop(&mut self) {
        // It fails only if the counter overflows, and nobody else writes to it.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }
}

fn run(
    inotify: &OwnedFd,
    stop: &OwnedFd,
    senders: &HashMap<i32, watch::Sender<u64>>,
) -> rustix::io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
    let mut events = inotify::Reader::new(inotify, &mut buffer);
    loop {
        let mut waits = [PollFd::new(inotify, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut waits, None))?;
        if !waits[1].revents().is_empty() {
            return Ok(());
        }
        loop {
            match events.next() {
                Ok(event) => {
                    if let Some(sender) = senders.get(&event.wd()) {
                        sender.send_modify(|hints| *hints += 1);
                    }
                }
                Err(Errno::WOULDBLOCK) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
