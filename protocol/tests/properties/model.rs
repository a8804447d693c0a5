//! The view once more, slow and obvious, in the words of `docs/protocol.md` §3.8. Shares no code with the real one.
//!
//! This file says who counts and who is in; `charter`, `naming` and `standing` say the rest. A model may be made to
//! slip in one rule: that it then differs from the code proves that the scenarios touch the rule.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use meshnode_protocol::address::ipv6;
use meshnode_protocol::authority::Authority;
use meshnode_protocol::body::{Body, Caps, Cut, Kind, Level, Revoke, Tags};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::io::Standing;
use meshnode_protocol::op::{Author, Op};
use meshnode_protocol::view::{View, ViewMember};

use crate::slips::Slip;

/// A counting grant, or the genesis as what it gives its founder.
pub(crate) struct Title {
    /// The level of the granter.
    pub(crate) author: Level,
    /// Whether it makes its device live.
    pub(crate) live: bool,
    /// What it gives.
    pub(crate) member: ViewMember,
}

/// What follows from a stored set.
pub(crate) struct Model<'a> {
    pub(crate) authority: &'a Authority,
    pub(crate) left: &'a BTreeSet<NodeId>,
    pub(crate) ops: BTreeMap<OpId, &'a Op>,
    pub(crate) order: Vec<&'a Op>,
    pub(crate) titles: Vec<Title>,
    slip: Option<Slip>,
    counting: BTreeMap<OpId, bool>,
    pasts: RefCell<BTreeMap<OpId, Rc<BTreeSet<OpId>>>>,
}

/// Whether an extension must be understood.
pub(crate) fn demands(ext: &Ext) -> bool {
    ext.entries().iter().any(|(kind, _)| *kind >= 0x8000)
}

impl<'a> Model<'a> {
    /// The model of a stored set, with all rules told rightly but perhaps one.
    pub(crate) fn new(
        authority: &'a Authority,
        left: &'a BTreeSet<NodeId>,
        slip: Option<Slip>,
    ) -> Self {
        let ops = authority.ops().map(|op| (op.id(), op)).collect();
        let mut model = Self {
            authority,
            left,
            ops,
            order: Vec::new(),
            titles: Vec::new(),
            slip,
            counting: BTreeMap::new(),
            pasts: RefCell::default(),
        };
        model.order = model.in_order();
        model.counting = model.fixpoint();
        model.titles = model.all_titles();
        model
    }

