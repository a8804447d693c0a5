//! The objects of acts that sign, and of the tables of people and their rights.

use serde_json::{Value, json};

use super::line;
use crate::control::acts::{
    Acted, Admin, Fallen, HeardBy, HeardDone, InviteReport, Petition, Plan, Waiting,
};
use crate::control::{InitRequest, RecoveryFacts};
use crate::units;

/// An act, and who heard it when the wait is over.
pub(crate) fn acted(acted: &Acted, heard: &[HeardBy], done: Option<&HeardDone>) -> String {
    let ops: Vec<Value> = acted
        .ops
        .iter()
        .map(|op| {
            json!({
                "id": op.id.map(|id| id.to_string()),
                "kind": op.kind,
                "subject": op.subject.as_ref().map(|name| name.as_str()),
                "said_at": units::rfc3339(op.said),
            })
        })
        .collect();
    let mut nodes: Vec<Value> = heard.iter().map(node).collect();
    let unreached = done.iter().flat_map(|done| &done.unreached);
    nodes.extend(unreached.map(|node| {
        json!({
            "name": node.name.as_str(),
            "id": node.id.to_string(),
            "ms": Value::Null,
            "last_seen_s": node.last_seen_s,
        })
    }));
    line(&json!({
        "schema": 1,
        "op": ops.first(),
        "ops": ops,
        "dry_run": acted.dry_run,
        "plan": plan(&acted.plan),
        "heard": nodes,
        "heard_n": done.map_or(0, |done| done.heard),
        "of_n": done.map_or(acted.of, |done| done.of),
        "warnings": [],
    }))
}

/// What `init` would make.
pub(crate) fn would_init(request: &InitRequest) -> String {
    line(&json!({
        "schema": 1,
        "dry_run": true,
        "network": {"name": request.name.as_ref().map(|name| name.as_str()), "id": Value::Null},
        "self": {"name": request.node_name.as_str()},
        "ipv4_range": request.ipv4_range,
        "recovery_phrase": Value::Null,
        "recovery_threshold": request.recovery.1,
        "recovery_of": request.recovery.0,
    }))
}

/// One more node that heard, a line.
pub(crate) fn heard(heard: &HeardBy) -> String {
    line(&json!({"heard": node(heard)}))
}

fn node(heard: &HeardBy) -> Value {
    json!({
        "name": heard.name.as_str(),
        "id": heard.id.to_string(),
        "ms": heard.ms,
        "last_seen_s": 0,
    })
}

fn plan(plan: &Plan) -> Value {
    let falls: Vec<Value> = plan
        .falls
        .iter()
        .map(|fallen| match fallen {
            Fallen::Member(name) => json!({"kind": "member", "what": name.as_str()}),
            Fallen::Admin(name) => json!({"kind": "admin", "what": name.as_str()}),
            Fallen::Invite(id) => json!({"kind": "invite", "what": id.to_string()}),
            Fallen::Revocation(name) => json!({"kind": "revocation", "what": name.as_str()}),
            Fallen::Policy(id) => json!({"kind": "policy", "what": id.to_string()}),
        })
        .collect();
    let names = |names: &[meshnode_protocol::name::NodeName]| {
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    json!({
        "out": names(&plan.out),
        "falls": falls,
        "granted_again": names(&plan.granted_again),
        "spared": names(&plan.spared),
        "kept": plan.kept,
        "epoch": plan.epoch.map(|(_, after)| after),
    })
}

/// `pending`.
pub(crate) fn pending(waiting: &[Waiting]) -> String {
    let list: Vec<Value> = waiting
        .iter()
        .map(|joiner| {
            json!({
                "id": joiner.id.to_string(),
                "name": joiner.name.as_str(),
                "fingerprint": joiner.fingerprint,
                "invite": joiner.invite.to_string(),
                "witness": joiner.witness.as_ref().map(|name| name.as_str()),
                "since": units::rfc3339(joiner.since),
                "standing": if joiner.quarantined { "quarantined" } else { "pending" },
            })
        })
        .collect();
    line(&json!({"schema": 1, "pending": list}))
}

/// `invite list`.
pub(crate) fn invites(invites: &[InviteReport]) -> String {
    let list: Vec<Value> = invites
        .iter()
        .map(|invite| {
            let used_by: Vec<&str> = invite.used_by.iter().map(|name| name.as_str()).collect();
            let tags: Vec<String> = invite.tags.iter().map(ToString::to_string).collect();
            json!({
                "id": invite.id.to_string(),
                "state": invite.state.word(),
                "uses": invite.uses,
                "used": invite.used,
                "used_by": used_by,
                "expires_at": units::rfc3339(invite.expires),
                "issuer": invite.issuer.as_ref().map(|name| name.as_str()),
                "name": invite.name.as_ref().map(|name| name.as_str()),
                "tags": tags,
                "approve": invite.approve,
            })
        })
        .collect();
    line(&json!({"schema": 1, "invites": list}))
}

/// `admin list`.
pub(crate) fn admins(admins: &[Admin]) -> String {
    let list: Vec<Value> = admins
        .iter()
        .map(|admin| {
            json!({
                "id": admin.id.to_string(),
                "name": admin.name.as_str(),
                "level": admin.level,
                "owner": admin.owner.as_ref().map(|owner| owner.as_str()),
                "made_by": admin.by.as_ref().map(|name| name.as_str()),
                "online": admin.online,
                "tip_at": admin.tip.map(units::rfc3339),
            })
        })
        .collect();
    line(&json!({"schema": 1, "admins": list}))
}

/// New keys of this node.
pub(crate) fn rotated(restart: bool) -> String {
    line(&json!({"schema": 1, "rotated": true, "restart_needed": restart}))
}

/// A petition that goes round.
pub(crate) fn petition(petition: &Petition, file: &str) -> String {
    line(&json!({
        "schema": 1,
        "petition": file,
        "signed": petition.signed,
        "threshold": petition.threshold,
    }))
}

/// How the way back stands.
pub(crate) fn recovery(facts: &RecoveryFacts) -> String {
    line(&json!({
        "schema": 1,
        "threshold": facts.threshold,
        "of": facts.of,
        "kept_here": facts.kept,
    }))
}

/// The phrases.
pub(crate) fn phrases(phrases: &[&str]) -> String {
    line(&json!({"schema": 1, "recovery_phrases": phrases}))
}

/// Phrases that were typed back.
pub(crate) fn phrase_checked(known: usize, of: usize, forgotten: bool) -> String {
    line(&json!({"schema": 1, "known": known, "of": of, "forgotten_here": forgotten}))
}
