//! `ip_address`: an address that moves with the group.
//!
//! Before it is taken, the network is asked whether somebody else has it; after, everybody is
//! told that it is here now. It carries a mark, so that a leftover of a killed monitor is told
//! from an address that an administrator has given to this machine.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::definition::{IpAddress, ResourceKind, ResourceSpec};
use model::{Epoch, NodeName};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use tokio::time::sleep;

use crate::driver::{Driver, Failure, Health, Outcome};
use crate::link::{self, Link};
use crate::{neighbour, netlink, not_mine};

/// Wait between two announcements (RFC 5227: ANNOUNCE_INTERVAL is 2 s; a lost one is made good
/// sooner by this).
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

/// The driver of an `ip_address`.
pub(crate) fn driver(spec: &ResourceSpec, _: &NodeName) -> Outcome<Arc<dyn Driver>> {
    let ResourceKind::IpAddress(ip) = &spec.resource.kind else {
        return Err(not_mine(&spec.resource.kind));
    };
    let (address, length) = parse(&ip.address).ok_or_else(|| {
        Failure::fatal(format!(
            "address: {:?} is no address with the length of its network: write 192.0.2.10/24 or \
             2001:db8::10/64",
            ip.address
        ))
    })?;
    Ok(Arc::new(IpDriver { ip: ip.clone(), address, length }))
}

fn parse(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let usable = !address.is_unspecified() && !address.is_multicast();
    (usable && (1..=longest).contains(&length)).then_some((address, length))
}

struct IpDriver {
    ip: IpAddress,
    address: IpAddr,
    length: u8,
}

#[async_trait]
impl Driver for IpDriver {
    async fn probe(&self) -> Outcome<bool> {
        let found = netlink::find(self.address).await?;
        self.refuse_foreign(&found)?;
        Ok(!found.is_empty())
    }

    async fn online(&self, _: Epoch) -> Outcome {
        let (interface, index) = self.interface()?;
        self.refuse_foreign(&netlink::find(self.address).await?)?;
        self.refuse_dead(&interface)?;
        let link = self.open(&interface)?;
        if let Some(link) = &link {
            let within = self.ip.probe_for.as_duration();
            let owner = link.another_owner(self.address, within).await.map_err(|error| {
                Failure::soft(format!(
                    "cannot ask on {interface} who has {}: {error}",
                    self.address
                ))
            })?;
            if let Some(mac) = owner {
                return Err(Failure::soft(format!(
                    "{} is already on the network of {interface}: {} answers for it; take it off \
                     that machine, or choose another address",
                    self.address,
                    neighbour::shown(mac)
                )));
            }
        }
        let added = netlink::add(&interface, index, self.address, self.length).await;
        added.map_err(|failure| Failure {
            how: format!("cannot add {} to {interface}: {}", self.ip.address, failure.how),
            ..failure
        })?;
        if let Some(link) = &link {
            self.announce(link, &interface).await;
        }
        Ok(())
    }

    async fn offline(&self) -> Outcome {
        self.terminate().await
    }

    async fn terminate(&self) -> Outcome {
        for found in netlink::find(self.address).await?.into_iter().filter(|found| found.ours) {
            netlink::remove(found).await?;
        }
        if netlink::find(self.address).await?.iter().any(|found| found.ours) {
            return Err(Failure::soft(format!("{} is still on this node", self.address)));
        }
        Ok(())
    }

    async fn looks_alive(&self) -> Outcome<Health> {
        let (interface, index) = self.interface()?;
        let found = netlink::find(self.address).await?;
        if !found.iter().any(|found| found.index == index) {
            return Err(self.gone(&interface));
        }
        self.refuse_dead(&interface)?;
        Ok(Health::Well)
    }

    async fn is_alive(&self) -> Outcome<Health> {
        self.looks_alive().await
    }

