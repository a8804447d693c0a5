//! Pins: what the policy in force says of single devices instead of their grants (`docs/protocol.md` §10.6). They are
//! for people and for the policy; no right follows from them, and no claim.

use std::collections::{BTreeMap, BTreeSet};

use super::follow::Before;
use super::{View, ViewMember};
use crate::body::Tags;
use crate::id::NodeId;
use crate::name::{NodeName, Owner};

/// What is pinned of one device; what is `None` stays as its grant says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Its name.
    pub name: Option<NodeName>,
    /// Its tags.
    pub tags: Option<Tags>,
    /// Whose it is.
    pub owner: Option<Owner>,
}

impl View {
    /// Lets pins take the place of those before. Gives what members were that are not what they were.
    pub fn pin(&mut self, pins: BTreeMap<NodeId, Pinned>) -> Before {
        let mut before = Before::default();
        if pins == self.pins {
            return before;
        }
        let hidden = self.unhide(&mut before);
        self.unpin(&mut before);
        self.pins = pins;
        self.repin(&mut before);
        for device in hidden {
            self.expired.extend(self.members.remove_entry(&device));
        }
        before.retain(&self.members);
        before
    }

    /// Shows members as their grants say.
    pub(super) fn unpin(&mut self, before: &mut Before) {
        for (device, member) in std::mem::take(&mut self.granted) {
            before.note(&device, &self.members);
            self.members.insert(device, member);
        }
    }

    /// Shows members as the pins say, also those that the clock will hide: no name depends on it. A pinned
    /// name wins over every grant's; who had it gets a free variant of its wish,
    /// as who loses a claim does. Of two devices that one name is pinned to neither gets it.
    pub(super) fn repin(&mut self, before: &mut Before) {
        let mut named: BTreeMap<&NodeName, Vec<NodeId>> = BTreeMap::new();
        for (device, pinned) in &self.pins {
            if let Some(name) = pinned
                .name
                .as_ref()
                .filter(|_| self.members.contains_key(device))
            {
                named.entry(name).or_default().push(*device);
            }
        }
        named.retain(|_, devices| devices.len() == 1);
        let named: BTreeMap<NodeName, NodeId> = named
            .into_iter()
            .filter_map(|(name, devices)| Some((name.clone(), *devices.first()?)))
            .collect();
        let winners: BTreeSet<NodeId> = named.values().copied().collect();
        let mut losers = BTreeSet::new();
        for name in named.keys() {
            let loser = self
                .register
                .user(name)
                .filter(|user| !winners.contains(user));
            losers.extend(loser.filter(|loser| self.members.contains_key(loser)));
        }
        let mut taken: BTreeSet<NodeName> = named.keys().cloned().collect();
        for device in losers {
            let Some(member) = self.members.get(&device) else {
                continue;
            };
            let free = self.register.variant(&member.wished, &device, &taken);
            taken.insert(free.clone());
            self.change(&device, before, |member| member.name = free);
        }
        for (name, device) in named {
            self.change(&device, before, |member| member.name = name);
        }
        for (device, pinned) in std::mem::take(&mut self.pins) {
            self.change(&device, before, |member| {
                member.tags = pinned.tags.clone().unwrap_or_else(|| member.tags.clone());
                member.owner = pinned.owner.clone().or_else(|| member.owner.clone());
            });
            self.pins.insert(device, pinned);
        }
    }

    fn change(
        &mut self,
        device: &NodeId,
        before: &mut Before,
        change: impl FnOnce(&mut ViewMember),
    ) {
        before.note(device, &self.members);
        if let Some(member) = self.members.get_mut(device) {
            self.granted
                .entry(*device)
                .or_insert_with(|| member.clone());
            change(member);
        }
    }
}
