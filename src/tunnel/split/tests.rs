//! Packets that were cut against packets that were made one by one.

use proptest::prelude::*;

use super::*;

/// A stream or a datagram that somebody sends, and how.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) v6: bool,
    pub(crate) tcp: bool,
    /// Four-byte words of TCP options.
    pub(crate) options: usize,
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) id: u16,
    /// Traffic class.
    pub(crate) class: u8,
    /// Whether fragments are forbidden.
    pub(crate) whole: bool,
    pub(crate) ports: u16,
    pub(crate) segment: u16,
}

pub(crate) fn flow() -> impl Strategy<Value = Flow> {
    let flags = prop_oneof![4 => Just(16_u8), 1 => Just(24), 1 => any::<u8>()];
    let kind = (any::<bool>(), any::<bool>(), 0..=10_usize, flags);
    let numbers = (any::<u32>(), any::<u16>(), any::<u8>(), any::<bool>());
    (kind, numbers, 0..3_u16, 1..1500_u16).prop_map(
        |((v6, tcp, options, flags), (sequence, id, class, whole), ports, segment)| Flow {
            v6,
            tcp,
            options,
            flags,
            sequence,
            id,
            class,
            whole,
            ports,
            segment,
        },
    )
}

impl Flow {
    pub(crate) fn cut(&self) -> Cut {
        match (self.tcp, self.v6) {
            (true, false) => Cut::TcpV4(self.segment),
            (true, true) => Cut::TcpV6(self.segment),
            (false, _) => Cut::Udp(self.segment),
        }
    }

    /// One packet, `sent` bytes after the first, as the `number`th.
    pub(crate) fn packet(&self, number: u16, sent: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut transport = vec![];
        transport.extend_from_slice(&(4000 + self.ports).to_be_bytes());
        transport.extend_from_slice(&80_u16.to_be_bytes());
        if self.tcp {
            transport.extend_from_slice(&self.sequence.wrapping_add(sent).to_be_bytes());
            transport.extend_from_slice(&77_u32.to_be_bytes());
            let words = u8::try_from(5 + self.options).unwrap();
            transport.extend_from_slice(&[words << 4, flags, 1, 0, 0, 0, 0, 0]);
            transport.extend(vec![1; 4 * self.options]);
        } else {
            let length = u16::try_from(8 + payload.len()).unwrap();
            transport.extend_from_slice(&length.to_be_bytes());
            transport.extend_from_slice(&[0; 2]);
        }
        transport.extend_from_slice(payload);
        let (protocol, field) = if self.tcp { (6, 16) } else { (17, 6) };
        let mut packet = self.network(number, transport.len(), protocol);
        let addresses = if self.v6 { 8..40 } else { 12..20 };
        let sum = Sum::pseudo(&packet[addresses], protocol, transport.len()).bytes(&transport);
        transport[field..field + 2].copy_from_slice(&sum.transport_checksum());
        packet.extend_from_slice(&transport);
        packet
    }

    fn network(&self, number: u16, length: usize, protocol: u8) -> Vec<u8> {
        if self.v6 {
            let mut header = vec![0x60 | self.class >> 4, self.class << 4, 0, 9];
            header.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            header.extend_from_slice(&[protocol, 64]);
            header.extend_from_slice(&[0xfd; 16]);
            header.extend_from_slice(&[0xfc; 16]);
            return header;
        }
        let mut header = vec![0x45, self.class];
        header.extend_from_slice(&u16::try_from(20 + length).unwrap().to_be_bytes());
        header.extend_from_slice(&self.id.wrapping_add(number).to_be_bytes());
        header.extend_from_slice(&[if self.whole { 0x40 } else { 0 }, 0, 64, protocol, 0, 0]);
        header.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        sum_v4(&mut header);
        header
    }

    /// The packets that carry all of the payload.
    pub(crate) fn packets(&self, payload: &[u8]) -> Vec<Vec<u8>> {
        let segment = usize::from(self.segment);
        let count = payload.len().div_ceil(segment).max(1);
        let one = |number: usize| {
            let sent = number * segment;
            let part = &payload[sent..payload.len().min(sent + segment)];
            let first = if number == 0 { 0xff } else { !0x80 };
            let last = if number + 1 == count { 0xff } else { !9 };
            let flags = self.flags & first & last;
            let number = u16::try_from(number).unwrap();
            self.packet(number, u32::try_from(sent).unwrap(), flags, part)
        };
        (0..count).map(one).collect()
    }
}

