//! The bodies of ops: what an op says, in final format (`docs/protocol.md` §3.3 to §3.6).

mod acts;

use std::net::Ipv4Addr;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::claim::Claim;
use crate::codec::{CodecError, Ext, decode, encode};
use crate::id::{Digest, InviteKey, NodeId, OpId, RootKey, Signature};
use crate::limits::{INVITE_USES_MAX, OP_POLICY_BASE_BYTES_MAX, ROOT_KEYS_MAX, TAGS_MAX};
use crate::name::{NetworkName, NodeName, Owner, Tag};
use crate::time::Timestamp;

pub use acts::{Cut, InviteClose, OpIds, Policy, PolicyBase, Rekey, Revoke};

/// The kind of an op, in its header. From `0x8000` on a reader may ignore a kind it does not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Kind(pub u16);

impl Kind {
    /// The first op of a network.
    pub const GENESIS: Self = Self(1);
    /// Lets a device in, or raises, lowers or renames it.
    pub const GRANT: Self = Self(2);
    /// Puts a device out.
    pub const REVOKE: Self = Self(3);
    /// A right to join.
    pub const INVITE: Self = Self(4);
    /// Ends an invite.
    pub const INVITE_CLOSE: Self = Self(5);
    /// One change of the policy document.
    pub const POLICY: Self = Self(6);
    /// A fresh start of the policy document.
    pub const POLICY_BASE: Self = Self(7);
    /// A new epoch key.
    pub const REKEY: Self = Self(8);
    /// Merges heads; says nothing.
    pub const NOOP: Self = Self(9);
    /// Reserved: rotation of the root set.
    pub const SET_ROOT: Self = Self(10);
    /// Reserved: switches on later versions of the view rules.
    pub const RULES: Self = Self(0x00FF);

    /// Whether a reader that does not know this kind must say so.
    #[must_use]
    pub const fn critical(self) -> bool {
        self.0 < 0x8000
    }

    /// Whether the body of this kind may be left out (a stub) without hiding a right.
    #[must_use]
    pub fn may_be_stub(self) -> bool {
        matches!(self, Self::POLICY | Self::POLICY_BASE | Self::NOOP)
    }
}

/// The level of a device: 0 is the root set, 1 to 254 are admins, 255 is a member. Lower is more senior.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Level(pub u8);

impl Level {
    /// The offline root set.
    pub const ROOT: Self = Self(0);
    /// The founder of a network.
    pub const FOUNDER: Self = Self(1);
    /// A device that signs nothing but its own records and admits.
    pub const MEMBER: Self = Self(255);

    /// Whether a device of this level signs ops.
    #[must_use]
    pub const fn is_admin(self) -> bool {
        self.0 < 255
    }
}

/// What an admin may do, as bits; a grant confers a subset of its author's (`docs/protocol.md` §3.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct Caps(u8);

impl Caps {
    /// Nothing: a member.
    pub const NONE: Self = Self(0);
    /// Grant, revoke, invite.
    pub const MEMBERS: Self = Self(1);
    /// Write the policy.
    pub const POLICY: Self = Self(2);
    /// Give any tag and any owner.
    pub const LABEL: Self = Self(4);
    /// Everything.
    pub const ALL: Self = Self(7);

    /// Whether all of `other` is in here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl<'de> Deserialize<'de> for Caps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            bits @ 0..=7 => Ok(Self(bits)),
            _ => Err(de::Error::custom("unknown capability bits")),
        }
    }
}

/// A strictly ascending list of at most [`TAGS_MAX`] tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Tags(Vec<Tag>);

impl Tags {
    /// Sorts and deduplicates.
    ///
    /// # Errors
    /// When more than [`TAGS_MAX`] are left.
    pub fn new(mut tags: Vec<Tag>) -> Result<Self, CodecError> {
        tags.sort();
        tags.dedup();
        if tags.len() > TAGS_MAX {
            Err(CodecError::Malformed)
        } else {
            Ok(Self(tags))
        }
    }

    /// The tags, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[Tag] {
        &self.0
    }

    /// Whether every tag is in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().all(|tag| other.0.binary_search(tag).is_ok())
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tags = Vec::<Tag>::deserialize(deserializer)?;
        if tags.len() > TAGS_MAX || !tags.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(de::Error::custom("tags must strictly ascend"));
        }
        Ok(Self(tags))
    }
}

/// The IPv4 range of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ipv4Range {
    /// First address; the bits below the prefix are zero.
    pub base: Ipv4Addr,
    /// Prefix length, 8 to 24.
    pub prefix: u8,
}

impl Ipv4Range {
    /// 100.64.0.0/10, the shared address space of RFC 6598.
    pub const DEFAULT: Self = Self {
        base: Ipv4Addr::new(100, 64, 0, 0),
        prefix: 10,
    };

    /// Checks a range.
    ///
    /// # Errors
    /// When the prefix is outside 8 to 24 or bits below it are set.
    pub fn new(base: Ipv4Addr, prefix: u8) -> Result<Self, CodecError> {
        let range = Self { base, prefix };
        let sound = (8..=24).contains(&prefix) && u32::from(base) & (range.size() - 1) == 0;
        if sound {
            Ok(range)
        } else {
            Err(CodecError::Malformed)
        }
    }

