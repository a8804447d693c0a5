//! Flows between this node and a peer, packet by packet; and random packets against a table without queues or limits.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use meshnode_protocol::access::{Access, Allow, Ports as PortRange};
use meshnode_protocol::identity::Secret;
use meshnode_protocol::time::Timestamp;

use super::super::flows::FLOWS_PEER_MAX;
use super::super::transport::tests::{
    ACK, ECHO_REPLY, ECHO_REQUEST, FIN, RST, SYN, UNREACHABLE, fragments, icmp, ip, tcp, udp,
};
use super::Direction::{In, Out};
use super::*;

mod model;

/// The device of a number.
pub(crate) fn device(number: u8) -> NodeId {
    NodeId::new(Secret::from_seed(&[number; 32]).public())
}

/// A filter that lets everything through.
pub(crate) fn open(number: u8) -> PeerFilter {
    PeerFilter::new(&Terms::default(), device(number), Arc::new(Filter::Open))
}

fn at(uptime_ms: u64) -> Moment {
    Moment {
        uptime_us: uptime_ms * 1000,
        wall: Timestamp::default(),
    }
}

fn here(port: u16) -> SocketAddr {
    SocketAddr::from(([100, 64, 0, 1], port))
}

fn there(port: u16) -> SocketAddr {
    SocketAddr::from(([100, 64, 0, 2], port))
}

fn allow(protocol: u8, port: u16) -> Allow {
    Allow {
        protocol: Some(protocol),
        ports: PortRange {
            first: port,
            last: port,
        },
    }
}

const PING: Allow = Allow {
    protocol: Some(number::ICMP),
    ports: PortRange::ALL,
};

/// What device 2 may do here, and this node there.
fn closed(inbound: &[Allow], outbound: &[Allow]) -> Arc<Filter> {
    let access = Access {
        inbound: inbound.to_vec(),
        outbound: outbound.to_vec(),
    };
    Arc::new(Filter::Closed(BTreeMap::from([(device(2), access)])))
}

fn filter(inbound: &[Allow], outbound: &[Allow]) -> PeerFilter {
    PeerFilter::new(&Terms::default(), device(2), closed(inbound, outbound))
}

impl PeerFilter {
    fn passes(&self, bytes: &[u8], way: Direction, now_ms: u64) -> bool {
        let packet = Packet::parse(bytes).unwrap();
        self.judge(&packet, way, at(now_ms)) == Verdict::Pass
    }

    /// A TCP connection between two ports, opened and acknowledged.
    fn connect(&self, opened: Direction, local: u16, remote: u16) {
        let out = |flags| tcp(here(local), there(remote), flags);
        let back = |flags| tcp(there(remote), here(local), flags);
        let steps = match opened {
            Out => [(out(SYN), Out), (back(SYN | ACK), In), (out(ACK), Out)],
            In => [(back(SYN), In), (out(SYN | ACK), Out), (back(ACK), In)],
        };
        for (bytes, way) in steps {
            assert!(self.passes(&bytes, way, 0));
        }
    }
}

#[test]
fn a_flow_passes_in_both_directions_when_its_first_packet_may() {
    let filter = filter(&[allow(number::TCP, 22)], &[allow(number::UDP, 53)]);
    filter.connect(In, 22, 40_000);
    assert!(filter.passes(&tcp(here(22), there(40_000), ACK), Out, 1));
    assert!(!filter.passes(&tcp(there(40_000), here(23), SYN), In, 1));
    assert!(!filter.passes(&tcp(here(40_000), there(22), SYN), Out, 1));
    assert!(!filter.passes(&udp(there(53), here(5000)), In, 1));
    assert!(filter.passes(&udp(here(5000), there(53)), Out, 1));
    assert!(filter.passes(&udp(there(53), here(5000)), In, 1));
    assert!(!filter.passes(&udp(there(53), here(5001)), In, 1));
    let denied = Denied {
        inbound: 3,
        outbound: 1,
    };
    assert_eq!(filter.denied(), denied);
}

#[test]
fn an_answer_to_nothing_does_not_come_in_whatever_its_flags() {
    let filter = filter(&[], &[Allow::ALL]);
    for flags in [SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, FIN, 0, 0xff] {
        let bytes = tcp(there(443), here(40_000), flags);
        assert!(!filter.passes(&bytes, In, 0), "{flags:#x}");
    }
    let reply = icmp(there(0).ip(), here(0).ip(), ECHO_REPLY, 7, &[]);
    assert!(!filter.passes(&reply, In, 0));
}

