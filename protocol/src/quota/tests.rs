//! Rooms that fill up and empty again.

use super::*;
use crate::identity::{Secret, hash};

fn payers(numbers: &[u8], level: u8) -> Payers {
    let author = |number: &u8| {
        let device = NodeId::new(Secret::from_seed(&[*number; 32]).public());
        (Author::Device(device), Level(level))
    };
    Payers(numbers.iter().map(author).collect())
}

/// Puts ops of 4 KiB in at one moment until one is turned away; gives how many bytes were taken, and until when.
fn fill(quota: &mut Quota, payers: &Payers, at_ms: u64) -> (u64, u64) {
    let load = Load::Op(4096);
    let mut taken = 0;
    loop {
        match quota.admits(payers, load, at_ms) {
            Ok(()) => quota.charge(payers, load, at_ms),
            Err(until) => return (taken, until),
        }
        taken += load.bytes();
    }
}

#[test]
fn an_author_has_its_room_and_what_leaks_in_an_hour_and_no_more() {
    let mut quota = Quota::default();
    let (junior, senior) = (payers(&[1], 2), payers(&[2], 1));
    let (taken, until) = fill(&mut quota, &junior, 0);
    assert_eq!(taken, AUTHOR_BYTES_MAX);
    assert_eq!(fill(&mut quota, &senior, 0).0, SENIOR_BYTES_MAX);
    // Not in trickles: nothing before the promised time, a good piece then.
    assert_eq!(fill(&mut quota, &junior, until - 1).0, 0);
    assert_eq!(fill(&mut quota, &junior, until).0, REOPEN_BYTES);
    let mut sum = 0;
    for minute in 0..600 {
        sum += fill(&mut quota, &junior, until + minute * 60_000).0;
    }
    assert!(sum <= 10 * AUTHOR_BYTES_PER_HOUR, "{sum}");
    assert!(sum >= 9 * AUTHOR_BYTES_PER_HOUR, "{sum}");
}

#[test]
fn whom_an_admin_lets_in_pay_from_its_room_too() {
    let mut quota = Quota::default();
    let mut sum = 0;
    for puppet in 10..20 {
        sum += fill(&mut quota, &payers(&[puppet, 1], 9), 0).0;
    }
    // Half of it: the admin's own word, that puts them out, still has room.
    assert_eq!(sum, AUTHOR_BYTES_MAX / 2);
    assert_eq!(
        fill(&mut quota, &payers(&[1], 2), 0).0,
        AUTHOR_BYTES_MAX / 2
    );
    assert_eq!(fill(&mut quota, &payers(&[2], 9), 0).0, AUTHOR_BYTES_MAX);
}

#[test]
fn bases_come_at_the_pace_of_one_in_ten_minutes() {
    let mut quota = Quota::default();
    let author = payers(&[1], 2);
    let mut taken = 0;
    for minute in 0..120 {
        let at_ms = minute * 60_000;
        while quota.admits(&author, Load::Base(70_000), at_ms).is_ok() {
            quota.charge(&author, Load::Base(70_000), at_ms);
            taken += 1;
        }
        assert!(quota.admits(&author, Load::Op(100), at_ms).is_ok());
    }
    assert_eq!(taken, AUTHOR_BASES_MAX + 11);
}

#[test]
fn a_flood_is_told_once_an_hour_and_rests_with_it() {
    let mut quota = Quota::default();
    let author = payers(&[1], 2);
    for _ in 0..AUTHOR_OPS_PER_HOUR {
        quota.charge(&author, Load::Op(10), 5);
    }
    assert!(quota.take_floods(6).is_empty());
    quota.charge(&author, Load::Op(10), 7);
    assert_eq!(quota.take_floods(8).len(), 1);
    assert!(quota.take_floods(9).is_empty());
    assert_eq!(quota.floods(9).count(), 1);
    assert_eq!(quota.floods(5 + HOUR_MS).count(), 0);
    quota.charge(&author, Load::Op(10), 5 + HOUR_MS);
    assert!(quota.take_floods(5 + HOUR_MS).is_empty());
}

#[test]
fn what_was_turned_away_is_asked_for_again_in_time_and_memory_is_bounded() {
    let mut quota = Quota::default();
    let key = |number: usize| hash(&(number as u64).to_le_bytes());
    for number in 0..=TURNED_AWAY_MAX {
        quota.turn_away(key(number), SWEEP_MS, 1);
    }
    assert!(quota.is_turned_away(&key(0), SWEEP_MS - 1));
    assert!(!quota.is_turned_away(&key(0), SWEEP_MS));
    assert!(
        !quota.is_turned_away(&key(TURNED_AWAY_MAX), 1),
        "no room for it"
    );
    let later = 2 * SWEEP_MS;
    quota.turn_away(key(TURNED_AWAY_MAX), later + 100, later);
    assert!(quota.is_turned_away(&key(TURNED_AWAY_MAX), later));
    assert_eq!(quota.turned_away.len(), 1);
}

#[test]
fn as_many_as_are_remembered_are_left_alone_and_one_more_is_turned_away_again() {
    let mut quota = Quota::default();
    let key = |number: usize| hash(&(number as u64).to_le_bytes());
    for number in 0..TURNED_AWAY_MAX {
        quota.turn_away(key(number), 1000, 1);
    }
    let over = key(TURNED_AWAY_MAX);
    quota.turn_away(over, 1000, 1);
    assert!((0..TURNED_AWAY_MAX).all(|number| quota.is_turned_away(&key(number), 999)));
    assert!(
        !quota.is_turned_away(&over, 999),
        "it is asked for by the next round"
    );
    // What comes after all makes room at once, what is over does at the next look.
    quota.forget(&key(7));
    quota.turn_away(over, 1000, 2);
    assert!(quota.is_turned_away(&over, 999));
    let later = key(TURNED_AWAY_MAX + 1);
    quota.turn_away(later, SWEEP_MS + 1000, SWEEP_MS);
    assert!(quota.is_turned_away(&later, SWEEP_MS + 999));
    assert_eq!(quota.turned_away.len(), 1);
}
