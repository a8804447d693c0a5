//! Who appears in the vectors: fixed keys, names and times.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use meshnode_protocol::body::{Genesis, Ipv4Range};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::{Digest, RootKey, TransportKey};
use meshnode_protocol::identity::{Keys, Secret};
use meshnode_protocol::invite::{InviteKeys, channel_hash};
use meshnode_protocol::name::{NetworkName, NodeName, Owner};
use meshnode_protocol::op::{Op, Realm};
use meshnode_protocol::seal::EpochKey;
use meshnode_protocol::time::Timestamp;

/// The key of a seed of 32 equal bytes.
pub(crate) fn secret(seed: u8) -> Secret {
    Secret::from_seed(&[seed; 32])
}

/// A membership's keys: D, T and W of three seeds that follow each other.
fn keys(seed: u8) -> Keys {
    Keys {
        device: secret(seed),
        transport: secret(seed + 1),
        tunnel: secret(seed + 2),
    }
}

/// The founder, an admin.
pub(crate) fn founder() -> Keys {
    keys(0x10)
}

/// A settled member.
pub(crate) fn member() -> Keys {
    keys(0x20)
}

/// A joiner.
pub(crate) fn joiner() -> Keys {
    keys(0x30)
}

/// The root keys of the 2-of-3 network; the 1-of-1 network has the first.
pub(crate) fn roots() -> Vec<Secret> {
    let mut roots: Vec<Secret> = [0x01, 0x02, 0x03].map(secret).into();
    roots.sort_by_key(|root| RootKey::new(root.public()));
    roots
}

/// What grows from the invite's code.
pub(crate) fn invite_keys() -> InviteKeys {
    InviteKeys {
        key: secret(0x40),
        rendezvous: [0x41; 32],
        psk: [0x42; 32],
    }
}

/// The key of epoch 0.
pub(crate) fn epoch() -> EpochKey {
    EpochKey::from_bytes(&[0x50; 32])
}

/// So many seconds after a fixed moment.
pub(crate) fn time(s: u64) -> Timestamp {
    Timestamp::from_ms(1_700_000_000_000 + 1000 * s)
}

/// A name.
pub(crate) fn name(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

/// The owner of some devices.
pub(crate) fn owner() -> Owner {
    Owner::parse("alice@example.org").unwrap()
}

/// What a genesis with these root keys says.
pub(crate) fn genesis_body(roots: &[Secret], threshold: u8) -> Genesis {
    let key = |root: &Secret| RootKey::new(root.public());
    Genesis {
        random: [0x60; 32],
        roots: roots.iter().map(key).collect(),
        threshold,
        name: NetworkName::parse("homelab").unwrap(),
        ipv4_range: Ipv4Range::DEFAULT,
        founder: founder().node(),
        founder_name: name("nas"),
        founder_ipv4: Ipv4Addr::new(100, 64, 7, 1),
        owner: Some(owner()),
        epoch_commitment: epoch().commitment(),
        closed: false,
        ext: Ext::NONE,
    }
}

/// The 1-of-1 network: all other vectors are of it.
pub(crate) static NETWORK: LazyLock<(Op, Realm)> = LazyLock::new(|| {
    let root = &roots()[..1];
    let op = Op::found(genesis_body(root, 1), time(0), root, &founder().device);
    Op::parse_genesis(op.bytes()).unwrap()
});

/// A transport key as the connection authenticates it.
pub(crate) fn transport(keys: &Keys) -> TransportKey {
    TransportKey::new(keys.transport.public())
}

/// The channel of the joiner with the founder.
pub(crate) fn channel() -> Digest {
    channel_hash(&transport(&joiner()), &transport(&founder()))
}
