//! The limits on everything that comes from outside (`docs/protocol.md` §12), each a named constant.
//!
//! A limit never enters validity: it decides what is stored and served, not what counts.

/// Parents of one op.
pub const PARENTS_MAX: usize = 16;
/// Heads a node reports in one message.
pub const HEADS_REPORTED_MAX: usize = 64;
/// Bytes of an op of any kind not named below.
pub const OP_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a Policy op.
pub const OP_POLICY_BYTES_MAX: usize = 16 * 1024;
/// Ops that a Revoke spares by name.
pub const SPARE_MAX: usize = 64;
/// Bytes of the reason in a Revoke.
pub const REASON_BYTES_MAX: usize = 128;
/// Bytes of a `PolicyBase` op.
pub const OP_POLICY_BASE_BYTES_MAX: usize = 68 * 1024;
/// Bytes of an admit: claim 600, witness and signatures 160, 16 heads 512.
pub const ADMIT_BYTES_MAX: usize = 2 * 1024;
/// Bytes of a device record.
pub const RECORD_BYTES_MAX: usize = 1024;
/// Records of kinds of which a device may have several, known or not, kept for one device.
pub const FOREIGN_RECORDS_MAX: usize = 64;
/// Largest sequence number of a record.
pub const RECORD_SEQ_MAX: u64 = 1 << 62;
/// Entries of an extension list.
pub const EXT_ENTRIES_MAX: usize = 8;
/// Bytes of all extension values together.
pub const EXT_BYTES_MAX: usize = 256;
/// Tags of one grant or invite.
pub const TAGS_MAX: usize = 16;
/// Root keys of a network.
pub const ROOT_KEYS_MAX: usize = 16;
/// Admits that are kept for one invite, each of another device or witness.
pub const ADMITS_PER_INVITE_MAX: usize = 64;
/// Most uses an invite can allow.
pub const INVITE_USES_MAX: u16 = 1000;
/// Held ops whose parents are not known yet, bytes for the whole node.
pub const ORPHAN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The part of it that one peer may take up: one in so many.
pub const ORPHAN_SHARE: usize = 16;
/// Bytes that a replica takes of one author at once: 18 000 ops of the usual size.
pub const AUTHOR_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The same of a founder and of the root set.
pub const SENIOR_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes an hour by which that room comes back.
pub const AUTHOR_BYTES_PER_HOUR: u64 = 256 * 1024;
/// Policy bases that a replica takes of one author at once; another one every ten minutes.
pub const AUTHOR_BASES_MAX: u64 = 6;
/// Ops of one author in an hour beyond which a person is told.
pub const AUTHOR_OPS_PER_HOUR: u32 = 500;
/// Bytes a minute that one peer is served, once it has everything.
pub const SERVED_BYTES_PER_MINUTE: u64 = 4 * 1024 * 1024;
/// Bytes of answers of one peer that bring nothing, before it is asked nothing for a minute.
pub const IDLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of an export: a million ops.
pub const EXPORT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Candidates in one Endpoints record, tunnel and control each.
pub const CANDIDATES_MAX: usize = 10;
/// Relays at which one device is to be found.
pub const HOMES_MAX: usize = 2;
/// Addresses of one relay that is no member.
pub const RELAY_ADDRESSES_MAX: usize = 4;
/// Clients that are bound at one relay.
pub const RELAY_BINDINGS_MAX: usize = 4_096;
/// Pairs between which one relay passes datagrams at the same time, whatever its terms say.
pub const RELAY_PAIRS_MAX: usize = 16_384;
/// Addresses (or IPv6 networks of 64 bits) whose bindings one relay counts.
pub const RELAY_SOURCES_MAX: usize = 8_192;
/// Clients of one such address, at a relay that takes strangers.
pub const RELAY_SOURCE_BINDINGS_MAX: usize = 64;
/// Signatures of clients that one relay checks in a second: some hundredth of a core.
pub const RELAY_BINDS_PER_SECOND: u64 = 200;
/// The same of one address.
pub const RELAY_SOURCE_BINDS_PER_SECOND: u64 = 5;
/// Bytes of an inner packet that pass on every path.
pub const OVERLAY_MTU: u16 = 1280;
/// Bytes of one message between nodes.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one gossip message.
pub const GOSSIP_BYTES_MAX: usize = 16 * 1024 + 256;
/// Bytes of a message of the push service.
pub const PUSH_BYTES_MAX: usize = 64 * 1024;
/// Bytes of every value in the DHT, no more and no less.
pub const LOCATOR_BYTES: usize = 1024;
/// Bytes of a message of the join protocol towards a member; answers may be up to [`MESSAGE_BYTES_MAX`].
pub const JOIN_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a policy as a person writes it: far above what a base can carry.
pub const POLICY_TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Rules of a written policy.
pub const POLICY_RULES_MAX: usize = 5_000;
/// Tests of a written policy.
pub const POLICY_TESTS_MAX: usize = 1_000;
/// Bytes of one note (a comment) in a policy.
pub const POLICY_NOTE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of an edit: what a Policy op has room for beside its header, signature and base.
pub const POLICY_EDIT_BYTES_MAX: usize = 15 * 1024;
/// Bytes of a base.
pub const POLICY_BASE_BYTES_MAX: usize = 64 * 1024;
/// Rows in any column of an edit: run lengths can claim millions in a few bytes.
pub const POLICY_EDIT_ROWS_MAX: usize = 4_096;
/// Rows in any column of a base: an honest one of 64 KiB has about 3 000.
pub const POLICY_BASE_ROWS_MAX: usize = 16_384;
/// Bytes of edits since the base after which a new base is due.
pub const POLICY_HISTORY_BYTES_DUE: usize = 32 * 1024;
/// The shortest trial of a policy: less is over before anybody has heard of it.
pub const POLICY_TRIAL_MS_MIN: u64 = 1_000;
/// The longest trial of a policy: a week.
pub const POLICY_TRIAL_MS_MAX: u64 = 7 * 24 * 3_600_000;
