//! What the engine does to packets, one step at a time and without device, sockets and threads: for benches alone.
//!
//! Every step is the engine's own code and asserts what came of it, so that nothing else is ever measured.

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use meshnode_protocol::access::{Access, Allow, Filter, Ports, number};
use meshnode_protocol::id::{NodeId, WireGuardKey};
use meshnode_protocol::identity::Secret;
use meshnode_protocol::peering::{Path, PeerConfig, Roaming};
use meshnode_protocol::time::{Moment, Timestamp};

use super::device::Offloads;
use super::filter::{PeerFilter, Terms, Verdict};
use super::flows::Direction;
use super::merge::{Added, Merge};
use super::offload::{Cut, VNET_BYTES, Vnet};
use super::packet::Packet;
use super::peer::{Content, Identity, Message, OVERHEAD, Peer, Sent};
use super::router::Router;
use super::split::{PADDING_MAX, Split};

/// Bytes of an inner packet, of its headers, and of its payload.
const PACKET: usize = 1420;
const HEADERS: usize = 40;
const SEGMENT: usize = PACKET - HEADERS;

/// Bytes of the longest packet that a device hands over, and packets that it is cut into.
const WHOLE: usize = 65_535;
const CUT: usize = (WHOLE - HEADERS).div_ceil(SEGMENT);
/// Packets that are merged.
const MERGED: usize = 45;

/// Flows that a filter remembers before it is measured.
const FLOWS: u16 = 10_000;
/// Steps that change what they work on; so many new flows still fit beside [`FLOWS`] without a larger table.
const STEPS_MAX: u16 = 4000;
/// Devices that a policy knows.
const DEVICES: u16 = 1000;

/// The first port of a program that opens flows.
const PORT: u16 = 1024;
/// What the first rule of a policy allows, and the last.
const FIRST: u16 = 22;
const LAST: u16 = 443;

/// TCP flags.
const SYN: u8 = 2;
const ACK: u8 = 16;

const HERE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);

/// Nothing here hangs on time.
const NOW: Moment = Moment {
    uptime_us: 1_000_000,
    wall: Timestamp::from_ms(1_700_000_000_000),
};

/// Does a [`Work`] once.
pub type Step = Box<dyn FnMut()>;

/// One thing that the engine does to packets.
pub struct Work {
    /// What it is called, in one word.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Packets that one step is for.
    pub packets: u32,
    /// How often a step may be taken before it must be prepared anew; `None`: for ever.
    pub steps_max: Option<u32>,
    prepare: Box<dyn Fn() -> Step>,
}

impl Work {
    fn new(name: &'static str, what: &'static str, prepare: impl Fn() -> Step + 'static) -> Self {
        Self {
            name,
            what,
            packets: 1,
            steps_max: None,
            prepare: Box::new(prepare),
        }
    }

    /// Of so many packets in each step.
    fn packets(mut self, packets: usize) -> Self {
        self.packets = u32::try_from(packets).expect("a train is short");
        self
    }

    /// That uses up what was prepared.
    fn ending(mut self) -> Self {
        self.steps_max = Some(STEPS_MAX.into());
        self
    }

    /// Everything that the first step needs.
    #[must_use]
    pub fn prepare(&self) -> Step {
        (self.prepare)()
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({})", self.name)
    }
}

/// All that is measured, in the order of a packet's way.
#[must_use]
pub fn works() -> Vec<Work> {
    let known = |rules| move || known_flow(rules);
    let new = |rules| move || new_flow(rules);
    vec![
        Work::new("route-out/1", "peer of an address, of 1", || route_out(1)),
        Work::new("route-out/1000", "of 1 000 peers", || route_out(1000)),
        Work::new("known-flow/0", "known flow, no policy", known(0)),
        Work::new("known-flow/100", "under 100 rules", known(100)),
        Work::new("known-flow/10000", "under 10 000 rules", known(10_000)),
        Work::new("new-flow/0", "new flow, no policy", new(0)).ending(),
        Work::new("new-flow/100", "under 100 rules", new(100)).ending(),
        Work::new("new-flow/10000", "under 10 000 rules", new(10_000)).ending(),
        Work::new("split", "cut of a 64 KiB stream", split).packets(CUT),
        Work::new("seal", "seal, 1420 bytes", seal),
        Work::new("route-in/1", "peer of a session, of 1", || route_in(1)),
        Work::new("route-in/1000", "of 1 000 peers", || route_in(1000)),
        Work::new("open", "open, 1420 bytes", open).ending(),
        Work::new("merge", "merge of 45", merge).packets(MERGED),
    ]
}

