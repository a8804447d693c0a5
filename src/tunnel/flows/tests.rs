//! Room, order and time of one table, and of several that share a pool.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn key(number: u32) -> Key {
    let local = (IpAddr::from([100, 64, 0, 1]), 22);
    Key::new(6, local, (Ipv4Addr::from(number).into(), 1))
}

const fn flow(stage: Stage) -> Flow {
    Flow {
        opened: Direction::In,
        stage,
        answered: false,
        finished: [false; 2],
        ended: false,
    }
}

fn forget(flows: &mut Flows, key: &Key) {
    if let Some((place, _)) = flows.find(key, 0) {
        flows.remove(place.0);
    }
}

fn fill(flows: &mut Flows, numbers: std::ops::Range<u32>, stage: Stage) {
    for number in numbers {
        flows.open(key(number), flow(stage));
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap()
}

#[test]
fn a_flood_of_one_peer_takes_no_flow_of_another() {
    let pool = Arc::new(Pool::new(100));
    let mut quiet = Flows::new(Arc::clone(&pool));
    let mut loud = Flows::new(Arc::clone(&pool));
    fill(&mut quiet, 0..1, Stage::Established);
    fill(&mut loud, 0..10_000, Stage::Opening);
    assert_eq!(loud.len(), FLOWS_OWN + 100);
    assert_eq!(pool.room(), 0);
    assert!(quiet.find(&key(0), 1).is_some());
    // And it still finds its own room, though the pool is empty.
    fill(&mut quiet, 1..count(FLOWS_OWN), Stage::Established);
    for number in 0..count(FLOWS_OWN) {
        assert!(quiet.find(&key(number), 1).is_some());
    }
    drop(loud);
    assert_eq!(pool.room(), 100);
}

#[test]
fn no_peer_has_more_than_its_most() {
    let pool = Arc::new(Pool::default());
    let mut flows = Flows::new(Arc::clone(&pool));
    fill(&mut flows, 0..count(FLOWS_PEER_MAX) + 5, Stage::Opening);
    assert_eq!(flows.len(), FLOWS_PEER_MAX);
    assert_eq!(pool.room(), FLOWS_POOL - FLOWS_PEER_MAX + FLOWS_OWN);
    assert!(flows.find(&key(4), 0).is_none());
    assert!(flows.find(&key(5), 0).is_some());
}

#[test]
fn what_is_worth_least_goes_first_and_of_equals_the_longest_unused() {
    let mut flows = Flows::new(Arc::new(Pool::new(0)));
    fill(&mut flows, 0..1, Stage::Established);
    fill(&mut flows, 1..count(FLOWS_OWN), Stage::Opening);
    let (place, one) = flows.find(&key(1), 5).unwrap();
    flows.renew(place, one);
    fill(&mut flows, 100..101, Stage::Established);
    assert!(flows.find(&key(0), 5).is_some());
    assert!(flows.find(&key(1), 5).is_some());
    assert!(flows.find(&key(2), 5).is_none());
    assert_eq!(flows.len(), FLOWS_OWN);
}

#[test]
fn a_flow_is_forgotten_when_its_stages_time_is_over_and_not_before() {
    for stage in Stage::ALL {
        let mut flows = Flows::new(Arc::new(Pool::default()));
        fill(&mut flows, 0..1, stage);
        let end = stage.timeout_ms();
        flows.expire(end - 1);
        assert_eq!(flows.len(), 1);
        let (place, same) = flows.find(&key(0), end - 1).unwrap();
        flows.renew(place, same);
        assert!(flows.find(&key(0), 2 * (end - 1)).is_some());
        assert!(flows.find(&key(0), 2 * end).is_none());
        assert_eq!(flows.len(), 0);
    }
}

#[test]
fn memory_is_given_back_after_a_flood_and_the_order_stays() {
    let mut flows = Flows::new(Arc::new(Pool::default()));
    fill(&mut flows, 0..10_000, Stage::Opening);
    for number in (0..10).chain(80..10_000) {
        forget(&mut flows, &key(number));
    }
    flows.expire(0);
    assert_eq!(flows.len(), 70);
    assert!(flows.slots.len() <= 70 * SHRINK_AT);
    assert!(flows.slots.capacity() < 1000);
    let pool = Pool::new(0);
    flows.pool = Arc::new(pool);
    fill(&mut flows, 20_000..20_001, Stage::Opening);
    assert!(flows.find(&key(10), 0).is_none(), "the oldest went");
    assert!(flows.find(&key(79), 0).is_some());
}

#[derive(Clone, Debug)]
enum Act {
    Touch(u32, Stage),
    Drop(u32),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let stage = (0..Stage::ALL.len()).prop_map(|number| Stage::ALL[number]);
    prop_oneof![
        8 => (0..300_u32, stage).prop_map(|(number, stage)| Act::Touch(number, stage)),
        1 => (0..300_u32).prop_map(Act::Drop),
        1 => (0..100_000_u64).prop_map(Act::Wait),
    ]
}

/// The same without queues or slots: a map, looked through as a whole.
#[derive(Default)]
struct Plain {
    flows: BTreeMap<Key, (Stage, u64, usize)>,
    touches: usize,
}

impl Plain {
    fn expire(&mut self, now_ms: u64) {
        self.flows
            .retain(|_, (stage, used_ms, _)| now_ms - *used_ms < stage.timeout_ms());
    }

    fn touch(&mut self, key: Key, stage: Stage, now_ms: u64, room: usize) {
        if !self.flows.contains_key(&key) && self.flows.len() >= FLOWS_OWN + room {
            let worst = self
                .flows
                .iter()
                .min_by_key(|(_, (stage, _, touch))| (*stage, *touch));
            let worst = *worst.unwrap().0;
            self.flows.remove(&worst);
        }
        self.touches += 1;
        self.flows.insert(key, (stage, now_ms, self.touches));
    }
}

proptest! {
    #[test]
    fn the_table_holds_what_a_plain_map_holds(acts in proptest::collection::vec(act(), 0..800)) {
        let room = 40;
        let pool = Arc::new(Pool::new(room));
        let mut flows = Flows::new(Arc::clone(&pool));
        let mut plain = Plain::default();
        let mut now_ms = 0;
        for act in acts {
            match act {
                Act::Touch(number, stage) => {
                    match flows.find(&key(number), now_ms) {
                        Some((place, _)) => flows.renew(place, flow(stage)),
                        None => flows.open(key(number), flow(stage)),
                    }
                    plain.touch(key(number), stage, now_ms, room);
                }
                Act::Drop(number) => {
                    forget(&mut flows, &key(number));
                    plain.flows.remove(&key(number));
                }
                Act::Wait(ms) => {
                    now_ms += ms;
                    flows.expire(now_ms);
                    plain.expire(now_ms);
                }
            }
            prop_assert_eq!(flows.len(), plain.flows.len());
            prop_assert_eq!(pool.room(), room - flows.len().saturating_sub(FLOWS_OWN));
        }
        for (known, (stage, ..)) in &plain.flows {
            prop_assert_eq!(flows.find(known, now_ms).map(|(_, flow)| flow.stage), Some(*stage));
        }
    }
}
