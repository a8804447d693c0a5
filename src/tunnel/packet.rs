//! Inner packets: just enough of IP to route them, and the answer for those that have no way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::split::sum_v4;
use super::sum::Sum;

/// Bytes of the longest packet: an IPv6 header and all that it can tell of.
pub(crate) const PACKET_BYTES_MAX: usize = V6_HEADER + 65_535;

/// Bytes of the smallest IPv4 header.
const V4_HEADER: usize = 20;
/// Bytes of the IPv6 header.
const V6_HEADER: usize = 40;
/// Bytes of an ICMP or `ICMPv6` header.
const ICMP_HEADER: usize = 8;
/// Bytes of a whole ICMP error at most (RFC 1812 §4.3.2.3).
const V4_ERROR_MAX: usize = 576;
/// Bytes of a whole `ICMPv6` error at most (RFC 4443 §2.4).
const V6_ERROR_MAX: usize = 1280;

/// An inner packet whose header was checked: version, header and length fit its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    bytes: &'a [u8],
    source: IpAddr,
    destination: IpAddr,
}

impl<'a> Packet<'a> {
    /// Checks a packet; bytes behind its own length are cut off. `None` when it is malformed.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (packet, length) = Self::header(bytes)?;
        Some(Self {
            bytes: bytes.get(..length)?,
            ..packet
        })
    }

    /// Checks the beginning of a packet, as an ICMP error quotes it: the header must be whole, the rest need not.
    pub(crate) fn parse_quote(bytes: &'a [u8]) -> Option<Self> {
        let (packet, length) = Self::header(bytes)?;
        Some(Self {
            bytes: &bytes[..length.min(bytes.len())],
            ..packet
        })
    }

    /// A packet whose header is whole, with all bytes that there are, and its length as the header says.
    fn header(bytes: &'a [u8]) -> Option<(Self, usize)> {
        match bytes.first()? >> 4 {
            4 => {
                let header = bytes.first_chunk::<V4_HEADER>()?;
                let header_bytes = usize::from(header[0] & 15) * 4;
                let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
                if header_bytes < V4_HEADER || length < header_bytes || bytes.len() < header_bytes {
                    return None;
                }
                let address = |at: usize| {
                    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
                };
                let packet = Self {
                    bytes,
                    source: address(12).into(),
                    destination: address(16).into(),
                };
                Some((packet, length))
            }
            6 => {
                let header = bytes.first_chunk::<V6_HEADER>()?;
                let length = V6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]]));
                let address = |at: usize| {
                    let octets: [u8; 16] = header[at..at + 16]
                        .try_into()
                        .expect("the header has 40 bytes");
                    Ipv6Addr::from(octets)
                };
                let packet = Self {
                    bytes,
                    source: address(8).into(),
                    destination: address(24).into(),
                };
                Some((packet, length))
            }
            _ => None,
        }
    }

    /// The packet, exactly as long as its header says.
    pub(crate) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whom it comes from, as it says.
    pub(crate) const fn source(&self) -> IpAddr {
        self.source
    }

    /// Whom it goes to.
    pub(crate) const fn destination(&self) -> IpAddr {
        self.destination
    }

    /// The ICMP error "no route to host" for this packet, as if its destination had sent it; `None` as
    /// [`Self::prohibited`].
    pub(crate) fn unreachable(&self) -> Option<Vec<u8>> {
        // Host unreachable, and address unreachable.
        self.error([3, 1], [1, 3], 0)
    }

    /// The ICMP error that tells the longest packet which passes (RFC 1191 §4, RFC 4443 §3.2), as if the destination
    /// had sent it; `None` as [`Self::prohibited`]. Also for what may be cut on its way: it is told where to cut.
    pub(crate) fn too_long(&self, mtu: usize) -> Option<Vec<u8>> {
        self.error([3, 4], [2, 0], u32::try_from(mtu).ok()?)
    }

    /// The ICMP error "administratively prohibited" for this packet, as if its destination had sent it.
    ///
    /// `None` where RFC 1122 §3.2.2 and RFC 4443 §2.4 forbid one: for errors, fragments that are not the first, and
    /// packets to or from something that is no single host.
    pub(crate) fn prohibited(&self) -> Option<Vec<u8>> {
        self.error([3, 13], [1, 1], 0)
    }

    /// An error with type and code of ICMP and of `ICMPv6`, and what it says besides.
    fn error(&self, v4: [u8; 2], v6: [u8; 2], word: u32) -> Option<Vec<u8>> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.error_v4(v4, word, source, destination)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.error_v6(v6, word, source, destination)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    fn error_v4(
        &self,
        kind: [u8; 2],
        word: u32,
        source: Ipv4Addr,
        destination: Ipv4Addr,
    ) -> Option<Vec<u8>> {
        const ICMP: u8 = 1;
        let header_bytes = usize::from(self.bytes[0] & 15) * 4;
        let later_fragment = u16::from_be_bytes([self.bytes[6], self.bytes[7]]) & 0x1fff != 0;
        let icmp_type = self.bytes.get(header_bytes).copied();
        // An echo and its answer are surely no errors.
        let icmp_error = self.bytes[9] == ICMP && !matches!(icmp_type, Some(0 | 8));
        if later_fragment || icmp_error || !single_v4(source) || !single_v4(destination) {
            return None;
        }
        let quoted = &self.bytes[..self.bytes.len().min(V4_ERROR_MAX - V4_HEADER - ICMP_HEADER)];
        let length = u16::try_from(V4_HEADER + ICMP_HEADER + quoted.len()).expect("at most 576");
        let mut error = vec![0; V4_HEADER];
        error[0] = 0x45;
        error[2..4].copy_from_slice(&length.to_be_bytes());
        error[8] = 64;
        error[9] = ICMP;
        error[12..16].copy_from_slice(&destination.octets());
        error[16..20].copy_from_slice(&source.octets());
        sum_v4(&mut error);
        error.extend_from_slice(&[kind[0], kind[1], 0, 0]);
        error.extend_from_slice(&word.to_be_bytes());
        error.extend_from_slice(quoted);
        let sum = Sum::default().bytes(&error[V4_HEADER..]).checksum();
        error[V4_HEADER + 2..V4_HEADER + 4].copy_from_slice(&sum);
        Some(error)
    }

    fn error_v6(
        &self,
        kind: [u8; 2],
        word: u32,
        source: Ipv6Addr,
        destination: Ipv6Addr,
    ) -> Option<Vec<u8>> {
        const ICMPV6: u8 = 58;
        let icmp_type = self.bytes.get(V6_HEADER).copied();
        // The types below 128 are errors.
        let icmp_error = self.bytes[6] == ICMPV6 && icmp_type.is_none_or(|kind| kind < 128);
        if icmp_error || !single_v6(source) || !single_v6(destination) {
            return None;
        }
        let quoted = &self.bytes[..self.bytes.len().min(V6_ERROR_MAX - V6_HEADER - ICMP_HEADER)];
        let length = u16::try_from(ICMP_HEADER + quoted.len()).expect("at most 1240");
        let mut error = vec![0; V6_HEADER];
        error[0] = 0x60;
        error[4..6].copy_from_slice(&length.to_be_bytes());
        error[6] = ICMPV6;
        error[7] = 64;
        error[8..24].copy_from_slice(&destination.octets());
        error[24..40].copy_from_slice(&source.octets());
        error.extend_from_slice(&[kind[0], kind[1], 0, 0]);
        error.extend_from_slice(&word.to_be_bytes());
        error.extend_from_slice(quoted);
        let message = &error[V6_HEADER..];
        let sum = Sum::pseudo(&error[8..40], ICMPV6, message.len()).bytes(message);
        error[V6_HEADER + 2..V6_HEADER + 4].copy_from_slice(&sum.checksum());
        Some(error)
    }
}

