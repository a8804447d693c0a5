//! The UDP sockets: one for each address family, on one port, and the extra ones that meet a peer by chance.

mod uncut;

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::ops::Deref;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use meshnode_protocol::peering::Socket;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

/// Bytes of each kernel buffer: about 10 ms at 5 Gbit/s, so that a burst survives a late wake-up.
const BUFFER_BYTES: usize = 7 * 1024 * 1024;

/// Bytes of an extra socket's buffers: there are many of them, and one at most carries packets later.
const EXTRA_BUFFER_BYTES: usize = 1024 * 1024;

/// Extra sockets at most (`docs/protocol.md` §8.4).
const EXTRAS_MAX: usize = 256;

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
    /// Where it came in.
    pub(crate) socket: Socket,
    pub(crate) remote: SocketAddr,
}

/// Room for what the kernel says beside a train.
pub(crate) type Aside = Vec<u8>;

/// Room for what the kernel says beside a train.
pub(crate) fn aside() -> Aside {
    cmsg_space!(i32)
}

/// The extra sockets that are open, by number.
pub(crate) type Extras = BTreeMap<u16, Arc<UdpSocket>>;

/// Both sockets, bound to one port, and the extra ones.
#[derive(Debug)]
pub(crate) struct Sockets {
    v4: UdpSocket,
    /// `None` where the kernel has no IPv6.
    v6: Option<UdpSocket>,
    port: u16,
    /// Whether the kernel cuts trains for us (`UDP_SEGMENT`, Linux 4.18). One that does not know it would not say so.
    cuts: bool,
    extras: ArcSwap<Extras>,
    /// Readable once the extra sockets are others.
    changed: EventFd,
}

/// A socket, as long as it is used.
enum Raw<'a> {
    Lasting(&'a UdpSocket),
    Extra(Arc<UdpSocket>),
}

