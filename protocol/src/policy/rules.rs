//! The sections of a written policy.

use std::collections::BTreeSet;

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged;

use super::fault::{Complaint, shown};
use super::read::Reader;
use super::selector::Selector;
use super::service::{Proto, Service};
use super::words::{bad, tag};
use super::{Host, Members, Pins, Place, Policy, Rule, Target, Terms, Test};
use crate::limits::{POLICY_RULES_MAX, POLICY_TESTS_MAX, TAGS_MAX};
use crate::name::{Alias, Group, NodeName, Owner};

impl Reader<'_> {
    /// Reads what a section declares: names of groups, the hosts, owners that nodes are given.
    pub(super) fn declare(&mut self, name: &str, value: &Value<'_>, policy: &mut Policy) {
        let Some(object) = value.as_object() else {
            // The other two are told when they are read.
            if name == "hosts" {
                self.object(name, value);
            }
            return;
        };
        match name {
            "groups" => {
                let names = object.properties.iter().map(|group| group.name.as_str());
                let groups = names.filter_map(|name| name.strip_prefix("group:"));
                let groups = groups.filter_map(|name| Group::parse(name).ok());
                self.words.groups.extend(groups);
            }
            "nodes" => {
                let pins = object.properties.iter();
                let owners = pins.filter_map(|pins| pins.value.as_object()?.get_string("owner"));
                let owners = owners.filter_map(|owner| Owner::parse(&owner.value).ok());
                self.words.owners.extend(owners);
            }
            _ => self.hosts(object, policy),
        }
    }

    fn hosts(&mut self, object: &Object<'_>, policy: &mut Policy) {
        for (index, property) in object.properties.iter().enumerate() {
            let (key, at) = (property.name.as_str(), property.range.start);
            let note = self.notes.entry(Place::Hosts, index);
            let Some((alias, at)) = self.host(key, at, &property.value) else {
                continue;
            };
            self.words.aliases.insert(alias.clone());
            if policy.hosts.insert(alias, Host { at, note }).is_some() {
                self.twice(property);
            }
        }
    }

    fn host(&mut self, key: &str, at: usize, value: &Value<'_>) -> Option<(Alias, super::Prefix)> {
        let alias = Alias::parse(key).map_err(|error| bad("host", key, &error));
        let alias = self.take(at, alias);
        let text = self.string("an address", value)?;
        let prefix = self.words.read_prefix(text);
        let prefix = self.take(value.range().start, prefix);
        alias.zip(prefix)
    }

    /// Reads a section into the policy.
    pub(super) fn section(&mut self, name: &str, value: &Value<'_>, policy: &mut Policy) {
        match name {
            "groups" | "tagOwners" | "nodes" => {
                let Some(object) = self.object(name, value) else {
                    return;
                };
                match name {
                    "groups" => self.groups(object, policy),
                    "tagOwners" => self.tag_owners(object, policy),
                    _ => self.nodes(object, policy),
                }
            }
            _ => {
                let Some(array) = value.as_array() else {
                    let complaint = Complaint::new(format!("{name} is a list in brackets"));
                    self.fault(value.range().start, complaint);
                    return;
                };
                for (index, element) in array.elements.iter().enumerate() {
                    if let Some(object) = self.object(name, element) {
                        self.entry(name, index, object, policy);
                    }
                }
            }
        }
    }

    fn entry(&mut self, name: &str, index: usize, object: &Object<'_>, policy: &mut Policy) {
        let line = self.line(object.range.start);
        match name {
            "acls" => {
                if let Some(mut rule) = self.acl(object) {
                    rule.note = self.notes.entry(Place::Acls, index);
                    policy.rules.push(rule);
                    self.lines.rules.push(line);
                }
            }
            "grants" => {
                if let Some(mut rule) = self.grant(object) {
                    rule.note = self.notes.entry(Place::Grants, index);
                    policy.rules.push(rule);
                    self.lines.rules.push(line);
                }
            }
            _ => {
                if let Some(mut test) = self.test(object) {
                    test.note = self.notes.entry(Place::Tests, index);
                    policy.tests.push(test);
                    self.lines.tests.push(line);
                }
            }
        }
    }

    /// Says that there are too many rules or tests.
    pub(super) fn check_size(&mut self, policy: &Policy) {
        for (what, count, max) in [
            ("rules", policy.rules.len(), POLICY_RULES_MAX),
            ("tests", policy.tests.len(), POLICY_TESTS_MAX),
        ] {
            if count > max {
                let complaint = Complaint::new(format!("{count} {what} are more than {max}"));
                self.fault(0, complaint);
            }
        }
    }

    fn groups(&mut self, object: &Object<'_>, policy: &mut Policy) {
        for (index, property) in object.properties.iter().enumerate() {
            let (key, at) = (property.name.as_str(), property.range.start);
            let group = match key.strip_prefix("group:") {
                Some(name) => Group::parse(name).map_err(|error| bad("group", name, &error)),
                None => Err(Complaint::new(format!("{} is no group", shown(key)))
                    .hint(format!("write group:{}", shown(key)))),
            };
            let group = self.take(at, group);
            let of = self.selectors("a group", &property.value, |selector| match selector {
                Selector::Node(_) | Selector::Owner(_) => true,
                Selector::All
                | Selector::Member
                | Selector::Admin
                | Selector::Tagged
                | Selector::Own
                | Selector::Group(_)
                | Selector::Tag(_)
                | Selector::Host(_)
                | Selector::Prefix(_) => false,
            });
            let note = self.notes.entry(Place::Groups, index);
            let of = of.into_iter().collect();
            if let Some(group) = group
                && policy.groups.insert(group, Members { of, note }).is_some()
            {
                self.twice(property);
            }
        }
    }

    fn tag_owners(&mut self, object: &Object<'_>, policy: &mut Policy) {
        for (index, property) in object.properties.iter().enumerate() {
            let tag = self.tag(property.range.start, property.name.as_str());
            let of = self.selectors(
                "a tag's owners",
                &property.value,
                |selector| match selector {
                    Selector::Member
                    | Selector::Admin
                    | Selector::Tagged
                    | Selector::Node(_)
                    | Selector::Owner(_)
                    | Selector::Group(_)
                    | Selector::Tag(_) => true,
                    Selector::All | Selector::Own | Selector::Host(_) | Selector::Prefix(_) => {
                        false
                    }
                },
            );
            let note = self.notes.entry(Place::TagOwners, index);
            let of = of.into_iter().collect();
            if let Some(tag) = tag
                && policy
                    .tag_owners
                    .insert(tag, Members { of, note })
                    .is_some()
            {
                self.twice(property);
            }
        }
    }

    fn nodes(&mut self, object: &Object<'_>, policy: &mut Policy) {
        let mut names = BTreeSet::new();
        for (index, property) in object.properties.iter().enumerate() {
            let node = self.words.read_node(property.name.as_str());
            let node = self.take(property.range.start, node);
            let Some(object) = self.object("a node", &property.value) else {
                continue;
            };
            let mut pins = self.pins(object);
            pins.note = self.notes.entry(Place::Nodes, index);
            if let Some(name) = &pins.name
                && !names.insert(name.clone())
            {
                let complaint = Complaint::new(format!("two nodes are named {name}"));
                self.fault(property.range.start, complaint);
            }
            if let Some(node) = node
                && policy.nodes.insert(node, pins).is_some()
            {
                self.twice(property);
            }
        }
    }

    fn pins(&mut self, object: &Object<'_>) -> Pins {
        let fields = self.fields(object, "nodes", &["name", "tags", "owner"]);
        let mut pins = Pins::default();
        if let Some(value) = fields.get("name")
            && let Some(text) = self.string("a name", value)
        {
            let name = NodeName::parse(text).map_err(|error| bad("name", text, &error));
            pins.name = self.take(value.range().start, name);
        }
        if let Some(value) = fields.get("owner")
            && let Some(text) = self.string("an owner", value)
        {
            let owner = Owner::parse(text).map_err(|error| bad("owner", text, &error));
            pins.owner = self.take(value.range().start, owner);
        }
        if let Some(value) = fields.get("tags") {
            let texts = self.strings("tags", value);
            let mut tags = BTreeSet::new();
            for (at, text) in texts {
                tags.extend(self.tag(at, text));
            }
            if tags.len() > TAGS_MAX {
                let complaint = Complaint::new(format!("a node has at most {TAGS_MAX} tags"));
                self.fault(value.range().start, complaint);
            }
            pins.tags = Some(tags);
        }
        pins
    }

    fn tag(&mut self, at: usize, text: &str) -> Option<crate::name::Tag> {
        let read = match text.strip_prefix("tag:") {
            Some(name) => tag(name),
            None => Err(Complaint::new(format!("{} is no tag", shown(text)))
                .hint(format!("write tag:{}", shown(text)))),
        };
        self.take(at, read)
    }

    fn acl(&mut self, object: &Object<'_>) -> Option<Rule> {
        let known = ["action", "src", "proto", "dst"];
        let fields = self.fields(object, "acls", &known);
        match fields.get("action") {
            Some(value) => match self.string("action", value) {
                Some("accept") | None => {}
                Some(other) => {
                    let complaint = Complaint::new(format!("no action is {}", shown(other)));
                    let hint = "rules only allow: write accept; what no rule allows is denied";
                    self.fault(value.range().start, complaint.hint(hint));
                }
            },
            None => self.missing(object, "action", "write \"action\": \"accept\""),
        }
        let proto = self.proto(fields.get("proto").copied());
        let src = self.sources(object, fields.get("src").copied());
        let dst = match fields.get("dst") {
            Some(value) => self.targets(value, proto),
            None => {
                self.missing(object, "dst", "who may be reached, as in [\"nas:22\"]");
                Vec::new()
            }
        };
        let terms = Terms::Acl { proto, dst };
        let note = String::new();
        (!src.is_empty()).then_some(Rule { src, terms, note })
    }

    fn grant(&mut self, object: &Object<'_>) -> Option<Rule> {
        let fields = self.fields(object, "grants", &["src", "dst", "ip"]);
        let src = self.sources(object, fields.get("src").copied());
        let mut dst = Vec::new();
        let mut ip = Vec::new();
        match fields.get("dst") {
            Some(value) => dst = self.selectors("dst", value, |_| true),
            None => self.missing(object, "dst", "who may be reached, as in [\"nas\"]"),
        }
        match fields.get("ip") {
            Some(value) => {
                for (at, text) in self.strings("ip", value) {
                    let services = Service::parse(text).map_err(|error| {
                        Complaint::new(error.to_string()).hint("as in tcp:443, udp:*, icmp or *")
                    });
                    ip.extend(self.take(at, services).into_iter().flatten());
                }
            }
            None => self.missing(object, "ip", "what may be reached, as in [\"tcp:443\"]"),
        }
        self.not_empty("dst", fields.get("dst").copied());
        self.not_empty("ip", fields.get("ip").copied());
        let terms = Terms::Grant { dst, ip };
        let note = String::new();
        (!src.is_empty()).then_some(Rule { src, terms, note })
    }

    fn test(&mut self, object: &Object<'_>) -> Option<Test> {
        let fields = self.fields(object, "tests", &["src", "proto", "accept", "deny"]);
        let proto = self.proto(fields.get("proto").copied());
        let mut lists = [Vec::new(), Vec::new()];
        for (list, name) in lists.iter_mut().zip(["accept", "deny"]) {
            if let Some(value) = fields.get(name) {
                self.not_empty(name, Some(value));
                *list = self.test_targets(value, proto);
            }
        }
        let [accept, deny] = lists;
        if !fields.contains_key("accept") && !fields.contains_key("deny") {
            self.missing(
                object,
                "accept",
                "what must be reached, as in [\"nas:22\"], or deny",
            );
        }
        let Some(value) = fields.get("src") else {
            self.missing(object, "src", "one source, as in \"alice@example.com\"");
            return None;
        };
        let text = self.string("src of a test", value)?;
        let src = self.words.read(text).and_then(not_own);
        let src = self.take(value.range().start, src)?;
        Some(Test {
            src,
            proto,
            accept,
            deny,
            note: String::new(),
        })
    }

    fn proto(&mut self, value: Option<&Value<'_>>) -> Option<Proto> {
        let value = value?;
        let text = self.string("proto", value)?;
        let proto = Proto::parse(text).map_err(|error| {
            Complaint::new(error.to_string()).hint("as in tcp, udp, icmp, or a number in quotes")
        });
        self.take(value.range().start, proto)
    }

    fn sources(&mut self, object: &Object<'_>, value: Option<&Value<'_>>) -> Vec<Selector> {
        let Some(value) = value else {
            self.missing(object, "src", "who may, as in [\"autogroup:member\"]");
            return Vec::new();
        };
        self.not_empty("src", Some(value));
        let mut sources = Vec::new();
        for (at, text) in self.strings("src", value) {
            let source = self.words.read(text).and_then(not_own);
            sources.extend(self.take(at, source));
        }
        sources
    }

    fn selectors(
        &mut self,
        what: &str,
        value: &Value<'_>,
        fits: impl Fn(&Selector) -> bool,
    ) -> Vec<Selector> {
        let mut selectors = Vec::new();
        for (at, text) in self.strings(what, value) {
            let read = self.words.read(text).and_then(|selector| {
                let complaint = || Complaint::new(format!("{} cannot be in {what}", shown(text)));
                fits(&selector).then_some(selector).ok_or_else(complaint)
            });
            selectors.extend(self.take(at, read));
        }
        selectors
    }

    fn targets(&mut self, value: &Value<'_>, proto: Option<Proto>) -> Vec<Target> {
        self.not_empty("dst", Some(value));
        let mut targets = Vec::new();
        for (at, text) in self.strings("dst", value) {
            let target = self.words.read_target(text, proto);
            targets.extend(self.take(at, target));
        }
        targets
    }

    fn test_targets(&mut self, value: &Value<'_>, proto: Option<Proto>) -> Vec<Target> {
        let mut targets = Vec::new();
        for (at, text) in self.strings("a test", value) {
            let target = self.words.read_target(text, proto).and_then(|target| {
                let portless = proto.is_some_and(|proto| !proto.has_ports());
                let single = target.ports.iter().all(|ports| ports.first == ports.last);
                if target.who == Selector::Own {
                    Err(Complaint::new("autogroup:self cannot be tested")
                        .hint("name a source and its own node"))
                } else if portless || single {
                    Ok(target)
                } else {
                    Err(
                        Complaint::new(format!("{} is more than a port", shown(text)))
                            .hint("a test names single ports"),
                    )
                }
            });
            targets.extend(self.take(at, target));
        }
        targets
    }

    fn missing(&mut self, object: &Object<'_>, field: &str, hint: &str) {
        let complaint = Complaint::new(format!("{field} is missing")).hint(hint);
        self.fault(object.range.start, complaint);
    }

    fn not_empty(&mut self, field: &str, value: Option<&Value<'_>>) {
        if let Some(Value::Array(array)) = value
            && array.elements.is_empty()
        {
            let complaint = Complaint::new(format!("{field} is empty"));
            self.fault(
                array.range.start,
                complaint.hint("remove the rule, or name somebody"),
            );
        }
    }
}

/// A source cannot be told from itself.
fn not_own(selector: Selector) -> Result<Selector, Complaint> {
    if selector == Selector::Own {
        let complaint = Complaint::new("autogroup:self is no source");
        Err(complaint.hint("it stands in dst: the nodes of the source's own owner"))
    } else {
        Ok(selector)
    }
}
