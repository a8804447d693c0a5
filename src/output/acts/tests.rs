//! The screens of acts, word for word.

use meshnode_protocol::id::{NetworkId, OpId};
use meshnode_protocol::name::NetworkName;
use meshnode_protocol::time::Timestamp;

use super::*;
use crate::control::SecretText;
use crate::output::status::tests::member;

fn this() -> Membership {
    let member = member("nas", "100.71.4.2", 1);
    Membership {
        network: NetworkName::parse("homelab").unwrap(),
        network_id: NetworkId::new([7; 16]),
        name: member.name,
        id: member.id,
        ipv4: member.ipv4,
        ipv6: member.ipv6,
    }
}

fn here() -> Here {
    Here {
        up_command: "sudo meshnode up".to_owned(),
        operator: Some("alice".to_owned()),
    }
}

fn made() -> Inited {
    let phrase = "harbor velvet copper ridge tunnel basket lemon orbit quiet saddle piano winter";
    Inited {
        this: this(),
        phrases: vec![SecretText::new(phrase.to_owned())],
        threshold: 1,
    }
}

fn invite() -> Invited {
    let code = "M7K2Q-4XWPA-9TRB3-HZC6D@vps.example.org:41641";
    Invited {
        code: Some(SecretText::new(code.to_owned())),
        id: Some(OpId::new([0x8d; 32])),
        expires: Timestamp::from_ms(1_795_284_240_000),
        uses: 1,
        approve: false,
        hints: vec!["vps.example.org:41641".to_owned()],
        via: NodeName::parse("vps").ok(),
        network: NetworkName::parse("homelab").unwrap(),
        heard: 3,
        of: 4,
        policy: None,
    }
}

#[test]
fn init_shows_addresses_and_the_phrase_in_numbered_rows() {
    assert_eq!(
        inited(&made(), 340, &here(), None),
        "\
Network homelab is made. This machine is nas, its first node and admin (0.3 s).

  address    100.71.4.2
             fd7c:4e1a:90b2:1f03:88d1:6c2e:5a7:4f1e
  at boot    no: type \"sudo meshnode up\" after a restart
  operator   alice: no sudo from now on

Recovery phrase. Write it on paper: it is the way back if every admin machine is lost,
and whoever reads it owns the network.

   1 harbor      2 velvet      3 copper      4 ridge
   5 tunnel      6 basket      7 lemon       8 orbit
   9 quiet      10 saddle     11 piano      12 winter

Next:  meshnode recovery check   type the phrase back once; then it is forgotten here
       meshnode invite           let the next machine in
"
    );
}

#[test]
fn a_phrase_in_a_file_is_not_on_the_screen() {
    let text = inited(&made(), 340, &here(), Some("/root/phrase"));
    assert!(text.contains("The recovery phrase is in /root/phrase."));
    assert!(!text.contains("harbor"));
}

#[test]
fn an_invite_says_where_it_works_and_its_talk_does_not_hold_the_code() {
    let tail = invite_tail(&invite(), false);
    assert_eq!(
        tail,
        "Works from anywhere: vps answers, even while this machine is off.\n\
         Heard by 3 of 4 nodes: any of them can let the machine in.\n\
         By telephone?  meshnode invite --spell\n"
    );
    let head = invite_head(&invite(), 86_400_000);
    assert!(
        head.starts_with("Invite HP6R: one machine, until 2026-11-2"),
        "{head}"
    );
    assert!(head.contains(" (24 h).\nOn the new machine type \"sudo meshnode join\" and paste:\n"));
    assert!(!format!("{head}{tail}").contains("M7K2Q"));
}

#[test]
fn an_invite_by_a_relay_says_so_and_whether_this_machine_must_be_on() {
    let key = "txd9g0c2p45bfnabzv9wjs07787e2wqkvak269df08d6hxr7a4d0";
    let by_relay = Invited {
        hints: vec![format!("198.51.100.7:443/{key}")],
        via: NodeName::parse("oak").ok(),
        ..invite()
    };
    assert_eq!(
        invite_tail(&by_relay, true),
        "Works on this LAN; elsewhere by volunteer relay oak.\n\
         Heard by 3 of 4 nodes: any of them can let the machine in.\n"
    );
}

#[test]
fn an_invite_without_a_way_in_says_lan_only_and_that_this_machine_must_be_on() {
    let alone = Invited {
        hints: Vec::new(),
        via: None,
        heard: 0,
        ..invite()
    };
    assert_eq!(
        invite_tail(&alone, true),
        "Works on this LAN only: no node of homelab can be reached from outside.\n\
         Heard by 0 of 4 nodes: until another hears it, this machine must be on.\n"
    );
}

#[test]
fn a_dry_run_says_what_would_be_signed() {
    let dry = Invited {
        code: None,
        id: None,
        approve: true,
        uses: 5,
        ..invite()
    };
    let head = invite_head(&dry, 86_400_000);
    assert!(
        head.starts_with("Would sign an invite: 5 machines, until "),
        "{head}"
    );
    assert!(head.ends_with("; an admin approves each.\n"));
}

#[test]
fn a_join_says_who_was_found_and_as_what_it_ended() {
    let wish = NodeName::parse("laptop").unwrap();
    let found = Progress::Found {
        name: NodeName::parse("nas").ok(),
        remote: "192.168.1.4:41641".to_owned(),
        lan: true,
    };
    assert_eq!(
        progress(&found, 240, "homelab", &wish),
        "Found nas on this LAN (0.2 s).\n"
    );
    let done = Joined {
        this: this(),
        wished: NodeName::parse("pi").ok(),
        witness: None,
        settled: false,
    };
    assert_eq!(
        joined(
            &done,
            1_100,
            &Here {
                operator: None,
                ..here()
            }
        ),
        "\
Joined homelab as nas (1.1 s).
The name pi was taken: this machine is nas.
An admin will confirm this by itself; until then: provisional (works already).

  address    100.71.4.2
             fd7c:4e1a:90b2:1f03:88d1:6c2e:5a7:4f1e
  at boot    no: type \"sudo meshnode up\" after a restart
"
    );
    assert_eq!(
        already(&done),
        "Already in homelab as nas. Nothing to do; the invite was not used.\n"
    );
}

#[test]
fn waiting_shows_the_fingerprint() {
    let wish = NodeName::parse("laptop").unwrap();
    let waiting = Progress::Waiting {
        fingerprint: "7K2Q-MX4P".to_owned(),
    };
    assert_eq!(
        progress(&waiting, 0, "the network", &wish),
        "Waiting for an admin of the network to approve laptop. Fingerprint: 7K2Q-MX4P\n"
    );
}
