//! The control network: dialing, connections, questions and answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use meshnode_protocol::id::TransportKey;
use meshnode_protocol::link::{
    AnswerId, CallError, CallId, DialId, LinkId, LinkInput, LinkOutput, Service,
};
use meshnode_protocol::record::{ControlAddress, Transport};

use crate::chance::{below, permille};
use crate::machine::MachineId;
use crate::network::{Network, PORT, QUIC_PORT};
use crate::world::{Event, World};

/// How long a question waits for its answer.
const CALL_US: u64 = 10_000_000;
/// How long a dial into nowhere takes to fail.
const DIAL_US: u64 = 5_000_000;
/// When a connection whose other end fell silent is given up.
const SILENCE_US: u64 = 15_000_000;
/// Within which time a connection that is to break does.
const BREAK_US: u64 = 300_000_000;
/// What TCP, noise and yamux add to a message, roughly.
const FRAME_BYTES: u64 = 80;

/// Connections and open questions.
#[derive(Debug, Default)]
pub(crate) struct Control {
    next: u64,
    connections: BTreeMap<u64, Connection>,
    by_end: BTreeMap<MachineId, BTreeMap<TransportKey, Way>>,
    questions: BTreeMap<u64, Question>,
    calls: BTreeMap<(MachineId, CallId), u64>,
}

#[derive(Debug)]
struct Connection {
    ends: [MachineId; 2],
    /// The relay whose circuit it is.
    by: Option<MachineId>,
}

/// The connections of one machine with one other.
#[derive(Debug)]
struct Way {
    other: MachineId,
    numbers: BTreeSet<u64>,
}

#[derive(Debug)]
struct Question {
    connection: u64,
    asker: MachineId,
    call: CallId,
    service: Service,
}

/// A connection to be.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) dialer: MachineId,
    pub(crate) life: u32,
    pub(crate) dial: DialId,
    pub(crate) listener: MachineId,
    pub(crate) address: ControlAddress,
    pub(crate) by: Option<MachineId>,
}

impl Control {
    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn between(&self, machine: MachineId, peer: &TransportKey) -> Option<u64> {
        let way = self.by_end.get(&machine)?.get(peer)?;
        way.numbers.first().copied()
    }

    /// The machine at the other end of a connection with a peer.
    pub(crate) fn other_end(&self, machine: MachineId, peer: &TransportKey) -> Option<MachineId> {
        Some(self.by_end.get(&machine)?.get(peer)?.other)
    }

    /// The keys of all peers that a machine is connected with, and which machines they are.
    pub(crate) fn peers(
        &self,
        machine: MachineId,
    ) -> impl Iterator<Item = (&TransportKey, MachineId)> {
        let peers = self.by_end.get(&machine).into_iter().flatten();
        peers.map(|(peer, way)| (peer, way.other))
    }
}

impl World {
    pub(crate) fn carry_link(&mut self, id: MachineId, output: LinkOutput) {
        match output {
            LinkOutput::Dial {
                dial,
                peer,
                addresses,
            } => self.dial(id, dial, peer, &addresses),
            LinkOutput::Ask {
                call,
                peer,
                service,
                bytes,
            } => self.ask(id, call, &peer, service, bytes),
            LinkOutput::Answer { answer, bytes } => self.answer(id, answer, Ok(bytes)),
            LinkOutput::Refuse { answer } => self.answer(id, answer, Err(CallError::Refused)),
            LinkOutput::HangUp { peer } => {
                while let Some(connection) = self.control.between(id, &peer) {
                    self.close(connection, Some(id));
                }
            }
            LinkOutput::Trust { peer } => {
                self.machine_mut(id).trusted.insert(peer);
            }
            LinkOutput::Distrust { peer } => {
                self.machine_mut(id).trusted.remove(&peer);
            }
            LinkOutput::Topic(topic) => self.machine_mut(id).topic = Some(topic),
            LinkOutput::Publish(bytes) => self.publish(id, bytes),
            LinkOutput::Verdict { message, good } => self.verdict(id, message, good),
            LinkOutput::DialBy {
                dial, peer, relay, ..
            } => self.dial_by(id, dial, peer, relay),
            LinkOutput::Homes(homes) => self.reserve(id, homes),
            LinkOutput::Relaying(relaying) => self.machine_mut(id).relaying = relaying,
            LinkOutput::Carry { peer, wanted } => self.stream(id, peer, wanted),
            // No stranger lives in this world, so there is no DHT.
            LinkOutput::Neighbours(_) => {}
            LinkOutput::Put { .. } | LinkOutput::Get { .. } => {
                let name = self.machine(id).name.clone();
                self.fail(format!("{name} uses a DHT that nobody told it of"));
            }
        }
    }

