//! The model's word on invites and joiners.

use std::collections::{BTreeMap, BTreeSet};

use meshnode_protocol::body::{Body, Kind};
use meshnode_protocol::claim::Admit;
use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::io::Standing;
use meshnode_protocol::op::Author;
use meshnode_protocol::view::InviteView;

use crate::model::{Model, demands};
use crate::slips::Slip;

impl<'a> Model<'a> {
    fn titled(&self, device: &NodeId) -> bool {
        self.titles.iter().any(|title| title.member.id == *device)
    }

    /// Admits under an invite that may count at all, of each device the one with the smallest id.
    fn waiting(&self, invite: &OpId) -> Vec<&'a Admit> {
        let mut admits: Vec<&Admit> = self.authority.admits().collect();
        admits.retain(|admit| {
            let claim = admit.claim();
            claim.invite == *invite
                && !demands(&claim.ext)
                && !demands(&admit.terms().ext)
                && !self.titled(&claim.device)
                && !self.left.contains(&claim.device)
                && (!self.ever_revoked(&claim.device) || self.slips(Slip::AdmitsRestore))
                && self.effective(&claim.witness).is_some()
        });
        admits.sort_by_key(|admit| admit.id());
        let mut devices = BTreeSet::new();
        admits.retain(|admit| devices.insert(admit.claim().device));
        admits
    }

    fn closed(&self, invite: &OpId) -> Option<OpId> {
        let closes = self.of_kind(Kind::INVITE_CLOSE);
        let mut closes = closes.filter(|op| self.counts(op) && self.clear(op));
        closes
            .find(|op| match op.body() {
                Body::InviteClose(close) => close.invite == *invite,
                _ => panic!("an InviteClose has its body"),
            })
            .map(|op| op.id())
    }

    fn open(&self, invite: &OpId) -> bool {
        let op = self.ops[invite];
        let cited = op.header().authority;
        let mut titles = self.titles.iter();
        let issuer = titles.any(|title| title.live && title.member.authority == Some(cited));
        let admitted = self.authority.admits().any(|admit| {
            admit.claim().invite == *invite && self.ever_revoked(&admit.claim().device)
        });
        let burnt = self
            .used(invite)
            .iter()
            .any(|device| self.ever_revoked(device));
        self.counts(op)
            && self.clear(op)
            && (issuer || self.slips(Slip::DeadIssuersInvite))
            && (self.closed(invite).is_none() || self.slips(Slip::ClosesCloseNothing))
            && (!burnt || self.slips(Slip::RevokedUsersInvite))
            && (!admitted || !self.slips(Slip::AdmitsClose))
    }

    fn standing(&self, invite: &OpId) -> Standing {
        let Body::Invite(body) = self.ops[invite].body() else {
            panic!("an admit under no invite");
        };
        let (used, uses) = (self.used(invite).len(), usize::from(body.terms.uses));
        let more = usize::from(self.slips(Slip::OneMore));
        if !self.open(invite) || body.terms.approve || used >= uses + more {
            Standing::Pending
        } else if used + self.waiting(invite).len() > uses + more {
            Standing::Quarantined
        } else {
            Standing::Provisional
        }
    }

    fn used(&self, invite: &OpId) -> BTreeSet<NodeId> {
        let titles = self.titles.iter();
        let uses = titles.filter(|title| title.member.invite == Some(*invite));
        uses.map(|title| title.member.id).collect()
    }

    /// The unsettled devices in the order of their call, each by its best admit.
    pub(crate) fn joiners(&self) -> Vec<(Standing, &'a Admit)> {
        let mut all: Vec<(Standing, &Admit)> = Vec::new();
        for invite in self.of_kind(Kind::INVITE) {
            let standing = self.standing(&invite.id());
            let admits = self.waiting(&invite.id()).into_iter();
            all.extend(admits.map(|admit| (standing, admit)));
        }
        all.sort_by_key(|(standing, admit)| (*standing, admit.id()));
        let mut called = BTreeSet::new();
        all.retain(|(_, admit)| called.insert(admit.claim().device));
        all
    }

    pub(crate) fn invites(&self) -> BTreeMap<OpId, InviteView> {
        let joiners = self.joiners();
        let mut invites = BTreeMap::new();
        for (id, op) in &self.ops {
            let (Body::Invite(body), Author::Device(issuer)) = (op.body(), op.header().author)
            else {
                continue;
            };
            let under = |standing: Standing| {
                let mine = joiners
                    .iter()
                    .filter(|(as_what, admit)| *as_what == standing && admit.claim().invite == *id);
                let devices: BTreeSet<NodeId> =
                    mine.map(|(_, admit)| admit.claim().device).collect();
                devices.into_iter().collect()
            };
            let view = InviteView {
                issuer,
                uses: body.terms.uses,
                approve: body.terms.approve,
                closed: self.closed(id),
                not_after: body.terms.not_after,
                open: self.open(id),
                used: self.used(id).into_iter().collect(),
                provisional: under(Standing::Provisional),
                pending: under(Standing::Pending),
                quarantined: under(Standing::Quarantined),
            };
            invites.insert(*id, view);
        }
        invites
    }
}
