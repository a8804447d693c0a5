//! The objects of `--json`, schema 1: fields are only added; what is not known is `null`, never absent.

mod acts;
mod card;
mod netcheck;
pub(crate) mod policy;

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::control::netcheck::RoadReport;
use crate::control::report::{
    MemberReport, NodeState, PeerReport, StandingReport, StatusReport, Tier, WarningReport,
};
use crate::control::{Inited, Invited, Joined, Membership, PathReport, SecretText, SettingReport};
use crate::failure::Failure;
use crate::units;

pub(crate) use self::acts::{
    acted, admins, heard, invites, pending, petition, phrase_checked, phrases, recovery, rotated,
    would_init,
};
pub(crate) use self::card::card;
pub(crate) use self::netcheck::netcheck;

/// A failure: `{"schema":1,"error":{..}}`.
pub(crate) fn failure(failure: &Failure) -> String {
    line(&json!({"schema": 1, "error": error_object(failure)}))
}

fn error_object(failure: &Failure) -> Value {
    json!({
        "code": failure.code,
        "exit": failure.exit.code(),
        "text": failure.text,
        "hint": failure.hints.first(),
    })
}

/// The state of one network.
pub(crate) fn status(report: &StatusReport) -> String {
    line(&status_object(report))
}

/// The state of all networks of this machine; of one whose daemon says nothing, why.
pub(crate) fn statuses(all: &[(String, Result<StatusReport, Failure>)]) -> String {
    let one = |(local_name, report): &(String, Result<StatusReport, Failure>)| match report {
        Ok(report) => status_object(report),
        Err(failure) => json!({
            "state": Value::Null,
            "network": {"local_name": local_name},
            "error": error_object(failure),
        }),
    };
    let networks: Vec<Value> = all.iter().map(one).collect();
    line(&json!({"schema": 1, "networks": networks}))
}

fn status_object(report: &StatusReport) -> Value {
    let network = report.network.as_ref();
    let known = report.this.is_some();
    let members: Vec<&MemberReport> = report
        .this
        .iter()
        .chain(report.peers.iter().map(|peer| &peer.member))
        .collect();
    let admins = members.iter().filter(|member| member.is_admin()).count();
    json!({
        "schema": 1,
        "state": state(report.state),
        "state_for_s": report.state_for_s,
        "revoked": report.revoked.as_ref().map(|revoked| json!({
            "by": revoked.by.as_ref().map(|name| name.as_str()),
            "reason": revoked.reason,
            "said_at": units::rfc3339(revoked.said),
        })),
        "down_for_s": report.down_for_s,
        "network": {
            "name": network.map(|network| network.name.as_str()),
            "id": network.map(|network| network.id.to_string()),
            "local_name": report.local_name,
            "epoch": network.map(|network| network.epoch),
            "ops": network.map(|network| network.ops),
            "view": network.map(|network| network.view.to_string()),
            "ipv4_range": network.map(|network| network.ipv4_range.as_str()),
            "policy_version": network.map(|network| network.policy_version),
            "dns_suffix": Value::Null,
            "tun": report.tun,
            "admins": known.then_some(admins),
            "admins_seen_24h": known.then(|| admins_seen(report)),
        },
        "self": report.this.as_ref().map(|this| {
            let mut this = member(this);
            this["port"] = json!(report.port);
            this
        }),
        "peers": report.peers.iter().map(peer).collect::<Vec<_>>(),
        "warnings": report.warnings.iter().map(warning).collect::<Vec<_>>(),
    })
}

/// What is set for this node.
pub(crate) fn settings(settings: &[SettingReport]) -> String {
    let one = |setting: &SettingReport| {
        json!({
            "key": setting.key.to_string(),
            "value": setting.value,
            "from": setting.from,
        })
    };
    let settings: Vec<Value> = settings.iter().map(one).collect();
    line(&json!({"schema": 1, "settings": settings}))
}

