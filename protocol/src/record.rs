//! Device records: what a device says about itself, newest wins (`docs/protocol.md` §5).
//!
//! A [`Record`] exists only if its signature holds and its body is well formed. A record of a kind this version
//! does not know is kept and relayed, its body unread.

mod relay;

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::{CodecError, Ext, decode, encode};
use crate::id::{Digest, NetworkId, NodeId, OpId, Signature, TransportKey, TunnelKey};
use crate::identity::{BadSignature, Binding, Context, Secret, hash, verify};
use crate::limits::{
    CANDIDATES_MAX, HOMES_MAX, PARENTS_MAX, RECORD_BYTES_MAX, RECORD_SEQ_MAX, RELAY_ADDRESSES_MAX,
};
use crate::time::Timestamp;

pub use self::relay::RelayRecord;

/// Why a record was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The signature, or a binding in a Node record.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// The version is not 1.
    #[error("record version {0} is unknown")]
    Version(u8),
    /// A record of another network.
    #[error("the record is of another network")]
    OtherNetwork,
}

/// The kind of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordKind(pub u16);

impl RecordKind {
    /// Keys and version: [`NodeRecord`].
    pub const NODE: Self = Self(1);
    /// Where to find it: [`Endpoints`].
    pub const ENDPOINTS: Self = Self(2);
    /// What an admin knows: [`Tip`].
    pub const TIP: Self = Self(3);
    /// Goodbye, for ever.
    pub const LEFT: Self = Self(4);
    /// What it has heard and obeys: [`Seen`].
    pub const SEEN: Self = Self(5);
    /// Reserved: a stock WireGuard device behind this one.
    pub const GUEST: Self = Self(6);
    /// What an admin says of a relay that is no member: [`RelayRecord`]. A device has one for every relay.
    pub const RELAY: Self = Self(7);

    /// Whether a device has only one record of the kind. All others together have a bound.
    #[must_use]
    pub const fn is_alone(self) -> bool {
        matches!(self.0, 1..=5)
    }
}

/// Which register a record fills: the larger (seq, hash) of two in one slot stays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Slot {
    /// Whose.
    pub device: NodeId,
    /// What.
    pub kind: RecordKind,
    /// Which of several; zero unless the kind says otherwise.
    pub sub: [u8; 32],
}

impl Slot {
    /// The slot's key in the reconciler and in the store.
    #[must_use]
    pub fn key(&self) -> Digest {
        hash(&encode(self))
    }
}

/// Keys that vouch for the device, and what it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// T.
    pub transport: Binding<TransportKey>,
    /// W.
    pub tunnel: Binding<TunnelKey>,
    /// The W to come, if one is announced.
    pub tunnel_next: Option<Binding<TunnelKey>>,
    /// Operating system, at most 32 bytes.
    pub os: String,
    /// Program version, at most 32 bytes.
    pub version: String,
    /// Extensions.
    pub ext: Ext,
}

/// How an address was learned (`docs/protocol.md` §8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CandidateKind {
    /// An address of an interface.
    Host,
    /// What a peer saw.
    Observed,
    /// A port mapping of the router.
    Mapped,
    /// Configured by a person.
    Static,
}

/// Where a node might be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Candidate {
    /// How it was learned.
    pub kind: CandidateKind,
    /// The address.
    pub address: SocketAddr,
}

/// A libp2p transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// TCP, noise, yamux.
    Tcp,
    /// QUIC version 1.
    Quic,
}

/// Where the control plane of a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ControlAddress {
    /// By which transport.
    pub transport: Transport,
    /// At which address.
    pub address: SocketAddr,
}

/// How a router maps a port (RFC 4787 §4.1).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Nat {
    /// Fewer than two others saw the device.
    #[default]
    Unknown,
    /// Not at all: it is seen at its own address.
    None,
    /// To one port, whoever is spoken to.
    Independent,
    /// To another port for everybody, one after the other.
    Sequential,
    /// To another port for everybody, at random.
    Random,
}

/// Where to find a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// For the tunnel, strictly ascending, at most [`CANDIDATES_MAX`].
    pub tunnel: Vec<Candidate>,
    /// For the control plane, strictly ascending, at most [`CANDIDATES_MAX`].
    pub control: Vec<ControlAddress>,
    /// How the router in front of the device maps its port, as far as the device knows.
    pub nat: Nat,
    /// The relays at which it is to be found, by transport key, the best first; at most [`HOMES_MAX`], no two alike.
    pub homes: Vec<TransportKey>,
    /// Whether it carries datagrams and circuits for other members.
    pub carries: bool,
    /// Ranks candidates; never deletes the last known ones. Seconds.
    pub ttl_s: u32,
    /// Extensions.
    pub ext: Ext,
}

