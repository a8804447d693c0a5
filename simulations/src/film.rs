//! How a run went, moment by moment: who knew what at which time, and what was sent.

use std::collections::BTreeMap;

use meshnode_protocol::id::{Digest, OpId};
use meshnode_protocol::identity::hash;

use crate::world::World;

/// Between two pictures.
const EVERY_US: u64 = 500_000;

/// Pictures of the world at equal distances.
#[derive(Clone, Debug)]
pub(crate) struct Film {
    next_us: u64,
    frames: Vec<Frame>,
}

#[derive(Clone, Debug)]
struct Frame {
    at_us: u64,
    /// What each running honest machine knows: digest of its heads, digest of its records.
    known: Vec<(Digest, Digest)>,
    /// What all machines have sent so far: control plane with gossip, and probes.
    sent: [u64; 2],
}

/// One moment of a finished film.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Virtual time, milliseconds.
    pub at_ms: u64,
    /// Machines that run.
    pub running: usize,
    /// Share of them whose heads are those of the end.
    pub heads: f64,
    /// Share of them whose records are those that most have at this time.
    pub records: f64,
    /// Bytes that one sent on the control plane since the last moment, as a rate per minute.
    pub control_bytes: f64,
    /// The same of probes.
    pub probe_bytes: f64,
}

impl Film {
    /// A film of two pictures a virtual second.
    pub(crate) const fn new() -> Self {
        Self {
            next_us: EVERY_US,
            frames: Vec::new(),
        }
    }

    /// Whether the next picture is due before an event.
    pub(crate) const fn is_due(&self, at_us: u64) -> bool {
        self.next_us <= at_us
    }

    /// What the film shows, with the end in mind.
    pub(crate) fn moments(&self) -> Vec<Moment> {
        let last = self.frames.last().and_then(|frame| most(frame, |k| k.0));
        let mut before = [0; 2];
        let mut then_us = 0;
        let mut moments = Vec::new();
        for frame in &self.frames {
            let usual = most(frame, |known| known.1);
            let running = frame.known.len();
            let share = |count: usize| count as f64 / running.max(1) as f64;
            let minutes = (frame.at_us - then_us) as f64 / 60e6 * running.max(1) as f64;
            let rate = |at: usize| frame.sent[at].saturating_sub(before[at]) as f64 / minutes;
            moments.push(Moment {
                at_ms: frame.at_us / 1000,
                running,
                heads: share(frame.known.iter().filter(|k| Some(k.0) == last).count()),
                records: share(frame.known.iter().filter(|k| Some(k.1) == usual).count()),
                control_bytes: rate(0),
                probe_bytes: rate(1),
            });
            (before, then_us) = (frame.sent, frame.at_us);
        }
        moments
    }
}

/// What most machines of a frame know.
fn most(frame: &Frame, of: impl Fn(&(Digest, Digest)) -> Digest) -> Option<Digest> {
    let mut counts: BTreeMap<Digest, usize> = BTreeMap::new();
    for known in &frame.known {
        *counts.entry(of(known)).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(digest, _)| digest)
}

impl World {
    /// Takes the pictures that are due before a time.
    pub(crate) fn film_until(&mut self, at_us: u64) {
        while let Some(mut film) = self.film.take_if(|film| film.is_due(at_us)) {
            let frame = self.picture(film.next_us);
            film.frames.push(frame);
            film.next_us += EVERY_US;
            self.film = Some(film);
        }
    }

    fn picture(&mut self, at_us: u64) -> Frame {
        let mut known = Vec::new();
        let mut sent = self.sent_before;
        for machine in &mut self.machines {
            sent[0] += machine.sent.control_bytes + machine.sent.gossip_bytes;
            sent[1] += machine.sent.probe_bytes;
            if machine.liar {
                continue;
            }
            let heads: Vec<u8> = machine
                .disk
                .heads()
                .iter()
                .flat_map(OpId::as_bytes)
                .copied()
                .collect();
            let digests = machine.node.as_mut().and_then(|node| node.digests());
            known.extend(digests.map(|[_, _, records]| (hash(&heads), records)));
        }
        Frame { at_us, known, sent }
    }

    /// Forgets what was sent so far, to count anew; the film goes on.
    pub(crate) fn count_anew(&mut self) {
        for machine in &mut self.machines {
            let sent = std::mem::take(&mut machine.sent);
            self.sent_before[0] += sent.control_bytes + sent.gossip_bytes;
            self.sent_before[1] += sent.probe_bytes;
        }
    }
}
