//! `meshnode pending`, `approve`, `deny`: who waits for an admin, and the answer.

use meshnode_protocol::limits::REASON_BYTES_MAX;
use meshnode_protocol::name::{NodeName, Owner, Tag};

use super::act::{self, Flags};
use super::invite::parse_tag;
use super::session::{Session, unexpected};
use crate::control::acts::{Act, Acted, Approval, Waiting};
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json, people, signed};

/// Who waits for an admin
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode pending
  meshnode approve laptop

The fingerprint is the same on the screen of the machine that waits.")]
pub(crate) struct PendingArgs {}

/// Let in who waits
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode approve laptop
  meshnode approve 7K2Q-MX4P --name ben-laptop --owner ben")]
pub(crate) struct ApproveArgs {
    /// Whom: name, fingerprint or begin of the id, as pending lists them
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Its name; the invite's or its own wish otherwise
    #[arg(long, value_name = "NAME", value_parser = NodeName::parse)]
    name: Option<NodeName>,
    /// Its tags instead of the invite's; may be repeated
    #[arg(long, value_name = "TAG", value_parser = parse_tag)]
    tag: Vec<Tag>,
    /// Whose it is, instead of the invite's owner
    #[arg(long, value_name = "OWNER", value_parser = Owner::parse)]
    owner: Option<Owner>,
    #[command(flatten)]
    flags: Flags,
}

/// Refuse who waits: it never comes in with the keys it has
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode deny laptop --reason \"not one of ours\"")]
pub(crate) struct DenyArgs {
    /// Whom: name, fingerprint or begin of the id, as pending lists them
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Why, for the others to read
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    flags: Flags,
}

/// Lists who waits.
pub(crate) fn list(session: &Session) -> Result<Exit, Failure> {
    let waiting = waiting(session)?;
    output::data(&if session.style.json {
        json::pending(&waiting)
    } else {
        people::pending(&waiting, session.style)
    })?;
    Ok(Exit::Done)
}

/// Approves.
pub(crate) fn approve(args: ApproveArgs, session: &Session) -> Result<Exit, Failure> {
    let joiners = named(&args.ids, waiting(session)?)?;
    if joiners.len() > 1 && args.name.is_some() {
        return Err(Failure::usage("--name is for one node").hint("approve them one by one"));
    }
    let approvals = joiners.into_iter().map(|joiner| Approval {
        device: joiner.id,
        name: args.name.clone(),
        tags: (!args.tag.is_empty()).then(|| args.tag.clone()),
        owner: args.owner.clone(),
    });
    let act = Act::Approve(approvals.collect());
    act::plain(args.flags.carry(act, session, |acted| told(acted, "in"))?)
}

/// Denies.
pub(crate) fn deny(args: DenyArgs, session: &Session) -> Result<Exit, Failure> {
    if args.reason.len() > REASON_BYTES_MAX {
        let text = format!("a reason has at most {REASON_BYTES_MAX} bytes");
        return Err(Failure::usage(text));
    }
    let joiners = named(&args.ids, waiting(session)?)?;
    let act = Act::Deny {
        joiners: joiners.into_iter().map(|joiner| joiner.id).collect(),
        reason: args.reason,
    };
    act::plain(
        args.flags
            .carry(act, session, |acted| told(acted, "refused"))?,
    )
}

fn told(acted: &Acted, what: &str) -> String {
    let subjects = acted.ops.iter().filter_map(|op| op.subject.as_ref());
    let mut names: Vec<&str> = subjects.map(NodeName::as_str).collect();
    names.dedup();
    let verb = match (acted.dry_run, names.len()) {
        (true, _) => "would be",
        (false, 1) => "is",
        (false, _) => "are",
    };
    format!("{} {verb} {what}.\n", signed::list(names.into_iter()))
}

fn waiting(session: &Session) -> Result<Vec<Waiting>, Failure> {
    let place = session.place()?;
    let Response::Pending(waiting) = session.client(&place)?.ask(&Request::Pending)? else {
        return Err(unexpected());
    };
    Ok(waiting)
}

/// Those that are named, each once.
fn named(typed: &[String], waiting: Vec<Waiting>) -> Result<Vec<Waiting>, Failure> {
    let mut found: Vec<Waiting> = Vec::new();
    for typed in typed {
        let mut fit = waiting.iter().filter(|joiner| is_called(joiner, typed));
        let (first, second) = (fit.next(), fit.next());
        match (first, second) {
            (Some(one), None) => {
                if found.iter().all(|known| known.id != one.id) {
                    found.push(one.clone());
                }
            }
            (Some(_), Some(_)) => {
                let text = format!("{} can be several of those who wait", output::clean(typed));
                let failure = Failure::new(Exit::Usage, "ambiguous_node", text);
                return Err(failure.hint("use the fingerprint: meshnode pending"));
            }
            (None, _) => {
                let text = format!("nobody who waits is called {}", output::clean(typed));
                let failure = Failure::new(Exit::Usage, "unknown_node", text);
                return Err(failure.hint("meshnode pending lists who waits"));
            }
        }
    }
    Ok(found)
}

fn is_called(joiner: &Waiting, typed: &str) -> bool {
    let lower = typed.to_ascii_lowercase();
    let by_id = lower.len() >= ID_SYMBOLS_MIN && joiner.id.to_string().starts_with(&lower);
    joiner.name.as_str() == lower || joiner.fingerprint.eq_ignore_ascii_case(typed) || by_id
}

/// Shorter begins of an id are taken for names.
const ID_SYMBOLS_MIN: usize = 6;

#[cfg(test)]
mod tests {
    use meshnode_protocol::id::{NodeId, OpId};
    use meshnode_protocol::identity::Secret;
    use meshnode_protocol::time::Timestamp;

    use super::*;

    fn joiner(seed: u8, name: &str, fingerprint: &str) -> Waiting {
        Waiting {
            id: NodeId::new(Secret::from_seed(&[seed; 32]).public()),
            name: NodeName::parse(name).unwrap(),
            fingerprint: fingerprint.to_owned(),
            invite: OpId::ZERO,
            witness: None,
            since: Timestamp::from_ms(0),
            quarantined: false,
        }
    }

    #[test]
    fn a_joiner_is_named_by_name_fingerprint_or_id_and_never_guessed() {
        let all = vec![joiner(1, "pi", "AAAA-1111"), joiner(2, "pi", "BBBB-2222")];
        let typed = |text: &str| named(&[text.to_owned()], all.clone());
        assert_eq!(typed("bbbb-2222").unwrap(), vec![all[1].clone()]);
        assert_eq!(typed("pi").unwrap_err().code, "ambiguous_node");
        assert_eq!(typed("nas").unwrap_err().code, "unknown_node");
        let id = all[0].id.to_string();
        assert_eq!(typed(&id[..10]).unwrap(), vec![all[0].clone()]);
        let twice = [id, "aaaa-1111".to_owned()];
        assert_eq!(named(&twice, all.clone()).unwrap().len(), 1);
    }
}
