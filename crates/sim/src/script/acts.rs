//! What may happen in a script.

use cluster::{Duty, Presence, ResumeFailback, why};
use model::{FailureReach, GroupName, NodeName, ResourceName};

use super::settings::{self, millis, name};
use crate::{Cut, World};

/// Does what a line says: `kill node a evidence=silent`, `move partners to b by ops`. The sentence
/// says what is not understood.
pub fn perform(world: &mut World, act: &str) -> Result<(), String> {
    let words: Vec<&str> = act.split_whitespace().collect();
    match words.as_slice() {
        ["start", "all"] => {
            let nodes: Vec<NodeName> = world.machines.keys().cloned().collect();
            nodes.iter().for_each(|node| world.start(node));
        }
        [verb, "node", node, how @ ..] => to_node(world, verb, &name(node)?, how)?,
        [verb, "host" | "resource", member, "on", node, how @ ..] => {
            to_member(world, verb, &name(member)?, &name(node)?, how)?;
        }
        [verb @ ("start" | "stop" | "unmonitor" | "monitor"), "group", group, how @ ..] => {
            to_group(world, verb, &name(group)?, how)?;
        }
        ["store", "away"] => world.store_away(),
        ["store", "back"] => world.store_back(),
        ["move", group, "by", by] => world.request_move(&name(group)?, None, by),
        ["move", group, "to", to, "by", by] => {
            world.request_move(&name(group)?, Some(name(to)?), by);
        }
        ["why", group] => {
            for sentence in why(&world.store.snapshot(), &name(group)?) {
                world.say("", &sentence);
            }
        }
        words => define(world, words)?,
    }
    Ok(())
}

fn to_node(world: &mut World, verb: &str, node: &NodeName, how: &[&str]) -> Result<(), String> {
    if !world.machines.contains_key(node) {
        return Err(format!("there is no node {node}"));
    }
    match (verb, how) {
        ("start", []) => world.start(node),
        ("stop", []) => world.stop(node),
        ("kill", [evidence]) => world.kill(node, presence(evidence)?),
        ("freeze", []) => world.freeze(node),
        ("thaw", []) => world.thaw(node),
        ("cut", [evidence]) => world.cut(node, Cut::Both, presence(evidence)?),
        ("cut", [direction, evidence]) => world.cut(node, cut(direction)?, presence(evidence)?),
        ("mend", []) => world.mend(node),
        ("pause", ["by", by]) => world.relieve(node, Duty::Paused, by),
        ("drain", ["by", by]) => world.relieve(node, Duty::Draining, by),
        ("resume", ["by", by]) => world.resume(node, ResumeFailback::None, by),
        ("resume", ["failback", word, "by", by]) => {
            let failback = ResumeFailback::from_word(word);
            let failback = failback.ok_or_else(|| format!("{word:?} is no failback"))?;
            world.resume(node, failback, by);
        }
        ("clear-quarantine", ["by", by]) => world.clear_quarantine(node, by),
        ("evict", ["by", _]) => {
            if let Err(why) = world.evict(node) {
                world.say("--", &format!("  refused: {why}"));
            }
        }
        _ => return Err(format!("nobody can {verb} a node {}", how.join(" "))),
    }
    Ok(())
}

fn to_member(
    world: &mut World,
    verb: &str,
    member: &ResourceName,
    at: &NodeName,
    how: &[&str],
) -> Result<(), String> {
    if !world.machines.contains_key(at) {
        return Err(format!("there is no node {at}"));
    }
    let soft = FailureReach::Soft;
    match (verb, how) {
        ("kill", []) => world.fail(at, member, "killed by signal 9", soft),
        ("fence", []) => world.fail(at, member, "fenced", soft),
        ("fail", []) => world.fail(at, member, "failed its check", soft),
        ("fail", [word]) => world.fail(at, member, "failed its check", reach(word)?),
        ("crash", []) => world.crash(at, member),
        ("hang", []) => world.hang(at, member),
        ("break", []) => world.break_resource(at, member, soft),
        ("break", [word]) => world.break_resource(at, member, reach(word)?),
        ("repair", []) => world.repair(at, member),
        ("deafen", []) => world.deafen(at, member),
        ("stick", []) => world.stick(at, member),
        ("degrade", []) => {
            let what = "answers slowly".to_owned();
            world.tell(at, cluster::Event::Degraded(member.clone(), what));
        }
        _ => return Err(format!("nobody can {verb} a member {}", how.join(" "))),
    }
    Ok(())
}

fn to_group(world: &mut World, verb: &str, group: &GroupName, how: &[&str]) -> Result<(), String> {
    match (verb, how) {
        ("start", ["by", by]) => world.want_online(group, true, by),
        ("stop", ["by", by]) => world.want_online(group, false, by),
        ("unmonitor", ["for", duration, "by", by]) => {
            world.unmonitor(group, millis(duration)?, by);
        }
        ("monitor", ["by", by]) => world.unmonitor(group, model::Millis(0), by),
        _ => return Err(format!("nobody can {verb} a group {}", how.join(" "))),
    }
    Ok(())
}

/// Applies new definitions.
fn define(world: &mut World, words: &[&str]) -> Result<(), String> {
    let mut definitions = (*world.store.definitions).clone();
    match words {
        ["drop", "group", text] => {
            let group: GroupName = name(text)?;
            definitions.groups.retain(|other| other.name != group);
            definitions.hosts.retain(|host| host.group.as_ref() != Some(&group));
            definitions.resources.retain(|resource| resource.group != group);
        }
        ["drop", "host", text] => definitions.hosts.retain(|host| host.name.as_str() != *text),
        ["drop", "resource", text] => {
            definitions.resources.retain(|resource| resource.name.as_str() != *text);
        }
        ["define", words @ ..] => settings::define(&mut definitions, words)?,
        ["owners", text, owners @ ..] => {
            let group: GroupName = name(text)?;
            let found = definitions.groups.iter_mut().find(|other| other.name == group);
            let found = found.ok_or_else(|| format!("there is no group {group}"))?;
            found.possible_owners =
                owners.iter().map(|text| name(text)).collect::<Result<_, _>>()?;
        }
        words => return Err(format!("{:?} is nothing that happens", words.join(" "))),
    }
    world.apply(definitions);
    Ok(())
}

fn presence(evidence: &str) -> Result<Presence, String> {
    match evidence {
        "evidence=silent" => Ok(Presence::Present),
        "evidence=connection_gone" => Ok(Presence::ConnectionGone),
        "evidence=confirmed_dead" => Ok(Presence::ConfirmedDead),
        _ => Err(format!("{evidence:?} is no evidence: silent, connection_gone, confirmed_dead")),
    }
}

fn cut(direction: &str) -> Result<Cut, String> {
    match direction {
        "both" => Ok(Cut::Both),
        "to_store" => Ok(Cut::ToStore),
        "from_store" => Ok(Cut::FromStore),
        "hints" => Ok(Cut::Hints),
        _ => Err(format!("{direction:?} is no direction: both, to_store, from_store or hints")),
    }
}

fn reach(word: &str) -> Result<FailureReach, String> {
    match word {
        "soft" => Ok(FailureReach::Soft),
        "hard" => Ok(FailureReach::Hard),
        "fatal" => Ok(FailureReach::Fatal),
        _ => Err(format!("{word:?} is no reach of a failure: soft, hard or fatal")),
    }
}
