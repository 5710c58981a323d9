//! Connections: the URL, the settings of each session, and the task that drives one.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Connect};
use model::Millis;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};

use super::tls::Tls;
use crate::tasks::Tasks;
use crate::{Options, Result, StoreError};

/// Longest wait for one host to accept a connection. A renewal has half a ttl, 1.5 s by default:
/// short beside that, so that the next host of the URL is tried while the lease still lives.
const CONNECT_LIMIT: Duration = Duration::from_millis(700);

/// A dead network is noticed within seconds, at both ends: with the operating system's two hours
/// the session of a machine that lost its power would keep its locks, and its liveness, as long.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(2);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_RETRIES: u32 = 3;
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time that a transaction of ours may stand still. Each is sent in one or two pieces with
/// nothing to wait for in between, so one that stands still belongs to a frozen process.
pub(crate) const IDLE_IN_TRANSACTION_LIMIT: Duration = Duration::from_secs(2);

/// Each statement of ours finds its rows by an index, a batch at a time. A queue is empty when its
/// statistics are taken and has a million rows a minute later, so plans must not depend on them:
/// reading whole tables is the last resort, and a plan once made is kept. Planning publish.sql anew
/// takes longer than running it, and compiling a statement longer still.
const PLANNING: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// What is called with the name of each channel that was notified.
pub(crate) type OnNotify = Arc<dyn Fn(&str) + Send + Sync>;

/// Makes connections to one database.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Config,
    tls: Option<Tls>,
    tasks: Arc<Tasks>,
}

impl Connector {
    /// Reads the URL and adds our settings.
    pub(crate) fn new(options: &Options, tasks: Arc<Tasks>) -> Result<Connector> {
        // The parser's own words may quote a piece of the URL, and with it of the password.
        let mut config: Config = options.url.parse().map_err(|_| {
            StoreError::Refused(
                "the store's URL cannot be read: write postgresql://USER@HOST:PORT/DATABASE, \
                 several hosts as HOST1,HOST2, special characters of a password as %XX; \
                 parameters are those of libpq except its ssl files"
                    .to_owned(),
            )
        })?;
        let tls = match config.get_ssl_mode() {
            SslMode::Require => Some(Tls::new()?),
            _ => None,
        };
        // Server-side twins of the client-side settings below, and what each transaction relies on:
        // baton_fence is proven for READ COMMITTED, and what was committed must be on disk.
        let mut settings = config.get_options().unwrap_or_default().to_owned();
        for (name, value) in [
            ("statement_timeout", options.patience.0.to_string()),
            ("idle_in_transaction_session_timeout", millis(IDLE_IN_TRANSACTION_LIMIT)),
            // The sessions of liveness and of hints are quiet by nature.
            ("idle_session_timeout", "0".to_owned()),
            ("tcp_keepalives_idle", KEEPALIVE_IDLE.as_secs().to_string()),
            ("tcp_keepalives_interval", KEEPALIVE_INTERVAL.as_secs().to_string()),
            ("tcp_keepalives_count", KEEPALIVE_RETRIES.to_string()),
            ("tcp_user_timeout", millis(TCP_USER_TIMEOUT)),
            ("synchronous_commit", "on".to_owned()),
            ("default_transaction_isolation", "read\\ committed".to_owned()),
        ]
        .into_iter()
        .chain(PLANNING.map(|(name, value)| (name, value.to_owned())))
        {
            settings.push_str(&format!(" -c {name}={value}"));
        }
        config
            .options(settings)
            .application_name(&options.application)
            .connect_timeout(CONNECT_LIMIT)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(TCP_USER_TIMEOUT);
        Ok(Connector { config, tls, tasks })
    }

    /// The same, for the tables of another schema.
    pub(crate) fn in_schema(mut self, schema: &str) -> Connector {
        let settings = self.config.get_options().unwrap_or_default();
        let settings = format!("{settings} -c search_path={schema}");
        self.config.options(settings);
        self
    }

    /// For deadpool, which hands it back to [`Connect::connect`].
    pub(crate) fn config(&self) -> Config {
        self.config.clone()
    }

    /// Who and where, without the password.
    pub(crate) fn describe(&self) -> String {
        let ports = self.config.get_ports();
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(at, host)| {
                let host = match host {
                    Host::Tcp(name) => name.clone(),
                    Host::Unix(path) => path.display().to_string(),
                };
                match ports.get(at).or(ports.first()) {
                    Some(port) => format!("{host}:{port}"),
                    None => host,
                }
            })
            .collect();
        let user = self.config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
        let database = self.config.get_dbname().unwrap_or_default();
        format!("postgresql://{user}{}/{database}", hosts.join(","))
    }

    /// Makes a connection outside the pool.
    pub(crate) async fn connect_apart(&self) -> Result<ClientWrapper, tokio_postgres::Error> {
        let (client, task) = self.open(None, None).await?;
        Ok(ClientWrapper::new(client, task))
    }

    /// The same; tells when it ends by itself, not when it is dropped.
    pub(crate) async fn connect_watched(
        &self,
        ended: Arc<Notify>,
    ) -> Result<ClientWrapper, tokio_postgres::Error> {
        let (client, task) = self.open(None, Some(ended)).await?;
        Ok(ClientWrapper::new(client, task))
    }

    /// Makes a connection that tells what is notified, and the task that ends with it.
    pub(crate) async fn listen(
        &self,
        on_notify: OnNotify,
    ) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        self.open(Some(on_notify), None).await
    }

    async fn open(
        &self,
        on_notify: Option<OnNotify>,
        ended: Option<Arc<Notify>>,
    ) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                Ok((client, self.tasks.spawn(drive(connection, on_notify, ended))))
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                Ok((client, self.tasks.spawn(drive(connection, on_notify, ended))))
            }
        }
    }
}

type Connecting<'a> = Pin<
    Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>,
>;

impl Connect for Connector {
    fn connect(&self, _: &Config) -> Connecting<'_> {
        Box::pin(self.open(None, None))
    }
}

/// Reads what the server sends until the connection ends; whoever uses the client is told why.
/// Dropping the client aborts this, so `ended` hears of ends that nobody here wanted.
async fn drive<S, T>(
    mut connection: Connection<S, T>,
    on_notify: Option<OnNotify>,
    ended: Option<Arc<Notify>>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        match message {
            AsyncMessage::Notification(hint) => {
                if let Some(on_notify) = &on_notify {
                    on_notify(hint.channel());
                }
            }
            AsyncMessage::Notice(notice) => {
                tracing::debug!(severity = notice.severity(), "{}", notice.message());
            }
            _ => {}
        }
    }
    if let Some(ended) = ended {
        ended.notify_one();
    }
}

fn millis(duration: Duration) -> String {
    Millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).0.to_string()
}
