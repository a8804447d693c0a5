//! Having another policy: of a file, from an editor, of an earlier version.

use std::time::Duration;

use meshnode_protocol::id::OpId;

use super::check::{check, must_be_sound, read};
use super::past::{self, At, When, find};
use super::{ask, changes, parse_version, remote, shown};
use crate::cli::act::{self, Flags};
use crate::cli::session::{Session, unexpected};
use crate::control::acts::{Act, Acted};
use crate::control::policy::{DiffLine, PolicyAsk, PolicyTold, Step};
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, json, policy};
use crate::units;

/// How long a change of the policy that cuts the session lasts, unless the person says otherwise.
const TRIAL: Duration = Duration::from_secs(60);

/// The flag of the verbs that change the policy.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct TrialFlag {
    /// Undo it after this time, unless meshnode policy keep follows
    #[arg(long, value_name = "DUR", value_parser = units::parse_duration)]
    trial: Option<Duration>,
}

/// Has the policy of a file.
pub(super) fn set(
    file: &str,
    trial: TrialFlag,
    flags: &Flags,
    session: &Session,
) -> Result<Exit, Failure> {
    let text = read(file)?;
    let first = !shown(session)?.exists;
    let wanted = Wanted {
        text,
        file,
        expect: None,
        first,
        head: "",
        trial,
    };
    have(wanted, flags, session)
}

/// A text that is to be the policy.
pub(super) struct Wanted<'a> {
    /// HuJSON.
    pub(super) text: String,
    /// What to call it.
    pub(super) file: &'a str,
    /// The last op of the policy that it replaces, if no other may have come.
    pub(super) expect: Option<OpId>,
    /// Whether there is none before it.
    pub(super) first: bool,
    /// What to say first.
    pub(super) head: &'a str,
    /// How long it is to last.
    pub(super) trial: TrialFlag,
}

/// Sets a text, once it is sound and nobody minds what it cuts.
pub(super) fn have(wanted: Wanted<'_>, flags: &Flags, session: &Session) -> Result<Exit, Failure> {
    must_be_sound(&check(&wanted.text, session)?, wanted.file, session)?;
    let lines = difference(None, &wanted.text, wanted.file, session)?;
    let trial = trial(&wanted.text, wanted.trial, flags, session)?;
    let (text, expect) = (wanted.text, wanted.expect);
    let act = match trial {
        Some(span) => Act::PolicyTry {
            text,
            expect,
            for_ms: millis(span),
        },
        None => Act::PolicySet { text, expect },
    };
    let head = |acted: &Acted| {
        let said = policy::set(acted, &lines, wanted.first);
        format!("{}{said}{}", wanted.head, policy::on_trial(acted, trial))
    };
    act::plain(flags.carry(act, session, head)?)
}

/// Has what the policy would be after a step. `head` says what that is.
pub(in crate::cli) fn step(
    step: Step,
    head: &str,
    flags: &Flags,
    session: &Session,
) -> Result<Exit, Failure> {
    let PolicyTold::Draft(draft) = ask(PolicyAsk::Draft(step), session)? else {
        return Err(unexpected());
    };
    let wanted = Wanted {
        text: draft.text,
        file: "the policy",
        expect: draft.last,
        first: !draft.exists,
        head,
        trial: TrialFlag::default(),
    };
    have(wanted, flags, session)
}

/// Has the policy of an earlier version.
pub(super) fn rollback(
    version: usize,
    wish: TrialFlag,
    flags: &Flags,
    session: &Session,
) -> Result<Exit, Failure> {
    let name = format!("v{version}");
    let op = find(When::Version(version), &changes(session)?)?.op;
    let text = past::shown(Some(op), session)?.text;
    let lines = difference(None, &text, &name, session)?;
    let trial = trial(&text, wish, flags, session)?;
    let act = match trial {
        Some(span) => Act::PolicyTry {
            text,
            expect: None,
            for_ms: millis(span),
        },
        None => Act::PolicyRollback(op),
    };
    let head = |acted: &Acted| {
        let said = policy::set(acted, &lines, false);
        format!("{said}{}", policy::on_trial(acted, trial))
    };
    act::plain(flags.carry(act, session, head)?)
}

