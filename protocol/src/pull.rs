//! One round of reconciliation with one peer: ask until nothing differs (`docs/protocol.md` §7.3).
//!
//! Authority comes before admits, admits before records. The peer may lie or be wrong: whatever it sends is checked
//! like anything else, and a round ends after [`QUESTIONS_MAX`] questions.

use std::collections::VecDeque;

use crate::epochs::Epochs;
use crate::id::{Digest, OpId};
use crate::ledger::{Change, Ledger};
use crate::wire::{KEYS_ASKED_MAX, KEYS_SENT_MAX, Set, Summary, SyncAnswer, SyncRequest};

/// Questions of one round: enough for a million items.
const QUESTIONS_MAX: usize = 2000;

/// A round with one peer.
#[derive(Debug)]
pub struct Pull {
    stage: Stage,
    sets: VecDeque<Set>,
    questions: usize,
    heads: Vec<OpId>,
    theirs: Option<[Digest; 3]>,
    differed: bool,
    brought: bool,
}

#[derive(Debug)]
enum Stage {
    Summary,
    Buckets(Set),
    Items {
        set: Set,
        asked: Vec<Digest>,
        wanted: VecDeque<Digest>,
        more: bool,
        map: [u8; 32],
    },
}

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// Ask this.
    Ask(SyncRequest),
    /// Nothing differs any more, as far as this peer could help.
    Done,
    /// The peer's answer fits no question.
    Nonsense,
}

impl Pull {
    /// Starts a round.
    pub fn start(ledger: &mut Ledger) -> (Self, SyncRequest) {
        let pull = Self {
            stage: Stage::Summary,
            sets: VecDeque::new(),
            questions: 0,
            heads: Vec::new(),
            theirs: None,
            differed: false,
            brought: false,
        };
        (pull, SyncRequest::Summary(ledger.summary()))
    }

    /// The peer's set digests, if they differed and the round brought nothing all the same: as long as the peer has
    /// just these, it has nothing for this node.
    #[must_use]
    pub fn barren(&self) -> Option<[Digest; 3]> {
        self.theirs.filter(|_| self.differed && !self.brought)
    }

    /// Whether the round brought anything.
    #[must_use]
    pub const fn brought(&self) -> bool {
        self.brought
    }

    /// The peer's heads, once it told them.
    #[must_use]
    pub fn heads(&self) -> &[OpId] {
        &self.heads
    }

    /// Takes an answer: inserts what it brings and says what comes next.
    pub fn answer(
        &mut self,
        answer: SyncAnswer,
        ledger: &mut Ledger,
        epochs: &Epochs,
    ) -> (Change, Step) {
        self.questions += 1;
        if self.questions > QUESTIONS_MAX {
            return (Change::default(), Step::Nonsense);
        }
        let mut change = Change::default();
        let step = match (&mut self.stage, answer) {
            (Stage::Summary, SyncAnswer::Summary(theirs)) if theirs.is_bounded() => {
                self.compare(&ledger.summary(), theirs)
            }
            (Stage::Buckets(set), SyncAnswer::Buckets(theirs)) if theirs.len() == 256 => {
                let set = *set;
                self.look_into(set, ledger.index(set).differing(&theirs))
            }
            (
                Stage::Items {
                    set,
                    wanted,
                    more,
                    map,
                    ..
                },
                SyncAnswer::Keys {
                    keys,
                    more: there_is_more,
                },
            ) if wanted.is_empty() && keys.len() <= KEYS_SENT_MAX => {
                let (set, map) = (*set, *map);
                let index = ledger.index(set);
                wanted.extend(
                    keys.iter()
                        .filter(|(key, hash)| !index.has(key, hash))
                        .map(|k| k.0),
                );
                *more = there_is_more && !wanted.is_empty();
                self.ask_items(set, map)
            }
            (
                Stage::Items {
                    set,
                    map,
                    asked,
                    wanted,
                    ..
                },
                SyncAnswer::Items(items),
            ) => {
                let (set, map) = (*set, *map);
                let brought = items.ops.len() + items.admits.len() + items.records.len();
                // What did not fit into the answer is asked for again, in its order.
                for key in asked.drain(..).skip(brought).rev() {
                    wanted.push_front(key);
                }
                change = ledger.insert(&items, epochs);
                self.brought |= !change.is_empty();
                if brought > 0 {
                    self.ask_items(set, map)
                } else {
                    self.next_set()
                }
            }
            (Stage::Summary | Stage::Buckets(_) | Stage::Items { .. }, _) => Step::Nonsense,
        };
        (change, step)
    }

    fn compare(&mut self, ours: &Summary, theirs: Summary) -> Step {
        let differs = |at: &usize| ours.roots[*at] != theirs.roots[*at];
        self.sets = (0..3).filter(differs).map(|at| Set::ALL[at]).collect();
        self.differed = !self.sets.is_empty();
        self.theirs = Some(theirs.roots);
        self.heads = theirs.heads;
        self.next_set()
    }

    /// Asks for the keys in the buckets that differ.
    fn look_into(&mut self, set: Set, map: [u8; 32]) -> Step {
        if map == [0; 32] {
            return self.next_set();
        }
        self.stage = Stage::Items {
            set,
            asked: Vec::new(),
            wanted: VecDeque::new(),
            more: false,
            map,
        };
        Step::Ask(SyncRequest::Keys(set, map))
    }

    fn next_set(&mut self) -> Step {
        match self.sets.pop_front() {
            Some(set) => {
                self.stage = Stage::Buckets(set);
                Step::Ask(SyncRequest::Buckets(set))
            }
            None => Step::Done,
        }
    }

    /// Asks for the next batch; when none is left, for more keys or for the next set.
    fn ask_items(&mut self, set: Set, map: [u8; 32]) -> Step {
        let Stage::Items {
            wanted,
            more,
            asked,
            ..
        } = &mut self.stage
        else {
            return Step::Nonsense;
        };
        if wanted.is_empty() {
            if *more {
                *more = false;
                return Step::Ask(SyncRequest::Keys(set, map));
            }
            return self.next_set();
        }
        *asked = wanted.drain(..wanted.len().min(KEYS_ASKED_MAX)).collect();
        Step::Ask(SyncRequest::Items(set, asked.clone()))
    }
}
