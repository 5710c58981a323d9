//! The trust window of a child process: it lets go by itself before its lease can pass on.
//!
//! A renewal that was sent at time t and granted with a ttl is trusted until t + ttl - margin by
//! this machine's boot clock. The node computes that moment; this process holds it in an atomic.
//! A thread of its own watches it and ends the process when it has passed: that takes no store,
//! no free worker thread and no lock. After a freeze (SIGSTOP, suspend) the thread finds the
//! moment passed as soon as it runs again; whoever was quicker is refused by the store's fence.
//!
//! What a monitor drives does not end with the monitor. It hands in a last act, which the end of
//! trust runs on a thread of its own, and does not wait for longer than a given time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, Thread};
use std::time::Duration;

use model::BootTime;

use crate::clock::boot_time;

/// Exit code of a process that let go because its trust ended or its fence was refused: the node
/// starts it again as a standby and does not count it as a failure.
pub const EXIT_LET_GO: i32 = 75;

/// Exit code of a process whose last act was not done in time: what it drives may still be up.
pub const EXIT_NOT_DOWN: i32 = 70;

/// Nothing is being done that needs trust.
const IDLE: u64 = u64::MAX;

/// Longest sleep of the watching thread, at rest: how late it may notice that a window was opened,
/// which is always far longer. Extensions need no notice, and an end that is known is slept
/// towards exactly. Shorter would only wake an idle machine.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The window was closed for good.
const ENDED: u64 = 0;

/// What a process does between the end of its trust and its own end.
pub struct LastAct {
    /// What it does.
    pub act: Box<dyn FnOnce() + Send>,
    /// How long it may take; then the process ends all the same.
    pub within: Duration,
}

/// Until when this process may act. Cloned handles share one window.
#[derive(Debug, Clone)]
pub struct Trust {
    until: Arc<AtomicU64>,
    watcher: Arc<OnceLock<Thread>>,
    #[cfg(feature = "failpoints")]
    blind: bool,
}

impl Trust {
    /// A window that is not open, and the thread that watches it. The process ends with it.
    pub fn watched() -> std::io::Result<Trust> {
        Trust::watch_with(|| EXIT_LET_GO)
    }

    /// The same with a last act. Its thread is started now: at the end there may be no room for
    /// one.
    pub fn watched_with(last: LastAct) -> std::io::Result<Trust> {
        let (begin, begun) = mpsc::sync_channel::<()>(1);
        let (end, ended) = mpsc::sync_channel::<()>(1);
        thread::Builder::new().name("last-act".into()).spawn(move || {
            if begun.recv().is_ok() {
                (last.act)();
                let _ = end.send(());
            }
        })?;
        Trust::watch_with(move || {
            let _ = begin.send(());
            // Not done in time, or it has panicked: the process ends in any case.
            ended.recv_timeout(last.within).map_or(EXIT_NOT_DOWN, |()| EXIT_LET_GO)
        })
    }

    fn watch_with(last: impl FnOnce() -> i32 + Send + 'static) -> std::io::Result<Trust> {
        let trust = Trust::unwatched();
        #[cfg(feature = "failpoints")]
        if is_blind() {
            return Ok(Trust { blind: true, ..trust });
        }
        let watched = trust.clone();
        let thread = thread::Builder::new().name("trust".into()).spawn(move || {
            watched.watch();
            let code = last();
            // Without a word: a log that nobody reads could hold this thread up. The exit
            // code tells the node, and the node tells the operator.
            std::process::exit(code);
        })?;
        let _ = trust.watcher.set(thread.thread().clone());
        Ok(trust)
    }

    /// A window without a thread, for tests of drivers inside one process.
    pub fn unwatched() -> Trust {
        Trust {
            until: Arc::new(AtomicU64::new(IDLE)),
            watcher: Arc::new(OnceLock::new()),
            #[cfg(feature = "failpoints")]
            blind: false,
        }
    }

    /// Opens or extends the window, unless it was closed for good.
    pub fn extend(&self, until: BootTime) {
        self.change(|now| (now != ENDED).then_some(until.0));
    }

    /// Extends the window if it is open.
    pub fn prolong(&self, until: BootTime) {
        self.change(|now| (now != IDLE && now < until.0 && now != ENDED).then_some(until.0));
    }

    /// Nothing that needs trust goes on any more.
    pub fn rest(&self) {
        self.change(|now| (now != ENDED).then_some(IDLE));
    }

    /// Closes the window for good: the process does its last act, and ends.
    pub fn end(&self) {
        self.until.store(ENDED, Ordering::Release);
        if let Some(watcher) = self.watcher.get() {
            watcher.unpark();
        }
    }

    fn change(&self, next: impl FnMut(u64) -> Option<u64>) {
        let _ = self.until.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    /// Whether an external action may still be begun.
    pub fn holds(&self) -> bool {
        #[cfg(feature = "failpoints")]
        if self.blind {
            return true;
        }
        boot_time().0 < self.until.load(Ordering::Acquire)
    }

    /// Returns when the window has ended.
    fn watch(&self) {
        loop {
            let until = self.until.load(Ordering::Acquire);
            let now = boot_time().0;
            if now >= until {
                return;
            }
            thread::park_timeout(LOOK_EVERY.min(Duration::from_millis(until - now)));
        }
    }
}

/// Says that trust never ends here: the fence alone must hold off a zombie then.
#[cfg(feature = "failpoints")]
const BLIND_VARIABLE: &str = "BATON_BLIND";

/// Whether a test wants this process to trust itself for ever.
#[cfg(feature = "failpoints")]
fn is_blind() -> bool {
    std::env::var_os(BLIND_VARIABLE).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_until_its_end() {
        let trust = Trust::unwatched();
        assert!(trust.holds(), "at rest nothing is forbidden");
        trust.extend(boot_time().after(model::Millis::hours(1)));
        assert!(trust.holds());
        trust.extend(boot_time());
        assert!(!trust.holds());
        trust.end();
        trust.extend(boot_time().after(model::Millis::hours(1)));
        trust.rest();
        assert!(!trust.holds(), "an end is for good");
    }
}
