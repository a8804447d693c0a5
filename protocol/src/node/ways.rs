//! From the view to the machine: which peers the engine has, by which ways, and what this node's addresses are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::Node;
use super::net::Net;
use crate::id::{NodeId, TunnelKey, WireGuardKey};
use crate::io::{Interface, Notice, Output, Reply, Standing};
use crate::path::{PathEvent, PeerPath, kind_of};
use crate::paths::Vantage;
use crate::peering::{PeerChange, PeerConfig, Roaming, TunnelInput};
use crate::probe::ProbeKeys;
use crate::time::{Moment, Timestamp};
use crate::view::{Before, Turn, View, ViewMember};

impl Node {
    pub(super) fn on_tunnel(&mut self, input: TunnelInput, now: Moment) {
        self.note_relays(&input, now);
        let Some(net) = &mut self.net else { return };
        let rng = &mut self.rng;
        match input {
            // Its own room took it already.
            TunnelInput::Relay { .. } => {}
            TunnelInput::Datagram { path, bytes } => net.paths.datagram(path, &bytes, now, rng),
            TunnelInput::Moved { key, path } => {
                if let Some(node) = net.wireguard.get(&key).copied() {
                    net.paths.moved(&node, path, now, rng);
                }
            }
            TunnelInput::Traffic {
                key,
                rx_bytes,
                tx_bytes,
                handshake,
            } => {
                if let Some(node) = net.wireguard.get(&key).copied() {
                    let traffic = net.traffic.entry(node).or_default();
                    traffic.rx_bytes += rx_bytes;
                    traffic.tx_bytes += tx_bytes;
                    traffic.handshake = handshake.or(traffic.handshake);
                    let flows = |peer: &mut PeerPath| peer.traffic(rx_bytes, tx_bytes, now);
                    net.paths.with(&node, flows);
                }
            }
            TunnelInput::Wanted { key } => {
                if let Some(node) = net.wireguard.get(&key).copied() {
                    net.paths.with(&node, |peer| peer.wanted(now));
                }
            }
        }
    }

    /// Makes everything follow from the stored set again, if it changed.
    pub(super) fn refresh(&mut self, now: Moment) {
        self.watch_isolation(now);
        let me = self.id;
        let Some(net) = self.net.as_mut().filter(|net| net.dirty || net.moved) else {
            return;
        };
        let moved = std::mem::take(&mut net.moved);
        let mut turn = std::mem::take(&mut net.dirty).then(|| {
            let beginning = Timestamp::default();
            let left = net.ledger.records.left();
            let authority = &net.ledger.authority;
            let mut turn = net.view.follow(authority, &left, beginning);
            net.hide_expired(&me, now.wall, &mut turn.before);
            net.timers.expiry_ms = next_expiry(&net.view, now);
            turn
        });
        let told_of_more = net.note_tips(&me);
        if told_of_more {
            self.plan_round(now);
        }
        self.note_own_revocation();
        if let Some(net) = &mut self.net {
            let followed = turn.as_ref().filter(|turn| !turn.anew && !moved);
            if !followed.is_some_and(|turn| net.follow_transports(&turn.before)) {
                net.learn_transports();
            }
            self.links.callable = None;
            if turn.is_some() {
                self.door.learn(net);
            }
        }
        // Before the engine hears of a peer: no packet passes by an older policy.
        self.enforce(turn.as_mut(), now);
        let followed = turn.as_ref().filter(|turn| !turn.anew && !moved);
        if !followed.is_some_and(|turn| self.follow_peers(&turn.before, now)) {
            self.program(now);
        }
        self.relays_follow_members(now);
        self.judge_links(now);
        self.links.unsettled = true;
        self.redial(now);
        self.note_heads();
        self.follow_epoch(now);
        if let Some(turn) = turn.filter(|turn| turn.changed) {
            self.tell_changes(&turn);
            self.plan_tip(now);
        }
        if self.net.as_ref().is_some_and(|net| net.heads_differ()) {
            self.plan_seen(now);
        }
        self.plan_settling(now);
        self.plan_chores(now);
        self.watch_isolation(now);
    }

