//! What the core says, in the words of the control socket.

pub(crate) mod acts;
pub(crate) mod policy;

use meshnode_protocol::body::Level;
use meshnode_protocol::io::{self, JoinStep, PathKind, Reply, Snapshot, Standing, State, Warning};
use meshnode_protocol::peering::Path;

use super::report::{
    MemberReport, NetworkReport, NodeState, PathReport, PeerReport, StandingReport, StatusReport,
    Tier, WarningReport,
};
use super::{Imported, Invited, Joined, Membership, Progress, Response, SecretText};
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
            local_name: local.local_name,
            state,
            state_for_s: Some(snapshot.state_for_ms / 1_000),
            network: Some(NetworkReport {
                name: snapshot.network_name.clone(),
                id: snapshot.network,
                epoch: snapshot.epoch,
                ops: snapshot.ops,
                view: snapshot.view,
                ipv4_range: format!(
                    "{}/{}",
                    snapshot.ipv4_range.base, snapshot.ipv4_range.prefix
                ),
            }),
            this: Some(member(&snapshot.this)),
            peers: snapshot.peers.iter().map(peer).collect(),
            warnings: snapshot
                .warnings
                .iter()
                .filter_map(|warning| warn(warning, snapshot, local.port))
                .collect(),
            tun: local.tun,
            port: local.port,
            default_route: local.default_route,
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
            },
            _,
        ) => Response::Pong {
            seq,
            rtt_us,
            path: path_report(path, kind),
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
        (Reply::Rotated { restart }, _) => Response::Rotated { restart },
        (Reply::Joining(step), _) => Response::Progress(progress(step)),
        (Reply::Refused(refusal), _) => Response::Failed(Failure::of_refusal(&refusal, about)),
    }
}

