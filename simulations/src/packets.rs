//! Packets between machines: by the path that the engine has, through routers and relays; who heard whom, and when.
//!
//! A packet looks like a message of the tunnel: kind, receiver, sender, and nothing inside.

use meshnode_protocol::id::WireGuardKey;
use meshnode_protocol::io::Input;
use meshnode_protocol::peering::{Path, TunnelInput};
use meshnode_protocol::relay::frame::mailbox_of;

use crate::machine::{Machine, MachineId};
use crate::network::PORT;
use crate::world::{Broken, World};

/// Between two packets of a pair that talks.
const EVERY_MS: u64 = 50;
/// How often engines report.
const REPORT_MS: u64 = 1000;
const PACKET_BYTES: usize = 64;

/// Whether a packet is for this machine.
pub(crate) fn is_for(machine: &Machine, packet: &[u8]) -> bool {
    ends(packet).is_some_and(|(to, _)| to == key_of(machine))
}

fn ends(packet: &[u8]) -> Option<([u8; 8], [u8; 8])> {
    let to = packet.get(4..12)?.try_into().ok()?;
    let from = packet.get(12..20)?.try_into().ok()?;
    Some((to, from))
}

fn key_of(machine: &Machine) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&machine.key.as_bytes()[..8]);
    short
}

impl World {
    /// The engine's key of a peer, and by which path it is sent to.
    fn way(&self, from: MachineId, to: MachineId) -> Option<(WireGuardKey, Option<Path>)> {
        let address = self.machine(to).interface.as_ref()?.ipv6;
        let machine = self.machine(from);
        let key = machine.allowed.get(&address.into())?;
        Some((*key, machine.engine.get(key)?.path))
    }

    /// By which path a machine sends to another.
    pub(crate) fn path(&self, from: MachineId, to: MachineId) -> Option<Path> {
        self.way(from, to)?.1
    }

    fn send_packet(&mut self, from: MachineId, to: MachineId) {
        if let Some((_, Some(path))) = self.way(from, to) {
            let ends = [to, from].map(|id| key_of(self.machine(id)));
            let mut packet = [&[4, 0, 0, 0][..], &ends.concat()].concat();
            packet.resize(PACKET_BYTES, 0);
            self.send_datagram(from, path, packet);
        }
    }

    /// A packet arrives: it counts if its sender is a peer of the engine.
    pub(crate) fn packet_arrives(&mut self, at: MachineId, path: Path, packet: &[u8]) {
        if !is_for(self.machine(at), packet) {
            return;
        }
        let by = ends(packet).map(|(_, from)| from);
        let mut all = self.all().into_iter();
        let Some(sender) = all.find(|id| Some(key_of(self.machine(*id))) == by) else {
            return;
        };
        // Of somebody who is no peer the engine takes nothing.
        let Some((key, own)) = self.way(at, sender) else {
            return;
        };
        let now_us = self.now_us;
        let heard = self.machine_mut(at).heard_from.entry(sender).or_default();
        let wait_us = now_us - heard.last_us;
        if heard.packets > 0 {
            heard.gap_us = heard.gap_us.max(wait_us);
        }
        heard.packets += 1;
        heard.last_us = now_us;
        if own != Some(path) {
            self.feed(at, Input::Tunnel(TunnelInput::Moved { key, path }));
        }
    }

    /// Lets pairs talk in both directions, and the engines report once a second.
    pub(crate) fn talk(&mut self, pairs: &[(MachineId, MachineId)], ms: u64) -> Result<(), Broken> {
        let directions: Vec<_> = pairs
            .iter()
            .flat_map(|(a, b)| [(*a, *b), (*b, *a)])
            .collect();
        let mut before: Vec<u64> = directions
            .iter()
            .map(|(to, from)| self.packets(*to, *from))
            .collect();
        for step in 0..ms / EVERY_MS {
            let report = (step * EVERY_MS).is_multiple_of(REPORT_MS);
            for (index, (from, to)) in directions.iter().copied().enumerate() {
                if self.machine(from).node.is_none() || self.machine(to).node.is_none() {
                    continue;
                }
                self.send_packet(from, to);
                let Some((key, path)) = self.way(from, to).filter(|_| report) else {
                    continue;
                };
                let received = self.packets(from, to);
                let bytes = PACKET_BYTES as u64;
                let input = match path {
                    None => TunnelInput::Wanted { key },
                    Some(_) => TunnelInput::Traffic {
                        key,
                        rx_bytes: received.saturating_sub(before[index]) * bytes,
                        tx_bytes: REPORT_MS / EVERY_MS * bytes,
                        handshake: None,
                    },
                };
                before[index] = received;
                self.feed(from, Input::Tunnel(input));
            }
            self.run_for(EVERY_MS)?;
        }
        Ok(())
    }

    /// Sends a packet by a relay, whatever the engine has to say of that.
    pub(crate) fn force_packet(&mut self, from: MachineId, to: MachineId, relay: MachineId) {
        let ends = [to, from].map(|id| key_of(self.machine(id)));
        let mut packet = [&[4, 0, 0, 0][..], &ends.concat()].concat();
        packet.resize(PACKET_BYTES, 0);
        let relay = (self.machine(relay).place.address, PORT).into();
        let mailbox = mailbox_of(&self.machine(to).key);
        self.send_datagram(from, Path::Relayed { relay, mailbox }, packet);
    }

    /// Whether a relay passes, or lately passed, datagrams of a machine.
    pub(crate) fn passes(&mut self, relay: MachineId, of: MachineId) -> bool {
        let mailbox = mailbox_of(&self.machine(of).key);
        let now = self.machine(relay).moment(self.now_us);
        let exchange = self.machine_mut(relay).exchange.as_mut();
        let report = exchange.map(|exchange| exchange.report(now));
        let pairs = report.map(|report| report.pairs).unwrap_or_default();
        let mut ends = pairs.iter().flat_map(|pair| [pair.ends.0, pair.ends.1]);
        ends.any(|end| end == mailbox)
    }

    /// How many packets of another a machine heard.
    pub(crate) fn packets(&self, at: MachineId, from: MachineId) -> u64 {
        let heard = self.machine(at).heard_from.get(&from);
        heard.map_or(0, |heard| heard.packets)
    }

    /// The longest wait for a packet of another since this was last asked, until now, in milliseconds.
    pub(crate) fn gap_ms(&mut self, at: MachineId, from: MachineId) -> u64 {
        let now_us = self.now_us;
        let heard = self.machine_mut(at).heard_from.entry(from).or_default();
        let wait_us = now_us - heard.last_us;
        std::mem::take(&mut heard.gap_us).max(wait_us) / 1000
    }
}
