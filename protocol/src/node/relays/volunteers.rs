//! Relays that belong to no network: what admins say of them (`docs/protocol.md` §5.7).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::body::Caps;
use crate::codec::Ext;
use crate::id::{Digest, NodeId, TransportKey};
use crate::io::{CommandId, Refusal, RelayInfo, Reply};
use crate::limits::{RECORD_SEQ_MAX, RELAY_ADDRESSES_MAX};
use crate::name::NodeName;
use crate::node::Node;
use crate::node::net::Net;
use crate::path::is_probeable;
use crate::record::{ControlAddress, Record, RecordBody, RelayRecord, Transport};
use crate::time::{Moment, Timestamp};
use crate::wire::Items;

/// Volunteers that are used: the first by their keys.
const VOLUNTEERS_MAX: usize = 16;

/// A relay that an admin named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volunteer {
    pub(super) name: NodeName,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) by: NodeId,
}

impl Volunteer {
    /// Where its control plane listens: TCP at its port, QUIC one above.
    pub(super) fn control(&self) -> Vec<ControlAddress> {
        let at = |transport, address| ControlAddress { transport, address };
        let tcp = self.addresses.iter().map(|a| at(Transport::Tcp, *a));
        let quic = self.addresses.iter().filter_map(|address| {
            let port = address.port().checked_add(1)?;
            Some(at(Transport::Quic, (address.ip(), port).into()))
        });
        let mut control: Vec<_> = tcp.chain(quic).collect();
        control.sort_unstable();
        control
    }
}

/// What holds of two that say something of one relay: that which was said last, no later than now.
type Said = (u64, Digest);

impl Net {
    /// The relays that admins named, those that were removed left out.
    pub(super) fn volunteers(&self, wall: Timestamp) -> BTreeMap<TransportKey, Volunteer> {
        let mut said: BTreeMap<TransportKey, (Said, NodeId, &RelayRecord)> = BTreeMap::new();
        let members = self.view.members().values();
        let admins = members.filter(|member| {
            member.level.is_admin()
                && member.caps.contains(Caps::MEMBERS)
                && self.view.live(&member.id).is_some()
        });
        for admin in admins {
            for (record, relay) in self.ledger.records.relays(&admin.id) {
                let when = (record.seq().min(wall.ms()), record.digest());
                let held = said.get(&relay.transport);
                if held.is_none_or(|(other, ..)| *other < when) {
                    said.insert(relay.transport, (when, admin.id, relay));
                }
            }
        }
        let standing = said.into_iter().filter(|(_, (.., relay))| !relay.removed);
        let standing = standing.take(VOLUNTEERS_MAX);
        let volunteer = |by, relay: &RelayRecord| {
            let addresses = relay.addresses.iter().copied();
            let usable = |a: &SocketAddr| is_probeable(a) && !self.is_overlay(a.ip());
            Volunteer {
                name: relay.name.clone(),
                addresses: addresses.filter(usable).collect(),
                by,
            }
        };
        standing
            .map(|(key, (_, by, relay))| (key, volunteer(by, relay)))
            .collect()
    }
}

impl Node {
    pub(super) fn learn_volunteers(&mut self, now: Moment) {
        if let Some(net) = &self.net {
            let volunteers = net.volunteers(now.wall);
            if volunteers != self.relays.volunteers {
                self.relays.volunteers = volunteers;
                self.relays.touch();
            }
        }
    }

    /// Names a relay that belongs to no network.
    pub(in crate::node) fn add_relay(
        &mut self,
        command: CommandId,
        transport: TransportKey,
        name: &NodeName,
        addresses: &[SocketAddr],
        now: Moment,
    ) -> Result<(), Refusal> {
        self.require_admin()?;
        let own = TransportKey::new(self.keys.transport.public());
        let net = self.member_net()?;
        if transport == own || net.transports.contains_key(&transport) {
            return Err(Refusal::Limit(
                "a member carries by itself, without being added",
            ));
        }
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        addresses.dedup();
        let usable = addresses
            .iter()
            .all(|a| is_probeable(a) && !net.is_overlay(a.ip()));
        if addresses.is_empty() || addresses.len() > RELAY_ADDRESSES_MAX || !usable {
            return Err(Refusal::Limit(
                "a relay has one to four addresses outside the network",
            ));
        }
        let known = net.volunteers(now.wall);
        let mut others = known.iter().filter(|(key, _)| **key != transport);
        if others.any(|(_, other)| other.name == *name) {
            return Err(Refusal::NameTaken(name.clone()));
        }
        if known.len() >= VOLUNTEERS_MAX && !known.contains_key(&transport) {
            return Err(Refusal::Limit("a network uses at most 16 relays of others"));
        }
        let same = known.get(&transport);
        let same = same.is_some_and(|held| held.name == *name && held.addresses == addresses);
        if !same {
            let relay = RelayRecord {
                transport,
                name: name.clone(),
                addresses,
                removed: false,
                ext: Ext::NONE,
            };
            self.say_of_relay(relay, now)?;
        }
        self.reply(command, Reply::RelayChanged(!same));
        Ok(())
    }

