//! The epoch in force: the counting Rekey that wins, and whether it has heard all the bad news
//! (`docs/protocol.md` §3.8).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::InviteView;
use super::verdict::Verdicts;
use crate::authority::Authority;
use crate::body::Body;
use crate::id::{Digest, OpId};

/// The epoch in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochView {
    /// Its number.
    pub number: u32,
    /// Commitment to its key.
    pub commitment: Digest,
    /// The op that announced it: a Rekey, or the genesis.
    pub op: OpId,
    /// Somebody who is out may hold its key: an admin changes it.
    pub dirty: bool,
}

/// Of the counting Rekeys the highest epoch wins, then the smallest level, then the smallest id.
pub(super) fn of(
    authority: &Authority,
    verdicts: &Verdicts<'_>,
    invites: &BTreeMap<OpId, InviteView>,
) -> EpochView {
    let rekeys = verdicts.counting().filter_map(|(place, body)| {
        let Body::Rekey(rekey) = body else {
            return None;
        };
        let entry = authority.at(place);
        let rank = (rekey.epoch, Reverse(entry.level), Reverse(entry.op.id()));
        Some((rank, place, rekey.commitment))
    });
    let winner = rekeys.max_by_key(|(rank, ..)| *rank);
    let (number, place, commitment) = winner.map_or(
        (0, 0, authority.genesis().epoch_commitment),
        |((number, ..), place, commitment)| (number, place, commitment),
    );
    let known = authority.with_past(vec![place]);
    let closed = verdicts.counting().filter_map(|(place, body)| {
        let Body::InviteClose(close) = body else {
            return None;
        };
        // Who was let in by a member and then shut out holds the key.
        let invite = invites.get(&close.invite)?;
        (!invite.approve && !invite.pending.is_empty()).then_some(place)
    });
    let dirty = verdicts
        .revocations()
        .chain(closed)
        .any(|bad| !known[bad as usize]);
    EpochView {
        number,
        commitment,
        op: authority.at(place).op.id(),
        dirty,
    }
}
