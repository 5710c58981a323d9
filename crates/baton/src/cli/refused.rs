//! A refusal: a rule forbids what was asked, and nothing was changed.

use std::fmt;

/// A sentence, or several lines of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(String);

impl Refused {
    /// A refusal that says what is wrong and how to mend it.
    pub fn new(sentence: impl Into<String>) -> Refused {
        Refused(sentence.into())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}
