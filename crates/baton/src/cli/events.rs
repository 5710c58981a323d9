//! `baton events` and `baton event`: what happened to the cluster, and what it means.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use model::event::{EVENTS, EventKind};
use model::{EventId, Millis, OperatorEvent};
use serde_json::json;
use store::{EventQuery, LIST_ROWS_MAX, Store, StoreError, Topic};

use super::session::{open, print, print_if_read, print_json};
use super::{EXIT_OK, Global, Refused};
use crate::render::event::{line, page, value};
use crate::render::table::{Fit, Table};
use crate::render::{Look, safe};

/// How often following looks, at the latest; the store's hints come sooner.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Show operator events, the newest last; with --follow as they happen.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  baton events --since 1h
  baton events --follow --id group.failed_over --id group.taken_over
  baton events --subject 'group partners' -o json

Each line has time, number, level, name, subject and sentence; `baton event show NUMBER` says what
the number means. With --follow and -o json each event is one line of JSON.")]
pub struct EventsArgs {
    /// Go on and show each as it happens, until Ctrl-C.
    #[arg(short, long)]
    pub follow: bool,
    /// Only those of the last so many minutes, hours or days.
    #[arg(long, value_name = "DURATION")]
    pub since: Option<Millis>,
    /// Only those of this number or name; may be given several times.
    #[arg(long = "id", value_name = "NUMBER|NAME")]
    pub ids: Vec<String>,
    /// Only those about this: 'group partners', 'node node-a'.
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// At most so many, the newest.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: usize,
}

/// What is asked about kinds of events.
#[derive(Debug, Clone, Subcommand)]
pub enum EventVerb {
    /// List every kind of event: number, name, level, and what Windows Server calls it.
    List,
    /// Show what one means and what to do about it.
    Show {
        /// Its number, or its name.
        event: String,
    },
}

pub(super) async fn run(args: &EventsArgs, global: &Global) -> Result<u8> {
    let ids = args.ids.iter().map(|text| kind(text).map(|kind| kind.id)).collect::<Result<_>>()?;
    let store = open(global).await?;
    let store = store.as_ref();
    let since = match args.since {
        Some(since) => {
            Some(model::Timestamp(store.now().await?.0.saturating_sub_unsigned(since.0)))
        }
        None => None,
    };
    let subject = args.subject.clone();
    let query = EventQuery { subject, ids, since, ..EventQuery::default() };
    if !args.follow {
        let events = newest(store, &query, args.limit).await?;
        return all(&events, global);
    }
    follow(store, query, args.limit, global).await?;
    Ok(EXIT_OK)
}

fn all(events: &[OperatorEvent], global: &Global) -> Result<u8> {
    if global.json() {
        print_json(&events.iter().map(value).collect::<Vec<_>>())?;
    } else if events.is_empty() {
        print("no events\n")?;
    } else {
        let look = Look::of_stdout();
        print(&events.iter().map(|event| line(event, look) + "\n").collect::<String>())?;
    }
    Ok(EXIT_OK)
}

/// The newest so many that match, oldest first.
async fn newest(
    store: &dyn Store,
    query: &EventQuery,
    limit: usize,
) -> store::Result<Vec<OperatorEvent>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    if limit <= LIST_ROWS_MAX {
        return store.events(&EventQuery { newest: true, limit, ..query.clone() }).await;
    }
    // Pages go forwards only, so more than one of them is read from the oldest on.
    let mut found = VecDeque::new();
    let mut query = EventQuery { limit: LIST_ROWS_MAX, ..query.clone() };
    loop {
        let page = store.events(&query).await?;
        let whole = page.len() == LIST_ROWS_MAX;
        query.after = page.last().map_or(query.after, |event| event.sequence);
        found.extend(page);
        while found.len() > limit {
            found.pop_front();
        }
        if !whole {
            return Ok(found.into());
        }
    }
}

