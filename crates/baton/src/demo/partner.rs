//! The partner: an FTP server in this process, the files it offers, and what it sees of us.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_trait::async_trait;
use libunftp::ServerBuilder;
use libunftp::notification::{DataEvent, DataListener, EventMeta};
use tokio::task::JoinSet;

use super::files::Files;

/// Downloads seen at the server: the outside view of who is active.
#[derive(Debug, Clone, Default)]
pub struct Observer {
    seen: Arc<Mutex<Vec<(Instant, String)>>>,
}

/// The partner's server.
pub struct Partner {
    /// How a location reaches it: the `ftp` settings of its definition.
    pub settings: serde_json::Value,
    /// Where the files lie that it offers.
    pub folder: PathBuf,
    /// What it sees of us; nothing when it is not our own server.
    pub observer: Option<Observer>,
    /// Our own server runs until this is dropped.
    _server: JoinSet<()>,
}

#[async_trait]
impl DataListener for Observer {
    async fn receive_data_event(&self, event: DataEvent, meta: EventMeta) {
        if matches!(event, DataEvent::Got { .. }) {
            let now = Instant::now();
            self.lock().push((now, meta.trace_id));
        }
    }
}

impl Observer {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, String)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything, and answers which sessions downloaded last: those of the instance that
    /// is active now.
    pub fn active_sessions(&self) -> BTreeSet<String> {
        self.lock().drain(..).map(|(_, session)| session).collect()
    }

    /// When a session that is not one of these first downloaded something, from a moment on.
    pub fn first_of_others(&self, before: &BTreeSet<String>, from: Instant) -> Option<Instant> {
        let seen = self.lock();
        let other = |(at, session): &&(Instant, String)| *at >= from && !before.contains(session);
        seen.iter().find(other).map(|(at, _)| *at)
    }

    /// When one of these sessions last downloaded something.
    pub fn last_of(&self, sessions: &BTreeSet<String>) -> Option<Instant> {
        let seen = self.lock();
        seen.iter().rev().find(|(_, session)| sessions.contains(session)).map(|(at, _)| *at)
    }
}

impl Partner {
    /// Starts the server over a folder, on a free port of the loopback interface.
    pub async fn start(folder: &Path) -> Result<Partner> {
        std::fs::create_dir_all(folder)?;
        let port = free_port()?;
        let observer = Observer::default();
        let root = folder.to_owned();
        let files = Box::new(move || Files::new(&root));
        let server = ServerBuilder::new(files)
            .greeting("Baton demo: the partner's server")
            .notify_data(observer.clone())
            .idle_session_timeout(600)
            .build()
            .context("cannot set up the FTP server of the demo")?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = server.listen(format!("127.0.0.1:{port}")).await {
                tracing::error!(%error, "the demo's FTP server has ended");
            }
        });
        wait_for(port).await?;
        Ok(Partner {
            settings: serde_json::json!({ "server": "127.0.0.1", "port": port }),
            folder: folder.to_owned(),
            observer: Some(observer),
            _server: tasks,
        })
    }

    /// A server that runs already: `USER:PASSWORD@ADDRESS:PORT/FOLDER`, whose files lie in a
    /// folder of this machine.
    pub fn of(server: &str, files: &Path) -> Result<Partner> {
        let parsed = || {
            let (login, rest) = server.rsplit_once('@')?;
            let (user, password) = login.split_once(':')?;
            let (address, folder) = rest.split_once('/').unwrap_or((rest, ""));
            let (address, port) = address.rsplit_once(':')?;
            let port: u16 = port.parse().ok()?;
            Some(serde_json::json!({
                "server": address, "port": port, "folder": folder,
                "user": user, "password": password,
            }))
        };
        let settings = parsed().context("--ftp needs USER:PASSWORD@ADDRESS:PORT/FOLDER")?;
        Ok(Partner { settings, folder: files.to_owned(), observer: None, _server: JoinSet::new() })
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn wait_for(port: u16) -> Result<()> {
    for _ in 0..100 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("the demo's FTP server does not listen on 127.0.0.1:{port}")
}
