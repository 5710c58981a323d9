//! What a node should do about leases now, from one snapshot and nothing else.
//!
//! Every node computes the same placement, so one of them finds that it is the one to act; when
//! two act all the same, the store's compare-and-set on the epoch they saw lets one of them win.

use model::definition::Group;
use model::{Cause, Epoch, GroupName, HostName, LeaseName, Millis, NodeName, Timestamp};

use crate::placement::{self, Standing, names};
use crate::{AcquireRequest, LeaseView, MoveRequest, Presence, Snapshot};

/// How long each candidate in the row is left alone with a group before the next one tries too.
///
/// The first one may itself be frozen or dead without the store knowing yet; waiting for its lease
/// to expire would cost a whole ttl on top of the one that the owner's death has cost.
pub const RANK_GRACE: Millis = Millis::seconds(1);

/// How long a move that cannot be done at once stays wanted. A person asked for it and looks on;
/// later than this it would come as a surprise.
pub const MOVE_WANTED: Millis = Millis::minutes(1);

/// What a node should do about leases now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In no particular order: they concern different leases.
    pub steps: Vec<Step>,
    /// When to look again even if nothing is heard, by the store's clock.
    pub wake_at: Option<Timestamp>,
}

/// One thing to do, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask for a lease.
    Acquire {
        /// What to ask.
        request: AcquireRequest,
        /// How many candidates come before this node and have let their time pass.
        rank: usize,
    },
    /// Stop the hosts of a lease of ours, then let it go.
    TakeOffline(TakeOffline),
    /// Vacate the instance lease of a dead node, so that the work it held is free.
    Bury {
        /// Which lease.
        lease: LeaseName,
        /// The epoch it had in the snapshot.
        seen_epoch: Epoch,
        /// Why.
        reason: String,
    },
    /// A move cannot be done: the request is dropped, so that it does not happen by surprise later.
    RefuseMove {
        /// Which group.
        group: GroupName,
        /// When it was asked for.
        asked_at: Timestamp,
        /// Why not.
        reason: String,
    },
}

/// A lease of ours whose hosts are to be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOffline {
    /// Which lease.
    pub lease: LeaseName,
    /// The epoch under which we have it.
    pub epoch: Epoch,
    /// With which cause it is let go then.
    pub cause: Cause,
    /// For whom.
    pub offered_to: Option<NodeName>,
    /// When the move was asked for, if it is one.
    pub asked_at: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

/// What `me` should do about leases now.
pub fn plan(snapshot: &Snapshot, me: &NodeName) -> Plan {
    let mut planner = Planner { snapshot, me, plan: Plan::default() };
    if !snapshot.is_alive(me) {
        return planner.plan;
    }
    for group in &snapshot.definitions.groups {
        planner.group(group);
    }
    for host in snapshot.definitions.hosts.iter().filter(|host| host.group.is_none()) {
        if host.runs_on(me) {
            planner.own_instance(&host.name);
        }
    }
    for view in &snapshot.leases {
        planner.lease(view);
    }
    planner.plan
}

/// Whether the definitions let a node have this lease.
pub fn is_wanted(snapshot: &Snapshot, lease: &LeaseName, node: &NodeName) -> bool {
    match lease {
        LeaseName::Node(name) => name == node,
        LeaseName::Group(name) => snapshot
            .definitions
            .group(name)
            .is_some_and(|group| placement::may_own(snapshot, group, node)),
        LeaseName::Instance(host, on) => snapshot
            .definitions
            .host(host)
            .is_some_and(|host| on == node && host.group.is_none() && host.runs_on(node)),
    }
}

/// How long the candidate of this rank leaves those before it alone.
pub fn grace(rank: usize) -> Millis {
    Millis(RANK_GRACE.0.saturating_mul(rank as u64))
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    me: &'a NodeName,
    plan: Plan,
}

/// A lease that somebody should take.
struct Opening<'a> {
    lease: LeaseName,
    seen_epoch: Epoch,
    cause: Cause,
    because: String,
    candidates: Vec<&'a NodeName>,
    /// Since when it is free for certain; none when the store does not tell.
    since: Option<Timestamp>,
}

