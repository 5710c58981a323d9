//! What must be online before a resource may be: AND of OR-terms, as WSFC writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ResourceName;

/// Most names in one expression: more is no dependency that a person can follow at night.
const NAMES_MAX: usize = 100;

/// `([a] or [b]) and [c]`: each term needs one of its resources online. No term: nothing is needed.
///
/// Brackets around names may be left out; `or` binds tighter only inside parentheses, which is why
/// a mixed expression without them is refused instead of guessed at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dependency {
    terms: Vec<Vec<ResourceName>>,
}

/// Why a text is no dependency.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not a dependency ({why}): write names joined by `and`, and alternatives as \
     `(a or b)`, such as `address and (disk-1 or disk-2)`"
)]
pub struct InvalidDependency {
    text: String,
    why: String,
}

impl Dependency {
    /// The terms; each needs one of its resources.
    pub fn terms(&self) -> &[Vec<ResourceName>] {
        &self.terms
    }

    /// Whether nothing is needed.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Every resource named, as written.
    pub fn names(&self) -> impl Iterator<Item = &ResourceName> {
        self.terms.iter().flatten()
    }

    /// Whether it holds when these are online.
    pub fn holds(&self, is_online: impl Fn(&ResourceName) -> bool) -> bool {
        self.terms.iter().all(|term| term.iter().any(&is_online))
    }

    /// The first term that does not hold, for a sentence: `a or b`.
    pub fn missing(&self, is_online: impl Fn(&ResourceName) -> bool) -> Option<String> {
        let term = self.terms.iter().find(|term| !term.iter().any(&is_online))?;
        Some(term.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "))
    }

    /// Needs one more resource, whatever else it needs.
    pub fn and(&mut self, name: ResourceName) {
        if !self.terms.iter().any(|term| *term == [name.clone()]) {
            self.terms.push(vec![name]);
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, term) in self.terms.iter().enumerate() {
            let names: Vec<String> = term.iter().map(ToString::to_string).collect();
            let joint = if place > 0 { " and " } else { "" };
            match &names[..] {
                [name] => write!(f, "{joint}{name}")?,
                names => write!(f, "{joint}({})", names.join(" or "))?,
            }
        }
        Ok(())
    }
}

impl FromStr for Dependency {
    type Err = InvalidDependency;

    fn from_str(text: &str) -> Result<Dependency, InvalidDependency> {
        let invalid = |why: String| InvalidDependency { text: text.to_owned(), why };
        if text.trim().is_empty() {
            return Ok(Dependency::default());
        }
        let mut words = words(text).into_iter().peekable();
        let mut terms = Vec::new();
        loop {
            let term = match words.next() {
                Some(Word::Open) => alternatives(&mut words).map_err(&invalid)?,
                Some(Word::Name(name)) => vec![named(name).map_err(&invalid)?],
                Some(word) => return Err(invalid(format!("{word} where a name should stand"))),
                None => return Err(invalid("it ends where a name should stand".to_owned())),
            };
            terms.push(term);
            match words.next() {
                None => break,
                Some(Word::And) => {}
                Some(Word::Or) if terms.len() == 1 => {
                    // `a or b` as a whole is one term and needs no parentheses.
                    let mut rest = alternatives_to_end(&mut words).map_err(&invalid)?;
                    if let Some(first) = terms.first_mut() {
                        first.append(&mut rest);
                    }
                    break;
                }
                Some(word) => return Err(invalid(format!("{word} where `and` should stand"))),
            }
        }
        if terms.iter().map(Vec::len).sum::<usize>() > NAMES_MAX {
            return Err(invalid(format!("it has more than {NAMES_MAX} names")));
        }
        Ok(Dependency { terms })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word<'a> {
    Open,
    Close,
    And,
    Or,
    Name(&'a str),
}

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Word::Open => "`(`",
            Word::Close => "`)`",
            Word::And => "`and`",
            Word::Or => "`or`",
            Word::Name(name) => name,
        })
    }
}

fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return words };
        let length = match first {
            '(' | ')' => 1,
            '[' => rest.find(']').map_or(rest.len(), |end| end + 1),
            _ => rest
                .find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '['))
                .unwrap_or(rest.len()),
        };
        let (word, behind) = rest.split_at(length);
        rest = behind;
        words.push(match word {
            "(" => Word::Open,
            ")" => Word::Close,
            word if word.eq_ignore_ascii_case("and") => Word::And,
            word if word.eq_ignore_ascii_case("or") => Word::Or,
            word => Word::Name(word),
        });
    }
}

fn named(word: &str) -> Result<ResourceName, String> {
    let inner = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
    ResourceName::new(inner.trim()).map_err(|_| format!("{word} is not a name"))
}

/// `a or b)`, the parenthesis open already.
fn alternatives<'a>(
    words: &mut impl Iterator<Item = Word<'a>>,
) -> Result<Vec<ResourceName>, String> {
    let mut term = Vec::new();
    loop {
        match words.next() {
            Some(Word::Name(name)) => term.push(named(name)?),
            Some(word) => {
                return Err(format!("{word} inside parentheses where a name should stand"));
            }
            None => return Err("a parenthesis is not closed".to_owned()),
        }
        match words.next() {
            Some(Word::Or) => {}
            Some(Word::Close) => return Ok(term),
            Some(word) => return Err(format!("{word} inside parentheses, which hold `or` only")),
            None => return Err("a parenthesis is not closed".to_owned()),
        }
    }
}

fn alternatives_to_end<'a>(
    words: &mut impl Iterator<Item = Word<'a>>,
) -> Result<Vec<ResourceName>, String> {
    let mut term = Vec::new();
    loop {
        match words.next() {
            Some(Word::Name(name)) => term.push(named(name)?),
            Some(word) => return Err(format!("{word} where a name should stand")),
            None => return Err("it ends where a name should stand".to_owned()),
        }
        match words.next() {
            None => return Ok(term),
            Some(Word::Or) => {}
            Some(_) => return Err("`and` and `or` are mixed without parentheses".to_owned()),
        }
    }
}

impl TryFrom<String> for Dependency {
    type Error = InvalidDependency;
    fn try_from(text: String) -> Result<Dependency, InvalidDependency> {
        text.parse()
    }
}

impl From<Dependency> for String {
    fn from(dependency: Dependency) -> String {
        dependency.to_string()
    }
}

impl schemars::JsonSchema for Dependency {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dependency".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Names joined by `and`; alternatives in parentheses: a and (b or c)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_they_are_written() {
        for (text, shown) in [
            ("", ""),
            ("a", "a"),
            ("[a]", "a"),
            ("a and b", "a and b"),
            ("([a] or [b]) and ([c])", "(a or b) and c"),
            ("a or b", "(a or b)"),
            ("A AND (b OR c)", "A and (b or c)"),
        ] {
            let read: Dependency = text.parse().expect(text);
            assert_eq!(read.to_string(), shown);
            assert_eq!(shown.parse::<Dependency>(), Ok(read), "{shown}");
        }
        for bad in ["and", "a and", "a or", "a or b and c", "(a and b)", "(a", "a b", "[a", "()"] {
            assert!(bad.parse::<Dependency>().is_err(), "{bad}");
        }
    }

    #[test]
    fn each_term_needs_one() {
        let read: Dependency = "(a or b) and c".parse().expect("an expression");
        let online = |names: &'static [&'static str]| {
            move |name: &ResourceName| names.contains(&name.as_str())
        };
        assert!(read.holds(online(&["b", "c"])));
        assert!(!read.holds(online(&["a", "b"])));
        assert_eq!(read.missing(online(&["c"])).as_deref(), Some("a or b"));
    }
}
