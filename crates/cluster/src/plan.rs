//! What a node should do about leases now, from one snapshot and nothing else.
//!
//! Every node computes the same placement, so one of them finds that it is the one to act; when
//! two act all the same, the store's compare-and-set on the epoch they saw lets one of them win.

use model::definition::Group;
use model::{
    Cause, Epoch, GroupName, HostName, LeaseName, Millis, NodeName, ResourceState, Timestamp,
};
mod failback;

use std::cmp::Reverse;

use crate::placement::{self, Coming, From, Standing, names};
use crate::survey::Survey;
use crate::{AcquireRequest, Duty, LeaseView, MoveRequest, Snapshot};

/// How long each candidate in the row is left alone with a group before the next one tries too.
///
/// The first one may itself be frozen or dead without the store knowing yet; waiting for its lease
/// to expire would cost a whole ttl on top of the one that the owner's death has cost.
pub const RANK_GRACE: Millis = Millis::seconds(1);

/// How long a move that cannot be done at once stays wanted. A person asked for it and looks on;
/// later than this it would come as a surprise.
pub const MOVE_WANTED: Millis = Millis::minutes(1);

/// How long a node must have been up before groups fail back to it: its standbys come up first, and
/// one that dies at once gets nothing.
pub const FAILBACK_SETTLE: Millis = Millis::seconds(5);

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
    let mut planner = Planner {
        snapshot,
        survey: Survey::of(snapshot),
        me,
        plan: Plan::default(),
        coming: Coming::new(),
        drains: None,
    };
    if !snapshot.is_alive(me) {
        return planner.plan;
    }
    let mut groups: Vec<&Group> = snapshot.definitions.groups.iter().collect();
    groups.sort_by_key(|group| Reverse(group.priority));
    for group in groups {
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
    survey: Survey<'a>,
    me: &'a NodeName,
    plan: Plan,
    /// Which groups are on their way to each node by this plan, so that they are shared out and
    /// avoid one another.
    coming: Coming,
    /// The priority of the groups that leave this node now; those below it leave after them.
    drains: Option<model::definition::Priority>,
}

/// A lease that somebody should take.
struct Opening<'a> {
    lease: LeaseName,
    seen_epoch: Epoch,
    cause: Cause,
    because: String,
    candidates: Vec<&'a NodeName>,
    /// Since when it is free for certain; none when the store does not tell, and the agent counts
    /// from when it saw it first.
    since: Option<Timestamp>,
}

