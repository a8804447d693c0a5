//! `meshnode netcheck`: what the network around this machine is like.

use std::thread;
use std::time::Duration;

use super::session::{Session, unexpected};
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json, netcheck};
use crate::units;

/// Show what the network around this machine allows, and who was asked
///
/// What members and relays see of this machine anyway is put together here; nobody else is asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode netcheck
  meshnode netcheck --every 10s
  meshnode netcheck --json | jq .verdict")]
pub(crate) struct Args {
    /// Show it again, so often, until interrupted
    #[arg(long, value_name = "DUR", value_parser = units::parse_duration)]
    every: Option<Duration>,
}

/// What is shown changes no faster.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// Shows it.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    if args.every.is_some_and(|pause| pause < EVERY_MIN) {
        return Err(Failure::usage("--every needs at least 1s"));
    }
    let place = session.place()?;
    loop {
        let response = session.client(&place)?.ask(&Request::Netcheck)?;
        let Response::Netcheck(report) = response else {
            return Err(unexpected());
        };
        output::data(&if session.style.json {
            json::netcheck(&report)
        } else {
            netcheck::screen(&report, session.style)
        })?;
        let Some(pause) = args.every else {
            return Ok(Exit::Done);
        };
        if !session.style.json {
            output::data("\n")?;
        }
        thread::sleep(pause);
    }
}
