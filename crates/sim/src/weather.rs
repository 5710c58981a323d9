//! How well the store is reached: latency, slow calls, lost calls, lost hints.

/// How well the store is reached. Calm unless said otherwise; then every call takes the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// Each way takes up to so many milliseconds more.
    pub jitter: u64,
    /// Of a thousand calls, so many are slow.
    pub slow: u32,
    /// A slow call takes up to so many milliseconds more.
    pub slow_max: u64,
    /// Of a thousand calls, so many are lost, on the way there or on the way back.
    pub lost: u32,
    /// Of a thousand hints, so many are lost.
    pub hints_lost: u32,
}

impl Weather {
    /// Whether a node that is well renews its leases in time whatever luck it has.
    pub fn lets_renew(&self, ttl: u64) -> bool {
        self.lost == 0 && (self.slow == 0 || self.slow_max < ttl / 6)
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Luck {
    Fine,
    RequestLost,
    AnswerLost,
}