    async fn failed(&self) -> Failure {
        let Ok((interface, _)) = self.interface() else { return std::future::pending().await };
        let announce_on = async {
            let Ok(Some(link)) = self.open(&interface) else { return };
            for _ in 1..self.ip.announcements {
                sleep(ANNOUNCE_EVERY).await;
                self.announce(&link, &interface).await;
            }
        };
        let watch = async {
            match netlink::removed(self.address).await {
                Ok(()) => self.gone(&interface),
                Err(failure) => {
                    // The checks will notice what we can't.
                    tracing::warn!("{failure}");
                    std::future::pending().await
                }
            }
        };
        let announce_on = async {
            announce_on.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            failure = watch => failure,
            () = announce_on => std::future::pending().await,
        }
    }
}

impl IpDriver {
    /// The interface that gets it: the one named, or the one in the same network.
    fn interface(&self) -> Outcome<(String, u32)> {
        let name = match &self.ip.interface {
            Some(name) => name.clone(),
            None => {
                let near = link::interface_of(self.address, self.length)
                    .map_err(|error| Failure::soft(format!("cannot list interfaces: {error}")))?;
                near.ok_or_else(|| {
                    Failure::hard(format!(
                        "no interface of this node has an address in the network of {}: name the \
                         `interface`",
                        self.ip.address
                    ))
                })?
            }
        };
        match if_nametoindex(name.as_str()) {
            Ok(index) => Ok((name, index)),
            Err(_) => Err(Failure::hard(format!("this node has no interface {name}"))),
        }
    }

    /// An address that is here, but not by us, is somebody's: it is not touched.
    fn refuse_foreign(&self, found: &[netlink::Found]) -> Outcome {
        if found.iter().all(|found| found.ours) {
            return Ok(());
        }
        Err(Failure::hard(format!(
            "{} is an address of this node that Baton has not put there: remove it (ip address \
             delete), or choose another",
            self.address
        )))
    }

    fn refuse_dead(&self, interface: &str) -> Outcome {
        let entries = getifaddrs()
            .map_err(|error| Failure::soft(format!("cannot list interfaces: {error}")))?;
        let mut of_it = entries.filter(|entry| entry.interface_name == interface);
        let flags = of_it.next().map_or(InterfaceFlags::empty(), |entry| entry.flags);
        if !flags.contains(InterfaceFlags::IFF_UP) {
            return Err(Failure::soft(format!("interface {interface} is down")));
        }
        if !flags.contains(InterfaceFlags::IFF_RUNNING) {
            return Err(Failure::soft(format!("interface {interface} has no link: see its cable")));
        }
        Ok(())
    }

    /// The interface for raw frames; none where there are no neighbours to ask.
    fn open(&self, interface: &str) -> Outcome<Option<Link>> {
        match Link::open(interface, self.address) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.raw_os_error() == Some(1) => Err(Failure::hard(
                "this node may not send raw frames: run it as root, or with the capabilities \
                 CAP_NET_ADMIN and CAP_NET_RAW",
            )),
            Err(error) if error.raw_os_error().is_none() => {
                tracing::info!("{interface}: {error}; its network is neither asked nor told");
                Ok(None)
            }
            Err(error) => Err(Failure::soft(format!("cannot open {interface}: {error}"))),
        }
    }

    async fn announce(&self, link: &Link, interface: &str) {
        if let Err(error) = link.announce(self.address).await {
            tracing::warn!("cannot announce {} on {interface}: {error}", self.address);
        }
    }

    fn gone(&self, interface: &str) -> Failure {
        Failure::soft(format!("{} is no longer on {interface}: somebody removed it", self.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for good in ["192.0.2.10/24", "2001:db8::10/64", "10.0.0.1/32"] {
            assert!(parse(good).is_some(), "{good}");
        }
        for bad in ["192.0.2.10", "192.0.2.10/33", "0.0.0.0/0", "::1/129", "ff02::1/64", "a/24"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
