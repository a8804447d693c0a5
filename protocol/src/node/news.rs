//! Bad news passes: what puts somebody out, or back in, is handed over even to and by those whom nobody trusts
//! (`docs/protocol.md` §7.7).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::net::{Net, Phase};
use super::{Node, Pending};
use crate::body::Body;
use crate::claim::Admit;
use crate::id::{NodeId, OpId, TransportKey};
use crate::io::{Notice, RevokedBy};
use crate::ledger::Change;
use crate::limits::PUSH_BYTES_MAX;
use crate::link::{CallError, LinkOutput, Service};
use crate::op::{Author, Op};
use crate::structure::conferred;
use crate::time::Moment;
use crate::wire::{Items, News, NewsAnswer};

/// How often one address may hand over news.
const NEWS_EVERY_MS: u64 = 60_000;
/// Addresses whose news are counted.
const ADDRESSES_MAX: usize = 1024;
/// Revocations of one author that lie no further apart were said in one go.
const ONE_GO_MS: u64 = 60_000;
/// How many of them are told with one's own.
const REVOKED_TOLD_MAX: usize = 64;
/// Room that the frame and the lengths take in a message of news.
const FRAME_BYTES: usize = 64;

/// Who handed over news when, uptime in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    last: BTreeMap<IpAddr, u64>,
    asked: BTreeMap<IpAddr, u64>,
}

impl Mailbox {
    /// Whether an address may hand over news now; if so it may not again for a while.
    fn admits(&mut self, address: IpAddr, at: u64) -> bool {
        once(&mut self.last, address, at)
    }

    /// Whether a device at an address, that has no standing here, may be asked for what it has; likewise.
    pub(super) fn may_be_asked(&mut self, address: IpAddr, at: u64) -> bool {
        once(&mut self.asked, address, at)
    }
}

fn once(last: &mut BTreeMap<IpAddr, u64>, address: IpAddr, at: u64) -> bool {
    last.retain(|_, last| *last + NEWS_EVERY_MS > at);
    if last.contains_key(&address) || last.len() >= ADDRESSES_MAX {
        return false;
    }
    last.insert(address, at);
    true
}

impl Node {
    /// Takes news from anybody. The answer is the same whatever became of them.
    pub(super) fn on_news(
        &mut self,
        peer: TransportKey,
        bytes: &[u8],
        now: Moment,
    ) -> Option<Vec<u8>> {
        let address = self.links.remote_ip(&peer)?;
        let News(ops) = News::parse(bytes).ok()?;
        let net = self.net.as_mut()?;
        if matches!(net.phase, Phase::CatchingUp { .. })
            || !self.mailbox.admits(address, now.uptime_ms())
        {
            return None;
        }
        if ops.first().is_some_and(|first| net.vouches(first)) {
            let mut change = Change::default();
            let arrival = self.arrival(&peer, now);
            let net = self.net.as_mut()?;
            for op in &ops {
                net.ledger.take_op(op, &arrival, &mut change);
            }
            let new: Vec<_> = ops
                .iter()
                .filter(|op| {
                    let id = Op::peek_id(op).ok();
                    id.is_some_and(|id| wrote(&change, &id))
                })
                .cloned()
                .collect();
            self.absorb(change, true, now);
            if !new.is_empty() {
                self.spread(&Items {
                    ops: new,
                    ..Items::default()
                });
                self.plan_round(now);
            }
            self.refresh(now);
        }
        Some(NewsAnswer::Taken.to_bytes())
    }

    /// Tells a peer that was put out by which op. Gives whether anything is on its way: then the call is hung up on
    /// when it came.
    pub(super) fn tell_revoked(&mut self, peer: TransportKey, device: &NodeId) -> bool {
        let Some(net) = self.net.as_ref().filter(|net| net.is_open()) else {
            return false;
        };
        let Some(revoke) = net.view.revoked().get(device).copied() else {
            return false;
        };
        let ops = if net.was_in(device) {
            net.news(device, &net.said_with(&revoke))
        } else {
            // Who only ever knocked learns that it is out, and nothing of the network.
            let revoke = net.authority().op(&revoke).map(|op| op.bytes().to_vec());
            revoke.into_iter().collect()
        };
        self.send_news(peer, ops, true)
    }

