//! The tasks of a node and of its monitors: each belongs to a set that ends it. Nowhere else in
//! their crates are tasks started.

use std::future::Future;

use tokio::task::JoinSet;

/// Tasks that live and end together.
pub struct Tasks<T: Send + 'static> {
    set: JoinSet<T>,
}

impl<T: Send + 'static> Default for Tasks<T> {
    fn default() -> Self {
        Tasks::new()
    }
}

impl<T: Send + 'static> Tasks<T> {
    /// No tasks yet.
    pub fn new() -> Tasks<T> {
        Tasks { set: JoinSet::new() }
    }

    /// Starts a task.
    pub fn start(&mut self, task: impl Future<Output = T> + Send + 'static) {
        self.set.spawn(task);
    }

    /// The next task that has ended; none when there are no more. A panic in a task goes on
    /// here: a bug ends the process, which is safe: the fence outlives a host, and the next monitor
    /// takes down what it finds running.
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