/// The addresses of a node that were asked for.
pub(crate) fn addresses(member: &MemberReport, addresses: &[IpAddr]) -> String {
    line(&json!({
        "schema": 1,
        "name": member.name.as_str(),
        "id": member.id.to_string(),
        "addresses": addresses,
    }))
}

/// What was waited for is there.
pub(crate) fn waited(node: Option<&str>, waited_ms: u64) -> String {
    line(&json!({"schema": 1, "node": node, "waited_ms": waited_ms}))
}

/// A node that is blocked now, or is not.
pub(crate) fn blocked(member: &MemberReport, blocked: bool, changed: bool) -> String {
    line(&json!({
        "schema": 1,
        "node": {"name": member.name.as_str(), "id": member.id.to_string()},
        "blocked": blocked,
        "changed": changed,
    }))
}

/// A network that was made. The phrase is `null` when it went into a file.
pub(crate) fn inited(inited: &Inited, phrase_in_file: bool) -> String {
    let shown = inited.phrases.iter().map(SecretText::reveal);
    let phrases: Vec<&str> = shown.filter(|_| !phrase_in_file).collect();
    line(&json!({
        "schema": 1,
        "network": network(&inited.this),
        "self": this(&inited.this),
        "recovery_phrase": phrases.first(),
        "recovery_phrases": phrases,
        "recovery_threshold": inited.threshold,
    }))
}

/// A join that is through.
pub(crate) fn joined(joined: &Joined, already: bool, duration_ms: u64) -> String {
    line(&json!({
        "schema": 1,
        "network": network(&joined.this),
        "self": this(&joined.this),
        "standing": if joined.settled { "settled" } else { "provisional" },
        "witness": joined.witness.map(|witness| witness.to_string()),
        "wished_name": joined.wished.as_ref().map(|name| name.as_str()),
        "already": already,
        "duration_ms": duration_ms,
    }))
}

/// An invite.
pub(crate) fn invited(invited: &Invited) -> String {
    line(&json!({
        "schema": 1,
        "code": invited.code.as_ref().map(SecretText::reveal),
        "id": invited.id.map(|id| id.to_string()),
        "expires_at": units::rfc3339(invited.expires),
        "uses": invited.uses,
        "hints": invited.hints,
        "reach": if invited.hints.is_empty() { "lan" } else { "anywhere" },
        "approve": invited.approve,
        "policy_change": invited.policy.as_ref().map(|rules| policy::invite_rules(rules)),
        "heard_n": invited.heard,
        "of_n": invited.of,
    }))
}

/// A goodbye.
pub(crate) fn left(heard: usize, of: usize) -> String {
    line(&json!({"schema": 1, "heard_n": heard, "of_n": of}))
}

/// That an act without data of its own is done.
pub(crate) fn done(state: &str) -> String {
    line(&json!({"schema": 1, "state": state}))
}

/// One answered or silent probe, a line.
pub(crate) fn probe(seq: u32, answer: Option<(u64, &PathReport)>) -> String {
    line(&json!({
        "seq": seq,
        "rtt_ms": answer.map(|(rtt_us, _)| millis(rtt_us)),
        "path": answer.map(|(_, path)| json!({
            "kind": kind(path.tier),
            "tier": tier(path.tier),
            "endpoint": path.endpoint.map(|at| at.to_string()),
            "via": path.via,
        })),
    }))
}

/// The last line of `ping`.
pub(crate) fn ping_summary(sent: u32, rtts_us: &[u64], why: Option<&PeerReport>) -> String {
    let sum: u64 = rtts_us.iter().sum();
    let average = sum.checked_div(rtts_us.len() as u64);
    line(&json!({"summary": {
        "sent": sent,
        "received": rtts_us.len(),
        "min_ms": rtts_us.iter().min().map(|us| millis(*us)),
        "avg_ms": average.map(millis),
        "max_ms": rtts_us.iter().max().map(|us| millis(*us)),
        "why": why.map(self::why),
    }}))
}

