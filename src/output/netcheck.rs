//! `netcheck`: what the network around this machine is like, and what that means.

use std::net::{IpAddr, SocketAddr};

use super::{Style, clean};
use crate::control::netcheck::{
    MethodReport, NatReport, NetcheckReport, ProxyReport, ProxyState, RoadReport,
};
use crate::units;

/// Names in one line before the rest is only counted.
const NAMES_MAX: usize = 4;

/// What it comes to, for people and scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Direct with every kind of NAT.
    Good,
    /// Direct with most.
    Fair,
    /// No UDP.
    RelayOnly,
    /// Nobody outside of this LAN.
    LanOnly,
    /// Nobody answered.
    Unknown,
}

impl Verdict {
    /// Of a report.
    pub(crate) fn of(report: &NetcheckReport) -> Self {
        let outside = report.seen.iter().any(|vantage| is_outside(&vantage.at));
        if udp(report) && outside {
            return match report.mapping {
                NatReport::Independent | NatReport::None => Self::Good,
                _ if reachable(report).is_some() => Self::Good,
                NatReport::Sequential | NatReport::Random | NatReport::Unknown => Self::Fair,
            };
        }
        match (udp(report), report.linked) {
            (true, _) => Self::LanOnly,
            (false, true) => Self::RelayOnly,
            (false, false) => Self::Unknown,
        }
    }

    /// One word for scripts.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Fair => "fair",
            Self::RelayOnly => "relay_only",
            Self::LanOnly => "lan_only",
            Self::Unknown => "unknown",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Good => "Good: direct with every kind of NAT.",
            Self::Fair => "Fair: direct with most; the others by relay.",
            Self::RelayOnly => "Relay only: UDP is blocked here; TCP works.",
            Self::LanOnly => "LAN only: nobody outside this LAN answers.",
            Self::Unknown => {
                "Unknown: no member or relay answered, so nobody could tell what this NAT does."
            }
        }
    }
}

/// Whether anybody answers by UDP.
pub(crate) fn udp(report: &NetcheckReport) -> bool {
    let answers = report.relays.iter().any(|relay| relay.rtt_us.is_some());
    answers || !report.seen.is_empty() || !report.direct.is_empty()
}

/// The address at which this node can be called from outside, if there is one.
pub(crate) fn reachable(report: &NetcheckReport) -> Option<SocketAddr> {
    report.router.as_ref().and_then(|router| router.mapped)
}

/// Whether the router's own outer address is inside of another network: a provider's NAT, or a second router.
pub(crate) fn is_behind_two(report: &NetcheckReport) -> Option<bool> {
    let router = report.router.as_ref()?;
    let inside = |(_, method): &(String, MethodReport)| matches!(method, MethodReport::Inside(_));
    let spoke = |(_, method): &(String, MethodReport)| *method != MethodReport::Silent;
    let some = router.methods.iter().any(spoke);
    some.then(|| router.methods.iter().any(inside))
}

/// What would help.
pub(crate) fn advice(report: &NetcheckReport) -> Vec<&'static str> {
    let mut advice = Vec::new();
    let hard = matches!(report.mapping, NatReport::Sequential | NatReport::Random);
    let mapped = report.router.as_ref().is_some_and(|r| r.mapped.is_some());
    if hard && !mapped {
        advice.push("switch on UPnP, NAT-PMP or PCP in the router, or use IPv6");
    }
    let asked = report.proxy.as_ref().map(|proxy| proxy.state);
    match asked {
        Some(ProxyState::Credentials) => {
            advice.push("give the daemon https_proxy=http://USER:PASSWORD@HOST:PORT");
        }
        Some(ProxyState::Refuses(_)) => {
            advice.push("use a relay at port 443: most proxies lead nowhere else");
        }
        Some(ProxyState::Silent | ProxyState::NoProxy) => {
            advice.push("look at what https_proxy or the setting 'proxy' says");
        }
        Some(ProxyState::Unasked | ProxyState::Leads) | None => {}
    }
    if !udp(report) && report.linked {
        advice.push("let UDP out of this network, if it is yours");
    }
    if report.relays.is_empty() && reachable(report).is_none() && report.mapping != NatReport::None
    {
        advice.push("name a relay (meshnode relay add), or let one node be reached from outside");
    }
    advice
}

fn is_outside(address: &SocketAddr) -> bool {
    !meshnode_protocol::path::is_local(address)
}

