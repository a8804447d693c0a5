//! Who pays for what a replica takes (`docs/protocol.md` §12.1), and what held ops wait for.

use super::{Authority, Entry};
use crate::body::Level;
use crate::id::{NodeId, OpId};
use crate::op::{Author, Header, Op};
use crate::quota::Payers;
use crate::structure::conferred;

impl Authority {
    /// Who pays for an op: its author, and those by whose grants it has its right, so that nobody is many by letting
    /// many in. What a founder or the root set granted is paid for by the author alone.
    #[must_use]
    pub fn payers_of_op(&self, header: &Header) -> Payers {
        let cited = self.entry(&header.authority);
        let right = cited.and_then(|cited| conferred(&cited.op, &header.author));
        let level = right.map_or(Level::MEMBER, |right| right.level);
        let mut payers = vec![(header.author, level)];
        payers.extend(self.granters(cited));
        Payers(payers)
    }

    /// Who pays for what a device says of itself or as a witness: it alone. One record of a slot stays, so that is
    /// bounded without its granter, whose word on it must always have room.
    #[must_use]
    pub fn payers_of_device(&self, device: &NodeId) -> Payers {
        let title = self.titled.get(device).map(|place| self.at(*place));
        let level = title.map_or(Level::MEMBER, |title| match title.op.body().grant() {
            Some(grant) => grant.level,
            None => Level::FOUNDER,
        });
        Payers(vec![(Author::Device(*device), level)])
    }

    fn granters(&self, title: Option<&Entry>) -> Vec<(Author, Level)> {
        let mut granters = Vec::new();
        let mut title = title;
        while let Some(entry) = title.filter(|entry| entry.level > Level::FOUNDER) {
            granters.push((entry.op.header().author, entry.level));
            title = Some(self.at(entry.authority));
        }
        granters
    }

    /// The ops that wait for a parent, as far as a stored op gives their author a right.
    pub fn waiting_for(&self, parent: &OpId) -> impl Iterator<Item = &Op> {
        self.held.waiting_for(parent).filter(|op| {
            let header = op.header();
            let cited = self.op(&header.authority);
            cited.is_some_and(|cited| conferred(cited, &header.author).is_some())
        })
    }

    /// Whether a held op waits for this one.
    #[must_use]
    pub fn is_waited_for(&self, parent: &OpId) -> bool {
        self.held.is_waited_for(parent)
    }

    /// What held ops wait for.
    pub fn sought(&self) -> impl Iterator<Item = &OpId> {
        self.held.sought()
    }

    /// Whether an op is held.
    #[must_use]
    pub fn holds(&self, id: &OpId) -> bool {
        self.held.op(id).is_some()
    }
}
