//! What the core wants done.

use std::fmt::Write as _;

use libp2p::PeerId;
use libp2p::gossipsub::{IdentTopic, MessageAcceptance};
use meshnode_protocol::id::TransportKey;
use meshnode_protocol::limits::GOSSIP_BYTES_MAX;
use meshnode_protocol::link::{AnswerId, CallError, CallId, LinkInput, LinkOutput, Service};

use super::state::State;
use super::{address, circuits};

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
                self.end_dial(end);
            }
            LinkOutput::DialBy {
                dial,
                peer,
                relay,
                addresses,
            } => self.dial_by(dial, &peer, &relay, &addresses),
            LinkOutput::Homes(homes) => self.set_homes(homes),
            LinkOutput::Relaying(serves) => self.serve(serves),
            LinkOutput::Carry { peer, wanted } => self.with_peer(&peer, |state, peer| {
                let links = state.swarm.behaviour_mut();
                links.datagrams.inner.want(peer, wanted);
            }),
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
            LinkOutput::Trust { peer } => self.with_peer(&peer, Self::trust),
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
            LinkOutput::Neighbours(neighbours) => self.set_neighbours(&neighbours),
            LinkOutput::Put { key, value } => self.put(key, value),
            LinkOutput::Get { key } => self.get(key),
        }
    }

    /// Who was served and is no more must hear of it: libp2p has no word for that, so its connections end.
    fn serve(&mut self, serves: bool) {
        circuits::serve(&mut self.swarm.behaviour_mut().relay.inner, serves);
        if !serves {
            for peer in std::mem::take(&mut self.clients) {
                self.hang_up(peer);
            }
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

    fn trust(&mut self, peer: PeerId) {
        let links = self.swarm.behaviour_mut();
        links.guard.trust(peer);
        links.gossip.set(peer, true);
        links.relay.set(peer, true);
        links.datagrams.set(peer, true);
    }

    fn distrust(&mut self, peer: PeerId) {
        let links = self.swarm.behaviour_mut();
        links.guard.distrust(&peer);
        links.gossip.set(peer, false);
        links.relay.set(peer, false);
        links.datagrams.set(peer, false);
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
}
