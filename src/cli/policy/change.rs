//! Having another policy: of a file, from an editor, of an earlier version.

use super::check::{check, must_be_sound, read};
use super::{ask, changes, parse_version, remote, shown};
use crate::cli::act::{self, Flags};
use crate::cli::session::{Session, unexpected};
use crate::control::acts::Act;
use crate::control::policy::{Change, DiffLine, PolicyAsk, PolicyShown, PolicyTold};
use crate::failure::{Exit, Failure};
use crate::output::{self, json, policy};

/// Has the policy of a file.
pub(super) fn set(file: &str, flags: &Flags, session: &Session) -> Result<Exit, Failure> {
    let text = read(file)?;
    let before = shown(session)?;
    have(
        Wanted {
            text,
            file,
            before,
            expect: None,
        },
        flags,
        session,
    )
}

/// A text that is to be the policy.
pub(super) struct Wanted<'a> {
    /// HuJSON.
    pub(super) text: String,
    /// What to call it.
    pub(super) file: &'a str,
    /// The policy that it replaces.
    pub(super) before: PolicyShown,
    /// The last op of that policy, if no other may have come.
    pub(super) expect: Option<meshnode_protocol::id::OpId>,
}

/// Sets a text, once it is sound and nobody minds what it cuts.
pub(super) fn have(wanted: Wanted<'_>, flags: &Flags, session: &Session) -> Result<Exit, Failure> {
    must_be_sound(&check(&wanted.text, session)?, wanted.file, session)?;
    let lines = difference(&wanted.text, wanted.file, session)?;
    ask_before_a_cut(&wanted.text, flags, session)?;
    let first = !wanted.before.exists;
    let act = Act::PolicySet {
        text: wanted.text,
        expect: wanted.expect,
    };
    act::plain(flags.carry(act, session, |acted| policy::set(acted, &lines, first))?)
}

/// Has the policy of an earlier version.
pub(super) fn rollback(version: usize, flags: &Flags, session: &Session) -> Result<Exit, Failure> {
    let changes = changes(session)?;
    let op = find(&changes, version)?.op;
    let text = text_at(op, session)?;
    let lines = difference(&text, &format!("v{version}"), session)?;
    ask_before_a_cut(&text, flags, session)?;
    let act = Act::PolicyRollback(op);
    act::plain(flags.carry(act, session, |acted| policy::set(acted, &lines, false))?)
}

/// What a file or a version would change, or what the last change did.
pub(super) fn diff(file: Option<&str>, session: &Session) -> Result<Exit, Failure> {
    let lines = match file {
        Some(file) => match version_of(file) {
            Some(version) => since(version, session)?,
            None => difference(&read(file)?, file, session)?,
        },
        None => {
            let version = shown(session)?.version;
            since(version.saturating_sub(1), session)?
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

/// What came and went since a version; 0 is before the first.
fn since(version: usize, session: &Session) -> Result<Vec<DiffLine>, Failure> {
    let name = format!("v{version}");
    let old = match version {
        0 => "{}".to_owned(),
        _ => text_at(find(&changes(session)?, version)?.op, session)?,
    };
    let mut lines = difference(&old, &name, session)?;
    for line in &mut lines {
        line.added = !line.added;
    }
    Ok(lines)
}

fn find(changes: &[Change], version: usize) -> Result<&Change, Failure> {
    let found = changes.iter().find(|change| change.version == version);
    found.ok_or_else(|| {
        let text = format!("the policy has no version {version}");
        Failure::new(Exit::Usage, "unknown_version", text).hint("meshnode policy log lists them")
    })
}

fn text_at(op: meshnode_protocol::id::OpId, session: &Session) -> Result<String, Failure> {
    let PolicyTold::Shown(shown) = ask(PolicyAsk::Show { at: Some(op) }, session)? else {
        return Err(unexpected());
    };
    Ok(shown.text)
}

/// The lines that a text would take away and bring.
fn difference(text: &str, file: &str, session: &Session) -> Result<Vec<DiffLine>, Failure> {
    let text = text.to_owned();
    let PolicyTold::Diff { lines, checked } = ask(PolicyAsk::Diff { text }, session)? else {
        return Err(unexpected());
    };
    if !checked.faults.is_empty() {
        must_be_sound(&checked, file, session)?;
    }
    Ok(lines)
}

fn ask_before_a_cut(text: &str, flags: &Flags, session: &Session) -> Result<(), Failure> {
    let report = session.report(&session.place()?)?;
    let Some(visitor) = remote::cut_off(text, &report) else {
        return Ok(());
    };
    let name = output::clean(visitor.name.as_str());
    if flags.is_dry() {
        let text = format!("It would cut this session, which comes from {name}.\n");
        output::talk(session.style, &text);
        return Ok(());
    }
    session.confirm(&format!(
        "This policy cuts the session from {name} that you type in. Set it?"
    ))
}
