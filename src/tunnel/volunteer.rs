//! A relay alone: sockets and one thread. It has no device and no key of any network, and opens nothing.

use std::fmt;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use meshnode_protocol::io::CarryTerms;
use meshnode_protocol::peering::Socket;
use meshnode_protocol::probe::{DatagramKind, classify};
use meshnode_protocol::relay::exchange::{Report, Volume};
use meshnode_protocol::relay::frame::Frame;

use super::AbortOnPanic;
use super::inbound::{BATCH, DATAGRAM_BYTES_MAX, run_of_frames};
use super::relay::Relay;
use super::sockets::{Arrival, Sockets, aside};
use super::watch::{Wake, Watch};
use crate::clock::Clock;

/// A running relay. Its thread ends when it is dropped.
pub struct Volunteer {
    shared: Arc<Shared>,
    /// Closes to stop the thread.
    alive: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    sockets: Sockets,
    relay: Relay,
    clock: Clock,
    /// Reads end-of-file when the thread is to stop.
    stopped: PipeReader,
}

impl Volunteer {
    /// Opens both families' sockets at a port, 0 for a random one, and carries on these terms. `volume` is what passed
    /// in the month before the start.
    ///
    /// # Errors
    /// When the port is taken, or the kernel refuses a thread or randomness.
    pub fn start(port: u16, terms: CarryTerms, volume: Volume) -> anyhow::Result<Self> {
        let (stopped, alive) = io::pipe().context("Failed to open a pipe")?;
        let shared = Arc::new(Shared {
            sockets: Sockets::open(port)?,
            relay: Relay::default(),
            clock: Clock::new(),
            stopped,
        });
        shared.relay.carry(Some(terms))?;
        shared.relay.resume(volume);
        let thread = thread::Builder::new()
            .name("mn-relay".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    let _guard = AbortOnPanic;
                    shared.run();
                }
            })
            .context("Failed to start thread mn-relay")?;
        Ok(Self {
            shared,
            alive: Some(alive),
            thread: Some(thread),
        })
    }

    /// The UDP port of both families.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.shared.sockets.port()
    }

    /// Carries on other terms from now on; clients that they admit stay.
    ///
    /// # Errors
    /// None, as long as it runs.
    pub fn set_terms(&self, terms: CarryTerms) -> anyhow::Result<()> {
        self.shared.relay.carry(Some(terms))
    }

    /// How it does.
    #[must_use]
    pub fn report(&self) -> Report {
        let report = self.shared.relay.report(self.shared.clock.now());
        report.expect("a volunteer carries from start to end")
    }

    /// Ends the thread and waits for it.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Volunteer {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panics ends the process before it could be joined.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Volunteer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Volunteer({})", self.port())
    }
}

impl Shared {
    fn run(&self) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let sources: Vec<(Socket, BorrowedFd<'_>)> = self.sockets.lasting().collect();
        let mut watch = Watch::new(self.stopped.as_fd(), sources.iter().map(|(_, fd)| *fd));
        while watch.wait(None) == Wake::Ready {
            for (socket, _) in &sources {
                self.drain(*socket, &mut buffer);
            }
        }
    }

    fn drain(&self, socket: Socket, buffer: &mut [u8]) {
        let mut aside = aside();
        for _ in 0..BATCH {
            match self.sockets.receive(socket, buffer, &mut aside) {
                Ok(Some(train)) => self.handle(&train, &mut buffer[..train.length]),
                Ok(None) => return,
                Err(error) => {
                    tracing::trace!(%error, "nothing received");
                    return;
                }
            }
        }
    }

    fn handle(&self, train: &Arrival, bytes: &mut [u8]) {
        let now = self.clock.now();
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + train.each);
            let first = &bytes[at..end];
            match classify(first) {
                DatagramKind::Stun => {
                    self.relay.on_stun(&self.sockets, first, train, now);
                }
                DatagramKind::Relay => match Frame::open(first) {
                    Some(Frame::Word(word)) => {
                        self.relay.on_word(&self.sockets, word, train, now);
                    }
                    Some(Frame::Passed { .. }) => {
                        let end = at + run_of_frames(&bytes[at..], train.each);
                        let run = &mut bytes[at..end];
                        self.relay.pass(&self.sockets, run, train, now);
                        at = end;
                        continue;
                    }
                    None => {}
                },
                DatagramKind::WireGuard | DatagramKind::Probe | DatagramKind::Other => {}
            }
            at = end;
        }
    }
}
