//! PCP and NAT-PMP: one datagram there, one back (RFC 6887, RFC 6886), by `crab_nat`.

use std::net::{IpAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::pcp::{BaseMapRequest, DropMappingRange};
use crab_nat::{
    GatewayAddress, InternetProtocol, PortMapping, PortMappingOptions, PortMappingType,
    TimeoutConfig, natpmp, pcp,
};

use super::Finding;
use super::keeper::{Ask, Given, LEASE_S, outside};

/// Four tries within 3.75 s: as RFC 6886 §3.1 begins, and far less patient than it goes on.
const TIMEOUTS: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 3,
    max_retry_timeout: None,
};

/// Maps by PCP and looks meanwhile whether the router speaks NAT-PMP.
pub(super) async fn try_both(ask: &Ask) -> (Result<Given, Finding>, Result<(), Finding>) {
    let gateway = GatewayAddress::from(ask.router.gateway);
    let by_nat_pmp = natpmp::external_address(gateway, Some(TIMEOUTS));
    let (given, address) = tokio::join!(map_by_pcp(ask), by_nat_pmp);
    let probed = address.map_err(|failure| of_nat_pmp(&failure));
    let probed = probed.and_then(|ip| outside(SocketAddrV4::new(ip, ask.port.get().max(1024))));
    (given, probed.map(|_| ()))
}

pub(super) async fn map_by_pcp(ask: &Ask) -> Result<Given, Finding> {
    let tunnel = pcp_mapping(ask, InternetProtocol::Udp, ask.tunnel).await?;
    let address = match pcp_outside(&tunnel) {
        Ok(address) => address,
        Err(finding) => {
            drop_pcp(ask, InternetProtocol::Udp).await;
            return Err(finding);
        }
    };
    let control = pcp_mapping(ask, InternetProtocol::Tcp, ask.control).await;
    let control = control.and_then(|mapping| Ok((pcp_outside(&mapping)?, mapping.lifetime())));
    Ok(given((address, tunnel.lifetime()), control))
}

pub(super) async fn map_by_nat_pmp(ask: &Ask) -> Result<Given, Finding> {
    let gateway = GatewayAddress::from(ask.router.gateway);
    let ip = natpmp::external_address(gateway, Some(TIMEOUTS)).await;
    let ip = ip.map_err(|failure| of_nat_pmp(&failure))?;
    let map = async |protocol, wanted| {
        let mapping = natpmp::port_mapping(gateway, protocol, ask.port, options(wanted)).await;
        let mapping = mapping.map_err(|failure| of_nat_pmp(&failure))?;
        let address = outside(SocketAddrV4::new(ip, mapping.external_port().get()))?;
        Ok((address, mapping.lifetime()))
    };
    let tunnel = map(InternetProtocol::Udp, ask.tunnel).await?;
    let control = map(InternetProtocol::Tcp, ask.control).await;
    Ok(given(tunnel, control))
}

pub(super) async fn unmap_by_pcp(ask: &Ask) {
    let [udp, tcp] = [InternetProtocol::Udp, InternetProtocol::Tcp];
    tokio::join!(drop_pcp(ask, udp), drop_pcp(ask, tcp));
}

pub(super) async fn unmap_by_nat_pmp(ask: &Ask) {
    let gateway = GatewayAddress::from(ask.router.gateway);
    let take_back = async |protocol| {
        let port = Some(ask.port);
        let dropped = natpmp::try_drop_mapping(gateway, protocol, port, Some(TIMEOUTS)).await;
        if let Err(error) = dropped {
            tracing::debug!(%error, "NAT-PMP does not take a mapping back");
        }
    };
    let [udp, tcp] = [InternetProtocol::Udp, InternetProtocol::Tcp];
    tokio::join!(take_back(udp), take_back(tcp));
}

async fn pcp_mapping(
    ask: &Ask,
    protocol: InternetProtocol,
    wanted: NonZeroU16,
) -> Result<PortMapping, Finding> {
    let (gateway, own) = (ask.router.gateway.into(), ask.router.own.into());
    let request = BaseMapRequest::new(gateway, own, protocol, ask.port);
    let mapped = pcp::port_mapping(request, Some(ask.nonce), None, options(wanted)).await;
    mapped.map_err(|failure| {
        tracing::debug!(error = %failure, "PCP maps nothing");
        let silent = matches!(
            failure,
            pcp::Failure::Socket(_)
                | pcp::Failure::Timeout
                | pcp::Failure::InvalidResponse(_)
                | pcp::Failure::UnsupportedVersion(_)
        );
        if silent {
            Finding::Silent
        } else {
            Finding::Refuses
        }
    })
}

fn pcp_outside(mapping: &PortMapping) -> Result<SocketAddrV4, Finding> {
    let PortMappingType::Pcp { external_ip, .. } = mapping.mapping_type() else {
        return Err(Finding::Silent);
    };
    let IpAddr::V4(ip) = external_ip else {
        return Err(Finding::Silent);
    };
    outside(SocketAddrV4::new(ip, mapping.external_port().get()))
}

async fn drop_pcp(ask: &Ask, protocol: InternetProtocol) {
    let (gateway, own) = (ask.router.gateway.into(), ask.router.own.into());
    let range = DropMappingRange::Single {
        protocol,
        internal_port: ask.port,
    };
    let dropped = pcp::try_drop_mapping(gateway, own, ask.nonce, range, Some(TIMEOUTS)).await;
    if let Err(error) = dropped {
        tracing::debug!(%error, "PCP does not take a mapping back");
    }
}

fn of_nat_pmp(failure: &natpmp::Failure) -> Finding {
    tracing::debug!(error = %failure, "NAT-PMP maps nothing");
    match failure {
        natpmp::Failure::Socket(_)
        | natpmp::Failure::Timeout
        | natpmp::Failure::InvalidResponse(_)
        | natpmp::Failure::UnsupportedVersion(_) => Finding::Silent,
        natpmp::Failure::NotAuthorized
        | natpmp::Failure::NetworkFailure
        | natpmp::Failure::OutOfResources
        | natpmp::Failure::UnsupportedOpcode => Finding::Refuses,
    }
}

/// The shorter lease of the two counts for both.
fn given(tunnel: (SocketAddrV4, u32), control: Result<(SocketAddrV4, u32), Finding>) -> Given {
    let control = control.ok();
    let lease_s = control.map_or(tunnel.1, |(_, lease_s)| lease_s.min(tunnel.1));
    Given {
        tunnel: tunnel.0,
        control: control.map(|(address, _)| address),
        lease_s,
    }
}

const fn options(wanted: NonZeroU16) -> PortMappingOptions {
    PortMappingOptions {
        external_port: Some(wanted),
        lifetime_seconds: Some(LEASE_S),
        timeout_config: Some(TIMEOUTS),
    }
}
