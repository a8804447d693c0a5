//! Which stored ops count: an op rests on its authority and falls with a revocation of its author
//! (`docs/protocol.md` §3.8).
//!
//! Attacks and grants only go down in seniority, so one pass from the most senior to the most junior decides all.

use std::collections::BTreeMap;

use super::past::Pasts;
use super::titles::Title;
use crate::authority::Authority;
use crate::body::{Body, Cut, Level, Revoke};
use crate::id::{NodeId, OpId};
use crate::op::Author;
use crate::structure::understood;

/// Why a stored op does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    /// This revocation of its author is senior to it, and it is outside the cut.
    Revoked(OpId),
    /// The authority that it cites does not count, or is not understood.
    Baseless(OpId),
}

/// What counts of a stored set, by place.
#[derive(Debug)]
pub(super) struct Verdicts<'a> {
    authority: &'a Authority,
    pasts: Pasts,
    verdicts: Vec<Option<Void>>,
    /// The counting revocations of each device, most senior first.
    revocations: BTreeMap<NodeId, Vec<u32>>,
}

impl<'a> Verdicts<'a> {
    /// Judges every stored op.
    pub(super) fn of(authority: &'a Authority) -> Self {
        let entries = authority.entries();
        let revokes: Vec<u32> = (0..)
            .zip(entries)
            .filter(|(_, entry)| understood(&entry.op) && entry.op.body().revoke().is_some())
            .map(|(place, _)| place)
            .collect();
        let mut judged = Self {
            authority,
            pasts: Pasts::of(authority, &revokes),
            verdicts: vec![None; entries.len()],
            revocations: BTreeMap::new(),
        };
        let mut acts: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
        let mut strata: BTreeMap<Level, Vec<u32>> = BTreeMap::new();
        for (place, entry) in (0..).zip(entries).skip(1) {
            strata.entry(entry.level).or_default().push(place);
            if let Author::Device(device) = entry.op.header().author {
                acts.entry(device).or_default().push(place);
            }
        }
        for (level, stratum) in strata {
            for place in &stratum {
                judged.rest(*place);
            }
            for place in stratum {
                judged.strike(place, level, &acts);
            }
        }
        judged
    }

    /// An op falls with its authority.
    fn rest(&mut self, place: u32) {
        let cited = self.authority.at(place).authority;
        let sound = cited == 0
            || (self.verdicts[cited as usize].is_none()
                && understood(&self.authority.at(cited).op));
        let verdict = &mut self.verdicts[place as usize];
        if !sound && verdict.is_none() {
            *verdict = Some(Void::Baseless(self.authority.at(cited).op.id()));
        }
    }

    /// A counting revocation strikes the juniors' ops of its device that are outside the cut.
    fn strike(&mut self, place: u32, level: Level, acts: &BTreeMap<NodeId, Vec<u32>>) {
        let op = &self.authority.at(place).op;
        let Some(revoke) = op.body().revoke() else {
            return;
        };
        if self.verdicts[place as usize].is_some() || !understood(op) {
            return;
        }
        let id = op.id();
        self.revocations
            .entry(revoke.device)
            .or_default()
            .push(place);
        let acts = acts.get(&revoke.device).map_or(&[][..], Vec::as_slice);
        let junior = |act: &&u32| self.authority.at(**act).level > level;
        let acts: Vec<u32> = acts.iter().filter(junior).copied().collect();
        if acts.is_empty() {
            return;
        }
        let kept = self.kept(place, revoke);
        for act in acts {
            let entry = self.authority.at(act);
            let spared = revoke
                .spare
                .as_slice()
                .binary_search(&entry.op.id())
                .is_ok();
            if !kept[act as usize] && !spared && !self.clears(entry.authority, place) {
                // The most senior revocation is told; strata come in that order.
                self.verdicts[act as usize].get_or_insert(Void::Revoked(id));
            }
        }
    }

    /// Which places lie at or before the cut.
    fn kept(&self, place: u32, revoke: &Revoke) -> Vec<bool> {
        let heads: Vec<u32> = match &revoke.cut {
            Cut::Parents => self.authority.at(place).parents.clone(),
            Cut::Heads(heads) => {
                let heads = heads.as_slice().iter();
                heads.filter_map(|id| self.authority.place(id)).collect()
            }
            Cut::Nothing => Vec::new(),
        };
        self.authority.with_past(heads)
    }

    /// Whether a grant was given in knowledge of a revocation, by somebody at least as senior as the revoker.
    fn clears(&self, grant: u32, revoke: u32) -> bool {
        self.pasts.has(grant, revoke)
            && self.authority.at(grant).level <= self.authority.at(revoke).level
    }

    /// Whether an op counts.
    pub(super) fn counts(&self, place: u32) -> bool {
        self.verdicts[place as usize].is_none()
    }

    /// The revocation that an op fell with, its own author's or that of somebody it rests on.
    pub(super) fn cause(&self, place: u32) -> Option<OpId> {
        let mut place = place;
        loop {
            match self.verdicts[place as usize]? {
                Void::Revoked(revoke) => return Some(revoke),
                Void::Baseless(_) => place = self.authority.at(place).authority,
            }
        }
    }

    /// The counting revocation that keeps a device from being live by a grant of `level`; the most senior.
    pub(super) fn revocation(&self, title: &Title<'_>) -> Option<OpId> {
        let revocations = self.revocations.get(&title.device)?;
        let strikes = revocations.iter().find(|revoke| {
            self.authority.at(**revoke).level < title.level && !self.clears(title.place, **revoke)
        })?;
        Some(self.authority.at(*strikes).op.id())
    }

    /// The most senior counting revocation of a device, whatever came after it.
    pub(super) fn revoked(&self, device: &NodeId) -> Option<OpId> {
        let first = self.revocations.get(device)?.first()?;
        Some(self.authority.at(*first).op.id())
    }

    /// Whether a counting revocation of `device` lies in the past of an op.
    pub(super) fn knew_revoked(&self, place: u32, device: &NodeId) -> bool {
        let revocations = self.revocations.get(device);
        revocations.is_some_and(|list| list.iter().any(|revoke| self.pasts.has(place, *revoke)))
    }

    /// The places of all counting revocations.
    pub(super) fn revocations(&self) -> impl Iterator<Item = u32> {
        self.revocations.values().flatten().copied()
    }

    /// The places of counting and understood ops of any kind.
    pub(super) fn counting(&self) -> impl Iterator<Item = (u32, &'a Body)> {
        let entries = (0..).zip(self.authority.entries());
        entries
            .filter(|(place, entry)| self.counts(*place) && understood(&entry.op))
            .map(|(place, entry)| (place, entry.op.body()))
    }

    /// What does not count, and why.
    pub(super) fn voids(&self) -> BTreeMap<OpId, Void> {
        let entries = self.authority.entries().iter().zip(&self.verdicts);
        entries
            .filter_map(|(entry, verdict)| Some((entry.op.id(), (*verdict)?)))
            .collect()
    }
}
