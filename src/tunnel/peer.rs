//! One peer: its WireGuard sessions, its path, and what there is to report of it.

use std::fmt;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use meshnode_protocol::id::WireGuardKey;
use meshnode_protocol::limits::OVERLAY_MTU;
use meshnode_protocol::peering::{Path, PeerConfig, Roaming, TunnelInput};
use meshnode_protocol::time::{Moment, Timestamp};

use super::filter::PeerFilter;
use super::ways::write_lead;

/// Milliseconds between two reports of one kind on one peer.
const REPORT_INTERVAL_MS: u64 = 1000;

/// How long a wish to send stays fresh enough to start a handshake on a new path: WireGuard's Rekey-Attempt-Time.
const WISH_MS: u64 = 90_000;

/// Bytes that WireGuard adds to a packet.
pub(crate) const OVERHEAD: usize = 32;

/// Handshake messages a second that are answered without a cookie; each costs about 0.2 ms of a core.
const HANDSHAKES_PER_SECOND: u64 = 100;

/// This node's own key, and the guard in front of it.
pub(crate) struct Identity {
    pub(crate) secret: StaticSecret,
    pub(crate) public: PublicKey,
    /// Counts every handshake message once, before its peer is known; under load it asks for cookies.
    pub(crate) limiter: RateLimiter,
    /// What the sessions use: checks again, but never counts to its limit.
    unlimited: Arc<RateLimiter>,
}

impl Identity {
    /// From the X25519 secret key.
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        let secret = StaticSecret::from(secret);
        let public = PublicKey::from(&secret);
        Self {
            limiter: RateLimiter::new(&public, HANDSHAKES_PER_SECOND),
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            secret,
            public,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// Which message a datagram is, after its first check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Initiation,
    Response,
    Cookie,
    /// With the receiver's index.
    Data(u32),
}

/// What becomes of a packet that wants to go out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent<'a> {
    /// Send this, with its lead: the packet, or a handshake while the packet waits.
    Datagram(Path, &'a [u8]),
    /// The packet waits for a session.
    Waits,
    /// There is no path; with `true`, the core is to be told.
    NoPath(bool),
}

/// What came out of a datagram.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) content: Content<'a>,
    /// The packet was authentic and came by another path: the core is to be told.
    pub(crate) moved: bool,
    /// A session began: packets that waited can go.
    pub(crate) session: bool,
}

