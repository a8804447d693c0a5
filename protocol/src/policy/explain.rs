//! Why a node reaches another, or does not.

use super::reach::{Compiled, Reach};
use crate::access::number;
use crate::id::NodeId;

/// A first packet that may or may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// From where.
    pub src: NodeId,
    /// To where.
    pub dst: NodeId,
    /// The IP protocol.
    pub protocol: u8,
    /// The port at the destination, for protocols that have ports.
    pub port: Option<u16>,
}

/// The answer, as far as rules decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The rule with this number, the first of them, lets it through.
    Allowed {
        /// Its number among the policy's rules.
        rule: usize,
    },
    /// No rule does.
    Denied {
        /// The rule that comes nearest, if one comes near at all.
        nearest: Option<usize>,
    },
    /// One of the two is not in the network: nothing passes.
    Unknown(NodeId),
}

/// An answer with what is worth knowing beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What was asked.
    pub question: Question,
    /// Whether it passes.
    pub verdict: Verdict,
    /// What a person may stumble over.
    pub note: Option<&'static str>,
}

impl Reach {
    /// Answers a question, with the rule that decides it.
    #[must_use]
    pub fn explain(&self, question: Question) -> Explanation {
        let explained = |verdict, note| Explanation {
            question,
            verdict,
            note,
        };
        let number = |id: &NodeId| self.nodes.numbers.get(id).copied().ok_or(*id);
        let (src, dst) = match (number(&question.src), number(&question.dst)) {
            (Ok(src), Ok(dst)) => (src, dst),
            (Err(id), _) | (_, Err(id)) => return explained(Verdict::Unknown(id), None),
        };
        if src == dst {
            let note = Some("a node's packets to itself never meet the policy");
            return explained(self.verdict(src, dst, question), note);
        }
        let verdict = self.verdict(src, dst, question);
        let source = &self.nodes.all[src];
        let tagged = !source.tags.is_empty() && source.owner.is_some();
        let portless = question.port.is_none()
            && matches!(question.protocol, number::TCP | number::UDP | number::SCTP);
        let note = match verdict {
            Verdict::Denied { .. } if tagged => {
                Some("the source has tags: rules for its owner do not mean it")
            }
            Verdict::Denied { .. } if portless => {
                Some("without a port, only a rule for every port counts")
            }
            Verdict::Denied { .. } | Verdict::Allowed { .. } | Verdict::Unknown(_) => None,
        };
        explained(verdict, note)
    }

    fn verdict(&self, src: usize, dst: usize, question: Question) -> Verdict {
        let likeness = |rule: &Compiled| self.likeness(rule, src, dst, question);
        let mut nearest = None;
        for (number, rule) in self.rules.iter().enumerate() {
            let likeness = likeness(rule);
            if likeness == MATCH {
                return Verdict::Allowed { rule: number };
            }
            // Two of three things must fit, one of them the destination; the first such rule stays.
            if likeness > DESTINATION && nearest.is_none_or(|(best, _)| likeness > best) {
                nearest = Some((likeness, number));
            }
        }
        let nearest = nearest.map(|(_, number)| number);
        Verdict::Denied { nearest }
    }

    /// How much of a rule fits a question.
    fn likeness(&self, rule: &Compiled, src: usize, dst: usize, question: Question) -> u8 {
        let source = rule.src.contains(src);
        let mut best = 0;
        for part in &rule.parts {
            let own = part.own && self.nodes.kin(src).contains(dst);
            let destination = part.dst.contains(dst) || own;
            let mut allows = part.allows.iter();
            let service = allows.any(|allow| allow.covers(question.protocol, question.port));
            let likeness = u8::from(source) * SOURCE
                + u8::from(destination) * DESTINATION
                + u8::from(service) * SERVICE;
            best = best.max(likeness);
        }
        best
    }
}

/// Weights: a rule for this source and destination is nearer than one for this destination and service.
const SERVICE: u8 = 1;
const SOURCE: u8 = 2;
const DESTINATION: u8 = 4;
const MATCH: u8 = SERVICE + SOURCE + DESTINATION;
