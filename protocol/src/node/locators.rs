//! Where members are when nobody tells: each puts its sealed addresses into the DHT, and asks for those of members that
//! it cannot reach (`docs/protocol.md` §7.9).
//!
//! The DHT is strangers with public addresses. No member is ever one of a node's DHT nodes: a DHT node tells everybody
//! whom else it knows, and that would be the list of members. Who can reach a member needs no locator from it: it gets
//! the records themselves.

use std::collections::BTreeMap;

use super::Node;
use crate::body::Level;
use crate::id::{NodeId, TransportKey};
use crate::link::{LinkOutput, LocatorKey};
use crate::locator::{Locator, day_of};
use crate::node::net::Net;
use crate::path::{is_probeable, is_public};
use crate::record::{ControlAddress, Record, RecordKind};
use crate::time::Moment;

/// DHT nodes that are remembered.
const NEIGHBOURS_MAX: usize = 16;
/// Addresses of one of them.
const ADDRESSES_MAX: usize = 4;
/// Between two puts of the same addresses; half of what a DHT node keeps them for.
const PUT_EVERY_MS: u64 = 3_600_000;
/// Likewise for a node that reaches nobody: its own way to the DHT nodes may be new, and a put is not acknowledged.
const PUT_ALONE_MS: u64 = 30_000;
/// Between two puts, whatever changed.
const PUT_GAP_MS: u64 = 5000;
/// How long answers about a member are waited for.
const SOUGHT_MS: u64 = 20_000;
/// Places that are asked about at a time.
const SOUGHT_MAX: usize = 96;
/// Epochs whose locators are looked at: the newest, and the one before for a member that does not hold that yet.
const EPOCHS_SOUGHT: usize = 2;

/// What this node knows of the DHT, and has said and asked there.
#[derive(Debug, Default)]
pub(super) struct Locators {
    neighbours: BTreeMap<TransportKey, Neighbour>,
    /// The links have not heard of the neighbours of now.
    changed: bool,
    put: Option<Put>,
    due_ms: Option<u64>,
    sought: BTreeMap<LocatorKey, Sought>,
}

#[derive(Debug)]
struct Neighbour {
    addresses: Vec<ControlAddress>,
    /// Whether it was connected once, and so is what it was said to be.
    met: bool,
}

/// What was put last.
#[derive(Debug)]
struct Put {
    at_ms: u64,
    /// Sequence number of the record, and epoch. `None` when neighbours came that do not have it.
    what: Option<(u64, u32)>,
}

#[derive(Debug)]
struct Sought {
    device: NodeId,
    locator: Locator,
    until_ms: u64,
}

impl Locators {
    pub(super) const fn poll_timeout(&self) -> Option<u64> {
        self.due_ms
    }

    /// A connection stands: the peer has the key that it was said to have.
    pub(super) fn met(&mut self, peer: &TransportKey) {
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.met = true;
        }
    }

    /// Remembers a DHT node. One that was never met makes room, one that was met does not: who announces many keys on
    /// a LAN must not drive the good ones out.
    fn remember(&mut self, peer: TransportKey, addresses: Vec<ControlAddress>) {
        if let Some(known) = self.neighbours.get_mut(&peer) {
            if known.addresses != addresses {
                known.addresses = addresses;
                self.changed = true;
            }
            return;
        }
        if self.neighbours.len() >= NEIGHBOURS_MAX {
            let unmet = self.neighbours.iter().find(|(_, known)| !known.met);
            let Some(unmet) = unmet.map(|(key, _)| *key) else {
                return;
            };
            self.neighbours.remove(&unmet);
        }
        let neighbour = Neighbour {
            addresses,
            met: false,
        };
        self.neighbours.insert(peer, neighbour);
        self.changed = true;
    }

    /// When the own locator is due.
    fn plan(&self, what: (u64, u32), every_ms: u64, at: u64) -> u64 {
        match &self.put {
            None => at,
            Some(put) if put.what == Some(what) => put.at_ms + every_ms,
            Some(put) => put.at_ms + PUT_GAP_MS,
        }
    }
}

impl Node {
    /// Somebody may be a DHT node: this LAN announced it, or another DHT node told of it.
    pub(super) fn on_sighted(&mut self, peer: TransportKey, addresses: &[ControlAddress]) {
        let own = TransportKey::new(self.keys.transport.public());
        let net = self.net.as_ref();
        let overlay =
            |address: &ControlAddress| net.is_some_and(|net| net.is_overlay(address.address.ip()));
        let mut public: Vec<_> = addresses
            .iter()
            .filter(|a| is_probeable(&a.address) && is_public(&a.address) && !overlay(a))
            .copied()
            .collect();
        public.sort_unstable();
        public.dedup();
        public.truncate(ADDRESSES_MAX);
        if peer != own && !public.is_empty() {
            self.locators.remember(peer, public);
        }
    }