/// A packet of a TCP connection from the peer to this node, with room for padding behind it. Its checksums are left to
/// whoever cuts it.
fn tcp(ports: (u16, u16), flags: u8, payload: usize) -> Vec<u8> {
    let total = u16::try_from(HEADERS + payload).expect("at most 64 KiB");
    let mut bytes = vec![0x45, 0];
    bytes.extend_from_slice(&total.to_be_bytes());
    // The number, and that fragments are forbidden; then the checksum.
    bytes.extend_from_slice(&[0, 1, 0x40, 0, 64, number::TCP, 0, 0]);
    bytes.extend_from_slice(&THERE.octets());
    bytes.extend_from_slice(&HERE.octets());
    bytes.extend_from_slice(&ports.0.to_be_bytes());
    bytes.extend_from_slice(&ports.1.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    // Any bytes that are not all the same.
    bytes.extend((0..payload).map(|at| (at % 251) as u8));
    bytes.resize(bytes.len() + PADDING_MAX, 0);
    bytes
}

/// How the host asks for a stream to be cut.
const VNET: Vnet = Vnet {
    cut: Cut::TcpV4(SEGMENT as u16),
    ..Vnet::PLAIN
};

/// The first packets of a stream, complete, each of [`PACKET`] bytes.
fn packets(count: usize) -> Vec<Vec<u8>> {
    let mut bytes = tcp((PORT, LAST), ACK, count * SEGMENT);
    let length = bytes.len() - PADDING_MAX;
    let split = Split::new(&mut bytes, length, VNET, PACKET);
    let mut split = split.expect("a stream can be cut");
    assert_eq!(split.count(), count);
    let mut packet = |number| {
        let packet = split.packet(number);
        split.padded(packet, 0, <[u8]>::to_vec)
    };
    (0..count).map(&mut packet).collect()
}

fn split() -> Step {
    let mut bytes = tcp((PORT, LAST), ACK, WHOLE - HEADERS);
    let headers = bytes[..HEADERS].to_vec();
    Box::new(move || {
        // The first packet's headers were written over.
        bytes[..HEADERS].copy_from_slice(&headers);
        let split = Split::new(&mut bytes, WHOLE, VNET, PACKET);
        let mut split = split.expect("a stream can be cut");
        assert_eq!(split.count(), CUT);
        for number in 0..CUT {
            let packet = split.packet(number);
            let length = packet.len();
            split.padded(packet, length, |packet| {
                black_box(packet);
            });
        }
    })
}

fn merge() -> Step {
    let packets = packets(MERGED);
    let mut merge = Merge::new(Offloads::All);
    Box::new(move || {
        for packet in &packets {
            assert!(merge.takes(1, PACKET + OVERHEAD));
            // In the place of the library, which opens it there.
            merge.place()[..PACKET].copy_from_slice(packet);
            if merge.add(PACKET) == Added::Apart {
                merge.begin(1, PACKET);
            }
        }
        let merged = merge.finish().expect("packets were added");
        assert_eq!(merged.count, MERGED);
        assert_eq!(
            merged.with_header().len(),
            VNET_BYTES + HEADERS + MERGED * SEGMENT
        );
        black_box(merged.with_header());
    })
}

fn path(last: u8) -> Path {
    Path::to(SocketAddr::from(([192, 0, 2, last], 4000)))
}

fn config(key: [u8; 32]) -> PeerConfig {
    PeerConfig {
        key: WireGuardKey::new(key),
        device: devices()[0],
        allowed_ips: Vec::new(),
        roaming: Roaming::Follow,
        keepalive_s: 25,
        probe_tag: None,
    }
}

fn peer(own: &Identity, index: u32, key: [u8; 32]) -> Peer {
    let filter = PeerFilter::new(&Terms::default(), devices()[0], Arc::new(Filter::Open));
    Peer::new(own, index, &config(key), filter)
}

/// Which data message a datagram is.
fn data(datagram: &[u8]) -> Message {
    let index = datagram[4..8].try_into().expect("four bytes");
    Message::Data(u32::from_le_bytes(index))
}

/// Two peers with a session, made by a handshake through memory: the first has begun it and can seal.
fn session() -> (Peer, Peer) {
    fn reply(content: Content<'_>) -> Vec<u8> {
        match content {
            Content::Reply(bytes) => bytes.to_vec(),
            Content::Nothing | Content::Packet(_) | Content::Refused => {
                unreachable!("an honest handshake is answered")
            }
        }
    }
    let (own, other) = (Identity::new([1; 32]), Identity::new([2; 32]));
    let from = peer(&own, 1, other.public.to_bytes());
    let to = peer(&other, 2, own.public.to_bytes());
    let (mut begun, mut out) = ([0; 256], [0; 256]);
    let begun = from.set_path(Some(path(2)), &mut begun, NOW);
    let (_, initiation) = begun.expect("a peer that is kept alive is called");
    let received = to.open(Message::Initiation, initiation, path(1), &mut out, NOW);
    let response = reply(received.content);
    let received = from.open(Message::Response, &response, path(2), &mut out, NOW);
    let keepalive = reply(received.content);
    let received = to.open(data(&keepalive), &keepalive, path(1), &mut out, NOW);
    assert!(received.session);
    (from, to)
}

fn seal() -> Step {
    let (from, _) = session();
    let packet = packets(1).remove(0);
    let mut out = vec![0; PACKET + OVERHEAD];
    Box::new(move || {
        let sent = from.seal(&packet, PACKET, &mut out, NOW);
        let whole = matches!(sent, Sent::Datagram(_, bytes) if bytes.len() == PACKET + OVERHEAD);
        assert!(whole);
    })
}

fn open() -> Step {
    let (from, to) = session();
    let packet = packets(1).remove(0);
    let mut out = vec![0; PACKET + OVERHEAD];
    // A session takes each once, so each is sealed anew.
    let mut sealed = || match from.seal(&packet, PACKET, &mut out, NOW) {
        Sent::Datagram(_, bytes) => bytes.to_vec(),
        Sent::Waits | Sent::NoPath(_) => unreachable!("there is a session and a path"),
    };
    let datagrams: Vec<_> = (0..STEPS_MAX).map(|_| sealed()).collect();
    let mut datagrams = datagrams.into_iter();
    let mut room = vec![0; PACKET + OVERHEAD];
    Box::new(move || {
        let datagram = datagrams.next().expect("no more steps than datagrams");
        let received = to.open(data(&datagram), &datagram, path(1), &mut room, NOW);
        assert!(matches!(received.content, Content::Packet(bytes) if bytes.len() == PACKET));
    })
}

/// The address of the peer of a number.
fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::new(100, 64, 1, 0).to_bits() + number).into()
}

