//! Load that does not pause, also not while keys change.

use std::process::{Command, Stdio};

use crate::filter::{allow, closed};
use crate::lab::{as_root, eventually};
use crate::node::Node;
use crate::pair;
use meshnode_protocol::access::{Allow, number};
use meshnode_protocol::peering::{Roaming, TunnelInput};
use meshnode_protocol::time::Timestamp;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

#[test]
fn bulk_traffic_never_pauses_for_a_second() {
    as_root("load::bulk_traffic_never_pauses_for_a_second", || {
        let seconds = seconds();
        let (left, right, mut one, two) = pair(Roaming::Told);
        left.ping("100.64.0.2");
        let rules = rules();
        if !rules.is_empty() {
            one.tunnel.filter(closed(&[(2, &rules, &rules)]));
            two.tunnel.filter(closed(&[(1, &rules, &rules)]));
        }
        let mut server = Command::new("iperf3");
        server.args(["-s", "-1"]).stdout(Stdio::null());
        let _server = right.start(server);
        eventually("iperf3's server", || right.sh("ss -ltn").contains(":5201"));
        let before_ms = processor_ms();
        let output = left.sh(&format!("iperf3 -c 100.64.0.2 -t {seconds} -i 1 -J"));
        let spent_ms = processor_ms() - before_ms;
        let report: serde_json::Value = serde_json::from_str(&output).unwrap();
        let bytes: Vec<u64> = report["intervals"]
            .as_array()
            .unwrap()
            .iter()
            .map(|interval| interval["sum"]["bytes"].as_f64().unwrap() as u64)
            .collect();
        let figures = format!(
            "{} intervals, least {} MB, {:.0} Mbit/s received, {:.0} ms of a core per 100 MB in both engines",
            bytes.len(),
            bytes.iter().min().unwrap() / 1_000_000,
            report["end"]["sum_received"]["bits_per_second"]
                .as_f64()
                .unwrap()
                / 1e6,
            spent_ms as f64 * 1e8 / report["end"]["sum_received"]["bytes"].as_f64().unwrap(),
        );
        assert!(bytes.len() >= seconds, "{figures}");
        assert!(bytes.iter().all(|bytes| *bytes > 0), "{figures}: {bytes:?}");
        tell(&figures);
        let first = handshakes(&mut one).into_iter().min();
        // Reports that found the queue full come once more when it has room.
        std::thread::sleep(std::time::Duration::from_secs(2));
        left.ping("100.64.0.2");
        let mut last = None;
        eventually("the newest handshake's report", || {
            last = handshakes(&mut one).into_iter().max();
            last.is_some()
        });
        let rekeyed_ms = last
            .unwrap()
            .since_ms(first.expect("reports of the beginning"));
        tell(&format!(
            "the last handshake was {} s after the first",
            rekeyed_ms / 1000
        ));
        let rekeys = (seconds.saturating_sub(10) / 125) as u64;
        assert!(
            rekeyed_ms >= rekeys * 119_000,
            "keys did not change in time"
        );
    });
}

/// Milliseconds that this process has computed; programs that it started have their own.
fn processor_ms() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    (usage.user_time() + usage.system_time()).num_milliseconds()
}

/// With `MESHNODE_RULES` a policy of that many rules, of which the last one allows the load; else none.
fn rules() -> Vec<Allow> {
    let count = std::env::var("MESHNODE_RULES").map_or(0, |text| text.parse().unwrap());
    let allow_tcp = |port| allow(number::TCP, port);
    let others = (1..count).map(allow_tcp);
    let last = (count > 0).then(|| allow_tcp(5201));
    others.chain(last).collect()
}

#[expect(
    clippy::print_stderr,
    reason = "a person reads the figures, with --nocapture"
)]
fn tell(figures: &str) {
    eprintln!("{figures}");
}

/// The handshakes in the reports that wait.
fn handshakes(node: &mut Node) -> Vec<Timestamp> {
    let time = |event: &TunnelInput| match event {
        TunnelInput::Traffic { handshake, .. } => *handshake,
        TunnelInput::Datagram { .. }
        | TunnelInput::Relay { .. }
        | TunnelInput::Moved { .. }
        | TunnelInput::Wanted { .. } => None,
    };
    node.drain().iter().filter_map(time).collect()
}

/// How long: 8 s; with `MESHNODE_LONG=1` 600 s; with a larger number that many. Keys change every 120 s.
fn seconds() -> usize {
    match std::env::var("MESHNODE_LONG").map(|text| text.parse()) {
        Ok(Ok(seconds)) if seconds > 1 => seconds,
        Ok(_) => 600,
        Err(_) => 8,
    }
}
