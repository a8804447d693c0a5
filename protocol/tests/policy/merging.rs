//! The document: small edits, any order, and what two admins do at once.

use std::collections::{BTreeMap, BTreeSet};

use meshnode_protocol::name::{Group, Owner, Tag};
use meshnode_protocol::policy::{
    Applied, Document, EditError, Policy, Proposal, Selector, Terms, TroubleKind, Troubles,
};
use proptest::prelude::*;

use super::cases;
use super::world::{Draw, author, edit, founded, named, reads, rng};

fn two_rules() -> Policy {
    let text = r#"{
        "groups": {"group:staff": ["ben@example.com"]},
        "grants": [
            {"src": ["group:staff"], "dst": ["nas"], "ip": ["tcp:22"]},
            {"src": ["autogroup:member"], "dst": ["vps"], "ip": ["tcp:80"]},
        ],
    }"#;
    reads(text).policy
}

fn apply(document: &mut Document, edit: &[u8], by: u8) {
    assert_eq!(document.apply(edit, &author(by)), Ok(Applied::Now));
}

#[test]
fn an_edit_of_one_rule_leaves_the_others_their_ids_and_history() {
    let mut document = founded(&two_rules(), 1);
    let before = document.read();
    let mut wanted = two_rules();
    wanted.rules.reverse();
    wanted.rules[0].src = vec![Selector::Admin];
    let edit = edit(&document, &wanted, 1, 2).unwrap();
    assert!(edit.len() < 300, "{} bytes", edit.len());
    apply(&mut document, &edit, 1);
    let after = document.read();
    assert_eq!(after.policy, wanted);
    assert_eq!(after.rules[0].entry, before.rules[1].entry);
    assert_ne!(after.rules[0].edit, before.rules[1].edit);
    assert_eq!(after.rules[1], before.rules[0]);
    assert_eq!(before.rules[0].edit, Some(document.base()));
}

#[test]
fn a_rule_that_comes_or_moves_leaves_the_others_where_they_are() {
    let mut policy = Policy {
        rules: (0..40).map(|seed| Draw::new(seed).rule()).collect(),
        ..Policy::default()
    };
    policy
        .rules
        .sort_by_key(|rule| matches!(rule.terms, Terms::Grant { .. }));
    let document = founded(&policy, 1);
    assert_eq!(edit(&document, &policy, 1, 2), None);
    let mut more = policy.clone();
    more.rules.insert(3, more.rules[5].clone());
    more.rules[3].src = vec![Selector::Tag(Tag::parse("new").unwrap())];
    let mut moved = policy.clone();
    moved.rules[..6].rotate_left(1);
    for wanted in [more, moved] {
        let edit = edit(&document, &wanted, 1, 2).unwrap();
        assert!(edit.len() < 350, "{} bytes", edit.len());
        let mut document = document.clone();
        apply(&mut document, &edit, 1);
        assert_eq!(document.read().policy, wanted);
    }
}

#[test]
fn what_is_there_already_needs_no_edit() {
    for seed in 0..20 {
        let policy = Draw::new(seed).policy(6);
        let document = founded(&policy, seed);
        assert_eq!(document.read().policy, policy);
        assert_eq!(edit(&document, &policy, 1, seed), None, "seed {seed}");
    }
}

#[test]
fn two_edits_of_one_rule_never_make_a_third() {
    let mut document = founded(&two_rules(), 1);
    let mut wider = two_rules();
    wider.rules[0]
        .src
        .push(Selector::Owner(Owner::parse("zoe").unwrap()));
    let mut other = two_rules();
    let Terms::Grant { dst, .. } = &mut other.rules[0].terms else {
        panic!("the first rule is a grant");
    };
    dst.push(Selector::Node(named("laptop")));
    let edits = [
        edit(&document, &wider, 1, 2).unwrap(),
        edit(&document, &other, 2, 3).unwrap(),
    ];
    apply(&mut document, &edits[0], 1);
    apply(&mut document, &edits[1], 2);
    let reading = document.read();
    assert_eq!(reading.policy.rules, two_rules().rules[1..]);
    let [trouble] = reading.troubles.as_slice() else {
        panic!("{:?}", reading.troubles);
    };
    let TroubleKind::Contested { field, values } = &trouble.kind else {
        panic!("{trouble}");
    };
    assert_eq!((field.as_str(), values.len()), ("allow", 2));
    // An edit of something else leaves it to an admin; one of the whole settles it.
    let mut elsewhere = reading.policy.clone();
    elsewhere.groups.clear();
    let kept = document.propose(&elsewhere, Troubles::Keep, &author(1), &mut rng(4));
    let Proposal::Edit(kept) = kept.unwrap() else {
        panic!("a group less is an edit");
    };
    let mut later = document.clone();
    apply(&mut later, &kept, 1);
    assert_eq!(later.read().troubles.len(), 1);
    let settled = edit(&document, &wider, 1, 5).unwrap();
    apply(&mut document, &settled, 1);
    assert_eq!(document.read().policy.rules.len(), 2);
    assert!(
        document
            .read()
            .policy
            .rules
            .iter()
            .all(|rule| wider.rules.contains(rule))
    );
    assert_eq!(document.read().troubles, []);
}

