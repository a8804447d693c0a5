//! Where machines stand and who can hear whom: sites, routers, delay, loss, partition.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use rand_chacha::ChaCha20Rng;

use crate::chance::{below, permille};
use crate::machine::MachineId;
use crate::nat::{Mapping, Nat};

/// The UDP port of every tunnel, and the TCP port of every control plane.
pub(crate) const PORT: u16 = 41_640;
/// The QUIC port of every control plane.
pub(crate) const QUIC_PORT: u16 = PORT + 1;

/// A place with a network of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SiteId(pub(crate) usize);

/// How the machines of a site reach the internet.
#[derive(Debug)]
pub(crate) enum Access {
    /// Each has a public address; no LAN that announces anything.
    Public,
    /// One LAN behind a router.
    Nat(Box<Nat>),
}

/// A place.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) access: Access,
    machines: u8,
}

/// Where a machine stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) site: SiteId,
    /// The address of its interface.
    pub(crate) address: Ipv4Addr,
    /// The part of the world that it hears; machines of different groups hear nothing of each other.
    pub(crate) group: u32,
}

/// What goes wrong by chance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Datagrams lost, of a thousand.
    pub(crate) datagram_loss: u32,
    /// Datagrams that arrive twice, of a thousand.
    pub(crate) datagram_twice: u32,
    /// Datagrams that arrive late, behind those sent after them, of a thousand.
    pub(crate) datagram_late: u32,
    /// Gossip copies lost, of a thousand.
    pub(crate) gossip_loss: u32,
    /// Gossip copies that arrive twice, of a thousand.
    pub(crate) gossip_twice: u32,
    /// Gossip copies that arrive late, of a thousand.
    pub(crate) gossip_late: u32,
    /// Questions or answers delayed by a retransmission, of a thousand.
    pub(crate) stall: u32,
    /// Answers that never arrive because the connection breaks instead, of a thousand.
    pub(crate) torn_answers: u32,
    /// Connections that break within five minutes, of a thousand.
    pub(crate) broken_connections: u32,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            datagram_loss: 10,
            datagram_twice: 5,
            datagram_late: 0,
            gossip_loss: 20,
            gossip_twice: 0,
            gossip_late: 0,
            stall: 10,
            torn_answers: 0,
            broken_connections: 30,
        }
    }
}

impl Faults {
    /// A network that hardly is one.
    pub(crate) const BAD: Self = Self {
        datagram_loss: 200,
        datagram_twice: 100,
        datagram_late: 200,
        gossip_loss: 300,
        gossip_twice: 100,
        gossip_late: 200,
        stall: 200,
        torn_answers: 30,
        broken_connections: 500,
    };
}

/// How late what is late may be.
const LATE_US: u64 = 3_000_000;

/// All places.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) sites: Vec<Site>,
    /// Who has which address where.
    residents: BTreeMap<(Ipv4Addr, SiteId), MachineId>,
    pub(crate) faults: Faults,
}

impl Network {
    pub(crate) fn add_public(&mut self) -> SiteId {
        self.add(Access::Public)
    }

    pub(crate) fn add_home(&mut self) -> SiteId {
        self.add(Access::Nat(Box::default()))
    }

    /// A home behind a router that nobody gets through.
    pub(crate) fn add_hard_home(&mut self) -> SiteId {
        self.add(Access::Nat(Box::new(Nat::new(Mapping::Random))))
    }

    fn add(&mut self, access: Access) -> SiteId {
        self.sites.push(Site {
            access,
            machines: 0,
        });
        SiteId(self.sites.len() - 1)
    }

    pub(crate) fn is_public(&self, site: SiteId) -> bool {
        matches!(self.sites[site.0].access, Access::Public)
    }

    /// Puts a machine there. All homes use the same private range, as in the world.
    pub(crate) fn place(&mut self, site: SiteId, machine: MachineId) -> Place {
        let number = self.sites[site.0].machines;
        self.sites[site.0].machines += 1;
        let address = match self.sites[site.0].access {
            Access::Public => {
                let [high, low] = u16::try_from(site.0).unwrap_or(u16::MAX).to_be_bytes();
                Ipv4Addr::new(5, high, low, number + 1)
            }
            Access::Nat(_) => Ipv4Addr::new(192, 168, 1, number + 2),
        };
        self.residents.insert((address, site), machine);
        Place {
            site,
            address,
            group: 0,
        }
    }

    /// Nobody is there any more.
    pub(crate) fn vacate(&mut self, place: Place) {
        self.residents.remove(&(place.address, place.site));
    }

    /// The machine at a site that has an interface address.
    pub(crate) fn resident(&self, site: SiteId, address: Ipv4Addr) -> Option<MachineId> {
        self.residents.get(&(address, site)).copied()
    }

    /// The machine that has a public address, and its site.
    pub(crate) fn public_resident(&self, address: Ipv4Addr) -> Option<(SiteId, MachineId)> {
        let all = (address, SiteId(0))..=(address, SiteId(usize::MAX));
        let ((_, site), machine) = self.residents.range(all).next()?;
        Some((*site, *machine))
    }

    /// The public address of a home's router.
    pub(crate) fn router(site: SiteId) -> Ipv4Addr {
        let [high, low] = u16::try_from(site.0).unwrap_or(u16::MAX).to_be_bytes();
        Ipv4Addr::new(6, high, low, 1)
    }

    /// The home whose router has this address.
    pub(crate) fn home_of(&self, address: Ipv4Addr) -> Option<SiteId> {
        let [first, high, low, last] = address.octets();
        let site = SiteId(usize::from(u16::from_be_bytes([high, low])));
        let known = self.sites.get(site.0)?;
        (first == 6 && last == 1 && matches!(known.access, Access::Nat(_))).then_some(site)
    }

    /// What the far end sees as a datagram's sender; `None` if it cannot leave.
    pub(crate) fn leave(&mut self, from: Place, to: SocketAddr, now_us: u64) -> Option<SocketAddr> {
        let own = SocketAddr::from((from.address, PORT));
        let SocketAddr::V4(v4) = to else { return None };
        let private = v4.ip().is_private();
        match &mut self.sites[from.site.0].access {
            Access::Public => (!private).then_some(own),
            Access::Nat(_) if private => Some(own),
            Access::Nat(nat) => Some(nat.outbound(Self::router(from.site), own, to, now_us)),
        }
    }

    /// One way from place to place, in microseconds.
    pub(crate) fn delay_us(&self, a: SiteId, b: SiteId, rng: &mut ChaCha20Rng) -> u64 {
        if a == b {
            return 200 + below(rng, 400);
        }
        let far = (a.0.min(b.0) * 7919 + a.0.max(b.0) * 104_729) % 60;
        5000 + 1000 * far as u64 + below(rng, 5000)
    }

    /// How much later than the rest something arrives, if chance has it so.
    pub(crate) fn lateness_us(chance: u32, rng: &mut ChaCha20Rng) -> u64 {
        // No die is cast for what cannot happen.
        if chance > 0 && permille(rng, chance) {
            below(rng, LATE_US)
        } else {
            0
        }
    }

    /// The same for a stream, which retransmits instead of losing.
    pub(crate) fn stream_delay_us(&self, a: SiteId, b: SiteId, rng: &mut ChaCha20Rng) -> u64 {
        let stall = permille(rng, self.faults.stall);
        self.delay_us(a, b, rng) + if stall { 250_000 } else { 0 }
    }
}
