//! The command line for operators: noun, then verb. Each noun is a file; this one has the words.
//!
//! A verb asks the store, decides nothing itself, and prints by `render`. What goes wrong is an
//! error whose text is a sentence; [`exit_code`] turns it into the documented number.

mod definitions;
mod group;
mod host;
mod message;
mod refused;
mod session;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use crate::config::{ConfigError, Given};
use crate::yaml::Invalid;

pub use definitions::{ApplyArgs, CheckArgs, DiffArgs};
pub use group::GroupVerb;
pub use host::HostVerb;
pub use message::MessageVerb;
pub use refused::Refused;
pub use status::StatusArgs;

/// Everything went well.
pub const EXIT_OK: u8 = 0;
/// It was tried and failed.
pub const EXIT_FAILED: u8 = 1;
/// The command line is wrong (clap's own number).
pub const EXIT_USAGE: u8 = 2;
/// Definitions or a setting are invalid, or a rule forbids it. Nothing was changed.
pub const EXIT_REFUSED: u8 = 3;
/// The store cannot be reached.
pub const EXIT_UNAVAILABLE: u8 = 4;
/// `baton diff` found differences.
pub const EXIT_DIFFERENT: u8 = 5;

/// What `--help` says below the list of verbs.
pub const HELP_AFTER: &str = "\
Examples:
  baton check definitions.yaml              look for mistakes, without a store
  baton diff definitions/                   what would change
  baton apply definitions/                  put it in force, on all nodes at once
  baton status --watch                      the whole cluster on one screen
  baton group move partners --to node-b     a planned move
  baton why partners                        why it is where it is, what would follow
  baton message list --state suspended      what waits for you

Exit codes:
  0  done
  1  failed
  2  the command line is wrong
  3  refused: definitions or settings are invalid, or a rule forbids it; nothing was changed
  4  the store is not available
  5  baton diff: there are differences";

/// What every verb takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The store: sqlite:/path/to/baton.db, or postgresql://user@host/database.
    ///
    /// Default: `store` of the configuration file, then sqlite:/var/lib/baton/baton.db.
    #[arg(long, global = true, value_name = "URL", env = "BATON_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// This node's configuration [default: /etc/baton/baton.yaml, if it exists].
    #[arg(long, global = true, value_name = "FILE", env = "BATON_CONFIG")]
    pub config: Option<PathBuf>,
    /// How results are printed: for people, or as JSON for programs.
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs. Times are milliseconds since 1970 by the store's clock.
    Json,
}

impl Global {
    /// What the command line and the environment say, for [`crate::config`].
    pub fn given(&self) -> Given {
        Given { config: self.config.clone(), store: self.store.clone(), ..Given::default() }
    }

    /// Whether JSON is wanted.
    pub fn json(&self) -> bool {
        self.output == Output::Json
    }
}

/// What an operator may ask for.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Put definitions in force.
    Apply(ApplyArgs),
    /// Show what `apply` would change.
    Diff(DiffArgs),
    /// Look for mistakes in definitions; needs no store.
    Check(CheckArgs),
    /// Print the JSON Schema of definitions, for editors.
    Schema,
    /// Show the whole cluster on one screen.
    Status(StatusArgs),
    /// Say why a group is where it is, and what would follow.
    Why {
        /// The group.
        group: String,
    },
    /// Cluster a host, or take it out of its group.
    Host(HostArgs),
    /// List groups and their history, move them.
    #[command(subcommand)]
    Group(GroupVerb),
    /// List, show, resume and terminate messages.
    #[command(subcommand)]
    Message(MessageVerb),
}

/// `baton host`: with a verb for operators; without one a node's child process.
#[derive(Debug, Clone, Args)]
pub struct HostArgs {
    /// What to do with a host. Without it this is the child process that a node starts.
    #[command(subcommand)]
    pub verb: Option<HostVerb>,
    /// The host that the child process is (set by the node that starts it, for `ps`).
    #[arg(long, hide = true)]
    pub host: Option<String>,
    /// The node that started it (for `ps`).
    #[arg(long, hide = true)]
    pub node: Option<String>,
}

