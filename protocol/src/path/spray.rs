//! Many probes to or from ports that nobody told: a foretold few, or random ones until two meet.

use std::net::{IpAddr, SocketAddr};

use rand_core::Rng;

use crate::peering::{Path, Socket};
use crate::probe::PortPlan;

/// Ports that are foretold after the last one seen.
const FORETOLD: i32 = 24;
/// Ports before it: the one that the peer's first probe took may be older than the last that others saw.
const BEFORE: i32 = 8;

/// In which order ports are foretold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Upwards, once, and a few downwards: this end's own port is the same for all.
    Once,
    /// Upwards, then those after them: this end's own port goes up with each.
    Up,
    /// Downwards from the last, then the same further on, by an odd number. Where one end goes up and the other down,
    /// they meet in one of the two rounds, however many ports each router gave away since its last one was seen.
    Down,
}
/// Random ports that are tried.
const PORTS_MAX: usize = 1024;
/// So many of them at twice the rate.
const PORTS_FAST: usize = 400;
/// Between two handfuls of probes.
const TICK_MS: u64 = 20;
/// Probes in a handful: 200 a second, and 400 at first.
const HANDFUL: usize = 4;
/// From extra sockets in a handful: all 256 within the first half second.
const SOCKETS_HANDFUL: usize = 16;
/// When all extra sockets send a second time, after the first.
const AGAIN_MS: u64 = 1000;

/// Where the probes of a spray go.
#[derive(Debug)]
enum Aim {
    /// To these ports of the peer's router, from the usual socket.
    Ports {
        ip: IpAddr,
        ports: Vec<u16>,
        fast: usize,
    },
    /// From each of these extra sockets to the peer's one address, twice.
    Sockets { to: SocketAddr, sockets: Vec<u16> },
}

/// A spray that is going on.
#[derive(Debug)]
pub(super) struct Spray {
    id: [u8; 8],
    aim: Aim,
    start_ms: u64,
    next_ms: Option<u64>,
    sent: usize,
}

impl Spray {
    fn new<R: Rng>(aim: Aim, at: u64, rng: &mut R) -> Self {
        let mut id = [0; 8];
        rng.fill_bytes(&mut id);
        Self {
            id,
            aim,
            start_ms: at,
            next_ms: Some(at),
            sent: 0,
        }
    }

    /// To the ports that follow the last one seen, and that are not known.
    pub(super) fn foretold<R: Rng>(
        ip: IpAddr,
        plan: PortPlan,
        order: Order,
        known: impl Fn(u16) -> bool,
        at: u64,
        rng: &mut R,
    ) -> Self {
        let after = |n: i32| i32::from(plan.last) + n * i32::from(plan.step);
        let number = |n: i32| match order {
            Order::Once | Order::Up => n,
            Order::Down if n <= FORETOLD => FORETOLD + 1 - n,
            Order::Down => 3 * FORETOLD + 2 - n,
        };
        let (rounds, before) = match order {
            Order::Once => (1, BEFORE),
            Order::Up | Order::Down => (2, 0),
        };
        let numbers = (1..=rounds * FORETOLD).map(number);
        let ports = numbers.chain((1..=before).map(|n| -n)).map(after);
        let ports = ports.filter_map(|port| u16::try_from(port).ok());
        let ports: Vec<_> = ports
            .filter(|p| *p >= 1024 && (rounds > 1 || !known(*p)))
            .collect();
        let fast = ports.len();
        Self::new(Aim::Ports { ip, ports, fast }, at, rng)
    }

    /// To random ports.
    pub(super) fn random<R: Rng>(ip: IpAddr, at: u64, rng: &mut R) -> Self {
        let port = |_| (1024 + rng.next_u32() % (65_536 - 1024)) as u16;
        let ports = (0..PORTS_MAX).map(port).collect();
        let fast = PORTS_FAST;
        Self::new(Aim::Ports { ip, ports, fast }, at, rng)
    }

    /// From extra sockets.
    pub(super) fn sockets<R: Rng>(to: SocketAddr, sockets: Vec<u16>, at: u64, rng: &mut R) -> Self {
        Self::new(Aim::Sockets { to, sockets }, at, rng)
    }

    pub(super) const fn due_ms(&self) -> Option<u64> {
        self.next_ms
    }

    /// The probes that are due: each with the path by which it goes.
    pub(super) fn due(&mut self, at: u64) -> Vec<([u8; 12], Path)> {
        if self.next_ms.is_none_or(|due| due > at) {
            return Vec::new();
        }
        let (all, handful) = match &self.aim {
            Aim::Ports { ports, fast, .. } if self.sent < *fast => (ports.len(), 2 * HANDFUL),
            Aim::Ports { ports, .. } => (ports.len(), HANDFUL),
            Aim::Sockets { sockets, .. } => (2 * sockets.len(), SOCKETS_HANDFUL),
        };
        let first = self.sent;
        self.sent = (first + handful).min(all);
        let due = (first..self.sent).map(|place| self.at(place)).collect();
        let pause = match &self.aim {
            Aim::Sockets { sockets, .. } if first < sockets.len() && self.sent >= sockets.len() => {
                (self.start_ms + AGAIN_MS).saturating_sub(at).max(TICK_MS)
            }
            Aim::Sockets { .. } | Aim::Ports { .. } => TICK_MS,
        };
        self.next_ms = (self.sent < all).then_some(at + pause);
        due
    }

    fn at(&self, place: usize) -> ([u8; 12], Path) {
        let (number, path) = match &self.aim {
            Aim::Ports { ip, ports, .. } => {
                let port = ports[place];
                (port, Path::to(SocketAddr::new(*ip, port)))
            }
            Aim::Sockets { to, sockets } => {
                let number = sockets[place % sockets.len()];
                (number, extra(number, *to))
            }
        };
        let mut txid = [0; 12];
        txid[..8].copy_from_slice(&self.id);
        txid[8..10].copy_from_slice(&number.to_le_bytes());
        // The second round is told from the first.
        txid[10] = u8::from(place >= self.rounds());
        (txid, path)
    }

    const fn rounds(&self) -> usize {
        match &self.aim {
            Aim::Ports { .. } => usize::MAX,
            Aim::Sockets { sockets, .. } => sockets.len(),
        }
    }

    /// Whether an answer by a path is to one of these probes.
    pub(super) fn asked(&self, txid: &[u8; 12], path: &Path) -> bool {
        let number = u16::from_le_bytes([txid[8], txid[9]]);
        let sent = match &self.aim {
            Aim::Ports { ip, .. } => *path == Path::to(SocketAddr::new(*ip, number)),
            Aim::Sockets { to, .. } => *path == extra(number, *to),
        };
        txid[..8] == self.id && sent
    }

    /// What it is, for people.
    pub(super) fn target(&self) -> String {
        match &self.aim {
            Aim::Ports { ip, ports, .. } => format!("{ip}, {} ports", ports.len()),
            Aim::Sockets { to, sockets } => format!("{to}, from {} ports", sockets.len()),
        }
    }
}

const fn extra(number: u16, remote: SocketAddr) -> Path {
    Path::Direct {
        socket: Socket::Extra(number),
        remote,
    }
}
