//! What an admin's node does without being told: devices that left are put out, invites whose time is over are closed.

use rand_core::Rng;

use super::Node;
use super::acts::Batch;
use super::epoch::{REKEY_SPREAD_MS, REKEY_WAIT_MS};
use super::net::Net;
use crate::body::{Body, Cut, InviteClose, Level, OpIds, Revoke};
use crate::codec::Ext;
use crate::id::{NodeId, OpId};
use crate::io::Refusal;
use crate::seal::EpochKey;
use crate::time::Moment;

/// How long after its end an invite is closed: a witness whose clock is behind may have let somebody in.
const CLOSE_AFTER_MS: u64 = 3_600_000;
/// Rounds with members after which a node knows enough to close invites.
const ROUNDS_WANTED: usize = 2;
/// How long it waits for them.
const ROUNDS_WAIT_MS: u64 = 600_000;
/// Ops of one turn.
const CHORES_MAX: usize = 32;

impl Node {
    /// Plans the next turn, at a moment that differs from admin to admin.
    pub(super) fn plan_chores(&mut self, now: Moment) {
        let me = self.id;
        let Some(net) = &mut self.net else { return };
        let due = net.next_chore(&me, now);
        let Some(due) = due else {
            net.timers.chores_ms = None;
            return;
        };
        if net.timers.chores_ms.is_none_or(|planned| planned < due) {
            let spread = u64::from(self.rng.next_u32()) % REKEY_SPREAD_MS;
            net.timers.chores_ms = Some(due.saturating_add(REKEY_WAIT_MS + spread));
        }
    }

    pub(super) fn chores_on_time(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let timer = self.net.as_mut().map(|net| &mut net.timers.chores_ms);
        if timer.is_some_and(|timer| timer.take_if(|due| *due <= at).is_some()) {
            // A refusal is this node's own state; the next change tries again.
            let _done = self.do_chores(now);
            self.plan_chores(now);
        }
    }

    fn do_chores(&mut self, now: Moment) -> Result<(), Refusal> {
        let me = self.id;
        // Who came in under an invite keeps its place when that is closed.
        self.settle(now);
        let (hand, _) = self.admin_hand()?;
        let net = self.member_net()?;
        let (left, over) = (net.left_behind(&me), net.over(&me, now));
        let mut batch = Batch::new(net, now);
        for invite in over.into_iter().take(CHORES_MAX) {
            let close = InviteClose {
                invite,
                ext: Ext::NONE,
            };
            batch.sign(Body::InviteClose(close), &hand)?;
        }
        for device in left.iter().copied().take(CHORES_MAX) {
            let revoke = Revoke {
                device,
                cut: Cut::Parents,
                spare: OpIds::default(),
                reason: "left".to_owned(),
                ext: Ext::NONE,
            };
            batch.sign(Body::Revoke(Box::new(revoke)), &hand)?;
        }
        if !left.is_empty() {
            batch.rekey(&hand, EpochKey::generate(&mut self.rng))?;
        }
        if !batch.ops.is_empty() {
            self.commit(batch, now)?;
        }
        Ok(())
    }
}

impl Net {
    /// When the next chore is due, uptime in milliseconds.
    fn next_chore(&self, me: &NodeId, now: Moment) -> Option<u64> {
        let at = now.uptime_ms();
        if !self.may_administer(me) {
            return None;
        }
        if !self.left_behind(me).is_empty() {
            return Some(at);
        }
        let knows = if self.rounds >= ROUNDS_WANTED {
            at
        } else {
            self.opened_ms + ROUNDS_WAIT_MS
        };
        let ends = self.closable(me).map(|(_, end)| end);
        let end = ends.min()?;
        Some(knows.max(at.saturating_add(end.saturating_sub(now.wall.ms()))))
    }

    /// Devices that left, that this node is senior to, and that no revocation keeps out yet.
    fn left_behind(&self, me: &NodeId) -> Vec<NodeId> {
        let Some(own) = self.view.live(me).map(|own| own.level) else {
            return Vec::new();
        };
        let left = self.ledger.records.left();
        if left.is_empty() {
            return Vec::new();
        }
        let entries = self.authority().entries().iter();
        let revokes = entries.filter_map(|entry| Some((entry.op.id(), entry.op.body().revoke()?)));
        let revoked: std::collections::BTreeSet<NodeId> = revokes
            .filter(|(id, revoke)| {
                left.contains(&revoke.device) && !self.view.voids().contains_key(id)
            })
            .map(|(_, revoke)| revoke.device)
            .collect();
        let left = left.into_iter();
        left.filter(|device| !revoked.contains(device) && self.highest(device) > own)
            .collect()
    }

    /// The most senior level that a device was ever given.
    fn highest(&self, device: &NodeId) -> Level {
        let genesis = self.authority().genesis();
        let founder = (genesis.founder == *device).then_some(Level::FOUNDER);
        let entries = self.authority().entries().iter();
        let grants = entries.filter_map(|entry| entry.op.body().grant());
        let granted = grants.filter(|grant| grant.device == *device);
        let levels = granted.map(|grant| grant.level).chain(founder);
        levels.min().unwrap_or(Level::MEMBER)
    }

    /// Open invites that this node may close, and when, wall milliseconds.
    fn closable(&self, me: &NodeId) -> impl Iterator<Item = (OpId, u64)> {
        let own = self.view.live(me).map(|own| own.level);
        self.view.invites().iter().filter_map(move |(id, invite)| {
            let level = self.authority().level_of(id);
            let may = invite.open && level >= own;
            // One that is used up lets nobody in anyway.
            let useful = invite.used.len() < usize::from(invite.uses);
            let end = invite.not_after.plus_ms(CLOSE_AFTER_MS);
            (may && useful).then_some((*id, end.ms()))
        })
    }

    /// Invites whose time is over, as far as this node can know.
    fn over(&self, me: &NodeId, now: Moment) -> Vec<OpId> {
        let knows =
            self.rounds >= ROUNDS_WANTED || self.opened_ms + ROUNDS_WAIT_MS <= now.uptime_ms();
        let own = self.view.live(me).map_or(Level::ROOT, |own| own.level);
        let behind = now.wall < self.newest_tip(own, now.wall);
        let over = self.closable(me);
        over.filter(|(_, end)| knows && !behind && *end < now.wall.ms())
            .map(|(id, _)| id)
            .collect()
    }

    /// Looks whether a live admin told of ops that are not here. Gives whether that is news.
    pub(super) fn note_tips(&mut self, me: &NodeId) -> bool {
        let admins = self.view.admins().filter(|admin| admin.id != *me);
        let mut tips = admins.filter_map(|admin| self.ledger.records.tip(&admin.id));
        let stale = tips.any(|tip| {
            tip.heads
                .iter()
                .any(|head| !self.authority().contains(head))
        });
        let was = std::mem::replace(&mut self.stale, stale);
        stale && !was
    }

    /// Whether this node has ops or an epoch that its last acknowledgement does not tell.
    pub(super) fn heads_differ(&self) -> bool {
        let published = self.published.get(&crate::record::RecordKind::SEEN);
        let Some(crate::record::RecordBody::Seen(seen)) = published else {
            return true;
        };
        let ops = u32::try_from(self.authority().op_count()).unwrap_or(u32::MAX);
        seen.ops != ops || seen.epoch != self.epochs.number() || seen.policy != self.policy.last()
    }
}
