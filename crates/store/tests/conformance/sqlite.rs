//! SQLite under the suite: a file in a temporary folder.

use std::any::Any;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use store::{FenceToken, Options, Store};

use crate::Engine;

struct Sqlite {
    folder: tempfile::TempDir,
}

/// A database of its own for one case.
pub async fn engine() -> Option<Box<dyn Engine>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Some(Box::new(Sqlite { folder }))
}

impl Sqlite {
    fn database(&self) -> PathBuf {
        self.folder.path().join("baton.db")
    }
}

#[async_trait]
impl Engine for Sqlite {
    async fn open(&self, application: &str) -> Arc<dyn Store> {
        let url = format!("sqlite:{}", self.database().display());
        store::open(&Options::new(url, application)).await.expect("the database opens")
    }

    async fn begin_publish(&self, _: &FenceToken) -> Box<dyn Any + Send> {
        let path = self.database().with_file_name("baton.db.d").join("write.lock");
        let lock = File::options().write(true).open(path).expect("the write lock is there");
        lock.lock().expect("the write lock can be taken");
        let database = rusqlite::Connection::open(self.database()).expect("the database is there");
        database.execute_batch("BEGIN IMMEDIATE").expect("nobody writes");
        Box::new((database, lock))
    }
}
