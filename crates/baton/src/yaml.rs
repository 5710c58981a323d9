//! Reads YAML files: definitions (one file or a folder) and a node's own `baton.yaml`.
//!
//! A text becomes a tree whose nodes know their place ([`tree`]), the tree becomes our types
//! ([`decode`]), and the rules between definitions are checked ([`rules`]). Whatever is wrong at
//! any of these is shown with file, line, column, excerpt and help ([`diagnostic`]), all of it at
//! once, and without passwords ([`secret`]).

pub mod diagnostic;
pub mod rules;

mod decode;
mod nearest;
mod secret;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use model::Definitions;
use serde::de::DeserializeOwned;

use diagnostic::{Diagnostic, Source};
pub use secret::{is_secret, masked};
use tree::{Kind, Node, Span};

/// Largest file in bytes: ten thousand ports fit, and a file by mistake does not fill the memory.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Most files of a folder.
const FILES_MAX: usize = 1000;

/// Deepest nesting: definitions need 8, and each level costs stack.
const DEPTH_MAX: usize = 64;

/// Most values that aliases may add, so that a small file cannot grow without end.
const ALIASED_MAX: usize = 100_000;

/// The problems of a document, as they are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    rendered: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}

impl std::error::Error for Invalid {}

/// Reads definitions from a file, from all `*.yaml` and `*.yml` of a folder, or from `-` (standard
/// input), and checks everything that can be checked without a store.
pub fn definitions(path: &Path) -> Result<Definitions, Invalid> {
    parse_definitions(read(path)?)
}

/// Reads a file of another shape, such as `baton.yaml`.
pub fn file<T: DeserializeOwned>(path: &Path) -> Result<T, Invalid> {
    let document = Document::parse(read(path)?, |_| {})?;
    decode::decode(&document.sources, &document.root).map_err(|found| document.invalid(&found))
}

fn parse_definitions(sources: Vec<Source>) -> Result<Definitions, Invalid> {
    let document = Document::parse(sources, empty_lists)?;
    match decode::decode::<Definitions>(&document.sources, &document.root) {
        Ok(definitions) => {
            let found: Vec<_> = rules::findings(&definitions)
                .iter()
                .map(|finding| document.diagnostic(finding))
                .collect();
            if found.is_empty() { Ok(definitions) } else { Err(document.invalid(&found)) }
        }
        // References cannot be checked while parts are missing, but filters can.
        Err(mut found) => {
            found.extend(document.filters().iter().map(|finding| document.diagnostic(finding)));
            Err(document.invalid(&found))
        }
    }
}

/// The files of a document, and what they say together.
struct Document {
    sources: Vec<Source>,
    root: Node,
}

impl Document {
    fn parse(mut sources: Vec<Source>, prepare: fn(&mut Node)) -> Result<Document, Invalid> {
        let mut trees = Vec::new();
        let mut found = Vec::new();
        for (index, source) in sources.iter_mut().enumerate() {
            match tree_of(&source.text, index) {
                Ok(mut tree) => {
                    prepare(&mut tree);
                    source.secrets = secret::secrets(&source.text, Some(&tree));
                    trees.push(tree);
                }
                Err(diagnostic) => {
                    source.secrets = secret::secrets(&source.text, None);
                    found.push(*diagnostic);
                }
            }
        }
        let root = merged(trees);
        let document = Document { sources, root };
        if found.is_empty() { Ok(document) } else { Err(document.invalid(&found)) }
    }

    fn invalid(&self, found: &[Diagnostic]) -> Invalid {
        let mut found = found.to_vec();
        found.sort_by_key(|diagnostic| diagnostic.span.map(|span| (span.file, span.start)));
        found.dedup();
        Invalid { rendered: diagnostic::render_all(&self.sources, &found) }
    }

