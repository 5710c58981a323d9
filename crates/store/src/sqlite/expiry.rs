//! When each lease runs out: a small file beside the database, so that a renewal never waits for
//! a transaction.
//!
//! The file is a row of slots of text. The first is the boot it belongs to; each other one says
//! that a holder has a lease at an epoch until a moment of `CLOCK_BOOTTIME`. A lease without a slot
//! at its epoch has run out. Nothing is synced: after a reboot the file counts for nothing.
//!
//! # An owner is never told "renewed" after its successor's epoch was committed
//!
//! An owner at epoch e is renewed only while the slot says e. Whoever takes over to e+1 first
//! writes e+1 into the slot ([`Expiry::claim`]), and only then commits e+1 to the database. So:
//!
//! - after the commit the slot says e+1 or more, because only a claim changes an epoch in it, and
//!   a claim is made under the write lock for the database's epoch plus one, which never falls;
//! - between the look at "has e run out?" and the claim nothing can renew e: both happen under the
//!   same hold of `expiry.lock`;
//! - if the successor dies between the claim and the commit, the database still says e and the slot
//!   says e+1: e counts as run out, its owner is told that it lost the lease (too early, which
//!   costs a pause, not too late, which would cost two owners), and anybody may claim e+1 again.
//!
//! The other order (commit, then write) would let an owner renew e after e+1 was committed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use model::{BootTime, Epoch, LeaseName, Millis, NodeName};

use super::lock::{HOLD_KILL_AFTER, LockFile, Watch};
use crate::boot::boot_now;

/// Bytes of a slot. The longest names and numbers need 249; a slot never crosses a page, so that
/// a process killed while it writes one leaves the old or the new slot, not half of each.
const SLOT_BYTES: usize = 256;

/// When leases run out.
pub(super) struct Expiry {
    lock: LockFile,
    file: File,
    boot: String,
}

/// What the file says of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its epoch.
    pub epoch: Epoch,
    /// Who has it at this epoch.
    pub holder: NodeName,
    /// When it runs out.
    pub expires_at: BootTime,
}

/// Whether a claim may be made while the epoch before has not run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unexpired {
    /// There is better evidence than expiry that the holder has let go.
    Override,
    /// Expiry is the evidence.
    Respect,
}

/// The slots of the file: place and content by lease, and the places that are free.
struct Slots {
    of: BTreeMap<LeaseName, (u64, Entry)>,
    free: Vec<u64>,
    end: u64,
}

