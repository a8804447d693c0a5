//! What this node signs: invites, grants that settle newcomers, and its own records.

mod hints;
mod records;

use rand_core::Rng;

use super::Node;
use super::acts::Batch;
use super::errands::Errand;
use super::net::Net;
use super::policy::Rules;
use crate::body::{
    Body, Caps, Cut, Grant, Invite, InviteTerms, Level, OpIds, Revoke, Tags, net_fields,
};
use crate::claim::Claim;
use crate::codec::Ext;
use crate::id::{NodeId, OpId};
use crate::identity::{Context, Secret};
use crate::invite::{InviteCode, InviteSecret};
use crate::io::{CommandId, InviteOptions, Invited, Output, Refusal, Reply, Standing, Write};
use crate::ledger::Change;
use crate::limits::{INVITE_USES_MAX, PARENTS_MAX};
use crate::op::{Draft, Op};
use crate::record::{Record, RecordBody};
use crate::seal::EpochKey;
use crate::structure::within;
use crate::time::{Moment, Timestamp};
use crate::wire::Items;

/// An admin that is not alone waits up to this long before it settles, so that one does.
const SETTLE_SPREAD_MS: u64 = 4000;
/// How long an act waits for others to hear of it.
const HEARD_MS: u64 = 1500;

impl Node {
    /// Signs an op over all heads, keeps it, tells everybody.
    pub(super) fn author(&mut self, body: Body, now: Moment) -> Result<Op, Refusal> {
        let mut merges = 0;
        while self.member_net()?.authority().heads().len() > PARENTS_MAX && merges < 16 {
            merges += 1;
            self.sign_op(Body::Noop, now)?;
        }
        self.sign_op(body, now)
    }

    fn sign_op(&mut self, body: Body, now: Moment) -> Result<Op, Refusal> {
        let me = self.id;
        let device = self.keys.device.clone();
        let net = self.member_net()?;
        if net.view.outdated().is_some() {
            return Err(Refusal::Outdated);
        }
        let authority = net.view.live(&me).and_then(|member| member.authority);
        let authority = authority.ok_or(Refusal::NotReady)?;
        let mut parents = net.authority().heads();
        parents.truncate(PARENTS_MAX);
        let network = net.authority().network();
        let draft = Draft {
            network,
            authority,
            time: now.wall,
            parents,
        };
        let cited = net.authority().op(&authority).ok_or(Refusal::NotReady)?;
        let op = Op::sign(within(body, cited), draft, &device);
        let mut change = Change::default();
        net.ledger.insert_op(op.bytes(), &mut change);
        if change.is_empty() {
            return Err(Refusal::Limit(
                "the op was refused by this node's own rules",
            ));
        }
        self.absorb(change, true, now);
        self.spread(&Items {
            ops: vec![op.bytes().to_vec()],
            ..Items::default()
        });
        self.refresh(now);
        Ok(op)
    }

    pub(super) fn require_admin(&mut self) -> Result<(), Refusal> {
        let me = self.id;
        let net = self.member_net()?;
        let allowed = net
            .view
            .live(&me)
            .is_some_and(|m| m.level.is_admin() && m.caps.contains(Caps::MEMBERS));
        if allowed {
            return Ok(());
        }
        let admins: Vec<_> = net
            .view
            .members()
            .values()
            .filter(|member| net.view.is_admin(&member.id))
            .map(|member| (member.id, member.name.clone()))
            .collect();
        let online = |id| self.is_online(id);
        Err(Refusal::NotAdmin(
            admins
                .iter()
                .map(|(id, name)| (name.clone(), online(id)))
                .collect(),
        ))
    }

    pub(super) fn invite(
        &mut self,
        command: CommandId,
        options: &InviteOptions,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.invite_under(command, options, None, now)
    }

    /// Makes an invite; with rules, they are signed before it, and nobody hears of it without them.
    pub(super) fn invite_under(
        &mut self,
        command: CommandId,
        options: &InviteOptions,
        rules: Option<Rules>,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.require_admin()?;
        if !(1..=INVITE_USES_MAX).contains(&options.uses) {
            return Err(Refusal::Limit("an invite is for 1 to 1000 machines"));
        }
        if let Some(old) = &options.replaces {
            self.require_replaceable(old, options.uses)?;
        }
        let (hints, via) = self.invite_hints(&options.hints)?;
        let approve = options.approve.unwrap_or(options.uses > 1);
        let expires = now.wall.plus_ms(options.ttl_ms);
        // Whoever is an admin for a time lets nobody in after it.
        let me = self.id;
        let own = self.member_net()?.view.live(&me).and_then(|me| me.expires);
        let expires = own.map_or(expires, |own| expires.min(own));
        let mut invited = Invited {
            code: None,
            id: OpId::ZERO,
            expires,
            uses: options.uses,
            approve,
            hints: hints.iter().map(ToString::to_string).collect(),
            via,
            heard: (0, 0),
            policy: rules.as_ref().map(|rules| Box::new(rules.told.clone())),
        };
        if options.dry_run {
            self.reply(command, Reply::Invited(Box::new(invited)));
            return Ok(());
        }
        let secret = InviteSecret::generate(&mut self.rng);
        let code = secret.stretch();
        let terms = InviteTerms {
            key: code.public(),
            rendezvous: code.rendezvous,
            psk: code.psk,
            uses: options.uses,
            not_after: expires,
            approve,
            ephemeral: false,
            owner: options.owner.clone(),
            tags: options.tags.clone(),
            name: options.name.clone(),
            replaces: options.replaces,
            member_for_ms: options.member_for_ms,
            ext: Ext::NONE,
        };
        let body = self.signed_invite(terms, &code.key)?;
        let code = InviteCode::new(secret, hints)
            .map_err(|_| Refusal::Limit("a code holds at most three hints"))?;
        let body = Body::Invite(Box::new(body));
        let (id, items) = self.sign_invite(body, rules.and_then(|rules| rules.body), now)?;
        invited.id = id;
        invited.code = Some(code.text().into());
        self.push_to_all(Errand::Invite { command, invited }, &items, HEARD_MS, now);
        Ok(())
    }

