//! The objects of the policy.

use serde_json::{Value, json};

use super::line;
use crate::control::policy::{
    Blamed, Change, DiffLine, Explained, Fault, InviteRules, PolicyChecked, PolicyShown, RuleLine,
    Verdict,
};
use crate::control::report::MemberReport;
use crate::output::policy::Asked;
use crate::units;

/// The policy.
pub(crate) fn shown(shown: &PolicyShown) -> String {
    let orphans: Vec<String> = shown.orphans.iter().map(ToString::to_string).collect();
    line(&json!({
        "schema": 1,
        "exists": shown.exists,
        "state": shown.state.word(),
        "version": shown.version,
        "op": shown.last.map(|op| op.to_string()),
        "text": shown.text,
        "conflicts": shown.conflicts,
        "orphans": orphans,
        "in_force_n": shown.in_force.0,
        "of_n": shown.in_force.1,
        "trial_s": shown.trial_ms.map(|ms| ms.div_ceil(1_000)),
    }))
}

/// Who wrote each line.
pub(crate) fn blame(lines: &[Blamed]) -> String {
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| {
            let by = line.by.as_ref();
            json!({
                "line": line.line,
                "text": line.text,
                "version": by.map(|by| by.version),
                "id": by.map(|by| by.op.to_string()),
                "author": by.and_then(|by| by.author.as_ref()).map(|name| name.as_str()),
                "said_at": by.map(|by| units::rfc3339(by.said)),
            })
        })
        .collect();
    line(&json!({"schema": 1, "lines": lines}))
}

/// What was on trial stays.
pub(crate) fn kept() -> String {
    line(&json!({"schema": 1, "kept": true}))
}

/// The tags and the owner of a node.
pub(crate) fn tags(member: &MemberReport) -> String {
    let tags: Vec<&str> = member.tags.iter().map(|tag| tag.as_str()).collect();
    line(&json!({
        "schema": 1,
        "name": member.name.as_str(),
        "id": member.id.to_string(),
        "tags": tags,
        "owner": member.owner.as_ref().map(|owner| owner.as_str()),
    }))
}

/// What is wrong with a text.
pub(crate) fn checked(checked: &PolicyChecked) -> String {
    let faults = |faults: &[Fault]| -> Vec<Value> {
        let faults = faults.iter();
        faults
            .map(|fault| {
                json!({
                    "line": fault.line,
                    "column": fault.column,
                    "text": fault.text,
                    "hint": fault.hint,
                })
            })
            .collect()
    };
    let word = |allow: bool| if allow { "allow" } else { "deny" };
    let tests = checked.tests.iter().map(|test| {
        json!({
            "line": test.line,
            "src": test.src,
            "dst": test.dst,
            "node": test.node.as_ref().map(|node| node.as_str()),
            "want": word(test.wants_allow),
            "got": word(!test.wants_allow),
        })
    });
    line(&json!({
        "schema": 1,
        "ok": checked.is_sound(),
        "errors": faults(&checked.faults),
        "tests": tests.collect::<Vec<_>>(),
        "notices": faults(&checked.notices),
    }))
}

/// Lines that go and lines that come.
pub(crate) fn diff(lines: &[DiffLine]) -> String {
    line(&json!({"schema": 1, "lines": changes(lines)}))
}

fn changes(lines: &[DiffLine]) -> Vec<Value> {
    let lines = lines.iter().map(|line| {
        json!({
            "change": if line.added { "added" } else { "removed" },
            "section": line.section,
            "line": line.line,
            "text": line.text,
        })
    });
    lines.collect()
}

/// What is signed together with an invite.
pub(super) fn invite_rules(rules: &InviteRules) -> Value {
    json!({
        "tag": rules.tag.as_str(),
        "version": rules.version,
        "first": rules.first,
        "lines": changes(&rules.lines),
    })
}

/// Whether a node reaches another.
pub(crate) fn explained(asked: &Asked<'_>, told: &Explained) -> String {
    let allowed = matches!(told.verdict, Verdict::Open | Verdict::Allowed);
    let rule = |rule: &RuleLine| json!({"line": rule.line, "text": rule.text});
    let by = told.rule.as_ref().and_then(|rule| rule.by.as_ref());
    line(&json!({
        "schema": 1,
        "verdict": if allowed { "allow" } else { "deny" },
        "src": asked.src.name.as_str(),
        "dst": asked.dst.name.as_str(),
        "proto": asked.proto,
        "port": asked.port,
        "rule": told.rule.as_ref().filter(|_| allowed).map(rule),
        "nearest": told.rule.as_ref().filter(|_| !allowed).map(rule),
        "version": told.version,
        "author": by.and_then(|by| by.author.as_ref()).map(|name| name.as_str()),
        "said_at": by.map(|by| units::rfc3339(by.said)),
        "note": told.note,
        "state": told.state.word(),
        "in_force_n": told.in_force.0,
        "of_n": told.in_force.1,
    }))
}

/// The changes of the policy.
pub(crate) fn log(changes: &[Change]) -> String {
    let changes: Vec<Value> = changes
        .iter()
        .map(|change| {
            json!({
                "version": change.version,
                "id": change.op.to_string(),
                "kind": if change.base { "policy-base" } else { "policy" },
                "author": change.author.as_ref().map(|name| name.as_str()),
                "said_at": units::rfc3339(change.said),
                "heard_at": change.heard.map(units::rfc3339),
                "state": change.state.word(),
            })
        })
        .collect();
    line(&json!({"schema": 1, "versions": changes}))
}
