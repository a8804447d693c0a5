//! `meshnode policy`: who may reach whom: look at it, ask it, change it.

use clap::Subcommand;
use meshnode_protocol::policy::Proto;

use self::change::TrialFlag;
use self::past::At;
use super::act::Flags;
use super::node;
use super::session::{Session, unexpected};
use crate::control::policy::{Change, PolicyAsk, PolicyShown, PolicyTold, Verdict};
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json, policy};

mod change;
mod check;
mod edit;
mod past;
mod remote;

pub(super) use self::change::step;

/// Who may reach whom: show, check, change and explain it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode policy explain laptop nas:22
  meshnode policy edit
  meshnode policy set policy.hujson --trial 5min
  meshnode policy blame --at v3

Without a policy all members reach each other. With one, what no rule allows is denied.")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The policy, as text
    Show {
        #[command(flatten)]
        at: At,
    },
    /// Whether a text can be set: every fault with its line; without FILE, the policy that there is
    Check {
        /// The text, or - for stdin
        #[arg(value_name = "FILE", conflicts_with = "when")]
        file: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Have the policy of a file
    Set {
        /// The text, or - for stdin
        #[arg(value_name = "FILE")]
        file: String,
        #[command(flatten)]
        trial: TrialFlag,
        #[command(flatten)]
        flags: Flags,
    },
    /// Change the policy in $EDITOR
    Edit {
        #[command(flatten)]
        trial: TrialFlag,
        #[command(flatten)]
        flags: Flags,
    },
    /// Let what is on trial stay
    Keep,
    /// Whether a node reaches another, and by which rule; exit 6 if not
    Explain {
        /// From where
        #[arg(value_name = "SRC")]
        src: String,
        /// To where: nas:22, nas:53/udp, nas/icmp
        #[arg(value_name = "DST:PORT[/PROTO]")]
        dst: String,
        #[command(flatten)]
        at: At,
    },
    /// Try the tests of the policy
    Test {
        #[command(flatten)]
        at: At,
    },
    /// What A would change, or what lies between A and B; without them, what the last change did
    Diff {
        /// A version like v3, a text, or - for stdin
        #[arg(value_name = "A")]
        a: Option<String>,
        /// Another one
        #[arg(value_name = "B", conflicts_with = "when")]
        b: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// The changes of the policy, newest last
    Log,
    /// Who wrote each line last, when, and in which version
    Blame {
        #[command(flatten)]
        at: At,
    },
    /// Have the policy of an earlier version again
    Rollback {
        /// Its number in meshnode policy log
        #[arg(value_name = "VERSION", value_parser = parse_version)]
        version: usize,
        #[command(flatten)]
        trial: TrialFlag,
        #[command(flatten)]
        flags: Flags,
    },
}

/// Shows, or does one of the others.
pub(crate) fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.verb {
        None => show(args.at, session),
        Some(Verb::Show { at }) => show(at, session),
        Some(Verb::Check { file, at }) => check::run(file.as_deref(), at, session),
        Some(Verb::Set { file, trial, flags }) => change::set(&file, trial, &flags, session),
        Some(Verb::Edit { trial, flags }) => edit::edit(trial, &flags, session),
        Some(Verb::Keep) => change::keep(session),
        Some(Verb::Explain { src, dst, at }) => explain(&src, &dst, at, session),
        Some(Verb::Test { at }) => check::test(at, session),
        Some(Verb::Diff { a, b, at }) => change::diff(a.as_deref(), b.as_deref(), at, session),
        Some(Verb::Log) => log(session),
        Some(Verb::Blame { at }) => blame(at, session),
        Some(Verb::Rollback {
            version,
            trial,
            flags,
        }) => change::rollback(version, trial, &flags, session),
    }
}

fn show(at: At, session: &Session) -> Result<Exit, Failure> {
    let shown = at.shown(session)?;
    if session.style.json {
        output::data(&json::policy::shown(&shown))?;
        return Ok(Exit::Done);
    }
    if shown.exists {
        output::data(&output::clean_text(&shown.text))?;
    }
    let standing = match at.version(session)? {
        Some(version) => format!("Policy v{version}, as it was.\n"),
        None => policy::standing(&shown),
    };
    output::talk(session.style, &standing);
    Ok(Exit::Done)
}

fn blame(at: At, session: &Session) -> Result<Exit, Failure> {
    let at = at.op(session)?;
    let PolicyTold::Blame(lines) = ask(PolicyAsk::Blame { at }, session)? else {
        return Err(unexpected());
    };
    output::data(&if session.style.json {
        json::policy::blame(&lines)
    } else {
        policy::blame(&lines, session.style)
    })?;
    Ok(Exit::Done)
}

