//! From the device to the network: one thread, one packet at a time.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use meshnode_protocol::peering::TunnelInput;
use meshnode_protocol::time::Moment;

use super::filter::Verdict;
use super::flows::Direction;
use super::packet::Packet;
use super::peer::{OVERHEAD, Sent};
use super::refusal::refusal;
use super::sockets::Patience;
use super::{Engine, Loss, Wake};

/// Bytes of the largest inner packet that is read whole.
const PACKET_BYTES_MAX: usize = 65_535;

/// WireGuard pads packets to a multiple of this, so that their lengths tell less.
const PADDING: usize = 16;

/// Packets taken before looking whether the engine stops.
const BATCH: usize = 64;

/// Answers "no route to host" and refusals in a second; a scan of a whole range needs no more.
const ANSWERS_PER_SECOND: u32 = 100;

/// The state of the outbound thread.
pub(crate) struct Outbound {
    engine: Arc<Engine>,
    packet: Vec<u8>,
    out: Vec<u8>,
    answers: Answers,
}

/// The second of uptime in which answers are counted, and how many were asked for in it.
#[derive(Default)]
struct Answers {
    second: u64,
    count: u32,
}

impl Answers {
    /// Whether one more may be given.
    fn one_more(&mut self, now: Moment) -> bool {
        let second = now.uptime_ms() / 1000;
        if self.second != second {
            *self = Self { second, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= ANSWERS_PER_SECOND
    }
}

impl Outbound {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            packet: vec![0; PACKET_BYTES_MAX + PADDING],
            out: vec![0; PACKET_BYTES_MAX + PADDING + OVERHEAD],
            answers: Answers::default(),
        }
    }

    /// Runs until the engine stops or the device is gone.
    pub(crate) fn run(mut self) {
        while self.engine.wait(&[self.engine.device.as_fd()], None) == Wake::Ready {
            if let Err(error) = self.drain() {
                // Somebody removed the device under us; there is nothing left to read.
                tracing::error!(%error, "the network device is gone");
                self.engine.fail();
                return;
            }
        }
    }

    fn drain(&mut self) -> io::Result<()> {
        for _ in 0..BATCH {
            match self
                .engine
                .device
                .receive(&mut self.packet[..PACKET_BYTES_MAX])
            {
                Ok(length) => self.handle(length, self.engine.now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn handle(&mut self, length: usize, now: Moment) {
        let Some(packet) = Packet::parse(&self.packet[..length]) else {
            self.engine.count(Loss::Malformed);
            return;
        };
        let router = self.engine.router.load();
        let Some(peer) = router.by_address(packet.destination()) else {
            self.engine.count(Loss::Unroutable);
            if self.answers.one_more(now)
                && let Some(error) = packet.unreachable()
            {
                self.engine.write(&error);
            }
            return;
        };
        match peer.filter().judge(&packet, Direction::Out, now) {
            Verdict::Pass => {}
            Verdict::Denied => {
                self.engine.count(Loss::Denied);
                if self.answers.one_more(now)
                    && let Some(refusal) = refusal(&packet)
                {
                    self.engine.write(&refusal);
                }
                return;
            }
            Verdict::Malformed => {
                self.engine.count(Loss::Malformed);
                return;
            }
        }
        let length = packet.bytes().len();
        let padded = length
            .next_multiple_of(PADDING)
            .min(usize::from(self.engine.mtu))
            .max(length);
        self.packet[length..padded].fill(0);
        match peer.seal(&self.packet[..padded], length, &mut self.out, now) {
            Sent::Datagram(path, bytes) => self.engine.sockets.send(path, bytes, Patience::Wait),
            Sent::Waits | Sent::NoPath(false) => {}
            Sent::NoPath(true) => {
                self.engine.tell(TunnelInput::Wanted { key: peer.key() });
            }
        }
    }
}
