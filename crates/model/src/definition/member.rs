//! The members of a group, hosts and resources alike.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    Definitions, Dependency, EffectivePolicy, Group, Host, Resource, ResourceKind, ResourcePolicy,
};
use crate::{GroupName, NodeName, ResourceName};

/// A member of a group, or a host that is not clustered.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<'a> {
    /// Its name.
    pub name: ResourceName,
    /// Its group; none for a host that is not clustered.
    pub group: Option<&'a GroupName>,
    /// What must be online before it.
    pub depends_on: &'a Dependency,
    /// Where its policy differs from its group's.
    pub policy: &'a ResourcePolicy,
    /// What it is.
    pub kind: MemberKind<'a>,
}

/// Everything that the process which drives a resource must know: it never reads the definitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceSpec {
    /// The resource.
    pub resource: Resource,
    /// Its policy, whole.
    pub policy: EffectivePolicy,
    /// The addresses of the `ip_address` resources that it depends on.
    pub addresses: Vec<IpAddr>,
}

/// What a member of a group is.
#[derive(Debug, Clone, PartialEq)]
pub enum MemberKind<'a> {
    /// A host: fenced by the store in everything it does.
    Host(&'a Host),
    /// A resource with effects outside the store.
    Resource(&'a Resource),
}

impl Member<'_> {
    /// Whether it can run on a node.
    pub fn runs_on(&self, node: &NodeName) -> bool {
        match self.kind {
            MemberKind::Host(host) => host.runs_on(node),
            MemberKind::Resource(resource) => {
                resource.possible_owners.is_empty() || resource.possible_owners.contains(node)
            }
        }
    }

    /// Whether it has effects that the store's fence does not hold back.
    pub fn is_external(&self) -> bool {
        matches!(self.kind, MemberKind::Resource(_))
    }

    /// The word of its kind: `host`, `process`, `ip_address`.
    pub fn kind_word(&self) -> &'static str {
        match self.kind {
            MemberKind::Host(_) => "host",
            MemberKind::Resource(resource) => resource.kind.as_str(),
        }
    }

    /// The settings of its kind, unless it is a host.
    pub fn resource_kind(&self) -> Option<&ResourceKind> {
        match self.kind {
            MemberKind::Host(_) => None,
            MemberKind::Resource(resource) => Some(&resource.kind),
        }
    }
}

impl<'a> From<&'a Host> for Member<'a> {
    fn from(host: &'a Host) -> Member<'a> {
        Member {
            name: host.name.clone().into(),
            group: host.group.as_ref(),
            depends_on: &host.depends_on,
            policy: &host.policy,
            kind: MemberKind::Host(host),
        }
    }
}

impl<'a> From<&'a Resource> for Member<'a> {
    fn from(resource: &'a Resource) -> Member<'a> {
        Member {
            name: resource.name.clone(),
            group: Some(&resource.group),
            depends_on: &resource.depends_on,
            policy: &resource.policy,
            kind: MemberKind::Resource(resource),
        }
    }
}

impl Definitions {
    /// All members of all groups, and the hosts that are not clustered: resources first, each list
    /// in the order written.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        self.resources.iter().map(Member::from).chain(self.hosts.iter().map(Member::from))
    }

    /// The members of a group.
    pub fn members_of<'a>(&'a self, group: &'a GroupName) -> impl Iterator<Item = Member<'a>> {
        self.members().filter(move |member| member.group == Some(group))
    }

    /// The member of this name.
    pub fn member(&self, name: &ResourceName) -> Option<Member<'_>> {
        self.members().find(|member| member.name == *name)
    }

    /// The policy of a member, whole.
    pub fn policy_of(&self, member: &Member<'_>) -> EffectivePolicy {
        let group = member.group.and_then(|name| self.group(name));
        group.map(|group| group.policy.clone()).unwrap_or_default().with(member.policy)
    }

    /// What the process that drives a resource must know; none for a host.
    pub fn spec_of(&self, name: &ResourceName) -> Option<ResourceSpec> {
        let resource = self.resource(name)?;
        let policy = self.policy_of(&Member::from(resource));
        let providers = resource.depends_on.names().filter_map(|name| self.resource(name));
        let addresses = providers.filter_map(|provider| match &provider.kind {
            ResourceKind::IpAddress(ip) => ip.address.split('/').next()?.parse().ok(),
            _ => None,
        });
        Some(ResourceSpec { policy, addresses: addresses.collect(), resource: resource.clone() })
    }

    /// Whether a group has effects that the store's fence does not hold back.
    pub fn is_external(&self, group: &Group) -> bool {
        self.resources.iter().any(|resource| resource.group == group.name)
    }
}
