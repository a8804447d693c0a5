//! Putting nodes out: the cut, what is spared, and who is let in again because it fell with them by mistake.

use std::collections::BTreeSet;

use crate::authority::Authority;
use crate::body::{Body, Cut, Grant, Level, OpIds, Revoke};
use crate::codec::Ext;
use crate::id::{NodeId, OpId};
use crate::io::{Act, CommandId, Refusal, RevokeOptions, Since};
use crate::limits::{PARENTS_MAX, REASON_BYTES_MAX, SPARE_MAX};
use crate::node::Node;
use crate::node::acts::{Batch, Hand};
use crate::node::net::Net;
use crate::op::{Author, Op};
use crate::seal::EpochKey;
use crate::time::Moment;
use crate::view::{View, ViewMember};

/// Nodes that one act lets in again; more need acts of their own.
const GRANTED_AGAIN_MAX: usize = 512;

/// What to do about what the devices signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    pub(super) since: Option<Since>,
    pub(super) stolen: bool,
}

impl Node {
    pub(in crate::node) fn revoke(
        &mut self,
        command: CommandId,
        options: &RevokeOptions,
        now: Moment,
    ) -> Result<(), Refusal> {
        let targets = self.targets(options)?;
        let (hand, own) = match &options.recovery {
            Some(roots) => (self.root_hand(roots.secrets())?, Level::ROOT),
            None => self.admin_hand()?,
        };
        for target in &targets {
            self.require_senior((target, self.level_of(target)), own)?;
        }
        let reach = Reach {
            since: options.since,
            stolen: options.stolen,
        };
        let mut batch = Batch::new(self.member_net()?, now);
        self.put_out(&mut batch, &hand, (&targets, &options.reason), reach)?;
        if !options.stolen {
            self.let_in_again(&mut batch, &hand, (&targets, own), now)?;
        }
        self.restate_policy(&mut batch, &hand, now)?;
        let after = self.preview(&batch, now)?;
        if !after.members().keys().any(|id| after.is_admin(id)) {
            return Err(Refusal::LastAdmin);
        }
        batch.rekey(&hand, EpochKey::generate(&mut self.rng))?;
        let plan = self.plan_of(&batch, &targets, now)?;
        self.carry_out(command, batch, plan, options.act, now)
    }

    /// The nodes that are meant: named ones, and all of an owner.
    fn targets(&mut self, options: &RevokeOptions) -> Result<Vec<NodeId>, Refusal> {
        let me = self.id;
        let net = self.member_net()?;
        let mut targets: BTreeSet<NodeId> = options.nodes.iter().copied().collect();
        if let Some(owner) = &options.owner {
            let members = net.view.members().values();
            let owned = members.filter(|member| member.owner.as_ref() == Some(owner));
            targets.extend(owned.map(|member| member.id));
        }
        if targets.contains(&me) {
            return Err(Refusal::RevokeSelf);
        }
        if targets.is_empty() || !targets.iter().all(|id| net.view.members().contains_key(id)) {
            return Err(Refusal::UnknownNode);
        }
        Ok(targets.into_iter().collect())
    }

    /// The level by which a device acts, or would.
    pub(in crate::node) fn level_of(&self, device: &NodeId) -> Level {
        let member = self
            .net
            .as_ref()
            .and_then(|net| net.view.members().get(device));
        member.map_or(Level::MEMBER, |member| member.level)
    }

    /// Signs the revocations.
    pub(super) fn put_out(
        &self,
        batch: &mut Batch,
        hand: &Hand,
        (targets, reason): (&[NodeId], &str),
        reach: Reach,
    ) -> Result<(), Refusal> {
        for target in targets {
            let revoke = revocation(&batch.authority, target, reason, reach)?;
            batch.sign(Body::Revoke(Box::new(revoke)), hand)?;
        }
        Ok(())
    }

    /// Grants again what fell with the targets although nobody meant it: members that they had let in.
    pub(super) fn let_in_again(
        &mut self,
        batch: &mut Batch,
        hand: &Hand,
        (targets, own): (&[NodeId], Level),
        now: Moment,
    ) -> Result<(), Refusal> {
        let after = self.preview(batch, now)?;
        let net = self.member_net()?;
        let fallen: Vec<_> = net
            .view
            .members()
            .values()
            .filter(|member| fell(member, net, &after) && !targets.contains(&member.id))
            .filter(|member| member.level > own)
            .filter_map(|member| again(member, net))
            .collect();
        if fallen.len() > GRANTED_AGAIN_MAX {
            return Err(Refusal::Limit(
                "more than 512 nodes would have to be let in again",
            ));
        }
        for grant in fallen {
            batch.sign(Body::Grant(Box::new(grant)), hand)?;
        }
        Ok(())
    }

