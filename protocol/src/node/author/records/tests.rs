//! What a node says of where it is: with a router that leads outside addresses to it, and without.

use std::net::{IpAddr, SocketAddr};

use super::RETURN_MEMBER_MS;
use crate::body::Tags;
use crate::io::{Command, CommandId, Input, InviteOptions, Mapped, Output, Reply};
use crate::limits::CANDIDATES_MAX;
use crate::link::LinkInput;
use crate::node::stage::{at, drain, founded};
use crate::node::{Founded, Node};
use crate::record::{Candidate, CandidateKind, ControlAddress, Endpoints, Transport};

/// After so long a change of the endpoints is published for sure.
const PUBLISHED_MS: u64 = 5000;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn mapped(tunnel: &[&str], control: &[&str]) -> Input {
    let parse = |all: &[&str]| all.iter().map(|text| address(text)).collect();
    Input::Mapped(Mapped {
        tunnel: parse(tunnel),
        control: parse(control),
    })
}

/// A node in a home, with so many addresses of its LAN; it listens at all of them.
fn at_home(addresses: u8) -> Node {
    let Founded { mut node, .. } = founded();
    let own: Vec<IpAddr> = (1..=addresses).map(|n| [192, 168, 1, n].into()).collect();
    let listening = own.iter().map(|ip| ControlAddress {
        transport: Transport::Tcp,
        address: (*ip, 41641).into(),
    });
    let listening = listening.collect();
    node.handle(Input::Interfaces(own), at(1));
    node.handle(Input::Link(LinkInput::Listening(listening)), at(1));
    node.handle(Input::Timeout, at(PUBLISHED_MS));
    node
}

fn published(node: &Node) -> &Endpoints {
    let records = &node.net.as_ref().unwrap().ledger.records;
    records.endpoints(&node.id()).unwrap()
}

fn of_kind(endpoints: &Endpoints, kind: CandidateKind) -> Vec<SocketAddr> {
    let fits = |candidate: &&Candidate| candidate.kind == kind;
    let fitting = endpoints.tunnel.iter().filter(fits);
    fitting.map(|candidate| candidate.address).collect()
}

fn tcp(text: &str) -> ControlAddress {
    ControlAddress {
        transport: Transport::Tcp,
        address: address(text),
    }
}

#[test]
fn what_the_router_leads_here_is_announced_and_taken_back() {
    let mut node = at_home(1);
    assert_eq!(of_kind(published(&node), CandidateKind::Mapped), []);
    node.handle(
        mapped(&["25.0.1.2:41641"], &["25.0.1.2:41700"]),
        at(PUBLISHED_MS),
    );
    node.handle(Input::Timeout, at(2 * PUBLISHED_MS));
    let endpoints = published(&node);
    assert_eq!(
        of_kind(endpoints, CandidateKind::Mapped),
        [address("25.0.1.2:41641")]
    );
    assert_eq!(
        of_kind(endpoints, CandidateKind::Host),
        [address("192.168.1.1:41641")]
    );
    assert_eq!(
        endpoints.control,
        [tcp("25.0.1.2:41700"), tcp("192.168.1.1:41641")]
    );
    node.handle(mapped(&[], &[]), at(2 * PUBLISHED_MS));
    node.handle(Input::Timeout, at(3 * PUBLISHED_MS));
    let endpoints = published(&node);
    assert_eq!(of_kind(endpoints, CandidateKind::Mapped), []);
    assert_eq!(endpoints.control, [tcp("192.168.1.1:41641")]);
}

#[test]
fn an_outside_address_that_is_inside_of_something_is_not_announced() {
    let mut node = at_home(1);
    // Two routers in a row, a provider's NAT, a service's port, nonsense.
    let inside = [
        "192.168.0.2:41641",
        "100.64.3.4:41641",
        "25.0.1.2:22",
        "127.0.0.1:41641",
    ];
    node.handle(mapped(&inside, &inside), at(PUBLISHED_MS));
    node.handle(Input::Timeout, at(2 * PUBLISHED_MS));
    let endpoints = published(&node);
    assert_eq!(of_kind(endpoints, CandidateKind::Mapped), []);
    assert_eq!(endpoints.control, [tcp("192.168.1.1:41641")]);
}

