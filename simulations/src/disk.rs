//! A simulated disk: what was written, what of it survives a kill, and what survives a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshnode_protocol::custody::KeptSecrets;
use meshnode_protocol::id::{AdmitId, Digest, NodeId, OpId};
use meshnode_protocol::io::{Stored, Trial, Write};
use meshnode_protocol::ledger::Ledger;
use meshnode_protocol::time::Timestamp;
use rand_chacha::ChaCha20Rng;

use crate::chance::below;
use crate::library::Pages;

/// One machine's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// What many machines of a network that has been for long have in common.
    base: Option<Arc<Base>>,
    /// What of the base this disk lost.
    lost: BTreeSet<OpId>,
    durable: Contents,
    /// Written, but not flushed: there after a kill, partly gone after a power cut.
    pending: Vec<Written>,
}

/// A write; the bytes of a record are on most disks.
#[derive(Debug)]
enum Written {
    Record(Digest, Arc<[u8]>),
    Other(Write),
}

/// Ops and records that many disks share, and the ledger that reading them gives.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) ops: BTreeMap<OpId, Vec<u8>>,
    pub(crate) records: BTreeMap<Digest, Vec<u8>>,
    pub(crate) ledger: Ledger,
}

#[derive(Debug, Default)]
struct Contents {
    secrets: Option<KeptSecrets>,
    ops: BTreeMap<OpId, Vec<u8>>,
    admits: BTreeMap<AdmitId, Vec<u8>>,
    records: BTreeMap<Digest, Arc<[u8]>>,
    heads: Vec<OpId>,
    heard: BTreeMap<OpId, Timestamp>,
    blocked: Vec<NodeId>,
    trial: Option<Trial>,
}

impl Disk {
    /// The disk of a machine that has been a member for long.
    pub(crate) fn of_a_member(base: &Arc<Base>, secrets: KeptSecrets, heads: Vec<OpId>) -> Self {
        let durable = Contents {
            secrets: Some(secrets),
            heads,
            ..Contents::default()
        };
        Self {
            base: Some(base.clone()),
            durable,
            ..Self::default()
        }
    }

    /// What of its contents was read already; not after a loss.
    pub(crate) fn read(&self) -> Option<Ledger> {
        let base = self.base.as_ref().filter(|_| self.lost.is_empty())?;
        Some(base.ledger.clone())
    }

    pub(crate) fn write(&mut self, writes: Vec<Write>, flush: bool, pages: &mut Pages) {
        self.pending
            .extend(writes.into_iter().map(|write| match write {
                Write::Record(key, bytes) => Written::Record(key, pages.shared(&bytes)),
                Write::Op(..)
                | Write::Admit(..)
                | Write::DropAdmit(_)
                | Write::DropRecord(_)
                | Write::Heads(_)
                | Write::Heard(..)
                | Write::Secrets(_)
                | Write::Blocked(_)
                | Write::Trial(_) => Written::Other(write),
            }));
        if flush {
            self.settle();
        }
    }

    /// Everything written reaches the platter: a flush, or a kill of the process alone.
    pub(crate) fn settle(&mut self) {
        for write in std::mem::take(&mut self.pending) {
            match write {
                Written::Record(key, bytes) => {
                    self.durable.records.insert(key, bytes);
                }
                Written::Other(write) => self.durable.apply(write),
            }
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
        newest.is_some_and(|id| {
            let shared = self.base.as_ref();
            let shared = shared.is_some_and(|base| base.ops.contains_key(&id));
            let lost = shared && self.lost.insert(id);
            self.durable.ops.remove(&id).is_some() || lost
        })
    }

    /// The heads that were written last.
    pub(crate) fn heads(&self) -> &[OpId] {
        let pending = self.pending.iter().rev().find_map(|write| match write {
            Written::Other(Write::Heads(heads)) => Some(heads),
            Written::Record(..) | Written::Other(_) => None,
        });
        pending.unwrap_or(&self.durable.heads)
    }

    /// What a start finds.
    pub(crate) fn stored(&self) -> Stored {
        let mut ops: Vec<_> = self.durable.ops.values().cloned().collect();
        let records = self.durable.records.values();
        let mut records: Vec<_> = records.map(|bytes| bytes.to_vec()).collect();
        // With nothing lost, the base is read as a whole.
        if let Some(base) = self.base.as_ref().filter(|_| !self.lost.is_empty()) {
            let kept = base.ops.iter().filter(|(id, _)| !self.lost.contains(id));
            ops.extend(kept.map(|(_, bytes)| bytes.clone()));
            records.extend(base.records.values().cloned());
        }
        Stored {
            secrets: self.durable.secrets.clone(),
            ops,
            admits: self.durable.admits.values().cloned().collect(),
            records,
            heads: self.durable.heads.clone(),
            heard: self
                .durable
                .heard
                .iter()
                .map(|(id, at)| (*id, *at))
                .collect(),
            blocked: self.durable.blocked.clone(),
            trial: self.durable.trial,
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
                self.records.insert(key, bytes.into());
            }
            Write::DropRecord(key) => {
                self.records.remove(&key);
            }
            Write::Secrets(bytes) => self.secrets = Some(bytes),
            Write::Heads(heads) => self.heads = heads,
            Write::Heard(id, at) => {
                self.heard.insert(id, at);
            }
            Write::Blocked(blocked) => self.blocked = blocked,
            Write::Trial(trial) => self.trial = trial,
        }
    }
}
