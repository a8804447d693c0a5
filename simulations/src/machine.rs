//! One simulated machine: the node that runs on it, its disk and clock, and what its adapters were told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use meshnode_protocol::access::Filter;
use meshnode_protocol::id::{Digest, TransportKey, WireGuardKey};
use meshnode_protocol::io::{CommandId, Interface, Notice, Reply};
use meshnode_protocol::link::GossipId;
use meshnode_protocol::name::NodeName;
use meshnode_protocol::node::Node;
use meshnode_protocol::peering::{CircuitId, Path, PeerChange, PeerConfig};
use meshnode_protocol::record::{ControlAddress, Transport};
use meshnode_protocol::relay::exchange::Exchange;
use meshnode_protocol::time::{Moment, Timestamp};

use crate::circuits::Stream;
use crate::disk::Disk;
use crate::network::{PORT, Place, QUIC_PORT};

/// A machine of the world, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MachineId(pub(crate) usize);

/// The wall clock at the start of every world: 2026-01-01.
pub(crate) const WALL_START_MS: u64 = 1_767_225_600_000;

/// How a machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The process dies; the system lives on and closes its connections.
    Kill,
    /// The power fails; nobody is told.
    PowerCut,
}

/// What a newcomer would type again.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) text: String,
    pub(crate) name: NodeName,
    pub(crate) hints: Vec<SocketAddr>,
}

/// A peer in the engine.
#[derive(Debug)]
pub(crate) struct EnginePeer {
    pub(crate) config: PeerConfig,
    pub(crate) path: Option<Path>,
}

/// Packets of one sender.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) packets: u64,
    pub(crate) last_us: u64,
    pub(crate) gap_us: u64,
}

/// A gossip message that waits for its verdict.
#[derive(Debug)]
pub(crate) struct Rumour {
    pub(crate) from: TransportKey,
    pub(crate) hash: Digest,
    pub(crate) bytes: Arc<[u8]>,
}

/// Bytes and messages that a machine sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) control_bytes: u64,
    pub(crate) gossip_bytes: u64,
    pub(crate) probe_bytes: u64,
    pub(crate) messages: u64,
    pub(crate) wakes: u64,
}

/// A machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) key: TransportKey,
    pub(crate) node: Option<Node>,
    /// Counts starts: what was sent to an earlier life is lost.
    pub(crate) life: u32,
    pub(crate) boot_us: u64,
    /// What its clock is off, in milliseconds.
    pub(crate) skew_ms: i64,
    pub(crate) disk: Disk,
    pub(crate) code: Option<Code>,
    pub(crate) engine: BTreeMap<WireGuardKey, EnginePeer>,
    /// Whose an overlay address is, by the engine.
    pub(crate) allowed: BTreeMap<IpAddr, WireGuardKey>,
    pub(crate) interface: Option<Interface>,
    /// What the engine enforces.
    pub(crate) filter: Option<Arc<Filter>>,
    /// The relays whose frames the engine takes.
    pub(crate) relays: BTreeSet<SocketAddr>,
    /// What it carries for others.
    pub(crate) exchange: Option<Exchange>,
    pub(crate) relaying: bool,
    /// The relays that keep a reservation for it.
    pub(crate) homes: BTreeSet<TransportKey>,
    /// Its streams for datagrams, by handle.
    pub(crate) streams: BTreeMap<CircuitId, Stream>,
    /// Packets that came, by sender: how many, the newest at which virtual time, and the longest wait for one.
    pub(crate) heard_from: BTreeMap<MachineId, Heard>,
    pub(crate) replies: Vec<(CommandId, Reply)>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) trusted: BTreeSet<TransportKey>,
    pub(crate) topic: Option<[u8; 32]>,
    pub(crate) heard: BTreeSet<Digest>,
    pub(crate) rumours: BTreeMap<GossipId, Rumour>,
    pub(crate) commands: u64,
    pub(crate) wake_us: Option<u64>,
    pub(crate) spins: u32,
    /// Stop before the output after so many more.
    pub(crate) crash: Option<(u32, Stop)>,
    pub(crate) sent: Sent,
    /// Lies to others; its own word on anything counts for nothing.
    pub(crate) liar: bool,
    /// A damaged store is expected: it may be recovering.
    pub(crate) damaged: bool,
    /// It left or was erased.
    pub(crate) erased: bool,
    /// Something changed that the invariants speak of.
    pub(crate) touched: bool,
}

