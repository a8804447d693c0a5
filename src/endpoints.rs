//! Where this machine can be reached: the addresses of its interfaces, and when they or its way to the world change.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context as _;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{MulticastGroup, new_multicast_connection};

use crate::host::{Host, address};

/// How the devices of all our networks begin: a path inside a tunnel is no candidate for a tunnel.
const OVERLAY_PREFIX: &str = "mn-";

impl Host {
    /// The unicast addresses of the machine, ascending, that other machines could reach.
    ///
    /// Left out: loopback, IPv6 link-local, interfaces that are down, addresses that are not usable (yet), devices of
    /// meshnode, and devices whose names begin with one of `except`.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub async fn addresses(&self, except: &[&str]) -> anyhow::Result<Vec<IpAddr>> {
        let links: Vec<LinkMessage> = self
            .handle()
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .context("Failed to list the interfaces")?;
        let usable: BTreeMap<u32, bool> = links
            .iter()
            .map(|link| (link.header.index, is_usable(link, except)))
            .collect();
        let all: Vec<AddressMessage> = self
            .handle()
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .context("Failed to list the addresses")?;
        let mut found: Vec<IpAddr> = all
            .iter()
            .filter(|message| usable.get(&message.header.index) == Some(&true))
            .filter(|message| !message.header.flags.intersects(unusable_flags()))
            .filter_map(address)
            .filter(|address| is_candidate(*address))
            .collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

/// A stream of moments at which addresses, interfaces or the IPv4 default route changed.
#[derive(Debug)]
pub struct Changes {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
}

impl Changes {
    /// Listens in the network namespace of this thread, on the current runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn watch() -> anyhow::Result<Self> {
        let (connection, _, messages) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
        ])
        .context("Failed to open a netlink socket")?;
        tokio::spawn(connection);
        Ok(Self { messages })
    }

    /// Waits for a change; several at once may be one. `None` when the kernel hung up. Safe to cancel.
    pub async fn next(&mut self) -> Option<()> {
        loop {
            let (message, _) = self.messages.next().await?;
            if is_news(&message) {
                break;
            }
        }
        while self.messages.try_recv().is_ok() {}
        Some(())
    }
}

/// Whether a message is about more than a route to somewhere: those to peers come and go by our own hand.
fn is_news(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    let NetlinkPayload::InnerMessage(
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
    ) = &message.payload
    else {
        return true;
    };
    route.header.destination_prefix_length <= 1
}

fn is_usable(link: &LinkMessage, except: &[&str]) -> bool {
    let name = link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::IfName(name) = attribute {
            Some(name.as_str())
        } else {
            None
        }
    });
    let flags = link.header.flags;
    name.is_some_and(|name| {
        // Without a carrier nobody gets here, and what worked has to be looked for anew when it is back.
        flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
            && !flags.contains(LinkFlags::Loopback)
            && !name.starts_with(OVERLAY_PREFIX)
            && !except.iter().any(|prefix| name.starts_with(prefix))
    })
}

fn unusable_flags() -> AddressHeaderFlags {
    AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed | AddressHeaderFlags::Deprecated
}

const fn is_candidate(address: IpAddr) -> bool {
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return false;
    }
    match address {
        IpAddr::V4(address) => !address.is_broadcast(),
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_another_machine_could_reach_are_candidates() {
        let candidate = |text: &str| is_candidate(text.parse().unwrap());
        for good in ["192.168.1.2", "100.64.0.1", "2001:db8::1", "fd00::1"] {
            assert!(candidate(good), "{good}");
        }
        for bad in [
            "127.0.0.1",
            "::1",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
        ] {
            assert!(!candidate(bad), "{bad}");
        }
    }
}
