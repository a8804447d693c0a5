//! A settings file: TOML, one `key = value` a line, no tables.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::key::{Key, Setting};
use crate::failure::{Exit, Failure};
use crate::output::clean;

/// A setting, and the line it stands in, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) setting: Setting,
    pub(super) number: usize,
}

/// Reads a file; one that is not there says nothing.
pub(super) fn read(path: &Path) -> Result<BTreeMap<Key, Line>, Failure> {
    let failed = |cause: &dyn std::fmt::Display| {
        Failure::world(&format!("cannot read {}", path.display()), cause)
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed(&error)),
        Ok(file) => file,
    };
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| failed(&error))?;
    if text.len() as u64 == FILE_BYTES_MAX {
        return Err(failed(&"it is far too long"));
    }
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<BTreeMap<Key, Line>, Failure> {
    let shown = path.display();
    let at = |byte: usize| text.bytes().take(byte).filter(|b| *b == b'\n').count() + 1;
    let wrong = |number: usize, what: &str| {
        let text = format!("{shown}, line {number}: {what}");
        Failure::new(Exit::Refused, "settings_file", text)
    };
    let table = DeTable::parse(text).map_err(|error| {
        let number = error.span().map_or(1, |span| at(span.start));
        wrong(number, &clean(error.message()))
    })?;
    let mut lines = BTreeMap::new();
    for (name, value) in table.get_ref() {
        let number = at(name.span().start);
        let inside = |failure: Failure| Failure {
            text: format!("{shown}, line {number}: {}", failure.text),
            exit: Exit::Refused,
            ..failure
        };
        let key = Key::parse(name.get_ref()).map_err(inside)?;
        let value = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Boolean(on) => on.to_string(),
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                let what = format!("{key} wants a text, a number, true or false");
                return Err(wrong(number, &what));
            }
        };
        let setting = Setting::parse(key, &value).map_err(inside)?;
        lines.insert(key, Line { setting, number });
    }
    Ok(lines)
}

/// A few lines are expected.
const FILE_BYTES_MAX: u64 = 64 * 1024;
