//! Comments of a written policy: which entry each belongs to.
//!
//! A comment belongs to the entry that it is in, or behind on the same line, or else before. In a section without a
//! further entry it belongs to the last one; outside of all sections to the next section, or to the end, unless it
//! stands behind a section on its last line.

use std::collections::BTreeMap;

use super::Place;
use super::fault::printable;

/// A comment as it stands in a text; offsets in bytes.
#[derive(Clone, Debug)]
pub(super) struct Comment {
    pub(super) start: usize,
    pub(super) line: u32,
    pub(super) text: String,
}

/// Where an entry or a section stands; offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The line of its end.
    pub(super) last_line: u32,
}

/// A section that is known, and its entries in the order of the text.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) place: Place,
    pub(super) extent: Extent,
    pub(super) entries: Vec<Extent>,
}

/// The comments, each with what it belongs to.
#[derive(Debug, Default)]
pub(super) struct Notes {
    entries: BTreeMap<(Place, usize), String>,
    places: BTreeMap<Place, String>,
}

impl Notes {
    /// Gives every comment of a text to an entry or a place. `root` is the outermost object.
    pub(super) fn assign(comments: &[Comment], root: Extent, shelves: &[Shelf]) -> Self {
        let mut notes = Self::default();
        let mut found: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for comment in comments {
            let shelf = shelves
                .iter()
                .find(|shelf| comment.start < shelf.extent.end);
            let ended = shelves
                .iter()
                .rfind(|shelf| shelf.extent.end <= comment.start);
            let (place, entry) = match shelf {
                _ if comment.start < root.start => (Place::Head, None),
                None if comment.start >= root.end => (Place::Tail, None),
                Some(shelf) if shelf.holds(comment) => (shelf.place, shelf.entry_of(comment)),
                Some(_) | None => match (ended, shelf) {
                    (Some(ended), _) if ended.extent.last_line == comment.line => {
                        (ended.place, ended.entries.len().checked_sub(1))
                    }
                    (_, Some(shelf)) => (shelf.place, None),
                    (_, None) => (Place::Tail, None),
                },
            };
            found.entry((place, entry)).or_default().push(&comment.text);
        }
        for ((place, entry), lines) in found {
            let note = clean(&lines.join("\n"));
            match entry {
                Some(entry) => drop(notes.entries.insert((place, entry), note)),
                None if note.is_empty() => {}
                None => drop(notes.places.insert(place, note)),
            }
        }
        notes
    }

    /// The note on an entry by its number in its section.
    pub(super) fn entry(&self, place: Place, entry: usize) -> String {
        let note = self.entries.get(&(place, entry));
        note.cloned().unwrap_or_default()
    }

    /// The notes that belong to no entry.
    pub(super) const fn places(&self) -> &BTreeMap<Place, String> {
        &self.places
    }
}

impl Shelf {
    const fn holds(&self, comment: &Comment) -> bool {
        self.extent.start < comment.start && comment.start < self.extent.end
    }

    fn entry_of(&self, comment: &Comment) -> Option<usize> {
        let next = self
            .entries
            .partition_point(|entry| entry.end <= comment.start);
        let behind = next.checked_sub(1).filter(|last| {
            self.entries[*last].last_line == comment.line
                && self
                    .entries
                    .get(next)
                    .is_none_or(|entry| entry.start > comment.start)
        });
        let ahead = (next < self.entries.len()).then_some(next);
        behind.or(ahead).or(next.checked_sub(1))
    }
}

/// The lines of a comment without its marks.
pub(super) fn lines_of(text: &str, block: bool) -> String {
    if !block {
        return text.strip_prefix(' ').unwrap_or(text).trim_end().to_owned();
    }
    let lines = text.split('\n').map(|line| {
        let line = line.trim();
        let line = line.strip_prefix('*').unwrap_or(line);
        line.strip_prefix(' ').unwrap_or(line).trim_end()
    });
    let lines: Vec<_> = lines.collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// A note as it may be shown: without symbols that a terminal would act on, and without blank ends.
pub(super) fn clean(note: &str) -> String {
    let lines = note.split('\n').map(|line| {
        let line = line.trim_end().replace('\t', " ");
        line.chars().map(printable).collect::<String>()
    });
    let lines: Vec<_> = lines.collect();
    lines.join("\n").trim_matches('\n').to_owned()
}
