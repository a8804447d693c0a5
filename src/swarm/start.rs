//! Opens transports and listeners.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::Context as _;
use libp2p::identity::Keypair;
use libp2p::{SwarmBuilder, noise, tcp, yamux};
use meshnode_protocol::record::{ControlAddress, Transport};

use super::behaviour::Links;
use super::{SwarmConfig, address};

/// A libp2p swarm that listens on both transports and both address families.
///
/// # Errors
/// When a port is in use; the message names it.
pub(super) fn open(config: SwarmConfig) -> anyhow::Result<libp2p::Swarm<Links>> {
    let quic_port = config
        .port
        .checked_add(1)
        .with_context(|| format!("Port {} leaves no port after it for QUIC", config.port))?;
    claim(config.port, quic_port)?;
    let mut seed = config.seed.clone();
    let pair = Keypair::ed25519_from_bytes(seed.as_mut_slice())
        .context("Failed to read the transport key")?;
    let mdns = config.mdns;
    let mut swarm = SwarmBuilder::with_existing_identity(pair)
        .with_tokio()
        .with_tcp(
            tcp::Config::new().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )
        .context("Failed to set up TCP")?
        .with_quic_config(|mut config| {
            // A quarter of the default's packets on a phone's radio, still below a NAT's 30 s.
            config.keep_alive_interval = Duration::from_secs(15);
            config.max_idle_timeout = 45_000;
            config
        })
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .context("Failed to set up circuits")?
        .with_behaviour(|pair, client| Links::new(pair, client, mdns).map_err(Into::into))
        .context("Failed to set up the protocols")?
        // Who is to stay and who is to go is decided by trust, not by silence.
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(Duration::from_secs(86_400))
        })
        .with_connection_timeout(Duration::from_secs(10))
        .build();
    for (transport, port) in [(Transport::Tcp, config.port), (Transport::Quic, quic_port)] {
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
    Ok(swarm)
}

/// Proves that both ports are free: libp2p's listeners share a port with another process of the same user in silence.
fn claim(tcp: u16, udp: u16) -> anyhow::Result<()> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, tcp))
        .with_context(|| format!("Failed to listen on TCP port {tcp}"))?;
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, udp))
        .with_context(|| format!("Failed to listen on UDP port {udp}"))?;
    Ok(())
}
