//! From the view to the machine: which peers the engine has, by which ways, and what this node's addresses are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Node;
use super::net::Net;
use crate::id::{NodeId, TransportKey, WireGuardKey};
use crate::io::{Interface, Notice, Output, Reply, Standing};
use crate::link::LinkOutput;
use crate::path::{PathEvent, kind_of};
use crate::peering::{PeerChange, PeerConfig, Roaming, TunnelInput};
use crate::probe::ProbeKeys;
use crate::time::Moment;
use crate::view::View;

impl Node {
    pub(super) fn on_tunnel(&mut self, input: TunnelInput, now: Moment) {
        let Some(net) = &mut self.net else { return };
        let rng = &mut self.rng;
        match input {
            TunnelInput::Datagram { path, bytes } => net.paths.datagram(path, &bytes, now, rng),
            TunnelInput::Moved { key, path } => {
                if let Some(node) = net.wireguard.get(&key).copied() {
                    net.paths.with(&node, |peer| peer.moved(path, now, rng));
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
                    net.paths.with(&node, |peer| peer.traffic(now));
                }
            }
            TunnelInput::Wanted { key } => {
                if let Some(node) = net.wireguard.get(&key).copied() {
                    net.paths.with(&node, |peer| peer.traffic(now));
                }
            }
        }
    }

    pub(super) fn on_interfaces(&mut self, addresses: Vec<IpAddr>, now: Moment) {
        if self.interfaces == addresses {
            return;
        }
        let before = std::mem::replace(&mut self.interfaces, addresses);
        let lost = before
            .iter()
            .any(|address| !self.interfaces.contains(address));
        if let Some(net) = &mut self.net {
            net.paths.forget_observed();
            net.paths.with_all(|peer| peer.shake(now));
            let members: Vec<_> = net.transports.keys().copied().collect();
            for peer in members {
                // A connection from an address that is gone is dead, and nobody says so for minutes.
                if lost && self.links.peers.contains_key(&peer) {
                    self.link(LinkOutput::HangUp { peer });
                }
                self.links.hurry(&peer);
            }
        }
        self.endpoints_changed(now);
    }

    /// Makes everything follow from the stored set again, if it changed.
    pub(super) fn refresh(&mut self, now: Moment) {
        self.watch_isolation(now);
        let me = self.id;
        let Some(net) = self.net.as_mut().filter(|net| net.dirty || net.moved) else {
            return;
        };
        net.moved = false;
        let before = std::mem::take(&mut net.dirty).then(|| {
            let wall = now.wall.max(net.newest_tip(&me));
            let view = View::compute(&net.ledger.authority, &net.ledger.records.left(), wall);
            net.timers.expiry_ms = next_expiry(&view, now);
            std::mem::replace(&mut net.view, view)
        });
        let told_of_more = net.note_tips(&me);
        if told_of_more {
            self.plan_round(now);
        }
        self.note_own_revocation();
        if let Some(net) = &mut self.net {
            net.transports = transports(net, now);
            self.links.callable = None;
            if before.is_some() {
                self.door.learn(net);
            }
        }
        // Before the engine hears of a peer: no packet passes by an older policy.
        self.enforce(before.is_some(), now);
        self.program(now);
        self.judge_links(now);
        self.links.unsettled = true;
        self.redial(now);
        self.note_heads();
        self.follow_epoch(now);
        let digest = self.net.as_ref().map(|net| net.view.digest());
        if let Some(before) = before.filter(|before| Some(before.digest()) != digest) {
            self.tell_changes(&before);
            self.plan_tip(now);
        }
        if self.net.as_ref().is_some_and(|net| net.heads_differ()) {
            self.plan_seen(now);
        }
        self.plan_settling(now);
        self.plan_chores(now);
        self.watch_isolation(now);
    }