fn why(peer: &PeerReport) -> Value {
    let search = peer.search.as_ref();
    let tried = search
        .map(|search| search.tried.as_slice())
        .unwrap_or_default();
    let tried = tried.iter().map(|attempt| {
        json!({
            "at_ms": attempt.at_ms,
            "method": attempt.method,
            "target": attempt.target,
            "result": attempt.result,
        })
    });
    json!({
        "text": super::why::sentence(peer),
        "tried": tried.collect::<Vec<_>>(),
        "helps": super::why::helps(peer),
        "next_retry_s": search.and_then(|search| search.next_ms).map(|ms| ms / 1000),
    })
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

fn network(this: &Membership) -> Value {
    json!({"name": this.network.as_str(), "id": this.network_id.to_string()})
}

fn this(this: &Membership) -> Value {
    json!({
        "name": this.name.as_str(),
        "id": this.id.to_string(),
        "ipv4": this.ipv4,
        "ipv6": this.ipv6,
    })
}

fn member(member: &MemberReport) -> Value {
    json!({
        "name": member.name.as_str(),
        "id": member.id.to_string(),
        "ipv4": member.ipv4,
        "ipv6": member.ipv6,
        "role": super::status::role(member),
        "level": member.level,
        "standing": standing(member.standing),
        "tags": member.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(),
        "owner": member.owner.as_ref().map(|owner| owner.as_str()),
        "os": member.os,
        "version": member.version,
    })
}

fn peer(peer: &PeerReport) -> Value {
    let mut value = member(&peer.member);
    let path = peer.path.as_ref();
    let path = path.filter(|_| peer.online && !peer.blocked);
    value["online"] = json!(peer.online);
    value["last_seen_s"] = json!(peer.last_seen_s);
    value["path"] = json!({
        "kind": path.map_or("none", |path| kind(path.tier)),
        "tier": path.map(|path| tier(path.tier)),
        "endpoint": path.and_then(|path| path.endpoint).map(|at| at.to_string()),
        "via": path.and_then(|path| path.via.as_ref()),
        "road": path.and_then(|path| path.road).map(RoadReport::code),
        "rtt_ms": peer.rtt_us.filter(|_| path.is_some()).map(millis),
        "reason": Value::Null,
        "reason_code": reason_code(peer),
        "since_s": peer.path_since_s.filter(|_| path.is_some()),
        "retry_s": Value::Null,
        "mtu_bytes": peer.mtu,
    });
    value["rx_bytes"] = json!(peer.rx_bytes);
    value["tx_bytes"] = json!(peer.tx_bytes);
    value["last_handshake_s"] = json!(peer.last_handshake_s);
    value["blocked"] = json!(peer.blocked);
    value["heard"] = json!(peer.heard);
    value
}

fn warning(warning: &WarningReport) -> Value {
    json!({
        "code": warning.code,
        "text": warning.text,
        "hint": warning.hint,
        "severity": "warning",
        "subject": warning.subject,
    })
}

fn admins_seen(report: &StatusReport) -> usize {
    let own = report.this.iter().filter(|this| this.is_admin()).count();
    let day = |peer: &&PeerReport| peer.online || peer.last_seen_s.is_some_and(|s| s < 86_400);
    let peers = report.peers.iter().filter(|peer| peer.member.is_admin());
    own + peers.filter(day).count()
}

const fn reason_code(peer: &PeerReport) -> &'static str {
    match (peer.online, &peer.path) {
        _ if peer.blocked => "blocked",
        (false, _) => "peer_offline",
        (true, None) => "punching",
        (true, Some(path)) => tier(path.tier),
    }
}

const fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Lan => "lan",
        Tier::Direct => "direct",
        Tier::UdpRelay => "udp-relay",
        Tier::Circuit => "circuit",
    }
}

const fn kind(tier: Tier) -> &'static str {
    match tier {
        Tier::Lan | Tier::Direct => "direct",
        Tier::UdpRelay | Tier::Circuit => "relay",
    }
}

