//! Processor time of processes.

use anyhow::{Context, Result};

/// Nanoseconds that the threads of a process have run so far: counted by the scheduler, where the
/// fields of `stat` are sampled a hundred times a second and miss what is short.
pub fn ran_ns(pid: i32) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread of the pool may have ended since.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next().context("a short schedstat")?.parse::<u64>()?;
    }
    Ok(sum)
}
