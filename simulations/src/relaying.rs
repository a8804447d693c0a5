//! What the engine of a machine does with relays: its own frames, and those of others that it passes on.

use std::net::SocketAddr;

use meshnode_protocol::identity::hash_as;
use meshnode_protocol::io::{CarryTerms, Input};
use meshnode_protocol::peering::{Path, TunnelInput};
use meshnode_protocol::probe::tag_of;
use meshnode_protocol::relay::exchange::Exchange;
use meshnode_protocol::relay::frame::{Answer, Frame, header};

use crate::machine::{Machine, MachineId};
use crate::world::World;

impl World {
    /// Carries on these terms, or not at all.
    pub(crate) fn carry_for_others(&mut self, id: MachineId, terms: Option<CarryTerms>) {
        let life = self.machine(id).life;
        let machine = self.machine_mut(id);
        match (terms, &mut machine.exchange) {
            (None, exchange) => *exchange = None,
            (Some(terms), Some(exchange)) => exchange.set_terms(terms),
            (Some(terms), None) => {
                // Known to nobody else, and no die is cast for it.
                let bytes = [terms.key.as_bytes().as_slice(), &life.to_le_bytes()].concat();
                let secret = hash_as("meshnode simulation relay 1", &bytes);
                machine.exchange = Some(Exchange::new(terms, *secret.as_bytes()));
            }
        }
    }

    /// Where a datagram goes first by a path, and what it looks like on the way. `None`: over a stream, and gone.
    pub(crate) fn framed(
        &mut self,
        from: MachineId,
        path: Path,
        bytes: Vec<u8>,
    ) -> Option<(SocketAddr, Vec<u8>)> {
        match path {
            Path::Direct { remote, .. } => Some((remote, bytes)),
            Path::Relayed { relay, mailbox } => {
                Some((relay, [&header(mailbox)[..], &bytes].concat()))
            }
            Path::Circuit(circuit) => {
                self.send_streamed(from, circuit, bytes);
                None
            }
        }
    }

    /// A relay's frame arrives, from a client or from a relay.
    pub(crate) fn frame_arrives(
        &mut self,
        at: MachineId,
        sender: MachineId,
        from: SocketAddr,
        bytes: &[u8],
    ) {
        let machine = self.machine(at);
        let chosen = machine.relays.contains(&from);
        match Frame::open(bytes) {
            Some(Frame::Word(word)) if chosen && Answer::parse(word).is_some() => {
                let (relay, bytes) = (from, word.to_vec());
                self.feed(at, Input::Tunnel(TunnelInput::Relay { relay, bytes }));
            }
            Some(Frame::Word(word)) => self.answer_word(at, from, word),
            Some(Frame::Passed { mailbox, datagram }) => {
                // Of two that are relays of each other, what is for the machine itself shows by its sender.
                let ours = chosen && (machine.exchange.is_none() || is_for(machine, datagram));
                if ours {
                    let path = Path::Relayed {
                        relay: from,
                        mailbox,
                    };
                    self.take_datagram(at, sender, path, datagram);
                } else {
                    self.pass_on(at, from, mailbox, datagram);
                }
            }
            None => {}
        }
    }

    fn answer_word(&mut self, at: MachineId, from: SocketAddr, word: &[u8]) {
        let now = self.machine(at).moment(self.now_us);
        let exchange = self.machine_mut(at).exchange.as_mut();
        let answer = exchange.and_then(|exchange| exchange.on_word(now, from, word));
        if let Some(answer) = answer {
            self.send_datagram(at, Path::to(from), answer.to_bytes());
        }
    }

    fn pass_on(
        &mut self,
        at: MachineId,
        from: SocketAddr,
        to: meshnode_protocol::peering::Mailbox,
        datagram: &[u8],
    ) {
        let now = self.machine(at).moment(self.now_us);
        let Some(exchange) = &mut self.machine_mut(at).exchange else {
            return;
        };
        match exchange.pass(now, from, to, datagram.len()) {
            Ok((address, sender)) => {
                let frame = [&header(sender)[..], datagram].concat();
                self.send_datagram(at, Path::to(address), frame);
            }
            Err(_) => {
                let words = std::iter::from_fn(|| exchange.poll_word());
                for (address, word) in words.collect::<Vec<_>>() {
                    self.send_datagram(at, Path::to(address), word.to_bytes());
                }
            }
        }
    }
}

/// Whether a datagram is for a machine itself: a probe or packet of one of its peers.
fn is_for(machine: &Machine, datagram: &[u8]) -> bool {
    let tag = tag_of(datagram);
    match tag {
        Some(tag) => {
            let mut peers = machine.engine.values();
            peers.any(|peer| peer.config.probe_tag == Some(tag))
        }
        None => crate::packets::is_for(machine, datagram),
    }
}
