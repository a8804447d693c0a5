//! Opens transports and listeners.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::Context as _;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{SwarmBuilder, noise, quic, yamux};
use meshnode_protocol::record::{ControlAddress, Transport};

use super::behaviour::Links;
use super::roads::{Map, Roads};
use super::{SwarmConfig, address};

/// A libp2p swarm that listens on both transports and both address families.
///
/// # Errors
/// When a port is in use; the message names it.
pub(super) fn open(config: SwarmConfig, map: &Map) -> anyhow::Result<libp2p::Swarm<Links>> {
    let quic_port = config
        .port
        .checked_add(1)
        .with_context(|| format!("Port {} leaves no port after it for QUIC", config.port))?;
    claim_both(config.port, quic_port)?;
    let mut seed = config.seed.clone();
    let pair = Keypair::ed25519_from_bytes(seed.as_mut_slice())
        .context("Failed to read the transport key")?;
    let (mdns, carrier) = (config.mdns, config.carrier);
    let mut swarm = SwarmBuilder::with_existing_identity(pair)
        .with_tokio()
        .with_quic_config(quic_times)
        .with_other_transport(|pair| Ok(Roads::new(pair, &config.certificate, map)?))
        .context("Failed to set up TCP")?
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .context("Failed to set up circuits")?
        .with_behaviour(|pair, client| Links::new(pair, client, carrier, mdns).map_err(Into::into))
        .context("Failed to set up the protocols")?
        // Who is to stay and who is to go is decided by trust, not by silence.
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(Duration::from_secs(86_400))
        })
        .with_connection_timeout(Duration::from_secs(10))
        .build();
    listen(&mut swarm, config.port, quic_port)?;
    Ok(swarm)
}

/// A quarter of the default's packets on a phone's radio, still below a NAT's 30 s.
pub(super) const fn quic_times(mut config: quic::Config) -> quic::Config {
    config.keep_alive_interval = Duration::from_secs(15);
    config.max_idle_timeout = 45_000;
    config
}

/// Opens the listeners of both transports and both address families.
pub(super) fn listen<B: NetworkBehaviour>(
    swarm: &mut libp2p::Swarm<B>,
    tcp_port: u16,
    quic_port: u16,
) -> anyhow::Result<()> {
    for (transport, port) in [(Transport::Tcp, tcp_port), (Transport::Quic, quic_port)] {
        let address = ControlAddress {
            transport,
            address: (Ipv4Addr::UNSPECIFIED, port).into(),
        };
        swarm
            .listen_on(address::multiaddr(&address))
            .with_context(|| format!("Failed to listen on port {port}"))?;
        let address = ControlAddress {
            transport,
            address: (Ipv6Addr::UNSPECIFIED, port).into(),
        };
        // Many machines have IPv6 switched off.
        if let Err(error) = swarm.listen_on(address::multiaddr(&address)) {
            tracing::debug!(%error, "There is no IPv6 listener");
        }
    }
    Ok(())
}

/// Proves that both ports are free: libp2p's listeners share a port with another process of the same user in silence.
pub(super) fn claim_both(tcp: u16, udp: u16) -> anyhow::Result<()> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, tcp))
        .with_context(|| format!("Failed to listen on TCP port {tcp}"))?;
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, udp))
        .with_context(|| format!("Failed to listen on UDP port {udp}"))?;
    Ok(())
}