    fn tell_changes(&mut self, turn: &Turn) {
        let Some(net) = self.net.as_ref().filter(|net| net.is_open()) else {
            return;
        };
        let members = net.view.members();
        let others = || turn.before.iter().filter(|(id, _)| **id != self.id);
        let came = others().filter(|(_, was)| was.is_none());
        let came = came.filter_map(|(id, _)| members.get(id));
        let went = others().filter(|(id, _)| !members.contains_key(*id));
        let went = went.filter_map(|(_, was)| was);
        let back = turn.restored.iter();
        let back = back.filter_map(|id| Some(Notice::BackAgain(*id, net.name_of(id)?)));
        let mut notices: Vec<_> = came
            .map(|member| Notice::MemberJoined(member.id, member.name.clone()))
            .collect();
        notices.extend(went.map(|m| Notice::MemberGone(m.id, m.name.clone())));
        notices.extend(back);
        notices.extend(net.view.outdated().map(Notice::Outdated));
        for notice in notices {
            self.notice(notice);
        }
    }

    /// Gives the engine the peers that the view admits and no person blocked, and no other.
    pub(super) fn program(&mut self, now: Moment) {
        let me = self.id;
        let Some(net) = &mut self.net else { return };
        let open = net.is_open() && net.view.live(&me).is_some();
        let (mut wanted, shared) = if open {
            wanted_peers(net, &me)
        } else {
            Default::default()
        };
        wanted.retain(|node, _| !self.blocked.contains(node));
        let interface = net.view.live(&me).filter(|_| open);
        let interface = interface.map(|m| Interface {
            ipv4: m.ipv4,
            ipv6: m.ipv6,
        });
        if interface != net.interface {
            net.interface.clone_from(&interface);
            self.out.push_back(Output::Interface(interface));
        }
        let Some(net) = &mut self.net else { return };
        let gone: Vec<_> = net
            .engine
            .iter()
            .filter(|(node, config)| wanted.get(node).is_none_or(|(w, _)| w.key != config.key))
            .map(|(node, _)| *node)
            .collect();
        gone.iter().for_each(|node| self.remove_peer(node));
        for (node, wanted) in wanted {
            self.set_peer(node, wanted, now);
        }
        let Some(net) = &mut self.net else { return };
        let news: Vec<_> = shared.difference(&net.shared_keys).copied().collect();
        net.shared_keys = shared;
        for (a, b) in news {
            self.notice(Notice::SharedKey(a, b));
        }
    }

    /// The same where only these devices are not what they were. Gives whether that could be: not when this node is
    /// among them, or two devices present one key.
    fn follow_peers(&mut self, before: &Before, now: Moment) -> bool {
        let me = self.id;
        let Some(net) = &self.net else { return false };
        let open = net.is_open() && net.view.live(&me).is_some() && net.interface.is_some();
        if !open || !net.shared_keys.is_empty() || before.iter().any(|(node, _)| *node == me) {
            return false;
        }
        // Of whom is blocked here the engine does not know the key, so that another's like it would not show.
        if !self.blocked.is_empty() {
            return false;
        }
        let own = self.keys.tunnel.public();
        let mut peers = Vec::new();
        let mut keys: BTreeMap<WireGuardKey, NodeId> = BTreeMap::new();
        for (node, _) in before.iter() {
            let blocked = self.blocked.contains(node);
            let member = net.view.live(node).filter(|_| !blocked);
            let wanted = member.and_then(|member| {
                let tunnel = net.tunnel_key(member)?;
                let known = net.converted.get(&tunnel).copied();
                let key = known.unwrap_or_else(|| tunnel.wireguard());
                Some((config(member, key), tunnel))
            });
            if let Some((config, tunnel)) = &wanted {
                let taken = net.wireguard.get(&config.key);
                let taken = taken.is_some_and(|other| other != node);
                if taken || *tunnel.key() == own || keys.insert(config.key, *node).is_some() {
                    return false;
                }
            }
            peers.push((*node, wanted));
        }
        for (node, wanted) in peers {
            let net = self.net.as_mut().expect("it was here a moment ago");
            let had = net.engine.get(&node).map(|config| config.key);
            if had.is_some() && had != wanted.as_ref().map(|(config, _)| config.key) {
                self.remove_peer(&node);
            }
            if let Some(wanted) = wanted {
                let net = self.net.as_mut().expect("it was here a moment ago");
                net.converted.insert(wanted.1, wanted.0.key);
                self.set_peer(node, wanted, now);
            }
        }
        true
    }

