//! File masks: `*` for any run of characters, `?` for one, upper and lower case alike.

use adapter::{AdapterError, Result};

/// Refuses a mask that no name could fit.
pub(crate) fn check(mask: &str) -> Result<()> {
    let why = match mask {
        "" => "is empty",
        _ if mask.contains('/') => "holds a /, but is compared with names in one folder only",
        _ => return Ok(()),
    };
    Err(AdapterError::Refused(format!(
        "file_mask {mask:?} {why}: write `*` for every file, or such as `*.xml`"
    )))
}

/// A mask, ready to be compared with names.
#[derive(Debug, Clone)]
pub(crate) struct Mask(Vec<char>);

impl Mask {
    pub(crate) fn new(mask: &str) -> Mask {
        Mask(lower(mask))
    }

    /// Takes time proportional to mask times name, whatever stands in them: only the last `*` is
    /// ever tried again.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let (mask, name) = (&self.0, lower(name));
        let (mut at_mask, mut at_name) = (0, 0);
        let mut last_star = None;
        while at_name < name.len() {
            match mask.get(at_mask) {
                Some('*') => {
                    last_star = Some((at_mask, at_name));
                    at_mask += 1;
                }
                Some(wanted) if *wanted == '?' || *wanted == name[at_name] => {
                    at_mask += 1;
                    at_name += 1;
                }
                _ => {
                    let Some((star, from)) = last_star else {
                        return false;
                    };
                    last_star = Some((star, from + 1));
                    at_mask = star + 1;
                    at_name = from + 1;
                }
            }
        }
        mask[at_mask..].iter().all(|rest| *rest == '*')
    }
}

fn lower(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// A name for people: as UTF-8, else as Latin-1, the charset of servers that don't speak UTF-8.
pub(crate) fn readable(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(name) => name.to_owned(),
        Err(_) => name.iter().map(|byte| char::from(*byte)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        for (mask, name, expected) in [
            ("*", "", true),
            ("*", "anything at all", true),
            ("*.xml", "order.xml", true),
            ("*.xml", "ORDER.XML", true),
            ("*.XML", "order.xml", true),
            ("*.xml", "order.xml.part", false),
            ("*.xml", ".xml", true),
            ("order?.xml", "order1.xml", true),
            ("order?.xml", "order.xml", false),
            ("order?.xml", "order12.xml", false),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
            ("", "", true),
            ("", "x", false),
            ("exact.txt", "exact.txt", true),
            ("bestellung_?.csv", "BESTELLUNG_Ä.csv", true),
            ("größe*", "GRÖßE.txt", true),
            ("[a].txt", "[a].txt", true),
            ("[a].txt", "a.txt", false),
        ] {
            assert_eq!(Mask::new(mask).matches(name), expected, "{mask} {name}");
        }
    }

    #[test]
    fn a_hostile_mask_is_not_slow() {
        let mask = Mask::new(&"*a".repeat(500));
        assert!(!mask.matches(&"a".repeat(499)));
        assert!(!mask.matches(&format!("{}b", "a".repeat(4000))));
    }

    #[test]
    fn names_that_are_not_utf_8_can_be_read() {
        assert_eq!(readable("käse".as_bytes()), "käse");
        assert_eq!(readable(b"k\xe4se"), "käse");
    }
}
