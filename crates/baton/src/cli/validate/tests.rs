//! Every test, one entry each. The ids are for life: reports are compared over years.

use super::judge::{Attempt, Judgement};
use super::scene::Scene;
use super::{cluster, endpoint, machine, resource};

/// One test.
pub struct Test {
    /// Its id; `store` stands for all that the store's engine examines, `store.fence` and more.
    pub id: &'static str,
    /// What it looks at.
    pub about: &'static str,
    /// What to say when there is nothing for it to look at.
    pub nothing: &'static str,
    /// How it is done.
    pub run: Run,
}

/// How a test is done.
pub enum Run {
    /// By reading what the store said.
    Look(fn(&Scene) -> Vec<Judgement>),
    /// By going and trying, some at the same time.
    Try(fn(&Scene) -> Vec<Attempt>),
    /// By the store's engine itself.
    Examine,
}

const HERE: &str = "nothing of this kind is defined for this node";

/// The tests in the order in which they are done and reported.
pub const TESTS: &[Test] = &[
    Test {
        id: "store",
        about: "the store itself: fence, clock, poolers, durability, replication, room",
        nothing: "this engine has nothing to examine",
        run: Run::Examine,
    },
    Test {
        id: "definitions.valid",
        about: "the definitions in force keep every rule of this version",
        nothing: "no definitions were applied yet",
        run: Run::Look(cluster::definitions),
    },
    Test {
        id: "group.owners",
        about: "the possible owners of each group have joined, are up, and have what it needs",
        nothing: "no group is defined",
        run: Run::Look(cluster::owners),
    },
    Test {
        id: "group.online",
        about: "each group that is wanted online is online, with all its resources",
        nothing: "no group is defined",
        run: Run::Look(cluster::online),
    },
    Test {
        id: "group.budget",
        about: "what is left of the restarts and failovers that policies tolerate",
        nothing: "no group is defined",
        run: Run::Look(cluster::budgets),
    },
    Test {
        id: "node.up",
        about: "each node that did not leave in good order is up",
        nothing: "no node has joined",
        run: Run::Look(cluster::up),
    },
    Test {
        id: "node.duty",
        about: "no node is forgotten in a pause, a drain or a quarantine",
        nothing: "no node has joined",
        run: Run::Look(cluster::duty),
    },
    Test {
        id: "node.version",
        about: "all nodes that are up have the same version of Baton, and this command too",
        nothing: "no node is up",
        run: Run::Look(cluster::versions),
    },
    Test {
        id: "node.validated",
        about: "this was run on each node within a day, and what it found there",
        nothing: "no node has joined",
        run: Run::Look(cluster::validated),
    },
    Test {
        id: "machine.clock",
        about: "this machine's clock against the store's",
        nothing: "",
        run: Run::Try(machine::clock),
    },
    Test {
        id: "machine.ttl",
        about: "the ttl against how long the store takes to answer this machine",
        nothing: "",
        run: Run::Try(machine::ttl),
    },
    Test {
        id: "machine.disk",
        about: "room on the disks of this machine that Baton writes to",
        nothing: HERE,
        run: Run::Try(machine::disks),
    },
    Test {
        id: "machine.secrets",
        about: "files with passwords and keys: there, readable for us and for nobody else",
        nothing: HERE,
        run: Run::Try(machine::secrets),
    },
    Test {
        id: "machine.user",
        about: "this runs as the user that the node runs as, so that permissions are tested",
        nothing: "no node runs on this machine",
        run: Run::Try(machine::user),
    },
    Test {
        id: "endpoint.ftp",
        about: "FTP servers of receive locations answer this machine",
        nothing: HERE,
        run: Run::Try(endpoint::ftp),
    },
    Test {
        id: "endpoint.file",
        about: "folders of receive locations and send ports: there, permitted, shared",
        nothing: HERE,
        run: Run::Try(endpoint::folders),
    },
    Test {
        id: "resource.process",
        about: "programs of `process` resources are there and may be executed",
        nothing: HERE,
        run: Run::Try(resource::processes),
    },
    Test {
        id: "resource.systemd",
        about: "units of `systemd` resources exist and are not started by the machine itself",
        nothing: HERE,
        run: Run::Try(resource::units),
    },
    Test {
        id: "resource.ocf",
        about: "OCF agents are installed and accept their parameters (meta-data, validate-all)",
        nothing: HERE,
        run: Run::Try(resource::agents),
    },
    Test {
        id: "resource.ip_address",
        about: "addresses of groups have an interface here, and nobody else answers for them",
        nothing: HERE,
        run: Run::Try(resource::addresses),
    },
    Test {
        id: "resource.network_name",
        about: "DNS servers of `network_name` resources answer for their zone",
        nothing: HERE,
        run: Run::Try(resource::names),
    },
];

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn ids_are_given_once() {
        for (place, test) in TESTS.iter().enumerate() {
            assert!(TESTS[..place].iter().all(|other| other.id != test.id), "{}", test.id);
        }
    }
}
