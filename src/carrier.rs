//! Datagrams between the engine and the streams of the control plane: a bounded queue each way for every circuit.
//!
//! The engine's threads put and take without waiting; a stream's task drains its [`Queue`]. Nobody waits for a slow
//! end: what has no room, or waited too long, is lost, the oldest first. Handshakes and probes have a place of their
//! own, go first and are not lost for age: without them a circuit would never be found good again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use meshnode_protocol::peering::CircuitId;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::clock::Clock;

/// Datagrams with packets that wait for a stream at most (`docs/protocol.md` §8.6).
const OUTGOING_MAX: usize = 64;
/// Datagrams with packets from one circuit that wait for the engine: what one read of a fast stream brings, and more.
const ARRIVED_MAX: usize = 256;
/// Handshakes and probes that wait in one queue at most.
const URGENT_MAX: usize = 16;
/// How long a datagram with a packet is worth sending.
const AGE_US_MAX: u64 = 50_000;
/// Datagrams that [`Queue::next`] gives at once, so that what a stream still writes is a part of the bound too.
const BATCH_MAX: usize = 32;
/// Bytes of the largest datagram: its length goes in two bytes.
const DATAGRAM_BYTES_MAX: usize = u16::MAX as usize;
/// The first byte of a WireGuard message that carries a packet.
const WIREGUARD_DATA: u8 = 4;

/// Datagrams that circuits lost, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// For want of room.
    pub room: u64,
    /// For age.
    pub age: u64,
    /// On a circuit that does not stand any more.
    pub closed: u64,
}

/// All circuits that stand; a handle, of which the engine and the streams have one each.
#[derive(Clone)]
pub struct Carrier(Arc<Shared>);

struct Shared {
    circuits: Mutex<Circuits>,
    /// Readable while something arrived.
    arrived: EventFd,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Circuits {
    standing: BTreeMap<CircuitId, Circuit>,
    /// Where something arrived, in turn.
    ready: VecDeque<CircuitId>,
    lost: Lost,
}

#[derive(Debug)]
struct Circuit {
    outgoing: Backlog,
    arrived: Backlog,
    waker: Option<Waker>,
}

impl Circuit {
    const fn new() -> Self {
        Self {
            outgoing: Backlog::new(OUTGOING_MAX),
            arrived: Backlog::new(ARRIVED_MAX),
            waker: None,
        }
    }
}

impl Carrier {
    /// Without any circuit.
    ///
    /// # Errors
    /// The kernel's, when it has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Self(Arc::new(Shared {
            circuits: Mutex::default(),
            arrived: EventFd::from_flags(flags)?,
            clock: Clock::new(),
        })))
    }

    /// A circuit stands, under a number that was never used: what the engine sends by it is in the queue, until that is
    /// dropped.
    #[must_use]
    pub fn queue(&self, id: CircuitId) -> Queue {
        self.circuits().standing.insert(id, Circuit::new());
        Queue {
            carrier: self.clone(),
            id,
        }
    }

    /// Puts a datagram into a circuit's queue.
    pub(crate) fn send(&self, id: CircuitId, datagram: &[u8]) {
        let now_us = self.0.clock.now().uptime_us;
        let mut circuits = self.circuits();
        let Circuits { standing, lost, .. } = &mut *circuits;
        let Some(circuit) = standing.get_mut(&id) else {
            lost.closed += 1;
            return;
        };
        circuit.outgoing.push(datagram, now_us, lost);
        let waker = circuit.waker.take();
        drop(circuits);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A datagram came by a circuit. Never waits.
    pub fn arrived(&self, id: CircuitId, datagram: &[u8]) {
        let now_us = self.0.clock.now().uptime_us;
        let is_first = {
            let mut circuits = self.circuits();
            let was_at_rest = circuits.ready.is_empty();
            circuits.arrived(id, datagram, now_us);
            was_at_rest && !circuits.ready.is_empty()
        };
        // While something waits, the descriptor is readable or about to be, and a call to the kernel is spared.
        if is_first {
            // A full counter is readable already, which is all that is wanted.
            let _ = self.0.arrived.write(1);
        }
    }

    /// The next datagram that came, the circuits in turn. With `None` the descriptor is at rest until more comes.
    pub(crate) fn take(&self) -> Option<(CircuitId, Vec<u8>)> {
        let now_us = self.0.clock.now().uptime_us;
        let mut circuits = self.circuits();
        let taken = circuits.take(now_us);
        if taken.is_none() {
            // Nothing to read: it was at rest already.
            let _ = self.0.arrived.read();
        }
        taken
    }

    /// What was lost so far.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.circuits().lost
    }

    fn circuits(&self) -> MutexGuard<'_, Circuits> {
        self.0
            .circuits
            .lock()
            .expect("nobody panics with the circuits in hand")
    }
}

