//! What the host says before each packet of the device, and is told: the `virtio_net_hdr` of the kernel's TUN driver.
//!
//! With it a packet may be up to 64 KiB long and be cut later, and its checksum may be left to whoever sends it.

/// Bytes of the header (`struct virtio_net_hdr`, without the count of buffers).
pub(crate) const VNET_BYTES: usize = 10;

/// Flags of the header.
const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;

/// Kinds of cutting.
const NONE: u8 = 0;
const TCP_V4: u8 = 1;
const TCP_V6: u8 = 4;
const UDP: u8 = 5;
/// Set beside a kind of TCP: a segment says that congestion was met.
const ECN: u8 = 0x80;

/// How a packet is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Not at all.
    Whole,
    /// Into TCP segments over IPv4, with at most so many bytes of payload each.
    TcpV4(u16),
    /// The same over IPv6.
    TcpV6(u16),
    /// Into UDP datagrams.
    Udp(u16),
}

/// A checksum that is left to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsummed {
    /// Where the bytes begin that it covers; the field holds the sum of the pseudo-header.
    pub(crate) from: u16,
    /// Where in them it lies.
    pub(crate) at: u16,
}

/// The header of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vnet {
    pub(crate) cut: Cut,
    pub(crate) unsummed: Option<Unsummed>,
    /// Bytes of all headers before the payload; the kernel's hint, not trusted here.
    pub(crate) headers: u16,
    /// Whether the checksums were verified.
    pub(crate) verified: bool,
}

impl Vnet {
    /// Of a packet about which nothing is known.
    pub(crate) const PLAIN: Self = Self {
        cut: Cut::Whole,
        unsummed: None,
        headers: 0,
        verified: false,
    };

    /// Reads a header. `None` for a kind that was not asked for.
    pub(crate) fn parse(bytes: &[u8; VNET_BYTES]) -> Option<Self> {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let cut = match bytes[1] & !ECN {
            NONE => Cut::Whole,
            TCP_V4 => Cut::TcpV4(word(4)),
            TCP_V6 => Cut::TcpV6(word(4)),
            UDP => Cut::Udp(word(4)),
            _ => return None,
        };
        let unsummed = Unsummed {
            from: word(6),
            at: word(8),
        };
        Some(Self {
            cut,
            unsummed: (bytes[0] & NEEDS_CHECKSUM != 0).then_some(unsummed),
            headers: word(2),
            verified: bytes[0] & DATA_VALID != 0,
        })
    }

    /// The header's bytes.
    pub(crate) fn bytes(self) -> [u8; VNET_BYTES] {
        let mut bytes = [0; VNET_BYTES];
        let (kind, segment) = match self.cut {
            Cut::Whole => (NONE, 0),
            Cut::TcpV4(segment) => (TCP_V4, segment),
            Cut::TcpV6(segment) => (TCP_V6, segment),
            Cut::Udp(segment) => (UDP, segment),
        };
        bytes[1] = kind;
        bytes[2..4].copy_from_slice(&self.headers.to_ne_bytes());
        bytes[4..6].copy_from_slice(&segment.to_ne_bytes());
        if let Some(unsummed) = self.unsummed {
            bytes[0] = NEEDS_CHECKSUM;
            bytes[6..8].copy_from_slice(&unsummed.from.to_ne_bytes());
            bytes[8..].copy_from_slice(&unsummed.at.to_ne_bytes());
        } else if self.verified {
            bytes[0] = DATA_VALID;
        }
        bytes
    }
}
