//! What the core wants done.

use std::fmt::Write as _;

use libp2p::gossipsub::{IdentTopic, MessageAcceptance};
use libp2p::{Multiaddr, PeerId, kad};
use meshnode_protocol::id::TransportKey;
use meshnode_protocol::limits::GOSSIP_BYTES_MAX;
use meshnode_protocol::link::{AnswerId, CallError, CallId, LinkInput, LinkOutput, Service};

use super::address;
use super::state::State;

impl State {
    /// Does one thing.
    pub(super) fn obey(&mut self, order: LinkOutput) {
        match order {
            LinkOutput::Dial {
                dial,
                peer,
                addresses,
            } => {
                let peer = peer.as_ref().and_then(address::peer_id);
                let end = self.dials.start(&mut self.swarm, dial, peer, addresses);
                self.happened.extend(end);
            }
            LinkOutput::Ask {
                call,
                peer,
                service,
                bytes,
            } => self.ask(call, &peer, service, bytes),
            LinkOutput::Answer { answer, bytes } => self.answer(answer, bytes),
            // The peer's stream ends when its question is forgotten.
            LinkOutput::Refuse { answer } => drop(self.questions.remove(&answer)),
            LinkOutput::HangUp { peer } => self.with_peer(&peer, Self::hang_up),
            LinkOutput::Trust { peer, addresses } => {
                let addresses = addresses.iter().take(ADDRESSES_MAX).map(address::multiaddr);
                let addresses = addresses.collect();
                self.with_peer(&peer, |state, peer| state.trust(peer, addresses));
            }
            LinkOutput::Distrust { peer } => self.with_peer(&peer, Self::distrust),
            LinkOutput::Topic(topic) => self.set_topic(topic),
            LinkOutput::Publish(bytes) => self.publish(bytes),
            LinkOutput::Verdict { message, good } => {
                let acceptance = if good {
                    MessageAcceptance::Accept
                } else {
                    MessageAcceptance::Reject
                };
                self.judge(message, acceptance);
            }
            LinkOutput::Locate { peer } => self.with_peer(&peer, Self::locate),
        }
    }

    fn with_peer(&mut self, key: &TransportKey, act: impl FnOnce(&mut Self, PeerId)) {
        if let Some(peer) = address::peer_id(key) {
            act(self, peer);
        }
    }

    fn ask(&mut self, call: CallId, key: &TransportKey, service: Service, bytes: Vec<u8>) {
        let peer = address::peer_id(key).filter(|peer| self.swarm.is_connected(peer));
        let Some(peer) = peer else {
            let result = Err(CallError::Broken);
            self.happened.push_back(LinkInput::Answered {
                call,
                link: None,
                result,
            });
            return;
        };
        let request = self
            .swarm
            .behaviour_mut()
            .service(service)
            .send_request(&peer, bytes);
        self.calls.insert((service, request), call);
        let used: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| link.peer == peer)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in used {
            self.touch(connection);
        }
    }

    fn answer(&mut self, answer: AnswerId, bytes: Vec<u8>) {
        let Some(question) = self.questions.remove(&answer) else {
            return;
        };
        let asking = self.swarm.behaviour_mut().service(question.service);
        if asking.send_response(question.channel, bytes).is_err() {
            tracing::debug!(reason = "the peer waits no longer", "An answer is dropped");
        }
    }

    fn hang_up(&mut self, peer: PeerId) {
        if self.swarm.disconnect_peer_id(peer).is_err() {
            tracing::debug!(reason = "not connected", "There is nobody to hang up on");
        }
    }

    fn trust(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.forget_in_dht(&peer);
        self.trusted.insert(peer, addresses);
        let links = self.swarm.behaviour_mut();
        links.guard.trust(peer);
        links.gossip.set(peer, true);
        links.dht.set(peer, true);
        links.dht.inner.set_mode(Some(kad::Mode::Server));
        self.tell_dht(peer);
    }

    fn distrust(&mut self, peer: PeerId) {
        self.trusted.remove(&peer);
        let links = self.swarm.behaviour_mut();
        links.guard.distrust(&peer);
        links.gossip.set(peer, false);
        links.dht.set(peer, false);
        if !links.guard.has_trusted() {
            links.dht.inner.set_mode(Some(kad::Mode::Client));
        }
        self.forget_in_dht(&peer);
    }

    /// The DHT knows trusted peers while they are connected: what it tells others is fresh, or not told.
    pub(super) fn tell_dht(&mut self, peer: PeerId) {
        if !self.swarm.is_connected(&peer) {
            return;
        }
        for address in self.trusted.get(&peer).into_iter().flatten() {
            self.swarm
                .behaviour_mut()
                .dht
                .inner
                .add_address(&peer, address.clone());
        }
    }

    /// Takes a peer out of the DHT's table.
    pub(super) fn forget_in_dht(&mut self, peer: &PeerId) {
        self.swarm.behaviour_mut().dht.inner.remove_peer(peer);
    }

    fn set_topic(&mut self, topic: [u8; 32]) {
        let mut name = String::with_capacity(2 * topic.len());
        for byte in topic {
            write!(name, "{byte:02x}").expect("a string takes all that is written");
        }
        let topic = IdentTopic::new(name);
        if self
            .topic
            .as_ref()
            .is_some_and(|old| old.hash() == topic.hash())
        {
            return;
        }
        let gossip = &mut self.swarm.behaviour_mut().gossip.inner;
        if let Some(old) = &self.topic {
            gossip.unsubscribe(old);
        }
        if let Err(error) = gossip.subscribe(&topic) {
            tracing::warn!(%error, "The topic is not subscribed");
        }
        self.topic = Some(topic);
    }

    fn publish(&mut self, bytes: Vec<u8>) {
        let Some(topic) = &self.topic else { return };
        if bytes.len() > GOSSIP_BYTES_MAX {
            tracing::warn!(reason = "too long", "A gossip message is not published");
            return;
        }
        let gossip = &mut self.swarm.behaviour_mut().gossip.inner;
        // Nobody there to hear it is an ordinary state: the reconciler brings the rest.
        if let Err(error) = gossip.publish(topic.hash(), bytes) {
            tracing::debug!(%error, "A gossip message is not published");
        }
    }

    fn locate(&mut self, peer: PeerId) {
        if self.searches.len() >= SEARCHES_MAX {
            tracing::debug!(reason = "too many searches", "A peer is not searched");
            return;
        }
        let query = self.swarm.behaviour_mut().dht.inner.get_closest_peers(peer);
        self.searches.push((query, peer));
    }
}

/// Addresses of one peer that the DHT tells: as many as a record holds.
const ADDRESSES_MAX: usize = 10;
/// Searches at a time.
const SEARCHES_MAX: usize = 16;
