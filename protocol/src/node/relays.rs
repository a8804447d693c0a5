//! Relays, as this node uses them: which there are, at which it is at home, and which ways by them lead to whom
//! (`docs/protocol.md` §8.5).
//!
//! `choice` chooses the homes, `ways` the handles to the peers, `circuits` the same over the control plane, `carrying`
//! is what this node does for others, `volunteers` the relays that belong to no network.

mod carrying;
mod choice;
mod circuits;
#[cfg(test)]
mod tests;
mod volunteers;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use self::carrying::Told;
use self::choice::Challenge;
use self::circuits::Circuits;
use self::volunteers::Volunteer;
use super::Node;
use crate::id::{NodeId, TransportKey};
use crate::invite::Hint;
use crate::io::{CarryWish, Output};
use crate::limits::HOMES_MAX;
use crate::link::LinkOutput;
use crate::name::NodeName;
use crate::path::is_public;
use crate::peering::{Mailbox, Path};
use crate::relay::client::{Client, ClientEvent, Hold};
use crate::relay::frame::Reason;
use crate::time::Moment;

/// Relays that are spoken to at the same time.
const CLIENTS_MAX: usize = 32;
/// Between two comparisons of the relays.
const ROUND_MS: u64 = 300_000;
/// How long packets count as flowing after the last.
const FLOWING_MS: u64 = 10_000;
/// How soon after news of relays they are compared.
const ROUND_SOON_MS: u64 = 5000;
/// The same while this node is at home nowhere.
const ROUND_HOMELESS_MS: u64 = 50;

/// What a node knows of relays.
#[derive(Debug, Default)]
pub(super) struct Relays {
    wish: CarryWish,
    clients: BTreeMap<TransportKey, Client>,
    volunteers: BTreeMap<TransportKey, Volunteer>,
    /// The best first.
    homes: Vec<TransportKey>,
    challenge: Option<Challenge>,
    /// Relays that are compared in these minutes.
    compared: BTreeSet<TransportKey>,
    round_ms: u64,
    /// When homes were last weighed against others.
    weighed_ms: Option<u64>,
    /// Peers that somebody wants: since when, and when last.
    wanted: BTreeMap<NodeId, Wanted>,
    /// Peers that were heard by a relay: when last.
    met: BTreeMap<(NodeId, SocketAddr), u64>,
    /// Whose a mailbox is.
    mailboxes: BTreeMap<Mailbox, NodeId>,
    /// The handles that were told of each peer.
    ways: BTreeMap<NodeId, Vec<Path>>,
    /// What relays lost lately, for people.
    limits: BTreeMap<Mailbox, Limit>,
    circuits: Circuits,
    told: Told,
    /// Something changed that ways or homes follow from.
    touched: bool,
    /// Members changed: so does who may bind here, and whose a mailbox is.
    members_ms: Option<u64>,
    due_ms: Option<u64>,
}

/// A relay lost what goes to a peer.
#[derive(Clone, Copy, Debug)]
struct Limit {
    reason: Reason,
    by: Option<SocketAddr>,
    when_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    since_ms: u64,
    last_ms: u64,
}

impl Relays {
    pub(super) const fn poll_timeout(&self) -> Option<u64> {
        self.due_ms
    }

    /// The relays at which this node is to be found, the best first.
    pub(super) fn homes(&self) -> Vec<TransportKey> {
        self.homes.clone()
    }

    /// Whether somebody is a relay of others: it proves nothing, and its link is kept.
    pub(super) fn is_volunteer(&self, key: &TransportKey) -> bool {
        self.volunteers.contains_key(key)
    }

    /// Whether this node is at home where strangers can call.
    pub(super) fn meets_strangers(&self) -> bool {
        self.homes.iter().any(|home| self.place_of(home).is_some())
    }

    /// The name of a relay that admins named, and where a stranger can call it.
    pub(super) fn place_of(&self, key: &TransportKey) -> Option<(NodeName, Hint)> {
        let volunteer = self.volunteers.get(key)?;
        let mut addresses = volunteer.addresses.iter();
        let public = addresses.find(|address| is_public(address))?;
        let hint = Hint::parse(&public.to_string()).ok()?;
        Some((volunteer.name.clone(), hint))
    }

