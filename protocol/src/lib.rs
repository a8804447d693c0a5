//! The pure core of meshnode.

pub mod address;
pub mod authority;
pub mod body;
pub mod claim;
pub mod codec;
pub mod id;
pub mod identity;
pub mod io;
pub mod limits;
pub mod link;
pub mod name;
pub mod op;
pub mod peering;
pub mod record;
pub mod structure;
pub mod time;
pub mod view;
