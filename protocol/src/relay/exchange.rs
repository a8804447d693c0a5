//! The end of a UDP relay that passes datagrams on (`docs/protocol.md` §8.5).
//!
//! Everything here is bounded: bindings, pairs, sources, signatures a second. A HELLO leaves nothing behind; a BIND is
//! looked at when its address has shown that it receives. A datagram that passes costs three look-ups and nothing
//! from the heap. This room does not know sockets, nor what the datagrams are.

mod bindings;
mod budget;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use subtle::ConstantTimeEq;

use self::bindings::Bindings;
use self::budget::{Bucket, Meter, Month};
use crate::id::TransportKey;
use crate::io::CarryTerms;
use crate::limits::{RELAY_BINDS_PER_SECOND, RELAY_PAIRS_MAX};
use crate::peering::Mailbox;
use crate::relay::frame::{
    Answer, Bind, COOKIE_BYTES, Cookie, MAILBOX_MIN, Question, Reason, Standing, mailbox_of,
};
use crate::time::Moment;

pub use self::budget::Volume;

/// How long cookies are made with one secret; they hold for one more such time.
const COOKIE_MS: u64 = 120_000;
/// How long a pair without a datagram keeps its place when others want it.
const PAIR_IDLE_MS: u64 = 60_000;
/// How often an end is told of lost datagrams at most.
const LIMITED_MS: u64 = 1000;
/// Words that wait to be taken at most: two of every datagram that was lost.
const WORDS_MAX: usize = 64;
/// At a relay for everybody, one address has at most one in so many of the pairs.
const SOURCE_SHARE: usize = 4;

/// A relay's table of who is where, and what may pass.
#[derive(Debug)]
pub struct Exchange {
    terms: CarryTerms,
    secret: CookieSecret,
    bindings: Bindings,
    pairs: BTreeMap<(Mailbox, Mailbox), Pair>,
    proofs: Bucket,
    total: Bucket,
    month: Month,
    meter: Meter,
    words: VecDeque<(SocketAddr, Answer)>,
    /// When the pairs were last looked through for idle ones.
    swept_ms: Option<u64>,
}

struct CookieSecret([u8; 32]);

impl std::fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieSecret(..)")
    }
}

/// Two mailboxes between which datagrams pass.
#[derive(Debug)]
struct Pair {
    bucket: Bucket,
    last_ms: u64,
    /// Bytes that the lower mailbox sent, and the higher one.
    bytes: [u64; 2],
    limited_ms: Option<u64>,
    /// Where the two were when the pair began: whose share it is.
    sources: [IpAddr; 2],
}

/// How a relay does, for its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Clients that are bound.
    pub clients: usize,
    /// Bits a second of the last ten whole seconds.
    pub rate_bps: u64,
    /// What passed in this month.
    pub volume: Volume,
    /// The pairs, by mailbox.
    pub pairs: Vec<PairReport>,
}

/// How much passes between two clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairReport {
    /// The two, the lower one first.
    pub ends: (Mailbox, Mailbox),
    /// Bytes that each of them sent.
    pub bytes: (u64, u64),
    /// Whether datagrams of the pair were lost for its rate within the last minute.
    pub limited: bool,
}

impl Exchange {
    /// A relay with empty tables. The secret must be random and of this run alone: cookies are made with it.
    #[must_use]
    pub fn new(terms: CarryTerms, secret: [u8; 32]) -> Self {
        Self {
            bindings: Bindings::new(terms.clients.is_none()),
            terms,
            secret: CookieSecret(secret),
            pairs: BTreeMap::new(),
            proofs: Bucket::default(),
            total: Bucket::default(),
            month: Month::default(),
            meter: Meter::default(),
            words: VecDeque::new(),
            swept_ms: None,
        }
    }

    /// Goes on with what passed in a month before the start.
    pub fn resume(&mut self, volume: Volume) {
        self.month.resume(volume);
    }

    /// Other terms from now on; whoever they leave out is unbound at once. A change of the key unbinds everybody.
    pub fn set_terms(&mut self, terms: CarryTerms) {
        if terms.key != self.terms.key {
            self.bindings.keep(|_| false);
        } else if let Some(clients) = &terms.clients {
            self.bindings.keep(|key| clients.contains(key));
        }
        self.bindings.set_open(terms.clients.is_none());
        self.terms = terms;
        self.end_pairs(|bindings, (low, high), _| bindings.has(*low) && bindings.has(*high));
    }

