//! UPnP Internet Gateway Devices, by `igd-next`, which bounds what it reads and believes URLs of the answerer alone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::Duration;

use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddPortError, PortMappingProtocol, SearchOptions};
use tokio::time::timeout;

use super::keeper::{Ask, Given, LEASE_S, outside};
use super::{Finding, Router};

/// A router that was found.
pub(super) type Gateway = igd_next::aio::Gateway<Tokio>;

/// How long devices may take to answer a search and be read: the search itself lets them wait 3 s.
const SEARCH: Duration = Duration::from_secs(5);
/// How long one request may take; cheap routers need a second.
const REQUEST: Duration = Duration::from_secs(4);
/// Where devices are searched.
const EVERYBODY: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), SSDP_PORT);
const SSDP_PORT: u16 = 1900;
/// What a person reads in the router's list.
const DESCRIPTION: &str = "meshnode";

/// Searches as the standard has it and at the router itself. Who answers and is not the router is not believed: it
/// could give any address for ours.
pub(super) async fn find(router: Router) -> Option<Gateway> {
    let directly = search(router, (router.gateway, SSDP_PORT).into());
    let everywhere = search(router, EVERYBODY);
    tokio::select! {
        Some(gateway) = directly => Some(gateway),
        Some(gateway) = everywhere => Some(gateway),
        else => None,
    }
}

async fn search(router: Router, at: SocketAddr) -> Option<Gateway> {
    let mut options = SearchOptions::default();
    options.bind_addr = (router.own, 0).into();
    options.broadcast_address = at;
    options.timeout = Some(SEARCH);
    match search_gateway(options).await {
        Ok(gateway) if gateway.addr.ip() == router.gateway => Some(gateway),
        Ok(gateway) => {
            tracing::debug!(address = %gateway.addr, "a UPnP device that is not the router answers");
            None
        }
        Err(error) => {
            tracing::debug!(%error, "no UPnP router");
            None
        }
    }
}

pub(super) async fn map(gateway: &Gateway, ask: &Ask) -> Result<Given, Finding> {
    let address = timeout(REQUEST, gateway.get_external_ip()).await;
    let ip = match address {
        Ok(Ok(IpAddr::V4(ip))) => ip,
        // A router without an outer address, or with one that nothing leads to, may say so by an error.
        Ok(Ok(IpAddr::V6(_)) | Err(_)) => return Err(Finding::Refuses),
        Err(_) => return Err(Finding::Silent),
    };
    outside(SocketAddrV4::new(ip, u16::MAX))?;
    let tunnel = map_one(gateway, ask, PortMappingProtocol::UDP, ask.tunnel).await?;
    let tunnel = outside(SocketAddrV4::new(ip, tunnel))?;
    let control = map_one(gateway, ask, PortMappingProtocol::TCP, ask.control).await;
    let control = control.and_then(|port| outside(SocketAddrV4::new(ip, port)));
    Ok(Given {
        tunnel,
        control: control.ok(),
        lease_s: LEASE_S,
    })
}

pub(super) async fn unmap(gateway: &Gateway, ask: &Ask) {
    let take_back = async |protocol, port: NonZeroU16| {
        if let Err(error) = gateway.remove_port(protocol, port.get()).await {
            tracing::debug!(%error, "UPnP does not take a mapping back");
        }
    };
    tokio::join!(
        take_back(PortMappingProtocol::UDP, ask.tunnel),
        take_back(PortMappingProtocol::TCP, ask.control)
    );
}

/// The wanted outside port, or any. Old routers know no leases: theirs is taken back at the end, or stays.
async fn map_one(
    gateway: &Gateway,
    ask: &Ask,
    protocol: PortMappingProtocol,
    wanted: NonZeroU16,
) -> Result<u16, Finding> {
    let own = SocketAddr::from((ask.router.own, ask.port.get()));
    let mut lease_s = LEASE_S;
    loop {
        let add = gateway.add_port(protocol, wanted.get(), own, lease_s, DESCRIPTION);
        match timeout(REQUEST, add).await {
            Ok(Ok(())) => return Ok(wanted.get()),
            Ok(Err(AddPortError::OnlyPermanentLeasesSupported)) if lease_s != 0 => lease_s = 0,
            Ok(Err(AddPortError::PortInUse)) => break,
            Ok(Err(error)) => {
                tracing::debug!(%error, "UPnP maps nothing");
                return Err(Finding::Refuses);
            }
            Err(_) => return Err(Finding::Silent),
        }
    }
    let add = gateway.add_any_port(protocol, own, lease_s, DESCRIPTION);
    match timeout(REQUEST, add).await {
        Ok(Ok(port)) => Ok(port),
        Ok(Err(error)) => {
            tracing::debug!(%error, "UPnP maps no other port");
            Err(Finding::Refuses)
        }
        Err(_) => Err(Finding::Silent),
    }
}
