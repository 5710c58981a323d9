//! Tests of the cluster as the store has it: definitions, groups, nodes.

use std::collections::{BTreeMap, BTreeSet};

use cluster::restart::{self, Budget};
use cluster::{Duty, placement, quarantine};
use model::definition::Group;
use model::{GroupState, LeaseName, Millis, NodeName, ResourceState};

use super::judge::Judgement;
use super::record::Record;
use super::scene::Scene;
use crate::cli::session::names;
use crate::render::length;
use crate::yaml::rules;

/// A pause or drain that lasts longer was probably forgotten: maintenance is done within a day.
const AWAY_MAX: Millis = Millis::hours(24);

/// A validation older than this says little: a day, so that a daily run suffices.
const VALIDATED_MAX: Millis = Millis::hours(24);

/// The definitions keep every rule: they did when they were applied, but maybe by an older version.
pub fn definitions(scene: &Scene) -> Vec<Judgement> {
    let snapshot = &scene.snapshot;
    if snapshot.definitions_version == 0 {
        return Vec::new();
    }
    let version = snapshot.definitions_version;
    let problems = rules::findings(&snapshot.definitions);
    if problems.is_empty() {
        return vec![Judgement::passed(
            "definitions",
            format!("version {version} keeps all rules"),
        )];
    }
    let judge = |finding: rules::Finding| {
        let problem = finding.problem;
        Judgement::failed(format!("definitions, {}", problem.path), problem.what, problem.help)
    };
    problems.into_iter().map(judge).collect()
}

/// The possible owners of each group.
pub fn owners(scene: &Scene) -> Vec<Judgement> {
    scene.snapshot.definitions.groups.iter().flat_map(|group| owners_of(scene, group)).collect()
}

fn owners_of(scene: &Scene, group: &Group) -> Vec<Judgement> {
    let snapshot = &scene.snapshot;
    let subject = format!("group {}", group.name);
    let mut judged = Vec::new();
    for name in &group.possible_owners {
        if snapshot.node(name).is_none() {
            judged.push(Judgement::warning(
                &subject,
                format!("its possible owner {name} never joined the cluster"),
                format!("start `baton node` on {name}, or take it out of possible_owners"),
            ));
        }
    }
    let allowed: Vec<&NodeName> =
        snapshot.nodes.iter().map(|node| &node.name).filter(|node| group.may_own(node)).collect();
    for node in &allowed {
        if let Some(member) =
            snapshot.definitions.members_of(&group.name).find(|member| !member.runs_on(node))
        {
            let (kind, name) = (member.kind_word(), &member.name);
            judged.push(Judgement::failed(
                &subject,
                format!("its possible owner {node} cannot run {kind} {name}"),
                format!("add {node} to the nodes of {kind} {name}, or take it out of the group's"),
            ));
        }
    }
    let fit: Vec<&NodeName> = allowed
        .iter()
        .copied()
        .filter(|node| placement::unfit(snapshot, group, node).is_none())
        .collect();
    let unfit = allowed.iter().filter_map(|node| placement::unfit(snapshot, group, node));
    let why = unfit.collect::<Vec<_>>().join("; ");
    judged.push(match fit.len() {
        0 => Judgement::failed(
            subject,
            format!(
                "no node may have it now: {}",
                if why.is_empty() { "none joined" } else { &why }
            ),
            "bring one of its possible owners up",
        ),
        1 if !group.single_node => Judgement::warning(
            subject,
            match why.is_empty() {
                true => format!("only {} may have it now, so it cannot fail over", fit[0]),
                false => format!("only {} may have it now, so it cannot fail over: {why}", fit[0]),
            },
            "bring another possible owner up, or write `single_node: true` if one is meant",
        ),
        _ => Judgement::passed(subject, format!("it may be on {}", names(fit.into_iter()))),
    });
    judged
}

