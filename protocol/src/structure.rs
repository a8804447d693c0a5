//! The structural check: may this author say this at all (`docs/protocol.md` §3.7).
//!
//! Stateless: the answer depends on an op and its causal past alone, so every replica gives the same one, for ever.
//! Whether an op that passed counts is the business of `view`.

use crate::body::{Body, Caps, Grant, Invite, InviteClose, Kind, Level, Revoke, Tags, net_fields};
use crate::claim::{Claim, ClaimError};
use crate::id::{NodeId, OpId};
use crate::identity::{BadSignature, Context, verify};
use crate::name::Owner;
use crate::op::{Author, Op, Realm};
use crate::time::Timestamp;

/// Why an op has no place in the stored set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StructureError {
    /// The cited authority is not in the op's past.
    #[error("the cited authority is not in the past")]
    AuthorityNotInPast,
    /// The cited op confers nothing on the author.
    #[error("the cited op confers nothing on the author")]
    NoAuthority,
    /// The author lacks the cap for this kind.
    #[error("the author lacks the cap")]
    MissingCap,
    /// A grant of the author's own level or above.
    #[error("the level is not below the author's")]
    Level,
    /// A grant of caps that the author has not.
    #[error("the caps exceed the author's")]
    Caps,
    /// A grant or an invite that outlives the author's own right.
    #[error("it ends after the author's own right")]
    Expiry,
    /// Tags or owner that the author may not give.
    #[error("the tags or the owner are not the author's to give")]
    Label,
    /// The invite key did not sign the network and the terms.
    #[error("the invite's network signature is wrong")]
    NetSignature(#[source] BadSignature),
    /// The root set issues no invites: a joiner must find an issuing device.
    #[error("the root set issues no invites")]
    RootInvite,
    /// The claim is of another network or another device than the grant.
    #[error("the claim is not the grant's")]
    OtherClaim,
    /// The claim cites no Invite op in the grant's past.
    #[error("the claimed invite is not in the past")]
    InviteNotInPast,
    /// A signature or binding of the claim.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A device revokes itself: it leaves by its own record.
    #[error("nobody revokes itself")]
    SelfRevoke,
    /// An op cites one that is not in its past, or is of another kind.
    #[error("a cited op is not in the past")]
    CitedNotInPast,
    /// An invite of somebody more senior.
    #[error("the invite is a senior's")]
    SeniorInvite,
    /// The epoch is not one more than the highest before.
    #[error("the epoch does not follow")]
    Epoch,
    /// A second genesis.
    #[error("a network has one genesis")]
    SecondGenesis,
}

/// What an op's author may draw on: conferred by the cited genesis or grant, literally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conferred<'a> {
    /// The author's level.
    pub(crate) level: Level,
    caps: Caps,
    may_tag: Option<&'a Tags>,
    owner: Option<&'a Owner>,
    /// When the author's right ends, if ever: what it grants ends then at the latest.
    pub(crate) expires: Option<Timestamp>,
}

impl Conferred<'_> {
    fn everything(level: Level) -> Self {
        Self {
            level,
            caps: Caps::ALL,
            may_tag: None,
            owner: None,
            expires: None,
        }
    }

    /// Whether something that ends then, or never, outlives the author's right.
    fn outlived_by(&self, end: Option<Timestamp>) -> bool {
        self.expires
            .is_some_and(|own| end.is_none_or(|end| end > own))
    }

    fn need(&self, caps: Caps) -> Result<(), StructureError> {
        if self.caps.contains(caps) {
            Ok(())
        } else {
            Err(StructureError::MissingCap)
        }
    }

    /// Without the cap `label`, tags come from the author's own list and the owner is the author's.
    fn may_label(&self, lists: &[&Tags], owner: Option<&Owner>) -> Result<(), StructureError> {
        let own_tags = |tags: &&Tags| match self.may_tag {
            Some(own) => tags.is_subset(own),
            None => tags.as_slice().is_empty(),
        };
        let own = owner == self.owner && lists.iter().all(own_tags);
        if self.caps.contains(Caps::LABEL) || own {
            Ok(())
        } else {
            Err(StructureError::Label)
        }
    }
}

