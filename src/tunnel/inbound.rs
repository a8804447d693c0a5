//! From the network to the device: one thread, one datagram at a time. Every byte here is hostile until it is opened.

use std::sync::Arc;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet as WireGuard, TunnResult};
use meshnode_protocol::id::WireGuardKey;
use meshnode_protocol::peering::{Path, Socket, TunnelInput};
use meshnode_protocol::probe::{DatagramKind, classify, tag_of};
use meshnode_protocol::time::Moment;

use super::filter::Verdict;
use super::flows::Direction;
use super::packet::Packet;
use super::peer::{Content, Message, Peer};
use super::router::Router;
use super::sockets::Patience;
use super::{Engine, Loss, Wake};

/// Bytes of the largest UDP datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Datagrams taken from one socket before the other has its turn.
const BATCH: usize = 64;

/// Packets that a session can have waiting; the library queues no more.
const WAITING_MAX: usize = 256;

/// The state of the inbound thread.
pub(crate) struct Inbound {
    engine: Arc<Engine>,
    datagram: Vec<u8>,
    out: Vec<u8>,
}

impl Inbound {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            datagram: vec![0; DATAGRAM_BYTES_MAX],
            // Room for any datagram opened, and for any packet that waited, sealed.
            out: vec![0; DATAGRAM_BYTES_MAX + 64],
        }
    }

    /// Runs until the engine stops.
    pub(crate) fn run(mut self) {
        let engine = Arc::clone(&self.engine);
        let fds: Vec<_> = [Socket::V4, Socket::V6]
            .into_iter()
            .filter_map(|s| engine.sockets.fd(s))
            .collect();
        while engine.wait(&fds, None) == Wake::Ready {
            self.drain(Socket::V4);
            self.drain(Socket::V6);
        }
    }

    fn drain(&mut self, socket: Socket) {
        for _ in 0..BATCH {
            match self.engine.sockets.receive(socket, &mut self.datagram) {
                Ok(Some((length, path))) => self.handle(length, path),
                Ok(None) => return,
                Err(error) => {
                    tracing::trace!(%error, "nothing received");
                    return;
                }
            }
        }
    }

    fn handle(&mut self, length: usize, path: Path) {
        let datagram = &self.datagram[..length];
        match classify(datagram) {
            DatagramKind::WireGuard => self.handle_wireguard(length, path),
            DatagramKind::Probe => self.engine.hand_over(datagram, path),
            // Nothing here speaks STUN or carries for others: no answer, whatever it is.
            DatagramKind::Stun | DatagramKind::Relay | DatagramKind::Other => {
                self.engine.count(Loss::Malformed);
            }
        }
    }

    fn handle_wireguard(&mut self, length: usize, path: Path) {
        let now = self.engine.now();
        let router = self.engine.router.load_full();
        let datagram = &self.datagram[..length];
        let found = match self.engine.identity.limiter.verify_packet(
            Some(path.remote.ip()),
            datagram,
            &mut self.out,
        ) {
            Ok(message) => self.engine.recipient(&router, &message),
            Err(TunnResult::WriteToNetwork(cookie)) => {
                self.engine.sockets.send(path, cookie, Patience::Drop);
                return;
            }
            Err(_) => None,
        };
        let Some((peer, message)) = found else {
            self.engine.count(Loss::Unauthentic);
            return;
        };
        let received = peer.open(message, datagram, path, &mut self.out, now);
        if received.moved {
            self.engine.tell(TunnelInput::Moved {
                key: peer.key(),
                path,
            });
        }
        match received.content {
            Content::Nothing => {}
            Content::Refused => self.engine.count(Loss::Unauthentic),
            Content::Reply(bytes) => self.engine.sockets.send(path, bytes, Patience::Drop),
            Content::Packet(bytes) => self.engine.deliver(&router, &peer, bytes, now),
        }
        if received.session {
            for _ in 0..WAITING_MAX {
                let Some((path, bytes)) = peer.waiting(&mut self.out, now) else {
                    break;
                };
                self.engine.sockets.send(path, bytes, Patience::Drop);
            }
        }
    }
}

impl Engine {
    /// Gives the core a probe, if its tag is a peer's: the magic is public, and strangers must not fill the queue.
    fn hand_over(&self, datagram: &[u8], path: Path) {
        let Some(tag) = tag_of(datagram) else {
            self.count(Loss::Malformed);
            return;
        };
        if !self.router.load().knows_probe(&tag) {
            self.count(Loss::Unauthentic);
            return;
        }
        let bytes = datagram.to_vec();
        if !self.tell(TunnelInput::Datagram { path, bytes }) {
            self.count(Loss::Overflow);
        }
    }

    /// Whose message this is: by the key inside an initiation, else by the index that we gave.
    fn recipient(&self, router: &Router, message: &WireGuard<'_>) -> Option<(Arc<Peer>, Message)> {
        let (peer, message) = match message {
            WireGuard::HandshakeInit(initiation) => {
                let identity = &self.identity;
                let half =
                    parse_handshake_anon(&identity.secret, &identity.public, initiation).ok()?;
                let key = WireGuardKey::new(half.peer_static_public);
                (router.by_key(key), Message::Initiation)
            }
            WireGuard::HandshakeResponse(response) => {
                (router.by_receiver(response.receiver_idx), Message::Response)
            }
            WireGuard::PacketCookieReply(cookie) => {
                (router.by_receiver(cookie.receiver_idx), Message::Cookie)
            }
            WireGuard::PacketData(data) => (
                router.by_receiver(data.receiver_idx),
                Message::Data(data.receiver_idx),
            ),
        };
        peer.map(|peer| (Arc::clone(peer), message))
    }

    /// Hands an authentic packet to the host, if it is what this peer may send.
    fn deliver(&self, router: &Router, peer: &Arc<Peer>, bytes: &[u8], now: Moment) {
        let Some(packet) = Packet::parse(bytes) else {
            self.count(Loss::Malformed);
            return;
        };
        if !router.owns(peer, packet.source()) {
            self.count(Loss::Spoofed);
            return;
        }
        if !router.is_ours(packet.destination()) {
            self.count(Loss::Unroutable);
            return;
        }
        match peer.filter().judge(&packet, Direction::In, now) {
            Verdict::Pass => {}
            // Without a word: who is not let in learns nothing from this end.
            Verdict::Denied => {
                self.count(Loss::Denied);
                return;
            }
            Verdict::Malformed => {
                self.count(Loss::Malformed);
                return;
            }
        }
        peer.let_in(packet.bytes().len());
        self.write(packet.bytes());
    }
}
