//! Messages between nodes: version, bound, encode, decode (`docs/protocol.md` §6.3 and §7).
//!
//! Nothing here is trusted: a message is parsed once, and what it carries (ops, admits, records) is parsed by its own
//! room before anything acts on it.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::claim::Claim;
use crate::codec::{CodecError, Ext, decode, encode};
use crate::id::{Digest, NodeId, OpId, Signature};
use crate::io::InviteRefusal;
use crate::limits::{HEADS_REPORTED_MAX, JOIN_BYTES_MAX, MESSAGE_BYTES_MAX, PUSH_BYTES_MAX};
use crate::reconcile::ShortHash;
use crate::time::Timestamp;

/// The version of every message here; another is refused.
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Frame<T> {
    version: u8,
    body: T,
    ext: Ext,
}

fn frame<T: Serialize>(body: &T) -> Vec<u8> {
    encode(&Frame {
        version: VERSION,
        body,
        ext: Ext::NONE,
    })
}

fn unframe<T: Serialize + DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, CodecError> {
    let frame: Frame<T> = decode(bytes, max)?;
    if frame.version != VERSION || frame.ext.must_understand() {
        return Err(CodecError::Malformed);
    }
    Ok(frame.body)
}

macro_rules! message {
    ($name:ident, $max:expr) => {
        impl $name {
            /// The message's bytes.
            #[must_use]
            pub fn to_bytes(&self) -> Vec<u8> {
                frame(self)
            }

            /// Reads a message.
            ///
            /// # Errors
            /// When the bytes are too many, malformed or not canonical.
            pub fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
                unframe(bytes, $max)
            }
        }
    };
}

/// A joiner's question (`docs/protocol.md` §6.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinRequest {
    /// m1: I know the code behind this locator.
    Knock(Knock),
    /// m3: the claim.
    Redeem(Box<Claim>),
}
message!(JoinRequest, JOIN_BYTES_MAX);

/// m1. An unknown locator and a wrong mac look the same from outside: silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    /// Which invite.
    pub locator: [u8; 16],
    /// The joiner's nonce.
    pub nonce: [u8; 32],
    /// Keyed hash over the channel and the nonce, under the invite's psk.
    pub mac: [u8; 32],
}

/// A member's answer to a joiner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinAnswer {
    /// m2.
    Proof(Box<Proof>),
    /// The code is known, but not honoured. The mac is over the channel, the nonce and the reason.
    Refused {
        /// Why.
        reason: InviteRefusal,
        /// The member's clock.
        time: Timestamp,
        /// Keyed hash under the invite's psk.
        mac: [u8; 32],
    },
    /// m4: the joiner is in.
    Admitted(Box<Admission>),
    /// m4: an admin must approve; the admit is stored.
    Pending,
}
message!(JoinAnswer, MESSAGE_BYTES_MAX);

/// m2: the network proves itself to the joiner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Everything that the member signs.
    pub terms: ProofTerms,
    /// The member's signature over the transcript hash.
    pub signature: Signature,
    /// Keyed hash of the transcript hash under the invite's psk.
    pub mac: [u8; 32],
}

/// The signed part of m2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofTerms {
    /// The member's nonce.
    pub nonce: [u8; 32],
    /// The member's clock.
    pub time: Timestamp,
    /// The genesis op.
    pub genesis: Vec<u8>,
    /// The Invite op.
    pub invite: Vec<u8>,
    /// The root op; the genesis as long as the root set cannot rotate.
    pub root: OpId,
    /// The member.
    pub witness: NodeId,
}

/// m4: what the joiner must know before it opens its data plane, and the keys to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The member's op heads after the admission.
    pub heads: Vec<OpId>,
    /// Epoch keys: number and key, ascending, at most [`EPOCHS_SENT_MAX`].
    pub epochs: Vec<(u32, [u8; 32])>,
}

/// Epoch keys in one admission.
pub const EPOCHS_SENT_MAX: usize = 4;

/// Device authentication (`docs/protocol.md` §7.2); every message is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloRequest {
    /// The caller's nonce.
    Open {
        /// Random.
        nonce: [u8; 32],
    },
    /// The caller's proof.
    Prove(HelloProof),
}
message!(HelloRequest, JOIN_BYTES_MAX);

/// The called node's answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloAnswer {
    /// Its nonce and proof.
    Prove {
        /// Random.
        nonce: [u8; 32],
        /// Its proof.
        proof: HelloProof,
    },
    /// Whether the caller is a member here.
    Known(bool),
}
message!(HelloAnswer, JOIN_BYTES_MAX);

/// Who I am, bound to this connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloProof {
    /// The device.
    pub device: NodeId,
    /// Its Node record, which vouches for the transport key of this connection.
    pub record: Vec<u8>,
    /// Over network, own and other transport key, own and other nonce.
    pub signature: Signature,
}

/// One of the three sets that the reconciler compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Set {
    /// Ops. First: authority before everything.
    Ops,
    /// Admits.
    Admits,
    /// Device records.
    Records,
}

impl Set {
    /// In the order of reconciliation.
    pub const ALL: [Self; 3] = [Self::Ops, Self::Admits, Self::Records];
}

/// What a node has, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Digest of each set, in the order of [`Set::ALL`].
    pub roots: [Digest; 3],
    /// Op heads, at most [`HEADS_REPORTED_MAX`].
    pub heads: Vec<OpId>,
}

