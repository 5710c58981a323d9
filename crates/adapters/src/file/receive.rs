//! Receiving the files of a folder.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use adapter::{AdapterError, ChunkSink, Item, Listed, PolledSource, Result, Session, Sighting};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use model::definition::{AfterReceive, FileReceive};
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::{blocking, folder_failed, must_be_absolute};
use crate::mask::{Mask, readable};

/// Bytes handed on at once.
const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// Names with a number that `move_to` tries: `x.1` to `x.999`.
const NUMBERS_MAX: u32 = 999;

/// A folder.
pub(crate) struct FileSource {
    folder: PathBuf,
    file_mask: String,
    mask: Mask,
}

impl FileSource {
    pub(crate) fn new(setting: &FileReceive) -> Result<FileSource> {
        must_be_absolute(&setting.folder)?;
        crate::mask::check(&setting.file_mask)?;
        Ok(FileSource {
            folder: setting.folder.clone(),
            file_mask: setting.file_mask.clone(),
            mask: Mask::new(&setting.file_mask),
        })
    }
}

#[async_trait]
impl PolledSource for FileSource {
    fn address(&self) -> String {
        format!("file://{}", self.folder.join(&self.file_mask).display())
    }

    fn scope(&self) -> String {
        format!("file://{}", self.folder.display())
    }

    fn covers(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        self.mask.matches(&readable(name))
    }

    async fn make_durable(&self, after_receive: &AfterReceive) -> Result<()> {
        let mut folders = vec![self.folder.clone()];
        if let AfterReceive::Move(target) = after_receive {
            folders.push(self.folder.join(target));
        }
        let sync = |folder: &PathBuf| {
            let synced = fs::File::open(folder).and_then(|open| open.sync_all());
            synced.map_err(|error| folder_failed(folder, "write to", &error))
        };
        blocking(move || folders.iter().try_for_each(sync)).await
    }

    async fn connect(&self) -> Result<Box<dyn Session>> {
        let folder = self.folder.clone();
        blocking(move || {
            fs::read_dir(&folder).map_err(|error| folder_failed(&folder, "read", &error))
        })
        .await?;
        Ok(Box::new(FileSession { folder: self.folder.clone(), mask: self.mask.clone() }))
    }
}

/// Not a connection, but it stands for one.
struct FileSession {
    folder: PathBuf,
    mask: Mask,
}

#[async_trait]
impl Session for FileSession {
    async fn list(&mut self, items: mpsc::Sender<Item>) -> Result<Listed> {
        let (folder, mask) = (self.folder.clone(), self.mask.clone());
        // Waiting for the receiver of the items must not end by a time limit, as `blocking` has.
        let listing = tokio::task::spawn_blocking(move || list(&folder, &mask, &items));
        listing.await.map_err(|stopped| AdapterError::Unavailable(stopped.to_string()))?
    }

    async fn look(&mut self, item: &Item) -> Result<Sighting> {
        let path = path_of(item);
        blocking(move || regular(&path).map(|metadata| sighting_of(&metadata))).await
    }

    async fn fetch(&mut self, item: &Item, offset: u64, into: &mut dyn ChunkSink) -> Result<()> {
        let path = path_of(item);
        let (mut file, mut chunk) = blocking(move || {
            let mut file = open_at(&path, offset)?;
            let chunk = read_chunk(&mut file, &path)?;
            Ok((file, chunk))
        })
        .await?;
        let mut total = offset;
        loop {
            let is_last = chunk.len() < CHUNK_BYTES_MAX;
            total += chunk.len() as u64;
            if !chunk.is_empty() {
                into.chunk(chunk).await?;
            }
            if is_last {
                break;
            }
            let path = path_of(item);
            (file, chunk) = blocking(move || {
                let chunk = read_chunk(&mut file, &path)?;
                Ok((file, chunk))
            })
            .await?;
        }
        match item.sighting.bytes {
            Some(listed) if listed != total => Err(AdapterError::Item(format!(
                "{} has another size than when it was listed: {total} bytes instead of {listed}",
                item.name
            ))),
            _ => Ok(()),
        }
    }

    async fn remove(&mut self, item: &Item) -> Result<()> {
        let path = path_of(item);
        blocking(move || fs::remove_file(&path).map_err(|error| failed(&path, "delete", &error)))
            .await
    }

    async fn move_to(&mut self, item: &Item, folder: &str) -> Result<()> {
        let path = path_of(item);
        // A relative folder lies in the folder that is received from.
        let target = self.folder.join(folder);
        blocking(move || move_to(&path, &target)).await
    }

    async fn keep_alive(&mut self) -> Result<()> {
        Ok(())
    }
}

