//! This machine's clock that counts suspend. The only clock that children decide by.

use model::BootTime;
use rustix::time::{ClockId, clock_gettime};

/// Reads `CLOCK_BOOTTIME`.
pub fn boot_time() -> BootTime {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    BootTime(seconds * 1000 + nanos / 1_000_000)
}
