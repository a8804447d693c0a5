//! From the network to the device: one thread, from each train received to the call that gives the host what came of
//! it.
//! Every byte here is hostile until it is opened.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet as WireGuard, TunnResult};
use meshnode_protocol::id::WireGuardKey;
use meshnode_protocol::peering::{Path, Socket, TunnelInput};
use meshnode_protocol::probe::{DatagramKind, classify, tag_of};
use meshnode_protocol::time::Moment;

use super::filter::Verdict;
use super::flows::Direction;
use super::merge::{Added, Merge};
use super::packet::Packet;
use super::peer::{Content, Message, Peer};
use super::router::Router;
use super::sockets::{Arrival, Aside, Patience, aside};
use super::split::Split;
use super::standing::Standing;
use super::train::SEALED_MAX;
use super::{Engine, Loss, Wake};

/// Bytes of the largest UDP datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Rows taken from one socket before the other has its turn.
const BATCH: usize = 64;

/// The first byte of a WireGuard message that carries a packet.
const WIREGUARD_DATA: u8 = 4;

/// Packets that a session can have waiting; the library queues no more.
const WAITING_MAX: usize = 256;

/// The state of the inbound thread.
pub(crate) struct Inbound {
    engine: Arc<Engine>,
    /// Where trains are received.
    train: Vec<u8>,
    aside: Aside,
    /// For messages that carry no packet.
    out: Vec<u8>,
    merge: Merge,
    /// Whose packets are being merged.
    merged: Option<Arc<Peer>>,
    standing: Standing,
    /// Which rules judged what is being merged.
    changes: u64,
}

impl Inbound {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let merge = Merge::new(engine.device.offloads());
        Self {
            engine,
            train: vec![0; DATAGRAM_BYTES_MAX],
            aside: aside(),
            // Room for any packet that waited, sealed.
            out: vec![0; SEALED_MAX],
            merge,
            merged: None,
            standing: Standing::default(),
            changes: 0,
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
            let more = self.drain(Socket::V4) | self.drain(Socket::V6);
            self.flush();
            if !more || engine.wait(&fds, Some(0)) != Wake::Ready {
                self.standing.empty();
            }
        }
    }

    /// Whether there is more.
    fn drain(&mut self, socket: Socket) -> bool {
        for _ in 0..BATCH {
            let engine = &self.engine.sockets;
            match engine.receive(socket, &mut self.train, &mut self.aside) {
                Ok(Some(train)) => self.handle(train),
                Ok(None) => return false,
                Err(error) => {
                    tracing::trace!(%error, "nothing received");
                    return false;
                }
            }
        }
        true
    }

    fn handle(&mut self, train: Arrival) {
        let now = self.engine.now();
        let engine = Arc::clone(&self.engine);
        let router = engine.router.load();
        let bytes = std::mem::take(&mut self.train);
        let changes = engine.changes.load(Ordering::Acquire);
        if changes != self.changes {
            // What was judged by older rules goes; nothing follows it unjudged.
            self.changes = changes;
            self.flush();
        }
        // As on the way out, never one that stands alone; and no handshake and no probe.
        let is_data = bytes[0] == WIREGUARD_DATA;
        let can_lose = train.length > train.each && is_data;
        let lost = self.standing.loses(now.uptime_us, can_lose);
        let datagrams = bytes[..train.length].chunks(train.each);
        for datagram in datagrams.skip(usize::from(lost)) {
            match classify(datagram) {
                DatagramKind::WireGuard => {
                    self.handle_wireguard(&router, datagram, train.path, now)
                }
                DatagramKind::Probe => engine.hand_over(datagram, train.path),
                // Nothing here speaks STUN or carries for others: no answer, whatever it is.
                DatagramKind::Stun | DatagramKind::Relay | DatagramKind::Other => {
                    engine.count(Loss::Malformed);
                }
            }
        }
        self.train = bytes;
    }

    fn handle_wireguard(&mut self, router: &Router, datagram: &[u8], path: Path, now: Moment) {
        let verified = self.engine.identity.limiter.verify_packet(
            path.next_hop().map(|hop| hop.ip()),
            datagram,
            &mut self.out,
        );
        let found = match verified {
            Ok(message) => self.engine.recipient(router, &message),
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
        if !self.merge.takes(peer.index(), datagram.len()) {
            self.flush();
        }
        let received = peer.open(message, datagram, path, self.merge.place(), now);
        let (moved, session) = (received.moved, received.session);
        let arrived = match received.content {
            Content::Nothing => None,
            Content::Refused => {
                self.engine.count(Loss::Unauthentic);
                None
            }
            Content::Reply(bytes) => {
                self.engine.sockets.send(path, bytes, Patience::Drop);
                None
            }
            Content::Packet(bytes) => Some(bytes.len()),
        };
        match arrived {
            Some(length) => self.deliver(router, &peer, length, now),
            None => self.merge.cancel(),
        }
        if moved {
            let key = peer.key();
            self.engine.tell(TunnelInput::Moved { key, path });
        }
        if session {
            for _ in 0..WAITING_MAX {
                let Some((path, bytes)) = peer.waiting(&mut self.out, now) else {
                    break;
                };
                self.engine.sockets.send(path, bytes, Patience::Drop);
            }
        }
    }

    /// Puts a packet that was opened with those before it, or judges it and begins anew.
    ///
    /// What is merged is of one flow with what was judged, and opens, ends and changes nothing: no second look is
    /// needed.
    fn deliver(&mut self, router: &Router, peer: &Arc<Peer>, length: usize, now: Moment) {
        match self.merge.add(length) {
            Added::Merged => {}
            Added::Apart => {
                let packet = self.merge.apart(length);
                let Some(length) = self.engine.admit(router, peer, packet, now) else {
                    return;
                };
                self.flush();
                self.merge.begin(peer.index(), length);
                self.merged = Some(Arc::clone(peer));
            }
        }
    }

    /// Gives the host what was merged.
    fn flush(&mut self) {
        let Some(mut merged) = self.merge.finish() else {
            return;
        };
        if let Some(peer) = self.merged.take() {
            peer.let_in(merged.packets_bytes);
        }
        let Err(error) = self.engine.device.send(merged.with_header()) else {
            return;
        };
        if merged.count == 1 {
            tracing::trace!(%error, "packet not written to the device");
            return;
        }
        tracing::debug!(%error, "the host takes no merged packet: one by one");
        let vnet = merged.vnet;
        let (bytes, length) = merged.whole();
        let Some(mut split) = Split::new(bytes, length, vnet) else {
            return;
        };
        for number in 0..split.count() {
            let packet = split.packet(number);
            split.padded(packet, 0, |packet| self.engine.write(packet));
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

    /// Judges an authentic packet: its length, if this peer may send it to this node.
    fn admit(&self, router: &Router, peer: &Arc<Peer>, bytes: &[u8], now: Moment) -> Option<usize> {
        let Some(packet) = Packet::parse(bytes) else {
            self.count(Loss::Malformed);
            return None;
        };
        if !router.owns(peer, packet.source()) {
            self.count(Loss::Spoofed);
            return None;
        }
        if !router.is_ours(packet.destination()) {
            self.count(Loss::Unroutable);
            return None;
        }
        match peer.filter().judge(&packet, Direction::In, now) {
            Verdict::Pass => Some(packet.bytes().len()),
            // Without a word: who is not let in learns nothing from this end.
            Verdict::Denied => {
                self.count(Loss::Denied);
                None
            }
            Verdict::Malformed => {
                self.count(Loss::Malformed);
                None
            }
        }
    }
}
