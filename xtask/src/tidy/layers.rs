//! What the layers promise each other: manifests, purity, tasks, errors, the list of adapters.

use super::Problems;
use super::text::is_tidy_itself;
use super::tree::{Tree, code_lines, crate_of};

/// Decisions are made here, from values: no clock, randomness, file, socket or store.
const PURE_CRATES: [&str; 3] = ["model", "cluster", "messaging"];
const IMPURE_CRATES: [&str; 8] =
    ["tokio", "rusqlite", "tokio-postgres", "rustix", "reqwest", "rand", "store", "tempfile"];
const IMPURE_WORDS: [&str; 7] = [
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "std::fs",
    "std::net",
    "thread::sleep",
    "std::env",
];

/// Only a person reads the errors of these.
const MAY_USE_ANYHOW: [&str; 2] = ["baton", "testbed"];

/// Modules beside the adapters that several of them use.
const ADAPTER_HELPERS: [&str; 1] = ["mask"];

pub(super) fn manifests_take_the_workspace_lints(tree: &Tree) -> Problems {
    tree.below("", "/Cargo.toml")
        .filter(|(_, text)| !section(text, "[lints]").any(|line| line == "workspace = true"))
        .map(|(path, _)| {
            format!("{path}: lacks the workspace's lints; add `[lints]` with `workspace = true`")
        })
        .collect()
}

pub(super) fn pure_crates_depend_on_nothing_impure(tree: &Tree) -> Problems {
    let mut problems = Problems::new();
    for name in PURE_CRATES {
        let path = format!("crates/{name}/Cargo.toml");
        let dependencies = dependencies(tree.text(&path).unwrap_or_default());
        for dependency in dependencies.iter().filter(|name| IMPURE_CRATES.contains(*name)) {
            problems.push(format!(
                "{path}: `{name}` decides and must stay pure, so it can't use `{dependency}`; \
                 take what it needs as an argument, or do the work in a shell crate"
            ));
        }
    }
    problems
}

pub(super) fn pure_crates_use_no_clock_file_or_socket(tree: &Tree) -> Problems {
    let mut problems = Problems::new();
    for name in PURE_CRATES {
        for (path, text) in tree.below(&format!("crates/{name}/src/"), ".rs") {
            for (number, line) in code_lines(text) {
                for word in IMPURE_WORDS.iter().filter(|word| line.contains(**word)) {
                    problems.push(format!(
                        "{path}:{number}: `{word}` in a pure crate; take its value as an argument"
                    ));
                }
            }
        }
    }
    problems
}

pub(super) fn tasks_are_spawned_in_one_place(tree: &Tree) -> Problems {
    let mut problems = Problems::new();
    let others =
        tree.rust().filter(|(path, _)| !path.ends_with("/src/tasks.rs") && !is_tidy_itself(path));
    for (path, text) in others {
        for (number, line) in code_lines(text) {
            if ["tokio::spawn(", "tokio::task::spawn("].iter().any(|word| line.contains(word)) {
                problems.push(format!(
                    "{path}:{number}: a task that nobody awaits; use a JoinSet, or the crate's \
                     src/tasks.rs, where each task has a name and an end"
                ));
            }
        }
    }
    problems
}

pub(super) fn anyhow_stays_at_the_edge(tree: &Tree) -> Problems {
    let manifests = tree.below("crates/", "/Cargo.toml");
    let inner = manifests
        .filter(|(path, _)| crate_of(path).is_some_and(|name| !MAY_USE_ANYHOW.contains(&name)));
    inner
        .filter(|(_, text)| text.lines().any(|line| line.starts_with("anyhow")))
        .map(|(path, _)| {
            format!("{path}: callers of this crate branch on errors; use a thiserror enum")
        })
        .collect()
}

