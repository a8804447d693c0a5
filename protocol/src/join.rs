//! The proofs of the join protocol, both sides (`docs/protocol.md` §6.3).
//!
//! m1: the joiner shows that it knows the code. m2: the member shows that the code's issuer made this network and
//! that it speaks for a device of it. m3: the joiner claims, bound to itself, to this member and to this connection.
//! m4 is the node's business. This room makes and checks; who may do what, and when, is decided by its callers.

use subtle::ConstantTimeEq;

use crate::body::{Body, Invite, net_fields};
use crate::claim::{Claim, ClaimTerms};
use crate::codec::{Ext, encode};
use crate::id::{Digest, NodeId, OpId, TransportKey};
use crate::identity::{Context, Keys, Secret, hash_as, verify};
use crate::invite::{InviteKeys, locator, m1_mac};
use crate::io::InviteRefusal;
use crate::name::NodeName;
use crate::op::{Author, Op, Realm};
use crate::time::Timestamp;
use crate::wire::{JoinAnswer, Knock, Proof, ProofTerms};

/// Why a proof of the network was not accepted by a joiner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The member does not know the code.
    #[error("the member does not know the code")]
    Mac,
    /// What it showed is not the network of the code.
    #[error("the network is not the one of the code")]
    Network,
}

/// m1, for a channel.
#[must_use]
pub fn knock(code: &InviteKeys, channel: &Digest, nonce: [u8; 32]) -> Knock {
    Knock {
        locator: locator(&code.rendezvous),
        nonce,
        mac: m1_mac(&code.psk, channel, &nonce),
    }
}

/// Whether m1 was made by somebody who knows the invite's code, on this very channel.
#[must_use]
pub fn knock_is_good(invite: &Invite, channel: &Digest, knock: &Knock) -> bool {
    m1_mac(&invite.terms.psk, channel, &knock.nonce)
        .ct_eq(&knock.mac)
        .into()
}

fn keyed(psk: &[u8; 32], what: &[u8], rest: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(psk);
    hasher.update(what).update(rest);
    *hasher.finalize().as_bytes()
}

fn transcript(channel: &Digest, knock: &Knock, terms: &ProofTerms) -> Digest {
    hash_as(
        "meshnode join transcript 1",
        &encode(&(channel, knock, terms)),
    )
}

/// m2: signs the transcript as the witness. Gives the proof and the transcript hash that the claim must carry.
#[must_use]
pub fn prove(
    psk: &[u8; 32],
    channel: &Digest,
    knock: &Knock,
    terms: ProofTerms,
    device: &Secret,
) -> (Proof, Digest) {
    let transcript = transcript(channel, knock, &terms);
    let signature = device.sign(Context::JoinWitness, &[transcript.as_bytes()]);
    let mac = keyed(psk, b"m2", transcript.as_bytes());
    (
        Proof {
            terms,
            signature,
            mac,
        },
        transcript,
    )
}

/// A proof that holds: the network that the code leads to.
#[derive(Debug, Clone)]
pub struct Proven {
    /// The genesis.
    pub genesis: Op,
    /// What later ops are checked against.
    pub realm: Realm,
    /// The Invite op.
    pub invite: Op,
    /// The member.
    pub witness: NodeId,
    /// Its clock.
    pub time: Timestamp,
    /// For the claim.
    pub transcript: Digest,
}

