//! `meshnode rename` and `meshnode tag`: what the policy says of one node.

use meshnode_protocol::name::{NodeName, Owner, Tag};

use super::act::Flags;
use super::invite::parse_tag;
use super::node;
use super::policy::step;
use super::session::Session;
use crate::control::policy::Step;
use crate::control::report::MemberReport;
use crate::failure::{Exit, Failure};
use crate::output::{self, json, policy};

/// Give a node another name
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode rename pi-7k2q pi
  meshnode rename pi attic --dry-run

The name is written into the policy, signed by this node; addresses stay. A policy file that names
the node must name it anew.")]
pub(crate) struct RenameArgs {
    /// Which node: name, address or begin of an id
    #[arg(value_name = "NODE")]
    node: String,
    /// Its new name
    #[arg(value_name = "NEW", value_parser = NodeName::parse)]
    new: NodeName,
    #[command(flatten)]
    flags: Flags,
}

/// Show or change the tags and the owner of a node
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode tag nas
  meshnode tag nas --add server --remove lab
  meshnode tag carol-laptop --owner carol

They are written into the policy, signed by this node. To its rules, a node with tags is no
longer one of its owner's.")]
pub(crate) struct TagArgs {
    /// Which node: name, address or begin of an id
    #[arg(value_name = "NODE")]
    node: String,
    /// A tag that it is to have; may be repeated
    #[arg(long, value_name = "TAG", value_parser = parse_tag)]
    add: Vec<Tag>,
    /// A tag that it is not to have; may be repeated
    #[arg(long, value_name = "TAG", value_parser = parse_tag)]
    remove: Vec<Tag>,
    /// Whose it is
    #[arg(long, value_name = "OWNER", value_parser = Owner::parse)]
    owner: Option<Owner>,
    #[command(flatten)]
    flags: Flags,
}

/// Renames.
pub(crate) fn rename(args: RenameArgs, session: &Session) -> Result<Exit, Failure> {
    let member = named(&args.node, session)?;
    if member.name == args.new {
        let text = format!("{} is called so already", args.new);
        return Err(Failure::new(Exit::Refused, "same_name", text)
            .hint("nothing was signed; meshnode status lists the names"));
    }
    let head = policy::renamed(&member.name, &args.new, args.flags.is_dry());
    let change = Step::Rename {
        node: member.id,
        name: args.new,
    };
    step(change, &head, &args.flags, session)
}

/// Shows the tags, or changes them.
pub(crate) fn tag(args: TagArgs, session: &Session) -> Result<Exit, Failure> {
    let member = named(&args.node, session)?;
    if args.add.is_empty() && args.remove.is_empty() && args.owner.is_none() {
        output::data(&if session.style.json {
            json::policy::tags(&member)
        } else {
            policy::tags(&member)
        })?;
        if member.tags.is_empty() && member.owner.is_none() {
            let text = format!("{} has no tags and no owner.\n", member.name);
            output::talk(session.style, &text);
        }
        return Ok(Exit::Done);
    }
    if let Some(both) = args.add.iter().find(|tag| args.remove.contains(tag)) {
        let text = format!("tag:{both} is both to be added and to be removed");
        return Err(Failure::usage(text).hint("name it once"));
    }
    if changes_nothing(&args, &member) {
        let text = format!("{} has these tags and this owner already", member.name);
        return Err(Failure::new(Exit::Refused, "same_tags", text).hint(format!(
            "nothing was signed; see meshnode tag {}",
            member.name
        )));
    }
    let change = Step::Tag {
        node: member.id,
        add: args.add,
        remove: args.remove,
        owner: args.owner,
    };
    step(change, "", &args.flags, session)
}

/// Whether a node is already as it is to be.
fn changes_nothing(args: &TagArgs, member: &MemberReport) -> bool {
    let has = |tag: &Tag| member.tags.contains(tag);
    let owned = args.owner.is_none() || args.owner == member.owner;
    owned && args.add.iter().all(has) && !args.remove.iter().any(has)
}

fn named(typed: &str, session: &Session) -> Result<MemberReport, Failure> {
    let report = session.report(&session.place()?)?;
    node::member(typed, &report)
}
