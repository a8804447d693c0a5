//! `meshnode up`: the daemon runs and the addresses answer.

use std::time::Duration;

use super::launch;
use super::session::{Session, unexpected};
use crate::config::state_dir;
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json, status};
use crate::units;

/// Start the daemon if it does not run, and bring device and addresses up
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo meshnode up
  meshnode up --timeout 30s")]
pub(crate) struct Args {
    /// How long to wait for the addresses
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = units::parse_duration)]
    timeout: Duration,
}

/// Brings the network up.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let place = session.place()?;
    if !state_dir::holds_network(&place.state_dir) && !place.socket.exists() {
        return Err(Failure::no_network());
    }
    launch::ensure(&place, session)?;
    let timeout_ms = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX);
    match session.client(&place)?.ask(&Request::Up { timeout_ms })? {
        Response::Done => {}
        other => return Err(unexpected(&other)),
    }
    if session.style.json {
        output::data(&json::done("up"))?;
    } else if let Ok(report) = session.report(&place) {
        output::talk(session.style, &format!("{}\n", status::state_line(&report)));
    }
    Ok(Exit::Done)
}