impl Deref for Raw<'_> {
    type Target = UdpSocket;

    fn deref(&self) -> &UdpSocket {
        match self {
            Self::Lasting(socket) => socket,
            Self::Extra(socket) => socket,
        }
    }
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
        let any = |ip| SocketAddr::new(ip, port);
        let v4 = bind(any(Ipv4Addr::UNSPECIFIED.into()), BUFFER_BYTES)?;
        let v6 = match bind(any(Ipv6Addr::UNSPECIFIED.into()), BUFFER_BYTES) {
            Ok(socket) => Some(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "no IPv6 socket, going on with IPv4 alone");
                None
            }
        };
        // 0 is what it is anyway: not unless asked for.
        let cuts = setsockopt(&v4, sockopt::UdpGsoSegment, &0).is_ok();
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Self {
            v4,
            v6,
            port,
            cuts,
            extras: ArcSwap::default(),
            changed: EventFd::from_flags(flags)?,
        })
    }

    /// Opens and closes extra sockets, so that there are these: IPv4, each at a port that the kernel chose. Whoever
    /// waits on the sockets is woken.
    pub(crate) fn set_extras(&self, wanted: &[u16]) {
        let open = self.extras.load();
        let mut next = Extras::new();
        for number in wanted.iter().take(EXTRAS_MAX) {
            let socket = open.get(number).cloned().map_or_else(bind_extra, Ok);
            match socket {
                Ok(socket) => {
                    next.insert(*number, socket);
                }
                Err(error) => tracing::debug!(%error, "no extra socket"),
            }
        }
        self.extras.store(Arc::new(next));
        // A full counter is readable already, which is all that is wanted.
        let _ = self.changed.write(1);
    }

    /// The extra sockets, as they are now; [`Self::changed`] is at rest until they are others.
    pub(crate) fn extras(&self) -> Arc<Extras> {
        // Nothing to read: it was at rest already. First, so that a later change is not missed.
        let _ = self.changed.read();
        self.extras.load_full()
    }

    /// Readable once the extra sockets are others than [`Self::extras`] said.
    pub(crate) fn changed(&self) -> BorrowedFd<'_> {
        self.changed.as_fd()
    }

    /// The port of both.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The lasting sockets with their descriptors, to wait on.
    pub(crate) fn lasting(&self) -> impl Iterator<Item = (Socket, BorrowedFd<'_>)> {
        let v6 = self.v6.as_ref().map(|v6| (Socket::V6, v6.as_fd()));
        [(Socket::V4, self.v4.as_fd())].into_iter().chain(v6)
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
            socket,
            remote: normal(remote),
        }))
    }

    /// Sends a train: datagrams of `each` bytes, the last perhaps shorter. Errors as with [`Self::send`]. Gives whether
    /// the kernel cuts there: if not, they went one by one.
    pub(crate) fn send_train(
        &self,
        (socket, remote): (Socket, SocketAddr),
        bytes: &[u8],
        each: usize,
        patience: Patience,
    ) -> bool {
        if bytes.len() <= each || !self.cuts {
            self.send_single((socket, remote), bytes, each, patience);
            return true;
        }
        let Some(raw) = self.raw(socket) else {
            return true;
        };
        let result = patience.carry(&raw, || cut(&raw, remote, bytes, each));
        match result {
            Ok(()) => {}
            // This way out cannot make checksums, or its packets are shorter: single datagrams may pass all the same.
            Err(error @ (Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE)) => {
                tracing::debug!(%error, %remote, "no train that way: datagrams one by one");
                self.send_single((socket, remote), bytes, each, patience);
                return false;
            }
            Err(error) => tracing::trace!(%error, "datagrams not sent"),
        }
        true
    }

    /// Sends the datagrams of a train one by one.
    pub(crate) fn send_single(
        &self,
        way: (Socket, SocketAddr),
        bytes: &[u8],
        each: usize,
        patience: Patience,
    ) {
        for datagram in bytes.chunks(each) {
            self.send(way, &[], datagram, patience);
        }
    }

    /// Sends one datagram, which is two parts. Errors are the network's, so nobody is told: what is lost is sent again.
    pub(crate) fn send(
        &self,
        (socket, remote): (Socket, SocketAddr),
        lead: &[u8],
        bytes: &[u8],
        patience: Patience,
    ) {
        let Some(raw) = self.raw(socket) else {
            return;
        };
        let remote = SockaddrStorage::from(remote);
        let parts = [IoSlice::new(lead), IoSlice::new(bytes)];
        let result = patience.carry(&raw, || {
            let fd = raw.as_raw_fd();
            sendmsg(fd, &parts, &[], MsgFlags::empty(), Some(&remote)).map(|_| ())
        });
        if let Err(error) = result {
            tracing::trace!(%error, "datagram not sent");
        }
    }

    /// Sends one datagram that neither this host nor a router may cut, whatever the host believes of the way.
    pub(crate) fn send_uncut(&self, way: (Socket, SocketAddr), bytes: &[u8]) {
        let Some(raw) = self.raw(way.0) else {
            return;
        };
        let v6 = way.1.is_ipv6();
        // A datagram of the other threads in between goes uncut, too; that is nearly always how it would have gone.
        if uncut::set(&raw, v6, true).is_ok() {
            self.send(way, &[], bytes, Patience::Drop);
        }
        if let Err(error) = uncut::set(&raw, v6, false) {
            tracing::debug!(%error, "datagrams stay uncut");
        }
    }

    fn raw(&self, socket: Socket) -> Option<Raw<'_>> {
        match socket {
            Socket::V4 => Some(Raw::Lasting(&self.v4)),
            Socket::V6 => self.v6.as_ref().map(Raw::Lasting),
            Socket::Extra(number) => {
                let extras = self.extras.load();
                extras.get(&number).cloned().map(Raw::Extra)
            }
        }
    }
}

impl Patience {
    /// Sends; where the kernel has no room, once more after a wait, or not.
    fn carry(self, raw: &UdpSocket, mut send: impl FnMut() -> nix::Result<()>) -> nix::Result<()> {
        let result = send();
        if result != Err(Errno::EAGAIN) || self == Self::Drop {
            return result;
        }
        let mut room = [PollFd::new(raw.as_fd(), PollFlags::POLLOUT)];
        // Whatever the wait brings, one more try tells.
        let _ = poll(&mut room, PollTimeout::from(SEND_WAIT_MS));
        send()
    }
}