impl<'a> Planner<'a> {
    fn group(&mut self, group: &'a Group) {
        let lease = LeaseName::Group(group.name.clone());
        let standing = self.survey.standing(&lease);
        if !placement::is_wanted_online(self.snapshot, group) {
            if let Standing::Held(view, holder) = standing
                && holder == self.me
            {
                self.take_down(group, view);
            }
            return; // What a lost owner left is buried by `lease`.
        }
        match standing {
            Standing::Never => {
                let candidates = self.starters(group);
                self.contend(Opening {
                    lease,
                    seen_epoch: Epoch(0),
                    cause: Cause::Start,
                    because: "nobody ever had it".to_owned(),
                    candidates,
                    since: None,
                });
            }
            Standing::Vacant(view) => self.vacant(group, view),
            Standing::Held(view, holder) if holder == self.me => self.mine(group, view),
            // What became of our own lease is the agent's matter: it knows what runs under it.
            Standing::Orphaned(_, holder, _) if holder == self.me => {}
            Standing::Held(..) => {}
            Standing::Orphaned(view, holder, because) => {
                let from = From::Shared(holder);
                let mut candidates = self.survey.candidates(group, from, &self.coming);
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

    /// An operator wants it offline.
    fn take_down(&mut self, group: &Group, view: &LeaseView) {
        let order = self.snapshot.group_order(&group.name);
        let by = order.map_or("its priority", |order| order.by.as_str());
        self.plan.steps.push(Step::TakeOffline(TakeOffline {
            lease: view.lease.clone(),
            epoch: view.epoch,
            cause: Cause::Stop,
            offered_to: None,
            asked_at: None,
            reason: format!("{by} wants it offline"),
        }));
    }

    /// Who may start a group that nobody hands over: its default owner first; nobody while it
    /// waits for other groups.
    fn starters(&mut self, group: &Group) -> Vec<&'a NodeName> {
        if let Some(at) = self.waits_for_groups(group) {
            if let Some(at) = at {
                self.wake(at);
            }
            return Vec::new();
        }
        let mut candidates = self.survey.candidates(group, From::Start, &self.coming);
        if let Some(first) = &group.default_owner
            && let Some(place) = candidates.iter().position(|node| *node == first)
        {
            candidates[..=place].rotate_right(1);
        }
        candidates
    }

    /// Whether a group must not start yet, because one that it comes after is not online or not
    /// for long enough; then with the moment at which it will be, if that is known.
    fn waits_for_groups(&self, group: &Group) -> Option<Option<Timestamp>> {
        let mut latest = None;
        for name in &group.after {
            let Some(before) = self.snapshot.definitions.group(name) else { continue };
            let Some(since) = placement::online_since(self.snapshot, before) else {
                return Some(None);
            };
            let at = since.after(group.start_delay);
            if at > self.snapshot.now {
                latest = latest.max(Some(at));
            }
        }
        latest.map(Some)
    }

    /// A group that its last owner let go: first whom it was offered to, then those after the last
    /// owner. Let go for nobody, it starts at the top of its list.
    fn vacant(&mut self, group: &Group, view: &'a LeaseView) {
        let failed = matches!(view.cause, Cause::Failover | Cause::Banned);
        let handed_over = view.offered_to.is_some() || failed;
        let before = self.snapshot.owner_before(&view.lease).filter(|_| handed_over);
        let mut candidates = match before {
            Some(before) if failed => {
                self.survey.candidates(group, From::After(before), &self.coming)
            }
            Some(before) => self.survey.candidates(group, From::Shared(before), &self.coming),
            None => self.starters(group),
        };
        if let Some(offered_to) = &view.offered_to
            && let Some(place) = candidates.iter().position(|node| *node == offered_to)
        {
            candidates[..=place].rotate_right(1);
        }
        let order = self.snapshot.group_order(&group.name);
        let because = match (before, order) {
            (Some(before), _) => format!("{before} let it go: {}", view.reason),
            (None, Some(order)) if view.cause == Cause::Stop => {
                format!("{} wants it online", order.by)
            }
            (None, _) => format!("it is vacant: {}", view.reason),
        };
        self.contend(Opening {
            lease: view.lease.clone(),
            seen_epoch: view.epoch,
            cause: if handed_over { view.cause } else { Cause::Start },
            because,
            candidates,
            since: Some(self.free_since(group, view)),
        });
    }

    /// Since when somebody should take a vacant group: it may have waited for an operator, or for
    /// other groups.
    fn free_since(&self, group: &Group, view: &LeaseView) -> Timestamp {
        let asked = self.snapshot.group_order(&group.name).map(|order| order.at);
        let before = group.after.iter().filter_map(|name| self.snapshot.definitions.group(name));
        let before = before
            .filter_map(|before| placement::online_since(self.snapshot, before))
            .map(|since| since.after(group.start_delay));
        before.chain(asked).fold(view.changed_at, Timestamp::max)
    }

    fn contend(&mut self, opening: Opening<'_>) {
        if let (Some(first), LeaseName::Group(group)) = (opening.candidates.first(), &opening.lease)
        {
            self.coming.entry((*first).clone()).or_default().push(group.clone());
        }
        let Some(rank) = opening.candidates.iter().position(|node| *node == self.me) else {
            return;
        };
        let reason = if rank == 0 {
            let row = names(&opening.candidates);
            format!("{}; {} is first of {row}", opening.because, self.me)
        } else {
            let mine_at = opening.since.map(|since| since.after(grace(rank)));
            if let Some(mine_at) = mine_at.filter(|at| *at > self.snapshot.now) {
                self.wake(mine_at);
                return;
            }
            let before = names(&opening.candidates[..rank]);
            format!("{}; {before} did not take it in time, {} is next", opening.because, self.me)
        };
        let Opening { lease, seen_epoch, cause, .. } = opening;
        let external = self.survey.is_external(&lease);
        let request = AcquireRequest { lease, seen_epoch, cause, reason, resource: None, external };
        self.plan.steps.push(Step::Acquire { request, rank });
    }

    /// A group of ours: it stays, unless an operator asked for a move, the node is drained, or it
    /// goes back to a better one.
    fn mine(&mut self, group: &Group, view: &LeaseView) {
        if !placement::may_own(self.snapshot, group, self.me) {
            return; // `unwanted` lets it go.
        }
        let snapshot = self.snapshot;
        if let Some(request) = snapshot.moves.iter().find(|wish| wish.group == group.name)
            && self.asked_to_move(group, view, request)
        {
            return;
        }
        let duty = snapshot.node_order(self.me).map_or(Duty::Active, |order| order.duty);
        let leaves = match duty {
            Duty::Draining => self.drained(group, view),
            Duty::Active | Duty::Paused => self.goes_back(group, view),
        };
        if let Some((to, cause, reason)) = leaves {
            self.plan.steps.push(Step::TakeOffline(TakeOffline {
                lease: view.lease.clone(),
                epoch: view.epoch,
                cause,
                offered_to: Some(to),
                asked_at: None,
                reason,
            }));
        }
    }

    /// Where a group goes because this node is drained: the most important first, and the next
    /// ones when those are gone. One that can go nowhere holds nobody up.
    fn drained(&mut self, group: &Group, view: &LeaseView) -> Option<(NodeName, Cause, String)> {
        if self.drains.is_some_and(|priority| group.priority < priority) {
            return None;
        }
        let from = From::Shared(self.me);
        let candidates = self.survey.candidates(group, from, &self.coming);
        let to = candidates.into_iter().find(|node| *node != self.me)?.clone();
        let stuck = self.snapshot.definitions.members_of(&group.name).any(|member| {
            let report = self.snapshot.report(&member.name, view.epoch);
            report.is_some_and(|report| report.state == ResourceState::Failed)
        });
        if !stuck {
            self.drains = Some(group.priority);
        }
        self.coming.entry(to.clone()).or_default().push(group.name.clone());
        let by = self.snapshot.node_order(self.me).map_or("an operator", |order| &order.by);
        let reason = format!("{by} drains {}, it goes to {to}", self.me);
        Some((to, Cause::Drain, reason))
    }

    /// Follows a request, or refuses it; tells whether the group leaves.
    fn asked_to_move(&mut self, group: &Group, view: &LeaseView, request: &MoveRequest) -> bool {
        let to = self.destination(group, request);
        let leaves = to.is_ok();
        match to {
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
        leaves
    }

    fn destination(&self, group: &Group, request: &MoveRequest) -> Result<NodeName, String> {
        if self.snapshot.now.since(request.at) > MOVE_WANTED {
            return Err(format!("it could not be done within {MOVE_WANTED}"));
        }
        let Some(to) = &request.to else {
            let others = self.survey.candidates(group, From::Top, &Coming::new());
            let best = others.into_iter().find(|node| *node != self.me);
            return best.cloned().ok_or("no other possible owner is present".to_owned());
        };
        if to == self.me {
            return Err("it is there already".to_owned());
        }
        match self.survey.unfit(group, to) {
            Some(why) => Err(why),
            None => Ok(to.clone()),
        }
    }

    fn own_instance(&mut self, host: &HostName) {
        let lease = LeaseName::Instance(host.clone(), self.me.clone());
        let seen_epoch = match self.survey.standing(&lease) {
            Standing::Never => Epoch(0),
            Standing::Vacant(view) => view.epoch,
            Standing::Held(..) | Standing::Orphaned(..) => return,
        };
        let cause = Cause::Start;
        let reason = format!("host {host} is not clustered and has an instance on {}", self.me);
        let (resource, external) = (None, false);
        let request = AcquireRequest { lease, seen_epoch, cause, reason, resource, external };
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
                    placement::successor(self.snapshot, group, self.me).cloned(),
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
    /// longer defined or that is wanted offline; the first node by name vacates it, and if it does
    /// not, the next one.
    fn bury(&mut self, view: &LeaseView, holder: &NodeName) {
        let for_nobody = match &view.lease {
            LeaseName::Instance(..) => true,
            LeaseName::Group(name) => {
                let group = self.survey.group(name);
                group.is_none_or(|group| !placement::is_wanted_online(self.snapshot, group))
            }
            LeaseName::Node(_) => false,
        };
        if !for_nobody || self.survey.is_alive(holder) {
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
        if let Standing::Orphaned(_, _, because) = self.survey.standing(&view.lease) {
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
