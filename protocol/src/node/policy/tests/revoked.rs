//! What is left of a policy when one that wrote it is put out.

use super::*;
use crate::io::Fallen;

/// Everybody who is asked enforces one text, and what that is.
fn one_text(stage: &mut Stage, who: &[usize]) -> String {
    let all: Vec<_> = who.iter().map(|who| stage.show(*who)).collect();
    for shown in &all {
        assert_eq!(shown.state, PolicyState::InForce);
        assert_eq!(shown.text, all[0].text);
    }
    all[0].text.clone()
}

fn policies_that_fall(acted: &crate::io::Acted) -> Vec<OpId> {
    let falls = acted.plan.falls.iter().filter_map(|fallen| match fallen {
        Fallen::Policy(op) => Some(*op),
        Fallen::Member(..) | Fallen::Admin(..) | Fallen::Invite(_) | Fallen::Revocation(..) => None,
    });
    falls.collect()
}

#[test]
fn what_a_revoked_admin_wrote_goes_and_what_others_built_on_it_stays() {
    let mut stage = Stage::new();
    let base = stage.set(PI, &[SSH]).unwrap().unwrap();
    stage.tell(PI, NAS);
    stage.set(NAS, &[SSH, WEB]).unwrap();
    let acted = stage.revoke_since(NAS, PI, base);
    assert_eq!(policies_that_fall(&acted), [base]);
    stage.tell(NAS, CAM);
    let text = one_text(&mut stage, &[NAS, CAM]);
    assert!(
        text.contains("tcp:80") && !text.contains("tcp:22"),
        "{text}"
    );
    assert!(stage.passes(NAS, stage.id(CAM), 80));
    // Nothing is left to be said anew.
    let ops = stage.ops(NAS);
    stage.pass(10_000);
    assert_eq!(stage.ops(NAS), ops);
}

#[test]
fn what_a_revoked_admin_wrote_before_the_cut_stays_without_a_fresh_base() {
    let mut stage = Stage::new();
    let base = stage.set(PI, &[SSH]).unwrap().unwrap();
    let last = stage.set(PI, &[SSH, WEB]).unwrap().unwrap();
    stage.tell(PI, NAS);
    let acted = stage.revoke_since(NAS, PI, last);
    assert_eq!(policies_that_fall(&acted), [last]);
    let shown = stage.show(NAS);
    assert_eq!(
        (shown.state, shown.base),
        (PolicyState::InForce, Some(base))
    );
    assert!(shown.text.contains("tcp:22") && !shown.text.contains("tcp:80"));
}

#[test]
fn a_change_that_built_on_one_that_falls_is_said_again() {
    let mut stage = Stage::new();
    stage.set(NAS, &[SSH]).unwrap();
    stage.tell(NAS, PI);
    let theirs = stage.set(PI, &[SSH, WEB]).unwrap().unwrap();
    stage.tell(PI, NAS);
    let own = stage.set(NAS, &[SSH, WEB, DNS]).unwrap().unwrap();
    let acted = stage.revoke_since(NAS, PI, theirs);
    assert_eq!(policies_that_fall(&acted), [theirs]);
    stage.tell(NAS, CAM);
    let text = one_text(&mut stage, &[NAS, CAM]);
    assert!(text.contains("tcp:22") && text.contains("udp:53") && !text.contains("tcp:80"));
    assert!(stage.log(NAS).iter().any(|change| change.op == own));
}

#[test]
fn a_stolen_admin_cannot_keep_its_rules_by_naming_its_own_base_as_the_one_before() {
    let mut stage = Stage::new();
    let first = stage.set(PI, &[WEB]).unwrap().unwrap();
    let again = stage.rebase(PI);
    stage.say(
        PI,
        Body::PolicyBase(PolicyBase {
            previous: Some(first),
            change: again,
            ext: Ext::NONE,
        }),
    );
    stage.tell(PI, NAS);
    assert!(stage.passes(NAS, stage.id(CAM), 80));
    let acted = stage.revoke_since(NAS, PI, first);
    assert_eq!(policies_that_fall(&acted).len(), 2);
    stage.tell(NAS, CAM);
    assert!(!one_text(&mut stage, &[NAS, CAM]).contains("tcp:80"));
    assert!(!stage.passes(NAS, stage.id(CAM), 80));
}
