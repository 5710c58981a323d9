//! The network of namespaces does what it says: it carries, cuts, loses, delays and doubles.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testbed::net::{Impairment, Network, Way};

const PORT: u16 = 4711;

/// Long enough for any packet that still comes.
const LAST_CALL: Duration = Duration::from_millis(300);

/// Two machines that can send each other datagrams.
struct Pair {
    network: Network,
    a: UdpSocket,
    b: UdpSocket,
    to_a: (Ipv4Addr, u16),
    to_b: (Ipv4Addr, u16),
}

impl Pair {
    fn make() -> Option<Pair> {
        let mut network = testbed::or_skip(Network::new())?;
        let a = network.add("a").expect("a machine");
        let b = network.add("b").expect("another machine");
        let bind = |name| {
            let socket = network.inside(name, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)));
            let socket = socket.expect("the namespace").expect("a socket");
            socket.set_read_timeout(Some(LAST_CALL)).expect("a timeout");
            socket
        };
        let (at_a, at_b) = (bind("a"), bind("b"));
        let pair = Pair { network, a: at_a, b: at_b, to_a: (a, PORT), to_b: (b, PORT) };
        // Both know the other's hardware address from here on.
        assert_eq!((pair.there(b"hello"), pair.back(b"hello")), (1, 1));
        Some(pair)
    }

    /// How often b receives what a sends once.
    fn there(&self, what: &[u8]) -> usize {
        count(&self.a, self.to_b, &self.b, what)
    }

    fn back(&self, what: &[u8]) -> usize {
        count(&self.b, self.to_a, &self.a, what)
    }
}

fn count(from: &UdpSocket, to: (Ipv4Addr, u16), at: &UdpSocket, what: &[u8]) -> usize {
    from.send_to(what, to).expect("sent");
    received(at)
}

fn received(at: &UdpSocket) -> usize {
    let mut buffer = [0; 100];
    std::iter::from_fn(|| at.recv(&mut buffer).ok()).count()
}

#[test]
fn links_are_cut_and_mended() {
    let Some(mut pair) = Pair::make() else { return };
    pair.network.cut("a", Way::From).expect("cut");
    assert_eq!((pair.there(b"1"), pair.back(b"2")), (0, 1));
    pair.network.mend().expect("mended");
    pair.network.cut("a", Way::To).expect("cut");
    assert_eq!((pair.there(b"3"), pair.back(b"4")), (1, 0));
    pair.network.mend().expect("mended");
    pair.network.cut("b", Way::Both).expect("cut");
    assert_eq!((pair.there(b"5"), pair.back(b"6")), (0, 0));
    pair.network.mend().expect("mended");
    pair.network.cut_between("b", "a").expect("cut");
    assert_eq!((pair.there(b"7"), pair.back(b"8")), (1, 0));
    pair.network.mend().expect("mended");
    assert_eq!((pair.there(b"9"), pair.back(b"10")), (1, 1));
}

#[test]
fn links_lose_double_and_delay() {
    let Some(mut pair) = Pair::make() else { return };
    pair.network.impair("b", Impairment::Duplicate).expect("impaired");
    assert_eq!((pair.there(b"1"), pair.back(b"2")), (2, 2));
    pair.network.mend().expect("mended");

    pair.network.impair("b", Impairment::Drop(30)).expect("impaired");
    for number in 0..200_u32 {
        pair.a.send_to(&number.to_be_bytes(), pair.to_b).expect("sent");
    }
    // 140 are expected; 8 standard deviations are 52.
    let came = received(&pair.b);
    assert!((88..=192).contains(&came), "{came} of 200 came at 30 % loss");
    pair.network.mend().expect("mended");

    let by = Duration::from_millis(200);
    pair.network.impair("b", Impairment::Delay(by)).expect("impaired");
    for (from, to, at) in [(&pair.a, pair.to_b, &pair.b), (&pair.b, pair.to_a, &pair.a)] {
        let sent = Instant::now();
        from.send_to(b"late", to).expect("sent");
        at.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        at.recv(&mut [0; 100]).expect("it comes");
        assert!(sent.elapsed() >= by, "it came after {:?}", sent.elapsed());
        at.set_read_timeout(Some(LAST_CALL)).expect("a timeout");
    }
    pair.network.mend().expect("mended");
    assert_eq!((pair.there(b"3"), pair.back(b"4")), (1, 1));
}

#[test]
fn a_network_ends_with_its_processes() {
    let Some(mut network) = testbed::or_skip(Network::new()) else { return };
    network.add("a").expect("a machine");
    let mut sleep = network.command("a", "sleep");
    let mut sleep = sleep.arg("600").stdin(Stdio::null()).spawn().expect("sleep runs");
    let space = network.namespace("a");
    let spaces = || {
        let output = Command::new("ip").args(["netns", "list"]).output().expect("ip runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(spaces().contains(&space));
    drop(network);
    assert!(!spaces().contains(&space));
    assert!(!sleep.wait().expect("it has ended").success());
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let Some(network) = testbed::or_skip(Network::new()) else { return };
    let mut ended = Command::new("true").spawn().expect("true runs");
    let pid = ended.id();
    ended.wait().expect("it has ended");
    let space = format!("baton-net-{pid}-1-switch");
    let made = Command::new("ip").args(["netns", "add", &space]).status().expect("ip runs");
    assert!(made.success());
    drop(Network::new().expect("a second network"));
    assert!(!std::path::Path::new("/run/netns").join(&space).exists());
    assert!(std::path::Path::new("/run/netns").join(network.namespace("switch")).exists());
}