    /// A peer does not know this node, which is in: it lacks what lets this node in, or lets it in again.
    pub(super) fn tell_news(&mut self, peer: TransportKey) {
        let device = self.links.peers.get(&peer).and_then(|peer| peer.device);
        let net = self.net.as_ref().filter(|net| net.is_open());
        let (Some(device), Some(net)) = (device, net) else {
            return;
        };
        if net.view.live(&device).is_none() || net.view.live(&self.id).is_none() {
            return;
        }
        let ops = net.news(&device, &net.authority().heads());
        self.send_news(peer, ops, false);
    }

    fn send_news(&mut self, peer: TransportKey, ops: Vec<Vec<u8>>, hang_up: bool) -> bool {
        let told = self.links.peers.get_mut(&peer).map(|peer| &mut peer.told);
        let fresh = told.is_some_and(|told| !std::mem::replace(told, true));
        if !fresh || ops.is_empty() {
            return false;
        }
        let bytes = News(ops).to_bytes();
        self.ask(peer, Service::Push, bytes, Pending::News { peer, hang_up });
        true
    }

    pub(super) fn on_news_told(
        &mut self,
        peer: TransportKey,
        hang_up: bool,
        result: &Result<Vec<u8>, CallError>,
    ) {
        let trusted = self.links.peers.get(&peer).is_some_and(|peer| peer.trusted);
        // Who is out itself, or reaches nobody, gives the other time to tell news of its own.
        let net = self.net.as_ref();
        let waits = net.is_some_and(|net| net.out || net.isolated_ms.is_some());
        if hang_up && !trusted && !waits {
            self.link(LinkOutput::HangUp { peer });
        }
        if let Ok(bytes) = result
            && NewsAnswer::parse(bytes).is_err()
        {
            self.notice(Notice::Refused("an answer to news that is none"));
        }
    }

    /// Notes whether this node is out by a revocation, and says so once.
    pub(super) fn note_own_revocation(&mut self) {
        let me = self.id;
        let Some(net) = &mut self.net else { return };
        let out = net.view.live(&me).is_none() && net.view.revoked().contains_key(&me);
        if std::mem::replace(&mut net.out, out) == out {
            return;
        }
        if !out {
            // Let in again: those who are connected may not know it yet.
            let proven = self.links.peers.iter().filter(|(_, p)| p.device.is_some());
            let proven: Vec<_> = proven.map(|(key, _)| *key).collect();
            for peer in proven {
                self.tell_news(peer);
            }
            return;
        }
        if let Some(revoked) = net.revoked_by(&me) {
            self.notice(Notice::Revoked(revoked.by, revoked.reason));
        }
    }
}

impl Net {
    /// Whether a device was ever let in: by the genesis, a grant, or a member under an invite without approval.
    fn was_in(&self, device: &NodeId) -> bool {
        let authority = self.authority();
        let let_in = |admit: &Admit| {
            let invite = authority.op(&admit.claim().invite).map(Op::body);
            let invite = invite.and_then(Body::invite);
            admit.claim().device == *device && invite.is_some_and(|invite| !invite.terms.approve)
        };
        authority.titled(device) || authority.admits().any(let_in)
    }

    /// A revocation, and those that its author said in one go with it: of many that are put out at once each can tell
    /// the others, who may hear it from nobody else.
    fn said_with(&self, revoke: &OpId) -> Vec<OpId> {
        let authority = self.authority();
        let Some(op) = authority.op(revoke) else {
            return Vec::new();
        };
        let (author, said) = (op.header().author, op.header().time);
        let goes_along = |other: &&Op| {
            let header = other.header();
            let apart = header.time.since_ms(said).max(said.since_ms(header.time));
            other.body().revoke().is_some() && header.author == author && apart <= ONE_GO_MS
        };
        let entries = authority.entries().iter().map(|entry| &*entry.op);
        let others = entries.filter(goes_along).map(Op::id);
        let others = others.filter(|id| id != revoke).take(REVOKED_TOLD_MAX);
        std::iter::once(*revoke).chain(others).collect()
    }

