//! What a structural check asks of the stored set (`docs/protocol.md` §3.6).

use super::Authority;
use crate::body::Level;
use crate::id::OpId;
use crate::op::Op;
use crate::structure::Lookup;

impl Lookup for Authority {
    fn op(&self, id: &OpId) -> Option<&Op> {
        Self::op(self, id)
    }

    fn holds<'a>(&self, parents: &[OpId], cited: impl Iterator<Item = &'a OpId>) -> bool {
        let mut cited = cited.peekable();
        if cited.peek().is_none() {
            return true;
        }
        let parents = parents.iter().filter_map(|id| self.place(id)).collect();
        let past = self.with_past(parents);
        cited.all(|id| self.place(id).is_some_and(|place| past[place as usize]))
    }

    fn level(&self, id: &OpId) -> Option<Level> {
        self.level_of(id)
    }

    fn epoch_before(&self, parents: &[OpId]) -> u32 {
        let entries = parents.iter().filter_map(|id| self.entry(id));
        entries.map(|entry| entry.epoch).max().unwrap_or(0)
    }

    /// Walks back from the parents. Arrival and depth prune it; an op under the sought authority ends it, because
    /// an authority is in the past of all that cites it.
    fn reaches(&self, parents: &[OpId], ancestor: &OpId) -> bool {
        let Some(goal) = self.index.get(ancestor).copied() else {
            return false;
        };
        let depth = self.at(goal).depth;
        let mut seen = vec![false; self.entries.len() - goal as usize];
        let mut stack: Vec<u32> = parents
            .iter()
            .filter_map(|id| self.index.get(id).copied())
            .collect();
        while let Some(place) = stack.pop() {
            if place == goal || goal == 0 || self.at(place).authority == goal {
                return true;
            }
            let entry = self.at(place);
            let Some(seen) = place
                .checked_sub(goal)
                .map(|offset| &mut seen[offset as usize])
            else {
                continue;
            };
            if entry.depth > depth && !*seen {
                *seen = true;
                stack.extend_from_slice(&entry.parents);
            }
        }
        false
    }
}
