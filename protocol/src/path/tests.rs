//! One way, and the peer at its other end: what is sent when, and what nobody is made to send.

mod loss;

use std::net::SocketAddr;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::id::{NetworkId, TunnelKey};
use crate::identity::Secret;
use crate::peering::{Mailbox, Socket};
use crate::probe::{Call, PROBE_BYTES_MIN, PortPlan, Probe};
use crate::record::{Candidate as Announced, Nat};
use crate::time::Timestamp;

/// What the peer's PING comes with; its number makes it new.
const PING: [u8; 12] = [1; 12];

struct Stage {
    way: PeerPath,
    means: Means,
    rng: ChaCha20Rng,
    theirs: ProbeKeys,
    at_ms: u64,
    sent: Vec<(Path, Probe)>,
    events: Vec<PathEvent>,
    called: u64,
    /// What was sent up to here was answered, or not.
    seen: usize,
}

fn keys(own: u8, peer: u8) -> ProbeKeys {
    let secret = |number| Secret::from_seed(&[number; 32]);
    let peer = TunnelKey::new(secret(peer).public());
    ProbeKeys::new(&secret(own), &peer, &NetworkId::new([9; 16])).unwrap()
}

fn outside(number: u8) -> SocketAddr {
    ([198, 51, 100, number], 41_641).into()
}

fn relay() -> Path {
    Path::Relayed {
        relay: ([203, 0, 113, 1], 41_641).into(),
        mailbox: Mailbox(9000),
    }
}

impl Stage {
    fn dormant() -> Self {
        Self {
            way: PeerPath::new(keys(1, 2)),
            means: Means::default(),
            rng: ChaCha20Rng::from_seed([7; 32]),
            theirs: keys(2, 1),
            at_ms: 1000,
            sent: Vec::new(),
            events: Vec::new(),
            called: 0,
            seen: 0,
        }
    }

    fn awake() -> Self {
        let mut stage = Self::dormant();
        stage.way.wake(stage.now());
        stage
    }

    fn now(&self) -> Moment {
        Moment {
            uptime_us: self.at_ms * 1000,
            wall: Timestamp::from_ms(1_000_000 + self.at_ms),
        }
    }

    /// Takes what the way wants done.
    fn drain(&mut self) {
        while let Some(event) = self.way.poll_event() {
            let PathEvent::Send(path, bytes) = &event else {
                self.events.push(event);
                continue;
            };
            let probe = self.theirs.open(bytes).expect("it seals for the peer");
            self.sent.push((*path, probe));
        }
    }

    /// Lets time pass. With `answers`, the peer answers every PING by these paths after 10 ms.
    fn pass(&mut self, ms: u64, answers: &[Path]) {
        let end = self.at_ms + ms;
        loop {
            self.answer(answers);
            let due = self.way.poll_timeout().unwrap_or(u64::MAX).max(self.at_ms);
            if due > end {
                break;
            }
            self.at_ms = due;
            let now = self.now();
            self.way.timeout(&mut self.means, now, &mut self.rng);
            self.drain();
        }
        self.at_ms = self.at_ms.max(end);
    }

    fn answer(&mut self, answers: &[Path]) {
        self.seen = self.seen.min(self.sent.len());
        while self.seen < self.sent.len() {
            let (path, probe) = self.sent[self.seen].clone();
            self.seen += 1;
            if let (Probe::Ping { txid, .. }, true) = (probe, answers.contains(&path)) {
                self.at_ms += 10;
                self.hear(path, &pong(txid, path));
            }
        }
    }

    fn hear(&mut self, path: Path, probe: &Probe) {
        let now = self.now();
        let bytes = self.theirs.seal(probe, [3; 24]);
        self.way
            .datagram(path, &bytes, &mut self.means, now, &mut self.rng);
        self.drain();
    }

    fn learn(&mut self, addresses: &[SocketAddr]) {
        let announced = |address: &SocketAddr| Announced {
            kind: CandidateKind::Host,
            address: *address,
        };
        let all: Vec<_> = addresses.iter().map(announced).collect();
        self.way.learn(&all, &self.means, self.now());
        self.drain();
    }

    fn want(&mut self) {
        self.way.wanted(self.now());
        self.drain();
    }

