//! The card of a device, out of the stored ops: nothing in it rests on what the device says of itself.

use super::Node;
use super::net::Net;
use super::report::member_report;
use crate::body::Grant;
use crate::claim::ClaimTerms;
use crate::id::{NodeId, OpId};
use crate::io::{Card, CommandId, LetIn, MadeAdmin, Refusal, Reply, Who};
use crate::op::{Author, Op};
use crate::view::ViewMember;

impl Node {
    pub(super) fn whois(&mut self, command: CommandId, device: &NodeId) -> Result<(), Refusal> {
        let net = self.net.as_ref().ok_or(Refusal::NotReady)?;
        let member = net.view.members().get(device);
        let member = member.ok_or(Refusal::UnknownNode)?;
        let card = Card {
            member: member_report(net, member),
            transport: net.transport_key(member),
            tunnel: net.tunnel_key(member),
            let_in: let_in(net, member).ok_or(Refusal::NotReady)?,
        };
        self.reply(command, Reply::Card(Box::new(card)));
        Ok(())
    }
}

fn let_in(net: &Net, member: &ViewMember) -> Option<LetIn> {
    let authority = net.authority();
    if let Some(admit) = member.admit {
        let claim = authority.admit(&admit)?.claim();
        return Some(by_invite(net, claim, None));
    }
    let effective = authority.op(&member.authority?)?;
    let Some(grant) = granted(effective) else {
        let said = effective.header().time;
        return Some(LetIn::Founder { said });
    };
    // A later grant changes what a device may do; the one that settled its claim is the one that let it in.
    let first = authority
        .ops()
        .filter(|op| authority.in_past(&op.id(), &effective.id()))
        .find(|op| granted(op).is_some_and(|grant| settles(grant, &member.id)));
    let settling = if settles(grant, &member.id) {
        effective
    } else {
        first.unwrap_or(effective)
    };
    let claim = granted(settling).and_then(|grant| grant.claim.as_ref());
    Some(match claim {
        Some(claim) => by_invite(net, &claim.terms, Some(settling)),
        None => LetIn::Grant {
            by: made_admin(net, settling),
            said: settling.header().time,
        },
    })
}

fn granted(op: &Op) -> Option<&Grant> {
    op.body().grant()
}

fn settles(grant: &Grant, device: &NodeId) -> bool {
    grant.device == *device && grant.claim.is_some()
}

fn by_invite(net: &Net, claim: &ClaimTerms, settling: Option<&Op>) -> LetIn {
    let invite = net.authority().op(&claim.invite);
    let terms = invite.and_then(|op| op.body().invite());
    let uses = terms.map(|invite| invite.terms.uses);
    LetIn::Invite {
        invite: claim.invite,
        issuer: invite.and_then(|op| author(net, op)),
        uses,
        witness: who(net, claim.witness),
        settled_by: settling.and_then(|op| made_admin(net, op)),
        said: settling.map_or(claim.time, |op| op.header().time),
    }
}

fn who(net: &Net, id: NodeId) -> Who {
    let name = net.view.members().get(&id).map(|m| m.name.clone());
    Who { id, name }
}

/// The device that signed an op; nobody when the root keys or, for the genesis, the founder did.
fn author(net: &Net, op: &Op) -> Option<Who> {
    match op.header().author {
        Author::Root => None,
        Author::Device(id) => Some(who(net, id)),
    }
}

/// The admin that signed an op, with the author of the op that it cites as its authority.
fn made_admin(net: &Net, op: &Op) -> Option<MadeAdmin> {
    let signer = author(net, op)?;
    let cited: OpId = op.header().authority;
    let founder = net.authority().realm().genesis == cited;
    let by = net.authority().op(&cited).filter(|_| !founder);
    Some(MadeAdmin {
        who: signer,
        level: net.authority().level_of(&op.id())?,
        by: by.and_then(|op| author(net, op)),
        founder,
    })
}