fn router(count: u32) -> Router {
    let own = Identity::new([1; 32]);
    (0..count).fold(Router::default(), |router, number| {
        let mut key = [9; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let peer = Arc::new(peer(&own, number, key));
        router.with(peer, vec![address(number)], None)
    })
}

/// Numbers below a count, each once before any comes again, and not in order.
fn turns(count: u32) -> impl FnMut() -> u32 {
    let mut number = 0;
    move || {
        number = (number + 617) % count;
        number
    }
}

fn route_out(count: u32) -> Step {
    let router = router(count);
    let mut next = turns(count);
    Box::new(move || {
        let number = next();
        let peer = router.by_address(black_box(address(number)));
        assert!(peer.is_some_and(|peer| peer.index() == number));
    })
}

fn route_in(count: u32) -> Step {
    let router = router(count);
    let mut next = turns(count);
    Box::new(move || {
        let number = next();
        let peer = router.by_receiver(black_box(number << 8));
        let peer = peer.expect("every number is a peer's");
        assert!(router.owns(peer, black_box(address(number))));
    })
}

/// The devices of a network; the first is the peer's.
fn devices() -> &'static [NodeId] {
    static DEVICE: LazyLock<Vec<NodeId>> = LazyLock::new(|| {
        let device = |number: u16| {
            let mut seed = [0; 32];
            seed[..2].copy_from_slice(&number.to_be_bytes());
            NodeId::new(Secret::from_seed(&seed).public())
        };
        (0..DEVICES).map(device).collect()
    });
    &DEVICE
}

