//! The member's end of a join: answer who knows a code, and let in who redeems it (`docs/protocol.md` §6.3, §6.4).
//!
//! Whoever does not prove to know a code gets silence, whatever the reason.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use rand_core::Rng;

use super::Node;
use super::net::Net;
use crate::body::{Caps, Invite};
use crate::claim::{Admit, AdmitTerms, Claim};
use crate::codec::Ext;
use crate::id::{Digest, NodeId, OpId, TransportKey};
use crate::invite::{channel_hash, locator};
use crate::io::{InviteRefusal, Standing};
use crate::join::{Expected, knock_is_good, prove, refuse};
use crate::ledger::Change;
use crate::limits::PARENTS_MAX;
use crate::link::LinkId;
use crate::time::{Moment, Timestamp};
use crate::wire::{Admission, EPOCHS_SENT_MAX, Items, JoinAnswer, JoinRequest, Knock, ProofTerms};

/// Good knocks a minute, from everybody together.
const GOOD_PER_MINUTE: u32 = 60;
/// Bad knocks a minute from one address before it gets no more looked at.
const BAD_PER_MINUTE: u32 = 5;
/// Addresses that are counted.
const ADDRESSES_MAX: usize = 1024;
/// Joins at once.
const SESSIONS_MAX: usize = 32;
/// How long a joiner may take to claim.
const SESSION_MS: u64 = 30_000;
const MINUTE_MS: u64 = 60_000;

/// Who stands at the door.
#[derive(Debug, Default)]
pub(super) struct Door {
    sessions: BTreeMap<(TransportKey, LinkId), Session>,
    locators: BTreeMap<[u8; 16], OpId>,
    bad: BTreeMap<IpAddr, u32>,
    good: u32,
    minute: u64,
}

#[derive(Debug)]
struct Session {
    invite: OpId,
    knock: Knock,
    transcript: Digest,
    time: Timestamp,
    since_ms: u64,
}

impl Door {
    pub(super) fn forget(&mut self, peer: &TransportKey, link: LinkId) {
        self.sessions.remove(&(*peer, link));
    }

    pub(super) fn expire(&mut self, at: u64) {
        self.sessions
            .retain(|_, session| session.since_ms + SESSION_MS > at);
        if self.minute != at / MINUTE_MS {
            self.minute = at / MINUTE_MS;
            self.bad.clear();
            self.good = 0;
        }
    }

    /// Learns under which locators the invites are asked for.
    pub(super) fn learn(&mut self, net: &Net) {
        let terms = net
            .view
            .invites()
            .keys()
            .filter_map(|id| Some((id, invite_of(net, id)?)));
        self.locators = terms
            .map(|(id, i)| (locator(&i.terms.rendezvous), *id))
            .collect();
    }

    fn count_bad(&mut self, address: IpAddr) {
        if self.bad.len() < ADDRESSES_MAX || self.bad.contains_key(&address) {
            *self.bad.entry(address).or_default() += 1;
        }
    }
}

fn invite_of<'a>(net: &'a Net, id: &OpId) -> Option<&'a Invite> {
    net.authority().op(id)?.body().invite()
}

impl Node {
    pub(super) fn on_join_request(
        &mut self,
        peer: TransportKey,
        link: LinkId,
        bytes: &[u8],
        now: Moment,
    ) -> Option<Vec<u8>> {
        self.net.as_ref().filter(|net| net.is_open())?;
        let answer = match JoinRequest::parse(bytes).ok()? {
            JoinRequest::Knock(knock) => self.on_knock(peer, link, knock, now)?,
            JoinRequest::Redeem(claim) => self.on_redeem(peer, link, *claim, now)?,
        };
        Some(answer.to_bytes())
    }