    /// In what a view differs from what the model says.
    pub(crate) fn difference(&self, view: &View) -> Option<&'static str> {
        let voids = self.ops.keys().filter(|id| !self.counting[*id]);
        let out: BTreeSet<NodeId> = view.revoked().keys().copied().collect();
        let same = [
            ("voids", view.voids().keys().eq(voids)),
            ("members", view.members() == &self.members()),
            ("invites", view.invites() == &self.invites()),
            ("epoch", view.epoch() == self.epoch()),
            ("policy", view.policy() == &self.policy()),
            ("revoked", out == self.revoked()),
            ("outdated", view.outdated() == self.outdated()),
        ];
        let mut differing = same.into_iter().filter(|(_, same)| !same);
        differing.next().map(|(what, _)| what)
    }

    pub(crate) fn slips(&self, slip: Slip) -> bool {
        self.slip == Some(slip)
    }

    pub(crate) fn genesis(&self) -> OpId {
        self.authority.realm().genesis
    }

    /// The level of an op's author.
    pub(crate) fn level(&self, op: &Op) -> Level {
        match (op.header().author, self.ops.get(&op.header().authority)) {
            (Author::Root, _) => Level(0),
            (Author::Device(_), Some(title)) => match title.body() {
                Body::Grant(grant) => grant.level,
                _ => Level(1),
            },
            (Author::Device(_), None) => panic!("stored without authority"),
        }
    }

    pub(crate) fn clear(&self, op: &Op) -> bool {
        let known = 1..=9;
        let kind = op.header().kind;
        (known.contains(&kind.0) || kind.0 >= 0x8000)
            && !demands(&op.header().ext)
            && !demands(op.body().ext())
    }

    pub(crate) fn counts(&self, op: &Op) -> bool {
        self.counting[&op.id()]
    }

    /// Everything before an op, without itself.
    pub(crate) fn past(&self, id: &OpId) -> Rc<BTreeSet<OpId>> {
        if let Some(past) = self.pasts.borrow().get(id) {
            return past.clone();
        }
        let mut past = BTreeSet::new();
        for parent in &self.ops[id].header().parents {
            past.insert(*parent);
            past.extend(&*self.past(parent));
        }
        let past = Rc::new(past);
        self.pasts.borrow_mut().insert(*id, past.clone());
        past
    }

    /// Everything at or before some ops.
    fn upto(&self, heads: &[OpId]) -> BTreeSet<OpId> {
        let mut upto: BTreeSet<OpId> = heads.iter().copied().collect();
        for head in heads {
            if !self.slips(Slip::KeepsHeadsAlone) {
                upto.extend(&*self.past(head));
            }
        }
        upto
    }

    /// What a revocation's cut keeps.
    fn keep(&self, id: &OpId, revoke: &Revoke) -> BTreeSet<OpId> {
        let mut keep = match &revoke.cut {
            _ if self.slips(Slip::KeepsNothing) => BTreeSet::new(),
            Cut::Parents => self.upto(&self.ops[id].header().parents),
            Cut::Heads(heads) => self.upto(heads.as_slice()),
            Cut::Nothing => BTreeSet::new(),
        };
        if !self.slips(Slip::SparesNothing) {
            keep.extend(revoke.spare.as_slice());
        }
        if self.slips(Slip::SparesPasts) {
            keep.extend(self.upto(revoke.spare.as_slice()));
        }
        keep
    }

    fn clears(&self, grant: &OpId, revoke: &OpId) -> bool {
        let senior = self.level(self.ops[grant]) <= self.level(self.ops[revoke]);
        let after = self.past(grant).contains(revoke);
        (senior || self.slips(Slip::AnybodyRestores))
            && (after || self.slips(Slip::UnheardRestores))
            && !self.slips(Slip::NobodyRestores)
    }

    /// Understood revocations of a device.
    pub(crate) fn revokes(&self, device: &NodeId) -> Vec<(OpId, &'a Revoke)> {
        let ops = self.ops.iter().filter(|(_, op)| self.clear(op));
        ops.filter_map(|(id, op)| Some((*id, op.body().revoke()?)))
            .filter(|(_, revoke)| revoke.device == *device)
            .collect()
    }

    /// The revocations that void an op if they count themselves.
    pub(crate) fn attackers(&self, op: &Op) -> Vec<OpId> {
        let Author::Device(device) = op.header().author else {
            return Vec::new();
        };
        let attacks = |(id, revoke): &(OpId, &Revoke)| {
            let (theirs, ours) = (self.level(self.ops[id]), self.level(op));
            let reaches = theirs < ours || (self.slips(Slip::EqualsStrike) && theirs == ours);
            reaches
                && !self.clears(&op.header().authority, id)
                && !self.keep(id, revoke).contains(&op.id())
        };
        let revokes = self.revokes(&device).into_iter().filter(attacks);
        revokes.map(|(id, _)| id).collect()
    }

    /// Again and again: IN is what rests on what is IN, and whose attackers are all OUT; OUT what rests on what is OUT,
    /// or has an attacker that is IN.
    fn fixpoint(&self) -> BTreeMap<OpId, bool> {
        let genesis = self.genesis();
        let mut decided = BTreeMap::from([(genesis, true)]);
        let ops = self.ops.values();
        let attackers: BTreeMap<OpId, Vec<OpId>> =
            ops.map(|op| (op.id(), self.attackers(op))).collect();
        loop {
            let before = decided.len();
            for (id, op) in &self.ops {
                let cited = op.header().authority;
                let base = if cited == genesis || *id == genesis {
                    Some(true)
                } else {
                    let clear = self.clear(self.ops[&cited]);
                    decided.get(&cited).map(|counts| *counts && clear)
                };
                let struck: Vec<Option<bool>> = attackers[id]
                    .iter()
                    .map(|attacker| decided.get(attacker).copied())
                    .collect();
                if base == Some(false) || struck.contains(&Some(true)) {
                    decided.insert(*id, false);
                } else if base == Some(true)
                    && struck.iter().all(|attacker| *attacker == Some(false))
                {
                    decided.insert(*id, true);
                }
            }
            if decided.len() == before {
                break;
            }
        }
        // With a slip, some may stay open; the rule says that none does.
        assert!(
            decided.len() == self.ops.len() || self.slip.is_some(),
            "undecided"
        );
        for id in self.ops.keys() {
            decided.entry(*id).or_insert(true);
        }
        decided
    }

    /// Again and again the smallest (level, id) of the ops whose parents all stand already.
    fn in_order(&self) -> Vec<&'a Op> {
        let mut order: Vec<&Op> = Vec::new();
        let mut stands: BTreeSet<OpId> = BTreeSet::new();
        while order.len() < self.ops.len() {
            let next = self
                .ops
                .values()
                .filter(|op| !stands.contains(&op.id()))
                .filter(|op| op.header().parents.iter().all(|id| stands.contains(id)))
                .min_by_key(|op| (self.level(op), op.id()))
                .unwrap();
            stands.insert(next.id());
            order.push(next);
        }
        order
    }

    /// Whether a title of a level for a device is ended by a counting revocation.
    fn ended(&self, op: &OpId, device: &NodeId, level: Level) -> bool {
        self.revokes(device).iter().any(|(id, _)| {
            let theirs = self.level(self.ops[id]);
            let reaches = theirs < level || self.slips(Slip::AnybodyEndsTitles);
            self.counting[id] && reaches && !self.clears(op, id)
        })
    }

    /// Counting grants in op order, the genesis among them as what it gives its founder.
    fn all_titles(&self) -> Vec<Title> {
        let counting = |op: &&&Op| self.counts(op) && (self.clear(op) || op.id() == self.genesis());
        let titles = self.order.iter().filter(counting).filter_map(|op| {
            let member = self.given(op)?;
            let ended = self.ended(&op.id(), &member.id, member.level);
            Some(Title {
                author: self.level(op),
                live: !ended && !self.left.contains(&member.id),
                member,
            })
        });
        titles.collect()
    }

    /// What an op gives its device.
    fn given(&self, op: &Op) -> Option<ViewMember> {
        match op.body() {
            Body::Genesis(genesis) => Some(ViewMember {
                id: genesis.founder,
                name: genesis.founder_name.clone(),
                wished: genesis.founder_name.clone(),
                level: Level(1),
                caps: Caps::ALL,
                may_tag: Tags::default(),
                standing: Standing::Settled,
                tags: Tags::default(),
                owner: genesis.owner.clone(),
                ipv4: Some(genesis.founder_ipv4),
                ipv6: ipv6(&self.genesis(), &genesis.founder),
                authority: Some(op.id()),
                admit: None,
                invite: None,
                expires: None,
            }),
            Body::Grant(grant) => Some(ViewMember {
                id: grant.device,
                name: grant.name.clone(),
                wished: grant.name.clone(),
                level: grant.level,
                caps: grant.caps,
                may_tag: grant.may_tag.clone(),
                standing: Standing::Settled,
                tags: grant.tags.clone(),
                owner: grant.owner.clone(),
                ipv4: Some(grant.ipv4),
                ipv6: ipv6(&self.genesis(), &grant.device),
                authority: Some(op.id()),
                admit: None,
                invite: grant.claim.as_ref().map(|claim| claim.terms.invite),
                expires: grant.expires,
            }),
            _ => None,
        }
    }

    /// The live title that all attributes of a device come from.
    pub(crate) fn effective(&self, device: &NodeId) -> Option<&Title> {
        let own = self.titles.iter().enumerate();
        let own = own.filter(|(_, title)| title.live && title.member.id == *device);
        own.min_by_key(|(rank, title)| {
            let last = if self.slips(Slip::FirstTitleCounts) {
                *rank
            } else {
                usize::MAX - rank
            };
            (title.member.level, title.author, last)
        })
        .map(|(_, title)| title)
    }

    /// Whether a device ever met a counting revocation.
    pub(crate) fn ever_revoked(&self, device: &NodeId) -> bool {
        self.revokes(device).iter().any(|(id, _)| self.counting[id])
    }

    /// Who was in, or came in, and is out by a revocation.
    fn revoked(&self) -> BTreeSet<NodeId> {
        let members = self.standing_members();
        let ended = self.titles.iter().filter(|title| {
            let member = &title.member;
            self.ended(&member.authority.unwrap(), &member.id, member.level)
        });
        let ended = ended.map(|title| title.member.id);
        let claimed = self.authority.admits().map(|admit| admit.claim().device);
        let claimed = claimed.filter(|device| {
            self.ever_revoked(device) && !self.titles.iter().any(|t| t.member.id == *device)
        });
        let all = ended.chain(claimed);
        all.filter(|device| !members.contains_key(device)).collect()
    }

    pub(crate) fn outdated(&self) -> Option<OpId> {
        let beyond = |op: &&&Op| self.counts(op) && self.level(op).0 <= 1 && !self.clear(op);
        self.order.iter().find(beyond).map(|op| op.id())
    }

    /// Ops of a kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'a Op> + '_ {
        self.order
            .iter()
            .filter(move |op| op.header().kind == kind)
            .copied()
    }

    /// Smaller comes first.
    pub(crate) fn seniority(&self, op: &Op) -> (Reverse<Level>, Reverse<OpId>) {
        if self.slips(Slip::JuniorsWin) {
            return (Reverse(Level(255 - self.level(op).0)), Reverse(op.id()));
        }
        (Reverse(self.level(op)), Reverse(op.id()))
    }
}
