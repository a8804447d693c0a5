//! Writes a policy as HuJSON, one entry a line, so that a line can be spoken of.

use super::directory::Directory;
use super::read::Lines;
use super::words::Words;
use super::{Members, Pins, Place, Policy, Rule, Selector, Target, Terms, Test};
use crate::id::NodeId;
use crate::name::{Alias, Group, Tag};

/// A policy as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Where its rules and tests stand.
    pub lines: Lines,
    /// Each entry with its line, in their order.
    pub entries: Vec<(u32, Entry)>,
}

/// An entry of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A group.
    Group(Group),
    /// Whom a tag belongs to.
    TagOwner(Tag),
    /// A host.
    Host(Alias),
    /// What is said of a node.
    Node(NodeId),
    /// A rule, by its number among the policy's.
    Rule(usize),
    /// A test, by its number among the policy's.
    Test(usize),
}

/// Writes a policy with the names of a network. Where every group and host that it names is defined, it reads back.
#[must_use]
pub fn render(policy: &Policy, directory: &Directory) -> Rendered {
    let mut page = Page {
        words: Words::of(policy, directory),
        policy,
        text: String::new(),
        line: 1,
    };
    let mut lines = Lines::default();
    let mut known = Vec::new();
    page.note(Place::Head, "");
    page.push("{");
    let entries = named(
        &policy.groups,
        |group| format!("group:{group}"),
        &page.words,
    );
    let groups = page.section(Place::Groups, ['{', '}'], entries);
    known.extend(
        groups
            .into_iter()
            .zip(policy.groups.keys().cloned().map(Entry::Group)),
    );
    let entries = named(&policy.tag_owners, |tag| format!("tag:{tag}"), &page.words);
    let owned = page.section(Place::TagOwners, ['{', '}'], entries);
    known.extend(
        owned
            .into_iter()
            .zip(policy.tag_owners.keys().cloned().map(Entry::TagOwner)),
    );
    let hosts = policy.hosts.iter().map(|(alias, host)| {
        let text = format!("\"{alias}\": \"{}\"", host.at);
        (host.note.clone(), text)
    });
    let hosts = page.section(Place::Hosts, ['{', '}'], hosts.collect());
    known.extend(
        hosts
            .into_iter()
            .zip(policy.hosts.keys().cloned().map(Entry::Host)),
    );
    let nodes = policy.nodes.iter().map(|(id, pins)| {
        let text = format!("\"{}\": {}", page.words.write_node(id), pins_text(pins));
        (pins.note.clone(), text)
    });
    let nodes = page.section(Place::Nodes, ['{', '}'], nodes.collect());
    known.extend(
        nodes
            .into_iter()
            .zip(policy.nodes.keys().copied().map(Entry::Node)),
    );
    for place in [Place::Acls, Place::Grants] {
        let rules = policy.rules.iter().filter(|rule| rule.place() == place);
        let rules = rules.map(|rule| (rule.note.clone(), rule_text(rule, &page.words)));
        lines
            .rules
            .extend(page.section(place, ['[', ']'], rules.collect()));
    }
    let tests = policy.tests.iter();
    let tests = tests.map(|test| (test.note.clone(), test_text(test, &page.words)));
    lines.tests = page.section(Place::Tests, ['[', ']'], tests.collect());
    page.note(Place::Tail, "    ");
    page.push("}");
    let rules = lines.rules.iter().copied().zip((0..).map(Entry::Rule));
    let tests = lines.tests.iter().copied().zip((0..).map(Entry::Test));
    known.extend(rules.chain(tests));
    Rendered {
        text: page.text,
        lines,
        entries: known,
    }
}

/// A page that is being written.
struct Page<'a> {
    words: Words<'a>,
    policy: &'a Policy,
    text: String,
    /// The line that is written next.
    line: u32,
}