/// Checks m2: mac, genesis, the invite's own proof that it belongs to this network, and the member's signature.
///
/// # Errors
/// [`ProofError::Mac`] from somebody who does not know the code; [`ProofError::Network`] otherwise.
pub fn check_proof(
    code: &InviteKeys,
    channel: &Digest,
    knock: &Knock,
    proof: &Proof,
) -> Result<Proven, ProofError> {
    let transcript = transcript(channel, knock, &proof.terms);
    let mac = keyed(&code.psk, b"m2", transcript.as_bytes());
    if !bool::from(mac.ct_eq(&proof.mac)) {
        return Err(ProofError::Mac);
    }
    let bad = |_| ProofError::Network;
    let (genesis, realm) =
        Op::parse_genesis(&proof.terms.genesis).map_err(|_| ProofError::Network)?;
    let invite = Op::parse(&proof.terms.invite, &realm).map_err(|_| ProofError::Network)?;
    let (Body::Invite(body), Author::Device(issuer)) = (invite.body(), invite.header().author)
    else {
        return Err(ProofError::Network);
    };
    let ours = *body.terms.key.key() == code.key.public()
        && body.terms.psk == code.psk
        && body.terms.rendezvous == code.rendezvous
        && proof.terms.root == realm.genesis;
    if !ours {
        return Err(ProofError::Network);
    }
    let fields = net_fields(&realm.genesis, &issuer, &body.terms);
    let fields: Vec<&[u8]> = fields.iter().map(<[u8; 32]>::as_slice).collect();
    verify(
        body.terms.key.key(),
        Context::Net,
        &fields,
        &body.net_signature,
    )
    .map_err(bad)?;
    let witness = proof.terms.witness;
    verify(
        witness.key(),
        Context::JoinWitness,
        &[transcript.as_bytes()],
        &proof.signature,
    )
    .map_err(bad)?;
    let time = proof.terms.time;
    Ok(Proven {
        genesis,
        realm,
        invite,
        witness,
        time,
        transcript,
    })
}

/// m3: the claim.
#[must_use]
pub fn claim(proven: &Proven, code: &InviteKeys, keys: &Keys, name: NodeName) -> Claim {
    let network = proven.realm.genesis.network();
    let terms = ClaimTerms {
        version: 1,
        network,
        invite: proven.invite.id(),
        device: keys.node(),
        transport: keys.transport_binding(&network),
        tunnel: keys.tunnel_binding(&network),
        name,
        time: proven.time,
        witness: proven.witness,
        transcript: proven.transcript,
        ext: Ext::NONE,
    };
    Claim::sign(terms, &code.key, &keys.device)
}

/// What a member checks of m3.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The realm's genesis.
    pub genesis: &'a OpId,
    /// The invite that was knocked for.
    pub invite_id: &'a OpId,
    /// Its body.
    pub invite: &'a Invite,
    /// The member itself.
    pub witness: &'a NodeId,
    /// The hash of its m2.
    pub transcript: &'a Digest,
    /// The clock in its m2.
    pub time: Timestamp,
    /// The key that this connection authenticated.
    pub peer: &'a TransportKey,
}

impl Expected<'_> {
    /// Whether the claim is the joiner's own, for this invite, this member and this connection.
    #[must_use]
    pub fn holds(&self, claim: &Claim) -> bool {
        let terms = &claim.terms;
        terms.network == self.genesis.network()
            && terms.invite == *self.invite_id
            && terms.witness == *self.witness
            && terms.transcript == *self.transcript
            && terms.time == self.time
            && !terms.ext.must_understand()
            && terms.transport.key == *self.peer
            && claim.check_joiner().is_ok()
            && claim.check_invite(&self.invite.terms.key).is_ok()
    }
}

/// A refusal that only the code's network can have made.
#[must_use]
pub fn refuse(
    psk: &[u8; 32],
    channel: &Digest,
    knock: &Knock,
    reason: InviteRefusal,
    time: Timestamp,
) -> JoinAnswer {
    let mac = refusal_mac(psk, channel, knock, &reason, time);
    JoinAnswer::Refused { reason, time, mac }
}

/// Whether a refusal comes from the code's network.
#[must_use]
pub fn refusal_is_good(
    code: &InviteKeys,
    channel: &Digest,
    knock: &Knock,
    (reason, time, mac): (&InviteRefusal, Timestamp, &[u8; 32]),
) -> bool {
    refusal_mac(&code.psk, channel, knock, reason, time)
        .ct_eq(mac)
        .into()
}

fn refusal_mac(
    psk: &[u8; 32],
    channel: &Digest,
    knock: &Knock,
    reason: &InviteRefusal,
    time: Timestamp,
) -> [u8; 32] {
    keyed(psk, b"refused", &encode(&(channel, knock, reason, time)))
}

/// The fingerprint of a joiner that waits for approval: the same eight symbols on both screens.
#[must_use]
pub fn fingerprint(device: &NodeId) -> String {
    let short = device.short().to_ascii_uppercase();
    format!("{}-{}", &short[..4], &short[4..])
}