fn invited(made: io::Invited, snapshot: &Snapshot) -> Invited {
    Invited {
        id: made.code.is_some().then_some(made.id),
        code: made.code.map(SecretText::new),
        expires: made.expires,
        uses: made.uses,
        approve: made.approve,
        hints: made.hints,
        via: made.via,
        network: snapshot.network_name.clone(),
        heard: made.heard.0,
        of: made.heard.1,
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

const fn path_report(path: Path, kind: PathKind) -> PathReport {
    let tier = match kind {
        PathKind::Lan => Tier::Lan,
        PathKind::Direct => Tier::Direct,
    };
    PathReport {
        tier,
        endpoint: path.remote,
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

fn peer(peer: &io::Peer) -> PeerReport {
    let path = peer.path.as_ref();
    PeerReport {
        member: member(&peer.member),
        online: peer.online,
        last_seen_s: peer.last_seen_ms.map(|ms| ms / 1_000),
        path: path.map(|path| path_report(path.path, path.kind)),
        rtt_us: path.and_then(|path| path.rtt_us),
        path_since_s: path.map(|path| path.since_ms / 1_000),
        heard: peer.in_sync,
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        last_handshake_s: peer.handshake_ms.map(|ms| ms / 1_000),
    }
}

/// A warning in words; nothing for those that no verb of this version can mend.
fn warn(warning: &Warning, snapshot: &Snapshot, port: Option<u16>) -> Option<WarningReport> {
    let network = &snapshot.network_name;
    let report = |code: &str, text: String, hint: Option<String>, subject: Option<String>| {
        Some(WarningReport {
            code: code.to_owned(),
            text,
            hint,
            subject,
        })
    };
    match warning {
        Warning::NoWayIn => {
            let text = format!(
                "no node of {network} can be reached from outside; away from home you will not \
                 find it"
            );
            let port = port.map_or("its UDP port".to_owned(), |port| {
                format!("UDP and TCP {port}")
            });
            let hint = format!("forward {port} on the router to this machine");
            report("no_way_in", text, Some(hint), None)
        }
        Warning::OneAdmin(name) => {
            let text =
                format!("{name} is the only admin; if it is lost, only the recovery phrase helps");
            let other = snapshot.peers.iter().find(|peer| peer.online);
            let other = other.map_or("NODE", |peer| peer.member.name.as_str());
            let hint = format!("meshnode admin add {other}");
            let alone = snapshot.peers.is_empty();
            if alone {
                return None;
            }
            report("one_admin", text, Some(hint), Some(name.to_string()))
        }
        Warning::RecoveryUnchecked => {
            let text =
                "nobody typed the recovery phrase back yet; it is still kept on this machine";
            let hint = "meshnode recovery check".to_owned();
            report("recovery_unchecked", text.to_owned(), Some(hint), None)
        }
        Warning::ClockSuspect => {
            let text = "this machine's clock is far from the clocks of the other nodes".to_owned();
            let hint = "set the clock: sudo timedatectl set-ntp true".to_owned();
            report("clock_suspect", text, Some(hint), None)
        }
        Warning::Outdated => {
            let version = env!("CARGO_PKG_VERSION");
            let text = format!("{network} has changes that meshnode {version} does not understand");
            let hint = "upgrade meshnode on this machine".to_owned();
            report("version_floor", text, Some(hint), None)
        }
        Warning::Quarantine(name) => {
            let text =
                format!("{name} shares its invite with too many machines; it has no traffic");
            let hint = "give the right machine an invite of its own: meshnode invite".to_owned();
            report("quarantine", text, Some(hint), Some(name.to_string()))
        }
        Warning::SharedKey(one, other) => {
            let text = format!("{one} and {other} present one key; neither has traffic");
            let hint = "one is a copy: meshnode leave there, then join with an invite of its own";
            report("clone", text, Some(hint.to_owned()), Some(one.to_string()))
        }
        Warning::Cloned(name) => {
            let text = format!("two machines answer for {name} in turn: a copy of it runs");
            let hint = "on one of them: sudo meshnode leave, then join with an invite of its own";
            report("clone", text, Some(hint.to_owned()), Some(name.to_string()))
        }
        Warning::DiskFailed(cause) => {
            let text = format!("the state directory takes no writes: {cause}");
            report("disk_low", text, Some("make room".to_owned()), None)
        }
        // Said by the state itself.
        Warning::Recovering => None,
        Warning::UnheardRevoke(unheard) => {
            let names: Vec<_> = unheard.nodes.iter().map(|name| name.as_str()).collect();
            let text = format!("not yet heard by {}", names.join(", "));
            report("unheard_revoke", text, None, None)
        }
        Warning::Expiring { node, days, .. } => {
            let text = format!("the membership of {node} ends within {days} d");
            report("expiring", text, None, Some(node.to_string()))
        }
        Warning::StaleAdmins { days } => {
            let text = format!("no admin was heard of for {days} d");
            report("stale_admins", text, None, None)
        }
        Warning::PolicyConflict(which) => {
            let text = format!("a line of the policy counts for nothing: {which}");
            let hint = "an admin settles it: meshnode policy edit".to_owned();
            report("policy_conflict", text, Some(hint), None)
        }
        Warning::PolicyUnbuilt { kept } => {
            let text = if *kept {
                "the policy cannot be built here; the last one that could is enforced"
            } else {
                "the policy cannot be built here; everything is denied"
            };
            let hint = "an admin writes it anew: meshnode policy set FILE".to_owned();
            report("policy_conflict", text.to_owned(), Some(hint), None)
        }
        Warning::Stale => {
            let text = "an admin knows of changes that are not here yet".to_owned();
            report("stale_admins", text, None, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::body::{Ipv4Range, Tags};
    use meshnode_protocol::id::{Digest, NetworkId, NodeId, PublicKey};
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
    fn a_warning_that_no_verb_can_mend_is_not_shown() {
        let nas = NodeName::parse("nas").unwrap();
        assert!(codes(vec![Warning::OneAdmin(nas), Warning::RecoveryUnchecked]).is_empty());
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
