//! The lines that active instances write, each with its time: who was active when.
//!
//! The file takes every line, as a disk or a partner's server without a fence would: whatever an
//! instance writes that should not be active any more is there.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// Time between two lines: how exact the figures can be.
const LINE_EVERY: Duration = Duration::from_millis(5);

/// Writes a line every few milliseconds until it is killed.
pub fn write(sink: &Path, node: &str) -> Result<()> {
    let mut file = File::options().create(true).append(true).open(sink)?;
    let process = std::process::id();
    loop {
        // One call to write: lines of several writers must not mix.
        file.write_all(format!("{} {node} {process}\n", now_us()).as_bytes())?;
        std::thread::sleep(LINE_EVERY);
    }
}

/// The clock of the lines, which is the same in every namespace, in microseconds.
pub fn now_us() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was written.
    pub at_us: i64,
    /// By which instance: node and process.
    pub by: Instance,
}

/// One life of the process that writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its node.
    pub node: String,
    /// Its process there.
    pub process: u32,
}

/// Reads the lines as they come.
pub struct Reader {
    path: PathBuf,
    read_to: u64,
    /// Everything since [`Reader::forget`].
    pub lines: Vec<Line>,
}

impl Reader {
    /// A reader of a file that may not be there yet.
    pub fn new(path: &Path) -> Reader {
        Reader { path: path.to_owned(), read_to: 0, lines: Vec::new() }
    }

    /// Reads what was written since.
    pub fn read(&mut self) -> Result<&[Line]> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(&self.lines) };
        file.seek(SeekFrom::Start(self.read_to))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        self.read_to += complete as u64;
        for line in text[..complete].lines() {
            self.lines.push(parse(line).with_context(|| format!("no line: {line:?}"))?);
        }
        Ok(&self.lines)
    }

    /// Forgets what was read.
    pub fn forget(&mut self) -> Result<()> {
        self.read()?;
        self.lines.clear();
        Ok(())
    }
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let at_us = words.next()?.parse().ok()?;
    let node = words.next()?.to_owned();
    let process = words.next()?.parse().ok()?;
    Some(Line { at_us, by: Instance { node, process } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_time_node_and_process() {
        let by = Instance { node: "a".into(), process: 12 };
        assert_eq!(parse("5000 a 12"), Some(Line { at_us: 5000, by }));
        assert_eq!(parse("5000 a"), None);
    }
}
