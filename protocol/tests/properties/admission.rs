//! The model's word on what may be stored: the structural check, in the words of `docs/protocol.md` §3.7.

use std::collections::BTreeSet;

use meshnode_protocol::body::{Body, Caps, Cut, Grant, Invite, Kind, Level, Tags, net_fields};
use meshnode_protocol::claim::Claim;
use meshnode_protocol::id::OpId;
use meshnode_protocol::identity::{Context, verify};
use meshnode_protocol::name::Owner;
use meshnode_protocol::op::{Author, Op};
use meshnode_protocol::time::Timestamp;

use crate::model::Model;
use crate::scenario::Scenario;
use crate::slips::Slip;

/// What a cited op gives an author: level, caps, tags it may give, its owner.
struct Given<'a>(Level, Caps, Option<&'a Tags>, Option<&'a Owner>);

impl Model<'_> {
    /// Whether the stored set holds, of everything that was said, what the model would store.
    pub(crate) fn stores(&self, scenario: &Scenario) -> bool {
        let realm = scenario.authority.realm();
        scenario.ops.iter().all(|bytes| {
            let known = Op::peek_id(bytes).ok();
            let known = known.and_then(|id| scenario.authority.op(&id));
            let parsed = || Op::parse(bytes, realm).ok();
            let Some(op) = known.cloned().or_else(parsed) else {
                return true;
            };
            let parents = op.header().parents.iter();
            let stored = |id: &OpId| self.ops.contains_key(id);
            let sound = parents.clone().all(stored) && self.may_say(&op) == Some(true);
            sound == stored(&op.id())
        })
    }

    fn may_say(&self, op: &Op) -> Option<bool> {
        let header = op.header();
        let mut past = header.parents.iter().copied().collect::<BTreeSet<_>>();
        for parent in &header.parents {
            past.extend(&*self.past(parent));
        }
        let heard = |id: &OpId| past.contains(id);
        let loose = |slip: Slip| self.slips(slip);
        let cited = self.ops.get(&header.authority)?;
        let Given(level, caps, may_tag, owner) = given(cited, &header.author)?;
        let labels = |tags: &Tags, whose: Option<&Owner>| {
            let own = tags.as_slice().iter();
            let mut own = own.map(|tag| may_tag.is_some_and(|may| may.as_slice().contains(tag)));
            caps.contains(Caps::LABEL) || (own.all(|own| own) && whose == owner)
        };
        let members = caps.contains(Caps::MEMBERS);
        let ends = |then| ends_in_time(cited, then) || loose(Slip::OutlivesAuthor);
        let body = match op.body() {
            Body::Genesis(_) => false,
            Body::Grant(grant) => {
                let claim = grant.claim.as_ref();
                let claim = claim.is_none_or(|claim| self.settles(claim, grant, &past));
                let below =
                    level < grant.level || (loose(Slip::EqualsGrant) && level == grant.level);
                members
                    && below
                    && caps.contains(grant.caps)
                    && labels(&grant.tags, grant.owner.as_ref())
                    && labels(&grant.may_tag, grant.owner.as_ref())
                    && claim
                    && ends(grant.expires)
            }
            Body::Invite(invite) => {
                let labels = labels(&invite.terms.tags, invite.terms.owner.as_ref());
                let ends = ends(Some(invite.terms.not_after));
                members && labels && ends && self.is_for_this_network(invite, &header.author)
            }
            Body::Revoke(revoke) => {
                let cut = match &revoke.cut {
                    Cut::Heads(heads) => heads.as_slice(),
                    _ => &[],
                };
                let mut ids = cut.iter().chain(revoke.spare.as_slice());
                let own = header.author == Author::Device(revoke.device);
                members
                    && (!own || loose(Slip::SelfRevokes))
                    && (ids.all(heard) || loose(Slip::CutsAnything))
            }
            Body::InviteClose(close) => {
                let invite = self.ops.get(&close.invite).copied();
                let invite = invite.filter(|op| op.body().invite().is_some());
                let not_senior = |op: &Op| level <= self.level(op) || loose(Slip::JuniorsClose);
                members && heard(&close.invite) && invite.is_some_and(not_senior)
            }
            Body::Rekey(rekey) => {
                let before = past.iter().filter_map(|id| match self.ops[id].body() {
                    Body::Rekey(rekey) => Some(rekey.epoch),
                    _ => None,
                });
                let before = before.max().unwrap_or(0);
                let higher = rekey.epoch > before && loose(Slip::EpochsSkip);
                members && (rekey.epoch == before.wrapping_add(1) || higher)
            }
            Body::Policy(_) | Body::PolicyBase(_) | Body::Noop | Body::Opaque => {
                let policy = [Kind::POLICY, Kind::POLICY_BASE].contains(&header.kind);
                caps.contains(Caps::POLICY) || !policy
            }
        };
        Some(body && (heard(&header.authority) || loose(Slip::UnheardIsCited)))
    }

    /// Whether a claim is the grant's and its invite was heard.
    fn settles(&self, claim: &Claim, grant: &Grant, past: &BTreeSet<OpId>) -> bool {
        let terms = &claim.terms;
        let invite = self.ops.get(&terms.invite).map(|op| op.body());
        let invite = invite.and_then(Body::invite);
        terms.network == self.authority.network()
            && terms.device == grant.device
            && past.contains(&terms.invite)
            && invite.is_some_and(|invite| claim.check_invite(&invite.terms.key).is_ok())
            && claim.check_joiner().is_ok()
    }

    /// Whether the invite key signed this network and this issuer.
    fn is_for_this_network(&self, invite: &Invite, author: &Author) -> bool {
        let Author::Device(issuer) = author else {
            return false;
        };
        let fields = net_fields(&self.genesis(), issuer, &invite.terms);
        let fields: Vec<&[u8]> = fields.iter().map(<[u8; 32]>::as_slice).collect();
        let key = invite.terms.key.key();
        verify(key, Context::Net, &fields, &invite.net_signature).is_ok()
    }
}

/// What a right gives ends with it.
fn ends_in_time(cited: &Op, then: Option<Timestamp>) -> bool {
    let end = cited.body().grant().and_then(|own| own.expires);
    end.is_none_or(|end| then.is_some_and(|then| then <= end))
}

fn given<'a>(cited: &'a Op, author: &Author) -> Option<Given<'a>> {
    match (cited.body(), author) {
        (Body::Genesis(_), Author::Root) => Some(Given(Level(0), Caps::ALL, None, None)),
        (Body::Genesis(genesis), Author::Device(device)) => {
            let own = genesis.founder == *device;
            own.then_some(Given(Level(1), Caps::ALL, None, None))
        }
        (Body::Grant(grant), Author::Device(device)) => {
            let own = grant.device == *device && grant.level != Level(255);
            let owner = grant.owner.as_ref();
            own.then_some(Given(grant.level, grant.caps, Some(&grant.may_tag), owner))
        }
        _ => None,
    }
}