    /// Finds the place of a problem: its path, or the nearest part of it that is written.
    fn diagnostic(&self, finding: &rules::Finding) -> Diagnostic {
        let mut node = &self.root;
        let mut whole = true;
        for step in finding.problem.path.split(['.', '[']) {
            let next = match step.strip_suffix(']') {
                Some(index) => index.parse().ok().and_then(|index| node.at(index)),
                None => node.get(step),
            };
            match next {
                Some(next) => node = next,
                None => {
                    whole = false;
                    break;
                }
            }
        }
        let inside = finding.within.filter(|_| whole).and_then(|at| self.inside(node, at));
        let span = inside.unwrap_or_else(|| node.mark());
        Diagnostic::new(Some(span), &finding.problem.what).help(&finding.problem.help)
    }

    /// The place of one byte of a text, if the text stands in the file as it is.
    fn inside(&self, node: &Node, at: usize) -> Option<Span> {
        let Kind::Text(value) = &node.kind else { return None };
        let defined = node.defined;
        let written = self.sources.get(defined.file)?.text.get(defined.start..)?;
        let quote = usize::from(written.starts_with(['"', '\'']));
        let stands = written.get(quote..)?.starts_with(value.as_str());
        stands.then_some(Span { start: defined.start + quote + at, bytes: 1, ..defined })
    }

    /// What is wrong with the filters, whatever else is wrong.
    fn filters(&self) -> Vec<rules::Finding> {
        let ports = self.root.get("send_ports").map(|node| &node.kind);
        let Some(Kind::List(ports)) = ports else { return Vec::new() };
        let filter = |(index, port): (usize, &Node)| match &port.get("filter")?.kind {
            Kind::Text(text) => rules::filter(&format!("send_ports[{index}].filter"), text),
            _ => None,
        };
        ports.iter().enumerate().filter_map(filter).collect()
    }
}

/// Several files are one: their lists are put together, in the order of the files' names.
fn merged(trees: Vec<Node>) -> Node {
    let mut trees = trees.into_iter();
    let nothing = Node { span: Span::default(), defined: Span::default(), kind: Kind::Null };
    let Some(mut root) = trees.next() else { return nothing };
    if matches!(root.kind, Kind::Null) {
        root.kind = Kind::Map(Vec::new());
    }
    let Kind::Map(entries) = &mut root.kind else { return root };
    for tree in trees {
        let more = match tree.kind {
            Kind::Map(more) => more,
            Kind::Null => continue,
            // Not a document of ours: let the decoder say so.
            _ => return tree,
        };
        for (key, value) in more {
            let known = entries.iter_mut().find(|(known, _)| known.text == key.text);
            match (known, value.kind) {
                (Some((_, Node { kind: Kind::List(list), .. })), Kind::List(items)) => {
                    list.extend(items);
                }
                (_, kind) => entries.push((key, Node { kind, ..value })),
            }
        }
    }
    root
}

/// A list without items (`groups:` and nothing below it) is empty.
fn empty_lists(tree: &mut Node) {
    let Kind::Map(entries) = &mut tree.kind else { return };
    for (_, value) in entries {
        if matches!(value.kind, Kind::Null) {
            value.kind = Kind::List(Vec::new());
        }
    }
}

fn tree_of(text: &str, file: usize) -> Result<Node, Box<Diagnostic>> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: 1_000_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIASED_MAX,
        },
    };
    match serde_saphyr::from_str_with_options::<Node>(text, options) {
        Ok(mut node) => {
            node.belongs_to(file);
            Ok(node)
        }
        Err(error) => Err(Box::new(syntax_error(text, file, &error))),
    }
}

