//! Invites whose newcomer reaches little.

use std::collections::BTreeSet;

use super::stage::{Stage, filter_of, grants};
use super::{CAM, NAS, PI, SSH, WEB};
use crate::access::Filter;
use crate::body::{Kind, Tags};
use crate::io::{Command, InviteOptions, Invited, PolicyStep, Refusal, Reply, RestrictedInvite};
use crate::name::{NodeName, Tag};
use crate::policy::Service;

fn asked(stage: &Stage, tags: &[&str], dry_run: bool) -> Command {
    let tags = tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
    let invite = InviteOptions {
        name: NodeName::parse("ben").ok(),
        tags: Tags::new(tags).unwrap(),
        owner: None,
        ttl_ms: 3_600_000,
        uses: 1,
        approve: None,
        hints: Vec::new(),
        replaces: None,
        member_for_ms: None,
        dry_run,
    };
    let service = Service::parse("tcp:8096").unwrap()[0];
    let only = vec![(stage.id(NAS), service)];
    Command::InviteOnly(Box::new(RestrictedInvite { invite, only }))
}

fn invite(stage: &mut Stage, tags: &[&str], dry_run: bool) -> Result<Invited, Refusal> {
    let command = asked(stage, tags, dry_run);
    let mut replies = stage.command(NAS, command).into_iter();
    match replies.next() {
        // It waits for others to hear.
        None => {
            stage.pass(5000);
            Ok(stage.invited().expect("nobody else is there to hear it"))
        }
        Some(Reply::Invited(invited)) => Ok(*invited),
        Some(Reply::Refused(refusal)) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

/// Gives a node the tag that a newcomer would have.
fn stand_in(stage: &mut Stage, tag: &str) {
    let step = PolicyStep::Tag {
        node: stage.id(CAM),
        add: BTreeSet::from([Tag::parse(tag).unwrap()]),
        remove: BTreeSet::new(),
        owner: None,
    };
    let replies = stage.command(NAS, Command::PolicyDraft(Box::new(step)));
    let Some(Reply::PolicyDraft(draft)) = replies.into_iter().next() else {
        panic!("there is a draft");
    };
    stage.set_text(NAS, &draft.text, draft.last).unwrap();
    stage.heal();
}

#[test]
fn who_is_invited_to_one_service_reaches_it_and_nothing_else() {
    let mut stage = Stage::new();
    let ops = stage.ops(NAS);
    let dry = invite(&mut stage, &[], true).unwrap();
    let told = dry.policy.unwrap();
    assert!(told.first && told.version == 1 && told.tag.as_str() == "ben");
    assert!(told.lines.iter().any(|line| line.text.contains("tcp:8096")));
    assert_eq!(stage.ops(NAS), ops, "nothing is signed");
    let invited = invite(&mut stage, &[], false).unwrap();
    assert!(invited.code.is_some());
    assert_eq!(stage.kinds(NAS, ops), [Kind::POLICY_BASE, Kind::INVITE]);
    stage.heal();
    let (nas, pi, cam) = (stage.id(NAS), stage.id(PI), stage.id(CAM));
    for port in [22, 8096] {
        assert!(
            stage.passes(NAS, pi, port) && stage.passes(PI, cam, port),
            "as before"
        );
    }
    stand_in(&mut stage, "ben");
    assert!(stage.passes(NAS, cam, 8096) && stage.passes_out(CAM, nas, 8096));
    assert!(!stage.passes(NAS, cam, 8097) && !stage.passes(PI, cam, 8096));
    assert!(!stage.passes(CAM, pi, 22), "nor does anybody reach it");
    assert!(stage.passes(NAS, pi, 22) && stage.passes(PI, nas, 9999));
}

#[test]
fn a_rule_for_everybody_goes_on_for_those_who_are_here() {
    let mut stage = Stage::new();
    let all = r#"{"src": ["*"], "dst": ["nas", "pi"], "ip": ["tcp:53"]}"#;
    stage.set(NAS, &[all, SSH]).unwrap();
    stand_in(&mut stage, "eye");
    let before: Vec<Filter> = [NAS, PI, CAM].map(|who| filter_of(&stage, who)).into();
    invite(&mut stage, &[], false).unwrap();
    stage.heal();
    let after: Vec<Filter> = [NAS, PI, CAM].map(|who| filter_of(&stage, who)).into();
    assert_eq!(before, after);
    let text = stage.show(NAS).text;
    assert!(
        text.contains("[\"autogroup:member\", \"tag:eye\"]"),
        "{text}"
    );
    // A second one with the same name gets a tag of its own.
    let second = invite(&mut stage, &[], true).unwrap();
    assert_eq!(second.policy.unwrap().tag.as_str(), "ben-2");
    // The same tag again needs no other rule.
    let again = invite(&mut stage, &["ben"], true).unwrap();
    assert!(again.policy.unwrap().lines.is_empty());
}

#[test]
fn a_rule_that_would_let_it_reach_more_is_named_and_nothing_is_signed() {
    for (source, tags) in [
        ("autogroup:tagged", &[][..]),
        ("100.64.0.0/10", &[]),
        ("100.127.255.254", &[]),
        ("tag:eye", &["eye"]),
        ("lan", &[]),
    ] {
        let mut stage = Stage::new();
        let rule = format!("{{\"src\": [\"{source}\"], \"dst\": [\"pi\"], \"ip\": [\"tcp:22\"]}}");
        let hosts = "\"hosts\": {\"lan\": \"100.64.0.0/10\"}";
        let text = format!("{{{hosts}, \"grants\": [{rule}]}}");
        stage.set_text(NAS, &text, None).unwrap();
        let ops = stage.ops(NAS);
        let refused = invite(&mut stage, tags, false);
        let Err(Refusal::Stray(tag, said)) = refused else {
            panic!("{source}: {refused:?}");
        };
        assert!(said.contains(source) && !tag.as_str().is_empty(), "{said}");
        assert_eq!(stage.ops(NAS), ops);
    }
    // What is for owners or for nodes by name does not mean it.
    let mut stage = Stage::new();
    stage.set_text(NAS, &grants(&[SSH, WEB]), None).unwrap();
    invite(&mut stage, &[], false).unwrap();
}
