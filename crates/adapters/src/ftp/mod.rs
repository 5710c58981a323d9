//! Receiving by FTP (RFC 959, 2428, 3659) and FTPS (RFC 4217).
//!
//! Read `session` for what an FTP session does for the driver, `control` for the rule that makes
//! it safe (no reply is ever taken for another command's), `listing` for what servers write.

mod control;
mod data;
mod list;
mod listing;
mod login;
mod lookup;
mod session;
mod tls;
mod transfer;
mod wire;

use std::sync::Arc;

use adapter::{Adapter, AdapterError, Concurrency, PolledSource, Result, Session};
use async_trait::async_trait;
use model::definition::{FtpReceive, TlsMode};
use rustls::RootCertStore;
use tokio::sync::OnceCell;

use crate::mask::Mask;
use data::Learned;
use session::FtpSession;

/// The line in the list of adapters.
pub(crate) struct Ftp;

impl Adapter for Ftp {
    fn name(&self) -> &'static str {
        "FTP"
    }
    fn summary(&self) -> &'static str {
        "receives files of FTP and FTPS servers"
    }
    fn receive_concurrency(&self) -> Concurrency {
        Concurrency::OneBecause("FTP does not lock files")
    }
}

/// A folder of an FTP server.
pub(crate) struct FtpSource(Arc<Shared>);

/// What the sessions of a source have in common.
struct Shared {
    setting: FtpReceive,
    mask: Mask,
    learned: Arc<Learned>,
    /// The machine's authorities take milliseconds to read; `ca_file` is read for each
    /// connection, so that a new one needs no restart.
    machine_roots: OnceCell<Arc<RootCertStore>>,
}

impl FtpSource {
    pub(crate) fn new(setting: &FtpReceive) -> Result<FtpSource> {
        for (name, value) in
            [("server", &setting.server), ("user", &setting.user), ("folder", &setting.folder)]
        {
            if value.bytes().any(control::is_forbidden) {
                let sentence = format!("{name} {value:?} holds an end of line");
                return Err(AdapterError::Refused(sentence));
            }
        }
        let refuse = |sentence: &str| Err(AdapterError::Refused(sentence.into()));
        if setting.server.trim().is_empty() {
            return refuse("server is empty: name the FTP server, or give its address");
        }
        if setting.port == Some(0) {
            return refuse("port 0 is no port: leave it out for 21, or 990 with `tls: implicit`");
        }
        if !setting.password.is_empty() && setting.password_file.is_some() {
            return refuse(
                "password and password_file are both there: keep one, the file if you can",
            );
        }
        crate::mask::check(&setting.file_mask)?;
        Ok(FtpSource(Arc::new(Shared {
            setting: setting.clone(),
            mask: Mask::new(&setting.file_mask),
            learned: Arc::default(),
            machine_roots: OnceCell::new(),
        })))
    }
}

#[async_trait]
impl PolledSource for FtpSource {
    fn address(&self) -> String {
        let setting = &self.0.setting;
        let scheme = if setting.tls == TlsMode::Off { "ftp" } else { "ftps" };
        let folder = setting.folder.trim_matches('/');
        let slash = if folder.is_empty() { "" } else { "/" };
        let (user, server, mask) = (&setting.user, self.0.server(), &setting.file_mask);
        format!("{scheme}://{user}@{server}/{folder}{slash}{mask}")
    }

    fn scope(&self) -> String {
        let setting = &self.0.setting;
        let folder = setting.folder.trim_end_matches('/');
        format!("ftp://{}@{}/{folder}", setting.user, self.0.server())
    }

    fn covers(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        self.0.mask.matches(&crate::mask::readable(name))
    }

    async fn connect(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(FtpSession::open(Arc::clone(&self.0)).await?))
    }
}

impl Shared {
    fn port(&self) -> u16 {
        let usual = if self.setting.tls == TlsMode::Implicit { 990 } else { 21 };
        self.setting.port.unwrap_or(usual)
    }

    /// `partner.example:21`
    fn server(&self) -> String {
        format!("{}:{}", self.setting.server, self.port())
    }

    async fn roots(&self) -> Result<Arc<RootCertStore>> {
        match &self.setting.ca_file {
            Some(file) => tls::roots(Some(file)).await,
            None => self.machine_roots.get_or_try_init(|| tls::roots(None)).await.cloned(),
        }
    }
}
