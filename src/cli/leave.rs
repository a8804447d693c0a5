//! `meshnode leave`: out of a network, for ever.

use std::time::Duration;

use super::session::{Session, unexpected};
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json};
use crate::units;

/// Leave the network for ever and destroy this node's keys
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo meshnode leave
  sudo meshnode leave --yes --wait 0

It says goodbye to the others and removes device and addresses.
The only admin stays, unless --yes.")]
pub(crate) struct Args {
    /// How long to wait for another node to hear it
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = units::parse_duration)]
    wait: Duration,
}

/// Leaves.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let place = session.place()?;
    let report = session.report(&place)?;
    let name = report
        .network
        .map_or(place.local_name.clone(), |network| network.name.to_string());
    let cut = super::down::cuts_session(report.this.as_ref());
    session.confirm(&format!("Leave {name} for ever?{cut}"))?;
    let request = Request::Leave {
        force: session.yes,
        wait_ms: u64::try_from(args.wait.as_millis()).unwrap_or(u64::MAX),
    };
    let response = session.client(&place)?.ask(&request)?;
    let Response::Left { heard, of } = response else {
        return Err(unexpected());
    };
    if session.style.json {
        output::data(&json::left(heard, of))?;
    }
    let heard = if of > 0 {
        format!(" Heard by {heard} of {of}.")
    } else {
        String::new()
    };
    let text = format!("Left {name}. This node's keys are destroyed.{heard}\n");
    output::talk(session.style, &text);
    Ok(Exit::Done)
}
