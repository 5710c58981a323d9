//! The command line for operators: noun, then verb. Each noun is a file; this one has the words.
//!
//! A verb asks the store, decides nothing itself, and prints by `render`. What goes wrong is an
//! error whose text is a sentence; [`exit_code`] turns it into the documented number.

mod definitions;
mod events;
mod fate;
mod follow;
mod group;
mod host;
mod message;
mod node;
mod refused;
mod resource;
mod session;
mod simulate;
mod status;
mod validate;
mod what_if;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use crate::config::{ConfigError, Given};
use crate::drill::DrillArgs;
use crate::serve;
use crate::yaml::Invalid;

pub use definitions::{ApplyArgs, CheckArgs, DiffArgs};
pub use events::{EventVerb, EventsArgs};
pub use group::GroupVerb;
pub use host::HostVerb;
pub use message::MessageVerb;
pub use node::NodeVerb;
pub use refused::Refused;
pub use resource::ResourceVerb;
pub use simulate::SimulateArgs;
pub use status::StatusArgs;
pub use validate::ValidateArgs;

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
  baton group move partners --to node-b     a planned move; with --what-if only what it would do
  baton node drain node-a                   empty a node for maintenance
  baton validate                            is it fit to fail over?
  baton why partners                        why it is where it is, what would follow
  baton events --follow                     what happens, as it happens
  baton simulate --do 'kill node node-a'    what the cluster would do
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
#[allow(missing_docs, reason = "where arguments are documented, clap shows theirs")]
pub enum Verb {
    /// Be a node of the cluster; with a verb: list, pause, drain, resume and evict nodes.
    Node(NodeCommand),
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
    /// Say why a group is where it is, what would follow, and how the last failover went.
    #[command(after_help = why::HELP)]
    Why {
        /// The group.
        group: String,
    },
    Validate(ValidateArgs),
    Drill(DrillArgs),
    /// Cluster a host, or take it out of its group.
    Host(HostArgs),
    /// List, show, move, start and stop groups.
    #[command(subcommand)]
    Group(GroupVerb),
    /// List and show what groups bring online.
    #[command(subcommand)]
    Resource(ResourceVerb),
    Events(EventsArgs),
    /// What each operator event means, and what to do about it.
    #[command(subcommand)]
    Event(EventVerb),
    Simulate(SimulateArgs),
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

/// `baton node`: with a verb for operators; without one it is a node, until it is told to stop.
#[derive(Debug, Clone, Args)]
#[command(after_help = node::HELP)]
pub struct NodeCommand {
    /// What to do with a node. Without it this process becomes one.
    #[command(subcommand)]
    pub verb: Option<NodeVerb>,
    /// How it is a node.
    #[command(flatten)]
    pub run: serve::NodeArgs,
}

/// Does what was asked.
pub async fn run(verb: &Verb, global: &Global) -> anyhow::Result<ExitCode> {
    let code = match verb {
        Verb::Apply(args) => definitions::apply(args, global).await?,
        Verb::Diff(args) => definitions::diff(args, global).await?,
        Verb::Check(args) => definitions::check(args, global)?,
        Verb::Schema => definitions::schema()?,
        Verb::Status(args) => status::run(args, global).await?,
        Verb::Why { group } => why::run(group, global).await?,
        Verb::Drill(args) => drill(args, global).await?,
        Verb::Validate(args) => validate::run(args, global).await?,
        Verb::Node(NodeCommand { verb: Some(_), run }) if run.ttl.is_some() => {
            return Err(Refused::new("--ttl is for being a node, not for a verb").into());
        }
        Verb::Node(NodeCommand { verb: Some(verb), .. }) => node::run(verb, global).await?,
        Verb::Node(NodeCommand { verb: None, .. }) => {
            return Err(Refused::new("`baton node` needs a verb here, such as list").into());
        }
        Verb::Host(HostArgs { verb: Some(verb), .. }) => host::run(verb, global).await?,
        Verb::Host(HostArgs { verb: None, .. }) => {
            return Err(Refused::new("`baton host` needs a verb: cluster or uncluster").into());
        }
        Verb::Group(verb) => group::run(verb, global).await?,
        Verb::Resource(verb) => resource::run(verb, global).await?,
        Verb::Events(args) => events::run(args, global).await?,
        Verb::Event(verb) => events::kinds(verb, global)?,
        Verb::Simulate(args) => simulate::run(args, global).await?,
        Verb::Message(verb) => message::run(verb, global).await?,
    };
    Ok(ExitCode::from(code))
}

async fn drill(args: &DrillArgs, global: &Global) -> anyhow::Result<u8> {
    let store = session::open(global).await?;
    let url = crate::config::store_url(&global.given())?;
    let is_proof =
        crate::drill::run(args, store, &url, &session::operator(), global.json()).await?;
    Ok(if is_proof { EXIT_OK } else { EXIT_FAILED })
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

/// An error as it is printed: for people, or as one line of JSON.
pub fn error_text(error: &anyhow::Error, json: bool) -> String {
    let text = text_of(error);
    match json {
        true => error_json(text.strip_prefix("error: ").unwrap_or(&text), exit_code(error)),
        false => text,
    }
}

/// A failure for programs, on standard error.
pub fn error_json(text: &str, code: u8) -> String {
    serde_json::json!({"error": text, "exit_code": code}).to_string()
}

/// Whether a line that could not be parsed asks for JSON.
pub fn asks_for_json(words: impl Iterator<Item = String>) -> bool {
    let words: Vec<String> = words.take_while(|word| word != "--").collect();
    let together = ["-ojson", "-o=json", "--output=json"];
    words.iter().any(|word| together.contains(&word.as_str()))
        || words
            .windows(2)
            .any(|pair| matches!(pair[0].as_str(), "-o" | "--output") && pair[1] == "json")
}

/// The problems of a YAML file have their own form.
fn text_of(error: &anyhow::Error) -> String {
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
            "node --name a --ttl 1s",
            "node list -o json",
            "node drain a --wait=5m",
            "node drain a --no-wait",
            "node resume a --failback policy --what-if",
            "group start --all",
            "group stop partners --no-wait",
            "group unmonitor partners --for 1h",
            "resource list --group partners",
            "events --follow --since 1h --id 2004 --id group.moved",
            "event show 2004",
            "simulate --do x --do y --for 1m",
        ] {
            let words = std::iter::once("baton").chain(line.split(' '));
            if let Err(error) = OperatorLine::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
        for line in [
            "",
            "message resume",
            "message resume 1 --all",
            "message resume 1 --port p",
            "group start",
            "group start g --all",
            "group unmonitor g",
            "node drain a --what-if --no-wait",
        ] {
            let words = std::iter::once("baton").chain(line.split_whitespace());
            assert!(OperatorLine::try_parse_from(words).is_err(), "{line}");
        }
    }

    #[test]
    fn failures_are_json_for_programs() {
        let error = anyhow::Error::from(Refused::new("no \"x\""));
        let text = error_text(&error, true);
        assert_eq!(text, r#"{"error":"no \"x\"","exit_code":3}"#);
        assert_eq!(error_text(&error, false), "error: no \"x\"");
        for (line, json) in
            [("-o json x", true), ("x --output=json", true), ("x -- -o json", false)]
        {
            assert_eq!(asks_for_json(line.split(' ').map(str::to_owned)), json, "{line}");
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
