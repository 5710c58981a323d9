//! Stories of a cluster, as an operator would tell them: `tests/scenarios/*.txt`.
//!
//! Each file holds nodes, definitions and what happens when; below the line stands what the agents
//! said and did. `BLESS=1 cargo test -p cluster --test scenarios` writes that part anew.

mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cluster::{Exit, MoveRequest, Presence, Timing, why};
use model::definition::{Group, GroupPolicy, Host};
use model::{Definitions, GroupName, HostName, Millis, NodeName};

use world::World;

const LINE: &str = "--- what happened ---\n";

#[test]
fn stories_are_as_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 16, "only {} scenarios in {}", files.len(), folder.display());
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (script, told) = text.split_once(LINE).unwrap_or((&text, ""));
        let script = format!("{}\n\n", script.trim_end());
        println!("{}", file.display());
        let happened = play(&script);
        if told == happened {
            continue;
        }
        if bless {
            std::fs::write(&file, format!("{script}{LINE}{happened}")).unwrap();
        } else {
            let first = told.lines().zip(happened.lines()).find(|(told, now)| told != now);
            wrong.push(format!("{}: first difference {first:#?}\n{happened}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 if this is meant:\n{}", wrong.join("\n"));
}

/// Plays a script and tells what happened.
fn play(script: &str) -> String {
    let mut nodes: Vec<NodeName> = Vec::new();
    let mut definitions = Definitions::default();
    let mut timing = Timing::of(Timing::TTL_DEFAULT);
    let mut acts: Vec<(u64, String)> = Vec::new();
    let mut until = 0;
    for line in script.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["nodes", names @ ..] => nodes.extend(names.iter().map(|name| node(name))),
            ["ttl", ttl] => timing = Timing::of(millis(ttl)),
            ["group", name, settings @ ..] => definitions.groups.push(group(name, settings)),
            ["host", name, settings @ ..] => definitions.hosts.push(host(name, settings)),
            ["at", at, act @ ..] => acts.push((millis(at).0, act.join(" "))),
            ["until", at] => until = millis(at).0,
            _ => panic!("what does {line:?} mean?"),
        }
    }
    let mut world = World::new(&nodes, definitions, timing);
    world.strict = !script.contains("evidence=connection_gone");
    for (at, act) in acts {
        world.run_until(at);
        world.say("--", &act);
        perform(&mut world, &nodes, &act);
    }
    world.run_until(until);
    world.log.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn perform(world: &mut World, nodes: &[NodeName], act: &str) {
    let words: Vec<&str> = act.split_whitespace().collect();
    match words.as_slice() {
        ["start", "all"] => nodes.iter().for_each(|node| world.start(node)),
        [verb, "node", name, how @ ..] => to_node(world, verb, &node(name), how),
        [verb, "host", name, "on", at] => to_host(world, verb, &host_name(name), &node(at)),
        ["store", "away"] => world.store.away = true,
        ["store", "back"] => {
            world.store.come_back();
            world.hint();
        }
        ["move", name, "by", by] => request_move(world, name, None, by),
        ["move", name, "to", to, "by", by] => request_move(world, name, Some(node(to)), by),
        ["why", name] => {
            for sentence in why(&world.store.snapshot(), &group_name(name)) {
                world.say("", &sentence);
            }
        }
        words => define(world, words),
    }
}

fn to_node(world: &mut World, verb: &str, node: &NodeName, how: &[&str]) {
    match (verb, how) {
        ("start", []) => world.start(node),
        ("kill", [evidence]) => world.kill(node, presence(evidence)),
        ("freeze", []) => world.freeze(node),
        ("thaw", []) => world.thaw(node),
        ("stop", []) => world.stop(node),
        ("cut", [evidence]) => {
            world.machine(node).cut = true;
            world.set_presence(node, presence(evidence));
        }
        ("mend", []) => {
            world.machine(node).cut = false;
            world.set_presence(node, Presence::Present);
            world.hint();
        }
        _ => panic!("who can {verb} a node {how:?}?"),
    }
}

