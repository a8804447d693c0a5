//! Ops: the frozen envelope around a body (`docs/protocol.md` §3.1).
//!
//! An [`Op`] exists only if its bytes are canonical and its signatures hold. Whether its author may say it is the
//! business of `structure`; whether it counts, of `view`.

mod header;
pub mod petition;

use std::sync::Arc;

use crate::body::{Body, Genesis, Kind};
use crate::codec::{CodecError, Ext};
use crate::id::{Digest, NetworkId, NodeId, OpId, PublicKey, RootKey, Signature};
use crate::identity::{BadSignature, Context, Secret, hash, hash_as, verify};
use crate::limits::{OP_BYTES_MAX, OP_POLICY_BASE_BYTES_MAX, OP_POLICY_BYTES_MAX, ROOT_KEYS_MAX};
use crate::time::Timestamp;

const VERSION: u8 = 1;
const ID_CONTEXT: &str = "meshnode op id 1";

/// Why bytes are no op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// The bytes.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A signature.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// The envelope's version is not 1.
    #[error("op version {0} is unknown")]
    Version(u8),
    /// An op of another network.
    #[error("the op is of another network")]
    OtherNetwork,
}

/// Who speaks in an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Author {
    /// The root set; its author field is zero.
    Root,
    /// A device.
    Device(NodeId),
}

/// The header: fixed width, little-endian, written by hand, frozen for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the body is.
    pub kind: Kind,
    /// The network; zero in a genesis.
    pub network: NetworkId,
    /// Who speaks.
    pub author: Author,
    /// The op under whose authority: genesis or a grant of the author; zero in a genesis.
    pub authority: OpId,
    /// When the author says it was. Advisory.
    pub time: Timestamp,
    /// What the author had heard: strictly ascending, 1 to 16; none in a genesis.
    pub parents: Vec<OpId>,
    /// Length of the body in bytes.
    pub body_len: u32,
    /// BLAKE3 hash of the body.
    pub body_hash: Digest,
    /// Extensions.
    pub ext: Ext,
}

/// The root key set of a network, for checking root signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootSet {
    /// The keys, strictly ascending.
    pub keys: Vec<RootKey>,
    /// How many must sign.
    pub threshold: u8,
}

impl From<&Genesis> for RootSet {
    fn from(genesis: &Genesis) -> Self {
        Self {
            keys: genesis.roots.clone(),
            threshold: genesis.threshold,
        }
    }
}

/// What an op is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm {
    /// The genesis of the network.
    pub genesis: OpId,
    /// Its root keys.
    pub roots: RootSet,
}

/// A signed op. Its bytes are kept as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    id: OpId,
    header: Header,
    body: Body,
    stub: bool,
    bytes: Arc<[u8]>,
}

/// What a new op of a device says besides its body.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The network.
    pub network: NetworkId,
    /// The author's grant (or genesis).
    pub authority: OpId,
    /// The author's clock.
    pub time: Timestamp,
    /// The author's heads.
    pub parents: Vec<OpId>,
}

impl Op {
    /// Founds a network: signs a genesis with root keys and the founder's device key.
    #[must_use]
    pub fn found(genesis: Genesis, time: Timestamp, roots: &[Secret], founder: &Secret) -> Self {
        let keys = genesis.roots.clone();
        let draft = Draft {
            network: NetworkId::ZERO,
            authority: OpId::ZERO,
            time,
            parents: Vec::new(),
        };
        Self::assemble(
            Body::Genesis(Box::new(genesis)),
            draft,
            Author::Root,
            |id| {
                let mut sigs = root_signatures(id, roots, &keys);
                sigs.extend_from_slice(founder.sign(Context::Op, &[id.as_bytes()]).as_bytes());
                sigs
            },
        )
    }

    /// Signs an op as a device.
    #[must_use]
    pub fn sign(body: Body, draft: Draft, device: &Secret) -> Self {
        let author = Author::Device(NodeId::new(device.public()));
        Self::assemble(body, draft, author, |id| {
            device
                .sign(Context::Op, &[id.as_bytes()])
                .as_bytes()
                .to_vec()
        })
    }

