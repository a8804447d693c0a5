//! The end of a UDP relay that is found by it: a client and one relay (`docs/protocol.md` §8.5).
//!
//! HELLO is the only question that is asked by the clock: it measures, renews, shows this node's address and finds out
//! whether the relay forgot. BIND follows a cookie at once. This room does not know why a relay is wanted.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;

use rand_core::Rng;

use crate::id::TransportKey;
use crate::identity::Secret;
use crate::peering::Mailbox;
use crate::relay::frame::{Answer, Bind, Cookie, Question, Reason, Standing, TXID_BYTES, Txid};
use crate::time::Moment;

/// Between two HELLOs that keep a binding, and the way through a router.
const KEEP_MS: u64 = 25_000;
/// The same while datagrams travel by it, so that a dead relay is noticed before its users give up.
const USED_MS: u64 = 1000;
/// Between two samples of a relay that is only measured.
const SAMPLE_MS: u64 = 100;
/// Samples of one measurement.
const SAMPLES: usize = 3;
/// Between two measurements.
const MEASURE_MS: u64 = 300_000;
/// Waits after HELLOs that are not answered; the last repeats.
const SILENT_MS: [u64; 9] = [200, 200, 200, 400, 800, 1600, 5000, 15_000, 60_000];
/// Silent HELLOs after which a binding counts as lost.
const SILENT_MAX: usize = 3;
/// How long a relay that refused is left alone.
const REFUSED_MS: u64 = 60_000;
/// Addresses of one relay that are tried.
const ADDRESSES_MAX: usize = 4;
/// Questions whose answers are still taken.
const FLIGHTS_MAX: usize = 16;
/// Round trips that are remembered.
const RTTS_KEPT: usize = 5;

/// What a relay is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// To be compared with others.
    Measured,
    /// To be found at, or to reach others by.
    Bound,
    /// The same, and datagrams travel by it.
    Used,
}

/// What a client wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// Send this to the relay.
    Send(SocketAddr, Vec<u8>),
    /// Datagrams can travel by the relay, or cannot any more.
    Bound(bool),
    /// The relay answered: it saw this node at an address.
    Seen(SocketAddr),
    /// The relay lost something between this node and a mailbox.
    Limited(Mailbox, Reason),
}

#[derive(Debug)]
struct Flight {
    txid: Txid,
    address: SocketAddr,
    sent_us: u64,
}

/// This node and one relay.
#[derive(Debug)]
pub struct Client {
    relay: TransportKey,
    addresses: Vec<SocketAddr>,
    /// The address that answered last.
    address: Option<SocketAddr>,
    hold: Hold,
    bound: bool,
    refused: Option<Reason>,
    flights: VecDeque<Flight>,
    /// HELLOs since the last answer.
    silent: usize,
    /// The newest round trips, the newest first, microseconds.
    rtts_us: Vec<u64>,
    /// Samples that are still to be taken.
    samples: usize,
    next_ms: u64,
    events: VecDeque<ClientEvent>,
}

impl Client {
    /// A relay that was not spoken to yet; it is at once.
    #[must_use]
    pub fn new(relay: TransportKey, hold: Hold, now: Moment) -> Self {
        Self {
            relay,
            addresses: Vec::new(),
            address: None,
            hold,
            bound: false,
            refused: None,
            flights: VecDeque::new(),
            silent: 0,
            rtts_us: Vec::new(),
            samples: SAMPLES,
            next_ms: now.uptime_ms(),
            events: VecDeque::new(),
        }
    }

    /// Where the relay is, the likeliest first; at most four are tried. One that is new is tried at once.
    pub fn set_addresses(&mut self, addresses: &[SocketAddr], now: Moment) {
        let addresses = &addresses[..addresses.len().min(ADDRESSES_MAX)];
        if self.addresses == addresses {
            return;
        }
        self.addresses = addresses.to_vec();
        if self
            .address
            .is_none_or(|address| !addresses.contains(&address))
        {
            self.restart(now);
        }
    }

    /// What the relay is for from now on.
    pub fn set_hold(&mut self, hold: Hold, now: Moment) {
        let before = std::mem::replace(&mut self.hold, hold);
        if hold >= Hold::Bound && !self.bound && before < Hold::Bound {
            // Refused or silent when it was measured: it is asked anew.
            self.silent = 0;
            self.next_ms = self.next_ms.min(now.uptime_ms());
        } else if hold == Hold::Used && before < Hold::Used {
            self.next_ms = self.next_ms.min(now.uptime_ms() + USED_MS);
        }
    }

    /// This machine has other addresses: the relay knows it at one that may be gone.
    pub fn restart(&mut self, now: Moment) {
        self.address = None;
        self.silent = 0;
        self.samples = SAMPLES;
        self.rtts_us.clear();
        self.refused = None;
        self.flights.clear();
        self.set_bound(false);
        self.next_ms = now.uptime_ms();
    }

    /// Asks now whether the relay is there: what travels by it is not answered.
    pub fn doubt(&mut self, now: Moment) {
        if self.silent == 0 {
            self.next_ms = self.next_ms.min(now.uptime_ms());
        }
    }

    /// Measures again.
    pub fn measure(&mut self, now: Moment) {
        self.samples = SAMPLES;
        if self.silent == 0 && self.hold == Hold::Measured {
            self.next_ms = self.next_ms.min(now.uptime_ms());
        }
    }

