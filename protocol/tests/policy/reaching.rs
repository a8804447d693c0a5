//! Who reaches whom: the compiled policy against one that is judged word by word.

use std::net::IpAddr;

use meshnode_protocol::access::{Filter, Ports, number};
use meshnode_protocol::body::Ipv4Range;
use meshnode_protocol::policy::{
    Directory, Listing, Outcome, Policy, Proto, Question, Reach, Rule, Selector, Service, Terms,
    Verdict,
};
use proptest::prelude::*;

use super::cases;
use super::world::{Draw, GENESIS, directory, listings, named, reads};

/// Every flow that is tried.
const FLOWS: [(u8, Option<u16>); 12] = [
    (number::TCP, Some(22)),
    (number::TCP, Some(80)),
    (number::TCP, Some(443)),
    (number::TCP, Some(1500)),
    (number::TCP, None),
    (number::UDP, Some(22)),
    (number::UDP, Some(5000)),
    (number::ICMP, None),
    (number::ICMPV6, None),
    (number::SCTP, Some(5)),
    (47, None),
    (77, None),
];

/// The nodes as a policy pins them.
fn pinned(policy: &Policy, mut nodes: Vec<Listing>) -> Vec<Listing> {
    for node in &mut nodes {
        if let Some(pins) = policy.nodes.get(&node.id) {
            node.tags = pins.tags.clone().unwrap_or_else(|| node.tags.clone());
            node.owner = pins.owner.clone().or_else(|| node.owner.clone());
        }
    }
    nodes
}

/// Judges one selector, by what the manual says of it.
fn means(policy: &Policy, selector: &Selector, node: &Listing) -> bool {
    let untagged = node.tags.is_empty();
    match selector {
        Selector::All => true,
        Selector::Member => untagged,
        Selector::Tagged => !untagged,
        Selector::Admin => node.admin,
        Selector::Own => false,
        Selector::Node(id) => node.id == *id,
        Selector::Owner(owner) => untagged && node.owner.as_ref() == Some(owner),
        Selector::Tag(tag) => node.tags.contains(tag),
        Selector::Group(group) => policy.groups.get(group).is_some_and(|group| {
            let mut members = group.of.iter();
            members.any(|member| means(policy, member, node))
        }),
        Selector::Host(alias) => policy
            .hosts
            .get(alias)
            .is_some_and(|host| means(policy, &Selector::Prefix(host.at), node)),
        Selector::Prefix(prefix) => {
            let ipv4 = node.ipv4.is_some_and(|ip| prefix.contains(IpAddr::V4(ip)));
            ipv4 || prefix.contains(IpAddr::V6(node.ipv6))
        }
    }
}

fn within(ports: &[Ports], port: Option<u16>) -> bool {
    ports.iter().any(|ports| match port {
        Some(port) => ports.first <= port && port <= ports.last,
        None => *ports == Ports::ALL,
    })
}

/// Judges a protocol and its ports.
fn fits(proto: Option<Proto>, ports: &[Ports], (protocol, port): (u8, Option<u16>)) -> bool {
    let icmp = matches!(protocol, number::ICMP | number::ICMPV6);
    match proto {
        None if icmp => true,
        None => matches!(protocol, number::TCP | number::UDP) && within(ports, port),
        Some(Proto::ICMP) => icmp,
        Some(proto) => proto.number() == protocol && within(ports, port),
    }
}

