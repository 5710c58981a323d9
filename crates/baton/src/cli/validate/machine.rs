//! Tests of this machine: its clock, its way to the store, its disks, its secret files.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cluster::Timing;
use model::Millis;
use model::definition::{ReceiveKind, ResourceKind, SendKind};
use rustix::fs::statvfs;
use store::Store;

use super::judge::{Attempt, Judgement};
use super::scene::{Scene, local_now};
use crate::render::size;

/// A clock further off than this makes logs of several machines hard to put in order.
const CLOCK_OFF_MAX: Millis = Millis::seconds(1);

/// Questions to the store: enough to meet a slow one, few enough to be no load.
const QUESTIONS: usize = 20;

/// With less room than this a node soon writes nothing at all.
const ROOM_MIN: u64 = 100 * 1024 * 1024;

/// With less than this share of a disk left somebody should look.
const ROOM_SHARE_MIN: u64 = 10;

/// Unless so much is left: a tenth of a large disk is no hurry.
const ROOM_PLENTY: u64 = 20 * 1024 * 1024 * 1024;

/// Most of a secret file that is read.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// The user that this runs as.
pub fn me() -> String {
    rustix::process::geteuid().as_raw().to_string()
}

/// The clock. Baton decides nothing by it; people do.
pub fn clock(scene: &Scene) -> Vec<Attempt> {
    let store = Arc::clone(&scene.store);
    vec![Attempt::new("machine", async move {
        let before = local_now();
        let told = match store.now().await {
            Ok(told) => told,
            Err(error) => return unanswered(&error),
        };
        let took = local_now().since(before);
        let middle = before.after(Millis(took.0 / 2));
        let off = if told >= middle { told.since(middle) } else { middle.since(told) };
        let off = Millis(off.0.saturating_sub(took.0 / 2));
        let what = format!("its clock and the store's are {off} apart");
        if off <= CLOCK_OFF_MAX {
            return Judgement::passed("machine", what);
        }
        let remedy = "let NTP set it. Nothing depends on it but logs and file times, for people";
        Judgement::warning("machine", what, remedy)
    })]
}

fn unanswered(error: &store::StoreError) -> Judgement {
    let remedy = "look at the store and the way to it";
    Judgement::failed("machine", format!("the store did not answer: {error}"), remedy)
}

/// The ttl: a lease must survive a slow answer.
pub fn ttl(scene: &Scene) -> Vec<Attempt> {
    let (store, ttl) = (Arc::clone(&scene.store), scene.ttl);
    vec![Attempt::new("machine", async move {
        match slowest(store.as_ref()).await {
            Ok(slowest) => judge_ttl(ttl, slowest),
            Err(error) => unanswered(&error),
        }
    })]
}

async fn slowest(store: &dyn Store) -> store::Result<Millis> {
    // The first answer may have to open a connection; renewals have theirs open.
    store.now().await?;
    let mut slowest = 0;
    for _ in 0..QUESTIONS {
        let asked = Instant::now();
        store.now().await?;
        slowest = slowest.max(asked.elapsed().as_millis());
    }
    Ok(Millis(u64::try_from(slowest).unwrap_or(u64::MAX)))
}

fn judge_ttl(ttl: Millis, slowest: Millis) -> Judgement {
    let timing = Timing::of(ttl);
    // Between two renewals and the end of trust an answer must come, even if one is lost.
    let bearable = Millis((ttl.0 - timing.margin.0).saturating_sub(2 * timing.renew_every().0));
    let what = format!(
        "the slowest of {QUESTIONS} answers of the store took {slowest}; a ttl of {ttl} bears \
         {bearable}"
    );
    let remedy = format!(
        "raise `ttl` to {} or more on all nodes, or bring the store nearer",
        Millis((slowest.0 * 15).next_multiple_of(1000))
    );
    if slowest > bearable {
        Judgement::failed("machine", what, remedy)
    } else if slowest.0 * 5 > bearable.0 {
        Judgement::warning("machine", what, remedy)
    } else {
        Judgement::passed("machine", what)
    }
}

/// Room on disks.
pub fn disks(scene: &Scene) -> Vec<Attempt> {
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    if let Some(path) = scene.url.strip_prefix("sqlite:") {
        folders.extend(Path::new(path).parent().map(Path::to_owned));
    }
    for port in scene.send_ports_here() {
        let SendKind::File(setting) = &port.transport;
        folders.insert(setting.folder.clone());
    }
    folders
        .into_iter()
        // One that is not there is a finding of another test.
        .filter(|folder| folder.is_dir())
        .map(|folder| {
            let subject = format!("folder {}", folder.display());
            Attempt::blocking(subject, move |subject| room(subject, &folder))
        })
        .collect()
}

fn room(subject: String, folder: &Path) -> Judgement {
    match statvfs(folder) {
        Err(error) => Judgement::failed(subject, error.to_string(), "look at its disk"),
        Ok(disk) => {
            let unit = disk.f_frsize.max(1);
            let (free, all) = (disk.f_bavail * unit, disk.f_blocks * unit);
            let nodes = (disk.f_files > 0).then_some((disk.f_favail, disk.f_files));
            judge_room(subject, free, all, nodes)
        }
    }
}

fn judge_room(subject: String, free: u64, all: u64, files: Option<(u64, u64)>) -> Judgement {
    let what = format!("{} of {} are free", size(free), size(all));
    let remedy = "make room on this disk";
    let scarce = free < ROOM_PLENTY && free < all / ROOM_SHARE_MIN;
    match files {
        _ if free < ROOM_MIN => Judgement::failed(subject, what, remedy),
        Some((free, all)) if free < all / 100 => {
            let what = format!("{what}, but only {free} of {all} inodes, one for each file");
            Judgement::warning(subject, what, "remove files that nobody needs")
        }
        _ if scarce => Judgement::warning(subject, what, remedy),
        _ => Judgement::passed(subject, what),
    }
}

