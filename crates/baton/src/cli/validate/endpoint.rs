//! Tests of what receive locations and send ports must reach from this machine.
//!
//! A server is greeted and left again without a login: a login could use up the one session that a
//! partner allows, and that the active host needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::definition::{AfterReceive, FtpReceive, ReceiveKind, SendKind, TlsMode};
use rustix::fs::{Access, AtFlags, CWD, accessat, statfs};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::judge::{Attempt, Judgement};
use super::scene::Scene;

/// Longest wait for a server's greeting; some look the client's name up first.
const GREETING_MAX: Duration = Duration::from_secs(10);

/// Longest greeting that is read: a page of text, not an endless one.
const GREETING_BYTES_MAX: u64 = 16 * 1024;

/// Longest part of a greeting that is shown.
const SHOWN_CHARS_MAX: usize = 80;

/// FTP servers of receive locations.
pub fn ftp(scene: &Scene) -> Vec<Attempt> {
    let here = scene.locations_here().filter_map(|location| match &location.transport {
        ReceiveKind::Ftp(setting) => Some((location.name.to_string(), setting.clone())),
        ReceiveKind::File(_) => None,
    });
    here.map(|(name, setting)| {
        let subject = format!("location {name}");
        Attempt::new(subject.clone(), greet(subject, setting))
    })
    .collect()
}

async fn greet(subject: String, setting: FtpReceive) -> Judgement {
    let usual = if setting.tls == TlsMode::Implicit { 990 } else { 21 };
    let port = setting.port.unwrap_or(usual);
    let server = format!("{}:{port}", setting.server);
    let connecting = TcpStream::connect((setting.server.as_str(), port));
    let failed = |what: String| {
        let remedy = "look at the server, at firewalls on the way, and at `server` and `port`";
        Judgement::failed(subject.clone(), what, remedy)
    };
    let stream = match timeout(setting.connect_timeout.as_duration(), connecting).await {
        Err(_) => {
            let within = setting.connect_timeout;
            return failed(format!("{server} does not answer from here within {within}"));
        }
        Ok(Err(error)) => return failed(format!("{server} cannot be reached from here: {error}")),
        Ok(Ok(stream)) => stream,
    };
    if setting.tls == TlsMode::Implicit {
        let what = format!("{server} takes connections from here (it speaks only after TLS)");
        return Judgement::passed(subject, what);
    }
    match timeout(GREETING_MAX, greeting(stream)).await {
        Err(_) => failed(format!("{server} took the connection, then said nothing")),
        Ok(Err(error)) => failed(format!("{server} took the connection, then: {error}")),
        Ok(Ok(line)) if line.starts_with("220") => {
            Judgement::passed(subject, format!("{server} greets: {}", shown(&line)))
        }
        Ok(Ok(line)) => failed(format!("{server} sends us away: {}", shown(&line))),
    }
}

fn shown(line: &str) -> String {
    line.chars().take(SHOWN_CHARS_MAX).collect()
}

/// The last line of a server's greeting, which may have several. It is told good-bye.
async fn greeting(stream: TcpStream) -> std::io::Result<String> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(GREETING_BYTES_MAX));
    let line = loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).await? == 0 {
            let ended = "the server ended the connection before its greeting was complete";
            return Err(std::io::Error::other(ended));
        }
        let is_last = line.get(..3).is_some_and(|code| code.iter().all(u8::is_ascii_digit))
            && line.get(3) != Some(&b'-');
        if is_last {
            break String::from_utf8_lossy(&line).trim_end().to_owned();
        }
    };
    // Whatever comes of the good-bye: the greeting was what we came for.
    let _ = writer.write_all(b"QUIT\r\n").await;
    Ok(line)
}

/// What is done with a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Files are read and stay.
    Read,
    /// Files are read and removed.
    Take,
    /// Files are made.
    Make,
}

/// Folders of receive locations and send ports.
pub fn folders(scene: &Scene) -> Vec<Attempt> {
    let mut folders: Vec<(String, PathBuf, Use, bool)> = Vec::new();
    // A folder is one only on all nodes together if it is shared.
    let shared = |host| scene.spans_machines() && scene.nodes_of(host) > 1;
    for location in scene.locations_here() {
        let ReceiveKind::File(setting) = &location.transport else { continue };
        let subject = format!("location {}", location.name);
        let shared = shared(&location.host);
        let taken = match location.after_receive {
            AfterReceive::Keep => Use::Read,
            AfterReceive::Delete | AfterReceive::Move(_) => Use::Take,
        };
        folders.push((subject.clone(), setting.folder.clone(), taken, shared));
        if let AfterReceive::Move(target) = &location.after_receive {
            folders.push((subject, setting.folder.join(target), Use::Make, shared));
        }
    }
    for port in scene.send_ports_here() {
        let SendKind::File(setting) = &port.transport;
        let subject = format!("send port {}", port.name);
        folders.push((subject, setting.folder.clone(), Use::Make, shared(&port.host)));
    }
    folders
        .into_iter()
        .map(|(subject, folder, to_do, shared)| {
            Attempt::blocking(subject, move |subject| look(subject, &folder, to_do, shared))
        })
        .collect()
}

