//! What happened, as one running hash; and as lines for people, if they want them.

use std::fs::File;
use std::io::{BufWriter, Write};

use meshnode_protocol::id::Digest;
use meshnode_protocol::identity::{hash, hash_as};
use meshnode_protocol::io::Notice;
use meshnode_protocol::link::{LinkInput, Service};

use crate::machine::Machine;

/// The trace of a run.
#[derive(Debug)]
pub struct Trace {
    hash: Digest,
    events: u64,
    lines: Option<BufWriter<File>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            hash: hash(b""),
            events: 0,
            lines: None,
        }
    }
}

impl Trace {
    /// A trace that also writes one line an event: virtual microseconds, machine, what.
    #[must_use]
    pub fn to_file(file: File) -> Self {
        Self {
            lines: Some(BufWriter::new(file)),
            ..Self::default()
        }
    }

    pub(crate) const fn hash(&self) -> Digest {
        self.hash
    }

    pub(crate) const fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn wake(&mut self, now_us: u64, machine: &Machine) {
        self.note(now_us, machine, b"wake", || "wake".to_owned());
    }

    pub(crate) fn datagram(&mut self, now_us: u64, machine: &Machine, bytes: &[u8]) {
        self.note(now_us, machine, bytes, || {
            format!("datagram of {} bytes", bytes.len())
        });
    }

    pub(crate) fn notice(&mut self, now_us: u64, machine: &Machine, notice: &Notice) {
        let text = format!("notice {notice:?}");
        self.note(now_us, machine, text.as_bytes(), || text.clone());
    }

    pub(crate) fn link(&mut self, now_us: u64, machine: &Machine, input: &LinkInput) {
        let (what, bytes): (&str, &[u8]) = match input {
            LinkInput::Up { peer, .. } => ("up", peer.as_bytes()),
            LinkInput::Down { peer, .. } => ("down", peer.as_bytes()),
            LinkInput::DialFailed { .. } => ("dial failed", &[]),
            LinkInput::Asked { service, bytes, .. } => match service {
                Service::Join => ("asked join", bytes),
                Service::Hello => ("asked hello", bytes),
                Service::Sync => ("asked sync", bytes),
                Service::Push => ("asked push", bytes),
            },
            LinkInput::Answered { result, .. } => match result {
                Ok(bytes) => ("answered", bytes),
                Err(_) => ("not answered", &[]),
            },
            LinkInput::Found { peer, .. } => ("found", peer.as_bytes()),
            LinkInput::Sighted { peer, .. } => ("sighted", peer.as_bytes()),
            LinkInput::Got { value, .. } => ("got", value),
            LinkInput::Gossip { bytes, .. } => ("gossip", bytes),
            LinkInput::Listening(_) => ("listening", &[]),
            LinkInput::Reserved { relay, .. } => ("reserved", relay.as_bytes()),
            LinkInput::Carrying { peer, .. } => ("carrying", peer.as_bytes()),
        };
        self.note(now_us, machine, bytes, || {
            let peer = match input {
                LinkInput::Up { peer, .. }
                | LinkInput::Down { peer, .. }
                | LinkInput::Asked { peer, .. }
                | LinkInput::Found { peer, .. }
                | LinkInput::Reserved { relay: peer, .. }
                | LinkInput::Carrying { peer, .. }
                | LinkInput::Sighted { peer, .. }
                | LinkInput::Gossip { from: peer, .. } => peer.short(),
                LinkInput::DialFailed { .. }
                | LinkInput::Answered { .. }
                | LinkInput::Got { .. }
                | LinkInput::Listening(_) => String::new(),
            };
            format!("{what} {peer} {}", bytes.len())
        });
    }

    fn note(
        &mut self,
        now_us: u64,
        machine: &Machine,
        payload: &[u8],
        line: impl FnOnce() -> String,
    ) {
        self.events += 1;
        let fields = [
            self.hash.as_bytes().as_slice(),
            &now_us.to_le_bytes(),
            machine.name.as_bytes(),
            payload,
        ];
        self.hash = hash_as("meshnode simulation event 1", &fields.concat());
        if let Some(lines) = &mut self.lines {
            // A trace that cannot be written is a trace that is missed, not a broken run.
            let _written = writeln!(lines, "{now_us:>12} {:<8} {}", machine.name, line());
        }
    }
}
