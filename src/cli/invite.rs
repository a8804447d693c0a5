//! `meshnode invite`: a code for the next machine.

use std::time::Duration;

use meshnode_protocol::limits::{INVITE_USES_MAX, TAGS_MAX};
use meshnode_protocol::name::{NameError, NodeName, Owner, Tag};

use super::node;
use super::policy::Aim;
use super::session::{Session, unexpected};
use crate::config::place::Place;
use crate::control::policy::PolicyTold;
use crate::control::{InviteRequest, Invited, Only, Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, acts, json, policy};
use crate::units;

mod drawing;
pub(super) mod manage;

/// Make a code that lets the next machine in
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode invite
  meshnode invite --name tablet --owner ben --ttl 2h
  meshnode invite --name ben --owner ben --only nas:8096
  meshnode invite | ssh box sudo meshnode join -
  meshnode invite list

The code goes to stdout, everything else to stderr.")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<manage::Verb>,
    /// Name of the new node
    #[arg(long, value_name = "NAME", value_parser = NodeName::parse)]
    name: Option<NodeName>,
    /// Tag of the new node; may be repeated
    #[arg(long, value_name = "TAG", value_parser = parse_tag)]
    tag: Vec<Tag>,
    /// Whose the new node is
    #[arg(long, value_name = "OWNER", value_parser = Owner::parse)]
    owner: Option<Owner>,
    /// How long the code holds
    #[arg(long, value_name = "DUR", default_value = "24h", value_parser = units::parse_duration)]
    ttl: Duration,
    /// How many machines may use it
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=INVITE_USES_MAX as i64))]
    uses: u16,
    /// An admin approves whoever comes; so it is for several machines
    #[arg(long, conflicts_with = "no_approve")]
    approve: bool,
    /// Let in whoever has the code, though several machines may use it; they need a tag
    #[arg(long)]
    no_approve: bool,
    /// What the new node may reach, and nothing else; may be repeated
    #[arg(long, value_name = "NODE:PORT[/PROTO]", conflicts_with = "replace")]
    only: Vec<String>,
    /// The node that the new one takes the name and the address of
    #[arg(long, value_name = "NODE", conflicts_with = "name")]
    replace: Option<String>,
    /// How long the new node stays a member; for ever if not given
    #[arg(long, value_name = "DUR", value_parser = units::parse_duration)]
    expires: Option<Duration>,
    /// Where a member answers; found by itself when not given; may be repeated
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_hint)]
    hint: Vec<String>,
    /// Draw the code below itself
    #[arg(long)]
    qr: bool,
    /// Spell the code for the telephone
    #[arg(long)]
    spell: bool,
    /// Sign nothing, say what would be signed
    #[arg(long)]
    dry_run: bool,
}

/// Makes the invite.
pub(crate) fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    if let Some(verb) = args.verb {
        return manage::run(verb, session);
    }
    if args.uses > 1 && args.no_approve && args.tag.is_empty() {
        let text = "an invite that lets in whoever has the code, and several of them, needs a tag";
        let hint = format!(
            "meshnode invite --uses {} --no-approve --tag TAG",
            args.uses
        );
        return Err(Failure::usage(text).hint(hint));
    }
    if args.ttl.is_zero() {
        return Err(Failure::usage("--ttl 0 would end before it begins").hint("--ttl 24h"));
    }
    if args.tag.len() > TAGS_MAX {
        return Err(Failure::usage(format!(
            "a node has at most {TAGS_MAX} tags"
        )));
    }
    let place = session.place()?;
    let replaces = match &args.replace {
        Some(typed) => {
            let report = session.report(&place)?;
            let found = node::find(typed, std::slice::from_ref(&report))?;
            Some(found.peer.member.id)
        }
        None => None,
    };
    let (only, reached): (Vec<Only>, Vec<String>) =
        only(&args, &place, session)?.into_iter().unzip();
    let ttl_ms = millis(args.ttl);
    let (qr, spell) = (args.qr, args.spell);
    let request = Request::Invite(InviteRequest {
        approve: (args.approve || args.no_approve).then_some(args.approve),
        replaces,
        member_for_ms: args.expires.map(millis),
        name: args.name,
        tags: args.tag,
        owner: args.owner,
        ttl_ms,
        uses: args.uses,
        hints: args.hint,
        only,
        dry_run: args.dry_run,
    });
    let response = session.client(&place)?.ask(&request)?;
    if let Response::Policy(PolicyTold::Checked(checked)) = &response {
        let text = format!("the policy would not hold: {}", policy::first(checked));
        return Err(Failure::new(Exit::Refused, "policy_faulty", text));
    }
    let Response::Invited(invited) = response else {
        return Err(unexpected());
    };
    let rules = policy::invited(&invited, &reached);
    show(&invited, (ttl_ms, qr, spell), &rules, session)
}

/// What the newcomer may reach, and how to say it.
fn only(args: &Args, place: &Place, session: &Session) -> Result<Vec<(Only, String)>, Failure> {
    if args.only.is_empty() {
        return Ok(Vec::new());
    }
    if args.name.is_none() && args.tag.is_empty() {
        let text = "who reaches little needs a name or a tag, so that a rule can name it";
        return Err(Failure::usage(text).hint("add --name NAME"));
    }
    let report = session.report(place)?;
    let mut only = Vec::new();
    for typed in &args.only {
        let aim = Aim::parse(typed)?;
        let member = node::member(aim.node, &report)?;
        let name = output::clean(member.name.as_str());
        let said = format!("{name} {}", aim.service().replace(':', "/"));
        let node = member.id;
        let service = aim.service();
        only.push((Only { node, service }, said));
    }
    Ok(only)
}

fn show(
    invited: &Invited,
    (ttl_ms, qr, spell): (u64, bool, bool),
    rules: &str,
    session: &Session,
) -> Result<Exit, Failure> {
    if session.style.json {
        output::data(&json::invited(invited))?;
        return Ok(Exit::Done);
    }
    output::talk(session.style, &acts::invite_head(invited, ttl_ms));
    let Some(code) = &invited.code else {
        output::talk(session.style, rules);
        return Ok(Exit::Done);
    };
    output::data(&format!("{}\n", code.reveal()))?;
    output::talk(session.style, "\n");
    if qr && !session.style.plain {
        output::talk(session.style, &drawing::qr(code.reveal())?);
    }
    if spell {
        output::talk(session.style, &drawing::spell(code.reveal()));
    }
    output::talk(session.style, rules);
    output::talk(session.style, &acts::invite_tail(invited, spell));
    Ok(Exit::Done)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn parse_tag(text: &str) -> Result<Tag, NameError> {
    Tag::parse(text.strip_prefix("tag:").unwrap_or(text))
}

fn parse_hint(text: &str) -> Result<String, String> {
    let wrong = || format!("{} is no HOST:PORT", text.escape_default());
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
    let host_is_good = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.bytes().all(known),
    };
    if port == 0 || !host_is_good {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_a_host_and_a_port() {
        for good in [
            "vps.example.org:41641",
            "203.0.113.9:1",
            "[2001:db8::1]:41641",
        ] {
            assert_eq!(parse_hint(good).as_deref(), Ok(good));
        }
        for bad in [
            "vps",
            "vps:0",
            "vps:99999",
            ":1",
            "2001:db8::1:41641",
            "a b:1",
            "[x]:1",
        ] {
            assert!(parse_hint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_may_leave_out_its_prefix() {
        assert_eq!(parse_tag("tag:ci"), parse_tag("ci"));
    }
}