#[test]
fn the_same_edit_by_two_is_no_trouble() {
    let mut document = founded(&two_rules(), 1);
    let mut wanted = two_rules();
    wanted.rules[0].src = vec![Selector::Admin];
    let edits = [1, 2].map(|by| edit(&document, &wanted, by, by.into()).unwrap());
    apply(&mut document, &edits[0], 1);
    apply(&mut document, &edits[1], 2);
    assert_eq!(document.read().policy, wanted);
    assert_eq!(document.read().troubles, []);
}

#[test]
fn what_was_deleted_stays_deleted() {
    let mut document = founded(&two_rules(), 1);
    let mut fewer = two_rules();
    fewer.rules.remove(0);
    fewer.groups.clear();
    let mut wider = two_rules();
    wider.rules[0].src = vec![Selector::All];
    let staff = Group::parse("staff").unwrap();
    let zoe = Selector::Owner(Owner::parse("zoe").unwrap());
    wider.groups.get_mut(&staff).unwrap().of.insert(zoe);
    let edits = [
        edit(&document, &fewer, 1, 2).unwrap(),
        edit(&document, &wider, 2, 3).unwrap(),
    ];
    apply(&mut document, &edits[1], 2);
    apply(&mut document, &edits[0], 1);
    assert_eq!(document.read().policy, fewer);
    assert_eq!(document.read().troubles, []);
}

#[test]
fn who_is_added_to_a_group_by_two_at_once_is_in_it() {
    let mut document = founded(&two_rules(), 1);
    let staff = Group::parse("staff").unwrap();
    let with = |members: &[&str]| {
        let mut policy = two_rules();
        let of = members
            .iter()
            .map(|name| Selector::Owner(Owner::parse(name).unwrap()));
        policy.groups.get_mut(&staff).unwrap().of = of.collect();
        policy
    };
    let edits = [
        edit(&document, &with(&["ben@example.com", "zoe"]), 1, 2).unwrap(),
        edit(&document, &with(&["ann"]), 2, 3).unwrap(),
    ];
    apply(&mut document, &edits[0], 1);
    apply(&mut document, &edits[1], 2);
    assert_eq!(document.read().policy, with(&["ann", "zoe"]));
}