    /// Something may follow from what happened.
    pub(super) const fn touch(&mut self) {
        self.touched = true;
    }

    /// Compares soon, if a home is missing. Who has its homes compares by the clock alone: else one change would be
    /// everybody's occasion for another.
    fn look_for_homes(&mut self, now: Moment) {
        self.touched = true;
        match self.homes.len() {
            0 => self.round_within(ROUND_HOMELESS_MS, now),
            1 => self.round_within(ROUND_SOON_MS, now),
            _ => {}
        }
    }

    fn round_within(&mut self, ms: u64, now: Moment) {
        self.round_ms = self.round_ms.min(now.uptime_ms() + ms);
        self.touched = true;
    }

    fn next_due(&self) -> Option<u64> {
        let clients = self.clients.values().filter_map(Client::poll_timeout);
        let wanted = self.wanted.values().map(|wanted| wanted.due_ms());
        let round = Some(self.round_ms);
        let others = [round, self.members_ms, self.circuits.poll_timeout()];
        let others = others.into_iter().flatten();
        clients.chain(wanted).chain(others).min()
    }
}

impl Node {
    /// What this node carries for others.
    pub(super) fn set_carrying(&mut self, wish: CarryWish, now: Moment) {
        if std::mem::replace(&mut self.relays.wish, wish) != wish {
            self.relays.members_ms = Some(now.uptime_ms());
            self.relays.touch();
            self.endpoints_changed(now);
        }
    }

    /// Records of these devices are new.
    pub(super) fn relays_heard(&mut self, devices: &BTreeSet<NodeId>, now: Moment) {
        if !devices.iter().any(|device| *device != self.id) {
            return;
        }
        let settled = self.relays.homes.len() == HOMES_MAX;
        if !settled || devices.iter().any(|device| self.relays_concern(device)) {
            self.relays.look_for_homes(now);
        }
    }

    /// Whether relays or ways by them follow from a device's records now: it is a relay in use, or somebody wants it.
    fn relays_concern(&self, device: &NodeId) -> bool {
        let relays = &self.relays;
        let wanted = relays.wanted.contains_key(device) || relays.ways.contains_key(device);
        let client = |key| relays.clients.contains_key(&key);
        let net = self.net.as_ref();
        let key = net.and_then(|net| net.transport_key(net.view.members().get(device)?));
        wanted || key.is_some_and(client)
    }

    /// The view changed: who was put out is to be out of everything at once.
    pub(super) fn relays_follow_members(&mut self, now: Moment) {
        self.relays.members_ms = Some(now.uptime_ms());
        self.relays.touch();
    }

    /// This machine has other addresses.
    pub(super) fn relays_restart(&mut self, now: Moment) {
        for client in self.relays.clients.values_mut() {
            client.restart(now);
        }
        self.relays.round_within(ROUND_HOMELESS_MS, now);
    }

    /// Takes a word of a relay.
    pub(super) fn on_relay(&mut self, relay: SocketAddr, bytes: &[u8], now: Moment) {
        let transport = &self.keys.transport;
        for client in self.relays.clients.values_mut() {
            if client.addresses().contains(&relay) {
                client.on_word((relay, bytes), transport, now, &mut self.rng);
            }
        }
        self.relays.touch();
    }

    /// Does what is due.
    pub(super) fn relays_on_time(&mut self, now: Moment) {
        let at = now.uptime_ms();
        if !self.relays.touched && self.relays.due_ms.is_none_or(|due| due > at) {
            return;
        }
        let me = self.id;
        let net = self.net.as_ref();
        let open = net.is_some_and(|net| net.is_open() && !net.out && net.view.live(&me).is_some());
        if !open {
            self.forget_relays();
            return;
        }
        if self.relays.members_ms.is_some_and(|due| due <= at) {
            self.relays.members_ms = None;
            self.follow_members(now);
        }
        if self.relays.round_ms <= at {
            self.relays.round_ms = at + ROUND_MS;
            self.compare_relays(now);
        }
        self.want_circuits(now);
        self.choose_homes(now);
        self.hold_relays(now);
        self.tell_relays();
        for client in self.relays.clients.values_mut() {
            client.timeout(now, &mut self.rng);
        }
        self.carry_clients(now);
        self.choose_homes(now);
        self.hold_relays(now);
        self.tell_relays();
        self.tell_ways(now);
        self.relays.touched = false;
        self.relays.due_ms = self.relays.next_due();
    }

