//! Reconciliation of a set: 256 buckets by key prefix, each with a digest over its sorted (key, hash) list
//! (`docs/protocol.md` §7.3).
//!
//! This room compares and names differences. It does not know what the items are, nor who asks.

use crate::id::Digest;
use crate::identity::hash_as;

/// The short hash of an item: the first 16 bytes of its BLAKE3 hash. Fewer, and a device could make two records of
/// one slot that the reconciler takes for one.
pub type ShortHash = [u8; 16];

/// The index of one set: key and short hash of every item.
#[derive(Debug, Clone)]
pub struct Index {
    buckets: Vec<Bucket>,
    root: Option<Digest>,
}

#[derive(Debug, Clone, Default)]
struct Bucket {
    /// By key. Buckets are small, and a node that starts copies them all: trees of their own would take more room.
    items: Vec<(Digest, ShortHash)>,
    digest: Option<[u8; 16]>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            buckets: vec![Bucket::default(); 256],
            root: None,
        }
    }
}

/// The short hash of bytes.
#[must_use]
pub fn short_hash(bytes: &[u8]) -> ShortHash {
    let mut short = [0; 16];
    short.copy_from_slice(&crate::identity::hash(bytes).as_bytes()[..16]);
    short
}

impl Index {
    /// Adds an item, or changes its hash.
    pub fn insert(&mut self, key: Digest, hash: ShortHash) {
        let bucket = self.bucket_mut(&key);
        match bucket.place(&key) {
            Ok(at) => bucket.items[at].1 = hash,
            Err(at) => bucket.items.insert(at, (key, hash)),
        }
        bucket.digest = None;
    }

    /// Removes an item.
    pub fn remove(&mut self, key: &Digest) {
        let bucket = self.bucket_mut(key);
        if let Ok(at) = bucket.place(key) {
            bucket.items.remove(at);
        }
        bucket.digest = None;
    }

    fn bucket_mut(&mut self, key: &Digest) -> &mut Bucket {
        self.root = None;
        &mut self.buckets[usize::from(key.as_bytes()[0])]
    }

    /// The digests of all 256 buckets.
    pub fn bucket_digests(&mut self) -> Vec<[u8; 16]> {
        self.buckets.iter_mut().map(Bucket::digest).collect()
    }

    /// One digest of the whole set.
    pub fn root(&mut self) -> Digest {
        if let Some(root) = self.root {
            return root;
        }
        let root = hash_as("meshnode set root 1", &self.bucket_digests().concat());
        self.root = Some(root);
        root
    }

    /// The buckets that differ from another node's digests, as a bit map.
    pub fn differing(&mut self, theirs: &[[u8; 16]]) -> [u8; 32] {
        let mut map = [0; 32];
        for (at, bucket) in self.buckets.iter_mut().enumerate() {
            if theirs
                .get(at)
                .is_none_or(|digest| *digest != bucket.digest())
            {
                map[at / 8] |= 1 << (at % 8);
            }
        }
        map
    }

    /// Key and short hash of every item in the buckets of a bit map, by key.
    pub fn keys<'a>(&'a self, map: &'a [u8; 32]) -> impl Iterator<Item = (Digest, ShortHash)> + 'a {
        let wanted = |at: usize| map[at / 8] & (1 << (at % 8)) != 0;
        self.buckets
            .iter()
            .enumerate()
            .filter(move |(at, _)| wanted(*at))
            .flat_map(|(_, bucket)| bucket.items.iter().copied())
    }

    /// Whether an item is here with this very hash.
    #[must_use]
    pub fn has(&self, key: &Digest, hash: &ShortHash) -> bool {
        let bucket = &self.buckets[usize::from(key.as_bytes()[0])];
        bucket
            .place(key)
            .is_ok_and(|at| bucket.items[at].1 == *hash)
    }
}

impl Bucket {
    fn place(&self, key: &Digest) -> Result<usize, usize> {
        self.items.binary_search_by(|(known, _)| known.cmp(key))
    }

    fn digest(&mut self) -> [u8; 16] {
        *self.digest.get_or_insert_with(|| {
            let mut list = Vec::with_capacity(self.items.len() * 48);
            for (key, hash) in &self.items {
                list.extend_from_slice(key.as_bytes());
                list.extend_from_slice(hash);
            }
            let mut digest = [0; 16];
            digest.copy_from_slice(&hash_as("meshnode bucket 1", &list).as_bytes()[..16]);
            digest
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Digest {
        crate::identity::hash(&[n])
    }

    #[test]
    fn equal_sets_have_equal_roots_whatever_the_order() {
        let (mut a, mut b) = (Index::default(), Index::default());
        for n in 0..50 {
            a.insert(key(n), [n; 16]);
            b.insert(key(49 - n), [49 - n; 16]);
        }
        assert_eq!(a.root(), b.root());
        b.insert(key(7), [9; 16]);
        assert_ne!(a.root(), b.root());
    }

    #[test]
    fn the_difference_names_just_the_buckets_that_differ() {
        let (mut a, mut b) = (Index::default(), Index::default());
        for n in 0..50 {
            a.insert(key(n), [n; 16]);
            b.insert(key(n), [n; 16]);
        }
        b.insert(key(77), [1; 16]);
        let map = a.differing(&b.bucket_digests());
        let keys: Vec<_> = b
            .keys(&map)
            .filter(|(key, hash)| !a.has(key, hash))
            .collect();
        assert_eq!(keys, vec![(key(77), [1; 16])]);
        b.remove(&key(77));
        assert_eq!(a.differing(&b.bucket_digests()), [0; 32]);
    }
}