/// What an admin knew at a time, so that others notice what they miss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// Op heads, strictly ascending, at most 16.
    pub heads: Vec<OpId>,
    /// How many ops it has.
    pub ops: u32,
    /// The root op; the genesis as long as the root set cannot rotate.
    pub root: OpId,
    /// The policy base in force, if any.
    pub policy_base: Option<OpId>,
    /// The epoch in force.
    pub epoch: u32,
    /// The admin's clock.
    pub time: Timestamp,
    /// Extensions.
    pub ext: Ext,
}

/// What a device has heard and obeys: the acknowledgement that admins wait for (`docs/protocol.md` §5.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Op heads that it has applied, strictly ascending, at most 16; the smallest when it has more.
    pub heads: Vec<OpId>,
    /// How many ops it has.
    pub ops: u32,
    /// The newest epoch whose key it holds.
    pub epoch: u32,
    /// The policy that it enforces: the last op that went into it, if there is any.
    pub policy: Option<OpId>,
    /// Extensions.
    pub ext: Ext,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordBody {
    /// See [`NodeRecord`].
    Node(Box<NodeRecord>),
    /// See [`Endpoints`].
    Endpoints(Endpoints),
    /// See [`Tip`].
    Tip(Box<Tip>),
    /// See [`Seen`].
    Seen(Seen),
    /// The device is gone for ever; its seq does not matter.
    Left,
    /// See [`RelayRecord`].
    Relay(RelayRecord),
    /// A kind, or an extension that must be understood, that this version does not know: kept and relayed, unread.
    Opaque(RecordKind),
}

#[derive(Serialize, Deserialize)]
struct RecordTerms {
    version: u8,
    network: NetworkId,
    slot: Slot,
    seq: u64,
    body: Vec<u8>,
    ext: Ext,
}

#[derive(Serialize, Deserialize)]
struct RecordBytes {
    terms: RecordTerms,
    signature: Signature,
}

/// A signed device record. Its bytes are kept as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(Arc<Checked>);

/// What was checked once; copies of a record share it.
#[derive(Debug, PartialEq, Eq)]
struct Checked {
    network: NetworkId,
    slot: Slot,
    seq: u64,
    body: RecordBody,
    digest: Digest,
    bytes: Box<[u8]>,
}

impl Record {
    /// Signs a body as a device, in the slot that it belongs to.
    #[must_use]
    pub fn sign(network: NetworkId, seq: u64, body: RecordBody, device: &Secret) -> Self {
        let (kind, body_bytes) = body.to_bytes();
        let slot = Slot {
            device: NodeId::new(device.public()),
            kind,
            sub: body.sub().unwrap_or_default(),
        };
        let terms = RecordTerms {
            version: 1,
            network,
            slot,
            seq,
            body: body_bytes,
            ext: Ext::NONE,
        };
        let digest = hash(&encode(&terms));
        let signature = device.sign(Context::Record, &[network.as_bytes(), digest.as_bytes()]);
        let bytes = encode(&RecordBytes { terms, signature });
        Self(Arc::new(Checked {
            network,
            slot,
            seq,
            body,
            digest: hash(&bytes),
            bytes: bytes.into(),
        }))
    }

    /// The slot and seq that bytes claim, unproven: to drop what is stale before a signature is checked.
    #[must_use]
    pub fn peek(bytes: &[u8]) -> Option<(Slot, u64)> {
        let RecordBytes { terms, .. } = decode(bytes, RECORD_BYTES_MAX).ok()?;
        Some((terms.slot, terms.seq))
    }

    /// Reads and checks a record of a network.
    ///
    /// # Errors
    /// With the first check that fails.
    pub fn parse(bytes: &[u8], network: &NetworkId) -> Result<Self, RecordError> {
        let RecordBytes { terms, signature } = decode(bytes, RECORD_BYTES_MAX)?;
        if terms.version != 1 {
            return Err(RecordError::Version(terms.version));
        }
        if terms.network != *network {
            return Err(RecordError::OtherNetwork);
        }
        if terms.seq > RECORD_SEQ_MAX {
            return Err(CodecError::Malformed.into());
        }
        let digest = hash(&encode(&terms));
        verify(
            terms.slot.device.key(),
            Context::Record,
            &[network.as_bytes(), digest.as_bytes()],
            &signature,
        )?;
        let body = RecordBody::parse(terms.slot.kind, &terms.body)?;
        if body.sub().is_some_and(|sub| sub != terms.slot.sub) {
            return Err(CodecError::Malformed.into());
        }
        if let RecordBody::Node(node) = &body {
            node.transport.check(network, &terms.slot.device)?;
            node.tunnel.check(network, &terms.slot.device)?;
            if let Some(next) = &node.tunnel_next {
                next.check(network, &terms.slot.device)?;
            }
        }
        let understood = !terms.ext.must_understand() && !body.ext().must_understand();
        Ok(Self(Arc::new(Checked {
            network: *network,
            slot: terms.slot,
            seq: terms.seq,
            body: if understood {
                body
            } else {
                RecordBody::Opaque(terms.slot.kind)
            },
            digest: hash(bytes),
            bytes: bytes.into(),
        })))
    }

