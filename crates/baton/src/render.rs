//! What the command line prints: plain values in, text out. Nothing here asks a store or a clock.

pub mod body;
pub mod diff;
pub mod event;
pub mod failover;
pub mod group;
pub mod node;
pub mod policy;
pub mod status;
pub mod table;
pub mod work;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

use model::{Millis, Timestamp};

/// What a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns.
    pub columns: usize,
    /// Whether colours are wanted.
    pub colours: bool,
}

/// Columns when nobody says how many there are.
const COLUMNS_DEFAULT: usize = 80;

/// Columns beyond which lines get hard to follow.
const COLUMNS_MAX: usize = 160;

impl Look {
    /// No colours, 80 columns.
    pub const PLAIN: Look = Look { columns: COLUMNS_DEFAULT, colours: false };

    /// What standard output can show: colours on a terminal only, and not with `NO_COLOR`.
    pub fn of_stdout() -> Look {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let asked = || rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col.into());
        let columns: usize =
            told.or_else(asked).filter(|columns| *columns > 0).unwrap_or(COLUMNS_DEFAULT);
        Look { columns: columns.min(COLUMNS_MAX), colours: terminal && !refused && !dumb }
    }

    /// The text in a colour, if colours are wanted.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::None => return text.to_owned(),
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Good => "32",
            Paint::Warn => "33",
            Paint::Bad => "31",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Paint {
    /// Nothing special.
    #[default]
    None,
    /// A heading.
    Bold,
    /// Of lesser interest.
    Dim,
    /// All is well.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
}

/// A text from outside made safe for a terminal: what could move its cursor, change its colours or
/// turn the order of letters around is written as an escape.
pub fn safe(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            other if is_hostile(other) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(other));
            }
            other => shown.push(other),
        }
    }
    Cow::Owned(shown)
}

/// Whether a terminal might do something else with a character than show it in its place.
pub fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(u32::from(character),
            0x00ad | 0x061c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
            | 0xfe00..=0xfe0f | 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe0fff)
}

/// How long ago: `now`, `3s ago`, `2m ago`, `5h ago`, `4d ago`.
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    let since = now.since(then);
    if since.0 < 1000 { "now".into() } else { format!("{} ago", length(since)) }
}

/// A duration to one unit, for reading: `0s`, `12s`, `3m`, `2h`, `9d`.
pub fn length(duration: Millis) -> String {
    let seconds = duration.0 / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A size for reading: `12 B`, `1.5 kB`, `3.0 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A count with its noun: `1 message`, `2 messages`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Breaks a sentence into lines of at most so many columns.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().map(|line| (line.chars().count(), line));
        let Some((used, line)) = line else { continue };
        if used > 0 && used + 1 + word.chars().count() > columns {
            lines.push(word.to_owned());
        } else {
            if used > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_not_moved() {
        assert_eq!(safe("plain ä €"), "plain ä €");
        assert_eq!(safe("a\x1b[31mb\r\n\u{202e}c\u{9b}"), "a\\u{1b}[31mb\\r\\n\\u{202e}c\\u{9b}");
    }

    #[test]
    fn times_and_sizes_read_well() {
        let now = Timestamp(1_000_000_000);
        for (millis, text) in
            [(0, "now"), (3_400, "3s ago"), (125_000, "2m ago"), (7_300_000, "2h ago")]
        {
            assert_eq!(ago(now, Timestamp(now.0 - millis)), text);
        }
        assert_eq!(ago(now, Timestamp(now.0 + 5)), "now");
        assert_eq!(length(Millis::hours(49)), "2d");
        for (bytes, text) in [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB")] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn sentences_wrap_at_words() {
        assert_eq!(wrapped("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrapped("aaaaaaaa b", 5), ["aaaaaaaa", "b"]);
    }
}