/// What a structural check may look at: the stored ops.
pub(crate) trait Lookup {
    /// A stored op.
    fn op(&self, id: &OpId) -> Option<&Op>;
    /// Whether an op is one of `parents` or in the past of one.
    fn reaches(&self, parents: &[OpId], ancestor: &OpId) -> bool;
    /// Whether all of `cited` are among `parents` or in the past of one; one walk for all.
    fn holds<'a>(&self, parents: &[OpId], cited: impl Iterator<Item = &'a OpId>) -> bool;
    /// The level of a stored op's author.
    fn level(&self, id: &OpId) -> Option<Level>;
    /// The highest epoch that `parents` and their past announce.
    fn epoch_before(&self, parents: &[OpId]) -> u32;
}

/// What a stored op confers on an author, if anything.
pub(crate) fn conferred<'a>(authority: &'a Op, author: &Author) -> Option<Conferred<'a>> {
    match (authority.body(), author) {
        (Body::Genesis(_), Author::Root) => Some(Conferred::everything(Level::ROOT)),
        (Body::Genesis(genesis), Author::Device(device)) => {
            (genesis.founder == *device).then(|| Conferred::everything(Level::FOUNDER))
        }
        (Body::Grant(grant), Author::Device(device)) => {
            let holds = grant.device == *device && grant.level.is_admin();
            holds.then_some(Conferred {
                level: grant.level,
                caps: grant.caps,
                may_tag: Some(&grant.may_tag),
                owner: grant.owner.as_ref(),
                expires: grant.expires,
            })
        }
        (Body::Grant(_), Author::Root)
        | (
            Body::Invite(_)
            | Body::Revoke(_)
            | Body::InviteClose(_)
            | Body::Policy(_)
            | Body::PolicyBase(_)
            | Body::Rekey(_)
            | Body::Noop
            | Body::Opaque,
            _,
        ) => None,
    }
}

/// A body as its author may say it: what it grants ends with the author's own right at the latest.
pub(crate) fn within(mut body: Body, authority: &Op) -> Body {
    let own = authority.body().grant().and_then(|own| own.expires);
    if let (Some(own), Body::Grant(grant)) = (own, &mut body) {
        grant.expires = Some(grant.expires.map_or(own, |end| end.min(own)));
    }
    body
}

/// Checks an op whose parents are all stored; gives the level of its author.
///
/// # Errors
/// With the first rule that the op breaks.
pub(crate) fn check(op: &Op, realm: &Realm, stored: &impl Lookup) -> Result<Level, StructureError> {
    let header = op.header();
    if !stored.reaches(&header.parents, &header.authority) {
        return Err(StructureError::AuthorityNotInPast);
    }
    let author = stored
        .op(&header.authority)
        .and_then(|authority| conferred(authority, &header.author))
        .ok_or(StructureError::NoAuthority)?;
    match op.body() {
        Body::Genesis(_) => return Err(StructureError::SecondGenesis),
        Body::Grant(grant) => check_grant(grant, op, &author, realm, stored)?,
        Body::Invite(invite) => check_invite(invite, op, &author, realm)?,
        Body::Revoke(revoke) => check_revoke(revoke, op, &author, stored)?,
        Body::InviteClose(close) => check_close(close, op, &author, stored)?,
        Body::Rekey(rekey) => {
            author.need(Caps::MEMBERS)?;
            let before = stored.epoch_before(&header.parents);
            if before.checked_add(1) != Some(rekey.epoch) {
                return Err(StructureError::Epoch);
            }
        }
        // Judged by the header alone: a replica may have the stub without the body.
        Body::Policy(_) | Body::PolicyBase(_) | Body::Noop | Body::Opaque => {
            if matches!(header.kind, Kind::POLICY | Kind::POLICY_BASE) {
                author.need(Caps::POLICY)?;
            }
            // Later versions know more kinds; refusing what they say now would cut off its descendants for ever.
        }
    }
    Ok(author.level)
}