    /// Takes a word that came from one of the relay's addresses.
    pub fn on_word<R: Rng>(
        &mut self,
        (from, bytes): (SocketAddr, &[u8]),
        transport: &Secret,
        now: Moment,
        rng: &mut R,
    ) {
        match Answer::parse(bytes) {
            Some(Answer::Cookie {
                txid,
                standing,
                cookie,
            }) => {
                if let Some(flight) = self.land(&txid, from) {
                    self.sample(now.uptime_us.saturating_sub(flight.sent_us));
                    self.on_cookie(from, standing, cookie, transport, now, rng);
                }
            }
            Some(Answer::Bound { txid, standing }) => {
                if self.land(&txid, from).is_some() {
                    self.on_bound(from, standing, now);
                }
            }
            Some(Answer::Limited { mailbox, reason }) if self.bound => {
                let limited = ClientEvent::Limited(mailbox, reason);
                self.events.push_back(limited);
            }
            Some(Answer::Limited { .. }) | None => {}
        }
    }

    /// Asks what is due.
    pub fn timeout<R: Rng>(&mut self, now: Moment, rng: &mut R) {
        if self.next_ms > now.uptime_ms() || self.addresses.is_empty() {
            return;
        }
        if self.silent >= SILENT_MAX {
            self.address = None;
            self.set_bound(false);
        }
        let wait = SILENT_MS[self.silent.min(SILENT_MS.len() - 1)];
        self.silent += 1;
        self.next_ms = now.uptime_ms() + wait;
        let addresses = match self.address {
            Some(address) => vec![address],
            None => self.addresses.clone(),
        };
        for address in addresses {
            let txid = self.take_off(address, now, rng);
            let hello = Question::Hello(txid).to_bytes();
            self.events.push_back(ClientEvent::Send(address, hello));
        }
    }

    /// When [`Self::timeout`] has something to do, uptime in milliseconds.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        (!self.addresses.is_empty()).then_some(self.next_ms)
    }

    /// The next event, in order.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Where the relay is, once it answered.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// All addresses at which it may be.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether datagrams can travel by it.
    #[must_use]
    pub const fn is_bound(&self) -> bool {
        self.bound
    }

    /// Whether it had no time yet to answer, since the start or since this machine moved.
    #[must_use]
    pub const fn is_fresh(&self) -> bool {
        self.address.is_none() && self.silent <= SILENT_MAX
    }

    /// What it is for.
    #[must_use]
    pub const fn hold(&self) -> Hold {
        self.hold
    }

    /// Why it does not carry for this node, when it said so last.
    #[must_use]
    pub const fn refused(&self) -> Option<Reason> {
        self.refused
    }

    /// The smallest recent round trip, microseconds; `None` while it does not answer.
    #[must_use]
    pub fn rtt_us(&self) -> Option<u64> {
        self.address?;
        self.rtts_us.iter().min().copied()
    }

    /// Whether it answered as often as it takes to compare it.
    #[must_use]
    pub const fn is_measured(&self) -> bool {
        self.samples == 0
    }

    fn on_cookie<R: Rng>(
        &mut self,
        from: SocketAddr,
        standing: Standing,
        cookie: Cookie,
        transport: &Secret,
        now: Moment,
        rng: &mut R,
    ) {
        self.hear(from, standing, now);
        if self.hold == Hold::Measured || standing.bound {
            self.set_bound(standing.bound && standing.reason.is_none());
            return;
        }
        if standing.reason.is_some() {
            self.set_bound(false);
            return;
        }
        // Not bound (yet, or any more): what the relay forgot it is told at once.
        let txid = self.take_off(from, now, rng);
        let bind = Bind::sign(transport, &self.relay, cookie, txid);
        let bind = Question::Bind(bind).to_bytes();
        self.events.push_back(ClientEvent::Send(from, bind));
        self.next_ms = now.uptime_ms() + SILENT_MS[0];
    }

    fn on_bound(&mut self, from: SocketAddr, standing: Standing, now: Moment) {
        self.hear(from, standing, now);
        self.set_bound(standing.bound);
    }

    /// The relay is there.
    fn hear(&mut self, from: SocketAddr, standing: Standing, now: Moment) {
        self.address = Some(from);
        self.silent = 0;
        self.refused = standing.reason;
        self.events.push_back(ClientEvent::Seen(standing.seen));
        let wait = match self.hold {
            _ if self.samples > 0 => SAMPLE_MS,
            Hold::Measured => MEASURE_MS,
            Hold::Bound | Hold::Used if self.refused.is_some() => REFUSED_MS,
            Hold::Bound => KEEP_MS,
            Hold::Used => USED_MS,
        };
        self.next_ms = now.uptime_ms() + wait;
    }

    fn set_bound(&mut self, bound: bool) {
        if self.bound != bound {
            self.bound = bound;
            self.events.push_back(ClientEvent::Bound(bound));
        }
    }

    fn sample(&mut self, rtt_us: u64) {
        self.rtts_us.truncate(RTTS_KEPT - 1);
        self.rtts_us.insert(0, rtt_us);
        self.samples = self.samples.saturating_sub(1);
    }

    fn take_off<R: Rng>(&mut self, address: SocketAddr, now: Moment, rng: &mut R) -> Txid {
        let mut txid = [0; TXID_BYTES];
        rng.fill_bytes(&mut txid);
        if self.flights.len() >= FLIGHTS_MAX {
            self.flights.pop_front();
        }
        self.flights.push_back(Flight {
            txid,
            address,
            sent_us: now.uptime_us,
        });
        txid
    }

    fn land(&mut self, txid: &Txid, from: SocketAddr) -> Option<Flight> {
        let ours = |flight: &Flight| flight.txid == *txid && flight.address == from;
        let at = self.flights.iter().position(ours)?;
        self.flights.remove(at)
    }
}
