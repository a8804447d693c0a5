//! From the device to the network: one thread, from each read to the call that sends all that came of it.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use meshnode_protocol::peering::TunnelInput;
use meshnode_protocol::time::Moment;

use super::allowance::Allowance;
use super::filter::Verdict;
use super::flows::Direction;
use super::offload::{VNET_BYTES, Vnet};
use super::packet::{PACKET_BYTES_MAX, Packet};
use super::peer::{OVERHEAD, Peer, Sent};
use super::refusal::refusal;
use super::router::Router;
use super::split::{Split, Unfit};
use super::standing::Standing;
use super::train::Train;
use super::watch::Wake;
use super::{Engine, Loss};

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
    train: Train,
    standing: Standing,
    answers: Allowance,
}

impl Outbound {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            packet: vec![0; VNET_BYTES + PACKET_BYTES_MAX + PADDING],
            train: Train::new(),
            standing: Standing::default(),
            answers: Allowance::new(ANSWERS_PER_SECOND),
        }
    }

    /// Runs until the engine stops or the device is gone.
    pub(crate) fn run(mut self) {
        let engine = Arc::clone(&self.engine);
        let fds = [engine.device.as_fd()];
        while engine.wait(&fds, None) == Wake::Ready {
            match self.drain() {
                Ok(true) if engine.wait(&fds, Some(0)) == Wake::Ready => {}
                Ok(_) => self.standing.empty(),
                Err(error) => {
                    // Somebody removed the device under us; there is nothing left to read.
                    tracing::error!(%error, "the network device is gone");
                    engine.fail();
                    return;
                }
            }
        }
    }

    /// Whether there may be more.
    fn drain(&mut self) -> io::Result<bool> {
        let mut more = true;
        for _ in 0..BATCH {
            let room = VNET_BYTES + PACKET_BYTES_MAX;
            match self.engine.device.receive(&mut self.packet[..room]) {
                Ok(length) => self.handle(length, self.engine.now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    more = false;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A packet that the host could not describe; it is gone, the device is not.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.engine.count(Loss::Malformed);
                }
                Err(error) => return Err(error),
            }
        }
        self.train.flush(&self.engine.ways);
        Ok(more)
    }

    fn handle(&mut self, length: usize, now: Moment) {
        let router = self.engine.router.load();
        let Some((vnet, peer)) = self.admit(&router, length, now) else {
            return;
        };
        let length = length - VNET_BYTES;
        let mtu = peer.mtu();
        let split = Split::new(&mut self.packet[VNET_BYTES..], length, vnet, mtu);
        let mut split = match split {
            Ok(split) => split,
            Err(Unfit::Malformed) => {
                self.engine.count(Loss::Malformed);
                return;
            }
            Err(Unfit::TooLong) => {
                self.engine.count(Loss::TooLong);
                let packet = Packet::parse(&self.packet[VNET_BYTES..][..length]);
                let error = packet.and_then(|packet| packet.too_long(mtu));
                self.answer(error, now);
                return;
            }
        };
        let count = split.count();
        // A packet that stands alone is perhaps all that its flow has: it is never the one that is lost.
        let loses = self.standing.loses(now.uptime_us, count > 1);
        for number in 0..count {
            let packet = split.packet(number);
            if loses && number == 0 && !split.mark(packet.clone()) {
                self.engine.count(Loss::Congested);
                continue;
            }
            let length = packet.len();
            let padded = length.next_multiple_of(PADDING).min(mtu).max(length);
            let ways = &self.engine.ways;
            let room = self.train.room(padded + OVERHEAD, ways);
            let sent = split.padded(packet, padded, |packet| {
                match peer.seal(packet, length, room, now) {
                    Sent::Datagram(path, bytes) => Some((path, bytes.len())),
                    Sent::Waits | Sent::NoPath(false) => None,
                    Sent::NoPath(true) => {
                        self.engine.tell(TunnelInput::Wanted { key: peer.key() });
                        None
                    }
                }
            });
            if let Some((path, bytes)) = sent {
                self.train.push(path, bytes, ways);
            }
        }
    }

    /// Tells the host what became of its packet, if so many answers may go.
    fn answer(&mut self, answer: Option<Vec<u8>>, now: Moment) {
        if let Some(answer) = answer
            && self.answers.one_more(now)
        {
            self.engine.write(&answer);
        }
    }

    /// Judges the packet that was read, and answers one that goes nowhere: how to cut it, and whose it is.
    fn admit<'a>(
        &mut self,
        router: &'a Router,
        length: usize,
        now: Moment,
    ) -> Option<(Vnet, &'a Arc<Peer>)> {
        let (vnet, packet) = self.packet[..length].split_first_chunk::<VNET_BYTES>()?;
        let read = Vnet::parse(vnet).zip(Packet::parse(packet));
        let Some((vnet, packet)) = read else {
            self.engine.count(Loss::Malformed);
            return None;
        };
        let Some(peer) = router.by_address(packet.destination()) else {
            self.engine.count(Loss::Unroutable);
            let error = packet.unreachable();
            self.answer(error, now);
            return None;
        };
        match peer.filter().judge(&packet, Direction::Out, now) {
            Verdict::Pass => Some((vnet, peer)),
            Verdict::Denied => {
                self.engine.count(Loss::Denied);
                let refusal = refusal(&packet);
                self.answer(refusal, now);
                None
            }
            Verdict::Malformed => {
                self.engine.count(Loss::Malformed);
                None
            }
        }
    }
}