    fn on_knock(
        &mut self,
        peer: TransportKey,
        link: LinkId,
        knock: Knock,
        now: Moment,
    ) -> Option<JoinAnswer> {
        let address = self.links.remote_ip(&peer)?;
        if self
            .door
            .bad
            .get(&address)
            .is_some_and(|bad| *bad >= BAD_PER_MINUTE)
        {
            return None;
        }
        let channel = self.channel_with(&peer);
        let id = self.door.locators.get(&knock.locator).copied();
        let invite = id.and_then(|id| Some((id, invite_of(self.net.as_ref()?, &id)?)));
        let Some((id, invite)) = invite.filter(|(_, i)| knock_is_good(i, &channel, &knock)) else {
            self.door.count_bad(address);
            return None;
        };
        let psk = invite.terms.psk;
        if self.door.good >= GOOD_PER_MINUTE || self.door.sessions.len() >= SESSIONS_MAX {
            return None;
        }
        self.door.good += 1;
        let known = self.net.as_ref()?.transports.get(&peer).copied();
        if let Some(reason) = self.reason_against(&id, known.as_ref(), now) {
            return Some(refuse(&psk, &channel, &knock, reason, now.wall));
        }
        let mut nonce = [0; 32];
        self.rng.fill_bytes(&mut nonce);
        let net = self.net.as_ref()?;
        let realm = net.authority().realm();
        let terms = ProofTerms {
            nonce,
            time: now.wall,
            genesis: net.authority().op(&realm.genesis)?.bytes().to_vec(),
            invite: net.authority().op(&id)?.bytes().to_vec(),
            root: realm.genesis,
            witness: self.id,
        };
        let (proof, transcript) = prove(&psk, &channel, &knock, terms, &self.keys.device);
        let session = Session {
            invite: id,
            knock,
            transcript,
            time: now.wall,
            since_ms: now.uptime_ms(),
        };
        self.door.sessions.insert((peer, link), session);
        Some(JoinAnswer::Proof(Box::new(proof)))
    }

    fn channel_with(&self, joiner: &TransportKey) -> Digest {
        channel_hash(joiner, &TransportKey::new(self.keys.transport.public()))
    }

    /// Why the invite is not honoured here and now, if it is not.
    fn reason_against(
        &self,
        id: &OpId,
        device: Option<&NodeId>,
        now: Moment,
    ) -> Option<InviteRefusal> {
        let net = self.net.as_ref()?;
        let invite = net.view.invites().get(id)?;
        if net.view.outdated().is_some() || !net.view.settled_witness(&self.id) {
            return Some(InviteRefusal::NotWitness);
        }
        if !net.epochs.holds(&net.view.epoch().commitment) {
            return Some(InviteRefusal::NotWitness);
        }
        if let Some(by) = device.and_then(|device| net.declined(device)) {
            return Some(InviteRefusal::Declined { by });
        }
        if !invite.open {
            return Some(InviteRefusal::Closed);
        }
        // One that is in already and asks again has lost our answer, not its right.
        if device.is_some_and(|d| invite.used.contains(d) || invite.provisional.contains(d)) {
            return None;
        }
        let genesis = net.authority().op(&net.authority().realm().genesis)?;
        // By those who could end the invite: a junior's clock keeps nobody out.
        let level = net.authority().level_of(id)?;
        let newest = net.newest_tip(level, now.wall);
        let newest = newest.max(genesis.header().time);
        if now.wall.plus_ms(CLOCK_SLACK_MS) < newest {
            return Some(InviteRefusal::WitnessClock);
        }
        if now.wall > invite.not_after {
            let admins = net
                .view
                .members()
                .values()
                .filter(|m| net.view.is_admin(&m.id));
            let admins = admins.map(|member| member.name.clone()).take(3).collect();
            return Some(InviteRefusal::Expired {
                not_after: invite.not_after,
                admins,
            });
        }
        let taken = invite.used.len() + invite.provisional.len() + invite.quarantined.len();
        if taken >= usize::from(invite.uses) {
            let first = invite.used.iter().chain(&invite.provisional).next();
            let member = first.and_then(|device| net.view.members().get(device));
            let at = member
                .and_then(|member| claim_of(net, member))
                .map(|claim| claim.terms.time);
            return Some(InviteRefusal::UsedUp {
                by: member.map(|member| member.name.clone()),
                at: at.unwrap_or_default(),
                uses: invite.uses,
            });
        }
        None
    }

