//! A typed invite code is checked before anything is started: typing mistakes die here, with the symbol named.

use meshnode_protocol::invite::{CodeError, InviteCode};

use crate::control::SecretText;
use crate::failure::{Exit, Failure};

/// Checks a typed code.
///
/// # Errors
/// With the sentence for what is wrong with it.
pub(crate) fn check(code: &SecretText) -> Result<(), Failure> {
    match InviteCode::parse(code.reveal()) {
        Ok(_) => Ok(()),
        Err(error) => Err(from_code_error(&error)),
    }
}

/// The words for a text that is no code; the core's sentence never holds the code itself.
pub(crate) fn from_code_error(error: &CodeError) -> Failure {
    let hint = match error {
        CodeError::Length { .. } | CodeError::Symbol(_) => {
            "copy it whole: 4 groups of 5, like M7K2Q-4XWPA-9TRB3-HZC6D"
        }
        CodeError::Checksum { .. } => "type it again; 0 and O, and 1, I and L, count as the same",
        CodeError::Version(_) => "upgrade meshnode on this machine",
        CodeError::Hint(_) => "copy the part after the @ whole, or leave it out on the LAN",
    };
    Failure::new(Exit::Usage, "bad_code", error.to_string()).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: &str) -> Failure {
        check(&SecretText::new(code.to_owned())).unwrap_err()
    }

    #[test]
    fn a_short_code_says_how_many_symbols_it_has() {
        let failure = told("M7K2Q-4XWPA-9TRB");
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(
            failure.text,
            "this is not an invite code: it has 14 symbols, a code has 20"
        );
    }

    #[test]
    fn a_mistyped_code_is_not_repeated() {
        let failure = told("M7K2Q-4XWPA-9TRB3-HZC6D");
        assert!(
            failure.text.starts_with("the code has a typing mistake"),
            "{failure}"
        );
        assert!(!failure.text.contains("M7K2Q"));
    }
}
