//! Raw frames on an interface: asking who has an address, and announcing that we have it.
//!
//! IPv4: ARP, as RFC 5227 has it. IPv6: neighbour discovery, RFC 4861 and 4862.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::LinkAddr;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UnixDatagram;
use tokio::time::{Instant, sleep, timeout_at};

use crate::neighbour::{self, ETHERTYPE_ARP, ETHERTYPE_IPV6, Mac};

/// Questions asked while we listen for another owner (RFC 5227: PROBE_NUM).
const QUESTIONS: u32 = 3;

/// Largest frame looked at: answers are far smaller.
const FRAME_BYTES_MAX: usize = 1514;

/// An interface, opened for raw frames of one protocol.
pub(crate) struct Link {
    /// A packet socket. Tokio has no type for one; sending, receiving and waiting are the same
    /// system calls for every kind of datagram socket.
    socket: UnixDatagram,
    mac: Mac,
}

impl Link {
    /// Opens an interface for frames about this address.
    pub fn open(interface: &str, address: IpAddr) -> io::Result<Link> {
        let ethertype = if address.is_ipv4() { ETHERTYPE_ARP } else { ETHERTYPE_IPV6 };
        let at = link_address(interface)?;
        let mac = at.addr().ok_or_else(|| io::Error::other("it has no hardware address"))?;
        let protocol = Protocol::from(i32::from(ethertype.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol))?;
        nix::sys::socket::bind(socket.as_raw_fd(), &at)?;
        let socket = std::os::unix::net::UnixDatagram::from(OwnedFd::from(socket));
        Ok(Link { socket: UnixDatagram::from_std(socket)?, mac })
    }

    /// Asks for another owner of an address, and listens this long.
    pub async fn another_owner(
        &self,
        address: IpAddr,
        within: Duration,
    ) -> io::Result<Option<Mac>> {
        let give_up_at = Instant::now() + within;
        let ask = async {
            for _ in 0..QUESTIONS {
                self.send(&self.question(address)).await?;
                sleep(within / (QUESTIONS + 1)).await;
            }
            std::future::pending::<io::Result<Mac>>().await
        };
        let listen = async {
            loop {
                let frame = self.receive().await?;
                let owner = match address {
                    IpAddr::V4(address) => neighbour::arp_owner(&frame, address),
                    IpAddr::V6(address) => neighbour::advertised_owner(&frame, address),
                };
                if let Some(owner) = owner.filter(|owner| *owner != self.mac) {
                    return Ok(owner);
                }
            }
        };
        let either = async {
            tokio::select! {
                failed = ask => failed,
                found = listen => found,
            }
        };
        match timeout_at(give_up_at, either).await {
            Ok(result) => result.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Tells everybody on the network that the address is here now.
    pub async fn announce(&self, address: IpAddr) -> io::Result<()> {
        let frame = match address {
            IpAddr::V4(address) => neighbour::arp_announcement(self.mac, address),
            IpAddr::V6(address) => neighbour::advertisement(self.mac, address),
        };
        self.send(&frame).await
    }

    fn question(&self, address: IpAddr) -> Vec<u8> {
        match address {
            IpAddr::V4(address) => neighbour::arp_question(self.mac, address),
            IpAddr::V6(address) => neighbour::solicitation(self.mac, address),
        }
    }

    async fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).await.map(drop)
    }

    async fn receive(&self) -> io::Result<Vec<u8>> {
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let length = self.socket.recv(&mut frame).await?;
        frame.truncate(length);
        Ok(frame)
    }
}

/// The hardware address of an interface, which also carries its index.
fn link_address(interface: &str) -> io::Result<LinkAddr> {
    let of_it = getifaddrs()?.filter(|entry| entry.interface_name == interface);
    let addresses = of_it.filter_map(|entry| entry.address);
    let mut links = addresses.filter_map(|address| address.as_link_addr().copied());
    links.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not there"))
}

/// The interface, and length of the network, whose own address is in the same network.
pub(crate) fn interface_of(address: IpAddr, length: u8) -> io::Result<Option<String>> {
    let near = |other: IpAddr| other != address && same_network(address, other, length);
    let entries = getifaddrs()?;
    let found = entries.into_iter().find(|entry| {
        let Some(other) = &entry.address else { return false };
        let v4 = other.as_sockaddr_in().map(|found| IpAddr::V4(found.ip()));
        let v6 = other.as_sockaddr_in6().map(|found| IpAddr::V6(found.ip()));
        v4.or(v6).is_some_and(near)
    });
    Ok(found.map(|entry| entry.interface_name))
}

fn same_network(one: IpAddr, other: IpAddr, length: u8) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            (Ipv4Addr::to_bits(one) ^ Ipv4Addr::to_bits(other)) & mask == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            (Ipv6Addr::to_bits(one) ^ Ipv6Addr::to_bits(other)) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_told_apart() {
        for (one, other, length, same) in [
            ("192.0.2.10", "192.0.2.200", 24, true),
            ("192.0.2.10", "192.0.3.10", 24, false),
            ("192.0.2.10", "10.0.0.1", 0, true),
            ("2001:db8::1", "2001:db8::ff", 64, true),
            ("2001:db8::1", "2001:db9::1", 32, false),
            ("192.0.2.10", "::1", 0, false),
        ] {
            let parse = |text: &str| text.parse().expect("an address");
            assert_eq!(same_network(parse(one), parse(other), length), same, "{one} {other}");
        }
    }
}
