//! Who is connected, who proved to be which device, and whom to call (`docs/protocol.md` §7.2).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rand_core::Rng;

use super::{Node, Pending};
use crate::id::{NodeId, TransportKey};
use crate::identity::{Context, verify};
use crate::io::{Notice, Standing};
use crate::link::{AnswerId, CallError, DialId, LinkId, LinkInput, LinkOutput, Service};
use crate::pull::Pull;
use crate::record::{ControlAddress, Record, RecordBody, RecordKind, Transport};
use crate::time::Moment;
use crate::wire::{HelloAnswer, HelloProof, HelloRequest};

/// How long after a link stands the second round with its peer begins: gossip flows by then.
const AGAIN_MS: u64 = 1500;
/// Waits between calls to a member that does not answer; the last repeats.
const REDIAL_MS: [u64; 5] = [1000, 3000, 6000, 10_000, 10_000];
/// How long somebody may be connected without proving anything.
const STRANGER_MS: u64 = 20_000;
/// Members that this node calls by itself.
const LINKS_WANTED_MAX: usize = 32;
/// Announced addresses of one LAN that are remembered.
const FOUND_MAX: usize = 128;

/// The connections.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) peers: BTreeMap<TransportKey, Peer>,
    dials: BTreeMap<DialId, Option<TransportKey>>,
    redials: BTreeMap<TransportKey, Redial>,
    /// What this LAN announced: not proven, used to call members there.
    pub(super) found: BTreeMap<TransportKey, Vec<ControlAddress>>,
}

#[derive(Debug, Default)]
struct Redial {
    at_ms: u64,
    tries: usize,
    dialing: bool,
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
    pub(super) device: Option<NodeId>,
    pub(super) trusted: bool,
    pub(super) pull: Option<Pull>,
    /// When the next round with it may start by itself.
    pub(super) quiet_ms: u64,
    /// When a round makes up for gossip that was lost while the link was new.
    again_ms: Option<u64>,
    pub(super) in_sync: bool,
}

