//! Decides who owns which group and what each node must do now.
//!
//! Pure: a snapshot of the store and the time go in, steps and their reasons come out. Nothing
//! here touches a clock, a store, a socket or a process. Three rules carry everything else:
//!
//! 1. **The database is the authority, local time only shortens trust.** Who owns a lease is what
//!    the store says; whether one has expired is what the store's clock says. A node's own clock
//!    (`CLOCK_BOOTTIME`) is used for one thing only: to stop believing earlier than the store does.
//! 2. **One epoch is one activation.** Whenever hosts start to work, for whatever reason, the
//!    lease was acquired for it. So whatever an earlier activation left behind is fenced off.
//! 3. **Nothing is remembered that the store remembers.** Placement is computed from the snapshot,
//!    policy from the ownership history. An agent that forgot everything (its process was replaced)
//!    does the same as one that lost trust: it sees in a snapshot that it holds a lease it knows
//!    nothing of, and takes it up again under a new epoch.
//!
//! Read in this order: [`snapshot`] (what is seen), [`placement`] (who comes next), [`quarantine`]
//! (who is asked last), [`survey`] (a snapshot put in order for many such questions), [`plan`]
//! (what this node should do about leases), [`restart`] (what follows a failure), [`agent`] (the
//! life of one node), [`explain`] (the same in prose).

pub mod agent;
pub mod explain;
pub mod placement;
pub mod plan;
pub mod quarantine;
pub mod restart;
pub mod snapshot;
pub mod survey;

pub use agent::{
    AcquireOutcome, AcquireRequest, Agent, ChildState, Effect, Event, Exit, LetGo, Phase, Reason,
    Retry, Timing,
};
pub use explain::why;
pub use plan::{Plan, Step, TakeOffline, plan};
pub use snapshot::{
    Duty, GroupOrder, HISTORY_KEPT, LeaseView, MoveRequest, NodeOrder, NodeView, Presence,
    ResourceReport, ResumeFailback, Snapshot, Tenure,
};