    /// How many addresses the range has.
    #[must_use]
    pub const fn size(&self) -> u32 {
        1 << (32 - self.prefix)
    }

    /// Whether an address lies inside.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & !(self.size() - 1) == u32::from(self.base)
    }
}

impl<'de> Deserialize<'de> for Ipv4Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            base: Ipv4Addr,
            prefix: u8,
        }
        let Fields { base, prefix } = Fields::deserialize(deserializer)?;
        Self::new(base, prefix).map_err(de::Error::custom)
    }
}

/// Founds a network: its root keys and its founder, a level 1 admin with all caps (`docs/protocol.md` §3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Random bytes: two networks never have one id.
    pub random: [u8; 32],
    /// Root keys, strictly ascending, 1 to [`ROOT_KEYS_MAX`].
    pub roots: Vec<RootKey>,
    /// How many root keys must sign a root op: 1 to the number of keys.
    pub threshold: u8,
    /// The name of the network.
    pub name: NetworkName,
    /// Where its IPv4 addresses come from.
    pub ipv4_range: Ipv4Range,
    /// The founder's device key.
    pub founder: NodeId,
    /// The founder's name.
    pub founder_name: NodeName,
    /// The founder's IPv4 address.
    pub founder_ipv4: Ipv4Addr,
    /// The founder's owner, if it is a person's.
    pub owner: Option<Owner>,
    /// BLAKE3 commitment to the key of epoch 0.
    pub epoch_commitment: Digest,
    /// Whether the network starts with "deny all" until a policy exists.
    pub closed: bool,
    /// Extensions.
    pub ext: Ext,
}

/// Gives a device a level, a name and an address (`docs/protocol.md` §3.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The device.
    pub device: NodeId,
    /// Its level; strictly below the author's.
    pub level: Level,
    /// Its caps; a subset of the author's.
    pub caps: Caps,
    /// Tags it may give although it has not the cap `label`.
    pub may_tag: Tags,
    /// Whose it is.
    pub owner: Option<Owner>,
    /// Its tags.
    pub tags: Tags,
    /// The claimed name.
    pub name: NodeName,
    /// The claimed IPv4 address.
    pub ipv4: Ipv4Addr,
    /// When it stops to count, if ever.
    pub expires: Option<Timestamp>,
    /// The redeemed claim that this grant settles, if it does.
    pub claim: Option<Box<Claim>>,
    /// Extensions.
    pub ext: Ext,
}

/// A right to join, for whoever knows the code (`docs/protocol.md` §3.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Everything that the invite key signs.
    pub terms: InviteTerms,
    /// The invite key's signature `net`: over genesis id, root op id, issuer and the hash of the terms.
    pub net_signature: Signature,
}

/// The terms of an invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteTerms {
    /// Public half of the key in the code.
    pub key: InviteKey,
    /// From which the lookup tag derives.
    pub rendezvous: [u8; 32],
    /// Proves to a member that a stranger knows the code.
    pub psk: [u8; 32],
    /// How many devices may redeem it, 1 to [`INVITE_USES_MAX`].
    pub uses: u16,
    /// When it ends, by the clock of the member that answers.
    pub not_after: Timestamp,
    /// Whether an admin must approve each joiner.
    pub approve: bool,
    /// Whether the joiners are to vanish when they go.
    pub ephemeral: bool,
    /// Owner of the joiners.
    pub owner: Option<Owner>,
    /// Tags of the joiners.
    pub tags: Tags,
    /// The name of the joiner; wins over the joiner's own wish.
    pub name: Option<NodeName>,
    /// The device that the joiner replaces.
    pub replaces: Option<NodeId>,
    /// How long the membership lasts, in milliseconds from the grant.
    pub member_for_ms: Option<u64>,
    /// Extensions.
    pub ext: Ext,
}

/// What an op says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// See [`Genesis`].
    Genesis(Box<Genesis>),
    /// See [`Grant`].
    Grant(Box<Grant>),
    /// See [`Invite`].
    Invite(Box<Invite>),
    /// See [`Revoke`].
    Revoke(Box<Revoke>),
    /// See [`InviteClose`].
    InviteClose(InviteClose),
    /// See [`Policy`].
    Policy(Policy),
    /// See [`PolicyBase`].
    PolicyBase(PolicyBase),
    /// See [`Rekey`].
    Rekey(Rekey),
    /// Merges heads; says nothing.
    Noop,
    /// A kind that this version does not know, or a left out body: stored, relayed, without effect.
    Opaque,
}