    /// Signs an op as the root set.
    #[must_use]
    pub fn sign_as_root(body: Body, draft: Draft, roots: &[Secret], set: &RootSet) -> Self {
        Self::assemble(body, draft, Author::Root, |id| {
            root_signatures(id, roots, &set.keys)
        })
    }

    fn assemble(
        body: Body,
        draft: Draft,
        author: Author,
        sign: impl FnOnce(&OpId) -> Vec<u8>,
    ) -> Self {
        let (kind, body_bytes) = body.to_bytes();
        let mut parents = draft.parents;
        parents.sort_unstable();
        parents.dedup();
        let header = Header {
            kind,
            network: draft.network,
            author,
            authority: draft.authority,
            time: draft.time,
            parents,
            body_len: u32::try_from(body_bytes.len()).expect("a body of ours is far below 4 GiB"),
            body_hash: hash(&body_bytes),
            ext: Ext::NONE,
        };
        let head = header.to_bytes();
        let id = OpId::new(*hash_as(ID_CONTEXT, &head).as_bytes());
        let sigs = sign(&id);
        Self {
            id,
            header,
            body,
            stub: false,
            bytes: [head, sigs, body_bytes].concat().into(),
        }
    }

    /// Reads and checks the genesis of a network.
    ///
    /// # Errors
    /// When the bytes are not a canonical genesis signed by its own root set and founder.
    pub fn parse_genesis(bytes: &[u8]) -> Result<(Self, Realm), OpError> {
        let (header, head_len) = Header::parse(bytes)?;
        let zero = header.network == NetworkId::ZERO && header.authority == OpId::ZERO;
        if header.kind != Kind::GENESIS
            || !zero
            || header.author != Author::Root
            || !header.parents.is_empty()
        {
            return Err(CodecError::Malformed.into());
        }
        // The founder's signature closes the list, so the body starts body_len bytes before the end.
        let body_at = bytes
            .len()
            .checked_sub(header.body_len as usize)
            .ok_or(CodecError::Malformed)?;
        let body_bytes = bytes.get(body_at..).ok_or(CodecError::Malformed)?;
        let sigs = bytes.get(head_len..body_at).ok_or(CodecError::Malformed)?;
        let body = checked_body(&header, body_bytes)?;
        let Body::Genesis(genesis) = &body else {
            return Err(CodecError::Malformed.into());
        };
        let roots = RootSet::from(genesis.as_ref());
        let id = OpId::new(*hash_as(ID_CONTEXT, &bytes[..head_len]).as_bytes());
        let used = check_root_signatures(&id, sigs, &roots)?;
        let founder = take_signature(sigs, used)?;
        if sigs.len() != used + 64 {
            return Err(CodecError::NotCanonical.into());
        }
        verify(
            genesis.founder.key(),
            Context::Op,
            &[id.as_bytes()],
            &founder,
        )?;
        let op = Self {
            id,
            header,
            body,
            stub: false,
            bytes: bytes.into(),
        };
        Ok((op, Realm { genesis: id, roots }))
    }

    /// Reads and checks any later op of a network: canonical bytes, signatures, body bounds.
    ///
    /// # Errors
    /// With the first check that fails.
    pub fn parse(bytes: &[u8], realm: &Realm) -> Result<Self, OpError> {
        let (header, head_len) = Header::parse(bytes)?;
        if header.kind == Kind::GENESIS || header.parents.is_empty() {
            return Err(CodecError::Malformed.into());
        }
        if header.network != realm.genesis.network() {
            return Err(OpError::OtherNetwork);
        }
        if bytes.len() > bytes_max(header.kind) {
            return Err(CodecError::TooLong(bytes.len()).into());
        }
        let id = OpId::new(*hash_as(ID_CONTEXT, &bytes[..head_len]).as_bytes());
        let after_head = &bytes[head_len..];
        let sigs_len = match header.author {
            Author::Root => check_root_signatures(&id, after_head, &realm.roots)?,
            Author::Device(device) => {
                verify(
                    device.key(),
                    Context::Op,
                    &[id.as_bytes()],
                    &take_signature(after_head, 0)?,
                )?;
                64
            }
        };
        let body_bytes = &after_head[sigs_len..];
        let stub = body_bytes.is_empty() && header.body_len > 0;
        let body = if stub {
            if !header.kind.may_be_stub() {
                return Err(CodecError::Malformed.into());
            }
            Body::Opaque
        } else {
            checked_body(&header, body_bytes)?
        };
        Ok(Self {
            id,
            header,
            body,
            stub,
            bytes: bytes.into(),
        })
    }

