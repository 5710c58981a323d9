//! Receive locations whose items would be taken twice: by two locations, or again and again by one
//! that moves them into its own folder.

use std::collections::BTreeMap;

use super::transport::{AfterReceive, ReceiveKind, TlsMode};
use super::{Definitions, Problem};

/// Where a location receives from, in one spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    server: String,
    folder: String,
}

/// Looks for such locations.
pub(super) fn check(definitions: &Definitions, problems: &mut Vec<Problem>) {
    let mut known: BTreeMap<Place, Vec<(&str, &str)>> = BTreeMap::new();
    for (index, port) in definitions.receive_ports.iter().enumerate() {
        for (number, location) in port.locations.iter().enumerate() {
            let path = format!("receive_ports[{index}].locations[{number}]");
            let (place, mask) = place_of(&location.transport);
            if let AfterReceive::Move(folder) = &location.after_receive
                && joined(&place.folder, folder) == place.folder
            {
                problems.push(Problem::new(
                    format!("{path}.after_receive"),
                    format!(
                        "location {} would move what it received into the folder that it receives \
                         from, and receive it again",
                        location.name
                    ),
                    "name another folder; a relative one lies in the folder that is received from",
                ));
            }
            let others = known.entry(place).or_default();
            for (other, _) in others.iter().filter(|(_, others)| masks_meet(others, mask)) {
                problems.push(Problem::new(
                    format!("{path}.transport"),
                    format!(
                        "locations {other} and {} could take the same item: they have the same \
                         server and folder, and a name may fit the masks of both",
                        location.name
                    ),
                    "give them masks that no name fits both of, or keep one location and let \
                     several send ports subscribe to it",
                ));
            }
            others.push((location.name.as_str(), mask));
        }
    }
}

fn place_of(transport: &ReceiveKind) -> (Place, &str) {
    match transport {
        ReceiveKind::Ftp(ftp) => {
            let usual = if ftp.tls == TlsMode::Implicit { 990 } else { 21 };
            let server = ftp.server.to_ascii_lowercase();
            // Another user may begin in another folder; the same one begins in the same, and most
            // servers show it as the root.
            let server = format!("ftp://{}@{server}:{}", ftp.user, ftp.port.unwrap_or(usual));
            (Place { server, folder: joined("", &ftp.folder) }, &ftp.file_mask)
        }
        ReceiveKind::File(file) => {
            let folder = joined("", &file.folder.to_string_lossy());
            (Place { server: "file".into(), folder }, &file.file_mask)
        }
    }
}

/// A folder in one spelling, seen from another.
fn joined(base: &str, folder: &str) -> String {
    let base = if folder.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(folder.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether some name fits both masks (`*` any run of characters, `?` one; case does not matter).
fn masks_meet(one: &str, other: &str) -> bool {
    let lower = |mask: &str| mask.chars().flat_map(char::to_lowercase).collect::<Vec<char>>();
    let (one, other) = (lower(one), lower(other));
    // meets[b]: whether the rest of `one` from the current place and `other` from b can meet.
    let mut meets = vec![false; other.len() + 1];
    for a in (0..=one.len()).rev() {
        let after = meets.clone();
        for b in (0..=other.len()).rev() {
            meets[b] = match (one.get(a), other.get(b)) {
                (None, None) => true,
                (Some('*'), _) => after[b] || (b < other.len() && meets[b + 1]),
                (_, Some('*')) => meets[b + 1] || (a < one.len() && after[b]),
                (Some(x), Some(y)) => (x == y || *x == '?' || *y == '?') && after[b + 1],
                (None, Some(_)) | (Some(_), None) => false,
            };
        }
    }
    meets[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_meet_when_a_name_fits_both() {
        for (one, other, expected) in [
            ("*", "*", true),
            ("*.xml", "*.XML", true),
            ("*.xml", "*.csv", false),
            ("*.xml", "f*", true),
            ("a*", "b*", false),
            ("a?c", "ab*", true),
            ("a?", "a", false),
            ("*a*", "*b*", true),
            ("", "*", true),
            ("", "?", false),
            ("order-*.xml", "order-??.xml", true),
            ("*.x", "*.x?", false),
        ] {
            assert_eq!(masks_meet(one, other), expected, "{one} {other}");
            assert_eq!(masks_meet(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_folder_has_one_spelling() {
        for (base, folder, expected) in [
            ("", "/in/", "in"),
            ("", "in/../in/./x", "in/x"),
            ("in", "done", "in/done"),
            ("in", "", "in"),
            ("in", "../in", "in"),
            ("in", "/out", "out"),
        ] {
            assert_eq!(joined(base, folder), expected, "{base} {folder}");
        }
    }

    fn problems(locations: serde_json::Value) -> Vec<Problem> {
        let definitions = serde_json::json!({
            "hosts": [{"name": "h"}],
            "receive_ports": [{"name": "p", "locations": locations}],
        });
        let definitions = serde_json::from_value(definitions).expect("definitions");
        let mut problems = Vec::new();
        check(&definitions, &mut problems);
        problems
    }

    #[test]
    fn two_locations_may_not_take_the_same_item() {
        let ftp = |name: &str, user: &str, folder: &str, mask: &str| {
            serde_json::json!({"name": name, "host": "h", "transport": {"ftp": {
                "server": "F.example", "user": user, "folder": folder, "file_mask": mask}}})
        };
        let found = problems(serde_json::json!([
            ftp("a", "u", "out", "*.xml"),
            ftp("b", "u", "/out/", "o*"),
            ftp("c", "u", "out", "*.csv"),
            ftp("d", "other", "out", "*"),
            ftp("e", "u", "in", "*"),
        ]));
        let paths: Vec<&str> = found.iter().map(|problem| problem.path.as_str()).collect();
        let (b, c) =
            ("receive_ports[0].locations[1].transport", "receive_ports[0].locations[2].transport");
        assert_eq!(paths, [b, c], "b may meet a; c may meet b");
        assert!(found[0].what.contains("locations a and b could take the same item"));
    }

    #[test]
    fn a_location_may_not_move_into_its_own_folder() {
        let location = |folder: &str| {
            problems(serde_json::json!([{"name": "a", "host": "h", "after_receive":
                {"move": folder}, "transport": {"file": {"folder": "/in"}}}]))
        };
        assert_eq!(location("done"), []);
        for own in ["", ".", "/in", "../in/"] {
            assert_eq!(location(own).len(), 1, "{own}");
        }
    }
}
