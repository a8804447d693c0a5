//! Names, addresses and invites: nobody shares, seniors' claims stand, and an invite lets in no more than it says.

use std::collections::BTreeSet;

use meshnode_protocol::body::{Body, Caps, Level};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::io::Standing;
use meshnode_protocol::view::View;
use proptest::prelude::*;

use crate::cases;
use crate::scenario::{ACTORS, Scenario};

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_two_devices_share_a_name_or_an_address(seed: u64) {
        let scenario = Scenario::random(seed);
        let view = scenario.view();
        let members: Vec<_> = view.members().values().collect();
        let names: BTreeSet<_> = members.iter().map(|member| &member.name).collect();
        let ipv6s: BTreeSet<_> = members.iter().map(|member| member.ipv6).collect();
        let given: Vec<_> = members.iter().filter_map(|member| member.ipv4).collect();
        let ipv4s: BTreeSet<_> = given.iter().copied().collect();
        prop_assert_eq!(names.len(), members.len());
        prop_assert_eq!(ipv6s.len(), members.len());
        prop_assert_eq!(ipv4s.len(), given.len());
        let range = scenario.authority.genesis().ipv4_range;
        prop_assert!(given.iter().all(|address| range.contains(*address)));
    }

    #[test]
    fn prop_invite_count(seed: u64) {
        let scenario = Scenario::random(seed);
        let view = scenario.view();
        for (id, invite) in view.invites() {
            let in_all = invite.used.len() + invite.provisional.len();
            prop_assert!(invite.provisional.is_empty() || in_all <= usize::from(invite.uses));
            prop_assert!(invite.provisional.is_empty() || invite.open && !invite.approve);
            let stand = view.members().values().filter(|member| member.invite == Some(*id));
            let live = stand.filter(|member| member.standing == Standing::Provisional).count();
            prop_assert_eq!(live, invite.provisional.len());
        }
    }

    #[test]
    fn a_claim_by_the_founder_is_not_moved_by_juniors_and_members(seed: u64) {
        let mut scenario = Scenario::random(seed);
        let before = scenario.view();
        let founded = founders_claims(&scenario, &before);
        junior_acts(&mut scenario);
        let after = scenario.view();
        for (device, by_name, by_ipv4) in founded {
            let (old, new) = (&before.members()[&device], &after.members()[&device]);
            prop_assert!(!by_name || old.name == new.name);
            prop_assert!(!by_ipv4 || old.ipv4 == new.ipv4);
        }
    }

    #[test]
    fn settling_a_provisional_device_moves_no_settled_device_and_not_itself(seed: u64) {
        let mut scenario = Scenario::random(seed);
        let before = scenario.view();
        let provisional = before
            .members()
            .values()
            .find(|member| member.standing == Standing::Provisional);
        let Some(joiner) = provisional else {
            return Ok(());
        };
        let genesis = scenario.authority.realm().genesis;
        let founder = before.live(&scenario.nodes[0]);
        if founder.is_none_or(|founder| founder.authority != Some(genesis)) {
            return Ok(());
        }
        let actor = (0..ACTORS).find(|actor| scenario.nodes[*actor] == joiner.id).unwrap();
        let mut grant = scenario.grant(actor, Level::MEMBER);
        grant.name = before.free_name(&joiner.wished, &joiner.id);
        grant.ipv4 = before.free_ipv4(&joiner.id);
        (grant.expires, grant.ext) = (None, Ext::NONE);
        prop_assert!(scenario.say(0, 0, genesis, Body::Grant(Box::new(grant))));
        let after = scenario.view();
        let moved = |id: &NodeId| {
            let called = |view: &View| view.live(id).map(|member| (member.name.clone(), member.ipv4));
            called(&before) != called(&after)
        };
        prop_assert!(after.settled_witness(&joiner.id));
        prop_assert!(!moved(&joiner.id));
        let settled = before.members().keys().filter(|id| before.settled_witness(id));
        prop_assert_eq!(settled.filter(|id| moved(id)).count(), 0);
    }
}

/// Devices whose name, or address, a grant of the founder itself claims for them.
fn founders_claims(scenario: &Scenario, view: &View) -> Vec<(NodeId, bool, bool)> {
    let genesis = scenario.authority.realm().genesis;
    let mut claims = Vec::new();
    for op in scenario.authority.ops() {
        let Body::Grant(grant) = op.body() else {
            continue;
        };
        let sound = op.header().authority == genesis;
        if let Some(member) = view.members().get(&grant.device)
            && member.authority == Some(op.id())
            && sound
        {
            let by_name = member.name == grant.name;
            let by_ipv4 = member.ipv4 == Some(grant.ipv4);
            claims.push((grant.device, by_name, by_ipv4));
        }
    }
    claims
}

/// An admin of level 10 grants what it likes over an old op, and joiners come in.
fn junior_acts(scenario: &mut Scenario) {
    let junior = scenario.nodes[1];
    let titles: Vec<OpId> = scenario
        .authority
        .ops()
        .filter(|op| match op.body() {
            Body::Grant(grant) => grant.device == junior && grant.level == Level(10),
            _ => false,
        })
        .map(|op| op.id())
        .collect();
    for _ in 0..6 {
        let (actor, title) = (scenario.below(ACTORS), titles[scenario.below(titles.len())]);
        let mut grant = scenario.grant(actor, Level::MEMBER);
        grant.caps = Caps::NONE;
        scenario.say(1, 1, title, Body::Grant(Box::new(grant)));
    }
    let invites: Vec<OpId> = scenario.invites.keys().copied().collect();
    for invite in invites {
        let (joiner, witness) = (scenario.below(ACTORS), scenario.below(ACTORS));
        scenario.admit(1, invite, joiner, witness);
    }
}
