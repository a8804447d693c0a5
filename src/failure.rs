//! What a person sees when something cannot be done: one sentence, at most two hints, and an exit code.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) mod refusal;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub(crate) enum Exit {
    /// Done, or nothing to do.
    Done,
    /// Refused by the state of the world.
    Refused,
    /// Wrong usage.
    Usage,
    /// A fault of this program.
    Bug,
    /// The daemon does not run.
    NoDaemon,
    /// Not in a network.
    NoNetwork,
    /// Denied by policy or rights.
    Denied,
    /// Timed out.
    TimedOut,
    /// The invite is expired, used or cancelled.
    Invite,
    /// Ctrl-C.
    Interrupted,
}

impl Exit {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Done,
        Self::Refused,
        Self::Usage,
        Self::Bug,
        Self::NoDaemon,
        Self::NoNetwork,
        Self::Denied,
        Self::TimedOut,
        Self::Invite,
        Self::Interrupted,
    ];

    /// The number that the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Bug => 3,
            Self::NoDaemon => 4,
            Self::NoNetwork => 5,
            Self::Denied => 6,
            Self::TimedOut => 7,
            Self::Invite => 8,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        exit.code()
    }
}

impl TryFrom<u8> for Exit {
    type Error = String;

    fn try_from(code: u8) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|exit| exit.code() == code)
            .ok_or_else(|| format!("{code} is no exit code of this program"))
    }
}

/// Why something cannot be done, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// A constant word for programs.
    pub(crate) code: Cow<'static, str>,
    /// How the program ends.
    pub(crate) exit: Exit,
    /// One sentence without full stop.
    pub(crate) text: String,
    /// What to type or do; at most two.
    pub(crate) hints: Vec<String>,
}

impl Failure {
    /// A failure without hints.
    pub(crate) fn new(exit: Exit, code: &'static str, text: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code),
            exit,
            text: text.into(),
            hints: Vec::new(),
        }
    }

    /// The same with one more hint; a third is left out.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if self.hints.len() < HINTS_MAX {
            self.hints.push(hint.into());
        }
        self
    }

    /// Wrong usage.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", text)
    }

    /// Refused by the state of the world, with the cause of an I/O error or the like.
    pub(crate) fn world(what: &str, cause: &dyn fmt::Display) -> Self {
        Self::new(Exit::Refused, "refused", format!("{what}: {cause}"))
    }

    /// The daemon has no network.
    pub(crate) fn no_network() -> Self {
        let text = "this machine is in no network";
        Self::new(Exit::NoNetwork, "no_network", text).hint("meshnode init, or meshnode join")
    }

    /// The network is down on this machine: somebody typed `down`.
    pub(crate) fn down() -> Self {
        let text = "the network is down on this machine";
        Self::new(Exit::Refused, "down", text).hint("sudo meshnode up")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// More hints than these are not read.
const HINTS_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::{Exit, Failure};

    #[test]
    fn exit_codes_are_the_contract() {
        let codes: Vec<u8> = Exit::ALL.into_iter().map(Exit::code).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
    }

    #[test]
    fn every_exit_code_is_read_back_as_itself_and_others_are_refused() {
        for exit in Exit::ALL {
            assert_eq!(Exit::try_from(exit.code()), Ok(exit));
        }
        assert!(Exit::try_from(9).is_err());
    }

    #[test]
    fn a_third_hint_is_left_out() {
        let failure = Failure::usage("x").hint("a").hint("b").hint("c");
        assert_eq!(failure.hints, ["a", "b"]);
    }

    #[test]
    fn a_failure_survives_the_socket() {
        let failure = Failure::no_network();
        let line = serde_json::to_string(&failure).unwrap();
        assert_eq!(serde_json::from_str::<Failure>(&line).unwrap(), failure);
    }
}
