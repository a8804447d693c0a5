//! What was tried to find a way to a node, as the daemon tells it.

use meshnode_protocol::io::{Method, Outcome, Search};
use meshnode_protocol::record::Nat;
use serde::{Deserialize, Serialize};

use super::netcheck::NatReport;

/// The newest search for a way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SearchReport {
    /// When it began, milliseconds ago.
    pub(crate) began_ms: u64,
    /// What it tried, in order.
    pub(crate) tried: Vec<AttemptReport>,
    /// When the next begins.
    pub(crate) next_ms: Option<u64>,
    /// How the routers map: the own one, and the other's.
    pub(crate) routers: (NatReport, NatReport),
    /// Whether they leave no way but a relay.
    pub(crate) hopeless: bool,
    /// Whether it goes on.
    pub(crate) running: bool,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttemptReport {
    /// Milliseconds after the search began.
    pub(crate) at_ms: u64,
    /// How.
    pub(crate) method: String,
    /// Where.
    pub(crate) target: String,
    /// What came of it.
    pub(crate) result: String,
}

impl SearchReport {
    /// Of what the core says.
    pub(crate) fn of(search: &Search) -> Self {
        let tried = search.attempts.iter().map(|attempt| AttemptReport {
            at_ms: attempt.at_ms,
            method: method(attempt.method).to_owned(),
            target: attempt.target.clone(),
            result: result(attempt.outcome).to_owned(),
        });
        Self {
            began_ms: search.began_ms,
            tried: tried.collect(),
            next_ms: search.next_ms,
            routers: (nat(search.own_nat), nat(search.their_nat)),
            hopeless: search.hopeless,
            running: search.running,
        }
    }
}

const fn method(method: Method) -> &'static str {
    match method {
        Method::Candidates => "known addresses",
        Method::Call => "call by relay",
        Method::Prediction => "prediction",
        Method::Birthday => "birthday",
        Method::Found => "answer",
    }
}

const fn result(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Waiting => "no answer yet",
        Outcome::NoAnswer => "no answer",
        Outcome::Found => "answered",
        Outcome::Hopeless => "not tried: of no use between these routers",
        Outcome::Forbidden => "not tried: a setting says so",
    }
}

/// How a router maps.
pub(crate) const fn nat(nat: Nat) -> NatReport {
    match nat {
        Nat::Unknown => NatReport::Unknown,
        Nat::None => NatReport::None,
        Nat::Independent => NatReport::Independent,
        Nat::Sequential => NatReport::Sequential,
        Nat::Random => NatReport::Random,
    }
}
