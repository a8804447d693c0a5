//! The model's word on what may be stored: the structural check, in the words of `docs/protocol.md` §3.7.

use meshnode_protocol::body::{Body, Caps, Kind, Level, Tags};
use meshnode_protocol::id::OpId;
use meshnode_protocol::name::Owner;
use meshnode_protocol::op::{Author, Op};

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
            let Ok(op) = Op::parse(bytes, realm) else {
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
        let mut past = header
            .parents
            .iter()
            .copied()
            .collect::<std::collections::BTreeSet<_>>();
        for parent in &header.parents {
            past.extend(self.past(parent));
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
        let body = match op.body() {
            Body::Genesis(_) => false,
            Body::Grant(grant) => {
                let claim = grant.claim.as_ref().is_none_or(|claim| {
                    let terms = &claim.terms;
                    let invite = self.ops.get(&terms.invite).map(|op| op.body());
                    let invite = invite.and_then(Body::invite);
                    terms.network == self.authority.network()
                        && terms.device == grant.device
                        && heard(&terms.invite)
                        && invite.is_some_and(|i| claim.check_invite(&i.terms.key).is_ok())
                        && claim.check_joiner().is_ok()
                });
                let below =
                    level < grant.level || (loose(Slip::EqualsGrant) && level == grant.level);
                members
                    && below
                    && caps.contains(grant.caps)
                    && labels(&grant.tags, grant.owner.as_ref())
                    && labels(&grant.may_tag, grant.owner.as_ref())
                    && claim
            }
            // The net signature is what the scenario varies; all that it makes have one key and one issuer.
            Body::Invite(invite) => {
                let Author::Device(issuer) = header.author else {
                    return Some(false);
                };
                let fields =
                    meshnode_protocol::body::net_fields(&self.genesis(), &issuer, &invite.terms);
                let fields: Vec<&[u8]> = fields.iter().map(<[u8; 32]>::as_slice).collect();
                let context = meshnode_protocol::identity::Context::Net;
                let key = invite.terms.key.key();
                let signature = &invite.net_signature;
                let signed = meshnode_protocol::identity::verify(key, context, &fields, signature);
                members && labels(&invite.terms.tags, invite.terms.owner.as_ref()) && signed.is_ok()
            }
            Body::Revoke(revoke) => {
                let cut = match &revoke.cut {
                    meshnode_protocol::body::Cut::Heads(heads) => heads.as_slice(),
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
