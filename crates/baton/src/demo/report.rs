//! What the demo tells: the story while it happens, and the proof at its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::proof::Delivered;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// SIGKILL of the receive host's process.
    #[value(name = "kill-host")]
    HostKilled,
    /// SIGKILL of the owner node and all its hosts.
    #[value(name = "kill-node")]
    NodeKilled,
    /// SIGSTOP of the owner node and all its hosts; SIGCONT when another one has taken over.
    #[value(name = "freeze-node")]
    NodeFrozen,
    /// The owner node cut off from the store, while it still reaches the partner.
    #[value(name = "cut-store")]
    NodeCutOff,
    /// `baton group move` under load.
    #[value(name = "move")]
    Moved,
}

impl Kind {
    /// The kinds in the order in which they happen. A node can be cut off from a store that it
    /// reaches over a network.
    pub fn all(over_network: bool) -> Vec<Kind> {
        let mut kinds = vec![Kind::HostKilled, Kind::NodeKilled, Kind::NodeFrozen];
        if over_network {
            kinds.push(Kind::NodeCutOff);
        }
        kinds.push(Kind::Moved);
        kinds
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Kind::HostKilled => "host killed",
            Kind::NodeKilled => "node killed",
            Kind::NodeFrozen => "node frozen",
            Kind::NodeCutOff => "node cut off",
            Kind::Moved => "planned move",
        }
    }
}

/// A fault and what came of it.
#[derive(Debug, Clone)]
pub struct Fault {
    pub number: u32,
    pub kind: Kind,
    pub from: String,
    pub to: String,
    pub epoch: u64,
    pub evidence: String,
    pub reason: String,
    pub gap: Duration,
}

/// How the demo ended.
#[derive(Debug)]
pub struct Outcome {
    pub sent: u32,
    pub delivered: Delivered,
    pub faults: Vec<Fault>,
    pub store: String,
    pub seconds: f64,
}

impl Outcome {
    /// Files that did not arrive.
    pub fn lost(&self) -> u32 {
        self.sent.saturating_sub(self.delivered.received)
    }

    /// Whether every file arrived exactly once with its own bytes.
    pub fn is_proof(&self) -> bool {
        self.lost() == 0 && self.delivered.duplicates == 0 && self.delivered.corrupt == 0
    }

    fn gaps(&self) -> BTreeMap<Kind, Gap> {
        let mut by_kind: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
        for fault in &self.faults {
            by_kind.entry(fault.kind).or_default().push(fault.gap);
        }
        by_kind.into_iter().map(|(kind, gaps)| (kind, Gap::of(gaps))).collect()
    }
}

/// The gaps of one kind of fault, in milliseconds.
#[derive(Debug, PartialEq, Serialize)]
struct Gap {
    count: usize,
    median: u128,
    max: u128,
}

impl Gap {
    fn of(mut gaps: Vec<Duration>) -> Gap {
        gaps.sort();
        let at = |place: usize| gaps.get(place).map_or(0, Duration::as_millis);
        Gap { count: gaps.len(), median: at(gaps.len() / 2), max: at(gaps.len().wrapping_sub(1)) }
    }
}

/// Tells what happens, line by line.
pub struct Story {
    begun: Instant,
    to_stderr: bool,
}

impl Story {
    /// A story that begins now.
    pub fn new(to_stderr: bool) -> Story {
        Story { begun: Instant::now(), to_stderr }
    }

    /// One line, with the time since the begin.
    pub fn line(&mut self, text: &str) {
        let line = format!("{:6.1}s  {text}", self.begun.elapsed().as_secs_f64());
        if self.to_stderr {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    /// A fault that is over.
    pub fn fault(&mut self, fault: &Fault, faults: u32, offered: u32, delivered: u32) {
        let heir = if fault.from == fault.to {
            format!("{} goes on", fault.to)
        } else {
            format!("{} takes over from {}", fault.to, fault.from)
        };
        self.line(&format!(
            "fault {:>2}/{faults} {:<12}  {heir} after {:>5} ms (epoch {}, {})   \
             {delivered} of {offered} delivered",
            fault.number,
            fault.kind.words(),
            fault.gap.as_millis(),
            fault.epoch,
            fault.evidence,
        ));
        self.line(&format!("             because {}", fault.reason));
    }
}

/// Prints the proof.
pub fn print(outcome: &Outcome, json: bool) {
    let gaps = outcome.gaps();
    if json {
        let line = serde_json::json!({
            "sent": outcome.sent,
            "received": outcome.delivered.received,
            "lost": outcome.lost(),
            "duplicates": outcome.delivered.duplicates,
            "corrupt": outcome.delivered.corrupt,
            "faults": outcome.faults.len(),
            "gap_ms": gaps.iter().map(|(kind, gap)| (key(*kind), gap)).collect::<BTreeMap<_, _>>(),
            "store": outcome.store,
            "seconds": (outcome.seconds * 10.0).round() / 10.0,
        });
        println!("{line}");
        return;
    }
    println!();
    println!("  gap without an active instance      faults    median       max");
    for (kind, gap) in &gaps {
        println!("  {:<34} {:>7} {:>6} ms {:>6} ms", kind.words(), gap.count, gap.median, gap.max);
    }
    println!();
    println!(
        "  sent {}   received {}   lost {}   duplicates {}   corrupt {}",
        outcome.sent,
        outcome.delivered.received,
        outcome.lost(),
        outcome.delivered.duplicates,
        outcome.delivered.corrupt
    );
    let verdict = if outcome.is_proof() {
        "every file arrived exactly once, with its own bytes"
    } else {
        "NOT every file arrived exactly once"
    };
    println!("  {verdict}");
}

fn key(kind: Kind) -> String {
    kind.words().replace(' ', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_has_a_median_and_a_maximum() {
        let gaps = [30, 10, 20].map(Duration::from_millis).to_vec();
        assert_eq!(Gap::of(gaps), Gap { count: 3, median: 20, max: 30 });
    }

    #[test]
    fn a_lost_file_is_no_proof() {
        let delivered = Delivered { received: 9, ..Delivered::default() };
        let outcome =
            Outcome { sent: 10, delivered, faults: Vec::new(), store: String::new(), seconds: 1.0 };
        assert_eq!(outcome.lost(), 1);
        assert!(!outcome.is_proof());
    }
}
