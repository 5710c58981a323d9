//! Real servers for tests and benches: PostgreSQL and three FTP servers, as child processes.
//!
//! In-process fakes agree with their author; these servers do not. They listen on 127.0.0.1 only,
//! on a free port, keep their files in a temporary folder, and die with the process that started
//! them, however it ends (see `process`).
//!
//! ```no_run
//! # use testbed::{FtpKind, FtpOptions, FtpServer};
//! # fn test() {
//! let Some(url) = testbed::or_skip(testbed::fresh_database()) else { return };
//! let started = FtpServer::start(FtpKind::Vsftpd, FtpOptions::default());
//! let Some(partner) = testbed::or_skip(started) else { return };
//! # }
//! ```
//!
//! Read in this order: `lib` (what a test does when a server can't be had), `postgres`, `ftp`,
//! `net` (machines on a network of their own), then `process`, `packages` and `certificate`, which
//! serve them.

mod certificate;
mod ftp;
pub mod net;
pub mod packages;
mod postgres;
mod process;

use std::fmt;

pub use ftp::{FtpKind, FtpOptions, FtpServer, FtpTls};
pub use postgres::{POSTGRES_URL_VARIABLE, Postgres, Shutdown, end_sessions, fresh_database, psql};

/// A server can't be started on this machine, and that is no fault of the code under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// The server.
    pub what: String,
    /// What was looked for and where.
    pub why: String,
    /// What makes it available.
    pub remedy: String,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not available: {}; {}", self.what, self.why, self.remedy)
    }
}

impl std::error::Error for Unavailable {}

/// The started server, or `None` when the test must return early because the server can't be had.
///
/// # Panics
/// When starting failed for another reason than [`Unavailable`], and where [`skip_or_fail`] does.
pub fn or_skip<T>(started: anyhow::Result<T>) -> Option<T> {
    match started {
        Ok(server) => Some(server),
        Err(error) => match error.downcast::<Unavailable>() {
            Ok(unavailable) => {
                skip_or_fail(&unavailable);
                None
            }
            Err(error) => panic!("the test's server did not start: {error:?}"),
        },
    }
}

/// Says that a test is skipped, and why. The caller returns.
///
/// # Panics
/// When the environment says `CI=true`: there, a test that did not run must not look like one that
/// passed.
pub fn skip_or_fail(reason: impl fmt::Display) {
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!in_ci, "CI must run every test, but: {reason}");
    println!("SKIPPED: {reason}");
}
