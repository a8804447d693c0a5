//! The three faces of `status`: healthy, degraded, isolated.

use meshnode_protocol::id::{Digest, NetworkId, NodeId, PublicKey};
use meshnode_protocol::name::{NetworkName, NodeName};

use super::*;
use crate::control::report::{NetworkReport, WarningReport};

/// Bytes that are a key: about every second try is a point of the curve.
fn key(seed: u8) -> PublicKey {
    (0..=255)
        .find_map(|last| {
            let mut bytes = [seed; 32];
            bytes[30] = last;
            bytes[31] = 1;
            PublicKey::parse(bytes).ok()
        })
        .unwrap()
}

pub(crate) fn member(name: &str, address: &str, level: u8) -> MemberReport {
    MemberReport {
        id: NodeId::new(key(name.len() as u8)),
        name: NodeName::parse(name).unwrap(),
        level,
        standing: StandingReport::Settled,
        tags: Vec::new(),
        owner: None,
        ipv4: address.parse().ok(),
        ipv6: "fd7c:4e1a:90b2:1f03:88d1:6c2e:5a7:4f1e".parse().unwrap(),
        os: Some("Linux 6.12".to_owned()),
        version: Some("0.1.0".to_owned()),
    }
}

/// A node that is reached by a relay.
pub(crate) fn relayed(name: &str, via: &str) -> PeerReport {
    let mut peer = peer(
        name,
        "100.101.6.3",
        Some((Tier::UdpRelay, "203.0.113.7:443")),
    );
    if let Some(path) = &mut peer.path {
        path.via = Some(via.to_owned());
    }
    peer
}

fn peer(name: &str, address: &str, path: Option<(Tier, &str)>) -> PeerReport {
    let path = path.map(|(tier, endpoint)| PathReport {
        tier,
        endpoint: Some(endpoint.parse().unwrap()),
        via: None,
        road: None,
    });
    let known = path.is_some();
    PeerReport {
        member: member(name, address, 255),
        online: known,
        last_seen_s: Some(1),
        path,
        rtt_us: known.then_some(400),
        path_since_s: known.then_some(60),
        mtu: known.then_some(1280),
        heard: true,
        rx_bytes: 1_200_000_000,
        tx_bytes: 310_000_000,
        last_handshake_s: known.then_some(20),
        blocked: false,
        search: None,
    }
}

pub(crate) fn healthy() -> StatusReport {
    StatusReport {
        local_name: "main".to_owned(),
        state: NodeState::Running,
        state_for_s: Some(3_600),
        network: Some(NetworkReport {
            name: NetworkName::parse("homelab").unwrap(),
            id: NetworkId::new([7; 16]),
            epoch: 1,
            ops: 5,
            policy_version: Some(3),
            view: Digest::new([9; 32]),
            ipv4_range: "100.64.0.0/10".to_owned(),
        }),
        this: Some(member("nas", "100.71.4.2", 1)),
        peers: vec![
            peer(
                "laptop",
                "100.90.17.33",
                Some((Tier::Lan, "192.168.1.20:41641")),
            ),
            peer(
                "vps",
                "100.83.0.9",
                Some((Tier::Direct, "[2001:db8::1]:41641")),
            ),
        ],
        warnings: Vec::new(),
        tun: Some("mn-main".to_owned()),
        port: Some(41641),
        default_route: Some(true),
        revoked: None,
        down_for_s: None,
    }
}

fn degraded() -> StatusReport {
    let mut report = healthy();
    report.peers[1] = peer("vps", "100.83.0.9", None);
    report.peers[1].last_seen_s = Some(6 * 3_600);
    report.peers[1].heard = false;
    report.warnings = vec![WarningReport {
        code: "no_way_in".to_owned(),
        text: "no node of homelab can be reached from outside".to_owned(),
        hint: Some("forward UDP and TCP 41641 on the router to this machine".to_owned()),
        subject: None,
    }];
    report
}

fn isolated() -> StatusReport {
    let mut report = healthy();
    report.state = NodeState::Isolated;
    report.state_for_s = Some(26 * 60);
    report.default_route = Some(false);
    for peer in &mut report.peers {
        peer.online = false;
        peer.path = None;
        peer.last_seen_s = None;
    }
    report
}

fn show(report: &StatusReport) -> String {
    screen(report, Style::default(), usize::MAX)
}

