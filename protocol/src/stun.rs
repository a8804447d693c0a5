//! STUN Binding (RFC 8489), both ends, as far as it tells an address: no authentication, no other method.
//!
//! A relay answers requests, so that programs of others can learn from it too; a node asks when nobody else can tell.
//! This room does not know whom to answer, nor how often.

use std::net::{IpAddr, SocketAddr};

/// Bytes of the header (RFC 8489 §5), which is all of a plain request.
pub const HEADER_BYTES: usize = 20;
/// Bytes of a message at most: what is longer is no plain Binding.
const MESSAGE_BYTES_MAX: usize = 548;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// Attributes below must be understood (RFC 8489 §14).
const OPTIONAL_FROM: u16 = 0x8000;
const IPV4: u8 = 1;
const IPV6: u8 = 2;

/// The number that ties an answer to its request; random.
pub type Txid = [u8; 12];

/// A plain request.
#[must_use]
pub fn request(txid: &Txid) -> Vec<u8> {
    message(BINDING_REQUEST, txid, &[])
}

/// The answer to a request that came from this address. `None` when the message is no Binding request, or asks for more
/// than the address.
#[must_use]
pub fn answer(request: &[u8], seen: SocketAddr) -> Option<Vec<u8>> {
    let (txid, mut attributes) = parse(request, BINDING_REQUEST)?;
    while let Some((kind, _)) = next(&mut attributes)? {
        if kind < OPTIONAL_FROM {
            return None;
        }
    }
    let pad = pad(txid);
    let (family, address) = match seen.ip().to_canonical() {
        IpAddr::V4(ip) => (IPV4, xored(ip.octets(), &pad).to_vec()),
        IpAddr::V6(ip) => (IPV6, xored(ip.octets(), &pad).to_vec()),
    };
    let port = xored(seen.port().to_be_bytes(), &pad);
    let length = u16::try_from(4 + address.len()).expect("an address has at most 16 bytes");
    let attribute = [
        &XOR_MAPPED_ADDRESS.to_be_bytes()[..],
        &length.to_be_bytes(),
        &[0, family],
        &port,
        &address,
    ];
    Some(message(BINDING_SUCCESS, txid, &attribute.concat()))
}

/// The address in an answer to the request with this number.
#[must_use]
pub fn observed(response: &[u8], asked: &Txid) -> Option<SocketAddr> {
    let (txid, mut attributes) = parse(response, BINDING_SUCCESS)?;
    if txid != asked {
        return None;
    }
    let mut found = None;
    while let Some((kind, value)) = next(&mut attributes)? {
        // The first counts (RFC 8489 §14).
        if kind == XOR_MAPPED_ADDRESS && found.is_none() {
            found = Some(address(value, &pad(txid))?);
        }
    }
    found
}

/// The number and the attributes of a message of a type.
fn parse(bytes: &[u8], wanted: u16) -> Option<(&Txid, &[u8])> {
    let (header, attributes) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let kind = u16::from_be_bytes([header[0], header[1]]);
    let length = u16::from_be_bytes([header[2], header[3]]);
    let whole = usize::from(length) == attributes.len() && bytes.len() <= MESSAGE_BYTES_MAX;
    let plain = kind == wanted && header[4..8] == COOKIE && length.is_multiple_of(4);
    let txid = header.last_chunk()?;
    (whole && plain).then_some((txid, attributes))
}

/// Takes the next attribute: its type and value. The outer `None` when it is cut off, the inner one at the end.
fn next<'a>(attributes: &mut &'a [u8]) -> Option<Option<(u16, &'a [u8])>> {
    if attributes.is_empty() {
        return Some(None);
    }
    let ([kind_high, kind_low, high, low], rest) = attributes.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let value = rest.get(..length)?;
    *attributes = rest.get(length.next_multiple_of(4)..)?;
    Some(Some((u16::from_be_bytes([*kind_high, *kind_low]), value)))
}

fn address(value: &[u8], pad: &[u8; 16]) -> Option<SocketAddr> {
    let ([_, family, port_high, port_low], ip) = value.split_first_chunk()?;
    let port = xored([*port_high, *port_low], pad);
    let ip = match *family {
        IPV4 => IpAddr::from(xored::<4>(ip.try_into().ok()?, pad)),
        IPV6 => IpAddr::from(xored::<16>(ip.try_into().ok()?, pad)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(port)))
}

/// What addresses are combined with, so that no router on the way rewrites them (RFC 8489 §14.2).
fn pad(txid: &Txid) -> [u8; 16] {
    let mut pad = [0; 16];
    pad[..4].copy_from_slice(&COOKIE);
    pad[4..].copy_from_slice(txid);
    pad
}

fn xored<const N: usize>(mut bytes: [u8; N], pad: &[u8; 16]) -> [u8; N] {
    for (byte, pad) in bytes.iter_mut().zip(pad) {
        *byte ^= pad;
    }
    bytes
}

fn message(kind: u16, txid: &Txid, attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len()).expect("we send one attribute at most");
    let head = [kind.to_be_bytes(), length.to_be_bytes()].concat();
    [&head, &COOKIE[..], txid, attributes].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TXID: Txid = [
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ];

    /// The answers of RFC 5769 §2.2 and §2.3 without what signs them: their attribute and its address.
    #[test]
    fn the_addresses_of_the_standards_examples_come_out() {
        let v4 = [0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        let v6 = [
            0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4,
            0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        for (value, seen) in [
            (&v4[..], "192.0.2.1:32853"),
            (&v6[..], "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ] {
            let seen: SocketAddr = seen.parse().unwrap();
            let length = u8::try_from(value.len()).unwrap();
            let attribute = [&[0, 0x20, 0, length], value].concat();
            let expected = message(BINDING_SUCCESS, &TXID, &attribute);
            assert_eq!(answer(&request(&TXID), seen), Some(expected.clone()));
            assert_eq!(observed(&expected, &TXID), Some(seen));
            assert_eq!(observed(&expected, &[0; 12]), None);
        }
    }

    #[test]
    fn a_request_that_asks_for_more_gets_no_answer_and_one_that_adds_remarks_does() {
        let seen: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        // SOFTWARE with 3 bytes and their padding.
        let software = [0x80, 0x22, 0, 3, b'a', b'b', b'c', 0];
        assert!(answer(&message(BINDING_REQUEST, &TXID, &software), seen).is_some());
        // CHANGE-REQUEST (RFC 5780), and SOFTWARE cut off.
        for refused in [&[0, 3, 0, 4, 0, 0, 0, 6][..], &software[..4]] {
            assert_eq!(
                answer(&message(BINDING_REQUEST, &TXID, refused), seen),
                None
            );
        }
        assert_eq!(answer(&message(BINDING_SUCCESS, &TXID, &[]), seen), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_answers_are_short(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            attributes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let seen = SocketAddr::from(([1; 16], 1));
            let framed = message(BINDING_REQUEST, &TXID, &attributes);
            for bytes in [&bytes, &framed] {
                let answered = answer(bytes, seen).map_or(0, |answer| answer.len());
                prop_assert!(answered <= 44);
                prop_assert_eq!(observed(bytes, &TXID), None);
            }
            let response = message(BINDING_SUCCESS, &TXID, &attributes);
            prop_assert_eq!(observed(&response, &[0; 12]), None);
        }
    }
}
