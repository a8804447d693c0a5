//! Devices that a person blocked on this node: no way, no traffic; the control plane goes on with them.
//!
//! What a blocked device knows of the authority is as good as anybody's, and may be all that this node can hear of it
//! (`docs/decisions/0013-blocked-is-without-traffic.md`).

#[cfg(test)]
mod tests;

use super::Node;
use crate::id::NodeId;
use crate::io::{CommandId, Refusal, Reply, Write};
use crate::time::Moment;

/// Devices on the list at most: as many as the address range of a network holds many times over.
const BLOCKED_MAX: usize = 10_000;

/// What the list is to say of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Blocked,
    Free,
}

impl Node {
    /// Whether a person blocked a device on this node.
    #[must_use]
    pub fn is_blocked(&self, device: &NodeId) -> bool {
        self.blocked.contains(device)
    }

    /// Changes the list, keeps it, and takes the engine's peer away before it says so.
    pub(super) fn block(
        &mut self,
        command: CommandId,
        device: NodeId,
        wanted: Wanted,
        now: Moment,
    ) -> Result<(), Refusal> {
        let me = self.id;
        let net = self.member_net()?;
        let known = net.view.members().contains_key(&device);
        let changed = match wanted {
            Wanted::Blocked if device == me => return Err(Refusal::SelfPing),
            Wanted::Blocked if !known => return Err(Refusal::UnknownNode),
            Wanted::Blocked if self.blocked.len() >= BLOCKED_MAX => {
                return Err(Refusal::Limit("blocked nodes"));
            }
            Wanted::Blocked => self.blocked.insert(device),
            // Who is on the list may have left the network since.
            Wanted::Free if !known && !self.blocked.contains(&device) => {
                return Err(Refusal::UnknownNode);
            }
            Wanted::Free => self.blocked.remove(&device),
        };
        if changed {
            let list = self.blocked.iter().copied().collect();
            self.persist(vec![Write::Blocked(list)], true);
            self.program(now);
        }
        self.reply(command, Reply::Blocked(changed));
        Ok(())
    }
}