/// Readable while a datagram may wait for `Carrier::take`.
impl AsFd for Carrier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.arrived.as_fd()
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let circuits = self.circuits();
        f.debug_struct("Carrier")
            .field("standing", &circuits.standing.len())
            .field("lost", &circuits.lost)
            .finish()
    }
}

impl Circuits {
    fn arrived(&mut self, id: CircuitId, datagram: &[u8], now_us: u64) {
        let Some(circuit) = self.standing.get_mut(&id) else {
            self.lost.closed += 1;
            return;
        };
        if circuit.arrived.is_empty() {
            self.ready.push_back(id);
        }
        circuit.arrived.push(datagram, now_us, &mut self.lost);
    }

    fn take(&mut self, now_us: u64) -> Option<(CircuitId, Vec<u8>)> {
        while let Some(id) = self.ready.pop_front() {
            let Some(circuit) = self.standing.get_mut(&id) else {
                continue;
            };
            let taken = circuit.arrived.take(now_us, &mut self.lost);
            if !circuit.arrived.is_empty() {
                self.ready.push_back(id);
            }
            if let Some(datagram) = taken {
                return Some((id, datagram));
            }
        }
        None
    }
}

/// What the engine sends by one circuit. When it is dropped, the circuit does not stand any more.
#[derive(Debug)]
pub struct Queue {
    carrier: Carrier,
    id: CircuitId,
}

impl Queue {
    /// Which circuit it is.
    #[must_use]
    pub const fn id(&self) -> CircuitId {
        self.id
    }

    /// The next datagrams, at least one. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Vec<Vec<u8>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The same for who polls.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Vec<Vec<u8>>> {
        let now_us = self.carrier.0.clock.now().uptime_us;
        let mut circuits = self.carrier.circuits();
        let Circuits { standing, lost, .. } = &mut *circuits;
        let circuit = standing
            .get_mut(&self.id)
            .expect("a circuit stands as long as its queue");
        let next = || circuit.outgoing.take(now_us, lost);
        let batch: Vec<_> = std::iter::from_fn(next).take(BATCH_MAX).collect();
        if batch.is_empty() {
            circuit.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(batch)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.carrier.circuits().standing.remove(&self.id);
    }
}

/// Datagrams that wait, one way.
#[derive(Debug)]
struct Backlog {
    urgent: VecDeque<Vec<u8>>,
    packets: VecDeque<Waiting>,
    packets_max: usize,
}

/// A datagram with a packet, and since when it waits.
#[derive(Debug)]
struct Waiting {
    since_us: u64,
    datagram: Vec<u8>,
}

