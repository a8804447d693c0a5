//! `meshnode whois`: the card of a node, and who let it in.

use super::node;
use super::session::{Session, unexpected};
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, card, json};

/// Show who a node is, and who let it in
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode whois nas
  meshnode whois 100.88.1.9:22
  meshnode whoami")]
pub(crate) struct Args {
    /// A name, an address of the network, or 6 or more symbols of an id; this node when not given
    #[arg(value_name = "NODE|ADDR[:PORT]")]
    node: Option<String>,
}

/// Shows it.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let (places, reports) = match &args.node {
        Some(_) => session.reports()?,
        None => {
            let place = session.place()?;
            let report = session.report(&place)?;
            (vec![place], vec![report])
        }
    };
    let found = match &args.node {
        Some(typed) => node::anybody(without_port(typed), &reports)?,
        None => node::this(&reports[0])?,
    };
    let request = Request::Whois(found.member.id);
    let response = session.client(&places[found.network])?.ask(&request)?;
    let Response::Card(told) = response else {
        return Err(unexpected());
    };
    let report = &reports[found.network];
    let peer = report.peers.iter().find(|peer| peer.member.id == told.id);
    output::data(&if session.style.json {
        json::card(&found.member, peer, &told)
    } else {
        card::screen(&found.member, peer, &told, session.style)
    })?;
    Ok(Exit::Done)
}

/// What stands before a port: `100.88.1.9:22`, `nas:22`, `[fd7c::1]:22`. A bare IPv6 address has no port.
fn without_port(typed: &str) -> &str {
    if let Some(rest) = typed.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match typed.split_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        Some(_) | None => typed,
    }
}

#[cfg(test)]
mod tests {
    use super::without_port;

    #[test]
    fn a_port_is_no_part_of_a_node() {
        for (typed, node) in [
            ("nas", "nas"),
            ("nas:22", "nas"),
            ("100.88.1.9:22", "100.88.1.9"),
            ("[fd7c::1]:22", "fd7c::1"),
            ("fd7c::1", "fd7c::1"),
            (
                "fd7c:4e1a:90b2:1f03:88d1:6c2e:5a7:22",
                "fd7c:4e1a:90b2:1f03:88d1:6c2e:5a7:22",
            ),
        ] {
            assert_eq!(without_port(typed), node);
        }
    }
}
