//! The way to one peer: candidates, probes, choice, loss (`docs/protocol.md` §8.4).
//!
//! The story: somebody wants the peer. If a relay leads to it, packets go there at once; in the same instant every
//! candidate is probed in a ladder of growing gaps, and a CALL by the relay makes the peer do the same. Whoever answers
//! first carries the packets; a better tier takes over at once, a better round trip only when it is clearly better. The
//! path in use is probed for as long as it is used; silence makes it suspect, and then packets go by the relay again
//! until something better answers. A peer's own probe is a candidate by itself, so the answer goes to wherever it
//! really came from. Where a router gives every destination another port, ports are foretold, or met by chance.
//!
//! A way is awake or dormant. A dormant one sends nothing on its own, but answers, and wakes when somebody wants it.
//!
//! Nothing here can be made a tool against a third party: see `budget`.

mod address;
mod attempts;
mod budget;
mod calling;
mod candidate;
mod choice;
mod few;
mod hearing;
mod keepalive;
mod keeping;
mod means;
mod punching;
mod searching;
mod sizing;
mod spray;

use std::collections::VecDeque;
use std::net::SocketAddr;

use rand_core::Rng;

use self::attempts::Attempts;
use self::calling::Calling;
use self::candidate::Candidate;
use self::few::Few;
use self::hearing::Recent;
use self::punching::Punching;
use self::sizing::Sizing;
use crate::io::CommandId;
use crate::peering::Path;
use crate::probe::ProbeKeys;
use crate::record::CandidateKind;
use crate::time::Moment;

pub use self::address::{is_local, is_probeable, is_public, kind_of};
pub use self::means::{Means, Punch};

/// How long packets count as flowing.
const BUSY_MS: u64 = 10_000;
/// How long a peer counts as wanted after the last packet for it, ping, or CALL of it.
const WANTED_MS: u64 = 120_000;
/// Candidates remembered for one peer.
const CANDIDATES_KEPT_MAX: usize = 24;
/// Addresses of one peer that are taken up in an hour.
const STRANGE_PER_HOUR_MAX: usize = 64;
const HOUR_MS: u64 = 3_600_000;

/// What the way to a peer wants done or known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathEvent {
    /// Send this datagram.
    Send(Path, Vec<u8>),
    /// Packets travel by this path from now on.
    Active(Option<Path>),
    /// Somebody wants the peer, or goes on to: relays that lead to it are of use now.
    Wanted,
    /// The path in use went silent: where others see us may be new.
    Suspect,
    /// Inner packets of so many bytes were proven to pass by the path in use.
    Mtu(u16),
    /// The peer saw us.
    Observed {
        /// At this address.
        address: SocketAddr,
        /// From there.
        by: SocketAddr,
    },
    /// A person's probe was answered.
    Pong {
        /// Whose command.
        command: CommandId,
        /// Which probe.
        seq: u32,
        /// Round trip in microseconds.
        rtt_us: u64,
        /// By which path.
        path: Path,
    },
    /// A person's probe was not answered in time.
    Silence {
        /// Whose command.
        command: CommandId,
        /// Which probe.
        seq: u32,
    },
}

#[derive(Debug)]
struct Active {
    path: Path,
    since_ms: u64,
    /// When it last proved to work: an answer, or packets of the peer by it.
    proven_ms: Option<u64>,
    /// Unanswered probes in a row.
    misses: u32,
    suspect_ms: Option<u64>,
    /// Since when it is asked quickly, because packets go and none come.
    hurried: bool,
    /// How long it was idle before the first of the unanswered probes.
    idle_ms: u64,
}

#[derive(Debug)]
struct Flight {
    path: Path,
    sent_us: u64,
    command: Option<(CommandId, u32)>,
    on_active: bool,
    /// Bytes of the inner packet whose size it tests.
    size: Option<u16>,
}

#[derive(Debug)]
struct Waiting {
    command: CommandId,
    seq: u32,
    until_ms: u64,
}

/// What is done for a peer that is awake; given up when it goes to rest.
#[derive(Debug, Default)]
struct Effort {
    /// When the newest search began.
    searched_ms: Option<u64>,
    /// Since when a direct path is looked for.
    sought_ms: Option<u64>,
    retry_ms: Option<u64>,
    retries: usize,
    calling: Calling,
    punching: Punching,
    sizing: Sizing,
    recent: Recent,
    attempts: Attempts,
    waiting: Vec<Waiting>,
    /// When it was last heard by another path than the one in use.
    elsewhere_ms: Option<u64>,
    /// The path that was lost last, and how long it was idle before: if it answers new probes, a router forgot it.
    lost: Option<(Path, u64, u64)>,
}

