//! A look at a relay from outside: who answers there, how fast, and whether it carries circuits.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{SwarmBuilder, identify, relay};
use meshnode_protocol::id::TransportKey;
use meshnode_protocol::record::{ControlAddress, Transport};
use tokio::time::{Instant, timeout};

use super::roads::{Certificate, Map, Proxy, Roads};
use super::{address, behaviour, start};

/// What was seen at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whose it is.
    pub key: TransportKey,
    /// How long the connection took.
    pub took: Duration,
    /// Whether it carries circuits.
    pub carries: bool,
}

/// Connects as a stranger with a key of the moment; `None` when nobody answers in time.
///
/// # Errors
/// When this machine gives no sockets.
pub async fn look(
    transport: Transport,
    address: SocketAddr,
    proxy: Option<Proxy>,
    patience: Duration,
) -> anyhow::Result<Option<Seen>> {
    let pair = Keypair::generate_ed25519();
    let (own, map) = (Certificate::passing()?, Map::new(proxy));
    let mut swarm = SwarmBuilder::with_existing_identity(pair)
        .with_tokio()
        .with_quic_config(start::quic_times)
        .with_other_transport(|pair| Ok(Roads::new(pair, &own, &map)?))
        .context("Failed to set up TCP")?
        .with_behaviour(|pair| Looker {
            identify: behaviour::identify(pair.public()),
        })
        .context("Failed to set up the protocols")?
        .build();
    let begun = Instant::now();
    let at = ControlAddress { transport, address };
    if swarm.dial(address::multiaddr(&at)).is_err() {
        return Ok(None);
    }
    let mut seen = None;
    let search = async { while !note(&mut seen, swarm.select_next_some().await, begun) {} };
    // Late is as good as never: what was seen until then counts.
    let _late = timeout(patience, search).await;
    Ok(seen)
}

/// Takes one event; whether there is nothing more to see.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "libp2p's enums are open and tell much more"
)]
fn note(seen: &mut Option<Seen>, event: SwarmEvent<LookerEvent>, begun: Instant) -> bool {
    match event {
        SwarmEvent::ConnectionEstablished { peer_id, .. } => {
            let took = begun.elapsed();
            *seen = address::transport_key(&peer_id).map(|key| Seen {
                key,
                took,
                carries: false,
            });
            false
        }
        SwarmEvent::Behaviour(LookerEvent::Identify(identify::Event::Received {
            info, ..
        })) => {
            if let Some(seen) = seen {
                seen.carries = info.protocols.contains(&relay::HOP_PROTOCOL_NAME);
            }
            true
        }
        SwarmEvent::OutgoingConnectionError { .. } | SwarmEvent::ConnectionClosed { .. } => true,
        _ => false,
    }
}

#[derive(NetworkBehaviour)]
struct Looker {
    identify: identify::Behaviour,
}
