//! What people see of a node: a snapshot for `status`.

use super::Node;
use super::net::{Net, Phase};
use crate::body::Level;
use crate::id::{Digest, NodeId, RootKey};
use crate::io::{Member, Peer, PeerPath, Presence, Roots, Snapshot, Standing, State, Warning};
use crate::limits::OVERLAY_MTU;
use crate::path::{is_public, kind_of};
use crate::time::Moment;
use crate::view::{View, ViewMember};

/// How far the clock may be behind what admins said.
const CLOCK_SLACK_MS: u64 = 10 * 60 * 1000;
const DAY_MS: u64 = 24 * 3600 * 1000;
/// How long an act travels before it is worth a word that some have not heard it.
const UNHEARD_MS: u64 = 10_000;
/// Days without a word of any admin that are worth one.
const STALE_ADMINS_DAYS: u64 = 7;

impl Node {
    /// How many root keys must sign, and how many there are. `None` without a network.
    #[must_use]
    pub fn recovery(&self) -> Option<(usize, usize)> {
        let roots = &self.net.as_ref()?.authority().realm().roots;
        Some((usize::from(roots.threshold), roots.keys.len()))
    }

    /// How many of the network's root keys are among these, and how many there are.
    #[must_use]
    pub fn known_roots(&self, roots: &Roots) -> (usize, usize) {
        let Some(net) = &self.net else {
            return (0, 0);
        };
        let keys = &net.authority().realm().roots.keys;
        let is_here = |key: &&RootKey| {
            let mut secrets = roots.secrets().iter();
            secrets.any(|secret| secret.public() == *key.key())
        };
        (keys.iter().filter(is_here).count(), keys.len())
    }

    /// This node and its network as of now; `None` until a join has found its network.
    #[must_use]
    pub fn snapshot(&self, now: Moment) -> Option<Snapshot> {
        let net = self
            .net
            .as_ref()
            .filter(|net| !matches!(net.phase, Phase::CatchingUp { .. }))?;
        let own = net.view.members().get(&self.id);
        let this = match own {
            Some(own) => member_report(net, own),
            None => former_self(net, &self.id)?,
        };
        let mut peers: Vec<_> = net
            .view
            .members()
            .values()
            .filter(|member| member.id != self.id)
            .map(|member| self.peer_report(net, member, now))
            .collect();
        peers.sort_by(|a, b| a.member.name.cmp(&b.member.name));
        let (state, since_ms) = self.state(net, this.standing);
        Some(Snapshot {
            network: net.authority().network(),
            network_name: net.authority().genesis().name.clone(),
            ipv4_range: net.authority().genesis().ipv4_range,
            epoch: net.epochs.number(),
            ops: net.authority().op_count(),
            policy_version: net.policy_version(),
            view: net.view.digest(),
            state,
            state_for_ms: now.uptime_ms().saturating_sub(since_ms),
            this,
            warnings: self.warnings(net, now),
            peers,
            revoked: net.out.then(|| net.revoked_by(&self.id)).flatten(),
            unheard: self.unheard(net).filter(|_| !net.out),
        })
    }

    /// Who is in by this node's own copy; `None` until a join has found its network.
    #[must_use]
    pub fn view(&self) -> Option<&View> {
        let net = self.net.as_ref()?;
        (!matches!(net.phase, Phase::CatchingUp { .. })).then_some(&net.view)
    }

