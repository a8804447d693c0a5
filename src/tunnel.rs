//! The packet engine: TUN, WireGuard and UDP. Packets never leave this room; the core hears only of what it must decide.

use meshnode_protocol::peering::{Path, PeerChange, TunnelInput};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// How to start an engine.
pub struct TunnelConfig {
    /// The wanted name of the device, at most 15 bytes; in use: a number is appended.
    pub name: String,
    /// The X25519 secret key of this node.
    pub secret: Zeroizing<[u8; 32]>,
    /// The UDP port; 0: a random one.
    pub port: u16,
    /// Bytes of the largest packet inside the tunnel.
    pub mtu: u16,
}

/// A running engine.
#[derive(Debug)]
pub struct Tunnel {}

impl Tunnel {
    /// Starts.
    ///
    /// # Errors
    /// When the device or the sockets cannot be had.
    pub fn start(config: TunnelConfig, events: mpsc::Sender<TunnelInput>) -> anyhow::Result<Self> {
        let _ = (config.name, events);
        anyhow::bail!("skeleton")
    }
    /// The device's name.
    #[must_use]
    pub fn device(&self) -> &str {
        ""
    }
    /// The UDP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        0
    }
    /// Carries out a change of the peers.
    pub fn apply(&self, _change: PeerChange) {}
    /// Sends a datagram that is no WireGuard message.
    pub fn send(&self, _path: Path, _bytes: &[u8]) {}
    /// Ends the engine.
    pub fn stop(self) {}
}