    /// Uses a relay no more.
    pub(in crate::node) fn remove_relay(
        &mut self,
        command: CommandId,
        name: &NodeName,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.require_admin()?;
        let known = self.member_net()?.volunteers(now.wall);
        let mut known = known.into_iter();
        let (transport, volunteer) = known
            .find(|(_, held)| held.name == *name)
            .ok_or(Refusal::UnknownNode)?;
        let relay = RelayRecord {
            transport,
            name: volunteer.name,
            addresses: Vec::new(),
            removed: true,
            ext: Ext::NONE,
        };
        self.say_of_relay(relay, now)?;
        self.reply(command, Reply::RelayChanged(true));
        Ok(())
    }

    /// The relays that are used, or could be.
    pub(in crate::node) fn list_relays(
        &mut self,
        command: CommandId,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.member_net()?;
        let list = self.known_relays(now);
        self.reply(command, Reply::Relays(list));
        Ok(())
    }

    /// The relays that this node knows: those of the network, and members that it speaks to as relays.
    pub(in crate::node) fn known_relays(&self, now: Moment) -> Vec<RelayInfo> {
        let Some(net) = &self.net else {
            return Vec::new();
        };
        let known = net.volunteers(now.wall);
        let names: Vec<_> = known.values().map(|held| net.name_of(&held.by)).collect();
        let volunteers = known.into_iter().zip(names);
        let mut list: Vec<_> = volunteers
            .map(|((key, held), by)| self.relay_info(key, held.name, held.addresses, by))
            .collect();
        let clients = self.relays.clients.iter();
        for (key, client) in clients {
            let net = self.net.as_ref();
            let node = net.and_then(|net| net.transports.get(key).copied());
            let name = node.and_then(|node| net.and_then(|net| net.name_of(&node)));
            if let Some(name) = name {
                let addresses = client.addresses().to_vec();
                let mut info = self.relay_info(*key, name, addresses, None);
                info.member = node;
                list.push(info);
            }
        }
        list
    }

    fn relay_info(
        &self,
        key: TransportKey,
        name: NodeName,
        addresses: Vec<SocketAddr>,
        by: Option<NodeName>,
    ) -> RelayInfo {
        let client = self.relays.clients.get(&key);
        RelayInfo {
            key,
            name,
            addresses,
            by,
            member: None,
            home: self.relays.homes.contains(&key),
            bound: client.is_some_and(|client| client.is_bound()),
            rtt_us: client.and_then(|client| client.rtt_us()),
            refused: client.and_then(|client| client.refused()),
        }
    }

    /// Signs what this admin says of a relay, keeps it and tells it.
    fn say_of_relay(&mut self, relay: RelayRecord, now: Moment) -> Result<(), Refusal> {
        let me = self.id;
        let net = self.member_net()?;
        // Above whatever anybody said before, so that this is the last word.
        let admins = net.view.members().keys();
        let said = admins.flat_map(|admin| net.ledger.records.relays(admin));
        let said = said.filter(|(_, held)| held.transport == relay.transport);
        let last = said
            .filter(|(record, _)| record.slot().device == me || record.seq() <= now.wall.ms())
            .map(|(record, _)| record.seq())
            .max();
        let next = last.map_or(0, |last| last + 1);
        let seq = next.max(now.wall.ms()).min(RECORD_SEQ_MAX);
        let network = net.authority().network();
        let body = RecordBody::Relay(relay);
        let record = Record::sign(network, seq, body, &self.keys.device);
        let sealed = self.member_net()?.epochs.seal_record(record.bytes());
        self.take_record(record.bytes());
        if let Some(sealed) = sealed {
            self.spread(&Items {
                records: vec![sealed],
                ..Items::default()
            });
        }
        self.relays.round_within(0, now);
        self.learn_volunteers(now);
        Ok(())
    }
}
