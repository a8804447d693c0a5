//! What the core tells, as log lines: constant sentences, values as fields, addresses not above DEBUG.

use meshnode_protocol::io::Notice;

/// Writes a notice to the log.
pub(super) fn log(notice: &Notice) {
    match notice {
        Notice::MemberJoined(id, name) => tracing::info!(peer = %id.short(), %name, "a node is in"),
        Notice::MemberGone(id, name) => tracing::info!(peer = %id.short(), %name, "a node is out"),
        Notice::PathChanged(id, Some(path)) => {
            tracing::debug!(peer = %id.short(), ?path, "a path carries packets");
        }
        Notice::PathChanged(id, None) => tracing::info!(peer = %id.short(), "a path is lost"),
        Notice::Isolated(true) => tracing::warn!("nobody is reachable"),
        Notice::Isolated(false) => tracing::info!("somebody is reachable"),
        Notice::Refused(reason) => tracing::debug!(reason, "something was refused"),
        Notice::SharedKey(a, b) => {
            tracing::warn!(node = %a.short(), peer = %b.short(), "two nodes show one key; neither is used");
        }
        Notice::Outdated(op) => {
            tracing::warn!(record = %op.short(), "an admin's op is not understood; upgrade");
        }
        Notice::Recovering { missing } => {
            tracing::warn!(
                missing,
                "ops are missing; a member has to give them back first"
            );
        }
        Notice::Flood(name, ops) => {
            let name = name
                .as_ref()
                .map_or("the recovery phrase", |name| name.as_str());
            tracing::warn!(
                name,
                ops,
                "more changes came of one node than any honest one makes"
            );
        }
        Notice::Recovered => tracing::info!("the store is whole again"),
        Notice::Revoked(by, reason) => {
            let by = by
                .as_ref()
                .map_or("the recovery phrase", |name| name.as_str());
            tracing::warn!(by, reason, "this node was put out of its network");
        }
        Notice::BackAgain(id, name) => {
            tracing::warn!(peer = %id.short(), %name, "a node is in again: its revocation counts no more");
        }
        Notice::Policy(state, version) => {
            tracing::info!(?state, version, "the policy that is enforced changed");
        }
        Notice::PolicyUnread(op) => {
            tracing::warn!(record = %op.short(), "a policy change says nothing that can be read");
        }
        Notice::TrialOver(true) => {
            tracing::info!("nobody kept the policy that was on trial; it is undone");
        }
        Notice::TrialOver(false) => {
            tracing::warn!("the policy that was on trial cannot be undone; it stays");
        }
        Notice::Epoch(number) => tracing::info!(number, "a new epoch is in force"),
    }
}
