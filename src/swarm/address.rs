//! Two spellings of one thing: keys and addresses as the core and as libp2p write them.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an address has forty kinds of parts; five are ours"
)]

use std::net::{IpAddr, SocketAddr};

use libp2p::identity::{PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use meshnode_protocol::id::TransportKey;
use meshnode_protocol::record::{ControlAddress, Transport};

/// The multihash code of a peer id that holds its key itself.
const IDENTITY_HASH: u64 = 0;

/// The peer id of a transport key.
pub(super) fn peer_id(key: &TransportKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(key.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The transport key inside a peer id; `None` when it is no inline Ed25519 key.
pub(super) fn transport_key(peer: &PeerId) -> Option<TransportKey> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY_HASH {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    if key.to_peer_id() != *peer {
        return None;
    }
    TransportKey::parse(key.try_into_ed25519().ok()?.to_bytes()).ok()
}

/// An address as libp2p writes it.
pub(super) fn multiaddr(address: &ControlAddress) -> Multiaddr {
    let host = Multiaddr::from(address.address.ip());
    let port = address.address.port();
    match address.transport {
        Transport::Tcp => host.with(Protocol::Tcp(port)),
        Transport::Quic => host.with(Protocol::Udp(port)).with(Protocol::QuicV1),
    }
}

/// An address as the core writes it; `None` for anything but plain TCP and QUIC.
pub(super) fn control_address(address: &Multiaddr) -> Option<ControlAddress> {
    let mut parts = address.iter();
    let host = ip(&parts.next()?)?;
    let (transport, port) = match parts.next()? {
        Protocol::Tcp(port) => (Transport::Tcp, port),
        Protocol::Udp(port) if parts.next() == Some(Protocol::QuicV1) => (Transport::Quic, port),
        _ => return None,
    };
    match (parts.next(), parts.next()) {
        (None | Some(Protocol::P2p(_)), None) => {
            let address = SocketAddr::new(host, port);
            Some(ControlAddress { transport, address })
        }
        _ => None,
    }
}

/// The way to a peer by a relay's circuit.
pub(super) fn circuit(at: &ControlAddress, relay: PeerId, peer: PeerId) -> Multiaddr {
    home(at, relay).with(Protocol::P2p(peer))
}

/// The address under which a node is reached by a relay's circuits: listening there makes a reservation.
pub(super) fn home(at: &ControlAddress, relay: PeerId) -> Multiaddr {
    let relay = multiaddr(at).with(Protocol::P2p(relay));
    relay.with(Protocol::P2pCircuit)
}

/// Whether an address leads by a relay.
pub(super) fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The relay of a circuit's address, and where it is; `None` when the address does not lead by a relay or does not
/// say by which.
pub(super) fn relay(address: &Multiaddr) -> Option<(PeerId, ControlAddress)> {
    if !is_circuit(address) {
        return None;
    }
    let front: Multiaddr = address
        .iter()
        .take_while(|part| *part != Protocol::P2pCircuit)
        .collect();
    let Some(Protocol::P2p(relay)) = front.iter().last() else {
        return None;
    };
    Some((relay, control_address(&front)?))
}

/// An address that says whose it is.
pub(super) fn named(address: &Multiaddr, peer: PeerId) -> Multiaddr {
    // One that names another peer stays as it is.
    address
        .clone()
        .with_p2p(peer)
        .unwrap_or_else(|as_it_was| as_it_was)
}

/// The host at the front of an address.
pub(super) fn host(address: &Multiaddr) -> Option<IpAddr> {
    ip(&address.iter().next()?)
}

/// Whether another machine may reach this address as it stands: link-local IPv6 needs an interface beside it.
pub(super) fn is_worth_telling(address: &ControlAddress) -> bool {
    let ip = address.address.ip();
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    !(ip.is_loopback() || ip.is_unspecified() || link_local)
}

fn ip(part: &Protocol<'_>) -> Option<IpAddr> {
    match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(*ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_the_way_through_a_peer_id() {
        let pair = libp2p::identity::Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let peer = pair.public().to_peer_id();
        let key = transport_key(&peer).unwrap();
        assert_eq!(peer_id(&key), Some(peer));
    }

    #[test]
    fn a_peer_id_that_is_no_ed25519_key_is_no_transport_key() {
        assert_eq!(transport_key(&PeerId::random()), None);
    }

    #[test]
    fn an_address_survives_the_way_through_libp2p() {
        for transport in [Transport::Tcp, Transport::Quic] {
            for text in ["192.0.2.1:7", "[2001:db8::1]:7"] {
                let address = ControlAddress {
                    transport,
                    address: text.parse().unwrap(),
                };
                assert_eq!(control_address(&multiaddr(&address)), Some(address));
            }
        }
    }

    #[test]
    fn a_circuits_address_tells_its_relay_and_is_nobodys_own() {
        let [relay_id, peer] = [PeerId::random(), PeerId::random()];
        for text in ["192.0.2.1:7", "[2001:db8::1]:7"] {
            let at = ControlAddress {
                transport: Transport::Quic,
                address: text.parse().unwrap(),
            };
            let way = circuit(&at, relay_id, peer);
            assert_eq!(relay(&way), Some((relay_id, at)));
            assert_eq!(relay(&home(&at, relay_id)), Some((relay_id, at)));
            assert_eq!(control_address(&way), None);
            assert_eq!(relay(&named(&multiaddr(&at), relay_id)), None);
        }
        let nameless = "/ip4/192.0.2.1/tcp/7/p2p-circuit".parse().unwrap();
        assert_eq!(relay(&nameless), None);
    }

    #[test]
    fn an_address_with_more_behind_it_is_not_understood() {
        for text in [
            "/ip4/192.0.2.1/udp/7",
            "/ip4/192.0.2.1/tcp/7/ws",
            "/dns4/a.example/tcp/7",
            "/ip4/192.0.2.1",
            "/ip4/192.0.2.1/udp/7/quic-v1/p2p-circuit",
        ] {
            assert_eq!(control_address(&text.parse().unwrap()), None, "{text}");
        }
    }
}
