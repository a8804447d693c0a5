//! The links' task: what it remembers, and the loop between libp2p and the core.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::PeerId;
use libp2p::gossipsub::{IdentTopic, MessageAcceptance, MessageId};
use libp2p::request_response::{InboundRequestId, OutboundRequestId, ResponseChannel};
use libp2p::swarm::ConnectionId;
use meshnode_protocol::id::TransportKey;
use meshnode_protocol::link::{AnswerId, CallId, GossipId, LinkId, LinkInput, LinkOutput, Service};
use meshnode_protocol::record::ControlAddress;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::behaviour::Links;
use super::dht::Searches;
use super::dial::Dials;
use super::guard::Source;
use super::homes::Homes;
use super::legs::Legs;
use super::roads::Map;

/// Everything that the task owns.
pub(super) struct State {
    pub(super) swarm: libp2p::Swarm<Links>,
    /// What the core has not taken yet; libp2p rests while there is something.
    pub(super) happened: VecDeque<LinkInput>,
    pub(super) links: BTreeMap<ConnectionId, Link>,
    pub(super) dials: Dials,
    pub(super) legs: Legs,
    pub(super) map: Map,
    pub(super) homes: Homes,
    /// Whom this node, as a relay, made reachable.
    pub(super) clients: BTreeSet<PeerId>,
    pub(super) calls: BTreeMap<(Service, OutboundRequestId), CallId>,
    pub(super) questions: BTreeMap<AnswerId, Question>,
    pub(super) messages: BTreeMap<GossipId, (MessageId, PeerId)>,
    pub(super) searches: Searches,
    pub(super) topic: Option<IdentTopic>,
    pub(super) listening: Vec<ControlAddress>,
    counted: u64,
}

/// A connection that stands.
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) peer: PeerId,
    pub(super) key: TransportKey,
    /// Where the other end is, or the relay between.
    pub(super) remote: ControlAddress,
    /// The relay between.
    pub(super) by: Option<PeerId>,
    /// Whether the core does not know of it.
    pub(super) hidden: bool,
    /// Where the other end is, as limits count it.
    pub(super) source: Source,
    pub(super) since: Instant,
    /// When a question or an answer last went over it.
    pub(super) active: Instant,
}

/// A question of a peer that waits for our answer.
pub(super) struct Question {
    pub(super) service: Service,
    pub(super) request: InboundRequestId,
    pub(super) channel: ResponseChannel<Vec<u8>>,
}

impl State {
    pub(super) fn new(swarm: libp2p::Swarm<Links>, map: Map) -> Self {
        Self {
            swarm,
            happened: VecDeque::new(),
            links: BTreeMap::new(),
            dials: Dials::default(),
            legs: Legs::default(),
            map,
            homes: Homes::default(),
            clients: BTreeSet::new(),
            calls: BTreeMap::new(),
            questions: BTreeMap::new(),
            messages: BTreeMap::new(),
            searches: Searches::default(),
            topic: None,
            listening: Vec::new(),
            counted: 0,
        }
    }

    /// Runs until the orders end or nobody listens to what happens.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<LinkOutput>,
        events: mpsc::Sender<LinkInput>,
    ) {
        let mut round = tokio::time::interval(STRANGERS_ROUND);
        loop {
            let due = self.homes.due();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => break,
                },
                permit = events.reserve(), if !self.happened.is_empty() => {
                    let Ok(permit) = permit else { break };
                    if let Some(input) = self.happened.pop_front() {
                        permit.send(input);
                    }
                }
                event = self.swarm.select_next_some(), if self.happened.is_empty() => {
                    self.on_event(event);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.tend_homes(Instant::now());
                }
                now = round.tick() => {
                    self.dismiss_strangers();
                    self.end_idle_legs(now);
                    self.end_needless_circuits(now);
                    self.expire_deposits();
                }
            }
        }
        self.close().await;
    }

    /// A number that was never used before.
    pub(super) const fn count(&mut self) -> u64 {
        self.counted += 1;
        self.counted
    }

    /// Notes that a connection is used.
    pub(super) fn touch(&mut self, connection: ConnectionId) {
        if let Some(link) = self.links.get_mut(&connection) {
            link.active = Instant::now();
        }
    }

    /// Ends a gossip message that nobody will judge.
    pub(super) fn judge(&mut self, message: GossipId, acceptance: MessageAcceptance) {
        if let Some((id, from)) = self.messages.remove(&message) {
            let gossip = &mut self.swarm.behaviour_mut().gossip.inner;
            gossip.report_message_validation_result(&id, &from, acceptance);
        }
    }

    fn dismiss_strangers(&mut self) {
        let now = Instant::now();
        let behaviour = self.swarm.behaviour();
        let overdue: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| !link.hidden && !self.homes.has(&link.peer))
            .filter(|(_, link)| !behaviour.guard.is_trusted(&link.peer))
            .filter(|(_, link)| {
                now.duration_since(link.active) >= STRANGER_IDLE_MAX
                    || now.duration_since(link.since) >= STRANGER_STAY_MAX
            })
            .map(|(connection, _)| *connection)
            .collect();
        for connection in overdue {
            tracing::debug!(reason = "untrusted for too long", "A stranger is sent away");
            self.swarm.close_connection(connection);
        }
    }

    /// Where a direct connection stands, a circuit is a burden for its relay. A moment later, for what is on its way.
    fn end_needless_circuits(&mut self, now: Instant) {
        let stands = |peer: &PeerId| {
            self.links.values().any(|link| {
                let is_direct = link.peer == *peer && link.by.is_none();
                is_direct && !link.hidden && now.duration_since(link.since) >= SETTLING_TIME
            })
        };
        let needless: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| link.by.is_some() && stands(&link.peer))
            .map(|(connection, _)| *connection)
            .collect();
        for connection in needless {
            self.swarm.close_connection(connection);
        }
    }

    async fn close(mut self) {
        let open: Vec<_> = self.links.keys().copied().collect();
        for connection in open {
            self.swarm.close_connection(connection);
        }
        let all_closed = async {
            while !self.links.is_empty() {
                let event = self.swarm.select_next_some().await;
                self.on_event(event);
                self.happened.clear();
            }
        };
        if tokio::time::timeout(CLOSE_TIME_MAX, all_closed)
            .await
            .is_err()
        {
            tracing::debug!(reason = "the peer does not answer", "A connection is cut");
        }
    }
}

/// How often strangers are looked at.
const STRANGERS_ROUND: Duration = Duration::from_secs(5);
/// How long a direct connection stands before the circuit beside it ends.
const SETTLING_TIME: Duration = Duration::from_secs(5);
/// How long a stranger may be silent: a join takes two round trips.
const STRANGER_IDLE_MAX: Duration = Duration::from_secs(20);
/// How long a stranger may stay, whatever it does.
const STRANGER_STAY_MAX: Duration = Duration::from_secs(90);
/// How long a good end may take.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);
