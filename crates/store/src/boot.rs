//! This machine's clock that never stands still nor jumps.

use model::BootTime;

/// `CLOCK_BOOTTIME`.
pub(crate) fn boot_now() -> BootTime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
    BootTime(seconds * 1000 + millis)
}
