//! `meshnode ping`: probes of a peer over the overlay, without root.

use std::time::Duration;

use super::node;
use super::session::{Session, unexpected};
use crate::control::report::{MemberReport, NodeState, PeerReport, StatusReport};
use crate::control::{PingRequest, Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json, ping, why};
use crate::units;

/// Probe a node over the network and say by which path it answers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode ping nas
  meshnode ping nas -c 1 --json
  meshnode ping nas --why
  meshnode ping 100.90.17.33 -i 200ms")]
pub(crate) struct Args {
    /// A name, an address of the network, or 6 or more symbols of an id
    #[arg(value_name = "NODE")]
    node: String,
    /// How many probes
    #[arg(short = 'c', long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// How long between two
    #[arg(short = 'i', long, value_name = "DUR", default_value = "1s")]
    #[arg(value_parser = units::parse_duration)]
    interval: Duration,
    /// Say what was tried to find a direct path, and what would help
    #[arg(long)]
    why: bool,
}

/// Probes.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    if args.interval < INTERVAL_MIN {
        return Err(Failure::usage("-i needs at least 10ms"));
    }
    let (alive, reports) = session.reports()?;
    if reports.iter().all(|report| report.state == NodeState::Down) {
        return Err(Failure::down());
    }
    let found = node::find(&args.node, &reports)?;
    if found.peer.blocked {
        return Err(node::blocked(&found.peer.member));
    }
    let request = Request::Ping(PingRequest {
        node: found.peer.member.id,
        count: args.count,
        interval_ms: u64::try_from(args.interval.as_millis()).unwrap_or(u64::MAX),
        timeout_ms: ANSWER_MS_MAX,
    });
    let responses = session.client(&alive[found.network])?.send(&request)?;
    let rtts_us = follow(responses, &found.peer.member, session)?;
    let place = &alive[found.network];
    let why = args
        .why
        .then(|| way_to(found.peer.member.id, place, session));
    let (why, limits) = match why.transpose()? {
        Some((peer, limits)) => (peer, limits),
        None => (None, String::new()),
    };
    output::data(&if session.style.json {
        json::ping_summary(args.count, &rtts_us, why.as_ref())
    } else {
        let summary = ping::summary(args.count, &rtts_us);
        format!(
            "{summary}{}",
            why.as_ref().map(why::screen).unwrap_or_default() + &limits
        )
    })?;
    if rtts_us.is_empty() {
        return Err(silent(&found.peer.member, &reports[found.network]));
    }
    Ok(Exit::Done)
}

/// The node as it is reached after the probes, and what relays say of the way there.
fn way_to(
    node: meshnode_protocol::id::NodeId,
    place: &crate::config::place::Place,
    session: &Session,
) -> Result<(Option<PeerReport>, String), Failure> {
    let report = session.report(place)?;
    let mut peers = report.peers.into_iter();
    let peer = peers.find(|peer| peer.member.id == node);
    let limits = peer.iter().flat_map(|peer| {
        let name = peer.member.name.as_str();
        let mut warnings = report.warnings.iter();
        warnings.find(|w| w.code == "relay_budget" && w.subject.as_deref() == Some(name))
    });
    let limits = limits.map(|limit| format!("Relay: {}.\n", output::clean(&limit.text)));
    let limits = limits.collect();
    Ok((peer, limits))
}

fn follow(
    mut responses: crate::control::client::Responses,
    member: &MemberReport,
    session: &Session,
) -> Result<Vec<u64>, Failure> {
    let (name, address) = (member.name.as_str(), member.address());
    let json = session.style.json;
    let mut rtts_us = Vec::new();
    loop {
        match responses.next_response()? {
            Response::Pong { seq, rtt_us, path } => {
                rtts_us.push(rtt_us);
                output::data(&if json {
                    json::probe(seq, Some((rtt_us, &path)))
                } else {
                    ping::answer(name, &address, rtt_us, &path)
                })?;
            }
            Response::Silence { seq } => output::data(&if json {
                json::probe(seq, None)
            } else {
                ping::silence(name, &address)
            })?,
            Response::Done => return Ok(rtts_us),
            Response::Progress(_)
            | Response::Status(_)
            | Response::Inited(_)
            | Response::Invited(_)
            | Response::Joined(_)
            | Response::AlreadyJoined(_)
            | Response::Left { .. }
            | Response::Exported { .. }
            | Response::Imported(_)
            | Response::Log { .. }
            | Response::Acted(_)
            | Response::Heard(_)
            | Response::HeardDone(_)
            | Response::Pending(_)
            | Response::Invites(_)
            | Response::Admins(_)
            | Response::Petition(_)
            | Response::Recovery(_)
            | Response::Phrases(_)
            | Response::PhraseChecked { .. }
            | Response::Rotated { .. }
            | Response::Settings(_)
            | Response::Card(_)
            | Response::Netcheck(_)
            | Response::Blocked(_)
            | Response::RelayChanged(_)
            | Response::Carried(_)
            | Response::Relays(_)
            | Response::Logged(_)
            | Response::Policy(_)
            | Response::Failed(_) => return Err(unexpected()),
        }
    }
}

/// That nobody answered, and whether it is only this node.
fn silent(member: &MemberReport, report: &StatusReport) -> Failure {
    let peer = report.peers.iter().find(|peer| peer.member.id == member.id);
    let seen = match peer {
        Some(peer) if peer.online => String::new(),
        Some(peer) => match peer.last_seen_s {
            Some(seconds) => format!(": last seen {} ago", units::span_s(seconds)),
            None => ": not seen since start".to_owned(),
        },
        None => String::new(),
    };
    let text = format!("{} does not answer{seen}", member.name);
    let others: Vec<&str> = report
        .peers
        .iter()
        .filter(|peer| peer.online && peer.member.id != member.id)
        .map(|peer| peer.member.name.as_str())
        .take(3)
        .collect();
    let hint = match others.as_slice() {
        [] => "is it on? No other node answers either: meshnode status".to_owned(),
        [one] => format!("is it on? Nothing here is wrong: {one} answers"),
        some => format!(
            "is it on? Nothing here is wrong: {} answer",
            some.join(" and ")
        ),
    };
    Failure::new(Exit::TimedOut, "no_answer", text).hint(hint)
}

/// Probes travel at most once every so often.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// How long to wait for each answer; round trips on earth are below a second.
const ANSWER_MS_MAX: u64 = 3_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::status::tests::healthy;

    #[test]
    fn silence_says_when_it_was_seen_and_who_else_answers() {
        let mut report = healthy();
        report.peers[1].online = false;
        report.peers[1].last_seen_s = Some(6 * 3_600);
        let member = report.peers[1].member.clone();
        let failure = silent(&member, &report);
        assert_eq!(failure.exit, Exit::TimedOut);
        assert_eq!(failure.text, "vps does not answer: last seen 6 h ago");
        assert_eq!(
            failure.hints,
            ["is it on? Nothing here is wrong: laptop answers"]
        );
    }
}
