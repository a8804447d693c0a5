//! A relay for strangers: circuits for anybody, within a budget. It is a member of nothing and speaks nothing else.

mod meter;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use futures::future::Either;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, Transport as _, connection_limits, identify, ping, quic, relay};
use meshnode_protocol::id::TransportKey;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use self::meter::{Meter, Metered};
use super::circuits::{self, CIRCUIT_TIME_MAX, Room};
use super::guard::{Crowd, Guard};
use super::roads::{Certificate, Map, Roads};
use super::{address, behaviour, start};

/// What a volunteer needs to start.
pub struct VolunteerConfig {
    /// The seed of its key (Ed25519).
    pub seed: Zeroizing<[u8; 32]>,
    /// TCP port; QUIC listens on the UDP port after it.
    pub port: u16,
    /// For the callers at the TCP port that speak TLS.
    pub certificate: Certificate,
    /// Who may connect; `None`: everybody.
    pub allowed: Option<BTreeSet<TransportKey>>,
    /// Bytes a second of all circuits together.
    pub rate: u64,
    /// Bytes a second of one circuit, each way.
    pub pair_rate: u64,
    /// Circuits at the same time.
    pub circuits: usize,
    /// Whether circuits are only for first words, so that two can meet by other ways.
    pub introduces_only: bool,
}

impl fmt::Debug for VolunteerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VolunteerConfig")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// How a volunteer does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Peers that are reachable by it.
    pub clients: usize,
    /// Circuits that stand.
    pub circuits: usize,
    /// Bytes that came since the start.
    pub bytes: u64,
}

/// A running volunteer.
#[derive(Debug)]
pub struct Volunteer {
    key: TransportKey,
    meter: Arc<Meter>,
    counts: Arc<Counts>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    clients: AtomicUsize,
    circuits: AtomicUsize,
}

#[derive(NetworkBehaviour)]
struct Services {
    limits: connection_limits::Behaviour,
    guard: Guard,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay: relay::Behaviour,
}

impl Volunteer {
    /// Opens the listeners and starts the task; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When a port is in use; the message names it.
    pub fn start(config: VolunteerConfig) -> anyhow::Result<Self> {
        let quic_port = config
            .port
            .checked_add(1)
            .with_context(|| format!("Port {} leaves no port after it for QUIC", config.port))?;
        start::claim_both(config.port, quic_port)?;
        let mut seed = config.seed.clone();
        let pair = Keypair::ed25519_from_bytes(seed.as_mut_slice())
            .context("Failed to read the relay's key")?;
        let own = pair.public().to_peer_id();
        let key = address::transport_key(&own).context("Failed to name the relay's key")?;
        let meter = Arc::new(Meter::new(config.rate, config.pair_rate));
        let settings = libp2p::swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(IDLE_TIME_MAX);
        let services = Services::new(&pair, &config);
        let transport = transport(&pair, &config.certificate, &meter)?;
        let mut swarm = libp2p::Swarm::new(transport, services, own, settings);
        start::listen(&mut swarm, config.port, quic_port)?;
        let counts = Arc::<Counts>::default();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(swarm, Arc::clone(&counts), stopped));
        Ok(Self {
            key,
            meter,
            counts,
            stop,
            task,
        })
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> &TransportKey {
        &self.key
    }

    /// How it does.
    #[must_use]
    pub fn report(&self) -> Carried {
        Carried {
            clients: self.counts.clients.load(Ordering::Relaxed),
            circuits: self.counts.circuits.load(Ordering::Relaxed),
            bytes: self.meter.bytes(),
        }
    }

    /// Whether the budget of the month has room; without, circuits end.
    pub fn allow(&self, has_room: bool) {
        self.meter.allow(has_room);
    }

    /// Closes the listeners and all connections.
    pub async fn stop(self) {
        // A task that ended has nothing to be stopped.
        let _ended = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "The relay's task broke");
        }
    }
}

