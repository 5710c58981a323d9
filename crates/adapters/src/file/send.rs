//! Sending files to a folder: written under a temporary name, made durable, then renamed.
//!
//! The order is what matters: bodies on disk, then names, then the names on disk, then `Ok`. A
//! reader of the folder sees whole files only, and a power cut after `Ok` takes nothing away.
//! A batch pays for one flush of the file system and one of the folder, not one for each file.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use adapter::{AdapterError, Delivery, PATIENCE_MAX, Result, Sink};
use async_trait::async_trait;
use model::MessageId;
use model::definition::{CopyMode, FileSend};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::fs::{fsync, linkat, open, openat, renameat, renameat_with, syncfs, unlinkat};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::{TEMPORARY, blocking, folder_failed, macros, must_be_absolute};

/// Bodies up to here are held in memory, so that a batch is one piece of blocking work.
const SMALL_BODY_BYTES: u64 = 1024 * 1024;

/// Bytes of bodies held at once; then they are written before more are read.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a big body that are read and then written at a time.
const PIECE_BYTES: usize = 1024 * 1024;

/// From so many files on, flushing the file system once is cheaper than each file.
const SYNCFS_FILES: usize = 8;

/// A temporary file this old belongs to a try that died: a living one writes all the time.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// A folder that files are sent to.
pub(crate) struct FileSink {
    folder: Arc<PathBuf>,
    file_name: String,
    copy_mode: CopyMode,
    is_tidied: AtomicBool,
}

impl FileSink {
    pub(crate) fn new(setting: &FileSend) -> Result<FileSink> {
        if setting.file_name.contains('/') || setting.file_name.is_empty() {
            return Err(AdapterError::Refused(format!(
                "file_name {:?} must be the name of a file, without a folder",
                setting.file_name
            )));
        }
        if let Some(unknown) = macros::unknown(&setting.file_name) {
            return Err(AdapterError::Refused(format!(
                "file_name has an unknown macro {unknown}; there are %MessageID%, \
                 %SourceFileName%, %datetime% and %time%"
            )));
        }
        must_be_absolute(&setting.folder)?;
        Ok(FileSink {
            folder: Arc::new(setting.folder.clone()),
            file_name: setting.file_name.clone(),
            copy_mode: setting.copy_mode,
            is_tidied: AtomicBool::new(false),
        })
    }
}

#[async_trait]
impl Sink for FileSink {
    fn address(&self) -> String {
        format!("file://{}", self.folder.join(&self.file_name).display())
    }

    async fn deliver(&self, batch: Vec<Delivery>) -> Vec<Result<()>> {
        let count = batch.len();
        let mut results: Vec<Result<()>> = Vec::new();
        results.resize_with(count, || Ok(()));
        match self.open_folder().await {
            Ok(folder) => self.deliver_to(folder, batch, &mut results).await,
            Err(error) => results.iter_mut().for_each(|result| *result = Err(again(&error))),
        }
        results
    }
}

