//! Who is connected, and what peers ask and answer. Who proved to be which device is `hello`'s, whom to call `calls`'.

mod calls;
mod hello;
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use self::watched::Watched;
use super::{Node, Pending};
use crate::id::{Digest, NodeId, TransportKey};
use crate::limits::IDLE_BYTES_MAX;
use crate::link::{AnswerId, CallError, DialId, LinkId, LinkInput, LinkOutput, Service};
use crate::pull::Pull;
use crate::record::ControlAddress;
use crate::time::Moment;

/// How long after a link stands the second round with its peer begins: gossip flows by then.
const AGAIN_MS: u64 = 1500;
/// How long a member that called may take to open the hello before this node does.
const GREET_MS: u64 = 3000;
/// How long somebody may be connected without proving anything.
const STRANGER_MS: u64 = 20_000;
/// How long a peer is asked nothing whose answers brought nothing.
const SHUNNED_MS: u64 = 60_000;
/// Announced machines of one LAN that are remembered.
const FOUND_MAX: usize = 128;
/// Addresses of one announced machine.
const FOUND_ADDRESSES_MAX: usize = 16;

/// The connections.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) peers: Watched<BTreeMap<TransportKey, Peer>>,
    dials: BTreeMap<DialId, Option<TransportKey>>,
    redials: Watched<BTreeMap<TransportKey, calls::Redial>>,
    /// When something is due, as long as nobody touches peers and redials.
    due_ms: Option<u64>,
    /// Whom this node may call, in its own order; `None` until somebody asks after a change of the view.
    pub(super) callable: Option<Vec<calls::Callable>>,
    /// The last place among those to be linked with, if there are members beyond it.
    worst: Option<calls::Place>,
    /// Whom to call must be chosen anew, and not before.
    pub(super) unsettled: bool,
    choice_ms: u64,
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
    greeted: bool,
    pub(super) device: Option<NodeId>,
    pub(super) trusted: bool,
    pub(super) pull: Option<Pull>,
    /// When the next round with it may start by itself.
    pub(super) quiet_ms: u64,
    /// When a round is due that was suggested too soon.
    pub(super) suggested_ms: Option<u64>,
    /// Set digests of the peer that brought nothing, and until when the same ones are not looked into again.
    pub(super) barren: Option<([Digest; 3], u64)>,
    /// When a round makes up for gossip that was lost while the link was new.
    again_ms: Option<u64>,
    pub(super) in_sync: bool,
    /// Whether it was told news over this connection.
    pub(super) told: bool,
    /// News came by a round, and this peer may have missed it, too: a round with it tells.
    pub(super) owed: bool,
    /// Bytes of its answers since one brought anything, and until when it is asked nothing because they were too many.
    idle_bytes: u64,
    pub(super) shunned_ms: Option<u64>,
}

