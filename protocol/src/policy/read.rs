//! Reads a written policy: HuJSON, every fault with its line and column, all at once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::tokens::Token;
use jsonc_parser::{CollectOptions, CommentCollectionStrategy, ParseOptions, parse_to_ast};

use super::directory::Directory;
use super::fault::{Complaint, Fault, shown};
use super::notes::{Comment, Extent, Notes, Shelf, lines_of};
use super::words::Words;
use super::{Place, Policy, unsupported};
use crate::limits::{POLICY_NOTE_BYTES_MAX, POLICY_TEXT_BYTES_MAX};

/// The sections.
pub(super) const SECTIONS: [&str; 7] = [
    "groups",
    "tagOwners",
    "hosts",
    "nodes",
    "acls",
    "grants",
    "tests",
];

/// A policy as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The policy.
    pub policy: Policy,
    /// Where its rules and tests stand.
    pub lines: Lines,
    /// What is right, and may still not be what was meant.
    pub notices: Vec<Fault>,
}

/// The lines of rules and tests, in the order of the policy's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Of the rules.
    pub rules: Vec<u32>,
    /// Of the tests.
    pub tests: Vec<u32>,
}

/// Reads a policy in a network.
///
/// # Errors
/// With every fault of the text, in its order. What breaks the form of the text hides what stands behind.
pub fn read(text: &str, directory: &Directory) -> Result<Read, Vec<Fault>> {
    let mut reader = Reader::new(text, directory);
    let read = reader.read();
    reader.faults.sort();
    reader.faults.dedup();
    match read {
        Some(read) if reader.faults.is_empty() => Ok(read),
        Some(_) | None => Err(reader.faults),
    }
}

