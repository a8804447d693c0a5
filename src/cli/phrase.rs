//! Reads recovery phrases: from the terminal, without echo, or from stdin. Never from the arguments.

use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;

use meshnode_protocol::recovery::{PHRASE_WORDS, RecoveryPhrase};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::session::Session;
use crate::control::SecretText;
use crate::failure::Failure;
use crate::output;

/// Phrases typed by a person, one a line; an empty line or the end of stdin ends them.
///
/// # Errors
/// When a line is no phrase, or there is none.
pub(crate) fn ask(session: &Session) -> Result<Vec<SecretText>, Failure> {
    let text = if io::stdin().is_terminal() {
        output::talk(
            session.style,
            "Recovery phrase, twelve words (nothing is shown while you type): ",
        );
        let text = hidden_line()?;
        output::talk(session.style, "\n");
        text
    } else {
        let mut text = Zeroizing::new(String::new());
        let read = io::stdin().take(BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| Failure::world("cannot read stdin", &error))?;
        text
    };
    let mut phrases = Vec::new();
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        return Err(Failure::usage("no recovery phrase was given").hint(
            "type it when asked, or on stdin: a phrase has twelve words, several follow each other",
        ));
    }
    for words in words.chunks(PHRASE_WORDS) {
        let phrase = Zeroizing::new(words.join(" "));
        RecoveryPhrase::parse(&phrase).map_err(|error| Failure::usage(error.to_string()))?;
        phrases.push(SecretText::new(phrase.to_string()));
    }
    Ok(phrases)
}

fn hidden_line() -> Result<Zeroizing<String>, Failure> {
    let stdin = io::stdin();
    let failed = |error: nix::Error| Failure::world("cannot hide what is typed", &error);
    let before = tcgetattr(stdin.as_fd()).map_err(failed)?;
    let mut hidden = before.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &hidden).map_err(failed)?;
    let mut line = Zeroizing::new(String::new());
    let read = stdin.read_line(&mut line);
    let restored = tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &before).map_err(failed);
    read.map_err(|error| Failure::world("cannot read the terminal", &error))?;
    restored.map(|()| line)
}

/// Sixteen phrases and their white space fit many times.
const BYTES_MAX: u64 = 16 * 1024;
