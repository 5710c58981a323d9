//! A function fits a screen; the few that do not are listed, and the list only gets shorter.

use std::collections::BTreeMap;

use super::Problems;
use super::tree::Tree;

const FUNCTION_LINES_MAX: usize = 70;

/// The ratchet: `FILE FUNCTION LINES`.
const ALLOWED: &str = "xtask/long_functions.txt";

pub(super) fn functions_fit_a_screen(tree: &Tree) -> Problems {
    let mut allowed = allowed(tree);
    let mut problems = Problems::new();
    for (path, text) in tree.rust() {
        for function in functions(text).into_iter().filter(|f| f.lines > FUNCTION_LINES_MAX) {
            let Function { name, line, lines } = function;
            let entry = format!("{path} {name}");
            match allowed.remove(&entry) {
                Some(limit) if limit == lines => {}
                Some(limit) if limit > lines => problems.push(format!(
                    "{ALLOWED}: `{entry}` has only {lines} lines now; lower its {limit}"
                )),
                _ => problems.push(format!(
                    "{path}:{line}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}; \
                     move steps into functions below it"
                )),
            }
        }
    }
    let gone = allowed.into_keys();
    problems.extend(
        gone.map(|entry| {
            format!("{ALLOWED}: no long function `{entry}` any more; take the line out")
        }),
    );
    problems
}

fn allowed(tree: &Tree) -> BTreeMap<String, usize> {
    let lines = tree.text(ALLOWED).unwrap_or_default().lines();
    let entries = lines.filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (entry, lines) = line.trim().rsplit_once(' ')?;
        Some((entry.to_owned(), lines.parse().ok()?))
    });
    entries.collect()
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// The functions of a file formatted by rustfmt: the closing brace stands below the `fn`.
fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let rest = &lines[index..];
        let Some(opening) = rest.iter().position(|line| ends_signature(line)) else {
            continue;
        };
        if !rest[opening].trim_end().ends_with('{') {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let closing = format!("{indent}}}");
        let length = rest.iter().position(|line| **line == closing);
        let lines = length.map_or(rest.len(), |last| last + 1);
        found.push(Function { name: name.to_owned(), line: index + 1, lines });
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    const BEFORE_FN: [&str; 9] = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "pub(in",
        "const",
        "async",
        "unsafe",
        "extern",
        "\"C\"",
    ];
    let mut words = line.split_whitespace();
    let fn_word = words.find(|word| !BEFORE_FN.contains(word))?;
    let name = words.next()?;
    let end = name.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    (fn_word == "fn").then(|| &name[..end.unwrap_or(name.len())])
}

fn ends_signature(line: &str) -> bool {
    let line = line.trim_end();
    line.ends_with('{') || line.ends_with(';') || line.ends_with('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function_of(lines: usize) -> String {
        let body = "        step();\n".repeat(lines - 4);
        format!("    pub(crate) async fn long<T>(\n        a: T,\n    ) {{\n{body}    }}\n")
    }

    fn check(lines: usize, ratchet: &str) -> Problems {
        let text = function_of(lines);
        functions_fit_a_screen(&Tree::of(&[("crates/x/src/a.rs", &text), (ALLOWED, ratchet)]))
    }

    #[test]
    fn a_function_of_a_screen_is_fine_and_one_line_more_is_not() {
        assert_eq!(check(70, "").len(), 0);
        let problems = check(71, "");
        assert!(problems[0].contains("`long` has 71 lines"), "{problems:?}");
    }

    #[test]
    fn the_ratchet_moves_one_way() {
        assert_eq!(check(80, "crates/x/src/a.rs long 80\n").len(), 0);
        assert!(check(81, "crates/x/src/a.rs long 80\n")[0].contains("at most 70"));
        assert!(check(79, "crates/x/src/a.rs long 80\n")[0].contains("lower its 80"));
        assert!(check(70, "crates/x/src/a.rs long 80\n")[0].contains("take the line out"));
    }

    #[test]
    fn declarations_and_one_liners_have_no_body_to_measure() {
        let text = "trait T {\n    fn a(&self);\n    fn b() -> u8 { 1 }\n}\n// a fn comment\n";
        assert_eq!(functions(text).len(), 0);
        assert_eq!(function_name("    let fn_like = 1;"), None);
    }
}
