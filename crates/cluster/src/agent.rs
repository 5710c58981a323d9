//! The life of one node: events in, effects out. No clock, no store, no process in here.

mod children;
mod dependencies;
mod leases;
mod life;
mod offline;
mod reports;
mod snapshots;
mod watch;

use model::{
    BootTime, Cause, Epoch, EventId, Evidence, FailureReach, GroupName, LeaseName, Millis,
    NodeName, ResourceName, Timestamp,
};

use model::definition::ResourceSpec;

use crate::{ResourceReport, Snapshot};

pub use children::ChildState;
pub use leases::{LetGo, Phase, Retry};
pub use life::Agent;

/// Something that happened to a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A read of the store came back.
    Snapshot(Snapshot),
    /// A renewal came back. Leases that the store no longer counts as ours are in `lost`.
    Renewed {
        /// Taken before the renewal was sent; trust counts from here.
        sent_at: BootTime,
        /// Leases renewed, with the epoch renewed.
        renewed: Vec<(LeaseName, Epoch)>,
        /// Leases that the store refused to renew at that epoch.
        lost: Vec<(LeaseName, Epoch)>,
    },
    /// The answer to [`Effect::Acquire`].
    Acquired {
        /// Which lease.
        lease: LeaseName,
        /// Taken before the request was sent; trust counts from here.
        sent_at: BootTime,
        /// What the store said.
        outcome: AcquireOutcome,
    },
    /// The answer to [`Effect::Release`]; `ok` is false when the store could not be reached.
    Released {
        /// Which lease.
        lease: LeaseName,
        /// Which epoch was let go.
        epoch: Epoch,
        /// Whether the store has it on record.
        ok: bool,
    },
    /// The child process of a resource is up as a warm standby: it may be activated.
    InstanceReady(ResourceName),
    /// It works under this epoch.
    InstanceActive(ResourceName, Epoch),
    /// It has stopped working: everything it had begun has returned.
    InstanceInactive(ResourceName, Epoch),
    /// The resource's child process made progress.
    Progress(ResourceName),
    /// The resource cannot be stopped, as the sentence says; it goes on trying.
    Stuck(ResourceName, String),
    /// The resource works, but poorly, as the sentence says.
    Degraded(ResourceName, String),
    /// Its child process is gone, reaped by us.
    InstanceExited(ResourceName, Exit),
    /// The store did not take the reports of these: they are made again.
    ReportLost(Vec<ResourceName>),
    /// An instant asked for by [`Effect::WakeAt`] has come.
    Tick,
    /// The node was asked to stop: drain, release, exit.
    Stop,
}

/// What the store said to an acquire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcquireOutcome {
    /// The lease is ours under this epoch.
    Granted(Epoch, Evidence),
    /// Somebody else has it, or was faster; the sentence says who.
    Refused(String),
    /// The store could not be reached; whether it is ours will show in the next snapshot.
    Unknown(String),
}

/// How a child process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// We had asked for it.
    Expected,
    /// Its trust in its lease had run out, so it ended itself.
    TrustEnded,
    /// Anything else; the sentence says what (signal 9, exit code 3, panicked).
    Failed(String, FailureReach),
    /// It died without having cleaned up (by a signal): what a monitor drove may still be up. The
    /// sentence says how.
    Crashed(String),
}

/// Something that a node must do. The shell starts each as a task whose end is another event.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Read the store.
    ReadSnapshot,
    /// Ask the store for a lease, if it still is at the epoch seen.
    Acquire(AcquireRequest),
    /// Give a lease back.
    Release {
        /// Which lease.
        lease: LeaseName,
        /// Which epoch of it.
        epoch: Epoch,
        /// Why.
        cause: Cause,
        /// The same as a sentence.
        reason: String,
        /// The successor we chose, if any.
        offered_to: Option<NodeName>,
        /// The resource whose failure it follows, if it follows one.
        resource: Option<ResourceName>,
    },
    /// Vacate the instance lease of a dead node, by the same evidence as a takeover, so that the
    /// work it held is free.
    Bury {
        /// Which lease.
        lease: LeaseName,
        /// The epoch it had in the snapshot.
        seen_epoch: Epoch,
        /// Why.
        reason: String,
    },
    /// Forget a move request: it cannot be done.
    DropMove {
        /// Of which group.
        group: GroupName,
        /// When it was asked for: a later one stays.
        asked_at: Timestamp,
    },
    /// From now on renew exactly these (besides the node's own lease).
    Renew(Vec<(LeaseName, Epoch)>),
    /// Start the child process of a resource as a warm standby.
    Spawn {
        /// Which member.
        resource: ResourceName,
        /// What it is; none for a host, which reads the definitions itself.
        spec: Option<Box<ResourceSpec>>,
    },
    /// Let a warm standby work under a lease.
    Activate {
        /// Which member.
        resource: ResourceName,
        /// Under which lease.
        lease: LeaseName,
        /// And epoch.
        epoch: Epoch,
        /// When its trust ends unless it is extended.
        trust_until: BootTime,
    },
    /// Extend the trust of what works.
    Trust {
        /// Which member.
        resource: ResourceName,
        /// When its trust ends unless it is extended again.
        trust_until: BootTime,
    },
    /// Let it finish what it has begun, and stop; what is not finished in time is given up.
    Deactivate {
        /// Which member.
        resource: ResourceName,
        /// How long it may take.
        within: Millis,
    },
    /// Kill the child process of a resource.
    Kill(ResourceName),
    /// Ask for [`Event::Tick`] at this instant at the latest (each one replaces the one before).
    WakeAt(BootTime),
    /// Tell the cluster what became of our resources: only what changed.
    Report(Vec<ResourceReport>),
    /// Tell the operator.
    Say(Reason),
    /// Everything is let go: the node's process may end.
    Exit,
}

/// A request for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcquireRequest {
    /// Which lease.
    pub lease: LeaseName,
    /// The epoch it had in the snapshot; 0 when it is not there yet. The store refuses if it has
    /// changed since.
    pub seen_epoch: Epoch,
    /// Why.
    pub cause: Cause,
    /// The same as a sentence.
    pub reason: String,
    /// The resource whose failure it follows, if it follows one.
    pub resource: Option<ResourceName>,
    /// It has effects that the store's fence does not hold back: a connection that is gone is not
    /// evidence enough, its holder's lease must have run out too.
    pub external: bool,
}

/// Why something was decided: a subject and a sentence. Log, command line and tests show the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What it is about: `group partners`, `host receive`.
    pub subject: String,
    /// The sentence.
    pub sentence: String,
    /// The operator event that it is, if it is one.
    pub event: Option<EventId>,
}

/// The timing of a node, the same on each node of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a lease lives without renewal.
    pub ttl: Millis,
    /// How much earlier than the store we stop to trust it ourselves.
    pub margin: Millis,
}

impl Timing {
    /// The default ttl (cluster reference 7.5 and the issue: 3 s, 1 s allowed).
    pub const TTL_DEFAULT: Millis = Millis::seconds(3);
    /// Timing for a ttl: a sixth of it is the margin, for scheduling delays of a busy machine.
    pub const fn of(ttl: Millis) -> Timing {
        Timing { ttl, margin: Millis(ttl.0 / 6) }
    }
    /// How often leases are renewed: four tries within a ttl.
    pub const fn renew_every(self) -> Millis {
        Millis(self.ttl.0 / 4)
    }
    /// When trust ends that was confirmed by a request sent at this time.
    pub fn trust_until(self, sent_at: BootTime) -> BootTime {
        sent_at.after(Millis(self.ttl.0 - self.margin.0))
    }
}
