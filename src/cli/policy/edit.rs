//! `meshnode policy edit`: the policy in the editor of a person.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::change::{TrialFlag, Wanted, have};
use super::check::{check, read};
use super::shown;
use crate::cli::act::Flags;
use crate::cli::session::Session;
use crate::config::environment;
use crate::failure::{Exit, Failure};
use crate::output::{self, policy};

/// What an editor shows where there is no policy yet: what holds then.
const FIRST: &str = "\
// Who may reach whom. As soon as there is a policy, what no rule allows is denied.
{
    \"grants\": [
        // Everybody reaches everybody, as without a policy.
        {\"src\": [\"*\"], \"dst\": [\"*\"], \"ip\": [\"*\"]}
    ]
}
";

/// Names that are tried for the file.
const NAMES_MAX: u32 = 100;

/// Opens the policy in an editor, until it is sound or the person gives up, and sets it.
pub(super) fn edit(trial: TrialFlag, flags: &Flags, session: &Session) -> Result<Exit, Failure> {
    let before = shown(session)?;
    let old = if before.exists { &before.text } else { FIRST };
    let draft = Draft::new(old)?;
    let file = draft.path.display().to_string();
    let text = loop {
        open(&draft.path)?;
        let text = read(&file)?;
        if text == *old {
            draft.remove();
            output::talk(session.style, "Nothing changed; nothing was signed.\n");
            return Ok(Exit::Done);
        }
        let checked = check(&text, session)?;
        if checked.is_sound() {
            break text;
        }
        output::talk(session.style, &policy::findings(&checked, &file));
        if !again(session)? {
            let text = format!("the policy is not set: {}", policy::first(&checked));
            return Err(Failure::new(Exit::Refused, "policy_faulty", text)
                .hint(format!("what you wrote is in {file}")));
        }
    };
    let wanted = Wanted {
        text,
        file: &file,
        expect: before.last,
        first: !before.exists,
        head: "",
        trial,
    };
    let set = have(wanted, flags, session);
    match set {
        Ok(exit) if !flags.is_dry() => {
            draft.remove();
            Ok(exit)
        }
        Ok(exit) => Ok(exit),
        Err(failure) => Err(failure.hint(format!("what you wrote is in {file}"))),
    }
}

/// Whether the person wants to mend what is wrong.
fn again(session: &Session) -> Result<bool, Failure> {
    let askable = io::stdin().is_terminal() && io::stderr().is_terminal();
    if session.yes || session.style.json || !askable {
        return Ok(false);
    }
    match session.confirm("Open the editor again?") {
        Ok(()) => Ok(true),
        Err(failure) if failure.code == "not_confirmed" => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// A file that nobody else reads.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(text: &str) -> Result<Self, Failure> {
        let bad = |error: &io::Error| Failure::world("cannot write a file for the editor", error);
        for number in 0..NAMES_MAX {
            let name = format!("meshnode-policy-{}-{number}.hujson", std::process::id());
            let path = std::env::temp_dir().join(name);
            let mut options = OpenOptions::new();
            // A file or link that lies there already is somebody else's.
            match options.write(true).create_new(true).mode(0o600).open(&path) {
                Ok(mut file) => {
                    file.write_all(text.as_bytes())
                        .map_err(|error| bad(&error))?;
                    return Ok(Self { path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(bad(&error)),
            }
        }
        Err(bad(&io::ErrorKind::AlreadyExists.into()))
    }

    fn remove(&self) {
        // What is left of it holds no secret.
        let _ = fs::remove_file(&self.path);
    }
}

/// Runs the person's editor on a file and waits for its end.
fn open(path: &Path) -> Result<(), Failure> {
    let editor = environment::text("VISUAL").or_else(|| environment::text("EDITOR"));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // The variable is a command line of the person's own, with flags perhaps: the shell takes it apart, not the path.
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(path);
    // stdout is for data.
    let out = io::stderr().is_terminal() && !io::stdout().is_terminal();
    if out {
        command.stdout(Stdio::from(io::stderr()));
    }
    let ended = command.status();
    let ended = ended.map_err(|error| Failure::world("cannot run the editor", &error))?;
    if ended.success() {
        return Ok(());
    }
    let text = format!(
        "the editor {} ended badly ({ended})",
        output::clean(&editor)
    );
    Err(Failure::new(Exit::Refused, "editor", text).hint(format!(
        "nothing was signed; what you wrote is in {}",
        path.display()
    )))
}
