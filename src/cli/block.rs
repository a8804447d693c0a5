//! `meshnode block` and `unblock`: no traffic with a node, on this machine alone and at once.

use super::node;
use super::session::{Session, unexpected};
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json};

/// Have no traffic with a node, or with unblock have it again; on this machine only, at once
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode block old-pi
  meshnode unblock old-pi

Nothing is signed and nobody is told; it holds until unblock, also after a restart.
What the node knows of the network still comes here: only its traffic does not.")]
pub(crate) struct Args {
    /// A name, an address of the network, or 6 or more symbols of an id
    #[arg(value_name = "NODE")]
    node: String,
}

/// Blocks, or not.
pub(crate) fn run(args: &Args, blocked: bool, session: &Session) -> Result<Exit, Failure> {
    let (places, reports) = session.reports()?;
    let found = node::find(&args.node, &reports)?;
    let member = &found.peer.member;
    let request = Request::Block {
        node: member.id,
        blocked,
    };
    let response = session.client(&places[found.network])?.ask(&request)?;
    let Response::Blocked(changed) = response else {
        return Err(unexpected());
    };
    if session.style.json {
        output::data(&json::blocked(member, blocked, changed))?;
    }
    let name = &member.name;
    let text = match (blocked, changed) {
        (true, true) => format!("{name} is blocked: this machine has no traffic with it.\n"),
        (true, false) => format!("{name} was blocked already.\n"),
        (false, true) => format!("{name} is not blocked any more.\n"),
        (false, false) => format!("{name} was not blocked.\n"),
    };
    output::talk(session.style, &text);
    Ok(Exit::Done)
}
