//! What happens in libp2p, in the core's words.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::{self, MessageAcceptance};
use libp2p::request_response::{self, InboundRequestId, Message, OutboundFailure};
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, mdns, relay};
use meshnode_protocol::link::{AnswerId, CallError, GossipId, LinkId, LinkInput, Service};
use meshnode_protocol::record::{ControlAddress, Transport};
use tokio::time::Instant;

use super::address;
use super::behaviour::LinksEvent;
use super::datagrams::Carrying;
use super::dial::Failed;
use super::guard::Source;
use super::roads::Road;
use super::state::{Link, Question, State};

type Said = request_response::Event<Vec<u8>, Vec<u8>>;

impl State {
    /// Takes one event of libp2p.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "libp2p's enum is open and tells much more"
    )]
    pub(super) fn on_event(&mut self, event: SwarmEvent<LinksEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.on_up(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                let link = self.links.remove(&connection_id);
                if let Some(link) = &link {
                    self.map.memory.ended(link.id);
                }
                if let Some(link) = link.filter(|link| !link.hidden) {
                    self.happened.push_back(LinkInput::Down {
                        link: link.id,
                        peer: link.key,
                    });
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => self.on_not_made(connection_id, &error),
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "A connection from outside was not made");
            }
            SwarmEvent::NewListenAddr { .. } | SwarmEvent::ExpiredListenAddr { .. } => {
                self.on_listening();
            }
            SwarmEvent::ListenerClosed { listener_id, .. } => {
                self.on_listening();
                self.on_listener_closed(listener_id);
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::debug!(%error, "A listener stumbled");
            }
            _ => {}
        }
    }

    fn on_not_made(&mut self, connection: ConnectionId, error: &DialError) {
        if !self.on_leg_failed(connection) {
            let end = self.dials.failed(&mut self.swarm, connection, error);
            self.end_dial(end);
        }
    }

    fn on_behaviour(&mut self, event: LinksEvent) {
        match event {
            LinksEvent::Join(said) => self.on_said(Service::Join, said),
            LinksEvent::Hello(said) => self.on_said(Service::Hello, said),
            LinksEvent::Sync(said) => self.on_said(Service::Sync, said),
            LinksEvent::Push(said) => self.on_said(Service::Push, said),
            LinksEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => self.on_gossip(propagation_source, message_id, message.data),
            LinksEvent::Dht(event) => self.on_dht(event),
            LinksEvent::Circuits(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                ..
            }) => self.on_reserved(&relay_peer_id, Instant::now()),
            LinksEvent::Relay(event) => self.on_served(&event),
            LinksEvent::Datagrams(Carrying { peer, circuit }) => {
                if let Some(peer) = address::transport_key(&peer) {
                    self.happened
                        .push_back(LinkInput::Carrying { peer, circuit });
                }
            }
            LinksEvent::Mdns(mdns::Event::Discovered(found)) => self.on_found(found),
            // A peer that is silent on the LAN may be well otherwise, and the other behaviours say nothing of use.
            LinksEvent::Mdns(mdns::Event::Expired(_))
            | LinksEvent::Gossip(_)
            | LinksEvent::Circuits(_)
            | LinksEvent::Identify(_) => {}
            LinksEvent::Limits(never) => match never {},
            LinksEvent::Guard(never) | LinksEvent::Pulse(never) => match never {},
        }
    }

    fn on_served(&mut self, event: &relay::Event) {
        if let relay::Event::ReservationReqAccepted { src_peer_id, .. } = event {
            self.clients.insert(*src_peer_id);
        } else if let relay::Event::ReservationClosed { src_peer_id } = event
            && !self.swarm.is_connected(src_peer_id)
        {
            self.clients.remove(src_peer_id);
        }
    }

    fn on_up(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let dial = self.dials.succeeded(&mut self.swarm, connection);
        let hidden = self.legs.take(&connection);
        let (Some(key), Some((by, remote))) = (address::transport_key(&peer), way(endpoint)) else {
            self.swarm.close_connection(connection);
            return;
        };
        // The core connected by itself while a first leg was on its way.
        if hidden && self.direct_link(&peer).is_some() {
            self.swarm.close_connection(connection);
            self.on_leg_up(peer);
            return;
        }
        let (id, now) = (LinkId(self.count()), Instant::now());
        self.links.insert(
            connection,
            Link {
                id,
                peer,
                key,
                remote,
                by,
                hidden,
                source: Source::new(remote.address.ip()),
                since: now,
                active: now,
            },
        );
        if let Some(road) = self.road(by, remote, endpoint) {
            self.map.memory.stands(id, key, road);
        }
        if !hidden {
            self.happened.push_back(LinkInput::Up {
                link: id,
                peer: key,
                remote,
                dial,
                by: by.as_ref().and_then(address::transport_key),
            });
        }
        if endpoint.is_listener() {
            self.close_dead(peer, now);
        }
        if by.is_none() {
            self.on_leg_up(peer);
        }
    }

    /// By which road a connection came about that this node, or its own call to the relay between, made.
    fn road(
        &self,
        by: Option<PeerId>,
        remote: ControlAddress,
        endpoint: &ConnectedPoint,
    ) -> Option<Road> {
        let memory = &self.map.memory;
        match by {
            Some(relay) => memory.of(self.direct_link(&relay)?.id),
            None if endpoint.is_dialer() && remote.transport == Transport::Tcp => {
                memory.last(remote.address, Instant::now())
            }
            None => None,
        }
    }

    /// Ends an attempt that failed, unless what it wanted stands already and the core only did not know.
    pub(super) fn end_dial(&mut self, end: Option<Failed>) {
        let Some(Failed {
            dial,
            expected,
            useless,
        }) = end
        else {
            return;
        };
        match expected.and_then(|peer| self.hidden(&peer)) {
            Some(connection) => self.show(connection, Some(dial)),
            None => self
                .happened
                .push_back(LinkInput::DialFailed { dial, useless }),
        }
    }

    /// Who calls is not connected, as far as it knows: its address changed, or it was killed. What stood before is dead
    /// and would take questions without an answer. Two that call each other at once are younger than that.
    fn close_dead(&mut self, peer: PeerId, now: Instant) {
        let dead: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| link.peer == peer)
            .filter(|(_, link)| now.duration_since(link.since) >= CROSSING_MAX)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in dead {
            self.swarm.close_connection(connection);
        }
    }

    fn on_said(&mut self, service: Service, said: Said) {
        match said {
            Said::Message {
                peer,
                connection_id,
                message,
            } => {
                self.touch(connection_id);
                match message {
                    Message::Request {
                        request_id,
                        request,
                        channel,
                    } => {
                        let question = Question {
                            service,
                            request: request_id,
                            channel,
                        };
                        self.on_question(peer, connection_id, question, request);
                    }
                    Message::Response {
                        request_id,
                        response,
                    } => {
                        self.on_answer(service, request_id, connection_id, Ok(response));
                    }
                }
            }
            Said::OutboundFailure {
                connection_id,
                request_id,
                error,
                ..
            } => {
                let error = call_error(&error);
                self.on_answer(service, request_id, connection_id, Err(error));
            }
            Said::InboundFailure {
                request_id, error, ..
            } => {
                tracing::debug!(%error, "A question got no answer");
                self.forget_question(service, request_id);
            }
            Said::ResponseSent { connection_id, .. } => self.touch(connection_id),
        }
    }

    fn on_question(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        question: Question,
        bytes: Vec<u8>,
    ) {
        if self.links.get(&connection).is_some_and(|link| link.hidden) {
            self.show(connection, None);
        }
        let service = question.service;
        let is_served = match service {
            Service::Join | Service::Hello | Service::Push => true,
            Service::Sync => self.swarm.behaviour().guard.is_trusted(&peer),
        };
        let Some(link) = self.links.get(&connection).filter(|_| is_served) else {
            tracing::debug!(%peer, reason = "not trusted", "A question is refused");
            return;
        };
        let (link, peer) = (link.id, link.key);
        let answer = AnswerId(self.count());
        self.questions.insert(answer, question);
        self.happened.push_back(LinkInput::Asked {
            answer,
            link,
            peer,
            service,
            bytes,
        });
    }

    fn on_answer(
        &mut self,
        service: Service,
        request: request_response::OutboundRequestId,
        connection: ConnectionId,
        result: Result<Vec<u8>, CallError>,
    ) {
        let Some(call) = self.calls.remove(&(service, request)) else {
            return;
        };
        let link = self.links.get(&connection).map(|link| link.id);
        self.happened
            .push_back(LinkInput::Answered { call, link, result });
    }

    fn forget_question(&mut self, service: Service, request: InboundRequestId) {
        self.questions
            .retain(|_, question| question.service != service || question.request != request);
    }

    fn on_gossip(&mut self, from: PeerId, id: gossipsub::MessageId, bytes: Vec<u8>) {
        let message = GossipId(self.count());
        self.messages.insert(message, (id, from));
        if self.messages.len() > MESSAGES_MAX
            && let Some((oldest, _)) = self.messages.first_key_value()
        {
            self.judge(*oldest, MessageAcceptance::Ignore);
        }
        let Some(from) = address::transport_key(&from).filter(|_| self.trusts(&from)) else {
            self.judge(message, MessageAcceptance::Ignore);
            return;
        };
        self.happened.push_back(LinkInput::Gossip {
            from,
            message,
            bytes,
        });
    }

    fn trusts(&self, peer: &PeerId) -> bool {
        self.swarm.behaviour().guard.is_trusted(peer)
    }

    fn on_found(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let mut peers: BTreeMap<PeerId, Vec<Multiaddr>> = BTreeMap::new();
        for (peer, address) in found {
            if peer != *self.swarm.local_peer_id() {
                peers.entry(peer).or_default().push(address);
            }
        }
        for (peer, addresses) in peers {
            let addresses = plain(addresses.iter());
            if let Some(peer) = address::transport_key(&peer).filter(|_| !addresses.is_empty()) {
                self.happened
                    .push_back(LinkInput::Found { peer, addresses });
            }
        }
    }

    fn on_listening(&mut self) {
        let mut all = listed(self.swarm.listeners());
        all.sort_unstable();
        all.dedup();
        if all != self.listening {
            self.listening.clone_from(&all);
            self.happened.push_back(LinkInput::Listening(all));
        }
    }
}