    fn remove_peer(&mut self, node: &NodeId) {
        let Some(net) = &mut self.net else { return };
        if let Some(config) = net.engine.remove(node) {
            net.wireguard.remove(&config.key);
            net.paths.remove(node);
            let removed = PeerChange::Remove(config.key);
            self.out.push_back(Output::Peer(removed));
        }
        self.end_probes(node);
    }

    fn set_peer(&mut self, node: NodeId, wanted: (PeerConfig, TunnelKey), now: Moment) {
        let Some(net) = &mut self.net else { return };
        let (mut config, tunnel) = wanted;
        // The key agreement is made once for each peer, not at every change of the view.
        config.probe_tag = match net.engine.get(&node) {
            Some(known) => known.probe_tag,
            None => {
                let network = net.authority().network();
                let own = TunnelKey::new(self.keys.tunnel.public());
                let ours = net.converted.entry(own).or_insert_with(|| own.wireguard());
                let known = [*ours, config.key];
                let (secret, both) = (&self.keys.tunnel, (&own, &tunnel));
                let Ok(keys) = ProbeKeys::converted(secret, both, known, &network) else {
                    return;
                };
                let tag = keys.tag_in();
                net.paths.insert(node, keys, now);
                Some(tag)
            }
        };
        if net.engine.get(&node) != Some(&config) {
            net.wireguard.insert(config.key, node);
            net.engine.insert(node, config.clone());
            self.out.push_back(Output::Peer(PeerChange::Set(config)));
        }
        net.learn_where(&node, now);
    }

    /// Carries out what the ways to the peers want.
    pub(super) fn carry_ways(&mut self, now: Moment) {
        // Before what is sent by them.
        let sockets = self.net.as_mut().and_then(|net| net.paths.poll_sockets());
        self.out.extend(sockets.map(Output::Sockets));
        while let Some((node, event)) = self.net.as_mut().and_then(|net| net.paths.poll_event()) {
            match event {
                PathEvent::Send(path, bytes) => {
                    self.out.push_back(Output::Datagram { path, bytes })
                }
                PathEvent::Active(path) => {
                    let key = self
                        .net
                        .as_ref()
                        .and_then(|n| n.engine.get(&node))
                        .map(|c| c.key);
                    if let Some(key) = key {
                        self.out
                            .push_back(Output::Peer(PeerChange::Path(key, path)));
                        self.notice(Notice::PathChanged(node, path));
                    }
                    self.on_path(&node, path.is_some());
                    self.relays_doubt(now);
                }
                PathEvent::Observed { address, by } => {
                    self.on_seen(Vantage::Member(node), by, address, now);
                }
                PathEvent::Wanted | PathEvent::Suspect => self.relays_want(&node, now),
                PathEvent::Mtu(bytes) => {
                    let peer = self.net.as_ref().and_then(|net| net.engine.get(&node));
                    let change = peer.map(|peer| PeerChange::Mtu(peer.key, bytes));
                    self.out.extend(change.map(Output::Peer));
                }
                PathEvent::Pong {
                    command,
                    seq,
                    rtt_us,
                    path,
                } => {
                    let kind = kind_of(&path);
                    let via = self.relay_name(&path);
                    self.on_ping_ended(
                        command,
                        seq,
                        Reply::Pong {
                            seq,
                            rtt_us,
                            path,
                            kind,
                            via,
                        },
                    );
                }
                PathEvent::Silence { command, seq } => {
                    self.on_ping_ended(command, seq, Reply::Silence { seq });
                }
            }
        }
    }

