//! Puts packets of one flow together on their way to the host, in place, and only as the kernel's own GRO would.
//!
//! A packet is opened right behind the one before, so that its headers lie over the end of that one's payload: they are
//! compared, and then what they covered is put back. Checksums are verified first: a merged packet has none of its own.

use meshnode_protocol::access::number;

use super::device::Offloads;
use super::offload::{Cut, Unsummed, VNET_BYTES, Vnet};
use super::split::sum_v4;
use super::sum::Sum;

/// Where packets begin in the buffer: the host's header fits before it.
const BASE: usize = 64;
/// Bytes of a merged packet at most; IPv4 and the kernel allow a little more.
const MERGED_MAX: usize = 65_000;
/// Room behind a merged packet, for who cuts it again.
const SLACK: usize = 64;
/// Packets in one at most: what the kernel takes for UDP.
const COUNT_MAX: usize = 64;
/// Bytes of the largest datagram that is opened, and what the library needs more.
const ROOM: usize = 65_535 + 64;
/// Bytes of the headers of packets that can be merged: IPv6 and TCP with all its options.
const HEADERS_MAX: usize = 40 + 60;

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// TCP flags.
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Packets of one peer that go to the host as one.
#[derive(Debug)]
pub(crate) struct Merge {
    buffer: Vec<u8>,
    /// For a packet that stays apart.
    spare: Vec<u8>,
    /// Whether the packet that stays apart is there.
    aside: bool,
    /// Whose packets these are: the index of a peer.
    owner: u32,
    /// Where the packets end; [`BASE`] when there are none.
    end: usize,
    count: usize,
    /// What the first was; `None` when nothing can follow it.
    first: Option<Shape>,
    headers: [u8; HEADERS_MAX],
    /// What lies under the next packet's headers.
    covered: [u8; HEADERS_MAX],
    /// The next sequence number.
    next: u32,
    /// Nothing may follow any more.
    closed: bool,
    pushed: bool,
    /// What the host cuts again.
    offloads: Offloads,
}

/// What a packet that could be merged looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Where the transport begins.
    at: usize,
    /// Bytes of all headers.
    headers: usize,
    tcp: bool,
    /// Bytes of payload.
    payload: usize,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It goes with those before it, and is of their flow in every respect.
    Merged,
    /// It stays apart: judge it, and then [`Merge::finish`] and [`Merge::begin`], or leave it.
    Apart,
}

impl Merge {
    /// For a host that takes so much.
    pub(crate) fn new(offloads: Offloads) -> Self {
        Self {
            buffer: vec![0; BASE + MERGED_MAX + ROOM],
            spare: vec![0; BASE + MERGED_MAX + ROOM],
            aside: false,
            owner: 0,
            end: BASE,
            count: 0,
            first: None,
            headers: [0; HEADERS_MAX],
            covered: [0; HEADERS_MAX],
            next: 0,
            closed: false,
            pushed: false,
            offloads,
        }
    }

    /// Whether a packet of up to so many bytes of a peer may be opened here; else [`Self::finish`] comes first.
    pub(crate) fn takes(&self, owner: u32, bytes: usize) -> bool {
        self.count == 0
            || self.owner == owner
                && !self.closed
                && self.count < COUNT_MAX
                && self.end - BASE + bytes <= MERGED_MAX
    }

    /// Where the next packet is to be opened. Then [`Self::add`] or [`Self::cancel`] it.
    pub(crate) fn place(&mut self) -> &mut [u8] {
        let at = self.at();
        let covered = self.end - at;
        self.covered[..covered].copy_from_slice(&self.buffer[at..self.end]);
        &mut self.buffer[at..at + ROOM]
    }

    /// Nothing was opened after all.
    pub(crate) fn cancel(&mut self) {
        let at = self.at();
        self.buffer[at..self.end].copy_from_slice(&self.covered[..self.end - at]);
    }

    fn at(&self) -> usize {
        match self.first {
            Some(first) if self.count > 0 => self.end - first.headers,
            Some(_) | None => self.end,
        }
    }

