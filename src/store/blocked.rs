//! The devices that a person blocked: a small file that, unlike the heads, nobody can give back.

use std::path::Path;

use meshnode_protocol::id::{NodeId, PublicKey};

use super::fault::StoreError;
use super::sealed::SealedFile;

const BLOCKED: SealedFile = SealedFile::new("blocked", *b"meshblok");

/// Reads the list; empty when there is none. A damaged one is an error: nobody is let in again by rot.
pub(super) fn read(dir: &Path) -> Result<Vec<NodeId>, StoreError> {
    let bytes = match BLOCKED.read_or_old(dir) {
        Ok(None) => return Ok(Vec::new()),
        Ok(Some(read)) => read.bytes,
        Err(StoreError::Keys { reason, .. }) => return Err(BLOCKED.rotten(dir, reason)),
        Err(other) => return Err(other),
    };
    let (ids, tail) = bytes.as_chunks::<32>();
    let parsed = ids.iter().map(|id| PublicKey::parse(*id).map(NodeId::new));
    let parsed: Result<Vec<_>, _> = parsed.collect();
    parsed
        .ok()
        .filter(|_| tail.is_empty())
        .ok_or_else(|| BLOCKED.rotten(dir, "it holds what is no node"))
}

/// Writes the list.
pub(super) fn write(dir: &Path, ids: &[NodeId]) -> Result<(), StoreError> {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
    BLOCKED.replace(dir, &bytes)
}

/// Removes the list.
pub(super) fn erase(dir: &Path) -> Result<(), StoreError> {
    BLOCKED.erase(dir)
}
