//! Headers of all kinds, whole and broken; and the packets that other tests send.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::super::refusal::refusal;
use super::*;

pub(crate) const SYN: u8 = super::SYN;
pub(crate) const ACK: u8 = super::ACK;
pub(crate) const FIN: u8 = super::FIN;
pub(crate) const RST: u8 = super::RST;

/// An IP packet of the family of its addresses.
pub(crate) fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let mut bytes = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
            bytes[2..4].copy_from_slice(&(length + 20).to_be_bytes());
            bytes.extend_from_slice(&source.octets());
            bytes.extend_from_slice(&destination.octets());
            bytes
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut bytes = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&source.octets());
            bytes.extend_from_slice(&destination.octets());
            bytes
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("two families in one packet")
        }
    };
    bytes.extend_from_slice(payload);
    bytes
}

fn with_ports(source: SocketAddr, destination: SocketAddr, rest: &[u8]) -> Vec<u8> {
    let mut header = source.port().to_be_bytes().to_vec();
    header.extend_from_slice(&destination.port().to_be_bytes());
    header.extend_from_slice(rest);
    header
}

/// A TCP segment without data.
pub(crate) fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Vec<u8> {
    let rest = [0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, flags, 1, 0, 0, 0, 0, 0];
    let header = with_ports(source, destination, &rest);
    ip(source.ip(), destination.ip(), number::TCP, &header)
}

/// A UDP datagram with 16 bytes of data.
pub(crate) fn udp(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut header = with_ports(source, destination, &[0, 24, 0, 0]);
    header.resize(24, 0);
    ip(source.ip(), destination.ip(), number::UDP, &header)
}

/// A message of ICMP or `ICMPv6`: its type for each, its identifier, and what it carries.
pub(crate) fn icmp(
    source: IpAddr,
    destination: IpAddr,
    kind: (u8, u8),
    id: u16,
    rest: &[u8],
) -> Vec<u8> {
    let (protocol, kind) = match source {
        IpAddr::V4(_) => (number::ICMP, kind.0),
        IpAddr::V6(_) => (number::ICMPV6, kind.1),
    };
    let mut message = vec![kind, 0, 0, 0];
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message.extend_from_slice(rest);
    ip(source, destination, protocol, &message)
}

/// Types of ICMP and of `ICMPv6`.
pub(crate) const ECHO_REQUEST: (u8, u8) = (8, 128);
pub(crate) const ECHO_REPLY: (u8, u8) = (0, 129);
pub(crate) const UNREACHABLE: (u8, u8) = (3, 1);

/// The fragments of an IPv4 packet, 24 bytes of payload in each but the last.
pub(crate) fn fragments(packet: &[u8], id: u16) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(20);
    let count = payload.len().div_ceil(24);
    let cut = |(number, piece): (usize, &[u8])| {
        let mut bytes = [header, piece].concat();
        let length = u16::try_from(bytes.len()).unwrap();
        let more = if number + 1 < count { 0x2000 } else { 0 };
        let place = u16::try_from(number * 3).unwrap() | more;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes[4..6].copy_from_slice(&id.to_be_bytes());
        bytes[6..8].copy_from_slice(&place.to_be_bytes());
        bytes
    };
    payload.chunks(24).enumerate().map(cut).collect()
}

/// Both families' ends of a flow, with these ports.
fn ends(ports: Ports) -> [(SocketAddr, SocketAddr); 2] {
    [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")].map(|(source, destination)| {
        (
            SocketAddr::new(source.parse().unwrap(), ports.source),
            SocketAddr::new(destination.parse().unwrap(), ports.destination),
        )
    })
}

fn read(bytes: &[u8]) -> Option<Transport<'_>> {
    Transport::parse(&Packet::parse(bytes)?, Extent::Whole)
}

const PORTS: Ports = Ports {
    source: 40_000,
    destination: 443,
};

