//! Bytes of a message as text that a terminal shows and nothing else.

use std::fmt::Write as _;

use super::is_hostile;

/// Bytes of a body that are shown: two screens or so.
pub const SHOWN_BYTES_MAX: usize = 4096;

/// The bytes as text: lines stay lines; what is no UTF-8 and what could act on a terminal is
/// written as `\xHH` or `\u{HHHH}`, a backslash as `\\`, so that nothing is ambiguous.
pub fn escaped(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' | '\t' => shown.push(character),
                '\r' => shown.push_str("\\r"),
                '\\' => shown.push_str("\\\\"),
                other if is_hostile(other) => {
                    let _ = write!(shown, "\\u{{{:x}}}", u32::from(other));
                }
                other => shown.push(other),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bytes_are_only_shown() {
        for (bytes, shown) in [
            (&b"plain\n\ttext"[..], "plain\n\ttext"),
            (b"\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            (b"a\\x41\r\n", "a\\\\x41\\r\n"),
            (b"\xff\xfe ok \xc3", "\\xff\\xfe ok \\xc3"),
            ("\u{202e}ä\u{9b}".as_bytes(), "\\u{202e}ä\\u{9b}"),
        ] {
            assert_eq!(escaped(bytes), shown);
        }
    }
}
