//! `meshnode network`: the networks of this machine.

use super::session::Session;
use crate::failure::{Exit, Failure};
use crate::output::{self, networks};

/// List the networks of this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode network
  meshnode network list --json
  sudo meshnode -n work join      a further network, called work here")]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    /// List them, as network alone does
    List,
}

/// Lists them.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    match args.act {
        None | Some(Act::List) => {}
    }
    let all = session.places()?.into_iter();
    let all = all.map(|place| networks::Listed {
        report: session.report(&place),
        place,
    });
    // A folder without a network, and without a daemon that could tell of one, is no network.
    let empty = |listed: &networks::Listed| {
        let failure = listed.report.as_ref().err();
        failure.is_some_and(|failure| failure.exit == Exit::NoNetwork)
    };
    let all: Vec<_> = all.filter(|listed| !empty(listed)).collect();
    if all.is_empty() {
        return Err(Failure::no_network());
    }
    output::data(&networks::list(&all, session.style))?;
    Ok(Exit::Done)
}
