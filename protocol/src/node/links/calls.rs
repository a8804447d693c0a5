//! Whom to call, when and where: members that are not connected.

use std::net::IpAddr;

use super::Links;
use crate::id::{NodeId, TransportKey};
use crate::io::{Notice, Standing};
use crate::link::DialId;
use crate::node::Node;
use crate::node::net::{Net, Phase};
use crate::path::{PeerPath, is_probeable};
use crate::record::{ControlAddress, Transport};
use crate::time::Moment;

/// Waits between calls to a member that does not answer; the last repeats.
const REDIAL_MS: [u64; 8] = [1000, 3000, 6000, 10_000, 10_000, 20_000, 40_000, 60_000];
/// The longest of them for a node that reaches nobody.
const REDIAL_ALONE_MS: u64 = 10_000;
/// How long the greater of two gives the smaller to call it.
const POLITE_MS: u64 = 400;
/// Failed calls after which a member makes room for another.
const TRIES_IN_A_ROW: usize = 3;
/// Failed calls, the one that begins included, after which the DHT is asked too.
const SEEK_FROM: usize = 2;
/// Later it is asked with every so manieth call; with each by a node that reaches nobody.
const SEEK_EVERY: usize = 6;
/// Members that this node sees to be linked with; others call it.
const LINKS_WANTED_MAX: usize = 32;
/// All members are looked at to choose, and links come by the dozen: between two choices lies a millisecond for so many
/// members.
const CHOICE_PER_MS: u64 = 10;
/// Between two calls of a node that was put out, after the first few: it may have been let in again.
const OUT_REDIAL_MS: u64 = 600_000;
/// How long after it was put out it calls for the first time.
const OUT_FIRST_MS: u64 = 5_000;
/// How long after its revocation a device is still called by others that are out: 30 days.
const OUT_CALLED_MS: u64 = 30 * 24 * 3600 * 1000;
/// The same by a member that reaches nobody: a day.
const OUT_CALLED_BY_MEMBERS_MS: u64 = 24 * 3600 * 1000;
/// Members that it calls.
const OUT_LINKS_MAX: usize = 8;

/// Whether a member is silent, how often it failed, and its rank.
pub(super) type Place = (bool, usize, u64);
/// A member that may be called: its rank, which orders them, and who it is.
pub(in crate::node) type Callable = (u64, TransportKey, NodeId);

/// Calls to a member that is not connected.
#[derive(Debug)]
pub(super) struct Redial {
    device: NodeId,
    pub(super) at_ms: u64,
    pub(super) tries: usize,
    pub(super) dialing: bool,
    /// Whether it is among those that are called in these days.
    pub(super) wanted: bool,
    /// Whether one of the two is out: then it is called now and then only.
    rare: bool,
}

impl Node {
    /// Calls somebody and remembers that it was this node that called.
    pub(in crate::node) fn call(
        &mut self,
        peer: Option<TransportKey>,
        addresses: Vec<ControlAddress>,
    ) -> DialId {
        let dial = self.dial(peer, addresses);
        self.links.dials.insert(dial, peer);
        dial
    }