/// Does what was asked.
pub async fn run(verb: &Verb, global: &Global) -> anyhow::Result<ExitCode> {
    let code = match verb {
        Verb::Apply(args) => definitions::apply(args, global).await?,
        Verb::Diff(args) => definitions::diff(args, global).await?,
        Verb::Check(args) => definitions::check(args, global)?,
        Verb::Schema => definitions::schema()?,
        Verb::Status(args) => status::run(args, global).await?,
        Verb::Why { group } => group::why(group, global).await?,
        Verb::Host(HostArgs { verb: Some(verb), .. }) => host::run(verb, global).await?,
        Verb::Host(HostArgs { verb: None, .. }) => {
            return Err(Refused::new("`baton host` needs a verb: cluster or uncluster").into());
        }
        Verb::Group(verb) => group::run(verb, global).await?,
        Verb::Message(verb) => message::run(verb, global).await?,
    };
    Ok(ExitCode::from(code))
}

/// The exit code of an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    use store::StoreError;
    for cause in error.chain() {
        if cause.is::<Refused>() || cause.is::<Invalid>() || cause.is::<ConfigError>() {
            return EXIT_REFUSED;
        }
        match cause.downcast_ref() {
            Some(StoreError::Unavailable(_)) => return EXIT_UNAVAILABLE,
            Some(StoreError::Refused(_) | StoreError::StaleRoutes { .. }) => return EXIT_REFUSED,
            Some(StoreError::Fenced { .. } | StoreError::Corrupt(_)) => return EXIT_FAILED,
            None => {}
        }
    }
    EXIT_FAILED
}

/// An error as it is printed. The problems of a YAML file have their own form.
pub fn error_text(error: &anyhow::Error) -> String {
    let file = |error: &anyhow::Error| match error.downcast_ref() {
        Some(ConfigError::File(invalid)) => Some(invalid.to_string()),
        Some(ConfigError::Setting(_)) | None => {
            error.downcast_ref::<Invalid>().map(ToString::to_string)
        }
    };
    file(error).unwrap_or_else(|| {
        // The refusal of several rules is several lines; each is made safe by itself.
        let text = format!("error: {error:#}");
        text.lines().map(crate::render::safe).collect::<Vec<_>>().join("\n")
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    /// A whole command line of operators' verbs; `main` has the node's verbs too.
    #[derive(Debug, clap::Parser)]
    #[command(name = "baton")]
    #[allow(dead_code, reason = "only its parsing is tested")]
    struct OperatorLine {
        #[command(flatten)]
        global: Global,
        #[command(subcommand)]
        verb: Verb,
    }

    #[test]
    fn the_command_line_is_consistent() {
        OperatorLine::command().debug_assert();
    }

    #[test]
    fn lines_that_operators_write() {
        for line in [
            "apply definitions.yaml --what-if",
            "diff - -o json",
            "status --watch --store sqlite:/x.db",
            "host cluster receive --group partners --what-if",
            "host --host receive --node a",
            "group move partners --to b",
            "group move partners --wait=5s",
            "group move --wait partners",
            "group move partners --no-wait",
            "message resume 1 2",
            "message resume --all --port p",
            "message terminate --all --yes",
        ] {
            let words = std::iter::once("baton").chain(line.split(' '));
            if let Err(error) = OperatorLine::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
        for line in ["", "message resume", "message resume 1 --all", "message resume 1 --port p"] {
            let words = std::iter::once("baton").chain(line.split_whitespace());
            assert!(OperatorLine::try_parse_from(words).is_err(), "{line}");
        }
    }

    #[test]
    fn errors_have_their_numbers() {
        let unavailable = store::StoreError::Unavailable("no route".into());
        for (error, code) in [
            (anyhow::anyhow!("x"), EXIT_FAILED),
            (Refused::new("x").into(), EXIT_REFUSED),
            (anyhow::Error::from(unavailable).context("here"), EXIT_UNAVAILABLE),
            (store::StoreError::Refused("x".into()).into(), EXIT_REFUSED),
        ] {
            assert_eq!(exit_code(&error), code, "{error}");
        }
    }
}
