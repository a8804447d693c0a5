//! Dice: everything that happens by chance comes from the one seeded generator through these.

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

/// A number below `end`; 0 when `end` is 0.
pub(crate) fn below(rng: &mut ChaCha20Rng, end: u64) -> u64 {
    if end == 0 { 0 } else { rng.next_u64() % end }
}

/// An index into a list of this length; 0 for an empty one.
pub(crate) fn index(rng: &mut ChaCha20Rng, length: usize) -> usize {
    usize::try_from(below(rng, length as u64)).unwrap_or(0)
}

/// True in so many of a thousand cases.
pub(crate) fn permille(rng: &mut ChaCha20Rng, chance: u32) -> bool {
    below(rng, 1000) < u64::from(chance)
}

/// Thirty-two random bytes.
pub(crate) fn seed(rng: &mut ChaCha20Rng) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    seed
}
