//! A view that follows what is stored: after the common changes (somebody joins, is granted something, leaves or
//! expires, an invite, an edit of the policy) only what follows from them is computed. Whatever may reach further, such
//! as a revocation or a claim that somebody else made, falls back to [`View::compute`]. Both ways give equal views; the
//! test `properties/following.rs` holds one against the other after every step.

use std::collections::{BTreeMap, BTreeSet};

use super::joiners;
use super::register::Binding;
use super::titles::{self, Title, title};
use super::verdict::Verdicts;
use super::{View, ViewMember, by_title, epoch, not_understood, policy};
use crate::authority::Authority;
use crate::body::{Body, Kind, Level};
use crate::id::{NodeId, OpId};
use crate::structure::understood;
use crate::time::Timestamp;

/// Changes that are followed one by one; more are cheaper together.
const FOLLOWED_MAX: usize = 64;

/// What members were before a change; `None`: no members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before(BTreeMap<NodeId, Option<ViewMember>>);

impl Before {
    /// The devices, and what they were.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, Option<&ViewMember>)> {
        self.0.iter().map(|(device, was)| (device, was.as_ref()))
    }

    /// Whether nobody changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what changed later.
    pub fn then(&mut self, later: Self) {
        for (device, was) in later.0 {
            self.0.entry(device).or_insert(was);
        }
    }

    /// Notes what a device is, before it changes for the first time.
    pub(super) fn note(&mut self, device: &NodeId, members: &BTreeMap<NodeId, ViewMember>) {
        let was = || members.get(device).cloned();
        self.0.entry(*device).or_insert_with(was);
    }

    /// Forgets who is what it was.
    pub(super) fn retain(&mut self, members: &BTreeMap<NodeId, ViewMember>) {
        self.0
            .retain(|device, was| members.get(device) != was.as_ref());
    }

    fn difference(old: &BTreeMap<NodeId, ViewMember>, new: &BTreeMap<NodeId, ViewMember>) -> Self {
        let mut before = Self::default();
        for (device, was) in old {
            if new.get(device) != Some(was) {
                before.0.insert(*device, Some(was.clone()));
            }
        }
        for device in new.keys().filter(|device| !old.contains_key(*device)) {
            before.0.insert(*device, None);
        }
        before
    }
}

/// What a change did to a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Members that are not what they were.
    pub before: Before,
    /// Whether anything differs but what the clock hides.
    pub changed: bool,
    /// Whether everything was computed anew.
    pub anew: bool,
    /// Devices that were out by a revocation that does not count any more.
    pub restored: Vec<NodeId>,
}

impl View {
    /// Follows a stored set that this view was computed of, and that has grown since.
    pub fn follow(
        &mut self,
        authority: &Authority,
        left: &BTreeSet<NodeId>,
        wall: Timestamp,
    ) -> Turn {
        let mut before = Before::default();
        self.unhide(&mut before);
        self.unpin(&mut before);
        let Some(changed) = self.advance(authority, left, &mut before) else {
            return self.start_anew(authority, left, wall, before);
        };
        self.repin(&mut before);
        self.hide_expired(|_| wall, &mut before);
        Turn {
            changed,
            before,
            ..Turn::default()
        }
    }

    fn start_anew(
        &mut self,
        authority: &Authority,
        left: &BTreeSet<NodeId>,
        wall: Timestamp,
        before: Before,
    ) -> Turn {
        let mut new = Self::compute(authority, left, wall);
        new.pin(std::mem::take(&mut self.pins));
        let old = std::mem::replace(self, new);
        let mut members = old.members;
        for (device, was) in before.0 {
            match was {
                Some(was) => drop(members.insert(device, was)),
                None => drop(members.remove(&device)),
            }
        }
        let back = old.revoked.into_iter().filter(|(device, revoke)| {
            self.live(device).is_some() && self.voids.contains_key(revoke)
        });
        Turn {
            before: Before::difference(&members, &self.members),
            changed: true,
            anew: true,
            restored: back.map(|(device, _)| device).collect(),
        }
    }

