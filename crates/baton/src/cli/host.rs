//! `baton host cluster` and `uncluster`: BizTalk's "Cluster" and "Uncluster" of a host.

use anyhow::Result;
use clap::Subcommand;
use model::{Definitions, GroupName, HostName};
use serde_json::json;
use store::Store;

use super::session::{self, names, open, operator, print, print_json};
use super::what_if;
use super::{EXIT_OK, Global, Refused};
use crate::render::Look;
use crate::render::diff::{Change, changes, render};
use crate::yaml::rules;

/// Tries when others change the definitions at the same time; each try starts from theirs.
const TRIES: usize = 5;

/// What can be done with a host.
#[derive(Debug, Clone, Subcommand)]
pub enum HostVerb {
    /// Make a host a resource of a failover-cluster group.
    ///
    /// From then on it works on one node only: the group's owner. It comes online there at once,
    /// and its instances elsewhere stand by.
    #[command(after_help = "\
Examples:
  baton host cluster receive --group partners --what-if
  baton host cluster receive --group partners

The definitions in the store are changed. Write `group: partners` at the host in your files too,
or the next `baton apply` takes it back.")]
    Cluster {
        /// The host.
        host: String,
        /// The group it becomes a part of.
        #[arg(long, value_name = "GROUP")]
        group: String,
        /// Only show what would change, and what the cluster would do then.
        #[arg(long)]
        what_if: bool,
    },
    /// Take a host out of its group: an instance of it then works on each of its nodes.
    ///
    /// Refused while it receives by an adapter that allows one instance only, such as FTP.
    Uncluster {
        /// The host.
        host: String,
        /// Only show what would change, and what the cluster would do then.
        #[arg(long)]
        what_if: bool,
    },
}

pub(super) async fn run(verb: &HostVerb, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let store = store.as_ref();
    let (host, group, what_if) = match verb {
        HostVerb::Cluster { host, group, what_if } => (host, Some(group), *what_if),
        HostVerb::Uncluster { host, what_if } => (host, None, *what_if),
    };
    if what_if {
        let snapshot = store.snapshot().await?;
        let wanted = clustered(&snapshot.definitions, host, group)?;
        let changes = changes(&snapshot.definitions, &wanted);
        return what_if::answer_definitions(&snapshot, &changes, wanted, global);
    }
    let to = |definitions: &Definitions| clustered(definitions, host, group);
    let Done { version, changes } = change(store, to).await?;
    if !changes.is_empty() {
        session::record_applied(store, version, &changes).await;
    }
    if global.json() {
        let applied = !changes.is_empty();
        print_json(&json!({"applied": applied, "version": version, "changes": changes}))?;
    } else {
        let last = if changes.is_empty() {
            format!("nothing to change, version {version} is in force\n")
        } else {
            format!("version {version} is in force; write the same into your files\n")
        };
        print(&format!("{}{last}", render(&changes, Look::of_stdout())))?;
    }
    Ok(EXIT_OK)
}

struct Done {
    version: u64,
    changes: Vec<Change>,
}

/// Changes the definitions in force; when others did so meanwhile, again from theirs.
async fn change(
    store: &dyn Store,
    to: impl Fn(&Definitions) -> Result<Definitions>,
) -> Result<Done> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (base, in_force) = store.definitions().await?;
        let wanted = to(&in_force)?;
        let changes = changes(&in_force, &wanted);
        if changes.is_empty() {
            return Ok(Done { version: base, changes });
        }
        match store.apply(&wanted, base, &operator()).await {
            Ok(version) => return Ok(Done { version, changes }),
            Err(error) => {
                let (now, _) = store.definitions().await?;
                if now == base || tries == TRIES {
                    return Err(error.into());
                }
            }
        }
    }
}

/// The definitions with the host in this group, or in none, if the rules allow it.
fn clustered(in_force: &Definitions, host: &str, group: Option<&String>) -> Result<Definitions> {
    let group: Option<GroupName> = match group {
        Some(name) => Some(session::group(in_force, name)?.name.clone()),
        None => None,
    };
    let mut wanted = in_force.clone();
    let name: Option<HostName> = host.parse().ok();
    let Some(found) = wanted.hosts.iter_mut().find(|host| Some(&host.name) == name.as_ref()) else {
        let known = names(in_force.hosts.iter().map(|host| &host.name));
        let sentence = format!("there is no host {host:?}; hosts in force: {known}");
        return Err(Refused::new(sentence).into());
    };
    found.group = group;
    let before = rules::findings(in_force);
    let new = rules::findings(&wanted).into_iter().filter(|finding| !before.contains(finding));
    let sentences: Vec<String> = new
        .map(|finding| format!("{}\n  = help: {}", finding.problem.what, finding.problem.help))
        .collect();
    if sentences.is_empty() { Ok(wanted) } else { Err(Refused::new(sentences.join("\n")).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definitions() -> Definitions {
        serde_json::from_value(json!({
            "groups": [{"name": "g", "possible_owners": ["a", "b"]}],
            "hosts": [{"name": "h", "group": "g"}, {"name": "small", "nodes": ["a"]},
                      {"name": "s"}],
            "receive_ports": [{"name": "p", "locations": [
                {"name": "l", "host": "h", "transport": {"ftp": {"server": "s"}}}]}],
        }))
        .expect("definitions")
    }

    #[track_caller]
    fn refused(host: &str, group: Option<&str>, sentence: &str) {
        let group = group.map(str::to_owned);
        let error = clustered(&definitions(), host, group.as_ref()).expect_err("refused");
        assert!(error.is::<Refused>() && error.to_string().contains(sentence), "{error}");
    }

    #[test]
    fn a_host_is_clustered_if_the_rules_allow_it() {
        let wanted = clustered(&definitions(), "s", Some(&"g".to_owned())).expect("allowed");
        assert_eq!(
            render(&changes(&definitions(), &wanted), Look::PLAIN),
            "~ host s: group (unset) -> g\n"
        );
        refused("nobody", Some("g"), "there is no host \"nobody\"; hosts in force: h, small, s");
        refused("s", Some("x"), "there is no group \"x\"; groups in force: g");
        refused("small", Some("g"), "node b is a possible owner of group g but has no instance");
    }

    #[test]
    fn a_host_that_receives_by_ftp_stays_clustered() {
        refused("h", None, "FTP allows one only: FTP does not lock files");
        assert_eq!(clustered(&definitions(), "s", None).expect("allowed"), definitions());
    }
}
