//! The packet engine: TUN, WireGuard and UDP. Packets never leave this room; the core hears only what it must decide.
//!
//! Two blocking threads move packets, each from its read to its write without a queue between; a third lets time pass.
//! They see the peers through an immutable `Router` behind one atomic pointer. A peer's sessions and
//! path are behind one lock of its own, held while a packet is sealed or opened, never while it is sent.

mod allowance;
#[cfg(test)]
mod corpus;
mod device;
mod engine;
mod filter;
mod flows;
mod inbound;
pub mod measured;
mod merge;
mod offload;
mod outbound;
mod packet;
#[cfg(test)]
#[path = "../tests/fuzz/src/packets.rs"]
#[expect(unreachable_pub, reason = "the same file is a room of the fuzz crate")]
mod packets;
mod peer;
mod refusal;
mod relay;
mod router;
mod sockets;
mod split;
mod standing;
mod sum;
mod timers;
mod train;
mod transport;
mod volunteer;
mod watch;
mod ways;

use std::fmt;
use std::io::{self, PipeWriter};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use meshnode_protocol::access::Filter;
use meshnode_protocol::id::WireGuardKey;
use meshnode_protocol::io::{CarryTerms, Interface};
use meshnode_protocol::peering::{Path, PeerChange, PeerConfig, TunnelInput};
use meshnode_protocol::relay::exchange::Report;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use self::device::Device;
pub use self::device::{Offloads, TunError};
pub use self::engine::Losses;
use self::engine::{Engine, Loss};
pub use self::filter::Denied;
use self::filter::{PeerFilter, Terms};
use self::inbound::Inbound;
use self::outbound::Outbound;
use self::peer::{Identity, Peer};
use self::relay::Relay;
use self::router::Router;
use self::sockets::{Patience, Sockets};
pub use self::volunteer::Volunteer;
use self::ways::Ways;
use crate::carrier::Carrier;
use crate::clock::Clock;

/// How to start an engine.
pub struct TunnelConfig {
    /// The wanted name of the device, at most 15 bytes; when it is in use, a number is appended.
    pub name: String,
    /// The X25519 secret key of this node.
    pub secret: Zeroizing<[u8; 32]>,
    /// The UDP port; 0 for a random one whose TCP twin and whose next UDP port are free too.
    pub port: u16,
    /// Bytes of the largest packet inside the tunnel.
    pub mtu: u16,
    /// The TCP port of this node's control plane, which every peer reaches whatever the policy says.
    pub control: Option<u16>,
    /// What the host is asked to leave to the engine.
    pub offloads: Offloads,
    /// The circuits of the control plane.
    pub carrier: Carrier,
}

impl fmt::Debug for TunnelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelConfig")
            .field("name", &self.name)
            .field("port", &self.port)
            .field("mtu", &self.mtu)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

/// A running engine. Its threads end, and its device vanishes, when it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    engine: Arc<Engine>,
    /// Closes to stop the threads.
    alive: Option<PipeWriter>,
    threads: Vec<JoinHandle<()>>,
    /// One change of the router at a time, and the filter that new peers get.
    changes: Mutex<Arc<Filter>>,
}

impl Tunnel {
    /// Opens the device and the sockets and starts the threads. Events are offered, never waited for.
    ///
    /// # Errors
    /// A [`TunError`] inside when the device cannot be had; else when the port is taken or threads are refused.
    pub fn start(config: TunnelConfig, events: mpsc::Sender<TunnelInput>) -> anyhow::Result<Self> {
        let sockets = Sockets::open(config.port)?;
        let device = Device::open(&config.name, config.mtu, config.offloads)?;
        let (stopped, alive) = io::pipe().context("Failed to open a pipe")?;
        let engine = Arc::new(Engine {
            device,
            ways: Ways {
                sockets,
                carrier: config.carrier,
            },
            terms: Terms {
                control: config.control,
                ..Terms::default()
            },
            identity: Identity::new(*config.secret),
            router: ArcSwap::default(),
            relays: ArcSwap::default(),
            relay: Relay::default(),
            events,
            clock: Clock::new(),
            stopped,
            failed: AtomicBool::new(false),
            losses: Default::default(),
            changes: AtomicU64::new(0),
        });
        let mut tunnel = Self {
            engine,
            alive: Some(alive),
            threads: Vec::new(),
            changes: Mutex::new(Arc::new(Filter::Open)),
        };
        tunnel.run()?;
        Ok(tunnel)
    }

    /// Goes on under another key, without peers: device, sockets, addresses and filter stay, every session ends.
    ///
    /// # Errors
    /// When threads are refused: the engine stands still and must be started anew.
    pub fn rekey(&mut self, secret: &[u8; 32]) -> anyhow::Result<()> {
        self.halt();
        let (stopped, alive) = io::pipe().context("Failed to open a pipe")?;
        let engine = Arc::get_mut(&mut self.engine).expect("only the threads share the engine");
        engine.identity = Identity::new(*secret);
        engine.stopped = stopped;
        let bare = engine.router.load().bare();
        engine.router.store(Arc::new(bare));
        self.alive = Some(alive);
        self.run()
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let outbound = Outbound::new(Arc::clone(&self.engine));
        self.spawn("mn-outbound", move || outbound.run())?;
        let inbound = Inbound::new(Arc::clone(&self.engine));
        self.spawn("mn-inbound", move || inbound.run())?;
        let engine = Arc::clone(&self.engine);
        self.spawn("mn-timers", move || timers::run(&engine))
    }