impl Services {
    fn new(pair: &Keypair, config: &VolunteerConfig) -> Self {
        let own = pair.public().to_peer_id();
        let mut room = Room {
            reservations: CLIENTS_MAX,
            circuits: config.circuits,
            circuits_per_peer: CIRCUITS_PER_PEER_MAX,
            bytes: 0,
            time: CIRCUIT_TIME_MAX,
        };
        if config.introduces_only {
            (room.bytes, room.time) = (INTRODUCTION_BYTES, INTRODUCTION_TIME);
        }
        let allowed = config.allowed.as_ref();
        let allowed = allowed.map(|keys| keys.iter().filter_map(address::peer_id).collect());
        let mut relay = circuits::server(own, room);
        circuits::serve(&mut relay, true);
        Self {
            limits: connection_limits::Behaviour::new(
                connection_limits::ConnectionLimits::default()
                    .with_max_pending_incoming(Some(128))
                    .with_max_established_incoming(Some(CONNECTIONS_MAX)),
            ),
            guard: Guard::new(CROWD, allowed),
            identify: behaviour::identify(pair.public()),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
            relay,
        }
    }
}

type Boxed = libp2p::core::transport::Boxed<(PeerId, StreamMuxerBox)>;

/// TCP and QUIC, every stream of both metered.
fn transport(pair: &Keypair, own: &Certificate, meter: &Arc<Meter>) -> anyhow::Result<Boxed> {
    let tcp = Roads::new(pair, own, &Map::default())?;
    let quic = quic::tokio::Transport::new(start::quic_times(quic::Config::new(pair)))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let meter = Arc::clone(meter);
    let both = tcp.or_transport(quic).map(move |either, _| {
        let (Either::Left((peer, muxer)) | Either::Right((peer, muxer))) = either;
        let metered = Metered::new(muxer, Arc::clone(&meter));
        (peer, StreamMuxerBox::new(metered))
    });
    Ok(TransportTimeout::new(both, HANDSHAKE_TIME_MAX).boxed())
}

async fn serve(
    mut swarm: libp2p::Swarm<Services>,
    counts: Arc<Counts>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut clients = BTreeSet::new();
    loop {
        let event = tokio::select! {
            event = swarm.select_next_some() => event,
            _ = &mut stopped => return,
        };
        let SwarmEvent::Behaviour(event) = event else {
            continue;
        };
        match event {
            ServicesEvent::Relay(event) => on_relay(&event, &swarm, &mut clients, &counts),
            ServicesEvent::Ping(event) => {
                if event.result.is_err() {
                    swarm.close_connection(event.connection);
                }
            }
            ServicesEvent::Identify(_) => {}
            ServicesEvent::Limits(never) | ServicesEvent::Guard(never) => match never {},
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "libp2p's enum tells much more, some of it no longer"
)]
fn on_relay(
    event: &relay::Event,
    swarm: &libp2p::Swarm<Services>,
    clients: &mut BTreeSet<PeerId>,
    counts: &Counts,
) {
    match event {
        relay::Event::ReservationReqAccepted { src_peer_id, .. } => {
            clients.insert(*src_peer_id);
        }
        // It is told of every connection that ends.
        relay::Event::ReservationClosed { src_peer_id } if !swarm.is_connected(src_peer_id) => {
            clients.remove(src_peer_id);
        }
        relay::Event::CircuitReqAccepted { .. } => {
            counts.circuits.fetch_add(1, Ordering::Relaxed);
        }
        relay::Event::CircuitClosed { .. } => {
            counts.circuits.fetch_sub(1, Ordering::Relaxed);
        }
        _ => {}
    }
    counts.clients.store(clients.len(), Ordering::Relaxed);
}

/// Peers that are reachable at the same time: as many as are bound by UDP.
const CLIENTS_MAX: usize = 4096;
/// Connections at the same time: theirs, and those of the peers that look for them.
const CONNECTIONS_MAX: u32 = 6000;
/// Circuits that one peer opened.
const CIRCUITS_PER_PEER_MAX: usize = 32;
/// Households and offices behind one address; and a flood of connections is cheap to refuse.
const CROWD: Crowd = Crowd {
    per_source: 64,
    all: 6000,
    arrivals: 120,
};
/// How long a connection that carries nothing may stand.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a connection may take to be made.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a client is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(90);
/// What two need to exchange their addresses.
const INTRODUCTION_BYTES: u64 = 1 << 20;
/// The same in time.
const INTRODUCTION_TIME: Duration = Duration::from_secs(120);
