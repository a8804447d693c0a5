//! What people and pipes read: data to stdout, talk to stderr. The only room, with `main`, that writes to either.

use std::io::{self, IsTerminal, Write};

use crate::failure::{Exit, Failure};

pub(crate) mod acts;
pub(crate) mod card;
pub(crate) mod history;
pub(crate) mod json;
pub(crate) mod netcheck;
pub(crate) mod networks;
pub(crate) mod people;
pub(crate) mod ping;
pub(crate) mod policy;
pub(crate) mod relay;
pub(crate) mod signed;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod verify;
pub(crate) mod why;

/// How to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// One JSON object instead of words.
    pub(crate) json: bool,
    /// No tables, pictures or redraw: `name: value` lines.
    pub(crate) plain: bool,
    /// Data and errors only.
    pub(crate) quiet: bool,
    /// Reasons on stderr.
    pub(crate) reasons: bool,
    /// Colour on stdout.
    pub(crate) colour: bool,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColourWhen {
    /// On a terminal that can, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColourWhen {
    /// Whether stdout is to have colour.
    pub(crate) fn decide(self, json: bool) -> bool {
        match self {
            Self::Always => !json,
            Self::Never => false,
            Self::Auto => {
                let set = |name| std::env::var_os(name).is_some_and(|text| !text.is_empty());
                let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                !json && !set("NO_COLOR") && !dumb && io::stdout().is_terminal()
            }
        }
    }
}

/// Writes data to stdout as it is.
///
/// # Errors
/// When stdout is closed (then nothing more is said) or cannot be written.
pub(crate) fn data(text: &str) -> Result<(), Failure> {
    data_bytes(text.as_bytes())
}

/// The same for what is no text.
///
/// # Errors
/// As [`data`].
pub(crate) fn data_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::new(Exit::Done, CLOSED_PIPE, "")
        } else {
            Failure::world("stdout cannot be written", &error)
        }
    })
}

/// Writes talk to stderr, unless it was asked for data only.
pub(crate) fn talk(style: Style, text: &str) {
    if !style.quiet && !style.json {
        say(text);
    }
}

/// Writes a reason to stderr, if reasons were asked for; with `--json`, too.
pub(crate) fn reason(style: Style, text: &str) {
    if style.reasons {
        say(text);
    }
}

/// Writes a line of the daemon's log to stderr.
pub(crate) fn log_line(line: &str) {
    say(&format!("daemon: {}\n", clean(line)));
}

/// Writes to stderr; nobody can be told when that is closed.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Shows a failure: `error:`, a blank line, hints; with `--json` also as an object on stdout.
pub(crate) fn failure(style: Style, failure: &Failure) {
    if failure.code == CLOSED_PIPE {
        return;
    }
    if style.json {
        // The exit code says it as well, should stdout be closed.
        let _ = data(&json::failure(failure));
    }
    say(&failure_text(failure));
}

/// The words of a failure.
pub(crate) fn failure_text(failure: &Failure) -> String {
    let mut text = format!("error: {}\n", clean_lines(&failure.text));
    if !failure.hints.is_empty() {
        text.push('\n');
    }
    for hint in &failure.hints {
        text.push_str(&format!("hint: {}\n", clean_lines(hint)));
    }
    text
}

/// The text with its header and warnings in colour, if colour is wanted; its words stay the same.
pub(crate) fn painted(style: Style, text: String) -> String {
    if !style.colour {
        return text;
    }
    let paint = |line: &str| {
        if let Some(rest) = line.strip_prefix("warning:") {
            format!("\u{1b}[33mwarning:\u{1b}[0m{rest}")
        } else if line.starts_with("NAME ") {
            let (words, end) = line.split_at(line.trim_end().len());
            format!("\u{1b}[1m{words}\u{1b}[0m{end}")
        } else {
            line.to_owned()
        }
    };
    text.split_inclusive('\n').map(paint).collect()
}

/// Text that others wrote, without what could steer a terminal or turn the reading direction.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .filter(|symbol| is_harmless(*symbol))
        .take(CLEAN_SYMBOLS_MAX)
        .collect()
}

/// As [`clean`], and line ends stay.
fn clean_lines(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// A text of many lines that others wrote, of any length.
pub(crate) fn clean_text(text: &str) -> String {
    let kept = |symbol: &char| *symbol == '\n' || is_harmless(*symbol);
    text.chars().filter(kept).collect()
}

fn is_harmless(symbol: char) -> bool {
    !symbol.is_control()
        && !matches!(symbol,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// The terminal's width in columns; `COLUMNS` wins, 80 when nobody tells; without limit into a pipe.
pub(crate) fn width() -> usize {
    let columns = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    if let Some(columns) = columns {
        return columns;
    }
    if io::stdout().is_terminal() {
        80
    } else {
        usize::MAX
    }
}

/// The code of the failure that is none: the reader had enough.
pub(crate) const CLOSED_PIPE: &str = "closed_pipe";
/// Longer texts from elsewhere are cut.
const CLEAN_SYMBOLS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(clean("nas\u{1b}[2J\u{7}\r\n"), "nas[2J");
        assert_eq!(clean("a\u{9b}31mb"), "a31mb");
    }

    #[test]
    fn a_name_from_elsewhere_cannot_turn_the_reading_direction_or_hide() {
        assert_eq!(
            clean("nas\u{202e}kcatta\u{2066}\u{200b}\u{feff}"),
            "naskcatta"
        );
        assert_eq!(clean("\u{e0041}x\u{200f}"), "x");
    }

    #[test]
    fn letters_of_other_languages_stay() {
        assert_eq!(clean("Größe 日本 שלום"), "Größe 日本 שלום");
    }

    #[test]
    fn a_failure_is_error_blank_hints() {
        let failure = Failure::usage("what\u{1b} went\nasked: x")
            .hint("do")
            .hint("or do");
        assert_eq!(
            failure_text(&failure),
            "error: what went\nasked: x\n\nhint: do\nhint: or do\n"
        );
        assert_eq!(failure_text(&Failure::usage("alone")), "error: alone\n");
    }

    #[test]
    fn colour_changes_no_word() {
        let text = "NAME  RTT\nnas   -\nwarning: x (y)\n".to_owned();
        let style = Style {
            colour: true,
            ..Style::default()
        };
        let colours = painted(style, text.clone());
        assert!(
            colours.contains("\u{1b}[33mwarning:\u{1b}[0m x (y)\n"),
            "{colours}"
        );
        let bare = ["\u{1b}[33m", "\u{1b}[1m", "\u{1b}[0m"]
            .into_iter()
            .fold(colours, |text, code| text.replace(code, ""));
        assert_eq!(bare, text);
        assert_eq!(painted(Style::default(), text.clone()), text);
    }

    #[test]
    fn colour_never_meets_json() {
        assert!(!ColourWhen::Always.decide(true));
        assert!(ColourWhen::Always.decide(false));
        assert!(!ColourWhen::Never.decide(false));
    }
}
