//! What follows a failed send: another try after a wait, or the suspended queue.

use model::{Millis, definition::SendPort};

/// Shortest wait between two tries, whatever the port says: a wait of nothing would hammer a peer
/// that is down, and fill the store with settlements.
pub const RETRY_INTERVAL_MIN: Millis = Millis(100);

/// What follows a failed send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Try again.
    Retry {
        /// After this wait.
        after: Millis,
    },
    /// Wait for an operator (BizTalk: suspended, resumable).
    Suspend,
}

/// Decides after a try has failed. `failed_before` counts the failed tries before this one, so the
/// first try comes with 0; a port makes `1 + retries_max` tries in all.
pub fn after_failure(port: &SendPort, failed_before: u32) -> AfterFailure {
    if failed_before < port.retries_max {
        AfterFailure::Retry { after: port.retry_interval.max(RETRY_INTERVAL_MIN) }
    } else {
        AfterFailure::Suspend
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(retries_max: u32, retry_interval: &str) -> SendPort {
        serde_json::from_value(serde_json::json!({
            "name": "p", "host": "h", "filter": "true", "retries_max": retries_max,
            "retry_interval": retry_interval, "transport": {"file": {"folder": "/out"}},
        }))
        .expect("send port")
    }

    #[test]
    fn a_port_makes_one_try_and_its_retries() {
        let retry = AfterFailure::Retry { after: Millis::minutes(5) };
        for (retries_max, failed_before, then) in [
            (3, 0, retry),
            (3, 1, retry),
            (3, 2, retry),
            (3, 3, AfterFailure::Suspend),
            (3, u32::MAX, AfterFailure::Suspend),
            (0, 0, AfterFailure::Suspend),
        ] {
            assert_eq!(
                after_failure(&port(retries_max, "5m"), failed_before),
                then,
                "{failed_before} of {retries_max}"
            );
        }
    }

    #[test]
    fn no_wait_is_no_wait_at_all() {
        let then = after_failure(&port(3, "0s"), 0);
        assert_eq!(then, AfterFailure::Retry { after: RETRY_INTERVAL_MIN });
    }
}
