//! One round of reconciliation with one peer: ask until nothing differs (`docs/protocol.md` §7.3).
//!
//! Authority comes before admits, admits before records. The peer may lie or be wrong: whatever it sends is checked
//! like anything else, and a round ends after a bounded number of questions.

#[cfg(test)]
mod tests;
mod trail;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::trail::{Trail, Trod};

use crate::epochs::Epochs;
use crate::id::{Digest, OpId};
use crate::ledger::{Change, Ledger};
use crate::op::Author;
use crate::quota::Arrival;
use crate::reconcile::ShortHash;
use crate::wire::{Items, KEYS_ASKED_MAX, KEYS_SENT_MAX, Set, Summary, SyncAnswer, SyncRequest};

/// Questions of one round: enough for a million items.
const QUESTIONS_MAX: usize = 2000;

/// Of a round with a device that is no member here: enough for 16 MiB of what may let it in.
const STRANGER_QUESTIONS_MAX: usize = 64;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// One who is trusted.
    Member,
    /// A device that proved itself and has no standing here.
    Stranger,
}

/// Whether a round may go on to the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    Free,
    /// Records come from somebody else just now, most likely the same ones.
    Taken,
}

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
    turn: Turn,
    /// Whether the records were left for another round, as it was not their turn.
    gave_way: bool,
    /// Whether nothing else differs.
    records_alone: bool,
    /// Since when it compares records, uptime in milliseconds.
    records_since_ms: Option<u64>,
    /// Questions that this round may ask.
    questions_max: usize,
    /// What held ops waited for when it was last asked for, by who pays for it.
    sought: BTreeMap<Option<Author>, BTreeSet<Digest>>,
}

#[derive(Debug)]
enum Stage {
    Summary,
    Buckets(Set),
    Items(Batch),
    Trail(Trail),
}

/// What differs in one set, as far as it is known.
#[derive(Debug)]
struct Batch {
    set: Set,
    /// The buckets that differ.
    map: [u8; 32],
    /// How many keys the peer has listed of them.
    listed: u32,
    /// Whether it has more to list.
    more: bool,
    wanted: VecDeque<Digest>,
    asked: Vec<Digest>,
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
    pub fn start(ledger: &mut Ledger, asked: Asked) -> (Self, SyncRequest) {
        let pull = Self {
            stage: Stage::Summary,
            sets: VecDeque::new(),
            questions: 0,
            heads: Vec::new(),
            theirs: None,
            differed: false,
            brought: false,
            turn: Turn::Free,
            gave_way: false,
            records_alone: false,
            records_since_ms: None,
            questions_max: match asked {
                Asked::Member => QUESTIONS_MAX,
                Asked::Stranger => STRANGER_QUESTIONS_MAX,
            },
            sought: BTreeMap::new(),
        };
        (pull, SyncRequest::Summary(ledger.summary()))
    }

    /// The peer's set digests, if they differed and the round brought nothing all the same: as long as the peer has
    /// just these, it has nothing for this node.
    #[must_use]
    pub fn barren(&self) -> Option<[Digest; 3]> {
        self.theirs
            .filter(|_| self.differed && !self.brought && !self.gave_way())
    }

    /// Learns whether it may go on to the records: before every answer.
    pub const fn learn_turn(&mut self, turn: Turn) {
        self.turn = turn;
    }

    /// Whether the records were left for another round, and that is worth one soon. Where the rest differs and
    /// nothing of it is to be had, round after round would bring nothing but the suspicion that the peer wastes
    /// this node's time.
    #[must_use]
    pub const fn gave_way(&self) -> bool {
        self.gave_way && (self.brought || self.records_alone)
    }

    /// Since when it compares records, uptime in milliseconds.
    #[must_use]
    pub const fn records_since_ms(&self) -> Option<u64> {
        self.records_since_ms
    }

    /// The peer's set digests, once it told them.
    #[must_use]
    pub const fn theirs(&self) -> Option<[Digest; 3]> {
        self.theirs
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
        arrival: &Arrival,
    ) -> (Change, Step) {
        self.questions += 1;
        if self.questions > self.questions_max {
            // The rest is for the next round: who has much to tell is no liar for that.
            return (Change::default(), Step::Done);
        }
        let mut change = Change::default();
        let step = match (&self.stage, answer) {
            (Stage::Summary, SyncAnswer::Summary(theirs)) if theirs.is_bounded() => {
                self.on_summary(theirs, ledger, arrival)
            }
            (Stage::Buckets(set), SyncAnswer::Buckets(theirs)) if theirs.len() == 256 => {
                self.on_buckets(*set, &theirs, ledger, arrival)
            }
            (Stage::Items(_), SyncAnswer::Keys { keys, more }) if keys.len() <= KEYS_SENT_MAX => {
                self.on_keys(&keys, more, ledger, arrival)
            }
            (Stage::Items(_), SyncAnswer::Items(items)) => {
                let brought = items.ops.len() + items.admits.len() + items.records.len();
                change = ledger.take(&items, epochs, arrival);
                self.brought |= !change.is_empty();
                self.on_items(brought, ledger, arrival)
            }
            (Stage::Trail(_), SyncAnswer::Headers(headers)) => {
                self.on_headers(&headers, ledger, arrival)
            }
            (Stage::Trail(_), SyncAnswer::Items(items)) => {
                let (taken, step) = self.on_past(&items, ledger, arrival);
                self.brought |= !taken.is_empty();
                change = taken;
                step
            }
            (
                Stage::Summary | Stage::Buckets(_) | Stage::Items(_) | Stage::Trail(_),
                SyncAnswer::Summary(_)
                | SyncAnswer::Buckets(_)
                | SyncAnswer::Keys { .. }
                | SyncAnswer::Items(_)
                | SyncAnswer::Heard
                | SyncAnswer::Epoch(_)
                | SyncAnswer::Headers(_),
            ) => Step::Nonsense,
        };
        (change, step)
    }