/// Files with secrets.
pub fn secrets(scene: &Scene) -> Vec<Attempt> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for location in scene.locations_here() {
        if let ReceiveKind::Ftp(setting) = &location.transport
            && let Some(path) = &setting.password_file
        {
            files.push((format!("password_file of location {}", location.name), path.clone()));
        }
    }
    for resource in scene.resources_here() {
        if let ResourceKind::NetworkName(setting) = &resource.kind
            && let Some(tsig) = &setting.tsig
        {
            let subject = format!("secret_file of network_name {}", resource.name);
            files.push((subject, tsig.secret_file.clone()));
        }
    }
    let holds_password = scene.url.split_once("://").is_some_and(|(_, rest)| {
        let login = rest.split_once('@').map_or("", |(login, _)| login);
        login.contains(':') || rest.contains("password=")
    });
    if holds_password && let Some(path) = &scene.config {
        files.push(("configuration, which has the store's password".into(), path.clone()));
    }
    files
        .into_iter()
        .map(|(subject, path)| Attempt::blocking(subject, move |subject| secret(subject, &path)))
        .collect()
}

fn secret(subject: String, path: &Path) -> Judgement {
    use std::io::Read as _;
    let shown = path.display();
    let user = me();
    let mut first = Vec::new();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            let remedy = format!("write it on this node too, with mode 600, for user {user}");
            return Judgement::failed(subject, format!("{shown}: {error}"), remedy);
        }
    };
    if !metadata.is_file() {
        let remedy = "name a file with one line in it";
        return Judgement::failed(subject, format!("{shown} is no regular file"), remedy);
    }
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(SECRET_BYTES_MAX).read_to_end(&mut first));
    if let Err(error) = read {
        let what = format!("user {user} cannot read {shown}: {error}");
        return Judgement::failed(subject, what, format!("chown {user} {shown}"));
    }
    let line = first.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.trim_ascii().is_empty() {
        let what = format!("the first line of {shown} is empty");
        return Judgement::failed(subject, what, "write the secret into its first line");
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let what = format!("{shown} has mode {mode:o}: others than its owner may use it");
        return Judgement::warning(subject, what, format!("chmod 600 {shown}"));
    }
    let owner = metadata.uid();
    if owner != 0 && owner.to_string() != user {
        let what = format!("{shown} belongs to user {owner}, who may change it");
        return Judgement::warning(subject, what, format!("chown {user} {shown}"));
    }
    Judgement::passed(subject, format!("{shown} is readable for its owner only"))
}

/// The user of the node's process.
pub fn user(scene: &Scene) -> Vec<Attempt> {
    let Some(node) = scene.node().cloned() else { return Vec::new() };
    let look = move |subject: String| {
        let processes = crate::machines::node_processes(node.as_str());
        let users: BTreeSet<u32> = processes
            .iter()
            .filter_map(|pid| Some(std::fs::metadata(format!("/proc/{pid}")).ok()?.uid()))
            .collect();
        let user = rustix::process::geteuid().as_raw();
        match users.first() {
            None => Judgement::not_applicable(subject, "no process of this node runs a host here"),
            Some(other) if *other != user => Judgement::warning(
                subject,
                format!("this runs as user {user}, the node as user {other}: permissions differ"),
                format!("run it as the node's user: sudo -u '#{other}' baton validate"),
            ),
            Some(_) => Judgement::passed(subject, format!("both run as user {user}")),
        }
    };
    vec![Attempt::blocking("machine", look)]
}

#[cfg(test)]
mod checks {
    use store::FindingResult::{Failed, Passed, Warning};

    use super::*;

    #[test]
    fn a_ttl_bears_slow_answers_or_not() {
        for (ttl, slowest, result) in [
            (3000, 3, Passed),
            (3000, 250, Warning),
            (3000, 1100, Failed),
            (500, 40, Warning),
            (10_000, 250, Passed),
        ] {
            let judgement = judge_ttl(Millis(ttl), Millis(slowest));
            assert_eq!(judgement.result, result, "{judgement:?}");
        }
    }

    #[test]
    fn room_is_judged_by_what_is_left() {
        const GB: u64 = 1024 * 1024 * 1024;
        for (free, all, files, result) in [
            (50 * GB, 100 * GB, Some((90, 100)), Passed),
            (30 * GB, 1000 * GB, None, Passed),
            (5 * GB, 100 * GB, None, Warning),
            (50 * GB, 100 * GB, Some((0, 100)), Warning),
            (GB / 100, 100 * GB, None, Failed),
        ] {
            let judgement = judge_room("x".into(), free, all, files);
            assert_eq!(judgement.result, result, "{judgement:?}");
        }
    }

    #[test]
    fn secrets_are_for_one_user() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let judged = |content: &str, mode| {
            std::fs::write(&path, content).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
            secret("x".into(), &path).result
        };
        assert_eq!(judged("hunter2\n", 0o600), Passed);
        assert_eq!(judged("hunter2\n", 0o640), Warning);
        assert_eq!(judged("\nhunter2", 0o600), Failed);
        assert_eq!(secret("x".into(), folder.path()).result, Failed);
        assert_eq!(secret("x".into(), Path::new("/nowhere")).result, Failed);
    }
}
