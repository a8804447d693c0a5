//! NODE: a name, an overlay address, or the begin of an id.

use std::net::IpAddr;

use crate::control::report::{MemberReport, PeerReport, StatusReport};
use crate::failure::{Exit, Failure};
use crate::output;

/// A node that was named, in the network of the report it was found in.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Which of the reports.
    pub(crate) network: usize,
    /// The node.
    pub(crate) peer: PeerReport,
}

/// Anybody, this machine included, in the network of the report it was found in.
#[derive(Clone, Debug)]
pub(crate) struct Somebody {
    /// Which of the reports.
    pub(crate) network: usize,
    /// The node.
    pub(crate) member: MemberReport,
}

/// Finds the one node that `typed` names among all reports, this machine included.
///
/// # Errors
/// When none or several do, with the candidates.
pub(crate) fn anybody(typed: &str, reports: &[StatusReport]) -> Result<Somebody, Failure> {
    let own = reports.iter().enumerate().filter_map(|(network, report)| {
        let this = report.this.as_ref();
        let member = this.filter(|this| names(typed, this, report))?.clone();
        Some(Somebody { network, member })
    });
    let own: Vec<Somebody> = own.collect();
    let other = |network: usize, peer: PeerReport| Somebody {
        network,
        member: peer.member,
    };
    match (own.as_slice(), find(typed, reports)) {
        ([], found) => found.map(|found| other(found.network, found.peer)),
        // A peer of another network has the name, too: then it is not this machine that is unique.
        (_, Ok(found)) => {
            let candidates = [full_name(&found.peer.member, &reports[found.network])];
            let own = own
                .iter()
                .map(|own| full_name(&own.member, &reports[own.network]));
            Err(several(typed, candidates.into_iter().chain(own)))
        }
        ([only], Err(failure)) if failure.code == SELF => Ok(only.clone()),
        (several_own, Err(failure)) if failure.code == SELF => Err(several(
            typed,
            several_own
                .iter()
                .map(|own| full_name(&own.member, &reports[own.network])),
        )),
        (_, Err(failure)) => Err(failure),
    }
}

/// This machine in the network of a report.
///
/// # Errors
/// While a join has not told who it is.
pub(crate) fn this(report: &StatusReport) -> Result<Somebody, Failure> {
    let member = report.this.clone().ok_or_else(Failure::no_network)?;
    Ok(Somebody { network: 0, member })
}

/// That nothing comes from or goes to a blocked node.
pub(crate) fn blocked(member: &MemberReport) -> Failure {
    let text = format!("{} is blocked on this machine", member.name);
    Failure::new(Exit::Refused, "blocked", text).hint(format!("meshnode unblock {}", member.name))
}

/// Finds the one node that `typed` names among all reports.
///
/// # Errors
/// When none or several do (with the candidates), or it is this machine.
pub(crate) fn find(typed: &str, reports: &[StatusReport]) -> Result<Found, Failure> {
    let mut found = Vec::new();
    let mut itself = None;
    for (network, report) in reports.iter().enumerate() {
        itself = itself.or(report
            .this
            .as_ref()
            .filter(|this| names(typed, this, report)));
        for peer in report
            .peers
            .iter()
            .filter(|peer| names(typed, &peer.member, report))
        {
            let peer = peer.clone();
            found.push(Found { network, peer });
        }
    }
    match (found.len(), found.pop()) {
        (1, Some(only)) => Ok(only),
        (_, Some(last)) => {
            found.push(last);
            Err(ambiguous(typed, &found, reports))
        }
        (_, None) => match itself {
            Some(this) => Err(Failure::self_ping(this.name.as_str())),
            None => Err(unknown(typed, reports)),
        },
    }
}

/// The one node that `typed` names; this machine, too.
///
/// # Errors
/// When none or several do, with the candidates.
pub(crate) fn member(typed: &str, report: &StatusReport) -> Result<MemberReport, Failure> {
    match find(typed, std::slice::from_ref(report)) {
        Ok(found) => Ok(found.peer.member),
        Err(failure) => match &report.this {
            Some(this) if failure.code == "self_ping" => Ok(this.clone()),
            Some(_) | None => Err(failure),
        },
    }
}

fn names(typed: &str, member: &MemberReport, report: &StatusReport) -> bool {
    let lower = typed.to_ascii_lowercase();
    if let Ok(address) = lower.parse::<IpAddr>() {
        return match address {
            IpAddr::V4(address) => member.ipv4 == Some(address),
            IpAddr::V6(address) => member.ipv6 == address,
        };
    }
    let (name, network) = match lower.split_once('.') {
        Some((name, network)) => (name, Some(network)),
        None => (lower.as_str(), None),
    };
    let in_network = network.is_none_or(|wanted| {
        let own = report.network.as_ref().map(|network| network.name.as_str());
        own == Some(wanted) || report.local_name == wanted
    });
    let by_id = lower.len() >= ID_SYMBOLS_MIN && member.id.to_string().starts_with(&lower);
    (member.name.as_str() == name && in_network) || by_id
}

