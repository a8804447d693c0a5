//! The digest of a view: what replicas compare to know that they agree.

use super::{InviteView, View, ViewMember};
use crate::codec::encode;
use crate::id::{Digest, OpId};
use crate::identity::hash_as;
use crate::io::Standing;

const CONTEXT: &str = "meshnode view digest 1";

/// The digest of everything that follows from the stored set.
pub(super) fn of(view: &View) -> Digest {
    let members: Vec<Vec<u8>> = view.granted_members().map(member).collect();
    let invites = view.invites.iter();
    let invites: Vec<Vec<u8>> = invites.map(|(id, view)| invite(id, view)).collect();
    let revoked: Vec<_> = view.revoked.iter().collect();
    let (epoch, policy) = (&view.epoch, &view.policy);
    let bytes = encode(&(
        members,
        invites,
        (view.register.names(), view.register.ipv4s()),
        revoked,
        (epoch.number, epoch.commitment, epoch.op, epoch.dirty),
        (policy.exists, policy.base, &policy.changes),
        view.outdated,
    ));
    hash_as(CONTEXT, &bytes)
}

fn member(member: &ViewMember) -> Vec<u8> {
    let standing: u8 = match member.standing {
        Standing::Settled => 0,
        Standing::Provisional => 1,
        Standing::Pending => 2,
        Standing::Quarantined => 3,
    };
    encode(&(
        (member.id, &member.name, &member.wished),
        (member.level, member.caps, &member.may_tag, standing),
        (&member.tags, &member.owner),
        (member.ipv4, member.ipv6),
        (member.authority, member.admit, member.invite),
        member.expires,
    ))
}

fn invite(id: &OpId, invite: &InviteView) -> Vec<u8> {
    encode(&(
        (id, invite.issuer, invite.uses, invite.approve),
        (invite.not_after, invite.open, invite.closed),
        (&invite.used, &invite.provisional),
        (&invite.pending, &invite.quarantined),
    ))
}
