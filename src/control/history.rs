//! The history in words: what each op did, on whose authority, and why one does not count.

use std::collections::BTreeMap;

use meshnode_protocol::authority::Authority;
use meshnode_protocol::body::{Body, Grant, Kind, Level};
use meshnode_protocol::history::{Event, WhyNot};
use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::name::NodeName;
use meshnode_protocol::node::History;
use meshnode_protocol::op::{Author, Op};
use meshnode_protocol::time::Timestamp;
use meshnode_protocol::view::Void;
use serde::{Deserialize, Serialize};

/// One op, told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLine {
    /// The op.
    pub(crate) id: OpId,
    /// What kind of act, one word.
    pub(crate) kind: String,
    /// Who signed it.
    pub(crate) author: Who,
    /// The op that it cites for its right.
    pub(crate) authority: OpId,
    /// Who gave the author its right, and who gave it to them, up to the root.
    pub(crate) chain: Vec<Who>,
    /// What it is about: a device, or an invite.
    pub(crate) subject: Option<Subject>,
    /// What it did.
    pub(crate) text: String,
    /// When its author said that it was.
    pub(crate) said: Timestamp,
    /// When this node stored it.
    pub(crate) heard: Option<Timestamp>,
    /// Why it does not count; `None`: it counts.
    pub(crate) why_not: Option<String>,
}

/// A signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Who {
    /// The device; `None` is the root.
    pub(crate) id: Option<NodeId>,
    /// What it is called.
    pub(crate) name: String,
}

/// What an op is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// A device's id, or an op's.
    pub(crate) id: String,
    /// What a device is called.
    pub(crate) name: Option<String>,
}

/// The words for kinds, as `--kind` takes them.
pub(crate) const KINDS: [(Kind, &str); 9] = [
    (Kind::GENESIS, "genesis"),
    (Kind::GRANT, "grant"),
    (Kind::REVOKE, "revoke"),
    (Kind::INVITE, "invite"),
    (Kind::INVITE_CLOSE, "invite-close"),
    (Kind::POLICY, "policy"),
    (Kind::POLICY_BASE, "policy-base"),
    (Kind::REKEY, "rekey"),
    (Kind::NOOP, "noop"),
];

/// The word for the kinds that have none.
pub(crate) const UNKNOWN: &str = "unknown";

/// The history as lines, causes first.
pub(crate) fn lines(history: &History<'_>) -> Vec<LogLine> {
    let teller = Teller {
        authority: history.authority,
        names: &history.names,
    };
    let events = history.events.iter();
    events
        .map(|event| LogLine {
            heard: history.heard.get(&event.op.id()).copied(),
            ..teller.line(event)
        })
        .collect()
}

/// What a set of ops needs to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Teller<'a> {
    /// The ops.
    pub(crate) authority: &'a Authority,
    /// What devices are called.
    pub(crate) names: &'a BTreeMap<NodeId, NodeName>,
}

impl Teller<'_> {
    /// An op as a line; when it was heard is not known here.
    pub(crate) fn line(&self, event: &Event<'_>) -> LogLine {
        let header = event.op.header();
        let chain = event.chain.iter().filter_map(|id| self.authority.op(id));
        LogLine {
            id: event.op.id(),
            kind: kind(header.kind).to_owned(),
            author: self.who(header.author),
            authority: header.authority,
            chain: chain.map(|op| self.who(op.header().author)).collect(),
            subject: self.subject(event.op.body()),
            text: self.text(event.op),
            said: header.time,
            heard: None,
            why_not: event.why_not.map(|why| self.why_not(why)),
        }
    }

    fn who(&self, author: Author) -> Who {
        match author {
            Author::Root => Who {
                id: None,
                name: "the recovery phrase".to_owned(),
            },
            Author::Device(device) => Who {
                id: Some(device),
                name: self.name(&device),
            },
        }
    }

    /// What a device is called, or the begin of its id.
    pub(crate) fn name(&self, device: &NodeId) -> String {
        let name = self.names.get(device);
        name.map_or_else(|| device.short(), ToString::to_string)
    }

    fn subject(&self, body: &Body) -> Option<Subject> {
        let device = |device: &NodeId| Subject {
            id: device.to_string(),
            name: self.names.get(device).map(ToString::to_string),
        };
        match body {
            Body::Genesis(genesis) => Some(device(&genesis.founder)),
            Body::Grant(grant) => Some(device(&grant.device)),
            Body::Revoke(revoke) => Some(device(&revoke.device)),
            Body::InviteClose(close) => Some(Subject {
                id: close.invite.to_string(),
                name: None,
            }),
            Body::Invite(_)
            | Body::Policy(_)
            | Body::PolicyBase(_)
            | Body::Rekey(_)
            | Body::Noop
            | Body::Opaque => None,
        }
    }

    fn text(&self, op: &Op) -> String {
        match op.body() {
            Body::Genesis(genesis) => {
                format!("founded {} with {}", genesis.name, genesis.founder_name)
            }
            Body::Grant(grant) => self.grant(grant),
            Body::Revoke(revoke) => {
                let name = self.name(&revoke.device);
                if revoke.reason.is_empty() {
                    format!("put {name} out")
                } else {
                    format!("put {name} out: {}", revoke.reason)
                }
            }
            Body::Invite(invite) => {
                let machines = match invite.terms.uses {
                    1 => "one machine".to_owned(),
                    uses => format!("{uses} machines"),
                };
                let name = invite.terms.name.as_ref();
                let name = name.map_or_else(String::new, |name| format!(", named {name}"));
                format!("made invite {} for {machines}{name}", short(&op.id()))
            }
            Body::InviteClose(close) => format!("closed invite {}", short(&close.invite)),
            Body::Policy(_) => "changed the policy".to_owned(),
            Body::PolicyBase(_) => "wrote the policy anew".to_owned(),
            Body::Rekey(rekey) => format!("changed the network key: epoch {}", rekey.epoch),
            Body::Noop => "merged what was said apart".to_owned(),
            Body::Opaque if op.is_stub() => {
                format!("{}, the text of which is not here", kind(op.header().kind))
            }
            Body::Opaque => format!("an act of kind {} that has no effect", op.header().kind.0),
        }
    }

    fn grant(&self, grant: &Grant) -> String {
        let name = self.name(&grant.device);
        match (&grant.claim, grant.level) {
            (Some(claim), Level::MEMBER) => {
                format!("let {name} in by invite {}", short(&claim.terms.invite))
            }
            (None, Level::MEMBER) => format!("made {name} a member"),
            (_, Level(level)) => format!("made {name} an admin of level {level}"),
        }
    }

    /// Why an op does not count, as a sentence without full stop.
    pub(crate) fn why_not(&self, why: WhyNot) -> String {
        match why {
            WhyNot::Void(Void::Revoked(revoke)) => {
                let author = self.authority.op(&revoke).map(|op| op.header().author);
                let name = author.map_or_else(|| short(&revoke), |author| self.who(author).name);
                format!("its author was put out by {name} (op {})", short(&revoke))
            }
            WhyNot::Void(Void::Baseless(authority)) => {
                format!(
                    "op {}, on which it rests, does not count",
                    short(&authority)
                )
            }
            WhyNot::NotUnderstood => "this version does not understand it".to_owned(),
        }
    }
}

