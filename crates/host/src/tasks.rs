//! The only place of this crate that starts tasks: each belongs to a set that ends it.

use std::future::Future;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Tasks that live and end together.
pub(crate) struct Tasks<T: Send + 'static> {
    set: JoinSet<T>,
    drain: CancellationToken,
}

impl<T: Send + 'static> Tasks<T> {
    /// No tasks yet. `drain` is what asks them to come to an end.
    pub fn new(drain: CancellationToken) -> Tasks<T> {
        Tasks { set: JoinSet::new(), drain }
    }

    /// Starts a task.
    pub fn start(&mut self, task: impl Future<Output = T> + Send + 'static) {
        self.set.spawn(task);
    }

    /// Asks all to come to an end: finish what is begun, begin nothing new.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// The next task that has ended; none when there are no more. A panic in a task goes on
    /// here: a bug ends the process, which is safe because the fence outlives it.
    pub async fn next(&mut self) -> Option<T> {
        match self.set.join_next().await? {
            Ok(value) => Some(value),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => None,
        }
    }

    /// Ends all at once, wherever they are, and waits until they are gone.
    pub async fn abort(&mut self) {
        self.set.shutdown().await;
    }
}