    fn dial(
        &mut self,
        id: MachineId,
        dial: DialId,
        peer: Option<TransportKey>,
        addresses: &[ControlAddress],
    ) {
        let place = self.machine(id).place;
        let mut best: Option<(u64, MachineId, ControlAddress)> = None;
        let mut useless = false;
        for address in addresses {
            let Some(listener) = self.listener(id, address) else {
                continue;
            };
            if listener == id || peer.is_some_and(|peer| peer != self.machine(listener).key) {
                useless = true;
                continue;
            }
            let site = self.machine(listener).place.site;
            let delay = self
                .network
                .stream_delay_us(place.site, site, &mut self.rng);
            if best.is_none_or(|(other, _, _)| delay < other) {
                best = Some((delay, listener, *address));
            }
        }
        match best {
            Some((delay, listener, address)) => {
                let life = self.machine(id).life;
                let established = Established {
                    dialer: id,
                    life,
                    dial,
                    listener,
                    address,
                    by: None,
                };
                self.after(3 * delay, Event::Established(Box::new(established)));
            }
            None => {
                let delay = if useless { 50_000 } else { DIAL_US };
                self.link_after(delay, id, LinkInput::DialFailed { dial, useless });
            }
        }
    }

    /// The running machine that a dial to an address reaches.
    pub(crate) fn listener(&self, from: MachineId, address: &ControlAddress) -> Option<MachineId> {
        let place = self.machine(from).place;
        let port = match address.transport {
            Transport::Tcp => PORT,
            Transport::Quic => QUIC_PORT,
        };
        let IpAddr::V4(v4) = address.address.ip() else {
            return self.through_the_tunnel(from, address.address.ip());
        };
        let found = if v4.is_private() {
            self.network.resident(place.site, v4)
        } else {
            self.network.public_resident(v4).map(|(_, machine)| machine)
        };
        let other = self.machine(found?);
        let reaches = other.node.is_some() && other.place.group == place.group;
        found.filter(|_| reaches && address.address.port() == port)
    }

    /// Whom an overlay address reaches: both engines must know the way.
    fn through_the_tunnel(&self, from: MachineId, address: IpAddr) -> Option<MachineId> {
        let has = |id: MachineId, address: IpAddr| self.machine(id).routes(address);
        let own = IpAddr::V6(self.machine(from).interface.as_ref()?.ipv6);
        let other = *self.overlay.get(&address)?;
        let near = self.hear_each_other(from, other) && self.machine(other).interface.is_some();
        (near && has(from, address) && has(other, own)).then_some(other)
    }

