//! The flows of one peer: what was let through, who opened it, and how long it is remembered. It judges nothing.
//!
//! Every flow is in one queue per [`Stage`], the least recently used first; all flows of a queue have the same
//! timeout, so time passes in constant work, and so does making room.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Flows that every peer may have whatever others do.
pub(super) const FLOWS_OWN: usize = 64;
/// Flows of one peer at most, so that none takes the whole pool.
pub(super) const FLOWS_PEER_MAX: usize = 16_384;
/// Flows that all peers together may have beyond their own [`FLOWS_OWN`].
pub(super) const FLOWS_POOL: usize = 65_536;

/// A table is made smaller when less than one part in this of its room is used.
const SHRINK_AT: usize = 4;

/// The end of a queue.
const NONE: u32 = u32::MAX;

/// Which way a packet goes, seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Direction {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// What the packets of one flow have in common, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    local: Ipv6Addr,
    remote: Ipv6Addr,
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    pub(super) protocol: u8,
    /// Which way the requests of an echo go; both ends may use one identifier.
    echo: Option<Direction>,
}

impl Key {
    /// The flow of a protocol between two ends; ports are 0 where there are none.
    pub(super) fn new(protocol: u8, local: (IpAddr, u16), remote: (IpAddr, u16)) -> Self {
        Self {
            local: wide(local.0),
            remote: wide(remote.0),
            local_port: local.1,
            remote_port: remote.1,
            protocol,
            echo: None,
        }
    }

    /// The flow of an echo whose requests go in a direction.
    pub(super) fn echo(
        protocol: u8,
        local: IpAddr,
        remote: IpAddr,
        id: u16,
        requests: Direction,
    ) -> Self {
        Self {
            echo: Some(requests),
            ..Self::new(protocol, (local, id), (remote, 0))
        }
    }
}

const fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// How far a flow is, in the order in which flows are given up when room is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// TCP after a reset, or after both ends finished.
    Closing,
    /// TCP before both ends spoke.
    Opening,
    /// UDP and SCTP that were not answered.
    Asked,
    /// Echoes.
    Echo,
    /// Protocols without ports.
    Other,
    /// UDP and SCTP that were answered.
    Answered,
    /// TCP that both ends hold for open.
    Established,
}

impl Stage {
    pub(super) const ALL: [Self; 7] = [
        Self::Closing,
        Self::Opening,
        Self::Asked,
        Self::Echo,
        Self::Other,
        Self::Answered,
        Self::Established,
    ];

    /// How long a flow is remembered after its last packet.
    pub(super) const fn timeout_ms(self) -> u64 {
        match self {
            // RFC 5382 §5: transitory connections at least 4 min, established ones at least 2 h 4 min.
            Self::Closing | Self::Opening => 240_000,
            Self::Established => 7_440_000,
            // RFC 4787 §4.3: at least 2 min, 5 min recommended.
            Self::Asked => 120_000,
            Self::Answered | Self::Other => 300_000,
            // RFC 5508 §3.2: at least 60 s.
            Self::Echo => 60_000,
        }
    }
}

/// A flow that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// Which way its first packet went: by that it was judged, and is judged again.
    pub(super) opened: Direction,
    pub(super) stage: Stage,
    /// Whether the other end than the opener spoke.
    pub(super) answered: bool,
    /// Which ends finished: the opener, the other.
    pub(super) finished: [bool; 2],
    /// Ended by a policy; kept so that its packets are not taken for those of a new flow.
    pub(super) ended: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: Key,
    flow: Flow,
    used_ms: u64,
    before: u32,
    after: u32,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    oldest: u32,
    newest: u32,
}

impl Queue {
    const EMPTY: Self = Self {
        oldest: NONE,
        newest: NONE,
    };
}

/// Where in its table a flow is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u32);

/// What all peers share: the room beyond their own.
#[derive(Debug)]
pub(crate) struct Pool(AtomicUsize);

impl Pool {
    /// Room for this many flows.
    pub(super) const fn new(room: usize) -> Self {
        Self(AtomicUsize::new(room))
    }

