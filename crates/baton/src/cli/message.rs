//! `baton message list`, `show`, `resume`, `terminate`.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use messaging::Routing;
use model::{MessageId, WorkId};
use serde_json::json;
use store::{LIST_ROWS_MAX, Route, Store, WorkQuery, WorkState, WorkView};

use super::session::{open, print, print_json};
use super::{EXIT_FAILED, EXIT_OK, Global, Refused};
use crate::render::body::{SHOWN_BYTES_MAX, escaped};
use crate::render::{Look, counted, work};

/// What can be done with messages.
#[derive(Debug, Clone, Subcommand)]
pub enum MessageVerb {
    /// List messages that are not done, oldest first.
    #[command(after_help = "\
Examples:
  baton message list --state suspended
  baton message list --port archive -o json

ID is the message's place at one subscriber: one message at two send ports has two of them.")]
    List {
        /// Only those in this state.
        #[arg(long)]
        state: Option<State>,
        /// Only those of this send port.
        #[arg(long, value_name = "PORT")]
        port: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
    },
    /// Show one message in full.
    Show {
        /// An ID of the list, or a message's UUID.
        id: String,
        /// Show the begin of its body too, at most 4 KiB, what is not plain text as escapes.
        #[arg(long)]
        body: bool,
    },
    /// Try suspended messages again.
    ///
    /// A message that nobody subscribed to is matched against the subscriptions in force now.
    #[command(after_help = "\
Examples:
  baton message resume 17 18
  baton message resume --all --port archive")]
    Resume(Which),
    /// End messages without sending them. They are gone then.
    #[command(after_help = "\
Examples:
  baton message terminate 17
  baton message terminate --all --port archive --yes")]
    Terminate {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Yes, all of them; needed with --all.
        #[arg(long)]
        yes: bool,
    },
}

/// Which messages.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// IDs of the list, or UUIDs of messages.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<String>,
    /// All suspended ones.
    #[arg(long)]
    pub all: bool,
    /// With --all: only those of this send port.
    #[arg(long, value_name = "PORT", requires = "all", conflicts_with = "ids")]
    pub port: Option<String>,
}

/// A state to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Waits to be sent, perhaps for a retry's time.
    Ready,
    /// Is being sent.
    Active,
    /// Waits for an operator.
    Suspended,
}

impl From<State> for WorkState {
    fn from(state: State) -> WorkState {
        match state {
            State::Ready => WorkState::Ready,
            State::Active => WorkState::Active,
            State::Suspended => WorkState::Suspended,
        }
    }
}

pub(super) async fn run(verb: &MessageVerb, global: &Global) -> Result<u8> {
    if let MessageVerb::Terminate { which, yes: false } = verb
        && which.all
    {
        let sentence = "this ends all suspended messages without sending them; add --yes if you \
                        mean it, or see them first: baton message list --state suspended";
        return Err(Refused::new(sentence).into());
    }
    let store = open(global).await?;
    let store = store.as_ref();
    match verb {
        MessageVerb::List { state, port, limit } => {
            list(store, state.map(Into::into), port.clone(), *limit, global).await
        }
        MessageVerb::Show { id, body } => show(store, id, *body, global).await,
        MessageVerb::Resume(which) => act(store, which, Action::Resume, global).await,
        MessageVerb::Terminate { which, .. } => act(store, which, Action::Terminate, global).await,
    }
}

async fn list(
    store: &dyn Store,
    state: Option<WorkState>,
    port: Option<String>,
    limit: usize,
    global: &Global,
) -> Result<u8> {
    let limit = limit.max(1);
    let query = WorkQuery { state, port, ..WorkQuery::default() };
    // One more than is shown tells whether there are more.
    let mut list = up_to(limit.saturating_add(1), store, query).await?;
    let more = list.len() > limit;
    list.truncate(limit);
    if global.json() {
        print_json(&list)?;
        return Ok(EXIT_OK);
    }
    if list.is_empty() {
        print("no messages\n")?;
        return Ok(EXIT_OK);
    }
    let table = work::table(&list, store.now().await?);
    let mut text = table.render(Look::of_stdout(), 0);
    if more {
        text.push_str(&format!("\nthe oldest {limit}; more with --limit\n"));
    }
    print(&text)?;
    Ok(EXIT_OK)
}

async fn show(store: &dyn Store, id: &str, body: bool, global: &Global) -> Result<u8> {
    let found = find(store, &[id.to_owned()]).await?;
    let shown = match (body, found.first()) {
        (true, Some(work)) => Some(begin_of_body(store, work).await?),
        _ => None,
    };
    if global.json() {
        let body = shown.as_deref().map(escaped);
        print_json(&json!({"work": found, "body": body}))?;
        return Ok(EXIT_OK);
    }
    let now = store.now().await?;
    let details: Vec<String> = found.iter().map(|work| work::detail(work, now)).collect();
    let mut text = details.join("\n");
    if let (Some(bytes), Some(work)) = (shown, found.first()) {
        let end = if bytes.ends_with(b"\n") { "" } else { "\n" };
        text.push_str(&format!("\n{}{end}", escaped(&bytes)));
        if (bytes.len() as u64) < work.body_bytes {
            text.push_str(&format!("... {} of {} bytes\n", bytes.len(), work.body_bytes));
        }
    }
    print(&text)?;
    Ok(EXIT_OK)
}

