//! `meshnode revoke`: put nodes out.

use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::limits::REASON_BYTES_MAX;
use meshnode_protocol::name::Owner;

use super::act::{self, Flags};
use super::session::Session;
use super::{node, phrase};
use crate::clock::Clock;
use crate::control::acts::{Act, Revoke, Since};
use crate::control::report::StatusReport;
use crate::failure::{Exit, Failure};
use crate::output::signed;
use crate::units;

/// Put nodes out of the network: they lose their traffic within seconds
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode revoke old-pi --reason sold
  meshnode revoke --owner carol --watch
  meshnode revoke alice-laptop --stolen --since \"2026-11-17 08:00\"

What a revoked node signed before stays, what it signs from now on counts for nothing, whatever
date it claims. --dry-run shows what would fall with an admin.")]
pub(crate) struct Args {
    /// Which nodes: name, address or begin of an id
    #[arg(value_name = "NODE", required_unless_present = "owner")]
    nodes: Vec<String>,
    /// All nodes of this owner
    #[arg(long, value_name = "OWNER", value_parser = Owner::parse)]
    owner: Option<Owner>,
    /// Why, for the others to read
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// What they signed from this time or op on falls, too
    #[arg(long, value_name = "TIME|OP", value_parser = parse_since)]
    since: Option<Since>,
    /// Somebody else has the keys: not even what they revoked stays revoked
    #[arg(long)]
    stolen: bool,
    /// Act with the recovery phrase, typed here or on stdin
    #[arg(long)]
    recovery: bool,
    /// Stay until all nodes have heard it
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Revokes.
pub(crate) fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    if args.reason.len() > REASON_BYTES_MAX {
        let text = format!("a reason has at most {REASON_BYTES_MAX} bytes");
        return Err(Failure::usage(text));
    }
    let place = session.place()?;
    let report = session.report(&place)?;
    let nodes = targets(&args.nodes, &report)?;
    let dry = args.flags.is_dry();
    if let (Some(question), false) = (question(&args, &nodes, &report), dry) {
        session.confirm(&question)?;
    }
    let phrases = if args.recovery {
        phrase::ask()?
    } else {
        Vec::new()
    };
    let act = Act::Revoke(Revoke {
        nodes,
        owner: args.owner,
        reason: args.reason,
        since: args.since,
        stolen: args.stolen,
        phrases,
    });
    let flags = args.flags.watching(args.watch && !dry);
    act::plain(flags.carry(act, session, signed::revoked)?)
}

fn targets(typed: &[String], report: &StatusReport) -> Result<Vec<NodeId>, Failure> {
    let reports = std::slice::from_ref(report);
    typed
        .iter()
        .map(|typed| match node::find(typed, reports) {
            Ok(found) => Ok(found.peer.member.id),
            Err(failure) if failure.code == "self_ping" => Err(Failure::revoke_self()),
            Err(failure) => Err(failure),
        })
        .collect()
}

/// Members go without a question; admins, whole owners and old cuts ask.
fn question(args: &Args, nodes: &[NodeId], report: &StatusReport) -> Option<String> {
    if let Some(owner) = &args.owner {
        let owned = report.peers.iter();
        let owned = owned.filter(|peer| peer.member.owner.as_ref() == Some(owner));
        let names: Vec<&str> = owned.map(|peer| peer.member.name.as_str()).collect();
        // Whose there are none is the daemon's to say.
        if names.is_empty() {
            return None;
        }
        let names = signed::list(names.into_iter());
        return Some(format!("Revoke all nodes of {} ({names})?", owner.as_str()));
    }
    let members = report.peers.iter().map(|peer| &peer.member);
    let admins: Vec<&str> = members
        .filter(|member| nodes.contains(&member.id) && member.is_admin())
        .map(|member| member.name.as_str())
        .collect();
    if !admins.is_empty() {
        let names = signed::list(admins.into_iter());
        return Some(format!("{names} signs for the network. Revoke?"));
    }
    (args.since.is_some() || args.stolen)
        .then(|| "What they signed falls from then on. Revoke?".to_owned())
}

/// An op id, or a time as [`units::parse_time`] reads it.
pub(super) fn parse_since(text: &str) -> Result<Since, String> {
    if let Some(op) = OpId::from_text(text) {
        return Ok(Since::Op(op));
    }
    let now = Clock::new().now().wall;
    units::parse_time(text).map(|word| Since::Time(word.before(now)))
}
