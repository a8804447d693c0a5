//! Gossip among trusted neighbours, and the announcements of a LAN.

use std::sync::Arc;

use meshnode_protocol::id::{Digest, TransportKey};
use meshnode_protocol::identity::hash;
use meshnode_protocol::link::{GossipId, LinkInput, Service};

use crate::chance::{below, index, permille};
use crate::machine::{MachineId, Rumour};
use crate::network::Network;
use crate::world::{Event, World};

/// To how many neighbours a message of others is passed on.
const FORWARD_MAX: usize = 6;
/// What gossipsub adds to a message, roughly.
const FRAME_BYTES: u64 = 120;
/// The longest message that the adapter takes.
const RUMOUR_BYTES_MAX: usize = 32 * 1024;
/// Between two announcements in a LAN.
const ANNOUNCE_US: u64 = 120_000_000;

impl World {
    /// The connected machines with which gossip is exchanged: both trust, both on one topic.
    fn neighbours(&self, id: MachineId) -> Vec<MachineId> {
        let me = self.machine(id);
        let peers = self.control.peers(id);
        peers
            .filter(|(peer, _)| me.trusted.contains(peer))
            .map(|(_, other)| other)
            .filter(|other| {
                let other = self.machine(*other);
                other.trusted.contains(&me.key) && other.topic == me.topic
            })
            .collect()
    }

    pub(crate) fn publish(&mut self, id: MachineId, bytes: Vec<u8>) {
        let bytes = self.distort(id, Service::Sync, bytes, true);
        let bytes: Arc<[u8]> = bytes.into();
        let digest = hash(&bytes);
        self.machine_mut(id).heard.insert(digest);
        for neighbour in self.neighbours(id) {
            self.tell(id, neighbour, (&digest, &bytes));
        }
    }

    fn tell(&mut self, from: MachineId, to: MachineId, (digest, bytes): (&Digest, &Arc<[u8]>)) {
        let sent = &mut self.machine_mut(from).sent;
        sent.gossip_bytes += bytes.len() as u64 + FRAME_BYTES;
        sent.messages += 1;
        let lost = permille(&mut self.rng, self.network.faults.gossip_loss);
        if lost || !self.hear_each_other(from, to) {
            return;
        }
        let sites = (self.machine(from).place.site, self.machine(to).place.site);
        let faults = self.network.faults;
        let twice = faults.gossip_twice > 0 && permille(&mut self.rng, faults.gossip_twice);
        for _ in 0..1 + usize::from(twice) {
            let late = Network::lateness_us(faults.gossip_late, &mut self.rng);
            let delay = self
                .network
                .stream_delay_us(sites.0, sites.1, &mut self.rng);
            let event = Event::Rumour {
                to,
                life: self.machine(to).life,
                from: self.machine(from).key,
                bytes: bytes.clone(),
                hash: *digest,
            };
            self.after(late + delay, event);
        }
    }

    pub(crate) fn rumour_arrives(
        &mut self,
        to: MachineId,
        from: TransportKey,
        bytes: Arc<[u8]>,
        hash: Digest,
    ) {
        let machine = self.machine_mut(to);
        let trusted = machine.trusted.contains(&from);
        if !trusted || bytes.len() > RUMOUR_BYTES_MAX || !machine.heard.insert(hash) {
            return;
        }
        let message = GossipId(machine.heard.len() as u64);
        let input = LinkInput::Gossip {
            from,
            message,
            bytes: bytes.to_vec(),
        };
        machine
            .rumours
            .insert(message, Rumour { from, hash, bytes });
        self.trace.link(self.now_us, &self.machines[to.0], &input);
        self.feed(to, meshnode_protocol::io::Input::Link(input));
    }

    pub(crate) fn verdict(&mut self, id: MachineId, message: GossipId, good: bool) {
        let Some(rumour) = self.machine_mut(id).rumours.remove(&message) else {
            let name = self.machine(id).name.clone();
            self.fail(format!("{name} judges a message that it was not given"));
            return;
        };
        if !good {
            return;
        }
        let source = self.control.other_end(id, &rumour.from);
        let mut others = self.neighbours(id);
        others.retain(|other| Some(*other) != source);
        for _ in 0..FORWARD_MAX.min(others.len()) {
            let chosen = index(&mut self.rng, others.len());
            let other = others.swap_remove(chosen);
            self.tell(id, other, (&rumour.hash, &rumour.bytes));
        }
    }

    /// The other machines of a LAN hear of one, and it of them.
    pub(crate) fn announce(&mut self, id: MachineId) {
        let place = self.machine(id).place;
        if self.network.is_public(place.site) {
            return;
        }
        let near = |other: &MachineId| {
            let there = self.machine(*other).place;
            *other != id && there.site == place.site && there.group == place.group
        };
        let others: Vec<_> = self.running().into_iter().filter(near).collect();
        for other in others {
            for (from, to) in [(id, other), (other, id)] {
                let found = LinkInput::Found {
                    peer: self.machine(from).key,
                    addresses: self.machine(from).listening(),
                };
                let delay = 5000 + below(&mut self.rng, 200_000);
                self.link_after(delay, to, found);
            }
        }
        let life = self.machine(id).life;
        self.after(ANNOUNCE_US, Event::Announce(id, life));
    }
}