/// The screen.
pub(crate) fn screen(report: &NetcheckReport, style: Style) -> String {
    let mut rows = vec![("UDP", yes(udp(report)).to_owned())];
    rows.push(("IPv4", seen(report, SocketAddr::is_ipv4, IpAddr::is_ipv4)));
    rows.push(("NAT", nat(report)));
    rows.push(("IPv6", seen(report, SocketAddr::is_ipv6, is_global_v6)));
    rows.extend(port_mapping(report).map(|text| ("Port mapping", text)));
    rows.extend(is_behind_two(report).map(|two| ("Carrier NAT", yes(two).to_owned())));
    rows.extend(report.proxy.as_ref().map(|found| ("Proxy", proxy(found))));
    rows.push(("Relays", relays(report)));
    let outside = match (reachable(report), report.mapping) {
        (Some(at), _) => format!("reachable at {at}"),
        (None, NatReport::None) => "a public address, if no firewall stands before it".to_owned(),
        (None, _) => "by whom this machine called first, and by relays".to_owned(),
    };
    rows.push(("From outside", outside));
    rows.push(("Verdict", Verdict::of(report).text().to_owned()));
    for text in advice(report) {
        rows.push(("Advice", text.to_owned()));
    }
    rows.push(("Contacted", contacted(report)));
    let line = |(name, text): &(&str, String)| {
        if style.plain {
            format!("{name}: {text}\n")
        } else {
            format!("{name:<14}  {text}\n")
        }
    };
    rows.iter().map(line).collect()
}

const fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn seen(
    report: &NetcheckReport,
    family: fn(&SocketAddr) -> bool,
    own: fn(&IpAddr) -> bool,
) -> String {
    let seen: Vec<_> = report.seen.iter().filter(|v| family(&v.at)).collect();
    if let Some(first) = seen.first() {
        let by: Vec<_> = seen.iter().map(|vantage| clean(&vantage.who)).collect();
        return format!("{}, seen by {}", first.at.ip(), names(&by));
    }
    match report.addresses.iter().find(|ip| own(ip)) {
        Some(own) => format!("{own} on this machine, seen by nobody"),
        None => "no".to_owned(),
    }
}

fn is_global_v6(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if !v6.is_unique_local() && !v6.is_unicast_link_local())
}

fn nat(report: &NetcheckReport) -> String {
    match report.mapping {
        NatReport::Unknown => "not known: fewer than two others saw this machine",
        NatReport::None => "none",
        NatReport::Independent => "same port towards everybody (endpoint-independent)",
        NatReport::Sequential => "the next port towards everybody else (symmetric, sequential)",
        NatReport::Random => "another, random port towards everybody (symmetric)",
    }
    .to_owned()
}

fn port_mapping(report: &NetcheckReport) -> Option<String> {
    let router = report.router.as_ref()?;
    let port = router.mapped.map(|at| at.port());
    let told = router
        .methods
        .iter()
        .map(|(name, found)| match (found, port) {
            (MethodReport::Serves, Some(port)) => format!("{name} yes ({port})"),
            (MethodReport::Serves, None) => format!("{name} yes"),
            (MethodReport::Silent, _) => format!("{name} no"),
            (MethodReport::Refuses, _) => format!("{name} refuses"),
            (MethodReport::Inside(at), _) => format!("{name} of no use (behind {at})"),
        });
    Some(told.collect::<Vec<_>>().join(", "))
}

fn relays(report: &NetcheckReport) -> String {
    let told = report.relays.iter().map(|relay| {
        let volunteer = if relay.volunteer { " (volunteer)" } else { "" };
        let rtt = relay.rtt_us.map_or("no answer".to_owned(), units::rtt);
        let road = relay.road.map_or(String::new(), by_road);
        format!("{}{volunteer} {rtt}{road}", clean(&relay.name))
    });
    let told: Vec<_> = told.collect();
    if told.is_empty() {
        "none".to_owned()
    } else {
        told.join(", ")
    }
}

/// `, by TLS`.
pub(crate) fn by_road(road: RoadReport) -> String {
    format!(", by {}", road.text())
}

fn proxy(proxy: &ProxyReport) -> String {
    let state = match proxy.state {
        ProxyState::Unasked => "not needed yet".to_owned(),
        ProxyState::Leads => "leads out".to_owned(),
        ProxyState::Silent => "does not answer".to_owned(),
        ProxyState::Credentials => "wants a user and a password, or others (407)".to_owned(),
        ProxyState::Refuses(status) => format!("refuses to lead there ({status})"),
        ProxyState::NoProxy => "what answers there is no proxy".to_owned(),
    };
    format!("{}: {state}", clean(&proxy.place))
}

/// Who was spoken to, and as what.
pub(crate) fn contacts(report: &NetcheckReport) -> Vec<(String, &'static str, &'static str)> {
    let mut contacts: Vec<(String, &str, &str)> = Vec::new();
    let vantages = report.seen.iter().map(|v| (&v.who, v.volunteer));
    let relays = report.relays.iter().map(|r| (&r.name, r.volunteer));
    let members = report.direct.iter().chain(&report.relayed);
    let members = members.map(|name| (name, false));
    for (name, volunteer) in vantages.chain(relays).chain(members) {
        let name = clean(name);
        if contacts.iter().all(|(known, ..)| *known != name) {
            let (kind, why) = if volunteer {
                ("relay", "carries sealed packets")
            } else {
                ("member", "is of this network")
            };
            contacts.push((name, kind, why));
        }
    }
    if let Some(router) = &report.router {
        contacts.push((
            router.gateway.to_string(),
            "router",
            "was asked to map a port",
        ));
    }
    contacts
}

