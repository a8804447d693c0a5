//! A founder, an admin and a member, who hear of each other's ops when a test says so.

mod pinned;
mod restricted;
mod revoked;
mod stage;
mod steps;
mod trials;

use std::collections::BTreeSet;

use self::stage::{Stage, filter_of, grants};
use super::*;
use crate::access::number::TCP;
use crate::body::{Body, Policy as PolicyOp, PolicyBase};
use crate::codec::Ext;
use crate::io::{
    Act, Command, PolicyChangeState, PolicyChecked, PolicyQuestion, PolicyText, PolicyVerdict,
    Refusal, Reply,
};
use crate::policy::{Document, Question};

const NAS: usize = 0;
const PI: usize = 1;
const CAM: usize = 2;

const SSH: &str = r#"{"src": ["pi"], "dst": ["nas"], "ip": ["tcp:22"]}"#;
const WEB: &str = r#"{"src": ["cam"], "dst": ["nas"], "ip": ["tcp:80"]}"#;
const DNS: &str = r#"{"src": ["nas"], "dst": ["pi"], "ip": ["udp:53"]}"#;

#[test]
fn a_policy_that_is_set_denies_what_it_does_not_allow_on_every_node() {
    let mut stage = Stage::new();
    assert_eq!(filter_of(&stage, NAS), Filter::Open);
    stage.set(NAS, &[SSH]).unwrap();
    stage.tell(NAS, CAM);
    stage.tell(NAS, PI);
    let (pi, cam) = (stage.id(PI), stage.id(CAM));
    assert!(stage.passes(NAS, pi, 22) && !stage.passes(NAS, pi, 23));
    assert!(!stage.passes(NAS, cam, 22));
    assert_eq!(filter_of(&stage, CAM), Filter::deny_all());
    let shown = stage.show(CAM);
    assert!(shown.exists && shown.version == 1 && shown.text.contains("tcp:22"));
    assert_eq!(shown.state, PolicyState::InForce);
    assert_eq!(shown.in_force, (1, 3));
    // Setting the same again signs nothing.
    assert_eq!(stage.set(NAS, &[SSH]).unwrap(), None);
}

#[test]
fn the_status_shows_the_version_of_the_policy() {
    let mut stage = Stage::new();
    assert_eq!(stage.version(NAS), None);
    stage.set(NAS, &[SSH]).unwrap();
    stage.set(NAS, &[SSH, WEB]).unwrap();
    stage.tell(NAS, PI);
    assert_eq!(
        [NAS, PI, CAM].map(|who| stage.version(who)),
        [Some(2), Some(2), None]
    );
}

#[test]
fn the_engine_has_the_filter_before_any_peer() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH]).unwrap();
    let outputs = stage.restart(NAS);
    let filter = outputs
        .iter()
        .position(|output| matches!(output, Output::Filter(_)));
    let peer = outputs
        .iter()
        .position(|output| matches!(output, Output::Peer(_)));
    assert!(filter.unwrap() < peer.unwrap());
}

#[test]
fn only_admins_with_the_cap_change_the_policy() {
    let mut stage = Stage::new();
    let refused = stage.set(CAM, &[SSH]).unwrap_err();
    let Reply::Refused(Refusal::NotAdmin(admins)) = refused else {
        panic!("{refused:?}");
    };
    let names: Vec<_> = admins.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 2);
    assert!(names.contains(&"nas") && names.contains(&"pi"));
    assert_eq!(filter_of(&stage, CAM), Filter::Open);
}

#[test]
fn a_faulty_text_or_a_failing_test_is_named_by_line_and_nothing_is_signed() {
    let mut stage = Stage::new();
    let ops = stage.ops(NAS);
    let checked = |reply: Reply| {
        let Reply::PolicyChecked(checked) = reply else {
            panic!("{reply:?}");
        };
        *checked
    };
    let refused = stage.set_text(
        NAS,
        "{\n  \"grants\": [\n    {\"src\": [\"nobody\"]}\n]}",
        None,
    );
    let PolicyChecked { faults, .. } = checked(refused.unwrap_err());
    assert_eq!(faults[0].line, 3);
    let text = "{\"grants\": [],\n\"tests\": [{\"src\": \"pi\", \"accept\": [\"nas:22\"]}]}";
    let PolicyChecked { faults, tests, .. } = checked(stage.set_text(NAS, text, None).unwrap_err());
    assert!(faults.is_empty());
    assert_eq!((tests[0].line, tests[0].src.as_str()), (2, "pi"));
    assert_eq!(stage.ops(NAS), ops);
}

