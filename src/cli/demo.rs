//! `meshnode demo`: a network comes to life on this machine, in namespaces that vanish.

use crate::demo::{self, Options};
use crate::failure::{Exit, Failure};

/// Show a network on this machine: four machines, two NAT routers, real tunnels, nothing left behind
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode demo
  meshnode demo --keep          leaves it running to look around, until Ctrl-C")]
pub(crate) struct Args {
    /// Leave it running at the end and say how to enter each machine
    #[arg(long)]
    keep: bool,
    /// No pauses for reading along
    #[arg(long)]
    fast: bool,
}

/// Gives the demo.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let options = Options {
        keep: args.keep,
        fast: args.fast,
    };
    match demo::run(options) {
        Ok(0) => Ok(Exit::Done),
        Ok(130) => Ok(Exit::Interrupted),
        Ok(_) => Err(Failure::new(
            Exit::Refused,
            "demo",
            "the demo did not come to its end as it should",
        )),
        Err(error) => {
            let failure = Failure::new(Exit::Refused, "demo", error.to_string());
            Err(error.hints().into_iter().fold(failure, Failure::hint))
        }
    }
}