fn ambiguous(typed: &str, found: &[Found], reports: &[StatusReport]) -> Failure {
    let names = found.iter();
    several(
        typed,
        names.map(|found| full_name(&found.peer.member, &reports[found.network])),
    )
}

fn several(typed: &str, candidates: impl Iterator<Item = String>) -> Failure {
    let candidates: Vec<String> = candidates.take(CANDIDATES_MAX).collect();
    let text = format!("{} can be several nodes", output::clean(typed));
    Failure::new(Exit::Usage, "ambiguous_node", text)
        .hint(format!("name one of them: {}", candidates.join(", ")))
}

fn unknown(typed: &str, reports: &[StatusReport]) -> Failure {
    let peers = reports.iter().flat_map(|report| &report.peers);
    let mut near: Vec<(usize, &str)> = peers
        .map(|peer| peer.member.name.as_str())
        .map(|name| (distance(&typed.to_ascii_lowercase(), name), name))
        .collect();
    near.sort_unstable();
    let near: Vec<&str> = near.iter().take(3).map(|(_, name)| *name).collect();
    let text = format!("no node is called {}", output::clean(typed));
    let failure = Failure::new(Exit::Usage, "unknown_node", text);
    if near.is_empty() {
        failure.hint("meshnode status lists the nodes")
    } else {
        failure.hint(format!("did you mean {}?", near.join(", ")))
    }
}

fn full_name(member: &MemberReport, report: &StatusReport) -> String {
    let network = report.network.as_ref();
    let network = network.map_or(report.local_name.as_str(), |network| network.name.as_str());
    format!("{}.{network} ({})", member.name, member.id.short())
}

/// How many symbols must be changed, added or removed to make one text of the other; texts are cut at 64 symbols.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, symbol) in one.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, wanted) in other.iter().enumerate() {
            let changed = diagonal + usize::from(symbol != *wanted);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// The code of the failure that says that a node is this machine.
const SELF: &str = "self_ping";
/// Shorter begins of an id are taken for names.
const ID_SYMBOLS_MIN: usize = 6;
/// More candidates than these do not help.
const CANDIDATES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::status::tests::healthy;

    #[test]
    fn a_node_is_found_by_name_address_and_id() {
        let report = healthy();
        let vps = report.peers[1].member.clone();
        let id: String = vps.id.to_string().chars().take(8).collect();
        for typed in ["vps", "VPS", "vps.homelab", "vps.main", "100.83.0.9", &id] {
            let found = find(typed, std::slice::from_ref(&report)).unwrap();
            assert_eq!(found.peer.member.name, vps.name, "{typed}");
        }
    }

    #[test]
    fn an_unknown_node_gets_the_nearest_names() {
        let failure = find("vsp", &[healthy()]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.text, "no node is called vsp");
        assert_eq!(failure.hints, ["did you mean vps, laptop?"]);
        assert!(find("vps.other", &[healthy()]).is_err());
    }

    #[test]
    fn a_name_in_two_networks_lists_both() {
        let mut other = healthy();
        other.network = None;
        other.local_name = "work".to_owned();
        let failure = find("vps", &[healthy(), other]).unwrap_err();
        assert!(failure.hints[0].contains("vps.homelab") && failure.hints[0].contains("vps.work"));
    }

    #[test]
    fn this_machine_is_no_target() {
        let failure = find("nas", &[healthy()]).unwrap_err();
        assert_eq!(failure.text, "nas is this machine");
        let found = anybody("nas", &[healthy()]).unwrap();
        assert_eq!(found.member.name.as_str(), "nas");
        assert_eq!(
            anybody("vps", &[healthy()]).unwrap().member.name.as_str(),
            "vps"
        );
        assert!(anybody("vsp", &[healthy()]).is_err());
    }

    #[test]
    fn this_machine_in_two_networks_is_ambiguous_until_one_is_named() {
        let mut other = healthy();
        other.network = None;
        other.local_name = "work".to_owned();
        let both = [healthy(), other];
        let failure = anybody("nas", &both).unwrap_err();
        assert!(failure.hints[0].contains("nas.homelab") && failure.hints[0].contains("nas.work"));
        assert_eq!(anybody("nas.work", &both).unwrap().network, 1);
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("vps", "vps"), 0);
        assert_eq!(distance("laptp", "laptop"), 1);
        assert_eq!(distance("", "nas"), 3);
    }
}
