//! Three FTP servers that disagree about nearly everything the RFC leaves open.
//!
//! Each serves one partner folder, `/files` for the client and [`FtpServer::root`] on disk.
//! The differences that tests meet:
//! - vsftpd has no MLSD, and lists times to the minute;
//! - proftpd with TLS wants each data connection to reuse the session of the control connection,
//!   and TLS 1.3 clients that use up their tickets are refused with 425;
//! - proftpd says 226 only when the client closed its end of the data connection, or 10 s later;
//! - pure-ftpd answers some failed commands late, and has no implicit TLS.

mod proftpd;
mod pureftpd;
mod vsftpd;

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fmt, fs};

use anyhow::{Context, bail};
use rustix::process::{Signal, kill_process};

use crate::Unavailable;
use crate::certificate::{self, Certificate};
use crate::net::{Network, Place};
use crate::packages::Unpacked;
use crate::process::{self, Account, Folder, Server};

/// The servers start in 50 ms here; a machine busy with a build may take far longer.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Another process may take the port between our look and the server's bind.
const START_ATTEMPTS: u32 = 3;

/// Users that every Debian has, with a home folder that exists (vsftpd enters it).
const UNPRIVILEGED_USERS: [&str; 4] = ["daemon", "bin", "games", "nobody"];

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FtpKind {
    /// vsftpd
    Vsftpd,
    /// ProFTPD
    Proftpd,
    /// Pure-FTPd
    PureFtpd,
}

impl FtpKind {
    /// All of them, for tests that run on each.
    pub const ALL: [FtpKind; 3] = [FtpKind::Vsftpd, FtpKind::Proftpd, FtpKind::PureFtpd];
}

impl fmt::Display for FtpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FtpKind::Vsftpd => "vsftpd",
            FtpKind::Proftpd => "proftpd",
            FtpKind::PureFtpd => "pure-ftpd",
        })
    }
}

/// Whether and how the server speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FtpTls {
    /// Plain text.
    #[default]
    Off,
    /// `AUTH TLS` on the plain port; a login and a transfer without it are refused.
    Explicit,
    /// TLS from the first byte. Pure-FTPd can't.
    Implicit,
}

/// What a test wants of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FtpOptions {
    /// Whether and how the server speaks TLS.
    pub tls: FtpTls,
    /// With TLS: each data connection must reuse the session of the control connection. On, as
    /// vsftpd and proftpd have it by default; pure-ftpd does not check.
    pub session_reuse_required: bool,
}

impl Default for FtpOptions {
    fn default() -> FtpOptions {
        FtpOptions { tls: FtpTls::Off, session_reuse_required: true }
    }
}

/// A running FTP server. Dropping it kills it with its sessions and removes its files.
#[derive(Debug)]
pub struct FtpServer {
    // Declared before `site`: the processes must be dead before their files go.
    server: Server,
    site: Site,
}

impl FtpServer {
    /// Starts a server with an empty partner folder.
    ///
    /// # Errors
    /// [`crate::Unavailable`] when the server is not there or this process is not root; otherwise
    /// what failed, with what the server printed.
    pub fn start(kind: FtpKind, options: FtpOptions) -> anyhow::Result<FtpServer> {
        FtpServer::start_at(Place::here(), kind, options)
    }

    /// As [`FtpServer::start`], vsftpd on a machine of a network.
    ///
    /// # Errors
    /// As [`FtpServer::start`], and when there is no such machine.
    pub fn start_on(network: &Network, machine: &str) -> anyhow::Result<FtpServer> {
        FtpServer::start_at(network.place(machine)?, FtpKind::Vsftpd, FtpOptions::default())
    }

    fn start_at(place: Place, kind: FtpKind, options: FtpOptions) -> anyhow::Result<FtpServer> {
        if (kind, options.tls) == (FtpKind::PureFtpd, FtpTls::Implicit) {
            bail!("pure-ftpd has no implicit TLS; take another server or FtpTls::Explicit");
        }
        if !process::is_root() {
            return Err(Unavailable {
                what: kind.to_string(),
                why: "it must start as root to change its root folder and user".to_owned(),
                remedy: "run these tests as root (in a container)".to_owned(),
            }
            .into());
        }
        let unpacked = Unpacked::find(kind)?;
        let mut site = Site::new(place, kind, options)?;
        let mut attempt = 1;
        loop {
            site.port = process::free_port()?;
            match run(&unpacked, &site) {
                Ok(server) => return Ok(FtpServer { server, site }),
                Err(error) if attempt == START_ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// Which server it is.
    pub fn kind(&self) -> FtpKind {
        self.site.kind
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.site.port
    }

    /// The partner folder on disk. Files that a test puts there by itself belong to root; see
    /// [`FtpServer::put`].
    pub fn root(&self) -> &Path {
        &self.site.files
    }

    /// The partner folder as a client names it.
    pub fn folder(&self) -> &'static str {
        "/files"
    }

    /// The user to log in as.
    pub fn user(&self) -> &'static str {
        match self.site.kind {
            FtpKind::Vsftpd => "anonymous",
            FtpKind::Proftpd | FtpKind::PureFtpd => "partner",
        }
    }

    /// The password of that user.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// What a TLS client must trust; `None` without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.site.certificate.map(|certificate| certificate.authority.as_str())
    }

