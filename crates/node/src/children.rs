//! The host instances of this node: one child process each, talked to over a socket that is the
//! child's standard input, and gone as soon as that socket or this process is.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use cluster::{Event, Exit};
use host::protocol::{self, Configuration, FromHost, Lines, ToHost};
use host::trust::EXIT_LET_GO;
use model::{BootTime, Epoch, HostName, LeaseName, Millis};
use store::FenceToken;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::NodeConfig;
use crate::tasks::Tasks;

/// Messages that may wait for a child that does not read. A child that lags that far hangs, and
/// is ended for it.
const UNREAD_MAX: usize = 256;

/// All children.
pub(crate) struct Children {
    config: NodeConfig,
    events: mpsc::Sender<Event>,
    by_host: BTreeMap<HostName, Handle>,
    tasks: Tasks<()>,
}

struct Handle {
    to_child: mpsc::Sender<ToHost>,
    kill: CancellationToken,
}

impl Children {
    /// No children yet. What they do becomes events.
    pub fn new(config: &NodeConfig, events: mpsc::Sender<Event>) -> Children {
        Children { config: config.clone(), events, by_host: BTreeMap::new(), tasks: Tasks::new() }
    }

    /// Starts the child process of a host. A failure to start is reported as its exit.
    pub fn spawn(&mut self, host: &HostName) {
        let (to_child, unread) = mpsc::channel(UNREAD_MAX);
        let kill = CancellationToken::new();
        let started = self.start_process(host);
        let handle = Handle { to_child: to_child.clone(), kill: kill.clone() };
        self.by_host.insert(host.clone(), handle);
        let configure = ToHost::Configure(Configuration {
            host: host.clone(),
            node: self.config.name.clone(),
            store: self.config.store.clone(),
        });
        // The queue is new and empty, so there is room.
        let _ = to_child.try_send(configure);
        let (host, events) = (host.clone(), self.events.clone());
        self.tasks.start(async move {
            let exit = match started {
                Ok((child, socket)) => watch(&host, child, socket, unread, kill, &events).await,
                Err(error) => Exit::Failed(format!("could not be started: {error}")),
            };
            let _ = events.send(Event::InstanceExited(host, exit)).await;
        });
    }

    fn start_process(&self, host: &HostName) -> std::io::Result<(Child, UnixStream)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new(&self.config.program)
            .arg("host")
            .args(["--host", host.as_str(), "--node", self.config.name.as_str()])
            .envs(self.config.environment.iter().cloned())
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            // A group of its own: an interrupt typed at a terminal is for the node, which then
            // stops its hosts in good order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok((child, UnixStream::from_std(ours)?))
    }

    /// Lets a host work under a lease.
    pub fn activate(
        &mut self,
        host: &HostName,
        lease: LeaseName,
        epoch: Epoch,
        trust_until: BootTime,
    ) {
        let token = FenceToken { lease, epoch, holder: self.config.name.clone() };
        self.tell(host, ToHost::Activate { token, trust_until });
    }

    /// Extends the trust of a host.
    pub fn trust(&mut self, host: &HostName, trust_until: BootTime) {
        self.tell(host, ToHost::Trust { trust_until });
    }

    /// Lets a host come to an end with its work.
    pub fn deactivate(&mut self, host: &HostName, within: Millis) {
        self.tell(host, ToHost::Deactivate { within });
    }

    /// Kills the child process of a host; its exit is reported when it is reaped.
    pub fn kill(&mut self, host: &HostName) {
        if let Some(handle) = self.by_host.get(host) {
            handle.kill.cancel();
        }
    }

    fn tell(&mut self, host: &HostName, message: ToHost) {
        let Some(handle) = self.by_host.get(host) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = handle.to_child.try_send(message) {
            tracing::error!(%host, "does not read what it is told; it is ended");
            handle.kill.cancel();
        }
    }
}

/// Watches over one child until it is reaped.
async fn watch(
    host: &HostName,
    mut child: Child,
    socket: UnixStream,
    unread: mpsc::Receiver<ToHost>,
    kill: CancellationToken,
    events: &mpsc::Sender<Event>,
) -> Exit {
    let (reader, writer) = socket.into_split();
    let talk = async {
        tokio::join!(listen(host, reader, events), speak(writer, unread));
        // The child has closed its socket or does not listen: it is about to end.
        std::future::pending::<()>().await;
    };
    let killed = async {
        kill.cancelled().await;
        true
    };
    let expected = tokio::select! {
        biased;
        killed = killed => killed,
        status = child.wait() => return exit_of(status, false),
        () = talk => false,
    };
    if let Err(error) = child.start_kill() {
        tracing::warn!(%host, %error, "cannot be killed; it may have ended already");
    }
    exit_of(child.wait().await, expected)
}

async fn listen(host: &HostName, reader: OwnedReadHalf, events: &mpsc::Sender<Event>) {
    let mut lines = Lines::new(reader);
    while let Some(said) = lines.next().await {
        let host = host.clone();
        let event = match said {
            FromHost::Ready => Event::InstanceReady(host),
            FromHost::Active { epoch } => Event::InstanceActive(host, epoch),
            FromHost::Inactive { epoch } => Event::InstanceInactive(host, epoch),
            FromHost::Progress => Event::Progress(host),
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

async fn speak(mut writer: OwnedWriteHalf, mut unread: mpsc::Receiver<ToHost>) {
    while let Some(message) = unread.recv().await {
        if protocol::write(&mut writer, &message).await.is_err() {
            return;
        }
    }
}

fn exit_of(status: std::io::Result<ExitStatus>, expected: bool) -> Exit {
    let status = match status {
        _ if expected => return Exit::Expected,
        Ok(status) => status,
        Err(error) => return Exit::Failed(format!("could not be waited for: {error}")),
    };
    match (status.code(), status.signal()) {
        (Some(EXIT_LET_GO), _) => Exit::TrustEnded,
        (Some(code), _) => Exit::Failed(format!("ended with exit code {code}")),
        (None, Some(signal)) => Exit::Failed(format!("killed by signal {signal}")),
        (None, None) => Exit::Failed(format!("ended: {status}")),
    }
}
