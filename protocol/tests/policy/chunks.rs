//! Chunks of Automerge's format, byte by byte.

use meshnode_protocol::id::NodeId;
use sha2::{Digest, Sha256};

/// A chunk of any type around a body, with a sound checksum.
pub(crate) fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut framed = vec![kind];
    framed.extend(uleb(body.len() as u64));
    framed.extend(body);
    let hash = Sha256::digest(&framed);
    [&[0x85, 0x6F, 0x4A, 0x83][..], &hash[..4], &framed].concat()
}

pub(crate) fn uleb(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = number > 0x7F;
        bytes.push((number & 0x7F) as u8 | if more { 0x80 } else { 0 });
        number >>= 7;
        if !more {
            return bytes;
        }
    }
}

pub(crate) fn sleb(mut number: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7F) as u8;
        number >>= 7;
        let done = (number == 0 && low & 0x40 == 0) || (number == -1 && low & 0x40 != 0);
        bytes.push(if done { low } else { low | 0x80 });
        if done {
            return bytes;
        }
    }
}

/// The body of a chunk of ours: what stands behind the magic, the checksum, the type and the length.
pub(crate) fn body(bytes: &[u8]) -> &[u8] {
    let length = bytes[9..].iter().position(|byte| byte & 0x80 == 0).unwrap();
    &bytes[10 + length..]
}

/// An actor of an author.
pub(crate) fn actor(by: &NodeId, number: u8) -> [u8; 16] {
    let mut actor = [number; 16];
    let hash = blake3::derive_key("meshnode policy actor 1", by.as_bytes());
    actor[..8].copy_from_slice(&hash[..8]);
    actor
}
