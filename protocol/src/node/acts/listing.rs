//! What people want listed: who waits, invites, admins.

use crate::id::NodeId;
use crate::io::{
    AdminInfo, CommandId, InviteInfo, InviteState, PendingInfo, Refusal, Reply, Standing,
};
use crate::join::fingerprint;
use crate::node::Node;
use crate::node::net::Net;
use crate::op::Author;
use crate::time::Moment;

impl Node {
    pub(in crate::node) fn list_pending(&mut self, command: CommandId) -> Result<(), Refusal> {
        let net = self.member_net()?;
        let members = net.view.members().values();
        let waiting = members.filter(|member| match member.standing {
            Standing::Pending | Standing::Quarantined => true,
            Standing::Settled | Standing::Provisional => false,
        });
        let pending = waiting.filter_map(|member| {
            let claim = net.authority().admit(&member.admit?)?.claim();
            Some(PendingInfo {
                id: member.id,
                name: member.name.clone(),
                fingerprint: fingerprint(&member.id),
                invite: claim.invite,
                witness: net.name_of(&claim.witness),
                since: claim.time,
                standing: member.standing,
            })
        });
        let pending = pending.collect();
        self.reply(command, Reply::Pending(pending));
        Ok(())
    }

    pub(in crate::node) fn list_invites(
        &mut self,
        command: CommandId,
        now: Moment,
    ) -> Result<(), Refusal> {
        let net = self.member_net()?;
        let mut invites: Vec<_> = net
            .view
            .invites()
            .keys()
            .filter_map(|id| Some((net.authority().op(id)?.header().time, invite(net, id, now)?)))
            .collect();
        invites.sort_by_key(|(said, info)| std::cmp::Reverse((*said, info.id)));
        let invites = invites.into_iter().map(|(_, info)| info).collect();
        self.reply(command, Reply::Invites(invites));
        Ok(())
    }

    pub(in crate::node) fn list_admins(&mut self, command: CommandId) -> Result<(), Refusal> {
        let net = self.member_net()?;
        let admins: Vec<_> = net
            .view
            .members()
            .values()
            .filter(|member| net.view.is_admin(&member.id))
            .map(|member| (member.clone(), granter(net, &member.id)))
            .collect();
        let mut infos: Vec<_> = admins
            .into_iter()
            .map(|(member, by)| AdminInfo {
                online: member.id == self.id || self.is_online(&member.id),
                tip: self.tip_of(&member.id),
                id: member.id,
                name: member.name,
                level: member.level,
                owner: member.owner,
                by,
            })
            .collect();
        infos.sort_by(|a, b| (a.level, &a.name).cmp(&(b.level, &b.name)));
        self.reply(command, Reply::Admins(infos));
        Ok(())
    }

    fn tip_of(&self, device: &NodeId) -> Option<crate::time::Timestamp> {
        let tip = self.net.as_ref()?.ledger.records.tip(device)?;
        Some(tip.time)
    }
}

fn granter(net: &Net, admin: &NodeId) -> Option<crate::name::NodeName> {
    let grant = net.view.live(admin)?.authority?;
    match net.authority().op(&grant)?.header().author {
        Author::Root => None,
        Author::Device(device) => net.name_of(&device),
    }
}

fn invite(net: &Net, id: &crate::id::OpId, now: Moment) -> Option<InviteInfo> {
    let view = net.view.invites().get(id)?;
    let terms = &net.authority().op(id)?.body().invite()?.terms;
    let users = view.used.iter().chain(&view.provisional);
    let used = view.used.len() + view.provisional.len() + view.quarantined.len();
    let state = if used >= usize::from(view.uses) {
        InviteState::Used
    } else if !view.open {
        InviteState::Cancelled
    } else if now.wall > view.not_after {
        InviteState::Expired
    } else {
        InviteState::Open
    };
    Some(InviteInfo {
        id: *id,
        state,
        uses: view.uses,
        used_by: users.filter_map(|user| net.name_of(user)).collect(),
        used,
        expires: view.not_after,
        issuer: net.name_of(&view.issuer),
        name: terms.name.clone(),
        tags: terms.tags.clone(),
        approve: view.approve,
    })
}
