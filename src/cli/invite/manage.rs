//! `meshnode invite list` and `invite cancel`.

use super::super::act::{self, Flags};
use super::super::session::{Session, unexpected};
use crate::control::acts::{Act, Acted, InviteReport, InviteState};
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json, people, signed};

/// What else there is to do with invites.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// The open invites; never their codes, which were shown once
    List {
        /// Used, expired and cancelled ones, too
        #[arg(long)]
        all: bool,
    },
    /// End invites: nobody comes in by them any more
    Cancel {
        /// Which, as list shows them
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        flags: Flags,
    },
}

/// Lists or cancels.
pub(crate) fn run(verb: Verb, session: &Session) -> Result<Exit, Failure> {
    let invites = invites(session)?;
    match verb {
        Verb::List { all } => {
            output::data(&if session.style.json {
                let shown = |i: &&InviteReport| all || i.state == InviteState::Open;
                let shown: Vec<_> = invites.iter().filter(shown).cloned().collect();
                json::invites(&shown)
            } else {
                people::invites(&invites, all, session.style)
            })?;
            Ok(Exit::Done)
        }
        Verb::Cancel { ids, flags } => {
            let named: Result<Vec<_>, _> = ids.iter().map(|id| find(id, &invites)).collect();
            let act = Act::InviteCancel(named?.into_iter().map(|invite| invite.id).collect());
            act::plain(flags.carry(act, session, told)?)
        }
    }
}

fn told(acted: &Acted) -> String {
    let end = if acted.dry_run { "would end" } else { "ended" };
    match acted.ops.len() {
        0 => "Nothing to do: it lets nobody in any more.\n".to_owned(),
        1 => format!("The invite {end}.\n"),
        many => format!("{many} invites {end}.\n"),
    }
}

fn invites(session: &Session) -> Result<Vec<InviteReport>, Failure> {
    let place = session.place()?;
    let Response::Invites(invites) = session.client(&place)?.ask(&Request::Invites)? else {
        return Err(unexpected());
    };
    Ok(invites)
}

/// The invite whose id begins so.
fn find<'a>(typed: &str, invites: &'a [InviteReport]) -> Result<&'a InviteReport, Failure> {
    let lower = typed.to_ascii_lowercase();
    let fits = |invite: &&InviteReport| invite.id.to_string().starts_with(&lower);
    let found: Vec<&InviteReport> = invites.iter().filter(fits).collect();
    match found.as_slice() {
        [one] if !lower.is_empty() => Ok(one),
        [] | [_] => {
            let text = format!("no invite is called {}", output::clean(typed));
            Err(Failure::new(Exit::Usage, "unknown_invite", text)
                .hint("meshnode invite list --all lists them"))
        }
        several => {
            let text = format!("{} can be several invites", output::clean(typed));
            let ids = several.iter().map(|invite| invite.id.to_string());
            let ids: Vec<String> = ids.map(|id| id[..8].to_uppercase()).collect();
            Err(
                Failure::new(Exit::Usage, "ambiguous_invite", text).hint(format!(
                    "name one of them: {}",
                    signed::list(ids.iter().map(String::as_str))
                )),
            )
        }
    }
}