impl Backlog {
    const fn new(packets_max: usize) -> Self {
        Self {
            urgent: VecDeque::new(),
            packets: VecDeque::new(),
            packets_max,
        }
    }

    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.packets.is_empty()
    }

    fn push(&mut self, datagram: &[u8], now_us: u64, lost: &mut Lost) {
        if datagram.is_empty() || datagram.len() > DATAGRAM_BYTES_MAX {
            lost.room += 1;
            return;
        }
        let datagram = datagram.to_vec();
        if datagram[0] == WIREGUARD_DATA {
            if self.packets.len() == self.packets_max {
                self.packets.pop_front();
                lost.room += 1;
            }
            self.packets.push_back(Waiting {
                since_us: now_us,
                datagram,
            });
        } else {
            if self.urgent.len() == URGENT_MAX {
                self.urgent.pop_front();
                lost.room += 1;
            }
            self.urgent.push_back(datagram);
        }
    }

    fn take(&mut self, now_us: u64, lost: &mut Lost) -> Option<Vec<u8>> {
        if let Some(datagram) = self.urgent.pop_front() {
            return Some(datagram);
        }
        while let Some(waiting) = self.packets.pop_front() {
            if now_us.saturating_sub(waiting.since_us) <= AGE_US_MAX {
                return Some(waiting.datagram);
            }
            lost.age += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn packet(number: u8) -> Vec<u8> {
        vec![WIREGUARD_DATA, number]
    }

    fn handshake(number: u8) -> Vec<u8> {
        vec![1, number]
    }

    fn drained(backlog: &mut Backlog, now_us: u64, lost: &mut Lost) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| backlog.take(now_us, lost)).collect()
    }

    #[test]
    fn a_full_backlog_gives_up_its_oldest_packets_and_no_handshake() {
        let (mut backlog, mut lost) = (Backlog::new(64), Lost::default());
        backlog.push(&handshake(0), 0, &mut lost);
        for number in 0..100 {
            backlog.push(&packet(number), 0, &mut lost);
        }
        let kept: Vec<_> = (36..100).map(packet).collect();
        let got = drained(&mut backlog, 0, &mut lost);
        assert_eq!(got[0], handshake(0));
        assert_eq!(got[1..], kept);
        assert_eq!(lost.room, 36);
    }

    #[test]
    fn packets_grow_old_and_handshakes_do_not() {
        let (mut backlog, mut lost) = (Backlog::new(64), Lost::default());
        backlog.push(&packet(1), 0, &mut lost);
        backlog.push(&handshake(2), 0, &mut lost);
        backlog.push(&packet(3), 1, &mut lost);
        let got = drained(&mut backlog, AGE_US_MAX + 1, &mut lost);
        assert_eq!(got, [handshake(2), packet(3)]);
        assert_eq!((lost.age, lost.room), (1, 0));
    }

    #[test]
    fn handshakes_and_probes_are_bounded_too() {
        let (mut backlog, mut lost) = (Backlog::new(64), Lost::default());
        for number in 0..40 {
            backlog.push(&handshake(number), 0, &mut lost);
        }
        let kept: Vec<_> = (24..40).map(handshake).collect();
        assert_eq!(drained(&mut backlog, 0, &mut lost), kept);
        assert_eq!(lost.room, 24);
    }

    #[test]
    fn what_has_no_length_or_no_length_in_two_bytes_is_not_carried() {
        let (mut backlog, mut lost) = (Backlog::new(64), Lost::default());
        backlog.push(&[], 0, &mut lost);
        backlog.push(&vec![4; DATAGRAM_BYTES_MAX + 1], 0, &mut lost);
        assert!(backlog.is_empty());
        assert_eq!(lost.room, 2);
    }

    #[test]
    fn who_floods_does_not_keep_the_others_from_their_turn() {
        let mut circuits = Circuits::default();
        for id in [1, 2] {
            circuits.standing.insert(CircuitId(id), Circuit::new());
        }
        for number in 0..200 {
            circuits.arrived(CircuitId(1), &packet(number), 0);
        }
        circuits.arrived(CircuitId(2), &packet(7), 0);
        let first: Vec<_> = (0..3).map(|_| circuits.take(0).unwrap()).collect();
        assert_eq!(first[0], (CircuitId(1), packet(0)));
        assert_eq!(first[1], (CircuitId(2), packet(7)));
        assert_eq!(first[2], (CircuitId(1), packet(1)));
        let rest = std::iter::from_fn(|| circuits.take(0)).count();
        assert_eq!((rest, circuits.ready.len()), (198, 0));
    }

    #[tokio::test]
    async fn a_stream_that_waits_is_woken_and_gets_what_came() {
        let carrier = Carrier::new().unwrap();
        let mut queue = carrier.queue(CircuitId(5));
        let waiting = tokio::spawn(async move { (queue.next().await, queue) });
        tokio::task::yield_now().await;
        carrier.send(CircuitId(5), &handshake(1));
        let (batch, mut queue) = waiting.await.unwrap();
        assert_eq!(batch, [handshake(1)]);
        carrier.send(CircuitId(5), &handshake(2));
        carrier.send(CircuitId(5), &handshake(3));
        assert_eq!(queue.next().await, [handshake(2), handshake(3)]);
    }

    #[test]
    fn what_arrives_makes_the_descriptor_readable_until_it_is_taken() {
        let carrier = Carrier::new().unwrap();
        let _queue = carrier.queue(CircuitId(1));
        let readable = || {
            let mut polled = [PollFd::new(carrier.as_fd(), PollFlags::POLLIN)];
            poll(&mut polled, PollTimeout::ZERO).unwrap() == 1
        };
        assert!(!readable());
        carrier.arrived(CircuitId(1), &handshake(1));
        carrier.arrived(CircuitId(1), &handshake(2));
        for number in [1, 2] {
            assert!(readable());
            let taken = Some((CircuitId(1), handshake(number)));
            assert_eq!(carrier.take(), taken);
        }
        assert!(readable());
        assert_eq!(carrier.take(), None);
        assert!(!readable());
    }

    #[test]
    fn a_circuit_that_ended_takes_nothing_and_leaves_nothing() {
        let carrier = Carrier::new().unwrap();
        let queue = carrier.queue(CircuitId(1));
        carrier.arrived(CircuitId(1), &packet(1));
        drop(queue);
        carrier.send(CircuitId(1), &packet(2));
        carrier.arrived(CircuitId(1), &packet(3));
        assert_eq!(carrier.take(), None);
        assert_eq!(carrier.lost().closed, 2);
    }
}
