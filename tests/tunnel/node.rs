//! A tunnel in a namespace, with its device configured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use boringtun::x25519::{PublicKey, StaticSecret};
use meshnode::carrier::Carrier;
use meshnode::host::{Configured, Host};
use meshnode::tunnel::{Offloads, Tunnel, TunnelConfig};
use meshnode_protocol::id::{NodeId, WireGuardKey};
use meshnode_protocol::identity::Secret;
use meshnode_protocol::io::Interface;
use meshnode_protocol::peering::{Path, PeerChange, PeerConfig, Roaming, TunnelInput};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::lab::Namespace;

/// The MTU of every device here, as in the daemon.
pub(crate) const MTU: u16 = 1420;

/// The TCP port that stands for every node's control plane.
pub(crate) const CONTROL: u16 = 7000;

/// A node number `number`: its key, its addresses and its engine.
pub(crate) struct Node {
    pub(crate) tunnel: Tunnel,
    pub(crate) events: mpsc::Receiver<TunnelInput>,
    pub(crate) carrier: Carrier,
}

pub(crate) fn secret(number: u8) -> [u8; 32] {
    [number; 32]
}

pub(crate) fn key(number: u8) -> WireGuardKey {
    let public = PublicKey::from(&StaticSecret::from(secret(number)));
    WireGuardKey::new(public.to_bytes())
}

/// The device behind a node's key, as the policy names it.
pub(crate) fn device(number: u8) -> NodeId {
    NodeId::new(Secret::from_seed(&secret(number)).public())
}

pub(crate) fn ipv4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, 0, number)
}

pub(crate) fn ipv6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into())
}

pub(crate) fn config(number: u8, roaming: Roaming) -> PeerConfig {
    PeerConfig {
        key: key(number),
        device: device(number),
        allowed_ips: vec![ipv4(number).into(), ipv6(number).into()],
        roaming,
        keepalive_s: 0,
        probe_tag: None,
    }
}

impl Node {
    /// Starts inside a namespace, routes to `peers`, and lets in packets to its own addresses alone.
    pub(crate) fn start(namespace: &Namespace, number: u8, peers: &'static [u8]) -> Self {
        Self::start_with(namespace, number, peers, Offloads::All)
    }

    /// The same, asking so much of the host.
    pub(crate) fn start_with(
        namespace: &Namespace,
        number: u8,
        peers: &'static [u8],
        offloads: Offloads,
    ) -> Self {
        let (node, configured) = namespace.run(move || Self::start_here(number, peers, offloads));
        assert_eq!(configured.ipv4, Some(meshnode::host::Held::Ours));
        assert_eq!(configured.ipv6, meshnode::host::Held::Ours);
        node
    }

    /// Starts in the namespace of this thread.
    pub(crate) fn start_here(number: u8, peers: &[u8], offloads: Offloads) -> (Self, Configured) {
        let (sender, events) = mpsc::channel(256);
        let carrier = Carrier::new().unwrap();
        let config = TunnelConfig {
            name: format!("mn-test{number}"),
            secret: Zeroizing::new(secret(number)),
            port: 0,
            mtu: MTU,
            control: Some(CONTROL),
            offloads,
            carrier: carrier.clone(),
        };
        let tunnel = Tunnel::start(config, sender).expect("the tunnel starts");
        let interface = Interface {
            ipv4: Some(ipv4(number)),
            ipv6: ipv6(number),
        };
        tunnel.interface(Some(&interface));
        let device = tunnel.device().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let configured = runtime.block_on(async {
            let host = Host::open().unwrap();
            let configured = host.configure(&device, &interface, MTU).await.unwrap();
            for peer in peers {
                for address in [IpAddr::from(ipv4(*peer)), ipv6(*peer).into()] {
                    host.route_add(&device, address).await.unwrap();
                }
            }
            configured
        });
        let node = Self {
            tunnel,
            events,
            carrier,
        };
        (node, configured)
    }

    pub(crate) fn meet(&self, number: u8, roaming: Roaming) {
        self.tunnel.apply(PeerChange::Set(config(number, roaming)));
    }

    /// Packets of up to so many bytes pass to a peer.
    pub(crate) fn mtu(&self, number: u8, bytes: u16) {
        self.tunnel.apply(PeerChange::Mtu(key(number), bytes));
    }

    pub(crate) fn path(&self, number: u8, path: Option<Path>) {
        self.tunnel.apply(PeerChange::Path(key(number), path));
    }

    /// The path to this node at an outer address.
    pub(crate) fn at(&self, address: &str) -> Path {
        Path::to(SocketAddr::new(
            address.parse().unwrap(),
            self.tunnel.port(),
        ))
    }

    pub(crate) fn drain(&mut self) -> Vec<TunnelInput> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}
