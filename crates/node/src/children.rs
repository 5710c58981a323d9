//! The child processes of this node: a host instance for each host, a monitor for each other
//! resource. Each is talked to over a socket that is its standard input, and lets go as soon as
//! that socket or this process is gone.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use child::protocol::{self, Configuration, FromChild, Lines, ToChild};
use child::tasks::Tasks;
use child::trust::EXIT_LET_GO;
use cluster::{Event, Exit};
use model::definition::ResourceSpec;
use model::{BootTime, Epoch, FailureReach, FenceToken, LeaseName, Millis, ResourceName};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::NodeConfig;

/// Messages that may wait for a child that does not read. A child that lags that far hangs, and
/// is ended for it.
const UNREAD_MAX: usize = 256;

/// How long a monitor that is to end may take to take its resource down. Then it is killed, and
/// its successor cleans up. More than an orderly stop of most agents, less than anybody waits.
const TERMINATE_MAX: Duration = Duration::from_secs(20);

/// How long the last words of a child that has ended are read: they are in the socket already.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// All children.
pub(crate) struct Children {
    config: NodeConfig,
    events: mpsc::Sender<Event>,
    by_name: BTreeMap<ResourceName, Handle>,
    tasks: Tasks<()>,
}

struct Handle {
    to_child: mpsc::Sender<ToChild>,
    kill: CancellationToken,
}

/// What a child is, which decides how it is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Fenced by the store in all it does, so it may be killed at any moment.
    Host,
    /// What it drives outlives it, so it is asked first.
    Monitor,
}

impl Children {
    /// No children yet. What they do becomes events.
    pub fn new(config: &NodeConfig, events: mpsc::Sender<Event>) -> Children {
        Children { config: config.clone(), events, by_name: BTreeMap::new(), tasks: Tasks::new() }
    }

    /// Starts the child process of a host, or, given what it drives, of another resource. A
    /// failure to start is reported as its exit.
    pub fn spawn(&mut self, name: &ResourceName, spec: Option<Box<ResourceSpec>>) {
        let (to_child, unread) = mpsc::channel(UNREAD_MAX);
        let kill = CancellationToken::new();
        let kind = if spec.is_some() { Kind::Monitor } else { Kind::Host };
        let started = self.start_process(name, kind);
        let handle = Handle { to_child: to_child.clone(), kill: kill.clone() };
        self.by_name.insert(name.clone(), handle);
        let node = self.config.name.clone();
        let first = match spec {
            Some(spec) => ToChild::Drive { spec, node },
            None => ToChild::Configure(Configuration {
                host: name.clone().into(),
                node,
                store: self.config.store.clone(),
            }),
        };
        // The queue is new and empty, so there is room.
        let _ = to_child.try_send(first);
        let (name, events) = (name.clone(), self.events.clone());
        self.tasks.start(async move {
            let exit = match started {
                Ok((process, socket)) => {
                    let watched = Watched { name: &name, kind, events: &events };
                    watched.until_reaped(process, socket, unread, kill).await
                }
                Err(error) => {
                    Exit::Failed(format!("could not be started: {error}"), FailureReach::Soft)
                }
            };
            let _ = events.send(Event::InstanceExited(name, exit)).await;
        });
    }

    fn start_process(
        &self,
        name: &ResourceName,
        kind: Kind,
    ) -> std::io::Result<(Child, UnixStream)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (verb, flag) = match kind {
            Kind::Host => ("host", "--host"),
            Kind::Monitor => ("monitor", "--resource"),
        };
        let child = Command::new(&self.config.program)
            .arg(verb)
            .args([flag, name.as_str(), "--node", self.config.name.as_str()])
            .envs(self.config.environment.iter().cloned())
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            // A group of its own: an interrupt typed at a terminal is for the node, which then
            // stops its children in good order.
            .process_group(0)
            .kill_on_drop(kind == Kind::Host)
            .spawn()?;
        Ok((child, UnixStream::from_std(ours)?))
    }

    /// Lets a member work under a lease.
    pub fn activate(
        &mut self,
        name: &ResourceName,
        lease: LeaseName,
        epoch: Epoch,
        trust_until: BootTime,
    ) {
        let token = FenceToken { lease, epoch, holder: self.config.name.clone() };
        self.tell(name, ToChild::Activate { token, trust_until });
    }

    /// Extends the trust of a member.
    pub fn trust(&mut self, name: &ResourceName, trust_until: BootTime) {
        self.tell(name, ToChild::Trust { trust_until });
    }

    /// Lets a member come to an end with its work.
    pub fn deactivate(&mut self, name: &ResourceName, within: Millis) {
        self.tell(name, ToChild::Deactivate { within });
    }

    /// Ends the child process of a member; its exit is reported when it is reaped.
    pub fn kill(&mut self, name: &ResourceName) {
        if let Some(handle) = self.by_name.get(name) {
            handle.kill.cancel();
        }
    }

    fn tell(&mut self, name: &ResourceName, message: ToChild) {
        let Some(handle) = self.by_name.get(name) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = handle.to_child.try_send(message) {
            tracing::error!(resource = %name, "does not read what it is told; it is ended");
            handle.kill.cancel();
        }
    }
}