impl FileSink {
    /// Opened before anything is written: a failure to flush is told to who holds the folder.
    async fn open_folder(&self) -> Result<Folder> {
        let path = Arc::clone(&self.folder);
        let must_tidy = !self.is_tidied.swap(true, Ordering::Relaxed);
        blocking(move || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let handle = open(path.as_path(), flags, Mode::empty())
                .map_err(|error| folder_failed(&path, "open", &error.into()))?;
            let folder = Folder { path, handle: Arc::new(handle) };
            if must_tidy {
                folder.remove_stale();
            }
            Ok(folder)
        })
        .await
    }

    async fn deliver_to(&self, folder: Folder, batch: Vec<Delivery>, results: &mut [Result<()>]) {
        let many = batch.len() >= SYNCFS_FILES;
        let mut jobs = Vec::with_capacity(batch.len());
        let mut held = 0;
        for (index, delivery) in batch.into_iter().enumerate() {
            match self.take(&folder, index, delivery).await {
                Ok(job) => {
                    held += job.held_bytes();
                    jobs.push(job);
                }
                Err(error) => results[index] = Err(error),
            }
            if held > HELD_BYTES_MAX {
                jobs = self.put_down(&folder, jobs, many, results).await;
                held = 0;
            }
        }
        if jobs.is_empty() {
            return;
        }
        let copy_mode = self.copy_mode;
        let indexes: Vec<usize> = jobs.iter().map(|job| job.index).collect();
        let placed = blocking(move || Ok(folder.finish(jobs, many, copy_mode))).await;
        match placed {
            Ok(outcomes) => {
                for (index, outcome) in outcomes {
                    results[index] = outcome;
                }
            }
            Err(error) => indexes.iter().for_each(|index| results[*index] = Err(again(&error))),
        }
    }

    /// Reads a small body, or writes a big one to its temporary file.
    async fn take(&self, folder: &Folder, index: usize, delivery: Delivery) -> Result<Job> {
        let Delivery { message, context, body_bytes, mut body, maybe_delivered } = delivery;
        let name = macros::file_name(&self.file_name, message, &context)?;
        let body = if body_bytes <= SMALL_BODY_BYTES {
            let mut bytes = Vec::new();
            read_piece(&mut body, &mut bytes, SMALL_BODY_BYTES + 1).await?;
            check_length(message, body_bytes, bytes.len() as u64)?;
            Body::Held(bytes)
        } else {
            let written = folder.write_big(message, body_bytes, &mut body).await;
            // Half a body is of no use, and it may be big.
            Body::Written(Some(written.inspect_err(|_| folder.discard(&temporary(message)))?))
        };
        Ok(Job { index, message, name, maybe_delivered, body })
    }

    /// Writes what is held, and returns the jobs that still can succeed.
    async fn put_down(
        &self,
        folder: &Folder,
        jobs: Vec<Job>,
        many: bool,
        results: &mut [Result<()>],
    ) -> Vec<Job> {
        let indexes: Vec<usize> = jobs.iter().map(|job| job.index).collect();
        let folder = folder.clone();
        let written = blocking(move || {
            let mut failures = Vec::new();
            let jobs = folder.write_held(jobs, many, &mut failures);
            Ok((jobs, failures))
        });
        match written.await {
            Ok((jobs, failures)) => {
                for (index, error) in failures {
                    results[index] = Err(error);
                }
                jobs
            }
            Err(error) => {
                indexes.iter().for_each(|index| results[*index] = Err(again(&error)));
                Vec::new()
            }
        }
    }
}

/// A message on its way to its file.
struct Job {
    index: usize,
    message: MessageId,
    name: String,
    maybe_delivered: bool,
    body: Body,
}

enum Body {
    /// In memory.
    Held(Vec<u8>),
    /// In the temporary file; its handle while it must be flushed by itself.
    Written(Option<File>),
}

impl Job {
    fn held_bytes(&self) -> usize {
        match &self.body {
            Body::Held(bytes) => bytes.len(),
            Body::Written(_) => 0,
        }
    }

    fn temporary(&self) -> String {
        temporary(self.message)
    }
}

fn temporary(message: MessageId) -> String {
    format!("{TEMPORARY}{message}")
}

#[derive(Clone)]
struct Folder {
    path: Arc<PathBuf>,
    handle: Arc<OwnedFd>,
}

