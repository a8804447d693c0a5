//! Device records and the secrets file.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use meshnode_protocol::codec::Ext;
use meshnode_protocol::custody::Custody;
use meshnode_protocol::id::{OpId, TunnelKey};
use meshnode_protocol::identity::{Binding, Context, Keys};
use meshnode_protocol::record::{
    Candidate, CandidateKind, ControlAddress, Endpoints, Nat, NodeRecord, Record, RecordBody,
    RelayRecord, Seen, Tip, Transport,
};

use crate::Vector;
use crate::cast::{NETWORK, founder, joiner, member, name, secret, time, transport};
use crate::ops;

/// A Node record of the founder.
pub(crate) fn node() -> Record {
    let (keys, network) = (founder(), NETWORK.1.genesis.network());
    let next = secret(0x14);
    let device = keys.node();
    let fields: [&[u8]; 2] = [network.as_bytes(), device.as_bytes()];
    let body = NodeRecord {
        transport: keys.transport_binding(&network),
        tunnel: keys.tunnel_binding(&network),
        tunnel_next: Some(Binding {
            key: TunnelKey::new(next.public()),
            signature: next.sign(Context::BindTunnel, &fields),
        }),
        os: "linux".to_owned(),
        version: "0.1.0".to_owned(),
        ext: Ext::NONE,
    };
    Record::sign(
        network,
        1_700_000_000_001,
        RecordBody::Node(Box::new(body)),
        &keys.device,
    )
}

fn endpoints() -> Record {
    let v4 = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 51820));
    let v6 = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7), 51820));
    let candidate = |kind, address| Candidate { kind, address };
    let control = |transport, address| ControlAddress { transport, address };
    let body = Endpoints {
        tunnel: vec![
            candidate(CandidateKind::Host, v6),
            candidate(CandidateKind::Observed, v4),
        ],
        control: vec![control(Transport::Tcp, v4), control(Transport::Quic, v6)],
        nat: Nat::Unknown,
        homes: Vec::new(),
        carries: false,
        ttl_s: 7200,
        ext: Ext::NONE,
    };
    sign(RecordBody::Endpoints(body), 2)
}

fn tip() -> Record {
    let body = Tip {
        heads: vec![ops::grant().id()],
        ops: 2,
        root: NETWORK.1.genesis,
        policy_base: None,
        epoch: 0,
        time: time(9),
        ext: Ext::NONE,
    };
    sign(RecordBody::Tip(Box::new(body)), 300)
}

fn seen() -> Record {
    let body = Seen {
        heads: vec![ops::grant().id()],
        ops: 2,
        epoch: 300,
        policy: Some(OpId::new([0x52; 32])),
        ext: Ext::NONE,
    };
    sign(RecordBody::Seen(body), 7)
}

fn relay() -> Record {
    let body = RelayRecord {
        transport: transport(&joiner()),
        name: name("oak"),
        addresses: vec![([192, 0, 2, 9], 443).into()],
        removed: false,
        ext: Ext::NONE,
    };
    sign(RecordBody::Relay(body), 8)
}

fn sign(body: RecordBody, seq: u64) -> Record {
    Record::sign(NETWORK.1.genesis.network(), seq, body, &member().device)
}

fn record(name: &str, record: Record) -> [Vector; 2] {
    let key = Vector::derived(&format!("{name}-slot-key"), record.slot().key().as_bytes());
    let bytes = record.bytes().to_vec();
    let network = NETWORK.1.genesis.network();
    let reads = move |known: &[u8]| Record::parse(known, &network) == Ok(record.clone());
    [Vector::new(name, bytes, reads), key]
}

fn custody() -> Custody {
    let mut custody = Custody::new(&founder());
    custody.genesis = NETWORK.0.bytes().to_vec();
    custody.epochs = vec![(0, [0x50; 32])];
    custody.joined = true;
    custody
}

/// All of this room.
pub(crate) fn all() -> Vec<Vector> {
    let mut all: Vec<Vector> = [
        record("record-node", node()),
        record("record-endpoints", endpoints()),
        record("record-tip", tip()),
        record("record-seen", seen()),
        record("record-relay", relay()),
        record("record-left", sign(RecordBody::Left, 0)),
    ]
    .into_iter()
    .flatten()
    .collect();
    all.push(Vector::new(
        "custody",
        custody().to_bytes().to_vec(),
        |known| {
            Custody::parse(known).is_ok_and(|read| {
                let ours = founder();
                let theirs = read.keys();
                let seeds = |keys: &Keys| {
                    [&keys.device, &keys.transport, &keys.tunnel].map(|key| *key.danger_seed())
                };
                seeds(&ours) == seeds(&theirs)
                    && read.genesis == custody().genesis
                    && read.epochs == custody().epochs
                    && read.joined
            })
        },
    ));
    all
}
