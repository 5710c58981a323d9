//! Scripts: a cluster and what happens to it, line by line, as an operator would tell it.
//!
//! ```text
//! nodes a b c
//! ttl 3s
//! group partners preferred a b restarts 1
//! resource front ip_address group partners
//! host receive group partners depends front
//!
//! at 0s    start all
//! at 5s    kill node a evidence=silent
//! until 12s
//! ```
//!
//! The settings of groups, hosts and resources are those of [`settings`]; what may happen is in
//! [`perform`].

mod acts;
pub mod settings;

use std::fmt;
use std::str::FromStr;

use cluster::Timing;
use model::{Definitions, Millis, NodeName};

use crate::World;

pub use acts::perform;

/// A cluster and what happens to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Its nodes.
    pub nodes: Vec<NodeName>,
    /// Its definitions.
    pub definitions: Definitions,
    /// Its timing.
    pub timing: Timing,
    /// What happens, and when.
    pub acts: Vec<Act>,
    /// When it ends.
    pub until: Millis,
    /// Whether reports of resources stand in the log.
    pub log_reports: bool,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// When.
    pub at: Millis,
    /// What, in the words of the script.
    pub what: String,
    /// The line of the script that says so.
    pub line: usize,
}

/// A line that says nothing that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclear {
    /// Its number, from one.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for Unclear {}

impl FromStr for Script {
    type Err = Unclear;

    fn from_str(text: &str) -> Result<Script, Unclear> {
        let mut script = Script {
            nodes: Vec::new(),
            definitions: Definitions::default(),
            timing: Timing::of(Timing::TTL_DEFAULT),
            acts: Vec::new(),
            until: Millis(0),
            log_reports: false,
        };
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let words: Vec<&str> = line.split_whitespace().collect();
            script.take(&words, line_number).map_err(|why| Unclear { line: line_number, why })?;
        }
        script.acts.sort_by_key(|act| act.at);
        Ok(script)
    }
}

impl Script {
    fn take(&mut self, words: &[&str], line: usize) -> Result<(), String> {
        match words {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["nodes", names @ ..] => {
                for name in names {
                    self.nodes.push(settings::name(name)?);
                }
            }
            ["ttl", ttl] => self.timing = Timing::of(settings::millis(ttl)?),
            ["reports"] => self.log_reports = true,
            ["group" | "host" | "resource", ..] => settings::define(&mut self.definitions, words)?,
            ["at", at, act @ ..] => {
                let at = settings::millis(at)?;
                self.acts.push(Act { at, what: act.join(" "), line });
            }
            ["until", at] => self.until = settings::millis(at)?,
            [first, ..] => return Err(format!("no line of a script begins with {first:?}")),
        }
        Ok(())
    }

    /// Plays it from the begin to the end.
    pub fn play(&self) -> Result<World, Unclear> {
        let mut world = World::new(&self.nodes, self.definitions.clone(), self.timing);
        world.log_reports = self.log_reports;
        for act in &self.acts {
            world.run_until(act.at);
            world.say("--", &act.what);
            perform(&mut world, &act.what).map_err(|why| Unclear { line: act.line, why })?;
        }
        world.run_until(self.until);
        Ok(world)
    }
}
