//! SQL stands in the store, in files, one for each engine.

use std::collections::BTreeSet;

use super::Problems;
use super::tree::{Tree, code_lines};

const SQLITE: &str = "crates/store/sql/sqlite/";
const POSTGRES: &str = "crates/store/sql/postgres/";
const ONLY: &str = "crates/store/sql/ONLY.md";

/// `testbed` makes databases and its tests look into them, `bench` measures what the bare database
/// can do, and this crate looks for the words.
const MAY_SPEAK_SQL: [&str; 4] = ["crates/store/", "crates/testbed/", "bench/", "xtask/"];

pub(super) fn statements_come_in_pairs(tree: &Tree) -> Problems {
    let of = |folder: &'static str| -> BTreeSet<&str> {
        tree.below(folder, ".sql").filter_map(|(path, _)| path.strip_prefix(folder)).collect()
    };
    let (sqlite, postgres) = (of(SQLITE), of(POSTGRES));
    let ends_name = |letter: char| !letter.is_alphanumeric() && !"_-.".contains(letter);
    let words = tree.text(ONLY).unwrap_or_default().split(ends_name);
    let excused: BTreeSet<&str> = words.map(|word| word.trim_end_matches('.')).collect();
    let lonely = sqlite.symmetric_difference(&postgres).filter(|name| !excused.contains(**name));
    lonely
        .map(|name| {
            let (is_in, is_not_in) = match sqlite.contains(name) {
                true => (SQLITE, POSTGRES),
                false => (POSTGRES, SQLITE),
            };
            format!("{is_in}{name}: has no twin in {is_not_in}; write it, or say why in {ONLY}")
        })
        .collect()
}

pub(super) fn only_the_store_speaks_sql(tree: &Tree) -> Problems {
    let mut problems = Problems::new();
    let others =
        tree.rust().filter(|(path, _)| !MAY_SPEAK_SQL.iter().any(|may| path.starts_with(may)));
    for (path, text) in others {
        for (number, line) in code_lines(text).filter(|(_, line)| speaks_sql(line)) {
            problems.push(format!(
                "{path}:{number}: SQL outside the store: `{}`; \
                 make it a method of `Store` with a file in crates/store/sql",
                line.trim()
            ));
        }
    }
    problems
}

fn speaks_sql(line: &str) -> bool {
    let updates = line.split_once("UPDATE ").is_some_and(|(_, rest)| rest.contains(" SET"));
    updates || ["SELECT ", "INSERT INTO", "DELETE FROM"].iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_without_its_twin() {
        let twins = [
            ("crates/store/sql/sqlite/publish.sql", ""),
            ("crates/store/sql/postgres/publish.sql", ""),
        ];
        assert_eq!(statements_come_in_pairs(&Tree::of(&twins)).len(), 0);

        let mut lonely = twins.to_vec();
        lonely.push(("crates/store/sql/postgres/listen.sql", ""));
        let problems = statements_come_in_pairs(&Tree::of(&lonely));
        assert!(problems[0].starts_with("crates/store/sql/postgres/listen.sql"), "{problems:?}");

        assert_eq!(
            statements_come_in_pairs(&Tree::of(&[lonely[2], (ONLY, "- never_listen.sql")])).len(),
            1
        );
        lonely.push((ONLY, "- `listen.sql`: SQLite has a local signal"));
        assert_eq!(statements_come_in_pairs(&Tree::of(&lonely)).len(), 0);
    }

    #[test]
    fn sql_in_the_wrong_crate() {
        let line = "    let q = \"UPDATE lease SET epoch = 1\";\n    // SELECT is only a word\n";
        let check = |path: &str| only_the_store_speaks_sql(&Tree::of(&[(path, line)])).len();
        assert_eq!(check("crates/node/src/lib.rs"), 1);
        assert_eq!(check("crates/store/src/lib.rs"), 0);
    }
}
