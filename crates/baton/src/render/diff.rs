//! What differs between two versions of the definitions, object by object.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use model::Definitions;
use serde::Serialize;
use serde_json::Value;

use super::{Look, Paint};
use crate::yaml::is_secret;

/// One object that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// How.
    pub action: Action,
    /// What it is: `group`, `host`, `resource`, `receive_port`, `receive_location`,
    /// `send_port`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What differs in it; empty when it is added or removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

impl Change {
    /// Which object, and how it differs: `~ group partners`.
    pub fn head(&self) -> String {
        format!("{} {} {}", self.action.mark(), self.kind, self.name)
    }
}

/// How an object differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is new.
    Add,
    /// It is gone.
    Remove,
    /// It is another.
    Change,
}

impl Action {
    fn mark(self) -> &'static str {
        match self {
            Action::Add => "+",
            Action::Remove => "-",
            Action::Change => "~",
        }
    }
}

/// One field that differs. Passwords stand here as `***`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Field {
    /// Its path in the object: `transport.ftp.server`.
    pub path: String,
    /// Its old value; null when it had none.
    pub old: Value,
    /// Its new value; null when it has none.
    pub new: Value,
}

/// Everything that differs, in the order of the new definitions, removed objects last.
pub fn changes(old: &Definitions, new: &Definitions) -> Vec<Change> {
    let (old, new) = (objects(old), objects(new));
    let mut changes = Vec::new();
    let mut removed = Vec::new();
    for ((kind, old), (_, new)) in old.iter().zip(&new) {
        for (name, value) in new {
            let before = old.iter().find(|(known, _)| known == name);
            let fields = before.map(|(_, before)| fields(before, value));
            let action = if before.is_some() { Action::Change } else { Action::Add };
            if fields.as_ref().is_none_or(|fields| !fields.is_empty()) {
                let fields = fields.unwrap_or_default();
                changes.push(Change { action, kind, name: name.clone(), fields });
            }
        }
        for (name, _) in old.iter().filter(|(name, _)| new.iter().all(|(known, _)| known != name)) {
            let (action, name) = (Action::Remove, name.clone());
            removed.push(Change { action, kind, name, fields: Vec::new() });
        }
    }
    changes.extend(removed);
    changes
}

/// The changes for people, a line for each object, or for each field when several differ.
pub fn render(changes: &[Change], look: Look) -> String {
    let mut text = String::new();
    for change in changes {
        let paint = match change.action {
            Action::Add => Paint::Good,
            Action::Remove => Paint::Bad,
            Action::Change => Paint::Warn,
        };
        let head = look.paint(paint, &change.head());
        match change.fields.as_slice() {
            [] => {
                let _ = writeln!(text, "{head}");
            }
            [field] => {
                let _ = writeln!(text, "{head}: {}", line(field));
            }
            fields => {
                let _ = writeln!(text, "{head}:");
                for field in fields {
                    let _ = writeln!(text, "    {}", line(field));
                }
            }
        }
    }
    text
}

fn line(field: &Field) -> String {
    let line = format!("{} {} -> {}", field.path, shown(&field.old), shown(&field.new));
    super::safe(&line).into_owned()
}

pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(unset)".into(),
        Value::String(text) if !text.is_empty() && !text.contains([' ', '"']) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

type Objects = Vec<(String, Value)>;

