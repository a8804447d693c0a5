//! Whom a rule means: the kinds of selector, and their form in the document.

use std::fmt;

use super::prefix::Prefix;
use crate::id::{NodeId, base32_parse};
use crate::name::{Alias, Group, Owner, Tag};

/// A set of nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// `*`: every node.
    All,
    /// `autogroup:member`: nodes without tags.
    Member,
    /// `autogroup:admin`: nodes that may sign changes.
    Admin,
    /// `autogroup:tagged`: nodes with a tag.
    Tagged,
    /// `autogroup:self`, as a destination: nodes without tags of the source's own owner.
    Own,
    /// One node.
    Node(NodeId),
    /// The nodes of an owner that have no tags.
    Owner(Owner),
    /// The nodes in a group, and those of the owners in it that have no tags.
    Group(Group),
    /// The nodes with a tag.
    Tag(Tag),
    /// The nodes whose address an alias covers.
    Host(Alias),
    /// The nodes whose address lies inside.
    Prefix(Prefix),
}

impl Selector {
    /// Reads the form of the document: what [`Display`](fmt::Display) writes. One selector has one form.
    #[must_use]
    pub fn parse_stored(text: &str) -> Option<Self> {
        let selector = match text.split_once(':') {
            None if text == "*" => Self::All,
            Some(("autogroup", "member")) => Self::Member,
            Some(("autogroup", "admin")) => Self::Admin,
            Some(("autogroup", "tagged")) => Self::Tagged,
            Some(("autogroup", "self")) => Self::Own,
            Some(("id", id)) => Self::Node(parse_id(id)?),
            Some(("owner", owner)) => Self::Owner(Owner::parse(owner).ok()?),
            Some(("group", group)) => Self::Group(Group::parse(group).ok()?),
            Some(("tag", tag)) => Self::Tag(Tag::parse(tag).ok()?),
            Some(("host", alias)) => Self::Host(Alias::parse(alias).ok()?),
            Some(("ip", prefix)) => Self::Prefix(Prefix::parse(prefix).ok()?),
            Some(_) | None => return None,
        };
        (selector.to_string() == text).then_some(selector)
    }
}

/// Reads a device id in its printed form.
pub(super) fn parse_id(text: &str) -> Option<NodeId> {
    let bytes: [u8; 32] = base32_parse(text)?.try_into().ok()?;
    NodeId::parse(bytes).ok()
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Member => f.write_str("autogroup:member"),
            Self::Admin => f.write_str("autogroup:admin"),
            Self::Tagged => f.write_str("autogroup:tagged"),
            Self::Own => f.write_str("autogroup:self"),
            Self::Node(id) => write!(f, "id:{id}"),
            Self::Owner(owner) => write!(f, "owner:{}", owner.as_str()),
            Self::Group(group) => write!(f, "group:{group}"),
            Self::Tag(tag) => write!(f, "tag:{tag}"),
            Self::Host(alias) => write!(f, "host:{alias}"),
            Self::Prefix(prefix) => write!(f, "ip:{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Secret;

    #[test]
    fn a_stored_selector_has_one_form() {
        let id = NodeId::new(Secret::from_seed(&[1; 32]).public());
        let all = [
            "*".to_owned(),
            "autogroup:self".to_owned(),
            format!("id:{id}"),
            "owner:alice@example.com".to_owned(),
            "group:x".to_owned(),
            "ip:fd7d::/48".to_owned(),
        ];
        for text in all {
            assert_eq!(Selector::parse_stored(&text).unwrap().to_string(), text);
        }
        assert_eq!(parse_id(&id.to_string()), Some(id));
        let upper = format!("id:{}", id.to_string().to_ascii_uppercase());
        for text in [
            "",
            "nas",
            "tag:",
            "tag:X",
            "tag:a b",
            "ip:10.0.0.1/32",
            "ip:10.0.0.1/8",
            "autogroup:all",
            "id:",
            &upper,
        ] {
            assert_eq!(Selector::parse_stored(text), None, "{text}");
        }
    }
}
