//! What is wrong with a written policy, and where; for people.

use std::fmt;

/// A fault in a text. Lines and columns count from 1, columns in symbols.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
    /// What is wrong, with the thing named.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.text
        )?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// A fault without its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) text: String,
    pub(super) hint: Option<String>,
}

impl Complaint {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A word of a stranger's text as it may be shown: no longer than a line, without control symbols.
pub(super) fn shown(text: &str) -> String {
    shown_up_to(text, 60)
}

/// The same with so many symbols at most.
pub(super) fn shown_up_to(text: &str, symbols: usize) -> String {
    let mut clean: String = text.chars().take(symbols).map(printable).collect();
    if text.chars().nth(symbols).is_some() {
        clean.push_str("..");
    }
    clean
}

/// A symbol, or a question mark for one that a terminal would act on.
pub(super) fn printable(symbol: char) -> char {
    let steers = symbol.is_control()
        || matches!(symbol, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}');
    if steers { '?' } else { symbol }
}
