//! Which stored ops count: an op rests on its authority and falls with a revocation of its author
//! (`docs/protocol.md` §3.8).
//!
//! Attacks and grants only go down in seniority, so one pass from the most senior to the most junior decides all.

use std::collections::BTreeMap;

use super::past::{BATCH, Batch};
use super::titles::Title;
use crate::authority::Authority;
use crate::body::{Body, Level};
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
    verdicts: Vec<Option<Void>>,
    /// The most senior counting revocation that a title does not survive.
    ended: Vec<Option<OpId>>,
    /// The counting revocations of each device, most senior first, then by id.
    revocations: BTreeMap<NodeId, Vec<u32>>,
}

/// Verdicts without the stored set that they are of.
#[derive(Clone, Debug, Default)]
pub(super) struct Judged {
    verdicts: Vec<Option<Void>>,
    ended: Vec<Option<OpId>>,
    revocations: BTreeMap<NodeId, Vec<u32>>,
}

/// What a revocation of a device may reach.
#[derive(Debug, Default)]
struct Reach {
    /// The ops of the device.
    acts: Vec<u32>,
    /// The ops that gave it a level, and which.
    titles: Vec<(u32, Level)>,
}

impl<'a> Verdicts<'a> {
    /// Judges every stored op.
    pub(super) fn of(authority: &'a Authority) -> Self {
        let entries = authority.entries();
        let mut judged = Self {
            authority,
            verdicts: vec![None; entries.len()],
            ended: vec![None; entries.len()],
            revocations: BTreeMap::new(),
        };
        let mut strata: BTreeMap<Level, Vec<u32>> = BTreeMap::new();
        for (place, entry) in (0..).zip(entries).skip(1) {
            strata.entry(entry.level).or_default().push(place);
        }
        let reaches = reaches(authority);
        for (level, stratum) in strata {
            for place in &stratum {
                judged.rest(*place);
            }
            let mut revokes = stratum;
            revokes.retain(|place| judged.is_counting_revoke(*place));
            // Never by arrival: which of two revocations is told must not differ between replicas.
            revokes.sort_by_key(|place| authority.at(*place).op.id());
            for batch in revokes.chunks(BATCH) {
                judged.strike(batch, level, &reaches);
            }
        }
        judged
    }

    /// Takes verdicts up again that were given of this stored set, or of what it was before it grew.
    pub(super) fn resume(authority: &'a Authority, judged: Judged) -> Self {
        Self {
            authority,
            verdicts: judged.verdicts,
            ended: judged.ended,
            revocations: judged.revocations,
        }
    }

    /// The verdicts alone.
    pub(super) fn into_judged(self) -> Judged {
        Judged {
            verdicts: self.verdicts,
            ended: self.ended,
            revocations: self.revocations,
        }
    }

    /// Judges the next op. Gives whether that changes no verdict of another: nobody revoked its author or whom it
    /// grants something, and it is no revocation that counts.
    pub(super) fn push(&mut self, place: u32) -> bool {
        let op = &self.authority.at(place).op;
        self.verdicts.push(None);
        self.ended.push(None);
        self.rest(place);
        let met = |device: &NodeId| self.revocations.contains_key(device);
        let author = match &op.header().author {
            Author::Device(author) => met(author),
            Author::Root => false,
        };
        let granted = op.body().grant().is_some_and(|grant| met(&grant.device));
        !author && !granted && !self.is_counting_revoke(place)
    }

    /// Devices that a counting revocation met.
    pub(super) fn met(&self) -> impl Iterator<Item = &NodeId> {
        self.revocations.keys()
    }