/// What the YAML parser found wrong, in our words where it has a setting to recommend in its own.
fn syntax_error(text: &str, file: usize, error: &serde_saphyr::Error) -> Diagnostic {
    use serde_saphyr::Error;
    let error = match error.without_snippet() {
        Error::AliasError { error, .. } => error.without_snippet(),
        other => other,
    };
    let span = error.location().map(|location| {
        let (line, column) = (location.line(), location.column());
        Span { file, start: offset(text, line, column), bytes: 1 }
    });
    let too_much = || {
        (
            "this is too deep, too large, or has too many aliases".to_owned(),
            format!("use at most {DEPTH_MAX} levels, and write values out instead of aliases"),
        )
    };
    let (what, help) = match error {
        Error::DuplicateMappingKey { key, .. } => (
            format!("{} stands here twice", key.as_deref().unwrap_or("a key")),
            "take one of them out, or make them one".into(),
        ),
        Error::MultipleDocuments { .. } => (
            "a second document begins here".into(),
            "take `---` out, or use a file for each in one folder".into(),
        ),
        Error::UnknownAnchor { .. } => (
            "this alias has no anchor".to_owned(),
            "write `&name` at the value it stands for, or quote a text that begins with `*`".into(),
        ),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => too_much(),
        // The scanner below has a limit of its own, which comes as a text.
        other if other.to_string().contains("recursion limit") => too_much(),
        other => {
            let text = other.to_string();
            let what = text.split(" at line ").next().unwrap_or_default();
            (format!("this is not YAML: {what}"), "check indentation, quotes and colons".into())
        }
    };
    Diagnostic::new(span, what).help(help)
}

/// The byte at a line and column, both counted from 1, columns in characters.
fn offset(text: &str, line: u64, column: u64) -> usize {
    let number = |value: u64| usize::try_from(value.saturating_sub(1)).unwrap_or(usize::MAX);
    let start: usize = text.split_inclusive('\n').take(number(line)).map(str::len).sum();
    let rest = text[start..].char_indices();
    start + rest.map(|(at, _)| at).nth(number(column)).unwrap_or(text.len() - start)
}

fn read(path: &Path) -> Result<Vec<Source>, Invalid> {
    if path == Path::new("-") {
        let text = limited("standard input", std::io::stdin().lock())?;
        return Ok(vec![source("standard input".into(), text)]);
    }
    let mut sources = Vec::new();
    for path in files(path)? {
        let name = path.display().to_string();
        let file = std::fs::File::open(&path).map_err(|error| unreadable(&name, &error))?;
        let text = limited(&name, file)?;
        sources.push(source(name, text));
    }
    Ok(sources)
}

fn source(name: String, text: String) -> Source {
    Source { name, text, secrets: Vec::new() }
}

/// The file itself, or the YAML files of a folder, sorted by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, Invalid> {
    let name = path.display().to_string();
    let facts = std::fs::metadata(path).map_err(|error| unreadable(&name, &error))?;
    if !facts.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|error| unreadable(&name, &error))? {
        let file = entry.map_err(|error| unreadable(&name, &error))?.path();
        let yaml = file.extension().is_some_and(|kind| kind == "yaml" || kind == "yml");
        if yaml && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    match files.len() {
        0 => Err(sentence(format!("folder {name} holds no *.yaml or *.yml file"))),
        count if count > FILES_MAX => {
            Err(sentence(format!("folder {name} holds {count} files, more than {FILES_MAX}")))
        }
        _ => Ok(files),
    }
}

fn limited(name: &str, file: impl std::io::Read) -> Result<String, Invalid> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let most = FILE_BYTES_MAX / 1024 / 1024;
        return Err(sentence(format!(
            "{name} is larger than {most} MiB; split it into several files of one folder"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(name, &error))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Shows the first byte that is no UTF-8 in its line.
fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> Invalid {
    let (bytes, start) = (error.as_bytes(), error.utf8_error().valid_up_to());
    let byte = bytes.get(start).copied().unwrap_or_default();
    let mut source = source(name.to_owned(), String::from_utf8_lossy(bytes).into_owned());
    source.secrets = secret::secrets(&source.text, None);
    let span = Span { file: 0, start, bytes: char::REPLACEMENT_CHARACTER.len_utf8() };
    let found = Diagnostic::new(Some(span), format!("this byte (0x{byte:02x}) is not UTF-8"))
        .help("save the file as UTF-8; a file in Latin-1: `iconv -f latin1 -t utf-8 FILE`");
    Invalid { rendered: diagnostic::render_all(&[source], &[found]) }
}

fn unreadable(name: &str, error: &std::io::Error) -> Invalid {
    sentence(format!("{name} cannot be read: {error}"))
}

fn sentence(text: String) -> Invalid {
    Invalid { rendered: format!("error: {}", crate::render::safe(&text)) }
}