    /// Takes the packet of `length` bytes that was opened.
    pub(crate) fn add(&mut self, length: usize) -> Added {
        self.aside = self.count > 0;
        if !self.aside {
            return Added::Apart;
        }
        let at = self.at();
        let packet = &self.buffer[at..at + length];
        let shape = Shape::of(packet).filter(|shape| self.continues(shape, packet));
        let Some(shape) = shape else {
            self.spare[BASE..BASE + length].copy_from_slice(&self.buffer[at..at + length]);
            self.cancel();
            return Added::Apart;
        };
        let pushed = shape.tcp && packet[shape.at + 13] & PSH != 0;
        self.cancel();
        self.end += shape.payload;
        self.count += 1;
        // The number wraps round by design; no payload has 4 GiB.
        self.next = self.next.wrapping_add(shape.payload as u32);
        self.pushed |= pushed;
        let full = self.first.map_or(0, |first| first.payload);
        self.closed = pushed || shape.payload < full;
        Added::Merged
    }

    /// The packet that stayed apart.
    pub(crate) fn apart(&self, length: usize) -> &[u8] {
        let buffer = if self.aside {
            &self.spare
        } else {
            &self.buffer
        };
        &buffer[BASE..BASE + length]
    }

    /// The packet that stayed apart is the first of the next ones. Those before must be finished.
    pub(crate) fn begin(&mut self, owner: u32, length: usize) {
        if self.aside {
            std::mem::swap(&mut self.buffer, &mut self.spare);
        }
        let packet = &self.buffer[BASE..BASE + length];
        self.owner = owner;
        self.end = BASE + length;
        self.count = 1;
        self.first = Shape::of(packet);
        self.closed = true;
        self.pushed = false;
        if let Some(first) = self.first {
            self.headers[..first.headers].copy_from_slice(&packet[..first.headers]);
            self.closed = if self.offloads == Offloads::None {
                true
            } else if first.tcp {
                let transport = &packet[first.at..];
                let sequence = transport[4..8].try_into().expect("four bytes");
                // As above.
                self.next = u32::from_be_bytes(sequence).wrapping_add(first.payload as u32);
                first.payload == 0 || transport[13] != ACK
            } else {
                first.payload == 0 || self.offloads != Offloads::All
            };
        }
    }

    /// Completes what was put together and gives it, with the host's header before it; `None` when there is nothing.
    pub(crate) fn finish(&mut self) -> Option<Merged<'_>> {
        if self.count == 0 {
            return None;
        }
        let (count, payloads) = (self.count, self.end - BASE);
        let mut vnet = Vnet::PLAIN;
        let packet = &mut self.buffer[BASE..self.end];
        let mut packets_bytes = payloads;
        if let Some(first) = self.first {
            vnet.verified = true;
            if count > 1 {
                packets_bytes += (count - 1) * first.headers;
                vnet = first.complete(packet, self.pushed);
            }
        }
        self.buffer[BASE - VNET_BYTES..BASE].copy_from_slice(&vnet.bytes());
        let merged = Merged {
            vnet,
            count,
            packets_bytes,
            bytes: &mut self.buffer[BASE - VNET_BYTES..self.end + SLACK],
            length: payloads,
        };
        self.count = 0;
        self.end = BASE;
        Some(merged)
    }

    /// Whether a packet is the next of the flow.
    fn continues(&self, shape: &Shape, packet: &[u8]) -> bool {
        let Some(first) = self.first else {
            return false;
        };
        let same = shape.at == first.at
            && shape.headers == first.headers
            && shape.tcp == first.tcp
            && (1..=first.payload).contains(&shape.payload);
        same && self.same_network(packet) && self.same_transport(shape, packet)
    }

    fn same_network(&self, packet: &[u8]) -> bool {
        let first = &self.headers;
        if packet[0] >> 4 == 4 {
            let id = |packet: &[u8]| u16::from_be_bytes([packet[4], packet[5]]);
            // Where fragments are forbidden the number means nothing (RFC 6864 §4); the kernel counts it up again.
            let numbered =
                packet[6] & 0x40 != 0 || id(packet) == id(first).wrapping_add(self.count as u16);
            numbered
                && packet[..2] == first[..2]
                && packet[6] == first[6]
                && packet[8] == first[8]
                && packet[12..20] == first[12..20]
        } else {
            packet[..4] == first[..4] && packet[7..40] == first[7..40]
        }
    }

    fn same_transport(&self, shape: &Shape, packet: &[u8]) -> bool {
        let (first, next) = (
            &self.headers[shape.at..shape.headers],
            &packet[shape.at..shape.headers],
        );
        if first[..4] != next[..4] {
            return false;
        }
        if !shape.tcp {
            return true;
        }
        next[4..8] == self.next.to_be_bytes()
            && first[8..13] == next[8..13]
            && next[13] & !PSH == ACK
            && first[14..16] == next[14..16]
            && first[18..] == next[18..]
    }
}