fn list(folder: &Path, mask: &Mask, items: &mpsc::Sender<Item>) -> Result<Listed> {
    let entries = fs::read_dir(folder).map_err(|error| folder_failed(folder, "read", &error))?;
    let mut listed = Listed::default();
    for entry in entries {
        let entry = entry.map_err(|error| folder_failed(folder, "read", &error))?;
        let os_name = entry.file_name();
        let name = readable(os_name.as_bytes());
        // Hidden files, our own half-written ones among them, are not for us.
        if name.starts_with('.') || !mask.matches(&name) {
            continue;
        }
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => continue, // gone meanwhile
            Err(error) => {
                listed.not_understood.push(format!("{name}: {error}"));
                continue;
            }
        };
        if !metadata.is_file() {
            continue;
        }
        let path = entry.path().into_os_string().into_vec();
        let item = Item { path, name, sighting: sighting_of(&metadata) };
        if items.blocking_send(item).is_err() {
            break;
        }
    }
    Ok(listed)
}

fn path_of(item: &Item) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&item.path))
}

fn sighting_of(metadata: &Metadata) -> Sighting {
    let since = metadata.modified().map(|at| match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).ok(),
        Err(before) => i64::try_from(before.duration().as_millis()).ok().map(|ms| -ms),
    });
    let modified_ms = since.ok().flatten();
    Sighting { bytes: Some(metadata.len()), modified_ms, coarse: false }
}

fn regular(path: &Path) -> Result<Metadata> {
    let metadata = fs::symlink_metadata(path).map_err(|error| failed(path, "look at", &error))?;
    if !metadata.is_file() {
        return Err(AdapterError::Item(format!("{} is no regular file", path.display())));
    }
    Ok(metadata)
}

fn open_at(path: &Path, offset: u64) -> Result<fs::File> {
    // Between listing and now the name may have become a link, or a pipe that would make us wait.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let mut file = opened.map_err(|error| failed(path, "open", &error))?;
    let metadata = file.metadata().map_err(|error| failed(path, "look at", &error))?;
    if !metadata.is_file() {
        return Err(AdapterError::Item(format!("{} is no regular file", path.display())));
    }
    if offset > metadata.len() {
        return Err(AdapterError::Item(format!(
            "{} has only {} bytes, so it can't be read on from byte {offset}",
            path.display(),
            metadata.len()
        )));
    }
    file.seek(SeekFrom::Start(offset)).map_err(|error| failed(path, "read", &error))?;
    Ok(file)
}

/// A full chunk, or less at the end of the file.
fn read_chunk(file: &mut fs::File, path: &Path) -> Result<Bytes> {
    let left = file.metadata().map(|metadata| metadata.len()).unwrap_or(u64::MAX);
    let room = usize::try_from(left).unwrap_or(CHUNK_BYTES_MAX).clamp(1, CHUNK_BYTES_MAX);
    let mut chunk = BytesMut::zeroed(room);
    let mut filled = 0;
    loop {
        match file.read(&mut chunk[filled..]) {
            Ok(0) if filled < chunk.len() => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(path, "read", &error)),
        }
        if filled == CHUNK_BYTES_MAX {
            break;
        }
        if filled == chunk.len() {
            chunk.resize((filled * 2).min(CHUNK_BYTES_MAX), 0); // it grows while it is read
        }
    }
    chunk.truncate(filled);
    Ok(chunk.freeze())
}

fn move_to(path: &Path, folder: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default();
    for number in 0..=NUMBERS_MAX {
        let mut name = name.to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        match rename_new(path, &folder.join(name)) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(move_failed(path, folder, &error)),
        }
    }
    Err(AdapterError::Item(format!(
        "folder {} holds {} and {NUMBERS_MAX} more with a number: clear it up, or choose another",
        folder.display(),
        name.display()
    )))
}

/// Renames without taking the place of another file.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // NFS and some others don't know the flag; a hard link doesn't replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        done => done.map_err(io::Error::from),
    }
}

fn move_failed(path: &Path, folder: &Path, error: &io::Error) -> AdapterError {
    if error.kind() == ErrorKind::NotFound && path.symlink_metadata().is_err() {
        return failed(path, "move", error);
    }
    let help = match error.kind() {
        ErrorKind::CrossesDevices => "; the folder must be on the same disk",
        ErrorKind::NotFound => "; the folder does not exist",
        _ => "",
    };
    AdapterError::Item(format!(
        "cannot move {} to folder {}: {error}{help}",
        path.display(),
        folder.display()
    ))
}

fn failed(path: &Path, doing: &str, error: &io::Error) -> AdapterError {
    match error.kind() {
        ErrorKind::NotFound => AdapterError::Gone(format!("{} is no longer there", path.display())),
        ErrorKind::StaleNetworkFileHandle | ErrorKind::TimedOut => AdapterError::Unavailable(
            format!("cannot {doing} {}: {error}; is a share disconnected?", path.display()),
        ),
        _ => AdapterError::Item(format!("cannot {doing} {}: {error}", path.display())),
    }
}
