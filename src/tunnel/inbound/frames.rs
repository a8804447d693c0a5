//! Frames of the UDP relay: as a client of relays that the core chose, and as a relay of others.

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::{Packet as WireGuard, TunnResult};
use meshnode_protocol::peering::{Path, TunnelInput};
use meshnode_protocol::probe::{DatagramKind, RELAY_MAGIC, classify, tag_of};
use meshnode_protocol::relay::frame::{Answer, Frame, HEADER_BYTES, Question};
use meshnode_protocol::time::Moment;

use super::super::router::Router;
use super::super::sockets::Arrival;
use super::super::{Engine, Loss};
use super::Inbound;

/// The first byte of a WireGuard message that carries a packet.
const WIREGUARD_DATA: u8 = 4;

/// Bytes of the frames at the beginning of a train that have one header; 0 when the first datagram is none.
pub(crate) fn run_of_frames(train: &[u8], each: usize) -> usize {
    let header = train[..train.len().min(each)].first_chunk::<HEADER_BYTES>();
    let Some(header) = header.filter(|header| header.starts_with(&RELAY_MAGIC)) else {
        return 0;
    };
    let same = |frame: &&[u8]| frame.starts_with(header);
    train.chunks(each).take_while(same).map(<[u8]>::len).sum()
}

/// Whether a datagram carries a packet, for this node or somebody else.
pub(super) fn is_data(datagram: &[u8]) -> bool {
    let inner = match datagram.starts_with(&RELAY_MAGIC) {
        true => HEADER_BYTES,
        false => 0,
    };
    datagram.get(inner) == Some(&WIREGUARD_DATA)
}

impl Inbound {
    /// Takes frames with one header.
    pub(super) fn handle_frames(
        &mut self,
        router: &Router,
        run: &mut [u8],
        train: &Arrival,
        now: Moment,
    ) {
        let first = &run[..run.len().min(train.each)];
        match Frame::open(first) {
            Some(Frame::Word(_)) => {
                for word in run.chunks(train.each) {
                    self.handle_word(word, train, now);
                }
            }
            Some(Frame::Passed { mailbox, datagram }) => {
                let relay = train.remote;
                let carries = self.engine.relay.carries();
                let chosen = self.engine.relays.load().contains(&relay);
                if chosen && (!carries || self.is_for_us(router, datagram)) {
                    let path = Path::Relayed { relay, mailbox };
                    for frame in run.chunks(train.each) {
                        self.handle_passed(router, frame, path, now);
                    }
                } else if carries {
                    let sockets = &self.engine.ways.sockets;
                    if !self.engine.relay.pass(sockets, run, train, now) {
                        self.engine.count(Loss::Malformed);
                    }
                } else {
                    self.engine.count(Loss::Unauthentic);
                }
            }
            None => self.engine.count(Loss::Malformed),
        }
    }

    fn handle_passed(&mut self, router: &Router, frame: &[u8], path: Path, now: Moment) {
        match Frame::open(frame) {
            Some(Frame::Passed { datagram, .. }) => {
                self.handle_datagram(router, datagram, path, now);
            }
            Some(Frame::Word(_)) | None => self.engine.count(Loss::Malformed),
        }
    }

    fn handle_word(&mut self, word: &[u8], train: &Arrival, now: Moment) {
        let relay = train.remote;
        if Question::parse(word).is_some() {
            let sockets = &self.engine.ways.sockets;
            if !self.engine.relay.on_word(sockets, word, train, now) {
                self.engine.count(Loss::Unauthentic);
            }
        } else if Answer::parse(word).is_none() {
            self.engine.count(Loss::Malformed);
        } else if !self.engine.relays.load().contains(&relay) {
            self.engine.count(Loss::Unauthentic);
        } else {
            let bytes = word.to_vec();
            if !self.words.one_more(now) || !self.engine.tell(TunnelInput::Relay { relay, bytes }) {
                self.engine.count(Loss::Overflow);
            }
        }
    }

    /// Whether a datagram from a relay that is this node's client too is for this node, or to be passed on: the frames
    /// look alike.
    fn is_for_us(&mut self, router: &Router, datagram: &[u8]) -> bool {
        match classify(datagram) {
            DatagramKind::Probe => tag_of(datagram).is_some_and(|tag| router.knows_probe(&tag)),
            DatagramKind::WireGuard => {
                let limiter = &self.engine.identity.limiter;
                match limiter.verify_packet(None, datagram, &mut self.out) {
                    // Its first seal was made with this node's key.
                    Ok(WireGuard::HandshakeInit(_)) => true,
                    Ok(message) => self.engine.recipient(router, &message).is_some(),
                    Err(TunnResult::Err(WireGuardError::UnderLoad)) => true,
                    Err(_) => false,
                }
            }
            DatagramKind::Stun | DatagramKind::Relay | DatagramKind::Other => false,
        }
    }
}

impl Engine {
    /// Answers a STUN request while this node carries for others.
    pub(super) fn on_stun(&self, message: &[u8], train: &Arrival, now: Moment) {
        if !self.relay.on_stun(&self.ways.sockets, message, train, now) {
            self.count(Loss::Malformed);
        }
    }
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::peering::Mailbox;
    use meshnode_protocol::relay::frame::header;

    use super::*;

    #[test]
    fn frames_run_as_far_as_their_headers_are_one() {
        let frame = |mailbox, fill| [&header(Mailbox(mailbox))[..], &[fill; 20]].concat();
        let (a, b) = (frame(300, 1), frame(301, 2));
        let run = |train: &[&[u8]]| run_of_frames(&train.concat(), 32);
        assert_eq!(run(&[&a, &frame(300, 9), &b]), 64);
        assert_eq!(run(&[&a, &a[..12]]), 44);
        assert_eq!(run(&[&a, &a[..11]]), 32);
        assert_eq!(run(&[&[4; 32], &a]), 0);
        assert_eq!(run(&[&a[..11]]), 0);
        assert_eq!(run(&[&[]]), 0);
    }
}