    fn take(&self) -> bool {
        let less = |room: usize| room.checked_sub(1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }

    fn give(&self, rooms: usize) {
        self.0.fetch_add(rooms, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new(FLOWS_POOL)
    }
}

/// The flows of one peer.
#[derive(Debug)]
pub(super) struct Flows {
    /// Its hash is keyed at random: who chooses ports cannot choose collisions.
    index: HashMap<Key, u32>,
    slots: Vec<Slot>,
    /// Slots that are free, one after another by `after`.
    free: u32,
    queues: [Queue; Stage::ALL.len()],
    pool: Arc<Pool>,
    /// The latest time that was told: two threads tell it, not quite in order.
    now_ms: u64,
}

impl Flows {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self {
            index: HashMap::new(),
            slots: Vec::new(),
            free: NONE,
            queues: [Queue::EMPTY; Stage::ALL.len()],
            pool,
            now_ms: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The flow of a key, if it is remembered still, and where it is: until the next change of the table.
    pub(super) fn find(&mut self, key: &Key, now_ms: u64) -> Option<(Place, Flow)> {
        self.now_ms = self.now_ms.max(now_ms);
        let at = *self.index.get(key)?;
        if self.is_over(at) {
            self.remove(at);
            return None;
        }
        Some((Place(at), self.slot(at).flow))
    }

    /// A packet of a flow that was found: its state from now on.
    pub(super) fn renew(&mut self, place: Place, flow: Flow) {
        self.unlink(place.0);
        let used_ms = self.now_ms;
        let slot = self.slot_mut(place.0);
        slot.flow = flow;
        slot.used_ms = used_ms;
        self.link(place.0);
    }

    /// Remembers a flow that was not found; may give up others of this peer.
    pub(super) fn open(&mut self, key: Key, flow: Flow) {
        self.make_room();
        let slot = Slot {
            key,
            flow,
            used_ms: self.now_ms,
            before: NONE,
            after: NONE,
        };
        let at = if self.free == NONE {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).expect("FLOWS_PEER_MAX is far below")
        } else {
            let at = self.free;
            self.free = self.slot(at).after;
            *self.slot_mut(at) = slot;
            at
        };
        self.index.insert(key, at);
        self.link(at);
    }

    /// Looks at every flow again; it stays in its stage.
    pub(super) fn judge(&mut self, mut judge: impl FnMut(&Key, &mut Flow)) {
        for stage in Stage::ALL {
            let mut at = self.queues[stage as usize].oldest;
            while at != NONE {
                let slot = self.slot_mut(at);
                judge(&slot.key, &mut slot.flow);
                at = slot.after;
            }
        }
    }

    /// Forgets what was silent for too long.
    pub(super) fn expire(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        for stage in Stage::ALL {
            while let Some(at) = self.oldest(stage)
                && self.is_over(at)
            {
                self.remove(at);
            }
        }
        self.shrink();
    }

    fn oldest(&self, stage: Stage) -> Option<u32> {
        let at = self.queues[stage as usize].oldest;
        (at != NONE).then_some(at)
    }

    fn is_over(&self, at: u32) -> bool {
        let slot = self.slot(at);
        self.now_ms.saturating_sub(slot.used_ms) >= slot.flow.stage.timeout_ms()
    }

    /// Gives up this peer's own flows until it may have one more.
    fn make_room(&mut self) {
        while self.len() >= FLOWS_OWN {
            if self.len() < FLOWS_PEER_MAX && self.pool.take() {
                return;
            }
            let worst = Stage::ALL.into_iter().find_map(|stage| self.oldest(stage));
            self.remove(worst.expect("every flow is in a queue"));
        }
    }

    fn remove(&mut self, at: u32) {
        self.unlink(at);
        let key = self.slot(at).key;
        self.index.remove(&key);
        self.slot_mut(at).after = self.free;
        self.free = at;
        if self.len() >= FLOWS_OWN {
            self.pool.give(1);
        }
    }

    /// Gives memory back after a flood: a new table with what is left, in the same order.
    fn shrink(&mut self) {
        if self.slots.len() <= FLOWS_OWN || self.len() * SHRINK_AT >= self.slots.len() {
            return;
        }
        let old = std::mem::take(&mut self.slots);
        let queues = std::mem::replace(&mut self.queues, [Queue::EMPTY; Stage::ALL.len()]);
        self.index = HashMap::with_capacity(self.index.len());
        self.free = NONE;
        for queue in queues {
            let mut next = queue.oldest;
            while next != NONE {
                let slot = old[next as usize];
                let at = u32::try_from(self.slots.len()).expect("fewer than there were");
                self.slots.push(slot);
                self.index.insert(slot.key, at);
                self.link(at);
                next = slot.after;
            }
        }
    }

    /// Puts a slot at the newest end of its stage's queue.
    fn link(&mut self, at: u32) {
        let stage = self.slot(at).flow.stage as usize;
        let newest = std::mem::replace(&mut self.queues[stage].newest, at);
        if newest == NONE {
            self.queues[stage].oldest = at;
        } else {
            self.slot_mut(newest).after = at;
        }
        let slot = self.slot_mut(at);
        slot.before = newest;
        slot.after = NONE;
    }

    fn unlink(&mut self, at: u32) {
        let Slot {
            before,
            after,
            flow,
            ..
        } = *self.slot(at);
        let stage = flow.stage as usize;
        if before == NONE {
            self.queues[stage].oldest = after;
        } else {
            self.slot_mut(before).after = after;
        }
        if after == NONE {
            self.queues[stage].newest = before;
        } else {
            self.slot_mut(after).before = before;
        }
    }

    fn slot(&self, at: u32) -> &Slot {
        &self.slots[at as usize]
    }

    fn slot_mut(&mut self, at: u32) -> &mut Slot {
        &mut self.slots[at as usize]
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.pool.give(self.len().saturating_sub(FLOWS_OWN));
    }
}

#[cfg(test)]
mod tests;
