//! Who may say what: literal levels, caps and labels, and no word for members and strangers.

use meshnode_protocol::authority::{AuthorityError, Inserted};
use meshnode_protocol::body::{Body, Caps, Kind, Level};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::OpId;
use meshnode_protocol::identity::Keys;
use meshnode_protocol::op::{Draft, Op};
use meshnode_protocol::structure::StructureError;
use proptest::prelude::*;

use crate::cases;
use crate::scenario::{ACTORS, NOW, Scenario};

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn prop_no_escalation(seed: u64) {
        let scenario = Scenario::random(seed);
        for op in scenario.authority.ops() {
            let Body::Grant(grant) = op.body() else {
                continue;
            };
            let level = scenario.authority.level_of(&op.id()).unwrap();
            prop_assert!(level < grant.level);
            let title = scenario.authority.op(&op.header().authority).unwrap();
            if let Body::Grant(title) = title.body() {
                prop_assert!(title.caps.contains(grant.caps));
                prop_assert!(title.caps.contains(Caps::MEMBERS));
                let label = title.caps.contains(Caps::LABEL);
                prop_assert!(label || grant.tags.is_subset(&title.may_tag));
                prop_assert!(label || grant.owner == title.owner);
            }
        }
        let view = scenario.view();
        let founder = scenario.nodes[0];
        for member in view.members().values() {
            prop_assert!(member.level > Level::FOUNDER || member.id == founder || by_root(&scenario, member.authority));
        }
    }

    #[test]
    fn prop_member_zero_influence(seed: u64) {
        let mut scenario = Scenario::random(seed);
        let (count, digest) = (scenario.authority.op_count(), scenario.view().digest());
        // Never an admin in any op: nobody's grant names it at an admin's level.
        let powerless: Vec<usize> = (0..ACTORS)
            .filter(|actor| {
                let device = scenario.nodes[*actor];
                !scenario.authority.ops().any(|op| match op.body() {
                    Body::Genesis(genesis) => genesis.founder == device,
                    Body::Grant(grant) => grant.device == device && grant.level.is_admin(),
                    _ => false,
                })
            })
            .collect();
        let ops: Vec<OpId> = scenario.authority.ops().map(|op| op.id()).collect();
        for actor in powerless {
            for authority in &ops {
                let grant = scenario.grant(actor, Level(254));
                let bodies = [Body::Noop, Body::Grant(Box::new(grant))];
                for body in bodies {
                    let draft = draft(&scenario, *authority);
                    let op = Op::sign(body, draft, &scenario.keys[actor].device);
                    let refused = AuthorityError::Structure(StructureError::NoAuthority);
                    prop_assert_eq!(scenario.authority.insert_op(op.bytes()), Err(refused));
                }
                prop_assert!(scenario.unknown(0, actor, *authority, Kind(77)).is_none());
            }
        }
        prop_assert_eq!(scenario.authority.op_count(), count);
        prop_assert_eq!(scenario.view().digest(), digest);
    }
}

#[test]
fn unknown_kind_outdated() {
    let (mut scenario, junior) = with_junior(Caps::ALL);
    let genesis = scenario.authority.realm().genesis;
    let digest = scenario.view().digest();
    let mut say = |author: usize, authority: OpId, kind: Kind| {
        let said = (kind, b"from the future".as_slice());
        let (id, bytes) = scenario.craft(vec![junior], author, authority, said, Ext::NONE);
        let added = scenario.authority.insert_op(&bytes);
        assert_eq!(added, Ok(Inserted::Added(vec![id])));
        (id, scenario.view())
    };
    assert_eq!(say(1, junior, Kind(77)).1.outdated(), None);
    let (_, view) = say(0, genesis, Kind(0x9000));
    assert_eq!((view.outdated(), view.digest()), (None, digest));
    let (id, view) = say(0, genesis, Kind::RULES);
    assert_eq!(view.outdated(), Some(id));
}

#[test]
fn an_admin_cannot_cite_what_it_has_not_heard() {
    let (mut scenario, junior) = with_junior(Caps::ALL);
    let genesis = scenario.authority.realm().genesis;
    let (_, bytes) = scenario.craft(vec![genesis], 1, junior, (Kind::NOOP, b""), Ext::NONE);
    let refused = AuthorityError::Structure(StructureError::AuthorityNotInPast);
    assert_eq!(scenario.authority.insert_op(&bytes), Err(refused));
}

#[test]
fn an_admin_without_the_cap_admits_nobody() {
    let (mut scenario, junior) = with_junior(Caps::POLICY);
    let grant = scenario.grant(3, Level::MEMBER);
    let refused = AuthorityError::Structure(StructureError::MissingCap);
    assert_eq!(say(&mut scenario, 1, junior, grant), Err(refused));
}

