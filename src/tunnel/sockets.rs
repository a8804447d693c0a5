//! The UDP sockets: one for each address family, on one port.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use anyhow::Context as _;
use meshnode_protocol::peering::{Path, Socket};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

/// Bytes of each kernel buffer: about 10 ms at 5 Gbit/s, so that a burst survives a late wake-up.
const BUFFER_BYTES: usize = 7 * 1024 * 1024;

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

/// A train of datagrams as it came: of one length, from one sender; the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Bytes of all.
    pub(crate) length: usize,
    /// Bytes of each.
    pub(crate) each: usize,
    pub(crate) path: Path,
}

/// Room for what the kernel says beside a train.
pub(crate) type Aside = Vec<u8>;

/// Room for what the kernel says beside a train.
pub(crate) fn aside() -> Aside {
    cmsg_space!(i32)
}

/// Both sockets, bound to one port.
#[derive(Debug)]
pub(crate) struct Sockets {
    v4: UdpSocket,
    /// `None` where the kernel has no IPv6.
    v6: Option<UdpSocket>,
    port: u16,
    /// Whether the kernel cuts trains for us (`UDP_SEGMENT`, Linux 4.18). One that does not know it would not say so.
    cuts: bool,
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
        // 0 is what it is anyway: not unless asked for.
        let cuts = setsockopt(&v4, sockopt::UdpGsoSegment, &0).is_ok();
        Ok(Self { v4, v6, port, cuts })
    }

    /// The port of both.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The descriptor of one, to wait on.
    pub(crate) fn fd(&self, socket: Socket) -> Option<BorrowedFd<'_>> {
        self.raw(socket).map(AsFd::as_fd)
    }

    /// Receives a train of datagrams if there is one.
    pub(crate) fn receive(
        &self,
        socket: Socket,
        buffer: &mut [u8],
        aside: &mut Aside,
    ) -> io::Result<Option<Arrival>> {
        let Some(raw) = self.raw(socket) else {
            return Ok(None);
        };
        let mut parts = [IoSliceMut::new(buffer)];
        let received = recvmsg::<SockaddrStorage>(
            raw.as_raw_fd(),
            &mut parts,
            Some(aside),
            MsgFlags::MSG_DONTWAIT,
        );
        let received = match received {
            Ok(received) => received,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let length = received.bytes;
        let mut each = length;
        for message in received.cmsgs()? {
            if let ControlMessageOwned::UdpGroSegments(bytes) = message {
                each = usize::try_from(bytes).unwrap_or(length);
            }
        }
        let Some(remote) = received.address.as_ref().and_then(address) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok(Some(Arrival {
            length,
            each: each.max(1),
            path: Path::Direct {
                socket,
                remote: normal(remote),
            },
        }))
    }

    /// Sends a train: datagrams of `each` bytes, the last perhaps shorter. Errors as with [`Self::send`]. Gives whether
    /// the kernel cuts there: if not, they went one by one.
    pub(crate) fn send_train(&self, path: Path, bytes: &[u8], each: usize) -> bool {
        if bytes.len() <= each || !self.cuts {
            self.send_single(path, bytes, each);
            return true;
        }
        let Some((raw, remote)) = self.way(path) else {
            return true;
        };
        let mut result = cut(raw, remote, bytes, each);
        if result == Err(Errno::EAGAIN) {
            let mut room = [PollFd::new(raw.as_fd(), PollFlags::POLLOUT)];
            // Whatever the wait brings, one more try tells.
            let _ = poll(&mut room, PollTimeout::from(SEND_WAIT_MS));
            result = cut(raw, remote, bytes, each);
        }
        match result {
            Ok(()) => {}
            // This way out cannot make checksums, or its packets are shorter: single datagrams may pass all the same.
            Err(error @ (Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE)) => {
                tracing::debug!(%error, %remote, "no train that way: datagrams one by one");
                self.send_single(path, bytes, each);
                return false;
            }
            Err(error) => tracing::trace!(%error, "datagrams not sent"),
        }
        true
    }

    /// Sends the datagrams of a train one by one.
    pub(crate) fn send_single(&self, path: Path, bytes: &[u8], each: usize) {
        for datagram in bytes.chunks(each) {
            self.send(path, datagram, Patience::Wait);
        }
    }

    /// Sends one datagram. Errors are the network's, so nobody is told: what is lost is sent again.
    pub(crate) fn send(&self, path: Path, bytes: &[u8], patience: Patience) {
        let Some((raw, remote)) = self.way(path) else {
            return;
        };
        let mut result = raw.send_to(bytes, remote);
        if patience == Patience::Wait
            && result
                .as_ref()
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        {
            let mut room = [PollFd::new(raw.as_fd(), PollFlags::POLLOUT)];
            // Whatever the wait brings, one more try tells.
            let _ = poll(&mut room, PollTimeout::from(SEND_WAIT_MS));
            result = raw.send_to(bytes, remote);
        }
        if let Err(error) = result {
            tracing::trace!(%error, "datagram not sent");
        }
    }

    fn way(&self, path: Path) -> Option<(&UdpSocket, SocketAddr)> {
        match path {
            Path::Direct { socket, remote } => Some((self.raw(socket)?, remote)),
            // Nothing goes by relays yet.
            Path::Relayed { .. } | Path::Circuit(_) => None,
        }
    }

    const fn raw(&self, socket: Socket) -> Option<&UdpSocket> {
        match socket {
            Socket::V4 => Some(&self.v4),
            Socket::V6 => self.v6.as_ref(),
            // None are opened yet.
            Socket::Extra(_) => None,
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
    // Best effort: without the right to force it the kernel's own limit may be lower, and a small buffer still works.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
        let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    }
    if setsockopt(&socket, sockopt::SndBufForce, &BUFFER_BYTES).is_err() {
        let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    }
    // Without it datagrams come one by one, as with kernels before 5.0.
    let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Sends a train that the kernel cuts.
fn cut(raw: &UdpSocket, remote: SocketAddr, bytes: &[u8], each: usize) -> nix::Result<()> {
    let each = u16::try_from(each).map_err(|_| Errno::EMSGSIZE)?;
    let sent = sendmsg(
        raw.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[ControlMessage::UdpGsoSegments(&each)],
        MsgFlags::empty(),
        Some(&SockaddrStorage::from(remote)),
    );
    sent.map(|_| ())
}

fn address(raw: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = raw.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| raw.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
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
        let (mut buffer, mut aside) = ([0; 64], aside());
        let train = ours.receive(Socket::V4, &mut buffer, &mut aside).unwrap();
        let train = train.unwrap();
        assert_eq!((&buffer[..train.length], train.each), (&b"hello"[..], 5));
        assert_eq!(train.path, loopback(theirs.port()));
        let nothing = ours.receive(Socket::V4, &mut buffer, &mut aside).unwrap();
        assert!(nothing.is_none());
    }

    #[test]
    fn a_way_on_which_the_kernel_cuts_nothing_gets_single_datagrams_and_no_other_way_does() {
        let sockets = Sockets::open(0).unwrap();
        let nowhere = Path::to(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
        let here = Path::to(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), sockets.port()));
        assert!(!sockets.send_train(nowhere, &[1; 3000], 1000));
        assert!(sockets.send_train(here, &[1; 3000], 1000));
    }

    #[test]
    fn a_train_arrives_as_its_datagrams_whether_or_not_the_kernel_cuts_it() {
        let bytes: Vec<u8> = (0..=255).cycle().take(10_300).collect();
        for cuts in [true, false] {
            let (ours, mut theirs) = (Sockets::open(0).unwrap(), Sockets::open(0).unwrap());
            assert!(theirs.cuts, "this kernel cuts");
            theirs.cuts = cuts;
            let to = Path::to(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), ours.port()));
            assert!(theirs.send_train(to, &bytes, 1000));
            let (mut buffer, mut aside) = (vec![0; 65_535], aside());
            let mut got = Vec::new();
            while let Some(train) = ours.receive(Socket::V4, &mut buffer, &mut aside).unwrap() {
                let datagrams = buffer[..train.length].chunks(train.each);
                got.extend(datagrams.map(<[u8]>::to_vec));
            }
            let sent: Vec<_> = bytes.chunks(1000).map(<[u8]>::to_vec).collect();
            assert_eq!(got, sent);
        }
    }
}
