//! Messages at work for people: a list of them, or one in full.

use std::fmt::Write as _;

use model::{Timestamp, Value};
use store::{WorkState, WorkView};

use super::table::{Cell, Fit, Table};
use super::{Paint, ago, safe, size};

/// The word of a state.
pub fn state(state: WorkState) -> &'static str {
    match state {
        WorkState::Ready => "ready",
        WorkState::Active => "active",
        WorkState::Suspended => "suspended",
    }
}

/// The port it is for, or that nobody subscribes to it.
fn port(work: &WorkView) -> &str {
    if work.port.is_empty() { "(no subscriber)" } else { &work.port }
}

/// A list, each with its error below.
pub fn table(list: &[WorkView], now: Timestamp) -> Table {
    let mut table = Table::new([
        ("ID", Fit::Right),
        ("STATE", Fit::Left),
        ("PORT", Fit::Cut),
        ("TRIES", Fit::Right),
        ("AGE", Fit::Left),
        ("SIZE", Fit::Right),
        ("FROM", Fit::Cut),
        ("FILE", Fit::Cut),
    ]);
    for work in list {
        let paint = match work.state {
            WorkState::Suspended => Paint::Bad,
            WorkState::Ready | WorkState::Active => Paint::None,
        };
        let file = work.context.text(model::property::RECEIVED_FILE_NAME).unwrap_or("-");
        table.row([
            work.id.to_string().into(),
            Cell::painted(state(work.state), paint),
            port(work).into(),
            work.attempts.to_string().into(),
            ago(now, work.published_at).into(),
            size(work.body_bytes).into(),
            Cell::from(&work.publisher),
            file.into(),
        ]);
        if let Some(error) = &work.error {
            table.note(error, Paint::Dim);
        }
        if work.state == WorkState::Ready && work.ready_at > now {
            let wait = super::length(work.ready_at.since(now));
            table.note(format!("next try in {wait}"), Paint::Dim);
        }
    }
    table
}

/// One in full, without its body.
pub fn detail(work: &WorkView, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {}", safe(value));
    };
    line("work", &work.id.to_string());
    line("message", &work.message.to_string());
    line("state", state(work.state));
    line("port", port(work));
    if !work.host.is_empty() {
        line("host", &work.host);
    }
    line("tries", &work.attempts.to_string());
    let published = ago(now, work.published_at);
    line("published", &format!("{} ({published}) by {}", work.published_at, work.publisher));
    if work.state == WorkState::Ready && work.ready_at > now {
        line("next try", &work.ready_at.to_string());
    }
    line("body", &format!("{} bytes", work.body_bytes));
    if let Some(error) = &work.error {
        line("error", error);
    }
    text.push_str("context\n");
    for (name, value) in &work.context.0 {
        let value = match value {
            Value::Text(text) => safe(text).into_owned(),
            Value::Boolean(_) | Value::Integer(_) => value.to_string(),
        };
        let _ = writeln!(text, "  {} = {value}", safe(name));
    }
    text
}

#[cfg(test)]
mod tests {
    use model::{Context, WorkId};

    use super::super::Look;
    use super::*;

    fn work() -> WorkView {
        let mut context = Context::default();
        context.set("FILE.ReceivedFileName", "a\x1b[2J.xml");
        context.set("Baton.BodyBytes", 1500);
        WorkView {
            id: WorkId(7),
            message: "0190b8a0-0000-7000-8000-000000000001".parse().expect("id"),
            port: "archive".into(),
            host: "send".into(),
            state: WorkState::Suspended,
            attempts: 4,
            ready_at: Timestamp(0),
            error: Some("no space\nleft".into()),
            published_at: Timestamp(1_000_000),
            publisher: "orders-ftp".into(),
            context,
            body_bytes: 1500,
            body: None,
            body_id: None,
        }
    }

    #[test]
    fn a_list_shows_what_waits_and_why() {
        let text = table(&[work()], Timestamp(1_065_000)).render(Look::PLAIN, 0);
        assert_eq!(
            text,
            "\
ID  STATE      PORT     TRIES  AGE       SIZE  FROM        FILE
 7  suspended  archive      4  1m ago  1.5 kB  orders-ftp  a\\u{1b}[2J.xml
  no space\\nleft
"
        );
    }

    #[test]
    fn one_in_full_is_safe_for_terminals() {
        let text = detail(&work(), Timestamp(1_065_000));
        assert_eq!(
            text,
            "\
work       7
message    0190b8a0-0000-7000-8000-000000000001
state      suspended
port       archive
host       send
tries      4
published  1970-01-01T00:16:40.000Z (1m ago) by orders-ftp
body       1500 bytes
error      no space\\nleft
context
  Baton.BodyBytes = 1500
  FILE.ReceivedFileName = a\\u{1b}[2J.xml
"
        );
    }
}
