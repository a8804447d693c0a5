//! Cuts a packet that the host left whole into those that cross the network, in place.
//!
//! Each packet's headers are written over the end of the one before, which is sealed by then: nothing is copied but
//! headers. What comes out is what the kernel would have sent (its `tcp_gso_segment` and `udp_gso_segment`).

use std::ops::Range;

use meshnode_protocol::access::number;

use super::offload::{Cut, Vnet};
use super::packet::Packet;
use super::sum::Sum;
use super::transport::{Content, Extent, Transport};

/// Bytes of all headers of one packet that can be cut.
pub(crate) const HEADERS_MAX: usize = 256;

/// Bytes that padding may need behind a packet.
pub(crate) const PADDING_MAX: usize = 15;

/// TCP flags that only the first segment keeps (RFC 3168 §6.1.2), and only the last.
const CWR: u8 = 0x80;
const FIN_PSH: u8 = 1 | 8;

/// Bytes of an IPv4 header without options, and its flags (RFC 791 §3.1).
const IPV4_HEADER: usize = 20;
const DONT_FRAGMENT: u8 = 0x40;
const MORE_FRAGMENTS: u16 = 0x2000;
/// Bytes of the UDP header, and of the smallest TCP header.
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
/// Bytes of a packet that comes out at most.
const CUT_MAX: usize = 65_535;

/// A packet on its way to the network.
#[derive(Debug)]
pub(crate) struct Split<'a> {
    /// The packet, and [`PADDING_MAX`] bytes behind it.
    bytes: &'a mut [u8],
    length: usize,
    /// `None` for a packet that goes as it is.
    cut: Option<Headers>,
}

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    /// A packet over IPv4 that routers may cut.
    Fragments,
}

/// Why a packet cannot go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The header and the packet contradict each other.
    Malformed,
    /// It is longer than what passes, and must not be cut.
    TooLong,
}

#[derive(Debug)]
struct Headers {
    bytes: [u8; HEADERS_MAX],
    length: usize,
    /// Where the transport begins.
    at: usize,
    kind: Kind,
    /// Bytes of payload in each packet but the last.
    segment: usize,
}

impl<'a> Split<'a> {
    /// Prepares a packet of `length` bytes in front of room for padding; its checksum is completed when it is left to
    /// us. No packet that comes out is longer than `mtu`: of a TCP stream the segments become shorter, as no receiver
    /// minds where they end.
    pub(crate) fn new(
        bytes: &'a mut [u8],
        length: usize,
        vnet: Vnet,
        mtu: usize,
    ) -> Result<Self, Unfit> {
        let whole = bytes.get(..length).and_then(Packet::parse);
        let packet = whole.ok_or(Unfit::Malformed)?;
        let length = packet.bytes().len();
        if bytes.len() < length + PADDING_MAX {
            return Err(Unfit::Malformed);
        }
        let cut = match vnet.cut {
            Cut::Whole if length <= mtu => None,
            Cut::Whole => {
                let stream = Headers::of(&packet, Kind::Tcp, mtu, mtu).ok();
                let shorter = stream.or_else(|| Headers::of_fragments(&packet, mtu));
                Some(shorter.ok_or(Unfit::TooLong)?)
            }
            Cut::TcpV4(segment) | Cut::TcpV6(segment) => {
                Some(Headers::of(&packet, Kind::Tcp, segment.into(), mtu)?)
            }
            Cut::Udp(segment) => Some(Headers::of(&packet, Kind::Udp, segment.into(), mtu)?),
        };
        if let (Cut::Whole, Some(unsummed)) = (vnet.cut, vnet.unsummed) {
            let packet = &mut bytes[..length];
            complete(packet, unsummed.from, unsummed.at).ok_or(Unfit::Malformed)?;
        }
        Ok(Self { bytes, length, cut })
    }

    /// How many packets come out.
    pub(crate) fn count(&self) -> usize {
        match &self.cut {
            None => 1,
            Some(headers) => (self.length - headers.length)
                .div_ceil(headers.segment)
                .max(1),
        }
    }

    /// Makes a packet and tells where it is; each once, in order, and not before the one before was used.
    pub(crate) fn packet(&mut self, number: usize) -> Range<usize> {
        let Some(headers) = &self.cut else {
            return 0..self.length;
        };
        let start = number * headers.segment;
        let end = self.length.min(start + headers.length + headers.segment);
        let last = end == self.length;
        let packet = &mut self.bytes[start..end];
        packet[..headers.length].copy_from_slice(&headers.bytes[..headers.length]);
        headers.number(packet, number, last);
        start..end
    }

    /// Says in a packet that came out that congestion was met, if its flow listens to that (RFC 3168 §5).
    pub(crate) fn mark(&mut self, packet: Range<usize>) -> bool {
        let packet = &mut self.bytes[packet];
        if packet[0] >> 4 == 4 {
            if packet[1] & 3 == 0 {
                return false;
            }
            packet[1] |= 3;
            sum_v4(packet);
            return true;
        }
        if packet[1] & 0x30 == 0 {
            return false;
        }
        packet[1] |= 0x30;
        true
    }

    /// Lends a packet that came out with zeros behind it up to `padded` bytes; what lies there is put back.
    pub(crate) fn padded<T>(
        &mut self,
        packet: Range<usize>,
        padded: usize,
        with: impl FnOnce(&[u8]) -> T,
    ) -> T {
        let end = packet.start + padded.max(packet.len());
        let mut behind = [0; PADDING_MAX];
        let behind = &mut behind[..end - packet.end];
        behind.copy_from_slice(&self.bytes[packet.end..end]);
        self.bytes[packet.end..end].fill(0);
        let result = with(&self.bytes[packet.start..end]);
        self.bytes[packet.end..end].copy_from_slice(behind);
        result
    }
}