#[test]
fn an_edit_of_what_somebody_else_changed_meanwhile_is_refused() {
    let mut stage = Stage::new();
    let first = stage.set(NAS, &[SSH]).unwrap().unwrap();
    stage.set(NAS, &[SSH, WEB]).unwrap();
    let refused = stage.set_text(NAS, &grants(&[DNS]), Some(first));
    assert_eq!(refused.unwrap_err(), Reply::Refused(Refusal::PolicyMoved));
}

#[test]
fn edits_of_different_rules_in_two_partitions_both_stand() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH]).unwrap();
    stage.tell(NAS, PI);
    stage.set(NAS, &[SSH, WEB]).unwrap();
    stage.set(PI, &[SSH, DNS]).unwrap();
    stage.heal();
    for who in [NAS, PI, CAM] {
        let shown = stage.show(who);
        assert!(shown.conflicts.is_empty() && shown.orphans.is_empty());
        for port in ["tcp:22", "tcp:80", "udp:53"] {
            assert!(shown.text.contains(port), "{}", shown.text);
        }
        assert_eq!(shown.version, 3);
    }
    assert!(stage.passes(NAS, stage.id(CAM), 80));
}

#[test]
fn edits_of_one_rule_in_two_partitions_count_for_nothing_and_alarm_everybody() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH, WEB]).unwrap();
    stage.tell(NAS, PI);
    let [a, b] = ["tcp:23", "tcp:24"].map(|port| SSH.replace("tcp:22", port));
    stage.set(NAS, &[&a, WEB]).unwrap();
    stage.set(PI, &[&b, WEB]).unwrap();
    stage.heal();
    let pi = stage.id(PI);
    for port in [22, 23, 24] {
        assert!(!stage.passes(NAS, pi, port));
    }
    assert!(stage.passes(NAS, stage.id(CAM), 80));
    for who in [NAS, PI, CAM] {
        let warnings = stage.warnings(who);
        let conflict = |warning: &Warning| matches!(warning, Warning::PolicyConflict(_));
        assert_eq!(warnings.iter().filter(|w| conflict(w)).count(), 1);
        // A person sees by name what the two wrote, to where it differs.
        let [conflict] = &stage.show(who).conflicts[..] else {
            panic!("one conflict");
        };
        let told = conflict.to_string();
        assert!(told.contains("tcp:23") && told.contains("tcp:24"), "{told}");
        assert!(told.contains("pi") && !told.contains("id:"), "{told}");
    }
    // An admin settles it by setting what is meant.
    stage.set(PI, &[&b, WEB]).unwrap();
    stage.heal();
    assert!(stage.passes(NAS, pi, 24) && !stage.passes(NAS, pi, 23));
    assert!(stage.show(CAM).conflicts.is_empty());
}

#[test]
fn policy_missing_body_denies() {
    let mut stage = Stage::new();
    stage.set(NAS, &[WEB]).unwrap();
    stage.tell_stubs(NAS, CAM);
    assert_eq!(filter_of(&stage, CAM), Filter::deny_all());
    let unbuilt = |kept| Warning::PolicyUnbuilt { kept };
    assert!(stage.warnings(CAM).contains(&unbuilt(false)));
    stage.tell(NAS, CAM);
    let built = filter_of(&stage, CAM);
    assert!(built.outbound(&stage.id(NAS), TCP, Some(80)));
    // The last one that could be built is kept while the next edit is without its body.
    stage.set(NAS, &[SSH]).unwrap();
    stage.tell_stubs(NAS, CAM);
    assert_eq!(filter_of(&stage, CAM), built);
    assert!(stage.warnings(CAM).contains(&unbuilt(true)));
    stage.tell(NAS, CAM);
    assert_eq!(filter_of(&stage, CAM), Filter::deny_all());
    assert_eq!(stage.show(CAM).state, PolicyState::InForce);
}

