//! `baton simulate`: plays what would befall the cluster, from live state or from a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use cluster::{Snapshot, Timing};
use model::definition::ResourceKind;
use model::{Millis, Timestamp};

use super::fate;
use super::session::{open, print, print_json, tell};
use super::what_if::{Play, timing};
use super::{EXIT_OK, Global, Refused};
use crate::yaml;

/// Longest play: a day's policies can be seen in it, and it ends while somebody waits.
const LENGTH_MAX: Millis = Millis::hours(24);

/// Largest snapshot file in bytes: thousands of resources with a day of history fit.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What `--from` means the present state by.
const LIVE: &str = "live";

/// Play what would happen, without touching anything.
///
/// The agents that decide in the real cluster decide here too, in simulated time, against a store
/// and processes that are made up. The sentences are those that the logs would have.
#[derive(Debug, Clone, Args)]
#[command(after_help = help())]
pub struct SimulateArgs {
    /// Where it begins: `live`, the store as it is now, or a file that --save wrote.
    #[arg(long, value_name = "FILE|live", default_value = LIVE)]
    pub from: String,
    /// Definitions to put in force before it begins.
    #[arg(long, value_name = "FILE")]
    pub definitions: Option<PathBuf>,
    /// The moment at which it begins, for what depends on the time of day: 2026-01-01T22:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// What happens, and when: '2s kill node a'. May be given several times.
    #[arg(long = "do", value_name = "WHAT")]
    pub acts: Vec<String>,
    /// How much time passes, at most 24h [default: 2m after the last thing that happens].
    #[arg(long = "for", value_name = "DURATION")]
    pub length: Option<Millis>,
    /// How long a lease lives without renewal [default: `ttl` of the configuration, then 3s].
    #[arg(long, value_name = "DURATION")]
    pub ttl: Option<Millis>,
    /// Show also what nodes do without saying it: each step towards a lease or a process.
    #[arg(long)]
    pub steps: bool,
    /// Write where it would begin into this file, without passwords, so that others can play it.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

fn help() -> String {
    format!("{EXAMPLES}\n\n{}", fate::GRAMMAR)
}

const EXAMPLES: &str = "\
Examples:
  baton simulate --do '2s kill node node-a'
  baton simulate --do '1s fail resource db on node-a' --do 'break resource db on node-b' --for 2h
  baton simulate --do 'store away 30s' -o json
  baton simulate --definitions new.yaml --do '5s lose node node-a'
  baton simulate --save cluster.json
  baton simulate --from cluster.json --at 2026-01-01T22:00:00Z --do 'start node node-a'

At the begin every node takes up anew what it holds. How long a resource takes to start or stop is
made up: read the order and the reasons, and of the times those that policies decide.

Exit codes: 0 played, or saved, 3 something is not known or cannot be";

pub(super) async fn run(args: &SimulateArgs, global: &Global) -> Result<u8> {
    let mut snapshot = match args.from.as_str() {
        LIVE => open(global).await?.snapshot().await?,
        path => read(Path::new(path))?,
    };
    if let Some(path) = &args.definitions {
        snapshot.definitions = Arc::new(yaml::definitions(path)?);
        snapshot.definitions_version += 1;
    }
    if let Some(text) = &args.at {
        shift(&mut snapshot, moment(text)?);
    }
    if let Some(path) = &args.save {
        save(&snapshot, path)?;
        if args.acts.is_empty() {
            let line = format!(
                "the state of the cluster is in {}, without passwords; `baton simulate --from` \
                 plays from it",
                path.display()
            );
            return tell(global, "saved", &[line], EXIT_OK);
        }
    }
    let acts = fate::acts(&args.acts, &snapshot)?;
    let last = acts.last().map_or(Millis(0), |(at, ..)| *at);
    let length = args.length.unwrap_or(Millis(last.0.saturating_add(Millis::minutes(2).0)));
    if length > LENGTH_MAX || last > length {
        let sentence = format!(
            "the play is {length} long and its last act is at {last}: use --for with {last} to \
             {LENGTH_MAX}"
        );
        return Err(Refused::new(sentence).into());
    }
    let timing = args.ttl.map_or_else(|| timing(global), checked)?;
    let played = Play { from: &snapshot, timing, acts, length, steps: args.steps }.run()?;
    if global.json() {
        print_json(&played.value())?;
    } else {
        print(&played.render())?;
    }
    Ok(EXIT_OK)
}

fn checked(ttl: Millis) -> Result<Timing> {
    let (min, max) = (crate::config::TTL_MIN, crate::config::TTL_MAX);
    if !(min..=max).contains(&ttl) {
        return Err(Refused::new(format!("a ttl of {ttl} will not do: use {min} to {max}")).into());
    }
    Ok(Timing::of(ttl))
}

fn moment(text: &str) -> Result<Timestamp> {
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    let parsed = parsed.map_err(|_| {
        Refused::new(format!("{text:?} is no moment: write it as 2026-01-01T22:00:00Z"))
    })?;
    Ok(Timestamp(parsed.as_millisecond()))
}

/// Lets the same state be at another moment: everything in it is as long ago as it was.
fn shift(snapshot: &mut Snapshot, to: Timestamp) {
    let by = to.0.saturating_sub(snapshot.now.0);
    let move_it = |at: &mut Timestamp| at.0 = at.0.saturating_add(by);
    move_it(&mut snapshot.now);
    snapshot.nodes.iter_mut().for_each(|node| move_it(&mut node.expires_at));
    for view in &mut snapshot.leases {
        move_it(&mut view.expires_at);
        move_it(&mut view.changed_at);
    }
    snapshot.moves.iter_mut().for_each(|wish| move_it(&mut wish.at));
    snapshot.history.iter_mut().for_each(|tenure| move_it(&mut tenure.at));
    for order in &mut snapshot.group_orders {
        move_it(&mut order.at);
        order.unmonitored_until.iter_mut().for_each(move_it);
    }
    for order in &mut snapshot.node_orders {
        move_it(&mut order.at);
        order.away_since.iter_mut().for_each(move_it);
        order.quarantine_cleared_at.iter_mut().for_each(move_it);
    }
    snapshot.reports.iter_mut().for_each(|report| move_it(&mut report.since));
}

fn read(path: &Path) -> Result<Snapshot> {
    let name = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("{name} cannot be read"));
    let size = size.map_err(|error| Refused::new(format!("{error:#}")))?.len();
    if size > FILE_BYTES_MAX {
        let most = FILE_BYTES_MAX / 1024 / 1024;
        return Err(Refused::new(format!("{name} is larger than {most} MiB")).into());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("{name} cannot be read"));
    let text = text.map_err(|error| Refused::new(format!("{error:#}")))?;
    serde_json::from_str(&text).map_err(|error| {
        let sentence = format!(
            "{name} is not the state of a cluster: {error}; write one with `baton simulate --save \
             {name}`"
        );
        Refused::new(sentence).into()
    })
}