impl Links {
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let due = if self.is_touched() {
            self.next_due()
        } else {
            self.due_ms
        };
        let choice = self.unsettled.then_some(self.choice_ms);
        due.into_iter().chain(choice).min()
    }

    fn is_touched(&self) -> bool {
        self.peers.is_touched() || self.redials.is_touched()
    }

    /// Whether anything may be due; most packets of a large network find nothing, and look no further.
    pub(super) fn is_due(&self, at: u64) -> bool {
        self.is_touched() || self.due_ms.is_some_and(|due| due <= at)
    }

    /// Keeps in mind when something is due next.
    pub(super) fn settle(&mut self) {
        if self.is_touched() {
            self.due_ms = self.next_due();
            self.peers.settle();
            self.redials.settle();
        }
    }

    fn next_due(&self) -> Option<u64> {
        let redial = self
            .redials
            .values()
            .filter(|r| r.wanted && !r.dialing)
            .map(|r| r.at_ms)
            .min();
        let strangers = self.peers.values().filter(|peer| !peer.trusted);
        let silent = self.peers.values().filter(|peer| !peer.greeted);
        let again = self.trusted().filter_map(|(_, peer)| peer.again_ms).min();
        [
            redial,
            again,
            strangers.map(|peer| peer.since_ms + STRANGER_MS).min(),
            silent.map(|peer| peer.since_ms + GREET_MS).min(),
            self.peers.values().filter_map(|p| p.suggested_ms).min(),
            self.peers.values().filter_map(|p| p.shunned_ms).min(),
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

    /// Everybody that this LAN announced.
    pub(super) fn found_addresses(&self) -> Vec<(TransportKey, Vec<ControlAddress>)> {
        self.found
            .iter()
            .map(|(peer, addresses)| (*peer, addresses.clone()))
            .collect()
    }

    /// Counts an answer of a peer. Gives whether it is asked no more for a while, as its answers bring nothing. In a
    /// large network the keys alone, of what both have, are many.
    pub(super) fn wastes(
        &mut self,
        peer: &TransportKey,
        bytes: u64,
        brought: bool,
        everything: u64,
        now: Moment,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(peer) else {
            return false;
        };
        peer.idle_bytes = if brought { 0 } else { peer.idle_bytes + bytes };
        let wastes = peer.idle_bytes > IDLE_BYTES_MAX.max(2 * everything);
        if wastes {
            peer.idle_bytes = 0;
            peer.shunned_ms = Some(now.uptime_ms() + SHUNNED_MS);
        }
        wastes
    }

    /// A peer is there: most messages of a large network change nothing else of a link.
    pub(super) fn heard(&mut self, peer: &TransportKey, now: Moment) {
        if let Some(peer) = self.peers.quietly().get_mut(peer) {
            peer.heard_ms = now.uptime_ms();
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
                by,
            } => self.on_up(link, peer, (remote, by), dial, now),
            LinkInput::Down { link, peer } => self.on_down(link, &peer, now),
            LinkInput::DialFailed { dial, .. } => self.on_dial_failed(dial, now),
            LinkInput::Asked {
                answer,
                link,
                peer,
                service,
                bytes,
            } => {
                self.links.heard(&peer, now);
                self.on_asked(answer, (peer, link), service, &bytes, now);
            }
            LinkInput::Answered { call, result, .. } => self.on_answered(call, result, now),
            LinkInput::Found { peer, addresses } => {
                self.on_sighted(peer, &addresses);
                self.on_found(peer, addresses);
            }
            LinkInput::Reserved { relay, stands } => self.on_reserved(relay, stands),
            LinkInput::Carrying { peer, circuit } => self.on_carrying(peer, circuit),
            LinkInput::Sighted { peer, addresses } => self.on_sighted(peer, &addresses),
            LinkInput::Got { key, value } => self.on_got(&key, &value),
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
        (remote, by): (ControlAddress, Option<TransportKey>),
        dial: Option<DialId>,
        now: Moment,
    ) {
        self.circuits_on_up(&peer, dial, by.as_ref());
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
            again_ms: None,
            in_sync: false,
            told: false,
            owed: false,
            idle_bytes: 0,
            shunned_ms: None,
        });
        entry.again_ms = Some(at + AGAIN_MS);
        entry.links.insert(link);
        self.links.unsettled = true;
        entry.heard_ms = at;
        self.locators.met(&peer);
        let greeted = entry.greeted;
        if let Some(redial) = self.links.redials.get_mut(&peer) {
            redial.dialing = false;
        }
        let ours = dial.is_some_and(|dial| self.links.dials.remove(&dial).is_some());
        if self.joiner.is_some() && self.net.is_none() {
            self.joiner_on_up(peer, (remote, by), now);
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
        let trusted = entry.trusted;
        self.links.peers.remove(peer);
        self.circuits_on_down(peer);
        if trusted {
            // The next connection has to prove itself anew.
            self.link(LinkOutput::Distrust { peer: *peer });
        }
        self.links.unsettled = true;
        self.joiner_on_down(peer);
        if let Some(redial) = self.links.redials.get_mut(peer) {
            redial.plan(now.uptime_ms());
        }
        if let Some(net) = &mut self.net {
            net.moved = true;
        }
    }

    fn on_dial_failed(&mut self, dial: DialId, now: Moment) {
        let Some(target) = self.links.dials.remove(&dial) else {
            return;
        };
        if let Some(redial) = target.and_then(|peer| self.links.redials.get_mut(&peer)) {
            redial.dialing = false;
        }
        self.joiner_on_dial_failed(dial);
        self.circuits_on_dial_failed(dial, target, now);
    }

    fn on_found(&mut self, peer: TransportKey, addresses: Vec<ControlAddress>) {
        let member = |net: &super::net::Net, key: &TransportKey| net.transports.contains_key(key);
        let net = self.net.as_ref();
        let known = net.is_some_and(|net| member(net, &peer));
        let found = &mut self.links.found;
        if found.len() >= FOUND_MAX && !found.contains_key(&peer) {
            // Somebody who never proved to be a member makes room.
            let stranger = found
                .keys()
                .find(|key| !net.is_some_and(|net| member(net, key)));
            let Some(stranger) = stranger.copied() else {
                return;
            };
            found.remove(&stranger);
        }
        let held = found.entry(peer).or_default();
        let before = held.len();
        for address in addresses {
            if held.len() < FOUND_ADDRESSES_MAX && !held.contains(&address) {
                held.push(address);
            }
        }
        let news = held.len() > before;
        let all = held.clone();
        if news && known {
            self.links.hurry(&peer);
        }
        if net.is_some_and(|net| matches!(net.phase, super::net::Phase::Recovering { .. }))
            && !self.links.peers.contains_key(&peer)
            && !self.links.is_calling(&peer)
        {
            // Its own records are lost: whoever is on this LAN may be a member.
            self.call(Some(peer), all.clone());
        }
        self.joiner_on_found(peer, all);
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
            Service::Push => self.on_news(peer, bytes, now),
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
            Pending::Epoch { peer, commitment } => {
                self.on_epoch_answer(peer, commitment, result, now);
            }
            Pending::News { peer, hang_up } => self.on_news_told(peer, hang_up, &result),
        }
    }

    /// A peer proved to be a device. Whether that is a member is looked at now, and at every later change.
    pub(super) fn proven(&mut self, peer: TransportKey, device: NodeId, now: Moment) {
        if let Some(entry) = self.links.peers.get_mut(&peer) {
            entry.device = Some(device);
            entry.heard_ms = now.uptime_ms();
        }
        self.judge_links(now);
        let trusted = self.links.peers.get(&peer).is_some_and(|peer| peer.trusted);
        if !trusted {
            self.tell_revoked(peer, &device);
        }
    }

    /// Trusts or distrusts every proven peer by the view of now.
    pub(super) fn judge_links(&mut self, now: Moment) {
        let Some(net) = &self.net else { return };
        let mut verdicts = Vec::new();
        for (key, peer) in self.links.peers.iter_mut() {
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
                self.link(LinkOutput::Trust { peer });
                self.start_pull(peer);
                if let Some(net) = &mut self.net {
                    net.paths.with(&device, |way| way.nudge(now));
                }
            } else {
                self.link(LinkOutput::Distrust { peer });
                if !self.tell_revoked(peer, &device) {
                    self.link(LinkOutput::HangUp { peer });
                }
            }
        }
    }

    pub(super) fn links_on_time(&mut self, now: Moment) {
        let at = now.uptime_ms();
        self.door.expire(at);
        if self.links.is_due(at) {
            for peer in self.links.peers.values_mut() {
                peer.shunned_ms.take_if(|until| *until <= at);
            }
            self.end_strangers(at);
            self.greet_silent(at);
            self.pull_again(at);
        }
        self.redial(now);
    }

    /// Hangs up on those who were connected for long and proved nothing.
    fn end_strangers(&mut self, at: u64) {
        let old = |peer: &Peer| !peer.trusted && peer.since_ms + STRANGER_MS <= at;
        let expired = self.links.peers.iter().filter(|(_, peer)| old(peer));
        let kept = |key: &TransportKey| self.relays.is_volunteer(key);
        let expired = expired.map(|(key, _)| *key).filter(|key| !kept(key));
        let expired: Vec<_> = expired.collect();
        for peer in expired {
            if let Some(entry) = self.links.peers.get_mut(&peer) {
                entry.since_ms = at;
            }
            if !self.joiner_needs(&peer) {
                self.link(LinkOutput::HangUp { peer });
            }
        }
    }

    /// A second round with everybody who is newly linked: gossip flows only once both ends trust each other, and what
    /// was said between the first round and that moment is lost.
    fn pull_again(&mut self, at: u64) {
        let mut due = Vec::new();
        for (key, peer) in self.links.peers.iter_mut() {
            if peer.trusted && peer.again_ms.is_some_and(|again| again <= at) {
                peer.again_ms = None;
                due.push(*key);
            }
        }
        for peer in due {
            self.start_pull(peer);
        }
    }
}
