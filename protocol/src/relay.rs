//! UDP relays: the words of both ends (`docs/protocol.md` §8.5).
//!
//! [`frame`] are the bytes, [`exchange`] is the end that passes datagrams on, [`client`] the end that is found by it.
//! Neither opens what is passed. This room does not know which relays a node should choose, nor who is a member.

pub mod client;
pub mod exchange;
pub mod frame;
