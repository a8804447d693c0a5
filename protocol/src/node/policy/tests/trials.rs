//! Changes on trial.

use super::stage::{Stage, filter_of, grants};
use super::{CAM, DNS, NAS, PI, SSH, WEB};
use crate::access::Filter;
use crate::body::{Body, PolicyBase};
use crate::codec::Ext;
use crate::id::OpId;
use crate::io::{
    Act, Command, PolicyState, PolicyText, PolicyTrial, Refusal, Reply, RevokeOptions, Write,
};
use crate::node::policy::probation::was_open;

const FOR_MS: u64 = 60_000;

fn try_rules(stage: &mut Stage, rules: &[&str]) -> Reply {
    try_rules_on(stage, NAS, rules)
}

fn try_rules_on(stage: &mut Stage, who: usize, rules: &[&str]) -> Reply {
    let wanted = PolicyText {
        text: grants(rules),
        expect: None,
        act: Act::default(),
    };
    let trial = PolicyTrial {
        wanted,
        for_ms: FOR_MS,
    };
    let replies = stage.command(who, Command::PolicyTry(Box::new(trial)));
    replies.into_iter().next().unwrap()
}

fn tried(stage: &mut Stage, rules: &[&str]) -> OpId {
    let reply = try_rules(stage, rules);
    let Reply::Acted(acted) = reply else {
        panic!("{reply:?}");
    };
    acted.ops.last().unwrap().id.unwrap()
}

#[test]
fn what_nobody_keeps_is_undone_by_an_ordinary_edit_that_others_follow() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH]).unwrap();
    let text = stage.show(NAS).text;
    tried(&mut stage, &[WEB]);
    stage.heal();
    let (pi, cam) = (stage.id(PI), stage.id(CAM));
    assert!(stage.passes(NAS, cam, 80) && !stage.passes(NAS, pi, 22));
    let left = stage.show(NAS).trial_ms.unwrap();
    assert!((FOR_MS - 1000..=FOR_MS).contains(&left), "{left}");
    assert_eq!(stage.show(PI).trial_ms, None);
    stage.pass(FOR_MS - 1000);
    assert_eq!(stage.show(NAS).version, 2);
    stage.pass(1500);
    let shown = stage.show(NAS);
    assert_eq!((shown.text.as_str(), shown.version), (text.as_str(), 3));
    assert_eq!(shown.trial_ms, None);
    stage.heal();
    assert_eq!(stage.show(CAM).text, text);
    assert!(stage.passes(NAS, pi, 22) && !stage.passes(NAS, cam, 80));
    let ops = stage.ops(NAS);
    stage.pass(10 * FOR_MS);
    assert_eq!(stage.ops(NAS), ops, "it is undone once");
}

/// A trial of the first policy ends with everybody reaching everybody; of a later one never, whatever it stood on.
#[test]
fn only_where_there_never_was_a_policy_does_the_end_of_a_trial_open() {
    let mut stage = Stage::new();
    let first = stage.set(NAS, &[SSH]).unwrap().unwrap();
    let second = stage.set(NAS, &[WEB]).unwrap().unwrap();
    let authority = stage.authority(NAS);
    assert!(was_open(authority, &first));
    assert!(!was_open(authority, &second));
}

#[test]
fn what_is_kept_stays() {
    let mut stage = Stage::new();
    let keep = |stage: &mut Stage| stage.command(NAS, Command::PolicyKeep);
    assert_eq!(keep(&mut stage), [Reply::Refused(Refusal::NoTrial)]);
    tried(&mut stage, &[WEB]);
    assert_eq!(keep(&mut stage), [Reply::PolicyKept]);
    stage.restart(NAS);
    stage.pass(2 * FOR_MS);
    let shown = stage.show(NAS);
    assert!(shown.text.contains("tcp:80") && shown.version == 1);
}

#[test]
fn a_trial_ends_at_its_time_although_the_program_ended_meanwhile() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH]).unwrap();
    tried(&mut stage, &[WEB]);
    stage.pass(20_000);
    stage.restart(NAS);
    stage.pass(30_000);
    assert_eq!(stage.show(NAS).version, 2, "there are some seconds left");
    stage.pass(15_000);
    assert!(stage.show(NAS).text.contains("tcp:22"));
    // One whose time was over while the program was off is undone at its start.
    tried(&mut stage, &[WEB]);
    stage.sleep(10 * FOR_MS);
    stage.restart(NAS);
    stage.pass(1000);
    assert!(stage.show(NAS).text.contains("tcp:22"));
}

