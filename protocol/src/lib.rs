//! The pure core of meshnode.

pub mod body;
pub mod claim;
pub mod codec;
pub mod id;
pub mod identity;
pub mod invite;
pub mod io;
pub mod limits;
pub mod link;
pub mod name;
pub mod op;
pub mod peering;
pub mod probe;
pub mod record;
pub mod recovery;
pub mod seal;
mod stretch;
pub mod time;
