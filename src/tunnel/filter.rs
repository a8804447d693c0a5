//! Which packets pass between this node and one peer: the first of a flow is judged by the policy, the others follow.
//!
//! Inbound this is the enforcement; outbound it only spares programs of this node a time-out. Whatever the policy says,
//! members reach each other's control plane: it proves by itself who is who, and news of the policy come by it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use meshnode_protocol::access::{Filter, number};
use meshnode_protocol::id::NodeId;
use meshnode_protocol::time::Moment;

use super::flows::{Direction, Flow, Flows, Key, Pool, Stage};
use super::packet::Packet;
use super::transport::{Content, Extent, Flags, Ports, Transport};

/// Datagrams in fragments that are remembered for one peer; a newer one takes the place of an older.
const FRAGMENTED_MAX: usize = 64;
/// How long the later fragments of a datagram may come (RFC 8200 §4.5: reassembly ends after 60 s).
const FRAGMENTED_MS: u64 = 60_000;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// The policy does not allow it.
    Denied,
    /// Its transport header cannot be read.
    Malformed,
}

/// Packets between this node and one peer that the policy did not allow, since the peer came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// From the peer: dropped without a word.
    pub inbound: u64,
    /// To the peer: refused to the program that sent them.
    pub outbound: u64,
}

/// What holds between this node and every peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// The TCP port of this node's control plane.
    pub(crate) control: Option<u16>,
    pub(crate) pool: Arc<Pool>,
}

/// The filter between this node and one peer.
#[derive(Debug)]
pub(crate) struct PeerFilter(Mutex<State>);

#[derive(Debug)]
struct State {
    rules: Rules,
    flows: Flows,
    fragmented: Fragmented,
    denied: Denied,
}

/// By what first packets are judged.
#[derive(Debug)]
struct Rules {
    filter: Arc<Filter>,
    device: NodeId,
    control: Option<u16>,
    /// The TCP port of the peer's control plane, as far as it was called.
    peer_control: Option<u16>,
}

