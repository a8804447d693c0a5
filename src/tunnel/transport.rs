//! What an inner packet carries: just enough of its transport header to name the flow that it belongs to.
//!
//! Reads hostile bytes: every step is bounded, and what cannot be read whole is malformed, not guessed.

use meshnode_protocol::access::number;

use super::packet::Packet;

/// Extension headers that are walked; more than any real packet has.
const EXTENSIONS_MAX: usize = 8;
/// Bytes of the IPv6 header.
const V6_HEADER: usize = 40;
/// Bytes of the smallest TCP header.
const TCP_HEADER: usize = 20;
/// Bytes of the headers of UDP and ICMP, and the most that an ICMP error surely quotes (RFC 792).
const SHORT_HEADER: usize = 8;
/// Bytes of the SCTP common header.
const SCTP_HEADER: usize = 12;

/// IPv6 next headers (IANA) that are walked over.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// TCP flags.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// How much of the packet there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Whole,
    /// Its beginning, quoted in an ICMP error: only the first 8 bytes of the transport header are sure.
    Quote,
}

/// The transport of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transport<'a> {
    /// The IP protocol number.
    pub(crate) protocol: u8,
    /// Where its header begins, in bytes from the packet's start.
    pub(crate) at: usize,
    /// What the packet says there.
    pub(crate) content: Content<'a>,
    /// The datagram's number, when this is one of several fragments.
    pub(crate) fragment: Option<u32>,
}

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// TCP.
    Tcp(Ports, Flags),
    /// UDP or SCTP.
    Datagram(Ports),
    /// An echo request of ICMP or `ICMPv6`, with its identifier.
    EchoRequest(u16),
    /// An echo reply, with its identifier.
    EchoReply(u16),
    /// An ICMP error of a kind that belongs to a flow, with what it quotes.
    Error(&'a [u8]),
    /// Any other message of ICMP or `ICMPv6`.
    Message,
    /// A protocol whose ports, if it has any, are not known here.
    Opaque,
    /// A fragment that is not the first: it has no header.
    Later,
}

/// Source and destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) source: u16,
    pub(crate) destination: u16,
}

/// The flags of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u8);

impl Flags {
    /// Whether the segment asks for a connection.
    pub(crate) const fn opens(self) -> bool {
        self.0 & (SYN | ACK | RST) == SYN
    }

    /// Whether it is of a connection that its sender holds for open.
    pub(crate) const fn continues(self) -> bool {
        self.0 & (SYN | RST | ACK) == ACK
    }

    pub(crate) const fn fin(self) -> bool {
        self.0 & FIN != 0
    }

    pub(crate) const fn syn(self) -> bool {
        self.0 & SYN != 0
    }

    pub(crate) const fn rst(self) -> bool {
        self.0 & RST != 0
    }

    pub(crate) const fn ack(self) -> bool {
        self.0 & ACK != 0
    }
}

impl<'a> Transport<'a> {
    /// Reads what a packet carries. `None` when it is malformed.
    pub(crate) fn parse(packet: &Packet<'a>, extent: Extent) -> Option<Self> {
        let bytes = packet.bytes();
        let (protocol, at, piece) = match bytes.first()? >> 4 {
            4 => locate_v4(bytes)?,
            _ => locate_v6(bytes)?,
        };
        let (content, fragment) = match piece {
            Piece::Whole => (content(protocol, bytes.get(at..)?, extent)?, None),
            Piece::First(id) => (content(protocol, bytes.get(at..)?, extent)?, Some(id)),
            Piece::Later { id, offset } => {
                // A fragment that would overwrite the header that was judged (RFC 1858 §3, RFC 3128).
                let header = match protocol {
                    number::TCP => TCP_HEADER,
                    number::SCTP => SCTP_HEADER,
                    _ => SHORT_HEADER,
                };
                if offset < header {
                    return None;
                }
                (Content::Later, Some(id))
            }
        };
        Some(Self {
            protocol,
            at,
            content,
            fragment,
        })
    }
}

