//! Addresses of this machine's interfaces, over netlink.

use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt, future::Either, future::select};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol,
};
use rtnetlink::{Error, Handle, MulticastGroup, new_connection, new_multicast_connection};

use crate::{Failure, Outcome};

/// Marks the addresses that Baton has added (IFA_PROTO, Linux 5.18 and later): `b`.
const PROTOCOL: u8 = b'b';

/// Marks them on any kernel, and for people: `eth0:baton`. IPv4 only.
const LABEL_SUFFIX: &str = ":baton";

/// Longest label of an address (IFNAMSIZ less the end).
const LABEL_BYTES_MAX: usize = 15;

/// Attempts to add or delete in one call are refused like this when we may not.
const NOT_PERMITTED: [i32; 2] = [1, 13];

/// An address on an interface.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The interface's number.
    pub index: u32,
    /// Whether Baton has put it there.
    pub ours: bool,
    message: AddressMessage,
}

/// Where an address is on this machine.
pub(crate) async fn find(address: IpAddr) -> Outcome<Vec<Found>> {
    talk(async |handle| {
        let all = handle.address().get().execute();
        let named = all.try_filter_map(async |message| Ok(found(message, address)));
        named.try_collect().await
    })
    .await
}

fn found(message: AddressMessage, address: IpAddr) -> Option<Found> {
    let is_it = message.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Address(other) | AddressAttribute::Local(other) => *other == address,
        _ => false,
    });
    let ours = message.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Protocol(protocol) => u8::from(*protocol) == PROTOCOL,
        AddressAttribute::Label(label) => label.ends_with(LABEL_SUFFIX),
        _ => false,
    });
    is_it.then_some(Found { index: message.header.index, ours, message })
}

/// Adds an address to an interface.
pub(crate) async fn add(interface: &str, index: u32, address: IpAddr, length: u8) -> Outcome {
    talk(async |handle| {
        // Found there already, it is ours: nobody else's is replaced.
        let mut request = handle.address().add(index, address, length).replace();
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
        let label = format!("{interface}{LABEL_SUFFIX}");
        if address.is_ipv4() && label.len() <= LABEL_BYTES_MAX {
            attributes.push(AddressAttribute::Label(label));
        }
        if address.is_ipv6() {
            // We have asked ourselves; the kernel would keep it unusable for a second longer.
            attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await
    })
    .await
}

/// Takes an address from its interface. One that is gone already is what we want.
pub(crate) async fn remove(found: Found) -> Outcome {
    talk(async |handle| match handle.address().del(found.message).execute().await {
        Err(Error::NetlinkError(error)) if error.raw_code() == -EADDRNOTAVAIL => Ok(()),
        result => result,
    })
    .await
}

const EADDRNOTAVAIL: i32 = 99;

/// Returns when an address has been taken from its interface, by whomever.
pub(crate) async fn removed(address: IpAddr) -> Outcome {
    let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (connection, _handle, mut messages) =
        new_multicast_connection(&groups).map_err(|error| unavailable(&error))?;
    let listen = async {
        while let Some((message, _)) = messages.next().await {
            let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) =
                message.payload
            else {
                continue;
            };
            if found(message, address).is_some() {
                return Ok(());
            }
        }
        Err(Failure::soft("the kernel tells no more of changes of addresses"))
    };
    // It may have gone before we listened.
    let listening = async {
        if find(address).await?.is_empty() {
            return Ok(());
        }
        listen.await
    };
    let (connection, listening) = (std::pin::pin!(connection), std::pin::pin!(listening));
    match select(listening, connection).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err(Failure::soft("the kernel has closed the netlink socket")),
    }
}

/// Asks the kernel something, over a socket of its own: an operation that was dropped halfway
/// leaves nothing behind that another one could stumble over.
async fn talk<T>(ask: impl AsyncFnOnce(Handle) -> Result<T, Error>) -> Outcome<T> {
    let (connection, handle, _) = new_connection().map_err(|error| unavailable(&error))?;
    let (asked, connection) = (std::pin::pin!(ask(handle)), std::pin::pin!(connection));
    match select(asked, connection).await {
        Either::Left((result, _)) => result.map_err(|error| refused(&error)),
        Either::Right(_) => Err(Failure::soft("the kernel has closed the netlink socket")),
    }
}

fn unavailable(error: &std::io::Error) -> Failure {
    Failure::hard(format!("netlink cannot be used on this node: {error}"))
}

fn refused(error: &Error) -> Failure {
    match error {
        Error::NetlinkError(message) if NOT_PERMITTED.contains(&-message.raw_code()) => {
            Failure::hard(
                "this node may not change addresses: run it as root, or with the capabilities \
                 CAP_NET_ADMIN and CAP_NET_RAW",
            )
        }
        Error::NetlinkError(message) => Failure::soft(message.to_io().to_string()),
        error => Failure::soft(error.to_string()),
    }
}
