//! What a large cluster costs: the planner's time, and the store's.

mod load;
mod planner;

use anyhow::Result;
use model::Millis;

/// Measures and prints a line each.
pub fn measure(what: &Scale) -> Result<()> {
    planner::measure()?;
    match what.seconds {
        0 => Ok(()),
        seconds => load::measure(what.nodes, what.groups, Millis(what.ttl_ms), seconds),
    }
}

/// How large.
#[derive(Debug, clap::Args)]
pub struct Scale {
    /// How many idle nodes.
    #[arg(long, default_value_t = 64)]
    nodes: u32,
    /// Groups without members that the idle nodes own.
    #[arg(long, default_value_t = 64)]
    groups: u32,
    /// How long a lease lives without renewal, in milliseconds.
    #[arg(long, default_value_t = 3000)]
    ttl_ms: u64,
    /// How long the server's processor time is counted; 0: the planner alone.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}
