//! Known frames, tampering, sizes and the demultiplexer's rules.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::limits::CANDIDATES_MAX;
use crate::record::{Candidate, CandidateKind, Nat};

const NETWORK: NetworkId = NetworkId::new([9; 16]);
const NONCE: [u8; NONCE_BYTES] = [12; NONCE_BYTES];
const TXID: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
const PING: Probe = Probe::Ping {
    txid: TXID,
    padding: 2,
};

#[test]
fn probes_give_their_known_frames() {
    let (a, b) = pair();
    assert_eq!(
        hex(&a.seal(&PING, NONCE)),
        "6d4e500107fd59d3c4c0bfa50c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0cd0fdd457bfe0be6b66e38214262827e4f46cdef4f5155f5888564f386028f91ac53adacef4012647d239b90317c58ca53ded22"
    );
    assert_eq!(
        hex(&b.seal(&pong("203.0.113.9:41641"), NONCE)),
        "6d4e50010c6cc5e1e2003e1c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c2d6eecd437e1b4a666baecd8e50d3bf3b02fe58192e05771e7d0687f67951ef6a1d511d8b073bc73cb22db8de8fb3527e5"
    );
    assert_eq!(
        hex(&b.seal(&pong("[2001:db8::1]:51820"), NONCE)),
        "6d4e50010c6cc5e1e2003e1c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c2d6eecd437e1b4a666baecd8e50fd0f2cc9ee58192e05771e7d0687f6794db9ea1692251a47f8261cbb22626fcbbe897ba"
    );
}

#[test]
fn both_ends_agree_on_tags_and_each_direction_has_its_own() {
    let (a, b) = pair();
    let (from_a, from_b) = (a.seal(&PING, NONCE), b.seal(&PING, NONCE));
    assert_eq!(tag_of(&from_a), Some(b.tag_in()));
    assert_eq!(tag_of(&from_b), Some(a.tag_in()));
    assert_ne!(a.tag_in(), b.tag_in());
    assert_eq!(b.open(&from_a), Ok(PING));
}

#[test]
fn a_probe_reflected_to_its_sender_is_refused() {
    let (a, _) = pair();
    let mut frame = a.seal(&PING, NONCE);
    assert_eq!(a.open(&frame), Err(ProbeError::NotOurs));
    frame[4..12].copy_from_slice(&a.tag_in());
    assert_eq!(a.open(&frame), Err(ProbeError::Broken));
}

#[test]
fn a_probe_of_another_network_is_refused() {
    let (a, _) = pair();
    let elsewhere = keys(11, 10, NetworkId::new([8; 16]));
    let opened = elsewhere.open(&a.seal(&PING, NONCE));
    assert_eq!(opened, Err(ProbeError::NotOurs));
}

#[test]
fn every_flipped_bit_of_a_probe_is_refused() {
    let (a, b) = pair();
    let frame = a.seal(&PING, NONCE);
    for bit in 0..frame.len() * 8 {
        let mut bad = frame.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(b.open(&bad).is_err(), "bit {bit}");
    }
}

#[test]
fn our_own_key_and_its_negative_give_no_probe_keys() {
    let own = Secret::from_seed(&[10; 32]);
    let mut bytes = *own.public().as_bytes();
    for _ in 0..2 {
        let peer = TunnelKey::parse(bytes).unwrap();
        let refused = ProbeKeys::new(&own, &peer, &NETWORK).unwrap_err();
        assert_eq!(refused, ProbeError::WeakKey);
        bytes[31] ^= 0x80;
    }
}

#[test]
fn a_pong_is_never_larger_than_its_ping() {
    let (a, b) = pair();
    for address in ["203.0.113.9:1", "[2001:db8::1]:65535", "[::]:0"] {
        for padding in [0, 1, PADDING_BYTES_MAX] {
            let ping = a.seal(
                &Probe::Ping {
                    txid: TXID,
                    padding,
                },
                NONCE,
            );
            let pong = b.seal(&pong(address), NONCE);
            assert!(pong.len() <= ping.len());
            assert_eq!(pong.len(), PROBE_BYTES_MIN);
            assert_eq!(ping.len(), PROBE_BYTES_MIN + usize::from(padding));
        }
    }
}

