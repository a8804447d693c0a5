//! Who is connected, who proved to be which device, and whom to call (`docs/protocol.md` §7.2).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rand_core::Rng;

use super::calls::Redial;
use super::{Node, Pending};
use crate::id::{Digest, NodeId, TransportKey};
use crate::identity::{Context, verify};
use crate::io::{Notice, Standing};
use crate::link::{AnswerId, CallError, DialId, LinkId, LinkInput, LinkOutput, Service};
use crate::pull::Pull;
use crate::record::{ControlAddress, Record, RecordBody, RecordKind};
use crate::time::Moment;
use crate::wire::{HelloAnswer, HelloProof, HelloRequest};

/// How long a member that called may take to open the hello before this node does.
pub(super) const GREET_MS: u64 = 3000;
/// How long somebody may be connected without proving anything.
const STRANGER_MS: u64 = 20_000;
/// Announced addresses of one LAN that are remembered.
const FOUND_MAX: usize = 128;

/// The connections.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) peers: BTreeMap<TransportKey, Peer>,
    dials: BTreeMap<DialId, Option<TransportKey>>,
    pub(super) redials: BTreeMap<TransportKey, Redial>,
    /// Whom to call must be chosen anew.
    pub(super) unsettled: bool,
    /// What this LAN announced: not proven, used to call members there.
    pub(super) found: BTreeMap<TransportKey, Vec<ControlAddress>>,
}

/// A connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) links: BTreeSet<LinkId>,
    pub(super) remote: ControlAddress,
    pub(super) since_ms: u64,
    pub(super) heard_ms: u64,
    /// The nonces of a hello that waits for the caller's proof: the caller's and ours.
    hello: Option<([u8; 32], [u8; 32])>,
    /// Whether this node opened the hello, or need not any more.
    pub(super) greeted: bool,
    pub(super) device: Option<NodeId>,
    pub(super) trusted: bool,
    pub(super) pull: Option<Pull>,
    /// When the next round with it may start by itself.
    pub(super) quiet_ms: u64,
    /// When a round is due that was suggested too soon.
    pub(super) suggested_ms: Option<u64>,
    /// Set digests of the peer that brought nothing, and until when the same ones are not looked into again.
    pub(super) barren: Option<([Digest; 3], u64)>,
    pub(super) in_sync: bool,
}

