//! What this node says of itself: its device records, signed when they say something new.

#[cfg(test)]
mod tests;

use crate::codec::Ext;
use crate::io::Mapped;
use crate::limits::{CANDIDATES_MAX, PARENTS_MAX, RECORD_SEQ_MAX};
use crate::node::Node;
use crate::path::is_public;
use crate::record::{
    Candidate, CandidateKind, ControlAddress, Endpoints, NodeRecord, Record, RecordBody,
    RecordKind, Tip, Transport,
};
use crate::time::Moment;
use crate::wire::Items;

/// How soon changed endpoints are published after the last time, milliseconds.
const ENDPOINTS_MS: u64 = 2000;
/// How long after its start a node that stands where its record says waits to say so again: by then its links stand,
/// so that gossip tells it to all, and it was told how it is seen from outside, so that it says it once.
/// In a small network nothing is to be saved, and the first answer may hang on it.
const RETURN_MS: u64 = 1500;
/// The same for each member, as far as that is less.
const RETURN_MEMBER_MS: u64 = 5;
/// How long the endpoints in a record rank as fresh, seconds.
const ENDPOINTS_TTL_S: u32 = 7200;
/// Between two Tips that say the same.
const TIP_EVERY_MS: u64 = 3_600_000;
/// How soon after a change of the authority an admin says what it knows.
const TIP_SOON_MS: u64 = 5000;

impl Node {
    pub(in crate::node) fn publish_node_record(&mut self, now: Moment) {
        let Some(net) = &self.net else { return };
        let network = net.authority().network();
        let record = self.node_record(&network);
        self.publish(RecordBody::Node(Box::new(record)), now);
    }

    /// What this node says of itself.
    pub(in crate::node) fn node_record(&self, network: &crate::id::NetworkId) -> NodeRecord {
        let mut keys = self.keys.clone();
        if let Some(coming) = &self.coming {
            keys.tunnel = coming.clone();
        }
        NodeRecord {
            transport: keys.transport_binding(network),
            tunnel: keys.tunnel_binding(network),
            tunnel_next: None,
            os: self.setup.os.clone(),
            version: self.setup.version.clone(),
            ext: Ext::NONE,
        }
    }

    /// Publishes a record of this node when it says something new.
    pub(in crate::node) fn publish(&mut self, body: RecordBody, now: Moment) {
        let me = self.id;
        let Some(net) = self.net.as_mut().filter(|net| net.is_open()) else {
            return;
        };
        if !net.ledger.names(&me) {
            return;
        }
        let kind = body.kind();
        let held = net.ledger.records.of(&me, kind);
        // The first endpoints of a life are published in any case: they tell the others that this node is back.
        let back = kind == RecordKind::ENDPOINTS && !net.published.contains_key(&kind);
        if !back && held.is_some_and(|record| *record.body() == body) {
            net.published.insert(kind, body);
            return;
        }
        let next = held.map_or(0, |record| record.seq() + 1);
        let seq = next.max(now.wall.ms()).min(RECORD_SEQ_MAX);
        let network = net.authority().network();
        let record = Record::sign(network, seq, body.clone(), &self.keys.device);
        net.published.insert(kind, body);
        let sealed = net.epochs.seal_record(record.bytes());
        self.take_record(record.bytes());
        self.note_keys([&me], now);
        if let Some(sealed) = sealed {
            self.spread(&Items {
                records: vec![sealed],
                ..Items::default()
            });
        }
    }

    /// Somebody showed a record of this node that it did not make in this life: a restored backup, or a clone.
    pub(in crate::node) fn defend_own_records(&mut self, now: Moment) {
        let Some(net) = &self.net else { return };
        let published: Vec<_> = net.published.values().cloned().collect();
        for body in published {
            self.publish(body, now);
        }
    }

