//! How a monitor starts programs: through itself, so that they cannot outlive it.
//!
//! `baton monitor --exec PROGRAM ARGUMENTS` becomes a session leader that the kernel kills when
//! the monitor dies, and then becomes the program. The program need not know.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Signal, getppid, set_parent_process_death_signal, setsid};

use crate::{Failure, Outcome};

/// The argument behind `baton monitor` that asks for this.
const EXEC_FLAG: &str = "--exec";

/// The program that this is, even when an upgrade has put another one in its place.
const OURSELVES: &str = "/proc/self/exe";

/// Exit code when the program could not be started, as shells have it.
pub const EXIT_NOT_STARTED: u8 = 127;

/// Whether these are the arguments (the program's own first) by which a monitor asks to become
/// another program. Then it does, and returns only when that failed.
pub fn exec_if_asked(arguments: impl IntoIterator<Item = OsString>) -> Option<io::Error> {
    let mut arguments = arguments.into_iter().skip(1);
    let asked = prefix().iter().all(|word| arguments.next().is_some_and(|next| next == **word));
    asked.then(|| exec(arguments))
}

/// Becomes a program. `arguments` are the monitor's process id, the program, and its arguments.
fn exec(mut arguments: impl Iterator<Item = OsString>) -> io::Error {
    let parent = arguments.next().and_then(|pid| pid.to_str()?.parse::<i32>().ok());
    let Some(program) = arguments.next() else {
        return io::Error::other("`baton monitor --exec` is for monitors, not for hands");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // It may have died before the kernel was asked.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != parent {
        return io::Error::other("the monitor is gone");
    }
    if let Err(error) = setsid() {
        return error.into();
    }
    close_inherited();
    Command::new(program).args(arguments).exec()
}

/// Nothing that the monitor has open is for the program. Above all not the node's liveness lock: a
/// daemon that is left behind would make the node seem to live, and keep it from coming back.
fn close_inherited() {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // All are known before the first is closed: the folder itself is one of them.
    let open: Vec<i32> = open.filter(|descriptor| *descriptor > 2).collect();
    for descriptor in open {
        // The folder's own is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// The arguments by which the launcher is told from the program that it becomes.
pub(crate) fn prefix() -> [&'static str; 2] {
    ["monitor", EXEC_FLAG]
}

/// A command that runs a program as a child of this monitor, without input.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(OURSELVES);
    command.args(prefix()).arg(std::process::id().to_string()).arg(program).stdin(Stdio::null());
    command
}

/// Where a program is, looked for in PATH unless it has a slash.
pub(crate) fn find(program: &str) -> Outcome<PathBuf> {
    if program.is_empty() {
        return Err(Failure::fatal("the command is empty: name a program"));
    }
    if program.contains('/') {
        let path = PathBuf::from(program);
        return executable(&path).map(|()| path);
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::split_paths(&folders).map(|folder| folder.join(program));
    let found = paths.into_iter().find(|path| executable(path).is_ok());
    found.ok_or_else(|| {
        Failure::hard(format!(
            "there is no program {program} in PATH on this node: install it, or write its path"
        ))
    })
}

fn executable(path: &Path) -> Outcome {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) => Err(Failure::hard(format!("cannot run {shown} on this node: {error}"))),
        Ok(entry) if !entry.is_file() => {
            Err(Failure::hard(format!("cannot run {shown} on this node: it is no file")))
        }
        Ok(entry) if entry.permissions().mode() & 0o111 == 0 => Err(Failure::hard(format!(
            "cannot run {shown} on this node: it is not executable (chmod +x)"
        ))),
        Ok(_) => Ok(()),
    }
}
