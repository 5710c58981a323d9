//! What the tests need beside Rust: programs from Debian's packages, and three FTP servers.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// Programs that tests run, and the Debian package that brings each.
const PROGRAMS: [(&str, &str); 6] = [
    ("initdb", "postgresql"),
    ("psql", "postgresql-client"),
    ("setpriv", "util-linux"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("lftp", "lftp"),
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
    let in_path = std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    in_path || has_debian_postgres(program)
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