    /// Whether this node waits for others to give back what its store lost.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        let net = self.net.as_ref();
        net.is_some_and(|net| matches!(net.phase, Phase::Recovering { .. }))
    }

    /// The digests of the three stored sets: equal on copies that have heard the same.
    #[must_use]
    pub fn digests(&mut self) -> Option<[Digest; 3]> {
        let net = self.net.as_mut()?;
        Some(net.ledger.summary().roots)
    }

    /// Whether everybody who is in has said which keys it has now; those who wait for a first approval need not.
    #[must_use]
    pub fn knows_all(&self) -> bool {
        let Some(net) = &self.net else { return false };
        let members = net.view.members().values();
        let mut others = members.filter(|member| member.id != self.id);
        others.all(|member| {
            net.ledger.records.node(&member.id).is_some() || member.standing == Standing::Pending
        })
    }

    fn state(&self, net: &Net, standing: Standing) -> (State, u64) {
        match net.phase {
            Phase::Recovering { .. } => (State::Recovering, net.opened_ms),
            Phase::CatchingUp { .. } => (State::Waiting, net.opened_ms),
            Phase::Open if net.out => (State::Revoked, net.opened_ms),
            Phase::Open => match (standing, net.isolated_ms) {
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
        self.presence(node) == Presence::Online
    }

    /// Whether a node is there, as far as this one knows: it does not look after all of a large network all the time.
    fn presence(&self, node: &NodeId) -> Presence {
        let way = self.net.as_ref().and_then(|net| net.paths.peer(node));
        let answers = way.is_some_and(crate::path::PeerPath::answers);
        if answers || self.links.of(node).is_some() {
            return Presence::Online;
        }
        match way.map(crate::path::PeerPath::failures) {
            Some(0) => Presence::Unknown,
            Some(_) | None => Presence::Away,
        }
    }

    /// Milliseconds since a node was last heard, by a path or a link.
    pub(super) fn last_seen_ms(&self, node: &NodeId, now: Moment) -> Option<u64> {
        let way = self.net.as_ref().and_then(|net| net.paths.peer(node));
        let link = self.links.of(node).map(|(_, peer)| peer.heard_ms);
        let heard = [way.and_then(|way| way.heard_ms()), link];
        let at = heard.into_iter().flatten().max()?;
        Some(now.uptime_ms().saturating_sub(at))
    }

    fn peer_report(&self, net: &Net, member: &ViewMember, now: Moment) -> Peer {
        let way = net.paths.peer(&member.id);
        let link = self.links.of(&member.id).map(|(_, peer)| peer);
        let last_seen_ms = self.last_seen_ms(&member.id, now);
        let path = way
            .and_then(|way| way.active())
            .map(|(path, source, rtt_us, since)| PeerPath {
                path,
                kind: kind_of(&path),
                source,
                via: self.relay_name(&path),
                rtt_us,
                mtu: way.and_then(|way| way.mtu()).unwrap_or(OVERLAY_MTU),
                since_ms: now.uptime_ms().saturating_sub(since),
            });
        let traffic = net.traffic.get(&member.id).copied().unwrap_or_default();
        let presence = self.presence(&member.id);
        Peer {
            member: member_report(net, member),
            online: presence == Presence::Online,
            presence,
            search: way.and_then(|way| way.search_report(net.paths.means(), now)),
            last_seen_ms,
            path,
            in_sync: link.is_some_and(|link| link.in_sync),
            rx_bytes: traffic.rx_bytes,
            tx_bytes: traffic.tx_bytes,
            handshake_ms: traffic.handshake.map(|at| now.wall.since_ms(at)),
            heard: link.is_some_and(|link| link.in_sync) || net.has_seen_all(&member.id),
        }
    }

    /// What is no fault yet, but will be one.
    fn later_warnings(&self, net: &Net, now: Moment) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let unheard = self.unheard(net).filter(|unheard| {
            let age_ms = now.wall.since_ms(unheard.said);
            age_ms >= UNHEARD_MS && !net.out
        });
        warnings.extend(unheard.map(Warning::UnheardRevoke));
        for member in net.view.members().values() {
            let Some(at) = member.expires else { continue };
            let left_ms = at.since_ms(now.wall);
            let days = [1, 3, 14]
                .into_iter()
                .find(|days| left_ms <= u64::from(*days) * DAY_MS);
            warnings.extend(days.map(|days| Warning::Expiring {
                node: member.name.clone(),
                at,
                days,
            }));
        }
        let newest = net.newest_tip(Level::MEMBER, now.wall);
        let days = now.wall.since_ms(newest) / DAY_MS;
        if newest > crate::time::Timestamp::default()
            && days >= STALE_ADMINS_DAYS
            && !net.view.is_admin(&self.id)
        {
            warnings.push(Warning::StaleAdmins { days });
        }
        warnings
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
        // By a relay for strangers a newcomer finds a member, and a member that is away its home.
        let met = self.relays.meets_strangers();
        if members.len() > 1 && !met && !members.values().any(reachable) {
            warnings.push(Warning::NoWayIn);
        }
        if now.wall.plus_ms(CLOCK_SLACK_MS) < net.newest_tip(Level::MEMBER, now.wall) {
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
        let cloned = net.flips.cloned(now.uptime_ms()).filter_map(name);
        warnings.extend(cloned.map(Warning::Cloned));
        if let Some(reason) = &self.disk_failure {
            warnings.push(Warning::DiskFailed(reason.clone()));
        }
        if matches!(net.phase, Phase::Recovering { .. }) {
            warnings.push(Warning::Recovering);
        }
        if net.stale {
            warnings.push(Warning::Stale);
        }
        warnings.extend(net.floods(now));
        warnings.extend(self.relay_warnings(now));
        warnings.extend(net.policy.warnings(|| net.directory()));
        warnings.extend(self.later_warnings(net, now));
        warnings
    }
}

fn former_self(net: &Net, me: &NodeId) -> Option<Member> {
    let grant = net.former_grant(me)?;
    let record = net.ledger.records.node(me);
    Some(Member {
        id: *me,
        name: grant.name,
        level: grant.level,
        standing: Standing::Settled,
        tags: grant.tags,
        owner: grant.owner,
        ipv4: None,
        ipv6: crate::address::ipv6(&net.authority().realm().genesis, me),
        os: record.map(|record| record.os.clone()),
        version: record.map(|record| record.version.clone()),
        transport: record.map(|record| record.transport.key),
    })
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
