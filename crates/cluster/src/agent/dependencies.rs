//! The order in which the members of a group come up and go down.
//!
//! One rule makes all of it: a member may work while its expression holds over members that are
//! up. So providers start first; when one fails, what cannot do without it is taken down and comes
//! back after it; and going offline begins with those that nobody needs.

use std::collections::BTreeMap;

use model::definition::{Dependency, EffectivePolicy, Member, ResourceSpec};
use model::{LeaseName, ResourceName};

use super::Agent;
use super::children::ChildState;

/// What the definitions say of a member, found once for each version of them.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The lease under which it works here; none when this node has none of it.
    pub lease: Option<LeaseName>,
    pub depends_on: Dependency,
    pub policy: EffectivePolicy,
    /// What its monitor is told; none for a host.
    pub spec: Option<Box<ResourceSpec>>,
}

impl Agent {
    /// Reads the definitions that the last snapshot brought, if they are others.
    pub(super) fn index_definitions(&mut self) {
        let Some(seen) = &self.seen else { return };
        let version = seen.snapshot.definitions_version;
        if self.indexed == Some(version) {
            return;
        }
        let definitions = seen.snapshot.definitions.clone();
        let entry = |member: Member<'_>| {
            let lease = member.group.map(|group| LeaseName::Group(group.clone()));
            let own = || LeaseName::Instance(member.name.clone().into(), self.me.clone());
            let here = member.is_external() || member.runs_on(&self.me);
            let entry = Entry {
                lease: here.then(|| lease.unwrap_or_else(own)),
                depends_on: member.depends_on.clone(),
                policy: definitions.policy_of(&member),
                spec: definitions.spec_of(&member.name).map(Box::new),
            };
            (member.name.clone(), entry)
        };
        let index: BTreeMap<ResourceName, Entry> = definitions.members().map(entry).collect();
        let before = std::mem::replace(&mut self.index, index);
        // What is no longer defined and still works goes down in its order, by its own limits.
        for (name, entry) in before {
            if self.children.get(&name).is_some_and(|child| child.lease().is_some()) {
                self.index.entry(name).or_insert(Entry { lease: None, ..entry });
            }
        }
        self.indexed = Some(version);
    }

    /// Whether what a member depends on is up. What is not defined is not waited for.
    pub(super) fn may_work(&self, name: &ResourceName) -> bool {
        let Some(entry) = self.index.get(name) else { return true };
        entry
            .depends_on
            .holds(|provider| self.is_up(provider) || !self.index.contains_key(provider))
    }

    /// Whether what depends on a member may work. One that must start anew is not counted on any
    /// more, so that those above it go down first.
    fn is_up(&self, name: &ResourceName) -> bool {
        let Some(child) = self.children.get(name).filter(|child| child.state.is_up()) else {
            return false;
        };
        let here = child.state.lease() == self.lease_of(name).as_ref();
        here && !self.must_start_anew(name)
    }

    /// Whether somebody who still works cannot do without a member.
    pub(super) fn is_needed(&self, lease: &LeaseName, name: &ResourceName) -> bool {
        self.working_for(lease).iter().any(|other| {
            let names = self
                .index
                .get(other)
                .is_some_and(|entry| entry.depends_on.names().any(|provider| provider == name));
            names && other != name && !self.may_work(other)
        })
    }

    /// What a member waits for, as a sentence; none when it waits for nothing.
    pub(super) fn waits_for(&self, name: &ResourceName) -> Option<String> {
        let entry = self.index.get(name)?;
        entry.depends_on.missing(|provider| self.is_up(provider))
    }

    /// Takes down what works under a lease although what it needs is not up.
    pub(super) fn take_dependents_down(&mut self, lease: &LeaseName) {
        for name in self.working_for(lease) {
            let works = self.children.get(&name).is_some_and(|child| {
                matches!(child.state, ChildState::Active { .. } | ChildState::Activating { .. })
            });
            if works && !self.may_work(&name) {
                let what = self.waits_for(&name).unwrap_or_default();
                self.say(self.subject_of(&name), format!("it needs {what}, so it goes offline"));
                self.deactivate(&name);
            }
        }
    }

    /// Whether something that must go down before the lease is acquired anew is still on its way.
    pub(super) fn is_unwinding(&self, lease: &LeaseName) -> bool {
        self.working_for(lease).iter().any(|name| {
            self.children.get(name).is_some_and(|child| {
                matches!(child.state, ChildState::Deactivating { .. }) || child.unclean.is_some()
            })
        })
    }

    /// Takes down those that nobody who still works depends on.
    pub(super) fn take_leaves_down(&mut self, lease: &LeaseName) {
        let working = self.working_for(lease);
        for name in &working {
            let needed = working.iter().any(|other| {
                other != name
                    && self.index.get(other).is_some_and(|entry| {
                        entry.depends_on.names().any(|provider| provider == name)
                    })
            });
            if !needed {
                self.deactivate(name);
            }
        }
    }

    /// How many members of a lease stand above one another at most: so many rounds it takes to go
    /// offline.
    pub(super) fn depth(&self, lease: &LeaseName) -> u64 {
        let mut rest = self.members_of(lease);
        let mut rounds = 0;
        while !rest.is_empty() {
            let providers: Vec<ResourceName> = rest
                .iter()
                .filter_map(|name| self.index.get(name))
                .flat_map(|entry| entry.depends_on.names().cloned())
                .collect();
            let before = rest.len();
            rest.retain(|name| providers.contains(name));
            rounds += 1;
            if rest.len() == before {
                break; // A cycle, which the check of definitions refuses.
            }
        }
        rounds.max(1)
    }
}
