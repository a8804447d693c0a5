//! What the network around this machine is like, as an object.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{line, millis};
use crate::control::netcheck::{MethodReport, NatReport, NetcheckReport, ProxyState, RoadReport};
use crate::output::netcheck::{Verdict, advice, contacts, is_behind_two, reachable, udp};

/// The report.
pub(crate) fn netcheck(report: &NetcheckReport) -> String {
    let verdict = Verdict::of(report);
    let contacts = contacts(report);
    let contacts: Vec<_> = contacts
        .iter()
        .map(|(who, kind, why)| json!({"who": who, "kind": kind, "why": why}))
        .collect();
    let relays = report.relays.iter().map(|relay| {
        json!({
            "name": relay.name,
            "volunteer": relay.volunteer,
            "rtt_ms": relay.rtt_us.map(millis),
            "home": relay.home,
            "road": relay.road.map(RoadReport::code),
        })
    });
    line(&json!({
        "schema": 1,
        "udp": udp(report),
        "ipv4": family(report, SocketAddr::is_ipv4, Some(report.mapping)),
        "ipv6": family(report, SocketAddr::is_ipv6, None),
        "port_mapping": port_mapping(report),
        "proxy": report.proxy.as_ref().map(|proxy| json!({
            "at": proxy.place,
            "state": proxy_code(proxy.state),
        })),
        "relays": relays.collect::<Vec<_>>(),
        "cgnat": is_behind_two(report),
        "captive_portal": Value::Null,
        "reachable_from_outside": reachable(report).map(|at| at.to_string()),
        "verdict": verdict.code(),
        "advice": advice(report),
        "contacts": contacts,
    }))
}

const fn proxy_code(state: ProxyState) -> &'static str {
    match state {
        ProxyState::Unasked => "unasked",
        ProxyState::Leads => "leads",
        ProxyState::Silent => "silent",
        ProxyState::Credentials => "credentials",
        ProxyState::Refuses(_) => "refuses",
        ProxyState::NoProxy => "no_proxy",
    }
}

fn family(
    report: &NetcheckReport,
    is_of: fn(&SocketAddr) -> bool,
    nat: Option<NatReport>,
) -> Value {
    let seen: Vec<_> = report.seen.iter().filter(|v| is_of(&v.at)).collect();
    let mapping = nat.and_then(|nat| match nat {
        NatReport::Unknown => None,
        NatReport::None => Some("none"),
        NatReport::Independent => Some("EIM"),
        // Whether the address or the port makes the difference is not told apart.
        NatReport::Sequential | NatReport::Random => Some("APDM"),
    });
    json!({
        "mapped": seen.first().map(|vantage| vantage.at.to_string()),
        "mapping": mapping,
        "filtering": Value::Null,
        "hairpin": Value::Null,
        "seen_by": seen.iter().map(|vantage| vantage.who.as_str()).collect::<Vec<_>>(),
    })
}

fn port_mapping(report: &NetcheckReport) -> Vec<Value> {
    let Some(router) = &report.router else {
        return Vec::new();
    };
    let methods = router.methods.iter().map(|(name, found)| {
        let (state, behind) = match found {
            MethodReport::Silent => ("silent", None),
            MethodReport::Serves => ("serves", None),
            MethodReport::Refuses => ("refuses", None),
            MethodReport::Inside(at) => ("inside", Some(at.to_string())),
        };
        json!({
            "method": name,
            "state": state,
            "inside": behind,
            "mapped": router.mapped.filter(|_| *found == MethodReport::Serves).map(|at| at.to_string()),
        })
    });
    methods.collect()
}
