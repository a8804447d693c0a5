//! What happened in a network: who signed which op, on whose authority, and whether it counts.
//!
//! It tells the stored set as the view judges it; it decides nothing.

use std::collections::BTreeMap;

use crate::authority::Authority;
use crate::body::{Body, Level};
use crate::id::{NodeId, OpId};
use crate::name::NodeName;
use crate::op::Op;
use crate::structure::understood;
use crate::view::{View, Void};

/// One op in its place in the history.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// The op.
    pub op: &'a Op,
    /// How many ops were stored here before it.
    pub arrival: usize,
    /// The level of its author.
    pub level: Level,
    /// The ops that give its author the right, from the one it cites to the genesis. Empty for the genesis.
    pub chain: Vec<OpId>,
    /// Why it does not count, if it does not.
    pub why_not: Option<WhyNot>,
}

/// Why an op does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// The view's reason.
    Void(Void),
    /// This version does not understand it.
    NotUnderstood,
}

/// All ops in op order, so that causes stand before what follows from them, but those that were stored here among
/// the first `skip`.
#[must_use]
pub fn events<'a>(authority: &'a Authority, view: &View, skip: usize) -> Vec<Event<'a>> {
    let order = authority.order().into_iter();
    order
        .filter(|place| *place as usize >= skip)
        .map(|place| {
            let entry = authority.at(place);
            let id = entry.op.id();
            let void = view.voids().get(&id).copied().map(WhyNot::Void);
            let unknown = || (!understood(&entry.op)).then_some(WhyNot::NotUnderstood);
            Event {
                op: &entry.op,
                arrival: place as usize,
                level: entry.level,
                chain: chain(authority, place),
                why_not: void.or_else(unknown),
            }
        })
        .collect()
}

/// What each device is called: its name in the view, or else the last that was claimed for it.
#[must_use]
pub fn names(authority: &Authority, view: &View) -> BTreeMap<NodeId, NodeName> {
    let mut names = BTreeMap::new();
    for admit in authority.admits() {
        names.insert(admit.claim().device, admit.claim().name.clone());
    }
    for op in authority.ops() {
        if let Body::Genesis(genesis) = op.body() {
            names.insert(genesis.founder, genesis.founder_name.clone());
        }
        if let Some(grant) = op.body().grant() {
            names.insert(grant.device, grant.name.clone());
        }
    }
    for member in view.members().values() {
        names.insert(member.id, member.name.clone());
    }
    names
}

/// Seniority rises with every step, so this ends after as many steps as there are levels.
fn chain(authority: &Authority, place: u32) -> Vec<OpId> {
    let mut chain = Vec::new();
    let mut place = place;
    while place != 0 {
        place = authority.at(place).authority;
        chain.push(authority.at(place).op.id());
    }
    chain
}