impl<'a> Planner<'a> {
    fn group(&mut self, group: &Group) {
        let lease = LeaseName::Group(group.name.clone());
        match Standing::of(self.snapshot, &lease) {
            Standing::Never => self.contend(Opening {
                lease,
                seen_epoch: Epoch(0),
                cause: Cause::Start,
                because: "nobody ever had it".to_owned(),
                candidates: placement::candidates(self.snapshot, group, None),
                since: None,
            }),
            Standing::Vacant(view) => self.vacant(group, view),
            Standing::Held(view, holder) if holder == self.me => self.mine(group, view),
            // What became of our own lease is the agent's matter: it knows what runs under it.
            Standing::Orphaned(_, holder, _) if holder == self.me => {}
            Standing::Held(..) => {}
            Standing::Orphaned(view, holder, because) => {
                let mut candidates = placement::candidates(self.snapshot, group, Some(holder));
                candidates.retain(|node| *node != holder);
                self.contend(Opening {
                    lease,
                    seen_epoch: view.epoch,
                    cause: Cause::NodeLost,
                    because,
                    candidates,
                    since: Some(view.expires_at),
                });
            }
        }
    }

    /// A group that its last owner let go: first whom it was offered to, then those after the last
    /// owner. Let go for nobody, it starts at the top of its list.
    fn vacant(&mut self, group: &Group, view: &'a LeaseView) {
        let handed_over = view.offered_to.is_some() || view.cause == Cause::Failover;
        let before = self.snapshot.owner_before(&view.lease).filter(|_| handed_over);
        let mut candidates = placement::candidates(self.snapshot, group, before);
        if let Some(offered_to) = &view.offered_to
            && let Some(place) = candidates.iter().position(|node| *node == offered_to)
        {
            candidates[..=place].rotate_right(1);
        }
        let because = match before {
            Some(before) => format!("{before} let it go: {}", view.reason),
            None => format!("it is vacant: {}", view.reason),
        };
        self.contend(Opening {
            lease: view.lease.clone(),
            seen_epoch: view.epoch,
            cause: if handed_over { view.cause } else { Cause::Start },
            because,
            candidates,
            since: Some(view.changed_at),
        });
    }

    fn contend(&mut self, opening: Opening<'_>) {
        let Some(rank) = opening.candidates.iter().position(|node| *node == self.me) else {
            return;
        };
        let row = names(&opening.candidates);
        let reason = if rank == 0 {
            format!("{}; {} is first of {row}", opening.because, self.me)
        } else {
            let Some(since) = opening.since else { return };
            let mine_at = since.after(grace(rank));
            if mine_at > self.snapshot.now {
                self.wake(mine_at);
                return;
            }
            let before = names(&opening.candidates[..rank]);
            format!("{}; {before} did not take it in time, {} is next", opening.because, self.me)
        };
        let Opening { lease, seen_epoch, cause, .. } = opening;
        let request = AcquireRequest { lease, seen_epoch, cause, reason };
        self.plan.steps.push(Step::Acquire { request, rank });
    }

    /// A group of ours: it stays, unless an operator asked for a move.
    fn mine(&mut self, group: &Group, view: &LeaseView) {
        if !placement::may_own(self.snapshot, group, self.me) {
            return; // `unwanted` lets it go.
        }
        let mut moves = self.snapshot.moves.iter();
        let Some(request) = moves.find(|request| request.group == group.name) else {
            return;
        };
        match self.destination(group, request) {
            Ok(to) => self.plan.steps.push(Step::TakeOffline(TakeOffline {
                lease: view.lease.clone(),
                epoch: view.epoch,
                cause: Cause::Move,
                reason: format!("{} asked to move it from {} to {to}", request.by, self.me),
                offered_to: Some(to),
                asked_at: Some(request.at),
            })),
            Err(why) => self.plan.steps.push(Step::RefuseMove {
                group: group.name.clone(),
                asked_at: request.at,
                reason: format!(
                    "{} asked to move it to {}, but {why}; it stays on {}",
                    request.by,
                    request.to.as_ref().map_or("another node", NodeName::as_str),
                    self.me
                ),
            }),
        }
    }

