//! What a kind of resource must answer.

use std::time::Duration;

use async_trait::async_trait;
use model::definition::EffectivePolicy;
use model::{Epoch, FailureReach};
use thiserror::Error;

/// Longest time that a health check of a kind without a limit of its own may take: it asks the
/// kernel, a bus or a name server, or runs a command that should be quick.
const CHECK_WITHIN: Duration = Duration::from_secs(30);

/// A failure of a resource, as a sentence, and how far it reaches.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{how}")]
pub struct Failure {
    /// What failed, where, and how to mend it.
    pub how: String,
    /// Whether another try, another node, or neither can help.
    pub reach: FailureReach,
}

impl Failure {
    /// It may work when it is tried again here.
    pub fn soft(how: impl Into<String>) -> Failure {
        Failure { how: how.into(), reach: FailureReach::Soft }
    }

    /// It cannot work on this node.
    pub fn hard(how: impl Into<String>) -> Failure {
        Failure { how: how.into(), reach: FailureReach::Hard }
    }

    /// It cannot work on any node.
    pub fn fatal(how: impl Into<String>) -> Failure {
        Failure { how: how.into(), reach: FailureReach::Fatal }
    }
}

/// What an operation on a resource came to.
pub type Outcome<T = ()> = Result<T, Failure>;

/// How a resource is that has not failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Well,
    /// It works, but poorly, as the sentence says.
    Poor(String),
}

/// One kind of resource. The monitor calls one operation at a time, and may drop any of them
/// before its end; what it has begun by then is undone by `offline` or `terminate`.
#[async_trait]
pub trait Driver: Send + Sync + 'static {
    /// Whether it is up on this machine, although nobody has activated it: left by a monitor that
    /// was killed.
    async fn probe(&self) -> Outcome<bool>;

    /// Brings it online. Returns when it works.
    async fn online(&self, epoch: Epoch) -> Outcome;

    /// Takes it offline in good order. `Ok` only when it is proven down.
    async fn offline(&self) -> Outcome;

    /// Takes it down by force, at once. `Ok` only when it is proven down. It runs on a runtime of
    /// its own when trust has ended, so it uses nothing that another operation may hold.
    async fn terminate(&self) -> Outcome;

    /// The cheap check.
    async fn looks_alive(&self) -> Outcome<Health>;

    /// The thorough check.
    async fn is_alive(&self) -> Outcome<Health>;

    /// Returns when it has failed, if that can be noticed without asking.
    async fn failed(&self) -> Failure {
        std::future::pending().await
    }

    /// How long `online` may take.
    fn online_within(&self, policy: &EffectivePolicy) -> Duration {
        policy.pending_timeout.as_duration()
    }

    /// How long a check may take.
    fn check_within(&self) -> Duration {
        CHECK_WITHIN
    }
}