    /// A second in which so many bytes came and went.
    fn traffic(&mut self, rx: u64, tx: u64, answers: &[Path]) {
        self.pass(1000, answers);
        self.way.traffic(rx, tx, self.now());
        self.drain();
    }

    fn call(&mut self, seq: u64, candidates: &[SocketAddr]) {
        self.called += 1;
        let candidate = |address: &SocketAddr| Announced {
            kind: CandidateKind::Observed,
            address: *address,
        };
        let call = Call {
            txid: [self.called as u8; 12],
            seq,
            nat: Nat::Independent,
            plan: PortPlan::default(),
            run: false,
            candidates: candidates.iter().map(candidate).collect(),
        };
        self.hear(relay(), &Probe::Call(call));
    }

    fn pings_to(&self, path: Path) -> usize {
        let to = |(to, probe): &&(Path, Probe)| *to == path && matches!(probe, Probe::Ping { .. });
        self.sent.iter().filter(to).count()
    }

    fn active(&self) -> Option<Path> {
        self.way.active_path().copied()
    }
}

fn pong(txid: [u8; 12], path: Path) -> Probe {
    Probe::Pong {
        txid,
        observed: path.remote(),
    }
}

const fn ping(txid: [u8; 12]) -> Probe {
    Probe::Ping { txid, padding: 0 }
}

#[test]
fn a_wanted_peer_is_sent_to_by_the_relay_before_anything_answered() {
    let mut stage = Stage::awake();
    stage.way.learn_relayed(&[relay()], stage.now());
    assert_eq!(stage.active(), None);
    stage.want();
    assert_eq!(stage.active(), Some(relay()));
    assert!(!stage.way.answers());
    // A better tier takes over at once.
    let direct = Path::to(outside(1));
    stage.learn(&[outside(1)]);
    stage.pass(100, &[direct]);
    assert_eq!(stage.active(), Some(direct));
    assert!(stage.way.answers());
    // Both ends look at the same time.
    let called = |(to, probe): &(Path, Probe)| *to == relay() && matches!(probe, Probe::Call(_));
    assert!(stage.sent.iter().any(called));
}

#[test]
fn packets_that_go_while_none_come_make_the_relay_carry_them_within_two_seconds() {
    let mut stage = Stage::awake();
    let direct = Path::to(outside(1));
    stage.learn(&[outside(1)]);
    stage.way.learn_relayed(&[relay()], stage.now());
    stage.want();
    stage.pass(500, &[direct]);
    stage.traffic(100, 100, &[direct, relay()]);
    let lost = stage.at_ms;
    while stage.active() == Some(direct) {
        stage.traffic(0, 100, &[relay()]);
        assert!(stage.at_ms <= lost + 3000);
    }
    assert_eq!(stage.active(), Some(relay()));
    assert!(stage.events.contains(&PathEvent::Suspect));
    // It answers again: back at once.
    stage.pass(2000, &[direct, relay()]);
    assert_eq!(stage.active(), Some(direct));
}

#[test]
fn an_answer_from_elsewhere_than_it_was_asked_moves_nothing_until_that_place_answers_itself() {
    let mut stage = Stage::awake();
    let (known, other) = (Path::to(outside(1)), Path::to(outside(2)));
    stage.learn(&[outside(1)]);
    stage.pass(0, &[]);
    let (_, Probe::Ping { txid, .. }) = stage.sent[0].clone() else {
        panic!("a ladder begins with a PING");
    };
    stage.hear(other, &pong(txid, other));
    assert_eq!((stage.active(), stage.pings_to(other)), (None, 1));
    stage.pass(300, &[other]);
    assert_eq!(stage.active(), Some(other));
    assert!(stage.pings_to(known) > 0);
}

#[test]
fn a_ping_that_somebody_kept_and_sends_again_is_not_answered() {
    let mut stage = Stage::awake();
    stage.hear(Path::to(outside(1)), &ping(PING));
    let sent = stage.sent.len();
    for number in 2..200 {
        stage.hear(Path::to(outside(number)), &ping(PING));
    }
    assert_eq!(stage.sent.len(), sent);
}

