//! The control plane's links over libp2p: bytes in, bytes out. It knows transport keys, never what a message means.
//!
//! One task owns libp2p. What happens goes to the core through a bounded channel; while that is full the task stops to
//! listen to the network, but goes on to take orders, so that the two can never wait for each other.
//!
//! A peer is a stranger until the core trusts it. A stranger can ask by [`Service::Join`] and [`Service::Hello`], put
//! and get in the DHT, and nothing else, for a short time, a few at a time from one source.
//!
//! [`Service::Join`]: meshnode_protocol::link::Service::Join
//! [`Service::Hello`]: meshnode_protocol::link::Service::Hello

mod address;
mod behaviour;
mod circuits;
mod codec;
mod datagrams;
mod deposits;
mod dht;
mod dial;
mod gate;
mod guard;
mod happenings;
mod homes;
mod leash;
mod legs;
mod look;
mod orders;
mod pulse;
mod roads;
mod start;
mod state;
#[cfg(test)]
mod tests;
mod volunteer;

use std::collections::BTreeMap;
use std::fmt;

use meshnode_protocol::id::TransportKey;
use meshnode_protocol::link::{LinkInput, LinkOutput};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::carrier::Carrier;
pub use look::{Seen, look};
pub use roads::{Certificate, Proxy, Road, Trouble};
pub use volunteer::{Carried, Volunteer, VolunteerConfig};

use roads::Map;
use state::State;

/// What a swarm needs to start.
pub struct SwarmConfig {
    /// The seed of the transport key T (Ed25519).
    pub seed: Zeroizing<[u8; 32]>,
    /// TCP port of the control plane; QUIC listens on the UDP port after it.
    pub port: u16,
    /// Whether to announce this node on the LAN and to listen for others.
    pub mdns: bool,
    /// Where the datagrams that go and come by streams are put.
    pub carrier: Carrier,
    /// For the callers at the TCP port that speak TLS.
    pub certificate: Certificate,
    /// What leads out of this site.
    pub proxy: Option<Proxy>,
}

/// How this node's own calls by TCP got through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Travelled {
    /// By which road each peer was called, while that connection stands.
    pub peers: BTreeMap<TransportKey, Road>,
    /// What came of the proxy, the last time it was asked.
    pub proxy: Option<Result<(), Trouble>>,
}

impl fmt::Debug for SwarmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwarmConfig")
            .field("port", &self.port)
            .field("mdns", &self.mdns)
            .finish_non_exhaustive()
    }
}

/// The running links; everything that happens arrives as [`LinkInput`].
#[derive(Debug)]
pub struct Swarm {
    orders: mpsc::UnboundedSender<LinkOutput>,
    map: Map,
    task: tokio::task::JoinHandle<()>,
}

impl Swarm {
    /// Opens the listeners and starts the links' task; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When a port is in use; the message names it.
    pub fn start(config: SwarmConfig, events: mpsc::Sender<LinkInput>) -> anyhow::Result<Self> {
        let map = Map::new(config.proxy.clone());
        let swarm = start::open(config, &map)?;
        // Not bounded by a number but by what it answers: the core gives orders only for inputs and its own timers.
        let (orders, queue) = mpsc::unbounded_channel();
        let task = tokio::spawn(State::new(swarm, map.clone()).run(queue, events));
        Ok(Self { orders, map, task })
    }

    /// Hands one order to the links; never waits. Orders after the task's end are dropped.
    pub fn act(&self, output: LinkOutput) {
        if self.orders.send(output).is_err() {
            tracing::debug!("The links are closed");
        }
    }

    /// How calls by TCP got through.
    #[must_use]
    pub fn travelled(&self) -> Travelled {
        Travelled {
            peers: self.map.memory.standing(),
            proxy: self.map.memory.proxy(),
        }
    }

    /// Closes all connections, waits at most a second for that, and ends the task.
    pub async fn stop(self) {
        drop(self.orders);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "The links' task broke");
        }
    }
}
