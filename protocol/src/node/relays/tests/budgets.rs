//! Relays that carry no more, or never do.

use super::{Stage, key_of, relay_at, relay_keys};
use crate::io::{CarryTerms, Input, Warning};
use crate::link::LinkOutput;
use crate::node::stage::at;
use crate::peering::TunnelInput;
use crate::relay::frame::{Answer, Reason, mailbox_of};

fn limits(stage: &Stage) -> Vec<Warning> {
    let snapshot = stage.node.snapshot(at(stage.now_ms)).unwrap();
    let mut warnings = snapshot.warnings;
    warnings.retain(|warning| matches!(warning, Warning::RelayLimit { .. }));
    warnings
}

#[test]
fn a_relay_at_its_limit_is_named_with_the_peer_until_it_has_been_still_for_a_while() {
    let mut stage = Stage::new();
    stage.add_relay(1, 20);
    let member = stage.member(1, "tablet");
    stage.endpoints(&member, &[key_of(&relay_keys(1))], false);
    stage.run(3000);
    let mailbox = mailbox_of(&key_of(&member));
    let say = |stage: &mut Stage, reason| {
        let relay = relay_at(1);
        let bytes = Answer::Limited { mailbox, reason }.to_bytes();
        stage.give(Input::Tunnel(TunnelInput::Relay { relay, bytes }));
        stage.run(10);
    };
    say(&mut stage, Reason::NotBound);
    assert_eq!(limits(&stage), []);
    say(&mut stage, Reason::Volume);
    let limit = Warning::RelayLimit {
        node: super::named("tablet"),
        relay: Some("oak1".to_owned()),
        reason: Reason::Volume,
    };
    assert_eq!(limits(&stage), [limit]);
    stage.run(600_000);
    assert_eq!(limits(&stage), []);
}

#[test]
fn who_only_introduces_is_a_home_for_circuits_until_there_is_another() {
    let mut stage = Stage::new();
    stage.set_up_relay(1, 20);
    let key = key_of(&relay_keys(1));
    let terms = CarryTerms {
        key,
        clients: None,
        rate: (1_000_000, 1_000_000),
        pairs: 0,
        month_bytes: None,
    };
    let relay = stage.relays.get_mut(&relay_at(1)).unwrap();
    relay.0.set_terms(terms);
    stage.name_relay(1);
    stage.run(3000);
    assert_eq!(stage.homes(), [key]);
    let reserved = stage.links().any(|link| match link {
        LinkOutput::Homes(homes) => homes.iter().any(|(home, _)| *home == key),
        _ => false,
    });
    assert!(reserved, "nobody could find this node there");
    assert!(!stage.list()[0].bound, "it carries no datagrams");
    stage.add_relay(2, 50);
    stage.run(20_000);
    assert!(stage.homes().contains(&key_of(&relay_keys(2))));
}
