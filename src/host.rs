//! Addresses and routes of our device in the operating system, over netlink. They vanish with the device.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use meshnode_protocol::io::Interface;
use nix::errno::Errno;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

/// Addresses for documents alone (RFC 5737, RFC 3849).
const SOMEWHERE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SOMEWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Whether an address or a route of ours is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is.
    Ours,
    /// Another device of this machine holds it and keeps it.
    Shadowed,
    /// The machine has no IPv6.
    Unsupported,
}

/// What [`Host::configure`] could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configured {
    /// The IPv4 address; `None` when there is none to hold.
    pub ipv4: Option<Held>,
    /// The IPv6 address.
    pub ipv6: Held,
}

/// The router to the world at large, and this machine's address towards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The router's address on this side.
    pub router: Ipv4Addr,
    /// The machine's own.
    pub own: Ipv4Addr,
}

/// A netlink connection in the network namespace of the thread that opened it.
#[derive(Clone, Debug)]
pub struct Host {
    handle: Handle,
}

impl Host {
    /// Opens the connection; a task of the current runtime serves it until the last clone is dropped.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> anyhow::Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().context("Failed to open a netlink socket")?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Gives the device exactly these addresses, as hosts, and this MTU, and sets it up.
    ///
    /// # Errors
    /// When the device is unknown or the kernel refuses.
    pub async fn configure(
        &self,
        device: &str,
        interface: &Interface,
        mtu: u16,
    ) -> anyhow::Result<Configured> {
        let index = self.index(device).await?;
        let has_ipv6 = ready_ipv6(device);
        let wanted: Vec<IpAddr> = interface
            .ipv4
            .map(IpAddr::from)
            .into_iter()
            .chain([interface.ipv6.into()])
            .collect();
        self.drop_addresses(index, &wanted).await?;
        let change = LinkUnspec::new_with_index(index)
            .mtu(u32::from(mtu))
            .up()
            .build();
        let set = self.handle.link().set(change).execute().await;
        set.with_context(|| format!("Failed to set up device {device}"))?;
        let ipv4 = match interface.ipv4 {
            Some(address) => Some(self.add_address(index, address.into()).await?),
            None => None,
        };
        let ipv6 = if has_ipv6 {
            self.add_address(index, interface.ipv6.into()).await?
        } else {
            tracing::warn!("the kernel has no IPv6 here, going on with IPv4 alone");
            Held::Unsupported
        };
        Ok(Configured { ipv4, ipv6 })
    }

    /// Routes a host to the device; done already is done.
    ///
    /// # Errors
    /// When the device is unknown or the kernel refuses.
    pub async fn route_add(&self, device: &str, host: IpAddr) -> anyhow::Result<Held> {
        let index = self.index(device).await?;
        if let Some(holder) = self.holder(host).await? {
            return Ok(if holder == index {
                Held::Ours
            } else {
                Held::Shadowed
            });
        }
        match refusal(
            self.handle
                .route()
                .add(host_route(index, host))
                .execute()
                .await,
        )? {
            None => Ok(Held::Ours),
            // Made since we looked; the next look tells by whom.
            Some(Errno::EEXIST) => {
                let holder = self.holder(host).await?;
                Ok(if holder == Some(index) {
                    Held::Ours
                } else {
                    Held::Shadowed
                })
            }
            Some(Errno::EOPNOTSUPP | Errno::EACCES | Errno::ENODEV) if host.is_ipv6() => {
                Ok(Held::Unsupported)
            }
            Some(errno) => Err(errno).with_context(|| format!("Failed to add a route to {host}")),
        }
    }

    /// Takes a host's route off the device; gone already is done.
    ///
    /// # Errors
    /// When the device is unknown or the kernel refuses.
    pub async fn route_remove(&self, device: &str, host: IpAddr) -> anyhow::Result<()> {
        let index = self.index(device).await?;
        match refusal(
            self.handle
                .route()
                .del(host_route(index, host))
                .execute()
                .await,
        )? {
            None | Some(Errno::ESRCH | Errno::ENOENT) => Ok(()),
            Some(errno) => {
                Err(errno).with_context(|| format!("Failed to remove the route to {host}"))
            }
        }
    }

    /// Whether packets to the world at large have somewhere to go, by either address family.
    ///
    /// # Errors
    /// When the connection to the kernel breaks.
    pub async fn has_default_route(&self) -> anyhow::Result<bool> {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(SOMEWHERE_V4, 32)
            .build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(SOMEWHERE_V6, 128)
            .build();
        for mut question in [v4, v6] {
            // Asks for the routing entry itself: only its length tells a default route from a nearer one.
            question.header.flags = RouteFlags::FibMatch;
            question.header.table = RouteHeader::RT_TABLE_UNSPEC;
            let mut answers = self.handle.route().get(question).execute();
            match answers.try_next().await {
                Ok(Some(route)) if is_default(&route) => return Ok(true),
                Ok(_) | Err(rtnetlink::Error::NetlinkError(_)) => {}
                Err(error) => return Err(error).context("Failed to look up a route"),
            }
        }
        Ok(false)
    }

