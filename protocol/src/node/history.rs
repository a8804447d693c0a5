//! What this node tells of its stored set, and what it takes from a file: exports, imports, the history.

use std::collections::{BTreeMap, VecDeque};

use super::Node;
use super::net::{Net, Phase};
use crate::authority::Authority;
use crate::export;
use crate::history::{Event, events, names};
use crate::id::{NodeId, OpId, TransportKey};
use crate::io::{CommandId, Imported, Notice, Refusal, Reply, Write};
use crate::ledger::Change;
use crate::name::NodeName;
use crate::time::{Moment, Timestamp};
use crate::wire::Items;

/// How often the transport key of a device may change in an hour; more is two machines that answer in turn.
const FLIPS_MAX: usize = 3;
const HOUR_MS: u64 = 3_600_000;

/// The history as this node has it.
#[derive(Debug)]
pub struct History<'a> {
    /// The stored set.
    pub authority: &'a Authority,
    /// What happened, causes first.
    pub events: Vec<Event<'a>>,
    /// When this node stored an op, by its own clock; not known of those from before it took note.
    pub heard: &'a BTreeMap<OpId, Timestamp>,
    /// What each device is called.
    pub names: BTreeMap<NodeId, NodeName>,
    /// How many ops are stored: those that come later are at this place and behind it.
    pub ops: usize,
}

impl Node {
    /// All that is stored, as a file; `None` while this node is in no network.
    #[must_use]
    pub fn export(&self) -> Option<Vec<u8>> {
        self.told().map(|net| export::write(&net.ledger))
    }

    /// What happened in the network, without the first `skip` ops that were stored here; `None` while this node is
    /// in none.
    #[must_use]
    pub fn history(&self, skip: usize) -> Option<History<'_>> {
        let net = self.told()?;
        Some(History {
            authority: net.authority(),
            events: events(net.authority(), &net.view, skip),
            heard: &net.heard,
            names: names(net.authority(), &net.view),
            ops: net.authority().op_count(),
        })
    }

    fn told(&self) -> Option<&Net> {
        let net = self.net.as_ref()?;
        match net.phase {
            Phase::Open | Phase::Recovering { .. } => Some(net),
            Phase::CatchingUp { .. } => None,
        }
    }

    /// Takes items out of a file, records as they are signed. Each is checked as if a stranger had sent it.
    pub(super) fn import(
        &mut self,
        command: CommandId,
        items: &Items,
        now: Moment,
    ) -> Result<(), Refusal> {
        if let Some(reason) = &self.disk_failure {
            return Err(Refusal::Disk(reason.clone()));
        }
        if self.told().is_none() {
            return Err(Refusal::NotReady);
        }
        let Some(net) = &mut self.net else {
            return Err(Refusal::NotReady);
        };
        let mut change = Change::default();
        for bytes in &items.ops {
            net.ledger.insert_op(bytes, &mut change);
        }
        for bytes in &items.admits {
            net.ledger.insert_admit(bytes, &mut change);
        }
        for bytes in &items.records {
            net.ledger.insert_record(bytes, &mut change);
        }
        let count = |kind: fn(&Write) -> bool| change.writes.iter().filter(|w| kind(w)).count();
        let imported = Imported {
            ops: count(|write| matches!(write, Write::Op(..))),
            admits: count(|write| matches!(write, Write::Admit(..))),
            records: count(|write| matches!(write, Write::Record(..))),
            refused: change.refused,
        };
        let news = !change.is_empty();
        self.absorb(change, true, now);
        if news {
            self.plan_round(now);
            self.recovered_by_file(now);
        }
        self.reply(command, Reply::Imported(imported));
        Ok(())
    }

    /// The lost ops are back, whoever brought them: their ids were on this node's own disk.
    fn recovered_by_file(&mut self, now: Moment) {
        let Some(net) = &mut self.net else { return };
        let back = match &net.phase {
            Phase::Recovering { goal } => !goal.is_empty() && net.goal_is_met(),
            Phase::Open | Phase::CatchingUp { .. } => false,
        };
        if back && net.ledger.names(&self.id) {
            net.phase = Phase::Open;
            self.notice(Notice::Recovered);
            self.open(now);
        }
    }

    /// Takes note of when the ops among writes came; gives what to write for it.
    pub(super) fn note_heard(&mut self, writes: &[Write], now: Moment) -> Vec<Write> {
        let Some(net) = &mut self.net else {
            return Vec::new();
        };
        let mut notes = Vec::new();
        for write in writes {
            if let Write::Op(id, _) = write {
                net.heard.entry(*id).or_insert_with(|| {
                    notes.push(Write::Heard(*id, now.wall));
                    now.wall
                });
            }
        }
        notes
    }

    /// Takes note of the transport keys that devices show.
    pub(super) fn note_keys<'a>(
        &mut self,
        devices: impl IntoIterator<Item = &'a NodeId>,
        now: Moment,
    ) {
        let Some(net) = &mut self.net else { return };
        for device in devices {
            if let Some(node) = net.ledger.records.node(device) {
                net.flips.note(*device, node.transport.key, now.uptime_ms());
            }
        }
    }
}

/// How often devices changed their transport key lately.
#[derive(Debug, Default)]
pub(super) struct Flips(BTreeMap<NodeId, Shown>);

#[derive(Debug)]
struct Shown {
    key: TransportKey,
    /// When it changed, uptime in milliseconds: the last few times.
    changes: VecDeque<u64>,
}

impl Flips {
    fn note(&mut self, device: NodeId, key: TransportKey, at_ms: u64) {
        let shown = self.0.entry(device).or_insert_with(|| Shown {
            key,
            changes: VecDeque::new(),
        });
        if shown.key == key {
            return;
        }
        shown.key = key;
        shown.changes.push_back(at_ms);
        if shown.changes.len() > FLIPS_MAX + 1 {
            shown.changes.pop_front();
        }
    }

    /// Devices of which two machines answer in turn.
    pub(super) fn cloned(&self, at_ms: u64) -> impl Iterator<Item = &NodeId> {
        let cloned = move |shown: &Shown| {
            let first = shown.changes.front();
            shown.changes.len() > FLIPS_MAX
                && first.is_some_and(|first| at_ms.saturating_sub(*first) <= HOUR_MS)
        };
        let found = self.0.iter().filter(move |(_, shown)| cloned(shown));
        found.map(|(device, _)| device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Secret;

    #[test]
    fn a_device_whose_key_flips_more_than_thrice_an_hour_is_a_clone_until_it_rests() {
        let device = NodeId::new(Secret::from_seed(&[1; 32]).public());
        let keys = [2, 3].map(|seed| TransportKey::new(Secret::from_seed(&[seed; 32]).public()));
        let mut flips = Flips::default();
        for turn in 0..4 {
            flips.note(device, keys[turn % 2], turn as u64 * 60_000);
            flips.note(device, keys[turn % 2], turn as u64 * 60_000 + 1);
        }
        assert_eq!(flips.cloned(240_000).count(), 0, "three changes are few");
        flips.note(device, keys[0], 240_000);
        assert_eq!(flips.cloned(240_000).collect::<Vec<_>>(), [&device]);
        assert_eq!(flips.cloned(60_000 + HOUR_MS).count(), 1);
        assert_eq!(flips.cloned(60_001 + HOUR_MS).count(), 0);
    }
}
