//! What the verbs share: the store, who asks, and names that must be known.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use model::definition::Group;
use model::{Definitions, GroupName, Millis};
use serde::Serialize;
use store::{Options, Store};

use super::{Global, Refused};
use crate::config;

/// Longest wait of a command for one answer of the store: a person is waiting.
const PATIENCE: Millis = Millis::seconds(10);

/// Opens the store that the command line, the environment or the configuration names. A store in a
/// file must be there: a mistyped path would otherwise look like an empty cluster.
pub async fn open(global: &Global) -> Result<Arc<dyn Store>> {
    let url = config::store_url(&global.given())?;
    if let Some(path) = url.strip_prefix("sqlite:").filter(|path| !Path::new(path).exists()) {
        let sentence = format!(
            "there is no store {path}; name another with --store, or make this one with `baton \
             apply` or `baton node`"
        );
        return Err(Refused::new(sentence).into());
    }
    open_url(url).await
}

/// The same, for the verb that may make it.
pub async fn open_or_make(global: &Global) -> Result<Arc<dyn Store>> {
    open_url(config::store_url(&global.given())?).await
}

async fn open_url(url: String) -> Result<Arc<dyn Store>> {
    let mut options = Options::new(url, format!("command of {}", operator()));
    options.connections_max = 2;
    options.patience = PATIENCE;
    // The URL may hold a password, so it is not repeated.
    store::open(&options).await.context("the store given by --store, BATON_STORE or baton.yaml")
}

/// Who asks, for the records: `kim@node-1`.
pub fn operator() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()));
    let machine = rustix::system::uname();
    format!("{user}@{}", machine.nodename().to_string_lossy())
}

/// The group of this name, or a refusal that names those there are.
pub fn group<'a>(definitions: &'a Definitions, name: &str) -> Result<&'a Group> {
    let known = || names(definitions.groups.iter().map(|group| &group.name));
    let unknown = || format!("there is no group {name:?}; groups in force: {}", known());
    let parsed: Option<GroupName> = name.parse().ok();
    let found = parsed.and_then(|parsed| definitions.group(&parsed));
    found.ok_or_else(|| Refused::new(unknown()).into())
}

/// Names as a list for a sentence.
pub fn names<N: Display>(names: impl Iterator<Item = N>) -> String {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Prints a value as JSON, on lines of its own.
pub fn print_json<T: Serialize>(value: &T) -> Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
pub fn print(text: &str) -> Result<()> {
    print_if_read(text).map(drop)
}

/// The same; answers whether somebody still reads.
pub fn print_if_read(text: &str) -> Result<bool> {
    use std::io::{ErrorKind, Write as _};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("cannot write to standard output"),
    }
}
