//! Names of files that are sent: `%MessageID%` and its kin (BizTalk's macros).

use adapter::{AdapterError, Result};
use model::{Context, MessageId, property};

use super::TEMPORARY;

/// Longest name that Linux file systems take.
const NAME_BYTES_MAX: usize = 255;

/// The name of the file that a message becomes.
///
/// The same for each try of a message, or a second try after a lost answer would make a second
/// file: so date and time are those at which the message was made, which its id tells.
pub(super) fn file_name(pattern: &str, message: MessageId, context: &Context) -> Result<String> {
    let name = expand(pattern, message, context);
    check(&name).map_err(|problem| {
        AdapterError::Item(format!("{name:?} can't be a file's name: {problem}"))
    })?;
    Ok(name)
}

/// Whatever a partner put into the name, it must stay in the folder.
fn check(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("it is empty"),
        "." | ".." => Err("it means a folder"),
        _ if name.contains('/') => Err("it holds a /"),
        _ if name.contains('\0') => Err("it holds a NUL"),
        _ if name.len() > NAME_BYTES_MAX => Err("it is longer than 255 bytes"),
        _ if name.starts_with(TEMPORARY) => Err("such names are for files half written"),
        _ => Ok(()),
    }
}

/// Macros that are unknown, or that this message has no value for, stay as they are. What a macro
/// stands for is not searched for macros again.
fn expand(pattern: &str, message: MessageId, context: &Context) -> String {
    let mut name = String::new();
    let mut rest = pattern;
    while let Some(start) = rest.find('%') {
        let (before, from) = rest.split_at(start);
        name.push_str(before);
        let value = from[1..].find('%').and_then(|length| {
            let value = value_of(&from[1..=length], message, context)?;
            Some((value, length + 2))
        });
        match value {
            Some((value, length)) => {
                name.push_str(&value);
                rest = &from[length..];
            }
            None => {
                name.push('%');
                rest = &from[1..];
            }
        }
    }
    name + rest
}

/// What looks like a macro and is none.
pub(super) fn unknown(pattern: &str) -> Option<&str> {
    let known = ["messageid", "sourcefilename", "datetime", "time"];
    let mut rest = pattern;
    while let Some(start) = rest.find('%') {
        let from = &rest[start + 1..];
        let length = from.find('%')?;
        let name = &from[..length];
        match known.contains(&name.to_ascii_lowercase().as_str()) {
            true => rest = &from[length + 1..],
            false if !name.is_empty() && name.chars().all(char::is_alphanumeric) => {
                return Some(&rest[start..start + length + 2]);
            }
            false => rest = from,
        }
    }
    None
}

fn value_of(name: &str, message: MessageId, context: &Context) -> Option<String> {
    match name.to_ascii_lowercase().as_str() {
        "messageid" => Some(message.to_string()),
        "sourcefilename" => context.text(property::RECEIVED_FILE_NAME).map(str::to_owned),
        "datetime" => made_at(message).map(|at| at.strftime("%Y-%m-%dT%H%M%S").to_string()),
        "time" => made_at(message).map(|at| at.strftime("%H%M%S").to_string()),
        _ => None,
    }
}

/// The moment in a UUID of version 7, in UTC.
fn made_at(message: MessageId) -> Option<jiff::civil::DateTime> {
    let (seconds, nanoseconds) = message.0.get_timestamp()?.to_unix();
    let nanoseconds = i32::try_from(nanoseconds).ok()?;
    let at = jiff::Timestamp::new(i64::try_from(seconds).ok()?, nanoseconds).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).datetime())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01991e4c-6f00-7000-8000-000000000001"; // 2025-09-06T09:12:29Z

    fn name(pattern: &str, source: Option<&str>) -> Result<String, String> {
        let mut context = Context::default();
        if let Some(source) = source {
            context.set(property::RECEIVED_FILE_NAME, source);
        }
        let message = ID.parse().expect("a UUID");
        file_name(pattern, message, &context).map_err(|error| error.to_string())
    }

    #[test]
    fn macros_become_values() {
        for (pattern, expected) in [
            ("%MessageID%", ID),
            ("%messageid%.xml", "01991e4c-6f00-7000-8000-000000000001.xml"),
            ("order_%datetime%.xml", "order_2025-09-06T091229.xml"),
            ("%time%", "091229"),
            ("%SourceFileName%", "a b.xml"),
            ("%SourceFileName%%SourceFileName%", "a b.xmla b.xml"),
            ("plain", "plain"),
            ("100%", "100%"),
            ("100%%MessageID%", "100%01991e4c-6f00-7000-8000-000000000001"),
            ("%Unknown%.%time%", "%Unknown%.091229"),
            ("%", "%"),
            ("%%", "%%"),
        ] {
            assert_eq!(name(pattern, Some("a b.xml")).as_deref(), Ok(expected), "{pattern}");
        }
        assert_eq!(name("%SourceFileName%", None).as_deref(), Ok("%SourceFileName%"));
        assert_eq!(name("%SourceFileName%", Some("%time%")).as_deref(), Ok("%time%"));
    }

    #[test]
    fn a_mistyped_macro_is_found() {
        for (pattern, expected) in [
            ("%MessageID%.xml", None),
            ("%MesageID%.xml", Some("%MesageID%")),
            ("100%%time%", None),
            ("%", None),
            ("%time%%Tme%", Some("%Tme%")),
            ("50% of %time%", None),
        ] {
            assert_eq!(unknown(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn a_hostile_name_does_not_leave_the_folder() {
        for source in
            ["../../etc/cron.d/x", "/etc/passwd", "a/b", "..", ".", "", "a\0b", ".baton-x"]
        {
            assert!(name("%SourceFileName%", Some(source)).is_err(), "{source:?}");
        }
        assert!(name("%SourceFileName%", Some(&"a".repeat(255))).is_ok());
        assert!(name("%SourceFileName%", Some(&"a".repeat(256))).is_err());
        assert!(name("sub/%MessageID%", None).is_err());
    }
}
