//! A simulated disk: what was written, what of it survives a kill, and what survives a power cut.

use std::collections::BTreeMap;

use meshnode_protocol::id::{AdmitId, Digest, NodeId, OpId};
use meshnode_protocol::io::{Stored, Write};
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use crate::chance::below;

/// One machine's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    durable: Contents,
    /// Written, but not flushed: there after a kill, partly gone after a power cut.
    pending: Vec<Write>,
}

#[derive(Debug, Default)]
struct Contents {
    secrets: Option<Zeroizing<Vec<u8>>>,
    ops: BTreeMap<OpId, Vec<u8>>,
    admits: BTreeMap<AdmitId, Vec<u8>>,
    records: BTreeMap<Digest, Vec<u8>>,
    heads: Vec<OpId>,
    blocked: Vec<NodeId>,
}

impl Disk {
    pub(crate) fn write(&mut self, writes: Vec<Write>, flush: bool) {
        self.pending.extend(writes);
        if flush {
            self.settle();
        }
    }

    /// Everything written reaches the platter: a flush, or a kill of the process alone.
    pub(crate) fn settle(&mut self) {
        for write in std::mem::take(&mut self.pending) {
            self.durable.apply(write);
        }
    }

    /// The power fails: of what was not flushed only the first so many writes are there. Gives how many are lost.
    pub(crate) fn cut(&mut self, rng: &mut ChaCha20Rng) -> usize {
        let kept = below(rng, self.pending.len() as u64 + 1);
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        let lost = self.pending.len() - kept;
        self.pending.truncate(kept);
        self.settle();
        lost
    }

    pub(crate) fn erase(&mut self) {
        *self = Self::default();
    }

    /// Loses an op that was acknowledged: a broken disk. Gives whether there was one to lose.
    pub(crate) fn lose_newest_op(&mut self) -> bool {
        let newest = self.durable.heads.first().copied();
        newest.is_some_and(|id| self.durable.ops.remove(&id).is_some())
    }

    /// The heads that were written last.
    pub(crate) fn heads(&self) -> &[OpId] {
        let pending = self.pending.iter().rev().find_map(|write| match write {
            Write::Heads(heads) => Some(heads),
            Write::Op(..)
            | Write::Admit(..)
            | Write::DropAdmit(_)
            | Write::Record(..)
            | Write::Secrets(_)
            | Write::Blocked(_) => None,
        });
        pending.unwrap_or(&self.durable.heads)
    }

    /// What a start finds.
    pub(crate) fn stored(&self) -> Stored {
        Stored {
            secrets: self.durable.secrets.clone(),
            ops: self.durable.ops.values().cloned().collect(),
            admits: self.durable.admits.values().cloned().collect(),
            records: self.durable.records.values().cloned().collect(),
            heads: self.durable.heads.clone(),
            blocked: self.durable.blocked.clone(),
            suspect: false,
        }
    }
}

impl Contents {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Op(id, bytes) => {
                self.ops.insert(id, bytes);
            }
            Write::Admit(id, bytes) => {
                self.admits.insert(id, bytes);
            }
            Write::DropAdmit(id) => {
                self.admits.remove(&id);
            }
            Write::Record(key, bytes) => {
                self.records.insert(key, bytes);
            }
            Write::Secrets(bytes) => self.secrets = Some(bytes),
            Write::Heads(heads) => self.heads = heads,
            Write::Blocked(blocked) => self.blocked = blocked,
        }
    }
}