impl Expiry {
    pub(super) fn open(folder: &Path, watch: &Arc<Watch>) -> io::Result<Expiry> {
        let lock = LockFile::open(&folder.join("expiry.lock"), HOLD_KILL_AFTER, watch)?;
        let path = folder.join("expiry");
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Expiry { lock, file, boot })
    }

    /// What the file says now.
    pub(super) fn read(&self) -> io::Result<BTreeMap<LeaseName, Entry>> {
        let _held = self.lock.lock()?;
        let slots = self.slots()?;
        Ok(slots.of.into_iter().map(|(lease, (_, entry))| (lease, entry)).collect())
    }

    /// Extends what this node still holds, and answers what it does not.
    ///
    /// A lease that ran out, but that nobody has taken, is still its owner's.
    pub(super) fn renew(
        &self,
        node: &NodeName,
        leases: &[(LeaseName, Epoch)],
        ttl: Millis,
    ) -> io::Result<Vec<(LeaseName, Epoch)>> {
        let _held = self.lock.lock()?;
        let slots = self.slots()?;
        let expires_at = boot_now().after(ttl);
        let mut lost = Vec::new();
        for (lease, epoch) in leases {
            match slots.of.get(lease) {
                Some((at, entry)) if entry.epoch == *epoch && entry.holder == *node => {
                    self.write(*at, lease, &Entry { expires_at, ..entry.clone() })?;
                }
                _ => lost.push((lease.clone(), *epoch)),
            }
        }
        Ok(lost)
    }

    /// Writes a new owner in, before its epoch is committed. Answers how long the epoch before
    /// still has, if it has not run out and that is respected; then nothing is written.
    pub(super) fn claim(
        &self,
        lease: &LeaseName,
        before: Epoch,
        new: &Entry,
        unexpired: Unexpired,
    ) -> io::Result<Result<(), Millis>> {
        let _held = self.lock.lock()?;
        let slots = self.slots()?;
        let place = match slots.of.get(lease) {
            Some((at, entry)) => {
                let left = entry.expires_at.since(boot_now());
                if unexpired == Unexpired::Respect && entry.epoch == before && left > Millis(0) {
                    return Ok(Err(left));
                }
                *at
            }
            None => slots.free.first().copied().unwrap_or(slots.end),
        };
        self.write(place, lease, new)?;
        Ok(Ok(()))
    }

    /// Forgets a lease at an epoch: it counts as run out. A later epoch is somebody else's.
    pub(super) fn vacate(&self, lease: &LeaseName, epoch: Epoch) -> io::Result<()> {
        let _held = self.lock.lock()?;
        match self.slots()?.of.get(lease) {
            Some((at, entry)) if entry.epoch == epoch => {
                self.file.write_all_at(&[b' '; SLOT_BYTES], *at)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn write(&self, at: u64, lease: &LeaseName, entry: &Entry) -> io::Result<()> {
        let Entry { epoch, holder, expires_at } = entry;
        let text = format!("{lease} {epoch} {holder} {}", expires_at.0);
        self.file.write_all_at(&slot(&text), at)
    }

    /// Reads the slots, and begins the file anew if it is of another boot. The lock is held.
    fn slots(&self) -> io::Result<Slots> {
        let mut bytes = vec![0; usize::try_from(self.file.metadata()?.len()).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, 0)?;
        if bytes.get(..SLOT_BYTES) != Some(slot(&self.boot).as_slice()) {
            self.file.set_len(0)?;
            self.file.write_all_at(&slot(&self.boot), 0)?;
            bytes.truncate(0);
        }
        let mut slots = Slots { of: BTreeMap::new(), free: Vec::new(), end: SLOT_BYTES as u64 };
        for (number, text) in bytes.chunks_exact(SLOT_BYTES).enumerate().skip(1) {
            let at = (number * SLOT_BYTES) as u64;
            slots.end = at + SLOT_BYTES as u64;
            match parse(text) {
                Some((lease, entry)) => {
                    slots.of.insert(lease, (at, entry));
                }
                None => slots.free.push(at),
            }
        }
        Ok(slots)
    }
}

fn slot(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(SLOT_BYTES - 1, b' ');
    bytes.push(b'\n');
    bytes
}

/// Reads a slot; one that does not make sense counts as free, its lease as run out.
fn parse(slot: &[u8]) -> Option<(LeaseName, Entry)> {
    let mut words = std::str::from_utf8(slot).ok()?.split_whitespace();
    let lease = words.next()?.parse().ok()?;
    let epoch = Epoch(words.next()?.parse().ok()?);
    let holder = words.next()?.parse().ok()?;
    let expires_at = BootTime(words.next()?.parse().ok()?);
    Some((lease, Entry { epoch, holder, expires_at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(folder: &Path) -> Expiry {
        Expiry::open(folder, &Watch::start().expect("a thread")).expect("it opens")
    }

    fn entry(epoch: u64, ttl: Millis) -> Entry {
        let holder = "n".repeat(64).parse().expect("a name");
        Entry { epoch: Epoch(epoch), holder, expires_at: boot_now().after(ttl) }
    }

    fn longest() -> LeaseName {
        format!("instance/{}@{}", "h".repeat(64), "n".repeat(64)).parse().expect("a lease name")
    }

    #[test]
    fn the_longest_entry_fits_a_slot() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let expiry = expiry(folder.path());
        let entry = Entry { expires_at: BootTime(u64::MAX), ..entry(u64::MAX, Millis(0)) };
        let claimed = expiry.claim(&longest(), Epoch(0), &entry, Unexpired::Respect);
        assert_eq!(claimed.expect("written"), Ok(()));
        assert_eq!(expiry.read().expect("read"), BTreeMap::from([(longest(), entry)]));
    }

    #[test]
    fn a_claim_ends_the_renewals_of_the_epoch_before() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let expiry = expiry(folder.path());
        let (lease, node) = (longest(), entry(1, Millis(0)).holder);
        let hour = Millis::hours(1);
        let claim = |before: u64, how| {
            let new = entry(before + 1, hour);
            expiry.claim(&lease, Epoch(before), &new, how).expect("the file can be written")
        };
        assert_eq!(claim(0, Unexpired::Respect), Ok(()));
        assert!(claim(1, Unexpired::Respect).is_err_and(|left| left > Millis(0)));
        let held = [(lease.clone(), Epoch(1))];
        assert_eq!(expiry.renew(&node, &held, Millis(0)).expect("renewed"), []);
        assert_eq!(claim(1, Unexpired::Respect), Ok(()), "it has run out");
        assert_eq!(expiry.renew(&node, &held, hour).expect("answered"), held);
        assert_eq!(claim(1, Unexpired::Respect), Ok(()), "the claim before was not committed");
        assert_eq!(claim(2, Unexpired::Override), Ok(()));
        expiry.vacate(&lease, Epoch(2)).expect("written");
        assert!(expiry.read().expect("read").contains_key(&lease), "its successor has it");
        expiry.vacate(&lease, Epoch(3)).expect("written");
        assert_eq!(expiry.renew(&node, &[(lease, Epoch(3))], hour).expect("answered").len(), 1);
    }

    #[test]
    fn another_boot_counts_for_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut expiry = expiry(folder.path());
        let new = entry(1, Millis::hours(1));
        let claimed = expiry.claim(&longest(), Epoch(0), &new, Unexpired::Respect);
        assert_eq!(claimed.expect("written"), Ok(()));
        expiry.boot = "another".into();
        assert_eq!(expiry.read().expect("read"), BTreeMap::new());
        expiry.file.set_len(300).expect("torn by a power loss");
        assert_eq!(expiry.read().expect("read"), BTreeMap::new());
    }
}
