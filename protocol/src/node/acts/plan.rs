//! What an act does: the difference between the view before and the view after.

use crate::body::Body;
use crate::id::{NodeId, OpId};
use crate::io::{Fallen, Plan, Refusal};
use crate::node::Node;
use crate::node::acts::Batch;
use crate::node::net::Net;
use crate::op::Op;
use crate::time::Moment;

impl Node {
    /// The plan of a batch that puts some devices out by name.
    pub(in crate::node) fn plan_of(
        &mut self,
        batch: &Batch,
        out: &[NodeId],
        now: Moment,
    ) -> Result<Plan, Refusal> {
        let after = self.preview(batch, now)?;
        let net = self.open_net()?;
        let before = &net.view;
        let named = |id: &NodeId| Some((*id, net.name_of(id)?));
        let mut plan = Plan {
            out: out.iter().filter_map(named).collect(),
            ..Plan::default()
        };
        for (id, member) in before.members() {
            if before.live(id).is_none() || out.contains(id) {
                continue;
            }
            if after.live(id).is_none() {
                plan.falls.push(Fallen::Member(*id, member.name.clone()));
            } else if before.is_admin(id) && !after.is_admin(id) {
                plan.falls.push(Fallen::Admin(*id, member.name.clone()));
            }
        }
        let closed = before.invites().iter().filter(|(id, invite)| {
            invite.open && after.invites().get(id).is_some_and(|after| !after.open)
        });
        plan.falls.extend(closed.map(|(id, _)| Fallen::Invite(*id)));
        let back = before
            .revoked()
            .keys()
            .filter(|id| after.live(id).is_some());
        plan.falls.extend(
            back.filter_map(named)
                .map(|(id, name)| Fallen::Revocation(id, name)),
        );
        let policy = |id: &&OpId| {
            let op = net.authority().op(id).map(Op::body);
            let struck = after.voids().contains_key(*id) && !before.voids().contains_key(*id);
            struck && matches!(op, Some(Body::Policy(_) | Body::PolicyBase(_)))
        };
        let policies = after.voids().keys().filter(policy);
        plan.falls.extend(policies.map(|id| Fallen::Policy(*id)));
        note_ops(&mut plan, batch, net);
        let by = |op: &&Op| match op.header().author {
            crate::op::Author::Root => false,
            crate::op::Author::Device(device) => out.contains(&device),
        };
        let theirs = net.authority().ops().filter(by);
        plan.kept = theirs
            .filter(|op| !after.voids().contains_key(&op.id()))
            .count();
        let epochs = (before.epoch().number, after.epoch().number);
        plan.epoch = (epochs.0 != epochs.1).then_some(epochs);
        Ok(plan)
    }
}

/// Enters what the ops of a batch say by themselves.
fn note_ops(plan: &mut Plan, batch: &Batch, net: &Net) {
    for op in &batch.ops {
        match op.body() {
            Body::Grant(grant) if grant.level.is_admin() => {
                plan.admin = Some((grant.name.clone(), grant.level));
            }
            Body::Grant(grant) if net.view.members().contains_key(&grant.device) => {
                plan.granted_again.push((grant.device, grant.name.clone()));
            }
            Body::Revoke(revoke) => {
                let spared = revoke.spare.as_slice().iter();
                let spared = spared.filter_map(|id| net.authority().op(id)?.body().revoke());
                plan.spared
                    .extend(spared.filter_map(|spared| net.name_of(&spared.device)));
            }
            Body::Genesis(_)
            | Body::Grant(_)
            | Body::Invite(_)
            | Body::InviteClose(_)
            | Body::Policy(_)
            | Body::PolicyBase(_)
            | Body::Rekey(_)
            | Body::Noop
            | Body::Opaque => {}
        }
    }
}
