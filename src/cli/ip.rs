//! `meshnode ip`: addresses of the overlay, one a line.

use std::net::IpAddr;

use super::node;
use super::session::Session;
use crate::control::report::MemberReport;
use crate::failure::{Exit, Failure};
use crate::output::{self, json};

/// Print the addresses of this node, or of another, one a line
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode ip
  meshnode ip nas -4
  meshnode ip --assert 100.71.4.2 || echo 'not this machine'")]
pub(crate) struct Args {
    /// A name, an address of the network, or 6 or more symbols of an id; this node when not given
    #[arg(value_name = "NODE")]
    node: Option<String>,
    /// The IPv4 address only
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// The IPv6 address only
    #[arg(short = '6')]
    ipv6: bool,
    /// Print nothing; exit 1 unless this is one of the addresses
    #[arg(long, value_name = "ADDR")]
    assert: Option<IpAddr>,
}

/// Prints them.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let member = match &args.node {
        Some(typed) => {
            let (_, reports) = session.reports()?;
            node::anybody(typed, &reports)?.member
        }
        None => {
            let report = session.report(&session.place()?)?;
            report.this.ok_or_else(Failure::no_network)?
        }
    };
    let found = addresses(&member, args);
    if let Some(wanted) = args.assert {
        if found.contains(&wanted) {
            return Ok(Exit::Done);
        }
        let text = format!("{wanted} is no address of {}", member.name);
        return Err(Failure::new(Exit::Refused, "other_address", text)
            .hint(format!("meshnode ip {}", member.name)));
    }
    if found.is_empty() {
        let text = format!("{} has no IPv4 address", member.name);
        return Err(Failure::new(Exit::Refused, "no_address", text)
            .hint(format!("meshnode ip {} -6", member.name)));
    }
    let lines: String = found.iter().map(|address| format!("{address}\n")).collect();
    output::data(&if session.style.json {
        json::addresses(&member, &found)
    } else {
        lines
    })?;
    Ok(Exit::Done)
}

fn addresses(member: &MemberReport, args: &Args) -> Vec<IpAddr> {
    let v4 = member.ipv4.filter(|_| !args.ipv6).map(IpAddr::V4);
    let v6 = (!args.ipv4).then_some(IpAddr::V6(member.ipv6));
    v4.into_iter().chain(v6).collect()
}
