//! Who waits, who is let in, who becomes an admin and who stops to be one; invites that end.

use crate::body::{Body, Caps, Cut, Grant, InviteClose, Level, OpIds, Revoke, Tags};
use crate::codec::Ext;
use crate::id::{NodeId, OpId};
use crate::io::{Act, Approval, CommandId, Refusal, Standing};
use crate::node::Node;
use crate::node::acts::Batch;
use crate::node::acts::revoke::again;
use crate::seal::EpochKey;
use crate::time::Moment;

impl Node {
    /// Fails unless all of them wait for an admin.
    pub(super) fn require_waiting(&mut self, joiners: &[NodeId]) -> Result<(), Refusal> {
        let net = self.member_net()?;
        for id in joiners {
            let member = net.view.members().get(id).ok_or(Refusal::UnknownNode)?;
            match member.standing {
                Standing::Pending | Standing::Quarantined => {}
                Standing::Settled | Standing::Provisional => {
                    return Err(Refusal::NotPending(member.name.clone()));
                }
            }
        }
        if joiners.is_empty() {
            return Err(Refusal::UnknownNode);
        }
        Ok(())
    }

    pub(in crate::node) fn approve(
        &mut self,
        command: CommandId,
        joiners: &[Approval],
        act: Act,
        now: Moment,
    ) -> Result<(), Refusal> {
        let (hand, _) = self.admin_hand()?;
        self.require_understanding()?;
        let ids: Vec<_> = joiners.iter().map(|joiner| joiner.device).collect();
        self.require_waiting(&ids)?;
        let mut batch = Batch::new(self.member_net()?, now);
        for joiner in joiners {
            let view = self.preview(&batch, now)?;
            let net = self.member_net()?;
            let member = net.view.members().get(&joiner.device);
            let mut grant = member
                .and_then(|member| again(member, net))
                .ok_or(Refusal::UnknownNode)?;
            grant.ipv4 = view.free_ipv4(&joiner.device);
            let wished = joiner.name.as_ref().unwrap_or(&grant.name);
            grant.name = view.free_name(wished, &joiner.device);
            if let Some(tags) = &joiner.tags {
                grant.tags = tags.clone();
            }
            if joiner.owner.is_some() {
                grant.owner.clone_from(&joiner.owner);
            }
            grant.expires = net.expiry_of(&grant, now);
            batch.sign(Body::Grant(Box::new(grant)), &hand)?;
        }
        let plan = self.plan_of(&batch, &[], now)?;
        self.carry_out(command, batch, plan, act, now)
    }

    pub(in crate::node) fn cancel_invites(
        &mut self,
        command: CommandId,
        invites: &[OpId],
        act: Act,
        now: Moment,
    ) -> Result<(), Refusal> {
        let (hand, own) = self.admin_hand()?;
        let mut batch = Batch::new(self.member_net()?, now);
        for id in invites {
            let net = self.member_net()?;
            let invite = net.view.invites().get(id).filter(|invite| invite.open);
            let issuer = invite.ok_or(Refusal::UnknownInvite(*id))?.issuer;
            let level = net.authority().level_of(id).unwrap_or(Level::ROOT);
            // An equal's invite may be closed: only a senior's may not.
            if level < own {
                self.require_senior((&issuer, level), own)?;
            }
            let close = InviteClose {
                invite: *id,
                ext: Ext::NONE,
            };
            batch.sign(Body::InviteClose(close), &hand)?;
        }
        let plan = self.plan_of(&batch, &[], now)?;
        self.carry_out(command, batch, plan, act, now)
    }

    pub(in crate::node) fn add_admin(
        &mut self,
        command: CommandId,
        node: &NodeId,
        act: Act,
        now: Moment,
    ) -> Result<(), Refusal> {
        let (hand, own) = self.admin_hand()?;
        self.require_understanding()?;
        let net = self.member_net()?;
        let member = net.view.live(node).ok_or(Refusal::UnknownNode)?;
        if member.level.is_admin() {
            return Err(Refusal::AlreadyAdmin(member.name.clone()));
        }
        let admins = net.view.members().values();
        let admins = admins.filter(|member| net.view.is_admin(&member.id));
        let junior = admins.map(|member| member.level).max().unwrap_or(own);
        let level = Level(junior.max(own).0.saturating_add(1));
        if !level.is_admin() {
            return Err(Refusal::Limit("there are 254 levels of admins"));
        }
        let mut grant = again(member, net).ok_or(Refusal::NotReady)?;
        grant.level = level;
        grant.caps = self.own_caps();
        let mut batch = Batch::new(self.member_net()?, now);
        batch.sign(Body::Grant(Box::new(grant)), &hand)?;
        let plan = self.plan_of(&batch, &[], now)?;
        self.carry_out(command, batch, plan, act, now)
    }

    fn own_caps(&self) -> Caps {
        let own = self.net.as_ref().and_then(|net| net.view.live(&self.id));
        own.map_or(Caps::NONE, |own| own.caps)
    }

    pub(in crate::node) fn remove_admin(
        &mut self,
        command: CommandId,
        node: &NodeId,
        act: Act,
        now: Moment,
    ) -> Result<(), Refusal> {
        let me = self.id;
        let net = self.member_net()?;
        let member = net.view.live(node).ok_or(Refusal::UnknownNode)?;
        if !member.level.is_admin() {
            return Err(Refusal::NotAnAdmin(member.name.clone()));
        }
        let level = member.level;
        let mut grant = again(member, net).ok_or(Refusal::NotReady)?;
        let admins = net.view.members().keys();
        if admins.filter(|id| net.view.is_admin(id)).count() == 1 {
            return Err(Refusal::LastAdmin);
        }
        if *node == me {
            return Err(Refusal::RevokeSelf);
        }
        let (hand, own) = self.admin_hand()?;
        self.require_senior((node, level), own)?;
        let revoke = Revoke {
            device: *node,
            cut: Cut::Parents,
            spare: OpIds::default(),
            reason: "no admin any more".to_owned(),
            ext: Ext::NONE,
        };
        let mut batch = Batch::new(self.member_net()?, now);
        batch.sign(Body::Revoke(Box::new(revoke)), &hand)?;
        // Given in knowledge of the revocation, by who revoked: it clears it.
        grant.level = Level::MEMBER;
        grant.caps = Caps::NONE;
        grant.may_tag = Tags::default();
        batch.sign(Body::Grant(Box::new(grant)), &hand)?;
        self.restate_policy(&mut batch, &hand, now)?;
        batch.rekey(&hand, EpochKey::generate(&mut self.rng))?;
        let plan = self.plan_of(&batch, &[], now)?;
        self.carry_out(command, batch, plan, act, now)
    }
}

impl crate::node::net::Net {
    /// When a membership ends that is settled now, by what its invite says.
    pub(in crate::node) fn expiry_of(
        &self,
        grant: &Grant,
        now: Moment,
    ) -> Option<crate::time::Timestamp> {
        let claim = grant.claim.as_ref()?;
        self.end_under(&claim.terms.invite, now)
    }
}
