//! What all verbs that sign have in common: `--dry-run`, `--wait`, and who heard it.

use std::time::Duration;

use super::session::{Session, unexpected};
use crate::control::acts::{Act, ActRequest, Acted, HeardBy, HeardDone, Petition};
use crate::control::policy::PolicyTold;
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json, policy, signed};
use crate::units;

/// The flags of every verb that signs.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Sign nothing, say what would be signed
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for the other nodes to hear it
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = units::parse_duration)]
    wait: Duration,
}

impl Flags {
    /// Whether nothing is to be signed.
    pub(crate) const fn is_dry(&self) -> bool {
        self.dry_run
    }

    /// The same, waiting until all have heard.
    #[must_use]
    pub(crate) fn watching(mut self, watch: bool) -> Self {
        if watch {
            self.wait = Duration::MAX;
        }
        self
    }

    /// Has the daemon of the chosen network carry out an act, and tells of it. `head` says what happened. Gives what
    /// other holders of root keys have to sign first, if they have to.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) fn carry(
        &self,
        act: Act,
        session: &Session,
        head: impl FnOnce(&Acted) -> String,
    ) -> Result<Option<Petition>, Failure> {
        let place = session.place()?;
        let request = Request::Act(Box::new(ActRequest {
            act,
            dry_run: self.dry_run,
            wait_ms: u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX),
        }));
        let mut responses = session.client(&place)?.send(&request)?;
        let first = responses.next_response()?;
        if let Response::Petition(petition) = first {
            return Ok(Some(petition));
        }
        // A policy that was sound when it was checked, and is not any more.
        if let Response::Policy(PolicyTold::Checked(checked)) = &first {
            let text = format!("the policy is not set: {}", policy::first(checked));
            return Err(Failure::new(Exit::Refused, "policy_faulty", text));
        }
        let Response::Acted(acted) = first else {
            return Err(unexpected());
        };
        if !session.style.json {
            output::talk(session.style, &head(&acted));
        }
        if acted.dry_run {
            if session.style.json {
                output::data(&json::acted(&acted, &[], None))?;
            }
            return Ok(None);
        }
        let watch = self.wait == Duration::MAX;
        let mut heard: Vec<HeardBy> = Vec::new();
        let done = loop {
            let response = responses.next_response()?;
            if let Response::HeardDone(done) = response {
                break done;
            }
            let Response::Heard(node) = response else {
                return Err(unexpected());
            };
            if watch {
                tell_heard(&node, session)?;
            }
            heard.push(node);
        };
        tell_done(&acted, &heard, &done, watch, session)?;
        Ok(None)
    }
}

fn tell_heard(node: &HeardBy, session: &Session) -> Result<(), Failure> {
    if session.style.json {
        output::data(&json::heard(node))
    } else {
        output::talk(session.style, &signed::heard_line(node));
        Ok(())
    }
}

fn tell_done(
    acted: &Acted,
    heard: &[HeardBy],
    done: &HeardDone,
    watch: bool,
    session: &Session,
) -> Result<(), Failure> {
    if session.style.json {
        return output::data(&json::acted(acted, heard, Some(done)));
    }
    let listed = if watch { &[] } else { heard };
    output::talk(session.style, &signed::heard(listed, done));
    Ok(())
}

/// The end of a verb that cannot end in a petition.
///
/// # Errors
/// When it did.
pub(crate) fn plain(petition: Option<Petition>) -> Result<Exit, Failure> {
    match petition {
        None => Ok(Exit::Done),
        Some(_) => Err(unexpected()),
    }
}
