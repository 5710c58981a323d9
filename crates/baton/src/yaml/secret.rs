//! Which bytes of a YAML text must not be shown: passwords, however they are written.

use std::ops::Range;

use serde_json::Value;

use super::nearest::distance;
use super::tree::{Kind, Node, Span};

/// Finds what a text must not show. `tree` is none when the text is no YAML: then every line that
/// may be part of a password is taken for one.
pub fn secrets(text: &str, tree: Option<&Node>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    match tree {
        Some(tree) => by_tree(tree, &mut found),
        None => by_line(text, &mut found),
    }
    in_urls(text, &mut found);
    found
}

/// A value without passwords, which stand as `***` in it.
pub fn masked(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let masked = entries.into_iter().map(|(key, value)| {
                let secret = is_secret(&key) && value.is_string();
                (key, if secret { Value::String("***".into()) } else { masked(value) })
            });
            Value::Object(masked.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(masked).collect()),
        other => other,
    }
}

/// Whether the value of this key is a password; misspelt keys too, since they get reported.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let plain = key.trim_matches(['"', '\'']);
    let named = plain.contains("password") || distance(plain, "password") <= 2;
    let short = matches!(plain, "pass" | "passwd" | "pwd" | "secret" | "token");
    (named && !plain.ends_with("_file")) || short
}

fn by_tree(node: &Node, found: &mut Vec<Range<usize>>) {
    match &node.kind {
        Kind::List(items) => items.iter().for_each(|item| by_tree(item, found)),
        Kind::Map(entries) => {
            for (key, value) in entries {
                if is_secret(&key.text) {
                    whole(value, found);
                } else {
                    by_tree(value, found);
                }
            }
        }
        Kind::Null | Kind::Boolean(_) | Kind::Integer(_) | Kind::Number(_) | Kind::Text(_) => {}
    }
}

fn whole(node: &Node, found: &mut Vec<Range<usize>>) {
    let range = |span: Span| span.start..span.start + span.bytes;
    match &node.kind {
        Kind::List(items) => items.iter().for_each(|item| whole(item, found)),
        Kind::Map(entries) => {
            for (key, value) in entries {
                found.push(range(key.span));
                whole(value, found);
            }
        }
        Kind::Null => {}
        Kind::Boolean(_) | Kind::Integer(_) | Kind::Number(_) | Kind::Text(_) => {
            found.push(range(node.defined));
            found.push(range(node.span));
        }
    }
}

/// What follows a password's key on its line, and all lines after it up to one that is indented
/// no deeper and looks like an entry of its own.
fn by_line(text: &str, found: &mut Vec<Range<usize>>) {
    let mut start = 0;
    let mut indent_of_secret = None;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end();
        let indent = content.len() - content.trim_start().len();
        let goes_on = indent_of_secret.is_some_and(|limit| {
            content.is_empty() || indent > limit || !looks_like_an_entry(content)
        });
        if goes_on {
            found.push(start..start + content.len());
        } else {
            indent_of_secret = None;
            if let Some(colon) = secret_colon(content) {
                found.push(start + colon + 1..start + content.len());
                indent_of_secret = Some(indent);
            }
        }
        start += line.len();
    }
}

fn looks_like_an_entry(line: &str) -> bool {
    let word = line.trim_start().trim_start_matches("- ");
    let end = word.find(|c: char| !(c == '_' || c == '-' || c.is_ascii_alphanumeric()));
    word.starts_with('#') || end.is_some_and(|end| end > 0 && word[end..].starts_with(':'))
}

/// The colon after a password's key.
fn secret_colon(line: &str) -> Option<usize> {
    line.match_indices(':').map(|(colon, _)| colon).find(|colon| {
        let before = line[..*colon].trim_end();
        let word = before
            .rfind(|c: char| c.is_whitespace() || matches!(c, '{' | ',' | '['))
            .map_or(before, |end| before[end..].trim_start_matches(['{', ',', '[', ' ']));
        is_secret(word.trim())
    })
}

/// The password of `scheme://user:password@host`.
fn in_urls(text: &str, found: &mut Vec<Range<usize>>) {
    for (scheme_end, _) in text.match_indices("://") {
        let begin = scheme_end + 3;
        let rest = &text[begin..];
        let end = rest.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(rest.len());
        let authority = &rest[..end];
        if let (Some(colon), Some(at)) = (authority.find(':'), authority.rfind('@'))
            && colon < at
        {
            found.push(begin + colon + 1..begin + at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn hides(text: &str, secret: &str) {
        let tree: Option<Node> = serde_saphyr::from_str(text).ok();
        for tree in [tree.as_ref(), None] {
            let mut shown = text.to_owned();
            let mut ranges = secrets(text, tree);
            ranges.sort_by_key(|range| std::cmp::Reverse(range.start));
            for range in ranges {
                let end = range.end.min(shown.len());
                shown.replace_range(range.start.min(end)..end, "*");
            }
            assert!(!shown.contains(secret), "{shown} ({})", tree.is_some());
        }
    }

    #[test]
    fn passwords_are_hidden_however_they_are_written() {
        for text in [
            "password: hunter2\n",
            "a: {user: x, password: hunter2}\n",
            "a: {user: x, \"password\": 'hunter2'}\n",
            "password: |\n  hunter2\n  more\nuser: x\n",
            "password: \"one\n  hunter2\"\n",
            "pasword: hunter2\n",
            "password: [hunter2]\n",
            "password: {hunter2: hunter2}\n",
            "url: postgresql://u:hunter2@host/db\n",
            "a: &x hunter2\npassword: *x\n# hunter\n".replace("a: &x", "pwd: &x").as_str(),
        ] {
            hides(text, "hunter2");
        }
    }

    #[test]
    fn the_name_of_a_password_file_is_no_secret() {
        let text = "password_file: /etc/p\nfolder: x\n";
        assert!(secrets(text, None).is_empty());
    }
}
