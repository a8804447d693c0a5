//! Which policy ops make up the policy in force (`docs/protocol.md` §3.8). What they say is read elsewhere.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::verdict::Verdicts;
use crate::authority::Authority;
use crate::body::{Body, Kind};
use crate::id::OpId;
use crate::structure::understood;

/// The ops of the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyView {
    /// Whether a policy exists: what is not allowed is denied, even if the policy cannot be built.
    pub exists: bool,
    /// The base in force. None: nothing counts that could be built.
    pub base: Option<OpId>,
    /// The counting changes of that base, in op order.
    pub changes: Vec<OpId>,
    /// Counting policy ops whose body is not here: until it is, the policy cannot be built.
    pub missing: Vec<OpId>,
    /// Counting changes of other bases, in op order: their authors propose them anew.
    pub stranded: Vec<OpId>,
}

/// The counting bases and changes; the longest chain of bases wins, then the senior author, then the smallest id.
pub(super) fn of(authority: &Authority, verdicts: &Verdicts<'_>, order: &[u32]) -> PolicyView {
    let mut view = PolicyView {
        exists: authority.genesis().closed,
        ..PolicyView::default()
    };
    let mut chains: BTreeMap<OpId, u32> = BTreeMap::new();
    let mut winner = None;
    let mut changes = Vec::new();
    for place in order {
        let entry = authority.at(*place);
        let kind = entry.op.header().kind;
        if kind != Kind::POLICY && kind != Kind::POLICY_BASE {
            continue;
        }
        let id = entry.op.id();
        // The chain is literal: a base over one that fell is a whole document that somebody vouched for.
        let base = entry.op.body().policy_base();
        let previous = base.and_then(|base| chains.get(&base.previous?).copied());
        let chain = 1 + previous.unwrap_or(0);
        if kind == Kind::POLICY_BASE {
            chains.insert(id, chain);
        }
        if !verdicts.counts(*place) || !understood(&entry.op) {
            view.exists |= existed(authority, verdicts, *place);
            continue;
        }
        view.exists = true;
        if entry.op.is_stub() {
            view.missing.push(id);
        }
        if let Body::Policy(policy) = entry.op.body() {
            changes.push((policy.base, id));
        } else if base.is_some() {
            winner = winner.max(Some((chain, Reverse(entry.level), Reverse(id))));
        }
    }
    view.base = winner.map(|(_, _, Reverse(id))| id);
    for (base, change) in changes {
        if Some(base) == view.base {
            view.changes.push(change);
        } else {
            view.stranded.push(change);
        }
    }
    view
}

/// Whether who struck a void policy op had heard it: then the network had a policy, and it does not open again.
fn existed(authority: &Authority, verdicts: &Verdicts<'_>, place: u32) -> bool {
    let cause = verdicts.cause(place);
    cause.is_some_and(|revoke| authority.in_past(&authority.at(place).op.id(), &revoke))
}
