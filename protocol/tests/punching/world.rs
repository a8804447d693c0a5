//! Two nodes, their routers, two relays, and packets between them, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use meshnode_protocol::id::{NetworkId, NodeId, TunnelKey};
use meshnode_protocol::identity::Secret;
use meshnode_protocol::path::PathEvent;
use meshnode_protocol::paths::{Paths, Vantage};
use meshnode_protocol::peering::{Mailbox, Path, Socket};
use meshnode_protocol::probe::{Probe, ProbeKeys};
use meshnode_protocol::record::{Candidate, CandidateKind};
use meshnode_protocol::time::{Moment, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::faults::{Faults, Sight};
use crate::router::{Kind, Router};

const PORT: u16 = 41_641;
/// Extra socket 0 is bound to this inner port.
const EXTRA_PORT: u16 = 50_000;
const LEG_US: u64 = 15_000;
/// Between two packets of the program that talks.
const PACKET_US: u64 = 50_000;
const HELLO_US: u64 = 25_000_000;

#[derive(Debug)]
enum What {
    /// By the internet, from an outer address to another.
    Probe(SocketAddr, SocketAddr, Vec<u8>),
    Packet(SocketAddr, SocketAddr),
    /// By a relay.
    RelayedProbe(SocketAddr, Vec<u8>),
    RelayedPacket(SocketAddr),
    Hello,
    /// So many relays tell from now on where they see a node.
    Sight(usize),
    Ask,
    Talk,
    Report,
}

#[derive(Debug)]
struct Node {
    paths: Paths,
    peer: NodeId,
    /// What the other seals with, to read what it sends.
    reader: ProbeKeys,
    router: Router,
    own: Ipv4Addr,
    mailbox: Mailbox,
    extra: BTreeSet<u16>,
    active: Option<Path>,
    direct_us: Option<u64>,
    rx: u64,
    tx: u64,
    first_us: Option<u64>,
    last_us: u64,
    gap_us: u64,
    asked: BTreeMap<SocketAddr, usize>,
    answered: BTreeSet<SocketAddr>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// When the second end was direct, after it began.
    pub(crate) direct_ms: Option<u64>,
    /// When the first packet came through.
    pub(crate) first_packet_ms: Option<u64>,
    /// PINGs to addresses that never answered, and how many.
    pub(crate) unanswered: BTreeMap<SocketAddr, usize>,
    /// The addresses at which a node might really be.
    pub(crate) aimed: BTreeSet<SocketAddr>,
    /// How many addresses a node pinged at most.
    pub(crate) strangers: usize,
}

pub(crate) struct World {
    nodes: [Node; 2],
    queue: BTreeMap<(u64, u64), (usize, What)>,
    count: u64,
    now_us: u64,
    met_us: u64,
    rng: ChaCha20Rng,
    faults: Faults,
    mute: bool,
    /// Relays that tell the nodes where they see them.
    tellers: usize,
}

fn relays() -> [SocketAddr; 2] {
    [
        ([198, 51, 100, 1], PORT).into(),
        ([203, 0, 113, 1], PORT).into(),
    ]
}

impl World {
    pub(crate) fn new(a: Kind, b: Kind, seed: u64, faults: Faults) -> Self {
        Self::with_sight(a, b, seed, faults, Sight::FULL)
    }

    pub(crate) fn with_sight(a: Kind, b: Kind, seed: u64, faults: Faults, sight: Sight) -> Self {
        let mut bytes = [1; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let node = |number: usize, kind: Kind| {
            let public = Ipv4Addr::new(20 + number as u8, 0, 0, 9);
            let own = if kind.is_public() {
                public
            } else {
                Ipv4Addr::new(192, 168, 1, 2 + number as u8)
            };
            Node {
                paths: Paths::default(),
                peer: id(1 - number),
                reader: keys(1 - number, number),
                router: Router::new(kind, public),
                own,
                mailbox: Mailbox(1000 + number as u64),
                extra: BTreeSet::new(),
                active: None,
                direct_us: None,
                rx: 0,
                tx: 0,
                first_us: None,
                last_us: 0,
                gap_us: 0,
                asked: BTreeMap::new(),
                answered: BTreeSet::new(),
            }
        };
        let mut world = Self {
            nodes: [node(0, a), node(1, b)],
            queue: BTreeMap::new(),
            count: 0,
            now_us: 1_000_000,
            met_us: 0,
            rng: ChaCha20Rng::from_seed(bytes),
            faults,
            mute: false,
            tellers: if sight.late_ms > 0 { 1 } else { sight.tellers },
        };
        for number in 0..2 {
            let now = world.now();
            let node = &mut world.nodes[number];
            node.paths
                .insert(id(1 - number), keys(number, 1 - number), now);
            world.queue_at(0, number, What::Hello);
            if sight.late_ms > 0 {
                world.queue_at(sight.late_ms * 1000, number, What::Sight(sight.tellers));
            }
        }
        world.run_for(200);
        world
    }

    /// Nothing arrives but by the relays.
    pub(crate) fn mute_directly(&mut self) {
        self.mute = true;
    }

    /// Both are at both relays; a program on the first talks to the second.
    pub(crate) fn meet(&mut self) {
        self.met_us = self.now_us;
        for number in 0..2 {
            let now = self.now();
            let mailbox = self.nodes[1 - number].mailbox;
            let relayed = relays().map(|relay| Path::Relayed { relay, mailbox });
            let node = &mut self.nodes[number];
            node.paths.learn_relayed(&node.peer, &relayed, now);
            node.last_us = self.now_us;
            self.drain(number);
            self.queue_at(0, number, What::Talk);
            self.queue_at(1_000_000, number, What::Report);
        }
    }

    /// The first node's router forgets everything.
    pub(crate) fn reboot(&mut self) {
        self.nodes[0].router.reboot();
        for node in &mut self.nodes {
            node.gap_us = 0;
        }
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.nodes.iter().all(|node| {
            let way = node.paths.peer(&node.peer).unwrap();
            way.is_direct() && way.answers()
        })
    }

    pub(crate) fn longest_gap_ms(&self) -> u64 {
        let gaps = self.nodes.iter().map(|node| node.gap_us / 1000);
        gaps.max().unwrap()
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let ms = |at: u64| at.saturating_sub(self.met_us) / 1000;
        let direct = self.nodes.iter().map(|node| node.direct_us);
        let direct: Option<Vec<_>> = direct.collect();
        let silent = self.nodes.iter().flat_map(|node| {
            let asked = node.asked.iter();
            asked.filter(|(to, _)| !node.answered.contains(to))
        });
        Outcome {
            direct_ms: direct.map(|both| ms(both.into_iter().max().unwrap())),
            first_packet_ms: self.nodes[1].first_us.map(ms),
            unanswered: silent.map(|(to, count)| (*to, *count)).collect(),
            aimed: self
                .nodes
                .iter()
                .flat_map(|node| node.paths.observed(&[node.own.into()]))
                .chain(
                    self.nodes
                        .iter()
                        .map(|node| (node.router.public, PORT).into()),
                )
                .collect(),
            strangers: self.nodes.iter().map(|n| n.asked.len()).max().unwrap(),
        }
    }

    fn now(&self) -> Moment {
        Moment {
            uptime_us: self.now_us,
            wall: Timestamp::from_ms(1_767_225_600_000 + self.now_us / 1000),
        }
    }

    fn queue_at(&mut self, delay_us: u64, to: usize, what: What) {
        self.count += 1;
        self.queue
            .insert((self.now_us + delay_us, self.count), (to, what));
    }

    /// Something on its way: lost, or late.
    fn travel(&mut self, delay_us: u64, to: usize, what: What) {
        if self.rng.next_u32() % 1000 < self.faults.loss_permille {
            return;
        }
        let late = match self.faults.late_us {
            0 => 0,
            most => self.rng.next_u64() % most,
        };
        self.queue_at(delay_us + late, to, what);
    }

    pub(crate) fn run_for(&mut self, ms: u64) {
        let end_us = self.now_us + ms * 1000;
        loop {
            let queued = self.queue.keys().next().map(|(at, _)| *at);
            let timers = self.nodes.iter().filter_map(|n| n.paths.poll_timeout());
            let timer = timers.min().map(|ms| (ms * 1000).max(self.now_us));
            let Some(next) = queued.into_iter().chain(timer).min() else {
                break;
            };
            if next > end_us {
                break;
            }
            self.now_us = next;
            if queued == Some(next) {
                let (_, (to, what)) = self.queue.pop_first().unwrap();
                self.happen(to, what);
            } else {
                for number in 0..2 {
                    let now = self.now();
                    self.nodes[number].paths.timeout(now, &mut self.rng);
                    self.drain(number);
                }
            }
        }
        self.now_us = end_us;
    }

    fn happen(&mut self, to: usize, what: What) {
        let now = self.now();
        match what {
            What::Hello => {
                self.hello(to);
                self.queue_at(HELLO_US, to, What::Hello);
            }
            What::Ask => {
                self.hello(to);
                self.drain(to);
            }
            What::Sight(tellers) => {
                self.tellers = tellers;
                self.hello(to);
                self.drain(to);
            }
            What::Talk => {
                self.talk(to);
                self.queue_at(PACKET_US, to, What::Talk);
            }
            What::Report => {
                let node = &mut self.nodes[to];
                let (rx, tx) = (std::mem::take(&mut node.rx), std::mem::take(&mut node.tx));
                if rx + tx > 0 {
                    node.paths.with(&node.peer, |way| way.traffic(rx, tx, now));
                }
                self.drain(to);
                self.queue_at(1_000_000, to, What::Report);
            }
            What::Probe(from, at, bytes) => {
                if let Some(path) = self.enter(to, from, at) {
                    self.take_probe(to, path, &bytes);
                }
            }
            What::RelayedProbe(relay, bytes) => {
                let mailbox = self.nodes[1 - to].mailbox;
                self.take_probe(to, Path::Relayed { relay, mailbox }, &bytes);
            }
            What::Packet(from, at) => {
                if let Some(path) = self.enter(to, from, at) {
                    self.take_packet(to, path);
                }
            }
            What::RelayedPacket(relay) => {
                let mailbox = self.nodes[1 - to].mailbox;
                self.take_packet(to, Path::Relayed { relay, mailbox });
            }
        }
    }

    /// The relays tell where they see a node, and keep its binding.
    fn hello(&mut self, number: usize) {
        let now = self.now();
        let node = &mut self.nodes[number];
        let own = [IpAddr::V4(node.own)];
        for relay in relays().into_iter().take(self.tellers) {
            let seen = node.router.leave(PORT, relay, self.now_us, &mut self.rng);
            let who = Vantage::Relay(relay);
            node.paths.saw_us(who, relay, seen, &own, now);
        }
        let host = Candidate {
            kind: CandidateKind::Host,
            address: (node.own, PORT).into(),
        };
        let observed = node.paths.observed(&own).into_iter();
        let observed = observed.map(|address| Candidate {
            kind: CandidateKind::Observed,
            address,
        });
        let candidates = observed.chain([host]).collect();
        let (nat, plan) = node.paths.router(&own);
        node.paths.announce(candidates, nat, plan, now);
    }

    /// A packet reaches a router: gives the path by which the node hears it.
    fn enter(&mut self, to: usize, from: SocketAddr, at: SocketAddr) -> Option<Path> {
        let node = &mut self.nodes[to];
        if at.ip() != IpAddr::V4(node.router.public) || self.mute {
            return None;
        }
        let inside = node.router.arrive(at.port(), from, self.now_us)?;
        let socket = match inside {
            PORT => Socket::V4,
            other => Socket::Extra(other - EXTRA_PORT),
        };
        let open = match socket {
            Socket::Extra(number) => node.extra.contains(&number),
            Socket::V4 | Socket::V6 => true,
        };
        let remote = from;
        open.then_some(Path::Direct { socket, remote })
    }

    fn take_probe(&mut self, to: usize, path: Path, bytes: &[u8]) {
        let now = self.now();
        let node = &mut self.nodes[to];
        let own = [IpAddr::V4(node.own)];
        let _ = own;
        node.paths.datagram(path, bytes, now, &mut self.rng);
        if let Some(remote) = path.remote() {
            node.answered.insert(remote);
        }
        self.drain(to);
    }

    fn take_packet(&mut self, to: usize, path: Path) {
        let now = self.now();
        let node = &mut self.nodes[to];
        node.first_us.get_or_insert(self.now_us);
        node.gap_us = node.gap_us.max(self.now_us - node.last_us);
        node.last_us = self.now_us;
        node.rx += 100;
        if node.active != Some(path) {
            node.paths.moved(&node.peer, path, now, &mut self.rng);
            self.drain(to);
        }
    }

    fn talk(&mut self, number: usize) {
        let now = self.now();
        let Some(path) = self.nodes[number].active else {
            let node = &mut self.nodes[number];
            // Only the first node's program begins; the other answers.
            if number == 0 || node.first_us.is_some() {
                node.paths.with(&node.peer, |way| way.wanted(now));
                self.drain(number);
            }
            if self.nodes[number].active.is_none() {
                return;
            }
            return self.talk(number);
        };
        self.nodes[number].tx += 100;
        match self.depart(number, path) {
            Some((from, remote)) => self.travel(LEG_US, 1 - number, What::Packet(from, remote)),
            None => {
                if let Path::Relayed { relay, .. } = path {
                    self.travel(2 * LEG_US, 1 - number, What::RelayedPacket(relay));
                }
            }
        }
    }

    /// A datagram leaves on a direct path: gives its outer ends.
    fn depart(&mut self, number: usize, path: Path) -> Option<(SocketAddr, SocketAddr)> {
        let Path::Direct { socket, remote } = path else {
            return None;
        };
        let node = &mut self.nodes[number];
        let inside = match socket {
            Socket::V4 | Socket::V6 => PORT,
            Socket::Extra(extra) => {
                assert!(node.extra.contains(&extra), "a closed socket sends");
                EXTRA_PORT + extra
            }
        };
        let seen = node
            .router
            .leave(inside, remote, self.now_us, &mut self.rng);
        Some((seen, remote))
    }

    fn drain(&mut self, number: usize) {
        let sockets = self.nodes[number].paths.poll_sockets();
        if let Some(sockets) = sockets {
            self.nodes[number].extra = sockets.into_iter().collect();
        }
        while let Some((_, event)) = self.nodes[number].paths.poll_event() {
            match event {
                PathEvent::Send(path, bytes) => self.send(number, path, bytes),
                PathEvent::Active(path) => {
                    let node = &mut self.nodes[number];
                    node.active = path;
                    if path.is_some_and(|path| path.remote().is_some()) {
                        node.direct_us.get_or_insert(self.now_us);
                    }
                }
                // Who relays hears it asked again.
                PathEvent::Suspect => self.queue_at(2 * LEG_US, number, What::Ask),
                PathEvent::Observed { .. }
                | PathEvent::Wanted
                | PathEvent::Mtu(_)
                | PathEvent::Pong { .. }
                | PathEvent::Silence { .. } => {}
            }
        }
        let sockets = self.nodes[number].paths.poll_sockets();
        if let Some(sockets) = sockets {
            self.nodes[number].extra = sockets.into_iter().collect();
        }
    }

    fn send(&mut self, number: usize, path: Path, bytes: Vec<u8>) {
        if let (Path::Direct { remote, .. }, Ok(Probe::Ping { .. })) =
            (path, self.nodes[number].reader.open(&bytes))
        {
            *self.nodes[number].asked.entry(remote).or_default() += 1;
        }
        match self.depart(number, path) {
            Some((from, remote)) => {
                self.travel(LEG_US, 1 - number, What::Probe(from, remote, bytes));
            }
            None => {
                if let Path::Relayed { relay, .. } = path {
                    self.travel(2 * LEG_US, 1 - number, What::RelayedProbe(relay, bytes));
                }
            }
        }
    }
}

fn id(number: usize) -> NodeId {
    NodeId::new(Secret::from_seed(&[number as u8; 32]).public())
}

fn keys(own: usize, peer: usize) -> ProbeKeys {
    let secret = |number: usize| Secret::from_seed(&[100 + number as u8; 32]);
    let peer = TunnelKey::new(secret(peer).public());
    ProbeKeys::new(&secret(own), &peer, &NetworkId::new([9; 16])).unwrap()
}