/// All packets that come out, each with room for padding behind it disturbed and put back.
pub(crate) fn cut(packet: &[u8], vnet: Vnet) -> Option<Vec<Vec<u8>>> {
    cut_to(packet, vnet, usize::MAX).ok()
}

/// The same, none longer than so many bytes.
fn cut_to(packet: &[u8], vnet: Vnet, mtu: usize) -> Result<Vec<Vec<u8>>, Unfit> {
    let mut bytes = [packet, &[7; PADDING_MAX]].concat();
    let mut split = Split::new(&mut bytes, packet.len(), vnet, mtu)?;
    let mut packets = Vec::new();
    for number in 0..split.count() {
        let packet = split.packet(number);
        let length = packet.len();
        let padded = length.next_multiple_of(16);
        packets.push(split.padded(packet, padded, |padded| {
            assert!(padded[length..].iter().all(|byte| *byte == 0));
            padded[..length].to_vec()
        }));
    }
    Ok(packets)
}

fn whole(cut: Cut) -> Vnet {
    Vnet { cut, ..Vnet::PLAIN }
}

proptest! {
    #[test]
    fn a_cut_packet_is_what_its_sender_would_have_sent_in_parts(
        flow in flow(),
        payload in proptest::collection::vec(any::<u8>(), 0..20_000),
    ) {
        let one = flow.packet(0, 0, flow.flags, &payload);
        prop_assert_eq!(cut(&one, whole(flow.cut())), Some(flow.packets(&payload)));
    }

    #[test]
    fn a_checksum_that_was_left_to_us_is_completed(
        flow in flow(),
        payload in proptest::collection::vec(any::<u8>(), 0..1400),
    ) {
        let packet = flow.packet(0, 0, flow.flags, &payload);
        let (at, addresses) = if flow.v6 { (40, 8..40) } else { (20, 12..20) };
        let (protocol, field) = if flow.tcp { (6, 16) } else { (17, 6) };
        let mut unsummed = packet.clone();
        let pseudo = Sum::pseudo(&packet[addresses], protocol, packet.len() - at).folded();
        unsummed[at + field..at + field + 2].copy_from_slice(&pseudo);
        let vnet = Vnet {
            unsummed: Some(crate::tunnel::offload::Unsummed { from: at as u16, at: field as u16 }),
            ..Vnet::PLAIN
        };
        prop_assert_eq!(cut(&unsummed, vnet), Some(vec![packet]));
    }

    #[test]
    fn no_header_and_no_packet_reads_or_writes_outside(
        vnet in any::<[u8; super::super::offload::VNET_BYTES]>(),
        flow in flow(),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        if let Some(vnet) = Vnet::parse(&vnet) {
            cut(&bytes, vnet);
            let mut packet = flow.packet(0, 0, flow.flags, &bytes);
            let at = at.index(packet.len());
            packet[at] = byte;
            if let Some(packets) = cut(&packet, vnet) {
                prop_assert!(packets.iter().all(|out| out.len() <= packet.len()));
            }
        }
    }
}

/// So short that a packet that was cut would not hold the header that is written into it.
#[test]
fn a_tcp_header_that_says_it_is_shorter_than_any_is_refused() {
    for words in 0..5_u8 {
        let mut packet = vec![0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0];
        packet.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet.resize(60, 0);
        packet[32] = words << 4;
        packet[33] = 16;
        for segment in [1, 11, 100] {
            assert!(cut(&packet, whole(Cut::TcpV4(segment))).is_none());
        }
    }
}

