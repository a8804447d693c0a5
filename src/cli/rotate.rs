//! `meshnode rotate`: new keys.

use super::act::{self, Flags};
use super::session::{Session, unexpected};
use crate::control::acts::Act;
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json};

/// Take new keys: this node's tunnel key, or with --network the key that all share
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode rotate
  meshnode rotate --network-key

Identity, name and addresses stay; traffic pauses for a moment. After a revocation the network's key changes by itself.")]
pub(crate) struct Args {
    /// The transport key, too; used from the daemon's next start on
    #[arg(long, conflicts_with = "network_key")]
    transport: bool,
    /// The key that all nodes share
    #[arg(long = "network-key")]
    network_key: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Rotates.
pub(crate) fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    if args.network_key {
        let head = |acted: &crate::control::acts::Acted| match acted.plan.epoch {
            Some((before, after)) if acted.dry_run => {
                format!("The network key would change (epoch {before} to {after}).\n")
            }
            Some((before, after)) => {
                format!("Network key changed (epoch {before} to {after}).\n")
            }
            None => "The network key is as it was.\n".to_owned(),
        };
        return act::plain(args.flags.carry(Act::RotateNetwork, session, head)?);
    }
    if args.flags.is_dry() {
        output::talk(session.style, "This node would take a new tunnel key.\n");
        return Ok(Exit::Done);
    }
    let place = session.place()?;
    let request = Request::Rotate {
        transport: args.transport,
    };
    let Response::Rotated { restart } = session.client(&place)?.ask(&request)? else {
        return Err(unexpected());
    };
    if session.style.json {
        output::data(&json::rotated(restart))?;
    }
    let later = if restart {
        " The new transport key is used from the daemon's next start on."
    } else {
        ""
    };
    let text = format!("This node has a new tunnel key.{later}\n");
    output::talk(session.style, &text);
    Ok(Exit::Done)
}
