//! What all ways share: where this node may be found, how its router maps, and how much they may still send together.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::address::is_probeable;
use super::budget::Budget;
use super::keepalive::Keepalive;
use super::punching::guess;
use crate::body::Ipv4Range;
use crate::limits::CANDIDATES_MAX;
use crate::peering::{Path, Socket};
use crate::probe::PortPlan;
use crate::record::{Candidate, Nat};

/// Extra sockets of one run.
pub(super) const EXTRA_SOCKETS: u16 = 256;

/// What may be done against routers that give every destination another port (`docs/protocol.md` §8.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Punch {
    /// Ports are foretold where they follow a rule, and met by chance where they do not.
    #[default]
    Full,
    /// Ports are foretold only.
    Gentle,
    /// Neither.
    Off,
}

/// A run of many probes for one peer.
#[derive(Debug)]
struct Run {
    peer: [u8; 8],
    until_ms: u64,
    sockets: Vec<u16>,
}

/// What all ways share.
#[derive(Debug, Default)]
pub struct Means {
    pub(super) candidates: Vec<Candidate>,
    pub(super) nat: Nat,
    pub(super) plan: PortPlan,
    pub(super) punch: Punch,
    pub(super) budget: Budget,
    pub(super) keepalive: Keepalive,
    /// The IPv4 range, and the first address of the /48.
    overlay: Option<(Ipv4Range, Ipv6Addr)>,
    run: Option<Run>,
    /// Extra sockets by which a path in use goes.
    kept: BTreeSet<u16>,
}

impl Means {
    /// Learns where this node may be found, and how its router maps. Gives whether that is another place.
    pub(crate) fn announce(
        &mut self,
        mut candidates: Vec<Candidate>,
        nat: Nat,
        plan: PortPlan,
    ) -> bool {
        candidates.sort_unstable();
        candidates.dedup();
        candidates.truncate(CANDIDATES_MAX);
        let moved = self.candidates != candidates || self.nat != nat;
        self.candidates = candidates;
        self.nat = nat;
        self.plan = plan;
        moved
    }

    /// How the own router maps, as well as can be told.
    pub(crate) fn guess(&self) -> Nat {
        guess(self.nat, &self.candidates)
    }

    /// Learns what may be done against routers.
    pub const fn set_punch(&mut self, punch: Punch) {
        self.punch = punch;
    }

    /// Learns the overlay's own addresses: no way leads through it.
    pub const fn set_overlay(&mut self, ipv4: Ipv4Range, ipv6: Ipv6Addr) {
        self.overlay = Some((ipv4, ipv6));
    }

    /// Whether an address may be probed at all.
    pub(super) fn allows(&self, address: &SocketAddr) -> bool {
        let inside = self
            .overlay
            .as_ref()
            .is_some_and(|(ipv4, ipv6)| match address.ip() {
                IpAddr::V4(ip) => ipv4.contains(ip),
                IpAddr::V6(ip) => ip.octets()[..6] == ipv6.octets()[..6],
            });
        is_probeable(address) && !inside
    }

    /// Takes the one run that the node may have at a time. Gives the extra sockets, if any are wanted.
    pub(super) fn start_run(
        &mut self,
        peer: [u8; 8],
        sockets: bool,
        until_ms: u64,
    ) -> Option<Vec<u16>> {
        if self.run.is_some() {
            return None;
        }
        let free = (0..u16::MAX).filter(|number| !self.kept.contains(number));
        let count = if sockets { EXTRA_SOCKETS } else { 0 };
        let sockets: Vec<_> = free.take(usize::from(count)).collect();
        self.run = Some(Run {
            peer,
            until_ms,
            sockets: sockets.clone(),
        });
        Some(sockets)
    }

    /// Ends a peer's run.
    pub(super) fn end_run(&mut self, peer: [u8; 8]) {
        self.run.take_if(|run| run.peer == peer);
    }

    /// When the run is over in any case.
    pub(crate) fn run_ends_ms(&self) -> Option<u64> {
        self.run.as_ref().map(|run| run.until_ms)
    }

    /// Ends a run whose time is over.
    pub(crate) fn on_time(&mut self, at: u64) {
        self.keepalive.on_time(at);
        self.run.take_if(|run| run.until_ms <= at);
    }

    /// Keeps the extra sockets by which these paths go.
    pub(crate) fn keep_sockets<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        self.kept = paths.filter_map(extra_of).collect();
    }

    /// Whether there is any extra socket.
    pub(crate) fn has_sockets(&self) -> bool {
        !self.kept.is_empty() || self.run.is_some()
    }

    /// This machine has these addresses now.
    pub(crate) fn enter(&mut self, addresses: &[IpAddr], at: u64) {
        self.keepalive.enter(addresses.to_vec(), at);
    }

    /// The extra sockets that are needed now, ascending.
    pub(crate) fn sockets(&self) -> Vec<u16> {
        let run = self.run.iter().flat_map(|run| &run.sockets);
        let all: BTreeSet<_> = run.chain(&self.kept).copied().collect();
        all.into_iter().collect()
    }
}

/// The number of the extra socket by which a path goes.
pub(super) const fn extra_of(path: &Path) -> Option<u16> {
    match path {
        Path::Direct {
            socket: Socket::Extra(number),
            ..
        } => Some(*number),
        Path::Direct {
            socket: Socket::V4 | Socket::V6,
            ..
        }
        | Path::Relayed { .. }
        | Path::Circuit(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_at_a_time_has_sockets_and_the_one_that_won_stays() {
        let mut means = Means::default();
        let sockets = means.start_run([1; 8], true, 10).unwrap();
        assert_eq!(sockets.len(), 256);
        assert!(means.start_run([2; 8], false, 10).is_none());
        let remote = ([203, 0, 113, 9], 1024).into();
        let won = Path::Direct {
            socket: Socket::Extra(7),
            remote,
        };
        means.keep_sockets([won, Path::to(remote)].iter());
        means.end_run([2; 8]);
        assert_eq!(means.sockets().len(), 256);
        means.end_run([1; 8]);
        assert_eq!(means.sockets(), [7]);
        // The next run takes no socket that is in use.
        let sockets = means.start_run([2; 8], true, 20).unwrap();
        assert!(!sockets.contains(&7) && means.sockets().len() == 257);
        means.on_time(20);
        assert_eq!(means.sockets(), [7]);
    }
}
