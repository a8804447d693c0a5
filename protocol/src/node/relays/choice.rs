//! Which relays there are, and at which of them this node is at home.

use std::net::{IpAddr, SocketAddr};

use crate::id::{NodeId, TransportKey};
use crate::limits::HOMES_MAX;
use crate::node::Node;
use crate::node::net::Net;
use crate::node::relays::ROUND_MS;
use crate::path::is_public;
use crate::peering::Path;
use crate::record::{Candidate, CandidateKind, Endpoints, Nat};
use crate::relay::frame::Reason;
use crate::time::Moment;

/// Relays that are compared at the same time.
const COMPARED_MAX: usize = 8;
/// By how much a relay must be nearer to take a home's place: by this, microseconds, and by a fifth.
const BETTER_US: u64 = 10_000;
/// In so many comparisons one after the other.
const BETTER_ROUNDS: u8 = 2;

/// A relay that is better than a home, as it seems.
#[derive(Clone, Copy, Debug)]
pub(super) struct Challenge {
    by: TransportKey,
    home: TransportKey,
    rounds: u8,
}

/// How good a relay is; the smaller the better. Those that everybody can call stand before friends behind routers.
type Rank = (bool, u64);

impl Node {
    /// Chooses whom to compare, and measures them anew.
    pub(super) fn compare_relays(&mut self, now: Moment) {
        self.learn_volunteers(now);
        if self.relays.weighed_ms.is_none() {
            self.return_home();
        }
        let mut candidates: Vec<_> = self.candidates();
        candidates.sort_unstable();
        let homes = self.relays.homes.iter().copied();
        let others = candidates.into_iter().map(|(_, relay)| relay);
        let others = others.filter(|relay| !self.relays.homes.contains(relay));
        let compared = homes.chain(others).take(COMPARED_MAX).collect();
        self.relays.compared = compared;
        for client in self.relays.clients.values_mut() {
            client.measure(now);
        }
        let at = now.uptime_ms();
        let rested = self.relays.weighed_ms;
        if rested.is_none_or(|last| last + ROUND_MS <= at) {
            self.relays.weighed_ms = Some(at);
            self.weigh_homes();
            self.settle_challenge(now);
        }
        self.relays.touch();
    }

    /// Takes up the homes of the last life before a record of this one could say that there are none.
    pub(in crate::node) fn begin_at_home(&mut self, now: Moment) {
        if self.relays.weighed_ms.is_none() {
            self.learn_volunteers(now);
            self.return_home();
        }
    }

    /// Begins where this node was at home in its last life: peers have that in its record, and knock there now.
    fn return_home(&mut self) {
        let me = self.id;
        let Some(net) = &self.net else { return };
        let homes = net
            .ledger
            .records
            .endpoints(&me)
            .map(|own| own.homes.clone());
        let mut homes = homes.unwrap_or_default();
        homes.retain(|home| !self.relay_addresses(home).is_empty());
        if self.relays.homes.is_empty() && !homes.is_empty() {
            self.relays.homes = homes;
            self.reserve_at_homes();
        }
    }

    /// Relays that may become a home, each with what is known of it without asking: volunteers, and members that carry
    /// and are reached directly now.
    fn candidates(&self) -> Vec<(Rank, TransportKey)> {
        let Some(net) = &self.net else {
            return Vec::new();
        };
        let volunteers = self.relays.volunteers.keys();
        let volunteers = volunteers.map(|key| ((false, self.rtt_of(key)), *key));
        let public = self.is_public_itself();
        let members = net.transports.iter().filter(|(_, node)| **node != self.id);
        let members = members.filter_map(|(key, node)| {
            let way = net.paths.peer(node).and_then(|peer| peer.active());
            let endpoints = net.ledger.records.endpoints(node)?;
            let direct = way.filter(|way| matches!(way.0, Path::Direct { .. }));
            let behind = !is_callable(endpoints);
            // Where no UDP gets out, a link is all there is.
            let near = direct.is_some() || !behind && self.links.peers.contains_key(key);
            // Who can be called itself gains nothing by a friend who cannot.
            let fits = endpoints.carries && near && !(behind && public);
            let rtt = direct
                .and_then(|way| way.2)
                .unwrap_or_else(|| self.rtt_of(key));
            (fits && net.engine.contains_key(node)).then_some(((behind, rtt), *key))
        });
        volunteers.chain(members).collect()
    }

