//! Merge is union: order, partition and repetition change nothing, and no bytes make it panic.

use meshnode_protocol::authority::{AdmitInserted, Authority, AuthorityError, Inserted};
use meshnode_protocol::body::{Kind, Level};
use meshnode_protocol::claim::Admit;
use meshnode_protocol::codec::{CodecError, Ext, encode};
use meshnode_protocol::id::{AdmitId, OpId};
use meshnode_protocol::op::{Header, OpError};
use meshnode_protocol::record::Record;
use meshnode_protocol::view::View;
use proptest::prelude::*;

use crate::cases;
use crate::scenario::{NOW, Scenario};

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_order_and_repetition_give_one_set_and_one_view(seed: u64) {
        let mut scenario = Scenario::random(seed);
        let mut replica = scenario.replica();
        for bytes in shuffled(&mut scenario, 2) {
            let _ = replica.insert_op(&bytes);
        }
        insert_admits(&mut scenario, &mut replica);
        prop_assert_eq!(summary(&replica), summary(&scenario.authority));
        let view = View::compute(&replica, &scenario.left, NOW);
        prop_assert_eq!(view, scenario.view());
    }

    #[test]
    fn partitions_that_heal_agree(seed: u64) {
        let mut scenario = Scenario::random(seed);
        let (mut one, mut two) = (scenario.replica(), scenario.replica());
        for bytes in shuffled(&mut scenario, 1) {
            let side = if scenario.one_in(2) { &mut one } else { &mut two };
            let _ = side.insert_op(&bytes);
        }
        exchange(&one, &mut two);
        exchange(&two, &mut one);
        // Held ops are no part of the set: what a side could not store, the other resends.
        for bytes in shuffled(&mut scenario, 1) {
            let _ = one.insert_op(&bytes);
            let _ = two.insert_op(&bytes);
        }
        insert_admits(&mut scenario, &mut one);
        insert_admits(&mut scenario, &mut two);
        prop_assert_eq!(summary(&one), summary(&two));
        let views = [&one, &two].map(|side| View::compute(side, &scenario.left, NOW).digest());
        prop_assert_eq!(views[0], views[1]);
    }

    #[test]
    fn what_is_stored_is_known_and_inserting_it_again_changes_nothing(seed: u64) {
        let mut scenario = Scenario::random(seed);
        let before = summary(&scenario.authority);
        let ops: Vec<_> = scenario.authority.ops().map(|op| op.bytes().clone()).collect();
        for bytes in ops {
            prop_assert_eq!(scenario.authority.insert_op(&bytes), Ok(Inserted::Known));
        }
        let admits: Vec<_> = scenario.authority.admits().map(|admit| admit.bytes().to_vec()).collect();
        for bytes in admits {
            prop_assert_eq!(scenario.authority.insert_admit(&bytes), Ok(AdmitInserted::Known));
        }
        prop_assert_eq!(before, summary(&scenario.authority));
    }

    #[test]
    fn the_old_order_is_a_subsequence_of_the_new(seed: u64) {
        let mut scenario = Scenario::random(seed);
        let mut replica = scenario.replica();
        let ops = shuffled(&mut scenario, 1);
        let half = ops.len() / 2;
        for bytes in &ops[..half] {
            let _ = replica.insert_op(bytes);
        }
        let old: Vec<OpId> = replica.ops().map(|op| op.id()).collect();
        for bytes in &ops[half..] {
            let _ = replica.insert_op(bytes);
        }
        let mut new = replica.ops().map(|op| op.id());
        prop_assert!(old.iter().all(|id| new.any(|op| op == *id)));
    }

    #[test]
    fn parents_stand_before_children_and_past_is_what_parents_say(seed: u64) {
        let scenario = Scenario::random(seed);
        let authority = &scenario.authority;
        let mut pasts = std::collections::BTreeMap::<OpId, std::collections::BTreeSet<OpId>>::new();
        for op in authority.ops() {
            let mut past = std::collections::BTreeSet::new();
            for parent in &op.header().parents {
                prop_assert!(pasts.contains_key(parent));
                past.insert(*parent);
                past.extend(&pasts[parent]);
            }
            for other in authority.ops() {
                let id = other.id();
                prop_assert_eq!(authority.in_past(&id, &op.id()), past.contains(&id));
            }
            pasts.insert(op.id(), past);
        }
    }

    #[test]
    fn mutated_bytes_are_refused_and_never_panic(seed: u64) {
        let mut scenario = Scenario::random(seed);
        let mut replica = scenario.replica();
        let network = scenario.authority.network();
        for mut bytes in [scenario.ops.clone(), scenario.admits.clone()].concat() {
            let at = scenario.below(bytes.len());
            match scenario.below(3) {
                0 => bytes[at] ^= 1 << scenario.below(8),
                1 => bytes.truncate(at),
                _ => bytes.insert(at, scenario.below(256) as u8),
            }
            let added = matches!(replica.insert_op(&bytes), Ok(Inserted::Added(_)));
            prop_assert!(!added);
            prop_assert!(replica.insert_admit(&bytes).is_err());
            prop_assert!(Record::parse(&bytes, &network).is_err());
            let _ = Header::parse(&bytes);
        }
    }
}

