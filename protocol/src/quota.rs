//! How much a replica takes of one author, and how fast (`docs/protocol.md` §12.1).
//!
//! No part of what is valid: what is turned away now is asked for again later. An honest network never meets it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::body::Level;
use crate::id::{Digest, NodeId};
use crate::limits::{
    AUTHOR_BASES_MAX, AUTHOR_BYTES_MAX, AUTHOR_BYTES_PER_HOUR, AUTHOR_OPS_PER_HOUR,
    SENIOR_BYTES_MAX,
};
use crate::op::Author;

const HOUR_MS: u64 = 3_600_000;
/// One policy base in so many milliseconds.
const BASE_MS: u64 = 600_000;
/// Who has used up its room is heard again when so many bytes are free: trickles would make for rounds without end.
const REOPEN_BYTES: u64 = 64 * 1024;
/// Items that are remembered as turned away: 15 MiB of ops of the usual size. The others are asked for by every round
/// and turned away again, which costs bytes and nothing else (`docs/protocol.md` §12.1).
const TURNED_AWAY_MAX: usize = 65_536;
/// How often they are looked through when there are so many.
const SWEEP_MS: u64 = 60_000;

/// By whom and when something comes.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The device that brings it, if that is known.
    pub giver: Option<NodeId>,
    /// Uptime in milliseconds.
    pub at_ms: u64,
    /// Whether this replica fetches everything for the first time: then nothing is turned away.
    pub first: bool,
}

/// Who pays for an item: its author, and those by whose right the author is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payers(pub(crate) Vec<(Author, Level)>);

/// What weighs an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// An op of so many bytes.
    Op(usize),
    /// A policy base.
    Base(usize),
    /// An admit or a record.
    Other(usize),
}

/// What was taken of each author lately, and what was turned away.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    accounts: BTreeMap<Author, Account>,
    turned_away: BTreeMap<Digest, u64>,
    /// When those whose time is over were forgotten last.
    swept_ms: u64,
}

/// Accounts from which on those are given up that rest.
const ACCOUNTS_SWEPT: usize = 1024;

#[derive(Clone, Debug)]
struct Account {
    /// Bytes that have not leaked out yet, and as of when.
    spent: u64,
    at_ms: u64,
    /// Until when nothing is taken.
    shut_ms: u64,
    /// Until when nothing is taken of those whom this author let in.
    shut_below_ms: u64,
    /// Time that the last bases have used up, ahead of the clock.
    bases_ms: u64,
    /// The hour that is counted, and the ops in it.
    hour_ms: u64,
    ops: u32,
    told: bool,
}

impl Load {
    const fn bytes(self) -> u64 {
        match self {
            Self::Op(bytes) | Self::Base(bytes) | Self::Other(bytes) => bytes as u64,
        }
    }
}

impl Payers {
    /// The author of the item.
    #[must_use]
    pub fn author(&self) -> Option<Author> {
        self.0.first().map(|(author, _)| *author)
    }
}

impl Quota {
    /// Whether an item may be taken; else until when it may not.
    ///
    /// # Errors
    /// With the uptime in milliseconds from which on it is worth to ask for it again.
    pub fn admits(&mut self, payers: &Payers, load: Load, at_ms: u64) -> Result<(), u64> {
        let mut until = None;
        for (nth, (author, level)) in payers.0.iter().enumerate() {
            // Nobody has an account here before something of it was stored: authors can be made up.
            let Some(account) = self.accounts.get_mut(author) else {
                continue;
            };
            account.leak(at_ms);
            let own = nth == 0;
            let full = account.fits(*level, load.bytes(), at_ms, own);
            let base = matches!(load, Load::Base(_)) && own;
            let often = if base { account.base_due(at_ms) } else { None };
            until = until.max(full).max(often);
        }
        until.map_or(Ok(()), Err)
    }

    /// Takes note of what was stored.
    pub fn charge(&mut self, payers: &Payers, load: Load, at_ms: u64) {
        if self.accounts.len() >= ACCOUNTS_SWEPT {
            self.accounts.retain(|_, account| !account.rests(at_ms));
        }
        for (nth, (author, _)) in payers.0.iter().enumerate() {
            let account = self.account(author, at_ms);
            account.spent = account.spent.saturating_add(load.bytes());
            let own = nth == 0;
            match load {
                Load::Op(_) => account.ops += u32::from(own),
                Load::Base(_) => {
                    account.ops += u32::from(own);
                    let from = account.bases_ms.max(at_ms);
                    account.bases_ms = if own {
                        from.saturating_add(BASE_MS)
                    } else {
                        from
                    };
                }
                Load::Other(_) => {}
            }
        }
    }

