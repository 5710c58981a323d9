//! Text and numbers on their way into columns and back.

use std::borrow::Cow;

use model::Epoch;
use sha2::{Digest, Sha256};

/// An index entry of PostgreSQL has room for some 2,700 bytes, and source and key share it. Longer
/// ones (paths may be 4,096 bytes and more) are kept as their beginning and their digest.
const KEY_BYTES_MAX: usize = 1024;

/// Free text for operators. PostgreSQL's text has no U+0000.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { text.into() }
}

/// A source or a key as it stands in its column: different for different texts.
pub(crate) fn key(text: &str) -> Cow<'_, str> {
    if text.len() <= KEY_BYTES_MAX && !text.contains('\0') {
        return text.into();
    }
    let digest: String =
        Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let begin = text.floor_char_boundary(KEY_BYTES_MAX / 2);
    Cow::Owned(format!("{}...sha256:{digest}", plain(&text[..begin])))
}

/// An epoch out of its column; the schema forbids negative ones.
pub(crate) fn epoch_of(column: i64) -> Epoch {
    Epoch(column.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_stay_different_and_become_short() {
        assert_eq!(key("ftp://partner/out"), "ftp://partner/out");
        let long = "ä".repeat(3000);
        let (one, other) = (format!("{long}1"), format!("{long}2"));
        assert_ne!(key(&one), key(&other));
        assert!(key(&one).len() <= KEY_BYTES_MAX);
        assert_ne!(key("a\0"), key("a\u{fffd}"));
    }
}