impl PeerFilter {
    pub(crate) fn new(terms: &Terms, device: NodeId, filter: Arc<Filter>) -> Self {
        Self(Mutex::new(State {
            rules: Rules {
                filter,
                device,
                control: terms.control,
                peer_control: None,
            },
            flows: Flows::new(Arc::clone(&terms.pool)),
            fragmented: Fragmented::default(),
            denied: Denied::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("a thread that panics with a peer in hand ends the process")
    }

    /// Judges a packet whose addresses were checked, and remembers its flow when it passes.
    pub(crate) fn judge(&self, packet: &Packet<'_>, way: Direction, now: Moment) -> Verdict {
        let Some(transport) = Transport::parse(packet, Extent::Whole) else {
            return Verdict::Malformed;
        };
        let mut state = self.state();
        let passes = state.passes(packet, &transport, way, now.uptime_ms());
        // Where everything is allowed, nothing hangs on what is remembered.
        if passes || matches!(*state.rules.filter, Filter::Open) {
            return Verdict::Pass;
        }
        match way {
            Direction::In => state.denied.inbound += 1,
            Direction::Out => state.denied.outbound += 1,
        }
        Verdict::Denied
    }

    /// Takes another policy: flows that it does not allow end with this call, no packet of the others is lost.
    pub(crate) fn change(&self, filter: &Arc<Filter>) {
        let mut state = self.state();
        state.rules.filter = Arc::clone(filter);
        state.judge_again();
    }

    /// Which device the peer is; almost always the one that it was.
    pub(crate) fn identify(&self, device: NodeId) {
        let mut state = self.state();
        if state.rules.device != device {
            state.rules.device = device;
            state.judge_again();
        }
    }

    /// At which TCP port this node calls the peer's control plane.
    pub(crate) fn calls(&self, port: u16) {
        let mut state = self.state();
        if state.rules.peer_control != Some(port) {
            state.rules.peer_control = Some(port);
            state.judge_again();
        }
    }

    /// Lets time pass.
    pub(crate) fn tick(&self, now: Moment) {
        self.state().flows.expire(now.uptime_ms());
    }

    pub(crate) fn denied(&self) -> Denied {
        self.state().denied
    }
}

impl State {
    fn passes(
        &mut self,
        packet: &Packet<'_>,
        transport: &Transport<'_>,
        way: Direction,
        now_ms: u64,
    ) -> bool {
        let (local, remote) = ends(packet, way);
        let ports = |ports: Ports| match way {
            Direction::In => (ports.destination, ports.source),
            Direction::Out => (ports.source, ports.destination),
        };
        let flow = |(local_port, remote_port)| {
            Key::new(
                transport.protocol,
                (local, local_port),
                (remote, remote_port),
            )
        };
        let echo = |id, requests| Key::echo(transport.protocol, local, remote, id, requests);
        let (key, passes) = match transport.content {
            Content::Tcp(both, flags) => {
                let key = flow(ports(both));
                (key, self.tcp(key, flags, way, now_ms))
            }
            Content::Datagram(both) => {
                let key = flow(ports(both));
                (key, self.exchange(key, Stage::Asked, way, now_ms))
            }
            Content::EchoRequest(id) => {
                let key = echo(id, way);
                (key, self.exchange(key, Stage::Echo, way, now_ms))
            }
            Content::EchoReply(id) => {
                let key = echo(id, way.other());
                (key, self.follow(key, way, now_ms))
            }
            Content::Opaque => {
                let key = flow((0, 0));
                (key, self.exchange(key, Stage::Other, way, now_ms))
            }
            Content::Error(quote) => return self.belongs(quote, way, now_ms),
            // No answer can be told from a question, so each is judged by itself.
            Content::Message => return self.rules.allow(&flow((0, 0)), way),
            Content::Later => {
                let datagram = Datagram::new(transport, local, remote, way);
                let key = self.fragmented.flow_of(&datagram, now_ms);
                return key.is_some_and(|key| self.lives(&key, now_ms));
            }
        };
        if passes && transport.fragment.is_some() {
            let datagram = Datagram::new(transport, local, remote, way);
            self.fragmented.remember(datagram, key, now_ms);
        }
        passes
    }

    fn tcp(&mut self, key: Key, flags: Flags, way: Direction, now_ms: u64) -> bool {
        let known = self.flows.find(&key, now_ms);
        let Some((place, mut flow)) = known else {
            // A connection that the other end opened may be older than this table, and its next packet may be ours.
            let opened = if self.rules.allow(&key, way) {
                way
            } else if way == Direction::Out
                && flags.continues()
                && self.rules.allow(&key, Direction::In)
            {
                Direction::In
            } else {
                return false;
            };
            let mut flow = Flow::new(opened, Stage::Opening);
            flow.advance(flags, way);
            self.flows.open(key, flow);
            return true;
        };
        if flags.opens() && way != flow.opened {
            // The other end opens the same ports: what is allowed the other way round says nothing about that.
            if !self.rules.allow(&key, way) {
                return false;
            }
            if flow.ended || flow.stage == Stage::Closing {
                flow = Flow::new(way, Stage::Opening);
            }
        } else if flow.ended {
            // As long as an end holds the connection for open, it is not to come back.
            self.flows.renew(place, flow);
            return false;
        } else {
            flow.advance(flags, way);
        }
        self.flows.renew(place, flow);
        true
    }

    /// A packet of something that is asked and perhaps answered; `stage` is its first.
    ///
    /// Answers to what a policy ended cannot be told from questions: its ports rest for as long as its timeout.
    fn exchange(&mut self, key: Key, stage: Stage, way: Direction, now_ms: u64) -> bool {
        if self.flows.find(&key, now_ms).is_some() {
            return self.follow(key, way, now_ms);
        }
        let allowed = self.rules.allow(&key, way);
        if allowed {
            self.flows.open(key, Flow::new(way, stage));
        }
        allowed
    }

    /// Whether a packet belongs to a flow that is no TCP connection.
    fn follow(&mut self, key: Key, way: Direction, now_ms: u64) -> bool {
        let Some((place, mut flow)) = self.flows.find(&key, now_ms) else {
            return false;
        };
        if flow.ended {
            return false;
        }
        if flow.stage == Stage::Asked && way != flow.opened {
            flow.stage = Stage::Answered;
        }
        self.flows.renew(place, flow);
        true
    }

    /// Whether an ICMP error is about a packet that went the other way in a flow.
    fn belongs(&mut self, quote: &[u8], way: Direction, now_ms: u64) -> bool {
        let quoted = Packet::parse_quote(quote);
        let Some(quoted) = quoted else { return false };
        let Some(transport) = Transport::parse(&quoted, Extent::Quote) else {
            return false;
        };
        let way = way.other();
        let (local, remote) = ends(&quoted, way);
        let flow = |ports: Ports| {
            let (local_port, remote_port) = match way {
                Direction::In => (ports.destination, ports.source),
                Direction::Out => (ports.source, ports.destination),
            };
            Key::new(
                transport.protocol,
                (local, local_port),
                (remote, remote_port),
            )
        };
        let key = match transport.content {
            Content::Tcp(ports, _) | Content::Datagram(ports) => flow(ports),
            Content::EchoRequest(id) => Key::echo(transport.protocol, local, remote, id, way),
            Content::EchoReply(id) => Key::echo(transport.protocol, local, remote, id, way.other()),
            Content::Opaque => flow(Ports {
                source: 0,
                destination: 0,
            }),
            Content::Later => {
                let datagram = Datagram::new(&transport, local, remote, way);
                let Some(key) = self.fragmented.flow_of(&datagram, now_ms) else {
                    return false;
                };
                key
            }
            Content::Error(_) | Content::Message => return false,
        };
        self.lives(&key, now_ms)
    }

    fn lives(&mut self, key: &Key, now_ms: u64) -> bool {
        let known = self.flows.find(key, now_ms);
        known.is_some_and(|(_, flow)| !flow.ended)
    }

    /// A flow that ends stays in the table: its next packet from here would else open it anew, in this end's name.
    fn judge_again(&mut self) {
        let rules = &self.rules;
        let judge = |key: &Key, flow: &mut Flow| flow.ended = !rules.allow(key, flow.opened);
        self.flows.judge(judge);
    }
}

impl Rules {
    /// Whether the end from which packets go this `way` may open the flow.
    fn allow(&self, key: &Key, way: Direction) -> bool {
        let (port, control) = match way {
            Direction::In => (key.local_port, self.control),
            Direction::Out => (key.remote_port, self.peer_control),
        };
        if key.protocol == number::TCP && control == Some(port) {
            return true;
        }
        let port = match key.protocol {
            number::TCP | number::UDP | number::SCTP => Some(port),
            _ => None,
        };
        match way {
            Direction::In => self.filter.inbound(&self.device, key.protocol, port),
            Direction::Out => self.filter.outbound(&self.device, key.protocol, port),
        }
    }
}

impl Direction {
    const fn other(self) -> Self {
        match self {
            Self::In => Self::Out,
            Self::Out => Self::In,
        }
    }
}

/// The addresses of a packet: this node's, the peer's.
const fn ends(packet: &Packet<'_>, way: Direction) -> (IpAddr, IpAddr) {
    match way {
        Direction::In => (packet.destination(), packet.source()),
        Direction::Out => (packet.source(), packet.destination()),
    }
}

impl Flow {
    const fn new(opened: Direction, stage: Stage) -> Self {
        Self {
            opened,
            stage,
            answered: false,
            finished: [false; 2],
            ended: false,
        }
    }

    /// Follows a TCP connection (RFC 9293 §3.3.2), only as far as its timeout hangs on it.
    fn advance(&mut self, flags: Flags, way: Direction) {
        let opener = way == self.opened;
        if flags.rst() {
            self.stage = Stage::Closing;
        } else if flags.opens() && self.stage == Stage::Closing {
            // The same ports once more.
            *self = Self::new(self.opened, Stage::Opening);
        }
        self.answered |= !opener && !flags.rst();
        self.finished[usize::from(!opener)] |= flags.fin();
        let acknowledges = opener && flags.ack() && !flags.syn();
        if self.finished == [true; 2] {
            self.stage = Stage::Closing;
        } else if self.stage == Stage::Opening && self.answered && acknowledges {
            self.stage = Stage::Established;
        }
    }
}

/// Which datagram a fragment is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Datagram {
    local: IpAddr,
    remote: IpAddr,
    /// Part of the name in IPv4 alone (RFC 791 §3.2, RFC 8200 §4.5).
    protocol: Option<u8>,
    id: u32,
    way: Direction,
}

impl Datagram {
    /// The datagram of a packet that is a fragment.
    fn new(transport: &Transport<'_>, local: IpAddr, remote: IpAddr, way: Direction) -> Self {
        Self {
            local,
            remote,
            protocol: local.is_ipv4().then_some(transport.protocol),
            id: transport.fragment.unwrap_or_default(),
            way,
        }
    }
}

/// The datagrams whose first fragment passed, and their flows. A later fragment that overtakes the first is lost.
#[derive(Debug, Default)]
struct Fragmented(Vec<Option<(Datagram, Key, u64)>>);

impl Fragmented {
    fn remember(&mut self, datagram: Datagram, key: Key, now_ms: u64) {
        // Most peers never send a fragment.
        self.0.resize(FRAGMENTED_MAX, None);
        self.0[slot(&datagram)] = Some((datagram, key, now_ms));
    }

    fn flow_of(&self, datagram: &Datagram, now_ms: u64) -> Option<Key> {
        let (known, key, at) = self.0.get(slot(datagram)).copied().flatten()?;
        let fresh = now_ms.saturating_sub(at) < FRAGMENTED_MS;
        (known == *datagram && fresh).then_some(key)
    }
}

/// Numbers of datagrams mostly count up, so that neighbours are far apart.
const fn slot(datagram: &Datagram) -> usize {
    datagram.id as usize % FRAGMENTED_MAX
}

#[cfg(test)]
pub(crate) mod tests;