    /// Whether an op is by the root set or by a device with a stored grant that makes it an admin.
    fn vouches(&self, bytes: &[u8]) -> bool {
        let Ok(op) = Op::parse(bytes, self.authority().realm()) else {
            return false;
        };
        let header = op.header();
        let cited = self.authority().op(&header.authority);
        cited.is_some_and(|cited| conferred(cited, &header.author).is_some())
    }

    /// What a device lacks of some ops and their past, as far as this node knows: the newest that fit. First comes the
    /// op of the most senior author, whom the device surely knows, then the others, parents before children.
    pub(super) fn news(&self, device: &NodeId, goal: &[OpId]) -> Vec<Vec<u8>> {
        let authority = self.authority();
        let places = |ids: &[OpId]| ids.iter().filter_map(|id| authority.place(id)).collect();
        let seen = self.ledger.records.seen(device);
        let has = authority.with_past(places(seen.map_or(&[][..], |seen| &seen.heads)));
        let wanted = authority.with_past(places(goal));
        let goal: Vec<u32> = goal.iter().filter_map(|id| authority.place(id)).collect();
        let mut room = PUSH_BYTES_MAX - FRAME_BYTES;
        let mut chosen = Vec::new();
        // Who is told of its own revocation is told it even if it said that it had heard.
        let newest = (1..authority.op_count() as u32).rev();
        let lacks = |place: &u32| wanted[*place as usize] && !has[*place as usize];
        let rest = newest.filter(|place| lacks(place) && !goal.contains(place));
        for place in goal.iter().copied().filter(|place| *place > 0).chain(rest) {
            let Some(left) = room.checked_sub(authority.at(place).op.bytes().len() + 8) else {
                break;
            };
            room = left;
            chosen.push(place);
        }
        chosen.sort_unstable();
        let senior = chosen.iter().enumerate();
        let senior = senior.min_by_key(|(_, place)| authority.at(**place).level);
        if let Some(at) = senior.map(|(at, _)| at) {
            let first = chosen.remove(at);
            chosen.insert(0, first);
        }
        let bytes = |place: &u32| authority.at(*place).op.bytes().to_vec();
        chosen.iter().map(bytes).collect()
    }

    /// The revocation that keeps a device out, for people.
    pub(super) fn revoked_by(&self, device: &NodeId) -> Option<RevokedBy> {
        let id = self.view.revoked().get(device)?;
        let op = self.authority().op(id)?;
        let by = match op.header().author {
            Author::Root => None,
            Author::Device(author) => self.name_of(&author),
        };
        Some(RevokedBy {
            op: *id,
            by,
            reason: op.body().revoke()?.reason.clone(),
            said: op.header().time,
        })
    }

    /// The name that a device has, or had last.
    pub(super) fn name_of(&self, device: &NodeId) -> Option<crate::name::NodeName> {
        if let Some(member) = self.view.members().get(device) {
            return Some(member.name.clone());
        }
        let entries = self.authority().entries().iter().rev();
        let granted = entries.filter_map(|entry| match entry.op.body() {
            Body::Grant(grant) if grant.device == *device => Some(grant.name.clone()),
            Body::Genesis(genesis) if genesis.founder == *device => {
                Some(genesis.founder_name.clone())
            }
            Body::Genesis(_)
            | Body::Grant(_)
            | Body::Invite(_)
            | Body::Revoke(_)
            | Body::InviteClose(_)
            | Body::Policy(_)
            | Body::PolicyBase(_)
            | Body::Rekey(_)
            | Body::Noop
            | Body::Opaque => None,
        });
        let claimed = self.authority().admits().map(|admit| admit.claim());
        let claimed = claimed.filter(|claim| claim.device == *device);
        granted
            .chain(claimed.map(|claim| claim.name.clone()))
            .next()
    }
}

fn wrote(change: &Change, id: &OpId) -> bool {
    let mut writes = change.writes.iter();
    writes.any(|write| matches!(write, crate::io::Write::Op(written, _) if written == id))
}
