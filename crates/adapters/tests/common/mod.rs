//! What the tests of this crate share: settings, and a sink that keeps what it is given.

#![allow(dead_code)] // each test binary uses its own part

use std::collections::BTreeMap;

use adapter::{ChunkSink, Item, Listed, Result, Session};
use async_trait::async_trait;
use bytes::Bytes;
use model::Millis;
use model::definition::{DataMode, FtpReceive, ListingMode, ReceiveKind, TlsMode, TlsVersion};
use tokio::sync::mpsc;

/// Settings for a server of this machine, with limits that suit a test.
pub fn ftp(port: u16, user: &str, password: &str) -> FtpReceive {
    FtpReceive {
        server: "127.0.0.1".to_owned(),
        port: Some(port),
        user: user.to_owned(),
        password: password.to_owned(),
        password_file: None,
        folder: "/files".to_owned(),
        file_mask: "*".to_owned(),
        tls: TlsMode::Off,
        tls_max: TlsVersion::V1_3,
        ca_file: None,
        data_mode: DataMode::Passive,
        listing: ListingMode::Auto,
        connect_timeout: Millis::seconds(10),
        reply_timeout: Millis::seconds(20),
    }
}

pub async fn connect(setting: &FtpReceive) -> Box<dyn Session> {
    let source = adapters::source(&ReceiveKind::Ftp(setting.clone())).expect("a source");
    source.connect().await.expect("a session")
}

/// Lists into memory.
pub async fn list(session: &mut dyn Session) -> Result<(BTreeMap<String, Item>, Listed)> {
    let (sender, mut receiver) = mpsc::channel::<Item>(16);
    let mut items = BTreeMap::new();
    let mut receive = Box::pin(async {
        while let Some(item) = receiver.recv().await {
            items.insert(item.name.clone(), item);
        }
    });
    let (listed, ()) = tokio::join!(session.list(sender), &mut receive);
    drop(receive);
    Ok((items, listed?))
}

/// Keeps the bytes, or only counts and sums them when there are many.
#[derive(Debug, Default)]
pub struct Kept {
    pub bytes: Vec<u8>,
    pub total: u64,
    pub longest: usize,
    pub only_count: bool,
    pub fail_after: Option<u64>,
}

#[async_trait]
impl ChunkSink for Kept {
    async fn chunk(&mut self, bytes: Bytes) -> Result<()> {
        if self.fail_after.is_some_and(|limit| self.total >= limit) {
            return Err(adapter::AdapterError::Unavailable("the store is away".to_owned()));
        }
        self.total += bytes.len() as u64;
        self.longest = self.longest.max(bytes.len());
        if !self.only_count {
            self.bytes.extend_from_slice(&bytes);
        }
        Ok(())
    }
}

pub async fn fetch(session: &mut dyn Session, item: &Item, offset: u64) -> Result<Vec<u8>> {
    let mut kept = Kept::default();
    session.fetch(item, offset, &mut kept).await?;
    Ok(kept.bytes)
}

/// Bytes that repeat at no distance a buffer has.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}