/// Shows what there is, then each as it happens, until Ctrl-C or until nobody reads any more.
async fn follow(store: &dyn Store, query: EventQuery, limit: usize, global: &Global) -> Result<()> {
    let mut wakes = store.subscribe(Topic::Events);
    // Before the first page is read, so that nothing falls between it and what follows.
    let last = EventQuery { newest: true, limit: 1, ..EventQuery::default() };
    let last = store.events(&last).await?.last().map_or(0, |event| event.sequence);
    let mut events = newest(store, &query, limit).await?;
    let after = events.last().map_or(last, |event| event.sequence.max(last));
    let mut query = EventQuery { after, limit: LIST_ROWS_MAX, ..query };
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let mut away = false;
    loop {
        if !show(&events, global)? {
            return Ok(());
        }
        // A whole page is followed by another one at once.
        if events.len() < LIST_ROWS_MAX {
            tokio::select! {
                _ = &mut interrupted => return Ok(()),
                () = wakes.next() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        events = match store.events(&query).await {
            Ok(events) => {
                away = false;
                events
            }
            Err(error @ StoreError::Unavailable(_)) => {
                if !std::mem::replace(&mut away, true) {
                    eprintln!("{}; trying again", safe(&error.to_string()));
                }
                Vec::new()
            }
            Err(error) => return Err(error.into()),
        };
        query.after = events.last().map_or(query.after, |event| event.sequence);
    }
}

/// Prints some, and answers whether somebody still reads.
fn show(events: &[OperatorEvent], global: &Global) -> Result<bool> {
    let look = Look::of_stdout();
    let lines = events.iter().map(|event| match global.json() {
        true => format!("{}\n", value(event)),
        false => line(event, look) + "\n",
    });
    print_if_read(&lines.collect::<String>())
}

/// The kind of event with this number or name.
fn kind(text: &str) -> Result<&'static EventKind> {
    let number = text.parse().map(EventId).ok();
    let is = |kind: &&EventKind| Some(kind.id) == number || kind.name == text;
    EVENTS.iter().find(is).ok_or_else(|| {
        let sentence = format!("there is no event {text:?}; `baton event list` has them all");
        Refused::new(sentence).into()
    })
}

pub(super) fn kinds(verb: &EventVerb, global: &Global) -> Result<u8> {
    let wsfc = |kind: &EventKind| {
        let numbers: Vec<String> = kind.wsfc.iter().map(ToString::to_string).collect();
        if numbers.is_empty() { "-".into() } else { numbers.join(", ") }
    };
    let json = |kind: &EventKind| {
        json!({"id": kind.id, "name": kind.name, "level": kind.level, "wsfc": kind.wsfc,
               "meaning": kind.meaning, "remedy": kind.remedy})
    };
    match verb {
        EventVerb::List if global.json() => {
            print_json(&EVENTS.iter().map(json).collect::<Vec<_>>())?;
        }
        EventVerb::List => {
            let columns =
                [("ID", Fit::Right), ("NAME", Fit::Left), ("LEVEL", Fit::Left), ("WSFC", Fit::Cut)];
            let mut table = Table::new(columns);
            for kind in EVENTS {
                let level = kind.level.to_string();
                table.row([
                    kind.id.to_string().into(),
                    kind.name.into(),
                    level.into(),
                    wsfc(kind).into(),
                ]);
            }
            print(&table.render(Look::of_stdout(), 0))?;
        }
        EventVerb::Show { event } => {
            let kind = kind(event)?;
            if global.json() {
                print_json(&json(kind))?;
            } else {
                print(&page(kind))?;
            }
        }
    }
    Ok(EXIT_OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_number_and_name() {
        assert_eq!(kind("2004").expect("known").name, "group.failed_over");
        assert_eq!(kind("group.failed_over").expect("known").id, EventId(2004));
        assert!(kind("1").expect_err("refused").to_string().contains("baton event list"));
    }
}