fn check_grant(
    grant: &Grant,
    op: &Op,
    author: &Conferred<'_>,
    realm: &Realm,
    stored: &impl Lookup,
) -> Result<(), StructureError> {
    author.need(Caps::MEMBERS)?;
    if grant.level <= author.level {
        return Err(StructureError::Level);
    }
    if !author.caps.contains(grant.caps) {
        return Err(StructureError::Caps);
    }
    if author.outlived_by(grant.expires) {
        return Err(StructureError::Expiry);
    }
    author.may_label(&[&grant.tags, &grant.may_tag], grant.owner.as_ref())?;
    match &grant.claim {
        Some(claim) => check_claim(claim, &grant.device, &op.header().parents, realm, stored),
        None => Ok(()),
    }
}

fn check_claim(
    claim: &Claim,
    device: &NodeId,
    parents: &[OpId],
    realm: &Realm,
    stored: &impl Lookup,
) -> Result<(), StructureError> {
    let terms = &claim.terms;
    if terms.network != realm.genesis.network() || terms.device != *device {
        return Err(StructureError::OtherClaim);
    }
    let Some(Body::Invite(invite)) = stored.op(&terms.invite).map(Op::body) else {
        return Err(StructureError::InviteNotInPast);
    };
    if !stored.reaches(parents, &terms.invite) {
        return Err(StructureError::InviteNotInPast);
    }
    claim
        .check_invite(&invite.terms.key)
        .map_err(ClaimError::from)?;
    Ok(claim.check_joiner()?)
}

fn check_invite(
    invite: &Invite,
    op: &Op,
    author: &Conferred<'_>,
    realm: &Realm,
) -> Result<(), StructureError> {
    author.need(Caps::MEMBERS)?;
    let terms = &invite.terms;
    author.may_label(&[&terms.tags], terms.owner.as_ref())?;
    if author.outlived_by(Some(terms.not_after)) {
        return Err(StructureError::Expiry);
    }
    let Author::Device(issuer) = op.header().author else {
        return Err(StructureError::RootInvite);
    };
    let fields = net_fields(&realm.genesis, &issuer, terms);
    let fields: Vec<&[u8]> = fields.iter().map(<[u8; 32]>::as_slice).collect();
    verify(
        terms.key.key(),
        Context::Net,
        &fields,
        &invite.net_signature,
    )
    .map_err(StructureError::NetSignature)
}

fn check_revoke(
    revoke: &Revoke,
    op: &Op,
    author: &Conferred<'_>,
    stored: &impl Lookup,
) -> Result<(), StructureError> {
    author.need(Caps::MEMBERS)?;
    let header = op.header();
    if header.author == Author::Device(revoke.device) {
        return Err(StructureError::SelfRevoke);
    }
    if stored.holds(&header.parents, revoke.cited()) {
        Ok(())
    } else {
        Err(StructureError::CitedNotInPast)
    }
}

fn check_close(
    close: &InviteClose,
    op: &Op,
    author: &Conferred<'_>,
    stored: &impl Lookup,
) -> Result<(), StructureError> {
    author.need(Caps::MEMBERS)?;
    let invite = stored.op(&close.invite).map(Op::body);
    let past = stored.reaches(&op.header().parents, &close.invite);
    if !past || invite.and_then(Body::invite).is_none() {
        return Err(StructureError::CitedNotInPast);
    }
    if stored.level(&close.invite) < Some(author.level) {
        return Err(StructureError::SeniorInvite);
    }
    Ok(())
}

/// Whether this version knows everything that an op wants understood: its kind and its extensions.
pub(crate) fn understood(op: &Op) -> bool {
    let kind = op.header().kind;
    let known = matches!(
        kind,
        Kind::GENESIS
            | Kind::GRANT
            | Kind::REVOKE
            | Kind::INVITE
            | Kind::INVITE_CLOSE
            | Kind::POLICY
            | Kind::POLICY_BASE
            | Kind::REKEY
            | Kind::NOOP
    );
    (known || !kind.critical())
        && !op.header().ext.must_understand()
        && !op.body().ext().must_understand()
}