#[test]
fn a_connection_that_is_open_lets_the_other_end_open_none_by_its_ports() {
    let filter = filter(&[], &[Allow::ALL]);
    filter.connect(Out, 40_000, 443);
    let data = tcp(there(443), here(40_000), ACK);
    let opening = tcp(there(443), here(40_000), SYN);
    assert!(filter.passes(&data, In, 1));
    assert!(!filter.passes(&opening, In, 1));
    assert!(filter.passes(&tcp(here(40_000), there(443), FIN | ACK), Out, 2));
    assert!(filter.passes(&tcp(there(443), here(40_000), FIN | ACK), In, 2));
    assert!(!filter.passes(&opening, In, 3));
}

#[test]
fn an_allowed_change_of_the_opener_is_judged_by_its_own_direction_from_then_on() {
    let both = [allow(number::TCP, 80), allow(number::TCP, 81)];
    let filter = filter(&both, &both);
    filter.connect(Out, 80, 81);
    assert!(filter.passes(&tcp(there(81), here(80), RST), In, 1));
    assert!(filter.passes(&tcp(there(81), here(80), SYN), In, 2));
    filter.change(&closed(&both, &[]));
    assert!(filter.passes(&tcp(here(80), there(81), SYN | ACK), Out, 3));
    filter.change(&closed(&[], &both));
    assert!(!filter.passes(&tcp(there(81), here(80), ACK), In, 4));
}

#[test]
fn half_open_and_ended_connections_are_forgotten_long_before_open_ones() {
    let filter = filter(&[], &[allow(number::TCP, 443)]);
    let back = tcp(there(443), here(1), ACK);
    assert!(filter.passes(&tcp(here(1), there(443), SYN), Out, 0));
    assert!(!filter.passes(&back, In, 240_000));
    filter.connect(Out, 2, 443);
    let back = tcp(there(443), here(2), ACK);
    assert!(filter.passes(&back, In, 7_439_999));
    assert!(filter.passes(&tcp(there(443), here(2), RST), In, 7_440_000));
    assert!(!filter.passes(&back, In, 7_680_000));
    filter.connect(Out, 3, 443);
    let (finish, back) = (FIN | ACK, tcp(there(443), here(3), ACK));
    assert!(filter.passes(&tcp(here(3), there(443), finish), Out, 7_680_000));
    assert!(filter.passes(&back, In, 8_000_000), "half closed is open");
    assert!(filter.passes(&tcp(there(443), here(3), finish), In, 8_000_000));
    assert!(!filter.passes(&back, In, 8_240_000));
}

#[test]
fn a_connection_older_than_the_table_goes_on_when_its_server_speaks_next() {
    let filter = filter(&[allow(number::TCP, 22)], &[]);
    assert!(!filter.passes(&tcp(here(22), there(40_000), RST | ACK), Out, 0));
    assert!(!filter.passes(&tcp(here(22), there(40_000), SYN | ACK), Out, 0));
    assert!(!filter.passes(&tcp(here(23), there(40_000), ACK), Out, 0));
    assert!(filter.passes(&tcp(here(22), there(40_000), ACK), Out, 0));
    assert!(filter.passes(&tcp(there(40_000), here(22), ACK), In, 0));
}

#[test]
fn an_echo_is_judged_as_icmp_and_only_its_reply_comes_back() {
    let (own, other) = (here(0).ip(), there(0).ip());
    let request = icmp(own, other, ECHO_REQUEST, 7, &[]);
    let reply = icmp(other, own, ECHO_REPLY, 7, &[]);
    let denied = filter(&[], &[allow(number::TCP, 22)]);
    assert!(!denied.passes(&request, Out, 0));
    let filter = filter(&[], &[PING]);
    assert!(filter.passes(&request, Out, 0));
    assert!(filter.passes(&reply, In, 1));
    assert!(!filter.passes(&icmp(other, own, ECHO_REPLY, 8, &[]), In, 1));
    // The same number in the other direction is another flow.
    assert!(!filter.passes(&icmp(other, own, ECHO_REQUEST, 7, &[]), In, 1));
    assert!(!filter.passes(&reply, In, 60_001));
}

