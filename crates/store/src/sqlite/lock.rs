//! Locks between the processes of one machine, whose frozen holder is killed.
//!
//! A lock is a `flock` on a file: the kernel frees it when its holder dies, however it dies. What
//! the kernel does not do is free it when its holder is stopped, or hangs. Whoever waits for long
//! therefore looks at the holder, and kills it if it is stopped or sits on the lock beyond all
//! reason: it is refused by the fence anyhow, and everybody else is waiting for it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::{BootTime, Millis};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::boot::boot_now;

/// A waiter looks at the holder after this; far above any wait for a healthy one.
const LOOK_AFTER: Duration = Duration::from_millis(50);

/// How often it looks, so that a takeover past a frozen holder costs a tenth of a second.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// A holder of the write lock that is not stopped is killed after this: it has exceeded
/// `WRITE_HOLD_MAX` more than twice, so it hangs in the disk or in a loop.
pub(super) const HOLD_KILL_AFTER: Millis = Millis::seconds(5);

/// The first in the queue waits for the holder of the write lock, and must outlive its killing.
const QUEUE_KILL_AFTER: Millis = Millis(HOLD_KILL_AFTER.0 * 3);

/// Bytes of the record that a holder leaves in the lock file.
const RECORD_BYTES: usize = 48;

/// The right to write to the database, given to the processes of the machine in turn.
///
/// A bare `flock` is not handed over: who just let go may have it again before a woken waiter
/// runs. So there are two. Whoever stands first in the queue holds `queue` while it waits for
/// `write`, and one who just let go of `write` has to queue behind it. Measured with 8 processes
/// that hold it for 2 ms without a pause: worst wait 262 ms with one lock, 29 ms with both.
pub(super) struct FairLock {
    queue: LockFile,
    write: LockFile,
}

impl FairLock {
    pub(super) fn open(folder: &Path, watch: &Arc<Watch>) -> io::Result<FairLock> {
        let queue = LockFile::open(&folder.join("write.queue"), QUEUE_KILL_AFTER, watch)?;
        let write = LockFile::open(&folder.join("write.lock"), HOLD_KILL_AFTER, watch)?;
        Ok(FairLock { queue, write })
    }

    /// Waits for its turn.
    pub(super) fn lock(&self) -> io::Result<Held<'_>> {
        let first_in_queue = self.queue.lock()?;
        let held = self.write.lock();
        drop(first_in_queue);
        held
    }
}

/// A lock that one process of the machine holds at a time, and one thread of it.
pub(super) struct LockFile {
    file: Mutex<File>,
    target: Arc<Target>,
    watch: Arc<Watch>,
}

/// A held lock; dropping it lets go.
pub(super) struct Held<'a> {
    file: MutexGuard<'a, File>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // It fails for a descriptor that is not open only, and ours is.
        let _ = rustix::fs::flock(&*self.file, FlockOperation::Unlock);
    }
}

impl LockFile {
    pub(super) fn open(
        path: &Path,
        kill_after: Millis,
        watch: &Arc<Watch>,
    ) -> io::Result<LockFile> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let metadata = file.metadata()?;
        let target = Target {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            record: file.try_clone()?,
            kill_after,
        };
        Ok(LockFile { file: Mutex::new(file), target: Arc::new(target), watch: watch.clone() })
    }

    /// Waits until it is free, or its frozen holder is dead.
    pub(super) fn lock(&self) -> io::Result<Held<'_>> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match rustix::fs::flock(&*file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let waiting = self.watch.begin(&self.target);
                rustix::io::retry_on_intr(|| {
                    rustix::fs::flock(&*file, FlockOperation::LockExclusive)
                })?;
                drop(waiting);
            }
            Err(error) => return Err(error.into()),
        }
        self.target.write_record()?;
        Ok(Held { file })
    }
}

/// A lock file as the watch needs it.
struct Target {
    path: PathBuf,
    device: u64,
    inode: u64,
    record: File,
    kill_after: Millis,
}

impl Target {
    /// Leaves a note of who has the lock since when. It is only a note: who really has it is asked
    /// of the kernel.
    fn write_record(&self) -> io::Result<()> {
        let record = format!("{} {}", std::process::id(), boot_now().0);
        self.record.write_all_at(format!("{record:<47}\n").as_bytes(), 0)
    }

    fn read_record(&self) -> Option<(i32, BootTime)> {
        let mut bytes = [0; RECORD_BYTES];
        self.record.read_exact_at(&mut bytes, 0).ok()?;
        let text = std::str::from_utf8(&bytes).ok()?;
        let (pid, since) = text.trim_end().split_once(' ')?;
        Some((pid.parse().ok()?, BootTime(since.parse().ok()?)))
    }

    /// Finds the holder: the one in the record if it does hold the lock, else whoever does.
    fn holder(&self) -> Option<(i32, Option<BootTime>)> {
        let record = self.read_record();
        if let Some((pid, since)) = record
            && self.is_held_by(pid)
        {
            return Some((pid, Some(since)));
        }
        // It was stopped between taking the lock and writing the record, or it was killed and a
        // new holder is about to write its own.
        let processes = std::fs::read_dir("/proc").ok()?;
        processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .find(|pid| self.is_held_by(*pid))
            .map(|pid| (pid, None))
    }

