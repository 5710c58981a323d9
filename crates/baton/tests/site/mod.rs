//! A store in a folder of its own, and the real program run against it.

#![allow(dead_code, reason = "each file of tests uses some of it")]

use std::process::{Command, Output};
use std::sync::Arc;

use cluster::AcquireRequest;
use model::{Cause, Epoch, LeaseName, Millis, NodeName};
use store::{Acquired, Fence, FenceToken, NodeFacts, Options, Store};

/// A clustered host that receives, and one that sends.
pub const DEFINITIONS: &str = "
groups:
  - {name: partners, possible_owners: [a, b]}
hosts:
  - {name: receive, group: partners}
  - {name: send}
receive_ports:
  - name: orders
    locations:
      - name: orders-ftp
        host: receive
        transport: {ftp: {server: ftp.example, user: u, password: hunter2}}
send_ports:
  - name: archive
    host: send
    filter: Kind == 'order'
    transport: {file: {folder: /out}}
";

/// A folder with a store, once something makes it.
pub struct Site {
    pub folder: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Site {
        Site { folder: tempfile::tempdir().expect("folder") }
    }

    pub fn url(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("baton.db").display())
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("file");
    }

    /// The program with the words of a line.
    pub fn command(&self, line: &str) -> Command {
        self.program(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// The program with these words.
    pub fn program(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env_remove("BATON_CONFIG")
            .env("BATON_STORE", self.url())
            .env("COLUMNS", "80");
        command
    }

    /// Runs a line: exit code, standard output, standard error.
    #[track_caller]
    pub fn run(&self, line: &str, code: i32) -> (String, String) {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>(), code)
    }

    /// Runs words, which may have blanks in them.
    #[track_caller]
    pub fn run_words(&self, words: &[&str], code: i32) -> (String, String) {
        let output: Output = self.program(words).output().expect("baton runs");
        let line = words.join(" ");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "baton {line}\n{out}{err}");
        (out, err)
    }

    /// The store, opened by this process.
    pub async fn store(&self) -> Arc<dyn Store> {
        store::open(&Options::new(self.url(), "test")).await.expect("store")
    }
}

/// A node name.
pub fn name(text: &str) -> NodeName {
    text.parse().expect("name")
}

/// Becomes a node for five minutes.
pub async fn join(site: &Site, node: &str) -> Arc<dyn Store> {
    let store = site.store().await;
    store.join(&name(node), &NodeFacts::default(), Millis::minutes(5)).await.expect("joined");
    store
}

/// Takes a lease for five minutes.
pub async fn acquire(store: &dyn Store, node: &str, lease: &str, seen: u64, reason: &str) -> Fence {
    let lease: LeaseName = lease.parse().expect("lease");
    let request = AcquireRequest {
        lease: lease.clone(),
        seen_epoch: Epoch(seen),
        cause: Cause::Start,
        reason: reason.into(),
        resource: None,
        external: false,
    };
    let taken = store.acquire(&name(node), &request, Millis::minutes(5)).await.expect("answer");
    let Acquired::Granted(granted) = taken else { panic!("{taken:?}") };
    let token = FenceToken { lease, epoch: granted.epoch, holder: name(node) };
    store.fence(&token).await.expect("fence")
}