    /// Fails unless an invite may say that its newcomer replaces a node.
    fn require_replaceable(&mut self, old: &NodeId, uses: u16) -> Result<(), Refusal> {
        let (_, own) = self.admin_hand()?;
        if self.member_net()?.former_grant(old).is_none() {
            return Err(Refusal::UnknownNode);
        }
        if *old == self.id {
            return Err(Refusal::RevokeSelf);
        }
        if uses != 1 {
            return Err(Refusal::Limit("one machine replaces one"));
        }
        self.require_senior((old, self.level_of(old)), own)
    }

    fn signed_invite(&mut self, terms: InviteTerms, key: &Secret) -> Result<Invite, Refusal> {
        let me = self.id;
        let genesis = self.member_net()?.authority().realm().genesis;
        let fields = net_fields(&genesis, &me, &terms);
        let fields: Vec<&[u8]> = fields.iter().map(<[u8; 32]>::as_slice).collect();
        let net_signature = key.sign(Context::Net, &fields);
        Ok(Invite {
            terms,
            net_signature,
        })
    }

    /// Settles a claim: the device is a member by an admin's word.
    pub(super) fn grant_claim(
        &mut self,
        claim: Claim,
        invite: &OpId,
        now: Moment,
    ) -> Result<Op, Refusal> {
        let net = self.member_net()?;
        let Some(Body::Invite(invite)) = net.authority().op(invite).map(Op::body) else {
            return Err(Refusal::NotReady);
        };
        let device = claim.terms.device;
        if let Some(old) = invite.terms.replaces {
            let replaced = self.replace(claim.clone(), &old, now)?;
            if let Some(op) = replaced {
                return Ok(op);
            }
        }
        let net = self.member_net()?;
        let invite = net.authority().op(&claim.terms.invite).map(Op::body);
        let invite = invite.and_then(Body::invite).ok_or(Refusal::NotReady)?;
        let wished = invite.terms.name.as_ref().unwrap_or(&claim.terms.name);
        let grant = Grant {
            device,
            level: Level::MEMBER,
            caps: Caps::NONE,
            may_tag: Tags::default(),
            owner: invite.terms.owner.clone(),
            tags: invite.terms.tags.clone(),
            name: net.view.free_name(wished, &device),
            ipv4: net.view.free_ipv4(&device),
            expires: net.end_under(&claim.terms.invite, now),
            claim: Some(Box::new(claim)),
            ext: Ext::NONE,
        };
        self.author(Body::Grant(Box::new(grant)), now)
    }

    /// Settles a claim whose invite says whom the newcomer replaces: that one is put out, its name and address go over.
    /// Nothing when this node may not put it out, or it was never in.
    fn replace(&mut self, claim: Claim, old: &NodeId, now: Moment) -> Result<Option<Op>, Refusal> {
        let (hand, own) = self.admin_hand()?;
        let net = self.member_net()?;
        // By the issuer's right too: a junior's invite does not make a senior put out whom the junior could not.
        let issuer = net.authority().level_of(&claim.terms.invite);
        let issuer = issuer.ok_or(Refusal::NotReady)?;
        let floor = own.max(issuer);
        let former = net.former_grant(old);
        let Some(former) = former.filter(|former| former.level > floor && *old != self.id) else {
            return Ok(None);
        };
        let net = self.member_net()?;
        let mut batch = Batch::new(net, now);
        if net.view.members().contains_key(old) {
            let revoke = Revoke {
                device: *old,
                cut: Cut::Parents,
                spare: OpIds::default(),
                reason: "replaced".to_owned(),
                ext: Ext::NONE,
            };
            batch.sign(Body::Revoke(Box::new(revoke)), &hand)?;
        }
        let invite = net.authority().op(&claim.terms.invite).map(Op::body);
        let invite = invite.and_then(Body::invite).ok_or(Refusal::NotReady)?;
        let grant = Grant {
            device: claim.terms.device,
            level: Level::MEMBER,
            caps: Caps::NONE,
            may_tag: Tags::default(),
            owner: invite.terms.owner.clone(),
            tags: invite.terms.tags.clone(),
            name: former.name,
            ipv4: former.ipv4,
            expires: net.end_under(&claim.terms.invite, now),
            claim: Some(Box::new(claim)),
            ext: Ext::NONE,
        };
        batch.sign(Body::Grant(Box::new(grant)), &hand)?;
        let op = batch.ops.last().cloned();
        batch.rekey(&hand, EpochKey::generate(&mut self.rng))?;
        self.commit(batch, now)?;
        Ok(op)
    }