/// The way to one peer.
#[derive(Debug)]
pub struct PeerPath {
    keys: ProbeKeys,
    candidates: Few<Path, Candidate>,
    active: Option<Active>,
    flights: Few<[u8; 12], Flight>,
    /// When the path in use is looked at next.
    probe_ms: Option<u64>,
    /// When packets last flowed or wanted to.
    busy_ms: Option<u64>,
    /// When anybody last wanted the peer.
    used_ms: Option<u64>,
    heard_ms: Option<u64>,
    /// When the peer's last PING came.
    pinged_ms: Option<u64>,
    nudged_ms: Option<u64>,
    /// The hour, and how many addresses that never answered were learned in it.
    strange: (u64, u8),
    /// Searches since the last sign of life that found nothing.
    failures: u8,
    /// The largest seq of a CALL sent and heard.
    call_seqs: (u64, u64),
    effort: Option<Box<Effort>>,
    events: VecDeque<PathEvent>,
}

impl PeerPath {
    /// The way to a peer of which nothing is known but its probe keys: dormant.
    #[must_use]
    pub fn new(keys: ProbeKeys) -> Self {
        Self {
            keys,
            candidates: Few::default(),
            active: None,
            flights: Few::default(),
            probe_ms: None,
            busy_ms: None,
            used_ms: None,
            heard_ms: None,
            pinged_ms: None,
            nudged_ms: None,
            strange: (0, 0),
            failures: 0,
            call_seqs: (0, 0),
            effort: None,
            events: VecDeque::new(),
        }
    }

    /// The tag that the peer's probes carry.
    #[must_use]
    pub fn tag_in(&self) -> [u8; 8] {
        self.keys.tag_in()
    }

    /// Learns where the peer says it is. New addresses are probed at once, if it is awake.
    pub fn learn(&mut self, candidates: &[crate::record::Candidate], means: &Means, now: Moment) {
        let awake = self.is_awake();
        for candidate in candidates.iter().filter(|c| means.allows(&c.address)) {
            let path = Path::to(candidate.address);
            if self.add(path, Some(candidate.kind), now) && awake {
                self.start_ladder(&path, now);
            }
        }
    }

    /// Learns which relays and circuits lead to the peer now: the whole list, those by which the peer itself called
    /// included. They are candidates like any other; those that are not listed any more are forgotten at once.
    pub fn learn_relayed(&mut self, paths: &[Path], now: Moment) {
        let listed = |path: &Path| path.remote().is_some() || paths.contains(path);
        let gone = self.candidates.iter().map(|(path, _)| *path);
        let gone: Vec<_> = gone.filter(|path| !listed(path)).collect();
        for path in gone {
            self.candidates.remove(&path);
            if self.uses(&path) {
                self.lose(now);
            }
        }
        let awake = self.is_awake();
        let mut news = false;
        for path in paths.iter().filter(|path| path.remote().is_none()) {
            if self.add(*path, None, now) && awake {
                news = true;
                self.start_ladder(path, now);
            }
        }
        if news && self.is_wanted(now) {
            self.lean_on_relay(now);
            self.plan_call(now);
        }
    }

    fn add(&mut self, path: Path, source: Option<CandidateKind>, now: Moment) -> bool {
        if let Some(known) = self.candidates.get_mut(&path) {
            known.source = known.source.or(source);
            return false;
        }
        if path.remote().is_some() {
            let hour = now.uptime_ms() / HOUR_MS;
            if self.strange.0 != hour {
                self.strange = (hour, 0);
            }
            if usize::from(self.strange.1) >= STRANGE_PER_HOUR_MAX {
                return false;
            }
            self.strange.1 += 1;
        }
        if self.candidates.len() >= CANDIDATES_KEPT_MAX && !self.forget_one() {
            return false;
        }
        let candidate = Candidate {
            source,
            ..Candidate::default()
        };
        self.candidates.insert(path, candidate);
        true
    }

    /// Forgets the candidate that answered longest ago; never the one in use.
    fn forget_one(&mut self) -> bool {
        let oldest = self
            .candidates
            .iter()
            .filter(|(path, _)| !self.uses(path))
            .min_by_key(|(_, candidate)| candidate.answered_ms.max(candidate.heard_ms))
            .map(|(path, _)| *path);
        oldest.is_some_and(|path| self.candidates.remove(&path).is_some())
    }

