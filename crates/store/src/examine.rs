//! What an examination of a store finds, said the same way for both engines.

use std::time::{Duration, Instant};

use model::{BootTime, Millis, Timestamp};

use crate::boot::boot_now;
use crate::{Finding, FindingResult, Result};

/// Between the two looks at the store's clock: long enough to tell a hundredth.
pub(crate) const CLOCK_SPAN: Duration = Duration::from_secs(1);

/// A clock may differ from ours by so many thousandths: ntpd and chrony slew by less than one.
const CLOCK_DIFFERENCE_PASSED: u64 = 20;

/// By more than this a lease could run out before its owner has stopped to trust it.
const CLOCK_DIFFERENCE_FAILED: u64 = 100;

/// An answer that takes longer makes renewals and takeovers slow to notice.
const ANSWER_SLOW: Duration = Duration::from_millis(250);

/// How one look went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) result: FindingResult,
    what: String,
    remedy: String,
}

impl Found {
    /// As it should be.
    pub(crate) fn passed(what: impl Into<String>) -> Found {
        Found { result: FindingResult::Passed, what: what.into(), remedy: String::new() }
    }

    /// It does not matter here.
    pub(crate) fn not_applicable(what: impl Into<String>) -> Found {
        Found { result: FindingResult::NotApplicable, what: what.into(), remedy: String::new() }
    }

    /// It works, but something will hurt one day.
    pub(crate) fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Found {
        Found { result: FindingResult::Warning, what: what.into(), remedy: remedy.into() }
    }

    /// It does not work.
    pub(crate) fn failed(what: impl Into<String>, remedy: impl Into<String>) -> Found {
        Found { result: FindingResult::Failed, what: what.into(), remedy: remedy.into() }
    }
}

/// Looks, within a limit, and says how it went: an error is a finding too.
pub(crate) async fn finding(
    id: &'static str,
    limit: Duration,
    look: impl Future<Output = Result<Found>>,
) -> Finding {
    let began = Instant::now();
    let found = match tokio::time::timeout(limit, look).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => Found::failed(
            format!("it could not be examined: {error}"),
            "mend what the sentence says, and examine again",
        ),
        Err(_) => Found::failed(
            format!("it could not be examined within {limit:?}"),
            "look at the load and the locks of the store, and at the network in between",
        ),
    };
    let took = Millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    let Found { result, what, remedy } = found;
    Finding { id, result, what, remedy, took }
}

/// How quickly a store answers, by the best of a few tries.
pub(crate) fn reach(place: &str, answered_in: Duration) -> Found {
    let what = format!("{place} answers in {:.1} ms", answered_in.as_secs_f64() * 1000.0);
    match answered_in > ANSWER_SLOW {
        false => Found::passed(what),
        true => Found::warning(
            what,
            "put the store nearer, or give the leases a ttl of many times as long",
        ),
    }
}

/// The store's clock as it was read, and our clock before and after.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockReading {
    before: BootTime,
    store: Timestamp,
    after: BootTime,
}

impl ClockReading {
    /// Reads both clocks.
    pub(crate) async fn take(now: impl Future<Output = Result<Timestamp>>) -> Result<ClockReading> {
        let before = boot_now();
        let store = now.await?;
        Ok(ClockReading { before, store, after: boot_now() })
    }

    /// Whether the store's clock ran as ours did between two readings.
    pub(crate) fn rate(first: ClockReading, second: ClockReading) -> Found {
        // A millisecond at each end, since both clocks are read in whole ones.
        let least = second.before.since(first.after).0.saturating_sub(1);
        let most = second.after.since(first.before).0 + 1;
        let store = second.store.0.saturating_sub(first.store.0);
        let ran = u64::try_from(store).unwrap_or(0);
        let off = least.saturating_sub(ran).max(ran.saturating_sub(most));
        let thousandths = off * 1000 / most.max(1);
        let what = format!(
            "the store's clock ran {store} ms while this machine's ran {least} to {most} ms"
        );
        let remedy = "let one time service slew both clocks instead of stepping them (chrony \
                      without makestep after the start), and look at the machine's clock source";
        if thousandths <= CLOCK_DIFFERENCE_PASSED {
            Found::passed(what)
        } else if thousandths <= CLOCK_DIFFERENCE_FAILED {
            Found::warning(what, remedy)
        } else {
            Found::failed(what, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(before: u64, store: i64, after: u64) -> ClockReading {
        ClockReading { before: BootTime(before), store: Timestamp(store), after: BootTime(after) }
    }

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off_for_certain() {
        let first = reading(1000, 50_000, 1010);
        for (store, result) in [
            (51_000, FindingResult::Passed),
            (51_020, FindingResult::Passed),
            (50_960, FindingResult::Warning),
            (51_080, FindingResult::Warning),
            (51_300, FindingResult::Failed),
            (50_500, FindingResult::Failed),
            (49_000, FindingResult::Failed),
        ] {
            let found = ClockReading::rate(first, reading(2000, store, 2010));
            assert_eq!(found.result, result, "{found:?}");
            assert_eq!(found.remedy.is_empty(), result == FindingResult::Passed);
        }
        // An answer that took long says less.
        let slow = ClockReading::rate(first, reading(2000, 51_300, 2400));
        assert_eq!(slow.result, FindingResult::Passed);
    }
}
