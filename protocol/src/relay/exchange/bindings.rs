//! Who is bound, and where; which addresses bind how often.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::budget::Bucket;
use crate::id::TransportKey;
use crate::limits::{
    RELAY_BINDINGS_MAX, RELAY_SOURCE_BINDINGS_MAX, RELAY_SOURCE_BINDS_PER_SECOND, RELAY_SOURCES_MAX,
};
use crate::peering::Mailbox;
use crate::relay::frame::{Reason, Txid, mailbox_of};
use crate::time::Moment;

/// A binding ends so long after its last word or datagram.
const BINDING_MS: u64 = 300_000;
/// Words of a binding that are remembered, so that an old one cannot move it back.
const TXIDS: usize = 4;

/// A client at its address.
#[derive(Debug)]
struct Binding {
    key: TransportKey,
    address: SocketAddr,
    last_ms: u64,
    /// When it may be told again that something was lost.
    tell_ms: u64,
    /// The numbers of its last BINDs; the oldest is written over.
    txids: [Option<Txid>; TXIDS],
}

/// An address without port, or the part of an IPv6 address that one customer has.
#[derive(Debug, Default)]
struct Source {
    proofs: Bucket,
    bindings: usize,
    /// Pairs with an end here.
    pairs: usize,
}

#[derive(Debug)]
pub(super) struct Bindings {
    by_mailbox: BTreeMap<Mailbox, Binding>,
    by_address: BTreeMap<SocketAddr, Mailbox>,
    sources: BTreeMap<IpAddr, Source>,
    /// Whether clients are strangers: then one source has only so many.
    open: bool,
    swept_ms: Option<u64>,
}

impl Bindings {
    pub(super) const fn new(open: bool) -> Self {
        Self {
            by_mailbox: BTreeMap::new(),
            by_address: BTreeMap::new(),
            sources: BTreeMap::new(),
            open,
            swept_ms: None,
        }
    }

    pub(super) const fn set_open(&mut self, open: bool) {
        self.open = open;
    }

    pub(super) fn has(&self, mailbox: Mailbox) -> bool {
        self.by_mailbox.contains_key(&mailbox)
    }

    fn source(&self, mailbox: Mailbox) -> Option<IpAddr> {
        let binding = self.by_mailbox.get(&mailbox)?;
        Some(source_of(binding.address.ip()))
    }

    /// Counts a pair at the sources of its ends, which it gives. At a relay for everybody, one source has only a share.
    pub(super) fn begin_pair(
        &mut self,
        ends: (Mailbox, Mailbox),
        share: usize,
    ) -> Result<[IpAddr; 2], Reason> {
        let of = |mailbox| self.source(mailbox).ok_or(Reason::NotBound);
        let sources = [of(ends.0)?, of(ends.1)?];
        let held = |source| self.sources.get(source).map_or(0, |held| held.pairs);
        if self.open && sources.iter().any(|source| held(source) >= share) {
            return Err(Reason::Full);
        }
        for source in sources {
            self.sources.entry(source).or_default().pairs += 1;
        }
        Ok(sources)
    }

    pub(super) fn end_pair(&mut self, sources: [IpAddr; 2]) {
        for source in sources {
            if let Some(held) = self.sources.get_mut(&source) {
                held.pairs = held.pairs.saturating_sub(1);
            }
        }
    }

    /// Ends every binding whose key is not to stay.
    pub(super) fn keep(&mut self, stays: impl Fn(&TransportKey) -> bool) {
        let gone = self.by_mailbox.iter().filter(|(_, b)| !stays(&b.key));
        let gone: Vec<_> = gone.map(|(mailbox, _)| *mailbox).collect();
        for mailbox in gone {
            self.remove(mailbox);
        }
    }

    /// A word of somebody: whether its address is bound, which it then stays.
    pub(super) fn renew(&mut self, from: SocketAddr, now: Moment) -> bool {
        self.use_by(from, now).is_some()
    }

    /// The mailbox that is bound at an address, which stays bound.
    pub(super) fn use_by(&mut self, from: SocketAddr, now: Moment) -> Option<Mailbox> {
        let mailbox = *self.by_address.get(&from)?;
        let binding = self.by_mailbox.get_mut(&mailbox)?;
        if !binding.is_alive(now) {
            self.remove(mailbox);
            return None;
        }
        binding.last_ms = now.uptime_ms();
        Some(mailbox)
    }

    /// Where a mailbox is bound. What comes for it does not keep it: whoever is gone must go.
    pub(super) fn use_of(&self, mailbox: Mailbox, now: Moment) -> Option<SocketAddr> {
        let binding = self.by_mailbox.get(&mailbox)?;
        binding.is_alive(now).then_some(binding.address)
    }

    /// Where an end is to be told something, unless it was told lately.
    pub(super) fn tell(
        &mut self,
        mailbox: Mailbox,
        every_ms: u64,
        now: Moment,
    ) -> Option<SocketAddr> {
        let binding = self.by_mailbox.get_mut(&mailbox)?;
        let now_ms = now.uptime_ms();
        if binding.tell_ms > now_ms {
            return None;
        }
        binding.tell_ms = now_ms + every_ms;
        Some(binding.address)
    }