    /// Takes what is new, one by one. Gives whether anything differs; `None`: something may reach further than is
    /// followed here, and this view is good for nothing.
    fn advance(
        &mut self,
        authority: &Authority,
        left: &BTreeSet<NodeId>,
        before: &mut Before,
    ) -> Option<bool> {
        let known = self.ground.order.len();
        let new = authority.entries().len().checked_sub(known)?;
        let (was, is) = (self.ground.changes, authority.changes());
        let gone: Vec<NodeId> = left.difference(&self.ground.left).copied().collect();
        let shrunk = left.len() != self.ground.left.len() + gone.len();
        if was.filled != is.filled || shrunk || new + gone.len() > FOLLOWED_MAX {
            return None;
        }
        let admitted = was.admits != is.admits;
        if new == 0 && gone.is_empty() && !admitted {
            return Some(false);
        }
        self.ground.changes = is;
        let withdrawn = self.withdraw_joiners(before);
        let judged = std::mem::take(&mut self.ground.judged);
        let mut verdicts = Verdicts::resume(authority, judged);
        let mut step = Step {
            authority,
            verdicts: &mut verdicts,
            before,
            changed: false,
            policy: false,
        };
        for device in gone {
            self.leave(&device, &mut step)?;
        }
        for place in known..known + new {
            self.take(place as u32, &mut step)?;
        }
        let (mut changed, edited) = (step.changed, step.policy);
        if admitted {
            let titled = |device: &NodeId| self.ground.titled.contains_key(device);
            self.ground.joining = joiners::joining(authority, titled, &verdicts, left);
        }
        let members = &mut self.members;
        self.ground
            .call(authority, members, &mut self.invites, &mut self.register);
        for device in &self.ground.joiners {
            before.0.entry(*device).or_insert(None);
        }
        let joiners = self.ground.joiners.iter();
        let joiners = joiners.filter_map(|device| self.members.get(device));
        changed |= !joiners.eq(&withdrawn);
        if admitted {
            let revoked = self.ground.revoked(authority, &verdicts, &self.members);
            changed |= revoked != self.revoked;
            self.revoked = revoked;
        }
        if edited {
            let policy = policy::of(authority, &verdicts, &self.ground.order);
            changed |= policy != self.policy;
            self.policy = policy;
        }
        let epoch = epoch::of(authority, &verdicts, &self.invites);
        changed |= epoch != self.epoch;
        self.epoch = epoch;
        self.ground.judged = verdicts.into_judged();
        Some(changed)
    }

    /// Joiners stand behind all others: they are called again when those are known.
    fn withdraw_joiners(&mut self, before: &mut Before) -> Vec<ViewMember> {
        let mut withdrawn = Vec::new();
        for device in std::mem::take(&mut self.ground.joiners) {
            before.note(&device, &self.members);
            let Some(member) = self.members.remove(&device) else {
                continue;
            };
            self.register.release(&member.name, member.ipv4);
            let invite = member.invite.and_then(|id| self.invites.get_mut(&id));
            if let Some(invite) = invite {
                invite.provisional.clear();
                invite.pending.clear();
                invite.quarantined.clear();
            }
            withdrawn.push(member);
        }
        withdrawn
    }

    /// Shows whom the clock hid, and gives who they are.
    pub(super) fn unhide(&mut self, before: &mut Before) -> Vec<NodeId> {
        let expired = std::mem::take(&mut self.expired);
        let hidden = expired.keys().copied().collect();
        for (device, member) in expired {
            before.note(&device, &self.members);
            self.members.insert(device, member);
        }
        hidden
    }

    /// A device left. What it claimed stays its own; a title that took over from another, or of an admin, reaches
    /// further.
    fn leave(&mut self, device: &NodeId, step: &mut Step<'_, '_>) -> Option<()> {
        self.ground.left.insert(*device);
        let Some(places) = self.ground.titled.get(device) else {
            let other = |id: &_| {
                let admit = step.authority.admit(id);
                admit.is_some_and(|admit| admit.claim().device != *device)
            };
            self.ground.joining.retain(other);
            return Some(());
        };
        let none = BTreeSet::new();
        let title_at = |place: &u32| title(step.authority, *place, step.verdicts, &none);
        let own: Vec<Title<'_>> = places.iter().filter_map(title_at).collect();
        let member = self.members.get(device)?;
        let met = step.verdicts.met();
        let met = met.filter_map(|device| self.ground.titled.get(device));
        let mut lost = met.flatten().filter_map(title_at);
        let first = own.first()?;
        let simple = own
            .iter()
            .all(|title| holds(member, title) && title.level == Level::MEMBER)
            && !lost.any(|lost| {
                lost.device == *device || lost.name == first.name || lost.ipv4 == first.ipv4
            });
        if !simple {
            return None;
        }
        step.before.note(device, &self.members);
        step.changed = true;
        self.members.remove(device);
        self.register.reserve(first);
        Some(())
    }