#[test]
fn a_call_that_somebody_kept_and_sends_again_makes_nobody_probe() {
    let mut stage = Stage::awake();
    stage.call(10, &[outside(1)]);
    stage.pass(3000, &[]);
    assert!(stage.pings_to(Path::to(outside(1))) > 0);
    stage.call(10, &[outside(2)]);
    stage.call(9, &[outside(3)]);
    stage.pass(3000, &[]);
    let strange = [2, 3].map(|number| stage.pings_to(Path::to(outside(number))));
    assert_eq!(strange, [0, 0]);
    stage.call(11, &[outside(4)]);
    stage.pass(100, &[]);
    assert!(stage.pings_to(Path::to(outside(4))) > 0);
}

#[test]
fn calls_make_no_node_a_tool_against_an_address_that_never_answers() {
    let mut stage = Stage::awake();
    let victim = Path::to(outside(66));
    for seq in 1..200 {
        stage.call(seq, &[outside(66)]);
        stage.pass(3000, &[]);
    }
    // Ten minutes of calls: three ladders of eight.
    assert!(stage.pings_to(victim) <= 24, "{}", stage.pings_to(victim));
    // And no more addresses than an hour allows.
    let mut stage = Stage::awake();
    let mut named = 0u32;
    for seq in 1..100 {
        let addresses: Vec<SocketAddr> = (0..10)
            .map(|_| {
                named += 1;
                let [.., a, b] = named.to_be_bytes();
                ([198, 18, a, b], 5000).into()
            })
            .collect();
        stage.call(seq, &addresses);
        stage.pass(2000, &[]);
    }
    let mut asked: Vec<_> = stage
        .sent
        .iter()
        .filter_map(|(path, _)| path.remote())
        .collect();
    asked.sort_unstable();
    asked.dedup();
    assert!(asked.len() <= STRANGE_PER_HOUR_MAX, "{}", asked.len());
}

#[test]
fn a_clock_that_was_set_back_is_told_and_the_next_call_is_heard() {
    let mut stage = Stage::awake();
    stage.way.learn_relayed(&[relay()], stage.now());
    stage.want();
    stage.pass(0, &[]);
    let call = |stage: &Stage| {
        let calls = stage.sent.iter().rev();
        let mut calls = calls.filter_map(|(_, probe)| match probe {
            Probe::Call(call) => Some(call.clone()),
            Probe::Ping { .. } | Probe::Pong { .. } | Probe::CallAck(_) => None,
        });
        calls.next().expect("a peer that is wanted is called")
    };
    let first = call(&stage);
    let answer = Call {
        seq: first.seq + 5_000_000,
        ..first.clone()
    };
    stage.hear(relay(), &Probe::CallAck(answer));
    stage.pass(100, &[]);
    assert_eq!(call(&stage).seq, first.seq + 5_000_001);
}

#[test]
fn a_dormant_way_sends_nothing_on_its_own_and_wakes_when_it_is_wanted() {
    let mut stage = Stage::dormant();
    stage.learn(&[outside(1)]);
    stage.pass(600_000, &[]);
    assert!(stage.sent.is_empty());
    stage.want();
    assert_eq!(stage.events, [PathEvent::Wanted]);
    stage.pass(100, &[Path::to(outside(1))]);
    assert!(stage.way.answers());
}

#[test]
fn a_dormant_way_answers_and_has_a_path_as_long_as_the_peer_keeps_it() {
    let mut stage = Stage::dormant();
    let path = Path::to(outside(1));
    let mut number = 0u8;
    let mut hear = |stage: &mut Stage| {
        number += 1;
        stage.hear(path, &ping([number; 12]));
        let asked = stage.sent.iter().rev().find_map(|(_, probe)| match probe {
            Probe::Ping { txid, .. } => Some(*txid),
            Probe::Pong { .. } | Probe::Call(_) | Probe::CallAck(_) => None,
        });
        stage.hear(path, &pong(asked.expect("who probes is probed back"), path));
        stage.pass(25_000, &[]);
    };
    for _ in 0..6 {
        hear(&mut stage);
        assert!(stage.way.answers() && !stage.way.is_awake());
    }
    // Once a minute, not with each of the peer's.
    assert!(stage.pings_to(path) <= 3, "{}", stage.pings_to(path));
    stage.pass(60_000, &[]);
    assert_eq!(stage.active(), None);
}

