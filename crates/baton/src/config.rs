//! `baton.yaml`: what one node is told about itself. It is read once, at the start.
//!
//! ```yaml
//! name: node-1                              # default: the machine's host name
//! store: sqlite:/var/lib/baton/baton.db     # or postgresql://user@host1,host2/database
//! ttl: 3s                                   # a silent node is deposed after this
//! log: { level: info, format: text }        # or json
//! ```
//!
//! What the command line says goes before the environment (`BATON_NODE`, `BATON_STORE`), that
//! before the file, that before the defaults.

use std::fmt;
use std::path::{Path, PathBuf};

use cluster::Timing;
use model::{Millis, NodeName};
use serde::{Deserialize, Serialize};

use crate::yaml;

/// Where the file is looked for when nobody says where it is; it need not be there.
pub const PATH_DEFAULT: &str = "/etc/baton/baton.yaml";

/// The store when nobody says which.
pub const STORE_DEFAULT: &str = "sqlite:/var/lib/baton/baton.db";

/// Shortest ttl: below it a busy machine deposes itself.
pub const TTL_MIN: Millis = Millis(500);

/// Longest ttl: above it nobody would call it failover.
pub const TTL_MAX: Millis = Millis::minutes(10);

/// The file as written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeFile {
    /// The node's name. Default: the machine's host name.
    pub name: Option<NodeName>,
    /// The store's URL. Default `sqlite:/var/lib/baton/baton.db`.
    pub store: Option<String>,
    /// How long a lease lives without renewal, 500ms to 10m, the same on all nodes. Default 3s.
    pub ttl: Option<Millis>,
    /// Logging.
    pub log: Log,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, or a filter as `RUST_LOG` takes
    /// it. Default `info`.
    pub level: String,
    /// How a line looks. Default `text`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Log {
        Log { level: "info".into(), format: LogFormat::Text }
    }
}

/// How a log line looks.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What the command line and the environment say (clap puts the two in their order).
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--name`, `BATON_NODE`
    pub name: Option<String>,
    /// `--store`, `BATON_STORE`
    pub store: Option<String>,
    /// `--ttl`
    pub ttl: Option<Millis>,
}

/// What is meant, everything filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The node's name.
    pub name: NodeName,
    /// The store's URL.
    pub store: String,
    /// How long a lease lives without renewal.
    pub ttl: Millis,
    /// Logging.
    pub log: Log,
}

/// What is wrong with the configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file is.
    File(yaml::Invalid),
    /// Something else; the sentence says what, where, and how to mend it.
    Setting(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::File(invalid) => invalid.fmt(f),
            ConfigError::Setting(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<yaml::Invalid> for ConfigError {
    fn from(invalid: yaml::Invalid) -> ConfigError {
        ConfigError::File(invalid)
    }
}

/// Reads the file, if there is one, and fills in everything. `machine` is its host name.
pub fn resolve(given: &Given, machine: &str) -> Result<NodeConfig, ConfigError> {
    let file = read(given.config.as_deref())?;
    let name = match (&given.name, file.name) {
        (Some(text), _) => {
            NodeName::new(text).map_err(|error| ConfigError::Setting(error.to_string()))?
        }
        (None, Some(name)) => name,
        (None, None) => NodeName::new(machine).map_err(|error| {
            ConfigError::Setting(format!(
                "this machine's host name cannot be the node's name: {error}; write `name:` into \
                 {PATH_DEFAULT}, or set BATON_NODE"
            ))
        })?,
    };
    let ttl = given.ttl.or(file.ttl).unwrap_or(Timing::TTL_DEFAULT);
    if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
        return Err(ConfigError::Setting(format!(
            "a ttl of {ttl} will not do: use {TTL_MIN} to {TTL_MAX}"
        )));
    }
    let store = given.store.clone().or(file.store).unwrap_or_else(|| STORE_DEFAULT.into());
    let store = plain_url(store)?;
    Ok(NodeConfig { name, store, ttl, log: file.log })
}

/// Only the store's URL, for commands that are no node.
pub fn store_url(given: &Given) -> Result<String, ConfigError> {
    plain_url(match &given.store {
        Some(url) => url.clone(),
        None => read(given.config.as_deref())?.store.unwrap_or_else(|| STORE_DEFAULT.into()),
    })
}

/// The URL as stores take it: other programs write a file with slashes in front,
/// `sqlite:///var/lib/baton/baton.db`.
fn plain_url(url: String) -> Result<String, ConfigError> {
    let Some(rest) = url.strip_prefix("sqlite://") else { return Ok(url) };
    let path = rest.trim_start_matches('/');
    if !rest.starts_with('/') || path.is_empty() {
        return Err(ConfigError::Setting(format!(
            "the store {url:?} names a machine, but SQLite has files only: write \
             sqlite:/var/lib/baton/baton.db, or sqlite:baton.db for one in this folder"
        )));
    }
    Ok(format!("sqlite:/{path}"))
}