fn single_v4(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_loopback())
}

fn single_v6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A UDP packet over IPv4 without payload, good enough to route.
    pub(crate) fn v4(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![0; 28];
        bytes[0] = 0x45;
        bytes[3] = 28;
        bytes[9] = 17;
        bytes[12..16].copy_from_slice(&source);
        bytes[16..20].copy_from_slice(&destination);
        bytes
    }

    fn v6(source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut bytes = vec![0; 48];
        bytes[0] = 0x60;
        bytes[5] = 8;
        bytes[6] = 17;
        bytes[8..24].copy_from_slice(&source.octets());
        bytes[24..40].copy_from_slice(&destination.octets());
        bytes
    }

    #[test]
    fn a_packet_is_as_long_as_its_header_says() {
        let mut bytes = v4([10, 0, 0, 1], [10, 0, 0, 2]);
        bytes.extend_from_slice(&[0; 4]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.bytes().len(), 28);
        assert_eq!(packet.source(), IpAddr::from([10, 0, 0, 1]));
        assert_eq!(packet.destination(), IpAddr::from([10, 0, 0, 2]));
    }

    #[test]
    fn malformed_packets_are_refused() {
        let whole = v4([10, 0, 0, 1], [10, 0, 0, 2]);
        for length in 0..whole.len() {
            assert!(Packet::parse(&whole[..length]).is_none(), "{length} bytes");
        }
        let mut short_header = whole.clone();
        short_header[0] = 0x44;
        assert!(Packet::parse(&short_header).is_none());
        let mut version = whole;
        version[0] = 0x55;
        assert!(Packet::parse(&version).is_none());
        let ipv6 = v6("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        for length in 0..ipv6.len() {
            assert!(Packet::parse(&ipv6[..length]).is_none(), "{length} bytes");
        }
    }

    #[test]
    fn an_unroutable_ipv4_packet_gets_host_unreachable_with_good_checksums() {
        let bytes = v4([10, 0, 0, 1], [10, 0, 0, 2]);
        let error = Packet::parse(&bytes).unwrap().unreachable().unwrap();
        let parsed = Packet::parse(&error).unwrap();
        assert_eq!(parsed.source(), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(parsed.destination(), IpAddr::from([10, 0, 0, 1]));
        assert_eq!(error[20..22], [3, 1]);
        assert!(Sum::default().bytes(&error[..20]).is_right());
        assert!(Sum::default().bytes(&error[20..]).is_right());
        assert_eq!(error[28..], bytes);
    }

    #[test]
    fn an_unroutable_ipv6_packet_gets_address_unreachable_with_a_good_checksum() {
        let bytes = v6("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let error = Packet::parse(&bytes).unwrap().unreachable().unwrap();
        assert_eq!(error[40..42], [1, 3]);
        let pseudo = Sum::pseudo(&error[8..40], 58, 8 + 48);
        assert!(pseudo.bytes(&error[40..]).is_right());
    }

    #[test]
    fn a_packet_that_is_too_long_is_told_what_passes() {
        let echo_reply = {
            let mut bytes = v4([10, 0, 0, 1], [10, 0, 0, 2]);
            bytes[9] = 1;
            bytes
        };
        for bytes in [v4([10, 0, 0, 1], [10, 0, 0, 2]), echo_reply] {
            let error = Packet::parse(&bytes).unwrap().too_long(1280).unwrap();
            assert_eq!(error[20..22], [3, 4]);
            assert_eq!(error[24..28], [0, 0, 5, 0]);
            assert!(Sum::default().bytes(&error[20..]).is_right());
        }
        let bytes = v6("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let error = Packet::parse(&bytes).unwrap().too_long(1400).unwrap();
        assert_eq!(error[40..42], [2, 0]);
        assert_eq!(error[44..48], 1400_u32.to_be_bytes());
    }

    #[test]
    fn errors_and_multicast_are_never_answered_with_errors() {
        let bytes = v4([10, 0, 0, 1], [10, 0, 0, 2]);
        let error = Packet::parse(&bytes).unwrap().unreachable().unwrap();
        assert!(Packet::parse(&error).unwrap().unreachable().is_none());
        let multicast = v4([10, 0, 0, 1], [224, 0, 0, 251]);
        assert!(Packet::parse(&multicast).unwrap().unreachable().is_none());
        let solicitation = v6("fe80::1".parse().unwrap(), "ff02::2".parse().unwrap());
        assert!(
            Packet::parse(&solicitation)
                .unwrap()
                .unreachable()
                .is_none()
        );
    }
}