    pub(crate) fn network(&self) -> &NetworkId {
        &self.0.network
    }

    /// Which register it fills.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.0.slot
    }

    /// Its sequence number.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    /// What it says.
    #[must_use]
    pub fn body(&self) -> &RecordBody {
        &self.0.body
    }

    /// The hash of its bytes: breaks ties between equal seqs.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// The bytes as received.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Whether this record takes the place of another in the same slot.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        (self.0.seq, self.0.digest) > (other.0.seq, other.0.digest)
    }
}

impl RecordBody {
    /// The kind of record that says this.
    #[must_use]
    pub const fn kind(&self) -> RecordKind {
        match self {
            Self::Node(_) => RecordKind::NODE,
            Self::Endpoints(_) => RecordKind::ENDPOINTS,
            Self::Tip(_) => RecordKind::TIP,
            Self::Left => RecordKind::LEFT,
            Self::Seen(_) => RecordKind::SEEN,
            Self::Relay(_) => RecordKind::RELAY,
            Self::Opaque(kind) => *kind,
        }
    }

    /// Which of a device's records of this kind it is, where this version knows.
    fn sub(&self) -> Option<[u8; 32]> {
        match self {
            Self::Node(_) | Self::Endpoints(_) | Self::Tip(_) | Self::Seen(_) | Self::Left => {
                Some([0; 32])
            }
            Self::Relay(relay) => Some(relay.sub()),
            Self::Opaque(_) => None,
        }
    }

    fn ext(&self) -> &Ext {
        const NONE: &Ext = &Ext::NONE;
        match self {
            Self::Node(node) => &node.ext,
            Self::Endpoints(endpoints) => &endpoints.ext,
            Self::Tip(tip) => &tip.ext,
            Self::Seen(seen) => &seen.ext,
            Self::Relay(relay) => &relay.ext,
            Self::Left | Self::Opaque(_) => NONE,
        }
    }

    fn parse(kind: RecordKind, bytes: &[u8]) -> Result<Self, CodecError> {
        let short = |text: &str| text.len() <= 32;
        let body = match kind {
            RecordKind::NODE => {
                let node: NodeRecord = decode(bytes, RECORD_BYTES_MAX)?;
                (short(&node.os) && short(&node.version)).then(|| Self::Node(Box::new(node)))
            }
            RecordKind::ENDPOINTS => {
                let endpoints: Endpoints = decode(bytes, RECORD_BYTES_MAX)?;
                let few = endpoints.tunnel.len() <= CANDIDATES_MAX
                    && endpoints.control.len() <= CANDIDATES_MAX;
                let sorted = endpoints.tunnel.windows(2).all(|pair| pair[0] < pair[1])
                    && endpoints.control.windows(2).all(|pair| pair[0] < pair[1]);
                let homes = &endpoints.homes;
                let distinct = homes.len() <= HOMES_MAX
                    && (1..homes.len()).all(|at| !homes[..at].contains(&homes[at]));
                (few && sorted && distinct).then_some(Self::Endpoints(endpoints))
            }
            RecordKind::TIP => {
                let tip: Tip = decode(bytes, RECORD_BYTES_MAX)?;
                let sorted = tip.heads.windows(2).all(|pair| pair[0] < pair[1]);
                (tip.heads.len() <= PARENTS_MAX && sorted).then(|| Self::Tip(Box::new(tip)))
            }
            RecordKind::SEEN => {
                let seen: Seen = decode(bytes, RECORD_BYTES_MAX)?;
                let sorted = seen.heads.windows(2).all(|pair| pair[0] < pair[1]);
                (seen.heads.len() <= PARENTS_MAX && sorted).then_some(Self::Seen(seen))
            }
            RecordKind::LEFT => bytes.is_empty().then_some(Self::Left),
            RecordKind::RELAY => {
                let relay: RelayRecord = decode(bytes, RECORD_BYTES_MAX)?;
                let addresses = &relay.addresses;
                let sorted = addresses.windows(2).all(|pair| pair[0] < pair[1]);
                let few = addresses.len() <= RELAY_ADDRESSES_MAX;
                let some = relay.removed || !addresses.is_empty();
                (few && sorted && some).then_some(Self::Relay(relay))
            }
            RecordKind(_) => Some(Self::Opaque(kind)),
        };
        body.ok_or(CodecError::Malformed)
    }

    fn to_bytes(&self) -> (RecordKind, Vec<u8>) {
        match self {
            Self::Node(node) => (RecordKind::NODE, encode(node)),
            Self::Endpoints(endpoints) => (RecordKind::ENDPOINTS, encode(endpoints)),
            Self::Tip(tip) => (RecordKind::TIP, encode(tip)),
            Self::Seen(seen) => (RecordKind::SEEN, encode(seen)),
            Self::Left => (RecordKind::LEFT, Vec::new()),
            Self::Relay(relay) => (RecordKind::RELAY, encode(relay)),
            Self::Opaque(kind) => (*kind, Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests;