    /// Outside of a network there are no relays.
    fn forget_relays(&mut self) {
        if self.relays.told != Told::default() {
            let told = std::mem::take(&mut self.relays.told);
            self.untell_relays(&told);
        }
        self.relays = Relays {
            wish: self.relays.wish,
            ..Relays::default()
        };
        self.relays.round_ms = u64::MAX;
    }

    /// Speaks to whom there is a reason to speak to, and to nobody else.
    fn hold_relays(&mut self, now: Moment) {
        let mut holds: Vec<(TransportKey, Hold)> = Vec::new();
        let relays = &self.relays;
        holds.extend(relays.homes.iter().map(|home| (*home, Hold::Bound)));
        let flows = |wanted: &Wanted| wanted.last_ms + FLOWING_MS > now.uptime_ms();
        let lively = relays.wanted.values().any(flows);
        // While packets flow, the first home tells within a second when the router's address is another.
        let watched = relays.homes.first().filter(|_| lively);
        holds.extend(watched.map(|home| (*home, Hold::Used)));
        holds.extend(self.reached_by(now));
        let compared = relays.compared.iter();
        holds.extend(compared.map(|relay| (*relay, Hold::Measured)));
        let mut wanted: BTreeMap<TransportKey, Hold> = BTreeMap::new();
        for (relay, hold) in holds {
            if wanted.len() < CLIENTS_MAX || wanted.contains_key(&relay) {
                let held = wanted.entry(relay).or_insert(hold);
                *held = hold.max(*held);
            }
        }
        let clients = &mut self.relays.clients;
        clients.retain(|relay, _| wanted.contains_key(relay));
        for (relay, hold) in wanted {
            let addresses = self.relay_addresses(&relay);
            let clients = &mut self.relays.clients;
            if addresses.is_empty() {
                clients.remove(&relay);
                continue;
            }
            let client = clients.entry(relay);
            let client = client.or_insert_with(|| Client::new(relay, hold, now));
            client.set_addresses(&addresses, now);
            client.set_hold(hold, now);
        }
    }

    /// Tells the engine whose datagrams it is to take, before anything is sent there.
    fn tell_relays(&mut self) {
        let clients = self.relays.clients.values();
        let addresses: BTreeSet<_> = clients.flat_map(Client::addresses).copied().collect();
        let addresses: Vec<_> = addresses.into_iter().collect();
        if addresses != self.relays.told.relays {
            self.relays.told.relays.clone_from(&addresses);
            self.out.push_back(Output::Relays(addresses));
        }
    }

    /// Carries out what the clients want.
    fn carry_clients(&mut self, now: Moment) {
        let mut events = Vec::new();
        for client in self.relays.clients.values_mut() {
            let by = client.address();
            while let Some(event) = client.poll_event() {
                events.push((by, event));
            }
        }
        for (by, event) in events {
            match event {
                ClientEvent::Send(address, bytes) => {
                    let path = Path::to(address);
                    self.out.push_back(Output::Datagram { path, bytes });
                }
                ClientEvent::Bound(_) => {}
                ClientEvent::Seen(seen) => {
                    if let Some(by) = by {
                        self.relay_saw(by, seen, now);
                    }
                }
                ClientEvent::Limited(mailbox, reason) => {
                    self.on_limited(by, mailbox, reason, now);
                }
            }
        }
    }

    fn untell_relays(&mut self, told: &Told) {
        if !told.relays.is_empty() {
            self.out.push_back(Output::Relays(Vec::new()));
        }
        if told.carry.is_some() {
            self.out.push_back(Output::Carry(None));
            self.link(LinkOutput::Relaying(false));
        }
        if !told.homes.is_empty() {
            self.link(LinkOutput::Homes(Vec::new()));
        }
    }
}
