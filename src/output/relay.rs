//! The screens of a relay.

use meshnode_protocol::name::NodeName;
use meshnode_protocol::time::Timestamp;
use serde_json::{Value, json};

use super::table::Table;
use super::{Style, width};
use crate::control::relays::{CarriedReport, RelayLine};
use crate::units;
use crate::volunteer::report::{Budget, Pair, Report, address};

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
    pub(crate) budget: Budget,
    pub(crate) introduces_only: bool,
}

/// `relay status` for people; without `wide` only the fastest pairs.
pub(crate) fn status(report: &Report, wide: bool, plain: bool) -> String {
    let Report { budget, .. } = report;
    let full = report.month_bytes >= budget.month_bytes;
    let health = if full {
        "at its monthly limit"
    } else {
        "healthy"
    };
    let [now, most] = [report.rate_bps, budget.rate_bps].map(units::mbits);
    let mut text = format!(
        "{}, up {}, {health}\n\
         now      {} of {} pairs, {now} of {most} Mbit/s; {} reachable by it\n\
         month    {} of {}, {}\n",
        report.address(),
        units::span_s(report.uptime_s),
        pairs(report),
        budget.pairs,
        clients(report.clients),
        units::bytes(report.month_bytes),
        round(budget.month_bytes),
        pace(report),
    );
    if report.slowed > 0 {
        let pair = units::mbits(budget.pair_bps);
        let count = report.slowed;
        let pairs = if count == 1 { "pair" } else { "pairs" };
        text.push_str(&format!(
            "limited  {count} {pairs} slowed in the last hour ({pair} Mbit/s a pair)\n"
        ));
    }
    text + &table(report, wide, plain)
}

/// How full the month is, and how long it lasts if all goes on as it did.
fn pace(report: &Report) -> String {
    let budget = report.budget.month_bytes.max(1);
    let percent = u128::from(report.month_bytes) * 100 / u128::from(budget);
    let now = Timestamp::from_ms(report.now_ms);
    let (Some((begin, end)), false) = (units::month_of(now), report.month_bytes == 0) else {
        return format!("{percent} %");
    };
    let left = u128::from(budget.saturating_sub(report.month_bytes));
    let lasts_ms = left * u128::from(now.since_ms(begin)) / u128::from(report.month_bytes);
    let lasts = now
        .ms()
        .saturating_add(u64::try_from(lasts_ms).unwrap_or(u64::MAX));
    if left == 0 {
        return format!("{percent} %; begins anew on {}", units::date(end));
    }
    let until = units::date(Timestamp::from_ms(lasts.min(end.ms())));
    format!("{percent} %; enough until {until} at this pace")
}

fn table(report: &Report, wide: bool, plain: bool) -> String {
    if report.pairs.is_empty() {
        return String::new();
    }
    let shown = if wide { usize::MAX } else { PAIRS_SHOWN };
    let (limit, none) = if plain { ("LIMIT", "-") } else { ("", "") };
    let mut table = Table::new(&["PAIR", "SINCE", "RATE", "BYTES", limit]);
    for pair in report.pairs.iter().take(shown) {
        let limit = if pair.limited { "at its limit" } else { none };
        table.row(vec![
            pair.id.clone(),
            units::span_s(pair.since_s),
            format!("{} Mbit/s", units::mbits(pair.rate_bps)),
            units::bytes(pair.rx_bytes.saturating_add(pair.tx_bytes)),
            limit.to_owned(),
        ]);
    }
    if plain {
        return format!("\n{}", table.plain());
    }
    let mut text = table.render(usize::MAX, &[]);
    let more = report.pairs.len().saturating_sub(shown);
    if more > 0 {
        text.push_str(&format!("({more} more: --wide)\n"));
    }
    text
}

const fn pairs(report: &Report) -> usize {
    report.circuits + report.pairs.len()
}

/// `relay status --json`.
pub(crate) fn status_json(report: &Report) -> String {
    let budget = &report.budget;
    let pair = |pair: &Pair| {
        json!({
            "id": pair.id,
            "since_s": pair.since_s,
            "rate_bps": pair.rate_bps,
            "rx_bytes": pair.rx_bytes,
            "tx_bytes": pair.tx_bytes,
            "limited": pair.limited,
        })
    };
    let shown = json!({
        "schema": 1,
        "address": report.address(),
        "key": report.key,
        "uptime_s": report.uptime_s,
        "pairs_n": pairs(report),
        "circuits_n": report.circuits,
        "clients_n": report.clients,
        "rate_bps": report.rate_bps,
        "month_bytes": report.month_bytes,
        "slowed_n": report.slowed,
        "introduce_only": report.introduces_only,
        "budget": {
            "rate_bps": budget.rate_bps,
            "pair_bps": budget.pair_bps,
            "month_bytes": budget.month_bytes,
            "pairs": budget.pairs,
        },
        "pairs": report.pairs.iter().map(pair).collect::<Vec<_>>(),
    });
    format!("{shown}\n")
}

