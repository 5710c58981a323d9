//! Child processes that cannot outlive the test: each server, and everything it forked.
//!
//! A test process may be killed at any moment (that is half of what our tests do), so `Drop` is not
//! enough. Two guards need no code of ours to run at the end:
//! - the server is started through `setpriv --pdeathsig KILL`, so the kernel ends it;
//! - a small shell that waits for the end of its standard input then removes the server's folder.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often a wait looks again: short beside the time any of our servers needs to start.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A running server process.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Child,
}

impl Server {
    /// Starts `command`, which [`guarded`] made, in a process group of its own: Ctrl-C at the
    /// terminal goes to the test process, and through its end to the server.
    pub(crate) fn spawn(name: &'static str, mut command: Command) -> anyhow::Result<Server> {
        command.process_group(0).stdin(Stdio::null());
        let child = spawn_on_lasting_thread(command)
            .with_context(|| format!("can't start {name} (through setpriv, of util-linux)"))?;
        Ok(Server { name, child })
    }

    /// Every process the server forked, and theirs.
    pub(crate) fn descendants(&self) -> Vec<Pid> {
        descendants_of(self.child.id())
    }

    /// The server process, then its descendants.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let mut all = vec![Pid::from_child(&self.child)];
        all.extend(self.descendants());
        all
    }

    /// Sends a signal to the server and to all its descendants.
    pub(crate) fn signal_tree(&self, signal: Signal) {
        self.signal(signal);
        send(&self.descendants(), signal);
    }

    /// Sends a signal to the server process alone.
    pub(crate) fn signal(&self, signal: Signal) {
        send(&[Pid::from_child(&self.child)], signal);
    }

    /// The exit status, if the server has ended.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until the server has ended.
    pub(crate) fn wait(&mut self, limit: Duration) -> anyhow::Result<()> {
        let name = self.name;
        wait_until(limit, || Ok(self.ended().is_some()))
            .with_context(|| format!("{name} did not end in {limit:?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Descendants are read first: once the parent is dead they no longer point to it.
        let descendants = self.descendants();
        self.signal(Signal::KILL);
        send(&descendants, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A system user, from /etc/passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

impl Account {
    /// The user called `name`, if this machine has one.
    pub(crate) fn find(name: &str) -> anyhow::Result<Option<Account>> {
        let passwd = fs::read_to_string("/etc/passwd").context("can't read /etc/passwd")?;
        Ok(passwd.lines().filter_map(Account::parse).find(|account| account.name == name))
    }

    fn parse(line: &str) -> Option<Account> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = PathBuf::from(fields.nth(1)?);
        Some(Account { name, uid, gid, home })
    }

    /// Gives `path` to this user.
    pub(crate) fn own(&self, path: &Path) -> anyhow::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("can't give {} to user {}", path.display(), self.name))
    }
}

/// Whether this process may start others as another user.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs `program` as `account` (or as we are) and dies with this process.
pub(crate) fn guarded(program: &Path, account: Option<&Account>) -> Command {
    let mut command = as_account(account);
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// A command that runs `program` as `account` (or as we are) and is waited for.
pub(crate) fn tool(program: &Path, account: Option<&Account>) -> Command {
    let mut command = as_account(account);
    command.args(["--pdeathsig", "keep"]).arg(program);
    command
}

fn as_account(account: Option<&Account>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(account) = account {
        command
            .arg(format!("--reuid={}", account.uid))
            .arg(format!("--regid={}", account.gid))
            .arg("--clear-groups");
    }
    command
}

/// Runs a tool to its end and gives what it printed; an error shows what it complained about.
pub(crate) fn output_of(mut command: Command) -> anyhow::Result<String> {
    let told = format!("{command:?}");
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("can't run {told}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{told} ended with {}: {}", output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Looks again and again until `done` says yes.
pub(crate) fn wait_until(
    limit: Duration,
    mut done: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    while !done()? {
        if Instant::now() > deadline {
            bail!("waited {limit:?} in vain");
        }
        thread::sleep(LOOK_AGAIN_AFTER);
    }
    Ok(())
}

/// A loopback port that nobody listens on at this moment.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free loopback port")?;
    Ok(listener.local_addr()?.port())
}

/// A temporary folder that is removed on drop, and also when this process is killed.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: tempfile::TempDir,
    // Dropping it closes the pipe that the shell reads.
    remover: Child,
}

impl Folder {
    pub(crate) fn new(name: &str) -> anyhow::Result<Folder> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("baton-{name}-"))
            .tempdir()
            .with_context(|| format!("can't make a temporary folder for {name}"))?;
        let remover = Command::new("sh")
            .args(["-c", "cat >/dev/null; sleep 0.2; rm -rf -- \"$0\""])
            .arg(dir.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start sh")?;
        Ok(Folder { dir, remover })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // `TempDir` removes the folder itself in a moment; the shell is only for a sudden end.
        let _ = self.remover.kill();
        let _ = self.remover.wait();
    }
}

/// Starts a process from a thread that lives as long as this process: the kernel sends the
/// parent-death signal when the *thread* that forked ends, and each test has a thread of its own.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::SyncSender<io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(requests)
    });
    let gone = || io::Error::other("the thread that starts servers is gone");
    let (answer, result) = mpsc::sync_channel(1);
    spawner.lock().map_err(|_| gone())?.send((command, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

fn send(pids: &[Pid], signal: Signal) {
    for pid in pids {
        // A process that ended meanwhile is what we wanted anyway.
        let _ = kill_process(*pid, signal);
    }
}

fn descendants_of(root: u32) -> Vec<Pid> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some((pid, parent)) = parse_stat(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut to_visit = vec![root];
    while let Some(parent) = to_visit.pop() {
        for pid in children.remove(&parent).unwrap_or_default() {
            to_visit.push(pid);
            found.extend(Pid::from_raw(pid.cast_signed()));
        }
    }
    found
}

/// Process and parent of a /proc/PID/stat line, whose second field may hold blanks and brackets.
fn parse_stat(stat: &str) -> Option<(u32, u32)> {
    let (pid, rest) = stat.split_once(" (")?;
    let (_, after_name) = rest.rsplit_once(") ")?;
    Some((pid.parse().ok()?, after_name.split(' ').nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_an_awkward_process_name() {
        assert_eq!(parse_stat("12 (a) b (c)) S 7 12 12 0"), Some((12, 7)));
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn an_account_is_read_from_its_passwd_line() {
        let line = "postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash";
        let account = Account::parse(line).expect("a well-formed line");
        assert_eq!((account.uid, account.gid), (101, 104));
        assert_eq!(account.home, Path::new("/var/lib/postgresql"));
    }

    #[test]
    fn a_server_dies_with_its_descendants() {
        let mut shell = guarded(Path::new("/bin/sh"), None);
        shell.args(["-c", "sleep 600 & wait"]);
        let server = Server::spawn("sh", shell).expect("sh starts");
        let limit = Duration::from_secs(10);
        wait_until(limit, || Ok(!server.descendants().is_empty())).expect("sh forks sleep");
        let sleep = server.descendants()[0];
        drop(server);
        // Init may be slow to reap it: a zombie is dead enough.
        let stat = format!("/proc/{}/stat", sleep.as_raw_nonzero());
        let dead = || Ok(fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")));
        wait_until(limit, dead).expect("sleep is dead");
    }
}
