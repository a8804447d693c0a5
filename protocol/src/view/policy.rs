//! Which policy ops make up the policy in force (`docs/protocol.md` §3.8). What they say is read elsewhere.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::verdict::Verdicts;
use crate::authority::Authority;
use crate::body::{Body, Kind};
use crate::id::OpId;
use crate::op::Op;
use crate::structure::understood;

/// Walks that are remembered at a time: bounds memory, not what is answered.
const REMEMBERED_MAX: usize = 64;

/// The ops of the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyView {
    /// Whether a policy exists: what is not allowed is denied, even if the policy cannot be built.
    pub exists: bool,
    /// Every counting policy op, in op order: its number from 1 is the version that it made.
    pub ops: Vec<OpId>,
    /// The base in force, even if its body is missing. None: nothing counts that could be built.
    pub base: Option<OpId>,
    /// The counting changes of that base, in op order.
    pub changes: Vec<OpId>,
    /// Counting policy ops that take part, or may, and whose body is not here or not understood: while there is one,
    /// the policy cannot be built. A fresh base that has them in its past takes their place.
    pub missing: Vec<OpId>,
    /// Counting changes of other bases, in op order: their authors propose them anew.
    pub stranded: Vec<OpId>,
}

/// How much of a policy op can be read.
enum Reading<'a> {
    Change(&'a OpId),
    Base,
    /// The body is not here, or this version does not understand the op.
    Unread(Kind),
    /// The body is not well formed: nobody will ever read it.
    Void,
}

/// The counting bases and changes; the base with most bases in a line before it wins, then the senior author, then the
/// smallest id. All three stand in headers: a base is found whether its body is here or not.
pub(super) fn of(authority: &Authority, verdicts: &Verdicts<'_>, order: &[u32]) -> PolicyView {
    let lines = lines(authority);
    let mut view = PolicyView {
        exists: authority.genesis().closed,
        ..PolicyView::default()
    };
    let mut winner = None;
    let mut changes = Vec::new();
    let mut unread = Vec::new();
    let mut fallen = Vec::new();
    for place in order {
        let entry = authority.at(*place);
        let kind = entry.op.header().kind;
        if kind != Kind::POLICY && kind != Kind::POLICY_BASE {
            continue;
        }
        if !verdicts.counts(*place) {
            // Whether it counts is said by an op that a later version reads: it may, so nothing opens.
            view.exists |= rests_on_unread(authority, verdicts, *place);
            fallen.push(*place);
            continue;
        }
        view.exists = true;
        let id = entry.op.id();
        view.ops.push(id);
        let rank = (lines[*place as usize], Reverse(entry.level), Reverse(id));
        match reading(&entry.op, kind) {
            Reading::Change(base) => changes.push((*base, id)),
            Reading::Base => winner = winner.max(Some((rank, *place))),
            Reading::Unread(kind) => {
                unread.push((*place, id));
                if kind == Kind::POLICY_BASE {
                    winner = winner.max(Some((rank, *place)));
                }
            }
            Reading::Void => {}
        }
    }
    view.exists = view.exists || existed(authority, verdicts, &fallen);
    view.base = winner.map(|((_, _, Reverse(id)), _)| id);
    for (base, change) in changes {
        if Some(base) == view.base {
            view.changes.push(change);
        } else {
            view.stranded.push(change);
        }
    }
    if !unread.is_empty() {
        let parents = winner.map_or(Vec::new(), |(_, place)| authority.at(place).parents.clone());
        let replaced = authority.with_past(parents);
        unread.retain(|(place, _)| !replaced[*place as usize]);
    }
    // A base that lost takes no part; a change that cannot be read may be of the winner.
    unread.retain(|(place, id)| {
        authority.at(*place).op.header().kind == Kind::POLICY || Some(*id) == view.base
    });
    view.missing = unread.into_iter().map(|(_, id)| id).collect();
    view
}

fn reading(op: &Op, kind: Kind) -> Reading<'_> {
    if op.is_stub() || !understood(op) {
        return Reading::Unread(kind);
    }
    match op.body() {
        Body::Policy(policy) => Reading::Change(&policy.base),
        Body::PolicyBase(_) => Reading::Base,
        Body::Genesis(_)
        | Body::Grant(_)
        | Body::Invite(_)
        | Body::Revoke(_)
        | Body::InviteClose(_)
        | Body::Rekey(_)
        | Body::Noop
        | Body::Opaque => Reading::Void,
    }
}

/// Of each op the most bases that follow one another up to it, itself counted. Literal, whoever counts: a base over one
/// that fell is a whole document that somebody vouched for.
fn lines(authority: &Authority) -> Vec<u32> {
    let mut lines: Vec<u32> = Vec::with_capacity(authority.entries().len());
    for entry in authority.entries() {
        let parents = entry.parents.iter().map(|parent| lines[*parent as usize]);
        let own = u32::from(entry.op.header().kind == Kind::POLICY_BASE);
        lines.push(parents.max().unwrap_or(0) + own);
    }
    lines
}

/// Whether what keeps an op from counting is that this version does not understand an authority that does count.
fn rests_on_unread(authority: &Authority, verdicts: &Verdicts<'_>, place: u32) -> bool {
    let mut place = place;
    while verdicts.is_baseless(place) {
        place = authority.at(place).authority;
    }
    verdicts.counts(place)
}

/// Whether a revoker had heard one of the void policy ops that it reaches: then the network had a policy, and it does
/// not open again.
fn existed(authority: &Authority, verdicts: &Verdicts<'_>, fallen: &[u32]) -> bool {
    let mut heard: BTreeMap<Vec<u32>, Vec<bool>> = BTreeMap::new();
    fallen.iter().any(|place| {
        let revokes = verdicts.reaching(*place);
        if heard.len() > REMEMBERED_MAX {
            heard.clear();
        }
        let heard = heard.entry(revokes).or_insert_with_key(|revokes| {
            let parents = revokes.iter();
            let parents = parents.flat_map(|revoke| &authority.at(*revoke).parents);
            authority.with_past(parents.copied().collect())
        });
        heard[*place as usize]
    })
}
