//! What is told of a run: one table, or one JSON object.

use std::fmt::Write;

use crate::film::{Film, Moment};
use crate::world::{Broken, World};

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The story.
    pub scenario: &'static str,
    /// The seed from which it follows.
    pub seed: u64,
    /// How many nodes were asked for.
    pub nodes: usize,
    /// Virtual time at the end, milliseconds.
    pub virtual_ms: u64,
    /// Events that reached a node.
    pub events: u64,
    /// How long what took, virtual milliseconds.
    pub milestones: Vec<(&'static str, u64)>,
    /// Other figures.
    pub figures: Vec<(&'static str, u64)>,
    /// How it went, moment by moment; empty unless the run was filmed.
    pub moments: Vec<Moment>,
    /// The hash of everything that happened, hexadecimal.
    pub trace: String,
    /// The invariant that broke, if one did.
    pub broken: Option<String>,
}

impl Report {
    pub(crate) fn of(
        world: &World,
        scenario: &'static str,
        nodes: usize,
        broken: Option<Broken>,
    ) -> Self {
        let hash = world.trace_hash();
        let mut trace = String::new();
        for byte in &hash.as_bytes()[..16] {
            // Writing into a string cannot fail.
            let _written = write!(trace, "{byte:02x}");
        }
        Self {
            scenario,
            seed: world.seed,
            nodes,
            virtual_ms: world.now_ms(),
            events: world.trace.events(),
            milestones: world.milestones.clone(),
            figures: world.figures.clone(),
            moments: world.film.as_ref().map(Film::moments).unwrap_or_default(),
            trace,
            broken: broken.map(|broken| broken.0),
        }
    }

    /// The command that runs the very same world again.
    #[must_use]
    pub fn replay(&self) -> String {
        format!(
            "cargo sim --scenario {} --nodes {} --seed {}",
            self.scenario, self.nodes, self.seed
        )
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut rows = vec![
            ("scenario".to_owned(), self.scenario.to_owned()),
            ("seed".to_owned(), self.seed.to_string()),
            ("nodes".to_owned(), self.nodes.to_string()),
            ("virtual time".to_owned(), seconds(self.virtual_ms)),
            ("events".to_owned(), self.events.to_string()),
        ];
        let milestones = self.milestones.iter();
        rows.extend(milestones.map(|(what, ms)| ((*what).to_owned(), seconds(*ms))));
        let figures = self.figures.iter();
        rows.extend(figures.map(|(what, number)| ((*what).to_owned(), number.to_string())));
        rows.push(("trace hash".to_owned(), self.trace.clone()));
        let width = rows.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
        let lines = rows
            .iter()
            .map(|(what, value)| format!("{what:<width$}  {value}\n"));
        lines.collect()
    }

    /// One JSON object on one line.
    #[must_use]
    pub fn json(&self) -> String {
        let list = |entries: &[(&'static str, u64)]| {
            let entries = entries
                .iter()
                .map(|(what, n)| format!("{}:{n}", quoted(what)));
            entries.collect::<Vec<_>>().join(",")
        };
        let broken = self.broken.as_deref().map_or("null".to_owned(), quoted);
        format!(
            "{{\"scenario\":{},\"seed\":{},\"nodes\":{},\"virtual_ms\":{},\"events\":{},\
             \"milestones_ms\":{{{}}},\"figures\":{{{}}},\"trace\":{},\"broken\":{broken}}}",
            quoted(self.scenario),
            self.seed,
            self.nodes,
            self.virtual_ms,
            self.events,
            list(&self.milestones),
            list(&self.figures),
            quoted(&self.trace),
        )
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for symbol in text.chars() {
        match symbol {
            '"' | '\\' => quoted.extend(['\\', symbol]),
            symbol if symbol < ' ' => {
                // Writing into a string cannot fail.
                let _written = write!(quoted, "\\u{:04x}", u32::from(symbol));
            }
            symbol => quoted.push(symbol),
        }
    }
    quoted.push('"');
    quoted
}
