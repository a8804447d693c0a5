//! What a view stands on: remembered, so that the next change need not be looked at together with everything before.

use std::collections::{BTreeMap, BTreeSet};

use super::register::Register;
use super::titles::Title;
use super::verdict::{Judged, Verdicts};
use super::{InviteView, ViewMember, by_admit, joiners};
use crate::authority::{Authority, Changes};
use crate::id::{AdmitId, NodeId, OpId};

/// What a view was made of.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// All places in op order.
    pub(super) order: Vec<u32>,
    /// What counts of them.
    pub(super) judged: Judged,
    /// The places of each device's titles, in op order.
    pub(super) titled: BTreeMap<NodeId, Vec<u32>>,
    /// Devices with a title that ends by the clock.
    pub(super) expiring: BTreeSet<NodeId>,
    /// Who left.
    pub(super) left: BTreeSet<NodeId>,
    /// The admits of devices that nothing keeps from joining.
    pub(super) joining: Vec<AdmitId>,
    /// Who stands by one of them.
    pub(super) joiners: Vec<NodeId>,
    /// What had been stored.
    pub(super) changes: Changes,
}

impl Ground {
    /// What is known before anybody joins.
    pub(super) fn new(
        authority: &Authority,
        verdicts: &Verdicts<'_>,
        left: &BTreeSet<NodeId>,
        titles: &[Title<'_>],
    ) -> Self {
        let mut titled: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
        for title in titles {
            titled.entry(title.device).or_default().push(title.place);
        }
        let expiring = titles.iter().filter(|title| title.expires.is_some());
        Self {
            order: Vec::new(),
            judged: Judged::default(),
            joining: joiners::joining(authority, |id| titled.contains_key(id), verdicts, left),
            expiring: expiring.map(|title| title.device).collect(),
            titled,
            left: left.clone(),
            joiners: Vec::new(),
            changes: authority.changes(),
        }
    }

    /// Keeps what the view was made with.
    pub(super) fn keep(&mut self, order: Vec<u32>, verdicts: Verdicts<'_>) {
        self.order = order;
        self.judged = verdicts.into_judged();
    }

    /// Lets the joiners in behind those who are settled.
    pub(super) fn call(
        &mut self,
        authority: &Authority,
        members: &mut BTreeMap<NodeId, ViewMember>,
        invites: &mut BTreeMap<OpId, InviteView>,
        register: &mut Register,
    ) {
        let is_settled = |device: &NodeId| members.contains_key(device);
        let joiners = joiners::joiners(authority, &self.joining, is_settled, invites);
        // Who has traffic is called before who waits, so that waiting joiners never move anybody.
        let mut queue: Vec<_> = joiners.into_values().collect();
        queue.sort_by_key(|joiner| (joiner.standing, joiner.admit.id()));
        self.joiners.clear();
        for joiner in queue {
            if let Some(member) = by_admit(joiner, authority, register) {
                self.joiners.push(member.id);
                members.insert(member.id, member);
            }
        }
    }

    /// Devices of titles and admits that a revocation keeps out, and which.
    pub(super) fn revoked(
        &self,
        authority: &Authority,
        verdicts: &Verdicts<'_>,
        members: &BTreeMap<NodeId, ViewMember>,
    ) -> BTreeMap<NodeId, OpId> {
        let claimed: BTreeSet<NodeId> = authority
            .admits()
            .map(|admit| admit.claim().device)
            .filter(|device| !verdicts.revocations_of(device).is_empty())
            .collect();
        let out = verdicts
            .met()
            .filter(|device| !members.contains_key(*device));
        let revoked = out.filter_map(|device| {
            let revoke = match self.titled.get(device) {
                Some(titles) => titles.iter().rev().find_map(|title| verdicts.ended(*title)),
                None => claimed.get(device).and_then(|_| verdicts.revoked(device)),
            };
            Some((*device, revoke?))
        });
        revoked.collect()
    }

    /// Enters the next place into the op order. Nothing that is stored waits for it, so it goes behind the last of its
    /// parents, before the first that it precedes, and moves nothing else.
    pub(super) fn line_up(&mut self, authority: &Authority, place: u32) {
        let entry = authority.at(place);
        let mut back = self.order.iter().rev();
        let behind = back.position(|other| entry.parents.contains(other));
        let mut at = self.order.len() - behind.unwrap_or(0);
        let key = |place: u32| {
            let entry = authority.at(place);
            (entry.level, entry.op.id())
        };
        let own = key(place);
        while self.order.get(at).is_some_and(|other| key(*other) < own) {
            at += 1;
        }
        self.order.insert(at, place);
    }
}
