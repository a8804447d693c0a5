//! What changed between two policies, line by line, for people.

use std::collections::BTreeMap;

use super::directory::Directory;
use super::{Place, Policy, render};

/// Whether a line came, went, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// Only the old policy has it.
    Removed,
    /// Only the new policy has it.
    Added,
}

/// A line that only one of two policies has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which of them.
    pub sign: Sign,
    /// The section it stands in.
    pub section: &'static str,
    /// Its line in the policy that has it.
    pub line: u32,
    /// The line without margin and comma.
    pub text: String,
}

/// The lines that two policies do not share, by section: what went before what came. Comments and the order of rules
/// are no difference: they change nothing.
#[must_use]
pub fn difference(old: &Policy, new: &Policy, directory: &Directory) -> Vec<Difference> {
    let (old, new) = (lines(old, directory), lines(new, directory));
    let mut differences = Vec::new();
    for place in Place::ALL {
        let section = |lines: &[Line]| -> Vec<Line> {
            let own = lines.iter().filter(|line| line.place == place);
            own.cloned().collect()
        };
        let (old, new) = (section(&old), section(&new));
        for (sign, these, those) in [(Sign::Removed, &old, &new), (Sign::Added, &new, &old)] {
            let mut shared: BTreeMap<&str, usize> = BTreeMap::new();
            for line in those {
                *shared.entry(&line.text).or_default() += 1;
            }
            for line in these {
                match shared.get_mut(line.text.as_str()) {
                    Some(count) if *count > 0 => *count -= 1,
                    Some(_) | None => differences.push(Difference {
                        sign,
                        section: place.word(),
                        line: line.number,
                        text: line.text.clone(),
                    }),
                }
            }
        }
    }
    differences
}

#[derive(Clone)]
struct Line {
    place: Place,
    number: u32,
    text: String,
}

/// The entries of a policy with the lines that they have when it is written.
fn lines(policy: &Policy, directory: &Directory) -> Vec<Line> {
    let rendered = render(policy, directory);
    let mut lines = Vec::new();
    let mut place = None;
    for (number, text) in (1..).zip(rendered.text.lines()) {
        let entry = text.strip_prefix("        ");
        let entry = entry.filter(|entry| !entry.starts_with("//"));
        match (entry, place) {
            (Some(entry), Some(place)) => lines.push(Line {
                place,
                number,
                text: entry.trim_end_matches(',').to_owned(),
            }),
            (Some(_), None) => {}
            (None, _) => {
                let heading = text.trim_start().strip_prefix('"');
                let heading = heading.and_then(|rest| rest.split('"').next());
                place = heading.and_then(Place::section).or(place);
            }
        }
    }
    lines
}