/// A child that is watched over.
struct Watched<'a> {
    name: &'a ResourceName,
    kind: Kind,
    events: &'a mpsc::Sender<Event>,
}

/// Why a child failed, in its own words.
type Said = Mutex<Option<(String, FailureReach)>>;

impl Watched<'_> {
    async fn until_reaped(
        &self,
        mut process: Child,
        socket: UnixStream,
        unread: mpsc::Receiver<ToChild>,
        kill: CancellationToken,
    ) -> Exit {
        let said: Said = Mutex::new(None);
        let (reader, writer) = socket.into_split();
        let mut listening = Box::pin(self.listen(reader, &said));
        let mut speaking = Box::pin(speak(writer, unread));
        let killed = tokio::select! {
            biased;
            () = kill.cancelled() => true,
            status = process.wait() => {
                let _ = tokio::time::timeout(LAST_WORDS, listening).await;
                return self.exit_of(status, false, &said);
            }
            // The child has closed its socket or does not listen: it is about to end.
            () = &mut listening => false,
            () = &mut speaking => false,
        };
        // To a monitor this says that it must take its resource down and end.
        drop((listening, speaking));
        if self.kind == Kind::Monitor
            && let Ok(status) = tokio::time::timeout(TERMINATE_MAX, process.wait()).await
        {
            // How it ended counts, although it was asked to: it may have had to leave its
            // resource up.
            return self.exit_of(status, false, &said);
        }
        if let Err(error) = process.start_kill() {
            let name = self.name;
            tracing::warn!(resource = %name, %error, "cannot be killed; it may have ended already");
        }
        let status = process.wait().await;
        self.exit_of(status, killed && self.kind == Kind::Host, &said)
    }

    async fn listen(&self, reader: OwnedReadHalf, said: &Said) {
        let mut lines = Lines::new(reader);
        while let Some(message) = lines.next().await {
            let name = self.name.clone();
            let event = match message {
                FromChild::Ready => Event::InstanceReady(name),
                FromChild::Active { epoch } => Event::InstanceActive(name, epoch),
                FromChild::Inactive { epoch } => Event::InstanceInactive(name, epoch),
                FromChild::Progress => Event::Progress(name),
                FromChild::Stuck { how } => Event::Stuck(name, how),
                FromChild::Degraded { how } => Event::Degraded(name, how),
                FromChild::Failed { how, reach } => {
                    *said.lock().unwrap_or_else(PoisonError::into_inner) = Some((how, reach));
                    continue;
                }
                FromChild::Unknown => continue,
            };
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }

    fn exit_of(&self, status: std::io::Result<ExitStatus>, expected: bool, said: &Said) -> Exit {
        let status = match status {
            _ if expected => return Exit::Expected,
            Ok(status) => status,
            Err(error) => return self.died(format!("could not be waited for: {error}")),
        };
        if status.code() == Some(EXIT_LET_GO) {
            return Exit::TrustEnded;
        }
        let said = said.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((how, reach)) = said {
            return Exit::Failed(how, reach);
        }
        match (status.code(), status.signal()) {
            (Some(code), _) => self.died(format!("ended with exit code {code}")),
            (None, Some(signal)) => self.died(format!("killed by signal {signal}")),
            (None, None) => self.died(format!("ended: {status}")),
        }
    }

    /// A monitor that died without a word has not taken its resource down.
    fn died(&self, how: String) -> Exit {
        match self.kind {
            Kind::Host => Exit::Failed(how, FailureReach::Soft),
            Kind::Monitor => Exit::Crashed(how),
        }
    }
}

async fn speak(mut writer: OwnedWriteHalf, mut unread: mpsc::Receiver<ToChild>) {
    while let Some(message) = unread.recv().await {
        if protocol::write(&mut writer, &message).await.is_err() {
            return;
        }
    }
}