    pub(super) fn count(&mut self, now: Moment) -> usize {
        self.sweep(now);
        self.by_mailbox.len()
    }

    pub(super) fn is_full(&mut self, now: Moment) -> bool {
        if self.by_mailbox.len() >= RELAY_BINDINGS_MAX {
            self.sweep(now);
        }
        self.by_mailbox.len() >= RELAY_BINDINGS_MAX
    }

    /// Whether one more signature of this source is looked at.
    pub(super) fn may_prove(&mut self, ip: IpAddr, now: Moment) -> bool {
        let source = source_of(ip);
        if self.sources.len() >= RELAY_SOURCES_MAX && !self.sources.contains_key(&source) {
            self.sweep(now);
            if self.sources.len() >= RELAY_SOURCES_MAX {
                return false;
            }
        }
        let entry = self.sources.entry(source).or_default();
        let given = entry.proofs.give_one(RELAY_SOURCE_BINDS_PER_SECOND, now);
        if let Some(proofs) = given {
            entry.proofs = proofs;
        }
        given.is_some()
    }

    /// Binds the mailbox of a key that proved itself to the address that its word came from.
    pub(super) fn bind(
        &mut self,
        key: &TransportKey,
        txid: &Txid,
        address: SocketAddr,
        now: Moment,
    ) -> Result<(), Reason> {
        let mailbox = mailbox_of(key);
        let mut txids = [None; TXIDS];
        let mut tell_ms = 0;
        if let Some(held) = self.by_mailbox.get(&mailbox) {
            if held.key != *key && held.is_alive(now) {
                return Err(Reason::NotAdmitted);
            }
            if held.key == *key {
                // Said again from the same address it is a copy of a lost word, from another an attempt to turn back.
                if held.txids.contains(&Some(*txid)) && held.address != address {
                    return Err(Reason::NotAdmitted);
                }
                (txids, tell_ms) = (held.txids, held.tell_ms);
            }
        } else if self.is_full(now) {
            return Err(Reason::Full);
        }
        if self.by_address.get(&address) != Some(&mailbox) && !self.has_share(address, mailbox) {
            return Err(Reason::Full);
        }
        if !txids.contains(&Some(*txid)) {
            txids.rotate_right(1);
            txids[0] = Some(*txid);
        }
        self.remove(mailbox);
        // The address answers for this key now: whoever had it before is not there any more.
        if let Some(before) = self.by_address.get(&address).copied() {
            self.remove(before);
        }
        let binding = Binding {
            key: *key,
            address,
            last_ms: now.uptime_ms(),
            tell_ms,
            txids,
        };
        self.by_mailbox.insert(mailbox, binding);
        self.by_address.insert(address, mailbox);
        self.sources
            .entry(source_of(address.ip()))
            .or_default()
            .bindings += 1;
        Ok(())
    }

    fn has_share(&self, address: SocketAddr, mailbox: Mailbox) -> bool {
        let source = source_of(address.ip());
        let there = self.source(mailbox) == Some(source);
        let held = self.sources.get(&source).map_or(0, |held| held.bindings);
        !self.open || held - usize::from(there) < RELAY_SOURCE_BINDINGS_MAX
    }

    fn remove(&mut self, mailbox: Mailbox) {
        let Some(binding) = self.by_mailbox.remove(&mailbox) else {
            return;
        };
        self.by_address.remove(&binding.address);
        if let Some(source) = self.sources.get_mut(&source_of(binding.address.ip())) {
            source.bindings = source.bindings.saturating_sub(1);
        }
    }

    /// Forgets what is over; at most once a second.
    fn sweep(&mut self, now: Moment) {
        let now_ms = now.uptime_ms();
        if self.swept_ms.is_some_and(|at| at + 1000 > now_ms) {
            return;
        }
        self.swept_ms = Some(now_ms);
        let over = self.by_mailbox.iter().filter(|(_, b)| !b.is_alive(now));
        let over: Vec<_> = over.map(|(mailbox, _)| *mailbox).collect();
        for mailbox in over {
            self.remove(mailbox);
        }
        self.sources
            .retain(|_, source| source.is_used() || !source.proofs.is_full(now));
    }
}

impl Binding {
    const fn is_alive(&self, now: Moment) -> bool {
        self.last_ms + BINDING_MS > now.uptime_ms()
    }
}

impl Source {
    const fn is_used(&self) -> bool {
        self.bindings > 0 || self.pairs > 0
    }
}

/// One address, or one /64: so much is one customer's.
fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let mut octets = ip.octets();
            octets[8..].fill(0);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
    }
}

#[cfg(test)]
impl Bindings {
    /// The three tables say the same.
    pub(super) fn check(&self) {
        assert_eq!(self.by_mailbox.len(), self.by_address.len());
        for (mailbox, binding) in &self.by_mailbox {
            assert_eq!(self.by_address.get(&binding.address), Some(mailbox));
            assert!(self.sources.contains_key(&source_of(binding.address.ip())));
        }
        let counted: usize = self.sources.values().map(|source| source.bindings).sum();
        assert_eq!(counted, self.by_mailbox.len());
        assert!(self.by_mailbox.len() <= RELAY_BINDINGS_MAX);
        assert!(self.sources.len() <= RELAY_SOURCES_MAX + RELAY_BINDINGS_MAX);
    }
}