/// Groups that are wanted online are.
pub fn online(scene: &Scene) -> Vec<Judgement> {
    let snapshot = &scene.snapshot;
    let judge = |group: &Group| {
        let subject = format!("group {}", group.name);
        let remedy = format!("`baton why {}` says what happened and what follows", group.name);
        if !placement::is_wanted_online(snapshot, group) {
            return Judgement::not_applicable(subject, "it is not wanted online");
        }
        let lease = LeaseName::Group(group.name.clone());
        let Some((owner, view)) = scene.owner(&group.name).zip(snapshot.lease(&lease)) else {
            return Judgement::failed(subject, "nobody has it", remedy);
        };
        let members = snapshot.definitions.members_of(&group.name);
        let states: Vec<(String, ResourceState)> = members
            .filter_map(|member| {
                let report = snapshot.report(&member.name, view.epoch)?;
                Some((format!("{} {}", member.kind_word(), member.name), report.state))
            })
            .collect();
        let not =
            |wanted: ResourceState| move |(_, state): &&(String, ResourceState)| *state != wanted;
        let others: Vec<String> = states
            .iter()
            .filter(not(ResourceState::Online))
            .map(|(name, state)| format!("{name} is {state}"))
            .collect();
        let others = others.join(", ");
        match GroupState::of(states.iter().map(|(_, state)| *state)) {
            _ if states.is_empty() => {
                Judgement::passed(subject, format!("it is on {owner}, which has not reported yet"))
            }
            GroupState::Online => Judgement::passed(subject, format!("it is online on {owner}")),
            GroupState::Failed => {
                Judgement::failed(subject, format!("on {owner} {others}"), remedy)
            }
            GroupState::Offline | GroupState::PartialOnline | GroupState::Pending => {
                Judgement::warning(subject, format!("on {owner} {others}"), remedy)
            }
        }
    };
    snapshot.definitions.groups.iter().map(judge).collect()
}

/// What is left before a policy gives up.
pub fn budgets(scene: &Scene) -> Vec<Judgement> {
    scene.snapshot.definitions.groups.iter().flat_map(|group| budgets_of(scene, group)).collect()
}

fn budgets_of(scene: &Scene, group: &Group) -> Vec<Judgement> {
    let snapshot = &scene.snapshot;
    let subject = format!("group {}", group.name);
    let failovers = restart::failovers(snapshot, snapshot.now, group);
    let mut judged = vec![budget(&subject, failovers, "failovers", &group.name)];
    let Some(owner) = scene.owner(&group.name) else { return judged };
    for member in snapshot.definitions.members_of(&group.name) {
        let restarts = restart::restarts(snapshot, snapshot.now, group, &member, owner);
        if restarts.used > 0 {
            let what = format!("restarts of {} {} on {owner}", member.kind_word(), member.name);
            judged.push(budget(&subject, restarts, &what, &group.name));
        }
    }
    judged
}

fn budget(subject: &str, budget: Budget, nouns: &str, group: &model::GroupName) -> Judgement {
    let Budget { used, max, period, resets_at } = budget;
    let until = resets_at.map_or(String::new(), |at| format!("; one more is left at {at}"));
    let what = format!("{used} of {max} {nouns} within {period} are used{until}");
    let remedy = format!("mend what fails, then `baton group start {group}` forgets what was used");
    if used > 0 && used * 2 >= max {
        Judgement::warning(subject, what, remedy)
    } else {
        Judgement::passed(subject, what)
    }
}

/// Nodes that are gone without having left.
pub fn up(scene: &Scene) -> Vec<Judgement> {
    let snapshot = &scene.snapshot;
    let judge = |node: &cluster::NodeView| {
        let subject = format!("node {}", node.name);
        match placement::absent(snapshot, &node.name) {
            None => Judgement::passed(subject, "it is up"),
            Some(why) if node.presence == cluster::Presence::Left => {
                Judgement::not_applicable(subject, why)
            }
            Some(why) => Judgement::failed(
                subject,
                why,
                format!("start it, or `baton node evict {}` if it will not come back", node.name),
            ),
        }
    };
    snapshot.nodes.iter().map(judge).collect()
}

