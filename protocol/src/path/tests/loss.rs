//! How soon it is noticed that a path is gone.

use super::{Stage, outside, relay};
use crate::io::CommandId;
use crate::peering::Path;
use crate::probe::Probe;

#[test]
fn a_person_who_waits_makes_silence_noticed_within_two_seconds() {
    let mut stage = Stage::awake();
    let direct = Path::to(outside(1));
    stage.learn(&[outside(1)]);
    stage.way.learn_relayed(&[relay()], stage.now());
    stage.want();
    stage.pass(500, &[direct]);
    let mut seq = 0;
    let mut ping = |stage: &mut Stage| {
        seq += 1;
        let (command, now) = (CommandId(1), stage.now());
        stage.way.ping(command, seq, 5000, now, &mut stage.rng);
        stage.drain();
    };
    // Probes on their way are none that were missed, and neither is one that was lost among many.
    for turn in 0..300 {
        ping(&mut stage);
        let answers: &[Path] = if turn % 50 == 7 { &[] } else { &[direct] };
        stage.pass(20, answers);
        assert_eq!(stage.active(), Some(direct));
        assert!(stage.way.answers());
    }
    let lost = stage.at_ms;
    while stage.active() == Some(direct) {
        ping(&mut stage);
        stage.pass(20, &[relay()]);
        assert!(stage.at_ms <= lost + 2000);
    }
    assert_eq!(stage.active(), Some(relay()));
}

#[test]
fn a_node_that_is_seen_elsewhere_calls_and_looks_at_the_path_in_use_at_once() {
    let mut stage = Stage::awake();
    let direct = Path::to(outside(1));
    stage.learn(&[outside(1)]);
    stage.way.learn_relayed(&[relay()], stage.now());
    stage.want();
    stage.pass(3000, &[direct, relay()]);
    assert_eq!(stage.active(), Some(direct));
    stage.sent.clear();
    stage.way.jolt(stage.now());
    stage.pass(1, &[relay()]);
    let called = |(to, probe): &(Path, Probe)| *to == relay() && matches!(probe, Probe::Call(_));
    assert!(stage.sent.iter().any(called));
    assert_eq!(stage.pings_to(direct), 1);
    stage.pass(700, &[relay()]);
    assert_eq!(stage.active(), Some(relay()));
}
