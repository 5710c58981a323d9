//! Files with known content, and the proof that each arrived once: for the demo, for drills and for
//! tests that cut networks. The engine's own counters take no part in it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The content of file number `number`: no two are alike, and a swapped byte shows.
pub fn content(number: u32) -> Vec<u8> {
    let lines = 1 + number % 40;
    let mut text = format!("order {number}\n");
    for line in 0..lines {
        let checksum = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(line);
        text.push_str(&format!("{number:08} {line:03} {checksum:016x}\n"));
    }
    text.into_bytes()
}

/// The number that a content begins with; none for what is no file of ours.
fn number_of(content: &[u8]) -> Option<u32> {
    let line = content.strip_prefix(b"order ")?.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

/// The name of file number `number`.
pub fn name(number: u32) -> String {
    format!("order-{number:06}.txt")
}

/// Writes one file as a careful partner does: under another name, then renamed. The other name is
/// hidden, and has another ending, so that no mask takes it for a file.
pub fn offer(folder: &Path, number: u32) -> Result<()> {
    let hidden = folder.join(format!(".{}.part", name(number)));
    let cannot = || format!("cannot put a file into {}", folder.display());
    std::fs::write(&hidden, content(number)).with_context(cannot)?;
    std::fs::rename(&hidden, folder.join(name(number))).with_context(cannot)
}

/// What has been delivered, checked byte for byte.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Files that arrived at least once with their own bytes.
    pub received: u32,
    /// Copies beyond the first.
    pub duplicates: u32,
    /// Files of ours whose bytes are not those that were sent, and files that are none of ours.
    pub corrupt: u32,
    /// Files of ours with other numbers: of an earlier time.
    pub earlier: u32,
}

/// Reads the delivered files of these numbers, whatever their names: two messages made of one file
/// show as two files.
pub fn check(folder: &Path, sent: Range<u32>) -> Result<Delivered> {
    let mut copies: BTreeMap<u32, u32> = BTreeMap::new();
    let mut delivered = Delivered::default();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let bytes = std::fs::read(entry.path())?;
        match number_of(&bytes) {
            Some(number) if bytes != content(number) => delivered.corrupt += 1,
            Some(number) if sent.contains(&number) => *copies.entry(number).or_default() += 1,
            Some(_) => delivered.earlier += 1,
            None => delivered.corrupt += 1,
        }
    }
    delivered.received = copies.len() as u32;
    delivered.duplicates = copies.values().map(|count| count - 1).sum();
    Ok(delivered)
}

/// Removes the delivered files of these numbers.
pub fn remove(folder: &Path, numbers: Range<u32>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // One that cannot be read is none of ours.
        let number = std::fs::read(&path).ok().and_then(|bytes| number_of(&bytes));
        if number.is_some_and(|number| numbers.contains(&number)) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// How many files have been delivered so far, without looking into them.
pub fn count(folder: &Path) -> u32 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let visible =
        |entry: &std::fs::DirEntry| !entry.file_name().as_encoded_bytes().starts_with(b".");
    entries.flatten().filter(visible).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_sees_loss_duplicates_and_corruption() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).expect("written");
        };
        put("order-000010.txt.a", &content(10));
        put("order-000011.txt.a", &content(11));
        put("a name of its own", &content(11));
        put("order-000012.txt.a", b"something else");
        put("order-000013.txt.a", &content(13)[..8]);
        put("order-000003.txt.a", &content(3));
        put(".baton-unfinished", b"");
        let delivered = check(folder.path(), 10..14).expect("checked");
        let expected = Delivered { received: 2, duplicates: 1, corrupt: 2, earlier: 1 };
        assert_eq!(delivered, expected);
    }
}
