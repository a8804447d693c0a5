//! The pure core of meshnode.

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
pub mod time;