    /// Takes the next op.
    fn take(&mut self, place: u32, step: &mut Step<'_, '_>) -> Option<()> {
        let authority = step.authority;
        let op = &authority.at(place).op;
        self.ground.line_up(authority, place);
        if !step.verdicts.push(place) {
            return None;
        }
        let kind = op.header().kind;
        step.policy |= kind == Kind::POLICY || kind == Kind::POLICY_BASE;
        if let Some(void) = step.verdicts.void(place) {
            self.voids.insert(op.id(), void);
        }
        let counts = step.verdicts.counts(place);
        let acts = counts && understood(op);
        if counts && !acts {
            let outdated = not_understood(authority, &self.ground.order, step.verdicts);
            step.changed |= outdated != self.outdated;
            self.outdated = outdated;
        }
        match op.body() {
            Body::Grant(_) if acts => self.entitle(place, step)?,
            Body::Invite(_) => self.enter_invite(place, acts, step),
            Body::InviteClose(close) if acts => self.close(&close.invite, op.id(), step)?,
            Body::Genesis(_)
            | Body::Grant(_)
            | Body::Revoke(_)
            | Body::InviteClose(_)
            | Body::Policy(_)
            | Body::PolicyBase(_)
            | Body::Rekey(_)
            | Body::Noop
            | Body::Opaque => {}
        }
        Some(())
    }

    fn enter_invite(&mut self, place: u32, acts: bool, step: &mut Step<'_, '_>) {
        let entry = step.authority.at(place);
        let left = &self.ground.left;
        let cited = title(step.authority, entry.authority, step.verdicts, left);
        let open = acts && cited.is_some_and(|title| title.live);
        if let Some(invite) = joiners::invite(&entry.op, open) {
            self.invites.insert(entry.op.id(), invite);
            step.changed = true;
        }
    }

    /// Of several that close an invite the first in op order is told.
    fn close(&mut self, invite: &OpId, by: OpId, step: &mut Step<'_, '_>) -> Option<()> {
        let invite = self.invites.get_mut(invite)?;
        if invite.closed.is_some() {
            return None;
        }
        invite.open = false;
        invite.closed = Some(by);
        step.changed = true;
        Some(())
    }

    /// A device gets a title: its first, with claims that nobody else ever made, or another that repeats its claims.
    fn entitle(&mut self, place: u32, step: &mut Step<'_, '_>) -> Option<()> {
        let authority = step.authority;
        let title_at = |place: u32| title(authority, place, step.verdicts, &self.ground.left);
        let new = title_at(place)?;
        if !new.live {
            return None;
        }
        let device = new.device;
        let binding = match self.ground.titled.get(&device) {
            None if self.register.is_unasked(&new) => self.register.enter(&new),
            None => return None,
            Some(places) => {
                let mut old = places.iter().filter_map(|place| title_at(*place));
                let member = self.members.get(&device)?;
                let same = holds(member, &new) && old.all(|old| holds(member, &old));
                same.then(|| Binding {
                    name: member.name.clone(),
                    wished: member.wished.clone(),
                    ipv4: member.ipv4,
                })?
            }
        };
        let mut places = self.ground.titled.get(&device).cloned().unwrap_or_default();
        places.push(place);
        if places.len() > 1 {
            places = self.in_op_order(&places);
        }
        let titles: Vec<Title<'_>> = places.iter().filter_map(|place| title_at(*place)).collect();
        let effective = *titles::effective(&titles).get(&device)?;
        let member = by_title(effective, binding, &authority.realm().genesis);
        step.before.note(&device, &self.members);
        step.changed = true;
        self.members.insert(device, member);
        self.ground.titled.insert(device, places);
        if new.expires.is_some() {
            self.ground.expiring.insert(device);
        }
        if let Some(invite) = new.invite.and_then(|id| self.invites.get_mut(&id))
            && let Err(at) = invite.used.binary_search(&device)
        {
            invite.used.insert(at, device);
        }
        let other = |id: &_| {
            let admit = authority.admit(id);
            admit.is_some_and(|admit| admit.claim().device != device)
        };
        self.ground.joining.retain(other);
        Some(())
    }

    fn in_op_order(&self, places: &[u32]) -> Vec<u32> {
        let order = self.ground.order.iter().copied();
        order.filter(|place| places.contains(place)).collect()
    }
}

/// One change on its way into a view.
struct Step<'s, 'a> {
    authority: &'a Authority,
    verdicts: &'s mut Verdicts<'a>,
    before: &'s mut Before,
    changed: bool,
    policy: bool,
}

/// Whether a member has what a title claims.
fn holds(member: &ViewMember, title: &Title<'_>) -> bool {
    member.authority.is_some() && member.name == *title.name && member.ipv4 == Some(title.ipv4)
}
