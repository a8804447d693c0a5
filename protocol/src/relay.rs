//! UDP relays: the words of both ends (`docs/protocol.md` §8.5).
//!
//! [`frame`] are the bytes, [`exchange`] is the end that passes datagrams on. It
//! does not open what it passes. This room does not know which relays a node should choose, nor who is a member.

pub mod exchange;
pub mod frame;
