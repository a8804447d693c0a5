//! Device authentication: which device a connected peer is (`docs/protocol.md` §7.2).

use rand_core::Rng;

use super::GREET_MS;
use crate::id::TransportKey;
use crate::identity::{Context, verify};
use crate::link::{CallError, LinkOutput, Service};
use crate::node::net::Net;
use crate::node::{Node, Pending};
use crate::record::{Record, RecordBody, RecordKind};
use crate::time::Moment;
use crate::wire::{HelloAnswer, HelloProof, HelloRequest};

impl Node {
    /// Opens the hello as the caller.
    pub(in crate::node) fn say_hello(&mut self, peer: TransportKey) {
        let mut nonce = [0; 32];
        self.rng.fill_bytes(&mut nonce);
        let Some(net) = &self.net else { return };
        if let Some(entry) = self.links.peers.get_mut(&peer) {
            entry.greeted = true;
        }
        let bytes = net.hello.seal(&HelloRequest::Open { nonce }.to_bytes());
        self.ask(
            peer,
            Service::Hello,
            bytes,
            Pending::HelloOpen { peer, nonce },
        );
    }

    /// Answers a hello as the called.
    pub(in crate::node) fn on_hello(
        &mut self,
        peer: TransportKey,
        bytes: &[u8],
        now: Moment,
    ) -> Option<Vec<u8>> {
        let plain = self.net.as_ref()?.hello.open(bytes).ok()?;
        let answer = match HelloRequest::parse(&plain).ok()? {
            HelloRequest::Open { nonce: theirs } => {
                let mut nonce = [0; 32];
                self.rng.fill_bytes(&mut nonce);
                self.links.peers.get_mut(&peer)?.hello = Some((theirs, nonce));
                let proof = self.hello_proof(&peer, &nonce, &theirs)?;
                HelloAnswer::Prove { nonce, proof }
            }
            HelloRequest::Prove(proof) => {
                let (theirs, ours) = self.links.peers.get_mut(&peer)?.hello.take()?;
                self.check_hello(&peer, &proof, &theirs, &ours)?;
                self.proven(peer, proof.device, now);
                let known = self.links.peers.get(&peer)?.trusted;
                let address = self.links.remote_ip(&peer)?;
                if !known && self.mailbox.may_be_asked(address, now.uptime_ms()) {
                    // Perhaps it came in where this node could not hear it: its own copy tells.
                    self.start_pull(peer);
                }
                HelloAnswer::Known(known)
            }
        };
        Some(self.net.as_ref()?.hello.seal(&answer.to_bytes()))
    }

    pub(in crate::node) fn on_hello_opened(
        &mut self,
        peer: TransportKey,
        ours: [u8; 32],
        result: Result<Vec<u8>, CallError>,
        now: Moment,
    ) {
        let proven = result.ok().and_then(|bytes| {
            let plain = self.net.as_ref()?.hello.open(&bytes).ok()?;
            let HelloAnswer::Prove { nonce, proof } = HelloAnswer::parse(&plain).ok()? else {
                return None;
            };
            self.check_hello(&peer, &proof, &nonce, &ours)?;
            Some((proof.device, self.hello_proof(&peer, &ours, &nonce)?))
        });
        let Some((device, proof)) = proven else {
            // Another network's node, or a liar: nothing more to say to it.
            self.link(LinkOutput::HangUp { peer });
            return;
        };
        self.proven(peer, device, now);
        let Some(net) = &self.net else { return };
        let bytes = net.hello.seal(&HelloRequest::Prove(proof).to_bytes());
        self.ask(peer, Service::Hello, bytes, Pending::HelloProve { peer });
    }

    pub(in crate::node) fn on_hello_proved(
        &mut self,
        peer: TransportKey,
        result: Result<Vec<u8>, CallError>,
    ) {
        let known = result.ok().and_then(|bytes| {
            let plain = self.net.as_ref()?.hello.open(&bytes).ok()?;
            match HelloAnswer::parse(&plain).ok()? {
                HelloAnswer::Known(known) => Some(known),
                HelloAnswer::Prove { .. } => None,
            }
        });
        match known {
            Some(true) => self.start_pull(peer),
            // It has not heard of this node yet. It asks for what it lacks, or is told, and then serves.
            Some(false) => self.tell_news(peer),
            None => self.link(LinkOutput::HangUp { peer }),
        }
    }

    pub(in crate::node) fn hello_proof(
        &self,
        peer: &TransportKey,
        ours: &[u8; 32],
        theirs: &[u8; 32],
    ) -> Option<HelloProof> {
        let net = self.net.as_ref()?;
        let transport = self.keys.transport.public();
        let network = net.authority().network();
        let record = match net.ledger.records.of(&self.id, RecordKind::NODE) {
            Some(record) => record.bytes().to_vec(),
            // Lost with the store: the oldest there can be, so that it replaces none that a member still has.
            None => {
                let body = RecordBody::Node(Box::new(self.node_record(&network)));
                let record = Record::sign(network, 0, body, &self.keys.device);
                record.bytes().to_vec()
            }
        };
        let fields: [&[u8]; 5] = [
            network.as_bytes(),
            transport.as_bytes(),
            peer.as_bytes(),
            ours,
            theirs,
        ];
        let signature = self.keys.device.sign(Context::Hello, &fields);
        Some(HelloProof {
            device: self.id,
            record,
            signature,
        })
    }

    /// Checks that a peer is the device it says, on this very connection, and keeps its Node record.
    pub(in crate::node) fn check_hello(
        &mut self,
        peer: &TransportKey,
        proof: &HelloProof,
        theirs: &[u8; 32],
        ours: &[u8; 32],
    ) -> Option<()> {
        let net = self.net.as_ref()?;
        let network = net.authority().network();
        let transport = self.keys.transport.public();
        let fields: [&[u8]; 5] = [
            network.as_bytes(),
            peer.as_bytes(),
            transport.as_bytes(),
            theirs,
            ours,
        ];
        verify(
            proof.device.key(),
            Context::Hello,
            &fields,
            &proof.signature,
        )
        .ok()?;
        let record = net.ledger.records.read(&proof.record, &network).ok()?;
        let RecordBody::Node(node) = record.body() else {
            return None;
        };
        let own = record.slot().device == proof.device && node.transport.key == *peer;
        if !own || proof.device == self.id {
            return None;
        }
        self.take_record(&proof.record);
        Some(())
    }

    /// Opens the hello with members that called and then said nothing.
    pub(in crate::node) fn greet_silent(&mut self, at: u64) {
        let mut silent = Vec::new();
        for (key, peer) in self.links.peers.iter_mut() {
            if !peer.greeted && peer.since_ms + GREET_MS <= at {
                peer.greeted = true;
                let known = |net: &Net| net.transports.contains_key(key);
                if peer.device.is_none() && self.net.as_ref().is_some_and(known) {
                    silent.push(*key);
                }
            }
        }
        for peer in silent {
            self.say_hello(peer);
        }
    }

    /// Opens the hello with everybody who is connected: this node has just become a member.
    pub(in crate::node) fn greet_all(&mut self) {
        let unproven = self.links.peers.iter().filter(|(_, p)| p.device.is_none());
        let unproven: Vec<_> = unproven.map(|(key, _)| *key).collect();
        for peer in unproven {
            self.say_hello(peer);
        }
    }
}