    fn on_redeem(
        &mut self,
        peer: TransportKey,
        link: LinkId,
        claim: Claim,
        now: Moment,
    ) -> Option<JoinAnswer> {
        let session = self.door.sessions.remove(&(peer, link))?;
        let net = self.net.as_ref()?;
        let invite = invite_of(net, &session.invite)?;
        let expected = Expected {
            genesis: &net.authority().realm().genesis,
            invite_id: &session.invite,
            invite,
            witness: &self.id,
            transcript: &session.transcript,
            time: session.time,
            peer: &peer,
        };
        if !expected.holds(&claim) {
            return None;
        }
        let (psk, approve) = (invite.terms.psk, invite.terms.approve);
        let device = claim.terms.device;
        if let Some(reason) = self.reason_against(&session.invite, Some(&device), now) {
            let channel = self.channel_with(&peer);
            return Some(refuse(&psk, &channel, &session.knock, reason, now.wall));
        }
        let net = self.net.as_ref()?;
        if net.view.members().get(&device).is_none() {
            // Its membership ended: the code was for one, and is spent on it.
            if net
                .view
                .invites()
                .get(&session.invite)?
                .used
                .contains(&device)
            {
                return None;
            }
            self.let_in(claim, &session.invite, approve, now)?;
        }
        self.refresh(now);
        let net = self.net.as_ref()?;
        let standing = net.view.members().get(&device)?.standing;
        if !matches!(standing, Standing::Settled | Standing::Provisional) {
            return Some(JoinAnswer::Pending);
        }
        let epochs = net.epochs.danger_newest(EPOCHS_SENT_MAX);
        let mut heads = net.authority().heads();
        heads.truncate(PARENTS_MAX);
        self.proven(peer, device, now);
        Some(JoinAnswer::Admitted(Box::new(Admission { heads, epochs })))
    }

    /// Grants at once when this node may; else witnesses.
    fn let_in(&mut self, claim: Claim, invite: &OpId, approve: bool, now: Moment) -> Option<()> {
        let me = self.net.as_ref()?.view.live(&self.id)?;
        if !approve && me.level.is_admin() && me.caps.contains(Caps::MEMBERS) {
            return self.grant_claim(claim, invite, now).ok().map(|_| ());
        }
        let net = self.net.as_mut()?;
        let mut heads = net.authority().heads();
        heads.truncate(PARENTS_MAX);
        let network = net.authority().network();
        let terms = AdmitTerms {
            version: 1,
            network,
            claim,
            heads,
            ext: Ext::NONE,
        };
        let admit = Admit::sign(terms, &self.keys.device);
        let mut change = Change::default();
        net.ledger.insert_admit(admit.bytes(), &mut change);
        if change.is_empty() {
            return None;
        }
        self.absorb(change, true, now);
        self.spread(&Items {
            admits: vec![admit.bytes().to_vec()],
            ..Items::default()
        });
        Some(())
    }
}

/// How far this node's clock may be behind an admin's before it judges no date.
const CLOCK_SLACK_MS: u64 = 10 * 60 * 1000;

impl Net {
    /// Who put out a device that never came in, if somebody did.
    fn declined(&self, device: &NodeId) -> Option<Option<crate::name::NodeName>> {
        self.revoked_by(device).map(|revoked| revoked.by)
    }
}

fn claim_of<'a>(net: &'a Net, member: &crate::view::ViewMember) -> Option<&'a Claim> {
    if let Some(admit) = member.admit {
        return Some(&net.authority().admit(&admit)?.terms().claim);
    }
    let grant = net.authority().op(&member.authority?)?.body().grant()?;
    grant.claim.as_deref()
}