#[test]
fn an_icmp_error_passes_when_it_is_about_a_flow() {
    let filter = filter(&[], &[allow(number::UDP, 53), PING]);
    let (own, other) = (here(0).ip(), there(0).ip());
    let question = udp(here(5000), there(53));
    let about = |bytes: &[u8]| icmp(other, own, UNREACHABLE, 0, bytes);
    assert!(!filter.passes(&about(&question), In, 0));
    assert!(filter.passes(&question, Out, 0));
    assert!(filter.passes(&about(&question), In, 0));
    assert!(filter.passes(&about(&question[..28]), In, 0));
    assert!(!filter.passes(&about(&question[..27]), In, 0));
    assert!(!filter.passes(&about(&[]), In, 0));
    assert!(!filter.passes(&about(&udp(here(5001), there(53))), In, 0));
    // As if this node had received it, which the other end cannot know.
    assert!(!filter.passes(&about(&udp(there(53), here(5000))), In, 0));
    assert!(!filter.passes(&about(&about(&question)), In, 0));
    let echo = icmp(own, other, ECHO_REQUEST, 7, &[]);
    assert!(!filter.passes(&about(&echo), In, 0));
    assert!(filter.passes(&echo, Out, 0));
    assert!(filter.passes(&about(&echo), In, 0));
}

#[test]
fn later_fragments_pass_after_their_first_and_only_while_its_flow_does() {
    let filter = filter(&[allow(number::UDP, 53)], &[]);
    let pieces = |port: u16, id: u16| {
        let payload = [&udp(there(5000), here(port))[20..], &[0; 60]].concat();
        fragments(&ip(there(0).ip(), here(0).ip(), number::UDP, &payload), id)
    };
    for denied in pieces(54, 1) {
        assert!(!filter.passes(&denied, In, 0));
    }
    let allowed = pieces(53, 2);
    assert!(!filter.passes(&allowed[1], In, 0), "before the first");
    for piece in &allowed {
        assert!(filter.passes(piece, In, 1));
    }
    assert!(
        !filter.passes(&pieces(53, 3)[1], In, 1),
        "of another datagram"
    );
    assert!(!filter.passes(&allowed[2], In, 60_001), "much later");
    assert!(filter.passes(&allowed[0], In, 60_002));
    filter.change(&closed(&[], &[]));
    assert!(!filter.passes(&allowed[1], In, 60_003));
}

#[test]
fn protocols_without_ports_need_all_ports() {
    let gre = ip(there(0).ip(), here(0).ip(), 47, &[0; 8]);
    assert!(!filter(&[allow(47, 0)], &[]).passes(&gre, In, 0));
    let whole = Allow {
        protocol: Some(47),
        ports: PortRange::ALL,
    };
    assert!(filter(&[whole], &[]).passes(&gre, In, 0));
}

#[test]
fn the_control_plane_passes_under_any_policy_and_nothing_beside_it() {
    let terms = Terms {
        control: Some(7000),
        ..Terms::default()
    };
    let filter = PeerFilter::new(&terms, device(2), Arc::new(Filter::deny_all()));
    filter.connect(In, 7000, 40_000);
    assert!(!filter.passes(&tcp(there(40_000), here(7001), SYN), In, 0));
    assert!(!filter.passes(&udp(there(40_000), here(7000)), In, 0));
    assert!(!filter.passes(&tcp(here(40_000), there(9000), SYN), Out, 0));
    filter.calls(9000);
    filter.connect(Out, 40_000, 9000);
    assert!(!filter.passes(&tcp(here(40_000), there(7000), SYN), Out, 0));
    assert!(!filter.passes(&tcp(there(9000), here(40_001), SYN), In, 0));
    filter.change(&closed(&[], &[]));
    assert!(filter.passes(&tcp(there(40_000), here(7000), ACK), In, 1));
    assert!(filter.passes(&tcp(there(9000), here(40_000), ACK), In, 1));
}

#[test]
fn a_change_ends_what_is_no_longer_allowed_and_nothing_else() {
    let both = [allow(number::TCP, 22), allow(number::TCP, 80)];
    let filter = filter(&both, &[]);
    filter.connect(In, 22, 40_000);
    filter.connect(In, 80, 40_001);
    filter.change(&closed(&[allow(number::TCP, 80)], &[]));
    for way in [In, Out] {
        let packet = |local: u16, remote: u16| match way {
            In => tcp(there(remote), here(local), ACK),
            Out => tcp(here(local), there(remote), ACK),
        };
        assert!(!filter.passes(&packet(22, 40_000), way, 1));
        assert!(filter.passes(&packet(80, 40_001), way, 1));
    }
}