/// Lets what is on trial stay.
pub(super) fn keep(session: &Session) -> Result<Exit, Failure> {
    let place = session.place()?;
    let response = session.client(&place)?.ask(&Request::PolicyKeep)?;
    let Response::Done = response else {
        return Err(unexpected());
    };
    if session.style.json {
        output::data(&json::policy::kept())?;
    }
    output::talk(session.style, "It stays.\n");
    Ok(Exit::Done)
}

/// What one text or version has that another has not.
pub(super) fn diff(
    a: Option<&str>,
    b: Option<&str>,
    at: At,
    session: &Session,
) -> Result<Exit, Failure> {
    let then = at.version(session)?;
    let lines = match (a, b, then) {
        (Some(a), Some(b), _) => {
            let (old, new) = (text_of(a, session)?, text_of(b, session)?);
            difference(Some(old), &new, b, session)?
        }
        // A version is older than what there is: what came and went since.
        (Some(a), None, None) if version_of(a).is_some() => {
            let old = text_of(a, session)?;
            difference(Some(old), &now(session)?, a, session)?
        }
        (Some(a), None, None) => difference(None, &text_of(a, session)?, a, session)?,
        (Some(a), None, Some(version)) => {
            let (old, new) = (text_at(version, session)?, text_of(a, session)?);
            difference(Some(old), &new, a, session)?
        }
        (None, _, then) => {
            let version = match then {
                Some(version) => version,
                None => shown(session)?.version,
            };
            let old = text_at(version.saturating_sub(1), session)?;
            difference(Some(old), &text_at(version, session)?, "policy", session)?
        }
    };
    output::data(&if session.style.json {
        json::policy::diff(&lines)
    } else {
        policy::diff(&lines)
    })?;
    if lines.is_empty() {
        output::talk(session.style, "No difference.\n");
    }
    Ok(Exit::Done)
}

/// `v3`, where no file is called so.
fn version_of(file: &str) -> Option<usize> {
    let version = file.starts_with('v').then(|| parse_version(file).ok())?;
    version.filter(|_| !std::path::Path::new(file).exists())
}

/// The text of a version or file.
fn text_of(typed: &str, session: &Session) -> Result<String, Failure> {
    match version_of(typed) {
        Some(version) => text_at(version, session),
        None if is_bare_number(typed) => {
            let text = format!("there is no file {typed}, and versions are written v{typed}");
            Err(Failure::usage(text).hint("meshnode policy log lists the versions"))
        }
        None => read(typed),
    }
}

/// `3`, where no file is called so.
fn is_bare_number(typed: &str) -> bool {
    typed.parse::<usize>().is_ok() && !std::path::Path::new(typed).exists()
}

/// The text of a version; 0 is before the first.
fn text_at(version: usize, session: &Session) -> Result<String, Failure> {
    if version == 0 {
        return Ok(EMPTY.to_owned());
    }
    let op = find(When::Version(version), &changes(session)?)?.op;
    Ok(past::shown(Some(op), session)?.text)
}

fn now(session: &Session) -> Result<String, Failure> {
    let shown = shown(session)?;
    Ok(if shown.exists {
        shown.text
    } else {
        EMPTY.to_owned()
    })
}

const EMPTY: &str = "{}";

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The lines that a text would take away and bring.
fn difference(
    from: Option<String>,
    text: &str,
    file: &str,
    session: &Session,
) -> Result<Vec<DiffLine>, Failure> {
    let text = text.to_owned();
    let PolicyTold::Diff { lines, checked } = ask(PolicyAsk::Diff { from, text }, session)? else {
        return Err(unexpected());
    };
    if !checked.faults.is_empty() {
        must_be_sound(&checked, file, session)?;
    }
    Ok(lines)
}

/// How long a text is to last: as the person says, and not for good if it cuts the session; then it asks first.
fn trial(
    text: &str,
    wish: TrialFlag,
    flags: &Flags,
    session: &Session,
) -> Result<Option<Duration>, Failure> {
    let report = session.report(&session.place()?)?;
    let Some(visitor) = remote::cut_off(text, &report) else {
        return Ok(wish.trial);
    };
    let span = wish.trial.unwrap_or(TRIAL);
    let name = output::clean(visitor.name.as_str());
    if flags.is_dry() {
        let text = format!("It would cut this session, which comes from {name}.\n");
        output::talk(session.style, &text);
        return Ok(Some(span));
    }
    let lasting = units::span_s(span.as_secs());
    session.confirm(&format!(
        "This policy cuts the session from {name} that you type in. Try it for {lasting}?"
    ))?;
    Ok(Some(span))
}