/// A question of the reconciler (`docs/protocol.md` §7.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncRequest {
    /// What have you? Here is what I have.
    Summary(Summary),
    /// The digests of a set's 256 buckets.
    Buckets(Set),
    /// The keys in these buckets.
    Keys {
        /// Of which set.
        set: Set,
        /// Which buckets, as a bit map, bit 0 of byte 0 first.
        map: [u8; 32],
        /// How many keys were listed already.
        skip: u32,
    },
    /// The items with these keys.
    Items(Set, Vec<Digest>),
    /// Take these: somebody waits for them to be heard.
    Push(Items),
    /// The epoch key with this commitment.
    Epoch(Digest),
    /// The headers of these ops and of their past, without what is known.
    Past {
        /// Of which; at most [`KEYS_ASKED_MAX`].
        of: Vec<Digest>,
        /// Ops that are known, and all their past; at most [`HEADS_REPORTED_MAX`].
        known: Vec<OpId>,
    },
}
message!(SyncRequest, MESSAGE_BYTES_MAX);

/// An answer of the reconciler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncAnswer {
    /// To [`SyncRequest::Summary`].
    Summary(Summary),
    /// To [`SyncRequest::Buckets`]: 256 digests of 16 bytes.
    Buckets(Vec<[u8; 16]>),
    /// To [`SyncRequest::Keys`]: key and short hash of each item, ops in causal order.
    Keys {
        /// At most [`KEYS_SENT_MAX`].
        keys: Vec<(Digest, ShortHash)>,
        /// Whether there were more.
        more: bool,
    },
    /// To [`SyncRequest::Items`]: as many as fit.
    Items(Items),
    /// To [`SyncRequest::Push`].
    Heard,
    /// To [`SyncRequest::Epoch`]; none if the answerer has not got it either.
    Epoch(Option<EpochSecret>),
    /// To [`SyncRequest::Past`]: children before parents, as many as fit.
    Headers(Vec<Vec<u8>>),
}
message!(SyncAnswer, MESSAGE_BYTES_MAX);

/// The bytes of an epoch key on their way to a member. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EpochSecret(pub [u8; 32]);

impl std::fmt::Debug for EpochSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EpochSecret(..)")
    }
}

/// Ops for somebody whom perhaps nobody trusts (`docs/protocol.md` §7.7); the first tells by whose word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News(pub Vec<Vec<u8>>);
message!(News, PUSH_BYTES_MAX);

/// The one answer to [`News`], whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewsAnswer {
    /// The message came.
    Taken,
}
message!(NewsAnswer, JOIN_BYTES_MAX);

/// Keys in one answer.
pub const KEYS_SENT_MAX: usize = 16 * 1024;
/// Keys in one question for items.
pub const KEYS_ASKED_MAX: usize = 2048;
/// Bytes of items in one answer.
pub const ITEMS_BYTES_MAX: usize = 512 * 1024;

/// Items on their way. Records are sealed under the epoch key; ops and admits are not, because a member that was off
/// for long must be able to read them before it has the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Items {
    /// Ops, causal order.
    pub ops: Vec<Vec<u8>>,
    /// Admits.
    pub admits: Vec<Vec<u8>>,
    /// Sealed records.
    pub records: Vec<Vec<u8>>,
}

impl Items {
    /// Whether nothing is in here.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.admits.is_empty() && self.records.is_empty()
    }

    /// The bytes to seal as a gossip message.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        frame(self)
    }

    /// Reads the opened bytes of a gossip message.
    ///
    /// # Errors
    /// When they are too many, malformed or not canonical.
    pub fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        unframe(bytes, crate::limits::GOSSIP_BYTES_MAX)
    }
}

impl Summary {
    /// Whether it keeps its bounds.
    #[must_use]
    pub const fn is_bounded(&self) -> bool {
        self.heads.len() <= HEADS_REPORTED_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_answers_and_questions_fit_a_message() {
        let key = Digest::new([0xFF; 32]);
        let keys = SyncAnswer::Keys {
            keys: vec![(key, [0xFF; 16]); KEYS_SENT_MAX],
            more: true,
        };
        assert_eq!(SyncAnswer::parse(&keys.to_bytes()), Ok(keys));
        let asked = SyncRequest::Items(Set::Records, vec![key; KEYS_ASKED_MAX]);
        assert_eq!(SyncRequest::parse(&asked.to_bytes()), Ok(asked));
        let past = SyncRequest::Past {
            of: vec![key; KEYS_ASKED_MAX],
            known: vec![OpId::new([0xFF; 32]); HEADS_REPORTED_MAX],
        };
        assert_eq!(SyncRequest::parse(&past.to_bytes()), Ok(past));
        // A header without parents is longer than 140 bytes.
        let headers = SyncAnswer::Headers(vec![vec![0xFF; 140]; ITEMS_BYTES_MAX / 148]);
        assert_eq!(SyncAnswer::parse(&headers.to_bytes()), Ok(headers));
        let items = SyncAnswer::Items(Items {
            records: vec![vec![0xFF; ITEMS_BYTES_MAX / 64]; 64],
            ..Items::default()
        });
        assert_eq!(SyncAnswer::parse(&items.to_bytes()), Ok(items));
    }
}