    /// Where a member's control plane listens, by its record and by this LAN's announcements.
    pub(in crate::node) fn control_addresses(&self, device: &NodeId) -> Vec<ControlAddress> {
        let Some(net) = &self.net else {
            return Vec::new();
        };
        let endpoints = net.ledger.records.endpoints(device);
        let mut addresses: Vec<_> = endpoints
            .map(|endpoints| endpoints.control.clone())
            .unwrap_or_default()
            .into_iter()
            .filter(|c| is_probeable(&c.address) && !net.is_overlay(c.address.ip()))
            .collect();
        let transport = net
            .view
            .members()
            .get(device)
            .and_then(|m| net.transport_key(m));
        if let Some(found) = transport.and_then(|transport| self.links.found.get(&transport)) {
            addresses.extend(found);
        }
        // Through the tunnel, where one stands: no router is in the way there.
        let tcp = addresses
            .iter()
            .find(|address| address.transport == Transport::Tcp);
        if let (Some(tcp), Some(member)) = (tcp, net.view.members().get(device))
            && net.interface.is_some()
            && net
                .paths
                .peer(device)
                .is_some_and(|peer| peer.active().is_some())
        {
            let address = (IpAddr::V6(member.ipv6), tcp.address.port()).into();
            addresses.push(ControlAddress {
                transport: Transport::Tcp,
                address,
            });
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Calls members that are not connected.
    pub(in crate::node) fn redial(&mut self, now: Moment) {
        let at = now.uptime_ms();
        if self.links.unsettled && self.links.choice_ms <= at {
            self.links.unsettled = false;
            self.choose_whom_to_call(now);
        }
        if !self.links.is_due(at) {
            return;
        }
        let due = self.links.redials.iter();
        let due = due.filter(|(_, r)| r.wanted && !r.dialing && r.at_ms <= at);
        let due: Vec<_> = due.map(|(key, _)| *key).collect();
        let net = self.net.as_ref();
        let alone = net.is_some_and(|net| net.isolated_ms.is_some());
        for peer in due {
            let Some(redial) = self.links.redials.get_mut(&peer) else {
                continue;
            };
            let device = redial.device;
            redial.plan(at);
            if redial.rare {
                // In the meantime it may be out for too long.
                self.links.callable = None;
            } else if alone {
                redial.at_ms = redial.at_ms.min(at + REDIAL_ALONE_MS);
            }
            self.links.unsettled = true;
            let tries = redial.tries;
            let addresses = self.control_addresses(&device);
            let often = tries == SEEK_FROM || (alone && tries > SEEK_FROM);
            if addresses.is_empty() || often || tries.is_multiple_of(SEEK_EVERY) {
                self.seek(&device, now);
            }
            if addresses.is_empty() {
                self.call_by_circuit(&peer, now);
            } else {
                if let Some(redial) = self.links.redials.get_mut(&peer) {
                    redial.dialing = true;
                }
                self.call(Some(peer), addresses);
            }
        }
    }

    /// Chooses whom to be linked with: those first that are linked or answer probes, as of a large network most may be
    /// off; then in an order that differs from node to node. Those that failed some times in a row make room.
    ///
    /// How many links stand already does not matter: two halves that filled up while they could not hear each other
    /// would else stay two halves for ever.
    pub(in crate::node) fn choose_whom_to_call(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let Some(net) = self.net.as_ref().filter(|net| net.phase_dials()) else {
            return;
        };
        let me = self.id;
        if self.links.callable.is_none() {
            let known = |key: &TransportKey| net.transports.contains_key(key);
            let redials = &mut self.links.redials;
            redials.retain(|key, redial| redial.rare || known(key));
        }
        let own = TransportKey::new(self.keys.transport.public());
        let callable = self.links.callable.take();
        let callable = callable.unwrap_or_else(|| callable_of(net, &me, &own, now));
        let out = net.out;
        let links_max = if out { OUT_LINKS_MAX } else { LINKS_WANTED_MAX };
        let candidates = self.links.first_places(net, &callable, links_max);
        self.links.choice_ms = at + callable.len() as u64 / CHOICE_PER_MS;
        self.links.callable = Some(callable);
        let full = candidates.len() == links_max;
        self.links.worst = candidates.last().filter(|_| full).map(|(place, ..)| *place);
        let redials = &mut self.links.redials;
        for redial in redials.values_mut() {
            redial.wanted = false;
        }
        // Of two that could call each other the smaller calls first; the other gives it a moment.
        let polite = |device: &NodeId| match (out, *device > me) {
            (true, _) => OUT_FIRST_MS,
            (false, true) => 0,
            (false, false) => POLITE_MS,
        };
        for (_, key, device) in candidates {
            if self.links.peers.contains_key(&key) {
                continue;
            }
            let soon = at + polite(&device);
            let rare = out || !net.transports.contains_key(&key);
            let redial = redials
                .entry(key)
                .or_insert_with(|| Redial::new(device, soon));
            if redial.rare && !rare {
                redial.at_ms = redial.at_ms.min(soon);
            }
            redial.rare = rare;
            redial.wanted = true;
        }
    }

    /// A member answers probes: it is called now if it is among those to be linked with.
    pub(in crate::node) fn call_who_answers(&mut self, peer: &TransportKey, device: &NodeId) {
        self.links.hurry(peer);
        let Some(net) = &self.net else { return };
        let own = TransportKey::new(self.keys.transport.public());
        let place = self.links.place(net, &(rank(&own, peer), *peer, *device));
        let linked = self.links.peers.contains_key(peer);
        self.links.unsettled |= !linked && self.links.worst.is_none_or(|worst| place < worst);
    }

    /// Says once when nobody is reachable any more, or somebody again.
    pub(in crate::node) fn watch_isolation(&mut self, now: Moment) {
        let Some(net) = &mut self.net else { return };
        let mut others = net.view.members().values().filter(|member| {
            member.id != self.id
                && matches!(member.standing, Standing::Settled | Standing::Provisional)
        });
        let alone = others.next().is_some()
            && self.links.trusted().next().is_none()
            && !net
                .engine
                .keys()
                .any(|node| net.paths.peer(node).is_some_and(PeerPath::answers));
        if alone != net.isolated_ms.is_some() {
            net.isolated_ms = alone.then_some(now.uptime_ms());
            self.links.callable = None;
            self.links.unsettled = true;
            self.notice(Notice::Isolated(alone));
        }
    }
}

impl Links {
    /// Calls a member as soon as possible.
    pub(in crate::node) fn hurry(&mut self, peer: &TransportKey) {
        if let Some(redial) = self.redials.get_mut(peer) {
            redial.at_ms = 0;
            redial.tries = 0;
        }
    }

    /// Whether a call to the peer is on its way.
    pub(in crate::node) fn is_calling(&self, peer: &TransportKey) -> bool {
        self.dials.values().any(|target| *target == Some(*peer))
    }

    /// Remembers a call by a circuit.
    pub(in crate::node) fn watch_dial(&mut self, dial: DialId, peer: TransportKey) {
        self.dials.insert(dial, Some(peer));
    }

    /// A member's place among those to be linked with; the smallest are chosen.
    fn place(&self, net: &Net, (rank, key, device): &Callable) -> Place {
        if self.peers.contains_key(key) {
            return (false, 0, *rank);
        }
        let tries = self.redials.get(key).map_or(0, |redial| redial.tries);
        let silent = !net.paths.peer(device).is_some_and(PeerPath::answers);
        (silent, tries / TRIES_IN_A_ROW, *rank)
    }

    /// Those with the smallest places, in order. As they are looked at in the order of their ranks, nobody after the
    /// first so many that stand best can be among them.
    fn first_places(
        &self,
        net: &Net,
        callable: &[Callable],
        most: usize,
    ) -> Vec<(Place, TransportKey, NodeId)> {
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for member in callable {
            let place = self.place(net, member);
            let entry = (place, member.1, member.2);
            if (place.0, place.1) == (false, 0) {
                first.push(entry);
            } else {
                rest.push(entry);
            }
            if first.len() == most {
                return first;
            }
        }
        rest.sort_unstable();
        first.extend(rest);
        first.truncate(most);
        first
    }
}

impl Net {
    /// Whether members are called: not while the only one that counts is connected anyway.
    fn phase_dials(&self) -> bool {
        match self.phase {
            Phase::CatchingUp { .. } => false,
            Phase::Recovering { .. } | Phase::Open => true,
        }
    }
}

/// Whom a node may call, in the order of its ranks. Who is out itself, or reaches nobody, calls those that were put
/// out as well: what puts this node out, too, or brings it back, may be known on one of them alone.
fn callable_of(net: &Net, me: &NodeId, own: &TransportKey, now: Moment) -> Vec<Callable> {
    let members = net.transports.iter().map(|(key, device)| (*key, *device));
    let served = members.filter(|(_, device)| net.serves(device) || net.out);
    let kept_ms = match (net.out, net.isolated_ms) {
        (true, _) => OUT_CALLED_MS,
        (false, Some(_)) => OUT_CALLED_BY_MEMBERS_MS,
        (false, None) => 0,
    };
    let outcasts = net.view.revoked().iter().filter_map(|(device, revoke)| {
        let said = net.authority().op(revoke)?.header().time;
        let key = net.ledger.records.node(device)?.transport.key;
        let fresh = now.wall.since_ms(said) <= kept_ms;
        (fresh && !net.transports.contains_key(&key)).then_some((key, *device))
    });
    let outcasts = outcasts.filter(|_| kept_ms > 0);
    let mut callable: Vec<_> = served
        .chain(outcasts)
        .filter(|(_, device)| device != me)
        .map(|(key, device)| (rank(own, &key), key, device))
        .collect();
    callable.sort_unstable();
    callable
}

impl Redial {
    const fn new(device: NodeId, at_ms: u64) -> Self {
        Self {
            device,
            at_ms,
            tries: 0,
            dialing: false,
            wanted: false,
            rare: false,
        }
    }

    /// Counts a try and plans the next.
    pub(super) fn plan(&mut self, at: u64) {
        self.at_ms = at
            + match (self.rare, REDIAL_MS.get(self.tries)) {
                (_, Some(ms)) => *ms,
                (true, None) => OUT_REDIAL_MS,
                (false, None) => REDIAL_MS[REDIAL_MS.len() - 1],
            };
        self.tries += 1;
    }
}

/// The place of a member in this node's order of calls: as good as random, and equal at both ends.
fn rank(own: &TransportKey, other: &TransportKey) -> u64 {
    let short = |key: &TransportKey| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&key.as_bytes()[..8]);
        u64::from_le_bytes(bytes)
    };
    // Fibonacci hashing: the factor is 2^64 divided by the golden ratio.
    (short(own) ^ short(other)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