    /// Whether a process has this lock, by the kernel's own account of its open files.
    fn is_held_by(&self, pid: i32) -> bool {
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        descriptors.flatten().any(|descriptor| {
            let Ok(metadata) = std::fs::metadata(descriptor.path()) else { return false };
            if (metadata.dev(), metadata.ino()) != (self.device, self.inode) {
                return false;
            }
            let number = descriptor.file_name();
            let info = format!("/proc/{pid}/fdinfo/{}", number.to_string_lossy());
            std::fs::read_to_string(info).is_ok_and(|info| {
                info.lines().any(|line| line.starts_with("lock:") && line.contains("FLOCK"))
            })
        })
    }

    /// Kills the holder if it is frozen.
    fn look(&self) {
        let Some((pid, since)) = self.holder() else { return };
        if u32::try_from(pid) == Ok(std::process::id()) {
            return;
        }
        // From here on the descriptor is the process, even if its number is given to another.
        let Some(raw) = Pid::from_raw(pid) else { return };
        let Ok(process) = rustix::process::pidfd_open(raw, PidfdFlags::empty()) else { return };
        let stopped = is_stopped(pid);
        let held_for = since.map(|since| boot_now().since(since));
        let too_long = held_for.is_some_and(|held_for| held_for >= self.kill_after);
        if !(stopped || too_long) || !self.is_held_by(pid) {
            return;
        }
        let lock = self.path.display();
        let state = if stopped { "stopped" } else { "running" };
        match rustix::process::pidfd_send_signal(&process, Signal::KILL) {
            Ok(()) => tracing::warn!(
                pid, state, ?held_for, %lock,
                "killed the process that sat on the store's lock, so that others can go on"
            ),
            Err(error) => tracing::error!(
                pid, state, ?held_for, %lock, %error,
                "a process sits on the store's lock and cannot be killed by this one: kill it"
            ),
        }
    }
}

/// Whether a process is stopped by a signal or a debugger.
fn is_stopped(pid: i32) -> bool {
    // The name in parentheses may contain anything, so the state is sought from its end.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('T' | 't'))
    })
}

/// Looks after the waits of one `Store`, in a thread of its own, because the waiting threads are
/// blocked in the kernel.
pub(super) struct Watch {
    waits: Mutex<Waits>,
    changed: Condvar,
}

#[derive(Default)]
struct Waits {
    last: u64,
    list: Vec<(u64, Instant, Arc<Target>)>,
    closed: bool,
}

/// A wait being looked after; dropping it ends that.
struct Waiting {
    watch: Arc<Watch>,
    id: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.watch.waits().list.retain(|(id, ..)| *id != self.id);
    }
}

impl Watch {
    /// Starts the thread; it ends with [`Watch::close`].
    pub(super) fn start() -> io::Result<Arc<Watch>> {
        let watch =
            Arc::new(Watch { waits: Mutex::new(Waits::default()), changed: Condvar::new() });
        let watching = watch.clone();
        std::thread::Builder::new()
            .name("store-lock-watch".into())
            .spawn(move || watching.run())?;
        Ok(watch)
    }

    pub(super) fn close(&self) {
        self.waits().closed = true;
        self.changed.notify_all();
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, target: &Arc<Target>) -> Waiting {
        let mut waits = self.waits();
        waits.last += 1;
        let id = waits.last;
        waits.list.push((id, Instant::now(), target.clone()));
        if waits.list.len() == 1 {
            self.changed.notify_all();
        }
        Waiting { watch: self.clone(), id }
    }

    fn run(&self) {
        let mut waits = self.waits();
        while !waits.closed {
            if waits.list.is_empty() {
                waits = self.changed.wait(waits).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let pause = self.changed.wait_timeout(waits, LOOK_EVERY);
            waits = pause.unwrap_or_else(PoisonError::into_inner).0;
            let long: Vec<Arc<Target>> = waits
                .list
                .iter()
                .filter(|(_, since, _)| since.elapsed() >= LOOK_AFTER)
                .map(|(.., target)| target.clone())
                .collect();
            drop(waits);
            long.iter().for_each(|target| target.look());
            waits = self.waits();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_who_holds_a_lock() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let watch = Watch::start().expect("a thread");
        let path = folder.path().join("lock");
        let lock = LockFile::open(&path, HOLD_KILL_AFTER, &watch).expect("it opens");
        let other = LockFile::open(&path, HOLD_KILL_AFTER, &watch).expect("it opens");
        let own = i32::try_from(std::process::id()).expect("a process id");
        assert!(!lock.target.is_held_by(own));
        let held = lock.lock().expect("it is free");
        assert!(other.target.is_held_by(own));
        assert!(matches!(other.target.holder(), Some((pid, Some(_))) if pid == own));
        drop(held);
        assert_eq!(other.target.holder(), None);
        drop(other.lock().expect("it is free"));
        watch.close();
    }
}
