//! `meshnode wait`: until the network is up here, or until a node answers.

use std::net::UdpSocket;
use std::time::Duration;

use super::node;
use super::session::Session;
use crate::clock::Clock;
use crate::control::report::{NodeState, StatusReport};
use crate::control::{PingRequest, Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json};
use crate::units;

/// Wait until this node's addresses are there, or until another node answers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode wait && systemctl start nfs-server
  meshnode wait nas --timeout 5min && mount nas:/data")]
pub(crate) struct Args {
    /// A name, an address of the network, or 6 or more symbols of an id
    #[arg(value_name = "NODE")]
    node: Option<String>,
    /// How long to wait
    #[arg(long, value_name = "DUR", default_value = "60s", value_parser = units::parse_duration)]
    timeout: Duration,
}

/// How a look ended.
enum Look {
    There,
    /// Not yet, and what is missing.
    NotYet(String),
}

/// Waits.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let clock = Clock::new();
    let started_ms = clock.now().uptime_ms();
    let limit_ms = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX);
    loop {
        let passed_ms = clock.now().uptime_ms().saturating_sub(started_ms);
        let left_ms = limit_ms.saturating_sub(passed_ms);
        let looked = match &args.node {
            Some(typed) => look_for(typed, left_ms, session)?,
            None => look_here(session)?,
        };
        let missing = match looked {
            Look::There => break,
            Look::NotYet(missing) => missing,
        };
        if left_ms == 0 {
            let text = format!("{missing} after {}", units::span_s(limit_ms / 1_000));
            return Err(Failure::new(Exit::TimedOut, "timed_out", text).hint("meshnode status"));
        }
        std::thread::sleep(POLL.min(Duration::from_millis(left_ms)));
    }
    if session.style.json {
        let waited_ms = clock.now().uptime_ms().saturating_sub(started_ms);
        output::data(&json::waited(args.node.as_deref(), waited_ms))?;
    }
    Ok(Exit::Done)
}

/// Whether the one network's addresses are there.
fn look_here(session: &Session) -> Result<Look, Failure> {
    let report = match session.place().and_then(|place| session.report(&place)) {
        Ok(report) => report,
        Err(failure) => return not_yet(failure),
    };
    Ok(if has_addresses(&report) {
        Look::There
    } else {
        Look::NotYet(format!("{} is not up", report.local_name))
    })
}

fn has_addresses(report: &StatusReport) -> bool {
    let up = matches!(report.state, NodeState::Running | NodeState::Isolated);
    let Some(this) = report.this.as_ref().filter(|_| up) else {
        return false;
    };
    // An address that another network of this machine keeps, or a kernel without IPv6, is waited for in vain.
    let v4 = this.ipv4.is_some_and(|ip| UdpSocket::bind((ip, 0)).is_ok());
    v4 || UdpSocket::bind((this.ipv6, 0)).is_ok()
}

/// Whether a node answers one probe.
fn look_for(typed: &str, left_ms: u64, session: &Session) -> Result<Look, Failure> {
    let (places, reports) = match session.reports() {
        Ok(found) => found,
        Err(failure) => return not_yet(failure),
    };
    let found = match node::find(typed, &reports) {
        Ok(found) => found,
        // Who it is can be told when the network is known.
        Err(failure) if reports.iter().all(|report| report.this.is_some()) => return Err(failure),
        Err(failure) => return Ok(Look::NotYet(failure.text)),
    };
    let missing = || Look::NotYet(format!("{} does not answer", found.peer.member.name));
    let report = &reports[found.network];
    if found.peer.blocked {
        return Err(node::blocked(&found.peer.member));
    }
    if report.state == NodeState::Down {
        return Ok(missing());
    }
    let request = Request::Ping(PingRequest {
        node: found.peer.member.id,
        count: 1,
        interval_ms: 1,
        timeout_ms: ANSWER_MS_MAX.min(left_ms),
    });
    let mut responses = match session.client(&places[found.network]) {
        Ok(client) => client.send(&request)?,
        Err(failure) => return not_yet(failure),
    };
    match responses.next_response() {
        Ok(Response::Pong { .. }) => Ok(Look::There),
        Ok(_) => Ok(missing()),
        Err(failure) => not_yet(failure),
    }
}

/// A daemon that does not run may be about to; everything else does not become better by waiting.
fn not_yet(failure: Failure) -> Result<Look, Failure> {
    match failure.exit {
        Exit::NoDaemon | Exit::Refused => Ok(Look::NotYet(failure.text)),
        Exit::Done
        | Exit::Usage
        | Exit::Bug
        | Exit::NoNetwork
        | Exit::Denied
        | Exit::TimedOut
        | Exit::Invite
        | Exit::Interrupted => Err(failure),
    }
}

const POLL: Duration = Duration::from_millis(200);
/// How long one probe is waited for before the next.
const ANSWER_MS_MAX: u64 = 1_000;
