//! The screen of `status`: two lines, a table, warnings.

use super::Style;
use super::clean;
use super::netcheck::by_road;
use super::table::Table;
use crate::control::report::{
    MemberReport, NodeState, PathReport, PeerReport, StandingReport, StatusReport, Tier,
};
use crate::units;

/// The whole screen of one network, at most `width` columns wide where that is possible.
pub(crate) fn screen(report: &StatusReport, style: Style, width: usize) -> String {
    let mut text = format!("{}\n", state_line(report));
    if report.state == NodeState::Down {
        // Nobody is heard, so there is nothing to tell of the others.
        return text;
    }
    if report.this.is_some() {
        text.push_str(&format!("{}\n", reach_line(report)));
    }
    if report.state == NodeState::Isolated {
        text.push_str("Your addresses work on this machine. Invites made now go out later.\n");
    }
    if !report.peers.is_empty() {
        text.push('\n');
        let table = peers(report);
        text.push_str(&if style.plain {
            table.plain()
        } else {
            table.render(width, &["TX", "RX", "RTT"])
        });
    }
    text.push_str(&warnings(report));
    text
}

/// Who put this machine out, and why.
fn put_out(report: &StatusReport) -> String {
    let Some(revoked) = &report.revoked else {
        return "this machine was put out of the network".to_owned();
    };
    let by = revoked.by.as_ref();
    let by = by.map_or("the recovery phrase".to_owned(), |name| {
        clean(name.as_str())
    });
    let reason = match revoked.reason.as_str() {
        "" => String::new(),
        reason => format!(" ({})", clean(reason)),
    };
    let said = units::local_time(revoked.said);
    format!("{by} put this machine out{reason}, said {said}")
}

/// The one line of state: `homelab: running. You are nas (admin), 100.71.4.2`.
pub(crate) fn state_line(report: &StatusReport) -> String {
    let name = match &report.network {
        Some(network) => network.name.as_str(),
        None => &report.local_name,
    };
    let span = report.state_for_s.map(units::span_s);
    let state = match (report.state, span) {
        (NodeState::Running, _) => "running".to_owned(),
        (NodeState::Isolated, Some(span)) => format!("isolated for {span}"),
        (NodeState::Isolated, None) => "isolated".to_owned(),
        (NodeState::Down, _) => match report.down_for_s {
            Some(seconds) => format!(
                "down for {} more, or until meshnode up",
                units::span_s(seconds)
            ),
            None => "down, until meshnode up".to_owned(),
        },
        (NodeState::Starting, _) => "starting".to_owned(),
        (NodeState::Waiting, _) => "joining; it waits for an answer or for approval".to_owned(),
        (NodeState::Recovering, _) => "recovering: its store was damaged".to_owned(),
        (NodeState::Revoked, _) => put_out(report),
    };
    let warnings = match report.warnings.len() {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        n => format!(", {n} warnings"),
    };
    let this = report.this.as_ref().map_or(String::new(), |this| {
        format!(
            " You are {} ({}), {}",
            this.name,
            role(this),
            this.address()
        )
    });
    format!("{}: {state}{warnings}.{this}", clean(name))
}

fn reach_line(report: &StatusReport) -> String {
    if report.peers.is_empty() {
        return "No other node yet: meshnode invite lets one in.".to_owned();
    }
    let blocked = report.peers.iter().filter(|peer| peer.blocked).count();
    let free = |peer: &&PeerReport| peer.online && !peer.blocked;
    let reachable = report.peers.iter().filter(free).count();
    let of = report.peers.len() - blocked;
    if of == 0 {
        return format!("{blocked} of {blocked} blocked on this machine.");
    }
    if reachable == 0 {
        let seen = match report.default_route {
            Some(false) => "no default route, nobody on this LAN answers",
            Some(true) | None => "nobody answers",
        };
        return format!("0 of {of} reachable: {seen}.");
    }
    let behind: Vec<String> = report
        .peers
        .iter()
        .filter(|peer| !peer.heard && !peer.blocked)
        .map(|peer| clean(peer.member.name.as_str()))
        .collect();
    let heard = if behind.is_empty() {
        "Every node has the latest changes.".to_owned()
    } else {
        let more = behind.len().saturating_sub(NAMES_MAX);
        let mut names = behind;
        names.truncate(NAMES_MAX);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!(
            "Latest changes not yet heard by {}{more}.",
            names.join(", ")
        )
    };
    let blocked = if blocked > 0 {
        format!(" {blocked} blocked here.")
    } else {
        String::new()
    };
    format!("{reachable} of {of} reachable.{blocked} {heard}")
}

fn peers(report: &StatusReport) -> Table {
    let mut table = Table::new(&["NAME", "ADDRESS", "STATE", "PATH", "RTT", "RX", "TX"]);
    for peer in &report.peers {
        let amount = |bytes| {
            if peer.online && !peer.blocked {
                units::bytes(bytes)
            } else {
                "-".to_owned()
            }
        };
        let rtt = peer.rtt_us.filter(|_| peer.online && !peer.blocked);
        table.row(vec![
            clean(peer.member.name.as_str()),
            peer.member.address(),
            state(peer).to_owned(),
            path(peer),
            rtt.map_or("-".to_owned(), units::rtt),
            amount(peer.rx_bytes),
            amount(peer.tx_bytes),
        ]);
    }
    table
}

/// `online`, `away`, or why neither matters.
pub(crate) const fn state(peer: &PeerReport) -> &'static str {
    match peer.member.standing {
        _ if peer.blocked => "blocked",
        StandingReport::Pending => "waiting",
        StandingReport::Quarantined => "quarantined",
        StandingReport::Settled | StandingReport::Provisional => {
            if peer.online {
                "online"
            } else {
                "away"
            }
        }
    }
}

fn path(peer: &PeerReport) -> String {
    match (peer.online, &peer.path, peer.last_seen_s) {
        _ if peer.blocked => "-".to_owned(),
        (true, Some(path), _) => path_text(path),
        (true, None, _) => "looking for a path".to_owned(),
        (false, _, Some(seconds)) => format!("last seen {} ago", units::span_s(seconds)),
        (false, _, None) => "not seen since start".to_owned(),
    }
}

/// `direct, LAN 192.168.1.20:41641`.
pub(crate) fn path_text(path: &PathReport) -> String {
    let at = path.endpoint.map(|at| at.to_string()).unwrap_or_default();
    let via = path.via.as_deref().map_or(at.clone(), clean);
    let road = path.road.map_or(String::new(), by_road);
    match path.tier {
        Tier::Lan => format!("direct, LAN {at}"),
        Tier::Direct => format!("direct, {at}"),
        Tier::Circuit if path.via.is_none() => format!("its link{road}"),
        Tier::UdpRelay => format!("relay {via}"),
        Tier::Circuit => format!("relay {via}{road}"),
    }
}

/// `admin` or `member`.
pub(crate) const fn role(member: &MemberReport) -> &'static str {
    if member.is_admin() { "admin" } else { "member" }
}

fn warnings(report: &StatusReport) -> String {
    let mut text = String::new();
    for (at, warning) in report.warnings.iter().enumerate() {
        if at == 0 {
            text.push('\n');
        }
        text.push_str(&format!(
            "warning: {} ({})\n",
            clean(&warning.text),
            clean(&warning.code)
        ));
        if let Some(hint) = &warning.hint {
            text.push_str(&format!("  hint: {}\n", clean(hint)));
        }
    }
    text
}

/// More names than these do not help.
const NAMES_MAX: usize = 5;

#[cfg(test)]
pub(crate) mod tests;
