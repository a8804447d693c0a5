//! Who counts after somebody was put out: the worked examples of `docs/protocol.md` §3.8, each on several replicas that
//! heard the same in different orders.
#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

#[path = "revocation/cast.rs"]
mod cast;
#[path = "revocation/claims.rs"]
mod claims;
#[path = "revocation/cuts.rs"]
mod cuts;
#[path = "revocation/epochs.rs"]
mod epochs;
#[path = "revocation/floods.rs"]
mod floods;
#[path = "revocation/invites.rs"]
mod invites;
#[path = "revocation/policies.rs"]
mod policies;
#[path = "revocation/records.rs"]
mod records;
#[path = "revocation/seniority.rs"]
mod seniority;
