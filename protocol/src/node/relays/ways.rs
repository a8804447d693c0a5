//! Which ways by relays lead to whom, as long as somebody wants them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{FLOWING_MS, Limit, Wanted};
use crate::id::{NodeId, TransportKey};
use crate::io::{PathKind, Warning};
use crate::name::NodeName;
use crate::node::Node;
use crate::path::kind_of;
use crate::paths::Vantage;
use crate::peering::{Mailbox, Path, TunnelInput};
use crate::relay::client::{Client, Hold};
use crate::relay::frame::{Reason, mailbox_of};
use crate::time::Moment;

/// How long a peer counts as wanted after somebody wanted it.
const WANTED_MS: u64 = 120_000;
/// Peers that are wanted at the same time; whoever was wanted longest ago makes room.
const WANTED_MAX: usize = 512;
/// How long a peer that was heard by a relay can be answered there.
const MET_MS: u64 = 300_000;
/// Ways of a peer that are told.
const WAYS_MAX: usize = 6;
/// What relays lost is remembered of so many peers, for so long.
const LIMITS_MAX: usize = 64;
const LIMITED_MS: u64 = 60_000;

impl Wanted {
    pub(super) const fn due_ms(self) -> u64 {
        self.last_ms + WANTED_MS
    }
}

impl Node {
    /// Packets want to go to a peer, or it is asked for.
    pub(in crate::node) fn relays_want(&mut self, node: &NodeId, now: Moment) {
        let at = now.uptime_ms();
        let wanted = &mut self.relays.wanted;
        if let Some(known) = wanted.get_mut(node) {
            let rested = known.last_ms + FLOWING_MS <= at;
            known.last_ms = at;
            self.relays.touched |= rested;
            return;
        }
        if wanted.len() >= WANTED_MAX {
            let oldest = wanted.iter().min_by_key(|(_, wanted)| wanted.last_ms);
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                wanted.remove(&oldest);
            }
        }
        let (since_ms, last_ms) = (at, at);
        wanted.insert(*node, Wanted { since_ms, last_ms });
        self.relays.touch();
    }

    /// A datagram came by a way: if that is a relay's, its sender is found there, and wants this node.
    fn relays_met(&mut self, path: &Path, now: Moment) {
        let Path::Relayed { relay, mailbox } = path else {
            return;
        };
        let ours = |client: &Client| client.address() == Some(*relay);
        let known = self.relays.clients.values().any(ours);
        let Some(node) = self
            .relays
            .mailboxes
            .get(mailbox)
            .copied()
            .filter(|_| known)
        else {
            return;
        };
        let before = self.relays.met.insert((node, *relay), now.uptime_ms());
        if before.is_none() {
            self.relays.touch();
        }
        self.relays_want(&node, now);
    }

    /// Notes what a report of the engine says of relays.
    pub(in crate::node) fn note_relays(&mut self, input: &TunnelInput, now: Moment) {
        match input {
            TunnelInput::Relay { relay, bytes } => self.on_relay(*relay, bytes, now),
            TunnelInput::Datagram { path, .. } => self.relays_met(path, now),
            TunnelInput::Moved { path, .. } => self.relays_met(path, now),
            TunnelInput::Traffic { key, .. } | TunnelInput::Wanted { key } => {
                let net = self.net.as_ref();
                let node = net.and_then(|net| net.wireguard.get(key).copied());
                if let Some(node) = node {
                    self.relays_want(&node, now);
                }
            }
        }
    }

    /// The way to a peer changed, or stopped to answer: is its relay still there?
    pub(in crate::node) fn relays_doubt(&mut self, now: Moment) {
        self.relays.look_for_homes(now);
        for client in self.relays.clients.values_mut() {
            if client.hold() == Hold::Used {
                client.doubt(now);
            }
        }
    }

    /// What people call the relay of a way.
    pub(in crate::node) fn relay_name(&self, path: &Path) -> Option<String> {
        match path {
            Path::Relayed { relay, .. } => self.relay_at(*relay),
            Path::Direct { .. } | Path::Circuit(_) => None,
        }
    }

    /// The member whose mailbox this is.
    #[must_use]
    pub fn name_at(&self, mailbox: &Mailbox) -> Option<NodeName> {
        self.net
            .as_ref()?
            .name_of(self.relays.mailboxes.get(mailbox)?)
    }

    fn relay_at(&self, relay: SocketAddr) -> Option<String> {
        let mut clients = self.relays.clients.iter();
        let (key, _) = clients.find(|(_, client)| client.address() == Some(relay))?;
        if let Some(volunteer) = self.relays.volunteers.get(key) {
            return Some(volunteer.name.as_str().to_owned());
        }
        let net = self.net.as_ref()?;
        let node = net.transports.get(key)?;
        net.name_of(node).map(|name| name.as_str().to_owned())
    }

    /// The relays at which a member is to be found, by its own record; never this node itself.
    pub(super) fn homes_of(&self, node: &NodeId) -> Vec<TransportKey> {
        let own = TransportKey::new(self.keys.transport.public());
        let net = self.net.as_ref();
        let endpoints = net.and_then(|net| net.ledger.records.endpoints(node));
        let homes = endpoints.map(|endpoints| endpoints.homes.clone());
        let mut homes = homes.unwrap_or_default();
        homes.retain(|home| *home != own);
        homes
    }

    /// The relays that wanted peers are reached by: those by which packets travel are watched closely.
    pub(super) fn reached_by(&self, now: Moment) -> Vec<(TransportKey, Hold)> {
        let Some(net) = &self.net else {
            return Vec::new();
        };
        let at = now.uptime_ms();
        let mut wanted: Vec<_> = self.relays.wanted.iter().collect();
        wanted.sort_by_key(|(node, wanted)| (std::cmp::Reverse(wanted.last_ms), **node));
        let mut relays = Vec::new();
        for (node, wanted) in wanted {
            let way = net.paths.peer(node);
            let active = way.and_then(|way| way.active()).map(|(path, ..)| path);
            let used = match active {
                Some(Path::Relayed { relay, .. }) => Some(relay),
                Some(Path::Direct { .. } | Path::Circuit(_)) | None => None,
            };
            let flows = wanted.last_ms + FLOWING_MS > at;
            let direct = active.is_some_and(|path| kind_of(&path) < PathKind::UdpRelay);
            let needless = direct && way.is_some_and(|way| way.answers());
            for home in self.homes_of(node) {
                let client = self.relays.clients.get(&home);
                let here = client.is_some_and(|client| client.address() == used);
                if used.is_some() && here && flows {
                    relays.push((home, Hold::Used));
                } else if !needless {
                    relays.push((home, Hold::Bound));
                }
            }
            // By a home of this node's own, at which the peer called.
            let ours = |client: &&TransportKey| {
                let client = self.relays.clients.get(*client);
                used.is_some() && client.is_some_and(|client| client.address() == used)
            };
            let own = self.relays.homes.iter().filter(ours);
            relays.extend(own.filter(|_| flows).map(|home| (*home, Hold::Used)));
        }
        relays
    }

    /// Tells the ways by relays and circuits of all whom somebody wants; those that are gone, too.
    pub(super) fn tell_ways(&mut self, now: Moment) {
        let at = now.uptime_ms();
        self.relays.wanted.retain(|_, wanted| wanted.due_ms() > at);
        self.relays.met.retain(|_, met| *met + MET_MS > at);
        self.relays
            .limits
            .retain(|_, limit| limit.when_ms + LIMITED_MS > at);
        let wanted = self.relays.wanted.keys().copied();
        let told = self.relays.ways.keys().copied();
        let nodes: BTreeSet<_> = wanted.chain(told).chain(self.carried()).collect();
        for node in nodes {
            let ways = self.ways_to(&node);
            let told = self.relays.ways.get(&node);
            if told.map_or(!ways.is_empty(), |told| *told != ways) {
                self.learn_ways(&node, &ways, now);
                if ways.is_empty() {
                    self.relays.ways.remove(&node);
                } else {
                    self.relays.ways.insert(node, ways);
                }
            }
        }
    }

    /// Hands the ways by relays and circuits that lead to a peer, whole list, to the paths: here the two rooms meet.
    fn learn_ways(&mut self, node: &NodeId, ways: &[Path], now: Moment) {
        let Some(net) = &mut self.net else { return };
        net.paths.learn_relayed(node, ways, now);
    }

    fn ways_to(&self, node: &NodeId) -> Vec<Path> {
        let Some(net) = &self.net else {
            return Vec::new();
        };
        let member = net
            .view
            .live(node)
            .filter(|_| net.engine.contains_key(node));
        let Some(key) = member.and_then(|member| net.transport_key(member)) else {
            return Vec::new();
        };
        let mailbox = mailbox_of(&key);
        let bound = |relay: &TransportKey| {
            let client = self.relays.clients.get(relay)?;
            client.address().filter(|_| client.is_bound())
        };
        let homes = self.homes_of(node);
        let mut addresses: Vec<SocketAddr> = homes.iter().filter_map(bound).collect();
        let everywhere: BTreeSet<_> = self.relays.clients.keys().filter_map(bound).collect();
        let met = self.relays.met.keys().filter(|(met, _)| met == node);
        for (_, relay) in met {
            if everywhere.contains(relay) && !addresses.contains(relay) {
                addresses.push(*relay);
            }
        }
        let relayed = addresses
            .into_iter()
            .map(|relay| Path::Relayed { relay, mailbox });
        let circuit = self.circuit_to(&key).map(Path::Circuit);
        relayed.take(WAYS_MAX - 1).chain(circuit).collect()
    }

    /// A relay saw this node at an address.
    pub(super) fn relay_saw(&mut self, by: SocketAddr, seen: SocketAddr, now: Moment) {
        self.on_seen(Vantage::Relay(by), by, seen, now);
    }

    /// A relay loses what goes to a mailbox.
    pub(super) fn on_limited(
        &mut self,
        by: Option<SocketAddr>,
        mailbox: Mailbox,
        reason: Reason,
        now: Moment,
    ) {
        let Some(node) = self.relays.mailboxes.get(&mailbox).copied() else {
            return;
        };
        if let Some(by) = by.filter(|_| reason == Reason::NotBound) {
            // It was here, and is not any more; by its own record it may be again.
            if self.relays.met.remove(&(node, by)).is_some() {
                self.relays.touch();
            }
        }
        let limits = &mut self.relays.limits;
        if limits.len() < LIMITS_MAX || limits.contains_key(&mailbox) {
            let when_ms = now.uptime_ms();
            let limit = Limit {
                reason,
                by,
                when_ms,
            };
            limits.insert(mailbox, limit);
        }
    }

    /// The relays that lost lately what goes to a peer because a budget of theirs is used up.
    pub(in crate::node) fn relay_warnings(&self, now: Moment) -> Vec<Warning> {
        let Some(net) = &self.net else {
            return Vec::new();
        };
        let at = now.uptime_ms();
        let limits = self.relays.limits.iter();
        let budgets = limits.filter(|(_, limit)| {
            limit.when_ms + LIMITED_MS > at
                && match limit.reason {
                    Reason::Full | Reason::PairRate | Reason::Rate | Reason::Volume => true,
                    Reason::NotAdmitted | Reason::NotBound | Reason::IntroducesOnly => false,
                }
        });
        let told = budgets.filter_map(|(mailbox, limit)| {
            let node = net.name_of(self.relays.mailboxes.get(mailbox)?)?;
            let relay = limit.by.and_then(|by| self.relay_at(by));
            let reason = limit.reason;
            Some(Warning::RelayLimit {
                node,
                relay,
                reason,
            })
        });
        told.collect()
    }
}