    fn uses(&self, path: &Path) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| active.path == *path)
    }

    /// Packets of a person's programs moved within the last second, so many bytes each way.
    pub fn traffic(&mut self, rx_bytes: u64, tx_bytes: u64, now: Moment) {
        self.busy_ms = Some(now.uptime_ms());
        self.want(now);
        self.meter(rx_bytes.saturating_add(tx_bytes), now);
        self.watch_silence(rx_bytes, tx_bytes, now);
        self.plan_sizes(now);
    }

    /// A packet wants to go to the peer, and there is no path.
    pub fn wanted(&mut self, now: Moment) {
        self.busy_ms = Some(now.uptime_ms());
        self.want(now);
    }

    /// A probe of a person; answered by [`PathEvent::Pong`] or [`PathEvent::Silence`].
    pub fn ping<R: Rng>(
        &mut self,
        command: CommandId,
        seq: u32,
        timeout_ms: u64,
        now: Moment,
        rng: &mut R,
    ) {
        let until_ms = now.uptime_ms().saturating_add(timeout_ms);
        if self.is_wanted(now) {
            self.events.push_back(PathEvent::Wanted);
        }
        self.want(now);
        self.effort().waiting.push(Waiting {
            command,
            seq,
            until_ms,
        });
        if let Some(path) = self.active.as_ref().map(|active| active.path) {
            self.probe(path, Some((command, seq)), true, now, rng);
            self.expect_answer(now);
        }
    }

    /// Forgets the probes of a person who went away.
    pub fn forget(&mut self, command: CommandId) {
        if let Some(effort) = &mut self.effort {
            effort.waiting.retain(|waiting| waiting.command != command);
        }
    }

    /// The next event, in order.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<PathEvent> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            // Thousands of ways have nothing to say.
            self.events = VecDeque::new();
        }
        event
    }

    /// The path in use, its source, smallest recent round trip, and since when.
    #[must_use]
    pub fn active(&self) -> Option<(Path, Option<CandidateKind>, Option<u64>, u64)> {
        let active = self.active.as_ref()?;
        let known = self.candidates.get(&active.path);
        let source = known.and_then(|known| known.source);
        let rtt_us = known.and_then(Candidate::rtt_us);
        Some((active.path, source, rtt_us, active.since_ms))
    }

    /// The path in use, if it has one.
    #[must_use]
    pub fn active_path(&self) -> Option<&Path> {
        self.active.as_ref().map(|active| &active.path)
    }

    /// Bytes of an inner packet that were proven to pass by the path in use; `None`: no more than always do.
    #[must_use]
    pub fn mtu(&self) -> Option<u16> {
        self.candidates.get(self.active_path()?)?.mtu
    }

    /// When the peer's last authentic packet came, uptime in milliseconds.
    #[must_use]
    pub const fn heard_ms(&self) -> Option<u64> {
        self.heard_ms
    }

    /// Whether there is a path in use, and it answers.
    #[must_use]
    pub fn answers(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.suspect_ms.is_none() && active.proven_ms.is_some())
    }

    /// Whether the path in use stopped answering.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.suspect_ms.is_some())
    }

    /// Whether the way is looked after: probed, kept and searched for.
    #[must_use]
    pub const fn is_awake(&self) -> bool {
        self.effort.is_some()
    }

    /// Whether somebody wants the peer: packets went, a person pinged, or the peer called, in the last two minutes.
    #[must_use]
    pub fn is_wanted(&self, now: Moment) -> bool {
        self.used_ms
            .is_some_and(|at| at + WANTED_MS > now.uptime_ms())
    }

    /// Whether the peer is reached without any relay, or seems to be.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.path.remote().is_some() && active.suspect_ms.is_none())
    }

    /// How many searches since the last sign of life found nothing.
    #[must_use]
    pub const fn failures(&self) -> u8 {
        self.failures
    }

    /// When anybody last wanted the peer, uptime in milliseconds.
    #[must_use]
    pub const fn used_ms(&self) -> Option<u64> {
        self.used_ms
    }

    /// Whether a person waits for the answer to a probe.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        let effort = self.effort.as_deref();
        effort.is_some_and(|effort| !effort.waiting.is_empty())
    }

    /// Gives back what the way has of what all share.
    pub fn end(&mut self, means: &mut Means) {
        means.end_run(self.keys.tag_in());
    }

    fn effort(&mut self) -> &mut Effort {
        self.effort.get_or_insert_with(Box::default)
    }
}

#[cfg(test)]
mod tests;

fn nonce<R: Rng>(rng: &mut R) -> [u8; 24] {
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    nonce
}