    fn rtt_of(&self, relay: &TransportKey) -> u64 {
        let client = self.relays.clients.get(relay);
        client
            .and_then(|client| client.rtt_us())
            .unwrap_or(u64::MAX)
    }

    fn is_public_itself(&self) -> bool {
        let v4 = |ip: &&IpAddr| ip.is_ipv4();
        let mut own = self.interfaces.iter().filter(v4);
        own.any(|ip| is_public(&(*ip, self.setup.tunnel_port).into()))
    }

    /// How good a relay is that answers and carries for this node; `None` if it does not, or is a relay no more.
    fn rank(&self, relay: &TransportKey) -> Option<Rank> {
        let client = self.relays.clients.get(relay)?;
        let rtt = client.rtt_us().filter(|_| client.refused().is_none())?;
        if self.relays.volunteers.contains_key(relay) {
            return Some((false, rtt));
        }
        let net = self.net.as_ref()?;
        let node = net.transports.get(relay)?;
        let endpoints = net.ledger.records.endpoints(node)?;
        let fits = endpoints.carries && net.engine.contains_key(node);
        fits.then_some((!is_callable(endpoints), rtt))
    }

    /// Gives up homes that are lost, and fills what is free with the best that answer.
    pub(super) fn choose_homes(&mut self, now: Moment) {
        let before = self.relays.homes.clone();
        let mut homes = before.clone();
        let deaf = self.hears_no_relay();
        homes.retain(|home| {
            let stands = self.is_new(home) || self.relays.circuits.keeps(home);
            let is_all = deaf && self.relays.volunteers.contains_key(home);
            self.rank(home).is_some() || stands || is_all || self.introduces(home)
        });
        if homes.len() < HOMES_MAX {
            let compared = self.relays.compared.iter();
            let free = compared.filter(|relay| !homes.contains(relay));
            // Who is at home nowhere takes the first that answers; the second home is chosen with more care.
            let homeless = homes.is_empty();
            let measured = free.clone().filter(|relay| {
                let client = self.relays.clients.get(relay);
                homeless || client.is_some_and(|client| client.is_measured())
            });
            let mut ranked: Vec<_> = measured
                .filter_map(|relay| Some((self.rank(relay)?, *relay)))
                .collect();
            if homeless && ranked.is_empty() {
                let volunteers = &self.relays.volunteers;
                let linked = free.clone().filter(|relay| {
                    self.is_only_linked(relay) || deaf && volunteers.contains_key(*relay)
                });
                ranked.extend(linked.map(|relay| ((false, u64::MAX), *relay)));
            }
            if homeless && ranked.is_empty() {
                // Who only introduces carries no traffic, but at it others learn where this node is.
                let introduces = free.filter(|relay| self.introduces(relay));
                ranked.extend(introduces.map(|relay| ((true, u64::MAX), *relay)));
            }
            ranked.sort_unstable();
            let room = HOMES_MAX - homes.len();
            homes.extend(ranked.into_iter().take(room).map(|(_, relay)| relay));
        }
        if homes != before {
            self.move_to(homes, now);
        }
    }

    /// Whether a relay answers and only helps to meet.
    fn introduces(&self, relay: &TransportKey) -> bool {
        let client = self.relays.clients.get(relay);
        client.is_some_and(|client| {
            client.rtt_us().is_some() && client.refused() == Some(Reason::IntroducesOnly)
        })
    }

    /// Whether a home had no time to answer: nobody spoke to it yet, or this machine moved.
    fn is_new(&self, home: &TransportKey) -> bool {
        match self.relays.clients.get(home) {
            Some(client) => client.is_fresh(),
            None => !self.relay_addresses(home).is_empty(),
        }
    }

    /// Whether a relay is silent by UDP, and linked all the same: where only TCP gets out, it is a home for circuits.
    fn is_only_linked(&self, relay: &TransportKey) -> bool {
        self.is_silent(relay) && self.links.peers.contains_key(relay)
    }

    fn is_silent(&self, relay: &TransportKey) -> bool {
        let client = self.relays.clients.get(relay);
        client.is_some_and(|client| !client.is_fresh() && client.rtt_us().is_none())
    }