fn bind_extra() -> io::Result<Arc<UdpSocket>> {
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    bind(any, EXTRA_BUFFER_BYTES).map(Arc::new)
}

fn bind(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Best effort: without the right to force it the kernel's own limit may be lower, and a small buffer still works.
    if setsockopt(&socket, sockopt::RcvBufForce, &buffer_bytes).is_err() {
        let _ = socket.set_recv_buffer_size(buffer_bytes);
    }
    if setsockopt(&socket, sockopt::SndBufForce, &buffer_bytes).is_err() {
        let _ = socket.set_send_buffer_size(buffer_bytes);
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

    /// The way to a port of this machine.
    fn here(port: u16) -> (Socket, SocketAddr) {
        (
            Socket::V4,
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
        )
    }

    #[test]
    fn a_datagram_arrives_whole_with_the_way_it_came() {
        let ours = Sockets::open(0).unwrap();
        let theirs = Sockets::open(0).unwrap();
        theirs.send(here(ours.port()), b"he", b"llo", Patience::Wait);
        let (mut buffer, mut aside) = ([0; 64], aside());
        let train = ours.receive(Socket::V4, &mut buffer, &mut aside).unwrap();
        let train = train.unwrap();
        assert_eq!((&buffer[..train.length], train.each), (&b"hello"[..], 5));
        assert_eq!((train.socket, train.remote), here(theirs.port()));
        let nothing = ours.receive(Socket::V4, &mut buffer, &mut aside).unwrap();
        assert!(nothing.is_none());
    }

    #[test]
    fn extra_sockets_come_stay_and_go_as_the_list_says() {
        let (ours, theirs) = (Sockets::open(0).unwrap(), Sockets::open(0).unwrap());
        let (mut buffer, mut aside) = ([0; 64], aside());
        let mut ask = |number: u16| {
            let way = (Socket::Extra(number), here(theirs.port()).1);
            ours.send(way, &[], &number.to_be_bytes(), Patience::Wait);
            let train = theirs.receive(Socket::V4, &mut buffer, &mut aside).unwrap();
            train.map(|train| train.remote.port())
        };
        ours.set_extras(&[1, 2]);
        assert_eq!(ours.extras().len(), 2);
        let (one, two) = (ask(1).unwrap(), ask(2).unwrap());
        assert!(one != two && one != ours.port());
        assert_eq!(ask(3), None);
        ours.set_extras(&[2, 3]);
        assert_eq!((ask(1), ask(2)), (None, Some(two)));
        theirs.send(here(two), &[], b"back", Patience::Wait);
        let (mut buffer, mut aside) = ([0; 64], super::aside());
        let back = ours.receive(Socket::Extra(2), &mut buffer, &mut aside);
        assert_eq!(back.unwrap().unwrap().length, 4);
        ours.set_extras(&(0..1000).collect::<Vec<_>>());
        assert_eq!(ours.extras().len(), EXTRAS_MAX);
        ours.set_extras(&[]);
        assert!(ours.extras().is_empty());
    }

    #[test]
    fn a_way_on_which_the_kernel_cuts_nothing_gets_single_datagrams_and_no_other_way_does() {
        let sockets = Sockets::open(0).unwrap();
        let train = |way| sockets.send_train(way, &[1; 3000], 1000, Patience::Wait);
        assert!(!train(here(0)));
        assert!(train(here(sockets.port())));
    }

    #[test]
    fn a_train_arrives_as_its_datagrams_whether_or_not_the_kernel_cuts_it() {
        let bytes: Vec<u8> = (0..=255).cycle().take(10_300).collect();
        for cuts in [true, false] {
            let (ours, mut theirs) = (Sockets::open(0).unwrap(), Sockets::open(0).unwrap());
            assert!(theirs.cuts, "this kernel cuts");
            theirs.cuts = cuts;
            assert!(theirs.send_train(here(ours.port()), &bytes, 1000, Patience::Wait));
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