/// Nodes that somebody may have forgotten.
pub fn duty(scene: &Scene) -> Vec<Judgement> {
    let snapshot = &scene.snapshot;
    let judge = |node: &cluster::NodeView| {
        let name = &node.name;
        let subject = format!("node {name}");
        if let Some(until) = quarantine::until(snapshot, name) {
            return Judgement::warning(
                subject,
                format!("it left unplanned too often and is in quarantine until {until}"),
                format!("find out why, then `baton node clear-quarantine {name}`"),
            );
        }
        let Some(order) = snapshot.node_order(name).filter(|order| order.duty != Duty::Active)
        else {
            return Judgement::passed(subject, "it may have groups");
        };
        let since = order.away_since.unwrap_or(order.at);
        let away = snapshot.now.since(since);
        let what = format!("it is {} since {since} by {}", order.duty.as_str(), order.by);
        if away > AWAY_MAX {
            let what = format!("{what}, {} ago", length(away));
            Judgement::warning(subject, what, format!("`baton node resume {name}`, if it is over"))
        } else {
            Judgement::not_applicable(subject, what)
        }
    };
    snapshot.nodes.iter().map(judge).collect()
}

/// The last record of each node that has one, with its age.
fn records(scene: &Scene) -> BTreeMap<&NodeName, (Record, Millis)> {
    let records = scene.validations.iter().filter_map(|event| {
        let record: Record = event.sentence.parse().ok()?;
        let node = event.node.as_ref().filter(|node| scene.snapshot.node(node).is_some())?;
        Some((node, (record, scene.snapshot.now.since(event.at))))
    });
    // Oldest first, so the newest stays.
    records.collect()
}

/// Whether the nodes have one version: those that are up, and this program.
pub fn versions(scene: &Scene) -> Vec<Judgement> {
    let mut known: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for node in scene.snapshot.nodes.iter().filter(|node| !node.version.is_empty()) {
        if scene.snapshot.is_alive(&node.name) {
            known.entry(&node.version).or_default().push(node.name.to_string());
        }
    }
    if !known.is_empty() {
        let here = known.entry(env!("CARGO_PKG_VERSION")).or_default();
        if here.is_empty() {
            here.push("this command".into());
        }
    }
    let told: Vec<String> = known
        .iter()
        .map(|(version, nodes)| format!("{version} on {}", names(nodes.iter())))
        .collect();
    match known.len() {
        0 => Vec::new(),
        1 => vec![Judgement::passed("cluster", told.join("; "))],
        _ => vec![Judgement::warning(
            "cluster",
            told.join("; "),
            "finish the upgrade: a release works beside the one before it, not beside older ones",
        )],
    }
}

