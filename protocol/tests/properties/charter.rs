//! The model's word on what all share: the policy and the epoch.

use std::collections::BTreeMap;
use std::rc::Rc;

use meshnode_protocol::body::{Body, Kind};
use meshnode_protocol::id::OpId;
use meshnode_protocol::op::{Author, Op};
use meshnode_protocol::view::{EpochView, PolicyView};

use crate::model::Model;
use crate::slips::Slip;

impl Model<'_> {
    /// The counting Rekey with the highest number; of equals the senior's, of these the smallest id.
    pub(crate) fn epoch(&self) -> EpochView {
        let mut best: Option<(u32, &Op)> = None;
        for op in self
            .of_kind(Kind::REKEY)
            .filter(|op| self.counts(op) && self.clear(op))
        {
            let Body::Rekey(rekey) = op.body() else {
                panic!("a Rekey has its body");
            };
            let rank = (rekey.epoch, self.seniority(op));
            if best.is_none_or(|(number, op)| rank > (number, self.seniority(op))) {
                best = Some((rekey.epoch, op));
            }
        }
        let (number, op) = best.map_or((0, self.genesis()), |(number, op)| (number, op.id()));
        let commitment = match self.ops[&op].body() {
            Body::Rekey(rekey) => rekey.commitment,
            _ => self.authority.genesis().epoch_commitment,
        };
        let invites = self.invites();
        let bad = self
            .order
            .iter()
            .filter(|op| self.counts(op) && self.clear(op));
        let bad = bad.filter(|op| match op.body() {
            Body::Revoke(_) => true,
            Body::InviteClose(close) => {
                let invite = &invites[&close.invite];
                !invite.approve && !invite.pending.is_empty() && !self.slips(Slip::ClosesAreClean)
            }
            _ => false,
        });
        let past = self.past(&op);
        let mut unheard = bad.filter(|op| !past.contains(&op.id()));
        EpochView {
            number,
            commitment,
            op,
            dirty: unheard.next().is_some(),
        }
    }

    /// Of an op the most bases that follow one another up to it.
    fn line(&self, id: &OpId, known: &mut BTreeMap<OpId, usize>) -> usize {
        if let Some(line) = known.get(id) {
            return *line;
        }
        let op = self.ops[id];
        let parents = op.header().parents.iter();
        let before = parents.map(|parent| self.line(parent, known)).max();
        let own = usize::from(op.header().kind == Kind::POLICY_BASE);
        let line = before.unwrap_or(0) + own;
        known.insert(*id, line);
        line
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> PolicyView {
        let kinds = [Kind::POLICY, Kind::POLICY_BASE];
        let ops = self
            .order
            .iter()
            .filter(|op| kinds.contains(&op.header().kind));
        let (counting, void): (Vec<&Op>, Vec<&Op>) = ops.partition(|op| self.counts(op));
        let unread = |op: &Op| op.is_stub() || !self.clear(op);
        let mut lines = BTreeMap::new();
        let bases = counting.iter().filter(|op| {
            op.header().kind == Kind::POLICY_BASE
                && (unread(op) || op.body().policy_base().is_some())
        });
        let base = bases
            .max_by_key(|op| (self.line(&op.id(), &mut lines), self.seniority(op)))
            .map(|op| op.id());
        let replaced = base.map_or_else(Rc::default, |base| self.past(&base));
        let of = |op: &&&Op| match op.body() {
            Body::Policy(policy) if !unread(op) => Some(policy.base),
            _ => None,
        };
        let changes = counting.iter().filter(|op| of(op).is_some());
        let (changes, stranded): (Vec<&Op>, Vec<&Op>) =
            changes.partition(|op| of(op).is_some() && of(op) == base);
        let missing = counting.iter().filter(|op| {
            let part = op.header().kind == Kind::POLICY || Some(op.id()) == base;
            unread(op) && part && !replaced.contains(&op.id())
        });
        let ids = |ops: Vec<&Op>| ops.into_iter().map(Op::id).collect();
        PolicyView {
            exists: !counting.is_empty()
                || void
                    .iter()
                    .any(|op| self.was_heard(op) || self.rests_on_unread(op)),
            ops: counting.iter().map(|op| op.id()).collect(),
            base,
            changes: ids(changes),
            missing: missing.map(|op| op.id()).collect(),
            stranded: ids(stranded),
        }
    }

    /// Whether a void op rests on one that counts and that this version does not understand.
    fn rests_on_unread(&self, op: &Op) -> bool {
        let mut resting = op;
        while !self.counts(resting) {
            let mut attackers = self.attackers(resting).into_iter();
            if attackers.any(|id| self.counts(self.ops[&id])) {
                return false;
            }
            resting = self.ops[&resting.header().authority];
        }
        !self.slips(Slip::UnreadOpens)
    }

    /// Whether a counting revocation that reaches a void op, or what it rests on, was said in knowledge of it.
    fn was_heard(&self, op: &Op) -> bool {
        if self.slips(Slip::PoliciesVanish) {
            return false;
        }
        let mut resting = op;
        while resting.id() != self.genesis() {
            if let Author::Device(device) = resting.header().author {
                let heard = self.revokes(&device).into_iter().any(|(id, _)| {
                    let revoke = self.ops[&id];
                    self.counts(revoke)
                        && self.level(revoke) < self.level(resting)
                        && self.past(&id).contains(&op.id())
                });
                if heard {
                    return true;
                }
            }
            resting = self.ops[&resting.header().authority];
        }
        false
    }
}
