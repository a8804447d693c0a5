//! Wrong usage in our words, and the front page of the help.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::{Exit, Failure};
use crate::output;

/// The one screen of `meshnode --help`.
pub(crate) const HELP: &str = "\
A private network between your own machines, without a server in the middle

Usage: meshnode [-n NETWORK] VERB ...

  Start         init, invite, join, demo
  Every day     status, ping, up, down, whois, ip, wait
  People        pending, approve, deny, revoke, rename, tag, admin
  Rules         policy
  Trouble       netcheck, block, unblock
  Safety        recovery, rotate, log, verify, export, import
  This machine  set, get, unset, network, leave, daemon
  For others    relay
  Shell         completions, man

  First machine   sudo meshnode init --name homelab
  Then            meshnode invite          and on the next machine:  sudo meshnode join

meshnode VERB --help explains a verb; meshnode man the rest.
";

/// Words of other products, each with ours.
const FOREIGN: &[(&str, &str)] = &[
    ("login", "meshnode init, or meshnode join"),
    ("logout", "sudo meshnode leave"),
    ("lock", "meshnode log, or meshnode verify"),
    (
        "switch",
        "meshnode -n NETWORK VERB: each command says which network",
    ),
    (
        "lock",
        "nothing to lock: what counts is what admins signed, meshnode whois NODE shows who let it in",
    ),
    (
        "serve",
        "nothing to serve: programs answer at this node's address, meshnode status shows it",
    ),
    (
        "update",
        "replace the program, then start the daemon again: sudo meshnode up",
    ),
];

/// What to do about an error of the parser: show help or version, or fail with exit 2.
pub(crate) fn answer(error: &clap::Error, words: &[String]) -> Result<Exit, Failure> {
    let asked = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion];
    if !asked.contains(&error.kind()) {
        return Err(failure(error, words));
    }
    output::data(&error.to_string())?;
    Ok(Exit::Done)
}

fn failure(error: &clap::Error, words: &[String]) -> Failure {
    let bad = bare(&context(error, ContextKind::InvalidArg));
    let value = context(error, ContextKind::InvalidValue);
    let kind = error.kind();
    if kind == ErrorKind::InvalidSubcommand {
        return unknown_verb(error, words);
    }
    let text = if kind == ErrorKind::UnknownArgument {
        format!("{bad} is not known here")
    } else if kind == ErrorKind::MissingRequiredArgument {
        format!("{bad} is missing")
    } else if kind == ErrorKind::ArgumentConflict {
        let other = bare(&context(error, ContextKind::PriorArg));
        format!("{bad} and {other} do not go together")
    } else if kind == ErrorKind::InvalidValue && value.is_empty() {
        format!("{bad} needs a value")
    } else if kind == ErrorKind::InvalidValue {
        let valid = context(error, ContextKind::ValidValue);
        format!("{value} is none of {valid}")
    } else if kind == ErrorKind::ValueValidation {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let cause = cause.unwrap_or_else(|| format!("{value} is not possible"));
        format!("{bad}: {}", output::clean(&cause.replace("..=", " to ")))
    } else {
        // What else the parser can say is said in its own first line.
        first_line(error)
    };
    Failure::usage(text).hint(help_hint(words))
}

/// A flag or a place without the sign for its value: `--ttl <DUR>` is `--ttl`, `<NODE>` is `NODE`.
fn bare(argument: &str) -> String {
    let flag = argument.split(" <").next().unwrap_or(argument);
    // Of several that are missing the first is named.
    let flag = flag.trim_end_matches(',');
    flag.replace(['<', '>', '[', ']'], "").replace("...", "")
}

fn unknown_verb(error: &clap::Error, words: &[String]) -> Failure {
    let word = context(error, ContextKind::InvalidSubcommand);
    let above = verb_of(words).filter(|verb| *verb != word);
    let above = above.map_or("meshnode".to_owned(), |verb| format!("meshnode {verb}"));
    let foreign = FOREIGN.iter().find(|(theirs, _)| *theirs == word);
    let failure = Failure::usage(format!("{above} has no verb {word}"));
    if let Some((_, ours)) = foreign {
        return failure.hint(*ours);
    }
    let near = context(error, ContextKind::SuggestedSubcommand);
    // The most similar comes last.
    match near.rsplit(", ").next() {
        Some(near) if !near.is_empty() => failure.hint(format!("{above} {near}")),
        _ => failure.hint(format!("{above} --help lists them")),
    }
}

/// The verb among the words of a command.
fn verb_of(words: &[String]) -> Option<&str> {
    let command = super::command();
    let mut words = words.iter().map(String::as_str);
    words.find(|word| command.find_subcommand(word).is_some())
}

fn help_hint(words: &[String]) -> String {
    match verb_of(words) {
        Some(verb) => format!("meshnode {verb} --help"),
        None => "meshnode --help".to_owned(),
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => output::clean(text),
        Some(ContextValue::Strings(texts)) => output::clean(&texts.join(", ")),
        _ => String::new(),
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    output::clean(line.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_verb_is_the_one_that_is_suggested() {
        for (typed, near) in [
            ("netchek", "meshnode netcheck"),
            ("statsu", "meshnode status"),
            ("invte", "meshnode invite"),
            ("netwrk", "meshnode network"),
        ] {
            let words = ["meshnode", typed].map(str::to_owned);
            let parsed = super::super::command().try_get_matches_from(&words);
            let failure = failure(&parsed.unwrap_err(), &words);
            assert_eq!(failure.hints, [near], "{typed}");
        }
    }
}