    fn tell_changes(&mut self, before: &View) {
        let Some(net) = self.net.as_ref().filter(|net| net.is_open()) else {
            return;
        };
        let (old, new) = (before.members(), net.view.members());
        let came = new.values().filter(|m| !old.contains_key(&m.id));
        let went = old.values().filter(|m| !new.contains_key(&m.id));
        let went = went.filter(|member| member.id != self.id);
        let back = before.revoked().iter().filter(|(id, revoke)| {
            net.view.live(id).is_some() && net.view.voids().contains_key(revoke)
        });
        let back = back.filter_map(|(id, _)| Some(Notice::BackAgain(*id, net.name_of(id)?)));
        let mut notices: Vec<_> = came
            .filter(|member| member.id != self.id)
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
            .map(|(node, config)| (*node, config.key))
            .collect();
        for (node, key) in &gone {
            net.engine.remove(node);
            net.wireguard.remove(key);
            net.paths.remove(node);
            self.out.push_back(Output::Peer(PeerChange::Remove(*key)));
        }
        gone.iter().for_each(|(node, _)| self.end_probes(node));
        let Some(net) = &mut self.net else { return };
        let network = net.authority().network();
        for (node, (mut config, tunnel)) in wanted {
            // The key agreement is made once for each peer, not at every change of the view.
            config.probe_tag = match net.engine.get(&node) {
                Some(known) => known.probe_tag,
                None => {
                    let Ok(keys) = ProbeKeys::new(&self.keys.tunnel, &tunnel, &network) else {
                        continue;
                    };
                    let tag = keys.tag_in();
                    net.paths.insert(node, keys);
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
        let news: Vec<_> = shared.difference(&net.shared_keys).copied().collect();
        net.shared_keys = shared;
        for (a, b) in news {
            self.notice(Notice::SharedKey(a, b));
        }
    }

    /// Carries out what the ways to the peers want.
    pub(super) fn carry_ways(&mut self, now: Moment) {
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
                }
                PathEvent::Observed(address) => {
                    let own = self.interfaces.clone();
                    let news = self
                        .net
                        .as_mut()
                        .is_some_and(|net| net.paths.saw_us(node, address, &own));
                    if news {
                        self.endpoints_changed(now);
                    }
                }
                PathEvent::Pong {
                    command,
                    seq,
                    rtt_us,
                    path,
                } => {
                    let kind = kind_of(&path.remote);
                    self.on_ping_ended(
                        command,
                        seq,
                        Reply::Pong {
                            seq,
                            rtt_us,
                            path,
                            kind,
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
    /// Where a peer of the engine can be, by its own record.
    pub(super) fn learn_where(&mut self, node: &NodeId, now: Moment) {
        let Some(endpoints) = self.ledger.records.endpoints(node) else {
            return;
        };
        let outside = |address: &std::net::SocketAddr| !self.is_overlay(address.ip());
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

/// The transport keys of members. Who is out itself knows those that were put out, too, for a while: what brings it
/// back may have been said on one of them.
fn transports(net: &Net, now: Moment) -> BTreeMap<TransportKey, NodeId> {
    let members = net.view.members().values();
    let members = members.filter_map(|member| Some((net.transport_key(member)?, member.id)));
    let revoked = net.view.revoked().iter().filter_map(|(device, revoke)| {
        let said = net.authority().op(revoke)?.header().time;
        let node = net.ledger.records.node(device)?;
        let fresh = net.out && now.wall.since_ms(said) <= REVOKED_KEPT_MS;
        fresh.then_some((node.transport.key, *device))
    });
    revoked.chain(members).collect()
}

/// How long after its revocation a device is still called by others that are out: 30 days.
const REVOKED_KEPT_MS: u64 = 30 * 24 * 3600 * 1000;

type Wanted = BTreeMap<NodeId, (PeerConfig, crate::id::TunnelKey)>;

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
        let v4 = member.ipv4.map(IpAddr::V4);
        let allowed_ips = v4.into_iter().chain([IpAddr::V6(member.ipv6)]).collect();
        let config = PeerConfig {
            key,
            device: member.id,
            allowed_ips,
            roaming: Roaming::Told,
            keepalive_s: 0,
            probe_tag: None,
        };
        wanted.insert(member.id, (config, tunnel));
    }
    for (a, b) in &shared {
        wanted.remove(a);
        wanted.remove(b);
    }
    wanted.remove(me);
    net.converted = converted;
    (wanted, shared)
}