#[test]
fn what_two_make_under_one_name_counts_for_nothing_until_one_says_which() {
    let mut document = founded(&Policy::default(), 1);
    let of = |owner: &str, at: &str| {
        let text = format!(r#"{{"groups": {{"group:x": ["{owner}"]}}, "hosts": {{"h": "{at}"}}}}"#);
        reads(&text).policy
    };
    let (one, two) = (of("a@x", "100.64.0.1"), of("b@x", "100.64.0.2"));
    let edits = [
        edit(&document, &one, 1, 2).unwrap(),
        edit(&document, &two, 2, 3).unwrap(),
    ];
    apply(&mut document, &edits[0], 1);
    apply(&mut document, &edits[1], 2);
    let reading = document.read();
    assert_eq!(reading.policy, Policy::default());
    assert_eq!(reading.troubles.len(), 4);
    assert!(
        reading
            .troubles
            .iter()
            .all(|trouble| trouble.kind == TroubleKind::Twice)
    );
    let settled = edit(&document, &two, 1, 4).unwrap();
    apply(&mut document, &settled, 1);
    assert_eq!(document.read().policy, two);
    assert_eq!(document.read().troubles, []);
}

#[test]
fn a_rename_and_a_tag_at_once_are_both_kept_and_two_renames_are_not() {
    let pinned = |text: &str| reads(&format!(r#"{{"nodes": {{"nas": {text}}}}}"#)).policy;
    let join = |one: &str, two: &str| {
        let mut document = founded(&Policy::default(), 1);
        let edits = [
            edit(&document, &pinned(one), 1, 2).unwrap(),
            edit(&document, &pinned(two), 2, 3).unwrap(),
        ];
        apply(&mut document, &edits[0], 1);
        apply(&mut document, &edits[1], 2);
        document.read()
    };
    let reading = join(r#"{"name": "store"}"#, r#"{"tags": ["tag:a"]}"#);
    let both = pinned(r#"{"name": "store", "tags": ["tag:a"]}"#);
    assert_eq!(reading.policy, both);
    assert_eq!(reading.troubles, []);
    let reading = join(
        r#"{"name": "store", "tags": ["tag:b"]}"#,
        r#"{"name": "box", "tags": ["tag:a"]}"#,
    );
    let pins = &reading.policy.nodes[&named("nas")];
    assert_eq!(pins.name, None);
    let tags = ["a", "b"].map(|tag| Tag::parse(tag).unwrap());
    assert_eq!(pins.tags, Some(BTreeSet::from(tags)));
    assert_eq!(reading.troubles.len(), 1);
}

#[test]
fn an_edit_whose_past_is_missing_waits_and_is_named() {
    let mut here = founded(&two_rules(), 1);
    let mut there = here.clone();
    let steps = [1, 2, 3].map(|number| {
        let mut wanted = there.read().policy;
        wanted.rules.push(Draw::new(number).rule());
        let edit = edit(&there, &wanted, 1, number).unwrap();
        apply(&mut there, &edit, 1);
        edit
    });
    assert_eq!(here.apply(&steps[2], &author(1)), Ok(Applied::Orphan));
    assert_eq!(here.apply(&steps[1], &author(1)), Ok(Applied::Orphan));
    assert_eq!(here.read().policy, two_rules());
    let missing: usize = here
        .orphans()
        .iter()
        .map(|orphan| orphan.missing.len())
        .sum();
    assert_eq!((here.orphans().len(), missing), (2, 2));
    apply(&mut here, &steps[0], 1);
    assert_eq!(here.orphans(), []);
    assert_eq!(here, there);
    assert_eq!(here.digest(), there.digest());
    assert_eq!(here.apply(&steps[0], &author(1)), Ok(Applied::Already));
}

#[test]
fn of_two_edits_under_one_actor_the_same_one_counts_everywhere() {
    let document = founded(&two_rules(), 1);
    let edits = [Selector::Admin, Selector::Tagged].map(|src| {
        let mut wanted = two_rules();
        wanted.rules[0].src = vec![src];
        // The same draws give the same actor.
        edit(&document, &wanted, 1, 9).unwrap()
    });
    let mut copies = [document.clone(), document];
    for (copy, order) in copies.iter_mut().zip([[0, 1], [1, 0]]) {
        for which in order {
            copy.apply(&edits[which], &author(1)).unwrap();
        }
        assert_eq!(copy.orphans().len(), 1);
    }
    assert_eq!(copies[0], copies[1]);
    assert_eq!(copies[0].read(), copies[1].read());
}

#[test]
fn an_edit_counts_for_its_author_alone() {
    let mut document = founded(&two_rules(), 1);
    let edit = edit(&document, &Policy::default(), 1, 2).unwrap();
    assert_eq!(document.apply(&edit, &author(2)), Err(EditError::Author));
    assert_eq!(document.read().policy, two_rules());
    let base = Document::base_for(&two_rules(), &author(0), &mut rng(1)).unwrap();
    assert_eq!(
        Document::from_base(&base, &author(1)),
        Err(EditError::Author)
    );
    assert_eq!(
        Document::from_base(&edit, &author(1)),
        Err(EditError::Parents)
    );
    assert_eq!(document.apply(&base, &author(0)), Err(EditError::Parents));
}

#[test]
fn a_new_base_says_the_same_without_the_history() {
    let mut document = founded(&two_rules(), 1);
    for number in 0..60 {
        let mut wanted = document.read().policy;
        wanted.rules.push(Draw::new(number).rule());
        if number % 2 == 1 {
            wanted.rules.remove(number as usize / 4);
        }
        let edit = edit(&document, &wanted, 1, number).unwrap();
        apply(&mut document, &edit, 1);
    }
    let base = document.rebase(&author(2), &mut rng(7)).unwrap();
    let fresh = Document::from_base(&base, &author(2)).unwrap();
    let (old, new) = (document.read(), fresh.read());
    assert_eq!(old.policy, new.policy);
    let ids = |rules: &[meshnode_protocol::policy::Source]| -> Vec<String> {
        rules
            .iter()
            .map(|rule| rule.entry.as_str().to_owned())
            .collect()
    };
    assert_eq!(ids(&old.rules), ids(&new.rules));
    assert_eq!(fresh.history_bytes(), 0);
    assert!(document.history_bytes() > base.len());
}

#[test]
fn a_change_too_large_for_an_edit_is_a_base_and_for_that_is_refused() {
    let rules = |count: usize| {
        let mut policy = Policy::default();
        for number in 0..count {
            let mut rule = Draw::new(7).rule();
            rule.src = vec![Selector::Tag(Tag::parse(&format!("tag-{number}")).unwrap())];
            policy.rules.push(rule);
        }
        policy
    };
    let document = founded(&Policy::default(), 1);
    let propose = |count| {
        let proposal = document.propose(&rules(count), Troubles::Settle, &author(1), &mut rng(2));
        proposal.map(|proposal| match proposal {
            Proposal::Nothing => 'n',
            Proposal::Edit(_) => 'e',
            Proposal::Base(base) => {
                let fresh = Document::from_base(&base, &author(1)).unwrap();
                assert_eq!(fresh.read().policy, rules(count));
                'b'
            }
        })
    };
    assert_eq!(propose(50), Ok('e'));
    assert_eq!(propose(300), Ok('b'));
    assert!(propose(3_000).is_err());
}

/// Several admins edit copies that hear of each other now and then.
fn scattered(seed: u64) -> (Document, Vec<(Vec<u8>, u8)>) {
    let mut draw = Draw::new(seed);
    let base = founded(&draw.policy(4), seed);
    let mut copies = vec![base.clone(); 3];
    let mut edits: Vec<(Vec<u8>, u8)> = Vec::new();
    for step in 0..12 {
        let by = draw.below(3);
        if draw.below(2) == 0 {
            for (edit, from) in &edits {
                if draw.below(3) > 0 {
                    copies[by].apply(edit, &author(*from)).unwrap();
                }
            }
        }
        let mut wanted = copies[by].read().policy;
        match draw.below(4) {
            0 => wanted = draw.policy(4),
            1 if !wanted.rules.is_empty() => {
                let which = draw.below(wanted.rules.len());
                wanted.rules.remove(which);
            }
            2 if !wanted.rules.is_empty() => {
                let which = draw.below(wanted.rules.len());
                wanted.rules[which].src = draw.rule().src;
            }
            _ => wanted.rules.push(draw.rule()),
        }
        let random = seed.wrapping_mul(31).wrapping_add(step);
        if let Some(edit) = edit(&copies[by], &wanted, by as u8, random) {
            copies[by].apply(&edit, &author(by as u8)).unwrap();
            edits.push((edit, by as u8));
        }
    }
    (base, edits)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn prop_policy_order_free(seed: u64) {
        let (base, edits) = scattered(seed);
        let mut draw = Draw::new(seed ^ 1);
        let mut first: Option<Document> = None;
        for _ in 0..4 {
            let mut order = edits.clone();
            for place in (1..order.len()).rev() {
                order.swap(place, draw.below(place + 1));
            }
            let mut document = base.clone();
            for (edit, by) in &order {
                document.apply(edit, &author(*by)).unwrap();
            }
            prop_assert_eq!(document.orphans(), []);
            match &first {
                Some(first) => {
                    prop_assert_eq!(first, &document);
                    prop_assert_eq!(first.read(), document.read());
                }
                None => first = Some(document),
            }
        }
    }

    #[test]
    fn a_set_without_some_edits_is_the_same_in_any_order(seed: u64) {
        let (base, edits) = scattered(seed);
        let mut draw = Draw::new(seed ^ 2);
        let void = draw.below(edits.len().max(1));
        let kept: Vec<_> = edits.iter().enumerate().filter(|(n, _)| *n != void).collect();
        let mut copies = [base.clone(), base];
        for (copy, reversed) in copies.iter_mut().zip([false, true]) {
            let mut order = kept.clone();
            if reversed {
                order.reverse();
            }
            for (_, (edit, by)) in order {
                copy.apply(edit, &author(*by)).unwrap();
            }
        }
        prop_assert_eq!(&copies[0], &copies[1]);
        prop_assert_eq!(copies[0].read(), copies[1].read());
        prop_assert_eq!(copies[0].orphans(), copies[1].orphans());
    }

    #[test]
    fn an_edit_leads_to_what_is_wanted(seed: u64) {
        let mut draw = Draw::new(seed);
        let (old, new) = (draw.policy(6), draw.policy(6));
        let mut document = founded(&old, seed);
        if let Some(edit) = edit(&document, &new, 1, seed ^ 1) {
            apply(&mut document, &edit, 1);
        }
        let reading = document.read();
        prop_assert_eq!(&reading.policy, &new);
        prop_assert_eq!(reading.troubles, []);
        prop_assert_eq!(reading.rules.len(), new.rules.len());
        // Rules that are in both keep their entries.
        let entries: BTreeMap<_, _> = founded(&old, seed).read().rules.into_iter().zip(&old.rules)
            .map(|(source, rule)| (source.entry, rule.clone())).collect();
        let stayed = new.rules.iter().filter(|rule| old.rules.contains(rule)).count();
        let kept = reading.rules.iter().filter(|source| entries.contains_key(&source.entry)).count();
        prop_assert!(kept >= stayed.min(old.rules.len()));
    }
}
