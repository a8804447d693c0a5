//! Whatever goes in comes out: in order, byte for byte, once the host has cut it again.

use proptest::prelude::*;

use super::super::split::tests::{Flow, cut, flow};
use super::*;

/// Packets as they come to one host, each of a peer; what the host makes of what it gets, and in how many pieces.
fn through(packets: &[(u32, Vec<u8>)], offloads: Offloads) -> (Vec<Vec<u8>>, usize) {
    let mut merge = Merge::new(offloads);
    let (mut out, mut pieces) = (Vec::new(), 0);
    let mut give = |merge: &mut Merge| {
        let Some(merged) = merge.finish() else { return };
        pieces += 1;
        let (vnet, packet) = merged.with_header().split_first_chunk().unwrap();
        let vnet = Vnet::parse(vnet).unwrap();
        assert_eq!(vnet, merged.vnet);
        if merged.count == 1 {
            out.push(packet.to_vec());
        } else {
            let parts = cut(packet, vnet).expect("what the host can cut");
            assert_eq!(parts.len(), merged.count);
            let bytes: usize = parts.iter().map(Vec::len).sum();
            assert_eq!(bytes, merged.packets_bytes);
            out.extend(parts);
        }
    };
    for (owner, packet) in packets {
        if !merge.takes(*owner, packet.len() + 32) {
            give(&mut merge);
        }
        // As a library does that opens in place: more than the packet is written.
        let place = merge.place();
        place[..packet.len()].copy_from_slice(packet);
        place[packet.len()..packet.len() + 32].fill(0xee);
        if packet.is_empty() {
            merge.cancel();
            continue;
        }
        if merge.add(packet.len()) == Added::Apart {
            assert_eq!(merge.apart(packet.len()), packet);
            give(&mut merge);
            merge.begin(*owner, packet.len());
        }
    }
    give(&mut merge);
    (out, pieces)
}