    fn on_headers(&mut self, headers: &[Vec<u8>], ledger: &mut Ledger, arrival: &Arrival) -> Step {
        let Stage::Trail(trail) = &mut self.stage else {
            return Step::Nonsense;
        };
        let trod = trail.on_headers(headers, ledger);
        self.go_on(&trod, ledger, arrival)
    }

    fn on_past(&mut self, items: &Items, ledger: &mut Ledger, arrival: &Arrival) -> (Change, Step) {
        let Stage::Trail(trail) = &mut self.stage else {
            return (Change::default(), Step::Nonsense);
        };
        let (change, trod) = trail.on_items(items, ledger, arrival);
        (change, self.go_on(&trod, ledger, arrival))
    }

    /// The next question of a trail, or of the next trail, or of the next set.
    fn go_on(&mut self, trod: &Trod, ledger: &mut Ledger, arrival: &Arrival) -> Step {
        if let (Stage::Trail(trail), Trod::On) = (&mut self.stage, trod)
            && let Some(question) = trail.question(ledger)
        {
            return Step::Ask(question);
        }
        for (payers, parents) in ledger.sought(arrival.at_ms) {
            let known = self.sought.insert(payers.author(), parents.clone());
            if known.as_ref() == Some(&parents) {
                continue;
            }
            let mut trail = Trail::new(payers, parents);
            if let Some(question) = trail.question(ledger) {
                self.stage = Stage::Trail(trail);
                return Step::Ask(question);
            }
        }
        self.next_set(arrival)
    }

    fn on_summary(&mut self, theirs: Summary, ledger: &mut Ledger, arrival: &Arrival) -> Step {
        let ours = ledger.summary();
        let differs = |at: &usize| ours.roots[*at] != theirs.roots[*at];
        self.sets = (0..3).filter(differs).map(|at| Set::ALL[at]).collect();
        self.differed = !self.sets.is_empty();
        self.records_alone = self.sets == [Set::Records];
        self.theirs = Some(theirs.roots);
        self.heads = theirs.heads;
        self.next_set(arrival)
    }

    fn on_buckets(
        &mut self,
        set: Set,
        theirs: &[[u8; 16]],
        ledger: &mut Ledger,
        arrival: &Arrival,
    ) -> Step {
        let map = ledger.index(set).differing(theirs);
        if map == [0; 32] {
            return self.next_set(arrival);
        }
        self.stage = Stage::Items(Batch {
            set,
            map,
            listed: 0,
            more: false,
            wanted: VecDeque::new(),
            asked: Vec::new(),
        });
        Step::Ask(SyncRequest::Keys { set, map, skip: 0 })
    }

    fn on_keys(
        &mut self,
        keys: &[(Digest, ShortHash)],
        more: bool,
        ledger: &mut Ledger,
        arrival: &Arrival,
    ) -> Step {
        let Stage::Items(batch) = &mut self.stage else {
            return Step::Nonsense;
        };
        if !batch.wanted.is_empty() || !batch.asked.is_empty() {
            return Step::Nonsense;
        }
        for (key, hash) in keys {
            if ledger.wants(batch.set, key, hash, arrival.at_ms) {
                batch.wanted.push_back(*key);
            }
        }
        batch.listed = batch
            .listed
            .saturating_add(u32::try_from(keys.len()).unwrap_or(u32::MAX));
        batch.more = more && !keys.is_empty();
        self.ask_items(ledger, arrival)
    }

    fn on_items(&mut self, brought: usize, ledger: &mut Ledger, arrival: &Arrival) -> Step {
        let Stage::Items(batch) = &mut self.stage else {
            return Step::Nonsense;
        };
        // What did not fit into the answer is asked for again, in its order; what the peer has not is given up.
        let asked = std::mem::take(&mut batch.asked);
        if brought > 0 {
            for key in asked.into_iter().skip(brought).rev() {
                batch.wanted.push_front(key);
            }
        }
        self.ask_items(ledger, arrival)
    }

    fn next_set(&mut self, arrival: &Arrival) -> Step {
        match self.sets.pop_front() {
            Some(Set::Records) if self.turn == Turn::Taken => {
                self.gave_way = true;
                Step::Done
            }
            Some(set) => {
                if set == Set::Records {
                    self.records_since_ms = Some(arrival.at_ms);
                }
                self.stage = Stage::Buckets(set);
                Step::Ask(SyncRequest::Buckets(set))
            }
            None => Step::Done,
        }
    }

    /// Asks for the next batch; when none is left, for more keys or for the next set.
    fn ask_items(&mut self, ledger: &mut Ledger, arrival: &Arrival) -> Step {
        let Stage::Items(batch) = &mut self.stage else {
            return Step::Nonsense;
        };
        if batch.wanted.is_empty() {
            if batch.more {
                let (set, map, skip) = (batch.set, batch.map, batch.listed);
                return Step::Ask(SyncRequest::Keys { set, map, skip });
            }
            // What was turned away, but somebody's op rests on it.
            if batch.set == Set::Ops {
                return self.go_on(&Trod::Over, ledger, arrival);
            }
            return self.next_set(arrival);
        }
        let count = batch.wanted.len().min(KEYS_ASKED_MAX);
        batch.asked = batch.wanted.drain(..count).collect();
        Step::Ask(SyncRequest::Items(batch.set, batch.asked.clone()))
    }
}
