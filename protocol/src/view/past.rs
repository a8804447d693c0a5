//! What lies before and behind revocations: 64 of them at a time, one bit each, so that neither many revocations nor
//! many other ops cost more than a walk over all ops (`docs/protocol.md` §3.8).

use std::collections::BTreeMap;

use super::verdict::Verdicts;
use crate::authority::Authority;
use crate::body::{Cut, Revoke};
use crate::id::NodeId;

/// Revocations that are looked at together.
pub(super) const BATCH: usize = u64::BITS as usize;
/// Devices whose knowing ops are remembered at a time: bounds memory, not what is answered.
const REMEMBERED_MAX: usize = 64;

/// Up to [`BATCH`] revocations seen from every op; a bit is a place in the batch.
#[derive(Debug)]
pub(super) struct Batch {
    /// Which of them lie in the past of each op.
    knows: Vec<u64>,
    /// By which of them each op stays: it lies at or before the cut, or is spared.
    stays: Vec<u64>,
}

impl Batch {
    /// Looks at the revocations at these places.
    pub(super) fn of(authority: &Authority, places: &[u32]) -> Self {
        let count = authority.entries().len();
        let mut batch = Self {
            knows: vec![0; count],
            stays: vec![0; count],
        };
        let revokes = || {
            let revokes = places.iter().zip(0..);
            revokes.filter_map(|(place, bit)| Some((*place, revoke(authority, *place)?, 1 << bit)))
        };
        batch.look_forward(authority, revokes().map(|(place, _, bit)| (place, bit)));
        let mut heads: Vec<(u32, u64)> = Vec::new();
        let mut spared: Vec<(u32, u64)> = Vec::new();
        for (place, revoke, bit) in revokes() {
            let cut = cut(authority, place, revoke);
            heads.extend(cut.into_iter().map(|head| (head, bit)));
            let spare = revoke.spare.as_slice().iter();
            let spare = spare.filter_map(|id| authority.place(id));
            spared.extend(spare.map(|place| (place, bit)));
        }
        batch.look_back(authority, &heads);
        // What is spared is spared by name: its past is not.
        for (place, bit) in spared {
            batch.stays[place as usize] |= bit;
        }
        batch
    }

    /// Parents stand before children, so one walk carries what they know.
    fn look_forward(&mut self, authority: &Authority, revokes: impl Iterator<Item = (u32, u64)>) {
        let own: BTreeMap<u32, u64> = revokes.collect();
        let first = own.keys().next().copied().unwrap_or(0);
        for (place, entry) in authority.entries().iter().enumerate().skip(first as usize) {
            let mut knows = 0;
            for parent in &entry.parents {
                knows |= self.knows[*parent as usize];
                if *parent >= first {
                    knows |= own.get(parent).copied().unwrap_or(0);
                }
            }
            self.knows[place] = knows;
        }
    }

    /// Children stand behind parents, so one walk back carries what keeps them.
    fn look_back(&mut self, authority: &Authority, heads: &[(u32, u64)]) {
        for (place, bit) in heads {
            self.stays[*place as usize] |= bit;
        }
        for (place, entry) in authority.entries().iter().enumerate().rev() {
            let stays = self.stays[place];
            if stays != 0 {
                for parent in &entry.parents {
                    self.stays[*parent as usize] |= stays;
                }
            }
        }
    }

    /// Which of the revocations lie in the past of an op.
    pub(super) fn known_to(&self, place: u32) -> u64 {
        self.knows[place as usize]
    }

    /// By which of the revocations an op stays.
    pub(super) fn keeping(&self, place: u32) -> u64 {
        self.stays[place as usize]
    }
}

fn revoke(authority: &Authority, place: u32) -> Option<&Revoke> {
    authority.at(place).op.body().revoke()
}

/// The latest ops that stay.
fn cut(authority: &Authority, place: u32, revoke: &Revoke) -> Vec<u32> {
    match &revoke.cut {
        Cut::Parents => authority.at(place).parents.clone(),
        Cut::Heads(heads) => {
            let heads = heads.as_slice().iter();
            heads.filter_map(|id| authority.place(id)).collect()
        }
        Cut::Nothing => Vec::new(),
    }
}

/// Which ops were said in knowledge of a device's revocation, looked up when it matters.
#[derive(Debug)]
pub(super) struct Knowledge<'v, 'a> {
    authority: &'a Authority,
    verdicts: &'v Verdicts<'a>,
    /// One bit an op.
    devices: BTreeMap<NodeId, Vec<u64>>,
}

impl<'v, 'a> Knowledge<'v, 'a> {
    /// Nothing looked up yet.
    pub(super) const fn new(authority: &'a Authority, verdicts: &'v Verdicts<'a>) -> Self {
        Self {
            authority,
            verdicts,
            devices: BTreeMap::new(),
        }
    }

    /// Whether a counting revocation of `device` lies in the past of an op.
    pub(super) fn has(&mut self, place: u32, device: &NodeId) -> bool {
        if self.verdicts.revoked(device).is_none() {
            return false;
        }
        if self.devices.len() > REMEMBERED_MAX {
            self.devices.clear();
        }
        let (authority, verdicts) = (self.authority, self.verdicts);
        let knowing = self
            .devices
            .entry(*device)
            .or_insert_with(|| knowing(authority, verdicts, device));
        bit(knowing, place)
    }
}

fn knowing(authority: &Authority, verdicts: &Verdicts<'_>, device: &NodeId) -> Vec<u64> {
    let entries = authority.entries();
    let mut revokes: Vec<u32> = verdicts.revocations_of(device).to_vec();
    revokes.sort_unstable();
    let mut knowing = vec![0; entries.len().div_ceil(BATCH)];
    for (place, entry) in entries.iter().enumerate() {
        let mut parents = entry.parents.iter();
        if parents.any(|p| bit(&knowing, *p) || revokes.binary_search(p).is_ok()) {
            knowing[place / BATCH] |= 1 << (place % BATCH);
        }
    }
    knowing
}

fn bit(bits: &[u64], place: u32) -> bool {
    bits[place as usize / BATCH] & (1 << (place as usize % BATCH)) != 0
}
