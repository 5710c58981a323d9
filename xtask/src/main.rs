//! `cargo xtask`: everything that CI does, for your own machine.

mod deps;
mod phases;
mod sim;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  tidy           Check our habits (STYLE.md): a second. Each message says how to mend it.
  test           What CI runs: deps, tidy, format, clippy, every test on real servers.
  test --quick   The part that needs no servers: tidy, format, unit tests.
  ci             As test, and a test that would be skipped fails instead.
  scenarios [PART]
                 Play the stories of the simulated cluster (those with PART in their file name)
                 and compare what happens with what they tell. BLESS=1 writes it anew.
  sim --seeds N  Search for violations: N simulated clusters, each with faults of its own.
  sim --seed N   Play one of them again, with its log.
  sim --mutants  Break the protocol in every way we know; each must be caught.
                 (--list names them, --mutant NAME breaks it in one way.)
  deps           Install the Debian packages that tests need, and fetch the FTP servers.
  help           This text.

Before a commit: cargo xtask test --quick. Before a push: cargo xtask test.
One test, again and again: cargo test -p CRATE NAME
It starts the servers that it needs by itself; without them it says SKIPPED
(shown with `-- --nocapture`), and with CI=true in the environment it fails.
One PostgreSQL for many such runs: BATON_TEST_POSTGRES_URL=postgresql://USER@HOST:PORT/DATABASE
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["tidy"] => tidy::run(&workspace()),
        ["test"] => test::full(&workspace(), in_ci()),
        ["test", "--quick"] => test::quick(&workspace()),
        ["ci"] => test::full(&workspace(), true),
        ["deps"] => deps::run(),
        ["scenarios", part @ ..] if part.len() <= 1 => sim::scenarios(&workspace(), part.first()),
        ["sim", words @ ..] => sim::search(&workspace(), words),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        unknown => {
            eprintln!("cargo xtask: unknown command: {}\n\n{HELP}", unknown.join(" "));
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}
