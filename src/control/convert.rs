//! What the core says, in the words of the control socket.

pub(crate) mod acts;
pub(crate) mod policy;
mod warnings;

use std::collections::BTreeSet;

use meshnode_protocol::body::Level;
use meshnode_protocol::id::NodeId;
use meshnode_protocol::io::{self, JoinStep, PathKind, Reply, Snapshot, Standing, State};
use meshnode_protocol::peering::Path;

use super::report::{
    MemberReport, NetworkReport, NodeState, PathReport, PeerReport, RevokedReport, StandingReport,
    StatusReport, Tier,
};
use super::search::SearchReport;
use super::{
    CardReport, Imported, Invited, Joined, Membership, Progress, Response, SecretText, relays,
};
use crate::failure::Failure;
use crate::failure::refusal::About;

/// What the daemon knows and the core does not.
#[derive(Clone, Debug)]
pub(crate) struct LocalFacts {
    /// What this machine calls the network.
    pub(crate) local_name: String,
    /// The device's name, when there is one.
    pub(crate) tun: Option<String>,
    /// The UDP port, when there is one.
    pub(crate) port: Option<u16>,
    /// Whether a person took the device down.
    pub(crate) down: bool,
    /// Whether this machine has a default route; `None` when not known.
    pub(crate) default_route: Option<bool>,
    /// Seconds until it comes up by itself, if it is to.
    pub(crate) down_for_s: Option<u64>,
    /// Nodes that a person blocked.
    pub(crate) blocked: BTreeSet<NodeId>,
}

impl StatusReport {
    /// The report of a node that is, or wants to be, in a network.
    pub(crate) fn of_snapshot(snapshot: &Snapshot, local: LocalFacts) -> Self {
        let state = match snapshot.state {
            _ if local.down => NodeState::Down,
            State::Running => NodeState::Running,
            State::Isolated => NodeState::Isolated,
            State::Waiting => NodeState::Waiting,
            State::Recovering => NodeState::Recovering,
            State::Revoked => NodeState::Revoked,
        };
        Self {
            local_name: local.local_name.clone(),
            state,
            state_for_s: (!local.down).then_some(snapshot.state_for_ms / 1_000),
            network: Some(NetworkReport {
                name: snapshot.network_name.clone(),
                id: snapshot.network,
                epoch: snapshot.epoch,
                ops: snapshot.ops,
                policy_version: snapshot.policy_version,
                view: snapshot.view,
                ipv4_range: format!(
                    "{}/{}",
                    snapshot.ipv4_range.base, snapshot.ipv4_range.prefix
                ),
            }),
            this: Some(member(&snapshot.this)),
            peers: snapshot
                .peers
                .iter()
                .map(|peer| peer_report(peer, &local))
                .collect(),
            // Nothing that is down can be mended before it is up.
            warnings: snapshot
                .warnings
                .iter()
                .filter(|_| !local.down)
                .filter_map(|warning| warnings::warn(warning, snapshot, local.port))
                .collect(),
            tun: local.tun.clone(),
            port: local.port,
            default_route: local.default_route,
            revoked: snapshot.revoked.as_ref().map(|revoked| RevokedReport {
                by: revoked.by.clone(),
                reason: revoked.reason.clone(),
                said: revoked.said,
            }),
            down_for_s: local.down_for_s,
        }
    }
}

impl StatusReport {
    /// The report of a node without a network, or of one that is on its way into one.
    pub(crate) fn without_network(local: LocalFacts, joining: bool) -> Self {
        let state = match (local.down, joining) {
            (true, _) => NodeState::Down,
            (false, true) => NodeState::Waiting,
            (false, false) => NodeState::Starting,
        };
        Self {
            local_name: local.local_name,
            state,
            state_for_s: None,
            network: None,
            this: None,
            peers: Vec::new(),
            warnings: Vec::new(),
            tun: local.tun,
            port: local.port,
            default_route: local.default_route,
            revoked: None,
            down_for_s: local.down_for_s,
        }
    }
}

impl Membership {
    /// This node, out of a snapshot.
    pub(crate) fn of_snapshot(snapshot: &Snapshot) -> Self {
        Self {
            network: snapshot.network_name.clone(),
            network_id: snapshot.network,
            name: snapshot.this.name.clone(),
            id: snapshot.this.id,
            ipv4: snapshot.this.ipv4,
            ipv6: snapshot.this.ipv6,
        }
    }
}