fn to_host(world: &mut World, verb: &str, host: &HostName, at: &NodeName) {
    match verb {
        "kill" => world.exit(at, host, Exit::Failed("killed by signal 9".to_owned())),
        "fence" => world.exit(at, host, Exit::Failed("fenced".to_owned())),
        "hang" => world.hang(at, host),
        "break" => drop(world.machine(at).broken.insert(host.clone())),
        "repair" => drop(world.machine(at).broken.remove(host)),
        "deafen" => drop(world.machine(at).deaf.insert(host.clone())),
        _ => panic!("who can {verb} a host?"),
    }
}

/// Applies new definitions.
fn define(world: &mut World, words: &[&str]) {
    let definitions = &mut world.store.definitions;
    match words {
        ["drop", "group", name] => {
            let name = group_name(name);
            definitions.groups.retain(|group| group.name != name);
            definitions.hosts.retain(|host| host.group.as_ref() != Some(&name));
        }
        ["drop", "host", name] => {
            let name = host_name(name);
            definitions.hosts.retain(|host| host.name != name);
        }
        ["define", "host", name, settings @ ..] => definitions.hosts.push(host(name, settings)),
        ["owners", name, owners @ ..] => {
            let name = group_name(name);
            let group = definitions.groups.iter_mut().find(|group| group.name == name);
            let group = group.expect("a defined group");
            group.possible_owners = owners.iter().map(|name| node(name)).collect();
        }
        _ => panic!("who can {words:?}?"),
    }
    world.hint();
}

fn request_move(world: &mut World, group: &str, to: Option<NodeName>, by: &str) {
    let group = group_name(group);
    let at = world.store.now;
    let request = MoveRequest { group: group.clone(), to, by: by.to_owned(), at };
    world.store.moves.insert(group, request);
    world.hint();
}

/// `preferred a b owners a b c restarts 1`: each setting with the words up to the next one.
fn settings<'a>(words: &[&'a str], known: &[&'a str]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut settings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = None;
    for word in words {
        if known.contains(word) {
            current = Some(settings.entry(word).or_default());
        } else {
            current.as_mut().unwrap_or_else(|| panic!("which setting is {word}?")).push(word);
        }
    }
    settings
}

fn group(name: &str, words: &[&str]) -> Group {
    const KNOWN: [&str; 8] =
        ["owners", "preferred", "restarts", "failovers", "drain", "hang", "pending", "retry"];
    let settings = settings(words, &KNOWN);
    let names = |key| settings.get(key).into_iter().flatten().map(|name| node(name)).collect();
    let one = |key| settings.get(key).map(|words| words[0]);
    let mut policy = GroupPolicy::default();
    policy.restarts_max =
        one("restarts").map_or(policy.restarts_max, |n| n.parse().expect("a number"));
    policy.failovers_max = one("failovers").map(|n| n.parse().expect("a number"));
    policy.drain_timeout = one("drain").map_or(policy.drain_timeout, millis);
    policy.hang_timeout = one("hang").map_or(policy.hang_timeout, millis);
    policy.pending_timeout = one("pending").map_or(policy.pending_timeout, millis);
    policy.retry_period = one("retry").map_or(policy.retry_period, millis);
    Group {
        name: group_name(name),
        possible_owners: names("owners"),
        preferred_owners: names("preferred"),
        single_node: false,
        policy,
    }
}

fn host(name: &str, words: &[&str]) -> Host {
    let settings = settings(words, &["group", "nodes"]);
    Host {
        name: host_name(name),
        group: settings.get("group").map(|words| group_name(words[0])),
        nodes: settings.get("nodes").into_iter().flatten().map(|name| node(name)).collect(),
    }
}

fn presence(evidence: &str) -> Presence {
    match evidence {
        "evidence=silent" => Presence::Present,
        "evidence=connection_gone" => Presence::ConnectionGone,
        "evidence=confirmed_dead" => Presence::ConfirmedDead,
        _ => panic!("what is {evidence}?"),
    }
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a node name")
}

fn host_name(name: &str) -> HostName {
    HostName::new(name).expect("a host name")
}

fn millis(text: &str) -> Millis {
    text.parse().expect("a duration")
}

fn group_name(name: &str) -> GroupName {
    GroupName::new(name).expect("a group name")
}
