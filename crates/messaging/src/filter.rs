//! Subscription filters: an expression over context properties, in CEL's syntax.
//!
//! ```text
//! BTS.ReceivePortName == "orders" && (has(FILE.ReceivedFileName) || Baton.BodyBytes != 0)
//! ```
//!
//! Known: property names, texts ('..' or ".."), whole numbers, `true` and `false`, `==`, `!=`,
//! `&&`, `||`, `!`, parentheses, and `has(PROPERTY)` (`exists(PROPERTY)` is the same).
//! `true` alone subscribes to everything.
//!
//! **A property that the message lacks.** As in BizTalk, a comparison with it does not match:
//! neither `==` nor `!=`. And as in CEL it stays undecided through `!`, so that `!(A == "x")` and
//! `A != "x"` always mean the same; `&&` and `||` still decide where the other side settles it
//! alone, in either order; a filter that ends undecided does not match. Only `has` asks for
//! presence: "without A, or with another value" is `!has(A) || A != "x"`.
//!
//! Values of different kinds are not equal: the number 5 is not the text "5".

mod parse;

use std::fmt;

use model::{Context, Value};
use thiserror::Error;

/// Longest filter in bytes: longer ones are tables, and belong in several ports.
pub const SOURCE_BYTES_MAX: usize = 8 * 1024;

/// Deepest nesting of parentheses and `!`: nobody reads deeper ones, and parsing recurses.
pub const DEPTH_MAX: usize = 64;

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the filter is wrong at byte {at}: {what}; {help}")]
pub struct FilterError {
    /// Where, in bytes from the begin of the filter.
    pub at: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub help: String,
}

/// A compiled filter. Printing it gives its canonical form, which parses to the same filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    root: Predicate,
}

/// A node of the predicate tree. `All` and `Any` have two parts or more, none of their own kind.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Predicate {
    Constant(bool),
    Has(String),
    Equal(String, Value),
    NotEqual(String, Value),
    Not(Box<Predicate>),
    All(Vec<Predicate>),
    Any(Vec<Predicate>),
}

impl Filter {
    /// Compiles a filter.
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        parse::filter(text).map(|root| Filter { root })
    }

    /// Whether a message with this context is wanted.
    pub fn matches(&self, context: &Context) -> bool {
        decide(&self.root, context) == Some(true)
    }
}

impl std::str::FromStr for Filter {
    type Err = FilterError;
    fn from_str(text: &str) -> Result<Filter, FilterError> {
        Filter::parse(text)
    }
}

/// Three-valued: none is "undecided, because a property is missing".
fn decide(predicate: &Predicate, context: &Context) -> Option<bool> {
    match predicate {
        Predicate::Constant(value) => Some(*value),
        Predicate::Has(name) => Some(context.get(name).is_some()),
        Predicate::Equal(name, value) => context.get(name).map(|found| found == value),
        Predicate::NotEqual(name, value) => context.get(name).map(|found| found != value),
        Predicate::Not(inner) => decide(inner, context).map(|value| !value),
        Predicate::All(parts) => settle(parts, context, false),
        Predicate::Any(parts) => settle(parts, context, true),
    }
}

/// One part that says `settles` settles it; otherwise one that is undecided leaves it undecided.
fn settle(parts: &[Predicate], context: &Context, settles: bool) -> Option<bool> {
    let mut answer = Some(!settles);
    for part in parts {
        match decide(part, context) {
            Some(value) if value == settles => return Some(settles),
            Some(_) => {}
            None => answer = None,
        }
    }
    answer
}

impl Predicate {
    /// All of these; nested ones of the same kind become one.
    fn all(parts: Vec<Predicate>) -> Predicate {
        Predicate::flat(parts, Predicate::All, |part| match part {
            Predicate::All(inner) => Ok(inner),
            other => Err(other),
        })
    }

    /// Any of these; nested ones of the same kind become one.
    fn any(parts: Vec<Predicate>) -> Predicate {
        Predicate::flat(parts, Predicate::Any, |part| match part {
            Predicate::Any(inner) => Ok(inner),
            other => Err(other),
        })
    }

    fn flat(
        parts: Vec<Predicate>,
        join: fn(Vec<Predicate>) -> Predicate,
        open: fn(Predicate) -> Result<Vec<Predicate>, Predicate>,
    ) -> Predicate {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match open(part) {
                Ok(inner) => flat.extend(inner),
                Err(part) => flat.push(part),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { join(flat) }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Predicate::Constant(value) => write!(f, "{value}"),
            Predicate::Has(name) => write!(f, "has({name})"),
            Predicate::Equal(name, value) => comparison(f, name, "==", value),
            Predicate::NotEqual(name, value) => comparison(f, name, "!=", value),
            Predicate::Not(inner) => match **inner {
                Predicate::Constant(_) | Predicate::Has(_) | Predicate::Not(_) => {
                    write!(f, "!{inner}")
                }
                Predicate::Equal(..)
                | Predicate::NotEqual(..)
                | Predicate::All(_)
                | Predicate::Any(_) => write!(f, "!({inner})"),
            },
            Predicate::All(parts) => joined(f, parts, " && "),
            Predicate::Any(parts) => joined(f, parts, " || "),
        }
    }
}

/// `||` binds weaker than `&&`, so only it needs parentheses inside of the other.
fn joined(f: &mut fmt::Formatter<'_>, parts: &[Predicate], by: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(by)?;
        }
        if matches!(part, Predicate::Any(_)) {
            write!(f, "({part})")?;
        } else {
            write!(f, "{part}")?;
        }
    }
    Ok(())
}

fn comparison(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    operator: &str,
    value: &Value,
) -> fmt::Result {
    write!(f, "{name} {operator} ")?;
    match value {
        Value::Boolean(value) => write!(f, "{value}"),
        Value::Integer(value) => write!(f, "{value}"),
        Value::Text(text) => quoted(f, text),
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            other if other.is_control() => write!(f, "\\u{:04x}", u32::from(other))?,
            other => write!(f, "{other}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests;
