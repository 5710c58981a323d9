//! `baton status`: the whole cluster on one screen, once or for as long as somebody looks.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use store::{Store, Topic};

use super::session::{open, print, print_if_read, print_json};
use super::{EXIT_OK, Global};
use crate::render::Look;
use crate::render::status::Status;

/// Redraw at least this often: times ago must not stand still.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// Redraw at most this often: a busy cluster wakes us hundreds of times a second.
const REDRAW_PAUSE: Duration = Duration::from_millis(100);

/// Show the whole cluster on one screen: nodes, groups with owner and reason, hosts, receive
/// locations, backlog of each send port.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  baton status
  baton status --watch
  baton status -o json | jq '.groups[] | {name, owner, epoch}'

With --watch and -o json each state is one line of JSON.
Colours are used on a terminal only, and never when NO_COLOR is set.")]
pub struct StatusArgs {
    /// Redraw on every change, and every second, until Ctrl-C.
    #[arg(short, long)]
    pub watch: bool,
}

pub(super) async fn run(args: &StatusArgs, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    if args.watch {
        watch(store.as_ref(), global).await?;
    } else {
        let status = read(store.as_ref()).await?;
        if global.json() {
            print_json(&status)?;
        } else {
            print(&status.render(Look::of_stdout()))?;
        }
    }
    Ok(EXIT_OK)
}

async fn read(store: &dyn Store) -> store::Result<Status> {
    let snapshot = store.snapshot().await?;
    let locations = store.locations().await?;
    let backlog = store.backlog().await?;
    Ok(Status::of(store.describe(), &snapshot, &locations, &backlog))
}

async fn watch(store: &dyn Store, global: &Global) -> Result<()> {
    let mut cluster = store.subscribe(Topic::Cluster);
    let mut work = store.subscribe(Topic::Work);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        if !draw(read(store).await, global)? {
            return Ok(());
        }
        tokio::select! {
            _ = &mut interrupted => return Ok(()),
            () = tokio::time::sleep(REDRAW_PAUSE) => {}
        }
        tokio::select! {
            _ = &mut interrupted => return Ok(()),
            () = cluster.next() => {}
            () = work.next() => {}
            () = tokio::time::sleep(REDRAW_EVERY) => {}
        }
    }
}

/// Draws one state, and answers whether somebody still looks. A store that is away is news, not
/// the end: it is asked again.
fn draw(status: store::Result<Status>, global: &Global) -> Result<bool> {
    if global.json() {
        let line = match status {
            Ok(status) => serde_json::to_string(&status)?,
            Err(error) => serde_json::json!({"error": error.to_string()}).to_string(),
        };
        return print_if_read(&format!("{line}\n"));
    }
    let look = Look::of_stdout();
    let text = match status {
        Ok(status) => status.render(look),
        Err(error) => {
            let line = format!("{error}; trying again");
            format!("{}\n", look.paint(crate::render::Paint::Bad, &crate::render::safe(&line)))
        }
    };
    if !std::io::stdout().is_terminal() {
        return print_if_read(&format!("{text}\n"));
    }
    print_if_read(&screen(&text, rows()))
}

/// Home, then each line up to its end, then everything below: no flicker of an empty screen. What
/// does not fit is counted, since a terminal that scrolls would lose the first lines.
fn screen(text: &str, rows: usize) -> String {
    let all = text.lines().count();
    let shown = if all < rows { all } else { rows.saturating_sub(2) };
    let mut lines: String =
        text.lines().take(shown).map(|line| format!("{line}\x1b[K\n")).collect();
    if shown < all {
        lines.push_str(&format!("... {} more lines\x1b[K\n", all - shown));
    }
    format!("\x1b[H{lines}\x1b[J")
}

/// Rows of the terminal.
fn rows() -> usize {
    let asked = rustix::termios::tcgetwinsize(std::io::stdout());
    asked.map(|size| size.ws_row.into()).ok().filter(|rows| *rows > 0).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_never_scrolls() {
        assert_eq!(screen("a\nb\n", 3), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(screen("a\nb\nc\n", 3), "\x1b[Ha\x1b[K\n... 2 more lines\x1b[K\n\x1b[J");
    }
}