impl Shape {
    /// Of a packet that is whole, has no extensions, and whose checksum is right; `None` for all others.
    fn of(packet: &[u8]) -> Option<Self> {
        let (at, protocol, addresses) = match *packet.first()? {
            0x45 => {
                let header = packet.first_chunk::<V4_HEADER>()?;
                let length = u16::from_be_bytes([header[2], header[3]]);
                // No fragment, and its own checksum right: it will be written anew.
                let whole = header[6] & 0x3f == 0 && header[7] == 0;
                if usize::from(length) != packet.len()
                    || !whole
                    || !Sum::default().bytes(header).is_right()
                {
                    return None;
                }
                (V4_HEADER, header[9], 12..20)
            }
            first if first >> 4 == 6 => {
                let header = packet.first_chunk::<V6_HEADER>()?;
                let length = u16::from_be_bytes([header[4], header[5]]);
                if usize::from(length) + V6_HEADER != packet.len() {
                    return None;
                }
                (V6_HEADER, header[6], 8..40)
            }
            _ => return None,
        };
        let transport = packet.get(at..)?;
        let tcp = protocol == number::TCP;
        let headers = match protocol {
            number::TCP => usize::from(transport.get(12)? >> 4) * 4,
            number::UDP => UDP_HEADER,
            _ => return None,
        };
        let least = if tcp { TCP_HEADER } else { UDP_HEADER };
        if headers < least || transport.len() < headers {
            return None;
        }
        if !tcp {
            let length = u16::from_be_bytes([transport[4], transport[5]]);
            let unsummed = transport[6..8] == [0, 0];
            if unsummed || usize::from(length) != transport.len() {
                return None;
            }
        }
        let sum = Sum::pseudo(&packet[addresses], protocol, transport.len()).bytes(transport);
        sum.is_right().then_some(Self {
            at,
            headers: at + headers,
            tcp,
            payload: transport.len() - headers,
        })
    }

    /// Gives the first packet's headers the lengths of all, and tells the host how to cut it.
    fn complete(&self, packet: &mut [u8], pushed: bool) -> Vnet {
        let total = u16::try_from(packet.len()).expect("MERGED_MAX is below");
        let length = packet.len() - self.at;
        let v4 = packet[0] >> 4 == 4;
        let addresses = if v4 {
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            sum_v4(packet);
            12..20
        } else {
            // As many bytes as follow the header.
            let payload = total - V6_HEADER as u16;
            packet[4..6].copy_from_slice(&payload.to_be_bytes());
            8..40
        };
        let transport = &mut packet[self.at..];
        let segment = u16::try_from(self.payload).expect("of one packet");
        let (cut, protocol, field) = if self.tcp {
            transport[13] |= if pushed { PSH } else { 0 };
            let cut = if v4 {
                Cut::TcpV4(segment)
            } else {
                Cut::TcpV6(segment)
            };
            (cut, number::TCP, 16_u16)
        } else {
            let length = u16::try_from(length).expect("shorter than its packet");
            transport[4..6].copy_from_slice(&length.to_be_bytes());
            (Cut::Udp(segment), number::UDP, 6)
        };
        let pseudo = Sum::pseudo(&packet[addresses], protocol, length).folded();
        packet[self.at + usize::from(field)..][..2].copy_from_slice(&pseudo);
        let small = |bytes: usize| u16::try_from(bytes).expect("headers are short");
        Vnet {
            cut,
            unsummed: Some(Unsummed {
                from: small(self.at),
                at: field,
            }),
            headers: small(self.headers),
            verified: false,
        }
    }
}

/// What goes to the host at once.
#[derive(Debug)]
pub(crate) struct Merged<'a> {
    pub(crate) vnet: Vnet,
    /// How many packets it is.
    pub(crate) count: usize,
    /// Their bytes, each with its own headers.
    pub(crate) packets_bytes: usize,
    /// The host's header, the packet, and some room.
    bytes: &'a mut [u8],
    length: usize,
}

impl Merged<'_> {
    /// The host's header and the packet.
    pub(crate) fn with_header(&self) -> &[u8] {
        &self.bytes[..VNET_BYTES + self.length]
    }

    /// The packet with room behind it, and its length: to be cut again.
    pub(crate) fn whole(&mut self) -> (&mut [u8], usize) {
        (&mut self.bytes[VNET_BYTES..], self.length)
    }
}

#[cfg(test)]
mod tests;
