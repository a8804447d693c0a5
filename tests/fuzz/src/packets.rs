//! Cutting and merging of any bytes, as functions that must not panic: the fuzzer and the test that replays `corpus/`
//! run the same ones. Each says whether there was anything to cut or to merge.

use super::device::Offloads;
use super::merge::{Added, Merge};
use super::offload::{VNET_BYTES, Vnet};
use super::split::{PADDING_MAX, Split};

/// Packets of one input at most.
const PACKETS_MAX: usize = 200;
/// What a library that opens in place writes behind a packet.
const BEHIND: usize = 32;

/// A header of the host, and a packet.
pub fn cut(data: &[u8]) -> bool {
    let Some((vnet, packet)) = data.split_first_chunk::<VNET_BYTES>() else {
        return false;
    };
    let parts = Vnet::parse(vnet).and_then(|vnet| parts(packet, vnet));
    if let Some(parts) = &parts {
        assert!(!parts.is_empty() && parts.iter().all(|part| part.len() <= packet.len()));
    }
    parts.is_some()
}

/// What the host cuts again, and packets: owner `u8`, length `u16` LE, bytes.
pub fn merge(data: &[u8]) -> bool {
    let Some((first, mut rest)) = data.split_first() else {
        return false;
    };
    let offloads = match first % 3 {
        0 => Offloads::All,
        1 => Offloads::Tcp,
        _ => Offloads::None,
    };
    let mut merge = Merge::new(offloads);
    let (mut given, mut taken, mut merged) = (Vec::new(), Vec::new(), false);
    while let Some(([owner, low, high], tail)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (packet, tail) = tail.split_at(length);
        rest = tail;
        if given.len() == PACKETS_MAX {
            break;
        }
        if !merge.takes(u32::from(*owner), length + BEHIND) {
            merged |= take(&mut merge, &mut taken);
        }
        let place = merge.place();
        place[..length].copy_from_slice(packet);
        place[length..length + BEHIND].fill(0xee);
        if packet.is_empty() {
            merge.cancel();
            continue;
        }
        given.push(read(packet));
        if merge.add(length) == Added::Apart {
            assert_eq!(merge.apart(length), packet);
            merged |= take(&mut merge, &mut taken);
            merge.begin(u32::from(*owner), length);
        }
    }
    merged |= take(&mut merge, &mut taken);
    assert_eq!(given, taken, "whatever goes in comes out");
    merged
}

/// Takes what was put together, cut again as the host does; whether that was more than one.
fn take(merge: &mut Merge, taken: &mut Vec<Vec<u8>>) -> bool {
    let Some(merged) = merge.finish() else {
        return false;
    };
    let whole = merged.with_header();
    let (vnet, packet) = whole.split_first_chunk().expect("it begins with a header");
    if merged.count == 1 {
        taken.push(read(packet));
        return false;
    }
    let vnet = Vnet::parse(vnet).expect("the header is one of ours");
    let parts = parts(packet, vnet).expect("what was merged can be cut");
    assert_eq!(parts.len(), merged.count);
    let bytes: usize = parts.iter().map(Vec::len).sum();
    assert_eq!(bytes, merged.packets_bytes);
    taken.extend(parts.iter().map(|part| read(part)));
    true
}

/// All packets that come out, each with room for padding behind it disturbed and put back.
fn parts(packet: &[u8], vnet: Vnet) -> Option<Vec<Vec<u8>>> {
    let mut bytes = [packet, &[7; PADDING_MAX]].concat();
    let mut split = Split::new(&mut bytes, packet.len(), vnet, usize::MAX).ok()?;
    let mut parts = Vec::new();
    for number in 0..split.count() {
        let range = split.packet(number);
        let length = range.len();
        parts.push(split.padded(range, length.next_multiple_of(16), |padded| {
            assert!(padded[length..].iter().all(|byte| *byte == 0));
            padded[..length].to_vec()
        }));
    }
    Some(parts)
}

/// The same packet for every reader: where fragments are forbidden the number means nothing (RFC 6864 §4), and a sum of
/// zero can be written in two ways (RFC 1624 §3).
fn read(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let (transport, protocol) = match packet.first() {
        Some(0x45) if packet.len() >= 20 => {
            packet[10..12].fill(0);
            if packet[6] & 0x40 != 0 {
                packet[4..6].fill(0);
            }
            (20, packet[9])
        }
        Some(first) if first >> 4 == 6 && packet.len() >= 40 => (40, packet[6]),
        Some(_) | None => return packet,
    };
    let field = if protocol == 6 { 16 } else { 6 };
    if let Some(sum) = packet.get_mut(transport + field..transport + field + 2)
        && sum == [0xff; 2]
    {
        sum.fill(0);
    }
    packet
}
