//! What the policy pins is what everybody sees, and nothing that gives a right.

use super::*;

fn nodes(pins: &str) -> String {
    format!("{{\"nodes\": {{{pins}}}, \"grants\": [{SSH}]}}")
}

const RENAMED: &str = r#""cam": {"name": "eye", "tags": ["tag:iot"], "owner": "alice"}"#;

#[test]
fn a_pinned_node_is_shown_as_pinned_on_every_node_and_after_a_restart() {
    let mut stage = Stage::new();
    stage.set_text(NAS, &nodes(RENAMED), None).unwrap();
    stage.tell(NAS, CAM);
    stage.restart(CAM);
    for on in [NAS, CAM] {
        let (name, tags, owner) = stage.shown(on, CAM);
        assert_eq!((name.as_str(), owner.as_deref()), ("eye", Some("alice")));
        assert!(tags.len() == 1 && tags[0].contains("iot"), "{tags:?}");
    }
    // Who has not heard it shows what was granted.
    assert_eq!(stage.shown(PI, CAM).0, "cam");
    assert!(stage.show(NAS).text.contains("\"eye\""));
    // It is found by its new name.
    stage
        .set_text(NAS, &nodes(&RENAMED.replace("\"cam\"", "\"eye\"")), None)
        .unwrap();
}

#[test]
fn a_pinned_name_wins_over_a_granted_one_and_both_go_back_with_the_pin() {
    let mut stage = Stage::new();
    stage
        .set_text(NAS, &nodes(r#""cam": {"name": "pi"}"#), None)
        .unwrap();
    stage.heal();
    let suffix = stage.id(PI).short()[..4].to_owned();
    for on in [NAS, PI, CAM] {
        assert_eq!(stage.shown(on, CAM).0, "pi");
        assert_eq!(stage.shown(on, PI).0, format!("pi-{suffix}"));
    }
    let text = format!("{{\"grants\": [{SSH}]}}").replace("\"pi\"", "\"nas\"");
    stage.set_text(NAS, &text, None).unwrap();
    assert_eq!(
        (stage.shown(NAS, CAM).0, stage.shown(NAS, PI).0),
        ("cam".into(), "pi".into())
    );
}

#[test]
fn one_name_pinned_to_two_nodes_in_two_partitions_is_nobodys() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH]).unwrap();
    stage.heal();
    let by_name = |node: &str| nodes(&format!("\"{node}\": {{\"name\": \"eye\"}}"));
    stage.set_text(NAS, &by_name("cam"), None).unwrap();
    stage.set_text(PI, &by_name("pi"), None).unwrap();
    assert_eq!(stage.shown(NAS, CAM).0, "eye");
    stage.heal();
    for on in [NAS, PI, CAM] {
        assert_eq!(stage.shown(on, CAM).0, "cam");
        assert_eq!(stage.shown(on, PI).0, "pi");
    }
}

#[test]
fn a_further_grant_repeats_what_was_granted_not_what_is_pinned() {
    let mut stage = Stage::new();
    stage.set_text(NAS, &nodes(RENAMED), None).unwrap();
    let cam = stage.id(CAM);
    let replies = stage.command(
        NAS,
        Command::AdminAdd {
            node: cam,
            act: Act::default(),
        },
    );
    assert!(matches!(replies[0], Reply::Acted(_)), "{replies:?}");
    let grants = stage.grants_of(NAS, CAM);
    let last = grants.last().unwrap();
    assert_eq!(grants.len(), 2);
    assert_eq!((last.name.as_str(), &last.owner), ("cam", &None));
    assert!(last.tags.as_slice().is_empty());
    assert_eq!(stage.shown(NAS, CAM).0, "eye");
}

#[test]
fn a_policy_that_cannot_be_built_pins_nothing() {
    let mut stage = Stage::new();
    stage.set_text(NAS, &nodes(RENAMED), None).unwrap();
    stage.tell(NAS, CAM);
    stage
        .set_text(
            NAS,
            &nodes(
                &RENAMED
                    .replace("\"cam\"", "\"eye\"")
                    .replace("alice", "bob"),
            ),
            None,
        )
        .unwrap();
    stage.tell_stubs(NAS, CAM);
    assert_eq!(stage.show(CAM).state, PolicyState::Kept);
    assert_eq!(stage.shown(CAM, CAM), ("cam".to_owned(), vec![], None));
    stage.tell(NAS, CAM);
    assert_eq!(stage.shown(CAM, CAM).2.as_deref(), Some("bob"));
}

#[test]
fn a_pinned_tag_goes_into_the_rules_and_goes_out_of_them() {
    let mut stage = Stage::new();
    let tagged = |pins: &str| {
        let rule = r#"{"src": ["tag:iot"], "dst": ["nas"], "ip": ["tcp:80"]}"#;
        format!(
            "{{\"tagOwners\": {{\"tag:iot\": []}}, \"nodes\": {{{pins}}}, \"grants\": [{rule}]}}"
        )
    };
    stage.set_text(NAS, &tagged(RENAMED), None).unwrap();
    assert!(stage.passes(NAS, stage.id(CAM), 80));
    stage.set_text(NAS, &tagged(""), None).unwrap();
    assert!(!stage.passes(NAS, stage.id(CAM), 80));
}
