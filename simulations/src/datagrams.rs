//! UDP between the machines: through routers, with delay, loss and doubles.

use std::net::SocketAddr;
use std::sync::Arc;

use meshnode_protocol::io::Input;
use meshnode_protocol::peering::{Path, TunnelInput};
use meshnode_protocol::probe::{DatagramKind, classify};

use crate::chance::permille;
use crate::machine::MachineId;
use crate::network::{Access, Network, PORT, SiteId};
use crate::world::{Event, World};

/// The longest datagram that arrives.
const DATAGRAM_BYTES_MAX: usize = 1500;
/// What IPv4 and UDP add to a datagram.
const HEADER_BYTES: u64 = 28;

impl World {
    pub(crate) fn send_datagram(&mut self, from: MachineId, path: Path, bytes: Vec<u8>) {
        let place = self.machine(from).place;
        let sent = &mut self.machine_mut(from).sent;
        sent.probe_bytes += bytes.len() as u64 + HEADER_BYTES;
        sent.messages += 1;
        if bytes.len() > DATAGRAM_BYTES_MAX {
            let name = self.machine(from).name.clone();
            self.fail(format!("{name} sends a datagram of {} bytes", bytes.len()));
            return;
        }
        let Some((remote, bytes)) = self.framed(from, path, bytes) else {
            return;
        };
        let Some(seen) = self.network.leave(place, remote, self.now_us) else {
            return;
        };
        if permille(&mut self.rng, self.network.faults.datagram_loss) {
            return;
        }
        let Some(site) = self.site_of(place.site, remote) else {
            return;
        };
        let twice = permille(&mut self.rng, self.network.faults.datagram_twice);
        let bytes: Arc<[u8]> = bytes.into();
        for _ in 0..1 + usize::from(twice) {
            let late = Network::lateness_us(self.network.faults.datagram_late, &mut self.rng);
            let delay = late + self.network.delay_us(place.site, site, &mut self.rng);
            let event = Event::Datagram {
                from: seen,
                sender: from,
                to: remote,
                bytes: bytes.clone(),
            };
            self.after(delay, event);
        }
    }

    /// The site at which an address is, as seen from another.
    fn site_of(&self, from: SiteId, to: SocketAddr) -> Option<SiteId> {
        let SocketAddr::V4(v4) = to else { return None };
        if v4.ip().is_private() {
            return (!self.network.is_public(from)).then_some(from);
        }
        self.network.home_of(*v4.ip()).or_else(|| {
            let (site, _) = self.network.public_resident(*v4.ip())?;
            Some(site)
        })
    }

    /// The machine at a site that has an interface address.
    pub(crate) fn machine_at(&self, site: SiteId, address: SocketAddr) -> Option<MachineId> {
        match address {
            SocketAddr::V4(v4) => self.network.resident(site, *v4.ip()),
            SocketAddr::V6(_) => None,
        }
    }

    pub(crate) fn datagram_arrives(
        &mut self,
        from: SocketAddr,
        sender: MachineId,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let origin = self.machine(sender).place;
        let Some(site) = self.site_of(origin.site, to) else {
            return;
        };
        let local = site == origin.site && self.is_private(to);
        let now_us = self.now_us;
        let inside = match &mut self.network.sites[site.0].access {
            Access::Nat(nat) if !local => {
                debug_assert_eq!(std::net::IpAddr::V4(Network::router(site)), to.ip());
                nat.inbound(to.port(), from, now_us)
            }
            Access::Nat(_) | Access::Public => (to.port() == PORT).then_some(to),
        };
        let Some(target) = inside.and_then(|inside| self.machine_at(site, inside)) else {
            return;
        };
        if self.machine(target).place.group != origin.group || target == sender {
            return;
        }
        if self.machine(target).node.is_none() {
            return;
        }
        self.trace.datagram(now_us, &self.machines[target.0], bytes);
        if classify(bytes) == DatagramKind::Relay {
            self.frame_arrives(target, sender, from, bytes);
        } else {
            self.take_datagram(target, sender, Path::to(from), bytes);
        }
    }

    /// A datagram is where it was to go, by whichever way.
    pub(crate) fn take_datagram(
        &mut self,
        target: MachineId,
        sender: MachineId,
        path: Path,
        bytes: &[u8],
    ) {
        if classify(bytes) == DatagramKind::WireGuard {
            self.packet_arrives(target, path, bytes);
            return;
        }
        let datagram = TunnelInput::Datagram {
            path,
            bytes: bytes.to_vec(),
        };
        if self.hear_each_other(target, sender) {
            self.feed(target, Input::Tunnel(datagram));
        }
    }

    fn is_private(&self, address: SocketAddr) -> bool {
        matches!(address, SocketAddr::V4(v4) if v4.ip().is_private())
    }
}