/// The word for a kind.
pub(crate) fn kind(kind: Kind) -> &'static str {
    let known = KINDS.iter().find(|(known, _)| *known == kind);
    known.map_or(UNKNOWN, |(_, word)| *word)
}

/// The four symbols by which an op is told to people.
pub(crate) fn short(id: &OpId) -> String {
    id.short()
        .chars()
        .take(4)
        .collect::<String>()
        .to_uppercase()
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::body::{Ipv4Range, Tags};
    use meshnode_protocol::io::{Command, CommandId, Input, InviteOptions};
    use meshnode_protocol::name::NetworkName;
    use meshnode_protocol::node::{Founding, Node, Setup};
    use meshnode_protocol::path::Punch;
    use meshnode_protocol::time::Moment;

    use super::*;

    fn founded() -> Node {
        let founding = Founding {
            network: NetworkName::parse("homelab").unwrap(),
            node: NodeName::parse("nas").unwrap(),
            ipv4_range: Ipv4Range::DEFAULT,
            owner: None,
            phrases: 1,
            threshold: 1,
        };
        let setup = Setup {
            tunnel_port: 1,
            os: String::new(),
            version: String::new(),
            punch: Punch::default(),
        };
        let now = Moment {
            uptime_us: 0,
            wall: Timestamp::from_ms(1_000),
        };
        let mut node = Node::found(founding, setup, [7; 32], now).node;
        let options = InviteOptions {
            name: NodeName::parse("pi").ok(),
            tags: Tags::default(),
            owner: None,
            ttl_ms: 1_000,
            uses: 1,
            approve: Some(false),
            hints: Vec::new(),
            replaces: None,
            member_for_ms: None,
            dry_run: false,
        };
        let later = Moment {
            uptime_us: 5_000_000,
            wall: Timestamp::from_ms(6_000),
        };
        node.handle(
            Input::Command(CommandId(1), Command::Invite(options)),
            later,
        );
        node
    }

    #[test]
    fn an_op_is_told_with_its_author_its_authority_and_both_times() {
        let node = founded();
        let history = node.history(0).unwrap();
        assert_eq!(history.ops, 2);
        let lines = lines(&history);
        assert_eq!(lines[0].text, "founded homelab with nas");
        assert_eq!(lines[0].author.name, "the recovery phrase");
        let invite = &lines[1];
        let text = format!(
            "made invite {} for one machine, named pi",
            short(&invite.id)
        );
        assert_eq!((invite.kind.as_str(), &invite.text), ("invite", &text));
        assert_eq!(invite.author.id, Some(node.id()));
        assert_eq!(invite.authority, lines[0].id);
        assert_eq!(invite.chain[0].id, None, "the genesis is the root's");
        assert_eq!(invite.said, Timestamp::from_ms(6_000));
        assert_eq!(invite.heard, Some(Timestamp::from_ms(6_000)));
        assert_eq!(invite.why_not, None);
        assert_eq!(super::lines(&node.history(1).unwrap()), lines[1..]);
    }

    #[test]
    fn every_kind_has_a_word_of_its_own_and_the_others_share_one() {
        for (number, word) in KINDS {
            assert_eq!(kind(number), word);
        }
        assert_eq!(kind(Kind::RULES), UNKNOWN);
    }
}
