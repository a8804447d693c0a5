//! A member that lies: what it says to others is bent on its way out.

use meshnode_protocol::body::Ipv4Range;
use meshnode_protocol::id::{Digest, OpId};
use meshnode_protocol::io::{Output, Write};
use meshnode_protocol::link::Service;
use meshnode_protocol::name::{NetworkName, NodeName};
use meshnode_protocol::node::{Founding, Node};
use meshnode_protocol::time::Moment;
use meshnode_protocol::wire::{Items, Set, Summary, SyncAnswer, SyncRequest};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use crate::chance::{below, index, permille, seed};
use crate::machine::MachineId;
use crate::world::World;

/// Of a thousand messages of a liar so many are bent; the rest keeps it in touch.
const LIES: u32 = 500;
/// Messages remembered for replays.
const REMEMBERED_MAX: usize = 64;

/// What liars have heard themselves say, to say it again.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    messages: Vec<Vec<u8>>,
    /// An op of another network.
    pub(crate) foreign: Vec<Vec<u8>>,
}

impl World {
    /// The ops of a network that nobody here has heard of.
    pub(crate) fn foreign_ops(&mut self) -> Vec<Vec<u8>> {
        let founding = Founding {
            network: NetworkName::parse("elsewhere").expect("a word makes a name"),
            node: NodeName::parse("stranger").expect("a word makes a name"),
            ipv4_range: Ipv4Range::DEFAULT,
            owner: None,
            phrases: 1,
            threshold: 1,
        };
        let seed = seed(&mut self.rng);
        let now = Moment::default();
        let mut node = Node::found(founding, self.setup(), seed, now).node;
        let mut ops = Vec::new();
        while let Some(output) = node.poll_output() {
            if let Output::Persist { writes, .. } = output {
                ops.extend(writes.into_iter().filter_map(|write| match write {
                    Write::Op(_, bytes) => Some(bytes),
                    Write::Admit(..)
                    | Write::DropAdmit(_)
                    | Write::Record(..)
                    | Write::DropRecord(_)
                    | Write::Secrets(_)
                    | Write::Heads(_)
                    | Write::Heard(..)
                    | Write::Blocked(_)
                    | Write::Trial(_) => None,
                }));
            }
        }
        ops
    }

    /// What leaves a machine: the truth, unless it is a liar.
    pub(crate) fn distort(
        &mut self,
        id: MachineId,
        service: Service,
        bytes: Vec<u8>,
        question: bool,
    ) -> Vec<u8> {
        if !self.machine(id).liar {
            return bytes;
        }
        if self.memory.messages.len() < REMEMBERED_MAX {
            self.memory.messages.push(bytes.clone());
        }
        // A hello that fails ends the connection: the liar keeps that one honest most of the time.
        let chance = if service == Service::Hello { 50 } else { LIES };
        if !permille(&mut self.rng, chance) {
            return bytes;
        }
        self.lie(bytes, question)
    }

    fn lie(&mut self, bytes: Vec<u8>, question: bool) -> Vec<u8> {
        let rng = &mut self.rng;
        match below(rng, 8) {
            0 => flip(rng, bytes),
            1 => {
                let cut = index(rng, bytes.len());
                bytes[..cut].to_vec()
            }
            2 => noise(rng, 2000),
            3 => {
                let at = index(rng, self.memory.messages.len());
                self.memory.messages[at].clone()
            }
            4 if question => SyncRequest::Summary(summary(rng)).to_bytes(),
            4 => SyncAnswer::Summary(summary(rng)).to_bytes(),
            5 if question => SyncRequest::Items(Set::Ops, digests(rng, 50)).to_bytes(),
            5 => {
                let keys = digests(rng, 200).into_iter().map(|key| (key, [7; 16]));
                let (keys, more) = (keys.collect(), true);
                SyncAnswer::Keys { keys, more }.to_bytes()
            }
            6 if question => SyncRequest::Push(self.junk()).to_bytes(),
            6 => SyncAnswer::Items(self.junk()).to_bytes(),
            _ => {
                let buckets = (0..256).map(|_| bucket(rng)).collect();
                SyncAnswer::Buckets(buckets).to_bytes()
            }
        }
    }

    /// Ops of another network, cut ops, noise for admits and records.
    fn junk(&mut self) -> Items {
        let rng = &mut self.rng;
        let mut ops = self.memory.foreign.clone();
        let cut = self.memory.foreign.first().map(|op| flip(rng, op.clone()));
        ops.extend(cut);
        ops.push(noise(rng, 300));
        Items {
            ops,
            admits: vec![noise(rng, 900)],
            records: vec![noise(rng, 400), Vec::new()],
        }
    }
}

fn flip(rng: &mut ChaCha20Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    let at = index(rng, bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (rng.next_u32() % 8);
    }
    bytes
}

fn noise(rng: &mut ChaCha20Rng, max: u64) -> Vec<u8> {
    let length = usize::try_from(below(rng, max)).unwrap_or(0);
    let mut bytes = vec![0; length];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn digests(rng: &mut ChaCha20Rng, count: usize) -> Vec<Digest> {
    (0..count).map(|_| Digest::new(seed(rng))).collect()
}

fn bucket(rng: &mut ChaCha20Rng) -> [u8; 16] {
    let mut bucket = [0; 16];
    rng.fill_bytes(&mut bucket);
    bucket
}

fn summary(rng: &mut ChaCha20Rng) -> Summary {
    Summary {
        roots: [(); 3].map(|()| Digest::new(seed(rng))),
        heads: (0..64).map(|_| OpId::new(seed(rng))).collect(),
    }
}
