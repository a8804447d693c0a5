//! One slot for a known kind; what must be understood and is not.

use super::*;

const NETWORK: NetworkId = NetworkId::new([3; 16]);

fn signed(kind: RecordKind, sub: [u8; 32], body: Vec<u8>, ext: Ext) -> Vec<u8> {
    let device = Secret::from_seed(&[1; 32]);
    let slot = Slot {
        device: NodeId::new(device.public()),
        kind,
        sub,
    };
    let terms = RecordTerms {
        version: 1,
        network: NETWORK,
        slot,
        seq: 1,
        body,
        ext,
    };
    let digest = hash(&encode(&terms));
    let signature = device.sign(Context::Record, &[NETWORK.as_bytes(), digest.as_bytes()]);
    encode(&RecordBytes { terms, signature })
}

fn endpoints(ext: Ext) -> Vec<u8> {
    encode(&Endpoints {
        tunnel: Vec::new(),
        control: Vec::new(),
        nat: Nat::Unknown,
        homes: Vec::new(),
        carries: false,
        ttl_s: 1,
        ext,
    })
}

fn demand() -> Ext {
    Ext::new(vec![(0x8000, Vec::new())]).unwrap()
}

#[test]
fn a_known_kind_has_one_slot_and_an_unknown_kind_may_have_many() {
    let known = [
        (RecordKind::ENDPOINTS, endpoints(Ext::NONE)),
        (RecordKind::LEFT, Vec::new()),
    ];
    for (kind, body) in known {
        let first = signed(kind, [0; 32], body.clone(), Ext::NONE);
        assert!(Record::parse(&first, &NETWORK).is_ok());
        let second = signed(kind, [1; 32], body, Ext::NONE);
        let refused = Record::parse(&second, &NETWORK);
        assert_eq!(refused, Err(CodecError::Malformed.into()));
    }
    let guest = signed(RecordKind::GUEST, [1; 32], vec![7], Ext::NONE);
    let guest = Record::parse(&guest, &NETWORK).unwrap();
    assert_eq!(*guest.body(), RecordBody::Opaque(RecordKind::GUEST));
}

#[test]
fn what_must_be_understood_and_is_not_leaves_the_body_unread() {
    let in_body = signed(
        RecordKind::ENDPOINTS,
        [0; 32],
        endpoints(demand()),
        Ext::NONE,
    );
    let outside = signed(RecordKind::LEFT, [0; 32], Vec::new(), demand());
    for (bytes, kind) in [
        (in_body, RecordKind::ENDPOINTS),
        (outside, RecordKind::LEFT),
    ] {
        let record = Record::parse(&bytes, &NETWORK).unwrap();
        assert_eq!(*record.body(), RecordBody::Opaque(kind));
        assert_eq!(record.bytes(), bytes);
    }
}