impl Links {
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let redial = self
            .redials
            .values()
            .filter(|r| !r.dialing)
            .map(|r| r.at_ms)
            .min();
        let strangers = self.peers.values().filter(|peer| !peer.trusted);
        let again = self.trusted().filter_map(|(_, peer)| peer.again_ms).min();
        [
            redial,
            again,
            strangers.map(|peer| peer.since_ms + STRANGER_MS).min(),
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
            device: None,
            trusted: false,
            pull: None,
            quiet_ms: 0,
            again_ms: None,
            in_sync: false,
        });
        entry.again_ms = Some(at + AGAIN_MS);
        entry.links.insert(link);
        entry.heard_ms = at;
        let first = entry.links.len() == 1;
        if let Some(redial) = self.links.redials.get_mut(&peer) {
            *redial = Redial::default();
        }
        let ours = dial.is_some_and(|dial| self.links.dials.remove(&dial).is_some());
        if self.joiner.is_some() && self.net.is_none() {
            self.joiner_on_up(peer, remote, now);
        } else if ours && first && self.net.is_some() {
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
        self.joiner_on_down(peer);
        if let Some(redial) = self.links.redials.get_mut(peer) {
            redial.at_ms = now.uptime_ms() + REDIAL_MS[0];
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
        if result == Err(CallError::TimedOut) {
            // Nobody else notices a connection whose other end vanished without a word.
            let peer = pending.peer();
            self.link(LinkOutput::HangUp { peer });
        }
        match pending {
            Pending::Knock { peer, nonce } => self.joiner_on_proof(peer, nonce, result, now),
            Pending::Redeem { peer } => self.joiner_on_admission(peer, result, now),
            Pending::HelloOpen { peer, nonce } => self.on_hello_opened(peer, nonce, result, now),
            Pending::HelloProve { peer } => self.on_hello_proved(peer, result),
            Pending::Pull { peer } => self.on_pulled(&peer, result, now),
            Pending::Push { peer } => self.on_pushed(&peer, call, result.err(), now),
        }
    }

    /// Opens the hello as the caller.
    pub(super) fn say_hello(&mut self, peer: TransportKey) {
        let mut nonce = [0; 32];
        self.rng.fill_bytes(&mut nonce);
        let Some(net) = &self.net else { return };
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
                HelloAnswer::Known(self.links.peers.get(&peer)?.trusted)
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
        let record = net
            .ledger
            .records
            .of(&self.id, RecordKind::NODE)?
            .bytes()
            .to_vec();
        let transport = self.keys.transport.public();
        let network = net.authority().network();
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
        for (peer, device, trusted) in verdicts {
            if trusted {
                let addresses = self.control_addresses(&device);
                self.link(LinkOutput::Trust { peer, addresses });
                self.start_pull(peer);
            } else {
                self.link(LinkOutput::Distrust { peer });
                self.link(LinkOutput::HangUp { peer });
            }
        }
    }

    /// Where a member's control plane listens, by its record and by this LAN's announcements.
    fn control_addresses(&self, device: &NodeId) -> Vec<ControlAddress> {
        let Some(net) = &self.net else {
            return Vec::new();
        };
        let endpoints = net.ledger.records.endpoints(device);
        let mut addresses: Vec<_> = endpoints
            .map(|endpoints| endpoints.control.clone())
            .unwrap_or_default()
            .into_iter()
            .filter(|address| !net.is_overlay(address.address.ip()))
            .collect();
        let transport = net
            .view
            .members()
            .get(device)
            .and_then(|m| net.transport_key(m));
        if let Some(found) = transport.and_then(|transport| self.links.found.get(&transport)) {
            addresses.extend(found);
        }
        // Through the tunnel, where one stands: no router is in the way there.
        let tcp = addresses
            .iter()
            .find(|address| address.transport == Transport::Tcp);
        if let (Some(tcp), Some(member)) = (tcp, net.view.members().get(device))
            && net.interface.is_some()
            && net
                .paths
                .peer(device)
                .is_some_and(|peer| peer.active().is_some())
        {
            let address = (IpAddr::V6(member.ipv6), tcp.address.port()).into();
            addresses.push(ControlAddress {
                transport: Transport::Tcp,
                address,
            });
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses
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
        self.pull_again(at);
        self.redial(at);
    }

    /// A second round with everybody who is newly linked: gossip flows only once both ends trust each other, and what
    /// was said between the first round and that moment is lost.
    fn pull_again(&mut self, at: u64) {
        let mut due = Vec::new();
        for (key, peer) in &mut self.links.peers {
            if peer.trusted && peer.again_ms.is_some_and(|again| again <= at) {
                peer.again_ms = None;
                due.push(*key);
            }
        }
        for peer in due {
            self.start_pull(peer);
        }
    }

    /// Calls members that are not connected.
    fn redial(&mut self, at: u64) {
        let Some(net) = self.net.as_ref().filter(|net| net.phase_dials()) else {
            return;
        };
        let wanted: Vec<_> = net
            .transports
            .iter()
            .filter(|(_, device)| **device != self.id && net.serves(device))
            .filter(|(key, _)| !self.links.peers.contains_key(key))
            .map(|(key, device)| (*key, *device))
            .take(LINKS_WANTED_MAX.saturating_sub(self.links.trusted().count()))
            .collect();
        let keys: BTreeSet<_> = wanted.iter().map(|(key, _)| *key).collect();
        self.links
            .redials
            .retain(|key, redial| redial.dialing || keys.contains(key));
        // Of two that could call each other the smaller calls first; the other gives it a moment.
        let me = self.id;
        let polite = |device: &NodeId| if *device > me { 0 } else { 400 };
        for (peer, device) in wanted {
            let redial = self.links.redials.entry(peer).or_insert(Redial {
                at_ms: at + polite(&device),
                tries: 0,
                dialing: false,
            });
            if redial.dialing || redial.at_ms > at {
                continue;
            }
            redial.at_ms = at + REDIAL_MS[redial.tries.min(REDIAL_MS.len() - 1)];
            redial.tries += 1;
            let tries = redial.tries;
            let addresses = self.control_addresses(&device);
            if addresses.is_empty() || tries.is_multiple_of(6) {
                self.link(LinkOutput::Locate { peer });
            }
            if !addresses.is_empty() {
                if let Some(redial) = self.links.redials.get_mut(&peer) {
                    redial.dialing = true;
                }
                self.call(Some(peer), addresses);
            }
        }
    }

    /// Says once when nobody is reachable any more, or somebody again.
    pub(super) fn watch_isolation(&mut self, now: Moment) {
        let Some(net) = &mut self.net else { return };
        let others = net.view.members().values().filter(|member| {
            member.id != self.id
                && matches!(member.standing, Standing::Settled | Standing::Provisional)
        });
        let alone = others.count() > 0
            && self.links.trusted().next().is_none()
            && !net.engine.keys().any(|node| {
                net.paths
                    .peer(node)
                    .is_some_and(|peer| peer.active().is_some() && !peer.is_suspect())
            });
        if alone != net.isolated_ms.is_some() {
            net.isolated_ms = alone.then_some(now.uptime_ms());
            self.notice(Notice::Isolated(alone));
        }
    }
}

impl super::net::Net {
    /// Whether members are called: not while the only one that counts is connected anyway.
    fn phase_dials(&self) -> bool {
        match self.phase {
            super::net::Phase::CatchingUp { .. } => false,
            super::net::Phase::Recovering { .. } | super::net::Phase::Open => true,
        }
    }
}
