//! Whether a policy would cut the session that it is typed in.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use meshnode_protocol::access::number;
use meshnode_protocol::body::Ipv4Range;
use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::policy::{Directory, Listing, Question, Reach, Verdict, read};

use crate::config::environment;
use crate::control::report::{MemberReport, StandingReport, StatusReport};

/// Parents of this process that are asked for their session: `sudo` hides it from its children.
const PARENTS_MAX: usize = 16;

/// A session over the network: from whom, to which port of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Visit {
    from: IpAddr,
    at: IpAddr,
    port: u16,
}

/// Who sits at the other end of this session, if the text would cut it, or if that cannot be told.
pub(super) fn cut_off(text: &str, report: &StatusReport) -> Option<MemberReport> {
    cut(visit()?, text, report)
}

fn cut(visit: Visit, text: &str, report: &StatusReport) -> Option<MemberReport> {
    let has = |member: &MemberReport, address: IpAddr| match address {
        IpAddr::V4(address) => member.ipv4 == Some(address),
        IpAddr::V6(address) => member.ipv6 == address,
    };
    let this = report.this.as_ref().filter(|this| has(this, visit.at))?;
    let peers = report.peers.iter().map(|peer| &peer.member);
    let visitor = peers.clone().find(|peer| has(peer, visit.from))?;
    let allowed = directory(report)
        .and_then(|directory| {
            let policy = read(text, &directory).ok()?.policy;
            Some(Reach::compile(&policy, &directory))
        })
        .is_some_and(|reach| passes(&reach, visitor.id, this.id, visit.port));
    (!allowed).then(|| visitor.clone())
}

fn passes(reach: &Reach, src: NodeId, dst: NodeId, port: u16) -> bool {
    let question = Question {
        src,
        dst,
        protocol: number::TCP,
        port: Some(port),
    };
    match reach.explain(question).verdict {
        Verdict::Allowed { .. } => true,
        Verdict::Denied { .. } | Verdict::Unknown(_) => false,
    }
}

/// The nodes of the report. Its network's id stands for the genesis, of which it is a part: a text that names IPv6
/// prefixes cannot be read with it.
fn directory(report: &StatusReport) -> Option<Directory> {
    let (base, prefix) = report.network.as_ref()?.ipv4_range.split_once('/')?;
    let range = Ipv4Range::new(base.parse().ok()?, prefix.parse().ok()?).ok()?;
    let members = report.peers.iter().map(|peer| &peer.member);
    let members = members
        .chain(&report.this)
        .filter(|member| match member.standing {
            StandingReport::Settled | StandingReport::Provisional => true,
            StandingReport::Pending | StandingReport::Quarantined => false,
        });
    let listings = members.map(|member| Listing {
        id: member.id,
        name: member.name.clone(),
        owner: member.owner.clone(),
        tags: member.tags.iter().cloned().collect::<BTreeSet<_>>(),
        admin: member.is_admin(),
        ipv4: member.ipv4,
        ipv6: member.ipv6,
    });
    Some(Directory::new(&OpId::ZERO, range, listings))
}

/// The session of this process, or of the nearest parent that knows of one.
fn visit() -> Option<Visit> {
    if let Some(text) = environment::text(SESSION) {
        return parse(&text);
    }
    let mut process = std::process::id();
    for _ in 0..PARENTS_MAX {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let texts = environment.split(|byte| *byte == 0);
        let mut texts = texts.filter_map(|text| std::str::from_utf8(text).ok());
        let session = texts.find_map(|text| text.strip_prefix(SESSION)?.strip_prefix('='));
        if let Some(text) = session {
            return parse(text);
        }
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name of a program stands in parentheses, and may hold some.
        let (_, rest) = stat.rsplit_once(')')?;
        process = rest.split_whitespace().nth(1)?.parse().ok()?;
    }
    None
}

const SESSION: &str = "SSH_CONNECTION";

/// Client address and port, server address and port.
fn parse(text: &str) -> Option<Visit> {
    let mut words = text.split_whitespace();
    let from = words.next()?.parse().ok()?;
    let _client_port = words.next()?;
    let at = words.next()?.parse().ok()?;
    let port = words.next()?.parse().ok()?;
    Some(Visit { from, at, port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::status::tests::healthy;

    fn visit_of(report: &StatusReport) -> Visit {
        let at = report.this.as_ref().unwrap().ipv4.unwrap();
        let from = report.peers[0].member.ipv4.unwrap();
        parse(&format!("{from} 50022 {at} 22")).unwrap()
    }

    fn text(src: &str, port: u16) -> String {
        format!(
            "{{\"grants\": [{{\"src\": [\"{src}\"], \"dst\": [\"*\"], \"ip\": [\"tcp:{port}\"]}}]}}"
        )
    }

    #[test]
    fn a_policy_that_denies_the_visitor_its_port_cuts_the_session() {
        let report = healthy();
        let visit = visit_of(&report);
        let visitor = &report.peers[0].member;
        assert_eq!(cut(visit, &text(visitor.name.as_str(), 22), &report), None);
        for cutting in [
            text(visitor.name.as_str(), 80),
            "{}".to_owned(),
            "{".to_owned(),
        ] {
            assert_eq!(
                cut(visit, &cutting, &report).as_ref(),
                Some(visitor),
                "{cutting}"
            );
        }
    }

    #[test]
    fn a_session_from_outside_the_network_is_not_cut() {
        let report = healthy();
        let from = "192.0.2.1".parse().unwrap();
        let visit = Visit {
            from,
            ..visit_of(&report)
        };
        assert_eq!(cut(visit, "{}", &report), None);
    }
}