/// Which part of a datagram a packet is.
enum Piece {
    Whole,
    First(u32),
    /// Not the first; the offset is in bytes.
    Later {
        id: u32,
        offset: usize,
    },
}

impl Piece {
    /// From the two bytes with offset and more-fragments flag; `offset` in bytes.
    const fn new(offset: usize, more: bool, id: u32) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First(id),
            (offset, _) => Self::Later { id, offset },
        }
    }
}

/// Protocol, start of the transport header, and which piece it is.
fn locate_v4(bytes: &[u8]) -> Option<(u8, usize, Piece)> {
    let header = usize::from(bytes.first()? & 15) * 4;
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let fragment = word(6)?;
    let piece = Piece::new(
        usize::from(fragment & 0x1fff) * 8,
        fragment & 0x2000 != 0,
        word(4)?.into(),
    );
    Some((*bytes.get(9)?, header, piece))
}

fn locate_v6(bytes: &[u8]) -> Option<(u8, usize, Piece)> {
    let (mut protocol, mut at) = (*bytes.get(6)?, V6_HEADER);
    let mut piece = Piece::Whole;
    for _ in 0..=EXTENSIONS_MAX {
        let length = match protocol {
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => {
                let header = bytes.get(at..at + 4)?;
                // A packet that is to travel on has its real destination somewhere else.
                if protocol == ROUTING && header[3] != 0 {
                    return None;
                }
                (usize::from(header[1]) + 1) * 8
            }
            AUTHENTICATION => (usize::from(*bytes.get(at + 1)?) + 2) * 4,
            FRAGMENT => {
                // A datagram is cut once.
                if !matches!(piece, Piece::Whole) {
                    return None;
                }
                let header = bytes.get(at..at + 8)?;
                let place = u16::from_be_bytes([header[2], header[3]]);
                let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                piece = Piece::new(usize::from(place & 0xfff8), place & 1 != 0, id);
                if matches!(piece, Piece::Later { .. }) {
                    return Some((header[0], at + 8, piece));
                }
                8
            }
            _ => return Some((protocol, at, piece)),
        };
        protocol = *bytes.get(at)?;
        at += length;
    }
    None
}

fn content(protocol: u8, header: &[u8], extent: Extent) -> Option<Content<'_>> {
    let needed = |whole: usize| match extent {
        Extent::Whole => whole,
        Extent::Quote => SHORT_HEADER,
    };
    let content = match protocol {
        number::TCP => {
            let header = header.get(..needed(TCP_HEADER))?;
            let flags = header.get(13).copied().unwrap_or(0);
            Content::Tcp(ports(header)?, Flags(flags))
        }
        number::UDP => Content::Datagram(ports(header.get(..SHORT_HEADER)?)?),
        number::SCTP => Content::Datagram(ports(header.get(..needed(SCTP_HEADER))?)?),
        number::ICMP | number::ICMPV6 => message(protocol, header)?,
        _ => Content::Opaque,
    };
    Some(content)
}

fn ports(header: &[u8]) -> Option<Ports> {
    let [a, b, c, d] = *header.first_chunk()?;
    Some(Ports {
        source: u16::from_be_bytes([a, b]),
        destination: u16::from_be_bytes([c, d]),
    })
}

fn message(protocol: u8, bytes: &[u8]) -> Option<Content<'_>> {
    let (header, quote) = bytes.split_first_chunk::<SHORT_HEADER>()?;
    let id = u16::from_be_bytes([header[4], header[5]]);
    let content = match (protocol, header[0]) {
        (number::ICMP, 8) | (number::ICMPV6, 128) => Content::EchoRequest(id),
        (number::ICMP, 0) | (number::ICMPV6, 129) => Content::EchoReply(id),
        // Unreachable, time exceeded, parameter problem; in IPv6 also packet too big.
        (number::ICMP, 3 | 11 | 12) | (number::ICMPV6, 1..=4) => Content::Error(quote),
        _ => Content::Message,
    };
    Some(content)
}

#[cfg(test)]
pub(crate) mod tests;
