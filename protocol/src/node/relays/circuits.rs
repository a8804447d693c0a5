//! Circuits: links by a relay where no direct call gets through, and datagrams over links where no UDP does
//! (`docs/protocol.md` §8.6).

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{NodeId, TransportKey};
use crate::io::PathKind;
use crate::link::{DialId, LinkOutput};
use crate::node::Node;
use crate::path::{PeerPath, is_probeable, kind_of};
use crate::peering::CircuitId;
use crate::record::{ControlAddress, Transport};
use crate::time::Moment;

/// How long a wanted peer may stay without an answer by UDP before datagrams go over a link.
const CARRY_AFTER_MS: u64 = 600;
/// How long nothing may come of a stream before a link that goes by UDP counts as dead: it went the same way as the
/// datagrams that are not answered.
const STREAM_MS: u64 = 1000;
/// How long a better way must have stood before the stream is given up.
const CARRY_KEPT_MS: u64 = 30_000;
/// Calls by circuits that are on their way at the same time.
const CALLS_MAX: usize = 8;
/// Links by circuits that this node makes.
const LINKS_MAX: usize = 16;
/// Between two calls of one peer by a circuit.
const CALL_AGAIN_MS: u64 = 10_000;

/// Reservations, links and streams by circuits.
#[derive(Debug, Default)]
pub(super) struct Circuits {
    /// Relays that keep a reservation for this node.
    reserved: BTreeSet<TransportKey>,
    /// The handles by which datagrams go over links.
    streams: BTreeMap<TransportKey, CircuitId>,
    /// Peers with which a stream is wanted: since when there is a better way.
    carried: BTreeMap<TransportKey, Option<u64>>,
    /// Those that are linked by UDP and not heard: since when.
    asked_ms: BTreeMap<TransportKey, u64>,
    calls: BTreeMap<DialId, TransportKey>,
    called_ms: BTreeMap<TransportKey, u64>,
    /// Links that came up by a circuit of this node's making.
    links: BTreeSet<TransportKey>,
    due_ms: Option<u64>,
}

impl Circuits {
    /// Whether a relay keeps a reservation for this node.
    pub(super) fn keeps(&self, relay: &TransportKey) -> bool {
        self.reserved.contains(relay)
    }

    pub(super) const fn poll_timeout(&self) -> Option<u64> {
        self.due_ms
    }
}

impl Node {
    /// A relay keeps a reservation for this node, or does not any more.
    pub(in crate::node) fn on_reserved(&mut self, relay: TransportKey, stands: bool) {
        self.relays.touch();
        if stands {
            self.relays.circuits.reserved.insert(relay);
        } else {
            self.relays.circuits.reserved.remove(&relay);
        }
    }