fn read(given: Option<&Path>) -> Result<NodeFile, ConfigError> {
    match given {
        Some(path) => Ok(yaml::file(path)?),
        None if Path::new(PATH_DEFAULT).exists() => Ok(yaml::file(Path::new(PATH_DEFAULT))?),
        None => Ok(NodeFile::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> (tempfile::TempDir, Given) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("baton.yaml");
        std::fs::write(&path, text).expect("file");
        (folder, Given { config: Some(path), ..Given::default() })
    }

    #[test]
    fn the_command_line_goes_before_the_file_and_that_before_the_defaults() {
        let (_folder, mut given) =
            write("name: filed\nstore: sqlite:/f.db\nttl: 1s\nlog: {format: json}\n");
        let config = resolve(&given, "machine").expect("config");
        assert_eq!(config.name.as_str(), "filed");
        assert_eq!((config.store.as_str(), config.ttl), ("sqlite:/f.db", Millis::seconds(1)));
        assert_eq!(config.log, Log { level: "info".into(), format: LogFormat::Json });

        given.name = Some("flagged".into());
        given.store = Some("sqlite:/g.db".into());
        given.ttl = Some(Millis::seconds(2));
        let config = resolve(&given, "machine").expect("config");
        assert_eq!(config.name.as_str(), "flagged");
        assert_eq!((config.store.as_str(), config.ttl), ("sqlite:/g.db", Millis::seconds(2)));

        let (_folder, given) = write("");
        let config = resolve(&given, "machine").expect("config");
        assert_eq!(config.name.as_str(), "machine");
        assert_eq!((config.store.as_str(), config.ttl), (STORE_DEFAULT, Millis::seconds(3)));
    }

    #[test]
    fn a_file_may_have_slashes_in_front() {
        for (url, plain) in [
            ("sqlite:///var/x.db", Some("sqlite:/var/x.db")),
            ("sqlite:////var/x.db", Some("sqlite:/var/x.db")),
            ("sqlite:x.db", Some("sqlite:x.db")),
            ("postgresql://u@h/d", Some("postgresql://u@h/d")),
            ("sqlite://var/x.db", None),
            ("sqlite://", None),
            ("sqlite:///", None),
        ] {
            let given = Given { store: Some(url.into()), ..Given::default() };
            assert_eq!(store_url(&given).ok().as_deref(), plain, "{url}");
        }
    }

    #[test]
    fn wrong_settings_say_where_and_how() {
        let (_folder, given) = write("nmae: a\n");
        let error = resolve(&given, "machine").expect_err("refused").to_string();
        assert!(error.contains("did you mean name?"), "{error}");
        assert!(error.contains("baton.yaml:1:1"), "{error}");

        let (_folder, given) = write("ttl: 100ms\n");
        let error = resolve(&given, "machine").expect_err("refused").to_string();
        assert_eq!(error, "a ttl of 100ms will not do: use 500ms to 10m");

        let (_folder, given) = write("store: postgresql://u:hunter2@h/d\nx: 1\n");
        let error = resolve(&given, "machine").expect_err("refused").to_string();
        assert!(!error.contains("hunter2"), "{error}");

        let (_folder, given) = write("");
        let error = resolve(&given, "my machine").expect_err("refused").to_string();
        assert!(error.contains("set BATON_NODE"), "{error}");

        let given = Given { config: Some("/nowhere/baton.yaml".into()), ..Given::default() };
        let error = resolve(&given, "machine").expect_err("refused").to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
}