impl Folder {
    async fn write_big(
        &self,
        message: MessageId,
        body_bytes: u64,
        body: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<File> {
        let folder = self.clone();
        let mut file = blocking(move || folder.create(&temporary(message))).await?;
        let mut total = 0;
        let mut piece = Vec::new();
        loop {
            piece.clear();
            read_piece(body, &mut piece, PIECE_BYTES as u64).await?;
            if piece.is_empty() {
                break;
            }
            total += piece.len() as u64;
            if total > body_bytes {
                break;
            }
            let folder = self.clone();
            (file, piece) = blocking(move || {
                file.write_all(&piece).map_err(|error| folder.failed(&error))?;
                Ok((file, piece))
            })
            .await?;
        }
        check_length(message, body_bytes, total)?;
        Ok(file)
    }

    /// Everything that is left to do for a batch, in the order that keeps it safe.
    fn finish(&self, jobs: Vec<Job>, many: bool, copy_mode: CopyMode) -> Vec<(usize, Result<()>)> {
        let mut failures = Vec::new();
        let jobs = self.write_held(jobs, many, &mut failures);
        let jobs = self.flush(jobs, &mut failures);
        let mut outcomes: Vec<(usize, Result<()>)> =
            jobs.into_iter().map(|job| (job.index, self.place(&job, copy_mode))).collect();
        if let Err(error) = fsync(&*self.handle) {
            let error = self.failed(&error.into());
            for (_, outcome) in outcomes.iter_mut().filter(|(_, outcome)| outcome.is_ok()) {
                *outcome = Err(again(&error));
            }
        }
        outcomes.extend(failures.into_iter().map(|(index, error)| (index, Err(error))));
        outcomes
    }

    fn write_held(
        &self,
        jobs: Vec<Job>,
        many: bool,
        failures: &mut Vec<(usize, AdapterError)>,
    ) -> Vec<Job> {
        let mut written = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            if let Body::Held(bytes) = &job.body {
                let name = job.temporary();
                let file = self.create(&name).and_then(|mut file| {
                    file.write_all(bytes).map_err(|error| self.failed(&error))?;
                    Ok(file)
                });
                match file {
                    // Many files are flushed together, and handles are scarce.
                    Ok(file) => job.body = Body::Written((!many).then_some(file)),
                    Err(error) => {
                        self.discard(&name);
                        failures.push((job.index, error));
                        continue;
                    }
                }
            }
            written.push(job);
        }
        written
    }

    /// Makes the bodies durable: one by one, or all at once.
    fn flush(&self, jobs: Vec<Job>, failures: &mut Vec<(usize, AdapterError)>) -> Vec<Job> {
        if jobs.len() >= SYNCFS_FILES {
            match syncfs(&*self.handle) {
                Ok(()) => return jobs,
                Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {}
                Err(error) => {
                    let error = self.failed(&error.into());
                    failures.extend(jobs.iter().map(|job| (job.index, again(&error))));
                    return Vec::new();
                }
            }
        }
        let mut safe = Vec::with_capacity(jobs.len());
        for job in jobs {
            let flushed = match &job.body {
                Body::Written(Some(file)) => file.sync_all(),
                Body::Written(None) | Body::Held(_) => {
                    self.reopen(&job.temporary()).and_then(|file| file.sync_all())
                }
            };
            match flushed {
                Ok(()) => safe.push(job),
                Err(error) => {
                    self.discard(&job.temporary());
                    failures.push((job.index, self.failed(&error)));
                }
            }
        }
        safe
    }

    fn place(&self, job: &Job, copy_mode: CopyMode) -> Result<()> {
        let temporary = job.temporary();
        let placed = match copy_mode {
            CopyMode::Overwrite => {
                renameat(&*self.handle, temporary.as_str(), &*self.handle, job.name.as_str())
            }
            CopyMode::CreateNew => self.rename_new(&temporary, &job.name),
        };
        let error = match placed {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // A file of that name and content is ours if an earlier try may have got so far, or if
        // its name carries the message's id.
        let may_be_ours = job.maybe_delivered || job.name.contains(&job.message.to_string());
        let is_ours = error == Errno::EXIST
            && may_be_ours
            && self.is_same(&temporary, &job.name).unwrap_or(false);
        self.discard(&temporary);
        match error {
            _ if is_ours => Ok(()),
            Errno::EXIST => Err(AdapterError::Item(format!(
                "{} exists in {}. Delete it, put %MessageID% into file_name, or set copy_mode to \
                 overwrite.",
                job.name,
                self.path.display()
            ))),
            Errno::ISDIR | Errno::NAMETOOLONG | Errno::INVAL => Err(AdapterError::Item(format!(
                "{} can't be written to {}: {}",
                job.name,
                self.path.display(),
                io::Error::from(error)
            ))),
            _ => Err(self.failed(&error.into())),
        }
    }

    /// Renames without taking the place of another file.
    fn rename_new(&self, from: &str, to: &str) -> rustix::io::Result<()> {
        let folder = &*self.handle;
        match renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
            // NFS and some others don't know the flag; a hard link doesn't replace either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            done => return done,
        }
        linkat(folder, from, folder, to, AtFlags::empty())?;
        unlinkat(folder, from, AtFlags::empty())
    }