/// The relays of a network.
pub(crate) fn list(relays: &[RelayLine], style: Style) -> String {
    if style.json {
        let relays: Vec<Value> = relays.iter().map(line).collect();
        return format!("{}\n", json!({"schema": 1, "relays": relays}));
    }
    if relays.is_empty() {
        return "This network has no relays.\n".to_owned();
    }
    let mut table = Table::new(&["NAME", "WHO", "RTT", "STATE", "ADDRESS"]);
    for relay in relays {
        let address = relay.addresses.first();
        table.row(vec![
            relay.name.to_string(),
            relay.by.as_ref().map_or_else(
                || "member".to_owned(),
                |admin| format!("volunteer, by {admin}"),
            ),
            relay.rtt_us.map_or("-".to_owned(), units::rtt),
            standing(relay),
            address.map_or("-".to_owned(), ToString::to_string),
        ]);
    }
    if style.plain {
        table.plain()
    } else {
        table.render(width(), &["ADDRESS", "WHO"])
    }
}

/// What this node carries for the members of its network.
pub(crate) fn carried(report: Option<&CarriedReport>, style: Style) -> String {
    if style.json {
        let pairs = report.iter().flat_map(|report| &report.pairs);
        let pairs: Vec<Value> = pairs
            .map(|pair| {
                let [a, b] = &pair.nodes;
                json!({
                    "nodes": [a.as_ref().map(NodeName::as_str), b.as_ref().map(NodeName::as_str)],
                    "rx_bytes": pair.bytes[0],
                    "tx_bytes": pair.bytes[1],
                    "limited": pair.limited,
                })
            })
            .collect();
        let told = json!({
            "schema": 1,
            "carries": report.is_some(),
            "clients_n": report.map(|report| report.clients),
            "rate_bps": report.map(|report| report.rate_bps),
            "bytes": report.map(|report| report.bytes),
            "pairs": pairs,
        });
        return format!("{told}\n");
    }
    let Some(report) = report else {
        return "This node carries nothing for others (meshnode set relay=auto).\n".to_owned();
    };
    let mut text = format!(
        "A member that carries for the others of its network: {} here, {} Mbit/s now, {} since \
         its start.\n",
        report.clients,
        units::mbits(report.rate_bps),
        units::bytes(report.bytes),
    );
    let name = |node: &Option<NodeName>| {
        let name = node.as_ref().map(ToString::to_string);
        name.unwrap_or_else(|| "one that left".to_owned())
    };
    for pair in &report.pairs {
        let [one, other] = pair.nodes.each_ref().map(name);
        let bytes = units::bytes(pair.bytes[0].saturating_add(pair.bytes[1]));
        let limited = if pair.limited { ", at its limit" } else { "" };
        text.push_str(&format!("  {one} and {other}: {bytes}{limited}\n"));
    }
    text
}

fn standing(relay: &RelayLine) -> String {
    match (&relay.refused, relay.home, relay.bound) {
        (Some(reason), ..) => reason.clone(),
        (None, true, true) => "home".to_owned(),
        (None, false, true) => "in use".to_owned(),
        (None, _, false) => "no answer".to_owned(),
    }
}

fn line(relay: &RelayLine) -> Value {
    json!({
        "name": relay.name.as_str(),
        "key": relay.key,
        "addresses": relay.addresses,
        "by": relay.by.as_ref().map(NodeName::as_str),
        "member": relay.member.map(|node| node.to_string()),
        "home": relay.home,
        "bound": relay.bound,
        "rtt_ms": relay.rtt_us.map(|us| us / 1_000),
        "refused": relay.refused,
    })
}

/// `relay add` and `relay remove` with `--json`.
pub(crate) fn changed_json(name: &str, changed: bool) -> String {
    format!(
        "{}\n",
        json!({"schema": 1, "name": name, "changed": changed})
    )
}