const fn standing(standing: StandingReport) -> &'static str {
    match standing {
        StandingReport::Settled => "settled",
        StandingReport::Provisional => "provisional",
        StandingReport::Pending => "pending",
        StandingReport::Quarantined => "quarantined",
    }
}

/// The contract's five states; a store that is being rebuilt is a start that is not through.
pub(crate) const fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Running => "running",
        NodeState::Isolated => "isolated",
        NodeState::Down => "down",
        NodeState::Revoked => "revoked",
        NodeState::Starting | NodeState::Recovering => "starting",
        NodeState::Waiting => "waiting",
    }
}

/// Milliseconds with three decimals at most.
fn millis(us: u64) -> Value {
    let us = u32::try_from(us).unwrap_or(u32::MAX);
    json!(f64::from(us) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::status::tests::healthy;

    fn read(text: &str) -> Value {
        assert_eq!(text.matches('\n').count(), 1, "one object is one line");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn status_has_every_field_of_the_contract() {
        let value = read(&status(&healthy()));
        assert_eq!(value["schema"], 1);
        assert_eq!(value["network"]["policy_version"], 3);
        for field in [
            "name",
            "id",
            "epoch",
            "ops",
            "policy_version",
            "local_name",
            "dns_suffix",
            "tun",
            "admins",
            "admins_seen_24h",
            "view",
        ] {
            assert!(value["network"].get(field).is_some(), "network.{field}");
        }
        for field in [
            "name", "id", "ipv4", "ipv6", "role", "os", "version", "tags", "owner", "level",
            "port", "standing",
        ] {
            assert!(value["self"].get(field).is_some(), "self.{field}");
        }
        for field in [
            "name",
            "id",
            "ipv4",
            "ipv6",
            "role",
            "tags",
            "online",
            "last_seen_s",
            "rx_bytes",
            "tx_bytes",
            "last_handshake_s",
            "owner",
            "standing",
            "version",
            "blocked",
            "heard",
        ] {
            assert!(value["peers"][0].get(field).is_some(), "peers.{field}");
        }
        for field in [
            "kind",
            "tier",
            "endpoint",
            "via",
            "rtt_ms",
            "reason",
            "reason_code",
            "since_s",
            "retry_s",
            "mtu_bytes",
        ] {
            assert!(
                value["peers"][0]["path"].get(field).is_some(),
                "peers.path.{field}"
            );
        }
    }

    #[test]
    fn status_says_what_the_table_says() {
        let value = read(&status(&healthy()));
        assert_eq!(value["state"], "running");
        assert_eq!(value["network"]["admins"], 1);
        assert_eq!(value["peers"][0]["path"]["tier"], "lan");
        assert_eq!(value["peers"][0]["path"]["rtt_ms"], 0.4);
        assert_eq!(value["self"]["role"], "admin");
    }

    #[test]
    fn a_failure_is_an_object_with_its_exit_code() {
        let value = read(&failure(&Failure::no_network()));
        assert_eq!(value["error"]["exit"], 5);
        assert_eq!(value["error"]["code"], "no_network");
        assert!(value["error"]["hint"].is_string());
    }

    #[test]
    fn a_ping_without_an_answer_has_nulls_and_no_division_by_zero() {
        assert_eq!(read(&probe(1, None))["rtt_ms"], Value::Null);
        let value = read(&ping_summary(4, &[], None));
        assert_eq!(value["summary"]["received"], 0);
        assert_eq!(value["summary"]["avg_ms"], Value::Null);
    }

    #[test]
    fn a_ping_summary_has_the_smallest_the_mean_and_the_largest() {
        let value = read(&ping_summary(4, &[400, 600, 800], None));
        assert_eq!(value["summary"]["min_ms"], 0.4);
        assert_eq!(value["summary"]["avg_ms"], 0.6);
        assert_eq!(value["summary"]["max_ms"], 0.8);
    }
}
