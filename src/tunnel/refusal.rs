//! The answer to a program whose packet the policy does not let out: at once, instead of a time-out.

use std::net::IpAddr;

use super::packet::Packet;
use super::split::sum_v4;
use super::sum::Sum;
use super::transport::{Content, Extent, Flags, Transport};
use meshnode_protocol::access::number;

/// Bytes of the answer's TCP header.
const TCP_HEADER: usize = 20;
/// TCP flags.
const RST: u8 = 4;
const RST_ACK: u8 = 4 | 16;

/// As if the destination had sent it: a reset for TCP, else the ICMP error "administratively prohibited".
///
/// `None` for resets, and where [`Packet::prohibited`] has none.
pub(crate) fn refusal(packet: &Packet<'_>) -> Option<Vec<u8>> {
    let transport = Transport::parse(packet, Extent::Whole)?;
    match transport.content {
        Content::Tcp(_, flags) => reset(packet, transport.at, flags),
        Content::Datagram(_)
        | Content::EchoRequest(_)
        | Content::EchoReply(_)
        | Content::Error(_)
        | Content::Message
        | Content::Opaque
        | Content::Later => packet.prohibited(),
    }
}

/// RFC 9293 §3.10.7.1: the reset that a segment to a closed port gets.
fn reset(packet: &Packet<'_>, at: usize, flags: Flags) -> Option<Vec<u8>> {
    let segment = packet.bytes().get(at..)?;
    let header = segment.first_chunk::<TCP_HEADER>()?;
    if flags.rst() {
        return None;
    }
    let mut tcp = [0; TCP_HEADER];
    tcp[..2].copy_from_slice(&header[2..4]);
    tcp[2..4].copy_from_slice(&header[..2]);
    tcp[12] = 5 << 4;
    if flags.ack() {
        tcp[4..8].copy_from_slice(&header[8..12]);
        tcp[13] = RST;
    } else {
        let data = segment
            .len()
            .saturating_sub(usize::from(header[12] >> 4) * 4);
        let length = u32::try_from(data).ok()? + u32::from(flags.syn()) + u32::from(flags.fin());
        let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        tcp[8..12].copy_from_slice(&sequence.wrapping_add(length).to_be_bytes());
        tcp[13] = RST_ACK;
    }
    let mut answer = ip_header(packet);
    // Both pseudo-headers (RFC 9293 §3.1, RFC 8200 §8.1) add up the addresses, the length and the protocol.
    let addresses = answer.len() - if answer[0] >> 4 == 4 { 8 } else { 32 };
    let sum = Sum::pseudo(&answer[addresses..], number::TCP, TCP_HEADER).bytes(&tcp);
    tcp[16..18].copy_from_slice(&sum.checksum());
    answer.extend_from_slice(&tcp);
    Some(answer)
}

/// The IP header of a TCP segment without data from the destination back to the source.
fn ip_header(packet: &Packet<'_>) -> Vec<u8> {
    match (packet.source(), packet.destination()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0, 0, 20 + 20, 0, 0, 0, 0, 64, number::TCP, 0, 0];
            header.extend_from_slice(&destination.octets());
            header.extend_from_slice(&source.octets());
            sum_v4(&mut header);
            header
        }
        (source, destination) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            let mut header = vec![0x60, 0, 0, 0, 0, 20, number::TCP, 64];
            header.extend_from_slice(&octets(destination));
            header.extend_from_slice(&octets(source));
            header
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::v4;
    use super::*;

    /// A TCP segment with 4 bytes of data.
    fn segment(flags: u8) -> Vec<u8> {
        let mut bytes = v4([10, 0, 0, 1], [10, 0, 0, 2]);
        bytes.resize(44, 0);
        bytes[3] = 44;
        bytes[9] = number::TCP;
        bytes[20..24].copy_from_slice(&[0x10, 0, 0, 22]);
        bytes[24..28].copy_from_slice(&0xffff_fffe_u32.to_be_bytes());
        bytes[28..32].copy_from_slice(&77_u32.to_be_bytes());
        bytes[32] = 5 << 4;
        bytes[33] = flags;
        bytes
    }

    fn parsed(bytes: &[u8]) -> Packet<'_> {
        Packet::parse(bytes).unwrap()
    }

    #[test]
    fn a_segment_that_opens_is_acknowledged_and_reset() {
        let reset = refusal(&parsed(&segment(2))).unwrap();
        let packet = Packet::parse(&reset).unwrap();
        assert_eq!(packet.source(), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(packet.destination(), IpAddr::from([10, 0, 0, 1]));
        assert_eq!(reset[20..24], [0, 22, 0x10, 0]);
        // Past the end of the sequence numbers: 4 bytes of data and the SYN.
        assert_eq!(reset[28..32], 3_u32.to_be_bytes());
        assert_eq!(reset[33], RST_ACK);
        assert!(Sum::default().bytes(&reset[..20]).is_right());
        let pseudo = Sum::pseudo(&reset[12..20], number::TCP, 20);
        assert!(pseudo.bytes(&reset[20..]).is_right());
    }

    #[test]
    fn a_segment_that_acknowledges_is_reset_where_the_other_end_would_go_on() {
        let reset = refusal(&parsed(&segment(16))).unwrap();
        assert_eq!(reset[24..28], 77_u32.to_be_bytes());
        assert_eq!(reset[33], RST);
    }

    #[test]
    fn over_ipv6_the_reset_has_a_good_checksum() {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 20, number::TCP, 64];
        bytes.extend_from_slice(&[0xfd; 16]);
        bytes.extend_from_slice(&[0xfc; 16]);
        bytes.extend_from_slice(&segment(2)[20..40]);
        let reset = refusal(&parsed(&bytes)).unwrap();
        assert_eq!(reset[8..24], [0xfc; 16]);
        let pseudo = Sum::pseudo(&reset[8..40], number::TCP, 20);
        assert!(pseudo.bytes(&reset[40..]).is_right());
    }

    #[test]
    fn a_reset_and_an_error_are_answered_with_nothing() {
        assert_eq!(refusal(&parsed(&segment(4))), None);
        let refused = refusal(&parsed(&v4([10, 0, 0, 1], [10, 0, 0, 2]))).unwrap();
        assert_eq!(refused[20..22], [3, 13]);
        assert_eq!(refusal(&parsed(&refused)), None);
    }
}
