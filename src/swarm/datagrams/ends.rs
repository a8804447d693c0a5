//! The streams of one connection that carry datagrams: one that this node opened, one that the peer did.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};
use libp2p::{Stream, StreamProtocol};
use meshnode_protocol::peering::CircuitId;
use tokio::time::{Sleep, sleep};

use super::wire::Wire;
use crate::carrier::{Carrier, Queue};

/// What a connection is told: whether to have a stream of its own.
#[derive(Clone, Copy, Debug)]
pub(in crate::swarm) struct Want(pub(super) bool);

/// What a connection tells: its handle, while it carries datagrams.
#[derive(Clone, Copy, Debug)]
pub(in crate::swarm) struct Carries(pub(super) Option<CircuitId>);

/// Where handles and queues come from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) carrier: Carrier,
    pub(super) counted: Arc<AtomicU64>,
}

impl Source {
    fn queue(&self) -> Queue {
        let number = self.counted.fetch_add(1, Ordering::Relaxed);
        self.carrier.queue(CircuitId(number))
    }
}

/// The ends of one connection's streams.
pub(in crate::swarm) struct Ends {
    source: Source,
    wanted: bool,
    /// Whether a stream was asked for and is not there yet.
    asked: bool,
    /// Attempts that failed in a row, and the pause after them.
    tries: u32,
    pause: Option<Pin<Box<Sleep>>>,
    own: Option<Wire<Stream>>,
    theirs: Option<Wire<Stream>>,
    /// There is one exactly while there is a stream.
    queue: Option<Queue>,
    said: VecDeque<Carries>,
}

type Event = ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, (), Carries>;

impl Ends {
    pub(super) const fn new(source: Source) -> Self {
        Self {
            source,
            wanted: false,
            asked: false,
            tries: 0,
            pause: None,
            own: None,
            theirs: None,
            queue: None,
            said: VecDeque::new(),
        }
    }

    /// A stream of its own is asked for.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if !self.wanted || self.asked || self.own.is_some() {
            return Poll::Pending;
        }
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        self.asked = true;
        let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn again(&mut self) {
        let pause = PAUSE_MAX.min(PAUSE_MIN * 2u32.saturating_pow(self.tries.min(16)));
        self.pause = Some(Box::pin(sleep(pause)));
        self.tries += 1;
    }

    /// The queue follows the streams, and the behaviour hears of it.
    fn settle(&mut self) {
        let stands = self.own.is_some() || self.theirs.is_some();
        if stands && self.queue.is_none() {
            let queue = self.source.queue();
            self.said.push_back(Carries(Some(queue.id())));
            self.queue = Some(queue);
        } else if !stands && self.queue.take().is_some() {
            self.said.push_back(Carries(None));
        }
    }

    /// Takes what came, of each stream as much as is fair to the other connections.
    fn read(&mut self, cx: &mut Context<'_>) {
        let Some(id) = self.queue.as_ref().map(Queue::id) else {
            return;
        };
        let carrier = &self.source.carrier;
        let mut lost = false;
        for (wire, is_own) in [(&mut self.own, true), (&mut self.theirs, false)] {
            let Some(stream) = wire else { continue };
            let mut reads = 0;
            let end = loop {
                if reads == READS_MAX {
                    cx.waker().wake_by_ref();
                    break None;
                }
                reads += 1;
                match stream.poll_read(cx, |datagram| carrier.arrived(id, datagram)) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => break Some(error),
                    Poll::Pending => break None,
                }
            };
            if let Some(error) = end {
                tracing::debug!(%error, "A stream of datagrams ended");
                *wire = None;
                lost |= is_own;
            }
        }
        if lost {
            self.again();
        }
    }

    /// Writes what goes, by the stream of its own if there is one.
    fn write(&mut self, cx: &mut Context<'_>) {
        // What the peer's stream holds goes there, whatever came after it.
        if self.own.is_some()
            && let Some(wire) = &mut self.theirs
            && let Poll::Ready(Err(_)) = flush(wire, cx)
        {
            self.theirs = None;
        }
        let Some(queue) = &mut self.queue else { return };
        let is_own = self.own.is_some();
        let wire = if is_own {
            &mut self.own
        } else {
            &mut self.theirs
        };
        let Some(stream) = wire else { return };
        let end = loop {
            match stream.poll_write(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Some(error),
                Poll::Pending => break None,
            }
            match queue.poll_next(cx) {
                Poll::Ready(datagrams) => stream.put(&datagrams),
                Poll::Pending => break flush_error(stream.poll_flush(cx)),
            }
        };
        if let Some(error) = end {
            tracing::debug!(%error, "A stream takes no datagrams");
            *wire = None;
            if is_own {
                self.again();
            }
        }
    }
}

fn flush(wire: &mut Wire<Stream>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
    ready!(wire.poll_write(cx))?;
    wire.poll_flush(cx)
}

fn flush_error(flushed: Poll<std::io::Result<()>>) -> Option<std::io::Error> {
    match flushed {
        Poll::Ready(Err(error)) => Some(error),
        Poll::Ready(Ok(())) | Poll::Pending => None,
    }
}

impl ConnectionHandler for Ends {
    type FromBehaviour = Want;
    type ToBehaviour = Carries;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.queue.is_some()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.settle();
        self.read(cx);
        self.write(cx);
        self.settle();
        if let Some(said) = self.said.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(said));
        }
        self.poll_open(cx)
    }

    fn on_behaviour_event(&mut self, Want(wanted): Want) {
        self.wanted = wanted;
        if wanted {
            self.tries = 0;
            self.pause = None;
        } else {
            self.own = None;
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "libp2p's enum is open and tells much more"
    )]
    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            // A peer that opens another one gave up the one before.
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => self.theirs = Some(Wire::new(protocol)),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol, ..
            }) => {
                self.asked = false;
                self.own = self.wanted.then(|| Wire::new(protocol));
            }
            ConnectionEvent::DialUpgradeError(failed) => {
                tracing::debug!(error = %failed.error, "A stream for datagrams is not there");
                self.asked = false;
                self.again();
            }
            _ => {}
        }
    }
}

/// The name on the wire.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/meshnode/tunnel/1");
/// Reads of one stream before the others have their turn.
const READS_MAX: usize = 8;
/// The pause after the first attempt that failed.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(60);
