//! The background tasks of a store. The only file of this crate that spawns.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};

/// Tasks that are aborted when this is dropped, which is when the store that owns it is.
pub(crate) struct Tasks {
    runtime: Handle,
    running: Mutex<Vec<AbortHandle>>,
}

impl Tasks {
    /// No tasks yet; they will run on the runtime of the caller.
    pub(crate) fn new() -> Tasks {
        Tasks { runtime: Handle::current(), running: Mutex::new(Vec::new()) }
    }

    /// Starts a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        // A panic elsewhere while the lock was held leaves a list that is as good as before.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Forget those that have ended, or the list would grow with each connection made.
        running.retain(|task| !task.is_finished());
        let started = self.runtime.spawn(task);
        running.push(started.abort_handle());
        started
    }

    /// Ends all tasks.
    pub(crate) fn abort(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for task in running.drain(..) {
            task.abort();
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.abort();
    }
}
