//! ARCHITECTURE.md is a map of what is there, and the tour in it can be walked in 15 minutes.

use super::Problems;
use super::tree::{Tree, numbered};

const MAP: &str = "ARCHITECTURE.md";

/// What sends readers to places in the code.
const GUIDES: [&str; 4] = [MAP, "CONTRIBUTING.md", "README.md", "STYLE.md"];

pub(super) fn every_crate_is_on_the_map(tree: &Tree) -> Problems {
    let map = tree.text(MAP).unwrap_or_default();
    let missing = tree.crates().into_iter().filter(|name| {
        !map.contains(&format!("crates/{name}")) && !map.contains(&format!("`{name}`"))
    });
    missing
        .map(|name| format!("{MAP}: does not name the crate `{name}`; say what lives in it"))
        .collect()
}

pub(super) fn everything_on_the_map_exists(tree: &Tree) -> Problems {
    let mut problems = Problems::new();
    for guide in GUIDES {
        for (number, line) in numbered(tree.text(guide).unwrap_or_default()) {
            for path in crate_paths(line).filter(|path| !tree.has(path)) {
                problems.push(format!(
                    "{guide}:{number}: there is no {path}; write where it went, or take it out"
                ));
            }
        }
    }
    problems
}

/// Whatever looks like a path into `crates/`; a glob counts up to its star.
fn crate_paths(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crates/").map(|(start, _)| {
        let rest = &line[start..];
        let is_in_path = |letter: char| letter.is_alphanumeric() || "_-./".contains(letter);
        let end = rest.find(|letter| !is_in_path(letter)).unwrap_or(rest.len());
        let path = rest[..end].trim_end_matches('.');
        match rest[end..].starts_with('*') {
            true => path.rsplit_once('/').map_or(path, |(folder, _)| folder),
            false => path,
        }
    })
}

pub(super) fn the_tour_takes_fifteen_minutes(tree: &Tree) -> Problems {
    let stops: Vec<Stop> =
        numbered(tree.text(MAP).unwrap_or_default()).filter_map(|(_, row)| stop(row)).collect();
    if stops.is_empty() {
        return vec![format!(
            "{MAP}: has no tour for newcomers; add a table with rows `| path | lines at most |`"
        )];
    }
    stops.iter().filter_map(|stop| too_long(tree, stop)).collect()
}

struct Stop<'a> {
    path: &'a str,
    budget: usize,
}

/// A row of the tour's table: a cell with a path and, after it, a cell with a number.
fn stop(row: &str) -> Option<Stop<'_>> {
    let row = row.trim().strip_prefix('|')?;
    let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`'));
    let path = cells.find(|cell| {
        let ending = cell.rsplit_once('.').map(|(_, ending)| ending);
        matches!(ending, Some("rs" | "md" | "sql" | "txt" | "yaml"))
    })?;
    let budget = cells.find_map(|cell| cell.parse().ok())?;
    Some(Stop { path, budget })
}

fn too_long(tree: &Tree, stop: &Stop<'_>) -> Option<String> {
    let Stop { path, budget } = stop;
    let Some(text) = tree.text(path) else {
        return Some(format!("{MAP}: the tour leads to {path}, which is not there; mend the row"));
    };
    // Unit tests stand at the end of a file; the tour stops before them.
    let lines = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or(text).lines().count();
    (lines > *budget).then(|| {
        format!(
            "{path}: {lines} lines, but a newcomer has time for {budget} (the tour in {MAP}); \
             move what the first reader can skip to another file"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(map: &str) -> Tree {
        Tree::of(&[
            (MAP, map),
            ("crates/model/Cargo.toml", ""),
            ("crates/model/src/lib.rs", "1\n2\n3\n\n#[cfg(test)]\nmod tests {\n}\n"),
        ])
    }

    #[test]
    fn a_crate_that_is_not_on_the_map() {
        assert_eq!(every_crate_is_on_the_map(&tree("`model` has the nouns")).len(), 0);
        assert_eq!(every_crate_is_on_the_map(&tree("models are nouns")).len(), 1);
        assert_eq!(every_crate_is_on_the_map(&Tree::of(&[])).len(), 0);
    }

    #[test]
    fn a_place_that_is_only_on_the_map() {
        let check = |map| everything_on_the_map_exists(&tree(map)).len();
        assert_eq!(check("(crates/model/src/lib.rs), crates/*/src, crates/mod*. crates/model."), 0);
        assert_eq!(check("crates/model/src/gone.rs and crates/gone/"), 2);
    }

    #[test]
    fn a_tour_that_takes_too_long() {
        let check = |map| the_tour_takes_fifteen_minutes(&tree(map));
        assert_eq!(check("| 4 | `crates/model/src/lib.rs` | 3 | the nouns |"), Problems::new());
        assert!(check("| crates/model/src/lib.rs | 2 |")[0].contains("3 lines"));
        assert!(check("| crates/model/src/group.rs | 3 |")[0].contains("not there"));
        assert!(check("| path | budget |")[0].contains("no tour"));
    }
}