#[test]
fn a_healthy_network_says_who_is_there_and_by_which_path() {
    assert_eq!(
        show(&healthy()),
        "\
homelab: running. You are nas (admin), 100.71.4.2
2 of 2 reachable. Every node has the latest changes.

NAME    ADDRESS       STATE   PATH                            RTT     RX      TX
laptop  100.90.17.33  online  direct, LAN 192.168.1.20:41641  0.4 ms  1.2 GB  310 MB
vps     100.83.0.9    online  direct, [2001:db8::1]:41641     0.4 ms  1.2 GB  310 MB
"
    );
}

#[test]
fn a_degraded_network_names_who_is_behind_and_what_helps() {
    assert_eq!(
        show(&degraded()),
        "\
homelab: running, 1 warning. You are nas (admin), 100.71.4.2
1 of 2 reachable. Latest changes not yet heard by vps.

NAME    ADDRESS       STATE   PATH                            RTT     RX      TX
laptop  100.90.17.33  online  direct, LAN 192.168.1.20:41641  0.4 ms  1.2 GB  310 MB
vps     100.83.0.9    away    last seen 6 h ago               -       -       -

warning: no node of homelab can be reached from outside (no_way_in)
  hint: forward UDP and TCP 41641 on the router to this machine
"
    );
}

#[test]
fn an_isolated_node_says_what_was_seen_and_what_still_works() {
    assert_eq!(
        show(&isolated()),
        "\
homelab: isolated for 26 min. You are nas (admin), 100.71.4.2
0 of 2 reachable: no default route, nobody on this LAN answers.
Your addresses work on this machine. Invites made now go out later.

NAME    ADDRESS       STATE  PATH                  RTT  RX  TX
laptop  100.90.17.33  away   not seen since start  -    -   -
vps     100.83.0.9    away   not seen since start  -    -   -
"
    );
}

#[test]
fn a_network_of_one_says_how_to_get_a_second() {
    let mut report = healthy();
    report.peers.clear();
    assert_eq!(
        show(&report),
        "homelab: running. You are nas (admin), 100.71.4.2\n\
         No other node yet: meshnode invite lets one in.\n"
    );
}

#[test]
fn a_narrow_terminal_keeps_addresses_whole() {
    let text = screen(&healthy(), Style::default(), 66);
    assert!(
        text.contains("100.90.17.33  online  direct, LAN 192.168.1.20:41641\n"),
        "{text}"
    );
    assert!(text.ends_with("(wider terminal or --wide: 3 more columns)\n"));
}

#[test]
fn plain_has_no_table() {
    let style = Style {
        plain: true,
        ..Style::default()
    };
    let text = screen(&healthy(), style, 20);
    assert!(
        text.contains("\nname: laptop\naddress: 100.90.17.33\nstate: online\n"),
        "{text}"
    );
}

#[test]
fn a_node_without_a_network_yet_says_that_it_is_joining() {
    let mut report = healthy();
    report.state = NodeState::Waiting;
    report.network = None;
    report.this = None;
    report.peers.clear();
    assert_eq!(
        state_line(&report),
        "main: joining; it waits for an answer or for approval."
    );
}

#[test]
fn a_blocked_node_is_neither_online_nor_missed() {
    let mut report = healthy();
    report.peers[1].blocked = true;
    report.peers[1].heard = false;
    let text = screen(&report, Style::default(), usize::MAX);
    assert!(
        text.contains("1 of 1 reachable. 1 blocked here. Every node has the latest changes.\n"),
        "{text}"
    );
    let line = text.lines().find(|line| line.starts_with("vps")).unwrap();
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells, ["vps", "100.83.0.9", "blocked", "-", "-", "-", "-"]);
    report.peers[0].blocked = true;
    let text = screen(&report, Style::default(), usize::MAX);
    assert!(
        text.contains("\n2 of 2 blocked on this machine.\n"),
        "{text}"
    );
}

#[test]
fn a_network_that_is_down_is_one_line() {
    let mut report = healthy();
    report.state = NodeState::Down;
    let line = "homelab: down, until meshnode up. You are nas (admin), 100.71.4.2\n";
    assert_eq!(screen(&report, Style::default(), usize::MAX), line);
    report.down_for_s = Some(2 * 3600);
    let text = screen(&report, Style::default(), usize::MAX);
    assert!(
        text.starts_with("homelab: down for 2 h more, or until meshnode up."),
        "{text}"
    );
}