#[test]
fn the_most_padding_fills_a_datagram_and_more_is_cut() {
    let (a, b) = pair();
    let most = Probe::Ping {
        txid: TXID,
        padding: PADDING_BYTES_MAX,
    };
    let over = Probe::Ping {
        txid: TXID,
        padding: u16::MAX,
    };
    let frame = a.seal(&over, NONCE);
    assert_eq!(frame.len(), PROBE_BYTES_MAX);
    assert_eq!(b.open(&frame), Ok(most));
}

#[test]
fn a_body_has_one_encoding() {
    let ping = PING.to_bytes();
    let pong4 = pong("203.0.113.9:41641").to_bytes();
    let pong6 = pong("[2001:db8::1]:41641").to_bytes();
    let call = Probe::Call(call(2)).to_bytes();
    let bad: [(&[u8], usize, u8, &str); 14] = [
        (&ping, 0, 5, "unknown kind"),
        (&ping, 13, 1, "padding of another length than told"),
        (&ping, 20, 1, "padding that is not zero"),
        (&pong4, 13, 5, "unknown address family"),
        (&pong4, 20, 1, "bytes behind an IPv4 address"),
        (&pong6, 32, 1, "an extension that is not there"),
        (&call, 21, 5, "unknown kind of NAT"),
        (&call, 26, 2, "neither a run nor none"),
        (&call, 27, 11, "more candidates than there is room for"),
        (&call, 27, 1, "bytes behind the last candidate"),
        (&call, 28, 9, "unknown kind of candidate"),
        (&call, 29, 0, "a candidate without an address"),
        (&call, 28, 2, "candidates out of order"),
        (&call, 227, 1, "bytes in an empty slot"),
    ];
    for (body, at, value, what) in bad {
        let mut body = body.to_vec();
        body[at] = value;
        assert_eq!(Probe::parse(&body), Err(ProbeError::Malformed), "{what}");
    }
    let mapped = pong("[::ffff:203.0.113.9]:41641");
    assert_eq!(mapped.to_bytes(), pong4);
    let mut body = pong6;
    body[14..30].copy_from_slice(&"::ffff:1.2.3.4".parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(Probe::parse(&body), Err(ProbeError::Malformed));
}

#[test]
fn an_extension_is_skipped_unless_it_must_be_understood() {
    let extended = |kind: u16| {
        let mut body = PING.to_bytes();
        body[15] = 1;
        let [low, high] = kind.to_le_bytes();
        body.splice(16..16, [low, high, 2, 0, 0xAA, 0xBB]);
        Probe::parse(&body)
    };
    assert_eq!(extended(0x7FFF), Ok(PING));
    assert_eq!(extended(0x8000), Err(ProbeError::Malformed));
}

#[test]
fn datagrams_are_told_apart_by_the_first_rule_that_fits() {
    use DatagramKind::{Other, Probe, Relay, Stun, WireGuard};
    let of = |head: &[u8], length: usize| {
        let mut datagram = head.to_vec();
        datagram.resize(length, 0);
        classify(&datagram)
    };
    for (kind, length) in [(1, 148), (2, 92), (3, 64)] {
        assert_eq!(of(&[kind, 0, 0, 0], length), WireGuard);
        assert_eq!(of(&[kind, 0, 0, 0], length + 1), Other);
        assert_eq!(of(&[kind, 0, 0, 0], length - 1), Other);
        assert_eq!(of(&[kind, 0, 0, 1], length), Other);
    }
    assert_eq!(of(&[4, 0, 0, 0], 32), WireGuard);
    assert_eq!(of(&[4, 0, 0, 0], 1500), WireGuard);
    assert_eq!(of(&[4, 0, 0, 0], 31), Other);
    assert_eq!(of(&[5, 0, 0, 0], 148), Other);
    let stun = [0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42];
    let success = [1, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42];
    assert_eq!(of(&stun, 28), Stun);
    assert_eq!(of(&success, 28), Stun);
    assert_eq!(of(&stun, 27), Other);
    assert_eq!(of(&stun, 29), Other);
    assert_eq!(of(&[0x40, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42], 28), Other);
    assert_eq!(of(&[0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x43], 28), Other);
    assert_eq!(of(&MAGIC, 4), Probe);
    assert_eq!(of(&RELAY_MAGIC, 1400), Relay);
    assert_eq!(of(&[0x6D, 0x4E, b'P', 2], 85), Other);
    assert_eq!(of(&[], 0), Other);
}

proptest! {
    #[test]
    fn every_probe_opens_as_it_was_sealed(probe in probes(), nonce: [u8; NONCE_BYTES]) {
        let (a, b) = pair();
        prop_assert_eq!(b.open(&a.seal(&probe, nonce)), Ok(probe));
    }

    #[test]
    fn strange_bytes_never_open(mut bytes in prop::collection::vec(any::<u8>(), 0..200), known: bool) {
        let (_, b) = pair();
        if known {
            bytes.splice(0..0, [&MAGIC[..], &b.tag_in()].concat());
        }
        prop_assert!(b.open(&bytes).is_err());
        prop_assert_eq!(classify(&bytes) == DatagramKind::Probe, bytes.starts_with(&MAGIC));
    }

    #[test]
    fn a_body_that_parses_is_written_as_it_was_read(
        mut bytes in prop::collection::vec(0u8..7, BODY_BYTES_MIN..40),
        ping: bool,
    ) {
        bytes[0] = if ping { 1 } else { 2 };
        if let Ok(probe) = Probe::parse(&bytes) {
            let written = probe.to_bytes();
            prop_assert_eq!(Probe::parse(&written), Ok(probe));
            prop_assert!(written.len() < bytes.len() || written == bytes);
        }
    }
}

#[test]
fn a_call_and_its_answer_are_of_one_length_whatever_they_tell() {
    let (a, b) = pair();
    for count in [0, 1, CANDIDATES_MAX] {
        let question = a.seal(&Probe::Call(call(count)), NONCE);
        let answer = b.seal(&Probe::CallAck(call(count)), NONCE);
        assert_eq!((question.len(), answer.len()), (281, 281));
        assert_eq!(b.open(&question), Ok(Probe::Call(call(count))));
    }
}

#[test]
fn a_pong_by_a_relay_tells_no_address_and_is_no_smaller() {
    let (a, b) = pair();
    let hidden = Probe::Pong {
        txid: TXID,
        observed: None,
    };
    let frame = a.seal(&hidden, NONCE);
    assert_eq!(frame.len(), PROBE_BYTES_MIN);
    assert_eq!(b.open(&frame), Ok(hidden.clone()));
    let mut body = hidden.to_bytes();
    body[30] = 1;
    assert_eq!(Probe::parse(&body), Err(ProbeError::Malformed));
}

fn call(count: usize) -> Call {
    let candidate = |number: usize| Candidate {
        kind: CandidateKind::Observed,
        address: SocketAddr::from(([203, 0, 113, number as u8], 41_641)),
    };
    Call {
        txid: TXID,
        seq: 7,
        nat: Nat::Sequential,
        plan: PortPlan {
            last: 40_000,
            step: -2,
        },
        run: false,
        candidates: (0..count).map(candidate).collect(),
    }
}

fn probes() -> impl Strategy<Value = Probe> {
    let ping = (any::<[u8; 12]>(), 0..=PADDING_BYTES_MAX)
        .prop_map(|(txid, padding)| Probe::Ping { txid, padding });
    let address = (any::<IpAddr>(), any::<u16>())
        .prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port));
    let pong = (any::<[u8; 12]>(), prop::option::of(address.clone()))
        .prop_map(|(txid, observed)| Probe::Pong { txid, observed });
    let candidates = prop::collection::btree_set(address, 0..=CANDIDATES_MAX);
    let call = (any::<([u8; 12], u64, u16, i16, bool)>(), candidates).prop_map(
        |((txid, seq, last, step, answer), addresses)| {
            let candidate = |address| Candidate {
                kind: CandidateKind::Host,
                address,
            };
            let call = Call {
                txid,
                seq,
                nat: Nat::Random,
                plan: PortPlan { last, step },
                run: last > 9,
                candidates: addresses.into_iter().map(candidate).collect(),
            };
            if answer {
                Probe::CallAck(call)
            } else {
                Probe::Call(call)
            }
        },
    );
    prop_oneof![ping, pong, call]
}

fn pair() -> (ProbeKeys, ProbeKeys) {
    (keys(10, 11, NETWORK), keys(11, 10, NETWORK))
}

fn keys(own: u8, peer: u8, network: NetworkId) -> ProbeKeys {
    let peer = TunnelKey::new(Secret::from_seed(&[peer; 32]).public());
    ProbeKeys::new(&Secret::from_seed(&[own; 32]), &peer, &network).unwrap()
}

fn pong(observed: &str) -> Probe {
    Probe::Pong {
        txid: TXID,
        observed: Some(observed.parse().unwrap()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
