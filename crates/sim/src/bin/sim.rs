//! The search for violations on the command line; `cargo xtask sim` starts it.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sim::Mutant;
use sim::search::{self, Outcome};

const HELP: &str = "\
sim --seeds N              runs the seeds 0 to N-1
sim --seed N               runs one seed and prints its log
sim --mutants [--seeds N]  breaks the protocol in each way, up to N seeds each (default 400)
sim --mutant NAME --seed N | --seeds N
                           with the protocol broken in this way
sim --from N               begins with another seed than 0
sim --list                 names the ways in which the protocol can be broken
";

/// As many as a small machine has cores: more would only share them.
const THREADS: usize = 2;
/// Seeds that a mutant may live, unless told otherwise.
const MUTANT_SEEDS: u64 = 400;
/// Failing seeds that are printed.
const SHOWN_MAX: usize = 5;

#[derive(Debug, Default)]
struct Asked {
    seeds: Option<u64>,
    seed: Option<u64>,
    from: u64,
    mutant: Option<Mutant>,
    mutants: bool,
    list: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let asked = match read(&words) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let well = match asked {
        Asked { list: true, .. } => {
            Mutant::ALL.iter().for_each(|mutant| println!("{mutant}"));
            true
        }
        Asked { mutants: true, seeds, from, .. } => {
            all_mutants(from, seeds.unwrap_or(MUTANT_SEEDS))
        }
        Asked { seed: Some(seed), mutant, .. } => one(seed, mutant),
        Asked { seeds: Some(seeds), mutant, from, .. } => many(from, seeds, mutant),
        Asked { .. } => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(words: &[String]) -> Result<Asked, String> {
    let mut asked = Asked::default();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        match word {
            "--seeds" => asked.seeds = Some(number(value()?)?),
            "--seed" => asked.seed = Some(number(value()?)?),
            "--from" => asked.from = number(value()?)?,
            "--mutant" => {
                let name = value()?;
                let found = Mutant::named(name);
                asked.mutant = Some(found.ok_or(format!("there is no mutant {name}: --list"))?);
            }
            "--mutants" => asked.mutants = true,
            "--list" => asked.list = true,
            word => return Err(format!("what is {word}?")),
        }
    }
    Ok(asked)
}

/// The command that runs a seed again.
fn again(seed: u64, mutant: Option<Mutant>) -> String {
    let mutant = mutant.map(|mutant| format!(" --mutant {mutant}"));
    format!("cargo xtask sim --seed {seed}{}", mutant.unwrap_or_default())
}

fn one(seed: u64, mutant: Option<Mutant>) -> bool {
    let outcome = search::run(seed, mutant);
    for line in &outcome.log {
        println!("{line}");
    }
    println!("seed {seed}: {}, log {:016x}", outcome.cluster, outcome.digest);
    for violation in &outcome.violations {
        println!("VIOLATION {violation}");
    }
    outcome.violations.is_empty()
}

/// Runs seeds on all threads until one `stops`; answers what each run was, in the order of seeds.
fn sweep(
    from: u64,
    seeds: u64,
    mutant: Option<Mutant>,
    stops: impl Fn(&Outcome) -> bool + Sync,
) -> Vec<Outcome> {
    let next = AtomicU64::new(from);
    let end = AtomicU64::new(from.saturating_add(seeds));
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut outcome = search::run(seed, mutant);
                    outcome.log = Vec::new(); // It is made again when it is asked for.
                    if stops(&outcome) {
                        end.fetch_min(seed, Ordering::Relaxed);
                    }
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push(outcome);
                    }
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_default();
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}

fn many(from: u64, seeds: u64, mutant: Option<Mutant>) -> bool {
    let begun = Instant::now();
    let outcomes = sweep(from, seeds, mutant, |_| false);
    let failing: Vec<&Outcome> =
        outcomes.iter().filter(|outcome| !outcome.violations.is_empty()).collect();
    for outcome in failing.iter().take(SHOWN_MAX) {
        println!("seed {} ({}): {}", outcome.seed, outcome.cluster, again(outcome.seed, mutant));
        for violation in outcome.violations.iter().take(3) {
            println!("  {violation}");
        }
    }
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    println!(
        "{} seeds, {} with violations; {} faults and verbs, {} messages, {} moves of groups, \
         {:.1} days simulated in {:.0} s",
        outcomes.len(),
        failing.len(),
        sum(|outcome| outcome.faults as u64),
        sum(|outcome| outcome.messages as u64),
        sum(|outcome| outcome.moves as u64),
        sum(|outcome| outcome.simulated.0) as f64 / 86_400_000.0,
        begun.elapsed().as_secs_f64()
    );
    if failing.len() > SHOWN_MAX {
        let seeds: Vec<String> = failing.iter().map(|outcome| outcome.seed.to_string()).collect();
        println!("all of them: {}", seeds.join(" "));
    }
    failing.is_empty()
}

fn all_mutants(from: u64, seeds: u64) -> bool {
    let mut survivors = 0;
    for mutant in Mutant::ALL {
        let outcomes = sweep(from, seeds, Some(*mutant), |outcome| !outcome.violations.is_empty());
        let caught = outcomes.iter().find(|outcome| !outcome.violations.is_empty());
        match caught.and_then(|outcome| Some((outcome.seed, outcome.violations.first()?))) {
            Some((seed, violation)) => println!(
                "{mutant:<30} caught after {:>3} seeds by: {} ({})",
                seed - from + 1,
                violation.rule,
                again(seed, Some(*mutant))
            ),
            None => {
                survivors += 1;
                println!("{mutant:<30} SURVIVED {seeds} seeds");
            }
        }
    }
    println!("{} mutants, {survivors} survived", Mutant::ALL.len());
    survivors == 0
}
