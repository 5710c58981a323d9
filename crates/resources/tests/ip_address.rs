//! `ip_address`, on two machines with a cable between them (network namespaces).

mod rig;

use child::protocol::FromChild;
use model::{Epoch, FailureReach, Millis};
use rig::net::Machine;
use rig::{Monitor, resource, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Two machines, each with an address of its own for IPv4 and IPv6.
fn two_machines() -> Option<(Machine, Machine)> {
    let (one, two) = (Machine::start()?, Machine::start()?);
    let (here, there) = (["192.0.2.1/24", "2001:db8::1/64"], ["192.0.2.2/24", "2001:db8::2/64"]);
    one.connect(&two, &here, &there);
    Some((one, two))
}

fn ip(address: &str) -> Value {
    resource(json!({"ip_address": {"address": address, "announcements": 2}}))
}

fn mac_of(machine: &Machine) -> String {
    let link = machine.run(&["ip", "-o", "link", "show", "eth0"]);
    link.split("link/ether ").nth(1).expect("its address").split(' ').next().expect("it").to_owned()
}

/// The hardware address under which a machine knows an address.
fn known(machine: &Machine, address: &str) -> String {
    let entry = machine.run(&["ip", "neigh", "show", "to", address, "dev", "eth0"]);
    entry.split("lladdr ").nth(1).unwrap_or("").split(' ').next().unwrap_or("").to_owned()
}

fn has(machine: &Machine, address: &str) -> bool {
    machine.run(&["ip", "-o", "address"]).contains(&format!(" {address}/"))
}

#[test]
fn an_address_is_taken_announced_and_given_back() {
    let Some((one, two)) = two_machines() else { return };
    for (address, wide) in [("192.0.2.10", "192.0.2.10/24"), ("2001:db8::10", "2001:db8::10/64")] {
        // The peer believes that another machine has it, as after a failover.
        two.run(&[
            "ip",
            "neigh",
            "replace",
            address,
            "lladdr",
            "02:00:00:00:00:99",
            "dev",
            "eth0",
            "nud",
            "stale",
        ]);
        let mut monitor = Monitor::start_by(&mut one.monitor(), ip(wide), &[]);
        monitor.bring_online(1);
        assert!(has(&one, address));
        until("the peer has heard of it", || known(&two, address) == mac_of(&one));
        assert!(two.try_run(&["ping", "-c", "1", "-W", "2", address]));
        monitor.take_offline(1);
        assert!(!has(&one, address));
    }
}

#[test]
fn an_address_that_is_on_the_network_is_refused_with_its_owner() {
    let Some((one, two)) = two_machines() else { return };
    for wide in ["192.0.2.2/24", "2001:db8::2/64"] {
        let mut monitor = Monitor::start_by(&mut one.monitor(), ip(wide), &[]);
        monitor.expect(FromChild::Ready);
        monitor.activate(1);
        let words = format!("already on the network of eth0: {}", mac_of(&two));
        monitor.expect_failed(FailureReach::Soft, &words);
        assert!(!has(&one, wide.split('/').next().expect("an address")));
    }
}

#[test]
fn an_address_is_gone_when_trust_ends_and_when_the_node_dies() {
    let Some((one, _two)) = two_machines() else { return };
    for frozen in [true, false] {
        let mut monitor = Monitor::start_by(&mut one.monitor(), ip("192.0.2.10/24"), &[]);
        monitor.expect(FromChild::Ready);
        monitor.activate_for(1, if frozen { Millis(2000) } else { Millis::minutes(5) });
        monitor.expect(FromChild::Active { epoch: Epoch(1) });
        assert!(has(&one, "192.0.2.10"));
        if !frozen {
            monitor.close_socket();
        }
        assert_eq!(monitor.ended().code(), Some(75));
        assert!(!has(&one, "192.0.2.10"));
    }
}

#[test]
fn what_a_killed_monitor_left_behind_is_removed_first() {
    let Some((one, _two)) = two_machines() else { return };
    for (address, wide) in [("192.0.2.10", "192.0.2.10/24"), ("2001:db8::10", "2001:db8::10/64")] {
        let mut monitor = Monitor::start_by(&mut one.monitor(), ip(wide), &[]);
        monitor.bring_online(1);
        monitor.signal(Signal::KILL);
        monitor.ended();
        assert!(has(&one, address), "nobody removes it, or this tests nothing");
        let mut next = Monitor::start_by(&mut one.monitor(), ip(wide), &[]);
        next.expect(FromChild::Ready);
        assert!(!has(&one, address));
    }
}

#[test]
fn an_address_of_the_machine_itself_is_not_touched() {
    let Some((one, _two)) = two_machines() else { return };
    let mut monitor = Monitor::start_by(&mut one.monitor(), ip("192.0.2.1/24"), &[]);
    monitor.expect_failed(FailureReach::Hard, "Baton has not put there");
    assert!(has(&one, "192.0.2.1"));
}

#[test]
fn an_address_that_somebody_removes_is_missed_at_once() {
    let Some((one, _two)) = two_machines() else { return };
    let mut definition = ip("192.0.2.10/24");
    definition["policy"] = json!({"looks_alive_interval": "1h", "is_alive_interval": "1h"});
    let mut monitor = Monitor::start_by(&mut one.monitor(), definition, &[]);
    monitor.bring_online(1);
    one.run(&["ip", "address", "delete", "192.0.2.10/24", "dev", "eth0"]);
    monitor.expect_failed(FailureReach::Soft, "no longer on eth0");
}

#[test]
fn an_interface_without_a_link_is_a_failure() {
    let Some((one, two)) = two_machines() else { return };
    let mut monitor = Monitor::start_by(&mut one.monitor(), ip("192.0.2.10/24"), &[]);
    monitor.bring_online(1);
    two.run(&["ip", "link", "set", "eth0", "down"]);
    monitor.expect_failed(FailureReach::Soft, "eth0 has no link");
    assert!(!has(&one, "192.0.2.10"));
}

#[test]
fn what_cannot_be_says_why() {
    let Some((one, _two)) = two_machines() else { return };
    for (kind, reach, words, at_once) in [
        (json!({"address": "10.0.0.1/8"}), FailureReach::Hard, "name the `interface`", false),
        (
            json!({"address": "10.0.0.1/8", "interface": "eth7"}),
            FailureReach::Hard,
            "no interface eth7",
            false,
        ),
        (json!({"address": "10.0.0.1"}), FailureReach::Fatal, "length of its network", true),
    ] {
        let definition = resource(json!({"ip_address": kind}));
        let mut monitor = Monitor::start_by(&mut one.monitor(), definition, &[]);
        if !at_once {
            monitor.expect(FromChild::Ready);
            monitor.activate(1);
        }
        monitor.expect_failed(reach, words);
    }
}
