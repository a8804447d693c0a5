//! Circuits: links that a relay joins, and datagrams over links.

use std::sync::Arc;

use meshnode_protocol::id::TransportKey;
use meshnode_protocol::link::{DialId, LinkInput};
use meshnode_protocol::peering::CircuitId;
use meshnode_protocol::record::{ControlAddress, Transport};

use crate::control::Established;
use crate::machine::MachineId;
use crate::network::PORT;
use crate::world::{Event, World};

/// How long a call by a relay that does not join takes to fail.
const REFUSED_US: u64 = 200_000;
/// When a reservation at a relay that fell silent is given up.
const SILENCE_US: u64 = 15_000_000;

/// A stream for datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) other: MachineId,
    /// The other end's handle.
    pub(crate) theirs: CircuitId,
}

impl World {
    /// Whether a relay joins two: it carries, is linked with both and trusts them, and the called one reserved at it.
    pub(crate) fn joins(&self, relay: MachineId, caller: MachineId, called: MachineId) -> bool {
        let at = self.machine(relay);
        let trusts = |end: MachineId| {
            let key = self.machine(end).key;
            at.trusted.contains(&key) && self.control.between(relay, &key).is_some()
        };
        let runs = at.node.is_some() && at.relaying && self.machine(called).node.is_some();
        let near = self.hear_each_other(relay, caller) && self.hear_each_other(relay, called);
        let reserved = self.machine(called).homes.contains(&at.key);
        runs && near && reserved && trusts(caller) && trusts(called)
    }

    pub(crate) fn dial_by(
        &mut self,
        id: MachineId,
        dial: DialId,
        peer: TransportKey,
        relay: TransportKey,
    ) {
        let by = |key: TransportKey| {
            let mut all = self.all().into_iter();
            all.find(|id| self.machine(*id).key == key)
        };
        let (relay, listener) = (by(relay), by(peer));
        let both = relay.zip(listener);
        let Some((relay, listener)) = both.filter(|(r, l)| self.joins(*r, id, *l)) else {
            let useless = false;
            self.link_after(REFUSED_US, id, LinkInput::DialFailed { dial, useless });
            return;
        };
        let [a, b, c] = [id, relay, listener].map(|id| self.machine(id).place.site);
        let delay = self.network.stream_delay_us(a, b, &mut self.rng)
            + self.network.stream_delay_us(b, c, &mut self.rng);
        let address = ControlAddress {
            transport: Transport::Tcp,
            address: (self.machine(relay).place.address, PORT).into(),
        };
        let established = Established {
            dialer: id,
            life: self.machine(id).life,
            dial,
            listener,
            address,
            by: Some(relay),
        };
        self.after(3 * delay, Event::Established(Box::new(established)));
    }

    /// Keeps reservations at those that can be called.
    pub(crate) fn reserve(
        &mut self,
        id: MachineId,
        homes: Vec<(TransportKey, Vec<ControlAddress>)>,
    ) {
        let mut reserved = std::mem::take(&mut self.machine_mut(id).homes);
        reserved.retain(|home| homes.iter().any(|(key, _)| key == home));
        for (home, addresses) in homes {
            let mut relays = addresses.iter().filter_map(|at| self.listener(id, at));
            let there =
                relays.any(|relay| self.machine(relay).key == home && self.machine(relay).relaying);
            if there && reserved.insert(home) {
                let stands = true;
                self.link_after(
                    100_000,
                    id,
                    LinkInput::Reserved {
                        relay: home,
                        stands,
                    },
                );
            }
        }
        self.machine_mut(id).homes = reserved;
    }

    /// A relay stopped: what was reserved there is lost, known at once or when it stays silent.
    pub(crate) fn drop_reservations(&mut self, relay: MachineId, told: bool) {
        let key = self.machine(relay).key;
        for id in self.all() {
            if self.machine_mut(id).homes.remove(&key) {
                let delay = if told { 0 } else { SILENCE_US };
                let lost = LinkInput::Reserved {
                    relay: key,
                    stands: false,
                };
                self.link_after(delay, id, lost);
            }
        }
    }

    /// Opens a stream for datagrams with a peer, or closes it; both ends hear of it.
    pub(crate) fn stream(&mut self, id: MachineId, peer: TransportKey, wanted: bool) {
        let Some(other) = self.control.other_end(id, &peer) else {
            return;
        };
        if !wanted {
            for (end, other) in [(id, other), (other, id)] {
                let streams = &mut self.machine_mut(end).streams;
                streams.retain(|_, stream| stream.other != other);
                let peer = self.machine(other).key;
                let carrying = LinkInput::Carrying {
                    peer,
                    circuit: None,
                };
                self.link_after(0, end, carrying);
            }
            return;
        }
        let handles = [(); 2].map(|()| CircuitId(self.control.number()));
        let sites = [id, other].map(|id| self.machine(id).place.site);
        let delay = self
            .network
            .stream_delay_us(sites[0], sites[1], &mut self.rng);
        for (end, other, ours, theirs) in [
            (id, other, handles[0], handles[1]),
            (other, id, handles[1], handles[0]),
        ] {
            let stream = Stream { other, theirs };
            self.machine_mut(end).streams.insert(ours, stream);
            let peer = self.machine(other).key;
            let circuit = Some(ours);
            self.link_after(2 * delay, end, LinkInput::Carrying { peer, circuit });
        }
    }

    /// Sends a datagram over a stream, as long as its ends are linked.
    pub(crate) fn send_streamed(&mut self, from: MachineId, circuit: CircuitId, bytes: Vec<u8>) {
        let Some(Stream { other, theirs }) = self.machine(from).streams.get(&circuit).copied()
        else {
            return;
        };
        let peer = self.machine(other).key;
        let linked = self.control.between(from, &peer).is_some();
        if !linked || !self.hear_each_other(from, other) {
            return;
        }
        let sites = [from, other].map(|id| self.machine(id).place.site);
        let delay = self
            .network
            .stream_delay_us(sites[0], sites[1], &mut self.rng);
        let life = self.machine(other).life;
        let bytes: Arc<[u8]> = bytes.into();
        let streamed = Event::Streamed {
            to: other,
            life,
            circuit: theirs,
            from,
            bytes,
        };
        self.after(delay, streamed);
    }
}