    /// The id that bytes claim, unproven: to drop what is known before a signature is checked.
    ///
    /// # Errors
    /// When the bytes do not start with a header.
    pub fn peek_id(bytes: &[u8]) -> Result<OpId, OpError> {
        let (_, head_len) = Header::parse(bytes)?;
        Ok(OpId::new(
            *hash_as(ID_CONTEXT, &bytes[..head_len]).as_bytes(),
        ))
    }

    /// The id and header of bytes that are a header and nothing else; nothing says that anybody signed it.
    #[must_use]
    pub fn parse_header(bytes: &[u8]) -> Option<(OpId, Header)> {
        let (header, length) = Header::parse(bytes).ok()?;
        let id = OpId::new(*hash_as(ID_CONTEXT, bytes).as_bytes());
        (length == bytes.len()).then_some((id, header))
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> OpId {
        self.id
    }

    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Its body.
    #[must_use]
    pub const fn body(&self) -> &Body {
        &self.body
    }

    /// Whether the body was left out.
    #[must_use]
    pub const fn is_stub(&self) -> bool {
        self.stub
    }

    /// The bytes as received.
    #[must_use]
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }
}

fn bytes_max(kind: Kind) -> usize {
    match kind {
        Kind::POLICY => OP_POLICY_BYTES_MAX,
        Kind::POLICY_BASE => OP_POLICY_BASE_BYTES_MAX,
        Kind(_) => OP_BYTES_MAX,
    }
}

fn checked_body(header: &Header, bytes: &[u8]) -> Result<Body, OpError> {
    if bytes.len() != header.body_len as usize || hash(bytes) != header.body_hash {
        return Err(CodecError::Malformed.into());
    }
    Ok(Body::parse(header.kind, bytes)?)
}

fn take_signature(bytes: &[u8], at: usize) -> Result<Signature, CodecError> {
    let rest = bytes.get(at..).ok_or(CodecError::Malformed)?;
    rest.first_chunk()
        .copied()
        .map(Signature::new)
        .ok_or(CodecError::Malformed)
}

/// `n u8`, then n times (key index u8, signature 64), indices strictly ascending.
fn root_signatures(id: &OpId, roots: &[Secret], keys: &[RootKey]) -> Vec<u8> {
    let index = |secret: &Secret| keys.iter().position(|key| *key.key() == secret.public());
    let mut signed: Vec<(usize, Signature)> = roots
        .iter()
        .filter_map(|secret| Some((index(secret)?, secret.sign(Context::Op, &[id.as_bytes()]))))
        .collect();
    signed.sort_by_key(|(index, _)| *index);
    let mut bytes = vec![signed.len() as u8];
    for (index, signature) in signed {
        bytes.push(index as u8);
        bytes.extend_from_slice(signature.as_bytes());
    }
    bytes
}

/// Checks a list of root signatures at the start of `bytes`; gives its length.
fn check_root_signatures(id: &OpId, bytes: &[u8], roots: &RootSet) -> Result<usize, OpError> {
    let count = usize::from(*bytes.first().ok_or(CodecError::Malformed)?);
    if count < usize::from(roots.threshold) || count > ROOT_KEYS_MAX {
        return Err(CodecError::Malformed.into());
    }
    let mut previous: Option<u8> = None;
    for entry in 0..count {
        let at = 1 + entry * 65;
        let index = *bytes.get(at).ok_or(CodecError::Malformed)?;
        let key: &PublicKey = roots
            .keys
            .get(usize::from(index))
            .ok_or(CodecError::Malformed)?
            .key();
        if previous.is_some_and(|previous| previous >= index) {
            return Err(CodecError::NotCanonical.into());
        }
        verify(
            key,
            Context::Op,
            &[id.as_bytes()],
            &take_signature(bytes, at + 1)?,
        )?;
        previous = Some(index);
    }
    Ok(1 + count * 65)
}
