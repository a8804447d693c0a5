//! Cables, bridges, addresses and routes: rtnetlink, always in the namespace of the calling thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;
use std::str::FromStr;
use std::time::Duration;

use futures::TryStreamExt;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::link::{
    BridgePortState, InfoBridgePort, InfoData, InfoPortData, InfoVeth, LinkAttribute, LinkInfo,
    LinkMessage, State,
};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::Error;

/// An interface's address and the length of its network's prefix in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The address itself.
    pub address: IpAddr,
    /// Bits of the network part.
    pub length: u8,
}

impl FromStr for Prefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Address(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let length: u8 = length.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if length > longest {
            return Err(wrong());
        }
        Ok(Self { address, length })
    }
}

/// Adds a bridge that forwards at once.
pub(crate) fn add_bridge(name: &str) -> Result<(), Error> {
    let message = LinkBridge::new(name).build();
    request("make a switch", async |netlink| {
        netlink.link().add(message).execute().await
    })
}

/// Lays a cable from `bridge`, where its end is called `near`, into the namespace `far`, where it is `far_name`.
pub(crate) fn add_cable(bridge: &str, near: &str, far_name: &str, far: RawFd) -> Result<(), Error> {
    let end = LinkUnspec::new_with_name(far_name).setns_by_fd(far).build();
    let cable = LinkVeth::new(near, far_name)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(end)))
        .controller(index(bridge)?)
        .up()
        .build();
    request("lay a cable", async |netlink| {
        netlink.link().add(cable).execute().await
    })
}

/// Measured on Linux 6.18: in one of six cables the end at the switch drops packets for some milliseconds after it says
/// that it is up and forwarding.
const SETTLING: Duration = Duration::from_millis(25);

/// Waits until the switch passes packets to and from `near`: it does so a moment after both ends of the cable are up,
/// and whoever sends before waits a second for its neighbour's address. Gives up after a second, as a cable whose other
/// end is down never gets there.
pub(crate) fn await_forwarding(near: &str) -> Result<(), Error> {
    let index = index(near)?;
    for _ in 0..500 {
        let mut forwards = false;
        request("look at a cable", async |netlink| {
            let found = netlink
                .link()
                .get()
                .match_index(index)
                .execute()
                .try_next()
                .await?;
            forwards = found.as_ref().is_some_and(is_forwarding);
            Ok(())
        })?;
        if forwards {
            std::thread::sleep(SETTLING);
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Both are needed: a fresh port counts as forwarding before the kernel has looked for a signal on the cable, and until
/// then the port swallows what it should send.
fn is_forwarding(port: &LinkMessage) -> bool {
    let state = InfoBridgePort::State(BridgePortState::Forwarding);
    let forwards = |info: &LinkInfo| {
        let LinkInfo::PortData(InfoPortData::BridgePort(facts)) = info else {
            return false;
        };
        facts.contains(&state)
    };
    let has = |wanted: &dyn Fn(&LinkAttribute) -> bool| port.attributes.iter().any(wanted);
    has(&|attribute| matches!(attribute, LinkAttribute::OperState(State::Up)))
        && has(
            &|attribute| matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.iter().any(forwards)),
        )
}

/// Removes a link; of a cable both ends go.
pub(crate) fn remove(name: &str) -> Result<(), Error> {
    let index = index(name)?;
    request("remove a cable", async |netlink| {
        netlink.link().del(index).execute().await
    })
}

/// Brings a link up.
pub(crate) fn bring_up(name: &str) -> Result<(), Error> {
    let message = LinkUnspec::new_with_index(index(name)?).up().build();
    request("bring a link up", async |netlink| {
        netlink.link().change(message).execute().await
    })
}

/// Takes a link down.
pub(crate) fn take_down(name: &str) -> Result<(), Error> {
    let message = LinkUnspec::new_with_index(index(name)?).down().build();
    request("take a link down", async |netlink| {
        netlink.link().change(message).execute().await
    })
}

/// Gives a link one more address.
pub(crate) fn add_address(name: &str, prefix: Prefix) -> Result<(), Error> {
    let index = index(name)?;
    request("give an address", async |netlink| {
        netlink
            .address()
            .add(index, prefix.address, prefix.length)
            .execute()
            .await
    })
}

/// Sends what no other route takes to `gateway`.
pub(crate) fn add_default_route(name: &str, gateway: IpAddr) -> Result<(), Error> {
    let index = index(name)?;
    let message = match gateway {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .output_interface(index)
            .build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
            .gateway(gateway)
            .output_interface(index)
            .build(),
    };
    request("set the default route", async |netlink| {
        netlink.route().add(message).execute().await
    })
}

fn index(name: &str) -> Result<u32, Error> {
    if_nametoindex(name).map_err(|errno| Error::errno(format!("find the link {name}"), errno))
}

/// One request over a socket of its own: the socket belongs to the namespace in which it is opened.
fn request(
    act: &str,
    send: impl AsyncFnOnce(Handle) -> Result<(), rtnetlink::Error>,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| Error::system("start a runtime", error))?;
    runtime.block_on(async {
        let (connection, netlink, _) =
            rtnetlink::new_connection().map_err(|error| Error::system("open netlink", error))?;
        let connection = tokio::spawn(connection);
        let result = send(netlink).await;
        connection.abort();
        result.map_err(|error| explain(act, error))
    })
}

fn explain(act: &str, error: rtnetlink::Error) -> Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => Error::system(act, io::Error::from(message)),
        rtnetlink::Error::UnexpectedMessage(_)
        | rtnetlink::Error::RequestFailed
        | rtnetlink::Error::NamespaceError(_)
        | rtnetlink::Error::InvalidHardwareAddress(_)
        | rtnetlink::Error::InvalidIp(_)
        | rtnetlink::Error::InvalidAddress(..)
        | rtnetlink::Error::InvalidNla(_) => Error::Netlink {
            act: act.to_owned(),
            text: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_wants_an_address_and_a_length_that_fits() {
        let prefix: Prefix = "192.168.1.1/24".parse().unwrap();
        assert_eq!(prefix.length, 24);
        assert!("2001:db8::1/64".parse::<Prefix>().is_ok());
        for wrong in [
            "192.168.1.1",
            "192.168.1/24",
            "192.168.1.1/33",
            "2001:db8::1/129",
            "x/1",
            "",
        ] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
    }
}
