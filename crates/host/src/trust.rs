//! The trust window of a host instance: it lets go by itself before its lease can pass on.
//!
//! A renewal that was sent at time t and granted with a ttl is trusted until t + ttl - margin by
//! this machine's boot clock. The node computes that moment; this process holds it in an atomic.
//! A thread of its own watches it and ends the process when it has passed: that takes no store,
//! no free worker thread and no lock. After a freeze (SIGSTOP, suspend) the thread finds the
//! moment passed as soon as it runs again; whoever was quicker is refused by the store's fence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::BootTime;

use crate::clock::boot_time;

/// Exit code of a process that let go because its trust ended or its fence was refused: the node
/// starts it again as a standby and does not count it as a failure.
pub const EXIT_LET_GO: i32 = 75;

/// Nothing is being done that needs trust.
const IDLE: u64 = u64::MAX;

/// Longest sleep of the watching thread, at rest: how late it may notice that a window was opened,
/// which is always far longer. Extensions need no notice, and an end that is known is slept
/// towards exactly. Shorter would only wake an idle machine.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Until when this process may act. Cloned handles share one window.
#[derive(Debug, Clone)]
pub struct Trust {
    until: Arc<AtomicU64>,
    #[cfg(feature = "failpoints")]
    blind: bool,
}

impl Trust {
    /// A window that is not open, and the thread that watches it.
    pub fn watched() -> std::io::Result<Trust> {
        let trust = Trust::unwatched();
        #[cfg(feature = "failpoints")]
        if crate::blow::is_blind() {
            return Ok(Trust { until: Arc::clone(&trust.until), blind: true });
        }
        let watched = trust.clone();
        std::thread::Builder::new().name("trust".into()).spawn(move || watched.watch())?;
        Ok(trust)
    }

    /// A window without a thread, for tests of drivers inside one process.
    pub fn unwatched() -> Trust {
        Trust {
            until: Arc::new(AtomicU64::new(IDLE)),
            #[cfg(feature = "failpoints")]
            blind: false,
        }
    }

    /// Opens or extends the window.
    pub fn extend(&self, until: BootTime) {
        self.until.store(until.0, Ordering::Release);
    }

    /// Extends the window if it is open.
    pub fn prolong(&self, until: BootTime) {
        let prolonged = |now: u64| (now != IDLE && now < until.0).then_some(until.0);
        let _ = self.until.fetch_update(Ordering::AcqRel, Ordering::Acquire, prolonged);
    }

    /// Nothing that needs trust goes on any more.
    pub fn rest(&self) {
        self.until.store(IDLE, Ordering::Release);
    }

    /// Whether an external action may still be begun.
    pub fn holds(&self) -> bool {
        #[cfg(feature = "failpoints")]
        if self.blind {
            return true;
        }
        boot_time().0 < self.until.load(Ordering::Acquire)
    }

    fn watch(&self) {
        loop {
            let until = self.until.load(Ordering::Acquire);
            let now = boot_time().0;
            if now >= until {
                // Without a word: a log that nobody reads could hold this thread up. The exit
                // code tells the node, and the node tells the operator.
                std::process::exit(EXIT_LET_GO);
            }
            std::thread::sleep(LOOK_EVERY.min(Duration::from_millis(until - now)));
        }
    }
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
    }
}