/// The response for a reply of the core. `snapshot` is the node's state after the reply, if it has one; a join's end
/// and an invite need it.
pub(crate) fn response(reply: Reply, snapshot: Option<&Snapshot>, about: &About) -> Response {
    match (reply, snapshot) {
        (Reply::Invited(made), Some(snapshot)) => {
            Response::Invited(Box::new(invited(*made, snapshot)))
        }
        (Reply::Joined(joined), Some(snapshot)) => Response::Joined(Box::new(Joined {
            this: Membership {
                network: joined.network,
                name: joined.name,
                ipv4: joined.interface.ipv4,
                ipv6: joined.interface.ipv6,
                ..Membership::of_snapshot(snapshot)
            },
            wished: joined.wished,
            witness: Some(joined.witness),
            settled: joined.settled,
        })),
        (Reply::Invited(_) | Reply::Joined(_), None) => Response::Failed(Failure::no_network()),
        (Reply::Left { heard, of }, _) => Response::Left { heard, of },
        (
            Reply::Pong {
                seq,
                rtt_us,
                path,
                kind,
                via,
            },
            _,
        ) => Response::Pong {
            seq,
            rtt_us,
            path: path_report(path, kind, via),
        },
        (Reply::Silence { seq }, _) => Response::Silence { seq },
        (Reply::Imported(new), _) => Response::Imported(Imported {
            ops: new.ops,
            admits: new.admits,
            records: new.records,
            refused: new.refused,
        }),
        (Reply::PingDone, _) => Response::Done,
        (Reply::Acted(acted), _) => acts::acted(*acted),
        (Reply::Heard(heard), _) => acts::heard(heard),
        (
            Reply::HeardDone {
                heard,
                of,
                unreached,
            },
            _,
        ) => acts::heard_done(heard, of, unreached),
        (Reply::Pending(pending), _) => acts::pending(pending),
        (Reply::Invites(invites), _) => acts::invites(invites),
        (Reply::Admins(admins), _) => acts::admins(admins),
        (Reply::Petition(petition), _) => acts::to_sign(petition),
        (Reply::Policy(shown), _) => policy::shown(*shown),
        (Reply::PolicyChecked(checked), _) => policy::checked(*checked),
        (Reply::PolicyExplained(explained), _) => policy::explained(*explained),
        (Reply::PolicyDiff(diff), _) => policy::diff(*diff),
        (Reply::PolicyLog(changes), _) => policy::log(changes),
        (Reply::PolicyDraft(draft), _) => policy::draft(*draft),
        (Reply::PolicyBlame(lines), _) => policy::blame(lines),
        (Reply::PolicyKept, _) => Response::Done,
        (Reply::Rotated { restart }, _) => Response::Rotated { restart },
        (Reply::Joining(step), _) => Response::Progress(progress(step)),
        (Reply::Blocked(changed), _) => Response::Blocked(changed),
        (Reply::RelayChanged(changed), _) => Response::RelayChanged(changed),
        (Reply::Relays(all), _) => relays::shown(all),
        (Reply::Card(card), _) => Response::Card(Box::new(CardReport::of(*card))),
        (Reply::Refused(refusal), _) => Response::Failed(Failure::of_refusal(&refusal, about)),
    }
}

fn invited(made: io::Invited, snapshot: &Snapshot) -> Invited {
    Invited {
        id: made.code.is_some().then_some(made.id),
        code: made
            .code
            .map(|code| SecretText::new(code.reveal().to_owned())),
        expires: made.expires,
        uses: made.uses,
        approve: made.approve,
        hints: made.hints,
        via: made.via,
        network: snapshot.network_name.clone(),
        heard: made.heard.0,
        of: made.heard.1,
        policy: made.policy.map(|rules| Box::new(policy::invited(*rules))),
    }
}

/// The words for a step of a join.
pub(crate) fn progress(step: JoinStep) -> Progress {
    match step {
        JoinStep::Found { name, remote, lan } => Progress::Found {
            name,
            remote: remote.address.to_string(),
            lan,
        },
        JoinStep::Waiting { fingerprint } => Progress::Waiting { fingerprint },
    }
}

fn path_report(path: Path, kind: PathKind, via: Option<String>) -> PathReport {
    let tier = match kind {
        PathKind::Lan => Tier::Lan,
        PathKind::Direct => Tier::Direct,
        PathKind::UdpRelay => Tier::UdpRelay,
        PathKind::Circuit => Tier::Circuit,
    };
    PathReport {
        tier,
        endpoint: path.next_hop(),
        via,
        road: None,
    }
}

fn member(member: &io::Member) -> MemberReport {
    let Level(level) = member.level;
    MemberReport {
        id: member.id,
        name: member.name.clone(),
        level,
        standing: match member.standing {
            Standing::Settled => StandingReport::Settled,
            Standing::Provisional => StandingReport::Provisional,
            Standing::Pending => StandingReport::Pending,
            Standing::Quarantined => StandingReport::Quarantined,
        },
        tags: member.tags.as_slice().to_vec(),
        owner: member.owner.clone(),
        ipv4: member.ipv4,
        ipv6: member.ipv6,
        os: member.os.clone(),
        version: member.version.clone(),
    }
}