#[test]
fn noncanonical_rejected() {
    let mut scenario = Scenario::founded(1);
    let genesis = scenario.authority.realm().genesis;
    let mut grant = scenario.grant(1, Level::MEMBER);
    (grant.owner, grant.ext) = (None, Ext::NONE);
    let mut body = encode(&grant);
    let sound = scenario.craft(vec![genesis], 0, genesis, (Kind::GRANT, &body), Ext::NONE);
    let mut trailed = sound.1.clone();
    trailed.push(0);
    assert_eq!(
        scenario.replica().insert_op(&trailed),
        Err(AuthorityError::Op(OpError::Codec(CodecError::Malformed)))
    );
    // Device 32 bytes, level 1, caps 1: then the number of tags it may give, zero, said in two bytes.
    assert_eq!(body[34], 0);
    body.splice(34..35, [0x80, 0]);
    let long = scenario.craft(vec![genesis], 0, genesis, (Kind::GRANT, &body), Ext::NONE);
    assert_eq!(
        scenario.replica().insert_op(&long.1),
        Err(AuthorityError::Op(OpError::Codec(CodecError::NotCanonical)))
    );
    let added = scenario.replica().insert_op(&sound.1);
    assert_eq!(added, Ok(Inserted::Added(vec![sound.0])));
}

#[test]
fn an_admit_with_trailing_bytes_is_refused() {
    let mut scenario = Scenario::founded(2);
    let genesis = scenario.authority.realm().genesis;
    while !scenario.invite(0, 0, genesis, 1) {}
    let invite = *scenario.invites.keys().next().unwrap();
    scenario.admit(0, invite, 3, 0);
    let mut bytes = scenario.admits[0].clone();
    assert!(Admit::parse(&bytes).is_ok());
    bytes.push(0);
    assert!(Admit::parse(&bytes).is_err());
}

/// Everything said, each `times`, in random order.
fn shuffled(scenario: &mut Scenario, times: usize) -> Vec<Vec<u8>> {
    let mut ops: Vec<Vec<u8>> = Vec::new();
    for _ in 0..times {
        ops.extend(scenario.ops.clone());
    }
    for place in (1..ops.len()).rev() {
        let other = scenario.below(place + 1);
        ops.swap(place, other);
    }
    ops
}

fn insert_admits(scenario: &mut Scenario, replica: &mut Authority) {
    let mut admits = scenario.admits.clone();
    let turn = scenario.below(admits.len().max(1));
    admits.rotate_left(turn);
    for bytes in admits {
        let _ = replica.insert_admit(&bytes);
    }
}

fn exchange(from: &Authority, to: &mut Authority) {
    for op in from.ops() {
        let _ = to.insert_op(op.bytes());
    }
}

/// What is stored: ops in op order, heads, admits.
fn summary(authority: &Authority) -> (Vec<OpId>, Vec<OpId>, Vec<AdmitId>) {
    (
        authority.ops().map(|op| op.id()).collect(),
        authority.heads(),
        authority.admits().map(|admit| admit.id()).collect(),
    )
}
