//! Who lives: each node holds a lock on a file of its name, and so do all its children.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::NodeName;
use rustix::fs::FlockOperation;
use rustix::io::{Errno, FdFlags};

/// How long a join waits for the lock of its name: the children of a killed node keep it until
/// they die too, which they do at once, and a look at it by another node lasts microseconds.
const TAKE_PATIENCE: Duration = Duration::from_secs(2);

/// Between two tries.
const TAKE_PAUSE: Duration = Duration::from_millis(10);

/// The liveness locks of a machine's nodes.
pub(super) struct Liveness {
    folder: PathBuf,
    held: Mutex<BTreeMap<NodeName, File>>,
}

impl Liveness {
    pub(super) fn of(folder: &Path) -> Liveness {
        Liveness { folder: folder.to_owned(), held: Mutex::new(BTreeMap::new()) }
    }

    fn path(&self, node: &NodeName) -> PathBuf {
        self.folder.join(format!("node-{node}.lock"))
    }

    /// Takes the lock of a node until this value is dropped and all children are gone. False when
    /// another live process has it.
    ///
    /// Children inherit the descriptor: the lock is free only when the node and all its host
    /// processes are gone, so a free lock proves that nothing of the node can write any more.
    pub(super) fn take(&self, node: &NodeName) -> io::Result<bool> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(node) {
            return Ok(true);
        }
        let path = self.path(node);
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let give_up_at = Instant::now() + TAKE_PATIENCE;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if Instant::now() < give_up_at => {
                    std::thread::sleep(TAKE_PAUSE);
                }
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
        held.insert(node.clone(), file);
        Ok(true)
    }

    /// Whether the node and all its children are dead.
    pub(super) fn is_free(&self, node: &NodeName) -> io::Result<bool> {
        let file = match File::open(self.path(node)) {
            Ok(file) => file,
            // It never lived on this machine, or somebody cleaned up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            // Closing the file lets go again.
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_disturbs_nobody() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let node: NodeName = "a".parse().expect("a name");
        let (mine, other) = (Liveness::of(folder.path()), Liveness::of(folder.path()));
        assert!(other.is_free(&node).expect("looked"), "it never lived");
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                for _ in 0..2000 {
                    other.is_free(&node).expect("looked");
                }
            });
            for _ in 0..20 {
                let life = Liveness::of(folder.path());
                assert!(life.take(&node).expect("a look must not make it fail"));
            }
            looks.join().expect("no panic");
        });
        assert!(mine.take(&node).expect("it is free"));
        assert!(mine.take(&node).expect("it is ours"), "again in the same life");
        assert!(!other.is_free(&node).expect("looked"));
        assert!(!other.take(&node).expect("it is held"));
    }
}
