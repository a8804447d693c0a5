//! Instructions per packet: as a table, as the recorded text, and one against the other.

use std::env::consts::ARCH;
use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use meshnode::tunnel::measured::Work;

/// What may be more than recorded: compilers differ a little, and so do machines.
const TOLERANCE: f64 = 0.10;

/// Names of works, and what each takes.
pub(crate) struct Counts(pub(crate) Vec<(String, f64)>);

impl Counts {
    /// For a person.
    pub(crate) fn table(&self, works: &[Work]) -> String {
        let mut text = format!("{:<18}{:>14}\n", "", "instructions");
        for ((name, count), work) in self.0.iter().zip(works) {
            let _ = writeln!(text, "{name:<18}{count:>14.1}  {}", work.what);
        }
        text
    }

    /// As it is recorded.
    pub(crate) fn text(&self) -> String {
        let mut text =
            format!("# Written by: cargo bench --bench instructions -- --bless\narch {ARCH}\n");
        for (name, count) in &self.0 {
            let _ = writeln!(text, "{name} {count:.1}");
        }
        text
    }

    /// Reads what was recorded, if it was on such a machine.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut counts = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let pair = line.split_once(' ');
            let (name, value) = pair.with_context(|| format!("no name and value: {line}"))?;
            if name == "arch" {
                ensure!(value == ARCH, "recorded on {value}, and this is {ARCH}");
            } else {
                let value = value.parse().with_context(|| line.to_owned())?;
                counts.push((name.to_owned(), value));
            }
        }
        Ok(Self(counts))
    }

    /// What is wrong, measured by what was recorded.
    pub(crate) fn compare(&self, recorded: &Self) -> Vec<String> {
        let known = |all: &Self, name: &str| {
            let found = all.0.iter().find(|(other, _)| other == name);
            found.map(|(_, count)| *count)
        };
        let mut faults = Vec::new();
        for (name, count) in &self.0 {
            match known(recorded, name) {
                None => faults.push(format!("{name} is not recorded: --bless does it")),
                Some(before) if *count > before * (1.0 + TOLERANCE) => {
                    let more = (count / before - 1.0) * 100.0;
                    faults.push(format!(
                        "{name} grew by {more:.0} %: {before:.1} to {count:.1}"
                    ));
                }
                Some(_) => {}
            }
        }
        let gone = recorded
            .0
            .iter()
            .filter(|(name, _)| known(self, name).is_none());
        faults.extend(gone.map(|(name, _)| format!("{name} is recorded and not measured")));
        faults
    }
}