#[test]
fn policy_void_base_denies() {
    let mut stage = Stage::new();
    stage.set(PI, &[WEB]).unwrap();
    stage.heal();
    let built = filter_of(&stage, CAM);
    assert!(built.outbound(&stage.id(NAS), TCP, Some(80)));
    stage.put_out(NAS, PI);
    stage.tell(NAS, CAM);
    assert_eq!(filter_of(&stage, CAM), built);
    assert_eq!(stage.show(CAM).state, PolicyState::Kept);
    // One that starts now never built it.
    stage.restart(CAM);
    assert_eq!(filter_of(&stage, CAM), Filter::deny_all());
    assert_eq!(stage.show(CAM).state, PolicyState::Denied);
    // A fresh base cures it.
    stage.set(NAS, &[WEB]).unwrap();
    stage.tell(NAS, CAM);
    assert!(stage.passes_out(CAM, stage.id(NAS), 80));
}

#[test]
fn a_garbled_edit_is_as_if_it_were_not_there_and_a_garbled_base_denies() {
    let mut stage = Stage::new();
    let base = stage.set(NAS, &[WEB]).unwrap().unwrap();
    let change = vec![7; 40];
    let ext = Ext::NONE;
    let garbled = PolicyOp { base, change, ext };
    let id = stage.say(NAS, Body::Policy(garbled));
    let notices = stage.tell(NAS, CAM);
    assert!(notices.contains(&Notice::PolicyUnread(id)));
    assert!(stage.passes_out(CAM, stage.id(NAS), 80));
    let log = stage.log(CAM);
    assert_eq!(log[1].state, PolicyChangeState::Unread);
    let garbled = PolicyBase {
        previous: Some(base),
        change: vec![7; 40],
        ext: Ext::NONE,
    };
    stage.say(NAS, Body::PolicyBase(garbled));
    stage.tell(NAS, CAM);
    stage.restart(CAM);
    assert_eq!(filter_of(&stage, CAM), Filter::deny_all());
}

#[test]
fn orphan_reproposed() {
    let mut stage = Stage::new();
    stage.set(NAS, &[WEB]).unwrap();
    stage.heal();
    stage.set(PI, &[WEB, DNS]).unwrap();
    stage.tell(PI, NAS);
    stage.set(NAS, &[WEB, DNS, SSH]).unwrap();
    stage.put_out(NAS, PI);
    let shown = stage.show(NAS);
    assert_eq!(shown.orphans.len(), 1);
    assert!(!shown.text.contains("tcp:22"));
    stage.pass(ANEW_MS + 1);
    let shown = stage.show(NAS);
    assert!(shown.text.contains("tcp:22") && !shown.text.contains("udp:53"));
    // Once: neither this life nor another says it again.
    let ops = stage.ops(NAS);
    stage.restart(NAS);
    stage.pass(10 * ANEW_MS);
    assert_eq!(stage.ops(NAS), ops);
    stage.tell(NAS, CAM);
    assert!(stage.show(CAM).text.contains("tcp:22"));
}

#[test]
fn an_edit_of_a_base_that_lost_is_proposed_anew_by_its_author() {
    let mut stage = Stage::new();
    let previous = stage.set(NAS, &[WEB]).unwrap();
    stage.heal();
    stage.set(PI, &[WEB, DNS]).unwrap();
    let change = stage.rebase(NAS);
    let ext = Ext::NONE;
    stage.say(
        NAS,
        Body::PolicyBase(PolicyBase {
            previous,
            change,
            ext,
        }),
    );
    stage.heal();
    assert!(!stage.show(PI).text.contains("udp:53"));
    stage.pass(ANEW_MS + 1);
    stage.heal();
    for who in [NAS, PI, CAM] {
        let text = stage.show(who).text;
        assert!(text.contains("udp:53") && text.contains("tcp:80"), "{text}");
    }
}

#[test]
fn a_long_history_gets_a_new_base_that_says_the_same() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH]).unwrap();
    let comment = "x".repeat(3000);
    for number in 0..14 {
        let text = format!("// {number} {comment}\n{}", grants(&[SSH]));
        stage.set_text(NAS, &text, None).unwrap();
    }
    let log = stage.log(NAS);
    assert!(log.iter().filter(|change| change.base).count() > 1);
    let shown = stage.show(NAS);
    assert!(shown.text.contains("// 13 x") && shown.orphans.is_empty());
    assert!(stage.passes(NAS, stage.id(PI), 22));
}

