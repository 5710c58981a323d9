//! What one node says for all: that a peer is lost, that a group has nobody to go to.
//!
//! Every node sees the same conditions in its snapshots and takes note of them; the one that is
//! up for the longest says it when one begins, so that an operator reads it once.

use std::collections::BTreeMap;

use model::{EventId, LeaseName};

use super::Agent;
use super::life::subject;
use crate::placement::{self, Coming, From, Standing};
use crate::survey::Survey;
use crate::{Duty, Presence, Snapshot, quarantine};

/// A condition that lasts: an event and its subject, with the sentence.
pub(super) type Conditions = BTreeMap<(EventId, String), String>;

impl Agent {
    /// Says what has begun since the snapshot before.
    pub(super) fn notice(&mut self) {
        let Some(seen) = &self.seen else { return };
        let snapshot = &seen.snapshot;
        let mut lasting = of_cluster(snapshot);
        let alive = snapshot.nodes.iter().map(|node| &node.name);
        let oldest = alive
            .filter(|node| snapshot.is_alive(node))
            .min_by_key(|node| (snapshot.joined_at(node), *node));
        let speaks = oldest == Some(&self.me);
        let own = of_node(snapshot, &self.me);
        // What a node finds when it comes has been said by others.
        let first = self.noticed.is_none();
        let known = self.noticed.take().unwrap_or_default();
        let news: Vec<_> = lasting
            .iter()
            .filter(|_| speaks)
            .chain(&own)
            .filter(|(condition, _)| !first && !known.contains_key(*condition))
            .map(|(condition, sentence)| (condition.clone(), sentence.clone()))
            .collect();
        lasting.extend(own);
        self.noticed = Some(lasting);
        for ((event, subject), sentence) in news {
            self.said.remove(&subject); // It may be the same sentence as the last time.
            self.say_event(subject, sentence, event);
        }
    }
}

/// What lasts in the cluster, whoever sees it.
fn of_cluster(snapshot: &Snapshot) -> Conditions {
    let mut lasting = Conditions::new();
    for node in &snapshot.nodes {
        let name = &node.name;
        let lease = subject(&LeaseName::Node(name.clone()));
        if node.presence != Presence::Left
            && let Some(why) = placement::absent(snapshot, name)
        {
            lasting.insert((EventId::NODE_LOST, lease.clone()), why);
        }
        if let Some(until) = quarantine::until(snapshot, name) {
            let sentence = format!(
                "{name} died {} times within {}, so it is in quarantine until {until}",
                quarantine::THRESHOLD,
                quarantine::WITHIN
            );
            lasting.insert((EventId::NODE_QUARANTINED, lease), sentence);
        }
    }
    let survey = Survey::of(snapshot);
    for group in &snapshot.definitions.groups {
        let lease = LeaseName::Group(group.name.clone());
        let is_owned = matches!(survey.standing(&lease), Standing::Held(..));
        if is_owned || !placement::is_wanted_online(snapshot, group) {
            continue;
        }
        if !survey.candidates(group, From::Top, &Coming::new()).is_empty() {
            continue;
        }
        let nodes = snapshot.nodes.iter().map(|node| &node.name);
        let why: Vec<String> = nodes.filter_map(|node| survey.unfit(group, node)).collect();
        let crowded = group.anti_affinity_enforced
            && snapshot.nodes.iter().any(|node| {
                snapshot.is_alive(&node.name) && survey.neighbour(group, &node.name, None).is_some()
            });
        let event = if crowded { EventId::GROUP_ANTI_AFFINITY } else { EventId::GROUP_NO_OWNER };
        let sentence = format!("no node may have it: {}", why.join("; "));
        lasting.insert((event, subject(&lease)), sentence);
    }
    lasting
}

/// What lasts on this node: how its drain stands.
fn of_node(snapshot: &Snapshot, me: &model::NodeName) -> Conditions {
    let mut lasting = Conditions::new();
    let draining = snapshot.node_order(me).filter(|order| order.duty == Duty::Draining);
    let Some(order) = draining else { return lasting };
    let lease = subject(&LeaseName::Node(me.clone()));
    let owned: Vec<_> = snapshot.owned_by(me).collect();
    if owned.is_empty() {
        let sentence = format!("{me} owns nothing any more, as {} asked at {}", order.by, order.at);
        lasting.insert((EventId::NODE_DRAINED, lease), sentence);
        return lasting;
    }
    for name in owned {
        let group = snapshot.definitions.group(name);
        if group.is_some_and(|group| placement::successor(snapshot, group, me).is_none()) {
            let sentence = format!("group {name} cannot leave {me}: no other node may have it");
            let subject = format!("{lease}, group {name}");
            lasting.insert((EventId::NODE_DRAIN_FAILED, subject), sentence);
        }
    }
    lasting
}
