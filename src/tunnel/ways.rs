//! How a datagram goes by each kind of path: by UDP straight, by UDP behind a relay's header, or over a circuit.

use std::net::SocketAddr;

use meshnode_protocol::limits::OVERLAY_MTU;
use meshnode_protocol::peering::{CircuitId, Path, Socket};
use meshnode_protocol::relay::frame::{HEADER_BYTES, header};

use super::peer::OVERHEAD;
use super::sockets::{Patience, Sockets};
use crate::carrier::Carrier;

/// Bytes before a datagram at most, on any path.
pub(crate) const LEAD_MAX: usize = HEADER_BYTES;

/// A single datagram that is longer is a probe of how much passes.
const SIZED_MIN: usize = OVERLAY_MTU as usize + OVERHEAD;

/// All ways out of this node.
#[derive(Debug)]
pub(crate) struct Ways {
    pub(crate) sockets: Sockets,
    pub(crate) carrier: Carrier,
}

/// Bytes that go before each datagram on a path.
pub(crate) const fn lead(path: Path) -> usize {
    match path {
        Path::Direct { .. } | Path::Circuit(_) => 0,
        Path::Relayed { .. } => HEADER_BYTES,
    }
}

/// Writes what goes before a datagram into a room of at least [`LEAD_MAX`] bytes; gives how many they are.
pub(crate) fn write_lead(path: Path, room: &mut [u8]) -> usize {
    if let Path::Relayed { mailbox, .. } = path {
        room[..HEADER_BYTES].copy_from_slice(&header(mailbox));
    }
    lead(path)
}

impl Ways {
    /// Sends one datagram, its lead not yet before it. Nobody is told of errors: what is lost is sent again.
    pub(crate) fn send(&self, path: Path, bytes: &[u8], patience: Patience) {
        match path {
            // A probe of how much passes: it must arrive as it is, or not.
            Path::Direct { socket, remote } if bytes.len() > SIZED_MIN => {
                self.sockets.send_uncut((socket, remote), bytes);
            }
            Path::Direct { socket, remote } => {
                self.sockets.send((socket, remote), &[], bytes, patience);
            }
            Path::Relayed { relay, mailbox } => {
                let way = (Socket::of(&relay), relay);
                self.sockets.send(way, &header(mailbox), bytes, patience);
            }
            Path::Circuit(id) => self.carrier.send(id, bytes),
        }
    }

    /// Sends a train of datagrams with their leads, as [`Sockets::send_train`].
    pub(crate) fn send_train(&self, path: Path, bytes: &[u8], each: usize) -> bool {
        match Way::of(path) {
            Way::Udp(way) => self.sockets.send_train(way, bytes, each, Patience::Wait),
            Way::Circuit(_) => {
                self.send_single(path, bytes, each);
                true
            }
        }
    }

    /// The same one by one.
    pub(crate) fn send_single(&self, path: Path, bytes: &[u8], each: usize) {
        match Way::of(path) {
            Way::Udp(way) => self.sockets.send_single(way, bytes, each, Patience::Wait),
            Way::Circuit(id) => {
                for datagram in bytes.chunks(each) {
                    self.carrier.send(id, datagram);
                }
            }
        }
    }
}

/// Where a datagram goes first.
enum Way {
    Udp((Socket, SocketAddr)),
    Circuit(CircuitId),
}

impl Way {
    const fn of(path: Path) -> Self {
        match path {
            Path::Direct { socket, remote } => Self::Udp((socket, remote)),
            Path::Relayed { relay, .. } => Self::Udp((Socket::of(&relay), relay)),
            Path::Circuit(id) => Self::Circuit(id),
        }
    }
}