impl Links {
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let redial = self
            .redials
            .values()
            .filter(|r| r.wanted && !r.dialing)
            .map(|r| r.at_ms)
            .min();
        let strangers = self.peers.values().filter(|peer| !peer.trusted);
        let silent = self.peers.values().filter(|peer| !peer.greeted);
        [
            redial,
            strangers.map(|peer| peer.since_ms + STRANGER_MS).min(),
            silent.map(|peer| peer.since_ms + GREET_MS).min(),
            self.peers.values().filter_map(|p| p.suggested_ms).min(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The peer by which a device is connected and trusted.
    pub(super) fn of(&self, device: &NodeId) -> Option<(&TransportKey, &Peer)> {
        self.peers
            .iter()
            .find(|(_, peer)| peer.trusted && peer.device == Some(*device))
    }

    pub(super) fn trusted(&self) -> impl Iterator<Item = (&TransportKey, &Peer)> {
        self.peers.iter().filter(|(_, peer)| peer.trusted)
    }

    /// The address at the other end, for limits.
    pub(super) fn remote_ip(&self, peer: &TransportKey) -> Option<IpAddr> {
        self.peers.get(peer).map(|peer| peer.remote.address.ip())
    }

    /// Calls a member as soon as possible.
    pub(super) fn hurry(&mut self, peer: &TransportKey) {
        if let Some(redial) = self.redials.get_mut(peer) {
            redial.at_ms = 0;
            redial.tries = 0;
        }
    }
}

impl Node {
    pub(super) fn on_link(&mut self, input: LinkInput, now: Moment) {
        match input {
            LinkInput::Up {
                link,
                peer,
                remote,
                dial,
            } => self.on_up(link, peer, remote, dial, now),
            LinkInput::Down { link, peer } => self.on_down(link, &peer, now),
            LinkInput::DialFailed { dial, .. } => self.on_dial_failed(dial),
            LinkInput::Asked {
                answer,
                link,
                peer,
                service,
                bytes,
            } => {
                if let Some(peer) = self.links.peers.get_mut(&peer) {
                    peer.heard_ms = now.uptime_ms();
                }
                self.on_asked(answer, (peer, link), service, &bytes, now);
            }
            LinkInput::Answered { call, result, .. } => self.on_answered(call, result, now),
            LinkInput::Found { peer, addresses } => self.on_found(peer, addresses),
            LinkInput::Located { peer, addresses } => self.on_located(peer, addresses),
            LinkInput::Gossip {
                from,
                message,
                bytes,
            } => self.on_gossip(from, message, &bytes, now),
            LinkInput::Listening(addresses) => {
                self.listening = addresses;
                self.endpoints_changed(now);
            }
        }
    }

    fn on_up(
        &mut self,
        link: LinkId,
        peer: TransportKey,
        remote: ControlAddress,
        dial: Option<DialId>,
        now: Moment,
    ) {
        let at = now.uptime_ms();
        let entry = self.links.peers.entry(peer).or_insert_with(|| Peer {
            links: BTreeSet::new(),
            remote,
            since_ms: at,
            heard_ms: at,
            hello: None,
            greeted: false,
            device: None,
            trusted: false,
            pull: None,
            quiet_ms: 0,
            suggested_ms: None,
            barren: None,
            in_sync: false,
        });
        entry.links.insert(link);
        self.links.unsettled = true;
        entry.heard_ms = at;
        let greeted = entry.greeted;
        if let Some(redial) = self.links.redials.get_mut(&peer) {
            redial.dialing = false;
        }
        let ours = dial.is_some_and(|dial| self.links.dials.remove(&dial).is_some());
        if self.joiner.is_some() && self.net.is_none() {
            self.joiner_on_up(peer, remote, now);
        } else if ours && !greeted && self.net.is_some() {
            self.say_hello(peer);
        }
    }

    fn on_down(&mut self, link: LinkId, peer: &TransportKey, now: Moment) {
        self.door.forget(peer, link);
        let Some(entry) = self.links.peers.get_mut(peer) else {
            return;
        };
        entry.links.remove(&link);
        if !entry.links.is_empty() {
            return;
        }
        self.links.peers.remove(peer);
        self.links.unsettled = true;
        self.joiner_on_down(peer);
        if let Some(redial) = self.links.redials.get_mut(peer) {
            redial.plan(now.uptime_ms());
        }
        if let Some(net) = &mut self.net {
            net.dirty = true;
        }
    }

    fn on_dial_failed(&mut self, dial: DialId) {
        let Some(target) = self.links.dials.remove(&dial) else {
            return;
        };
        if let Some(redial) = target.and_then(|peer| self.links.redials.get_mut(&peer)) {
            redial.dialing = false;
        }
        self.joiner_on_dial_failed(dial);
    }

    /// Calls somebody and remembers that it was this node that called.
    pub(super) fn call(
        &mut self,
        peer: Option<TransportKey>,
        addresses: Vec<ControlAddress>,
    ) -> DialId {
        let dial = self.dial(peer, addresses);
        self.links.dials.insert(dial, peer);
        dial
    }

    fn on_found(&mut self, peer: TransportKey, addresses: Vec<ControlAddress>) {
        if self.links.found.len() >= FOUND_MAX && !self.links.found.contains_key(&peer) {
            return;
        }
        let news = self.links.found.insert(peer, addresses.clone()).as_ref() != Some(&addresses);
        if news
            && self
                .net
                .as_ref()
                .is_some_and(|net| net.transports.contains_key(&peer))
        {
            self.links.hurry(&peer);
        }
        self.joiner_on_found(peer, addresses);
    }

    fn on_located(&mut self, peer: TransportKey, addresses: Vec<ControlAddress>) {
        let known = self
            .net
            .as_ref()
            .is_some_and(|net| net.transports.contains_key(&peer));
        if known && !self.links.peers.contains_key(&peer) && !addresses.is_empty() {
            self.call(Some(peer), addresses);
        }
    }

    fn on_asked(
        &mut self,
        answer: AnswerId,
        (peer, link): (TransportKey, LinkId),
        service: Service,
        bytes: &[u8],
        now: Moment,
    ) {
        let reply = match service {
            Service::Join => self.on_join_request(peer, link, bytes, now),
            Service::Hello => self.on_hello(peer, bytes, now),
            Service::Sync => self.on_sync_request(&peer, bytes, now),
        };
        match reply {
            Some(bytes) => self.link(LinkOutput::Answer { answer, bytes }),
            None => self.link(LinkOutput::Refuse { answer }),
        }
    }

    fn on_answered(
        &mut self,
        call: crate::link::CallId,
        result: Result<Vec<u8>, CallError>,
        now: Moment,
    ) {
        let Some(pending) = self.pending.remove(&call) else {
            return;
        };
        match pending {
            Pending::Knock { peer, nonce } => self.joiner_on_proof(peer, nonce, result, now),
            Pending::Redeem { peer } => self.joiner_on_admission(peer, result, now),
            Pending::HelloOpen { peer, nonce } => self.on_hello_opened(peer, nonce, result, now),
            Pending::HelloProve { peer } => self.on_hello_proved(peer, result),
            Pending::Pull { peer } => self.on_pulled(&peer, result, now),
            Pending::Push { peer } => self.on_pushed(&peer, call, result.is_ok(), now),
        }
    }

    /// Opens the hello as the caller.
    pub(super) fn say_hello(&mut self, peer: TransportKey) {
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
    fn on_hello(&mut self, peer: TransportKey, bytes: &[u8], now: Moment) -> Option<Vec<u8>> {
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
                if !known {
                    // Perhaps it came in where this node could not hear it: its own copy tells.
                    self.start_pull(peer);
                }
                HelloAnswer::Known(known)
            }
        };
        Some(self.net.as_ref()?.hello.seal(&answer.to_bytes()))
    }

    fn on_hello_opened(
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

    fn on_hello_proved(&mut self, peer: TransportKey, result: Result<Vec<u8>, CallError>) {
        let known = result.ok().and_then(|bytes| {
            let plain = self.net.as_ref()?.hello.open(&bytes).ok()?;
            match HelloAnswer::parse(&plain).ok()? {
                HelloAnswer::Known(known) => Some(known),
                HelloAnswer::Prove { .. } => None,
            }
        });
        match known {
            Some(true) => self.start_pull(peer),
            // It has not heard of this node yet. It asks for what it lacks, and then serves.
            Some(false) => {}
            None => self.link(LinkOutput::HangUp { peer }),
        }
    }

    fn hello_proof(
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
    fn check_hello(
        &mut self,
        peer: &TransportKey,
        proof: &HelloProof,
        theirs: &[u8; 32],
        ours: &[u8; 32],
    ) -> Option<()> {
        let network = self.net.as_ref()?.authority().network();
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
        let record = Record::parse(&proof.record, &network).ok()?;
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

    /// A peer proved to be a device. Whether that is a member is looked at now, and at every later change.
    pub(super) fn proven(&mut self, peer: TransportKey, device: NodeId, now: Moment) {
        if let Some(entry) = self.links.peers.get_mut(&peer) {
            entry.device = Some(device);
            entry.heard_ms = now.uptime_ms();
        }
        self.judge_links();
    }

    /// Trusts or distrusts every proven peer by the view of now.
    pub(super) fn judge_links(&mut self) {
        let Some(net) = &self.net else { return };
        let mut verdicts = Vec::new();
        for (key, peer) in &mut self.links.peers {
            let Some(device) = peer.device else { continue };
            let serves = net.serves(&device);
            if serves != peer.trusted {
                peer.trusted = serves;
                verdicts.push((*key, device, serves));
            }
        }
        self.links.unsettled |= !verdicts.is_empty();
        for (peer, device, trusted) in verdicts {
            if trusted {
                if let Some(redial) = self.links.redials.get_mut(&peer) {
                    redial.tries = 0;
                }
                let addresses = self.control_addresses(&device);
                self.link(LinkOutput::Trust { peer, addresses });
                self.start_pull(peer);
            } else {
                self.link(LinkOutput::Distrust { peer });
                self.link(LinkOutput::HangUp { peer });
            }
        }
    }

    pub(super) fn links_on_time(&mut self, now: Moment) {
        let at = now.uptime_ms();
        self.door.expire(at);
        let strangers: Vec<_> = self
            .links
            .peers
            .iter()
            .filter(|(_, peer)| !peer.trusted && peer.since_ms + STRANGER_MS <= at)
            .map(|(key, _)| *key)
            .collect();
        for peer in strangers {
            if let Some(entry) = self.links.peers.get_mut(&peer) {
                entry.since_ms = at;
            }
            self.link(LinkOutput::HangUp { peer });
        }
        self.greet_silent(at);
        self.redial(at);
    }

    /// Says once when nobody is reachable any more, or somebody again.
    pub(super) fn watch_isolation(&mut self, now: Moment) {
        let Some(net) = &mut self.net else { return };
        let carries = |node: &NodeId| {
            let peer = net.paths.peer(node);
            peer.is_some_and(|peer| peer.active().is_some() && !peer.is_suspect())
        };
        let connected = self.links.trusted().next().is_some() || net.engine.keys().any(carries);
        let live = |standing| matches!(standing, Standing::Settled | Standing::Provisional);
        let mut members = net.view.members().values();
        let alone = !connected && members.any(|m| m.id != self.id && live(m.standing));
        if alone != net.isolated_ms.is_some() {
            net.isolated_ms = alone.then_some(now.uptime_ms());
            self.notice(Notice::Isolated(alone));
        }
    }
}
