//! `baton resource list`, `show`: what groups bring online.

use anyhow::Result;
use clap::Subcommand;
use model::definition::Member;
use model::{LeaseName, ResourceName};

use super::session::{self, names, open, print, print_json};
use super::{EXIT_OK, Global, Refused};
use crate::render::Look;
use crate::render::group::{MemberStatus, member_table};
use crate::render::policy::MemberDetail;

/// What can be done with a resource.
#[derive(Debug, Clone, Subcommand)]
pub enum ResourceVerb {
    /// List the resources and clustered hosts of groups: kind, node, state, since when.
    #[command(after_help = "\
Examples:
  baton resource list
  baton resource list --group partners -o json

States, as in Windows Server failover clusters: offline, online_pending, online, offline_pending,
failed.")]
    List {
        /// Only those of this group.
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
    },
    /// Show one in full: state, dependencies, every setting with where it comes from.
    Show {
        /// The resource, or the host.
        name: String,
    },
}

pub(super) async fn run(verb: &ResourceVerb, global: &Global) -> Result<u8> {
    let store = open(global).await?;
    let snapshot = store.snapshot().await?;
    match verb {
        ResourceVerb::List { group } => {
            let only = group.as_deref().map(|name| session::group(&snapshot.definitions, name));
            let only = only.transpose()?.map(|group| &group.name);
            let wanted = |member: &Member<'_>| {
                member.group.is_some() && only.is_none_or(|only| member.group == Some(only))
            };
            let members = snapshot.definitions.members().filter(wanted);
            let members: Vec<MemberStatus> = members
                .map(|member| {
                    let lease = member.group.map(|group| LeaseName::Group(group.clone()));
                    let lease = lease.and_then(|lease| snapshot.lease(&lease));
                    MemberStatus::of(&snapshot, &member, lease)
                })
                .collect();
            if global.json() {
                print_json(&members)?;
            } else if members.is_empty() {
                print("no group has a resource or host\n")?;
            } else {
                print(&member_table(&members, snapshot.now).render(Look::of_stdout(), 0))?;
            }
        }
        ResourceVerb::Show { name } => {
            let parsed: Option<ResourceName> = name.parse().ok();
            let found = parsed.and_then(|name| snapshot.definitions.member(&name));
            let Some(member) = found else {
                let known = names(snapshot.definitions.members().map(|member| member.name));
                let sentence = format!("there is no resource or host {name:?}; there are: {known}");
                return Err(Refused::new(sentence).into());
            };
            let detail = MemberDetail::of(&snapshot, &member);
            if global.json() {
                print_json(&detail)?;
            } else {
                print(&detail.render(snapshot.now, Look::of_stdout()))?;
            }
        }
    }
    Ok(EXIT_OK)
}