#[test]
fn a_machine_with_many_addresses_still_announces_its_mapping() {
    let mut node = at_home(20);
    node.handle(
        mapped(&["25.0.1.2:41641"], &["25.0.1.2:41641"]),
        at(PUBLISHED_MS),
    );
    node.handle(Input::Timeout, at(2 * PUBLISHED_MS));
    let endpoints = published(&node);
    assert_eq!(
        of_kind(endpoints, CandidateKind::Mapped),
        [address("25.0.1.2:41641")]
    );
    assert_eq!(endpoints.tunnel.len(), CANDIDATES_MAX);
    assert!(endpoints.control.contains(&tcp("25.0.1.2:41641")));
    assert_eq!(endpoints.control.len(), CANDIDATES_MAX);
}

#[test]
fn a_code_leads_to_the_mapped_port() {
    let mut node = at_home(1);
    node.handle(mapped(&[], &["25.0.1.2:41700"]), at(PUBLISHED_MS));
    drain(&mut node);
    let invite = Command::Invite(InviteOptions {
        name: None,
        tags: Tags::default(),
        owner: None,
        ttl_ms: 3_600_000,
        uses: 1,
        approve: None,
        hints: Vec::new(),
        replaces: None,
        member_for_ms: None,
        dry_run: false,
    });
    node.handle(Input::Command(CommandId(1), invite), at(PUBLISHED_MS));
    // It is told once others could have heard of it.
    node.handle(Input::Timeout, at(2 * PUBLISHED_MS));
    let replies = drain(&mut node);
    let hints = replies.iter().find_map(|output| {
        let Output::Reply(_, Reply::Invited(invited)) = output else {
            return None;
        };
        Some(invited.hints.clone())
    });
    assert_eq!(hints.expect("a code"), ["25.0.1.2:41700"]);
}

/// The seq of the endpoints that a node published last.
fn said(node: &Node) -> u64 {
    let records = &node.net.as_ref().unwrap().ledger.records;
    let endpoints = records.of(&node.id(), crate::record::RecordKind::ENDPOINTS);
    endpoints.unwrap().seq()
}

/// The same device boots again over what it had.
fn again(node: &Node, own: [u8; 4]) -> Node {
    let mut node = crate::node::stage::resumed(node, &node.keys, at(2 * PUBLISHED_MS));
    let listening = ControlAddress {
        transport: Transport::Tcp,
        address: (own, 41641).into(),
    };
    let now = at(2 * PUBLISHED_MS);
    node.handle(Input::Interfaces(vec![own.into()]), now);
    node.handle(Input::Link(LinkInput::Listening(vec![listening])), now);
    node.handle(Input::Timeout, now);
    node
}

/// What a node says before its links stand, no gossip tells.
#[test]
fn a_node_that_boots_where_it_was_says_so_once_and_when_its_links_stand() {
    let node = at_home(1);
    let before = said(&node);
    let wait = RETURN_MEMBER_MS * node.view().unwrap().members().len() as u64;
    let mut node = again(&node, [192, 168, 1, 1]);
    assert_eq!(said(&node), before);
    // It hears meanwhile how it is seen from outside.
    let late = mapped(&["25.0.1.2:41641"], &[]);
    node.handle(late, at(2 * PUBLISHED_MS + wait / 2));
    assert_eq!(said(&node), before);
    let told = at(2 * PUBLISHED_MS + wait);
    node.handle(Input::Timeout, told);
    assert_eq!(said(&node), told.wall.ms());
    let outside = of_kind(published(&node), CandidateKind::Mapped);
    assert_eq!(outside, [address("25.0.1.2:41641")]);
}

#[test]
fn a_node_that_boots_elsewhere_says_so_at_once() {
    let node = at_home(1);
    let before = said(&node);
    let node = again(&node, [192, 168, 1, 77]);
    assert!(said(&node) > before);
    let hosts = of_kind(published(&node), CandidateKind::Host);
    assert_eq!(hosts, [address("192.168.1.77:41641")]);
}
