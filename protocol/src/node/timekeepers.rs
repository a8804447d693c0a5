//! Whose word on the time counts: the network's idea of the date, for machines whose clock is wrong
//! (`docs/protocol.md` §3.8).

use std::collections::BTreeMap;

use crate::body::{Caps, Level};
use crate::id::NodeId;
use crate::ledger::Ledger;
use crate::time::Timestamp;
use crate::view::View;

/// How far ahead of this node's own clock the Tip of an admin is believed.
const TIP_AHEAD_MS: u64 = 24 * 3600 * 1000;

/// The admins that may put members out, with their level and when they themselves are out.
#[derive(Debug, Default)]
pub(super) struct Timekeepers(BTreeMap<NodeId, (Level, Option<Timestamp>)>);

impl Timekeepers {
    /// Of a view in which nobody is hidden, but for this node: a clock that was ahead once would be right for ever.
    pub(super) fn of(view: &View, me: &NodeId) -> Self {
        let admins = view.admins().filter(|admin| admin.id != *me);
        let keepers = admins.filter(|admin| admin.caps.contains(Caps::MEMBERS));
        Self(
            keepers
                .map(|member| (member.id, (member.level, member.expires)))
                .collect(),
        )
    }

    /// The time by which memberships of a level are over: nobody is hidden by the word of one who could not put it out.
    pub(super) fn time_for(&self, ledger: &Ledger, level: Level, wall: Timestamp) -> Timestamp {
        wall.max(self.newest(ledger, Level(level.0.saturating_sub(1)), wall))
    }

    /// The newest date that the Tip of one of a level or above told.
    ///
    /// One Tip moves a clock that can be right by a day at most. A clock before the genesis cannot, and believes it.
    pub(super) fn newest(&self, ledger: &Ledger, level: Level, wall: Timestamp) -> Timestamp {
        let seniors = self.0.iter();
        let seniors = seniors.filter(|(_, (senior, _))| *senior <= level);
        let tips = seniors.filter_map(|(device, (_, expires))| {
            let time = ledger.records.tip(device)?.time;
            expires.is_none_or(|end| time <= end).then_some(time)
        });
        let newest = tips.max().unwrap_or_default();
        let founded = ledger.authority.entries()[0].op.header().time;
        if wall < founded {
            newest
        } else {
            newest.min(wall.plus_ms(TIP_AHEAD_MS))
        }
    }
}
