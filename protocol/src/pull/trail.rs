//! The missing past of held ops that somebody pays for: walked back by headers, then fetched from its beginning
//! (`docs/protocol.md` §7.3).
//!
//! What is turned away of a flood is not asked for, and it is not known which of it an honest op rests on. Each header
//! names its parents by their hashes, so a walk from the held op proves what it passes; depth costs bytes, not
//! questions, and nothing has to be held on the way.

use std::collections::{BTreeSet, VecDeque};

use crate::id::{Digest, OpId};
use crate::ledger::{Change, Ledger};
use crate::op::Op;
use crate::quota::{Arrival, Payers};
use crate::wire::{Items, KEYS_ASKED_MAX, Set, SyncRequest};

/// Ops of one trail that are remembered, those nearest to its beginning: more than an author has room for. What is
/// left over comes by the next trail.
const STEPS_MAX: usize = 32_768;
/// Ops whose headers are missing at one time.
const FRONTIER_MAX: usize = 16_384;

/// A trail.
#[derive(Debug)]
pub(super) struct Trail {
    /// Who pays for what authors have no room for.
    payers: Payers,
    /// Proven to be in the past of what is held, and not seen yet.
    frontier: BTreeSet<Digest>,
    /// Seen, and missing here; the newest first.
    steps: VecDeque<Digest>,
    /// The steps that the last question asked for, the oldest first.
    asked: Vec<Digest>,
}

/// Whether a trail goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trod {
    /// There may be more.
    On,
    /// The peer has nothing for it, or there is no room for more.
    Over,
}

impl Trail {
    /// Begins at the missing parents of held ops.
    pub(super) fn new(payers: Payers, parents: impl IntoIterator<Item = Digest>) -> Self {
        Self {
            payers,
            frontier: parents.into_iter().take(FRONTIER_MAX).collect(),
            steps: VecDeque::new(),
            asked: Vec::new(),
        }
    }

    /// What to ask next, if anything: headers as long as some are missing, then the ops, parents before children.
    pub(super) fn question(&mut self, ledger: &mut Ledger) -> Option<SyncRequest> {
        if !self.frontier.is_empty() {
            return Some(SyncRequest::Past {
                of: self.frontier.iter().take(KEYS_ASKED_MAX).copied().collect(),
                known: ledger.summary().heads,
            });
        }
        let count = self.steps.len().min(KEYS_ASKED_MAX);
        self.asked = self.steps.drain(self.steps.len() - count..).rev().collect();
        (count > 0).then(|| SyncRequest::Items(Set::Ops, self.asked.clone()))
    }

    /// Takes headers, children before parents. Those that nothing before them names are passed over.
    pub(super) fn on_headers(&mut self, headers: &[Vec<u8>], ledger: &Ledger) -> Trod {
        let missing = |id: &OpId| !ledger.authority.contains(id);
        let mut trod = Trod::Over;
        for bytes in headers {
            let Some((id, header)) = Op::parse_header(bytes) else {
                return Trod::Over;
            };
            let key = Digest::new(*id.as_bytes());
            if !self.frontier.remove(&key) {
                continue;
            }
            trod = Trod::On;
            if missing(&id) {
                if self.steps.len() == STEPS_MAX {
                    self.steps.pop_front();
                }
                self.steps.push_back(key);
            }
            let parents = header.parents.iter().filter(|parent| missing(parent));
            self.frontier
                .extend(parents.map(|parent| Digest::new(*parent.as_bytes())));
            if self.frontier.len() > FRONTIER_MAX {
                return Trod::Over;
            }
        }
        trod
    }

    /// Takes ops that were asked for. What did not fit into the answer is asked for again.
    pub(super) fn on_items(
        &mut self,
        items: &Items,
        ledger: &mut Ledger,
        arrival: &Arrival,
    ) -> (Change, Trod) {
        let asked = std::mem::take(&mut self.asked);
        let change = ledger.take_past(&items.ops, &asked, &self.payers, arrival);
        let brought = items.ops.len();
        self.steps.extend(asked.into_iter().skip(brought).rev());
        let more = brought > 0 && change.turned_away == 0;
        (change, if more { Trod::On } else { Trod::Over })
    }
}
