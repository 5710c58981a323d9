//! The verbs of fate: what breaks, and what is mended.

use cluster::{Event, Exit, Presence};
use model::{FailureReach, NodeName, ResourceName};

use crate::machine::Cut;
use crate::process::Happens;
use crate::world::{Item, World};

impl World {
    /// A machine dies with everything on it; the store hears of it as much as `presence` says.
    pub fn kill(&mut self, node: &NodeName, presence: Presence) {
        let elapsed = self.elapsed;
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        machine.agent = None;
        machine.joining = false;
        machine.frozen = false;
        machine.procs.clear();
        machine.disturbed_at = elapsed;
        self.set_presence(node, presence);
    }

    /// The store learns something of a node.
    pub fn set_presence(&mut self, node: &NodeName, presence: Presence) {
        if let Some(view) = self.store.nodes.get_mut(node)
            && view.presence != presence
        {
            view.presence = presence;
            self.hint();
        }
    }

    /// A machine stands still; its connections live on.
    pub fn freeze(&mut self, node: &NodeName) {
        if let Some(machine) = self.machines.get_mut(node) {
            machine.frozen = true;
            machine.disturbed_at = self.elapsed;
        }
    }

    /// It goes on.
    pub fn thaw(&mut self, node: &NodeName) {
        let elapsed = self.elapsed;
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        if !std::mem::take(&mut machine.frozen) {
            return;
        }
        machine.disturbed_at = elapsed;
        // What a thawed machine does first is up to its scheduler; here: what watches clocks.
        let mut stashed = std::mem::take(&mut machine.stashed);
        stashed.sort_by_key(|item| match item {
            Item::Wake(_) => 0,
            Item::Proc { what: Happens::TrustEnds, .. } => 1,
            _ => 2,
        });
        for item in stashed {
            self.after(node, 0, item);
        }
    }

    /// The way between a machine and the store is cut; the store notices as much as `presence`
    /// says.
    pub fn cut(&mut self, node: &NodeName, cut: Cut, presence: Presence) {
        if let Some(machine) = self.machines.get_mut(node) {
            machine.cut = cut;
            machine.disturbed_at = self.elapsed;
        }
        self.set_presence(node, presence);
    }

    /// The way to the store is mended, and the node's session with it is there again.
    pub fn mend(&mut self, node: &NodeName) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        machine.disturbed_at = self.elapsed;
        machine.cut = Cut::None;
        let alive = machine.agent.is_some();
        let current = self.store.nodes.get(node).is_some_and(|view| view.epoch == machine.epoch);
        if alive && current {
            self.set_presence(node, Presence::Present);
        }
        self.hint();
    }

    /// Nobody reaches the store any more.
    pub fn store_away(&mut self) {
        self.store.away = true;
    }

    /// The store is back.
    pub fn store_back(&mut self) {
        if self.store.away {
            self.store.come_back();
            self.hint();
        }
    }

    /// A node is asked to stop: it hands over what it has, and ends.
    pub fn stop(&mut self, node: &NodeName) {
        self.after(node, 0, Item::Deliver(Box::new(Event::Stop)));
    }

    /// A member fails on a node: its process ends by itself, saying how far that reaches.
    pub fn fail(&mut self, node: &NodeName, name: &ResourceName, how: &str, reach: FailureReach) {
        if self.machines.get(node).is_some_and(|machine| !machine.frozen) {
            self.exit(node, name, Exit::Failed(how.to_owned(), reach));
        }
    }

    /// The monitor of a resource dies and leaves what it drove as it is.
    pub fn crash(&mut self, node: &NodeName, name: &ResourceName) {
        if self.machines.get(node).is_some_and(|machine| !machine.frozen) {
            self.exit(node, name, Exit::Crashed("killed by signal 9".to_owned()));
        }
    }

    /// A member that works makes no more progress.
    pub fn hang(&mut self, node: &NodeName, name: &ResourceName) {
        if let Some(proc) = self.proc_mut(node, name)
            && proc.work.is_some()
        {
            proc.hung = true;
        }
    }

    /// From now on a member fails on a node whenever it is started there.
    pub fn break_resource(&mut self, node: &NodeName, name: &ResourceName, reach: FailureReach) {
        if let Some(machine) = self.machines.get_mut(node) {
            machine.broken.insert(name.clone(), reach);
        }
    }

    /// It works there again, and can be stopped again.
    pub fn repair(&mut self, node: &NodeName, name: &ResourceName) {
        if let Some(machine) = self.machines.get_mut(node) {
            machine.broken.remove(name);
            machine.deaf.remove(name);
        }
        self.unstick(node, name);
    }

    /// Somebody stops by hand what could not be stopped: its monitor sees it at once.
    fn unstick(&mut self, node: &NodeName, name: &ResourceName) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        if !machine.stuck.remove(name) {
            return;
        }
        let Some(proc) = machine.procs.get(name) else { return };
        let epoch = proc.work.as_ref().map(|work| work.epoch);
        if proc.ending {
            self.later(node, name, 0, Happens::Ends(Exit::Expected));
        } else if let Some(epoch) = epoch.filter(|_| proc.worker.draining) {
            self.later(node, name, 0, Happens::Finish(epoch));
        }
    }

    /// A resource cannot be stopped on a node.
    pub fn stick(&mut self, node: &NodeName, name: &ResourceName) {
        if let Some(machine) = self.machines.get_mut(node) {
            machine.stuck.insert(name.clone());
        }
    }

    /// A host does not hear on a node that it is to stop.
    pub fn deafen(&mut self, node: &NodeName, name: &ResourceName) {
        if let Some(machine) = self.machines.get_mut(node) {
            machine.deaf.insert(name.clone());
        }
    }

    /// A machine's wall clock is set.
    pub fn step_clock(&mut self, node: &NodeName, by: i64) {
        if let Some(machine) = self.machines.get_mut(node) {
            machine.wall_offset = machine.wall_offset.saturating_add(by);
        }
    }
}
