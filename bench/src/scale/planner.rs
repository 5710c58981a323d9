//! How long the planner takes over a large cluster of which a third of the nodes has just died.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cluster::{LeaseView, NodeView, Presence, ResourceReport, Snapshot, Step, Tenure};
use model::{
    Cause, Epoch, Evidence, GroupName, LeaseName, Millis, NodeName, ResourceName, ResourceState,
    Timestamp,
};
use serde_json::{Value, json};

/// The cluster of the issue.
const NODES: usize = 64;
const GROUPS: usize = 500;
const RESOURCES_OF_A_GROUP: usize = 4;

/// Changes of owner of each group within the last day.
const TENURES: usize = 4;

/// Classes of groups that avoid each other's node: 20 groups in each.
const CLASSES: usize = 25;

/// Now.
const NOW: Timestamp = Timestamp(1_700_000_000_000);

const TTL: Millis = Millis::seconds(3);

/// Calls of which the first warms up and the others are counted.
const CALLS: u32 = 4;

/// Measures and prints one line.
pub fn measure() -> Result<()> {
    let snapshot = snapshot()?;
    let (mut times, mut acquires) = (Vec::new(), 0);
    for node in snapshot.nodes.iter().filter(|node| snapshot.is_alive(&node.name)) {
        let mut best = Vec::new();
        for _ in 0..CALLS {
            let begun = Instant::now();
            let plan = std::hint::black_box(cluster::plan(&snapshot, &node.name));
            best.push((begun.elapsed(), plan));
        }
        let (_, plan) = &best[0];
        acquires += plan.steps.iter().filter(|step| matches!(step, Step::Acquire { .. })).count();
        times.extend(best.iter().skip(1).map(|(took, _)| *took));
    }
    ensure!(acquires > 0, "nobody would take anything over: that is no plan");
    times.sort();
    let ms = |took: Option<&Duration>| took.map(|took| took.as_micros() as f64 / 1e3);
    println!(
        "{}",
        json!({
            "figure": "plan", "nodes": NODES, "dead": NODES.div_ceil(3), "groups": GROUPS,
            "resources": GROUPS * RESOURCES_OF_A_GROUP, "history": snapshot.history.len(),
            "plans": times.len(), "acquires": acquires,
            "median_ms": ms(times.get(times.len() / 2)), "max_ms": ms(times.last()),
            "max_ms_wanted": 20,
        })
    );
    Ok(())
}

fn snapshot() -> Result<Snapshot> {
    let mut snapshot = Snapshot {
        now: NOW,
        definitions_version: 1,
        definitions: Arc::new(serde_json::from_value(definitions())?),
        ..Snapshot::default()
    };
    for number in 0..NODES {
        // A third died at once: some are known to be dead, of others only the session is gone.
        let presence = match number % 6 {
            0 => Presence::ConfirmedDead,
            3 => Presence::ConnectionGone,
            _ => Presence::Present,
        };
        let name = node(number)?;
        snapshot.history.push(tenure(LeaseName::Node(name.clone()), name.clone(), 1));
        let expires_at = expiry(presence);
        snapshot.nodes.push(NodeView {
            name,
            epoch: Epoch(1),
            presence,
            expires_at,
            machine: String::new(),
            version: String::new(),
        });
    }
    for number in 0..GROUPS {
        let lease = LeaseName::Group(GroupName::new(group(number))?);
        let owner = node(number % NODES)?;
        let presence = snapshot.nodes[number % NODES].presence;
        for epoch in 1..=TENURES {
            let holder = node((number + TENURES - epoch) % NODES)?;
            snapshot.history.push(tenure(lease.clone(), holder, epoch));
        }
        for member in 0..RESOURCES_OF_A_GROUP {
            snapshot.reports.push(ResourceReport {
                resource: ResourceName::new(resource(number, member))?,
                node: owner.clone(),
                epoch: Epoch(TENURES as u64),
                state: ResourceState::Online,
                detail: None,
                since: Timestamp(NOW.0 - 3_600_000),
            });
        }
        snapshot.leases.push(LeaseView {
            lease,
            holder: Some(owner),
            epoch: Epoch(TENURES as u64),
            expires_at: expiry(presence),
            changed_at: Timestamp(NOW.0 - 3_600_000),
            cause: Cause::Move,
            reason: "an operator moved it".into(),
            offered_to: None,
        });
    }
    snapshot.history.sort_by_key(|tenure| tenure.at);
    Ok(snapshot)
}

fn expiry(presence: Presence) -> Timestamp {
    if presence == Presence::Present { NOW.after(TTL) } else { Timestamp(NOW.0 - 1) }
}

/// An hour between two tenures.
fn tenure(lease: LeaseName, holder: NodeName, epoch: usize) -> Tenure {
    let hours_ago = (TENURES - epoch + 1) as i64;
    Tenure {
        lease,
        epoch: Epoch(epoch as u64),
        holder: Some(holder),
        before: None,
        evidence: Evidence::Vacated,
        cause: Cause::Move,
        resource: None,
        reason: "an operator moved it".into(),
        at: Timestamp(NOW.0 - hours_ago * 3_600_000),
    }
}

/// Every other group has an order of nodes, each has a class, and every other one comes after
/// another group; their members need each other.
fn definitions() -> Value {
    let groups = (0..GROUPS).map(|number| {
        // Half of them have none, so that the survivors share these out by their load.
        let count = if number % 2 == 0 { 4 } else { 0 };
        let preferred: Vec<String> =
            (0..count).map(|step| node_name((number + step * 7) % NODES)).collect();
        let after = if number % 2 == 1 { vec![group(number - 1)] } else { Vec::new() };
        json!({
            "name": group(number), "preferred_owners": preferred, "after": after,
            "anti_affinity": [format!("class-{:02}", number % CLASSES)],
            "anti_affinity_enforced": number % 3 == 0,
        })
    });
    let resources = (0..GROUPS * RESOURCES_OF_A_GROUP).map(|place| {
        let (of, member) = (place / RESOURCES_OF_A_GROUP, place % RESOURCES_OF_A_GROUP);
        let other = |member| resource(of, member);
        let depends_on = match member {
            0 => String::new(),
            3 => format!("{} and ({} or {})", other(0), other(1), other(2)),
            _ => other(0),
        };
        let kind = json!({ "process": { "command": ["/bin/true"] } });
        let mut resource = json!({ "name": other(member), "group": group(of), "kind": kind });
        if !depends_on.is_empty() {
            resource["depends_on"] = depends_on.into();
        }
        resource
    });
    json!({ "groups": groups.collect::<Vec<_>>(), "resources": resources.collect::<Vec<_>>() })
}

fn node(number: usize) -> Result<NodeName> {
    Ok(NodeName::new(node_name(number))?)
}

fn node_name(number: usize) -> String {
    format!("node-{number:02}")
}

fn group(number: usize) -> String {
    format!("group-{number:03}")
}

fn resource(group: usize, member: usize) -> String {
    format!("resource-{group:03}-{member}")
}
