//! Whom this node calls, when, and where: members that are not connected, and those that called and fell silent.

use std::net::IpAddr;

use super::Node;
use super::links::GREET_MS;
use super::net::{Net, Phase};
use crate::id::{NodeId, TransportKey};
use crate::link::LinkOutput;
use crate::record::{ControlAddress, Transport};

/// Waits between calls to a member that does not answer; the last repeats.
const REDIAL_MS: [u64; 5] = [1000, 3000, 6000, 10_000, 10_000];
/// How long the greater of two gives the smaller to call it.
const POLITE_MS: u64 = 400;
/// Failed calls after which a member makes room for another.
const TRIES_IN_A_ROW: usize = 3;
/// Members that this node calls by itself.
const LINKS_WANTED_MAX: usize = 32;

/// When a member is called next.
#[derive(Debug, Default)]
pub(super) struct Redial {
    pub(super) at_ms: u64,
    pub(super) tries: usize,
    pub(super) dialing: bool,
    /// Whether it is among those that are called in these days.
    pub(super) wanted: bool,
}

impl Node {
    /// Opens the hello with members that called and then said nothing.
    pub(super) fn greet_silent(&mut self, at: u64) {
        let mut silent = Vec::new();
        for (key, peer) in &mut self.links.peers {
            if !peer.greeted && peer.since_ms + GREET_MS <= at {
                peer.greeted = true;
                let known = |net: &Net| net.transports.contains_key(key);
                if peer.device.is_none() && self.net.as_ref().is_some_and(known) {
                    silent.push(*key);
                }
            }
        }
        for peer in silent {
            self.say_hello(peer);
        }
    }

    /// Opens the hello with everybody who is connected: this node has just become a member.
    pub(super) fn greet_all(&mut self) {
        let unproven = self.links.peers.iter().filter(|(_, p)| p.device.is_none());
        let unproven: Vec<_> = unproven.map(|(key, _)| *key).collect();
        for peer in unproven {
            self.say_hello(peer);
        }
    }

    /// Calls members that are not connected.
    pub(super) fn redial(&mut self, at: u64) {
        if std::mem::take(&mut self.links.unsettled) {
            self.choose_whom_to_call(at);
        }
        let due = self.links.redials.iter();
        let due = due.filter(|(_, r)| r.wanted && !r.dialing && r.at_ms <= at);
        let due: Vec<_> = due.map(|(key, _)| *key).collect();
        for peer in due {
            let device = self.net.as_ref().and_then(|n| n.transports.get(&peer));
            let (Some(device), Some(redial)) = (device.copied(), self.links.redials.get_mut(&peer))
            else {
                continue;
            };
            redial.plan(at);
            self.links.unsettled = true;
            let tries = redial.tries;
            let addresses = self.control_addresses(&device);
            if addresses.is_empty() || tries.is_multiple_of(6) {
                self.link(LinkOutput::Locate { peer });
            }
            if !addresses.is_empty() {
                if let Some(redial) = self.links.redials.get_mut(&peer) {
                    redial.dialing = true;
                }
                self.call(Some(peer), addresses);
            }
        }
    }

    /// Chooses members to call: in an order that differs from node to node, so that calls spread over the network;
    /// those that failed some times in a row make room for others.
    fn choose_whom_to_call(&mut self, at: u64) {
        let Some(net) = self.net.as_ref().filter(|net| net.phase_dials()) else {
            return;
        };
        let me = self.id;
        let redials = &mut self.links.redials;
        redials.retain(|key, _| net.transports.contains_key(key));
        let own = TransportKey::new(self.keys.transport.public());
        let mut candidates: Vec<_> = net
            .transports
            .iter()
            .filter(|(key, device)| {
                **device != me && net.serves(device) && !self.links.peers.contains_key(key)
            })
            .map(|(key, device)| {
                let tries = redials.get(key).map_or(0, |redial| redial.tries);
                (tries / TRIES_IN_A_ROW, rank(&own, key), *key, *device)
            })
            .collect();
        candidates.sort_unstable();
        let trusted = self.links.peers.values().filter(|peer| peer.trusted);
        candidates.truncate(LINKS_WANTED_MAX.saturating_sub(trusted.count()));
        for redial in redials.values_mut() {
            redial.wanted = false;
        }
        // Of two that could call each other the smaller calls first; the other gives it a moment.
        let polite = |device: &NodeId| if *device > me { 0 } else { POLITE_MS };
        for (_, _, key, device) in candidates {
            let redial = redials.entry(key).or_insert_with(|| Redial {
                at_ms: at + polite(&device),
                ..Redial::default()
            });
            redial.wanted = true;
        }
    }

    /// Where a member's control plane listens, by its record and by this LAN's announcements.
    pub(super) fn control_addresses(&self, device: &NodeId) -> Vec<ControlAddress> {
        let Some(net) = &self.net else {
            return Vec::new();
        };
        let endpoints = net.ledger.records.endpoints(device);
        let mut addresses: Vec<_> = endpoints
            .map(|endpoints| endpoints.control.clone())
            .unwrap_or_default()
            .into_iter()
            .filter(|address| !net.is_overlay(address.address.ip()))
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

impl Redial {
    /// Counts a try and plans the next.
    pub(super) fn plan(&mut self, at: u64) {
        self.at_ms = at + REDIAL_MS[self.tries.min(REDIAL_MS.len() - 1)];
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