impl Page<'_> {
    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        self.line += 1;
    }

    fn comment(&mut self, note: &str, margin: &str) {
        if !note.is_empty() {
            for line in note.split('\n') {
                let line = format!("{margin}// {line}");
                self.push(line.trim_end());
            }
        }
    }

    fn note(&mut self, place: Place, margin: &str) {
        if let Some(note) = self.policy.notes.get(&place) {
            self.comment(note, margin);
        }
    }

    /// A section of notes and entries, unless it has nothing to say; gives the lines of the entries.
    fn section(
        &mut self,
        place: Place,
        [open, close]: [char; 2],
        entries: Vec<(String, String)>,
    ) -> Vec<u32> {
        let mut lines = Vec::new();
        if entries.is_empty() && !self.policy.notes.contains_key(&place) {
            return lines;
        }
        self.note(place, "    ");
        self.push(&format!("    \"{}\": {open}", place.word()));
        for (note, entry) in entries {
            self.comment(&note, "        ");
            lines.push(self.line);
            self.push(&format!("        {entry},"));
        }
        self.push(&format!("    {close},"));
        lines
    }
}

fn named<K>(
    sets: &std::collections::BTreeMap<K, Members>,
    key: impl Fn(&K) -> String,
    words: &Words<'_>,
) -> Vec<(String, String)> {
    let entries = sets.iter().map(|(name, members)| {
        let of = list(members.of.iter().map(|member| words.write(member)));
        (members.note.clone(), format!("\"{}\": {of}", key(name)))
    });
    entries.collect()
}

fn pins_text(pins: &Pins) -> String {
    let mut fields = Vec::new();
    if let Some(name) = &pins.name {
        fields.push(format!("\"name\": \"{name}\""));
    }
    if let Some(tags) = &pins.tags {
        let tags = list(tags.iter().map(|tag| format!("tag:{tag}")));
        fields.push(format!("\"tags\": {tags}"));
    }
    if let Some(owner) = &pins.owner {
        fields.push(format!("\"owner\": \"{}\"", owner.as_str()));
    }
    format!("{{{}}}", fields.join(", "))
}

/// A rule as it is written in a line.
fn rule_text(rule: &Rule, words: &Words<'_>) -> String {
    let src = selectors(&rule.src, words);
    match &rule.terms {
        Terms::Acl { proto, dst } => {
            let proto = proto.map(|proto| format!("\"proto\": \"{proto}\", "));
            let proto = proto.unwrap_or_default();
            let dst = targets(dst, words);
            format!("{{\"action\": \"accept\", \"src\": {src}, {proto}\"dst\": {dst}}}")
        }
        Terms::Grant { dst, ip } => {
            let dst = selectors(dst, words);
            let ip = list(ip.iter().map(ToString::to_string));
            format!("{{\"src\": {src}, \"dst\": {dst}, \"ip\": {ip}}}")
        }
    }
}

/// A test as it is written in a line.
fn test_text(test: &Test, words: &Words<'_>) -> String {
    let mut fields = vec![format!("\"src\": \"{}\"", words.write(&test.src))];
    if let Some(proto) = test.proto {
        fields.push(format!("\"proto\": \"{proto}\""));
    }
    for (name, list) in [("accept", &test.accept), ("deny", &test.deny)] {
        if !list.is_empty() {
            fields.push(format!("\"{name}\": {}", targets(list, words)));
        }
    }
    format!("{{{}}}", fields.join(", "))
}

fn selectors(selectors: &[Selector], words: &Words<'_>) -> String {
    list(selectors.iter().map(|selector| words.write(selector)))
}

fn targets(targets: &[Target], words: &Words<'_>) -> String {
    list(targets.iter().map(|target| words.write_target(target)))
}

/// Texts of our own alphabets, which need no escapes.
fn list(texts: impl Iterator<Item = String>) -> String {
    let quoted: Vec<_> = texts.map(|text| format!("\"{text}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

impl Rule {
    /// The section that it stands in.
    pub(super) const fn place(&self) -> Place {
        match self.terms {
            Terms::Acl { .. } => Place::Acls,
            Terms::Grant { .. } => Place::Grants,
        }
    }
}