/// The content of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// Nothing for anybody else: a keepalive or a cookie.
    Nothing,
    /// An inner packet; its source is not checked yet.
    Packet(&'a [u8]),
    /// To be sent back by the path that the message came by.
    Reply(&'a [u8]),
    /// Not authentic, replayed, or of no known session.
    Refused,
}

/// A peer of the engine.
pub(crate) struct Peer {
    key: WireGuardKey,
    index: u32,
    filter: PeerFilter,
    /// Bytes of an inner packet that pass on the path in use.
    mtu: AtomicU16,
    state: Mutex<State>,
}

struct State {
    tunn: Tunn,
    path: Option<Path>,
    /// Whether the core chose the path; else the peer's own packets did.
    told: bool,
    roaming: Roaming,
    keepalive_ms: u64,
    sent_ms: u64,
    /// A path was told and no session stands: the next tick makes one.
    greet: bool,
    /// The peer lost its sessions and cannot begin one: the next tick does.
    renew: bool,
    renewed_ms: Option<u64>,
    wish_ms: Option<u64>,
    wanted_ms: Option<u64>,
    moved_ms: Option<u64>,
    /// The path is one that was followed, and the core does not know it.
    unreported: bool,
    reported_ms: Option<u64>,
    rx_bytes: u64,
    tx_bytes: u64,
    handshake: Option<Timestamp>,
    handshake_reported: bool,
    /// Our index of a session that we answered and the peer has not used yet.
    unconfirmed: Option<u32>,
}

impl Peer {
    /// A peer without sessions and path. `index` has 24 bits and is this peer's alone.
    pub(crate) fn new(
        identity: &Identity,
        index: u32,
        config: &PeerConfig,
        filter: PeerFilter,
    ) -> Self {
        let tunn = Tunn::new(
            identity.secret.clone(),
            PublicKey::from(*config.key.as_bytes()),
            None,
            // Keepalives are this room's: the library cannot change their interval later.
            None,
            index,
            Some(Arc::clone(&identity.unlimited)),
        );
        let state = State {
            tunn,
            path: None,
            told: false,
            roaming: config.roaming,
            keepalive_ms: u64::from(config.keepalive_s) * 1000,
            sent_ms: 0,
            greet: false,
            renew: false,
            renewed_ms: None,
            wish_ms: None,
            wanted_ms: None,
            moved_ms: None,
            unreported: false,
            reported_ms: None,
            rx_bytes: 0,
            tx_bytes: 0,
            handshake: None,
            handshake_reported: true,
            unconfirmed: None,
        };
        Self {
            key: config.key,
            index,
            filter,
            mtu: AtomicU16::new(OVERLAY_MTU),
            state: Mutex::new(state),
        }
    }

    /// Whose it is.
    pub(crate) const fn key(&self) -> WireGuardKey {
        self.key
    }

    /// The upper 24 bits of all its receiver indices.
    pub(crate) const fn index(&self) -> u32 {
        self.index
    }

    /// What passes between this node and it.
    pub(crate) const fn filter(&self) -> &PeerFilter {
        &self.filter
    }

    /// Bytes of the longest inner packet that passes on its path.
    pub(crate) fn mtu(&self) -> usize {
        self.mtu.load(Ordering::Relaxed).into()
    }

    /// Takes what the core found out about the path in use; less than passes on every path is none.
    pub(crate) fn set_mtu(&self, bytes: u16) {
        self.mtu.store(bytes.max(OVERLAY_MTU), Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("a thread that panics with a peer in hand ends the process")
    }

    /// Takes new settings; sessions and path stay.
    pub(crate) fn set(&self, config: &PeerConfig) {
        self.filter.identify(config.device);
        let mut state = self.state();
        state.roaming = config.roaming;
        state.keepalive_ms = u64::from(config.keepalive_s) * 1000;
    }

    /// Takes the core's path. Returns a handshake to send when somebody waits for one.
    pub(crate) fn set_path<'a>(
        &self,
        path: Option<Path>,
        out: &'a mut [u8],
        now: Moment,
    ) -> Option<(Path, &'a [u8])> {
        let mut state = self.state();
        state.told = path.is_some();
        state.unreported = false;
        state.greet |= path.is_some() && !state.has_session();
        if state.path == path {
            return None;
        }
        state.path = path;
        self.set_mtu(OVERLAY_MTU);
        // Due at the next tick, so that the way there is open at once.
        state.sent_ms = 0;
        let path = path?;
        let wished = state
            .wish_ms
            .is_some_and(|at| now.uptime_ms().saturating_sub(at) < WISH_MS);
        if state.has_session() || !(wished || state.keepalive_ms > 0) {
            return None;
        }
        // A handshake in flight went another way, or nowhere: its retry would come 5 s late.
        let result = state.tunn.format_handshake_initiation(out, true);
        state.outgoing(path, result, now)
    }

    /// Seals a packet, with what goes before it on its way. `padded` ends with zeros up to WireGuard's padding,
    /// `length` is the packet's own.
    pub(crate) fn seal<'a>(
        &self,
        padded: &[u8],
        length: usize,
        out: &'a mut [u8],
        now: Moment,
    ) -> Sent<'a> {
        let mut state = self.state();
        state.wish_ms = Some(now.uptime_ms());
        let Some(path) = state.path else {
            return Sent::NoPath(due(&mut state.wanted_ms, now));
        };
        state.tx_bytes += length as u64;
        let lead = write_lead(path, out);
        let result = state.tunn.encapsulate(padded, &mut out[lead..]);
        match state.outgoing(path, result, now) {
            Some((path, bytes)) => {
                let whole = lead + bytes.len();
                Sent::Datagram(path, &out[..whole])
            }
            None => Sent::Waits,
        }
    }

    /// The next packet that waited for a session, sealed.
    pub(crate) fn waiting<'a>(&self, out: &'a mut [u8], now: Moment) -> Option<(Path, &'a [u8])> {
        let mut state = self.state();
        let path = state.path?;
        let result = state.tunn.decapsulate(None, &[], out);
        state.outgoing(path, result, now)
    }

    /// Opens a datagram.
    pub(crate) fn open<'a>(
        &self,
        message: Message,
        datagram: &[u8],
        path: Path,
        out: &'a mut [u8],
        now: Moment,
    ) -> Received<'a> {
        let mut state = self.state();
        let content = match state.tunn.decapsulate(None, datagram, out) {
            TunnResult::Done => Content::Nothing,
            TunnResult::Err(WireGuardError::WrongTai64nTimestamp) => {
                // The peer itself, with a clock behind the one it had: it started anew, and only this end can begin.
                if due(&mut state.renewed_ms, now) {
                    state.renew = true;
                }
                Content::Refused
            }
            TunnResult::Err(_) => Content::Refused,
            TunnResult::WriteToNetwork(bytes) => Content::Reply(bytes),
            TunnResult::WriteToTunnelV4(bytes, _) | TunnResult::WriteToTunnelV6(bytes, _) => {
                Content::Packet(bytes)
            }
        };
        let mut received = Received {
            content,
            moved: false,
            session: false,
        };
        // A cookie proves nothing about who sent it: anybody who saw our message can make one.
        if received.content == Content::Refused || message == Message::Cookie {
            return received;
        }
        received.moved = state.came_by(path, now);
        received.session = state.advance(message, &received.content, now);
        received
    }

    /// Counts a packet that was let in.
    pub(crate) fn let_in(&self, length: usize) {
        self.state().rx_bytes += length as u64;
    }

    /// Lets time pass. Returns what is to be sent: a handshake or a keepalive.
    pub(crate) fn tick<'a>(&self, out: &'a mut [u8], now: Moment) -> Option<(Path, &'a [u8])> {
        let mut state = self.state();
        let idle = now.uptime_ms().saturating_sub(state.sent_ms);
        let keepalive = state.keepalive_ms > 0 && idle >= state.keepalive_ms;
        // The library writes all or nothing, so the buffer serves twice.
        let length = match state.tunn.update_timers(out) {
            TunnResult::WriteToNetwork(bytes) => Some(bytes.len()),
            // An expired connection starts anew with the next packet or keepalive.
            TunnResult::Err(_)
            | TunnResult::Done
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => None,
        };
        let path = state.path?;
        if let Some(length) = length {
            state.sent_ms = now.uptime_ms();
            return Some((path, &out[..length]));
        }
        // The other end may hold a session that this process never had: what it sends by that is lost, and
        // it would
        // notice after 15 s only.
        let greet = std::mem::take(&mut state.greet) && !state.has_session();
        let renew = std::mem::take(&mut state.renew);
        if !keepalive && !greet && !renew {
            return None;
        }
        state.sent_ms = now.uptime_ms();
        let result = if renew {
            state.tunn.format_handshake_initiation(out, true)
        } else if state.has_session() {
            state.tunn.encapsulate(&[], out)
        } else {
            state.tunn.format_handshake_initiation(out, false)
        };
        state.outgoing(path, result, now)
    }

    /// Reports the traffic since the last report that `send` took.
    pub(crate) fn report(&self, now: Moment, send: impl FnOnce(TunnelInput) -> bool) {
        let mut state = self.state();
        let quiet = state.rx_bytes == 0 && state.tx_bytes == 0 && state.handshake_reported;
        if quiet || !due(&mut state.reported_ms, now) {
            return;
        }
        let report = TunnelInput::Traffic {
            key: self.key,
            rx_bytes: state.rx_bytes,
            tx_bytes: state.tx_bytes,
            handshake: state.handshake,
        };
        if send(report) {
            state.rx_bytes = 0;
            state.tx_bytes = 0;
            state.handshake_reported = true;
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({:?})", self.key)
    }
}