    fn destination(&self, group: &Group, request: &MoveRequest) -> Result<NodeName, String> {
        if self.snapshot.now.since(request.at) > MOVE_WANTED {
            return Err(format!("it could not be done within {MOVE_WANTED}"));
        }
        let Some(to) = &request.to else {
            let others = placement::candidates(self.snapshot, group, None);
            let best = others.into_iter().find(|node| *node != self.me);
            return best.cloned().ok_or("no other possible owner is present".to_owned());
        };
        if to == self.me {
            return Err("it is there already".to_owned());
        }
        if !placement::may_own(self.snapshot, group, to) {
            return Err(format!("{to} is not a possible owner"));
        }
        if !self.snapshot.is_alive(to) {
            let what = match self.snapshot.node(to).map(|node| node.presence) {
                None => "never joined the cluster",
                Some(Presence::Present) => "does not answer: its lease expired",
                Some(Presence::ConnectionGone) => "lost its connection to the store",
                Some(Presence::ConfirmedDead) => "is dead",
                Some(Presence::Left) => "is stopped",
            };
            return Err(format!("{to} {what}"));
        }
        Ok(to.clone())
    }

    fn own_instance(&mut self, host: &HostName) {
        let lease = LeaseName::Instance(host.clone(), self.me.clone());
        let seen_epoch = match Standing::of(self.snapshot, &lease) {
            Standing::Never => Epoch(0),
            Standing::Vacant(view) => view.epoch,
            Standing::Held(..) | Standing::Orphaned(..) => return,
        };
        let cause = Cause::Start;
        let reason = format!("host {host} is not clustered and has an instance on {}", self.me);
        let request = AcquireRequest { lease, seen_epoch, cause, reason };
        self.plan.steps.push(Step::Acquire { request, rank: 0 });
    }

    fn lease(&mut self, view: &LeaseView) {
        let Some(holder) = &view.holder else { return };
        if holder == self.me {
            self.unwanted(view);
            return;
        }
        if view.expires_at > self.snapshot.now {
            self.wake(view.expires_at.after(Millis(1)));
        }
        self.bury(view, holder);
    }

    /// A lease of ours that the definitions no longer let us have.
    fn unwanted(&mut self, view: &LeaseView) {
        if is_wanted(self.snapshot, &view.lease, self.me) {
            return;
        }
        let (cause, offered_to, reason) = match &view.lease {
            LeaseName::Node(_) => return,
            LeaseName::Instance(host, _) => {
                (Cause::Drain, None, format!("host {host} has no instance here any more"))
            }
            LeaseName::Group(name) => match self.snapshot.definitions.group(name) {
                None => (Cause::Drain, None, "its definition is gone".to_owned()),
                Some(group) => (
                    Cause::Move,
                    placement::next_after(self.snapshot, group, self.me).cloned(),
                    format!("{} is no longer a possible owner", self.me),
                ),
            },
        };
        self.plan.steps.push(Step::TakeOffline(TakeOffline {
            lease: view.lease.clone(),
            epoch: view.epoch,
            cause,
            offered_to,
            asked_at: None,
            reason,
        }));
    }

    /// The instance lease of a dead node goes to nobody, and so does that of a group that is no
    /// longer defined; the first node by name vacates it, and if it does not, the next one.
    fn bury(&mut self, view: &LeaseView, holder: &NodeName) {
        let for_nobody = match &view.lease {
            LeaseName::Instance(..) => true,
            LeaseName::Group(name) => self.snapshot.definitions.group(name).is_none(),
            LeaseName::Node(_) => false,
        };
        if !for_nobody || self.snapshot.is_alive(holder) {
            return;
        }
        let mut alive =
            self.snapshot.nodes.iter().filter(|node| self.snapshot.is_alive(&node.name));
        let Some(rank) = alive.position(|node| node.name == *self.me) else { return };
        let mine_at = view.expires_at.after(grace(rank));
        if rank > 0 && mine_at > self.snapshot.now {
            self.wake(mine_at);
            return;
        }
        if let Standing::Orphaned(_, _, because) = Standing::of(self.snapshot, &view.lease) {
            self.plan.steps.push(Step::Bury {
                lease: view.lease.clone(),
                seen_epoch: view.epoch,
                reason: format!("{because}; what it had begun is free for others"),
            });
        }
    }

    fn wake(&mut self, at: Timestamp) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}
