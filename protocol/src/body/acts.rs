//! What admins decide about those who are in: revocations, closed invites, the policy, epochs
//! (`docs/protocol.md` §3.9).

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::codec::Ext;
use crate::id::{Digest, NodeId, OpId};
use crate::limits::{PARENTS_MAX, POLICY_EDIT_BYTES_MAX, REASON_BYTES_MAX, SPARE_MAX};

/// A strictly ascending list of op ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OpIds<const MAX: usize>(Vec<OpId>);

impl<const MAX: usize> OpIds<MAX> {
    /// Sorts and deduplicates; `None` when more than `MAX` are left.
    #[must_use]
    pub fn new(mut ids: Vec<OpId>) -> Option<Self> {
        ids.sort_unstable();
        ids.dedup();
        (ids.len() <= MAX).then_some(Self(ids))
    }

    /// The ids, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[OpId] {
        &self.0
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for OpIds<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ids = Vec::<OpId>::deserialize(deserializer)?;
        if ids.len() > MAX || !ids.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(de::Error::custom("op ids must strictly ascend"));
        }
        Ok(Self(ids))
    }
}

/// Which ops of a revoked admin stay: what lies at or before the cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    /// What the revoker had heard: the parents of the Revoke and their past.
    Parents,
    /// These ops and their past, 1 to 16; they lie in the past of the Revoke.
    Heads(OpIds<PARENTS_MAX>),
    /// Nothing stays.
    Nothing,
}

/// Puts a device out (`docs/protocol.md` §3.9). Whom it reaches is decided in the view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// The device; never the author.
    pub device: NodeId,
    /// Which of its ops stay.
    pub cut: Cut,
    /// Ops outside the cut that stay too; they lie in the past of the Revoke.
    pub spare: OpIds<SPARE_MAX>,
    /// Why, for people: at most [`REASON_BYTES_MAX`] bytes.
    pub reason: String,
    /// Extensions.
    pub ext: Ext,
}

/// Ends an invite: nobody redeems it any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteClose {
    /// Which.
    pub invite: OpId,
    /// Extensions.
    pub ext: Ext,
}

/// One change of the policy document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The `PolicyBase` that the change belongs to.
    pub base: OpId,
    /// One raw Automerge change; parsed only if the op counts.
    pub change: Vec<u8>,
    /// Extensions.
    pub ext: Ext,
}

/// A fresh start of the policy document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyBase {
    /// The base that it takes the place of, if there was one.
    pub previous: Option<OpId>,
    /// The whole document as one raw Automerge change; parsed only if the op counts.
    pub change: Vec<u8>,
    /// Extensions.
    pub ext: Ext,
}

/// Announces a new epoch key (`docs/protocol.md` §7.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rekey {
    /// One more than the highest epoch in its past.
    pub epoch: u32,
    /// BLAKE3 commitment to the key.
    pub commitment: Digest,
    /// Extensions.
    pub ext: Ext,
}

impl Revoke {
    /// Whether the bounds that the types do not keep are kept.
    pub(super) fn is_bounded(&self) -> bool {
        let cut = match &self.cut {
            Cut::Parents | Cut::Nothing => true,
            Cut::Heads(heads) => !heads.as_slice().is_empty(),
        };
        cut && self.reason.len() <= REASON_BYTES_MAX
    }

    /// The ids that it cites besides its parents.
    pub(crate) fn cited(&self) -> impl Iterator<Item = &OpId> {
        let heads = match &self.cut {
            Cut::Parents | Cut::Nothing => &[],
            Cut::Heads(heads) => heads.as_slice(),
        };
        heads.iter().chain(self.spare.as_slice())
    }
}

impl Policy {
    pub(super) const fn is_bounded(&self) -> bool {
        !self.change.is_empty() && self.change.len() <= POLICY_EDIT_BYTES_MAX
    }
}
