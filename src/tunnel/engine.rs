//! What the engine's threads share, and what they count.

use std::collections::BTreeSet;
use std::fmt;
use std::io::PipeReader;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use meshnode_protocol::peering::TunnelInput;
use meshnode_protocol::time::Moment;
use tokio::sync::mpsc;

use super::device::Device;
use super::filter::Terms;
use super::offload::Vnet;
use super::peer::Identity;
use super::relay::Relay;
use super::router::Router;
use super::watch::{Wake, Watch};
use super::ways::Ways;
use crate::clock::Clock;

/// Packets that the engine lost, by reason, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Not IP, or not as long as they say.
    pub malformed: u64,
    /// From a peer, with a source address that is not that peer's.
    pub spoofed: u64,
    /// To an address that nobody has.
    pub unroutable: u64,
    /// WireGuard messages and probes of strangers, replays, and wrong seals.
    pub unauthentic: u64,
    /// Datagrams for the core that found its queue full.
    pub overflow: u64,
    /// From or to a peer, and not allowed by the policy.
    pub denied: u64,
    /// Of a queue that does not get empty, so that its senders slow down.
    pub congested: u64,
    /// Too long for the path, and not to be cut; the sender was told.
    pub too_long: u64,
}

/// What the threads share.
pub(super) struct Engine {
    pub(super) device: Device,
    pub(super) ways: Ways,
    pub(super) terms: Terms,
    pub(super) identity: Identity,
    pub(super) router: ArcSwap<Router>,
    /// The relays whose frames are taken.
    pub(super) relays: ArcSwap<BTreeSet<SocketAddr>>,
    /// What this node carries between others.
    pub(super) relay: Relay,
    pub(super) events: mpsc::Sender<TunnelInput>,
    pub(super) clock: Clock,
    /// Reads end-of-file when the engine is to stop.
    pub(super) stopped: PipeReader,
    pub(super) failed: AtomicBool,
    pub(super) losses: [AtomicU64; Loss::COUNT],
    /// Counts the changes of peers, addresses and policy.
    pub(super) changes: AtomicU64,
}

/// Why a packet was lost.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    Malformed,
    Spoofed,
    Unroutable,
    Unauthentic,
    Overflow,
    Denied,
    Congested,
    TooLong,
}

impl Loss {
    pub(super) const COUNT: usize = Self::TooLong as usize + 1;
}

impl Engine {
    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Packets that come from now on are judged by what holds now.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    pub(super) fn count(&self, loss: Loss) {
        self.losses[loss as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the core, if its queue has room.
    pub(super) fn tell(&self, event: TunnelInput) -> bool {
        self.events.try_send(event).is_ok()
    }

    /// Writes a packet to the host, which may refuse it: a device that is down takes none.
    pub(super) fn write(&self, packet: &[u8]) {
        let headed = [&Vnet::PLAIN.bytes(), packet].concat();
        if let Err(error) = self.device.send(&headed) {
            tracing::trace!(%error, "packet not written to the device");
        }
    }

    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Waits until one of the descriptors can be read, the time is over, or the engine stops.
    pub(super) fn wait(&self, fds: &[BorrowedFd<'_>], timeout_ms: Option<u16>) -> Wake {
        Watch::new(self.stopped.as_fd(), fds.iter().copied()).wait(timeout_ms)
    }

    /// What was lost so far.
    pub(super) fn losses(&self) -> Losses {
        let count = |loss: Loss| self.losses[loss as usize].load(Ordering::Relaxed);
        Losses {
            malformed: count(Loss::Malformed),
            spoofed: count(Loss::Spoofed),
            unroutable: count(Loss::Unroutable),
            unauthentic: count(Loss::Unauthentic),
            overflow: count(Loss::Overflow),
            denied: count(Loss::Denied),
            congested: count(Loss::Congested),
            too_long: count(Loss::TooLong),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