/// The objects of each kind as JSON. A location is an object of its own that names its port.
fn objects(definitions: &Definitions) -> [(&'static str, Objects); 6] {
    let mut ports = named(&definitions.receive_ports);
    let mut locations = Vec::new();
    for (port, value) in &mut ports {
        let taken = value.as_object_mut().and_then(|fields| fields.remove("locations"));
        let Some(Value::Array(taken)) = taken else { continue };
        for mut location in taken {
            location["receive_port"] = Value::String(port.clone());
            locations.push((name_of(&location), location));
        }
    }
    [
        ("group", named(&definitions.groups)),
        ("host", named(&definitions.hosts)),
        ("resource", named(&definitions.resources)),
        ("receive_port", ports),
        ("receive_location", locations),
        ("send_port", named(&definitions.send_ports)),
    ]
}

fn named<T: Serialize>(items: &[T]) -> Objects {
    // Definitions are plain data with text keys: they always are JSON.
    let values = items.iter().map(|item| serde_json::to_value(item).unwrap_or_default());
    values.map(|value| (name_of(&value), value)).collect()
}

fn name_of(value: &Value) -> String {
    value["name"].as_str().unwrap_or_default().to_owned()
}

fn fields(old: &Value, new: &Value) -> Vec<Field> {
    let (old, new) = (flat(old), flat(new));
    let paths: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differing = paths.into_iter().filter(|path| old.get(*path) != new.get(*path));
    differing
        .map(|path| {
            let value = |values: &BTreeMap<String, Value>| match values.get(path) {
                Some(_) if path.rsplit('.').next().is_some_and(is_secret) => {
                    Value::String("***".into())
                }
                value => value.cloned().unwrap_or_default(),
            };
            Field { path: path.clone(), old: value(&old), new: value(&new) }
        })
        .collect()
}

/// Every value that is not a mapping, by its path.
pub(super) fn flat(value: &Value) -> BTreeMap<String, Value> {
    fn walk(path: String, value: &Value, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(entries) => {
                for (key, value) in entries {
                    let dot = if path.is_empty() { "" } else { "." };
                    walk(format!("{path}{dot}{key}"), value, found);
                }
            }
            other => {
                found.insert(path, other.clone());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(String::new(), value, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definitions(value: Value) -> Definitions {
        serde_json::from_value(value).expect("definitions")
    }

    fn ftp(server: &str, password: &str) -> Value {
        json!({"ftp": {"server": server, "password": password}})
    }

    #[test]
    fn a_change_list_reads_like_sentences() {
        let old = definitions(json!({
            "groups": [{"name": "g", "possible_owners": ["a", "b"]}],
            "hosts": [{"name": "gone"}, {"name": "h"}],
            "receive_ports": [{"name": "orders", "locations": [
                {"name": "l", "host": "h", "transport": ftp("one", "x")}]}],
            "send_ports": [{"name": "y", "host": "h", "filter": "true", "retries_max": 3,
                            "transport": {"file": {"folder": "/o"}}}],
        }));
        let new = definitions(json!({
            "groups": [{"name": "g", "possible_owners": ["a", "b", "c"]}],
            "hosts": [{"name": "h", "group": "g"}, {"name": "x"}],
            "receive_ports": [{"name": "orders", "locations": [
                {"name": "l", "host": "h", "transport": ftp("two", "y")}]}],
            "send_ports": [{"name": "y", "host": "h", "filter": "A == 'b c'", "retries_max": 5,
                            "transport": {"file": {"folder": "/o"}}}],
        }));
        let text = render(&changes(&old, &new), Look::PLAIN);
        assert_eq!(
            text,
            "\
~ group g: possible_owners [a, b] -> [a, b, c]
~ host h: group (unset) -> g
+ host x
~ receive_location l:
    transport.ftp.password *** -> ***
    transport.ftp.server one -> two
~ send_port y:
    filter true -> \"A == 'b c'\"
    retries_max 3 -> 5
- host gone
"
        );
        assert_eq!(changes(&new, &new), []);
    }

    #[test]
    fn a_location_that_moves_to_another_port_stays_itself() {
        let location = json!({"name": "l", "host": "h", "transport": ftp("s", "")});
        let old = definitions(json!({"receive_ports": [
            {"name": "p", "locations": [location]}, {"name": "q", "locations": []}]}));
        let new = definitions(json!({"receive_ports": [
            {"name": "p", "locations": []}, {"name": "q", "locations": [location]}]}));
        let text = render(&changes(&old, &new), Look::PLAIN);
        assert_eq!(text, "~ receive_location l: receive_port p -> q\n");
    }
}