async fn begin_of_body(store: &dyn Store, work: &WorkView) -> Result<Vec<u8>> {
    let bytes = match (&work.body, work.body_id) {
        (Some(bytes), _) => bytes.to_vec(),
        (None, Some(id)) => store.read_body(id, 0, SHOWN_BYTES_MAX).await?.to_vec(),
        (None, None) => Vec::new(),
    };
    Ok(bytes.into_iter().take(SHOWN_BYTES_MAX).collect())
}

/// The first rows of a query, page after page.
async fn up_to(limit: usize, store: &dyn Store, mut query: WorkQuery) -> Result<Vec<WorkView>> {
    let mut found: Vec<WorkView> = Vec::new();
    loop {
        query.limit = (limit - found.len()).min(LIST_ROWS_MAX);
        let page = store.list_work(&query).await?;
        let whole = page.len() == query.limit;
        found.extend(page);
        match found.last() {
            Some(last) if whole && found.len() < limit => query.after = last.id,
            _ => return Ok(found),
        }
    }
}

/// The work rows of these IDs; an ID that is not there is refused.
async fn find(store: &dyn Store, ids: &[String]) -> Result<Vec<WorkView>> {
    let mut rows = Vec::new();
    let mut messages = Vec::new();
    for id in ids {
        match (id.parse().map(WorkId), id.parse::<MessageId>()) {
            (Ok(row), _) => rows.push(row),
            (_, Ok(message)) => messages.push(message),
            _ => return Err(Refused::new(format!("{id:?} is neither an ID nor a UUID")).into()),
        }
    }
    let mut found = Vec::new();
    if !rows.is_empty() {
        let query = WorkQuery { ids: rows, ..WorkQuery::default() };
        found.extend(up_to(usize::MAX, store, query).await?);
    }
    if !messages.is_empty() {
        let query = WorkQuery { messages, ..WorkQuery::default() };
        found.extend(up_to(usize::MAX, store, query).await?);
    }
    for id in ids {
        let is = |work: &WorkView| {
            id.parse().map(WorkId) == Ok(work.id) || id.parse() == Ok(work.message)
        };
        if !found.iter().any(is) {
            let sentence = format!("there is no message {id}: it is done, or never was");
            return Err(Refused::new(sentence).into());
        }
    }
    Ok(found)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Resume,
    Terminate,
}

/// What became of them.
#[derive(Debug, Default)]
struct Outcome {
    done: u64,
    left: Vec<String>,
}

async fn act(store: &dyn Store, which: &Which, action: Action, global: &Global) -> Result<u8> {
    let mut outcome = Outcome::default();
    if which.all {
        all(store, which.port.as_deref(), action, &mut outcome).await?;
    } else {
        let found = find(store, &which.ids).await?;
        for batch in found.chunks(LIST_ROWS_MAX) {
            perform(store, batch, action, &mut outcome).await?;
        }
    }
    let word = match action {
        Action::Resume => "resumed",
        Action::Terminate => "terminated",
    };
    if global.json() {
        print_json(&json!({(word): outcome.done, "left": outcome.left}))?;
    } else {
        let left: String = outcome.left.iter().map(|line| format!("{line}\n")).collect();
        print(&format!("{left}{} {word}\n", counted(outcome.done, "message")))?;
    }
    Ok(if outcome.left.is_empty() { EXIT_OK } else { EXIT_FAILED })
}

/// All suspended ones, a page at a time, each once: what fails again at once is not tried again.
async fn all(
    store: &dyn Store,
    port: Option<&str>,
    action: Action,
    outcome: &mut Outcome,
) -> Result<()> {
    let mut query = WorkQuery {
        state: Some(WorkState::Suspended),
        port: port.map(str::to_owned),
        ..WorkQuery::default()
    };
    loop {
        let page = store.list_work(&query).await?;
        let Some(last) = page.last() else { return Ok(()) };
        query.after = last.id;
        perform(store, &page, action, outcome).await?;
    }
}

async fn perform(
    store: &dyn Store,
    batch: &[WorkView],
    action: Action,
    outcome: &mut Outcome,
) -> Result<()> {
    if action == Action::Terminate {
        let ids: Vec<WorkId> = batch.iter().map(|work| work.id).collect();
        outcome.done += store.terminate(&ids).await?;
        return Ok(());
    }
    let (_, definitions) = store.definitions().await?;
    let routing = Routing::new(&definitions)?;
    let mut ids = Vec::new();
    let mut routes = BTreeMap::new();
    for work in batch {
        if work.state != WorkState::Suspended {
            let state = work::state(work.state);
            outcome.left.push(format!("message {} is {state}, not suspended", work.id));
            continue;
        }
        if work.port.is_empty() {
            let found = routes_of(&routing, work);
            if found.is_empty() {
                outcome.left.push(format!(
                    "message {} still has no subscriber: no send port's filter matches it; see \
                     `baton message show {}`",
                    work.id, work.id
                ));
                continue;
            }
            routes.insert(work.id, found);
        }
        ids.push(work.id);
    }
    if !ids.is_empty() {
        outcome.done += store.resume(&ids, &routes).await?;
    }
    Ok(())
}

fn routes_of(routing: &Routing, work: &WorkView) -> Vec<Route> {
    let routes = routing.routes(&work.context).into_iter();
    routes.map(|(port, host)| Route { port: port.to_string(), host: host.to_string() }).collect()
}