#[test]
fn each_protocol_is_read_in_both_families() {
    for (source, destination) in ends(PORTS) {
        let content = |bytes: &[u8]| read(bytes).unwrap().content == Content::Message;
        assert_eq!(
            read(&tcp(source, destination, SYN)).unwrap().content,
            Content::Tcp(PORTS, Flags(SYN))
        );
        assert_eq!(
            read(&udp(source, destination)).unwrap().content,
            Content::Datagram(PORTS)
        );
        let (source, destination) = (source.ip(), destination.ip());
        let request = icmp(source, destination, ECHO_REQUEST, 7, &[]);
        assert_eq!(read(&request).unwrap().content, Content::EchoRequest(7));
        let reply = icmp(source, destination, ECHO_REPLY, 7, &[]);
        assert_eq!(read(&reply).unwrap().content, Content::EchoReply(7));
        let error = icmp(source, destination, UNREACHABLE, 0, &request);
        assert_eq!(read(&error).unwrap().content, Content::Error(&request));
        // Redirects tell this host about other ways; they are about no flow.
        assert!(content(&icmp(source, destination, (5, 137), 0, &request)));
        let gre = ip(source, destination, 47, &[]);
        assert_eq!(read(&gre).unwrap().content, Content::Opaque);
    }
}

#[test]
fn a_header_that_is_cut_off_is_malformed() {
    for (source, destination) in ends(PORTS) {
        let headers = [
            (number::TCP, TCP_HEADER),
            (number::UDP, 8),
            (number::SCTP, 12),
            (number::ICMP, 8),
            (number::ICMPV6, 8),
        ];
        for (protocol, whole) in headers {
            for length in 0..=whole {
                let bytes = ip(source.ip(), destination.ip(), protocol, &vec![0; length]);
                assert_eq!(
                    read(&bytes).is_some(),
                    length == whole,
                    "{protocol} {length}"
                );
            }
        }
    }
}

#[test]
fn extension_headers_are_walked_over_but_not_without_end() {
    let [_, (source, destination)] = ends(PORTS);
    let inner = udp(source, destination)[40..].to_vec();
    let wrapped = |count: usize| {
        let mut payload = Vec::new();
        for number in 1..=count {
            let next = if number < count {
                DESTINATION_OPTIONS
            } else {
                number::UDP
            };
            payload.extend_from_slice(&[next, 0, 1, 4, 0, 0, 0, 0]);
        }
        payload.extend_from_slice(&inner);
        ip(source.ip(), destination.ip(), DESTINATION_OPTIONS, &payload)
    };
    for count in 1..=EXTENSIONS_MAX {
        let bytes = wrapped(count);
        let transport = read(&bytes).unwrap();
        assert_eq!(transport.content, Content::Datagram(PORTS));
        assert_eq!(transport.at, 40 + 8 * count);
    }
    assert_eq!(read(&wrapped(EXTENSIONS_MAX + 1)), None);
}

#[test]
fn an_authentication_header_is_as_long_as_it_says() {
    let [_, (source, destination)] = ends(PORTS);
    let inner = &udp(source, destination)[40..];
    let payload = [&[number::UDP, 4][..], &[0; 22], inner].concat();
    let bytes = ip(source.ip(), destination.ip(), AUTHENTICATION, &payload);
    assert_eq!(read(&bytes).unwrap().content, Content::Datagram(PORTS));
}

#[test]
fn a_packet_that_is_to_travel_on_is_malformed() {
    let [_, (source, destination)] = ends(PORTS);
    let inner = &udp(source, destination)[40..];
    for (left, good) in [(0, true), (1, false)] {
        let payload = [&[number::UDP, 0, 4, left, 0, 0, 0, 0][..], inner].concat();
        let bytes = ip(source.ip(), destination.ip(), ROUTING, &payload);
        assert_eq!(read(&bytes).is_some(), good);
    }
}

#[test]
fn fragments_are_told_apart() {
    let [(source, destination), _] = ends(PORTS);
    let whole = udp(source, destination);
    let pieces = fragments(&[whole, vec![0; 40]].concat(), 9);
    let first = read(&pieces[0]).unwrap();
    assert_eq!(
        (first.content, first.fragment),
        (Content::Datagram(PORTS), Some(9))
    );
    for later in &pieces[1..] {
        let later = read(later).unwrap();
        assert_eq!((later.content, later.fragment), (Content::Later, Some(9)));
    }
}

#[test]
fn a_fragment_that_would_overwrite_the_judged_header_is_malformed() {
    let [(source, destination), _] = ends(PORTS);
    for (offset, good) in [(1, false), (2, false), (3, true)] {
        let mut bytes = tcp(source, destination, SYN);
        bytes[7] = offset;
        assert_eq!(read(&bytes).is_some(), good, "offset {offset}");
    }
}