fn contacted(report: &NetcheckReport) -> String {
    let contacts = contacts(report);
    let of = |wanted: &str| -> Vec<String> {
        let those = contacts.iter().filter(|(_, kind, _)| *kind == wanted);
        those.map(|(name, ..)| name.clone()).collect()
    };
    let mut told = Vec::new();
    let groups = [
        ("member", " (member)", " (members)"),
        ("relay", " (volunteer relay)", " (volunteer relays)"),
    ];
    for (kind, one, many) in groups {
        let names_of = of(kind);
        match names_of.len() {
            0 => {}
            1 => told.push(format!("{}{one}", names_of[0])),
            _ => told.push(format!("{}{many}", names(&names_of))),
        }
    }
    told.extend(of("router").into_iter().map(|at| format!("router {at}")));
    if told.is_empty() {
        return "nobody.".to_owned();
    }
    format!("{}. Nobody else.", told.join(", "))
}

fn names(names: &[String]) -> String {
    let shown = names.len().min(NAMES_MAX);
    let rest = names.len() - shown;
    match (names, rest) {
        ([], _) => "nobody".to_owned(),
        ([one], _) => one.clone(),
        (_, 0) => format!("{} and {}", names[..shown - 1].join(", "), names[shown - 1]),
        (_, rest) => format!("{} and {rest} more", names[..shown].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::netcheck::{RelayReport, RouterReport, VantageReport};

    fn home() -> NetcheckReport {
        let vantage = |who: &str| VantageReport {
            who: who.to_owned(),
            volunteer: false,
            at: "203.0.113.7:41641".parse().unwrap(),
        };
        let relay = |name: &str, volunteer, rtt_us| RelayReport {
            name: name.to_owned(),
            volunteer,
            rtt_us: Some(rtt_us),
            home: true,
            road: None,
        };
        NetcheckReport {
            addresses: vec!["192.168.1.20".parse().unwrap()],
            mapping: NatReport::Independent,
            seen: vec![vantage("vps"), vantage("cabin")],
            relays: vec![relay("vps", false, 18_000), relay("oak", true, 31_000)],
            direct: vec!["vps".to_owned()],
            linked: true,
            router: Some(RouterReport {
                gateway: "192.168.1.1".parse().unwrap(),
                methods: vec![
                    ("UPnP".to_owned(), MethodReport::Serves),
                    ("NAT-PMP".to_owned(), MethodReport::Silent),
                    ("PCP".to_owned(), MethodReport::Silent),
                ],
                mapped: Some("203.0.113.7:41641".parse().unwrap()),
            }),
            ..NetcheckReport::default()
        }
    }

    #[test]
    fn a_home_behind_a_good_router_is_told_line_by_line() {
        let text = screen(&home(), Style::default());
        let expected = "\
UDP             yes
IPv4            203.0.113.7, seen by vps and cabin
NAT             same port towards everybody (endpoint-independent)
IPv6            no
Port mapping    UPnP yes (41641), NAT-PMP no, PCP no
Carrier NAT     no
Relays          vps 18 ms, oak (volunteer) 31 ms
From outside    reachable at 203.0.113.7:41641
Verdict         Good: direct with every kind of NAT.
Contacted       vps and cabin (members), oak (volunteer relay), router 192.168.1.1. Nobody else.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_verdict_follows_from_who_answered_and_how_the_router_maps() {
        let random = |mapped: bool| {
            let mut report = home();
            report.mapping = NatReport::Random;
            report.router = report.router.filter(|_| mapped);
            report
        };
        assert_eq!(Verdict::of(&random(true)), Verdict::Good);
        assert_eq!(Verdict::of(&random(false)), Verdict::Fair);
        let blocked = NetcheckReport {
            linked: true,
            ..NetcheckReport::default()
        };
        assert_eq!(Verdict::of(&blocked), Verdict::RelayOnly);
        assert_eq!(Verdict::of(&NetcheckReport::default()), Verdict::Unknown);
        let lan = NetcheckReport {
            direct: vec!["nas".to_owned()],
            ..NetcheckReport::default()
        };
        assert_eq!(Verdict::of(&lan), Verdict::LanOnly);
    }

    #[test]
    fn a_hard_router_gets_advice_and_a_good_one_none() {
        let mut report = home();
        assert!(advice(&report).is_empty());
        report.mapping = NatReport::Random;
        report.router = None;
        assert_eq!(advice(&report).len(), 1);
    }
}