    /// Takes a word of a client (`Frame::Word`); gives the answer, for where it came from.
    pub fn on_word(&mut self, now: Moment, from: SocketAddr, bytes: &[u8]) -> Option<Answer> {
        match Question::parse(bytes)? {
            Question::Hello(txid) => {
                let bound = self.bindings.renew(from, now);
                let reason = self.closed(bound, now);
                Some(Answer::Cookie {
                    txid,
                    standing: Standing {
                        seen: from,
                        bound,
                        reason,
                    },
                    cookie: self.cookie(from, now.uptime_ms() / COOKIE_MS),
                })
            }
            Question::Bind(bind) => self.on_bind(&bind, from, now),
        }
    }

    /// Whether a datagram of so many bytes passes: if so, where it goes and the mailbox that it is from. If not, both
    /// ends may have to be told: take [`Self::poll_word`].
    ///
    /// # Errors
    /// Why it is lost.
    pub fn pass(
        &mut self,
        now: Moment,
        from: SocketAddr,
        to: Mailbox,
        bytes: usize,
    ) -> Result<(SocketAddr, Mailbox), Reason> {
        // Whoever is not bound is told nothing: its address may be somebody else's.
        let sender = self.bindings.use_by(from, now).ok_or(Reason::NotBound)?;
        let passed = self.pass_between(sender, to, bytes as u64, now);
        match passed {
            Ok(address) => Ok((address, sender)),
            Err(reason) => {
                self.tell(sender, to, reason, now);
                if reason != Reason::NotBound {
                    self.tell(to, sender, reason, now);
                }
                Err(reason)
            }
        }
    }

    /// The next word that somebody is to hear without having asked.
    #[must_use]
    pub fn poll_word(&mut self) -> Option<(SocketAddr, Answer)> {
        self.words.pop_front()
    }

    /// How the relay does.
    pub fn report(&mut self, now: Moment) -> Report {
        self.sweep(now);
        let pair = |(ends, pair): (&(Mailbox, Mailbox), &Pair)| PairReport {
            ends: *ends,
            bytes: pair.bytes.into(),
            limited: pair
                .limited_ms
                .is_some_and(|at| at + PAIR_IDLE_MS > now.uptime_ms()),
        };
        Report {
            clients: self.bindings.count(now),
            rate_bps: self.meter.rate(now),
            volume: self.month.volume(now),
            pairs: self.pairs.iter().map(pair).collect(),
        }
    }

    fn on_bind(&mut self, bind: &Bind, from: SocketAddr, now: Moment) -> Option<Answer> {
        let period = now.uptime_ms() / COOKIE_MS;
        let holds = [Some(period), period.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|period| bool::from(self.cookie(from, period).ct_eq(bind.cookie())));
        if !holds || !self.bindings.may_prove(from.ip(), now) {
            return None;
        }
        self.proofs = self.proofs.give_one(RELAY_BINDS_PER_SECOND, now)?;
        let key = bind.prove(&self.terms.key).ok()?;
        let result = match self.refusal(&key, now) {
            None => self.bindings.bind(&key, bind.txid(), from, now),
            Some(reason) => Err(reason),
        };
        Some(Answer::Bound {
            txid: *bind.txid(),
            standing: Standing {
                seen: from,
                bound: result.is_ok(),
                reason: result.err(),
            },
        })
    }

    /// Why a key is not taken, whatever else.
    fn refusal(&mut self, key: &TransportKey, now: Moment) -> Option<Reason> {
        let clients = self.terms.clients.as_ref();
        let admitted = clients.is_none_or(|clients| clients.contains(key));
        if !admitted || mailbox_of(key).0 < MAILBOX_MIN {
            return Some(Reason::NotAdmitted);
        }
        self.closed(true, now)
    }

    /// Why nothing passes for anybody now.
    fn closed(&mut self, bound: bool, now: Moment) -> Option<Reason> {
        let limit = self.terms.month_bytes;
        if self.terms.pairs == 0 {
            Some(Reason::IntroducesOnly)
        } else if limit.is_some_and(|limit| self.month.volume(now).bytes >= limit) {
            Some(Reason::Volume)
        } else if !bound && self.bindings.is_full(now) {
            Some(Reason::Full)
        } else {
            None
        }
    }