/// Writes it without passwords: it is made to be given away. What programs and agents are given
/// may hold some under any name, and a play needs none of it.
fn save(snapshot: &Snapshot, path: &Path) -> Result<()> {
    let mut snapshot = snapshot.clone();
    for resource in &mut Arc::make_mut(&mut snapshot.definitions).resources {
        match &mut resource.kind {
            ResourceKind::Process(process) => {
                process.environment.values_mut().for_each(hide);
                let checks =
                    [&mut process.ready_check, &mut process.looks_alive, &mut process.is_alive];
                for command in checks.into_iter().chain([&mut process.command]) {
                    command.iter_mut().skip(1).for_each(hide);
                }
            }
            ResourceKind::Ocf(ocf) => ocf.parameters.values_mut().for_each(hide),
            ResourceKind::Systemd(_)
            | ResourceKind::IpAddress(_)
            | ResourceKind::NetworkName(_) => {}
        }
    }
    let text = serde_json::to_string_pretty(&yaml::masked(serde_json::to_value(snapshot)?))?;
    std::fs::write(path, text + "\n")
        .with_context(|| format!("{} cannot be written", path.display()))
}

fn hide(value: &mut String) {
    "***".clone_into(value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn snapshot() -> Snapshot {
        let definitions = json!({
            "groups": [{"name": "g"}],
            "hosts": [{"name": "h", "group": "g"}],
            "receive_ports": [{"name": "p", "locations": [{"name": "l", "host": "h",
                "transport": {"ftp": {"server": "s", "user": "u", "password": "hunter2"}}}]}],
        });
        Snapshot {
            now: Timestamp(1_000_000),
            definitions: Arc::new(serde_json::from_value(definitions).expect("definitions")),
            moves: vec![cluster::MoveRequest {
                group: "g".parse().expect("name"),
                to: None,
                by: "kim".into(),
                at: Timestamp(999_000),
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn what_is_saved_is_read_back_without_passwords() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("cluster.json");
        save(&snapshot(), &path).expect("saved");
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(!text.contains("hunter2"), "{text}");
        let back = read(&path).expect("read");
        assert_eq!((back.now, back.moves.len()), (Timestamp(1_000_000), 1));
        std::fs::write(&path, "{\"now\": 1,\n  nodes}").expect("written");
        let error = read(&path).expect_err("refused").to_string();
        assert!(error.contains("line 2 column"), "{error}");
    }

    #[test]
    fn another_moment_keeps_how_long_ago_everything_was() {
        let mut snapshot = snapshot();
        shift(&mut snapshot, moment("2026-01-01T22:00:00Z").expect("a moment"));
        assert_eq!(snapshot.now.to_string(), "2026-01-01T22:00:00.000Z");
        assert_eq!(snapshot.now.since(snapshot.moves[0].at), Millis::seconds(1));
        assert!(moment("tonight").is_err());
    }
}
