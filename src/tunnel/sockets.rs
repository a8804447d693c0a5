//! The UDP sockets: one for each address family, on one port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Context as _;
use meshnode_protocol::peering::{Path, Socket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

/// Bytes of each kernel buffer: about 25 ms at 1.2 Gbit/s, so that a burst survives a late wake-up.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How long the sender of bulk traffic waits for room in the kernel before it loses the packet.
const SEND_WAIT_MS: u16 = 100;

/// Random ports tried before giving up.
const PORT_TRIES: u32 = 200;

/// What to do when the kernel has no room for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Wait a little: the TUN queue holds the rest.
    Wait,
    /// Lose it.
    Drop,
}

/// Both sockets, bound to one port.
#[derive(Debug)]
pub(crate) struct Sockets {
    v4: UdpSocket,
    /// `None` where the kernel has no IPv6.
    v6: Option<UdpSocket>,
    port: u16,
}

impl Sockets {
    /// Binds the port, or with 0 a random one that the control plane can use too.
    pub(crate) fn open(port: u16) -> anyhow::Result<Self> {
        if port != 0 {
            return Self::bind(port).with_context(|| format!("Failed to bind UDP port {port}"));
        }
        for _ in 0..PORT_TRIES {
            let port = random_port()?;
            if !free_for_control(port) {
                continue;
            }
            if let Ok(sockets) = Self::bind(port) {
                return Ok(sockets);
            }
        }
        anyhow::bail!("Failed to find a free UDP port in {PORT_TRIES} tries")
    }

    fn bind(port: u16) -> io::Result<Self> {
        let v4 = bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))?;
        let v6 = match bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
            Ok(socket) => Some(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "no IPv6 socket, going on with IPv4 alone");
                None
            }
        };
        Ok(Self { v4, v6, port })
    }

    /// The port of both.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The descriptor of one, to wait on.
    pub(crate) fn fd(&self, socket: Socket) -> Option<BorrowedFd<'_>> {
        self.raw(socket).map(AsFd::as_fd)
    }

    /// Receives one datagram if there is one: its length and the path that it came by.
    pub(crate) fn receive(
        &self,
        socket: Socket,
        buffer: &mut [u8],
    ) -> io::Result<Option<(usize, Path)>> {
        let Some(raw) = self.raw(socket) else {
            return Ok(None);
        };
        match raw.recv_from(buffer) {
            Ok((length, remote)) => Ok(Some((
                length,
                Path {
                    socket,
                    remote: normal(remote),
                },
            ))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends one datagram. Errors are the network's, so nobody is told: what is lost is sent again.
    pub(crate) fn send(&self, path: Path, bytes: &[u8], patience: Patience) {
        let Some(raw) = self.raw(path.socket) else {
            return;
        };
        let mut result = raw.send_to(bytes, path.remote);
        if patience == Patience::Wait
            && result
                .as_ref()
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        {
            let mut room = [PollFd::new(raw.as_fd(), PollFlags::POLLOUT)];
            // Whatever the wait brings, one more try tells.
            let _ = poll(&mut room, PollTimeout::from(SEND_WAIT_MS));
            result = raw.send_to(bytes, path.remote);
        }
        if let Err(error) = result {
            tracing::trace!(%error, "datagram not sent");
        }
    }

    const fn raw(&self, socket: Socket) -> Option<&UdpSocket> {
        match socket {
            Socket::V4 => Some(&self.v4),
            Socket::V6 => self.v6.as_ref(),
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Best effort: the kernel's own limit may be lower, and a small buffer still works.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A port from 1024 up, so that the one after it exists too.
fn random_port() -> anyhow::Result<u16> {
    let random = getrandom::u32().context("Failed to read randomness")?;
    let span = u32::from(u16::MAX) - 1024;
    u16::try_from(1024 + random % span).context("Failed to choose a port")
}

/// Whether the control plane could use TCP on this port and UDP on the next.
fn free_for_control(port: u16) -> bool {
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    TcpListener::bind((any, port)).is_ok() && UdpSocket::bind((any, port + 1)).is_ok()
}

/// One form for each remote address: a flow label is no part of a path, and a scope only matters on a link.
fn normal(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V4(_) => remote,
        SocketAddr::V6(v6) => {
            let scope = if v6.ip().is_unicast_link_local() {
                v6.scope_id()
            } else {
                0
            };
            SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_port_is_at_least_1024_and_the_next_one_exists() {
        for _ in 0..1000 {
            let port = random_port().unwrap();
            assert!((1024..u16::MAX).contains(&port));
        }
    }

    #[test]
    fn both_families_share_one_port_and_a_second_engine_cannot_take_it() {
        let sockets = Sockets::open(0).unwrap();
        assert!(Sockets::open(sockets.port()).is_err());
    }

    #[test]
    fn a_datagram_arrives_with_the_path_it_came_by() {
        let ours = Sockets::open(0).unwrap();
        let theirs = Sockets::open(0).unwrap();
        let loopback = |port| Path::to(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        theirs.send(loopback(ours.port()), b"hello", Patience::Wait);
        let mut buffer = [0; 64];
        let (length, path) = ours.receive(Socket::V4, &mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..length], b"hello");
        assert_eq!(path, loopback(theirs.port()));
        assert!(ours.receive(Socket::V4, &mut buffer).unwrap().is_none());
    }
}