#[test]
fn the_first_policy_on_trial_ends_in_one_that_allows_what_held_without() {
    let mut stage = Stage::new();
    tried(&mut stage, &[WEB]);
    stage.pass(FOR_MS + 1000);
    stage.heal();
    let shown = stage.show(CAM);
    assert_eq!(shown.state, PolicyState::InForce);
    assert_ne!(filter_of(&stage, NAS), Filter::Open);
    for port in [22, 80, 9999] {
        assert!(stage.passes(NAS, stage.id(PI), port) && stage.passes(NAS, stage.id(CAM), port));
    }
}

#[test]
fn what_others_changed_during_a_trial_outlives_it() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH]).unwrap();
    stage.heal();
    tried(&mut stage, &[SSH, WEB]);
    stage.heal();
    stage.set(PI, &[SSH, WEB, DNS]).unwrap();
    stage.heal();
    stage.pass(FOR_MS + 1000);
    let text = stage.show(NAS).text;
    assert!(text.contains("tcp:22") && text.contains("udp:53"), "{text}");
    assert!(!text.contains("tcp:80"), "{text}");
}

#[test]
fn during_a_trial_nothing_else_is_set_and_a_rollback_ends_it() {
    let mut stage = Stage::new();
    let first = stage.set(NAS, &[SSH]).unwrap().unwrap();
    tried(&mut stage, &[WEB]);
    for refused in [
        try_rules(&mut stage, &[DNS]),
        stage.set(NAS, &[DNS]).unwrap_err(),
    ] {
        let Reply::Refused(Refusal::OnTrial(left)) = refused else {
            panic!("{refused:?}");
        };
        assert!(left <= FOR_MS);
    }
    let act = Act::default();
    let rolled = stage.command(NAS, Command::PolicyRollback { op: first, act });
    assert!(matches!(rolled[0], Reply::Acted(_)), "{rolled:?}");
    assert_eq!(stage.show(NAS).trial_ms, None);
    stage.set(NAS, &[DNS]).unwrap();
    stage.pass(2 * FOR_MS);
    assert!(stage.show(NAS).text.contains("udp:53"));
}

#[test]
fn a_dry_run_puts_nothing_on_trial() {
    let mut stage = Stage::new();
    let wanted = PolicyText {
        text: grants(&[WEB]),
        expect: None,
        act: Act {
            dry_run: true,
            wait_ms: 0,
        },
    };
    let for_ms = FOR_MS;
    let trial = PolicyTrial { wanted, for_ms };
    stage.command(NAS, Command::PolicyTry(Box::new(trial)));
    assert_eq!(stage.show(NAS).trial_ms, None);
    for for_ms in [0, 999, u64::MAX] {
        let wanted = PolicyText {
            text: grants(&[WEB]),
            expect: None,
            act: Act::default(),
        };
        let trial = PolicyTrial { wanted, for_ms };
        let replies = stage.command(NAS, Command::PolicyTry(Box::new(trial)));
        assert!(matches!(replies[0], Reply::Refused(Refusal::Limit(_))));
    }
}

/// The power fails between the note and the op: nothing was tried, and nothing is undone.
#[test]
fn the_note_of_a_trial_is_on_the_disk_before_its_op() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH]).unwrap();
    let text = stage.show(NAS).text;
    let wanted = PolicyText {
        text: grants(&[WEB]),
        expect: None,
        act: Act::default(),
    };
    let for_ms = FOR_MS;
    let ops = stage.ops(NAS);
    let command = Command::PolicyTry(Box::new(PolicyTrial { wanted, for_ms }));
    let (writes, flush) = stage.cut_short(NAS, command);
    assert!(flush && writes.len() == 1, "{writes:?}");
    assert!(matches!(writes[0], Write::Trial(Some(_))));
    assert_eq!((stage.ops(NAS), &stage.show(NAS).text), (ops, &text));
    stage.pass(FOR_MS + 1000);
    let shown = stage.show(NAS);
    assert_eq!((stage.ops(NAS), &shown.text), (ops, &text));
    assert_eq!(shown.trial_ms, None, "the note ends at its time");
    stage.set(NAS, &[DNS]).unwrap();
}