impl Body {
    /// Reads the body of a kind.
    ///
    /// # Errors
    /// When the bytes are not the canonical body of that kind, or break its bounds.
    pub fn parse(kind: Kind, bytes: &[u8]) -> Result<Self, CodecError> {
        let max = OP_POLICY_BASE_BYTES_MAX;
        match kind {
            Kind::GENESIS => {
                let genesis: Genesis = decode(bytes, max)?;
                let ascending = genesis.roots.windows(2).all(|pair| pair[0] < pair[1]);
                let count = genesis.roots.len();
                let bounds = (1..=ROOT_KEYS_MAX).contains(&count)
                    && (1..=count).contains(&genesis.threshold.into());
                let claim = genesis.ipv4_range.contains(genesis.founder_ipv4);
                refuse_unless(ascending && bounds && claim)?;
                Ok(Self::Genesis(Box::new(genesis)))
            }
            Kind::GRANT => {
                let grant: Grant = decode(bytes, max)?;
                let member = !grant.level.is_admin();
                let powerless = grant.caps == Caps::NONE && grant.may_tag.as_slice().is_empty();
                refuse_unless(grant.level != Level::ROOT && (!member || powerless))?;
                Ok(Self::Grant(Box::new(grant)))
            }
            Kind::INVITE => {
                let invite: Invite = decode(bytes, max)?;
                refuse_unless((1..=INVITE_USES_MAX).contains(&invite.terms.uses))?;
                Ok(Self::Invite(Box::new(invite)))
            }
            Kind::REVOKE => {
                let revoke: Revoke = decode(bytes, max)?;
                refuse_unless(revoke.is_bounded())?;
                Ok(Self::Revoke(Box::new(revoke)))
            }
            Kind::INVITE_CLOSE => Ok(Self::InviteClose(decode(bytes, max)?)),
            Kind::REKEY => Ok(Self::Rekey(decode(bytes, max)?)),
            // A replica may have taken the stub of such an op before: its body can no longer be refused.
            Kind::POLICY => Ok(decode(bytes, max)
                .ok()
                .filter(Policy::is_bounded)
                .map_or(Self::Opaque, Self::Policy)),
            Kind::POLICY_BASE => Ok(decode(bytes, max).map_or(Self::Opaque, Self::PolicyBase)),
            Kind::NOOP if bytes.is_empty() => Ok(Self::Noop),
            Kind(_) => Ok(Self::Opaque),
        }
    }

    /// The canonical bytes of the body and its kind. An opaque body has none of its own.
    #[must_use]
    pub fn to_bytes(&self) -> (Kind, Vec<u8>) {
        match self {
            Self::Genesis(genesis) => (Kind::GENESIS, encode(genesis)),
            Self::Grant(grant) => (Kind::GRANT, encode(grant)),
            Self::Invite(invite) => (Kind::INVITE, encode(invite)),
            Self::Revoke(revoke) => (Kind::REVOKE, encode(revoke)),
            Self::InviteClose(close) => (Kind::INVITE_CLOSE, encode(close)),
            Self::Policy(policy) => (Kind::POLICY, encode(policy)),
            Self::PolicyBase(base) => (Kind::POLICY_BASE, encode(base)),
            Self::Rekey(rekey) => (Kind::REKEY, encode(rekey)),
            Self::Noop | Self::Opaque => (Kind::NOOP, Vec::new()),
        }
    }

    /// The extensions of the body.
    #[must_use]
    pub fn ext(&self) -> &Ext {
        const NONE: &Ext = &Ext::NONE;
        match self {
            Self::Genesis(genesis) => &genesis.ext,
            Self::Grant(grant) => &grant.ext,
            Self::Invite(invite) => &invite.terms.ext,
            Self::Revoke(revoke) => &revoke.ext,
            Self::InviteClose(close) => &close.ext,
            Self::Policy(policy) => &policy.ext,
            Self::PolicyBase(base) => &base.ext,
            Self::Rekey(rekey) => &rekey.ext,
            Self::Noop | Self::Opaque => NONE,
        }
    }

    /// The grant, if it is one.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        if let Self::Grant(grant) = self {
            Some(grant)
        } else {
            None
        }
    }

    /// The invite, if it is one.
    #[must_use]
    pub fn invite(&self) -> Option<&Invite> {
        if let Self::Invite(invite) = self {
            Some(invite)
        } else {
            None
        }
    }

    /// The policy base, if it is one.
    #[must_use]
    pub fn policy_base(&self) -> Option<&PolicyBase> {
        if let Self::PolicyBase(base) = self {
            Some(base)
        } else {
            None
        }
    }

    /// The revocation, if it is one.
    #[must_use]
    pub fn revoke(&self) -> Option<&Revoke> {
        if let Self::Revoke(revoke) = self {
            Some(revoke)
        } else {
            None
        }
    }
}

fn refuse_unless(sound: bool) -> Result<(), CodecError> {
    if sound {
        Ok(())
    } else {
        Err(CodecError::Malformed)
    }
}

/// What the invite key signs under [`crate::identity::Context::Net`], after the genesis id: root op id (equal to the
/// genesis id as long as the root set cannot rotate), issuer, hash of the terms.
#[must_use]
pub fn net_fields(genesis: &OpId, issuer: &NodeId, terms: &InviteTerms) -> [[u8; 32]; 4] {
    let terms = crate::identity::hash(&encode(terms));
    [
        *genesis.as_bytes(),
        *genesis.as_bytes(),
        *issuer.as_bytes(),
        *terms.as_bytes(),
    ]
}