impl Headers {
    /// For packets with up to `segment` bytes of payload, and of up to `mtu` bytes.
    fn of(packet: &Packet<'_>, kind: Kind, segment: usize, mtu: usize) -> Result<Self, Unfit> {
        let tcp = kind == Kind::Tcp;
        let whole = packet.bytes();
        let (at, length) = Self::extent(packet, tcp).ok_or(Unfit::Malformed)?;
        let room = mtu.min(CUT_MAX).saturating_sub(length);
        let longest = segment.min(whole.len() - length);
        let segment = if tcp { segment.min(room) } else { segment };
        if segment == 0 {
            return Err(Unfit::Malformed);
        }
        if !tcp && longest > room {
            return Err(Unfit::TooLong);
        }
        let mut bytes = [0; HEADERS_MAX];
        bytes[..length].copy_from_slice(&whole[..length]);
        Ok(Self {
            bytes,
            length,
            at,
            kind,
            segment,
        })
    }

    /// For fragments of up to `mtu` bytes (RFC 791 §3.2). `None` where they are forbidden, and beside options, which
    /// not every fragment repeats.
    fn of_fragments(packet: &Packet<'_>, mtu: usize) -> Option<Self> {
        let whole = packet.bytes();
        let header = whole.first_chunk::<IPV4_HEADER>()?;
        if header[0] != 0x45 || header[6] & DONT_FRAGMENT != 0 {
            return None;
        }
        let mut bytes = [0; HEADERS_MAX];
        bytes[..IPV4_HEADER].copy_from_slice(header);
        // Where a fragment begins is told in units of 8 bytes.
        let segment = (mtu.min(CUT_MAX) - IPV4_HEADER) & !7;
        Some(Self {
            bytes,
            length: IPV4_HEADER,
            at: IPV4_HEADER,
            kind: Kind::Fragments,
            segment,
        })
    }

    /// Where the transport begins, and where its header ends.
    fn extent(packet: &Packet<'_>, tcp: bool) -> Option<(usize, usize)> {
        let whole = packet.bytes();
        let transport = Transport::parse(packet, Extent::Whole)?;
        let at = transport.at;
        let length = match (transport.content, tcp) {
            (Content::Tcp(..), true) => at + usize::from(whole.get(at + 12)? >> 4) * 4,
            (Content::Datagram(_), false) if transport.protocol == number::UDP => at + UDP_HEADER,
            _ => return None,
        };
        let least = at + if tcp { TCP_HEADER } else { UDP_HEADER };
        let fits = (least..=HEADERS_MAX.min(whole.len())).contains(&length);
        (fits && transport.fragment.is_none()).then_some((at, length))
    }

    /// Gives a packet with a copy of these headers its own lengths, numbers and checksums.
    fn number(&self, packet: &mut [u8], number: usize, last: bool) {
        let total = u16::try_from(packet.len()).expect("shorter than the packet it was cut of");
        let length = packet.len() - self.at;
        if self.kind == Kind::Fragments {
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            let place = u16::from_be_bytes([packet[6], packet[7]]);
            // A packet's last byte is at most the 65535th, so its offset fits beside the flags.
            let place = place + (number * self.segment / 8) as u16;
            let more = if last { 0 } else { MORE_FRAGMENTS };
            packet[6..8].copy_from_slice(&(place | more).to_be_bytes());
            sum_v4(packet);
            return;
        }
        let addresses = if packet[0] >> 4 == 4 {
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            let id = u16::from_be_bytes([packet[4], packet[5]]);
            // The number of a datagram wraps round by design.
            let id = id.wrapping_add(number as u16);
            packet[4..6].copy_from_slice(&id.to_be_bytes());
            sum_v4(packet);
            12..20
        } else {
            let payload = total - 40;
            packet[4..6].copy_from_slice(&payload.to_be_bytes());
            8..40
        };
        let transport = &mut packet[self.at..];
        let (protocol, field) = if self.kind == Kind::Tcp {
            let sequence = transport[4..8].try_into().expect("four bytes");
            let sequence = u32::from_be_bytes(sequence);
            // Sequence numbers wrap round by design.
            let sequence = sequence.wrapping_add((number * self.segment) as u32);
            transport[4..8].copy_from_slice(&sequence.to_be_bytes());
            if number > 0 {
                transport[13] &= !CWR;
            }
            if !last {
                transport[13] &= !FIN_PSH;
            }
            (number::TCP, 16)
        } else {
            let length = u16::try_from(length).expect("shorter than its packet");
            transport[4..6].copy_from_slice(&length.to_be_bytes());
            (number::UDP, 6)
        };
        transport[field..field + 2].fill(0);
        let sum = Sum::pseudo(&packet[addresses], protocol, length).bytes(&packet[self.at..]);
        packet[self.at + field..][..2].copy_from_slice(&sum.transport_checksum());
    }
}

/// Completes a checksum whose field holds the sum of the pseudo-header.
fn complete(packet: &mut [u8], from: u16, at: u16) -> Option<()> {
    let covered = packet.get_mut(usize::from(from)..)?;
    let sum = Sum::default().bytes(covered).transport_checksum();
    let field = covered.get_mut(usize::from(at)..)?.first_chunk_mut::<2>()?;
    *field = sum;
    Some(())
}

/// Writes the checksum of an IPv4 header.
pub(crate) fn sum_v4(packet: &mut [u8]) {
    let length = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let sum = Sum::default().bytes(&packet[..length]).checksum();
    packet[10..12].copy_from_slice(&sum);
}

#[cfg(test)]
pub(crate) mod tests;