impl Machine {
    pub(crate) fn new(name: String, place: Place, key: TransportKey) -> Self {
        Self {
            name,
            place,
            key,
            node: None,
            life: 0,
            boot_us: 0,
            skew_ms: 0,
            disk: Disk::default(),
            code: None,
            engine: BTreeMap::new(),
            allowed: BTreeMap::new(),
            interface: None,
            filter: None,
            relays: BTreeSet::new(),
            exchange: None,
            relaying: false,
            homes: BTreeSet::new(),
            streams: BTreeMap::new(),
            heard_from: BTreeMap::new(),
            replies: Vec::new(),
            notices: Vec::new(),
            trusted: BTreeSet::new(),
            topic: None,
            heard: BTreeSet::new(),
            rumours: BTreeMap::new(),
            commands: 0,
            wake_us: None,
            spins: 0,
            crash: None,
            sent: Sent::default(),
            liar: false,
            damaged: false,
            erased: false,
            touched: false,
        }
    }

    pub(crate) fn moment(&self, now_us: u64) -> Moment {
        let wall = (WALL_START_MS + now_us / 1000).saturating_add_signed(self.skew_ms);
        Moment {
            uptime_us: now_us - self.boot_us,
            wall: Timestamp::from_ms(wall),
        }
    }

    pub(crate) fn interfaces(&self) -> Vec<IpAddr> {
        vec![IpAddr::V4(self.place.address)]
    }

    /// Where its control plane listens.
    pub(crate) fn listening(&self) -> Vec<ControlAddress> {
        let at = |transport, port| ControlAddress {
            transport,
            address: (self.place.address, port).into(),
        };
        vec![at(Transport::Tcp, PORT), at(Transport::Quic, QUIC_PORT)]
    }

    /// Carries out a change of the engine's peers. Gives what is wrong with it, if anything.
    pub(crate) fn change_peer(&mut self, change: PeerChange) -> Result<(), &'static str> {
        match change {
            PeerChange::Set(config) => {
                self.touched = true;
                self.forbid(&config.key);
                for address in &config.allowed_ips {
                    if self.allowed.insert(*address, config.key).is_some() {
                        return Err("two peers in the engine have one address");
                    }
                }
                let path = self.engine.get(&config.key).and_then(|peer| peer.path);
                self.engine.insert(config.key, EnginePeer { config, path });
            }
            PeerChange::Path(key, path) => {
                let peer = self.engine.get_mut(&key);
                peer.ok_or("a path was set for a peer that the engine has not")?
                    .path = path;
            }
            PeerChange::Mtu(key, _) => {
                let known = self.engine.contains_key(&key);
                return known
                    .then_some(())
                    .ok_or("a size was set for a peer that the engine has not");
            }
            PeerChange::Remove(key) => {
                self.touched = true;
                self.forbid(&key);
                let peer = self.engine.remove(&key);
                peer.ok_or("a peer was removed that the engine has not")?;
            }
        }
        Ok(())
    }

    /// The engine begins anew, without peers.
    pub(crate) fn forget_peers(&mut self) {
        self.touched = true;
        self.engine.clear();
        self.allowed.clear();
    }

    fn forbid(&mut self, key: &WireGuardKey) {
        if let Some(peer) = self.engine.get(key) {
            for address in &peer.config.allowed_ips {
                self.allowed.remove(address);
            }
        }
    }

    /// Whether the engine knows the way to an overlay address.
    pub(crate) fn routes(&self, address: IpAddr) -> bool {
        let key = self.allowed.get(&address);
        let peer = key.and_then(|key| self.engine.get(key));
        peer.is_some_and(|peer| peer.path.is_some())
    }

    /// Forgets everything that lives in memory only.
    pub(crate) fn forget(&mut self) {
        self.node = None;
        self.engine.clear();
        self.allowed.clear();
        self.interface = None;
        self.filter = None;
        self.relays.clear();
        self.exchange = None;
        self.relaying = false;
        self.homes.clear();
        self.streams.clear();
        self.trusted.clear();
        self.topic = None;
        self.heard.clear();
        self.rumours.clear();
        self.wake_us = None;
        self.spins = 0;
        self.crash = None;
    }
}