    fn cookie(&self, from: SocketAddr, period: u64) -> Cookie {
        let mut mac = blake3::Hasher::new_keyed(&self.secret.0);
        mac.update(&period.to_le_bytes());
        match from.ip().to_canonical() {
            IpAddr::V4(ip) => mac.update(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => mac.update(&ip.octets()),
        };
        mac.update(&from.port().to_le_bytes());
        let hash = mac.finalize();
        let mut cookie = [0; COOKIE_BYTES];
        cookie.copy_from_slice(&hash.as_bytes()[..COOKIE_BYTES]);
        cookie
    }

    fn pass_between(
        &mut self,
        sender: Mailbox,
        to: Mailbox,
        bytes: u64,
        now: Moment,
    ) -> Result<SocketAddr, Reason> {
        if self.terms.pairs == 0 {
            return Err(Reason::IntroducesOnly);
        }
        let address = self.bindings.use_of(to, now).filter(|_| to != sender);
        let address = address.ok_or(Reason::NotBound)?;
        let volume = self.month.volume(now).bytes;
        let limit = self.terms.month_bytes.unwrap_or(u64::MAX);
        if volume.saturating_add(bytes) > limit {
            return Err(Reason::Volume);
        }
        let (all, of_pair) = self.terms.rate;
        let total = self.total.give(bytes, all, now).ok_or(Reason::Rate)?;
        let ends = (sender.min(to), sender.max(to));
        if !self.pairs.contains_key(&ends) {
            self.begin(ends, now)?;
        }
        let pair = self.pairs.get_mut(&ends).expect("it was just begun");
        pair.last_ms = now.uptime_ms();
        let Some(bucket) = pair.bucket.give(bytes, of_pair, now) else {
            pair.limited_ms = Some(now.uptime_ms());
            return Err(Reason::PairRate);
        };
        pair.bucket = bucket;
        let sent = &mut pair.bytes[usize::from(sender != ends.0)];
        *sent = sent.saturating_add(bytes);
        self.total = total;
        self.month.add(bytes);
        self.meter.add(bytes, now);
        Ok(address)
    }

    /// Makes room for a pair and enters it.
    fn begin(&mut self, ends: (Mailbox, Mailbox), now: Moment) -> Result<(), Reason> {
        let most = self.terms.pairs.min(RELAY_PAIRS_MAX);
        if self.pairs.len() >= most {
            self.sweep(now);
        }
        if self.pairs.len() >= most {
            return Err(Reason::Full);
        }
        let share = (most / SOURCE_SHARE).max(1);
        let sources = match self.bindings.begin_pair(ends, share) {
            Err(Reason::Full) => {
                self.sweep(now);
                self.bindings.begin_pair(ends, share)?
            }
            other => other?,
        };
        let pair = Pair {
            bucket: Bucket::default(),
            last_ms: now.uptime_ms(),
            bytes: [0; 2],
            limited_ms: None,
            sources,
        };
        self.pairs.insert(ends, pair);
        Ok(())
    }

    /// Forgets pairs that are idle; at most once a second, so that a flood of pairs does not buy work.
    fn sweep(&mut self, now: Moment) {
        let now_ms = now.uptime_ms();
        if self.swept_ms.is_some_and(|at| at + 1000 > now_ms) {
            return;
        }
        self.swept_ms = Some(now_ms);
        self.end_pairs(|_, _, pair| pair.last_ms + PAIR_IDLE_MS > now_ms);
    }

    /// Ends the pairs that are not to stay.
    fn end_pairs(&mut self, stays: impl Fn(&Bindings, &(Mailbox, Mailbox), &Pair) -> bool) {
        let bindings = &mut self.bindings;
        self.pairs.retain(|ends, pair| {
            let stays = stays(bindings, ends, pair);
            if !stays {
                bindings.end_pair(pair.sources);
            }
            stays
        });
    }

    /// Tells an end that what it has with the other is lost.
    fn tell(&mut self, end: Mailbox, other: Mailbox, reason: Reason, now: Moment) {
        if self.words.len() >= WORDS_MAX || other.0 < MAILBOX_MIN {
            return;
        }
        if let Some(address) = self.bindings.tell(end, LIMITED_MS, now) {
            let mailbox = other;
            self.words
                .push_back((address, Answer::Limited { mailbox, reason }));
        }
    }
}
