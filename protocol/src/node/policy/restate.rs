//! A policy after a revocation that voids some of what it rests on: what fell is gone, what others built on it is said
//! again (`docs/protocol.md` §10.5).

use std::collections::BTreeSet;

use crate::body::{Body, PolicyBase};
use crate::codec::Ext;
use crate::id::OpId;
use crate::io::Refusal;
use crate::node::Node;
use crate::node::acts::{Batch, Hand};
use crate::node::net::Net;
use crate::node::policy::built::{Built, When};
use crate::node::policy::change::may_write_policy;
use crate::node::policy::draft::open_policy;
use crate::node::policy::probation::{trial_until, was_open};
use crate::node::policy::transplant::transplant;
use crate::op::Author;
use crate::policy::{Document, Policy};
use crate::time::Moment;
use crate::view::View;

impl Node {
    /// Signs a base when a batch voids ops that the policy in force rests on, so that what is left of it is in force at
    /// once, on all nodes alike. Nothing when this node has no right to it or it fits no base: then the policy cannot
    /// be built, and nothing opens.
    pub(in crate::node) fn restate_policy(
        &mut self,
        batch: &mut Batch,
        hand: &Hand,
        now: Moment,
    ) -> Result<(), Refusal> {
        let me = self.id;
        let after = self.preview(batch, now)?;
        let net = self.member_net()?;
        let by_device = matches!(hand, Hand::Device(..));
        if !by_device || !net.may_write_policy(&me) || net.view.outdated().is_some() {
            return Ok(());
        }
        let Some(wanted) = net.policy_left(batch, &after, now) else {
            return Ok(());
        };
        let previous = net.view.policy().base;
        if let Ok(change) = Document::base_for(&wanted, &me, &mut self.rng) {
            let base = PolicyBase {
                previous,
                change,
                ext: Ext::NONE,
            };
            batch.sign(Body::PolicyBase(base), hand)?;
        }
        Ok(())
    }
}

impl Net {
    /// What is left of the policy in force when a batch voids some of it, if that has to be said: what still counts,
    /// with the steps of those changes that stand on nothing now. A step that cannot be taken without what fell is left
    /// out, as its author would leave it out.
    fn policy_left(&self, batch: &Batch, after: &View, now: Moment) -> Option<Policy> {
        let built = self.policy.current()?;
        let tried = self.tried_by_who_falls(after, now);
        let falls = |id: &OpId| after.voids().contains_key(id) || tried.contains(id);
        if !falls(&built.base) && !built.in_effect.iter().any(falls) {
            return None;
        }
        let view = after.policy();
        let buildable = view.base.filter(|_| view.missing.is_empty());
        let buildable = buildable.filter(|base| !falls(base));
        let changes = view.changes.iter().filter(|id| !falls(id));
        let changes: Vec<OpId> = changes.copied().collect();
        let left = buildable.and_then(|base| Built::of(&batch.authority, &base, &changes));
        let stands: BTreeSet<OpId> = left
            .iter()
            .flat_map(|left| left.in_effect.clone())
            .collect();
        let mut wanted = match &left {
            Some(left) => left.reading.policy.clone(),
            // A base on trial took the place of something.
            None if tried.contains(&built.base) => self.policy_before(&built.base),
            None => Policy::default(),
        };
        let directory = self.directory();
        for id in &self.view.policy().changes {
            if !built.in_effect.contains(id) || falls(id) || stands.contains(id) {
                continue;
            }
            let before = Built::at(self.authority(), id, When::Before, None);
            let after = Built::at(self.authority(), id, When::After, None);
            let step = before.zip(after).and_then(|(before, after)| {
                transplant(&before.reading.policy, &after.reading.policy, &wanted)
            });
            let sound = step.filter(|step| step.failures(&directory).is_empty());
            wanted = sound.unwrap_or(wanted);
        }
        // What is on trial is in force for whoever has it, whatever is built without it.
        let said = tried.is_empty() && left.is_some_and(|left| left.reading.policy == wanted);
        (!said).then_some(wanted)
    }

    /// What is in effect on trial of those who may not write the policy any more: nobody else would undo it.
    fn tried_by_who_falls(&self, after: &View, now: Moment) -> BTreeSet<OpId> {
        let Some(built) = self.policy.current() else {
            return BTreeSet::new();
        };
        let runs = |id: &&OpId| {
            let op = self.authority().op(id);
            op.is_some_and(|op| {
                let falls = match op.header().author {
                    Author::Device(author) => !may_write_policy(after, &author),
                    Author::Root => false,
                };
                falls && trial_until(op.body().ext()).is_some_and(|until| until > now.wall)
            })
        };
        let in_effect = built.in_effect.iter().chain([&built.base]);
        in_effect.filter(runs).copied().collect()
    }

    /// The policy right before an op, as its author had it.
    fn policy_before(&self, op: &OpId) -> Policy {
        let counting: BTreeSet<OpId> = self.view.policy().ops.iter().copied().collect();
        match Built::at(self.authority(), op, When::Before, Some(&counting)) {
            Some(before) => before.reading.policy,
            None if was_open(self.authority(), op) => open_policy(),
            None => Policy::default(),
        }
    }
}