    /// Whether this node can be called by a circuit now.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        !self.relays.circuits.reserved.is_empty()
    }

    /// Datagrams can go to a peer over its link, or cannot any more.
    pub(in crate::node) fn on_carrying(&mut self, peer: TransportKey, circuit: Option<CircuitId>) {
        match circuit {
            Some(circuit) => self.relays.circuits.streams.insert(peer, circuit),
            None => self.relays.circuits.streams.remove(&peer),
        };
        self.relays.touch();
    }

    /// A link came up, by a circuit or not.
    pub(in crate::node) fn circuits_on_up(
        &mut self,
        peer: &TransportKey,
        dial: Option<DialId>,
        by: Option<&TransportKey>,
    ) {
        let circuits = &mut self.relays.circuits;
        let ours = dial.is_some_and(|dial| circuits.calls.remove(&dial).is_some());
        if ours && by.is_some() {
            circuits.links.insert(*peer);
        }
        self.relays.touch();
    }

    /// All links with a peer are down.
    pub(in crate::node) fn circuits_on_down(&mut self, peer: &TransportKey) {
        let circuits = &mut self.relays.circuits;
        circuits.links.remove(peer);
        circuits.carried.remove(peer);
        circuits.asked_ms.remove(peer);
        if circuits.streams.remove(peer).is_some() {
            self.relays.touch();
        }
    }

    /// A call failed. A direct one is followed by one over the peer's home.
    pub(in crate::node) fn circuits_on_dial_failed(
        &mut self,
        dial: DialId,
        target: Option<TransportKey>,
        now: Moment,
    ) {
        let by_circuit = self.relays.circuits.calls.remove(&dial).is_some();
        if let Some(peer) = target.filter(|_| !by_circuit) {
            self.call_by_circuit(&peer, now);
        }
    }

    /// Calls a member at one of its homes; whether that could be.
    pub(in crate::node) fn call_by_circuit(&mut self, peer: &TransportKey, now: Moment) -> bool {
        let at = now.uptime_ms();
        let circuits = &mut self.relays.circuits;
        circuits
            .called_ms
            .retain(|_, when| *when + CALL_AGAIN_MS > at);
        let busy = circuits.calls.len() >= CALLS_MAX || circuits.links.len() >= LINKS_MAX;
        let lately = circuits.called_ms.contains_key(peer);
        let calling = circuits.calls.values().any(|called| called == peer);
        if busy || lately || calling || self.links.peers.contains_key(peer) {
            return false;
        }
        let Some(net) = self.net.as_ref().filter(|net| net.is_open() && !net.out) else {
            return false;
        };
        let Some(node) = net.transports.get(peer).copied() else {
            return false;
        };
        // Each call tries another of them.
        let homes = self.homes_of(&node);
        let reachable = homes
            .into_iter()
            .map(|home| (home, self.relay_control(&home)))
            .filter(|(home, addresses)| !addresses.is_empty() && home != peer);
        let mut reachable: Vec<_> = reachable.collect();
        // A relay that is linked is there for sure.
        let linked = |relay: &TransportKey| self.links.peers.contains_key(relay);
        if reachable.iter().any(|(relay, _)| linked(relay)) {
            reachable.retain(|(relay, _)| linked(relay));
        }
        if reachable.is_empty() {
            return false;
        }
        let turn = usize::try_from(self.dials).unwrap_or(0) % reachable.len();
        let (relay, addresses) = reachable.swap_remove(turn);
        let dial = self.next_dial(*peer);
        let circuits = &mut self.relays.circuits;
        circuits.calls.insert(dial, *peer);
        circuits.called_ms.insert(*peer, at);
        self.link(LinkOutput::DialBy {
            dial,
            peer: *peer,
            relay,
            addresses,
        });
        true
    }

    /// The number of a new call by a circuit.
    pub(in crate::node) fn next_dial(&mut self, peer: TransportKey) -> DialId {
        self.dials += 1;
        let dial = DialId(self.dials);
        self.links.watch_dial(dial, peer);
        dial
    }

    /// Where a relay's control plane listens, never through the tunnel.
    pub(super) fn relay_control(&self, relay: &TransportKey) -> Vec<ControlAddress> {
        if let Some(volunteer) = self.relays.volunteers.get(relay) {
            return volunteer.control();
        }
        let Some(net) = &self.net else {
            return Vec::new();
        };
        let Some(node) = net.transports.get(relay) else {
            return Vec::new();
        };
        let endpoints = net.ledger.records.endpoints(node);
        let endpoints = endpoints.filter(|endpoints| endpoints.carries);
        let mut addresses = endpoints.map_or_else(Vec::new, |e| e.control.clone());
        if endpoints.is_some() {
            addresses.extend(self.links.found.get(relay).into_iter().flatten());
            // Where its datagrams come from is where its streams are likely to be.
            let port = addresses.iter().find(|a| a.transport == Transport::Tcp);
            let port = port.map(|address| address.address.port());
            if let Some((remote, port)) = net.direct_remote(node).zip(port) {
                addresses.push(ControlAddress {
                    transport: Transport::Tcp,
                    address: (remote.ip(), port).into(),
                });
            }
        }
        addresses.retain(|a| is_probeable(&a.address) && !net.is_overlay(a.address.ip()));
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Reserves at the homes of now.
    pub(super) fn reserve_at_homes(&mut self) {
        let homes = self.relays.homes.iter();
        let homes = homes.map(|home| (*home, self.relay_control(home)));
        let homes: Vec<_> = homes
            .filter(|(_, addresses)| !addresses.is_empty())
            .collect();
        if homes != self.relays.told.homes {
            self.relays.told.homes.clone_from(&homes);
            self.link(LinkOutput::Homes(homes));
        }
    }

    /// The devices to which datagrams go over links.
    pub(super) fn carried(&self) -> Vec<NodeId> {
        let streams = self.relays.circuits.streams.keys();
        let Some(net) = &self.net else {
            return Vec::new();
        };
        streams
            .filter_map(|peer| net.transports.get(peer).copied())
            .collect()
    }

    /// The handle by which datagrams go to a peer over its link: only while that is trusted.
    pub(super) fn circuit_to(&self, peer: &TransportKey) -> Option<CircuitId> {
        let linked = self.links.peers.get(peer).is_some_and(|peer| peer.trusted);
        let stream = self.relays.circuits.streams.get(peer).copied();
        stream.filter(|_| linked)
    }

    /// Ends a link that goes by UDP, or through the tunnel, if nothing was heard over it in time either. Gives when it
    /// is to be looked at again.
    fn hang_up_dead(&mut self, peer: &TransportKey, at: u64) -> Option<u64> {
        let net = self.net.as_ref()?;
        let remote = self.links.peers.get(peer)?.remote;
        let by_udp = match remote.transport {
            Transport::Quic => true,
            Transport::Tcp => net.is_overlay(remote.address.ip()),
        };
        let node = net.transports.get(peer)?;
        if !by_udp || net.paths.peer(node).is_some_and(PeerPath::answers) {
            self.relays.circuits.asked_ms.remove(peer);
            return None;
        }
        let since_ms = *self.relays.circuits.asked_ms.entry(*peer).or_insert(at);
        if since_ms + STREAM_MS > at {
            return Some(since_ms + STREAM_MS);
        }
        self.relays.circuits.asked_ms.remove(peer);
        self.link(LinkOutput::HangUp { peer: *peer });
        None
    }

    /// Wanted peers that do not answer by UDP, and when the next may be one.
    fn silent_by_udp(&self, at: u64) -> (BTreeSet<TransportKey>, Option<u64>) {
        let (mut silent, mut due) = (BTreeSet::new(), None);
        let Some(net) = &self.net else {
            return (silent, due);
        };
        for (node, wanted) in &self.relays.wanted {
            let way = net.paths.peer(node);
            let by_udp = way.and_then(|way| way.active()).is_some_and(|(path, ..)| {
                kind_of(&path) < PathKind::Circuit && way.is_some_and(PeerPath::answers)
            });
            let ripe_ms = wanted.since_ms + CARRY_AFTER_MS;
            let member = net.view.live(node);
            let key = member.and_then(|member| net.transport_key(member));
            let Some(key) = key.filter(|_| !by_udp) else {
                continue;
            };
            if ripe_ms <= at {
                silent.insert(key);
            } else {
                due = Some(due.map_or(ripe_ms, |due: u64| due.min(ripe_ms)));
            }
        }
        (silent, due)
    }

    /// Asks for streams with those whom nothing else reaches, and gives up those that are not needed any more.
    pub(super) fn want_circuits(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let (silent, mut due) = self.silent_by_udp(at);
        for peer in &silent {
            let linked = self.links.peers.get(peer);
            let again = match linked.map(|linked| linked.trusted) {
                Some(true) => {
                    let before = self.relays.circuits.carried.insert(*peer, None);
                    if before.is_none() {
                        let wanted = true;
                        self.link(LinkOutput::Carry {
                            peer: *peer,
                            wanted,
                        });
                    }
                    self.hang_up_dead(peer, at)
                }
                // It proves itself in these moments.
                Some(false) => None,
                None => {
                    self.links.hurry(peer);
                    self.call_by_circuit(peer, now);
                    Some(at + CALL_AGAIN_MS)
                }
            };
            due = again.into_iter().chain(due).min();
        }
        let circuits = &mut self.relays.circuits;
        circuits.asked_ms.retain(|peer, _| silent.contains(peer));
        let mut over = Vec::new();
        for (peer, better_ms) in &mut circuits.carried {
            if silent.contains(peer) {
                continue;
            }
            let since = *better_ms.get_or_insert(at);
            if since + CARRY_KEPT_MS <= at {
                over.push(*peer);
            } else {
                let end = since + CARRY_KEPT_MS;
                due = Some(due.map_or(end, |due| due.min(end)));
            }
        }
        for peer in over {
            self.relays.circuits.carried.remove(&peer);
            let wanted = false;
            self.link(LinkOutput::Carry { peer, wanted });
        }
        self.relays.circuits.due_ms = due;
    }
}
