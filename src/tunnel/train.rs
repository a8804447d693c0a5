//! Sealed packets on their way out: as long as they go one way and have one length, they go in one call.

use meshnode_protocol::peering::Path;

use super::packet::PACKET_BYTES_MAX;
use super::ways::{LEAD_MAX, Ways, lead};

/// Datagrams in one train at most (`UDP_MAX_SEGMENTS` of older kernels).
const COUNT_MAX: usize = 64;
/// Bytes of one train at most: with its headers it is an IP packet to the kernel.
const BYTES_MAX: usize = 65_000;
/// Bytes of the largest sealed packet, with what goes before it.
pub(crate) const SEALED_MAX: usize = PACKET_BYTES_MAX + 64 + LEAD_MAX;
/// Trains that go datagram by datagram where the kernel refused to cut one, before it is asked again.
const SINGLE_TRAINS: u16 = 1000;

/// A train of datagrams that is being made.
#[derive(Debug)]
pub(crate) struct Train {
    buffer: Vec<u8>,
    length: usize,
    each: usize,
    count: usize,
    path: Option<Path>,
    /// A shorter one was its last.
    closed: bool,
    /// Where the kernel does not cut, and for how many trains more that is taken for granted.
    single: Option<(Path, u16)>,
}

impl Train {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; BYTES_MAX + SEALED_MAX],
            length: 0,
            each: 0,
            count: 0,
            path: None,
            closed: false,
            single: None,
        }
    }

    /// Room behind the train for one more datagram, of about so many bytes and what goes before it.
    pub(crate) fn room(&mut self, bytes: usize, ways: &Ways) -> &mut [u8] {
        // Mostly the next one goes the same way.
        let lead = self.path.map_or(0, lead);
        if !self.takes(lead + bytes) {
            self.flush(ways);
        }
        &mut self.buffer[self.length..]
    }

    fn takes(&self, bytes: usize) -> bool {
        self.count == 0
            || !self.closed
                && bytes <= self.each
                && self.count < COUNT_MAX
                && self.length + bytes <= BYTES_MAX
    }

    /// Takes the datagram that was written into the room.
    pub(crate) fn push(&mut self, path: Path, bytes: usize, ways: &Ways) {
        if self.count > 0 && (self.path != Some(path) || !self.takes(bytes)) {
            let at = self.length;
            self.flush(ways);
            self.buffer.copy_within(at..at + bytes, 0);
        }
        if self.count == 0 {
            self.path = Some(path);
            self.each = bytes;
        }
        self.closed = bytes < self.each;
        self.length += bytes;
        self.count += 1;
    }

    /// Sends the train.
    pub(crate) fn flush(&mut self, ways: &Ways) {
        if let Some(path) = self.path.take() {
            let bytes = &self.buffer[..self.length];
            let granted = self
                .single
                .filter(|(single, left)| *single == path && *left > 0);
            if let Some((_, left)) = granted {
                ways.send_single(path, bytes, self.each);
                self.single = Some((path, left - 1));
            } else if !ways.send_train(path, bytes, self.each) {
                self.single = Some((path, SINGLE_TRAINS));
            }
        }
        self.length = 0;
        self.count = 0;
        self.closed = false;
    }
}
