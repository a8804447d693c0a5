//! From the network to the device: one thread, from each train received to the call that gives the host what came of
//! it.
//! Every byte here is hostile until it is opened.

mod frames;

use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet as WireGuard, TunnResult};
use meshnode_protocol::id::WireGuardKey;
use meshnode_protocol::peering::{Path, Socket, TunnelInput};
use meshnode_protocol::probe::{DatagramKind, classify, tag_of};
use meshnode_protocol::time::Moment;

use self::frames::is_data;
pub(crate) use self::frames::run_of_frames;
use super::allowance::Allowance;
use super::filter::Verdict;
use super::flows::Direction;
use super::merge::{Added, Merge};
use super::packet::{PACKET_BYTES_MAX, Packet};
use super::peer::{Content, Message, Peer};
use super::router::Router;
use super::sockets::{Arrival, Aside, Patience, aside};
use super::split::Split;
use super::standing::Standing;
use super::train::SEALED_MAX;
use super::watch::{Wake, Watch};
use super::ways::Ways;
use super::{Engine, Loss};

/// Bytes of the largest UDP datagram.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Rows taken from one socket before the other has its turn.
pub(crate) const BATCH: usize = 64;

/// Words of relays that the core hears in a second: their addresses can be forged, and its queue has other guests.
const WORDS_PER_SECOND: u32 = 100;

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
    /// The relays' words that the core may hear.
    words: Allowance,
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
            words: Allowance::new(WORDS_PER_SECOND),
            changes: 0,
        }
    }

    /// Runs until the engine stops.
    pub(crate) fn run(mut self) {
        let engine = Arc::clone(&self.engine);
        while self.watch(&engine) == Wake::Ready {}
    }

    /// Moves packets until the extra sockets are others, or the engine stops.
    fn watch(&mut self, engine: &Engine) -> Wake {
        let Ways { sockets, carrier } = &engine.ways;
        let extras = sockets.extras();
        let extras = extras
            .iter()
            .map(|(n, raw)| (Socket::Extra(*n), raw.as_fd()));
        let sources: Vec<_> = sockets.lasting().chain(extras).collect();
        let others = [sockets.changed(), carrier.as_fd()];
        let fds = others.into_iter().chain(sources.iter().map(|(_, fd)| *fd));
        let mut watch = Watch::new(engine.stopped.as_fd(), fds);
        loop {
            match watch.wait(None) {
                Wake::Ready => {}
                Wake::Late => continue,
                Wake::Stopped => return Wake::Stopped,
            }
            if watch.is_ready(0) {
                return Wake::Ready;
            }
            let mut more = watch.is_ready(1) && self.drain_circuits();
            for (number, (socket, _)) in (others.len()..).zip(&sources) {
                more |= watch.is_ready(number) && self.drain(*socket);
            }
            self.flush();
            if !more || watch.wait(Some(0)) != Wake::Ready {
                self.standing.empty();
            }
        }
    }

    /// Whether there is more.
    fn drain(&mut self, socket: Socket) -> bool {
        for _ in 0..BATCH {
            let engine = &self.engine.ways.sockets;
            match engine.receive(socket, &mut self.train, &mut self.aside) {
                Ok(Some(train)) => self.handle(&train),
                Ok(None) => return false,
                Err(error) => {
                    tracing::trace!(%error, "nothing received");
                    return false;
                }
            }
        }
        true
    }

    /// Whether there is more.
    fn drain_circuits(&mut self) -> bool {
        for _ in 0..BATCH {
            let Some((id, datagram)) = self.engine.ways.carrier.take() else {
                return false;
            };
            let (engine, now) = self.begin();
            let router = engine.router.load();
            self.handle_datagram(&router, &datagram, Path::Circuit(id), now);
        }
        true
    }

    /// What was judged by older rules goes; nothing follows it unjudged.
    fn begin(&mut self) -> (Arc<Engine>, Moment) {
        let engine = Arc::clone(&self.engine);
        let changes = engine.changes.load(Ordering::Acquire);
        if changes != self.changes {
            self.changes = changes;
            self.flush();
        }
        let now = engine.now();
        (engine, now)
    }

    fn handle(&mut self, train: &Arrival) {
        let (engine, now) = self.begin();
        let router = engine.router.load();
        let mut bytes = std::mem::take(&mut self.train);
        // As on the way out, never one that stands alone; and no handshake and no probe.
        let can_lose = train.length > train.each && is_data(&bytes[..train.length]);
        let lost = self.standing.loses(now.uptime_us, can_lose);
        let mut at = 0;
        if lost {
            engine.count(Loss::Congested);
            at = train.each;
        }
        while at < train.length {
            let rest = &mut bytes[at..train.length];
            let frames = run_of_frames(rest, train.each);
            if frames > 0 {
                self.handle_frames(&router, &mut rest[..frames], train, now);
                at += frames;
            } else {
                let end = rest.len().min(train.each);
                let path = Path::Direct {
                    socket: train.socket,
                    remote: train.remote,
                };
                match classify(&rest[..end]) {
                    DatagramKind::Stun => engine.on_stun(&rest[..end], train, now),
                    DatagramKind::WireGuard
                    | DatagramKind::Probe
                    | DatagramKind::Relay
                    | DatagramKind::Other => {
                        self.handle_datagram(&router, &rest[..end], path, now);
                    }
                }
                at += end;
            }
        }
        self.train = bytes;
    }

    /// Takes a datagram that came to this node itself, by any path.
    pub(super) fn handle_datagram(
        &mut self,
        router: &Router,
        datagram: &[u8],
        path: Path,
        now: Moment,
    ) {
        match classify(datagram) {
            DatagramKind::WireGuard => self.handle_wireguard(router, datagram, path, now),
            DatagramKind::Probe => self.engine.hand_over(datagram, path),
            DatagramKind::Stun | DatagramKind::Relay | DatagramKind::Other => {
                self.engine.count(Loss::Malformed);
            }
        }
    }

    fn handle_wireguard(&mut self, router: &Router, datagram: &[u8], path: Path, now: Moment) {
        // Who comes by a circuit is known already; under load it needs a cookie like anybody else.
        let nowhere = Ipv4Addr::UNSPECIFIED.into();
        let source = path.next_hop().map_or(nowhere, |hop| hop.ip());
        let limiter = &self.engine.identity.limiter;
        let verified = limiter.verify_packet(Some(source), datagram, &mut self.out);
        let found = match verified {
            Ok(message) => self.engine.recipient(router, &message),
            Err(TunnResult::WriteToNetwork(cookie)) => {
                self.engine.ways.send(path, cookie, Patience::Drop);
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
                self.engine.ways.send(path, bytes, Patience::Drop);
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
                self.engine.ways.send(path, bytes, Patience::Drop);
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
        // What came is no longer than its path lets pass.
        let Ok(mut split) = Split::new(bytes, length, vnet, PACKET_BYTES_MAX) else {
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