/// A text on its way to a policy.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// Where each line starts.
    starts: Vec<usize>,
    pub(super) words: Words<'a>,
    pub(super) notes: Notes,
    pub(super) lines: Lines,
    faults: Vec<Fault>,
    notices: Vec<Fault>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, directory: &'a Directory) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            text,
            starts: [0].into_iter().chain(ends.map(|(at, _)| at + 1)).collect(),
            words: Words {
                directory,
                aliases: BTreeSet::new(),
                groups: BTreeSet::new(),
                owners: BTreeSet::new(),
            },
            notes: Notes::default(),
            lines: Lines::default(),
            faults: Vec::new(),
            notices: Vec::new(),
        }
    }

    fn read(&mut self) -> Option<Read> {
        if self.text.len() > POLICY_TEXT_BYTES_MAX {
            let limit = POLICY_TEXT_BYTES_MAX;
            let size = self.text.len();
            self.fault(
                0,
                Complaint::new(format!("{size} bytes are more than {limit}")),
            );
            return None;
        }
        let collect = CollectOptions {
            comments: CommentCollectionStrategy::AsTokens,
            tokens: true,
        };
        let parsed = match parse_to_ast(self.text, &collect, &strict()) {
            Ok(parsed) => parsed,
            Err(error) => {
                let complaint = Complaint::new(error.kind().to_string());
                self.fault(error.range().start, complaint);
                return None;
            }
        };
        let Some(Value::Object(root)) = &parsed.value else {
            let complaint = Complaint::new("a policy is one object in braces");
            self.fault(0, complaint);
            return None;
        };
        let tokens = parsed.tokens.unwrap_or_default();
        let comments = tokens.iter().filter_map(|token| {
            let (text, block) = if let Token::CommentLine(text) = &token.token {
                (text, false)
            } else if let Token::CommentBlock(text) = &token.token {
                (text, true)
            } else {
                return None;
            };
            Some((token.range, lines_of(text, block)))
        });
        let comments = self.comments(comments.collect());
        let extent = self.extent(root.range);
        self.notes = Notes::assign(&comments, extent, &self.shelves(root));
        let policy = self.policy(root);
        Some(Read {
            policy,
            lines: std::mem::take(&mut self.lines),
            notices: std::mem::take(&mut self.notices),
        })
    }

    fn comments(&mut self, found: Vec<(Range, String)>) -> Vec<Comment> {
        let mut comments = Vec::new();
        for (range, text) in found {
            if text.len() > POLICY_NOTE_BYTES_MAX {
                let limit = POLICY_NOTE_BYTES_MAX;
                let complaint = Complaint::new(format!("a comment has at most {limit} bytes"));
                self.fault(range.start, complaint);
            }
            comments.push(Comment {
                start: range.start,
                line: self.line(range.start),
                text,
            });
        }
        comments
    }

    fn policy(&mut self, root: &Object<'_>) -> Policy {
        let mut policy = Policy::default();
        let sections = self.fields(root, "", &SECTIONS);
        // What gives words their meaning comes first, wherever it stands.
        for name in ["groups", "hosts", "nodes"] {
            if let Some(value) = sections.get(name) {
                self.declare(name, value, &mut policy);
            }
        }
        for name in ["groups", "tagOwners", "nodes", "acls", "grants", "tests"] {
            if let Some(value) = sections.get(name) {
                self.section(name, value, &mut policy);
            }
        }
        policy.notes.clone_from(self.notes.places());
        self.check_size(&policy);
        self.notice(&policy, root, &sections);
        policy
    }

    fn notice(
        &mut self,
        policy: &Policy,
        root: &Object<'_>,
        sections: &BTreeMap<String, &Value<'_>>,
    ) {
        if policy.rules.is_empty() {
            let complaint = Complaint::new("there is no rule: everything is denied");
            let notice = self.at(root.range.start, complaint);
            self.notices.push(notice);
        }
        if let Some(value) = sections.get("tagOwners") {
            let complaint = Complaint::new("tagOwners is kept and gives no right")
                .hint("tags are given by admins");
            let notice = self.at(value.range().start, complaint);
            self.notices.push(notice);
        }
    }

    /// The sections as comments see them.
    fn shelves(&self, root: &Object<'_>) -> Vec<Shelf> {
        let mut shelves = Vec::new();
        for property in &root.properties {
            let Some(place) = Place::section(property.name.as_str()) else {
                continue;
            };
            let value = &property.value;
            let entries = match (value.as_object(), value.as_array()) {
                (Some(object), _) => ranges(&object.properties),
                (None, Some(array)) => ranges(&array.elements),
                (None, None) => continue,
            };
            shelves.push(Shelf {
                place,
                extent: self.extent(property.value.range()),
                entries: entries
                    .into_iter()
                    .map(|range| self.extent(range))
                    .collect(),
            });
        }
        shelves
    }

    fn extent(&self, range: Range) -> Extent {
        Extent {
            start: range.start,
            end: range.end,
            last_line: self.line(range.end.saturating_sub(1)),
        }
    }

    /// The line of an offset, from 1.
    pub(super) fn line(&self, at: usize) -> u32 {
        let line = self.starts.partition_point(|start| *start <= at);
        u32::try_from(line).expect("a text within its limit has fewer lines than bytes")
    }

    fn at(&self, at: usize, complaint: Complaint) -> Fault {
        let line = self.line(at);
        let start = self.starts[line as usize - 1];
        let before = self.text.get(start..at).unwrap_or_default();
        let column = before.chars().count() + 1;
        Fault {
            line,
            column: u32::try_from(column).expect("a text within its limit has fewer columns"),
            text: complaint.text,
            hint: complaint.hint,
        }
    }

    /// Says that something at an offset is wrong.
    pub(super) fn fault(&mut self, at: usize, complaint: Complaint) {
        let fault = self.at(at, complaint);
        self.faults.push(fault);
    }

    /// What was read, or `None` and a fault.
    pub(super) fn take<T>(&mut self, at: usize, read: Result<T, Complaint>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(complaint) => {
                self.fault(at, complaint);
                None
            }
        }
    }

    /// The fields of an object by name; what is unknown or stands there twice is a fault.
    pub(super) fn fields<'v>(
        &mut self,
        object: &'v Object<'_>,
        section: &str,
        known: &[&str],
    ) -> BTreeMap<String, &'v Value<'v>> {
        let mut fields = BTreeMap::new();
        for property in &object.properties {
            let name = property.name.as_str();
            if !known.contains(&name) {
                let complaint = unsupported::field(section, name, known);
                self.fault(property.range.start, complaint);
            } else if fields.insert(name.to_owned(), &property.value).is_some() {
                self.twice(property);
            }
        }
        fields
    }

    /// Says that a name stands twice in one object.
    pub(super) fn twice(&mut self, property: &ObjectProp<'_>) {
        let name = shown(property.name.as_str());
        let complaint = Complaint::new(format!("{name} stands here twice"));
        self.fault(property.range.start, complaint);
    }

    /// An object, or a fault.
    pub(super) fn object<'v>(
        &mut self,
        what: &str,
        value: &'v Value<'v>,
    ) -> Option<&'v Object<'v>> {
        let object = value.as_object();
        if object.is_none() {
            let complaint = Complaint::new(format!("{what} is an object in braces"));
            self.fault(value.range().start, complaint);
        }
        object
    }

    /// A text, or a fault.
    pub(super) fn string<'v>(&mut self, what: &str, value: &'v Value<'v>) -> Option<&'v str> {
        let string = value.as_string_lit().map(|string| string.value.as_ref());
        if string.is_none() {
            let complaint = Complaint::new(format!("{what} is a text in quotes"));
            self.fault(value.range().start, complaint);
        }
        string
    }

    /// A list of texts with their offsets; what is none is a fault.
    pub(super) fn strings<'v>(
        &mut self,
        what: &str,
        value: &'v Value<'v>,
    ) -> Vec<(usize, &'v Cow<'v, str>)> {
        let Some(array) = value.as_array() else {
            let complaint = Complaint::new(format!("{what} is a list of texts in brackets"));
            self.fault(value.range().start, complaint);
            return Vec::new();
        };
        let mut strings = Vec::new();
        for element in &array.elements {
            if let Value::StringLit(string) = element {
                strings.push((string.range.start, &string.value));
            } else {
                let complaint = Complaint::new(format!("{what} holds texts in quotes"));
                self.fault(element.range().start, complaint);
            }
        }
        strings
    }
}

fn ranges(ranged: &[impl Ranged]) -> Vec<Range> {
    ranged.iter().map(Ranged::range).collect()
}

/// HuJSON: JSON with comments and trailing commas, and nothing else.
const fn strict() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_loose_object_property_names: false,
        allow_trailing_commas: true,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}