#[test]
fn a_rollback_says_again_what_was_said_and_keeps_the_history() {
    let mut stage = Stage::new();
    let first = stage.set(NAS, &[SSH]).unwrap().unwrap();
    let text = stage.show(NAS).text;
    stage.set(NAS, &[WEB, DNS]).unwrap();
    let act = Act::default();
    let replies = stage.command(NAS, Command::PolicyRollback { op: first, act });
    assert!(matches!(replies[0], Reply::Acted(_)), "{replies:?}");
    let shown = stage.show(NAS);
    assert_eq!((shown.text, shown.version), (text, 3));
    assert!(stage.passes(NAS, stage.id(PI), 22));
    let op = OpId::ZERO;
    let replies = stage.command(NAS, Command::PolicyRollback { op, act });
    assert_eq!(replies, [Reply::Refused(Refusal::UnknownVersion(op))]);
}

#[test]
fn an_explanation_names_the_rule_its_line_and_who_signed_it() {
    let mut stage = Stage::new();
    let ask = |stage: &mut Stage, src, port| {
        let question = Question {
            src: stage.id(src),
            dst: stage.id(NAS),
            protocol: TCP,
            port: Some(port),
        };
        let replies = stage.command(
            CAM,
            Command::PolicyExplain(PolicyQuestion { question, at: None }),
        );
        match replies.into_iter().next() {
            Some(Reply::PolicyExplained(explained)) => *explained,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask(&mut stage, PI, 22).verdict, PolicyVerdict::Open);
    stage.set(NAS, &[SSH]).unwrap();
    stage.tell(NAS, PI);
    let op = stage.set(PI, &[SSH, WEB]).unwrap().unwrap();
    stage.heal();
    let allowed = ask(&mut stage, CAM, 80);
    assert_eq!(allowed.verdict, PolicyVerdict::Allowed);
    let rule = allowed.rule.unwrap();
    let by = rule.by.unwrap();
    assert_eq!((by.op, by.version), (op, 2));
    assert_eq!(by.author.unwrap().as_str(), "pi");
    let text = stage.show(CAM).text;
    let line = text.lines().nth(rule.line as usize - 1).unwrap();
    assert!(line.contains("tcp:80") && line.contains(&rule.text));
    let denied = ask(&mut stage, PI, 23);
    assert_eq!(denied.verdict, PolicyVerdict::Denied);
    assert!(denied.rule.unwrap().text.contains("tcp:22"));
}

#[test]
fn a_dry_run_of_a_policy_signs_nothing() {
    let mut stage = Stage::new();
    let ops = stage.ops(NAS);
    let text = PolicyText {
        text: grants(&[SSH]),
        expect: None,
        act: Act {
            dry_run: true,
            wait_ms: 0,
        },
    };
    let replies = stage.command(NAS, Command::PolicySet(Box::new(text)));
    assert!(matches!(&replies[..], [Reply::Acted(acted)] if acted.dry_run && acted.ops.len() == 1));
    assert_eq!(stage.ops(NAS), ops);
    assert_eq!(filter_of(&stage, NAS), Filter::Open);
}

#[test]
fn what_was_acknowledged_is_what_is_enforced() {
    let mut stage = Stage::new();
    let op = stage.set(NAS, &[SSH]).unwrap();
    stage.tell_stubs(NAS, CAM);
    stage.pass(60_000);
    assert_eq!(stage.seen(CAM).policy, None);
    stage.tell(NAS, CAM);
    stage.pass(60_000);
    assert_eq!(stage.seen(CAM).policy, op);
}

#[test]
fn a_document_that_only_grew_is_what_it_would_be_built_anew() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH]).unwrap();
    stage.tell(NAS, PI);
    stage.set(NAS, &[SSH, WEB]).unwrap();
    stage.set(PI, &[SSH, DNS]).unwrap();
    stage.heal();
    let grown: Document = stage.document(NAS);
    stage.restart(NAS);
    assert!(grown == stage.document(NAS));
}