fn allows(
    policy: &Policy,
    rule: &Rule,
    src: &Listing,
    dst: &Listing,
    flow: (u8, Option<u16>),
) -> bool {
    let kin =
        src.owner.is_some() && src.owner == dst.owner && src.tags.is_empty() && dst.tags.is_empty();
    let reaches = |who: &Selector| means(policy, who, dst) || (*who == Selector::Own && kin);
    let service = |service: &Service| match service {
        Service::All => true,
        Service::Ports(ports) => fits(None, &[*ports], flow),
        Service::Proto(proto, ports) => fits(Some(*proto), &[*ports], flow),
    };
    rule.src.iter().any(|who| means(policy, who, src))
        && match &rule.terms {
            Terms::Acl { proto, dst } => dst
                .iter()
                .any(|target| reaches(&target.who) && fits(*proto, &target.ports, flow)),
            Terms::Grant { dst, ip } => dst.iter().any(reaches) && ip.iter().any(service),
        }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_compiled_policy_allows_what_its_words_allow(seed: u64) {
        let policy = Draw::new(seed).policy(8);
        let nodes = pinned(&policy, listings());
        let reach = Reach::compile(&policy, &directory());
        for dst in &nodes {
            let filter = reach.filter(&dst.id);
            for src in nodes.iter().filter(|src| src.id != dst.id) {
                let sender = reach.filter(&src.id);
                for flow @ (protocol, port) in FLOWS {
                    let mut rules = policy.rules.iter();
                    let expected = rules.position(|rule| allows(&policy, rule, src, dst, flow));
                    let inbound = filter.inbound(&src.id, protocol, port);
                    prop_assert_eq!(inbound, expected.is_some(), "{} to {} {:?}", src.name, dst.name, flow);
                    prop_assert_eq!(inbound, sender.outbound(&dst.id, protocol, port));
                    let question = Question { src: src.id, dst: dst.id, protocol, port };
                    let verdict = reach.explain(question).verdict;
                    match expected {
                        Some(rule) => prop_assert_eq!(verdict, Verdict::Allowed { rule }),
                        None => {
                            let denied = matches!(verdict, Verdict::Denied { .. });
                            prop_assert!(denied);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_filter_ascends_and_names_nobody_who_has_nothing(seed: u64) {
        let policy = Draw::new(seed).policy(8);
        let reach = Reach::compile(&policy, &directory());
        for node in listings() {
            let Filter::Closed(peers) = reach.filter(&node.id) else {
                panic!("a policy closes");
            };
            prop_assert!(!peers.contains_key(&node.id));
            for access in peers.values() {
                prop_assert!(!(access.inbound.is_empty() && access.outbound.is_empty()));
                prop_assert!(access.inbound.is_sorted() && access.outbound.is_sorted());
            }
        }
    }

    #[test]
    fn the_tests_of_a_policy_fail_where_its_rules_say_otherwise(seed: u64) {
        let policy = Draw::new(seed).policy(6);
        let nodes = pinned(&policy, listings());
        let failures = policy.failures(&directory());
        for (number, test) in policy.tests.iter().enumerate() {
            for (want, targets) in [(Outcome::Allow, &test.accept), (Outcome::Deny, &test.deny)] {
                for target in targets {
                    let meant = |who| -> Vec<_> {
                        nodes.iter().filter(|node| means(&policy, who, node)).collect()
                    };
                    let (sources, destinations) = (meant(&test.src), meant(&target.who));
                    if sources.is_empty() || destinations.is_empty() {
                        continue;
                    }
                    let protocols: &[u8] = match (test.proto, want) {
                        (Some(Proto::UDP), _) => &[number::UDP],
                        (Some(_), _) | (None, Outcome::Allow) => &[number::TCP],
                        (None, Outcome::Deny) => &[number::TCP, number::UDP],
                    };
                    let wrong = sources.iter().any(|src| destinations.iter().any(|dst| {
                        src.id != dst.id && protocols.iter().any(|protocol| {
                            let flow = (*protocol, Some(22));
                            let mut rules = policy.rules.iter();
                            let passes = rules.any(|rule| allows(&policy, rule, src, dst, flow));
                            passes != (want == Outcome::Allow)
                        })
                    }));
                    let told = failures.iter().any(|failure| {
                        failure.test == number && failure.target == *target && failure.want == want
                    });
                    prop_assert_eq!(told, wrong, "test {} {:?}", number, target);
                }
            }
        }
    }
}

#[test]
fn a_tag_takes_the_place_of_an_owner() {
    let text = r#"{
        "nodes": {"laptop": {"tags": ["tag:kiosk"]}, "pi": {"owner": "zoe"}},
        "grants": [
            {"src": ["owner:alice"], "dst": ["vps"], "ip": ["tcp:22"]},
            {"src": ["owner:zoe"], "dst": ["vps"], "ip": ["tcp:22"]},
        ],
    }"#;
    let reach = Reach::compile(&reads(text).policy, &directory());
    let vps = reach.filter(&named("vps"));
    for (node, verdict) in [
        ("laptop", false),
        ("phone", true),
        ("nas", false),
        ("pi", true),
    ] {
        assert_eq!(
            vps.inbound(&named(node), number::TCP, Some(22)),
            verdict,
            "{node}"
        );
    }
}

#[test]
fn nothing_passes_without_a_rule_or_to_a_stranger() {
    let reach = Reach::compile(&Policy::default(), &directory());
    assert_eq!(reach.filter(&named("nas")), Filter::deny_all());
    let all = reads(r#"{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]}"#).policy;
    let stranger = super::world::id(77);
    let reach = Reach::compile(&all, &directory());
    assert_eq!(reach.filter(&stranger), Filter::deny_all());
    let Filter::Closed(peers) = reach.filter(&named("nas")) else {
        panic!("a policy closes");
    };
    assert_eq!(peers.len(), listings().len() - 1);
    assert!(!peers.contains_key(&stranger));
}

#[test]
fn a_group_or_host_that_is_gone_means_nobody() {
    let text = r#"{
        "groups": {"group:x": ["laptop"]}, "hosts": {"h": "100.64.0.0/10"},
        "grants": [{"src": ["group:x", "h"], "dst": ["*"], "ip": ["*"]}],
    }"#;
    let mut policy = reads(text).policy;
    policy.groups.clear();
    policy.hosts.clear();
    let reach = Reach::compile(&policy, &directory());
    assert_eq!(reach.filter(&named("nas")), Filter::deny_all());
}

#[test]
fn a_policy_can_be_tried_before_its_nodes_exist() {
    let nobody = Directory::new(&GENESIS, Ipv4Range::DEFAULT, []);
    let text = |deny: &str| {
        format!(
            r#"{{
                "groups": {{"group:staff": ["carol@example.com"]}},
                "hosts": {{"db": "100.64.9.9"}},
                "grants": [
                    {{"src": ["group:staff"], "dst": ["tag:web", "db"], "ip": ["tcp:443"]}},
                    {{"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["*"]}},
                ],
                "tests": [{{
                    "src": "carol@example.com",
                    "accept": ["tag:web:443", "db:443"],
                    "deny": ["tag:web:22", "tag:{deny}:443"],
                }}],
            }}"#
        )
    };
    let policy = |deny| {
        let read = meshnode_protocol::policy::read(&text(deny), &nobody);
        read.unwrap().policy
    };
    assert_eq!(policy("lab").failures(&nobody), []);
    let failures = policy("web").failures(&nobody);
    let [failure] = failures.as_slice() else {
        panic!("{failures:?}");
    };
    assert_eq!((failure.want, failure.pair), (Outcome::Deny, (None, None)));
}

#[test]
fn a_denial_without_a_protocol_is_of_udp_too() {
    let text = r#"{
        "grants": [{"src": ["pi"], "dst": ["nas"], "ip": ["udp:53"]}],
        "tests": [{"src": "pi", "deny": ["nas:53", "nas:54"]}],
    }"#;
    let failures = reads(text).policy.failures(&directory());
    let [failure] = failures.as_slice() else {
        panic!("{failures:?}");
    };
    assert_eq!(failure.pair, (Some(named("pi")), Some(named("nas"))));
    assert_eq!(failure.target.ports[0].first, 53);
}
