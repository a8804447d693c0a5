//! Names: labels that are safe in DNS, on a terminal and in a file name. Parsed once.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// Symbols of a node name, a tag or a local name at most.
pub const NAME_SYMBOLS_MAX: usize = 63;
/// Symbols of a network name at most.
pub const NETWORK_NAME_SYMBOLS_MAX: usize = 32;
/// Symbols of an owner at most.
pub const OWNER_SYMBOLS_MAX: usize = 64;

const RESERVED_NODES: &[&str] = &[
    "all",
    "any",
    "cancel",
    "dns",
    "gateway",
    "isatap",
    "list",
    "local",
    "localhost",
    "meshnode",
    "none",
    "relay",
    "router",
    "self",
    "show",
    "status",
    "wpad",
];
const RESERVED_NETWORKS: &[&str] = &[
    "c",
    "compute",
    "containers",
    "docker",
    "ec2",
    "google",
    "local",
    "localhost",
    "main",
    "user",
];

/// Why a name was refused; the sentence is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name has at least one symbol")]
    Empty,
    /// Longer than allowed.
    #[error("a name has at most {max} symbols, this has {symbols}")]
    TooLong {
        /// How many it has.
        symbols: usize,
        /// How many it may have.
        max: usize,
    },
    /// A symbol outside the alphabet.
    #[error("a name holds only a-z, 0-9 and single hyphens inside")]
    Symbol,
    /// Digits only would look like an address.
    #[error("a name is not digits only")]
    DigitsOnly,
    /// A word with a meaning of its own.
    #[error("the name {0} is reserved")]
    Reserved(String),
}

fn check_label(text: &str, max: usize, reserved: &[&str]) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > max {
        return Err(NameError::TooLong {
            symbols: text.chars().count(),
            max,
        });
    }
    let alphabet = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !alphabet || text.starts_with('-') || text.ends_with('-') || text.contains("--") {
        return Err(NameError::Symbol);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NameError::DigitsOnly);
    }
    if reserved.contains(&text) {
        return Err(NameError::Reserved(text.to_owned()));
    }
    Ok(())
}

/// Turns any text into a label of at most `max` symbols, or nothing when no symbol is left.
fn sanitise(text: &str, max: usize) -> String {
    let mut label = String::new();
    for symbol in text.chars() {
        let symbol = symbol.to_ascii_lowercase();
        if symbol.is_ascii_lowercase() || symbol.is_ascii_digit() {
            label.push(symbol);
        } else if symbol != '\'' && !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
        if label.len() == max {
            break;
        }
    }
    label.trim_end_matches('-').to_owned()
}

macro_rules! label_type {
    ($(#[$doc:meta])* $name:ident, $max:expr, $reserved:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks a label; upper case is lowered.
            ///
            /// # Errors
            /// With the first rule that the text breaks.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let text = text.to_ascii_lowercase();
                check_label(&text, $max, $reserved)?;
                Ok(Self(text))
            }

            /// Makes a label of a host name or any other text: `Alice's PC` becomes `alices-pc`.
            #[must_use]
            pub fn from_text(text: &str, fallback: &str) -> Self {
                let label = sanitise(text, $max);
                Self::parse(&label)
                    .or_else(|_| Self::parse(fallback))
                    .expect("the fallback is a literal of ours that parses")
            }

            /// The label.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                check_label(&text, $max, $reserved).map_err(de::Error::custom)?;
                Ok(Self(text))
            }
        }
    };
}

label_type! {
    /// The name of a node: 1 to 63 of `a-z 0-9 -`, no edge or double hyphen, not digits only, not reserved.
    NodeName, NAME_SYMBOLS_MAX, RESERVED_NODES
}
label_type! {
    /// The name of a network: as a node's, at most 32 symbols.
    NetworkName, NETWORK_NAME_SYMBOLS_MAX, RESERVED_NETWORKS
}
label_type! {
    /// A tag without its `tag:` prefix.
    Tag, NAME_SYMBOLS_MAX, &[]
}
label_type! {
    /// A group of the policy without its `group:` prefix.
    Group, NAME_SYMBOLS_MAX, &[]
}
label_type! {
    /// A word of the policy for an address or prefix.
    Alias, NAME_SYMBOLS_MAX, &[]
}

impl NodeName {
    /// The name with a suffix that keeps it a name: used when the plain one is taken.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> Self {
        let room = NAME_SYMBOLS_MAX.saturating_sub(suffix.len() + 1);
        let front: String = self.0.chars().take(room).collect();
        Self(format!("{}-{suffix}", front.trim_end_matches('-')))
    }
}

/// A person: 1 to 64 of `a-z 0-9 . _ @ + -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Debug)]
#[serde(transparent)]
pub struct Owner(String);

impl Owner {
    /// Checks an owner; upper case is lowered.
    ///
    /// # Errors
    /// With the first rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.to_ascii_lowercase();
        Self::check(&text)?;
        Ok(Self(text))
    }

    fn check(text: &str) -> Result<(), NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > OWNER_SYMBOLS_MAX {
            return Err(NameError::TooLong {
                symbols: text.chars().count(),
                max: OWNER_SYMBOLS_MAX,
            });
        }
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._@+-".contains(&b);
        if text.bytes().all(known) {
            Ok(())
        } else {
            Err(NameError::Symbol)
        }
    }

    /// The owner's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::check(&text).map_err(de::Error::custom)?;
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_at_most_63_symbols_and_a_network_32() {
        assert!(NodeName::parse(&"a".repeat(63)).is_ok());
        assert_eq!(
            NodeName::parse(&"a".repeat(64)),
            Err(NameError::TooLong {
                symbols: 64,
                max: 63
            })
        );
        assert!(NetworkName::parse(&"a".repeat(32)).is_ok());
        assert!(NetworkName::parse(&"a".repeat(33)).is_err());
    }

    #[test]
    fn a_name_holds_nothing_that_a_terminal_or_a_resolver_would_act_on() {
        for text in [
            "\u{1b}[2J",
            "a b",
            "a.b",
            "a\u{202e}b",
            "-a",
            "a-",
            "a--b",
            "ä",
            "a\n",
        ] {
            assert_eq!(NodeName::parse(text), Err(NameError::Symbol), "{text:?}");
        }
        assert_eq!(NodeName::parse(""), Err(NameError::Empty));
        assert_eq!(NodeName::parse("1234"), Err(NameError::DigitsOnly));
        for word in ["localhost", "wpad", "self"] {
            assert!(matches!(NodeName::parse(word), Err(NameError::Reserved(_))));
        }
        let smuggled = crate::codec::encode("\u{1b}[2J");
        assert!(crate::codec::decode::<NodeName>(&smuggled, 100).is_err());
    }

    #[test]
    fn any_text_becomes_a_name() {
        assert_eq!(
            NodeName::from_text("Alice's PC", "node").as_str(),
            "alices-pc"
        );
        assert_eq!(NodeName::from_text("!!!", "node").as_str(), "node");
        assert_eq!(NodeName::from_text("42", "node").as_str(), "node");
        let long = NodeName::from_text(&"x".repeat(200), "node");
        assert_eq!(long.as_str().len(), 63);
        assert_eq!(long.with_suffix("7k2q").as_str().len(), 63);
    }
}
