//! `baton check`, `diff`, `apply`, `schema`: from files to the definitions in force.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use cluster::Snapshot;
use model::{Definitions, LeaseName};
use serde_json::json;

use super::session::{self, open, open_or_make, operator, print, print_json};
use super::what_if;
use super::{EXIT_DIFFERENT, EXIT_OK, Global, Refused};
use crate::render::diff::{Change, changes, render};
use crate::render::{Look, counted};
use crate::yaml;

/// Put definitions in force, as a whole, on all nodes at once.
///
/// They are checked, compared with what is in force, and applied in one transaction. What the
/// files do not have any more is removed. If somebody else changed them meanwhile, nothing happens.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  baton apply definitions.yaml
  baton apply /etc/baton/definitions --what-if
  generate | baton apply -

Exit codes: 0 applied or nothing to change, 3 invalid or changed by somebody else meanwhile")]
pub struct ApplyArgs {
    /// A file, a folder of *.yaml and *.yml files, or - for standard input.
    pub path: PathBuf,
    /// Only show what would change, and what the cluster would do then.
    #[arg(long)]
    pub what_if: bool,
}

/// Show what `baton apply` would change, object by object.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Exit codes, so that scripts can ask: 0 no difference, 5 differences, 3 invalid or no
such store, 4 the store is not available

Output:
  + host x                              new
  ~ send_port y: retries_max 3 -> 5     changed
  - group z                             removed")]
pub struct DiffArgs {
    /// A file, a folder of *.yaml and *.yml files, or - for standard input.
    pub path: PathBuf,
}

/// Look for mistakes in definitions: shape, references, filters, rules of adapters.
///
/// All mistakes are shown, each with its file, line and column and how to mend it.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  baton check definitions.yaml
  baton check /etc/baton/definitions

Exit codes: 0 good, 3 mistakes")]
pub struct CheckArgs {
    /// A file, a folder of *.yaml and *.yml files, or - for standard input.
    pub path: PathBuf,
}

pub(super) fn check(args: &CheckArgs, global: &Global) -> Result<u8> {
    let definitions = yaml::definitions(&args.path)?;
    let locations = definitions.receive_ports.iter().map(|port| port.locations.len()).sum();
    let counts = [
        ("group", definitions.groups.len()),
        ("host", definitions.hosts.len()),
        ("resource", definitions.resources.len()),
        ("receive location", locations),
        ("send port", definitions.send_ports.len()),
    ];
    if global.json() {
        let counts = counts.map(|(noun, count)| (format!("{noun}s").replace(' ', "_"), count));
        let counts: std::collections::BTreeMap<_, _> = counts.into();
        print_json(&json!({"valid": true, "counts": counts}))?;
    } else {
        let counts = counts.map(|(noun, count)| counted(count as u64, noun));
        print(&format!("good: {}\n", counts.join(", ")))?;
    }
    Ok(EXIT_OK)
}

pub(super) fn schema() -> Result<u8> {
    print_json(&schemars::schema_for!(Definitions))?;
    Ok(EXIT_OK)
}

pub(super) async fn diff(args: &DiffArgs, global: &Global) -> Result<u8> {
    let wanted = yaml::definitions(&args.path)?;
    let store = open(global).await?;
    let (version, in_force) = store.definitions().await?;
    let changes = changes(&in_force, &wanted);
    if global.json() {
        print_json(&json!({"version": version, "changes": changes}))?;
    } else if changes.is_empty() {
        print(&format!("no difference to version {version}\n"))?;
    } else {
        print(&render(&changes, Look::of_stdout()))?;
    }
    Ok(if changes.is_empty() { EXIT_OK } else { EXIT_DIFFERENT })
}