    /// Whether no relay answers by UDP at all. Then volunteers are tried for circuits: some sites let only TCP out.
    fn hears_no_relay(&self) -> bool {
        let compared = &self.relays.compared;
        !compared.is_empty() && compared.iter().all(|relay| self.is_silent(relay))
    }

    /// Whether a home is worse than another relay, by enough and for long enough.
    fn weigh_homes(&mut self) {
        let ranked = |relay: &TransportKey| Some((self.rank(relay)?, *relay));
        let homes = &self.relays.homes;
        let worst = homes.iter().filter_map(ranked).max();
        let others = self.relays.compared.iter();
        let others = others.filter(|relay| !homes.contains(relay));
        let best = others.filter_map(ranked).min();
        let (Some((worst, home)), Some((best, by))) = (worst, best) else {
            self.relays.challenge = None;
            return;
        };
        let better = match (best.0, worst.0) {
            (false, true) => true,
            (true, false) => false,
            (true, true) | (false, false) => {
                best.1.saturating_add(BETTER_US.max(worst.1 / 5)) < worst.1
            }
        };
        if !better {
            self.relays.challenge = None;
            return;
        }
        let same = self.relays.challenge;
        let same = same.filter(|held| (held.by, held.home) == (by, home));
        let rounds = same.map_or(1, |held| held.rounds + 1);
        self.relays.challenge = Some(Challenge { by, home, rounds });
    }

    /// Takes up the relay that was better for long enough.
    fn settle_challenge(&mut self, now: Moment) {
        let won = self.relays.challenge;
        let won = won.filter(|challenge| challenge.rounds >= BETTER_ROUNDS);
        if let Some(Challenge { by, home, .. }) = won {
            self.relays.challenge = None;
            let mut homes = self.relays.homes.clone();
            homes.retain(|held| *held != home);
            homes.push(by);
            homes.sort_by_key(|relay| self.rank(relay));
            self.move_to(homes, now);
        }
    }

    fn move_to(&mut self, homes: Vec<TransportKey>, now: Moment) {
        self.relays.homes = homes;
        self.relays.touch();
        self.endpoints_changed(now);
        self.reserve_at_homes();
    }

    /// Where a relay's UDP port may be: first where a direct path to it leads now, which is proven.
    pub(super) fn relay_addresses(&self, relay: &TransportKey) -> Vec<SocketAddr> {
        if let Some(volunteer) = self.relays.volunteers.get(relay) {
            return volunteer.addresses.clone();
        }
        let Some(net) = &self.net else {
            return Vec::new();
        };
        let Some(node) = net.transports.get(relay).filter(|node| **node != self.id) else {
            return Vec::new();
        };
        let client = self.relays.clients.get(relay);
        let known = client.and_then(|client| client.address());
        let mut addresses: Vec<_> = net.direct_remote(node).into_iter().chain(known).collect();
        if let Some(endpoints) = net.ledger.records.endpoints(node) {
            let outside = |a: &SocketAddr| is_public(a) && !net.is_overlay(a.ip());
            let mut listed: Vec<_> = endpoints.tunnel.clone();
            // What a person or a router vouches for stands before what was only seen.
            listed.sort_by_key(|candidate| (std::cmp::Reverse(candidate.kind), candidate.address));
            addresses.extend(listed.iter().map(|c| c.address).filter(outside));
        }
        let mut seen = std::collections::BTreeSet::new();
        addresses.retain(|address| seen.insert(*address));
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }
}

/// Addresses of one relay that are spoken to.
const ADDRESSES_MAX: usize = 4;

impl Net {
    /// Where a member is, on the direct path that leads to it now.
    pub(super) fn direct_remote(&self, node: &NodeId) -> Option<SocketAddr> {
        let (path, ..) = self.paths.peer(node)?.active()?;
        path.remote()
    }
}

/// Whether anybody can call a member, as its record has it: its port is not behind a router, or is mapped there.
fn is_callable(endpoints: &Endpoints) -> bool {
    let outside = |candidate: &Candidate| match candidate.kind {
        CandidateKind::Mapped | CandidateKind::Static => true,
        // An IPv6 address of its own has almost every machine, and a router in front that lets nobody in.
        CandidateKind::Host => candidate.address.is_ipv4(),
        CandidateKind::Observed => endpoints.nat == Nat::None,
    };
    let mut tunnel = endpoints.tunnel.iter();
    tunnel.any(|candidate| outside(candidate) && is_public(&candidate.address))
}