    pub(in crate::node) fn own_control(&self) -> Vec<ControlAddress> {
        let overlay = |address: &ControlAddress| {
            self.net
                .as_ref()
                .is_some_and(|net| net.is_overlay(address.address.ip()))
        };
        let mapped = self.mapped.control.iter().map(|address| ControlAddress {
            transport: Transport::Tcp,
            address: *address,
        });
        // What leads here from outside is not cut off for one more address of the LAN.
        let mut control: Vec<_> = mapped.filter(|c| is_public(&c.address)).collect();
        let mut listening = self.listening.clone();
        listening.retain(|address| !overlay(address) && !control.contains(address));
        listening.sort_unstable();
        listening.dedup();
        control.extend(listening);
        control.truncate(CANDIDATES_MAX);
        control.sort_unstable();
        control.dedup();
        control
    }

    /// The router leads other outside addresses here than before, or none any more.
    pub(in crate::node) fn on_mapped(&mut self, mapped: Mapped, now: Moment) {
        if self.mapped != mapped {
            self.mapped = mapped;
            self.endpoints_changed(now);
        }
    }

    pub(in crate::node) fn endpoints_changed(&mut self, now: Moment) {
        if let Some(net) = &mut self.net {
            let soon = now.uptime_ms()
                + if net.published.contains_key(&RecordKind::ENDPOINTS) {
                    ENDPOINTS_MS / 8
                } else {
                    0
                };
            net.timers.endpoints_ms = Some(net.timers.endpoints_ms.map_or(soon, |at| at.min(soon)));
        }
    }

    pub(in crate::node) fn publish_endpoints(&mut self, now: Moment) {
        self.begin_at_home(now);
        self.announce_ways(now);
        if let Some(wait) = self.waits_to_return(now) {
            if let Some(net) = &mut self.net {
                net.timers.endpoints_ms = Some(wait);
            }
            return;
        }
        let Some(net) = &self.net else { return };
        let (nat, _) = net.paths.router(&self.interfaces);
        let tunnel = self.own_tunnel();
        let control = self.own_control();
        let endpoints = Endpoints {
            tunnel,
            control,
            nat,
            homes: self.relays.homes(),
            carries: self.carries(),
            ttl_s: ENDPOINTS_TTL_S,
            ext: Ext::NONE,
        };
        self.publish(RecordBody::Endpoints(endpoints), now);
    }

    /// Until when the first endpoints of a life are put off: the record of the last life still leads here.
    fn waits_to_return(&self, now: Moment) -> Option<u64> {
        let net = self.net.as_ref()?;
        let members = net.view.members().len() as u64;
        let until = net.opened_ms + RETURN_MS.min(members * RETURN_MEMBER_MS);
        let first = !net.published.contains_key(&RecordKind::ENDPOINTS);
        let held = net.ledger.records.endpoints(&self.id)?;
        let hosts = |tunnel: &[Candidate]| -> Vec<_> {
            let hosts = tunnel.iter().filter(|c| c.kind == CandidateKind::Host);
            hosts.map(|c| c.address).collect()
        };
        let stands = hosts(&self.own_tunnel()) == hosts(&held.tunnel);
        let heard = self.own_control();
        let heard = heard.iter().all(|own| held.control.contains(own));
        (first && stands && heard && now.uptime_ms() < until).then_some(until)
    }

    pub(in crate::node) fn publish_tip(&mut self, now: Moment) {
        let me = self.id;
        let Some(net) = self.net.as_mut().filter(|net| net.is_open()) else {
            return;
        };
        net.timers.tip_ms = Some(now.uptime_ms() + TIP_EVERY_MS);
        if !net.view.is_admin(&me) {
            return;
        }
        let mut heads = net.authority().heads();
        heads.truncate(PARENTS_MAX);
        let tip = Tip {
            heads,
            ops: u32::try_from(net.authority().op_count()).unwrap_or(u32::MAX),
            root: net.authority().realm().genesis,
            policy_base: net.view.policy().base,
            epoch: net.epochs.number(),
            time: now.wall,
            ext: Ext::NONE,
        };
        self.publish(RecordBody::Tip(Box::new(tip)), now);
    }

    /// The authority changed: an admin says soon what it knows now.
    pub(in crate::node) fn plan_tip(&mut self, now: Moment) {
        if let Some(net) = &mut self.net {
            let soon = now.uptime_ms() + TIP_SOON_MS;
            net.timers.tip_ms = Some(net.timers.tip_ms.map_or(soon, |at| at.min(soon)));
        }
    }
}