pub(super) async fn apply(args: &ApplyArgs, global: &Global) -> Result<u8> {
    let wanted = yaml::definitions(&args.path)?;
    refuse_nothing(&args.path, &wanted)?;
    if args.what_if {
        return what_if(wanted, global).await;
    }
    let store = open_or_make(global).await?;
    let (base, in_force) = store.definitions().await?;
    let changes = changes(&in_force, &wanted);
    if *in_force == wanted && base > 0 {
        report(global, base, &changes, false)?;
        return Ok(EXIT_OK);
    }
    refuse_a_resource_on_its_way(&store.snapshot().await?, &wanted)?;
    let version = match store.apply(&wanted, base, &operator()).await {
        Ok(version) => version,
        Err(error) => {
            let (now, _) = store.definitions().await?;
            if now == base {
                return Err(error.into());
            }
            let sentence = format!(
                "somebody else changed the definitions meanwhile (version {base} became {now}), so \
                 nothing was applied; see `baton diff {}` and try again",
                args.path.display()
            );
            return Err(Refused::new(sentence).into());
        }
    };
    session::record_applied(store.as_ref(), version, &changes).await;
    if !global.json() {
        print(&format!("store {}\n", store.describe()))?;
    }
    report(global, version, &changes, true)?;
    Ok(EXIT_OK)
}

/// Nothing orders the owner of the old group, which takes a resource down, and that of the new
/// one, which brings it up: the fence does not hold back what both do outside the store.
fn refuse_a_resource_on_its_way(snapshot: &Snapshot, wanted: &Definitions) -> Result<()> {
    for resource in &wanted.resources {
        let before = snapshot.definitions.resource(&resource.name);
        let Some(group) = before.map(|before| &before.group) else { continue };
        let lease = LeaseName::Group(group.clone());
        let held = snapshot.lease(&lease).is_some_and(|view| view.holder.is_some());
        if *group != resource.group && held {
            let sentence = format!(
                "resource {} may still be up in group {group}: run `baton group stop {group}`, \
                 apply, and start it again",
                resource.name
            );
            return Err(Refused::new(sentence).into());
        }
    }
    Ok(())
}

/// What would change, and what the cluster would do then. A store that is not there stays so.
async fn what_if(wanted: Definitions, global: &Global) -> Result<u8> {
    let snapshot = match session::open_if_there(global).await? {
        Ok(store) => store.snapshot().await?,
        Err(path) => {
            if !global.json() {
                print(&format!("there is no store {path} yet; without --what-if it is made\n"))?;
            }
            Snapshot::default()
        }
    };
    let changes = changes(&snapshot.definitions, &wanted);
    what_if::answer_definitions(&snapshot, &changes, wanted, global)
}

/// An empty file would remove everything; nobody means that.
fn refuse_nothing(path: &Path, wanted: &Definitions) -> Result<()> {
    if *wanted != Definitions::default() {
        return Ok(());
    }
    let sentence = format!(
        "{} defines nothing, and applying it would remove everything; if that is meant, leave one \
         host without ports in it",
        path.display()
    );
    Err(Refused::new(sentence).into())
}

fn report(global: &Global, version: u64, changes: &[Change], applied: bool) -> Result<()> {
    if global.json() {
        return print_json(&json!({"applied": applied, "version": version, "changes": changes}));
    }
    let last = match (applied, changes) {
        (true, []) => format!("version {version} is in force; only the order differs"),
        (true, _) => format!("version {version} is in force"),
        (false, _) => format!("nothing to change, version {version} is in force"),
    };
    print(&format!("{}{last}\n", render(changes, Look::of_stdout())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_that_may_be_up_does_not_change_its_group() {
        let definitions = |group: &str| -> Definitions {
            serde_json::from_value(serde_json::json!({
                "groups": [{"name": "g"}, {"name": "h"}],
                "resources": [{"name": "r", "group": group,
                               "kind": {"process": {"command": ["/bin/true"]}}}],
            }))
            .expect("definitions")
        };
        let lease = |holder: Option<&str>| cluster::LeaseView {
            lease: "group/g".parse().expect("a lease"),
            holder: holder.map(|name| name.parse().expect("a name")),
            epoch: model::Epoch(1),
            expires_at: model::Timestamp(1),
            changed_at: model::Timestamp(0),
            cause: model::Cause::Start,
            reason: String::new(),
            offered_to: None,
        };
        let moved = |holder| {
            let snapshot = Snapshot {
                definitions: std::sync::Arc::new(definitions("g")),
                leases: vec![lease(holder)],
                ..Snapshot::default()
            };
            refuse_a_resource_on_its_way(&snapshot, &definitions("h"))
        };
        let refused = moved(Some("a")).expect_err("it may be up on a").to_string();
        assert!(refused.contains("baton group stop g"), "{refused}");
        assert!(moved(None).is_ok(), "nobody has it");
    }
}