    pub(in crate::node) fn deny(
        &mut self,
        command: CommandId,
        joiners: &[NodeId],
        reason: &str,
        act: Act,
        now: Moment,
    ) -> Result<(), Refusal> {
        let (hand, _) = self.admin_hand()?;
        self.require_waiting(joiners)?;
        let reach = Reach {
            since: None,
            stolen: false,
        };
        let mut batch = Batch::new(self.member_net()?, now);
        self.put_out(&mut batch, &hand, (joiners, reason), reach)?;
        batch.rekey(&hand, EpochKey::generate(&mut self.rng))?;
        let plan = self.plan_of(&batch, joiners, now)?;
        self.carry_out(command, batch, plan, act, now)
    }
}

/// The revocation of a device over everything in a stored set.
pub(super) fn revocation(
    authority: &Authority,
    target: &NodeId,
    reason: &str,
    reach: Reach,
) -> Result<Revoke, Refusal> {
    let (cut, spare) = cut(authority, target, reach)?;
    Ok(Revoke {
        device: *target,
        cut,
        spare,
        reason: shorten(reason),
        ext: Ext::NONE,
    })
}

/// Whether a live device is not live any more, or an admin no longer.
fn fell(member: &ViewMember, net: &Net, after: &View) -> bool {
    let was = net.view.live(&member.id).is_some();
    was && after
        .live(&member.id)
        .is_none_or(|now| now.level > member.level)
}

/// The grant that gives a device again what it has.
pub(super) fn again(member: &ViewMember, net: &Net) -> Option<Grant> {
    let authority = net.authority();
    // What the policy pins stays with the policy.
    let member = net.view.granted(&member.id).unwrap_or(member);
    let claim = match (member.admit, member.authority) {
        (Some(admit), _) => Some(Box::new(authority.admit(&admit)?.terms().claim.clone())),
        (None, Some(grant)) => authority.op(&grant)?.body().grant()?.claim.clone(),
        (None, None) => None,
    };
    Some(Grant {
        device: member.id,
        level: member.level,
        caps: member.caps,
        may_tag: member.may_tag.clone(),
        owner: member.owner.clone(),
        tags: member.tags.clone(),
        name: member.name.clone(),
        ipv4: member
            .ipv4
            .unwrap_or_else(|| net.view.free_ipv4(&member.id)),
        expires: member.expires,
        claim,
        ext: Ext::NONE,
    })
}

/// Its cut and its spare list.
fn cut(
    authority: &Authority,
    target: &NodeId,
    reach: Reach,
) -> Result<(Cut, OpIds<SPARE_MAX>), Refusal> {
    let too_many = Refusal::Limit("a revocation spares at most 64 ops by name");
    let Some(since) = reach.since else {
        return Ok((Cut::Parents, OpIds::default()));
    };
    if let Since::Op(op) = since
        && !authority.contains(&op)
    {
        return Err(Refusal::UnknownSince);
    }
    let theirs = authority
        .ops()
        .filter(|op| op.header().author == Author::Device(*target));
    let falls = |op: &Op| match since {
        Since::Time(time) => op.header().time >= time,
        Since::Op(id) => op.id() == id || authority.in_past(&id, &op.id()),
    };
    let (bad, mut good): (Vec<&Op>, Vec<&Op>) = theirs.partition(|op| falls(op));
    // What rests on a bad op in time is bad, too: the cut keeps whole pasts.
    let tainted = |op: &&Op| bad.iter().any(|bad| authority.in_past(&bad.id(), &op.id()));
    good.retain(|op| !tainted(op));
    let ids: Vec<OpId> = good.iter().map(|op| op.id()).collect();
    let newest = |id: &&OpId| !ids.iter().any(|other| authority.in_past(id, other));
    let mut heads: Vec<OpId> = ids.iter().filter(newest).copied().collect();
    let rest = heads.split_off(heads.len().min(PARENTS_MAX));
    let revokes = bad.iter().filter(|op| op.body().revoke().is_some());
    let revokes = revokes.map(|op| op.id()).filter(|_| !reach.stolen);
    let spare = OpIds::new(rest.into_iter().chain(revokes).collect()).ok_or(too_many.clone())?;
    let cut = if heads.is_empty() {
        Cut::Nothing
    } else {
        Cut::Heads(OpIds::new(heads).ok_or(too_many)?)
    };
    Ok((cut, spare))
}

/// As many whole characters of a reason as an op holds.
fn shorten(reason: &str) -> String {
    let fits = |(at, symbol): &(usize, char)| at + symbol.len_utf8() <= REASON_BYTES_MAX;
    let symbols = reason.char_indices().take_while(fits);
    symbols.map(|(_, symbol)| symbol).collect()
}