pub(super) fn every_adapter_is_listed(tree: &Tree) -> Problems {
    const FOLDER: &str = "crates/adapters/src/";
    let list = tree.text("crates/adapters/src/lib.rs").unwrap_or_default();
    let files = tree.below(FOLDER, ".rs").filter_map(|(path, _)| path.strip_prefix(FOLDER));
    let modules = files.filter_map(|file| match file.split_once('/') {
        Some((module, "mod.rs")) => Some(module),
        Some(_) => None,
        None => file.strip_suffix(".rs").filter(|module| *module != "lib"),
    });
    modules
        .filter(|module| !ADAPTER_HELPERS.contains(module))
        .filter(|module| !code_lines(list).any(|(_, line)| names_module(line, module)))
        .map(|module| {
            format!(
                "{FOLDER}{module}: no line of ADAPTERS in {FOLDER}lib.rs names `{module}::`; add \
                 it (a helper of several adapters: to ADAPTER_HELPERS in xtask/src/tidy/layers.rs)"
            )
        })
        .collect()
}

fn names_module(line: &str, module: &str) -> bool {
    let path = format!("{module}::");
    line.match_indices(&path).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}

/// The lines of a section of a manifest.
fn section<'a>(manifest: &'a str, header: &'a str) -> impl Iterator<Item = &'a str> {
    let after = manifest.lines().map(str::trim).skip_while(move |line| *line != header).skip(1);
    after.take_while(|line| !line.starts_with('['))
}

/// What a manifest depends on outside tests.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            inside = header == "dependencies" || header.ends_with(".dependencies");
            names.extend(header.strip_prefix("dependencies."));
        } else if inside && !line.starts_with('#') {
            let end = line.find(['.', '=', ' ']).unwrap_or(line.len());
            names.push(&line[..end]);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(check: fn(&Tree) -> Problems, files: &[(&str, &str)]) -> usize {
        check(&Tree::of(files)).len()
    }

    #[test]
    fn a_manifest_without_the_lints() {
        let check = |text| {
            let files = [("crates/model/Cargo.toml", text)];
            count(manifests_take_the_workspace_lints, &files)
        };
        assert_eq!(check("[lints]\nworkspace = true\n\n[dependencies]\n"), 0);
        assert_eq!(check("[lints]\n\n[dependencies]\nworkspace = true\n"), 1);
    }

    #[test]
    fn a_pure_crate_with_an_impure_dependency() {
        let manifest = "[dependencies]\nserde.workspace = true\ntokio = { workspace = true }\n\
                        [dependencies.rand]\nversion = \"1\"\n\
                        [dev-dependencies]\ntempfile.workspace = true\n";
        let check = |path| count(pure_crates_depend_on_nothing_impure, &[(path, manifest)]);
        assert_eq!(check("crates/cluster/Cargo.toml"), 2);
        assert_eq!(check("crates/node/Cargo.toml"), 0);
    }

    #[test]
    fn a_pure_crate_that_looks_at_the_clock() {
        let text = "//! Never Instant::now().\nfn f() { std::time::Instant::now(); }\n";
        let check = |path| count(pure_crates_use_no_clock_file_or_socket, &[(path, text)]);
        assert_eq!(check("crates/messaging/src/retry.rs"), 1);
        assert_eq!(check("crates/host/src/lib.rs"), 0);
    }

    #[test]
    fn a_task_spawned_anywhere() {
        let text = "    tokio::spawn(work());\n    joins.spawn(work());\n";
        let check = |path| count(tasks_are_spawned_in_one_place, &[(path, text)]);
        assert_eq!(check("crates/node/src/lib.rs"), 1);
        assert_eq!(check("crates/node/src/tasks.rs"), 0);
    }

    #[test]
    fn anyhow_in_a_library() {
        let text = "[dependencies]\nanyhow.workspace = true\n";
        let check = |path| count(anyhow_stays_at_the_edge, &[(path, text)]);
        assert_eq!(check("crates/store/Cargo.toml"), 1);
        assert_eq!(check("crates/baton/Cargo.toml"), 0);
    }

    #[test]
    fn an_adapter_that_nobody_listed() {
        let mut files = vec![
            ("crates/adapters/src/lib.rs", "const ADAPTERS: &[&A] = &[&file::FILE, &sftp::S];\n"),
            ("crates/adapters/src/file.rs", ""),
            ("crates/adapters/src/sftp/mod.rs", ""),
            ("crates/adapters/src/sftp/listing.rs", ""),
        ];
        assert_eq!(count(every_adapter_is_listed, &files), 0);
        files.push(("crates/adapters/src/ftp/mod.rs", ""));
        assert_eq!(count(every_adapter_is_listed, &files), 1, "`sftp::` does not name ftp");
    }
}