    /// Remembers an item that was turned away.
    pub fn turn_away(&mut self, key: Digest, until_ms: u64, at_ms: u64) {
        // Not at every item: somebody may send very many.
        if self.turned_away.len() >= TURNED_AWAY_MAX && at_ms >= self.swept_ms + SWEEP_MS {
            self.swept_ms = at_ms;
            self.turned_away.retain(|_, until| *until > at_ms);
        }
        if self.turned_away.len() < TURNED_AWAY_MAX {
            self.turned_away.insert(key, until_ms);
        }
    }

    #[cfg(test)]
    pub(crate) fn remembers_one_more(&self) -> bool {
        self.turned_away.len() < TURNED_AWAY_MAX
    }

    /// Whether an item was turned away, and it is too early to ask for it again.
    #[must_use]
    pub fn is_turned_away(&self, key: &Digest, at_ms: u64) -> bool {
        self.turned_away
            .get(key)
            .is_some_and(|until| *until > at_ms)
    }

    /// Forgets an item that came after all.
    pub fn forget(&mut self, key: &Digest) {
        self.turned_away.remove(key);
    }

    /// Authors that said more in the running hour than any honest one does, and how many ops.
    pub fn floods(&self, at_ms: u64) -> impl Iterator<Item = (Author, u32)> {
        let accounts = self.accounts.iter();
        let loud = accounts.filter(move |(_, account)| account.is_loud(at_ms));
        loud.map(|(author, account)| (*author, account.ops))
    }

    /// Those of them that were not told yet.
    pub fn take_floods(&mut self, at_ms: u64) -> Vec<(Author, u32)> {
        let mut news = Vec::new();
        for (author, account) in &mut self.accounts {
            if account.is_loud(at_ms) && !std::mem::replace(&mut account.told, true) {
                news.push((*author, account.ops));
            }
        }
        news
    }

    fn account(&mut self, author: &Author, at_ms: u64) -> &mut Account {
        let account = self.accounts.entry(*author).or_insert(Account {
            spent: 0,
            at_ms,
            shut_ms: 0,
            shut_below_ms: 0,
            bases_ms: 0,
            hour_ms: at_ms,
            ops: 0,
            told: false,
        });
        account.leak(at_ms);
        account
    }
}

impl Account {
    /// Whether it says nothing that a new one would not say.
    fn rests(&mut self, at_ms: u64) -> bool {
        self.leak(at_ms);
        self.spent == 0 && self.bases_ms <= at_ms && self.ops == 0
    }

    fn leak(&mut self, at_ms: u64) {
        let passed = at_ms.saturating_sub(self.at_ms);
        let leaked = passed.saturating_mul(AUTHOR_BYTES_PER_HOUR) / HOUR_MS;
        if leaked > 0 {
            self.spent = self.spent.saturating_sub(leaked);
            // What is not a whole byte yet stays in the clock.
            self.at_ms += leaked * HOUR_MS / AUTHOR_BYTES_PER_HOUR;
        }
        if at_ms.saturating_sub(self.hour_ms) >= HOUR_MS {
            (self.hour_ms, self.ops, self.told) = (at_ms, 0, false);
        }
    }

    /// Until when there is no room; `None`: there is. Whom an author let in may fill half of its room: its own word,
    /// and the revocation of one of them before all, has the rest.
    fn fits(&mut self, level: Level, bytes: u64, at_ms: u64, own: bool) -> Option<u64> {
        let room = if level <= Level::FOUNDER {
            SENIOR_BYTES_MAX
        } else {
            AUTHOR_BYTES_MAX
        };
        let (shut_ms, room) = if own {
            (&mut self.shut_ms, room)
        } else {
            (&mut self.shut_below_ms, room / 2)
        };
        if *shut_ms > at_ms {
            return Some(*shut_ms);
        }
        if self.spent.saturating_add(bytes) <= room {
            return None;
        }
        let over = self.spent.saturating_sub(room - REOPEN_BYTES);
        let wait = over.saturating_mul(HOUR_MS).div_ceil(AUTHOR_BYTES_PER_HOUR);
        *shut_ms = at_ms.saturating_add(wait.max(1));
        Some(*shut_ms)
    }

    /// Until when no base is taken; `None`: one is now.
    fn base_due(&self, at_ms: u64) -> Option<u64> {
        let ahead = BASE_MS * (AUTHOR_BASES_MAX - 1);
        let due = self.bases_ms.saturating_sub(ahead);
        (due > at_ms).then_some(due)
    }

    fn is_loud(&self, at_ms: u64) -> bool {
        self.ops > AUTHOR_OPS_PER_HOUR && at_ms.saturating_sub(self.hour_ms) < HOUR_MS
    }
}
