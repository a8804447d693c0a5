//! Load that does not pause, also not while keys change.

use std::process::{Command, Stdio};

use crate::lab::{as_root, eventually};
use crate::pair;
use meshnode_protocol::peering::Roaming;

#[test]
fn bulk_traffic_never_pauses_for_a_second() {
    as_root("load::bulk_traffic_never_pauses_for_a_second", || {
        let seconds = if std::env::var_os("MESHNODE_LONG").is_some() {
            600
        } else {
            8
        };
        let (left, right, _one, _two) = pair(Roaming::Told);
        left.ping("100.64.0.2");
        let mut server = Command::new("iperf3");
        server.args(["-s", "-1"]).stdout(Stdio::null());
        let _server = right.start(server);
        eventually("iperf3's server", || right.sh("ss -ltn").contains(":5201"));
        let output = left.sh(&format!("iperf3 -c 100.64.0.2 -t {seconds} -i 1 -J"));
        let report: serde_json::Value = serde_json::from_str(&output).unwrap();
        let bytes: Vec<u64> = report["intervals"]
            .as_array()
            .unwrap()
            .iter()
            .map(|interval| interval["sum"]["bytes"].as_f64().unwrap() as u64)
            .collect();
        let figures = format!(
            "{} intervals, least {} MB, {:.0} Mbit/s received",
            bytes.len(),
            bytes.iter().min().unwrap() / 1_000_000,
            report["end"]["sum_received"]["bits_per_second"]
                .as_f64()
                .unwrap()
                / 1e6,
        );
        assert!(bytes.len() >= seconds, "{figures}");
        assert!(bytes.iter().all(|bytes| *bytes > 0), "{figures}: {bytes:?}");
        tell(&figures);
    });
}

#[expect(
    clippy::print_stderr,
    reason = "a person reads the figures, with --nocapture"
)]
fn tell(figures: &str) {
    eprintln!("{figures}");
}