    /// Writes a file into the partner folder, as the partner would: under a temporary name, then
    /// renamed. `name` may hold folders, which are made. All belong to the server's user.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn put(&self, name: &str, content: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.site.files.join(name);
        if let Some((folder, _)) = name.rsplit_once('/') {
            self.make_folder(folder)?;
        }
        let temporary = self.site.folder.path().join("put.partial");
        fs::write(&temporary, content)
            .with_context(|| format!("can't write {}", temporary.display()))?;
        self.site.account.own(&temporary)?;
        fs::rename(&temporary, &path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(path)
    }

    /// Makes a folder (and those above it) in the partner folder, for the server's user.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn make_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let mut path = self.site.files.clone();
        for part in name.split('/') {
            path.push(part);
            make_folder(&path)?;
            self.site.account.own(&path)?;
        }
        Ok(path)
    }

    /// How many processes serve sessions now.
    pub fn session_processes(&self) -> usize {
        self.server.descendants().len()
    }

    /// Cuts all sessions in the middle of whatever they do; the server takes new ones.
    pub fn kill_sessions(&self) {
        for pid in self.server.descendants() {
            // A session that ended meanwhile is cut too.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Freezes the server and its sessions: connections stay open, new ones are accepted by the
    /// kernel, and nothing answers.
    pub fn freeze(&self) {
        self.server.signal_tree(Signal::STOP);
    }

    /// Ends a [`FtpServer::freeze`].
    pub fn thaw(&self) {
        self.server.signal_tree(Signal::CONT);
    }
}

const PASSWORD: &str = "relay-race";

/// Everything a server's configuration is written from.
#[derive(Debug)]
struct Site {
    kind: FtpKind,
    options: FtpOptions,
    place: Place,
    port: u16,
    folder: Folder,
    /// Not writable by the user: vsftpd refuses a root folder that is.
    chroot: PathBuf,
    files: PathBuf,
    account: Account,
    certificate: Option<&'static Certificate>,
}

impl Site {
    fn new(place: Place, kind: FtpKind, options: FtpOptions) -> anyhow::Result<Site> {
        let account = unprivileged_account()?;
        let certificate = match options.tls {
            FtpTls::Off => None,
            FtpTls::Explicit | FtpTls::Implicit => Some(certificate::shared()?),
        };
        let folder = Folder::new("ftp")?;
        // The sessions run as `account` and must pass through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let chroot = folder.path().join("root");
        let files = chroot.join("files");
        make_folder(&chroot)?;
        make_folder(&files)?;
        account.own(&files)?;
        Ok(Site { kind, options, place, port: 0, folder, chroot, files, account, certificate })
    }

    /// Writes a file beside the partner folder, for root's eyes only.
    fn write(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, content).with_context(|| format!("can't write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    fn password_hash(&self) -> anyhow::Result<String> {
        let mut command = Command::new("openssl");
        command.args(["passwd", "-5", "-salt", "baton", PASSWORD]);
        Ok(process::output_of(command)?.trim().to_owned())
    }
}

fn run(unpacked: &Unpacked, site: &Site) -> anyhow::Result<Server> {
    let mut command = match site.kind {
        FtpKind::Vsftpd => vsftpd::command(unpacked, site)?,
        FtpKind::Proftpd => proftpd::command(unpacked, site)?,
        FtpKind::PureFtpd => pureftpd::command(unpacked, site)?,
    };
    let printed = site.folder.path().join("server.out");
    let log = fs::File::create(&printed)?;
    command.env("LD_LIBRARY_PATH", unpacked.library_path());
    let mut command = site.place.command(command);
    command.stdout(log.try_clone()?).stderr(log);
    let mut server = Server::spawn("the FTP server", command)?;
    let answers = process::wait_until(START_LIMIT, || {
        if let Some(status) = server.ended() {
            bail!("it ended at once with {status}");
        }
        site.place.inside(|| is_answering(site))
    });
    answers.with_context(|| {
        let said = fs::read_to_string(&printed).unwrap_or_default();
        format!("{} does not answer on port {}; it said: {said}", site.kind, site.port)
    })?;
    Ok(server)
}

/// A greeting, or with implicit TLS an open port: there the client speaks first.
fn is_answering(site: &Site) -> bool {
    let Ok(mut stream) = TcpStream::connect((site.place.address, site.port)) else {
        return false;
    };
    if site.options.tls == FtpTls::Implicit {
        return true;
    }
    let mut greeting = [0; 3];
    let limited = stream.set_read_timeout(Some(START_LIMIT));
    limited.is_ok() && stream.read_exact(&mut greeting).is_ok() && &greeting == b"220"
}

fn unprivileged_account() -> anyhow::Result<Account> {
    for name in UNPRIVILEGED_USERS {
        if let Some(account) = Account::find(name)?
            && account.home.is_dir()
        {
            return Ok(account);
        }
    }
    let unavailable = Unavailable {
        what: "an FTP server".to_owned(),
        why: format!("none of {UNPRIVILEGED_USERS:?} is a user with a home folder"),
        remedy: "run these tests on Debian".to_owned(),
    };
    Err(unavailable.into())
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("can't make {}", path.display()))
        }
        _ => Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?),
    }
}