/// Whether each node that may own something was validated lately.
pub fn validated(scene: &Scene) -> Vec<Judgement> {
    let snapshot = &scene.snapshot;
    let records = records(scene);
    let owners: BTreeSet<&NodeName> =
        snapshot.definitions.groups.iter().flat_map(|group| &group.possible_owners).collect();
    let all = snapshot.nodes.iter().map(|node| &node.name);
    let mut names: BTreeSet<&NodeName> = all.collect();
    names.extend(owners);
    let judge = |node: &NodeName| {
        let subject = format!("node {node}");
        let remedy = format!("run `baton validate` on {node}, once a day");
        if scene.node() == Some(node) {
            return Judgement::passed(subject, "this is its validation");
        }
        match records.get(node) {
            None => Judgement::warning(subject, "it was never validated from there", remedy),
            Some((record, age)) if *age > VALIDATED_MAX => Judgement::warning(
                subject,
                format!("it was last validated {} ago: {record}", length(*age)),
                remedy,
            ),
            Some((record, age)) if record.failed > 0 => Judgement::warning(
                subject,
                format!("{} ago: {record}", length(*age)),
                format!("run `baton validate` on {node} to see what failed and how to mend it"),
            ),
            Some((record, age)) => {
                Judgement::passed(subject, format!("{} ago: {record}", length(*age)))
            }
        }
    };
    names.into_iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use cluster::{GroupOrder, NodeOrder, Presence, ResumeFailback, Tenure};
    use model::{Cause, Epoch, EventId, Evidence, OperatorEvent, Timestamp};
    use serde_json::json;
    use store::FindingResult::{self, Failed, NotApplicable, Passed, Warning};

    use super::super::scene::fixture::{name, node, scene};
    use super::*;

    /// A scene with one group of one host; the faults come on top.
    async fn healthy(folder: &tempfile::TempDir) -> Scene {
        let definitions = json!({
            "groups": [{"name": "partners", "possible_owners": ["a", "b"]}],
            "hosts": [{"name": "receive", "group": "partners"}],
        });
        scene(folder.path(), definitions).await
    }

    /// Judges a scene that somebody spoiled.
    async fn judged(
        spoil: impl FnOnce(&mut Scene),
        test: fn(&Scene) -> Vec<Judgement>,
    ) -> Vec<(FindingResult, String)> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut scene = healthy(&folder).await;
        spoil(&mut scene);
        test(&scene).into_iter().map(|found| (found.result, found.what)).collect()
    }

    #[track_caller]
    fn says(judged: &[(FindingResult, String)], result: FindingResult, words: &str) {
        let said = |(of, what): &(FindingResult, String)| *of == result && what.contains(words);
        assert!(judged.iter().any(said), "no {result:?} with {words:?} in {judged:#?}");
    }

    fn ago(hours: i64) -> Timestamp {
        Timestamp(1_700_000_000_000 - hours * 3_600_000)
    }

    fn tenure(lease: &str, cause: Cause, holder: Option<&str>, at: Timestamp) -> Tenure {
        Tenure {
            lease: lease.parse().expect("a lease"),
            epoch: Epoch(1),
            holder: holder.map(name),
            before: None,
            evidence: Evidence::Vacated,
            cause,
            resource: None,
            reason: String::new(),
            at,
        }
    }

    #[tokio::test]
    async fn possible_owners_must_be_there_and_fit() {
        says(&judged(|_| {}, owners).await, Passed, "it may be on a, b");
        let b_gone = |scene: &mut Scene| scene.snapshot.nodes[1].presence = Presence::ConfirmedDead;
        says(&judged(b_gone, owners).await, Warning, "only a may have it now");
        let never = |scene: &mut Scene| drop(scene.snapshot.nodes.pop());
        says(&judged(never, owners).await, Warning, "possible owner b never joined");
        let nobody = |scene: &mut Scene| scene.snapshot.nodes.clear();
        says(&judged(nobody, owners).await, Failed, "no node may have it now");
        let no_instance = |scene: &mut Scene| {
            let mut definitions = (*scene.snapshot.definitions).clone();
            definitions.hosts[0].nodes = vec![name("a")];
            scene.snapshot.definitions = definitions.into();
        };
        says(&judged(no_instance, owners).await, Failed, "owner b cannot run host receive");
    }

    #[tokio::test]
    async fn definitions_are_checked_again() {
        says(&judged(|_| {}, definitions).await, Passed, "version 1 keeps all rules");
        let wrong = |scene: &mut Scene| {
            let mut definitions = (*scene.snapshot.definitions).clone();
            definitions.hosts[0].group = Some("other".parse().expect("a name"));
            scene.snapshot.definitions = definitions.into();
        };
        says(&judged(wrong, definitions).await, Failed, "there is no group other");
    }

    #[tokio::test]
    async fn groups_that_are_wanted_must_be_online() {
        says(&judged(|_| {}, online).await, Failed, "nobody has it");
        let stopped = |scene: &mut Scene| {
            scene.snapshot.group_orders.push(GroupOrder {
                group: "partners".parse().expect("a name"),
                online: false,
                unmonitored_until: None,
                by: "kim".into(),
                at: ago(1),
            });
        };
        says(&judged(stopped, online).await, NotApplicable, "not wanted online");
        let held = |state| {
            move |scene: &mut Scene| {
                scene.snapshot.leases.push(cluster::LeaseView {
                    lease: "group/partners".parse().expect("a lease"),
                    holder: Some(name("a")),
                    epoch: Epoch(3),
                    expires_at: Timestamp(1_700_000_001_000),
                    changed_at: ago(1),
                    cause: Cause::Start,
                    reason: String::new(),
                    offered_to: None,
                });
                scene.snapshot.reports.push(cluster::ResourceReport {
                    resource: "receive".parse().expect("a name"),
                    node: name("a"),
                    epoch: Epoch(3),
                    state,
                    detail: None,
                    since: ago(1),
                });
            }
        };
        let with = |state| judged(held(state), online);
        says(&with(ResourceState::Online).await, Passed, "online on a");
        says(&with(ResourceState::Failed).await, Failed, "host receive is failed");
        says(&with(ResourceState::OnlinePending).await, Warning, "is online_pending");
    }

    #[tokio::test]
    async fn budgets_warn_at_half() {
        says(&judged(|_| {}, budgets).await, Passed, "0 of 2 failovers within 6h");
        let used = |scene: &mut Scene| {
            scene.snapshot.history.push(tenure(
                "group/partners",
                Cause::Failover,
                Some("b"),
                ago(1),
            ));
        };
        says(
            &judged(used, budgets).await,
            Warning,
            "1 of 2 failovers within 6h are used; one more",
        );
    }

    #[tokio::test]
    async fn nodes_must_be_up_and_not_forgotten() {
        says(&judged(|_| {}, up).await, Passed, "it is up");
        let lost = |scene: &mut Scene| scene.snapshot.nodes[1].presence = Presence::ConnectionGone;
        says(&judged(lost, up).await, Failed, "b lost its connection");
        let left = |scene: &mut Scene| scene.snapshot.nodes[1].presence = Presence::Left;
        says(&judged(left, up).await, NotApplicable, "b is stopped");

        let paused = |hours| {
            move |scene: &mut Scene| {
                scene.snapshot.node_orders.push(NodeOrder {
                    node: name("b"),
                    duty: Duty::Paused,
                    failback: ResumeFailback::None,
                    away_since: Some(ago(hours)),
                    quarantine_cleared_at: None,
                    by: "kim".into(),
                    at: ago(hours),
                });
            }
        };
        says(&judged(paused(2), duty).await, NotApplicable, "it is paused since");
        says(&judged(paused(30), duty).await, Warning, "by kim, 30h ago");
        let flapped = |scene: &mut Scene| {
            let lost = || tenure("node/b", Cause::NodeLost, None, ago(1));
            scene.snapshot.history = vec![lost(), lost(), lost()];
        };
        says(&judged(flapped, duty).await, Warning, "in quarantine until");
    }

    #[tokio::test]
    async fn nodes_tell_of_each_other() {
        let validation = |hours, version: &str, failed| {
            let sentence =
                format!("validated by kim@b with baton {version}: {failed} failed, 0 warnings");
            move |scene: &mut Scene| {
                let what = if failed > 0 { "; failed: endpoint.ftp of location x" } else { "" };
                scene.validations.push(OperatorEvent {
                    sequence: 1,
                    at: ago(hours),
                    id: EventId::VALIDATED,
                    node: Some(name("b")),
                    subject: "node b".into(),
                    sentence: format!("{sentence}{what}"),
                });
            }
        };
        let here = env!("CARGO_PKG_VERSION");
        says(&judged(|_| {}, validated).await, Warning, "never validated from there");
        says(&judged(|_| {}, validated).await, Passed, "this is its validation");
        says(
            &judged(validation(1, here, 0), validated).await,
            Passed,
            "1h ago: validated by kim@b",
        );
        says(&judged(validation(25, here, 0), validated).await, Warning, "last validated 25h ago");
        says(
            &judged(validation(1, here, 1), validated).await,
            Warning,
            "endpoint.ftp of location x",
        );
        says(&judged(|_| {}, versions).await, Passed, "on a, b");
        let older = |scene: &mut Scene| scene.snapshot.nodes[1].version = "0.0.9".into();
        says(&judged(older, versions).await, Warning, "0.0.9 on b; ");
        let silent = |scene: &mut Scene| scene.snapshot.nodes.push(node("c"));
        says(&judged(silent, validated).await, Warning, "never validated");
    }
}
