//! The peer, from Debian's packages: fetched and unpacked, never installed, so that none of it
//! starts on this machine, and removing a folder removes it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// What the peer consists of. The libraries they lack come with them.
const PACKAGES: [&str; 6] = [
    "corosync",
    "pacemaker",
    "pacemaker-cli-utils",
    "pacemaker-common",
    "pacemaker-resource-agents",
    "resource-agents",
];

/// The folder in which they are unpacked; fetched the first time.
pub fn unpacked() -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&target)?;
    let finished = target.canonicalize()?.join("pacemaker");
    if finished.join("usr/sbin/pacemakerd").exists() {
        return Ok(finished);
    }
    eprintln!("fetching {} (and the libraries they lack)", PACKAGES.join(", "));
    // A fetch that was cut short must not look finished: it is renamed at the end.
    let partial = finished.with_extension("partial");
    let debs = partial.with_extension("debs");
    for folder in [&partial, &debs] {
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir(folder)?;
    }
    output_of(Command::new("apt-get").args(["--quiet", "update"]))?;
    output_of(
        Command::new("apt-get")
            .args(["--quiet", "download"])
            .args(with_missing_libraries()?)
            .current_dir(&debs),
    )?;
    for deb in std::fs::read_dir(&debs)? {
        output_of(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(&partial))?;
    }
    std::fs::remove_dir_all(&debs)?;
    let _ = std::fs::remove_dir_all(&finished);
    std::fs::rename(&partial, &finished)?;
    Ok(finished)
}

/// The versions that apt would fetch, for the record.
pub fn versions() -> Result<String> {
    let told =
        output_of(Command::new("apt-cache").args(["show", "--no-all-versions", "pacemaker"]))?;
    let corosync =
        output_of(Command::new("apt-cache").args(["show", "--no-all-versions", "corosync"]))?;
    let version = |told: &str| -> Option<String> {
        told.lines().find_map(|line| line.strip_prefix("Version: ")).map(str::to_owned)
    };
    let (pacemaker, corosync) = (version(&told), version(&corosync));
    Ok(format!(
        "Pacemaker {}, corosync {}",
        pacemaker.unwrap_or_default(),
        corosync.unwrap_or_default()
    ))
}

/// The packages, and the libraries that installing them would bring: asked of apt, so that the list
/// needs no care from one Debian release to the next.
fn with_missing_libraries() -> Result<Vec<String>> {
    let told = output_of(
        Command::new("apt-get")
            .args(["install", "--simulate", "--reinstall", "--no-install-recommends"])
            .args(PACKAGES),
    )?;
    let installed = told.lines().filter_map(|line| line.strip_prefix("Inst "));
    let names = installed.filter_map(|rest| rest.split(' ').next());
    let wanted = names.filter(|name| name.starts_with("lib") || PACKAGES.contains(name));
    Ok(wanted.map(str::to_owned).collect())
}

/// Runs a command to its end and gives what it printed; an error shows what it complained about.
pub fn output_of(command: &mut Command) -> Result<String> {
    let told = format!("{command:?}");
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("can't run {told}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{told} ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout).trim(),
        complaint.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