    fn is_same(&self, one: &str, other: &str) -> io::Result<bool> {
        let (mut one, mut other) = (self.reopen(one)?, self.reopen(other)?);
        let (first, second) = (one.metadata()?, other.metadata()?);
        if !second.is_file() || first.len() != second.len() {
            return Ok(false);
        }
        let mut left = vec![0; 64 * 1024];
        let mut right = vec![0; 64 * 1024];
        loop {
            let count = one.read(&mut left)?;
            if count == 0 {
                return Ok(true);
            }
            match other.read_exact(&mut right[..count]) {
                Ok(()) if left[..count] == right[..count] => {}
                Ok(()) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// A new file, never one that someone else has put there: what lies under the name (the rest
    /// of an earlier try, a link) is removed first.
    fn create(&self, name: &str) -> Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o666); // less the umask, as any program's files
        let opened = match openat(&*self.handle, name, flags, mode) {
            Err(Errno::EXIST) => {
                self.discard(name);
                openat(&*self.handle, name, flags, mode)
            }
            opened => opened,
        };
        opened.map(File::from).map_err(|error| self.failed(&error.into()))
    }

    fn reopen(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(openat(&*self.handle, name, flags, Mode::empty())?))
    }

    fn discard(&self, name: &str) {
        match unlinkat(&*self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => tracing::debug!(name, %error, "a temporary file stays"),
        }
    }

    fn remove_stale(&self) {
        let Ok(entries) = std::fs::read_dir(self.path.as_path()) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let id = name.strip_prefix(TEMPORARY).map(str::parse::<MessageId>);
            if matches!(id, Some(Ok(_))) && entry.metadata().is_ok_and(|file| is_stale(&file)) {
                tracing::info!(folder = %self.path.display(), name, "removes a stale file");
                self.discard(name);
            }
        }
    }

    fn failed(&self, error: &io::Error) -> AdapterError {
        folder_failed(self.path.as_path(), "write to", error)
    }
}

fn is_stale(file: &std::fs::Metadata) -> bool {
    let age = file.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    file.is_file() && age.is_some_and(|age| age > STALE_AFTER)
}

/// Reads until `bytes` holds `limit` bytes or the body ends.
async fn read_piece(
    body: &mut (dyn AsyncRead + Send + Unpin),
    bytes: &mut Vec<u8>,
    limit: u64,
) -> Result<()> {
    match timeout(PATIENCE_MAX, body.take(limit).read_to_end(bytes)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            Err(AdapterError::Unavailable(format!("the message's body can't be read: {error}")))
        }
        Err(_) => Err(AdapterError::Unavailable(format!(
            "the message's body did not come in {PATIENCE_MAX:?}"
        ))),
    }
}

fn check_length(message: MessageId, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(AdapterError::Unavailable(format!(
        "the body of message {message} should have {expected} bytes, but {found} came"
    )))
}

/// The same error once more, for another message of the batch.
fn again(error: &AdapterError) -> AdapterError {
    match error {
        AdapterError::Unavailable(text) => AdapterError::Unavailable(text.clone()),
        AdapterError::Refused(text) => AdapterError::Refused(text.clone()),
        AdapterError::Item(text) => AdapterError::Item(text.clone()),
        AdapterError::Gone(text) => AdapterError::Gone(text.clone()),
    }
}

/// Only the folder is named: a file's name is the partner's business.
impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Folder({})", Path::display(&self.path))
    }
}