impl State {
    fn has_session(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }

    /// Takes what the library wants sent.
    fn outgoing<'a>(
        &mut self,
        path: Path,
        result: TunnResult<'a>,
        now: Moment,
    ) -> Option<(Path, &'a [u8])> {
        match result {
            TunnResult::WriteToNetwork(bytes) => {
                self.sent_ms = now.uptime_ms();
                Some((path, bytes))
            }
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => None,
        }
    }

    /// An authentic packet came by a path. Returns whether to tell the core.
    fn came_by(&mut self, path: Path, now: Moment) -> bool {
        if self.path == Some(path) && !self.unreported {
            return false;
        }
        match self.roaming {
            Roaming::Told if self.told => {}
            Roaming::Told | Roaming::Follow => self.path = Some(path),
        }
        let due = due(&mut self.moved_ms, now);
        // A path that was followed too soon for a report is told with one of the next packets.
        self.unreported = !due && self.path == Some(path);
        due
    }

    /// Follows the handshake. Returns whether a session began that carries packets.
    fn advance(&mut self, message: Message, content: &Content<'_>, now: Moment) -> bool {
        let begins = match (message, content) {
            (Message::Initiation, Content::Reply(response)) => {
                self.unconfirmed = response
                    .get(4..8)
                    .and_then(|index| index.try_into().ok())
                    .map(u32::from_le_bytes);
                false
            }
            (Message::Response, Content::Reply(_)) => true,
            (Message::Data(index), _) if self.unconfirmed == Some(index) => {
                self.unconfirmed = None;
                true
            }
            (Message::Initiation | Message::Response | Message::Cookie | Message::Data(_), _) => {
                false
            }
        };
        if begins {
            self.handshake = Some(now.wall);
            self.handshake_reported = false;
        }
        begins
    }
}

/// Whether a report may go again; if so, it counts as gone.
fn due(last: &mut Option<u64>, now: Moment) -> bool {
    let due = last.is_none_or(|at| now.uptime_ms().saturating_sub(at) >= REPORT_INTERVAL_MS);
    if due {
        *last = Some(now.uptime_ms());
    }
    due
}

#[cfg(test)]
mod tests;