#[test]
fn what_a_change_ended_does_not_come_back_when_the_end_that_kept_it_speaks() {
    let filter = filter(&[Allow::ALL], &[Allow::ALL]);
    filter.connect(In, 22, 40_000);
    assert!(filter.passes(&udp(there(5000), here(5001)), In, 0));
    let less = closed(&[allow(number::TCP, 80)], &[Allow::ALL]);
    filter.change(&less);
    let (tcp_out, tcp_in) = (
        tcp(here(22), there(40_000), ACK),
        tcp(there(40_000), here(22), ACK),
    );
    let (udp_out, udp_in) = (udp(here(5001), there(5000)), udp(there(5000), here(5001)));
    let minute = 60_000;
    assert!(!filter.passes(&udp_out, Out, minute));
    assert!(!filter.passes(&udp_in, In, minute));
    assert!(!filter.passes(
        &icmp(there(0).ip(), here(0).ip(), UNREACHABLE, 0, &udp_out),
        In,
        1
    ));
    for minutes in 1..200 {
        assert!(!filter.passes(&tcp_out, Out, minutes * minute));
        assert!(!filter.passes(&tcp_in, In, minutes * minute));
    }
    // A connection that this node opens by the same ports is its own, as is a datagram after the ports rested.
    assert!(filter.passes(&tcp(here(22), there(40_000), SYN), Out, 200 * minute));
    assert!(filter.passes(&tcp_in, In, 200 * minute));
    assert!(filter.passes(&udp_out, Out, 200 * minute));
    assert!(filter.passes(&udp_in, In, 200 * minute));
}

#[test]
fn a_flow_goes_on_when_a_policy_allows_it_again() {
    let both = [allow(number::TCP, 22), PING];
    let filter = filter(&both, &[]);
    filter.connect(In, 22, 40_000);
    filter.change(&closed(&[], &[]));
    assert!(!filter.passes(&tcp(here(22), there(40_000), ACK), Out, 1));
    filter.change(&closed(&both, &[]));
    assert!(filter.passes(&tcp(here(22), there(40_000), ACK), Out, 2));
    assert!(filter.passes(&tcp(there(40_000), here(22), ACK), In, 2));
}

#[test]
fn the_first_policy_judges_flows_from_before_by_who_opened_them() {
    let filter = open(2);
    filter.connect(In, 22, 40_000);
    filter.connect(Out, 40_001, 22);
    filter.change(&closed(&[allow(number::TCP, 22)], &[]));
    assert!(filter.passes(&tcp(here(22), there(40_000), ACK), Out, 1));
    assert!(!filter.passes(&tcp(here(40_001), there(22), ACK), Out, 1));
    assert!(!filter.passes(&tcp(there(22), here(40_001), ACK), In, 1));
}

#[test]
fn another_device_behind_the_same_key_has_its_own_rights() {
    let filter = filter(&[allow(number::TCP, 22)], &[]);
    filter.connect(In, 22, 40_000);
    filter.identify(device(2));
    assert!(filter.passes(&tcp(there(40_000), here(22), ACK), In, 1));
    filter.identify(device(3));
    assert!(!filter.passes(&tcp(there(40_000), here(22), ACK), In, 1));
}

#[test]
fn without_a_policy_everything_well_formed_passes_however_full_the_table_is() {
    let filter = open(2);
    for port in 0..40_000 {
        assert!(filter.passes(&udp(there(port), here(53)), In, 0));
    }
    assert_eq!(filter.state().flows.len(), FLOWS_PEER_MAX);
    assert!(filter.passes(&tcp(there(1), here(2), ACK), In, 0));
    let redirect = icmp(there(0).ip(), here(0).ip(), (5, 137), 0, &[]);
    assert!(filter.passes(&redirect, In, 0));
    let short = ip(there(0).ip(), here(0).ip(), number::TCP, &[0; 19]);
    let short = Packet::parse(&short).unwrap();
    assert_eq!(filter.judge(&short, In, at(0)), Verdict::Malformed);
    assert_eq!(filter.denied(), Denied::default());
}