#[test]
fn of_two_ends_one_keeps_an_idle_path() {
    let mut stage = Stage::awake();
    let path = Path::to(outside(1));
    stage.learn(&[outside(1)]);
    stage.pass(5000, &[path]);
    let before = stage.pings_to(path);
    for number in 1..20 {
        stage.hear(path, &ping([number; 12]));
        stage.pass(25_000, &[path]);
    }
    // But for one a minute: the peer's tell nothing of the other direction.
    assert!(stage.pings_to(path) <= before + 8);
    assert!(stage.way.answers());
}

#[test]
fn sizes_are_proven_where_packets_flow_and_given_up_when_they_stop_to_pass() {
    let mut stage = Stage::awake();
    let path = Path::to(outside(1));
    stage.learn(&[outside(1)]);
    stage.pass(500, &[path]);
    stage.traffic(100, 100, &[path]);
    stage.traffic(100, 100, &[path]);
    assert_eq!(stage.way.mtu(), Some(1420));
    assert!(stage.events.contains(&PathEvent::Mtu(1420)));
    let padded =
        |(_, probe): &&(Path, Probe)| matches!(probe, Probe::Ping { padding, .. } if *padding > 0);
    let largest = stage
        .sent
        .iter()
        .rev()
        .find(padded)
        .expect("a padded probe");
    let Probe::Ping { padding, .. } = largest.1 else {
        unreachable!("it is a PING");
    };
    assert_eq!(usize::from(padding) + PROBE_BYTES_MIN, 1420 + 32);
    // Small ones pass, large ones do not.
    for _ in 0..70 {
        stage.pass(1000, &[]);
        let now = stage.now();
        let small = |(_, probe): &(Path, Probe)| match probe {
            Probe::Ping { txid, padding: 0 } => Some(*txid),
            Probe::Ping { .. } | Probe::Pong { .. } | Probe::Call(_) | Probe::CallAck(_) => None,
        };
        let asked: Vec<_> = stage
            .sent
            .drain(..)
            .filter_map(|sent| small(&sent))
            .collect();
        for txid in asked {
            stage.hear(path, &pong(txid, path));
        }
        stage.way.traffic(100, 100, now);
        stage.drain();
    }
    assert_eq!(stage.way.mtu(), None);
    assert!(stage.events.contains(&PathEvent::Mtu(1280)));
}

#[test]
fn an_extra_socket_that_is_closed_is_not_sent_by() {
    let mut stage = Stage::awake();
    let extra = Path::Direct {
        socket: Socket::Extra(3),
        remote: outside(1),
    };
    stage.hear(extra, &ping(PING));
    stage.pass(100, &[extra]);
    assert_eq!(stage.active(), Some(extra));
    stage.pass(40_000, &[]);
    assert_eq!(stage.active(), None);
    stage.sent.clear();
    stage.want();
    stage.pass(5000, &[]);
    assert_eq!(stage.pings_to(extra), 0);
}

#[test]
fn no_way_leads_through_the_overlay() {
    let mut stage = Stage::awake();
    let prefix = "fd12:3456:789a::".parse().unwrap();
    stage
        .means
        .set_overlay(crate::body::Ipv4Range::DEFAULT, prefix);
    let inside: SocketAddr = "[fd12:3456:789a::7]:41641".parse().unwrap();
    stage.learn(&[inside]);
    stage.hear(Path::to(inside), &ping(PING));
    stage.pass(3000, &[]);
    assert_eq!(stage.pings_to(Path::to(inside)), 0);
}

#[test]
fn the_search_tells_what_it_tried() {
    let mut stage = Stage::awake();
    stage.learn(&[outside(1), ([192, 168, 1, 9], 41_641).into()]);
    stage.way.learn_relayed(&[relay()], stage.now());
    stage.want();
    stage.pass(4000, &[relay()]);
    let now = stage.now();
    let search = stage.way.search_report(&stage.means, now).unwrap();
    let tried = |method| search.attempts.iter().find(|a| a.method == method);
    let candidates = tried(crate::io::Method::Candidates).unwrap();
    assert_eq!(candidates.target, "2, 1 of them local");
    assert_eq!(candidates.outcome, crate::io::Outcome::NoAnswer);
    assert!(tried(crate::io::Method::Call).is_some());
    assert!(search.next_ms.is_some() && !search.hopeless);
}