#[test]
fn a_header_that_fits_no_packet_is_refused() {
    let flow = Flow {
        v6: false,
        tcp: true,
        options: 0,
        flags: 16,
        sequence: 0,
        id: 0,
        class: 0,
        whole: true,
        ports: 0,
        segment: 100,
    };
    let packet = flow.packet(0, 0, 16, &[1; 1000]);
    assert!(cut(&packet, whole(Cut::Udp(100))).is_none());
    assert!(cut(&packet, whole(Cut::TcpV4(0))).is_none());
    let mut fragment = packet.clone();
    fragment[6] = 0x20;
    assert!(cut(&fragment, whole(Cut::TcpV4(100))).is_none());
    let outside = Vnet {
        unsummed: Some(crate::tunnel::offload::Unsummed { from: 2000, at: 16 }),
        ..Vnet::PLAIN
    };
    assert!(cut(&packet, outside).is_none());
}

/// The packet that fragments are of, in which each is as long as it can be.
fn joined(fragments: &[Vec<u8>], mtu: usize) -> Vec<u8> {
    let mut whole = fragments[0][..20].to_vec();
    for (number, fragment) in fragments.iter().enumerate() {
        let last = number + 1 == fragments.len();
        assert!(Sum::default().bytes(&fragment[..20]).is_right());
        assert_eq!(fragment[4..6], fragments[0][4..6]);
        let place = u16::from_be_bytes([fragment[6], fragment[7]]);
        assert_eq!(place & 0x2000 != 0, !last);
        assert_eq!(usize::from(place & 0x1fff) * 8, whole.len() - 20);
        let length = u16::from_be_bytes([fragment[2], fragment[3]]);
        assert_eq!(usize::from(length), fragment.len());
        assert!(fragment.len() <= mtu && (last || fragment.len() > mtu - 8));
        whole.extend_from_slice(&fragment[20..]);
    }
    let length = u16::try_from(whole.len()).unwrap();
    whole[2..4].copy_from_slice(&length.to_be_bytes());
    whole[6..8].fill(0);
    sum_v4(&mut whole);
    whole
}

proptest! {
    #[test]
    fn where_less_passes_a_stream_is_cut_shorter_and_a_datagram_is_not(
        flow in flow(),
        payload in proptest::collection::vec(any::<u8>(), 1..6000),
        mtu in 300..1500_usize,
        alone in any::<bool>(),
    ) {
        let packet = flow.packet(0, 0, flow.flags, &payload);
        let vnet = whole(if alone { Cut::Whole } else { flow.cut() });
        let headers = packet.len() - payload.len();
        let segment = if alone { payload.len() } else { flow.segment.into() };
        let fits = headers + segment.min(payload.len()) <= mtu;
        let result = cut_to(&packet, vnet, mtu);
        if !flow.tcp && !fits {
            if alone && !flow.v6 && !flow.whole {
                prop_assert_eq!(joined(&result.unwrap(), mtu), packet);
            } else {
                prop_assert_eq!(result, Err(Unfit::TooLong));
            }
            return Ok(());
        }
        let packets = result.unwrap();
        prop_assert!(packets.iter().all(|packet| packet.len() <= mtu));
        let segment = segment.min(mtu - headers);
        let shorter = Flow { segment: u16::try_from(segment).unwrap(), ..flow };
        let one_by_one = if fits && alone { vec![packet] } else { shorter.packets(&payload) };
        prop_assert_eq!(packets, one_by_one);
    }
}

#[test]
fn congestion_is_told_where_the_flow_listens_and_the_header_stays_right() {
    for v6 in [false, true] {
        for class in 0..4 {
            let flow = Flow {
                v6,
                tcp: true,
                options: 3,
                flags: 16,
                sequence: 9,
                id: 9,
                class,
                whole: true,
                ports: 1,
                segment: 10,
            };
            let packet = flow.packet(0, 0, 16, &[5; 35]);
            let mut bytes = [&packet[..], &[0; PADDING_MAX]].concat();
            let mut split = Split::new(&mut bytes, packet.len(), whole(flow.cut()), 9000).unwrap();
            let first = split.packet(0);
            assert_eq!(split.mark(first.clone()), class != 0);
            let marked = split.padded(first, 0, <[u8]>::to_vec);
            let expected = Flow {
                class: if class == 0 { 0 } else { 3 },
                ..flow
            };
            assert_eq!(marked, expected.packets(&[5; 35])[0]);
        }
    }
}