    /// A way to a peer stands: its control plane can be called through it. A way is lost: is the peer still there?
    fn on_path(&mut self, node: &NodeId, stands: bool) {
        let transport = self.net.as_ref().and_then(|net| {
            net.view
                .members()
                .get(node)
                .and_then(|member| net.transport_key(member))
        });
        match transport {
            Some(transport) if stands => self.call_who_answers(&transport, node),
            // A question that nobody answers ends a connection whose other end is gone.
            Some(transport) => self.start_pull(transport),
            None => {}
        }
    }
}

impl Net {
    fn learn_transports(&mut self) {
        let members = self.view.members().values();
        let keyed = members.filter(|member| self.transport_key(member).is_some());
        let keyed = keyed.count();
        let members = self.view.members().values();
        let keyed_members = members.filter_map(|m| Some((self.transport_key(m)?, m.id)));
        self.transports = keyed_members.collect();
        let members = self.view.members();
        let named = self.transports.values();
        self.doubled = named.filter(|device| members.contains_key(*device)).count() != keyed;
    }

    /// Learns the transport keys of devices that are not what they were; gives whether that could be.
    fn follow_transports(&mut self, before: &Before) -> bool {
        if self.doubled || self.transports.is_empty() {
            return false;
        }
        for (device, was) in before.iter() {
            let old = was.and_then(|was| self.transport_key(was));
            // The admit that told its key may be gone.
            if was.is_some() && old.is_none() {
                return false;
            }
            let member = self.view.members().get(device);
            let new = member.and_then(|member| self.transport_key(member));
            if let Some(old) = old.filter(|old| self.transports.get(old) == Some(device)) {
                self.transports.remove(&old);
            }
            let other = new.and_then(|new| self.transports.insert(new, *device));
            if other.is_some_and(|other| other != *device) {
                return false;
            }
        }
        true
    }

    /// Where a peer of the engine can be, by its own record.
    pub(super) fn learn_where(&mut self, node: &NodeId, now: Moment) {
        let Some(endpoints) = self.ledger.records.endpoints(node) else {
            return;
        };
        let outside = |address: &SocketAddr| !self.is_overlay(address.ip());
        let candidates = endpoints.tunnel.iter().filter(|c| outside(&c.address));
        let candidates: Vec<_> = candidates.copied().collect();
        self.paths.learn(node, &candidates, now);
    }
}

fn next_expiry(view: &View, now: Moment) -> Option<u64> {
    let soonest = view
        .members()
        .values()
        .filter_map(|member| member.expires)
        .min()?;
    Some(
        now.uptime_ms()
            .saturating_add(soonest.since_ms(now.wall))
            .saturating_add(1),
    )
}

type Wanted = BTreeMap<NodeId, (PeerConfig, TunnelKey)>;

fn config(member: &ViewMember, key: WireGuardKey) -> PeerConfig {
    let v4 = member.ipv4.map(IpAddr::V4);
    PeerConfig {
        key,
        device: member.id,
        allowed_ips: v4.into_iter().chain([IpAddr::V6(member.ipv6)]).collect(),
        roaming: Roaming::Told,
        keepalive_s: 0,
        probe_tag: None,
    }
}

/// The peers that the view admits; two that present one key are left out, both.
fn wanted_peers(net: &mut Net, me: &NodeId) -> (Wanted, BTreeSet<(NodeId, NodeId)>) {
    let mut owners: BTreeMap<WireGuardKey, NodeId> = BTreeMap::new();
    let mut shared = BTreeSet::new();
    let mut wanted = Wanted::new();
    let mut converted = BTreeMap::new();
    let members = net.view.members().values();
    let live = |standing: Standing| matches!(standing, Standing::Settled | Standing::Provisional);
    for member in members.filter(|member| live(member.standing)) {
        let Some(tunnel) = net.tunnel_key(member) else {
            continue;
        };
        let known = net.converted.get(&tunnel).copied();
        let key = known.unwrap_or_else(|| tunnel.wireguard());
        converted.insert(tunnel, key);
        if let Some(other) = owners.insert(key, member.id) {
            shared.insert((other, member.id));
            continue;
        }
        wanted.insert(member.id, (config(member, key), tunnel));
    }
    for (a, b) in &shared {
        wanted.remove(a);
        wanted.remove(b);
    }
    wanted.remove(me);
    net.converted = converted;
    (wanted, shared)
}
