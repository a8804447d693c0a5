//! Which revocations lie in the past of each op: one bit a revocation, so that a flood of other ops costs nothing.

use crate::authority::Authority;

/// The pasts of all entries, as far as landmarks go.
#[derive(Debug)]
pub(super) struct Pasts {
    /// Place of each landmark, ascending.
    landmarks: Vec<u32>,
    /// Words of one entry.
    width: usize,
    bits: Vec<u64>,
}

impl Pasts {
    /// Notes for every entry which of the landmarks, ascending places, lie in its past.
    pub(super) fn of(authority: &Authority, landmarks: &[u32]) -> Self {
        let entries = authority.entries();
        let width = landmarks.len().div_ceil(64);
        let mut pasts = Self {
            landmarks: landmarks.to_vec(),
            width,
            bits: vec![0; width * entries.len()],
        };
        for (place, entry) in entries.iter().enumerate().filter(|_| width > 0) {
            // Parents stand before children, so theirs are complete.
            for parent in &entry.parents {
                let (before, own) = pasts.bits.split_at_mut(place * width);
                let theirs = &before[*parent as usize * width..][..width];
                for (word, more) in own[..width].iter_mut().zip(theirs) {
                    *word |= more;
                }
                if let Ok(index) = landmarks.binary_search(parent) {
                    pasts.bits[place * width + index / 64] |= 1 << (index % 64);
                }
            }
        }
        pasts
    }

    /// Whether a landmark lies in the past of an entry.
    pub(super) fn has(&self, place: u32, landmark: u32) -> bool {
        let Ok(index) = self.landmarks.binary_search(&landmark) else {
            return false;
        };
        self.bits[place as usize * self.width + index / 64] & (1 << (index % 64)) != 0
    }
}
