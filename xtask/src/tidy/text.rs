//! How a file reads: its first line, its imports, its width and length, what it leaves behind.

use super::Problems;
use super::tree::{Tree, numbered};

const IMPORT_LINES_MAX: usize = 20;
const COLUMNS_MAX: usize = 100;
const FILE_LINES_MAX: usize = 1000;

/// Where someone's machine shows through. Written in two parts, or this file would be one.
const TRACES: [&str; 1] = [concat!("/wo", "rk/")];

pub(super) fn every_file_says_what_it_is_for(tree: &Tree) -> Problems {
    let silent = tree.rust().filter(|(_, text)| !text.starts_with("//!"));
    silent
        .map(|(path, _)| {
            format!("{path}:1: says not what it is for; begin it with `//! One sentence.`")
        })
        .collect()
}

pub(super) fn imports_fit_a_glance(tree: &Tree) -> Problems {
    let mut problems = Problems::new();
    for (path, text) in tree.rust() {
        let lines = import_lines(text);
        if lines > IMPORT_LINES_MAX {
            problems.push(format!(
                "{path}: {lines} lines of imports, at most {IMPORT_LINES_MAX}; \
                 split the file, or import modules in place of their items"
            ));
        }
    }
    problems
}

/// The lines of `use` statements above the first item of another kind.
fn import_lines(text: &str) -> usize {
    let mut count = 0;
    let mut in_use = false;
    for line in text.lines() {
        let line = line.trim();
        let starts_use =
            ["use ", "pub use ", "pub(crate) use "].iter().any(|u| line.starts_with(u));
        if in_use || starts_use {
            count += 1;
            in_use = !line.ends_with(';');
        } else if !stands_beside_imports(line) {
            break;
        }
    }
    count
}

fn stands_beside_imports(line: &str) -> bool {
    let declares_module = line.ends_with(';') && line.split(' ').any(|word| word == "mod");
    line.is_empty() || line.starts_with("//") || line.starts_with('#') || declares_module
}

pub(super) fn lines_fit_the_screen(tree: &Tree) -> Problems {
    let mut problems = Problems::new();
    for (path, text) in tree.rust().chain(tree.below("", ".sql")) {
        for (number, line) in numbered(text) {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                problems.push(format!(
                    "{path}:{number}: {columns} columns, at most {COLUMNS_MAX}; break the line \
                     (cargo fmt leaves long strings alone: end their lines with `\\`)"
                ));
            }
        }
    }
    problems
}

pub(super) fn files_are_short(tree: &Tree) -> Problems {
    let files = tree.rust().map(|(path, text)| (path, text.lines().count()));
    files
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| {
            format!("{path}: {lines} lines, at most {FILE_LINES_MAX}; make it a folder of modules")
        })
        .collect()
}

pub(super) fn todos_have_an_issue(tree: &Tree) -> Problems {
    let mut problems = Problems::new();
    let texts = tree.rust().chain(tree.below("", ".sql")).chain(tree.below("", ".toml"));
    for (path, text) in texts.filter(|(path, _)| !is_tidy_itself(path)) {
        for (number, line) in numbered(text) {
            if ["TODO", "FIXME"].iter().any(|word| line.contains(word)) && !names_an_issue(line) {
                problems.push(format!(
                    "{path}:{number}: a TODO that nobody will find; do it, or file an issue and \
                     write `TODO(#number)`"
                ));
            }
        }
    }
    problems
}

fn names_an_issue(line: &str) -> bool {
    line.split('#').skip(1).any(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

pub(super) fn no_traces_of_a_workplace(tree: &Tree) -> Problems {
    let mut problems = Problems::new();
    for (path, text) in &tree.files {
        for (number, line) in numbered(text) {
            for trace in TRACES.iter().filter(|trace| line.contains(**trace)) {
                problems.push(format!(
                    "{path}:{number}: `{trace}` is a path of somebody's machine; \
                     write it from the root of the repository"
                ));
            }
        }
    }
    problems
}

/// The checks and their tests must name what they look for.
pub(super) fn is_tidy_itself(path: &str) -> bool {
    path.starts_with("xtask/src/tidy/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(check: fn(&Tree) -> Problems, text: &str) -> usize {
        check(&Tree::of(&[("crates/x/src/a.rs", text)])).len()
    }

    #[test]
    fn a_file_without_its_sentence() {
        assert_eq!(problems(every_file_says_what_it_is_for, "//! Says it.\n"), 0);
        assert_eq!(problems(every_file_says_what_it_is_for, "use std::fs;\n"), 1);
    }

    #[test]
    fn a_page_of_imports() {
        let many = "use a::b;\n".repeat(21);
        assert_eq!(problems(imports_fit_a_glance, &many), 1);
        assert_eq!(problems(imports_fit_a_glance, &many[10..]), 0);
        let below =
            format!("mod m;\n\n#[cfg(test)]\nuse a::{{\n    b,\n}};\n\nfn f() {{}}\n{many}");
        assert_eq!(import_lines(&below), 3, "only what stands above the first item");
    }

    #[test]
    fn a_line_too_wide() {
        assert_eq!(problems(lines_fit_the_screen, &"ä".repeat(100)), 0);
        assert_eq!(problems(lines_fit_the_screen, &"ä".repeat(101)), 1);
    }

    #[test]
    fn a_file_too_long() {
        assert_eq!(problems(files_are_short, &"\n".repeat(1000)), 0);
        assert_eq!(problems(files_are_short, &"\n".repeat(1001)), 1);
    }

    #[test]
    fn a_todo_without_its_issue() {
        assert_eq!(problems(todos_have_an_issue, "// TODO(#12): later\n"), 0);
        assert_eq!(problems(todos_have_an_issue, "// TODO: #later\n// FIXME\n"), 2);
    }

    #[test]
    fn a_path_of_a_machine() {
        let text = format!("see {}main\n", TRACES[0]);
        assert_eq!(problems(no_traces_of_a_workplace, &text), 1);
        assert_eq!(problems(no_traces_of_a_workplace, "a fieldwork/ folder\n"), 0);
    }
}