    /// Plans to settle newcomers that members let in, if this node may and knows enough.
    pub(super) fn plan_settling(&mut self, now: Moment) {
        let me = self.id;
        let Some(net) = self.net.as_mut().filter(|net| net.is_open() && net.synced) else {
            return;
        };
        let may = net
            .view
            .live(&me)
            .is_some_and(|m| m.caps.contains(Caps::MEMBERS));
        let waiting = net
            .view
            .members()
            .values()
            .any(|m| m.standing == Standing::Provisional);
        if !may || !waiting || net.timers.settle_ms.is_some() {
            return;
        }
        let admins = net
            .view
            .members()
            .keys()
            .filter(|id| net.view.is_admin(id))
            .count();
        let spread = if admins > 1 {
            u64::from(self.rng.next_u32()) % SETTLE_SPREAD_MS
        } else {
            0
        };
        net.timers.settle_ms = Some(now.uptime_ms() + spread);
    }

    pub(super) fn settle(&mut self, now: Moment) {
        let me = self.id;
        let Some(net) = self.net.as_ref().filter(|net| net.is_open() && net.synced) else {
            return;
        };
        if !net
            .view
            .live(&me)
            .is_some_and(|m| m.caps.contains(Caps::MEMBERS))
        {
            return;
        }
        let waiting: Vec<_> = net
            .view
            .members()
            .values()
            .filter(|member| member.standing == Standing::Provisional)
            .filter_map(|member| net.authority().admit(&member.admit?))
            .map(|admit| (admit.terms().claim.clone(), admit.claim().invite))
            .collect();
        for (claim, invite) in waiting {
            // A refusal here is this node's own state; the next change tries again.
            let _settled = self.grant_claim(claim, &invite, now);
        }
    }

    pub(super) fn author_on_time(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let Some(net) = &mut self.net else { return };
        let due = |timer: &mut Option<u64>| timer.take_if(|due| *due <= at).is_some();
        let (settle, endpoints) = (
            due(&mut net.timers.settle_ms),
            due(&mut net.timers.endpoints_ms),
        );
        let tip = due(&mut net.timers.tip_ms);
        let defend = due(&mut net.timers.defend_ms);
        if due(&mut net.timers.expiry_ms) {
            net.dirty = true;
        }
        if defend {
            self.defend_own_records(now);
        }
        if settle {
            self.settle(now);
        }
        if endpoints {
            self.publish_endpoints(now);
        }
        if tip {
            self.publish_tip(now);
        }
    }

    pub(super) fn leave(
        &mut self,
        command: CommandId,
        wait_ms: u64,
        force: bool,
        now: Moment,
    ) -> Result<(), Refusal> {
        let me = self.id;
        if self.net.as_ref().is_none_or(|net| !net.is_open()) {
            // Nobody knows this node yet: there is nothing to say goodbye to.
            self.reply(command, Reply::Left { heard: 0, of: 0 });
            self.vanish();
            return Ok(());
        }
        let net = self.member_net()?;
        let admins = net
            .view
            .members()
            .keys()
            .filter(|id| net.view.is_admin(id))
            .count();
        let others = net.view.members().len() > 1;
        if net.view.is_admin(&me) && admins == 1 && others && !force {
            return Err(Refusal::LastAdmin);
        }
        let network = net.authority().network();
        let record = Record::sign(network, 0, RecordBody::Left, &self.keys.device);
        let net = self.member_net()?;
        let sealed = net
            .epochs
            .seal_record(record.bytes())
            .ok_or(Refusal::NotReady)?;
        self.take_record(record.bytes());
        self.persist(
            vec![Write::Record(record.slot().key(), record.bytes().to_vec())],
            true,
        );
        let items = Items {
            records: vec![sealed],
            ..Items::default()
        };
        self.spread(&items);
        self.push_to_all(Errand::Leave { command }, &items, wait_ms, now);
        Ok(())
    }

    /// The end of this membership on this machine.
    pub(super) fn vanish(&mut self) {
        self.out.push_back(Output::Interface(None));
        self.out.push_back(Output::Erase);
        self.net = None;
        self.joiner = None;
        self.gone = true;
    }
}

impl Net {
    /// When a membership ends that is settled now: by what its invite says, and with its issuer's own right.
    pub(super) fn end_under(&self, invite: &OpId, now: Moment) -> Option<Timestamp> {
        let op = self.authority().op(invite)?;
        let told = op.body().invite()?.terms.member_for_ms;
        let issuer = self.authority().op(&op.header().authority)?.body().grant();
        let ends = [
            told.map(|ms| now.wall.plus_ms(ms)),
            issuer.and_then(|grant| grant.expires),
        ];
        ends.into_iter().flatten().min()
    }
}
