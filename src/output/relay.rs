//! The screens of a relay.

use crate::units;
use crate::volunteer::report::{Report, address};

/// What `relay run` says when it answers.
pub(crate) fn ready(report: &Ready<'_>) -> String {
    let Ready {
        key,
        public,
        port,
        budget,
        introduces_only,
    } = report;
    let mut text = format!(
        "Relay ready. Networks add it with:  meshnode relay add {}\n",
        address(key, *public, *port)
    );
    if public.is_none() {
        text.push_str("HOST is how others reach this machine: a name or a public address.\n");
    }
    text.push_str(
        "You carry sealed packets. You see: IP addresses, times, amounts. \
         You cannot see: networks, names, contents.\n",
    );
    if *introduces_only {
        text.push_str("It only helps others to meet: what they say then goes another way.\n");
    }
    let [all, pair] = [budget.rate_bps, budget.pair_bps].map(units::mbits);
    text.push_str(&format!(
        "Limits: {all} Mbit/s in all, {pair} Mbit/s a pair, {} a month, {} pairs. \
         Change: /etc/meshnode/relay.toml\n",
        round(budget.month_bytes),
        budget.pairs
    ));
    text
}

/// What `relay run` knows when it answers.
#[derive(Debug)]
pub(crate) struct Ready<'a> {
    pub(crate) key: &'a str,
    pub(crate) public: Option<&'a str>,
    pub(crate) port: u16,
    pub(crate) budget: crate::volunteer::report::Budget,
    pub(crate) introduces_only: bool,
}

/// `relay status` for people.
pub(crate) fn status(report: &Report) -> String {
    let Report { budget, .. } = report;
    let full = report.month_bytes >= budget.month_bytes;
    let health = if full {
        "at its monthly limit"
    } else {
        "healthy"
    };
    let [now, most] = [report.rate_bps, budget.rate_bps].map(units::mbits);
    let percent = u128::from(report.month_bytes) * 100 / u128::from(budget.month_bytes.max(1));
    format!(
        "{}, up {}, {health}\n\
         now      {} of {} pairs, {now} of {most} Mbit/s; {} reachable by it\n\
         month    {} of {}, {percent} %\n",
        report.address(),
        units::span_s(report.uptime_s),
        report.circuits,
        budget.pairs,
        clients(report.clients),
        units::bytes(report.month_bytes),
        round(budget.month_bytes),
    )
}

/// `relay status --json`.
pub(crate) fn status_json(report: &Report) -> String {
    let budget = &report.budget;
    let shown = serde_json::json!({
        "schema": 1,
        "address": report.address(),
        "key": report.key,
        "uptime_s": report.uptime_s,
        "pairs_n": report.circuits,
        "clients_n": report.clients,
        "rate_bps": report.rate_bps,
        "month_bytes": report.month_bytes,
        "introduce_only": report.introduces_only,
        "budget": {
            "rate_bps": budget.rate_bps,
            "pair_bps": budget.pair_bps,
            "month_bytes": budget.month_bytes,
            "pairs": budget.pairs,
        },
    });
    format!("{shown}\n")
}

fn clients(count: usize) -> String {
    match count {
        1 => "1 peer is".to_owned(),
        _ => format!("{count} peers are"),
    }
}

/// An amount that a person set: `1 TB`, `500 GB`.
fn round(bytes: u64) -> String {
    units::bytes(bytes).replace(".0 ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volunteer::report::Budget;

    const BUDGET: Budget = Budget {
        rate_bps: 100_000_000,
        pair_bps: 10_000_000,
        month_bytes: 1_000_000_000_000,
        pairs: 500,
    };

    fn report() -> Report {
        Report {
            key: "k7q2m9fdx4rsvw0000".to_owned(),
            public: Some("relay.example.org".to_owned()),
            port: 443,
            uptime_s: 12 * 86_400,
            now_ms: 0,
            clients: 61,
            circuits: 38,
            rate_bps: 12_400_000,
            month_bytes: 412_000_000_000,
            introduces_only: false,
            budget: BUDGET,
        }
    }

    #[test]
    fn a_relay_that_is_ready_says_how_to_add_it_what_it_sees_and_its_limits() {
        let ready = |public| {
            super::ready(&Ready {
                key: "k7q2m9fdx4rsvw0000",
                public,
                port: 443,
                budget: BUDGET,
                introduces_only: false,
            })
        };
        assert_eq!(
            ready(Some("relay.example.org")),
            "Relay ready. Networks add it with:  meshnode relay add k7q2m9fdx4@relay.example.org:443\n\
             You carry sealed packets. You see: IP addresses, times, amounts. \
             You cannot see: networks, names, contents.\n\
             Limits: 100 Mbit/s in all, 10 Mbit/s a pair, 1 TB a month, 500 pairs. \
             Change: /etc/meshnode/relay.toml\n"
        );
        assert!(ready(None).contains("relay add k7q2m9fdx4@HOST:443\nHOST is how"));
    }

    #[test]
    fn a_status_is_three_lines_and_says_when_the_month_is_full() {
        assert_eq!(
            status(&report()),
            "k7q2m9fdx4@relay.example.org:443, up 12 d, healthy\n\
             now      38 of 500 pairs, 12.4 of 100 Mbit/s; 61 peers are reachable by it\n\
             month    412 GB of 1 TB, 41 %\n"
        );
        let full = Report {
            month_bytes: 1_000_000_000_000,
            ..report()
        };
        assert!(status(&full).starts_with("k7q2m9fdx4@relay.example.org:443, up 12 d, at its"));
        assert!(status(&full).ends_with("1.0 TB of 1 TB, 100 %\n"));
    }

    #[test]
    fn a_status_for_programs_has_what_was_promised() {
        let shown: serde_json::Value = serde_json::from_str(&status_json(&report())).unwrap();
        assert_eq!(shown["address"], "k7q2m9fdx4@relay.example.org:443");
        assert_eq!(shown["pairs_n"], 38);
        assert_eq!(shown["budget"]["pair_bps"], 10_000_000);
    }
}