#[test]
fn an_admin_without_the_cap_label_gives_neither_foreign_tags_nor_owners() {
    let (mut scenario, junior) = with_junior(Caps::MEMBERS);
    let mut grant = scenario.grant(3, Level::MEMBER);
    grant.owner = Some(meshnode_protocol::name::Owner::parse("mallory").unwrap());
    let refused = AuthorityError::Structure(StructureError::Label);
    assert_eq!(say(&mut scenario, 1, junior, grant), Err(refused));
}

#[test]
fn claim_transplant_rejected() {
    let mut scenario = Scenario::founded(3);
    let genesis = scenario.authority.realm().genesis;
    while !scenario.invite(0, 0, genesis, 1) {}
    let invite = *scenario.invites.keys().next().unwrap();
    scenario.admit(0, invite, 3, 0);
    let claim = {
        let admit = scenario.authority.admits().next().unwrap();
        admit.terms().claim.clone()
    };
    let mut grant = scenario.grant(4, Level::MEMBER);
    grant.claim = Some(Box::new(claim.clone()));
    let refused = AuthorityError::Structure(StructureError::OtherClaim);
    assert_eq!(say(&mut scenario, 0, genesis, grant.clone()), Err(refused));
    let mut renamed = claim;
    renamed.terms.device = scenario.nodes[4];
    grant.claim = Some(Box::new(renamed));
    let forged = say(&mut scenario, 0, genesis, grant);
    assert!(matches!(
        forged,
        Err(AuthorityError::Structure(StructureError::Claim(_)))
    ));
}

#[test]
fn a_claim_needs_its_invite_in_the_past_of_the_grant() {
    let mut scenario = Scenario::founded(4);
    let genesis = scenario.authority.realm().genesis;
    while !scenario.invite(0, 0, genesis, 1) {}
    let invite = *scenario.invites.keys().next().unwrap();
    scenario.admit(0, invite, 3, 0);
    let mut grant = scenario.grant(3, Level::MEMBER);
    let admit = scenario.authority.admits().next().unwrap();
    grant.claim = Some(Box::new(admit.terms().claim.clone()));
    let mut draft = draft(&scenario, genesis);
    draft.parents = vec![genesis];
    let keys: &Keys = &scenario.keys[0];
    let op = Op::sign(Body::Grant(Box::new(grant)), draft, &keys.device);
    let refused = AuthorityError::Structure(StructureError::InviteNotInPast);
    assert_eq!(scenario.authority.insert_op(op.bytes()), Err(refused));
}

#[test]
fn an_invite_for_another_issuer_is_refused() {
    let mut scenario = Scenario::founded(5);
    let genesis = scenario.authority.realm().genesis;
    // The scenario signs one of eight for another issuer, and one of six as the root set.
    for _ in 0..64 {
        scenario.invite(0, 0, genesis, 1);
    }
    let mut replica = scenario.replica();
    let results: Vec<_> = scenario
        .ops
        .iter()
        .map(|op| replica.insert_op(op))
        .collect();
    let refused = |wanted: fn(&StructureError) -> bool| {
        results.iter().any(|result| match result {
            Err(AuthorityError::Structure(error)) => wanted(error),
            Ok(_) | Err(_) => false,
        })
    };
    assert!(refused(|error| matches!(
        error,
        StructureError::NetSignature(_)
    )));
    assert!(refused(|error| matches!(error, StructureError::RootInvite)));
}

/// A network whose second device is an admin of level 10; and that device's grant.
fn with_junior(caps: Caps) -> (Scenario, OpId) {
    let mut scenario = Scenario::founded(6);
    let genesis = scenario.authority.realm().genesis;
    let mut grant = scenario.grant(1, Level(10));
    (grant.caps, grant.owner, grant.ext) = (caps, None, Ext::NONE);
    let Ok(Inserted::Added(added)) = say(&mut scenario, 0, genesis, grant) else {
        panic!("the founder may grant");
    };
    (scenario, added[0])
}

fn say(
    scenario: &mut Scenario,
    author: usize,
    authority: OpId,
    grant: meshnode_protocol::body::Grant,
) -> Result<Inserted, AuthorityError> {
    let draft = draft(scenario, authority);
    let op = Op::sign(
        Body::Grant(Box::new(grant)),
        draft,
        &scenario.keys[author].device,
    );
    scenario.authority.insert_op(op.bytes())
}

fn draft(scenario: &Scenario, authority: OpId) -> Draft {
    let heads = scenario.authority.heads();
    Draft {
        network: scenario.authority.network(),
        authority,
        time: NOW,
        parents: heads.into_iter().take(15).chain([authority]).collect(),
    }
}

fn by_root(scenario: &Scenario, authority: Option<OpId>) -> bool {
    authority.is_some_and(|id| scenario.authority.level_of(&id) == Some(Level::ROOT))
}
