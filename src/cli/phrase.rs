//! Reads recovery phrases: from the terminal, without echo, or from stdin. Never from the arguments.

use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;

use meshnode_protocol::recovery::{PHRASE_WORDS, RecoveryPhrase};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::control::SecretText;
use crate::failure::{Exit, Failure};
use crate::output;

/// Phrases typed by a person, one a line; an empty line or the end of stdin ends them.
///
/// # Errors
/// When a line is no phrase, or there is none.
pub(crate) fn ask() -> Result<Vec<SecretText>, Failure> {
    let text = if io::stdin().is_terminal() {
        if !io::stderr().is_terminal() {
            let text = "the recovery phrase is asked for, and nobody would see the question";
            return Err(Failure::usage(text).hint("give the phrase on stdin"));
        }
        let text = hidden_line()?;
        output::say("\n");
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
    let signals = end_seen(before.clone()).map_err(failed)?;
    let mut hidden = before.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &hidden).map_err(failed)?;
    // A question is neither talk nor data: also with --quiet and --json it has to be seen.
    output::say("Recovery phrase, twelve words (nothing is shown while you type): ");
    let mut line = Zeroizing::new(String::new());
    let read = stdin.read_line(&mut line);
    let restored = tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &before).map_err(failed);
    signals.thread_unblock().map_err(failed)?;
    read.map_err(|error| Failure::world("cannot read the terminal", &error))?;
    restored.map(|()| line)
}

/// From now on a signal that ends the program first gives the terminal back as it was, and none stops it. Gives the
/// signals that are held back for that.
fn end_seen(before: Termios) -> nix::Result<SigSet> {
    let mut ends = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        ends.add(signal);
    }
    let mut held = ends;
    held.add(Signal::SIGTSTP);
    held.thread_block()?;
    std::thread::spawn(move || {
        if ends.wait().is_err() {
            return;
        }
        // A terminal that is gone needs nothing.
        let _gone = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &before);
        output::say("\nNothing was done.\n");
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });
    Ok(held)
}

/// Sixteen phrases and their white space fit many times.
const BYTES_MAX: u64 = 16 * 1024;
