//! Child processes: hosts, and the monitors of other resources.

use cluster::{Event, Exit};
use model::{BootTime, Epoch, FailureReach, LeaseName, NodeName, ResourceName};

use crate::Mutant;
use crate::machine::{Proc, Work};
use crate::worker::{Answer, Shift, Turn};
use crate::world::{Item, World};

const SPAWN_TAKES: u64 = 200;
const ACTIVATE_TAKES: u64 = 20;
pub(crate) const DEACTIVATE_TAKES: u64 = 50;
const KILL_TAKES: u64 = 5;
const PROGRESS_EVERY: u64 = 500;
/// How long work that was begun when a host is to stop is waited for, at a time.
const FINISH_AGAIN: u64 = 20;
/// How often a monitor tries to stop what cannot be stopped.
const STUCK_AGAIN: u64 = 5000;

/// Something that happens to a child process.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Happens {
    Up,
    Active(Epoch),
    /// It was told to stop: it does so once what it has begun has returned.
    Finish(Epoch),
    Progress,
    TrustEnds,
    /// It was killed, or takes its resource down on its way out; then it is gone.
    Ends(Exit),
    /// The next thing that a host does for its ports.
    Turn(Shift, Turn),
    /// The store answered.
    Answer(Shift, Answer),
}

impl World {
    pub(crate) fn spawn(&mut self, node: &NodeName, name: ResourceName, driver: bool) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        machine.generation += 1;
        let proc = Proc::new(machine.generation, driver);
        if machine.procs.insert(name.clone(), proc).is_some() {
            self.impossible(node, &format!("spawns {name} twice"));
        }
        self.later(node, &name, SPAWN_TAKES, Happens::Up);
    }

    pub(crate) fn activate(&mut self, node: &NodeName, name: &ResourceName, work: Work) {
        let (epoch, trust_until) = (work.epoch, work.trust_until);
        self.unchecked = true;
        if trust_until <= self.clock(node) {
            self.impossible(node, &format!("activates {name} without trust"));
        }
        let Some(proc) = self.proc_mut(node, name) else {
            return self.impossible(node, &format!("activates {name}, which has no process"));
        };
        proc.work = Some(work);
        proc.worker.draining = false;
        self.later(node, name, ACTIVATE_TAKES, Happens::Active(epoch));
        self.watch_trust(node, name, trust_until);
    }

    pub(crate) fn trust(&mut self, node: &NodeName, name: &ResourceName, trust_until: BootTime) {
        let Some(proc) = self.proc_mut(node, name) else {
            return self.impossible(node, &format!("trusts {name}, which has no process"));
        };
        if let Some(work) = &mut proc.work {
            work.trust_until = trust_until;
        }
        self.unchecked = true;
        self.watch_trust(node, name, trust_until);
    }

    fn watch_trust(&mut self, node: &NodeName, name: &ResourceName, trust_until: BootTime) {
        let delay = trust_until.since(self.clock(node)).0 + 1;
        let delay = self.machines.get(node).map_or(delay, |machine| machine.truly(delay));
        self.later(node, name, delay, Happens::TrustEnds);
    }

    pub(crate) fn deactivate(&mut self, node: &NodeName, name: &ResourceName) {
        let Some(proc) = self.proc_mut(node, name) else {
            return self.impossible(node, &format!("stops {name}, which has no process"));
        };
        let Some(epoch) = proc.work.as_ref().map(|work| work.epoch) else {
            return;
        };
        proc.worker.draining = true;
        self.later(node, name, DEACTIVATE_TAKES, Happens::Finish(epoch));
        if self.mutant == Some(Mutant::ReleaseBeforeReturn) {
            self.tell(node, Event::InstanceInactive(name.clone(), epoch));
        }
    }

    pub(crate) fn kill_proc(&mut self, node: &NodeName, name: &ResourceName) {
        let Some(proc) = self.proc_mut(node, name) else {
            return;
        };
        if proc.driver {
            // It is asked to end, and takes its resource down first.
            proc.ending = true;
            self.later(node, name, DEACTIVATE_TAKES, Happens::Ends(Exit::Expected));
        } else {
            // The signal is sent: whatever it still does, the node trusts it no more.
            proc.work = None;
            self.later(node, name, KILL_TAKES, Happens::Ends(Exit::Expected));
        }
    }

    pub(crate) fn proc_mut(&mut self, node: &NodeName, name: &ResourceName) -> Option<&mut Proc> {
        self.machines.get_mut(node)?.procs.get_mut(name)
    }

    /// Something that the present process of a member will do.
    pub(crate) fn later(
        &mut self,
        node: &NodeName,
        name: &ResourceName,
        delay: u64,
        what: Happens,
    ) {
        let Some(proc) = self.proc_mut(node, name) else { return };
        let (generation, name) = (proc.generation, name.clone());
        self.after(node, delay, Item::Proc { name, generation, what });
    }

    pub(crate) fn proc(
        &mut self,
        node: &NodeName,
        name: &ResourceName,
        generation: u64,
        what: Happens,
    ) {
        let now = self.clock(node);
        let Some(machine) = self.machines.get_mut(node) else { return };
        let broken = machine.broken.get(name).copied();
        let stuck = machine.stuck.contains(name);
        let Some(proc) = machine.procs.get_mut(name) else { return };
        if proc.generation != generation {
            return;
        }
        let (hung, driver) = (proc.hung, proc.driver);
        match what {
            Happens::Up => match broken {
                Some(reach) if !driver => {
                    self.exit(node, name, Exit::Failed("exit code 3".to_owned(), reach));
                }
                _ => self.tell(node, Event::InstanceReady(name.clone())),
            },
            Happens::Active(epoch) if proc.works_under(epoch) && !hung && !proc.ending => {
                match broken {
                    Some(reach) if driver => {
                        let how = "did not start".to_owned();
                        self.exit(node, name, Exit::Failed(how, reach));
                    }
                    _ => self.active(node, name, epoch),
                }
            }
            Happens::Finish(epoch) if proc.works_under(epoch) && !hung => {
                self.finish(node, name, epoch, stuck);
            }
            Happens::Progress if proc.work.is_some() && !hung => {
                self.tell(node, Event::Progress(name.clone()));
                self.later(node, name, PROGRESS_EVERY, Happens::Progress);
            }
            Happens::TrustEnds if proc.work.as_ref().is_some_and(|work| work.trust_until < now) => {
                if driver {
                    if !std::mem::replace(&mut proc.ending, true) {
                        let what = Happens::Ends(Exit::TrustEnded);
                        self.later(node, name, DEACTIVATE_TAKES, what);
                    }
                } else {
                    self.exit(node, name, Exit::TrustEnded);
                }
            }
            Happens::Ends(exit) if driver && stuck && proc.work.is_some() => {
                self.later(node, name, STUCK_AGAIN, Happens::Ends(exit));
            }
            Happens::Ends(exit) => self.exit(node, name, exit),
            Happens::Turn(shift, turn) => self.turn(node, name, shift, turn),
            Happens::Answer(shift, answer) => self.answered(node, name, shift, answer),
            Happens::Active(_) | Happens::Finish(_) | Happens::Progress | Happens::TrustEnds => {}
        }
    }

    fn active(&mut self, node: &NodeName, name: &ResourceName, epoch: Epoch) {
        self.tell(node, Event::InstanceActive(name.clone(), epoch));
        self.later(node, name, PROGRESS_EVERY, Happens::Progress);
        self.begin_work(node, name, epoch);
    }

    /// A process that was told to stop.
    fn finish(&mut self, node: &NodeName, name: &ResourceName, epoch: Epoch, stuck: bool) {
        let Some(machine) = self.machines.get_mut(node) else { return };
        if machine.deaf.contains(name) {
            return;
        }
        let Some(proc) = machine.procs.get_mut(name) else { return };
        if stuck && proc.driver {
            let what = "stop timed out".to_owned();
            self.tell(node, Event::Stuck(name.clone(), what));
            return self.later(node, name, STUCK_AGAIN, Happens::Finish(epoch));
        }
        if proc.worker.is_busy() {
            return self.later(node, name, FINISH_AGAIN, Happens::Finish(epoch));
        }
        proc.work = None;
        self.tell(node, Event::InstanceInactive(name.clone(), epoch));
    }

    /// A child process ends, and its node reaps it.
    pub(crate) fn exit(&mut self, node: &NodeName, name: &ResourceName, exit: Exit) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        if machine.procs.remove(name).is_some() {
            self.tell(node, Event::InstanceExited(name.clone(), exit));
        }
    }

    /// A host met the fence: it is no owner any more, and ends.
    pub(crate) fn fenced(&mut self, node: &NodeName, name: &ResourceName) {
        let exit = Exit::Failed("fenced".to_owned(), FailureReach::Soft);
        self.exit(node, name, exit);
    }

    /// The lease under which a member works on a node, if it does and trusts itself.
    pub fn works(&self, node: &NodeName, name: &ResourceName) -> Option<(&LeaseName, Epoch)> {
        let machine = self.machines.get(node)?;
        let work = machine.procs.get(name)?.work.as_ref()?;
        (work.trust_until > self.clock(node)).then_some((&work.lease, work.epoch))
    }
}
