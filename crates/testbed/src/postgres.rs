//! PostgreSQL, as durable as in production: fsync stays on, so that a test of "nothing is lost" can
//! fail.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use anyhow::{Context, anyhow, bail};
use rustix::process::Signal;

use crate::Unavailable;
use crate::net::{Network, Place};
use crate::process::{self, Account, Folder, Server};

/// Names a server (an URL with a database to connect to) on which [`fresh_database`] makes its
/// databases, instead of starting one in each test process. `cargo xtask test` sets it.
pub const POSTGRES_URL_VARIABLE: &str = "BATON_TEST_POSTGRES_URL";

/// A server starts in 0.3 s here; a machine busy with a build may take far longer.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A fast shutdown writes a checkpoint.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Several test processes, each with pools of several nodes, share one server.
const MAX_CONNECTIONS: u32 = 200;

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Ends the sessions and writes a checkpoint.
    Fast,
    /// As in a crash: the next start recovers from the log.
    Immediate,
}

/// A PostgreSQL server of our own. Dropping it kills it and removes its files.
#[derive(Debug)]
pub struct Postgres {
    // Declared before `folder`: the process must be dead before its files go.
    server: Option<Server>,
    folder: Folder,
    bin: PathBuf,
    account: Option<Account>,
    place: Place,
    port: u16,
    /// Settings besides ours, `name=value`.
    more: Vec<String>,
}

impl Postgres {
    /// Makes a new database cluster and starts a server on it.
    ///
    /// # Errors
    /// [`crate::Unavailable`] when PostgreSQL is not installed; otherwise what failed, with the
    /// server's log.
    pub fn start() -> anyhow::Result<Postgres> {
        Postgres::start_with(&[])
    }