/// The relay between, and where the other end or that relay is.
fn way(endpoint: &ConnectedPoint) -> Option<(Option<PeerId>, ControlAddress)> {
    let address = match endpoint {
        ConnectedPoint::Dialer { address, .. } => address,
        ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => local_addr,
        ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
    };
    if let Some((relay, at)) = address::relay(address) {
        return Some((Some(relay), at));
    }
    Some((None, address::control_address(address)?))
}

/// The addresses that the core understands and another machine may reach, at most so many.
pub(super) fn plain<'a>(addresses: impl Iterator<Item = &'a Multiaddr>) -> Vec<ControlAddress> {
    let mut addresses = listed(addresses);
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

fn listed<'a>(addresses: impl Iterator<Item = &'a Multiaddr>) -> Vec<ControlAddress> {
    addresses
        .filter_map(address::control_address)
        .filter(address::is_worth_telling)
        .collect()
}

fn call_error(failure: &OutboundFailure) -> CallError {
    match failure {
        OutboundFailure::Timeout => CallError::TimedOut,
        OutboundFailure::DialFailure | OutboundFailure::ConnectionClosed => CallError::Broken,
        OutboundFailure::UnsupportedProtocols => CallError::Unsupported,
        // The stream ended before an answer, or with something that is none.
        OutboundFailure::Io(_) => CallError::Refused,
    }
}

/// How far apart two connections can stand that two peers made towards each other at once: a few round trips.
const CROSSING_MAX: Duration = Duration::from_secs(2);
/// Addresses of one peer from hearsay.
const ADDRESSES_MAX: usize = 16;
/// Gossip messages that wait for a verdict.
const MESSAGES_MAX: usize = 1024;