    pub(crate) fn establish(&mut self, established: Established) {
        let Established {
            dialer,
            life,
            dial,
            listener,
            address,
            by,
        } = established;
        if self.machine(dialer).life != life {
            return;
        }
        let stands = match by {
            None => self.listener(dialer, &address) == Some(listener),
            Some(relay) => self.joins(relay, dialer, listener),
        };
        if !stands {
            let failed = LinkInput::DialFailed {
                dial,
                useless: false,
            };
            self.link_after(DIAL_US, dialer, failed);
            return;
        }
        let number = self.control.number();
        let ends = [dialer, listener];
        let keys = ends.map(|end| self.machine(end).key);
        let connection = Connection { ends, by };
        self.control.connections.insert(number, connection);
        for (end, peer, other) in [(dialer, keys[1], listener), (listener, keys[0], dialer)] {
            let peers = self.control.by_end.entry(end).or_default();
            let numbers = BTreeSet::new();
            let way = peers.entry(peer).or_insert(Way { other, numbers });
            way.numbers.insert(number);
        }
        if permille(&mut self.rng, self.network.faults.broken_connections) {
            let delay = below(&mut self.rng, BREAK_US);
            self.after(delay, Event::Severed(number));
        }
        let remote = match by {
            None => self.caller_seen(dialer, listener, address.transport),
            Some(_) => address,
        };
        let by = by.map(|relay| self.machine(relay).key);
        let link = LinkId(number);
        let mut ups = [
            (dialer, keys[1], address, Some(dial)),
            (listener, keys[0], remote, None),
        ];
        // Which end hears of it first is a matter of chance.
        if permille(&mut self.rng, 500) {
            ups.reverse();
        }
        for (end, peer, remote, dial) in ups {
            let up = LinkInput::Up {
                link,
                peer,
                remote,
                dial,
                by,
            };
            self.link_after(0, end, up);
        }
    }

    /// Where a caller seems to be to the one that it called.
    fn caller_seen(
        &self,
        dialer: MachineId,
        listener: MachineId,
        transport: Transport,
    ) -> ControlAddress {
        let caller = self.machine(dialer).place;
        let near = caller.site == self.machine(listener).place.site;
        let seen = if near || self.network.is_public(caller.site) {
            caller.address
        } else {
            Network::router(caller.site)
        };
        ControlAddress {
            transport,
            address: (seen, 50_000).into(),
        }
    }

    /// Ends a connection; the end that did so hears of it first.
    fn close(&mut self, number: u64, by: Option<MachineId>) {
        let Some(connection) = self.control.connections.remove(&number) else {
            return;
        };
        let [a, b] = connection.ends;
        for (end, other) in [(a, b), (b, a)] {
            let peer = self.machine(other).key;
            let peers = self.control.by_end.entry(end).or_default();
            if let Some(way) = peers.get_mut(&peer) {
                way.numbers.remove(&number);
                if way.numbers.is_empty() {
                    peers.remove(&peer);
                }
            }
            let sites = (self.machine(end).place.site, self.machine(other).place.site);
            let delay = if by == Some(end) {
                0
            } else {
                self.network
                    .stream_delay_us(sites.0, sites.1, &mut self.rng)
            };
            let link = LinkId(number);
            self.link_after(delay, end, LinkInput::Down { link, peer });
        }
        let broken: Vec<_> = self
            .control
            .questions
            .iter()
            .filter(|(_, question)| question.connection == number)
            .map(|(answer, _)| *answer)
            .collect();
        for answer in broken {
            if let Some(question) = self.control.questions.remove(&answer) {
                self.end_call(&question, Err(CallError::Broken), 0);
            }
        }
    }

    pub(crate) fn sever(&mut self, number: u64) {
        self.close(number, None);
    }