    /// As [`Postgres::start`], with settings (`name=value`) that go before ours.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with(settings: &[&str]) -> anyhow::Result<Postgres> {
        Postgres::start_at(Place::here(), settings)
    }

    /// As [`Postgres::start`], on a machine of a network, for all of its machines.
    ///
    /// # Errors
    /// As [`Postgres::start`], and when there is no such machine.
    pub fn start_on(network: &Network, machine: &str) -> anyhow::Result<Postgres> {
        Postgres::start_at(network.place(machine)?, &[])
    }

    fn start_at(place: Place, settings: &[&str]) -> anyhow::Result<Postgres> {
        let bin = find_bin()?;
        let account = server_account()?;
        let folder = Folder::new("postgres")?;
        if let Some(account) = &account {
            account.own(folder.path())?;
        }
        let mut initdb = process::tool(&bin.join("initdb"), account.as_ref());
        initdb
            .args(["--no-sync", "--auth=trust", "--username=postgres"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8", "--pgdata"])
            .arg(folder.path().join("data"))
            .current_dir(folder.path());
        process::output_of(initdb)?;
        trust(&folder.path().join("data/pg_hba.conf"))?;
        let port = process::free_port()?;
        let more = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut postgres = Postgres { server: None, folder, bin, account, place, port, more };
        postgres.run()?;
        Ok(postgres)
    }

    /// The server that all tests of this process share. It ends with the process.
    ///
    /// # Errors
    /// As [`Postgres::start`]; tried once, and every later caller gets the same error.
    pub fn shared() -> anyhow::Result<&'static Postgres> {
        static SHARED: OnceLock<Result<Postgres, SharedError>> = OnceLock::new();
        match SHARED.get_or_init(|| Postgres::start().map_err(SharedError::from)) {
            Ok(postgres) => Ok(postgres),
            Err(SharedError::Unavailable(unavailable)) => Err(unavailable.clone().into()),
            Err(SharedError::Other(story)) => Err(anyhow!("{story}")),
        }
    }

    /// The URL of a database on this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@{}:{}/{database}", self.place.address, self.port)
    }

    /// The port on 127.0.0.1; it stays the same over a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// When the server refuses it, for example because there is one of that name.
    pub fn create_database(&self, name: &str) -> anyhow::Result<()> {
        self.psql("postgres", &create_statement(name))
            .with_context(|| format!("can't make database {name}"))?;
        Ok(())
    }

    /// Runs one statement, as [`psql`] does, from where the server is.
    ///
    /// # Errors
    /// What psql complains about.
    pub fn psql(&self, database: &str, statement: &str) -> anyhow::Result<String> {
        process::output_of(self.place.command(psql_command(&self.url(database), statement)))
    }

    /// Stops the server; its data stay.
    ///
    /// # Errors
    /// When it does not end in half a minute.
    pub fn stop(&mut self, how: Shutdown) -> anyhow::Result<()> {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        server.signal(match how {
            Shutdown::Fast => Signal::INT,
            Shutdown::Immediate => Signal::QUIT,
        });
        server.wait(STOP_LIMIT)
    }

    /// Stops the server if it runs, and starts it again on the same port and data.
    ///
    /// # Errors
    /// When it does not stop, or does not accept connections afterwards.
    pub fn restart(&mut self, how: Shutdown) -> anyhow::Result<()> {
        self.stop(how)?;
        self.run()
    }

    /// The server's processes: the first is the one that forked the others.
    pub fn processes(&self) -> Vec<u32> {
        let Some(server) = &self.server else { return Vec::new() };
        server.processes().iter().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()).collect()
    }

    /// Freezes every process of the server: connections stay open and nothing answers.
    pub fn freeze(&self) {
        if let Some(server) = &self.server {
            server.signal_tree(Signal::STOP);
        }
    }

    /// Ends a [`Postgres::freeze`].
    pub fn thaw(&self) {
        if let Some(server) = &self.server {
            server.signal_tree(Signal::CONT);
        }
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let log = fs::File::create(self.log_path())
            .with_context(|| format!("can't write {}", self.log_path().display()))?;
        let mut command = process::guarded(&self.bin.join("postgres"), self.account.as_ref());
        command.arg("-D").arg(self.folder.path().join("data"));
        for setting in self.settings().iter().chain(&self.more) {
            command.arg("-c").arg(setting);
        }
        command.current_dir(self.folder.path());
        let mut command = self.place.command(command);
        command.stdout(log.try_clone()?).stderr(log);
        let server = self.server.insert(Server::spawn("postgres", command)?);
        let accepts = wait_until_it_accepts(server, &self.bin, &self.place, self.port);
        accepts.with_context(|| format!("the log of PostgreSQL says:\n{}", self.log()))
    }

    fn settings(&self) -> [String; 5] {
        [
            format!("port={}", self.port),
            format!("listen_addresses={}", self.place.address),
            format!("unix_socket_directories={}", self.folder.path().display()),
            format!("max_connections={MAX_CONNECTIONS}"),
            // The default (5 min) writes a checkpoint in the middle of a benchmark.
            "checkpoint_timeout=30min".to_owned(),
        ]
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_else(|error| format!("(no log: {error})"))
    }
}

/// Makes an empty database with a name of its own, and gives its URL.
///
/// It is made on the server that the environment variable `BATON_TEST_POSTGRES_URL` names, else on
/// the one that the tests of this process share.
///
/// # Errors
/// As [`Postgres::start`], and when the server refuses.
pub fn fresh_database() -> anyhow::Result<String> {
    let url = match env::var(POSTGRES_URL_VARIABLE) {
        Ok(url) if !url.is_empty() => url,
        _ => Postgres::shared()?.url("postgres"),
    };
    let name = unique_name();
    create_database(&url, &name)?;
    with_database(&url, &name)
}

/// Runs one statement with psql and gives its rows: a line each, columns parted by `|`.
///
/// # Errors
/// What psql complains about.
pub fn psql(url: &str, statement: &str) -> anyhow::Result<String> {
    process::output_of(psql_command(url, statement))
}

fn psql_command(url: &str, statement: &str) -> Command {
    let program = match find_bin() {
        Ok(bin) if bin.join("psql").exists() => bin.join("psql"),
        _ => PathBuf::from("psql"),
    };
    let mut command = Command::new(program);
    command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]).args([
        "--set=ON_ERROR_STOP=1",
        "--dbname",
        url,
        "--command",
        statement,
    ]);
    command
}

enum SharedError {
    Unavailable(Unavailable),
    Other(String),
}

impl From<anyhow::Error> for SharedError {
    fn from(error: anyhow::Error) -> SharedError {
        match error.downcast::<Unavailable>() {
            Ok(unavailable) => SharedError::Unavailable(unavailable),
            Err(error) => SharedError::Other(format!("{error:?}")),
        }
    }
}

