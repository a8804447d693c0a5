//! The DHT: values put at and got from the nodes that the core named, and those of strangers kept for a while.

use std::collections::{BTreeMap, HashMap};

use libp2p::kad::{self, GetRecordOk, InboundRequest, QueryId, QueryResult, Quorum, Record};
use libp2p::{Multiaddr, PeerId};
use meshnode_protocol::id::TransportKey;
use meshnode_protocol::limits::LOCATOR_BYTES;
use meshnode_protocol::link::{LinkInput, LocatorKey};
use meshnode_protocol::record::ControlAddress;
use tokio::time::Instant;

use super::address;
use super::deposits::DEPOSIT_TIME;
use super::happenings::plain;
use super::leash::LeashEvent;
use super::state::State;

/// The questions that run: for which place, and how many values came.
pub(super) type Searches = HashMap<QueryId, (LocatorKey, usize)>;

impl State {
    pub(super) fn set_neighbours(&mut self, neighbours: &[(TransportKey, Vec<ControlAddress>)]) {
        let own = *self.swarm.local_peer_id();
        let named: BTreeMap<PeerId, Vec<Multiaddr>> = neighbours
            .iter()
            .take(NEIGHBOURS_MAX)
            .filter_map(|(key, addresses)| {
                let addresses = addresses.iter().take(ADDRESSES_MAX);
                Some((
                    address::peer_id(key)?,
                    addresses.map(address::multiaddr).collect(),
                ))
            })
            .filter(|(peer, _)| *peer != own)
            .collect();
        let dht = &mut self.swarm.behaviour_mut().dht;
        for peer in dht.name(named.clone()).keys() {
            dht.inner.remove_peer(peer);
        }
        for (peer, addresses) in named {
            for address in addresses {
                dht.inner.add_address(&peer, address);
            }
        }
    }

    pub(super) fn put(&mut self, place: LocatorKey, value: Vec<u8>) {
        let dht = &mut self.swarm.behaviour_mut().dht;
        let nodes: Vec<_> = dht.named().keys().copied().collect();
        let record = Record {
            key: kad::RecordKey::new(&place.0),
            value,
            publisher: None,
            expires: Some(Instant::now().into_std() + DEPOSIT_TIME),
        };
        dht.inner
            .put_record_to(record, nodes.into_iter(), Quorum::One);
    }

    pub(super) fn get(&mut self, place: LocatorKey) {
        if self.searches.len() >= SEARCHES_MAX {
            tracing::debug!(reason = "too many searches", "The DHT is not asked");
            return;
        }
        let dht = &mut self.swarm.behaviour_mut().dht.inner;
        let query = dht.get_record(kad::RecordKey::new(&place.0));
        self.searches.insert(query, (place, 0));
    }

    pub(super) fn on_dht(&mut self, event: LeashEvent<kad::Event>) {
        match event {
            LeashEvent::Sighted { peer, addresses } => self.on_sighted(peer, &addresses),
            LeashEvent::Inner(kad::Event::OutboundQueryProgressed {
                id, result, step, ..
            }) => self.on_search(id, result, step.last),
            LeashEvent::Inner(kad::Event::InboundRequest {
                request:
                    InboundRequest::PutRecord {
                        source,
                        connection,
                        record: Some(record),
                    },
            }) => {
                let Some(link) = self.links.get(&connection) else {
                    return;
                };
                let from = link.source;
                let deposits = self.swarm.behaviour_mut().dht.inner.store_mut();
                if let Err(error) = deposits.keep(record, source, from, Instant::now().into_std()) {
                    tracing::debug!(%error, "A value is not kept for a stranger");
                }
            }
            LeashEvent::Inner(_) => {}
        }
    }

    pub(super) fn expire_deposits(&mut self) {
        let deposits = self.swarm.behaviour_mut().dht.inner.store_mut();
        deposits.expire(Instant::now().into_std());
    }

    fn on_sighted(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        let addresses = plain(addresses.iter());
        if let Some(peer) = address::transport_key(&peer).filter(|_| !addresses.is_empty()) {
            self.happened
                .push_back(LinkInput::Sighted { peer, addresses });
        }
    }

    fn on_search(&mut self, id: QueryId, result: QueryResult, last: bool) {
        if let QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) = result
            && let Some((key, values)) = self.searches.get_mut(&id)
            && found.record.value.len() == LOCATOR_BYTES
            && *values < VALUES_MAX
        {
            *values += 1;
            self.happened.push_back(LinkInput::Got {
                key: *key,
                value: found.record.value,
            });
        }
        if last {
            self.searches.remove(&id);
        }
    }
}

/// DHT nodes that are used.
const NEIGHBOURS_MAX: usize = 16;
/// Addresses of one of them.
const ADDRESSES_MAX: usize = 4;
/// Questions at a time.
const SEARCHES_MAX: usize = 96;
/// Values that one question may bring: a liar gives one like everybody.
const VALUES_MAX: usize = NEIGHBOURS_MAX;
