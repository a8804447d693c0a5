//! `meshnode down`: no device and no addresses, until `up`.

use std::net::IpAddr;
use std::time::Duration;

use super::session::{Session, unexpected};
use crate::config::environment;
use crate::control::report::MemberReport;
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json};
use crate::units;

/// Remove device and addresses; survives a restart, undone by up
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode down
  meshnode down --for 2h        comes back by itself")]
pub(crate) struct Args {
    /// How long; until up when not given
    #[arg(long = "for", value_name = "DUR", value_parser = units::parse_duration)]
    span: Option<Duration>,
}

/// Takes the network down.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    if args.span.is_some_and(|span| span.as_secs() == 0) {
        return Err(Failure::usage("--for needs at least 1s"));
    }
    let place = session.place()?;
    let report = session.report(&place)?;
    let cut = cuts_session(report.this.as_ref());
    if !cut.is_empty() {
        session.confirm(&format!("Take {} down?{cut}", place.local_name))?;
    }
    let for_s = args.span.map(|span| span.as_secs());
    match session.client(&place)?.ask(&Request::Down { for_s })? {
        Response::Done => {}
        other => return Err(unexpected(&other)),
    }
    if session.style.json {
        output::data(&json::done("down"))?;
    }
    let name = report
        .network
        .map_or(place.local_name, |network| network.name.to_string());
    let until = match for_s {
        Some(seconds) => format!("comes back in {}", units::span_s(seconds)),
        None => "until meshnode up, also after a restart".to_owned(),
    };
    output::talk(session.style, &format!("{name} is down: {until}.\n"));
    Ok(Exit::Done)
}

/// The words for a remote session that runs over this node's own addresses; empty when it does not.
pub(crate) fn cuts_session(this: Option<&MemberReport>) -> String {
    let session = environment::text("SSH_CONNECTION").unwrap_or_default();
    let cut = this.is_some_and(|this| runs_over(&session, this));
    let words = if cut {
        " It cuts the session this is typed in."
    } else {
        ""
    };
    words.to_owned()
}

/// Whether an `SSH_CONNECTION` (client, port, server, port) arrives at one of this node's addresses.
fn runs_over(session: &str, this: &MemberReport) -> bool {
    let server = session.split_whitespace().nth(2);
    let server = server.and_then(|text| text.parse::<IpAddr>().ok());
    match server {
        Some(IpAddr::V4(address)) => this.ipv4 == Some(address),
        Some(IpAddr::V6(address)) => this.ipv6 == address,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::status::tests::member;

    #[test]
    fn a_session_over_an_overlay_address_is_recognised() {
        let this = member("nas", "100.71.4.2", 1);
        assert!(runs_over("100.90.17.33 50000 100.71.4.2 22", &this));
        assert!(!runs_over("192.168.1.2 50000 192.168.1.4 22", &this));
        assert!(!runs_over("", &this));
    }
}