    /// The IPv4 router to the world at large; none where the way out has no router, as in many tunnels.
    ///
    /// # Errors
    /// When the connection to the kernel breaks.
    pub async fn gateway(&self) -> anyhow::Result<Option<Gateway>> {
        let question = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(SOMEWHERE_V4, 32)
            .build();
        let mut answers = self.handle.route().get(question).execute();
        let route = match answers.try_next().await {
            Ok(Some(route)) => route,
            Ok(None) | Err(rtnetlink::Error::NetlinkError(_)) => return Ok(None),
            Err(error) => return Err(error).context("Failed to look up a route"),
        };
        let mut gateway = (None, None);
        for attribute in &route.attributes {
            if let RouteAttribute::Gateway(RouteAddress::Inet(address)) = attribute {
                gateway.0 = Some(*address);
            } else if let RouteAttribute::PrefSource(RouteAddress::Inet(address)) = attribute {
                gateway.1 = Some(*address);
            }
        }
        let (router, own) = gateway;
        Ok(router.zip(own).map(|(router, own)| Gateway { router, own }))
    }

    /// The number of a device.
    async fn index(&self, device: &str) -> anyhow::Result<u32> {
        let mut links = self.handle.link().get().match_name(device).execute();
        let link = links.try_next().await;
        let link = link.with_context(|| format!("Failed to find device {device}"))?;
        Ok(link
            .with_context(|| format!("Failed to find device {device}"))?
            .header
            .index)
    }

    /// Removes every address of a device that is not wanted.
    async fn drop_addresses(&self, index: u32, wanted: &[IpAddr]) -> anyhow::Result<()> {
        let mut all = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute();
        while let Some(message) = all.try_next().await.context("Failed to list addresses")? {
            let keep = address(&message).is_some_and(|a| wanted.contains(&a));
            if message.header.index == index && !keep {
                let removed = refusal(self.handle.address().del(message).execute().await)?;
                tracing::debug!(?removed, "an old address was taken off the device");
            }
        }
        Ok(())
    }

    async fn add_address(&self, index: u32, address: IpAddr) -> anyhow::Result<Held> {
        match self.holder(address).await? {
            Some(holder) if holder != index => return Ok(Held::Shadowed),
            Some(_) | None => {}
        }
        let mut request = self
            .handle
            .address()
            .add(index, address, host_prefix(address));
        // Nobody else is on this device; until the kernel had asked, programs could not use the address.
        if address.is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        match refusal(request.execute().await)? {
            None | Some(Errno::EEXIST) => Ok(Held::Ours),
            Some(Errno::EOPNOTSUPP | Errno::EACCES) if address.is_ipv6() => Ok(Held::Unsupported),
            Some(errno) => Err(errno).with_context(|| format!("Failed to add address {address}")),
        }
    }

    /// The device that holds this very host, by an address of its own or by a host route in whatever table decides.
    async fn holder(&self, host: IpAddr) -> anyhow::Result<Option<u32>> {
        let mut question = match host {
            IpAddr::V4(host) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(host, 32)
                .build(),
            IpAddr::V6(host) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(host, 128)
                .build(),
        };
        // Asks for the routing entry itself, with its own prefix, not for a route to the host.
        question.header.flags = RouteFlags::FibMatch;
        question.header.table = RouteHeader::RT_TABLE_UNSPEC;
        let mut answers = self.handle.route().get(question).execute();
        let entry = match answers.try_next().await {
            Ok(Some(entry)) => entry,
            // No way there at all: nobody holds it.
            Ok(None) | Err(rtnetlink::Error::NetlinkError(_)) => return Ok(None),
            Err(error) => return Err(error).context("Failed to look up a route"),
        };
        let exact = entry.header.destination_prefix_length == host_prefix(host);
        if !exact || !matches!(entry.header.kind, RouteType::Local | RouteType::Unicast) {
            return Ok(None);
        }
        Ok(device_of(&entry))
    }
}

/// Whether an entry leads to the world: one for all addresses, or one of two halves, as other VPNs make them.
fn is_default(entry: &RouteMessage) -> bool {
    entry.header.kind == RouteType::Unicast && entry.header.destination_prefix_length <= 1
}

fn device_of(entry: &RouteMessage) -> Option<u32> {
    entry.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Oif(index) = attribute {
            Some(*index)
        } else {
            None
        }
    })
}

fn host_route(index: u32, host: IpAddr) -> RouteMessage {
    match host {
        IpAddr::V4(host) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(host, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build(),
        IpAddr::V6(host) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(host, 128)
            .output_interface(index)
            .build(),
    }
}

const fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Tells a refusal of the kernel from a broken connection.
fn refusal(result: Result<(), rtnetlink::Error>) -> anyhow::Result<Option<Errno>> {
    match result {
        Ok(()) => Ok(None),
        Err(rtnetlink::Error::NetlinkError(error)) => {
            Ok(Some(Errno::from_raw(error.raw_code().abs())))
        }
        Err(error) => Err(error).context("Failed to talk to the kernel"),
    }
}

/// Switches IPv6 on for the device where the kernel has it. Returns whether it is on.
fn ready_ipv6(device: &str) -> bool {
    let settings = Path::new("/proc/sys/net/ipv6/conf").join(device);
    let switch = settings.join("disable_ipv6");
    let is_on = || std::fs::read_to_string(&switch).is_ok_and(|value| value.trim() == "0");
    // Best effort: the device needs no link-local address, and without one it sends no solicitations.
    let _ = std::fs::write(settings.join("addr_gen_mode"), "1");
    if !is_on() {
        let _ = std::fs::write(&switch, "0");
    }
    is_on()
}

/// The address in a message: the local end where there are two.
pub(crate) fn address(message: &AddressMessage) -> Option<IpAddr> {
    let find =
        |pick: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(pick);
    find(|attribute| {
        if let AddressAttribute::Local(address) = attribute {
            Some(*address)
        } else {
            None
        }
    })
    .or_else(|| {
        find(|attribute| {
            if let AddressAttribute::Address(address) = attribute {
                Some(*address)
            } else {
                None
            }
        })
    })
}
