//! Joiners: devices that redeemed an invite and have no grant yet (`docs/protocol.md` §3.8, §4.2).
//!
//! Too many uses of one invite are never decided by lottery: all its unsettled joiners wait for an admin.

use std::collections::{BTreeMap, BTreeSet};

use super::InviteView;
use super::titles::Title;
use super::verdict::Verdicts;
use crate::authority::Authority;
use crate::body::Body;
use crate::claim::Admit;
use crate::id::{AdmitId, NodeId, OpId};
use crate::io::Standing;
use crate::op::{Author, Op};
use crate::structure::understood;

/// A device that stands by an admit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joiner<'a> {
    /// The admit.
    pub(super) admit: &'a Admit,
    /// How far it is in.
    pub(super) standing: Standing,
}

/// All stored invites, before any joiner is entered. Open are those that count, whose issuer is live by the authority
/// it cited, that nobody closed, and of which no device that was settled under them is revoked: its code may be known.
pub(super) fn invites(
    authority: &Authority,
    order: &[u32],
    verdicts: &Verdicts<'_>,
    titles: &[Title<'_>],
) -> BTreeMap<OpId, InviteView> {
    let live: BTreeSet<OpId> = titles.iter().filter(|t| t.live).map(|t| t.op).collect();
    let mut invites = BTreeMap::new();
    for (place, entry) in (0..).zip(authority.entries()) {
        let is_open = verdicts.counts(place)
            && understood(&entry.op)
            && live.contains(&entry.op.header().authority);
        if let Some(view) = invite(&entry.op, is_open) {
            invites.insert(entry.op.id(), view);
        }
    }
    let uses: BTreeSet<(OpId, NodeId)> = titles
        .iter()
        .filter_map(|title| Some((title.invite?, title.device)))
        .collect();
    for (invite, device) in uses {
        if let Some(view) = invites.get_mut(&invite) {
            view.used.push(device);
            view.open &= verdicts.revoked(&device).is_none();
        }
    }
    // In op order, so that replicas tell the same one of several.
    for place in order.iter().filter(|place| verdicts.counts(**place)) {
        let op = &authority.at(*place).op;
        let Body::InviteClose(close) = op.body() else {
            continue;
        };
        if let Some(view) = invites.get_mut(&close.invite).filter(|_| understood(op)) {
            view.open = false;
            view.closed.get_or_insert(op.id());
        }
    }
    invites
}

/// The admits whose device has no title, has not left and was never revoked, by id.
pub(super) fn joining(
    authority: &Authority,
    is_titled: impl Fn(&NodeId) -> bool,
    verdicts: &Verdicts<'_>,
    left: &BTreeSet<NodeId>,
) -> Vec<AdmitId> {
    let joining = authority.admits().filter(|admit| {
        let claim = admit.claim();
        let clear = !admit.terms().ext.must_understand() && !claim.ext.must_understand();
        clear
            && !is_titled(&claim.device)
            && !left.contains(&claim.device)
            && verdicts.revocations_of(&claim.device).is_empty()
    });
    joining.map(Admit::id).collect()
}

/// The joiners and their standing; enters them into the lists of their invites. Of those that join by an admit counts
/// whose witness is settled.
pub(super) fn joiners<'a>(
    authority: &'a Authority,
    joining: &[AdmitId],
    is_settled: impl Fn(&NodeId) -> bool,
    invites: &mut BTreeMap<OpId, InviteView>,
) -> BTreeMap<NodeId, Joiner<'a>> {
    let mut waiting: BTreeMap<OpId, BTreeMap<NodeId, &Admit>> = BTreeMap::new();
    for admit in joining.iter().filter_map(|id| authority.admit(id)) {
        let claim = admit.claim();
        if is_settled(&claim.witness) {
            // A device counts once, however many witnesses it had; admits come by id.
            let devices = waiting.entry(claim.invite).or_default();
            devices.entry(claim.device).or_insert(admit);
        }
    }
    let mut joiners: BTreeMap<NodeId, Joiner<'_>> = BTreeMap::new();
    for (invite, admits) in waiting {
        let Some(view) = invites.get(&invite) else {
            continue;
        };
        let standing = standing(view, admits.len());
        for (device, admit) in admits {
            let joiner = Joiner { admit, standing };
            let best = joiners.entry(device).or_insert(joiner);
            if (standing, admit.id()) < (best.standing, best.admit.id()) {
                *best = joiner;
            }
        }
    }
    for (device, joiner) in &joiners {
        if let Some(view) = invites.get_mut(&joiner.admit.claim().invite) {
            match joiner.standing {
                Standing::Provisional => view.provisional.push(*device),
                Standing::Pending => view.pending.push(*device),
                Standing::Quarantined => view.quarantined.push(*device),
                Standing::Settled => unreachable!("a joiner has no title"),
            }
        }
    }
    joiners
}

/// An invite that nobody used.
pub(super) fn invite(op: &Op, open: bool) -> Option<InviteView> {
    let (Body::Invite(invite), Author::Device(issuer)) = (op.body(), op.header().author) else {
        return None;
    };
    let terms = &invite.terms;
    Some(InviteView {
        issuer,
        uses: terms.uses,
        approve: terms.approve,
        not_after: terms.not_after,
        open,
        closed: None,
        used: Vec::new(),
        provisional: Vec::new(),
        pending: Vec::new(),
        quarantined: Vec::new(),
    })
}

/// The standing of all unsettled joiners of one invite.
fn standing(invite: &InviteView, unsettled: usize) -> Standing {
    let uses = usize::from(invite.uses);
    if !invite.open || invite.approve || invite.used.len() >= uses {
        Standing::Pending
    } else if invite.used.len() + unsettled > uses {
        Standing::Quarantined
    } else {
        Standing::Provisional
    }
}