/// A policy with so many rules for the peer's device: the first allows [`FIRST`], the last [`LAST`]. Without rules,
/// none.
fn policy(rules: u16) -> Arc<Filter> {
    let Some(between) = rules.checked_sub(2) else {
        return Arc::new(Filter::Open);
    };
    let ports = (0..between).map(|number| 10_000 + number);
    let ports = [FIRST].into_iter().chain(ports).chain([LAST]);
    let allow = |port| Allow {
        protocol: Some(number::TCP),
        ports: Ports {
            first: port,
            last: port,
        },
    };
    let access = |inbound| Access {
        inbound,
        outbound: Vec::new(),
    };
    let others = devices().iter().map(|device| (*device, access(Vec::new())));
    let mut all: BTreeMap<_, _> = others.collect();
    all.insert(devices()[0], access(ports.map(allow).collect()));
    Arc::new(Filter::Closed(all))
}

/// A filter with [`FLOWS`] connections that the peer opened to port [`FIRST`].
fn filter(rules: u16) -> PeerFilter {
    let filter = PeerFilter::new(&Terms::default(), devices()[0], policy(rules));
    let mut asks = tcp((0, FIRST), 0, 0);
    let mut answers = tcp((FIRST, 0), SYN | ACK, 0);
    answers[12..16].copy_from_slice(&HERE.octets());
    answers[16..20].copy_from_slice(&THERE.octets());
    for flow in 0..FLOWS {
        let port = (PORT + flow).to_be_bytes();
        asks[20..22].copy_from_slice(&port);
        answers[22..24].copy_from_slice(&port);
        asks[33] = SYN;
        pass(&filter, &asks, Direction::In);
        pass(&filter, &answers, Direction::Out);
        asks[33] = ACK;
        pass(&filter, &asks, Direction::In);
    }
    filter
}

/// Judges a packet, as for each that is not merged.
fn pass(filter: &PeerFilter, bytes: &[u8], way: Direction) {
    let packet = Packet::parse(black_box(bytes)).expect("a whole packet");
    assert_eq!(filter.judge(&packet, way, NOW), Verdict::Pass);
}

fn known_flow(rules: u16) -> Step {
    let filter = filter(rules);
    let mut packet = tcp((0, FIRST), ACK, 0);
    let mut next = turns(FLOWS.into());
    Box::new(move || {
        let port = u32::from(PORT) + next();
        packet[20..22].copy_from_slice(&port.to_be_bytes()[2..]);
        pass(&filter, &packet, Direction::In);
    })
}

fn new_flow(rules: u16) -> Step {
    let filter = filter(rules);
    let mut packet = tcp((0, LAST), SYN, 0);
    let mut port = PORT + FLOWS;
    Box::new(move || {
        packet[20..22].copy_from_slice(&port.to_be_bytes());
        port += 1;
        pass(&filter, &packet, Direction::In);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_can_be_done_as_often_as_it_says() {
        for work in works() {
            let mut step = work.prepare();
            for _ in 0..work.steps_max.unwrap_or(3) {
                step();
            }
        }
    }
}
