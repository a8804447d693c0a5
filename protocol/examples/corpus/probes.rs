//! Seeds of probes.

use meshnode_protocol::probe::{Call, PADDING_BYTES_MAX, PortPlan, Probe};
use meshnode_protocol::record::{Candidate, CandidateKind, Nat};

pub(super) fn probes() -> Vec<(&'static str, Probe)> {
    let txid = [30; 12];
    let pong = |text: &str| Probe::Pong {
        txid,
        observed: Some(text.parse().expect("an address")),
    };
    let ping = |padding| Probe::Ping { txid, padding };
    let candidate = |kind, text: &str| Candidate {
        kind,
        address: text.parse().expect("an address"),
    };
    let call = Call {
        txid,
        seq: 9,
        nat: Nat::Sequential,
        plan: PortPlan {
            last: 40_112,
            step: 2,
        },
        run: true,
        candidates: vec![
            candidate(CandidateKind::Host, "192.168.1.2:41641"),
            candidate(CandidateKind::Observed, "203.0.113.9:40112"),
            candidate(CandidateKind::Mapped, "[2001:db8::1]:41641"),
        ],
    };
    let empty = Call {
        candidates: Vec::new(),
        ..call
    };
    vec![
        ("call", Probe::Call(call)),
        ("call-ack", Probe::CallAck(empty)),
        (
            "pong-relayed",
            Probe::Pong {
                txid,
                observed: None,
            },
        ),
        ("ping", ping(0)),
        ("ping-full", ping(PADDING_BYTES_MAX)),
        ("pong-v4", pong("203.0.113.9:41641")),
        ("pong-v6", pong("[2001:db8::1]:41641")),
    ]
}
