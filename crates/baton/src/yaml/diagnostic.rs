//! A problem in a YAML file as people read it: sentence, place, excerpt with caret, help.

use std::fmt::Write as _;
use std::ops::Range;

use super::tree::Span;

/// Most problems shown at once: more scroll away, and mending the first ones mends others.
const SHOWN_MAX: usize = 20;

/// Most characters of a line in an excerpt, so that it fits a terminal of 100 columns.
const EXCERPT_CHARS_MAX: usize = 88;

/// What stands in place of a secret, however long that is.
const MASK: [char; 3] = ['*'; 3];

/// A file of a document.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name as the operator gave it.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What of it must not be shown.
    pub secrets: Vec<Range<usize>>,
}

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where; none when it is about no place.
    pub span: Option<Span>,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A problem at a place.
    pub fn new(span: Option<Span>, what: impl Into<String>) -> Diagnostic {
        Diagnostic { span, what: what.into(), help: None }
    }

    /// The same with help.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }
}

/// All problems as one text.
pub fn render_all(sources: &[Source], diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN_MAX) {
        render(&mut text, sources, diagnostic);
        text.push('\n');
    }
    if diagnostics.len() > SHOWN_MAX {
        let _ = writeln!(text, "and {} more\n", diagnostics.len() - SHOWN_MAX);
    }
    let count = diagnostics.len();
    let _ = write!(text, "{count} problem{}", if count == 1 { "" } else { "s" });
    text
}

fn render(out: &mut String, sources: &[Source], diagnostic: &Diagnostic) {
    let _ = writeln!(out, "error: {}", crate::render::safe(&diagnostic.what));
    let mut margin = 1;
    if let Some((source, span)) =
        diagnostic.span.and_then(|span| sources.get(span.file).map(|source| (source, span)))
    {
        let place = Place::of(&source.text, span);
        let number = place.line.to_string();
        margin = number.len();
        let (line, before, marked) = excerpt(source, &place);
        let gap = " ".repeat(margin);
        let name = crate::render::safe(&source.name);
        let _ = writeln!(out, "{gap}--> {name}:{}:{}", place.line, place.column);
        let _ = writeln!(out, "{gap} |");
        let _ = writeln!(out, "{number} | {line}");
        let _ = writeln!(out, "{gap} | {}{}", " ".repeat(before), "^".repeat(marked));
    }
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(out, "{} = help: {}", " ".repeat(margin), crate::render::safe(help));
    }
}

/// A span as lines and columns.
struct Place {
    line: usize,
    column: usize,
    line_start: usize,
    line_end: usize,
    start: usize,
    end: usize,
}

impl Place {
    fn of(text: &str, span: Span) -> Place {
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let line_end = line_start + text[line_start..line_end].trim_end_matches('\r').len();
        let end = floor(text, span.start.saturating_add(span.bytes));
        Place {
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            line_start,
            line_end,
            start: start.min(line_end),
            end: end.clamp(start, line_end.max(start)),
        }
    }
}

/// The nearest byte at or before this one where a character begins.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// The line with secrets masked and cut to size, characters before the mark, and of the mark.
fn excerpt(source: &Source, place: &Place) -> (String, usize, usize) {
    let mut shown: Vec<char> = Vec::new();
    let (mut before, mut marked) = (0, 0);
    let mut in_secret = false;
    for (offset, character) in source.text[place.line_start..place.line_end].char_indices() {
        let at = place.line_start + offset;
        let secret = source.secrets.iter().any(|secret| secret.contains(&at));
        if at == place.start {
            // In the midst of what is masked, the mask is what is marked.
            before = if secret && in_secret { shown.len() - MASK.len() } else { shown.len() };
        }
        if secret && !in_secret {
            shown.extend(MASK);
        } else if !secret {
            shown.push(plain(character));
        }
        in_secret = secret;
        if at >= place.start && at < place.end {
            marked = shown.len() - before.min(shown.len());
        }
    }
    if place.start >= place.line_end {
        before = shown.len();
    }
    let marked = marked.max(1);
    if shown.len() <= EXCERPT_CHARS_MAX {
        return (shown.iter().collect(), before, marked);
    }
    cut(&shown, before, marked)
}

/// A window of a long line around the mark.
fn cut(shown: &[char], before: usize, marked: usize) -> (String, usize, usize) {
    let room = EXCERPT_CHARS_MAX - 6;
    let begin = before.saturating_sub(room / 2).min(shown.len().saturating_sub(room));
    let end = (begin + room).min(shown.len());
    let left = if begin > 0 { "..." } else { "" };
    let right = if end < shown.len() { "..." } else { "" };
    let line: String = shown[begin..end].iter().collect();
    let before = before - begin + left.len();
    let marked = marked.min((left.len() + line.chars().count()).saturating_sub(before).max(1));
    (format!("{left}{line}{right}"), before, marked)
}

/// One cell of a terminal for each character, and nothing that moves its cursor.
fn plain(character: char) -> char {
    match character {
        '\t' => ' ',
        other if crate::render::is_hostile(other) => '\u{fffd}',
        other => other,
    }
}