fn peer_report(peer: &io::Peer, local: &LocalFacts) -> PeerReport {
    let path = peer.path.as_ref().filter(|_| !local.down);
    let last_seen_ms = peer.last_seen_ms.filter(|_| !local.down);
    PeerReport {
        blocked: local.blocked.contains(&peer.member.id),
        search: peer.search.as_ref().map(SearchReport::of),
        member: member(&peer.member),
        online: peer.online && !local.down,
        last_seen_s: last_seen_ms.map(|ms| ms / 1_000),
        path: path.map(|path| path_report(path.path, path.kind, path.via.clone())),
        rtt_us: path.and_then(|path| path.rtt_us),
        path_since_s: path.map(|path| path.since_ms / 1_000),
        mtu: path.map(|path| path.mtu),
        heard: peer.in_sync,
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        last_handshake_s: peer.handshake_ms.map(|ms| ms / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::body::{Ipv4Range, Tags};
    use meshnode_protocol::id::{Digest, NetworkId, NodeId, PublicKey};
    use meshnode_protocol::io::Warning;
    use meshnode_protocol::name::{NetworkName, NodeName};

    use super::*;

    fn snapshot(warnings: Vec<Warning>) -> Snapshot {
        // The generator of the curve, in its canonical bytes.
        let mut generator = [0x66; 32];
        generator[0] = 0x58;
        let this = io::Member {
            id: NodeId::new(PublicKey::parse(generator).unwrap()),
            name: NodeName::parse("nas").unwrap(),
            level: Level::FOUNDER,
            standing: Standing::Settled,
            tags: Tags::new(Vec::new()).unwrap(),
            owner: None,
            ipv4: None,
            ipv6: "fd7c::1".parse().unwrap(),
            os: None,
            version: None,
            transport: None,
        };
        Snapshot {
            network: NetworkId::new([7; 16]),
            network_name: NetworkName::parse("homelab").unwrap(),
            ipv4_range: Ipv4Range::DEFAULT,
            epoch: 0,
            ops: 1,
            policy_version: None,
            view: Digest::new([9; 32]),
            state: State::Isolated,
            state_for_ms: 5_000,
            this,
            peers: Vec::new(),
            warnings,
            revoked: None,
            unheard: None,
        }
    }

    fn local(down: bool) -> LocalFacts {
        LocalFacts {
            local_name: "main".to_owned(),
            tun: None,
            port: Some(41641),
            down,
            default_route: None,
            down_for_s: None,
            blocked: BTreeSet::new(),
        }
    }

    fn codes(warnings: Vec<Warning>) -> Vec<String> {
        let report = StatusReport::of_snapshot(&snapshot(warnings), local(false));
        report
            .warnings
            .into_iter()
            .map(|warning| warning.code)
            .collect()
    }

    #[test]
    fn the_only_node_is_not_told_to_make_another_an_admin() {
        let nas = NodeName::parse("nas").unwrap();
        assert!(codes(vec![Warning::OneAdmin(nas)]).is_empty());
        assert_eq!(
            codes(vec![Warning::RecoveryUnchecked]),
            ["recovery_unchecked"]
        );
    }

    #[test]
    fn every_other_warning_has_a_code_of_the_closed_list_and_a_cure() {
        let nas = NodeName::parse("nas").unwrap();
        let warnings = vec![
            Warning::NoWayIn,
            Warning::ClockSuspect,
            Warning::Outdated,
            Warning::Quarantine(nas.clone()),
            Warning::SharedKey(nas.clone(), nas.clone()),
            Warning::Cloned(nas),
            Warning::DiskFailed("no space".to_owned()),
        ];
        let report = StatusReport::of_snapshot(&snapshot(warnings.clone()), local(false));
        assert!(report.warnings.iter().all(|warning| warning.hint.is_some()));
        let expected = [
            "no_way_in",
            "clock_suspect",
            "version_floor",
            "quarantine",
            "clone",
            "clone",
            "disk_low",
        ];
        assert_eq!(codes(warnings), expected);
    }

    #[test]
    fn a_device_that_was_taken_down_is_down_whatever_the_node_says() {
        let report = StatusReport::of_snapshot(&snapshot(Vec::new()), local(true));
        assert_eq!(report.state, NodeState::Down);
        let report = StatusReport::of_snapshot(&snapshot(Vec::new()), local(false));
        assert_eq!(report.state, NodeState::Isolated);
        assert_eq!(report.state_for_s, Some(5));
    }
}
