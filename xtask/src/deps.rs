//! What the tests need beside Rust: programs from Debian's packages, and three FTP servers.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// Programs that tests run, and the Debian package that brings each.
const PROGRAMS: &[(&str, &str)] = &[
    ("initdb", "postgresql"),
    ("psql", "postgresql-client"),
    ("setpriv", "util-linux"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("lftp", "lftp"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("pgbouncer", "pgbouncer"),
    // What resources are tested with; the OCF agents want modprobe, too.
    ("send_arp", "resource-agents"),
    ("modprobe", "kmod"),
    ("ping", "iputils-ping"),
    ("named", "bind9"),
    ("nsupdate", "bind9-dnsutils"),
    ("dbus-daemon", "dbus"),
    ("systemd", "systemd"),
];

/// Installs and fetches what is missing.
pub(crate) fn run() -> anyhow::Result<()> {
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !is_there(program)).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    testbed::packages::fetch_missing_ftp_servers()
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A user's PATH may lack the administrator's programs.
    let more = ["/usr/sbin", "/sbin", "/usr/libexec/heartbeat"].map(std::path::PathBuf::from);
    let mut folders = std::env::split_paths(&path).chain(more);
    folders.any(|folder| folder.join(program).exists()) || has_debian_postgres(program)
}

/// Debian keeps `initdb` of each PostgreSQL version out of PATH.
fn has_debian_postgres(program: &str) -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin").join(program)).any(|path| path.exists())
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let names = packages.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("this is no Debian; install what it calls {names}");
    }
    println!("installing {names}");
    apt_get(&["update"])
        .and_then(|()| {
            let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
            arguments.extend_from_slice(packages);
            apt_get(&arguments)
        })
        .with_context(|| format!("as root, run: apt-get update && apt-get install {names}"))
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("apt-get")
        .arg("--quiet")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("can't run apt-get")?;
    ensure!(status.success(), "apt-get {} ended with {status}", arguments.join(" "));
    Ok(())
}
