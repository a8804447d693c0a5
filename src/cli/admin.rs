//! `meshnode admin`: who signs for the network.

use clap::Subcommand;

use super::act::{self, Flags};
use super::node;
use super::session::{Session, unexpected};
use crate::control::acts::Act;
use crate::control::report::MemberReport;
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json, people, signed};

/// Who signs for the network: list, add, remove
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode admin
  meshnode admin add laptop
  meshnode admin remove laptop

A new admin is junior to all others; a lower level is more senior.")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Who signs for the network, most senior first
    List,
    /// Make a member an admin
    Add {
        /// Which node
        #[arg(value_name = "NODE")]
        node: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Make an admin a plain member
    Remove {
        /// Which node
        #[arg(value_name = "NODE")]
        node: String,
        #[command(flatten)]
        flags: Flags,
    },
}

/// Lists, adds or removes.
pub(crate) fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.verb {
        None | Some(Verb::List) => list(session),
        Some(Verb::Add { node, flags }) => {
            let member = find(&node, session)?;
            let head = |acted: &crate::control::acts::Acted| {
                let would = if acted.dry_run { "would be" } else { "is" };
                format!(
                    "{} {would} an admin.\n{}",
                    member.name,
                    signed::consequences(&acted.plan)
                )
            };
            act::plain(flags.carry(Act::AdminAdd(member.id), session, head)?)
        }
        Some(Verb::Remove { node, flags }) => {
            let member = find(&node, session)?;
            if !flags.is_dry() {
                session.confirm(&format!("{} will be a plain member. Go on?", member.name))?;
            }
            let head = |acted: &crate::control::acts::Acted| {
                let would = if acted.dry_run { "would be" } else { "is" };
                format!(
                    "{} {would} a plain member.\n{}",
                    member.name,
                    signed::consequences(&acted.plan)
                )
            };
            act::plain(flags.carry(Act::AdminRemove(member.id), session, head)?)
        }
    }
}

fn list(session: &Session) -> Result<Exit, Failure> {
    let place = session.place()?;
    let Response::Admins(admins) = session.client(&place)?.ask(&Request::Admins)? else {
        return Err(unexpected());
    };
    output::data(&if session.style.json {
        json::admins(&admins)
    } else {
        people::admins(&admins, session.style)
    })?;
    Ok(Exit::Done)
}

fn find(typed: &str, session: &Session) -> Result<MemberReport, Failure> {
    let place = session.place()?;
    let report = session.report(&place)?;
    Ok(node::find(typed, std::slice::from_ref(&report))?
        .peer
        .member)
}
