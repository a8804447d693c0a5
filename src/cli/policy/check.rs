//! Whether a text can be set, and whether its tests hold.

use std::fs::File;
use std::io::{self, Read};

use meshnode_protocol::body::Ipv4Range;
use meshnode_protocol::id::OpId;
use meshnode_protocol::limits::POLICY_TEXT_BYTES_MAX;
use meshnode_protocol::policy::{Directory, read as parse};

use super::ask;
use super::past::At;
use crate::cli::session::{Session, unexpected};
use crate::control::convert::policy::fault;
use crate::control::policy::{PolicyAsk, PolicyChecked, PolicyTold};
use crate::failure::{Exit, Failure};
use crate::output::{self, json, policy};

/// Checks a file; without one, the policy that there is.
pub(super) fn run(file: Option<&str>, at: At, session: &Session) -> Result<Exit, Failure> {
    let Some(file) = file else {
        return test(at, session);
    };
    let text = read(file)?;
    let checked = match check(&text, session) {
        Err(failure) if matches!(failure.exit, Exit::NoDaemon | Exit::NoNetwork) => {
            let said = "No daemon answers here, so no name of a node or owner is known.\n\n";
            output::talk(session.style, said);
            alone(&text)
        }
        checked => checked?,
    };
    tell(&checked, file, session)
}

/// Tries the tests of the policy that there is.
pub(super) fn test(at: At, session: &Session) -> Result<Exit, Failure> {
    let shown = at.shown(session)?;
    if !shown.exists {
        let text = "there is no policy to check: all members reach each other";
        return Err(Failure::new(Exit::Refused, "no_policy", text).hint("meshnode policy edit"));
    }
    tell(&check(&shown.text, session)?, "policy", session)
}

fn tell(checked: &PolicyChecked, file: &str, session: &Session) -> Result<Exit, Failure> {
    output::data(&if session.style.json {
        json::policy::checked(checked)
    } else {
        policy::findings(checked, file)
    })?;
    if checked.is_sound() {
        output::talk(session.style, "No fault, and every test holds.\n");
        return Ok(Exit::Done);
    }
    Ok(Exit::Refused)
}

/// What the daemon finds wrong with a text.
pub(super) fn check(text: &str, session: &Session) -> Result<PolicyChecked, Failure> {
    let text = text.to_owned();
    let PolicyTold::Checked(checked) = ask(PolicyAsk::Check { text }, session)? else {
        return Err(unexpected());
    };
    Ok(checked)
}

/// What is wrong with a text in a network that nobody is in.
fn alone(text: &str) -> PolicyChecked {
    let nobody = Directory::new(&OpId::ZERO, Ipv4Range::DEFAULT, []);
    let (faults, notices) = match parse(text, &nobody) {
        Ok(read) => (Vec::new(), read.notices),
        Err(faults) => (faults, Vec::new()),
    };
    PolicyChecked {
        faults: faults.into_iter().map(fault).collect(),
        notices: notices.into_iter().map(fault).collect(),
        tests: Vec::new(),
    }
}

/// The failure for a text that cannot be set; its findings are said.
///
/// # Errors
/// When it is not sound.
pub(super) fn must_be_sound(
    checked: &PolicyChecked,
    file: &str,
    session: &Session,
) -> Result<(), Failure> {
    if checked.is_sound() {
        return Ok(());
    }
    output::talk(session.style, &policy::findings(checked, file));
    let first = policy::first(checked);
    let text = format!("{} is not set: {first}", output::clean(file));
    Err(Failure::new(Exit::Refused, "policy_faulty", text)
        .hint("meshnode policy check FILE lists every fault"))
}

/// The text of a file, or of stdin.
pub(super) fn read(file: &str) -> Result<String, Failure> {
    let most = POLICY_TEXT_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let read = if file == "-" {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::world(&format!("cannot read {file}"), &error))?;
    if bytes.len() > POLICY_TEXT_BYTES_MAX {
        let text = format!("{file} has more than the {POLICY_TEXT_BYTES_MAX} bytes of a policy");
        return Err(Failure::new(Exit::Refused, "policy_too_large", text));
    }
    String::from_utf8(bytes).map_err(|_| {
        let text = format!("{file} is no UTF-8 text");
        Failure::new(Exit::Refused, "policy_faulty", text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_network_a_text_is_checked_with_line_and_column() {
        let checked =
            alone("{\n  \"grants\": [{\"src\": [\"*\"], \"dst\": [\"*\"], \"ip\": [\"x\"]}]\n}\n");
        let [fault] = checked.faults.as_slice() else {
            panic!("{checked:?}");
        };
        assert_eq!(fault.line, 2);
        assert!(fault.column > 40, "{fault:?}");
        let sound = "{\"grants\": [{\"src\": [\"*\"], \"dst\": [\"*\"], \"ip\": [\"tcp:22\"]}]}";
        assert!(alone(sound).is_sound());
    }
}
