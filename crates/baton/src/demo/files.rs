//! The files that the demo's FTP server offers: one flat folder, read-only but for deletion.
//!
//! Files come and go while they are listed; one that is gone by then is simply not in the list.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncSeekExt};
use unftp_core::auth::DefaultUser;
use unftp_core::storage::{
    Error, ErrorKind, FEATURE_RESTART, Fileinfo, Metadata, Result, StorageBackend,
};

/// The folder.
#[derive(Debug, Clone)]
pub struct Files {
    folder: PathBuf,
}

/// What is told of a file.
#[derive(Debug)]
pub struct Facts(std::fs::Metadata);

impl Metadata for Facts {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn is_dir(&self) -> bool {
        self.0.is_dir()
    }
    fn is_file(&self) -> bool {
        self.0.is_file()
    }
    fn is_symlink(&self) -> bool {
        self.0.is_symlink()
    }
    fn modified(&self) -> Result<SystemTime> {
        Ok(self.0.modified()?)
    }
    fn gid(&self) -> u32 {
        0
    }
    fn uid(&self) -> u32 {
        0
    }
}

impl Files {
    /// The files of a folder.
    pub fn new(folder: &Path) -> Files {
        Files { folder: folder.to_owned() }
    }

    /// A path of the server as one of this machine: a plain name in the folder, or the folder.
    fn place<P: AsRef<Path>>(&self, path: P) -> Result<PathBuf> {
        let path = path.as_ref();
        let inner = path.strip_prefix("/").unwrap_or(path);
        let plain = inner.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if plain && inner.components().count() <= 1 {
            return Ok(self.folder.join(inner));
        }
        Err(Error::from(ErrorKind::FileNameNotAllowedError))
    }

    fn refuse<T>() -> Result<T> {
        Err(Error::from(ErrorKind::CommandNotImplemented))
    }
}

#[async_trait]
impl StorageBackend<DefaultUser> for Files {
    type Metadata = Facts;

    fn supported_features(&self) -> u32 {
        FEATURE_RESTART
    }

    async fn metadata<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        path: P,
    ) -> Result<Facts> {
        Ok(Facts(tokio::fs::symlink_metadata(self.place(path)?).await?))
    }

    async fn list<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        path: P,
    ) -> Result<Vec<Fileinfo<PathBuf, Facts>>> {
        let folder = self.place(path)?;
        let listed = tokio::task::spawn_blocking(move || {
            let entries = std::fs::read_dir(folder)?;
            let told = |entry: std::fs::DirEntry| {
                let metadata = Facts(entry.metadata().ok()?);
                Some(Fileinfo { path: PathBuf::from(entry.file_name()), metadata })
            };
            io::Result::Ok(entries.flatten().filter_map(told).collect())
        });
        Ok(listed.await.map_err(io::Error::other)??)
    }

    async fn get<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        path: P,
        start_pos: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Sync + Unpin>> {
        let mut file = tokio::fs::File::open(self.place(path)?).await?;
        file.seek(io::SeekFrom::Start(start_pos)).await?;
        Ok(Box::new(file))
    }

    async fn put<P, R>(&self, _: &DefaultUser, _: R, _: P, _: u64) -> Result<u64>
    where
        P: AsRef<Path> + Send + Debug,
        R: AsyncRead + Send + Sync + Unpin + 'static,
    {
        Files::refuse()
    }

    async fn del<P: AsRef<Path> + Send + Debug>(&self, _: &DefaultUser, path: P) -> Result<()> {
        Ok(tokio::fs::remove_file(self.place(path)?).await?)
    }

    async fn mkd<P: AsRef<Path> + Send + Debug>(&self, _: &DefaultUser, _: P) -> Result<()> {
        Files::refuse()
    }

    async fn rename<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &DefaultUser,
        _: P,
        _: P,
    ) -> Result<()> {
        Files::refuse()
    }

    async fn rmd<P: AsRef<Path> + Send + Debug>(&self, _: &DefaultUser, _: P) -> Result<()> {
        Files::refuse()
    }

    async fn cwd<P: AsRef<Path> + Send + Debug>(&self, _: &DefaultUser, path: P) -> Result<()> {
        match self.place(path)? == self.folder {
            true => Ok(()),
            false => Err(Error::from(ErrorKind::PermanentDirectoryNotAvailable)),
        }
    }
}
