//! Seeds of device records.

use meshnode_protocol::codec::{Ext, encode};
use meshnode_protocol::id::{OpId, TransportKey};
use meshnode_protocol::identity::Keys;
use meshnode_protocol::name::NodeName;
use meshnode_protocol::record::{NodeRecord, RecordBody, RecordKind, RelayRecord, Seen, Tip};
use meshnode_protocol::time::Timestamp;

use super::{endpoints, joiner, targets};

pub(super) fn records() -> Vec<(&'static str, RecordBody)> {
    let (network, device) = (targets::network(), targets::founder());
    let keys = Keys { device, ..joiner() };
    let node = NodeRecord {
        transport: keys.transport_binding(&network),
        tunnel: keys.tunnel_binding(&network),
        tunnel_next: Some(keys.tunnel_binding(&network)),
        os: "linux 6.12".into(),
        version: "0.1.0".into(),
        ext: Ext::NONE,
    };
    let tip = Tip {
        heads: vec![targets::NETWORK.0.id()],
        ops: 1,
        root: targets::NETWORK.0.id(),
        policy_base: None,
        epoch: 0,
        time: Timestamp::from_ms(50),
        ext: Ext::NONE,
    };
    let relay = RelayRecord {
        transport: TransportKey::new(keys.transport.public()),
        name: NodeName::parse("oak").expect("a name"),
        addresses: vec![([198, 51, 100, 7], 443).into()],
        removed: false,
        ext: Ext::NONE,
    };
    vec![
        ("relay", RecordBody::Relay(relay)),
        ("node", RecordBody::Node(Box::new(node))),
        ("endpoints", RecordBody::Endpoints(endpoints())),
        ("tip", RecordBody::Tip(Box::new(tip))),
        ("left", RecordBody::Left),
        (
            "seen",
            RecordBody::Seen(Seen {
                heads: vec![OpId::new([3; 32])],
                ops: 7,
                epoch: 1,
                policy: None,
                ext: Ext::NONE,
            }),
        ),
        ("unknown-kind", RecordBody::Opaque(RecordKind(0x1234))),
    ]
}

pub(super) fn record_bodies() -> Vec<(&'static str, Vec<u8>)> {
    let of = |body| match body {
        RecordBody::Node(node) => (1u16, encode(&node)),
        RecordBody::Endpoints(endpoints) => (2, encode(&endpoints)),
        RecordBody::Tip(tip) => (3, encode(&tip)),
        RecordBody::Left => (4, Vec::new()),
        RecordBody::Seen(seen) => (5, encode(&seen)),
        RecordBody::Relay(relay) => (7, encode(&relay)),
        RecordBody::Opaque(RecordKind(kind)) => (kind, vec![1, 2, 3]),
    };
    records()
        .into_iter()
        .map(|(name, body)| {
            let (kind, bytes) = of(body);
            (name, [&kind.to_le_bytes()[..], &bytes].concat())
        })
        .collect()
}