/// Lets everybody in who reaches the server: it listens on a loopback interface, or on a network of
/// namespaces.
fn trust(file: &Path) -> anyhow::Result<()> {
    let mut rules = fs::OpenOptions::new().append(true).open(file)?;
    Ok(rules.write_all(b"host all all 10.77.0.0/16 trust\n")?)
}

fn wait_until_it_accepts(
    server: &mut Server,
    bin: &Path,
    place: &Place,
    port: u16,
) -> anyhow::Result<()> {
    process::wait_until(START_LIMIT, || {
        if let Some(status) = server.ended() {
            bail!("postgres ended at once with {status}");
        }
        let mut command = Command::new(bin.join("pg_isready"));
        let host = format!("--host={}", place.address);
        command.args(["--quiet", &host, &format!("--port={port}")]);
        let answer = place.command(command).status().context("can't run pg_isready")?;
        Ok(answer.success())
    })
    .context("postgres does not accept connections")
}

/// The folder with `initdb` and `postgres`: the newest of Debian's, else the one in PATH.
fn find_bin() -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, bin)| has_server(bin))
        .max();
    if let Some((_, bin)) = newest {
        return Ok(bin);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).find(|bin| has_server(bin)).ok_or_else(|| {
        let unavailable = Unavailable {
            what: "PostgreSQL".to_owned(),
            why: "no initdb, postgres and pg_isready in /usr/lib/postgresql/*/bin or PATH"
                .to_owned(),
            remedy: "`cargo xtask deps` installs it".to_owned(),
        };
        unavailable.into()
    })
}

fn has_server(bin: &Path) -> bool {
    ["initdb", "postgres", "pg_isready"].iter().all(|program| bin.join(program).exists())
}

/// `initdb` and `postgres` refuse to run as root: then they run as Debian's user for them.
fn server_account() -> anyhow::Result<Option<Account>> {
    if !process::is_root() {
        return Ok(None);
    }
    let account = Account::find("postgres")?.ok_or_else(|| Unavailable {
        what: "PostgreSQL".to_owned(),
        why: "it refuses to run as root, and /etc/passwd has no user postgres".to_owned(),
        remedy: "run the tests as another user, or `apt-get install postgresql`".to_owned(),
    })?;
    Ok(Some(account))
}

fn create_database(url: &str, name: &str) -> anyhow::Result<()> {
    psql(url, &create_statement(name))
        .with_context(|| format!("can't make database {name} on {url}"))?;
    Ok(())
}

fn create_statement(name: &str) -> String {
    format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // The time: a server outlives the test processes, and process numbers come again.
    format!("test_{}_{}_{number}", started, std::process::id())
}

/// The same server, another database. What follows a `?` is kept.
fn with_database(url: &str, name: &str) -> anyhow::Result<String> {
    let (address, parameters) = match url.split_once('?') {
        Some((address, parameters)) => (address, format!("?{parameters}")),
        None => (url, String::new()),
    };
    let (server, _) = address
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('/'))
        .with_context(|| {
            format!(
                "{POSTGRES_URL_VARIABLE} is {url}, which names no database; \
                 write postgresql://USER@HOST:PORT/DATABASE"
            )
        })?;
    Ok(format!("postgresql://{server}/{name}{parameters}"))
}

/// Ends about half of the sessions of a database whose application name begins like this, as an
/// administrator or a failing network would.
pub fn end_sessions(url: &str, application: &str) -> anyhow::Result<String> {
    let statement = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid() \
         AND application_name LIKE '{application}%' AND random() < 0.5"
    );
    psql(url, &statement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced() {
        let replaced = |url| with_database(url, "new").ok();
        let expected = |url: &str| Some(url.to_owned());
        assert_eq!(
            replaced("postgresql://postgres@127.0.0.1:5433/postgres"),
            expected("postgresql://postgres@127.0.0.1:5433/new")
        );
        assert_eq!(
            replaced("postgres://a:b@h1:1,h2:2/db?target_session_attrs=read-write"),
            expected("postgresql://a:b@h1:1,h2:2/new?target_session_attrs=read-write")
        );
        assert_eq!(replaced("postgresql://127.0.0.1:5433"), None);
    }

    #[test]
    fn names_are_unique() {
        assert_ne!(unique_name(), unique_name());
    }
}
