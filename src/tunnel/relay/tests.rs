//! How often strangers are answered.

use meshnode_protocol::time::Timestamp;

use super::*;

fn at(uptime_ms: u64) -> Moment {
    Moment {
        uptime_us: uptime_ms * 1000,
        wall: Timestamp::from_ms(0),
    }
}

fn host(number: u32) -> IpAddr {
    IpAddr::from(number.to_be_bytes())
}

#[test]
fn one_address_is_answered_twenty_times_a_second_and_all_a_thousand_times() {
    let mut askers = Askers::default();
    let mut answered = |from: u32, times: usize, ms| {
        (0..times)
            .filter(|_| askers.one_more(host(from), at(ms)))
            .count()
    };
    assert_eq!(answered(1, 100, 0), 20);
    assert_eq!(answered(2, 100, 999), 20);
    assert_eq!(answered(1, 100, 1000), 20);
    let all: usize = (2..500).map(|from| answered(from, 5, 1001)).sum();
    assert_eq!(all, 980);
    assert_eq!(askers.by_source.len(), 1 + 980 / 5);
}

#[test]
fn nothing_is_carried_unless_there_are_terms() {
    let relay = Relay::default();
    assert!(!relay.carries());
    assert_eq!(relay.report(at(0)), None);
    relay.carry(None).unwrap();
    assert!(!relay.carries());
}
