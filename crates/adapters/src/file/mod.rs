//! Folders of this machine or of a mounted share: receiving and sending files.

mod macros;
mod receive;
mod send;

use adapter::{Adapter, AdapterError, Concurrency, PATIENCE_MAX, Result};
use tokio::time::timeout;

pub(crate) use receive::FileSource;
pub(crate) use send::FileSink;

/// Begins the names of files that are being written; the message's id follows.
const TEMPORARY: &str = ".baton-";

/// The line in the list of adapters.
pub(crate) struct File;

impl Adapter for File {
    fn name(&self) -> &'static str {
        "FILE"
    }
    fn summary(&self) -> &'static str {
        "receives and sends files of a folder"
    }
    fn receive_concurrency(&self) -> Concurrency {
        Concurrency::OneBecause(
            "one path may be a different disk on each node, and nothing keeps two readers of a \
             shared folder from taking the same file",
        )
    }
}

/// Does blocking work on files. A share that hangs holds its thread, but not us.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match timeout(PATIENCE_MAX, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(stopped)) => Err(AdapterError::Unavailable(format!("file work ended: {stopped}"))),
        Err(_) => Err(AdapterError::Unavailable(format!(
            "the file system did not answer in {PATIENCE_MAX:?}; is a share disconnected?"
        ))),
    }
}

/// A host may be started anywhere, so that a relative folder would be another one each time.
fn must_be_absolute(folder: &std::path::Path) -> Result<()> {
    if folder.is_absolute() {
        return Ok(());
    }
    Err(AdapterError::Refused(format!("folder {folder:?} must begin with a /")))
}

/// A failure of the whole folder in words, by who can mend it.
fn folder_failed(folder: &std::path::Path, doing: &str, error: &std::io::Error) -> AdapterError {
    use std::io::ErrorKind::*;
    let sentence = format!("cannot {doing} folder {}: {error}", folder.display());
    match error.kind() {
        NotFound | PermissionDenied | NotADirectory | ReadOnlyFilesystem => {
            AdapterError::Refused(format!("{sentence}. Check the folder and who may use it."))
        }
        _ => AdapterError::Unavailable(sentence),
    }
}
