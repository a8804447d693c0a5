//! The screens of the policy, word by word.

use meshnode_protocol::id::OpId;
use meshnode_protocol::name::{NodeName, Tag};
use meshnode_protocol::time::Timestamp;

use super::*;
use crate::control::policy::FailedTest;
use crate::output::status::tests::healthy;

fn told(verdict: Verdict, state: PolicyState) -> Explained {
    let by = Change {
        version: 11,
        op: OpId::ZERO,
        base: false,
        author: Some(NodeName::parse("laptop").unwrap()),
        said: Timestamp::from_ms(0),
        heard: None,
        state: ChangeState::InForce,
    };
    Explained {
        verdict,
        rule: Some(RuleLine {
            line: 14,
            text: r#"{"src": ["tag:ben"], "dst": ["nas"], "ip": ["tcp:8096"]}"#.to_owned(),
            by: Some(by),
        }),
        note: None,
        state,
        version: 12,
        in_force: (4, 4),
    }
}

fn members() -> [MemberReport; 2] {
    let report = healthy();
    let mut src = report.peers[0].member.clone();
    src.name = NodeName::parse("ben-laptop").unwrap();
    src.tags = vec![Tag::parse("ben").unwrap()];
    let mut dst = report.this.unwrap();
    dst.name = NodeName::parse("nas").unwrap();
    [src, dst]
}

fn screen(told: &Explained) -> String {
    let [src, dst] = members();
    let asked = Asked {
        src: &src,
        dst: &dst,
        proto: "tcp".to_owned(),
        port: Some(22),
    };
    explained(&asked, told)
}

#[test]
fn a_denial_names_the_nearest_rule_its_author_and_the_way_out() {
    let text = screen(&told(Verdict::Denied, PolicyState::InForce));
    let said = units::local_time(Timestamp::from_ms(0));
    assert_eq!(
        text,
        format!(
            "DENIED  ben-laptop (tag:ben) to nas, tcp/22\n\n\
             No rule allows it, and with a policy everything else is denied (v12).\n\
             Nearest:   line 14  {{\"src\": [\"tag:ben\"], \"dst\": [\"nas\"], \"ip\": \
             [\"tcp:8096\"]}}\n           \
             signed by laptop, v11, said {said}\n\
             To allow:  meshnode policy edit, add a rule for \"tcp:22\", or widen line 14\n"
        )
    );
}

#[test]
fn what_is_allowed_names_the_rule_and_where_it_holds() {
    let text = screen(&told(Verdict::Allowed, PolicyState::InForce));
    assert!(
        text.starts_with("ALLOWED  ben-laptop (tag:ben) to nas, tcp/22\n"),
        "{text}"
    );
    assert!(text.contains("Rule:      line 14  {"), "{text}");
    assert!(
        text.ends_with("In force:  on 4 of 4 nodes (v12)\n"),
        "{text}"
    );
    let open = screen(&told(Verdict::Open, PolicyState::Open));
    assert!(
        open.ends_with("There is no policy: all members reach each other.\n"),
        "{open}"
    );
}

#[test]
fn a_policy_that_cannot_be_built_is_the_reason_of_a_denial() {
    let text = screen(&told(Verdict::Denied, PolicyState::Denied));
    assert!(
        text.contains("cannot be built here, so everything is denied"),
        "{text}"
    );
    assert!(!text.contains("To allow"), "{text}");
}

#[test]
fn findings_stand_at_their_place_and_the_first_is_a_sentence() {
    let checked = PolicyChecked {
        faults: vec![Fault {
            line: 3,
            column: 7,
            text: "nope is no node\u{1b}".to_owned(),
            hint: Some("owner:NAME".to_owned()),
        }],
        tests: vec![FailedTest {
            line: 9,
            src: "pi".to_owned(),
            dst: "nas:22".to_owned(),
            node: None,
            wants_allow: true,
        }],
        notices: Vec::new(),
    };
    assert_eq!(
        findings(&checked, "a.hujson"),
        "a.hujson:3:7: nope is no node (owner:NAME)\n\
         a.hujson:9: test: pi to nas:22 is to be allowed, and the rules deny it\n"
    );
    assert_eq!(
        first(&checked),
        "line 3, column 7: nope is no node (owner:NAME), and 1 more"
    );
}

#[test]
fn differences_stand_below_their_section() {
    let line = |added, section: &str, text: &str| DiffLine {
        added,
        section: section.to_owned(),
        line: 1,
        text: text.to_owned(),
    };
    let lines = [
        line(false, "grants", "a"),
        line(true, "grants", "b"),
        line(true, "tests", "c"),
    ];
    assert_eq!(diff(&lines), "grants:\n  - a\n  + b\ntests:\n  + c\n");
}