/// Pairs that a status shows without being asked for all.
const PAIRS_SHOWN: usize = 10;

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
    use crate::control::relays::CarriedPair;

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
            now_ms: NOW_MS,
            clients: 61,
            circuits: 36,
            rate_bps: 12_400_000,
            month_bytes: 412_000_000_000,
            slowed: 2,
            introduces_only: false,
            budget: BUDGET,
            pairs: vec![
                pair("p-4F11AA", 10_800, 9_900_000, true),
                pair("p-9C22BB", 180_000, 300_000, false),
            ],
        }
    }

    /// 2026-11-21T18:04:00Z.
    const NOW_MS: u64 = 1_795_284_240_000;

    fn pair(id: &str, since_s: u64, rate_bps: u64, limited: bool) -> Pair {
        Pair {
            id: id.to_owned(),
            since_s,
            rate_bps,
            rx_bytes: 60_000_000_000,
            tx_bytes: 1_000_000_000,
            limited,
        }
    }

    #[test]
    fn a_relay_that_is_ready_says_how_to_add_it_what_it_sees_and_its_limits() {
        let said = |public| {
            ready(&Ready {
                key: "k7q2m9fdx4rsvw0000",
                public,
                port: 443,
                budget: BUDGET,
                introduces_only: false,
            })
        };
        assert_eq!(
            said(Some("relay.example.org")),
            "Relay ready. Networks add it with:  meshnode relay add k7q2m9fdx4@relay.example.org:443\n\
             You carry sealed packets. You see: IP addresses, times, amounts. \
             You cannot see: networks, names, contents.\n\
             Limits: 100 Mbit/s in all, 10 Mbit/s a pair, 1 TB a month, 500 pairs. \
             Change: /etc/meshnode/relay.toml\n"
        );
        assert!(said(None).contains("relay add k7q2m9fdx4@HOST:443\nHOST is how"));
    }

    #[test]
    fn a_status_says_what_passes_how_long_the_month_lasts_and_who_is_slowed() {
        assert_eq!(
            status(&report(), false, false),
            "k7q2m9fdx4@relay.example.org:443, up 12 d, healthy\n\
             now      38 of 500 pairs, 12.4 of 100 Mbit/s; 61 peers are reachable by it\n\
             month    412 GB of 1 TB, 41 %; enough until 2026-12-01 at this pace\n\
             limited  2 pairs slowed in the last hour (10 Mbit/s a pair)\n\
             PAIR      SINCE  RATE        BYTES\n\
             p-4F11AA  3 h    9.9 Mbit/s  61 GB  at its limit\n\
             p-9C22BB  2 d    0.3 Mbit/s  61 GB\n"
        );
        let quiet = Report {
            pairs: Vec::new(),
            slowed: 0,
            month_bytes: 900_000_000_000,
            ..report()
        };
        let text = status(&quiet, false, false);
        assert!(
            text.ends_with("90 %; enough until 2026-11-24 at this pace\n"),
            "{text}"
        );
    }

    #[test]
    fn a_month_that_is_full_says_when_the_next_one_begins() {
        let full = Report {
            month_bytes: 1_000_000_000_000,
            ..report()
        };
        let text = status(&full, false, false);
        assert!(
            text.starts_with("k7q2m9fdx4@relay.example.org:443, up 12 d, at its monthly limit")
        );
        assert!(
            text.contains("1.0 TB of 1 TB, 100 %; begins anew on 2026-12-01\n"),
            "{text}"
        );
    }

    #[test]
    fn only_the_fastest_pairs_are_shown_unless_all_are_wanted() {
        let many = Report {
            pairs: (0..14).map(|_| pair("p-000000", 9, 9, false)).collect(),
            ..report()
        };
        assert!(status(&many, false, false).ends_with("\n(4 more: --wide)\n"));
        assert_eq!(status(&many, true, false).matches("p-0").count(), 14);
        let plain = status(&many, true, true);
        assert!(plain.contains("\npair: p-000000\nsince: 9 s\n"), "{plain}");
    }

    #[test]
    fn a_status_for_programs_has_what_was_promised() {
        let shown: Value = serde_json::from_str(&status_json(&report())).unwrap();
        assert_eq!(shown["address"], "k7q2m9fdx4@relay.example.org:443");
        assert_eq!(shown["pairs_n"], 38);
        assert_eq!(shown["budget"]["pair_bps"], 10_000_000);
    }

    #[test]
    fn a_member_tells_between_whom_it_carries() {
        let nas = NodeName::parse("nas").ok();
        let report = CarriedReport {
            clients: 3,
            rate_bps: 12_400_000,
            bytes: 4_000_000,
            pairs: vec![CarriedPair {
                nodes: [nas, None],
                bytes: [1_500_000, 500_000],
                limited: true,
            }],
        };
        let style = Style::default();
        assert_eq!(
            carried(Some(&report), style),
            "A member that carries for the others of its network: 3 here, 12.4 Mbit/s now, \
             4.0 MB since its start.\n  nas and one that left: 2.0 MB, at its limit\n"
        );
        let none = carried(None, style);
        assert!(none.contains("carries nothing"), "{none}");
    }
}
