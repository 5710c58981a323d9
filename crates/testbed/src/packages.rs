//! The FTP servers, from Debian's packages: fetched and unpacked side by side, not installed.
//!
//! Debian's FTP servers conflict with each other, so at most one can be installed. Unpacked with
//! `dpkg -x` under target/testbed/, with the libraries they lack, all three run from there.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::process::output_of;
use crate::{FtpKind, Unavailable};

impl FtpKind {
    /// The Debian packages that hold the server; the first one gives its folder the name.
    fn packages(self) -> &'static [&'static str] {
        match self {
            FtpKind::Vsftpd => &["vsftpd"],
            FtpKind::Proftpd => &["proftpd-core", "proftpd-mod-crypto"],
            FtpKind::PureFtpd => &["pure-ftpd"],
        }
    }

    /// The server program, below the folder where it was unpacked.
    fn program(self) -> &'static str {
        match self {
            FtpKind::Vsftpd => "usr/sbin/vsftpd",
            FtpKind::Proftpd => "usr/sbin/proftpd",
            FtpKind::PureFtpd => "usr/sbin/pure-ftpd",
        }
    }
}

/// Fetches what is missing of the FTP servers; needs apt-get, and does nothing when all are there.
///
/// # Errors
/// What apt-get or dpkg complained about.
pub fn fetch_missing_ftp_servers() -> anyhow::Result<()> {
    let missing: Vec<FtpKind> =
        FtpKind::ALL.iter().copied().filter(|kind| Unpacked::find(*kind).is_err()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut update = Command::new("apt-get");
    update.args(["--quiet", "update"]);
    output_of(update)?;
    for kind in missing {
        println!("fetching {} (and the libraries it lacks)", kind.packages().join(", "));
        fetch(kind).with_context(|| format!("can't fetch {kind}"))?;
    }
    Ok(())
}

/// A server that was unpacked, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Unpacked {
    prefix: PathBuf,
    kind: FtpKind,
}

impl Unpacked {
    pub(crate) fn find(kind: FtpKind) -> anyhow::Result<Unpacked> {
        let prefix = folder(kind);
        if prefix.join(kind.program()).exists() {
            return Ok(Unpacked { prefix, kind });
        }
        let unavailable = Unavailable {
            what: kind.to_string(),
            why: format!("there is no {}", prefix.join(kind.program()).display()),
            remedy: "`cargo xtask deps` fetches it".to_owned(),
        };
        Err(unavailable.into())
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.prefix.join(self.kind.program())
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.prefix.join(below)
    }

    /// LD_LIBRARY_PATH for the libraries that were unpacked beside the server.
    pub(crate) fn library_path(&self) -> OsString {
        let folders = ["lib", "usr/lib"].map(|lib| self.prefix.join(lib));
        let inner =
            folders.iter().flat_map(|lib| fs::read_dir(lib).into_iter().flatten().flatten());
        let triplets = inner.map(|entry| entry.path()).filter(|path| path.is_dir());
        std::env::join_paths(triplets).unwrap_or_default()
    }
}

fn fetch(kind: FtpKind) -> anyhow::Result<()> {
    let finished = folder(kind);
    // A fetch that was cut short must not look finished: it is renamed at the end.
    let partial = finished.with_extension("partial");
    let debs = partial.join("debs");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&debs).with_context(|| format!("can't make {}", debs.display()))?;
    let mut download = Command::new("apt-get");
    download.args(["--quiet", "download"]).args(with_missing_libraries(kind)?).current_dir(&debs);
    output_of(download)?;
    for deb in fs::read_dir(&debs)? {
        let mut unpack = Command::new("dpkg");
        unpack.arg("-x").arg(deb?.path()).arg(&partial);
        output_of(unpack)?;
    }
    let _ = fs::remove_dir_all(&finished);
    fs::rename(&partial, &finished).with_context(|| format!("can't make {}", finished.display()))
}

/// The packages of the server, and the libraries that installing it would bring: asked of apt, so
/// that the list needs no care from one Debian release to the next.
fn with_missing_libraries(kind: FtpKind) -> anyhow::Result<Vec<String>> {
    let mut simulate = Command::new("apt-get");
    simulate
        .args(["install", "--simulate", "--reinstall", "--no-install-recommends"])
        .args(kind.packages());
    let told = output_of(simulate)?;
    let installed = told.lines().filter_map(|line| line.strip_prefix("Inst "));
    let names = installed.filter_map(|rest| rest.split(' ').next());
    let wanted = names.filter(|name| name.starts_with("lib") || kind.packages().contains(name));
    Ok(wanted.map(str::to_owned).collect())
}

fn folder(kind: FtpKind) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    workspace.join("target/testbed").join(kind.packages()[0])
}
