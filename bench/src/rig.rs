//! A small cluster for a figure: real nodes, a real store, a real FTP server.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use baton::machines::Machine;
use clap::ValueEnum;
use model::Millis;
use serde_json::{Value, json};
use store::{Options, Store};
use testbed::{FtpKind, FtpOptions, FtpServer, Postgres};

/// Longest wait for anything that a figure waits for.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// How often a wait looks: looking through ten thousand files takes milliseconds of a processor
/// that those who are measured need, and twenty looks a second miss none of their seconds.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A file that is taken as long as the location is polled.
const CANARY: &str = "canary";

/// A store's engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// The embedded one.
    Sqlite,
    /// A server of its own.
    Postgres,
}

/// An empty store of an engine.
pub struct Storage {
    /// Its URL.
    pub url: String,
    /// The server, which ends when this is dropped.
    pub server: Option<Postgres>,
}

impl Storage {
    /// A file in a folder, or a database on a server of its own.
    pub fn of(engine: Engine, folder: &Path) -> Result<Storage> {
        match engine {
            Engine::Sqlite => {
                let url = format!("sqlite:{}", folder.join("baton.db").display());
                Ok(Storage { url, server: None })
            }
            Engine::Postgres => {
                let server = Postgres::start()?;
                server.create_database("baton")?;
                Ok(Storage { url: server.url("baton"), server: Some(server) })
            }
        }
    }
}

/// The cluster.
pub struct Rig {
    /// Where its files are; removed at the end.
    pub folder: tempfile::TempDir,
    /// The partner's server.
    pub partner: FtpServer,
    /// The store's URL.
    pub url: String,
    /// Its nodes.
    pub machines: Vec<Machine>,
    runtime: tokio::runtime::Runtime,
    _server: Option<Postgres>,
}

impl Rig {
    /// Starts server, store and nodes. Nothing is polled yet.
    pub fn start(engine: Engine, nodes: &[&str]) -> Result<Rig> {
        let folder = tempfile::tempdir()?;
        let partner = FtpServer::start(FtpKind::Vsftpd, FtpOptions::default())?;
        let Storage { url, server } = Storage::of(engine, folder.path())?;
        let mut rig = Rig {
            folder,
            partner,
            url,
            machines: Vec::new(),
            runtime: tokio::runtime::Runtime::new()?,
            _server: server,
        };
        std::fs::create_dir_all(rig.delivered())?;
        rig.apply(false)?;
        for name in nodes {
            let program = program()?;
            let path = rig.folder.path();
            rig.machines.push(Machine::start(&program, path, name, &rig.url, Millis(3000))?);
        }
        rig.wait("an owner", |rig| Ok(rig.owner()?.is_some()))?;
        Ok(rig)
    }

    /// Where messages are delivered.
    pub fn delivered(&self) -> PathBuf {
        self.folder.path().join("delivered")
    }

    /// Lets the location be polled, or not.
    pub fn apply(&self, enabled: bool) -> Result<()> {
        self.put_in_force(self.definitions(enabled))
    }

    /// Waits until the location is really not polled any more: hosts hear of new definitions in
    /// their own time.
    pub fn wait_until_at_rest(&self) -> Result<()> {
        let source = self.partner.root().join(CANARY);
        let delivered = self.delivered().join(CANARY);
        loop {
            self.partner.put(CANARY, b"canary")?;
            std::thread::sleep(LOOK_EVERY * 10);
            if source.exists() {
                return Ok(std::fs::remove_file(source)?);
            }
            self.wait("the canary", |_| Ok(delivered.exists()))?;
            std::fs::remove_file(&delivered)?;
        }
    }

    /// Lets several locations poll empty folders every second.
    pub fn poll_idle(&self, locations: usize) -> Result<()> {
        let mut definitions = self.definitions(true);
        let location = definitions["receive_ports"][0]["locations"][0].take();
        let numbered = |number: usize| -> Result<Value> {
            let folder = format!("idle-{number}");
            std::fs::create_dir(self.partner.root().join(&folder))?;
            let mut location = location.clone();
            location["name"] = folder.clone().into();
            location["poll_interval"] = "1s".into();
            let within = format!("{}/{folder}", self.partner.folder());
            location["transport"]["ftp"]["folder"] = within.trim_start_matches('/').into();
            Ok(location)
        };
        let all = (0..locations).map(numbered).collect::<Result<Vec<_>>>()?;
        definitions["receive_ports"][0]["locations"] = all.into();
        self.put_in_force(definitions)
    }

    fn put_in_force(&self, definitions: Value) -> Result<()> {
        let definitions = serde_json::from_value(definitions)?;
        self.with_store(async |store| {
            let (version, _) = store.definitions().await?;
            store.apply(&definitions, version, "bench").await?;
            Ok(())
        })
    }

    /// The node that owns the group.
    pub fn owner(&self) -> Result<Option<String>> {
        self.with_store(async |store| {
            let snapshot = store.snapshot().await?;
            let group = snapshot.leases.iter().find(|view| view.lease.to_string() == "group/files");
            Ok(group.and_then(|view| view.holder.as_ref().map(ToString::to_string)))
        })
    }

    /// Does something with the store.
    pub fn with_store<T>(&self, work: impl AsyncFnOnce(&dyn Store) -> Result<T>) -> Result<T> {
        self.runtime.block_on(async {
            let store = store::open(&Options::new(&self.url, "bench")).await?;
            work(&*store).await
        })
    }

    /// Waits until something is so.
    pub fn wait(&self, what: &str, so: impl Fn(&Rig) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + WAIT_MAX;
        while !so(self)? {
            ensure!(Instant::now() < deadline, "waited {WAIT_MAX:?} in vain for {what}");
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn definitions(&self, enabled: bool) -> Value {
        json!({
            "groups": [{ "name": "files", "policy": { "restarts_max": 0 } }],
            "hosts": [{ "name": "receive", "group": "files" }, { "name": "send" }],
            "receive_ports": [{ "name": "files", "locations": [{
                "name": "files-ftp",
                "host": "receive",
                "enabled": enabled,
                "poll_interval": "50ms",
                "stability": "none",
                "transport": { "ftp": {
                    "server": "127.0.0.1",
                    "port": self.partner.port(),
                    "user": self.partner.user(),
                    "password": self.partner.password(),
                    "folder": self.partner.folder(),
                } },
            }] }],
            "send_ports": [{
                "name": "folder",
                "host": "send",
                "filter": "true",
                "retry_interval": "1s",
                "transport": { "file": {
                    "folder": self.delivered(),
                    "file_name": "%SourceFileName%",
                } },
            }],
        })
    }
}

/// The program `baton` beside this one.
pub fn program() -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("baton");
    ensure!(beside.exists(), "{} is missing: build it with this profile first", beside.display());
    Ok(beside)
}

/// Complete files in a folder.
pub fn count(folder: &Path) -> Result<u32> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let complete =
        |entry: &std::fs::DirEntry| !entry.file_name().as_encoded_bytes().starts_with(b".");
    Ok(entries.flatten().filter(complete).count() as u32)
}
