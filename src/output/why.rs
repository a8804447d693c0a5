//! Why a node is reached as it is: the last lines of `ping --why`.

use super::clean;
use super::status::path_text;
use crate::control::netcheck::NatReport;
use crate::control::report::{PeerReport, Tier};
use crate::control::search::SearchReport;
use crate::units;

/// One sentence: by which path, or why not a direct one.
pub(crate) fn sentence(peer: &PeerReport) -> String {
    let direct = |path: &&crate::control::PathReport| matches!(path.tier, Tier::Lan | Tier::Direct);
    if let Some(path) = peer.path.as_ref().filter(direct) {
        let since = peer.path_since_s.map(units::span_s);
        let since = since.map_or(String::new(), |since| format!(" since {since}"));
        return format!("{}{since}", path_text(path));
    }
    let Some(search) = &peer.search else {
        return "nobody has looked for a direct path yet".to_owned();
    };
    match search.routers {
        _ if search.running => "still looking for a direct path".to_owned(),
        (own, theirs) if is_hard(own) && is_hard(theirs) => {
            "both routers give every destination another port (symmetric NAT)".to_owned()
        }
        (own, _) if is_hard(own) => {
            "the router here gives every destination another port (symmetric NAT)".to_owned()
        }
        (_, theirs) if is_hard(theirs) => {
            "the other's router gives every destination another port (symmetric NAT)".to_owned()
        }
        (NatReport::Unknown, _) | (_, NatReport::Unknown) => {
            "no probe came through, and fewer than two others saw one of the two: nobody could tell \
             what the routers do"
                .to_owned()
        }
        _ => "no probe came through: a firewall or a router stands between".to_owned(),
    }
}

const fn is_hard(nat: NatReport) -> bool {
    matches!(nat, NatReport::Sequential | NatReport::Random)
}

/// What would help, any one of it.
pub(crate) fn helps(peer: &PeerReport) -> Vec<&'static str> {
    let Some(search) = &peer.search else {
        return Vec::new();
    };
    let relayed = peer
        .path
        .as_ref()
        .is_none_or(|path| matches!(path.tier, Tier::UdpRelay | Tier::Circuit));
    let (own, theirs) = search.routers;
    if !relayed || search.running {
        Vec::new()
    } else if is_hard(own) || is_hard(theirs) {
        vec!["UPnP, NAT-PMP or PCP on either router", "IPv6 at both"]
    } else {
        vec![
            "UDP let through by the firewalls of both",
            "a mapped port at either router",
        ]
    }
}

/// The lines after the summary.
pub(crate) fn screen(peer: &PeerReport) -> String {
    let relayed = helps(peer);
    let direct = peer
        .path
        .as_ref()
        .is_some_and(|path| matches!(path.tier, Tier::Lan | Tier::Direct));
    let mut text = if direct {
        format!("\nPath: {}.\n", sentence(peer))
    } else {
        format!("\nWhy not direct: {}.\n", sentence(peer))
    };
    if let Some(path) = peer.path.as_ref().filter(|path| path.road.is_some()) {
        text.push_str(&format!("Path: {}.\n", path_text(path)));
    }
    if let Some(search) = &peer.search {
        text.push_str(&tried(search));
    }
    if !relayed.is_empty() {
        text.push_str("What would help, any one of:\n");
        for help in relayed {
            text.push_str(&format!("  - {help}\n"));
        }
    }
    let next = peer.search.as_ref().and_then(|search| search.next_ms);
    if let Some(next) = next.filter(|_| !direct) {
        text.push_str(&format!(
            "Next try: when a network changes, or in {}.\n",
            units::span_ms(next)
        ));
    }
    text
}

fn tried(search: &SearchReport) -> String {
    if search.tried.is_empty() {
        return String::new();
    }
    let mut text = format!("Tried {} ago:\n", units::span_ms(search.began_ms));
    for attempt in &search.tried {
        let seconds = attempt.at_ms / 1000;
        let rest = attempt.at_ms % 1000 / 10;
        text.push_str(&format!(
            "  {seconds}.{rest:02} s  {:<16} {}  {}\n",
            attempt.method,
            clean(&attempt.target),
            attempt.result
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::PathReport;
    use crate::control::netcheck::RoadReport;
    use crate::control::search::AttemptReport;
    use crate::output::status::tests::relayed;

    fn search(own: NatReport, theirs: NatReport) -> SearchReport {
        SearchReport {
            began_ms: 240_000,
            tried: vec![AttemptReport {
                at_ms: 600,
                method: "birthday".to_owned(),
                target: "198.51.100.20".to_owned(),
                result: "no answer".to_owned(),
            }],
            next_ms: Some(60_000),
            routers: (own, theirs),
            hopeless: true,
            running: false,
        }
    }

    #[test]
    fn two_hard_routers_are_told_with_what_was_tried_and_what_helps() {
        let mut cabin = relayed("cabin", "vps");
        cabin.search = Some(search(NatReport::Random, NatReport::Random));
        let expected = "
Why not direct: both routers give every destination another port (symmetric NAT).
Tried 4 min ago:
  0.60 s  birthday         198.51.100.20  no answer
What would help, any one of:
  - UPnP, NAT-PMP or PCP on either router
  - IPv6 at both
Next try: when a network changes, or in 60 s.
";
        assert_eq!(screen(&cabin), expected);
    }

    #[test]
    fn a_road_through_a_proxy_is_told() {
        let mut cabin = relayed("cabin", "oak");
        cabin.path = cabin.path.map(|path| PathReport {
            tier: Tier::Circuit,
            endpoint: None,
            road: Some(RoadReport::Proxy),
            ..path
        });
        let told = screen(&cabin);
        assert!(
            told.contains("\nPath: relay oak, by TLS through the proxy.\n"),
            "{told}"
        );
    }

    #[test]
    fn a_direct_path_is_told_and_nothing_would_help() {
        let mut laptop = relayed("laptop", "vps");
        laptop.path = Some(PathReport {
            tier: Tier::Lan,
            endpoint: Some("192.168.1.20:41641".parse().unwrap()),
            via: None,
            road: None,
        });
        laptop.path_since_s = Some(3 * 3600);
        assert_eq!(
            screen(&laptop),
            "\nPath: direct, LAN 192.168.1.20:41641 since 3 h.\n"
        );
    }
}