fn log(session: &Session) -> Result<Exit, Failure> {
    let changes = changes(session)?;
    output::data(&if session.style.json {
        json::policy::log(&changes)
    } else {
        policy::log(&changes, session.style)
    })?;
    Ok(Exit::Done)
}

fn explain(src: &str, dst: &str, at: At, session: &Session) -> Result<Exit, Failure> {
    let aim = Aim::parse(dst)?;
    let report = session.report(&session.place()?)?;
    let [src, dst] = [src, aim.node].map(|typed| node::member(typed, &report));
    let (src, dst) = (src?, dst?);
    let asked = PolicyAsk::Explain {
        src: src.id,
        dst: dst.id,
        protocol: aim.proto.number(),
        port: aim.port,
        at: at.op(session)?,
    };
    let PolicyTold::Explained(told) = ask(asked, session)? else {
        return Err(unexpected());
    };
    let question = policy::Asked {
        src: &src,
        dst: &dst,
        proto: aim.proto.to_string(),
        port: aim.port,
    };
    output::data(&if session.style.json {
        json::policy::explained(&question, &told)
    } else {
        policy::explained(&question, &told)
    })?;
    Ok(match told.verdict {
        Verdict::Open | Verdict::Allowed => Exit::Done,
        Verdict::Denied | Verdict::Unknown(_) => Exit::Denied,
    })
}

/// `NODE:PORT/PROTO` as typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Aim<'a> {
    /// As typed: a name, an address, the begin of an id.
    pub(super) node: &'a str,
    port: Option<u16>,
    proto: Proto,
}

impl<'a> Aim<'a> {
    /// The service as a rule names it.
    pub(super) fn service(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.proto),
            None => self.proto.to_string(),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is no destination.
    pub(super) fn parse(typed: &'a str) -> Result<Self, Failure> {
        let (place, proto) = match typed.rsplit_once('/') {
            Some((place, proto)) => {
                let proto = Proto::parse(proto);
                (
                    place,
                    proto.map_err(|error| Failure::usage(error.to_string()))?,
                )
            }
            None => (typed, Proto::TCP),
        };
        let bracketed = place
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'));
        let (node, port) = match (bracketed, place.rsplit_once(':')) {
            (Some((node, rest)), _) => (node, rest.strip_prefix(':')),
            (None, Some((node, port))) => (node, Some(port)),
            (None, None) => (place, None),
        };
        let port = match port.map(str::parse::<u16>) {
            Some(Ok(port)) if port > 0 && proto.has_ports() => Some(port),
            None if !proto.has_ports() => None,
            Some(Ok(_) | Err(_)) | None => {
                let typed = output::clean(typed);
                let text = format!("{typed} is no destination with a port");
                return Err(Failure::usage(text).hint("like nas:22, nas:53/udp, or nas/icmp"));
            }
        };
        Ok(Self { node, port, proto })
    }
}

/// `v3` or `3`.
fn parse_version(text: &str) -> Result<usize, String> {
    let number = text.strip_prefix('v').unwrap_or(text).parse();
    let number = number.ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{text} is no version, like v3"))
}

fn ask(asked: PolicyAsk, session: &Session) -> Result<PolicyTold, Failure> {
    let place = session.place()?;
    let response = session.client(&place)?.ask(&Request::Policy(asked))?;
    let Response::Policy(told) = response else {
        return Err(unexpected());
    };
    Ok(told)
}

fn shown(session: &Session) -> Result<PolicyShown, Failure> {
    past::shown(None, session)
}

fn changes(session: &Session) -> Result<Vec<Change>, Failure> {
    let PolicyTold::Log(changes) = ask(PolicyAsk::Log, session)? else {
        return Err(unexpected());
    };
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_has_a_port_where_its_protocol_has_ports() {
        let aim = |typed| Aim::parse(typed).map(|aim| (aim.node, aim.port, aim.proto));
        assert_eq!(aim("nas:22").unwrap(), ("nas", Some(22), Proto::TCP));
        assert_eq!(aim("nas:53/udp").unwrap(), ("nas", Some(53), Proto::UDP));
        assert_eq!(aim("nas/icmp").unwrap(), ("nas", None, Proto::ICMP));
        assert_eq!(
            aim("[fd00::1]:22").unwrap(),
            ("fd00::1", Some(22), Proto::TCP)
        );
        for wrong in [
            "nas",
            "nas:0",
            "nas:70000",
            "nas:22/icmp",
            "nas/udp",
            "nas:22/nope",
            "nas:",
        ] {
            assert_eq!(aim(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn a_version_is_a_number_from_1_on() {
        assert_eq!(parse_version("v3"), Ok(3));
        assert_eq!(parse_version("12"), Ok(12));
        for wrong in ["", "v", "0", "v0", "-1", "latest"] {
            assert!(parse_version(wrong).is_err(), "{wrong}");
        }
    }
}
