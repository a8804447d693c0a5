//! Names, tags and owners by steps; who wrote what.

use std::collections::BTreeSet;

use super::stage::{Stage, filter_of, grants};
use super::{CAM, DNS, NAS, PI, SSH, WEB};
use crate::access::Filter;
use crate::io::{Command, PolicyBlamed, PolicyDraft, PolicyStep, Refusal, Reply};
use crate::name::{NodeName, Owner, Tag};

fn draft(step: PolicyStep, stage: &mut Stage) -> Result<PolicyDraft, Reply> {
    let replies = stage.command(NAS, Command::PolicyDraft(Box::new(step)));
    match replies.into_iter().next() {
        Some(Reply::PolicyDraft(draft)) => Ok(*draft),
        other => Err(other.expect("there is a reply")),
    }
}

fn rename(stage: &Stage, who: usize, name: &str) -> PolicyStep {
    let name = NodeName::parse(name).unwrap();
    PolicyStep::Rename {
        node: stage.id(who),
        name,
    }
}

fn tag(stage: &Stage, who: usize, add: &[&str], remove: &[&str]) -> PolicyStep {
    let tags = |tags: &[&str]| -> BTreeSet<Tag> {
        tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect()
    };
    PolicyStep::Tag {
        node: stage.id(who),
        add: tags(add),
        remove: tags(remove),
        owner: None,
    }
}

fn step(step: PolicyStep, stage: &mut Stage) {
    let draft = draft(step, stage).unwrap();
    stage.set_text(NAS, &draft.text, draft.last).unwrap();
}

#[test]
fn a_step_without_a_policy_makes_one_that_lets_everybody_reach_everybody() {
    let mut stage = Stage::new();
    let made = rename(&stage, PI, "server");
    let draft = draft(made, &mut stage).unwrap();
    assert!(!draft.exists && draft.last.is_none());
    assert!(
        draft.text.contains("\"name\": \"server\""),
        "{}",
        draft.text
    );
    stage.set_text(NAS, &draft.text, draft.last).unwrap();
    stage.heal();
    let ids = [NAS, PI, CAM].map(|who| stage.id(who));
    for who in [NAS, PI, CAM] {
        assert_ne!(filter_of(&stage, who), Filter::Open);
        for other in ids.iter().filter(|id| **id != stage.id(who)) {
            assert!(stage.passes(who, *other, 22) && stage.passes_out(who, *other, 9999));
        }
    }
}

#[test]
fn a_step_changes_one_node_and_leaves_the_rules_as_they_are() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH, WEB]).unwrap();
    let nothing = draft(tag(&stage, CAM, &[], &["lab"]), &mut stage).unwrap();
    assert_eq!(nothing.text, stage.show(NAS).text);
    step(tag(&stage, CAM, &["lab", "eye"], &[]), &mut stage);
    step(tag(&stage, CAM, &["eye"], &["lab"]), &mut stage);
    let owner = PolicyStep::Tag {
        node: stage.id(CAM),
        add: BTreeSet::new(),
        remove: BTreeSet::new(),
        owner: Owner::parse("ben").ok(),
    };
    step(owner, &mut stage);
    let text = stage.show(NAS).text;
    let pinned = "\"cam\": {\"tags\": [\"tag:eye\"], \"owner\": \"ben\"},";
    assert!(text.contains(pinned), "{text}");
    assert!(text.contains("tcp:22") && text.contains("tcp:80"), "{text}");
}

