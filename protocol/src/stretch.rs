//! Argon2id with fixed parameters: makes guessing short secrets dear.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::{Zeroize, Zeroizing};

/// What one stretch costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Memory in KiB.
    pub(crate) memory_kib: u32,
    /// Passes over the memory.
    pub(crate) passes: u32,
}

/// Stretches a secret to 32 bytes; the memory is erased afterwards.
pub(crate) fn stretch(secret: &[u8], salt: &[u8], cost: Cost) -> Zeroizing<[u8; 32]> {
    let params = Params::new(cost.memory_kib, cost.passes, 1, Some(32))
        .expect("our costs are within Argon2's bounds");
    let mut blocks = vec![Block::new(); params.block_count()];
    let mut stretched = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(secret, salt, stretched.as_mut(), &mut blocks)
        .expect("our secrets and salts are within Argon2's bounds");
    blocks.iter_mut().for_each(Zeroize::zeroize);
    stretched
}