#[test]
fn over_ipv6_the_fragment_header_names_the_datagram_and_comes_once() {
    let [_, (source, destination)] = ends(PORTS);
    let inner = udp(source, destination)[40..].to_vec();
    let cut = |next: u8, place: u16, rest: &[u8]| {
        let place = place.to_be_bytes();
        let header = [next, 0, place[0], place[1], 0, 1, 0, 2];
        [&header[..], rest].concat()
    };
    let packet = |payload: &[u8]| ip(source.ip(), destination.ip(), FRAGMENT, payload);
    let first = packet(&cut(number::UDP, 1, &inner));
    let read_first = read(&first).unwrap();
    assert_eq!(read_first.fragment, Some(0x1_0002));
    assert_eq!(read_first.content, Content::Datagram(PORTS));
    let later = packet(&cut(number::UDP, 24 | 1, &inner));
    assert_eq!(read(&later).unwrap().content, Content::Later);
    // Neither offset nor more to come: RFC 6946 calls it atomic, and it is a whole packet.
    let atomic = packet(&cut(number::UDP, 0, &inner));
    assert_eq!(read(&atomic).unwrap().fragment, None);
    let twice = packet(&cut(FRAGMENT, 1, &cut(number::UDP, 0, &inner)));
    assert_eq!(read(&twice), None);
    let headless = packet(&cut(number::UDP, 1, &inner[..4]));
    assert_eq!(read(&headless), None);
}

#[test]
fn a_quote_needs_no_more_than_eight_bytes_of_the_header() {
    for (source, destination) in ends(PORTS) {
        let whole = tcp(source, destination, ACK);
        let cut = &whole[..whole.len() - 12];
        assert!(Packet::parse(cut).is_none());
        let quote = Packet::parse_quote(cut).unwrap();
        assert_eq!(Transport::parse(&quote, Extent::Whole), None);
        let Some(Transport {
            content: Content::Tcp(ports, _),
            ..
        }) = Transport::parse(&quote, Extent::Quote)
        else {
            panic!("no TCP");
        };
        assert_eq!(ports, PORTS);
        let shorter = Packet::parse_quote(&cut[..cut.len() - 1]).unwrap();
        assert_eq!(Transport::parse(&shorter, Extent::Quote), None);
    }
}

/// Bytes that look like a packet at first sight.
fn almost() -> impl Strategy<Value = Vec<u8>> {
    let next = prop_oneof![
        Just(number::TCP),
        Just(number::UDP),
        Just(number::ICMP),
        Just(number::ICMPV6),
        Just(number::SCTP),
        Just(HOP_BY_HOP),
        Just(ROUTING),
        Just(FRAGMENT),
        Just(AUTHENTICATION),
        Just(DESTINATION_OPTIONS),
        any::<u8>(),
    ];
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    (bytes, next.clone(), next, any::<bool>()).prop_map(|(mut bytes, first, second, ipv6)| {
        let length = u16::try_from(bytes.len()).unwrap();
        if ipv6 && bytes.len() > 41 {
            bytes[0] = 0x60;
            bytes[4..6].copy_from_slice(&(length - 40).to_be_bytes());
            bytes[6] = first;
            bytes[40] = second;
        } else if !ipv6 && bytes.len() > 20 {
            bytes[0] = 0x40 | (bytes[0] & 7);
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[9] = first;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_bytes_make_the_reader_panic_or_read_outside(bytes in almost()) {
        if let Some(quote) = Packet::parse_quote(&bytes) {
            let transport = Transport::parse(&quote, Extent::Quote);
            prop_assert!(transport.is_none_or(|t| t.at <= bytes.len()));
        }
        if let Some(packet) = Packet::parse(&bytes) {
            let transport = Transport::parse(&packet, Extent::Whole);
            prop_assert!(transport.is_none_or(|t| t.at <= packet.bytes().len()));
            if let Some(answer) = refusal(&packet) {
                let answer = Packet::parse(&answer).expect("what is answered is well-formed");
                prop_assert_eq!(answer.destination(), packet.source());
                prop_assert!(Transport::parse(&answer, Extent::Whole).is_some());
            }
        }
    }
}
