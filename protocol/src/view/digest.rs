//! The digest of a view: what replicas compare to know that they agree.

use std::collections::BTreeMap;

use super::register::Register;
use super::{InviteView, ViewMember};
use crate::codec::encode;
use crate::id::{Digest, NodeId, OpId};
use crate::identity::hash_as;
use crate::io::Standing;

const CONTEXT: &str = "meshnode view digest 1";

/// The digest of everything that follows from the stored set.
pub(super) fn of(
    members: &BTreeMap<NodeId, ViewMember>,
    invites: &BTreeMap<OpId, InviteView>,
    register: &Register,
    outdated: Option<OpId>,
) -> Digest {
    let members: Vec<Vec<u8>> = members.values().map(member).collect();
    let invites: Vec<Vec<u8>> = invites.iter().map(|(id, view)| invite(id, view)).collect();
    let bytes = encode(&(
        members,
        invites,
        register.names(),
        register.ipv4s(),
        outdated,
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
        (invite.not_after, invite.open),
        (&invite.used, &invite.provisional),
        (&invite.pending, &invite.quarantined),
    ))
}
