//! What the verbs share: the store, who asks, names that must be known, and how it is answered.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cluster::{NodeView, Snapshot};
use model::definition::Group;
use model::{Definitions, EventId, GroupName, Millis, NodeName, OperatorEvent, Timestamp};
use serde::Serialize;
use serde_json::json;
use store::{Options, Store};

use super::{Global, Refused};
use crate::config;
use crate::render::diff::Change;
use crate::render::safe;

/// Longest wait of a command for one answer of the store: a person is waiting.
const PATIENCE: Millis = Millis::seconds(10);

/// Objects that the record of new definitions names: `baton diff` and `history` have them all.
const CHANGES_NAMED_MAX: usize = 20;

/// Opens the store that the command line, the environment or the configuration names. A store in a
/// file must be there: a mistyped path would otherwise look like an empty cluster.
pub async fn open(global: &Global) -> Result<Arc<dyn Store>> {
    match open_if_there(global).await? {
        Ok(store) => Ok(store),
        Err(path) => {
            let sentence = format!(
                "there is no store {path}; name another with --store, or make this one with \
                 `baton apply` or `baton node`"
            );
            Err(Refused::new(sentence).into())
        }
    }
}

/// The same for a question that has an answer without a store too: its path.
pub async fn open_if_there(global: &Global) -> Result<Result<Arc<dyn Store>, String>> {
    let url = config::store_url(&global.given())?;
    match url.strip_prefix("sqlite:").filter(|path| !Path::new(path).exists()) {
        Some(path) => Ok(Err(path.to_owned())),
        None => Ok(Ok(open_url(url).await?)),
    }
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

/// The node of this name, or a refusal that names those there are.
pub fn node<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a NodeView> {
    let found = snapshot.nodes.iter().find(|node| node.name.as_str() == name);
    found.ok_or_else(|| {
        let known = names(snapshot.nodes.iter().map(|node| &node.name));
        Refused::new(format!("there is no node {name:?}; nodes that have joined: {known}")).into()
    })
}

/// Puts on record what an operator did. It is done by then, so a store that does not take the
/// record makes no failure of it.
pub async fn record(store: &dyn Store, id: EventId, subject: String, sentence: String) {
    let (node, at) = (None::<NodeName>, Timestamp(0));
    let event = OperatorEvent { sequence: 0, at, id, node, subject, sentence };
    if let Err(error) = store.record_events(&[event]).await {
        let error = error.to_string();
        eprintln!("warning: it is done, but its event {id} is not on record: {}", safe(&error));
    }
}

/// Puts on record that definitions are in force: who did it, and which objects it changed.
pub async fn record_applied(store: &dyn Store, version: u64, changes: &[Change]) {
    let objects: Vec<String> = changes.iter().take(CHANGES_NAMED_MAX).map(Change::head).collect();
    let more = match changes.len().saturating_sub(objects.len()) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let by = operator();
    let sentence = format!("{by} put version {version} in force: {}{more}", objects.join(", "));
    record(store, EventId::DEFINITIONS_APPLIED, "definitions".into(), sentence).await;
}

/// Answers in sentences, or as JSON with a word for what came of it.
pub fn tell(global: &Global, outcome: &str, sentences: &[String], code: u8) -> Result<u8> {
    if global.json() {
        print_json(&json!({"outcome": outcome, "sentences": sentences}))?;
    } else {
        print(&lines(sentences))?;
    }
    Ok(code)
}

/// Sentences as lines that are safe for a terminal.
pub fn lines(sentences: &[String]) -> String {
    sentences.iter().map(|sentence| format!("{}\n", safe(sentence))).collect()
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