    pub(super) fn locators_on_time(&mut self, now: Moment) {
        let at = now.uptime_ms();
        self.locators
            .sought
            .retain(|_, sought| sought.until_ms > at);
        self.locators.due_ms = None;
        let Some(net) = self.net.as_ref().filter(|net| net.is_open()) else {
            return;
        };
        let locators = &mut self.locators;
        let before = locators.neighbours.len();
        locators
            .neighbours
            .retain(|key, _| !net.transports.contains_key(key));
        if std::mem::take(&mut locators.changed) || locators.neighbours.len() != before {
            if let Some(put) = &mut locators.put {
                put.what = None;
            }
            let told = locators.neighbours.iter();
            let told = told.map(|(key, known)| (*key, known.addresses.clone()));
            let told = LinkOutput::Neighbours(told.collect());
            self.link(told);
        }
        self.put_own_locator(now);
    }

    /// Puts this node's addresses where members will look for them, when they changed or grow old there.
    fn put_own_locator(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let Some(net) = self.net.as_ref() else { return };
        let Some(record) = net.ledger.records.of(&self.id, RecordKind::ENDPOINTS) else {
            return;
        };
        if self.locators.neighbours.is_empty() {
            return;
        }
        let what = (record.seq(), net.epochs.number());
        let every_ms = match net.isolated_ms {
            Some(_) => PUT_ALONE_MS,
            None => PUT_EVERY_MS,
        };
        let due = self.locators.plan(what, every_ms, at);
        if due > at {
            self.locators.due_ms = Some(due);
            return;
        }
        let day = self.today(net, now);
        let locator = net.epochs.locators(self.id, day).next();
        let put = locator.and_then(|locator| {
            let value = locator.seal(record.bytes())?;
            let key = locator.key();
            Some(LinkOutput::Put { key, value })
        });
        self.locators.put = Some(Put {
            at_ms: at,
            what: Some(what),
        });
        self.locators.due_ms = Some(at + every_ms);
        if let Some(put) = put {
            self.link(put);
        }
    }

    /// Asks the DHT for a member that does not answer where it was last.
    pub(super) fn seek(&mut self, device: &NodeId, now: Moment) {
        let Some(net) = self.net.as_ref() else { return };
        let locators = &self.locators;
        let asked = locators.sought.values().any(|s| s.device == *device);
        let way = net.paths.peer(device);
        let reached = way.is_some_and(|way| way.active().is_some() && !way.is_suspect());
        if locators.neighbours.is_empty() || asked || reached {
            return;
        }
        let today = self.today(net, now);
        // A clock that is off by hours, and a locator that was put before midnight.
        let days = [today, today.saturating_sub(1), today.saturating_add(1)];
        let wanted: Vec<_> = days
            .into_iter()
            .flat_map(|day| net.epochs.locators(*device, day).take(EPOCHS_SOUGHT))
            .collect();
        if locators.sought.len() + wanted.len() > SOUGHT_MAX {
            return;
        }
        for locator in wanted {
            let key = locator.key();
            let sought = Sought {
                device: *device,
                locator,
                until_ms: now.uptime_ms() + SOUGHT_MS,
            };
            if self.locators.sought.insert(key, sought).is_none() {
                self.link(LinkOutput::Get { key });
            }
        }
    }

    /// A DHT node gave something. It counts if the member that was asked for signed it.
    pub(super) fn on_got(&mut self, key: &LocatorKey, value: &[u8]) {
        let (Some(net), Some(sought)) = (&self.net, self.locators.sought.get(key)) else {
            return;
        };
        let device = sought.device;
        let network = net.authority().network();
        let record = sought.locator.open(value);
        let record = record.and_then(|bytes| Record::parse(&bytes, &network).ok());
        let Some(record) = record else { return };
        let slot = record.slot();
        let held = net.ledger.records.of(&device, RecordKind::ENDPOINTS);
        let news = held.is_none_or(|held| held.seq() < record.seq());
        if slot.device != device || slot.kind != RecordKind::ENDPOINTS || !news {
            return;
        }
        let member = net.view.members().get(&device);
        let transport = member.and_then(|member| net.transport_key(member));
        self.take_record(record.bytes());
        if let Some(transport) = transport {
            self.links.hurry(&transport);
        }
    }

    /// The day by the network's idea of the time: a clock in 1970 would look in the wrong place.
    fn today(&self, net: &Net, now: Moment) -> u32 {
        day_of(now.wall.max(net.newest_tip(Level::MEMBER, now.wall)))
    }
}

#[cfg(test)]
mod tests;