    /// Why an op does not count.
    pub(super) fn void(&self, place: u32) -> Option<Void> {
        self.verdicts[place as usize]
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

    fn is_counting_revoke(&self, place: u32) -> bool {
        let op = &self.authority.at(place).op;
        op.body().revoke().is_some() && self.counts(place) && understood(op)
    }

    /// Counting revocations of one level strike the juniors' ops of their devices that are outside the cut, and end
    /// the juniors' titles. The most senior one is told; strata come in that order.
    fn strike(&mut self, places: &[u32], level: Level, reaches: &BTreeMap<NodeId, Reach>) {
        let mut devices: BTreeMap<NodeId, u64> = BTreeMap::new();
        for (place, bit) in places.iter().zip(0..) {
            if let Some(revoke) = self.authority.at(*place).op.body().revoke() {
                *devices.entry(revoke.device).or_default() |= 1 << bit;
                let revocations = self.revocations.entry(revoke.device).or_default();
                revocations.push(*place);
            }
        }
        let mut acts: Vec<(u32, u64)> = Vec::new();
        let mut titles: Vec<(u32, u64)> = Vec::new();
        for (device, mask) in devices {
            let Some(reach) = reaches.get(&device) else {
                continue;
            };
            let standing = |act: &&u32| {
                self.authority.at(**act).level > level && self.verdicts[**act as usize].is_none()
            };
            acts.extend(reach.acts.iter().filter(standing).map(|act| (*act, mask)));
            let lasting = |(title, given): &&(u32, Level)| {
                *given > level && self.ended[*title as usize].is_none()
            };
            let reached = reach.titles.iter().filter(lasting);
            titles.extend(reached.map(|(title, _)| (*title, mask)));
        }
        if acts.is_empty() && titles.is_empty() {
            return;
        }
        let batch = Batch::of(self.authority, places);
        let told = |hits: u64| {
            let first = places.get(hits.trailing_zeros() as usize)?;
            Some(self.authority.at(*first).op.id())
        };
        for (act, mask) in acts {
            let cited = self.authority.at(act).authority;
            let hits = mask & !batch.keeping(act) & !self.cleared(&batch, cited, level);
            self.verdicts[act as usize] = told(hits).map(Void::Revoked);
        }
        for (title, mask) in titles {
            self.ended[title as usize] = told(mask & !self.cleared(&batch, title, level));
        }
    }

    /// The revocations that a grant clears: it was given in knowledge of them, by somebody at least as senior.
    fn cleared(&self, batch: &Batch, grant: u32, level: Level) -> u64 {
        if self.authority.at(grant).level <= level {
            batch.known_to(grant)
        } else {
            0
        }
    }

    /// Whether an op counts.
    pub(super) fn counts(&self, place: u32) -> bool {
        self.verdicts[place as usize].is_none()
    }

    /// Whether an op does not count because of the authority that it cites.
    pub(super) fn is_baseless(&self, place: u32) -> bool {
        matches!(self.verdicts[place as usize], Some(Void::Baseless(_)))
    }

    /// The counting revocations that reach an op, or one that it rests on, whether by their cuts it stays or not.
    pub(super) fn reaching(&self, place: u32) -> Vec<u32> {
        let mut reaching = Vec::new();
        let mut place = place;
        while place != 0 {
            let entry = self.authority.at(place);
            if let Author::Device(device) = &entry.op.header().author {
                let revokes = self.revocations_of(device).iter();
                reaching.extend(revokes.filter(|r| self.authority.at(**r).level < entry.level));
            }
            place = entry.authority;
        }
        reaching
    }

    /// The counting revocation that ends what the op at a place gives.
    pub(super) fn ended(&self, place: u32) -> Option<OpId> {
        self.ended[place as usize]
    }

    /// The counting revocation that keeps a title from making its device live; the most senior.
    pub(super) fn revocation(&self, title: &Title<'_>) -> Option<OpId> {
        self.ended[title.place as usize]
    }

    /// The counting revocations of a device, most senior first, then by id.
    pub(super) fn revocations_of(&self, device: &NodeId) -> &[u32] {
        self.revocations.get(device).map_or(&[], Vec::as_slice)
    }

    /// The most senior counting revocation of a device, whatever came after it.
    pub(super) fn revoked(&self, device: &NodeId) -> Option<OpId> {
        let first = self.revocations_of(device).first()?;
        Some(self.authority.at(*first).op.id())
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

/// Ops and titles by device.
fn reaches(authority: &Authority) -> BTreeMap<NodeId, Reach> {
    let mut reaches: BTreeMap<NodeId, Reach> = BTreeMap::new();
    let revoked = authority.entries().iter();
    let revoked = revoked.filter_map(|entry| entry.op.body().revoke());
    for revoke in revoked {
        reaches.entry(revoke.device).or_default();
    }
    if reaches.is_empty() {
        return reaches;
    }
    for (place, entry) in (0..).zip(authority.entries()) {
        if let Author::Device(device) = &entry.op.header().author
            && let Some(reach) = reaches.get_mut(device)
        {
            reach.acts.push(place);
        }
        let title = if let Body::Genesis(genesis) = entry.op.body() {
            Some((genesis.founder, Level::FOUNDER))
        } else {
            let grant = entry.op.body().grant();
            grant.map(|grant| (grant.device, grant.level))
        };
        if let Some((device, level)) = title
            && let Some(reach) = reaches.get_mut(&device)
        {
            reach.titles.push((place, level));
        }
    }
    reaches
}
