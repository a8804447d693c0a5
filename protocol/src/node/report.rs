//! What people see of a node: a snapshot for `status`.

use super::Node;
use super::author::is_public;
use super::net::{Net, Phase};
use crate::id::NodeId;
use crate::io::{Member, Peer, PeerPath, Snapshot, Standing, State, Warning};
use crate::path::kind_of;
use crate::time::Moment;
use crate::view::ViewMember;

/// How far the clock may be behind what admins said.
const CLOCK_SLACK_MS: u64 = 10 * 60 * 1000;

impl Node {
    /// This node and its network as of now; `None` until a join has found its network.
    #[must_use]
    pub fn snapshot(&self, now: Moment) -> Option<Snapshot> {
        let net = self
            .net
            .as_ref()
            .filter(|net| !matches!(net.phase, Phase::CatchingUp { .. }))?;
        let own = net.view.members().get(&self.id)?;
        let mut peers: Vec<_> = net
            .view
            .members()
            .values()
            .filter(|member| member.id != self.id)
            .map(|member| self.peer_report(net, member, now))
            .collect();
        peers.sort_by(|a, b| a.member.name.cmp(&b.member.name));
        let (state, since_ms) = self.state(net, own);
        Some(Snapshot {
            network: net.authority().network(),
            network_name: net.authority().genesis().name.clone(),
            ipv4_range: net.authority().genesis().ipv4_range,
            epoch: net.epochs.newest(),
            ops: net.authority().op_count(),
            view: net.view.digest(),
            state,
            state_for_ms: now.uptime_ms().saturating_sub(since_ms),
            this: member_report(net, own),
            warnings: self.warnings(net, now),
            peers,
        })
    }

    fn state(&self, net: &Net, own: &ViewMember) -> (State, u64) {
        match net.phase {
            Phase::Recovering { .. } => (State::Recovering, net.opened_ms),
            Phase::CatchingUp { .. } => (State::Waiting, net.opened_ms),
            Phase::Open => match (own.standing, net.isolated_ms) {
                (Standing::Pending | Standing::Quarantined, _) => (State::Waiting, net.opened_ms),
                (Standing::Settled | Standing::Provisional, Some(since)) => {
                    (State::Isolated, since)
                }
                (Standing::Settled | Standing::Provisional, None) => {
                    (State::Running, net.opened_ms)
                }
            },
        }
    }

    /// Whether a node answers: by a path, or by a link.
    pub(super) fn is_online(&self, node: &NodeId) -> bool {
        let path = self.net.as_ref().and_then(|net| net.paths.peer(node));
        self.links.of(node).is_some()
            || path.is_some_and(|peer| peer.active().is_some() && !peer.is_suspect())
    }

    fn peer_report(&self, net: &Net, member: &ViewMember, now: Moment) -> Peer {
        let way = net.paths.peer(&member.id);
        let link = self.links.of(&member.id).map(|(_, peer)| peer);
        let heard = [
            way.and_then(|way| way.heard_ms()),
            link.map(|link| link.heard_ms),
        ];
        let last_seen_ms = heard
            .into_iter()
            .flatten()
            .max()
            .map(|at| now.uptime_ms().saturating_sub(at));
        let path = way
            .and_then(|way| way.active())
            .map(|(path, source, rtt_us, since)| PeerPath {
                path,
                kind: kind_of(&path.remote),
                source,
                rtt_us,
                since_ms: now.uptime_ms().saturating_sub(since),
            });
        let traffic = net.traffic.get(&member.id).copied().unwrap_or_default();
        let online = self.is_online(&member.id);
        Peer {
            member: member_report(net, member),
            online,
            last_seen_ms,
            path,
            in_sync: link.is_some_and(|link| link.in_sync),
            rx_bytes: traffic.rx_bytes,
            tx_bytes: traffic.tx_bytes,
            handshake_ms: traffic.handshake.map(|at| now.wall.since_ms(at)),
        }
    }

    fn warnings(&self, net: &Net, now: Moment) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let members = net.view.members();
        let admins: Vec<_> = members
            .values()
            .filter(|m| net.view.is_admin(&m.id))
            .collect();
        if let ([admin], true) = (admins.as_slice(), members.len() > 1) {
            warnings.push(Warning::OneAdmin(admin.name.clone()));
        }
        let reachable = |member: &ViewMember| {
            let endpoints = net.ledger.records.endpoints(&member.id);
            endpoints.is_some_and(|e| e.control.iter().any(|c| is_public(&c.address)))
        };
        if members.len() > 1 && !members.values().any(reachable) {
            warnings.push(Warning::NoWayIn);
        }
        if now.wall.plus_ms(CLOCK_SLACK_MS) < net.newest_tip(&self.id) {
            warnings.push(Warning::ClockSuspect);
        }
        if net.view.outdated().is_some() {
            warnings.push(Warning::Outdated);
        }
        let name = |id: &NodeId| members.get(id).map(|member| member.name.clone());
        let quarantined = members
            .values()
            .filter(|m| m.standing == Standing::Quarantined);
        warnings.extend(quarantined.map(|member| Warning::Quarantine(member.name.clone())));
        for (a, b) in &net.shared_keys {
            warnings.extend(name(a).zip(name(b)).map(|(a, b)| Warning::SharedKey(a, b)));
        }
        if let Some(reason) = &self.disk_failure {
            warnings.push(Warning::DiskFailed(reason.clone()));
        }
        if matches!(net.phase, Phase::Recovering { .. }) {
            warnings.push(Warning::Recovering);
        }
        warnings
    }
}

pub(super) fn member_report(net: &Net, member: &ViewMember) -> Member {
    let record = net.ledger.records.node(&member.id);
    Member {
        id: member.id,
        name: member.name.clone(),
        level: member.level,
        standing: member.standing,
        tags: member.tags.clone(),
        owner: member.owner.clone(),
        ipv4: member.ipv4,
        ipv6: member.ipv6,
        os: record.map(|record| record.os.clone()),
        version: record.map(|record| record.version.clone()),
        transport: net.transport_key(member),
    }
}
