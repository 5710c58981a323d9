//! Runs one phase after another, and tells at the end how long each took.

use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// What ran so far.
#[derive(Default)]
pub(crate) struct Phases {
    finished: Vec<(&'static str, Duration)>,
}

impl Phases {
    /// Runs a phase; the first error ends the run.
    pub(crate) fn run<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        println!("=== {name}");
        let started = Instant::now();
        let result = work();
        self.finished.push((name, started.elapsed()));
        result.with_context(|| format!("{name} failed"))
    }

    /// The table of times.
    pub(crate) fn times(&self) -> String {
        let mut table = String::from("phase            seconds\n");
        for (name, time) in &self.finished {
            let _ = writeln!(table, "{name:<16} {:>7.1}", time.as_secs_f64());
        }
        let total: Duration = self.finished.iter().map(|(_, time)| time).sum();
        let _ = writeln!(table, "{:<16} {:>7.1}", "total", total.as_secs_f64());
        table
    }
}

/// Runs a program to its end, its output before everyone's eyes.
pub(crate) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("can't run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_fails_names_itself_and_has_its_time() {
        let mut phases = Phases::default();
        phases.run("first", || Ok(())).expect("it does nothing");
        let failed: anyhow::Result<()> = phases.run("second", || anyhow::bail!("no ink"));
        assert_eq!(format!("{:#}", failed.expect_err("it fails")), "second failed: no ink");
        let times = phases.times();
        assert!(times.contains("first") && times.contains("second") && times.contains("total"));
    }

    #[test]
    fn a_program_that_fails_is_named() {
        let error = succeed(&mut Command::new("false")).expect_err("it fails");
        assert!(error.to_string().contains("\"false\" ended with exit status: 1"), "{error}");
    }
}