    /// Ends all connections of a machine that stopped: at once when its system says so, later when it fell silent.
    pub(crate) fn drop_connections(&mut self, id: MachineId, told: bool) {
        let numbers: Vec<_> = self
            .control
            .connections
            .iter()
            .filter(|(_, connection)| connection.ends.contains(&id) || connection.by == Some(id))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            if told {
                self.close(number, Some(id));
            } else {
                let delay = SILENCE_US + below(&mut self.rng, SILENCE_US / 2);
                self.after(delay, Event::Severed(number));
            }
        }
    }

    /// Ends all connections across a partition, when each is found to be silent.
    pub(crate) fn drop_cut_connections(&mut self) {
        let cut: Vec<_> = self
            .control
            .connections
            .iter()
            .filter(|(_, c)| !self.hear_each_other(c.ends[0], c.ends[1]))
            .map(|(number, _)| *number)
            .collect();
        for number in cut {
            let delay = SILENCE_US / 2 + below(&mut self.rng, SILENCE_US);
            self.after(delay, Event::Severed(number));
        }
    }

    pub(crate) fn hear_each_other(&self, a: MachineId, b: MachineId) -> bool {
        self.machine(a).place.group == self.machine(b).place.group
    }

    fn count(&mut self, id: MachineId, bytes: usize) {
        let sent = &mut self.machine_mut(id).sent;
        sent.control_bytes += bytes as u64 + FRAME_BYTES;
        sent.messages += 1;
    }

    fn ask(
        &mut self,
        id: MachineId,
        call: CallId,
        peer: &TransportKey,
        service: Service,
        bytes: Vec<u8>,
    ) {
        let connection = self.control.between(id, peer);
        let other = self.control.other_end(id, peer);
        let (Some(connection), Some(other)) = (connection, other) else {
            let answered = LinkInput::Answered {
                call,
                link: None,
                result: Err(CallError::Broken),
            };
            self.link_after(0, id, answered);
            return;
        };
        self.count(id, bytes.len());
        let bytes = self.distort(id, service, bytes, true);
        let number = self.control.number();
        let question = Question {
            connection,
            asker: id,
            call,
            service,
        };
        self.control.questions.insert(number, question);
        self.control.calls.insert((id, call), number);
        let life = self.machine(id).life;
        self.after(CALL_US, Event::CallTimeout(id, life, call));
        if self.hear_each_other(id, other) {
            let sites = (self.machine(id).place.site, self.machine(other).place.site);
            let delay = self
                .network
                .stream_delay_us(sites.0, sites.1, &mut self.rng);
            let asked = LinkInput::Asked {
                answer: AnswerId(number),
                link: LinkId(connection),
                peer: self.machine(id).key,
                service,
                bytes,
            };
            self.link_after(delay, other, asked);
        }
    }

    fn answer(&mut self, id: MachineId, answer: AnswerId, result: Result<Vec<u8>, CallError>) {
        let Some(question) = self.control.questions.get(&answer.0) else {
            return;
        };
        let (asker, service, connection) = (question.asker, question.service, question.connection);
        if !self.hear_each_other(id, asker) {
            return;
        }
        self.count(id, result.as_ref().map_or(0, Vec::len));
        let torn = self.network.faults.torn_answers;
        if torn > 0 && permille(&mut self.rng, torn) {
            self.close(connection, None);
            return;
        }
        let result = result.map(|bytes| self.distort(id, service, bytes, false));
        let sites = (self.machine(id).place.site, self.machine(asker).place.site);
        let delay = self
            .network
            .stream_delay_us(sites.0, sites.1, &mut self.rng);
        if let Some(question) = self.control.questions.remove(&answer.0) {
            self.end_call(&question, result, delay);
        }
    }

    fn end_call(&mut self, question: &Question, result: Result<Vec<u8>, CallError>, delay_us: u64) {
        let Question {
            connection,
            asker,
            call,
            ..
        } = question;
        self.control.calls.remove(&(*asker, *call));
        let answered = LinkInput::Answered {
            call: *call,
            link: Some(LinkId(*connection)),
            result,
        };
        self.link_after(delay_us, *asker, answered);
    }

    pub(crate) fn time_out(&mut self, id: MachineId, life: u32, call: CallId) {
        if self.machine(id).life != life {
            return;
        }
        let number = self.control.calls.get(&(id, call)).copied();
        if let Some(question) = number.and_then(|n| self.control.questions.remove(&n)) {
            self.end_call(&question, Err(CallError::TimedOut), 0);
        }
    }
}