fn look(subject: String, folder: &Path, to_do: Use, shared: bool) -> Judgement {
    let shown = folder.display();
    match std::fs::metadata(folder) {
        Err(error) => {
            let remedy = format!("make {shown} on this machine, or mount it");
            return Judgement::failed(subject, format!("folder {shown}: {error}"), remedy);
        }
        Ok(metadata) if !metadata.is_dir() => {
            let remedy = "name a folder in the definition, not a file";
            return Judgement::failed(subject, format!("{shown} is no folder"), remedy);
        }
        Ok(_) => {}
    }
    let needed = match to_do {
        Use::Read => Access::READ_OK | Access::EXEC_OK,
        Use::Take => Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
        Use::Make => Access::WRITE_OK | Access::EXEC_OK,
    };
    let words = match to_do {
        Use::Read => "read",
        Use::Take => "read and delete files in",
        Use::Make => "make files in",
    };
    if let Err(error) = accessat(CWD, folder, needed, AtFlags::EACCESS) {
        let what = format!("user {} may not {words} folder {shown}: {error}", super::machine::me());
        return Judgement::failed(subject, what, format!("let this user {words} {shown}"));
    }
    match statfs(folder).ok().and_then(|disk| local_kind(disk.f_type)) {
        Some(kind) if shared => Judgement::warning(
            subject,
            format!("folder {shown} is on a disk of this machine ({kind}): each node has another"),
            "mount the same share on all nodes of its host, or be sure that this is meant",
        ),
        _ => Judgement::passed(subject, format!("this user may {words} folder {shown}")),
    }
}

/// The kind of a file system that other machines do not see.
fn local_kind<T: TryInto<i64>>(magic: T) -> Option<&'static str> {
    // From linux/magic.h.
    match magic.try_into().ok()? {
        0xEF53 => Some("ext4"),
        0x5846_5342 => Some("xfs"),
        0x9123_683E => Some("btrfs"),
        0x0102_1994 => Some("tmpfs"),
        0x794c_7630 => Some("overlay"),
        0x2FC1_2FC1 => Some("zfs"),
        0xF2F5_2010 => Some("f2fs"),
        _ => None,
    }
}

#[cfg(test)]
mod checks {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;
    use store::FindingResult;

    use super::*;

    fn setting(port: u16) -> FtpReceive {
        let setting = json!({"server": "127.0.0.1", "port": port, "connect_timeout": "1s"});
        serde_json::from_value(setting).expect("a setting")
    }

    /// Judges a server that says this and then hangs up.
    async fn judged(says: &[u8]) -> Judgement {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.write_all(says).await.expect("written");
        };
        let (judgement, ()) = tokio::join!(greet("location x".into(), setting(port)), serve);
        judgement
    }

    #[tokio::test]
    async fn servers_are_judged_by_their_greeting() {
        for (says, result, words) in [
            (&b"220 hello\r\n"[..], FindingResult::Passed, "greets: 220 hello"),
            (b"220-welcome\r\n 5\r\n220 end\r\n", FindingResult::Passed, "greets: 220 end"),
            (b"421 too many\r\n", FindingResult::Failed, "sends us away: 421 too many"),
            (b"220-welcome\r\n", FindingResult::Failed, "before its greeting was complete"),
            (b"", FindingResult::Failed, "before its greeting was complete"),
        ] {
            let judgement = judged(says).await;
            assert_eq!(judgement.result, result, "{judgement:?}");
            assert!(judgement.what.contains(words), "{judgement:?}");
        }
    }

    #[test]
    fn folders_are_judged_by_what_is_done_with_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let look = |path: &Path, to_do, shared| look("x".into(), path, to_do, shared).result;
        assert_eq!(look(folder.path(), Use::Take, false), FindingResult::Passed);
        assert_eq!(look(Path::new("/nowhere"), Use::Take, false), FindingResult::Failed);
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("written");
        assert_eq!(look(&file, Use::Take, false), FindingResult::Failed);
        if !rustix::process::geteuid().is_root() {
            let read_only = std::fs::Permissions::from_mode(0o500);
            std::fs::set_permissions(folder.path(), read_only).expect("changed");
            assert_eq!(look(folder.path(), Use::Read, false), FindingResult::Passed);
            assert_eq!(look(folder.path(), Use::Make, false), FindingResult::Failed);
        }
        assert_eq!(look(Path::new("/dev/shm"), Use::Read, true), FindingResult::Warning);
    }
}
