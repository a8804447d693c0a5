//! Claim and admit: how a joiner proves its right, and how a member witnesses it (`docs/protocol.md` §4).
//!
//! An [`Admit`] is a leaf beside the ops: never a parent, kept per invite and device. A value of these types has
//! correct signatures of the joiner (claim) and the witness (admit); whether they count is the view's business.

use serde::{Deserialize, Serialize};

use crate::codec::{CodecError, Ext, decode, encode};
use crate::id::{
    AdmitId, Digest, InviteKey, NetworkId, NodeId, OpId, Signature, TransportKey, TunnelKey,
};
use crate::identity::{BadSignature, Binding, Context, Secret, hash, hash_as, verify};
use crate::limits::{ADMIT_BYTES_MAX, PARENTS_MAX};
use crate::name::NodeName;
use crate::time::Timestamp;

/// Why a claim or an admit was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The bytes.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// One of the signatures or bindings.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// The version is not 1.
    #[error("version {0} is unknown")]
    Version(u8),
}

/// What a joiner says, bound to itself, the witness and the connection. The two signatures stand beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimTerms {
    /// Format version, 1.
    pub version: u8,
    /// The network that the joiner was shown.
    pub network: NetworkId,
    /// The Invite op.
    pub invite: OpId,
    /// The joiner's device key.
    pub device: NodeId,
    /// The joiner's transport key, bound to the device.
    pub transport: Binding<TransportKey>,
    /// The joiner's tunnel key, bound to the device.
    pub tunnel: Binding<TunnelKey>,
    /// The name it would like.
    pub name: NodeName,
    /// The witness's clock, as told in the join protocol.
    pub time: Timestamp,
    /// The member that answered.
    pub witness: NodeId,
    /// Hash of the transcript of the join so far.
    pub transcript: Digest,
    /// Extensions.
    pub ext: Ext,
}

/// A signed claim: the terms, signed by the invite key and by the device key over their hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What is claimed.
    pub terms: ClaimTerms,
    /// The invite key's signature.
    pub invite_signature: Signature,
    /// The device key's signature.
    pub device_signature: Signature,
}

impl Claim {
    /// Signs terms.
    #[must_use]
    pub fn sign(terms: ClaimTerms, invite: &Secret, device: &Secret) -> Self {
        let digest = hash(&encode(&terms));
        let fields: &[&[u8]] = &[digest.as_bytes()];
        Self {
            invite_signature: invite.sign(Context::ClaimInvite, fields),
            device_signature: device.sign(Context::ClaimDevice, fields),
            terms,
        }
    }

    /// Checks version, device signature and both bindings: all that needs no invite.
    ///
    /// # Errors
    /// With the first check that fails.
    pub fn check_joiner(&self) -> Result<(), ClaimError> {
        if self.terms.version != 1 {
            return Err(ClaimError::Version(self.terms.version));
        }
        let digest = hash(&encode(&self.terms));
        let terms = &self.terms;
        verify(
            terms.device.key(),
            Context::ClaimDevice,
            &[digest.as_bytes()],
            &self.device_signature,
        )?;
        terms.transport.check(&terms.network, &terms.device)?;
        terms.tunnel.check(&terms.network, &terms.device)?;
        Ok(())
    }

    /// Checks the invite key's signature.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn check_invite(&self, key: &InviteKey) -> Result<(), BadSignature> {
        let digest = hash(&encode(&self.terms));
        verify(
            key.key(),
            Context::ClaimInvite,
            &[digest.as_bytes()],
            &self.invite_signature,
        )
    }
}

/// The signed part of an admit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmitTerms {
    /// Format version, 1.
    pub version: u8,
    /// The network.
    pub network: NetworkId,
    /// The joiner's claim; names the invite, the device and the witness.
    pub claim: Claim,
    /// The witness's op heads, strictly ascending: what the joiner must know before it opens its data plane.
    pub heads: Vec<OpId>,
    /// Extensions.
    pub ext: Ext,
}

#[derive(Serialize, Deserialize)]
struct AdmitBytes {
    terms: AdmitTerms,
    signature: Signature,
}

/// A member's witness that a device redeemed an invite. Exists only with correct signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admit {
    id: AdmitId,
    terms: AdmitTerms,
    bytes: Vec<u8>,
}

impl Admit {
    /// Signs terms as the witness that the claim names.
    #[must_use]
    pub fn sign(terms: AdmitTerms, witness: &Secret) -> Self {
        let digest = hash(&encode(&terms));
        let signature = witness.sign(
            Context::Admit,
            &[terms.network.as_bytes(), digest.as_bytes()],
        );
        let bytes = encode(&AdmitBytes {
            terms: terms.clone(),
            signature,
        });
        Self {
            id: Self::id_of(&bytes),
            terms,
            bytes,
        }
    }

    /// Reads and checks an admit: bounds, the witness's signature, the joiner's signature and bindings.
    ///
    /// # Errors
    /// With the first check that fails.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClaimError> {
        let AdmitBytes { terms, signature } = decode(bytes, ADMIT_BYTES_MAX)?;
        if terms.version != 1 {
            return Err(ClaimError::Version(terms.version));
        }
        let ascending = terms.heads.windows(2).all(|pair| pair[0] < pair[1]);
        if terms.heads.len() > PARENTS_MAX
            || !ascending
            || terms.network != terms.claim.terms.network
        {
            return Err(CodecError::Malformed.into());
        }
        let digest = hash(&encode(&terms));
        let witness = terms.claim.terms.witness;
        verify(
            witness.key(),
            Context::Admit,
            &[terms.network.as_bytes(), digest.as_bytes()],
            &signature,
        )?;
        terms.claim.check_joiner()?;
        Ok(Self {
            id: Self::id_of(bytes),
            terms,
            bytes: bytes.to_vec(),
        })
    }

    /// The id that an admit of these bytes has.
    #[must_use]
    pub fn id_of(bytes: &[u8]) -> AdmitId {
        AdmitId::new(*hash_as("meshnode admit id 1", bytes).as_bytes())
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> AdmitId {
        self.id
    }

    /// What it says.
    #[must_use]
    pub const fn terms(&self) -> &AdmitTerms {
        &self.terms
    }

    /// The claim inside.
    #[must_use]
    pub const fn claim(&self) -> &ClaimTerms {
        &self.terms.claim.terms
    }

    /// The bytes as received.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