#[test]
fn a_name_that_another_node_has_or_is_to_have_is_refused() {
    let mut stage = Stage::new();
    let taken = |name: &str| Reply::Refused(Refusal::NameTaken(NodeName::parse(name).unwrap()));
    assert_eq!(
        draft(rename(&stage, PI, "cam"), &mut stage),
        Err(taken("cam"))
    );
    step(rename(&stage, PI, "server"), &mut stage);
    let again = rename(&stage, CAM, "server");
    assert_eq!(draft(again, &mut stage), Err(taken("server")));
    // What was given up is free.
    step(rename(&stage, CAM, "pi"), &mut stage);
    let many: Vec<String> = (0..17).map(|number| format!("t{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = draft(tag(&stage, CAM, &many, &[]), &mut stage);
    assert!(
        matches!(refused, Err(Reply::Refused(Refusal::Limit(_)))),
        "{refused:?}"
    );
}

#[test]
fn who_cannot_build_the_policy_takes_no_step_on_it() {
    let mut stage = Stage::new();
    stage.set(PI, &[WEB]).unwrap();
    stage.tell_stubs(PI, NAS);
    let refused = draft(rename(&stage, CAM, "eye"), &mut stage);
    assert_eq!(refused, Err(Reply::Refused(Refusal::PolicyUnbuilt)));
}

fn blame(stage: &mut Stage, at: Option<crate::id::OpId>) -> Vec<PolicyBlamed> {
    let replies = stage.command(NAS, Command::PolicyBlame { at });
    match replies.into_iter().next() {
        Some(Reply::PolicyBlame(lines)) => lines,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_line_is_blamed_on_the_op_that_wrote_it_so() {
    let mut stage = Stage::new();
    let first = stage.set(NAS, &[SSH]).unwrap().unwrap();
    stage.heal();
    let second = stage.set(PI, &[SSH, WEB]).unwrap().unwrap();
    stage.heal();
    let text = format!(
        "{{\"groups\": {{\"group:cams\": [\"cam\"]}}, \"grants\": [{SSH}, {WEB}],\n\
         \"tests\": [{{\"src\": \"pi\", \"accept\": [\"nas:22\"]}}]}}"
    );
    let third = stage.set_text(NAS, &text, None).unwrap().unwrap();
    let lines = blame(&mut stage, None);
    let by = |text: &str| {
        let line = lines.iter().find(|line| line.text.contains(text)).unwrap();
        let by = line.by.as_ref().unwrap();
        (by.op, by.author.as_ref().unwrap().as_str().to_owned())
    };
    assert_eq!(by("tcp:22"), (first, "nas".to_owned()));
    assert_eq!(by("tcp:80"), (second, "pi".to_owned()));
    assert_eq!(by("group:cams"), (third, "nas".to_owned()));
    assert_eq!(by("accept"), (third, "nas".to_owned()));
    let shown = stage.show(NAS).text;
    for line in &lines {
        let there = shown.lines().nth(line.line as usize - 1).unwrap();
        assert!(there.contains(&line.text));
    }
    let older = blame(&mut stage, Some(second));
    assert_eq!(older.len(), 2);
    // A member that goes is a change of the line, too.
    let wider = text.replace("[\"cam\"]", "[\"cam\", \"pi\"]");
    stage.set_text(NAS, &wider, None).unwrap();
    let narrowed = stage.set_text(NAS, &text, None).unwrap().unwrap();
    let lines = blame(&mut stage, None);
    let group = lines.iter().find(|line| line.text.contains("group:cams"));
    assert_eq!(group.unwrap().by.as_ref().unwrap().op, narrowed);
}

#[test]
fn a_new_base_that_says_the_same_takes_the_blame_of_nothing() {
    let mut stage = Stage::new();
    let first = stage.set(NAS, &[SSH]).unwrap().unwrap();
    let comment = "x".repeat(3000);
    for number in 0..14 {
        let text = format!("// {number} {comment}\n{}", grants(&[SSH]));
        stage.set_text(NAS, &text, None).unwrap();
    }
    assert!(stage.log(NAS).iter().filter(|change| change.base).count() > 1);
    let last = stage.set(NAS, &[SSH, DNS]).unwrap().unwrap();
    let lines = blame(&mut stage, None);
    let by: Vec<_> = lines
        .iter()
        .map(|line| line.by.as_ref().unwrap().op)
        .collect();
    assert_eq!(by, [first, last]);
}