/// The same packet for every reader: where fragments are forbidden the number means nothing (RFC 6864 §4).
fn read(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.len() >= 20 && packet[0] == 0x45 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

fn of_one(packets: Vec<Vec<u8>>) -> Vec<(u32, Vec<u8>)> {
    packets.into_iter().map(|packet| (1, packet)).collect()
}

/// What may happen to a packet, or between two.
#[derive(Clone, Debug)]
enum Mishap {
    None,
    Flip(proptest::sample::Index, u8),
    Lose,
    Twice,
    Swap,
    Other(u32),
    Nothing,
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        12 => Just(Mishap::None),
        2 => (any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(at, by)| Mishap::Flip(at, by)),
        1 => Just(Mishap::Lose),
        1 => Just(Mishap::Twice),
        1 => Just(Mishap::Swap),
        1 => (0..3_u32).prop_map(Mishap::Other),
        1 => Just(Mishap::Nothing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_cut_and_merged_is_what_it_was(
        flow in flow(),
        payload in proptest::collection::vec(any::<u8>(), 0..30_000),
    ) {
        let packets = flow.packets(&payload);
        let (out, pieces) = through(&of_one(packets.clone()), Offloads::All);
        let same = |packets: &[Vec<u8>]| -> Vec<_> { packets.iter().map(|p| read(p)).collect() };
        prop_assert_eq!(same(&out), same(&packets));
        if !flow.tcp || flow.flags & !8 == 16 {
            let full = packets.len().div_ceil(COUNT_MAX) + payload.len() / 60_000;
            prop_assert!(pieces <= full + 1, "{pieces} pieces of {} packets", packets.len());
        }
    }

    #[test]
    fn no_mishap_loses_changes_or_mixes_anything(
        flows in proptest::collection::vec((flow(), 0..4000_usize), 1..4),
        mishaps in proptest::collection::vec(mishap(), 0..60),
        offloads in proptest::sample::select(vec![Offloads::All, Offloads::Tcp, Offloads::None]),
    ) {
        let mut packets: Vec<(u32, Vec<u8>)> = Vec::new();
        for (flow, bytes) in &flows {
            packets.extend(of_one(flow.packets(&vec![3; *bytes])));
        }
        for (number, mishap) in mishaps.into_iter().enumerate() {
            let number = number % packets.len().max(1);
            match mishap {
                Mishap::None => {}
                _ if packets.len() <= number + 1 => {}
                Mishap::Flip(at, by) if !packets[number].1.is_empty() => {
                    let packet = &mut packets[number].1;
                    let at = at.index(packet.len());
                    packet[at] ^= by;
                }
                Mishap::Flip(..) => {}
                Mishap::Lose => drop(packets.remove(number)),
                Mishap::Twice => packets.insert(number, packets[number].clone()),
                Mishap::Swap => packets.swap(number, number + 1),
                Mishap::Other(owner) => packets[number].0 = owner,
                Mishap::Nothing => packets.insert(number, (1, Vec::new())),
            }
        }
        let (out, _) = through(&packets, offloads);
        packets.retain(|(_, packet)| !packet.is_empty());
        let came: Vec<_> = out.iter().map(|packet| read(packet)).collect();
        let sent: Vec<_> = packets.iter().map(|(_, packet)| read(packet)).collect();
        prop_assert_eq!(came, sent);
    }

    #[test]
    fn garbage_goes_through_as_it_is(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 0..20),
    ) {
        let (out, pieces) = through(&of_one(packets.clone()), Offloads::All);
        prop_assert_eq!(out, packets);
        prop_assert!(pieces <= 20);
    }
}

fn stream(segment: u16) -> Flow {
    Flow {
        v6: false,
        tcp: true,
        options: 3,
        flags: 16,
        sequence: u32::MAX - 2000,
        id: 7,
        class: 0,
        whole: true,
        ports: 0,
        segment,
    }
}

/// How many pieces two packets are, the second of them changed.
fn pieces_when(change: impl Fn(&mut Flow)) -> usize {
    let flow = stream(1000);
    let first = flow.packet(0, 0, 16, &[1; 1000]);
    let mut other = flow;
    change(&mut other);
    let second = other.packet(1, 1000, other.flags, &[2; 1000]);
    through(&of_one(vec![first, second]), Offloads::All).1
}

#[test]
fn only_the_next_of_the_same_flow_is_merged() {
    assert_eq!(pieces_when(|_| {}), 1);
    assert_eq!(pieces_when(|flow| flow.flags = 24), 1);
    assert_eq!(
        pieces_when(|flow| flow.id = 99),
        1,
        "no fragments, no number"
    );
    assert_eq!(pieces_when(|flow| flow.sequence += 1), 2);
    assert_eq!(pieces_when(|flow| flow.ports = 1), 2);
    assert_eq!(pieces_when(|flow| flow.class = 3), 2);
    assert_eq!(pieces_when(|flow| flow.whole = false), 2);
    assert_eq!(pieces_when(|flow| flow.options = 4), 2);
    for flags in [17, 18, 20, 48, 80, 144] {
        assert_eq!(pieces_when(|flow| flow.flags = flags), 2, "{flags:#x}");
    }
}

#[test]
fn a_wrong_checksum_is_never_hidden_by_a_merge() {
    let flow = stream(1000);
    let mut packets = flow.packets(&[9; 3000]);
    packets[1][500] ^= 1;
    let (out, pieces) = through(&of_one(packets.clone()), Offloads::All);
    assert_eq!(out, packets);
    assert_eq!(pieces, 3);
}

#[test]
fn a_whole_train_is_one_piece_and_another_peers_packet_is_not_in_it() {
    let packets = of_one(stream(1380).packets(&vec![1; 45 * 1380]));
    assert_eq!(through(&packets, Offloads::All).1, 1);
    let mut mixed = packets;
    mixed[20].0 = 2;
    assert_eq!(through(&mixed, Offloads::All).1, 3);
}

#[test]
fn a_host_gets_merged_what_it_takes_and_nothing_else() {
    let flow = Flow {
        tcp: false,
        ..stream(1000)
    };
    let packets = of_one(flow.packets(&[1; 5000]));
    assert_eq!(through(&packets, Offloads::All).1, 1);
    assert_eq!(through(&packets, Offloads::Tcp).1, 5);
    let packets = of_one(stream(1000).packets(&[1; 5000]));
    assert_eq!(through(&packets, Offloads::Tcp).1, 1);
    assert_eq!(through(&packets, Offloads::None).1, 5);
}
