//! Passes datagrams on between clients, train by train, and answers their words and the requests of STUN.
//!
//! Nothing is opened, and nobody is waited for: what the kernel has no room for is lost. Who may, and how much, is the
//! core's `Exchange`; this room brings it the datagrams.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use anyhow::Context as _;
use meshnode_protocol::io::CarryTerms;
use meshnode_protocol::peering::Socket;
use meshnode_protocol::relay::exchange::{Exchange, Report, Volume};
use meshnode_protocol::relay::frame::{Frame, HEADER_BYTES, header};
use meshnode_protocol::stun;
use meshnode_protocol::time::Moment;

use super::allowance::Allowance;
use super::sockets::{Arrival, Patience, Sockets};

/// Words that are answered in a second, of all clients: a flood of them costs a look at each and no more.
const WORDS_PER_SECOND: u32 = 10_000;
/// STUN requests that are answered in a second, of one address and of all.
const STUN_PER_SOURCE: u32 = 20;
const STUN_PER_SECOND: u32 = 1000;

/// What is carried between others; nothing at first.
#[derive(Default)]
pub(crate) struct Relay {
    carrying: Mutex<Option<Carrying>>,
    /// Whether there is anything in it, to be asked without the lock.
    carries: AtomicBool,
}

struct Carrying {
    exchange: Exchange,
    words: Allowance,
    askers: Askers,
}

impl Relay {
    /// Carries on these terms, or not at all.
    pub(crate) fn carry(&self, terms: Option<CarryTerms>) -> anyhow::Result<()> {
        let mut carrying = self.carrying();
        self.carries.store(terms.is_some(), Ordering::Relaxed);
        match (terms, &mut *carrying) {
            (None, _) => *carrying = None,
            (Some(terms), Some(carrying)) => carrying.exchange.set_terms(terms),
            (Some(terms), None) => {
                let mut secret = [0; 32];
                getrandom::fill(&mut secret).context("Failed to read randomness")?;
                *carrying = Some(Carrying {
                    exchange: Exchange::new(terms, secret),
                    words: Allowance::new(WORDS_PER_SECOND),
                    askers: Askers::default(),
                });
            }
        }
        Ok(())
    }

    /// Goes on with what was carried before the start.
    pub(crate) fn resume(&self, volume: Volume) {
        if let Some(carrying) = &mut *self.carrying() {
            carrying.exchange.resume(volume);
        }
    }

    /// Whether anything is carried.
    pub(crate) fn carries(&self) -> bool {
        self.carries.load(Ordering::Relaxed)
    }

    /// What is carried.
    pub(crate) fn report(&self, now: Moment) -> Option<Report> {
        let mut carrying = self.carrying();
        carrying
            .as_mut()
            .map(|carrying| carrying.exchange.report(now))
    }

    /// Passes on a run of frames with one header, in place. Whether it was one that a relay passes.
    pub(crate) fn pass(
        &self,
        sockets: &Sockets,
        run: &mut [u8],
        from: &Arrival,
        now: Moment,
    ) -> bool {
        let mut to = None;
        for frame in run.chunks(from.each) {
            match Frame::open(frame) {
                Some(Frame::Passed { mailbox, .. }) => to = Some(mailbox),
                Some(Frame::Word(_)) | None => return false,
            }
        }
        let mut carrying = self.carrying();
        let Some((to, Carrying { exchange, .. })) = to.zip(carrying.as_mut()) else {
            return false;
        };
        match exchange.pass(now, from.remote, to, run.len()) {
            Ok((address, sender)) => {
                drop(carrying);
                let header = header(sender);
                for frame in run.chunks_mut(from.each) {
                    frame[..HEADER_BYTES].copy_from_slice(&header);
                }
                sockets.send_train(way(address), run, from.each, Patience::Drop);
            }
            Err(reason) => {
                tracing::trace!(?reason, "not passed on");
                let words = std::iter::from_fn(|| exchange.poll_word());
                for (address, word) in words {
                    sockets.send(way(address), &[], &word.to_bytes(), Patience::Drop);
                }
            }
        }
        true
    }

    /// Takes a word of a client. Whether there was an answer to give.
    pub(crate) fn on_word(
        &self,
        sockets: &Sockets,
        word: &[u8],
        from: &Arrival,
        now: Moment,
    ) -> bool {
        let mut carrying = self.carrying();
        let Some(Carrying {
            exchange, words, ..
        }) = &mut *carrying
        else {
            return false;
        };
        if !words.one_more(now) {
            return false;
        }
        let Some(answer) = exchange.on_word(now, from.remote, word) else {
            return false;
        };
        drop(carrying);
        let way = (from.socket, from.remote);
        sockets.send(way, &[], &answer.to_bytes(), Patience::Drop);
        true
    }

    /// Takes a STUN message. Whether there was an answer to give.
    pub(crate) fn on_stun(
        &self,
        sockets: &Sockets,
        message: &[u8],
        from: &Arrival,
        now: Moment,
    ) -> bool {
        let mut carrying = self.carrying();
        let Some(Carrying { askers, .. }) = &mut *carrying else {
            return false;
        };
        if !askers.one_more(from.remote.ip(), now) {
            return false;
        }
        let Some(answer) = stun::answer(message, from.remote) else {
            return false;
        };
        drop(carrying);
        let way = (from.socket, from.remote);
        sockets.send(way, &[], &answer, Patience::Drop);
        true
    }

    fn carrying(&self) -> MutexGuard<'_, Option<Carrying>> {
        self.carrying
            .lock()
            .expect("a thread that panics with the relay in hand ends the process")
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("carries", &self.carries)
            .finish_non_exhaustive()
    }
}

/// The way to a client: by the socket of its family.
const fn way(address: SocketAddr) -> (Socket, SocketAddr) {
    (Socket::of(&address), address)
}

/// Who asked in this second, and how often.
#[derive(Debug, Default)]
struct Askers {
    second: u64,
    count: u32,
    by_source: BTreeMap<IpAddr, u32>,
}

impl Askers {
    /// Whether one more of this address may be answered. What is remembered is of one second, so it is bounded.
    fn one_more(&mut self, source: IpAddr, now: Moment) -> bool {
        let second = now.uptime_ms() / 1000;
        if self.second != second {
            *self = Self {
                second,
                ..Self::default()
            };
        }
        if self.count >= STUN_PER_SECOND {
            return false;
        }
        let asked = self.by_source.entry(source).or_default();
        if *asked >= STUN_PER_SOURCE {
            return false;
        }
        *asked += 1;
        self.count += 1;
        true
    }
}

#[cfg(test)]
mod tests;
