//! Root ops on their way from one holder of a root key to the next, until enough of them signed.

use serde::{Deserialize, Serialize};

use super::{Author, Draft, Header, ID_CONTEXT, Op, Realm, RootSet};
use crate::body::Body;
use crate::codec::{CodecError, Ext, decode, encode};
use crate::id::{OpId, Signature};
use crate::identity::{Context, Secret, hash, hash_as, verify};

/// Bytes of a petition: far more than the ops of one recovery.
const BYTES_MAX: usize = 256 * 1024;
const VERSION: u8 = 1;

/// A root op that not enough root keys signed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsigned {
    head: Vec<u8>,
    body: Vec<u8>,
    /// Key index and signature, strictly ascending by index.
    signatures: Vec<(u8, Signature)>,
}

impl Unsigned {
    /// An op of the root set that nobody signed.
    #[must_use]
    pub fn new(body: &Body, draft: Draft) -> Self {
        let (kind, body) = body.to_bytes();
        let mut parents = draft.parents;
        parents.sort_unstable();
        parents.dedup();
        let header = Header {
            kind,
            network: draft.network,
            author: Author::Root,
            authority: draft.authority,
            time: draft.time,
            parents,
            body_len: u32::try_from(body.len()).expect("a body of ours is far below 4 GiB"),
            body_hash: hash(&body),
            ext: Ext::NONE,
        };
        Self {
            head: header.to_bytes(),
            body,
            signatures: Vec::new(),
        }
    }

    /// The id that the op has whoever signs it.
    #[must_use]
    pub fn id(&self) -> OpId {
        OpId::new(*hash_as(ID_CONTEXT, &self.head).as_bytes())
    }

    /// What it says; `None` when it is no op.
    #[must_use]
    pub fn body(&self) -> Option<Body> {
        let (header, _) = Header::parse(&self.head).ok()?;
        let sound = header.author == Author::Root && header.body_hash == hash(&self.body);
        Body::parse(header.kind, &self.body).ok().filter(|_| sound)
    }

    /// Adds signatures; those that are there and do not hold are dropped.
    pub fn sign(&mut self, secrets: &[Secret], set: &RootSet) {
        let id = self.id();
        let holds = |(index, signature): &(u8, Signature)| {
            let key = set.keys.get(usize::from(*index));
            key.is_some_and(|key| {
                verify(key.key(), Context::Op, &[id.as_bytes()], signature).is_ok()
            })
        };
        self.signatures.retain(holds);
        for secret in secrets {
            let index = set
                .keys
                .iter()
                .position(|key| *key.key() == secret.public());
            if let Some(index) = index {
                let signature = secret.sign(Context::Op, &[id.as_bytes()]);
                self.signatures.push((index as u8, signature));
            }
        }
        self.signatures.sort_by_key(|(index, _)| *index);
        self.signatures.dedup_by_key(|(index, _)| *index);
    }

    /// How many keys signed.
    #[must_use]
    pub fn signed(&self) -> usize {
        self.signatures.len()
    }

    /// The op, once enough keys signed.
    #[must_use]
    pub fn op(&self, realm: &Realm) -> Option<Op> {
        let mut bytes = self.head.clone();
        bytes.push(u8::try_from(self.signatures.len()).ok()?);
        for (index, signature) in &self.signatures {
            bytes.push(*index);
            bytes.extend_from_slice(signature.as_bytes());
        }
        bytes.extend_from_slice(&self.body);
        Op::parse(&bytes, realm).ok()
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u8,
    ops: Vec<Unsigned>,
    ext: Ext,
}

/// The bytes of a file with root ops, in order.
#[must_use]
pub fn write(ops: &[Unsigned]) -> Vec<u8> {
    encode(&File {
        version: VERSION,
        ops: ops.to_vec(),
        ext: Ext::NONE,
    })
}

/// Reads such a file.
///
/// # Errors
/// When the bytes are none that this version understands.
pub fn read(bytes: &[u8]) -> Result<Vec<Unsigned>, CodecError> {
    let file: File = decode(bytes, BYTES_MAX)?;
    if file.version != VERSION || file.ext.must_understand() {
        return Err(CodecError::Malformed);
    }
    Ok(file.ops)
}
