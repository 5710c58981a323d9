//! The frames of ARP (RFC 826, 5227) and neighbour discovery (RFC 4861): made and read, no IO.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// ARP, in an Ethernet header.
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
/// IPv6, in an Ethernet header.
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;

const ETHERTYPE_IPV4: u16 = 0x0800;
const BROADCAST: Mac = [0xff; 6];
const ETHERNET: [u8; 2] = [0, 1];
const REQUEST: u8 = 1;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Override: replace what you had cached (RFC 4861 section 4.4).
const OVERRIDE: u8 = 0x20;
const OPTION_TARGET_LINK: u8 = 2;
/// Where the ARP packet, or the IPv6 one, begins.
const AFTER_ETHERNET: usize = 14;
/// Where ICMPv6 begins, when no extension header is between.
const AFTER_IPV6: usize = AFTER_ETHERNET + 40;

/// Who has this address? Asked without an address of our own, so that nobody's cache changes.
pub(crate) fn arp_question(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp(mac, Ipv4Addr::UNSPECIFIED, address)
}

/// This address is here now.
pub(crate) fn arp_announcement(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp(mac, address, address)
}

fn arp(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    frame.extend(ETHERNET);
    frame.extend(ETHERTYPE_IPV4.to_be_bytes());
    frame.extend([6, 4, 0, REQUEST]);
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// The machine that an ARP frame shows to have this address.
pub(crate) fn arp_owner(frame: &[u8], address: Ipv4Addr) -> Option<Mac> {
    let packet = frame.get(AFTER_ETHERNET..AFTER_ETHERNET + 28)?;
    let is_arp = frame[12..14] == ETHERTYPE_ARP.to_be_bytes() && packet[..2] == ETHERNET;
    let sender = &packet[14..18];
    (is_arp && sender == address.octets()).then(|| packet[8..14].try_into().ok())?
}

/// Who has this address? (RFC 4862: from nobody, to its solicited-node group.)
pub(crate) fn solicitation(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let last = address.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(last[13]),
        u16::from_be_bytes([last[14], last[15]]),
    );
    let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    body.extend(address.octets());
    icmpv6(mac, Ipv6Addr::UNSPECIFIED, group, body)
}

/// This address is here now: an unsolicited advertisement to all nodes.
pub(crate) fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut body = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    body.extend(address.octets());
    body.extend([OPTION_TARGET_LINK, 1]);
    body.extend(mac);
    icmpv6(mac, address, all_nodes, body)
}

fn icmpv6(mac: Mac, source: Ipv6Addr, group: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let low = group.octets();
    let to = [0x33, 0x33, low[12], low[13], low[14], low[15]];
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let checksum = checksum(source, group, &body);
    body[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = ethernet(to, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    // 255 hops prove to the receiver that no router has passed it on.
    frame.extend([ICMPV6, 255]);
    frame.extend(source.octets());
    frame.extend(group.octets());
    frame.extend(body);
    frame
}

/// The machine that an advertisement shows to have this address.
pub(crate) fn advertised_owner(frame: &[u8], address: Ipv6Addr) -> Option<Mac> {
    let is_ipv6 = frame.get(12..14)? == ETHERTYPE_IPV6.to_be_bytes();
    let (next, hops) = (*frame.get(20)?, *frame.get(21)?);
    let body = frame.get(AFTER_IPV6..)?;
    let about = body.get(8..24)?;
    if !is_ipv6 || (next, hops) != (ICMPV6, 255) || body[0] != ADVERTISEMENT {
        return None;
    }
    (about == address.octets()).then(|| frame[6..12].try_into().ok())?
}

fn ethernet(to: Mac, from: Mac, kind: u16) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend(from);
    frame.extend(kind.to_be_bytes());
    frame
}

/// The Internet checksum over the pseudo header and the body (RFC 8200 section 8.1).
fn checksum(source: Ipv6Addr, target: Ipv6Addr, body: &[u8]) -> u16 {
    let mut covered = source.octets().to_vec();
    covered.extend(target.octets());
    covered.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    covered.extend([0, 0, 0, ICMPV6]);
    covered.extend(body);
    let words = covered
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// As people write it: `02:00:5e:10:00:00`.
pub(crate) fn shown(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Mac = [2, 0, 0, 0, 0, 1];

    #[test]
    fn an_owner_is_read_from_what_it_sends() {
        let address: Ipv4Addr = "192.0.2.10".parse().expect("an address");
        assert_eq!(arp_owner(&arp_announcement(OURS, address), address), Some(OURS));
        assert_eq!(arp_owner(&arp_question(OURS, address), address), None);
        let address: Ipv6Addr = "2001:db8::10".parse().expect("an address");
        let frame = advertisement(OURS, address);
        assert_eq!(advertised_owner(&frame, address), Some(OURS));
        assert_eq!(advertised_owner(&solicitation(OURS, address), address), None);
        for cut in 0..frame.len() {
            let _ = advertised_owner(&frame[..cut], address);
            let _ = arp_owner(&frame[..cut], Ipv4Addr::LOCALHOST);
        }
        assert_eq!(shown(OURS), "02:00:00:00:00:01");
    }

    #[test]
    fn a_checksum_with_itself_is_nothing() {
        let address: Ipv6Addr = "fe80::1".parse().expect("an address");
        let frame = advertisement(OURS, address);
        let all_nodes = "ff02::1".parse().expect("an address");
        assert_eq!(checksum(address, all_nodes, &frame[AFTER_IPV6..]), 0);
    }
}