/// What was tried stands on a base that lost: its time passes, and no later life makes it the policy after all.
#[test]
fn an_overtaken_trial_is_not_said_anew_by_this_life_or_a_later_one() {
    let mut stage = Stage::new();
    let previous = stage.set(NAS, &[WEB]).unwrap();
    stage.heal();
    tried(&mut stage, &[WEB, DNS]);
    let change = stage.rebase(PI);
    let ext = Ext::NONE;
    let base = PolicyBase {
        previous,
        change,
        ext,
    };
    stage.say(PI, Body::PolicyBase(base));
    stage.heal();
    let is_denied = |stage: &mut Stage| !stage.show(NAS).text.contains("udp:53");
    assert!(is_denied(&mut stage), "it is overtaken");
    // Before its end, in a life of its own.
    stage.restart(NAS);
    stage.pass(10_000);
    assert!(is_denied(&mut stage));
    stage.pass(FOR_MS + 1000);
    assert_eq!(stage.show(NAS).trial_ms, None);
    let ops = stage.ops(NAS);
    for _ in 0..2 {
        stage.restart(NAS);
        stage.pass(10 * FOR_MS);
        assert!(is_denied(&mut stage));
        assert_eq!((stage.ops(NAS), stage.show(NAS).trial_ms), (ops, None));
    }
    // The note of it keeps nothing else from being tried.
    tried(&mut stage, &[WEB, SSH]);
    stage.pass(FOR_MS + 1000);
    assert!(!stage.show(NAS).text.contains("tcp:22") && is_denied(&mut stage));
}

/// Puts a node out, with what it signed until now in force; gives the ops that were signed.
fn put_out(stage: &mut Stage, by: usize, whom: usize) -> usize {
    let before = stage.ops(by);
    let options = RevokeOptions {
        nodes: vec![stage.id(whom)],
        owner: None,
        reason: "sold".to_owned(),
        since: None,
        stolen: false,
        recovery: None,
        act: Act::default(),
    };
    let replies = stage.command(by, Command::Revoke(Box::new(options)));
    assert!(matches!(replies[0], Reply::Acted(_)), "{replies:?}");
    stage.ops(by) - before
}

#[test]
fn a_trial_is_void_with_its_author_who_could_not_undo_it_any_more() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH]).unwrap();
    stage.heal();
    assert!(matches!(
        try_rules_on(&mut stage, PI, &[WEB]),
        Reply::Acted(_)
    ));
    stage.heal();
    let (pi, cam) = (stage.id(PI), stage.id(CAM));
    assert!(stage.passes(NAS, cam, 80));
    // The revocation, the policy without what was on trial, the new network key.
    assert_eq!(put_out(&mut stage, NAS, PI), 3);
    // Who is out has no name any more.
    let text = stage.show(NAS).text;
    assert!(
        text.contains("tcp:22") && !text.contains("tcp:80"),
        "{text}"
    );
    assert!(!stage.passes(NAS, cam, 80) && !stage.passes(NAS, pi, 80));
    stage.tell(NAS, CAM);
    assert_eq!(stage.show(CAM).text, text);
    let ops = stage.ops(NAS);
    stage.pass(2 * FOR_MS);
    assert_eq!(stage.ops(NAS), ops, "it is said once");
}

#[test]
fn what_others_built_during_a_trial_outlives_its_author() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH]).unwrap();
    stage.heal();
    assert!(matches!(
        try_rules_on(&mut stage, PI, &[SSH, WEB]),
        Reply::Acted(_)
    ));
    stage.heal();
    stage.set(NAS, &[SSH, WEB, DNS]).unwrap();
    put_out(&mut stage, NAS, PI);
    let text = stage.show(NAS).text;
    assert!(text.contains("tcp:22") && text.contains("udp:53"), "{text}");
    assert!(!text.contains("tcp:80"), "{text}");
}

#[test]
fn the_first_policy_on_trial_opens_again_with_its_author_and_an_old_trial_is_no_trial() {
    let mut stage = Stage::new();
    stage.heal();
    assert!(matches!(
        try_rules_on(&mut stage, PI, &[SSH]),
        Reply::Acted(_)
    ));
    stage.heal();
    let cam = stage.id(CAM);
    assert!(!stage.passes(NAS, cam, 80));
    let node = stage.id(PI);
    let act = Act::default();
    let replies = stage.command(NAS, Command::AdminRemove { node, act });
    assert!(matches!(replies[0], Reply::Acted(_)), "{replies:?}");
    assert!(stage.passes(NAS, cam, 80));
    // What was kept, and is older than its trial, stays.
    let mut stage = Stage::new();
    assert!(matches!(
        try_rules_on(&mut stage, PI, &[WEB]),
        Reply::Acted(_)
    ));
    assert_eq!(stage.command(PI, Command::PolicyKeep), [Reply::PolicyKept]);
    stage.heal();
    stage.pass(FOR_MS + 1000);
    stage.heal();
    assert_eq!(put_out(&mut stage, NAS, PI), 2);
    assert!(stage.passes(NAS, stage.id(CAM), 80));
}