    fn halt(&mut self) {
        self.alive = None;
        for thread in self.threads.drain(..) {
            // A thread that panics ends the process before it could be joined.
            let _ = thread.join();
        }
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _guard = AbortOnPanic;
                work();
            })
            .with_context(|| format!("Failed to start thread {name}"))?;
        self.threads.push(thread);
        Ok(())
    }

    /// The name that the device got.
    #[must_use]
    pub fn device(&self) -> &str {
        self.engine.device.name()
    }

    /// The UDP port of both sockets.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.engine.ways.sockets.port()
    }

    /// Carries out a change of the peers. A path for an unknown peer is ignored.
    pub fn apply(&self, change: PeerChange) {
        let filter = self.changes.lock().expect("no change panics half-way");
        let router = self.engine.router.load_full();
        match change {
            PeerChange::Set(config) => {
                let peer = match router.by_key(config.key) {
                    Some(peer) => {
                        peer.set(&config);
                        Arc::clone(peer)
                    }
                    None => self.new_peer(&router, &config, &filter),
                };
                self.engine.router.store(Arc::new(router.with(
                    peer,
                    config.allowed_ips,
                    config.probe_tag,
                )));
            }
            PeerChange::Path(key, path) => {
                let Some(peer) = router.by_key(key) else {
                    return;
                };
                let mut out = [0; 256];
                if let Some((path, bytes)) = peer.set_path(path, &mut out, self.engine.now()) {
                    self.engine.ways.send(path, bytes, Patience::Drop);
                }
            }
            PeerChange::Mtu(key, bytes) => {
                if let Some(peer) = router.by_key(key) {
                    peer.set_mtu(bytes);
                }
                // Nothing that was judged is judged otherwise now.
                return;
            }
            PeerChange::Remove(key) => {
                self.engine.router.store(Arc::new(router.without(key)));
            }
        }
        self.engine.changed();
    }

    /// Lets packets in to these addresses alone. Before the first call, the host's own routing decides.
    pub fn interface(&self, own: Option<&Interface>) {
        let _one_at_a_time = self.changes.lock().expect("no change panics half-way");
        let addresses = own.map_or_else(Vec::new, |own| {
            own.ipv4
                .map(IpAddr::from)
                .into_iter()
                .chain([own.ipv6.into()])
                .collect()
        });
        let router = self.engine.router.load_full();
        self.engine
            .router
            .store(Arc::new(router.with_own(addresses)));
        self.engine.changed();
    }

    /// Lets through what a policy allows, from now on. Flows that it allows go on, others end with this call; before
    /// the first call everything passes.
    pub fn filter(&self, filter: Arc<Filter>) {
        let mut newest = self.changes.lock().expect("no change panics half-way");
        for peer in self.engine.router.load().peers() {
            peer.filter().change(&filter);
        }
        *newest = filter;
        self.engine.changed();
    }

    /// This node is about to call a peer's control plane there: its own packets to that TCP port pass.
    pub fn calls(&self, control: SocketAddr) {
        if let Some(peer) = self.engine.router.load().by_address(control.ip()) {
            peer.filter().calls(control.port());
        }
    }

    /// What the policy kept from passing between this node and a peer, since the peer came.
    #[must_use]
    pub fn denied(&self, key: WireGuardKey) -> Option<Denied> {
        let router = self.engine.router.load();
        router.by_key(key).map(|peer| peer.filter().denied())
    }

    /// Takes frames of these relays, and of no others.
    pub fn relays(&self, relays: Vec<SocketAddr>) {
        let relays = Arc::new(relays.into_iter().collect());
        self.engine.relays.store(relays);
    }

    /// Carries datagrams between others on these terms, or not at all. New terms keep those clients that they admit.
    ///
    /// # Errors
    /// When the kernel gives no randomness for the cookies.
    pub fn carry(&self, terms: Option<CarryTerms>) -> anyhow::Result<()> {
        self.engine.relay.carry(terms)
    }

    /// What it carries, if it does.
    #[must_use]
    pub fn carried(&self) -> Option<Report> {
        self.engine.relay.report(self.engine.now())
    }

    /// Opens and closes extra sockets, so that there are these.
    pub fn sockets(&self, extras: &[u16]) {
        self.engine.ways.sockets.set_extras(extras);
    }

    /// Sends a datagram that is no WireGuard message; lost when the kernel has no room.
    pub fn send(&self, path: Path, bytes: &[u8]) {
        self.engine.ways.send(path, bytes, Patience::Drop);
    }

    /// What was lost so far.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.engine.losses()
    }

    /// Whether the device was taken away: the engine must be started anew.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.engine.failed.load(Ordering::Relaxed)
    }

    /// Ends the threads and waits for them; the device vanishes.
    pub fn stop(self) {
        drop(self);
    }

    /// A peer under a random index that no other has, so that indices tell nothing and are not used twice in a row.
    fn new_peer(&self, router: &Router, config: &PeerConfig, filter: &Arc<Filter>) -> Arc<Peer> {
        let index = loop {
            let random = getrandom::u32().expect("the kernel gives randomness once it has booted");
            let index = random >> 8;
            if router.index_is_free(index) {
                break index;
            }
        };
        let engine = &self.engine;
        let filter = PeerFilter::new(&engine.terms, config.device, Arc::clone(filter));
        Arc::new(Peer::new(&engine.identity, index, config, filter))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.halt();
    }
}

/// A data thread that died alone would leave a node that looks alive and carries nothing: the process goes instead.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}
