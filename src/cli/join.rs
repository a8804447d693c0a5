//! `meshnode join`: into a network, by a code.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meshnode_protocol::name::NodeName;

use super::session::{Session, unexpected};
use super::{code_error, init, interrupt, launch};
use crate::clock::Clock;
use crate::config::environment;
use crate::config::place::Place;
use crate::control::{JoinRequest, Progress, Request, Response, SecretText};
use crate::failure::refusal::APPROVAL_PENDING;
use crate::failure::{Exit, Failure};
use crate::output::{self, acts, json};
use crate::units;

/// Join a network with the code that a member made
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo meshnode join                                     asks for the code
  sudo meshnode join M7K2Q-4XWPA-9TRB3-HZC6D --name laptop
  meshnode invite | ssh box sudo meshnode join -")]
pub(crate) struct Args {
    /// The code, - for stdin, or file:PATH; asks when not given
    #[arg(value_name = "CODE|-|file:PATH")]
    code: Option<SecretArg>,
    /// Name of this node, unless the invite says another; the host name when not given
    #[arg(long, value_name = "NAME", env = "MESHNODE_NAME", hide_env = true)]
    #[arg(value_parser = NodeName::parse)]
    name: Option<NodeName>,
    /// How long to wait; an application that waits for approval goes on after it
    #[arg(long, value_name = "DUR", default_value = "60s", value_parser = units::parse_duration)]
    timeout: Duration,
}

/// What was typed for a code; redacted in `Debug`.
#[derive(Clone, Debug)]
struct SecretArg(SecretText);

impl From<String> for SecretArg {
    fn from(text: String) -> Self {
        Self(SecretText::new(text))
    }
}

/// Joins.
pub(crate) fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let place = session.new_place()?;
    let code = code(args.code, session)?;
    code_error::check(&code)?;
    let wish = args
        .name
        .unwrap_or_else(|| NodeName::from_text(&init::host_name(), "node"));
    let request = Request::Join(JoinRequest {
        code,
        name: wish.clone(),
        timeout_ms: u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX),
    });
    let launched = launch::ensure(&place, session)?;
    let ended = follow(&place, session, &request, launched, &wish);
    if let Err(failure) = &ended
        && failure.code != APPROVAL_PENDING
        && failure.code != output::CLOSED_PIPE
    {
        launch::undo(launched, &place);
    }
    ended
}

fn follow(
    place: &Place,
    session: &Session,
    request: &Request,
    launched: launch::Launched,
    wish: &NodeName,
) -> Result<Exit, Failure> {
    let clock = Clock::new();
    let started_ms = clock.now().uptime_ms();
    let took_ms = || clock.now().uptime_ms().saturating_sub(started_ms);
    let waiting = interrupt::watch(launched, place);
    let mut responses = session.client(place)?.send(request)?;
    loop {
        match responses.next_response()? {
            Response::Progress(step) => {
                let waits = matches!(step, Progress::Waiting { .. });
                waiting.fetch_or(waits, Ordering::Relaxed);
                let line = acts::progress(&step, took_ms(), "the network", wish);
                output::talk(session.style, &line);
            }
            Response::Joined(joined) => {
                if session.style.json {
                    output::data(&json::joined(&joined, false, took_ms()))?;
                }
                let screen = acts::joined(&joined, took_ms(), &session.here(place));
                output::talk(session.style, &screen);
                return Ok(Exit::Done);
            }
            Response::AlreadyJoined(joined) => {
                if session.style.json {
                    output::data(&json::joined(&joined, true, took_ms()))?;
                }
                output::talk(session.style, &acts::already(&joined));
                return Ok(Exit::Done);
            }
            Response::Status(_)
            | Response::Inited(_)
            | Response::Invited(_)
            | Response::Left { .. }
            | Response::Pong { .. }
            | Response::Silence { .. }
            | Response::Acted(_)
            | Response::Heard(_)
            | Response::HeardDone(_)
            | Response::Pending(_)
            | Response::Invites(_)
            | Response::Admins(_)
            | Response::Petition(_)
            | Response::Recovery(_)
            | Response::Phrases(_)
            | Response::PhraseChecked { .. }
            | Response::Rotated { .. }
            | Response::Done
            | Response::Exported { .. }
            | Response::Imported(_)
            | Response::Log { .. }
            | Response::Settings(_)
            | Response::Card(_)
            | Response::Netcheck(_)
            | Response::Blocked(_)
            | Response::RelayChanged(_)
            | Response::Carried(_)
            | Response::Relays(_)
            | Response::Logged(_)
            | Response::Policy(_)
            | Response::Failed(_) => return Err(unexpected()),
        }
    }
}

/// The code: typed, from stdin, from a file, from the environment, or asked for.
fn code(typed: Option<SecretArg>, session: &Session) -> Result<SecretText, Failure> {
    if let Some(SecretArg(typed)) = typed {
        return match typed.reveal() {
            "-" => read(io::stdin().lock(), "stdin"),
            text => match text.strip_prefix("file:") {
                Some(path) => read_file(Path::new(path)),
                None => Ok(typed),
            },
        };
    }
    if let Some(code) = environment::text("MESHNODE_INVITE") {
        return Ok(SecretText::new(code));
    }
    if let Some(path) = environment::text("MESHNODE_INVITE_FILE") {
        return read_file(Path::new(&path));
    }
    if session.style.json || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage("an invite code is missing")
            .hint("sudo meshnode join CODE, or join - to read it from stdin"));
    }
    output::say("Invite code: ");
    read(io::stdin().lock(), "the terminal")
}

fn read_file(path: &Path) -> Result<SecretText, Failure> {
    let shown = path.display().to_string();
    match std::fs::File::open(path) {
        Ok(file) => read(io::BufReader::new(file), &shown),
        Err(error) => {
            let text = format!("cannot read {shown}: {error}");
            Err(Failure::usage(text).hint("file:PATH names a file that holds the code"))
        }
    }
}

/// The first line that is not empty.
fn read(source: impl BufRead, name: &str) -> Result<SecretText, Failure> {
    let mut bounded = source.take(CODE_BYTES_MAX);
    loop {
        let mut line = zeroize::Zeroizing::new(String::new());
        match bounded.read_line(&mut line) {
            Ok(0) => return Err(Failure::usage(format!("{name} holds no invite code"))),
            Ok(_) if line.trim().is_empty() => {}
            Ok(_) => return Ok(SecretText::new(line.trim().to_owned())),
            Err(error) => return Err(Failure::usage(format!("cannot read {name}: {error}"))),
        }
    }
}

/// A code with three hints of the longest host names is shorter.
const CODE_BYTES_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_first_line_that_is_not_empty() {
        let code = read(&b"\n  M7K2Q-4XWPA \nrest"[..], "stdin").unwrap();
        assert_eq!(code.reveal(), "M7K2Q-4XWPA");
    }

    #[test]
    fn an_empty_or_endless_source_is_no_code() {
        assert_eq!(
            read(&b"\n\n"[..], "stdin").unwrap_err().text,
            "stdin holds no invite code"
        );
        let endless = io::BufReader::new(io::repeat(b'\n'));
        assert!(read(endless, "stdin").is_err());
    }

    #[test]
    fn what_was_typed_for_a_code_never_shows_in_debug() {
        let typed = SecretArg::from("M7K2Q-4XWPA".to_owned());
        assert!(!format!("{typed:?}").contains("M7K2Q"));
    }
}
